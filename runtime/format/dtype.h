/* dtype.h - element types: sizes, names, and plain conversions to and from f32.
 *
 * Block-quantised types store `block` weights of a row in `bytes`; a row is a whole
 * number of blocks. Conversions here are the plain, exact ones; the CPU's fast
 * kernels are in cpu/.
 * Source of block layouts: ggml's GGUF types.  Tests: tests/unit/test_dtype.c
 */
#ifndef CDL_DTYPE_H
#define CDL_DTYPE_H

#include "base/status.h"

typedef enum {
#define X(id, name, block, bytes, st, ggml, ggml_name) CDL_DTYPE_##id,
#include "format/dtype.def"
#undef X
    CDL_DTYPE_COUNT
} cdl_dtype;

typedef struct {
    const char *name;        /* "q4_k"                              */
    const char *safetensors; /* "F32" or NULL                       */
    const char *ggml_name;   /* "Q4_K" or NULL                      */
    int ggml;                /* type number in a GGUF file, or -1   */
    uint16_t block, bytes;   /* weights and bytes of a block        */
} cdl_dtype_info;

const cdl_dtype_info *cdl_dtype_get(cdl_dtype t);
bool cdl_dtype_from_name(cdl_dtype *out, const char *name);          /* any case               */
bool cdl_dtype_from_safetensors(cdl_dtype *out, const char *name, size_t n);
bool cdl_dtype_from_ggml(cdl_dtype *out, uint32_t number);

/* Bytes of n weights in a row; false when n is no whole number of blocks or it overflows. */
bool cdl_dtype_row_bytes(size_t *out, cdl_dtype t, uint64_t n);

/* n weights (whole blocks) of any type to f32. src need not be aligned. */
void cdl_dtype_to_f32(float *dst, cdl_dtype t, const void *src, size_t n);

/* n weights (whole blocks) from f32, as well as the type allows. dst need not be aligned.
 * Errors: UNSUPPORTED (cuddle only reads the type), FORMAT (a block type, and a value is not finite or too large). */
CUDDLE_CHECK cuddle_status cdl_dtype_from_f32(void *dst, cdl_dtype t, const float *src, size_t n);

#endif
