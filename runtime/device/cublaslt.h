/* cublaslt.h - products of dense matrices by NVIDIA's cuBLASLt, opened with dlopen when somebody wants it.
 *
 * The library picks an algorithm by the whole shape, so a row's bits depend on how many rows there are: only what may
 * be fast instead of equal uses it (cuddle_engine_opts.fast). Memory on the device is the caller's. One stream at a
 * time uses a handle.
 * Read first: device.h.   Tests: tests/cuda/test_fast.c
 */
#ifndef CDL_CUBLASLT_H
#define CDL_CUBLASLT_H

#include "device/device.h"

typedef struct cdl_cublaslt cdl_cublaslt;

/* CUDDLE_CUBLASLT_LIBRARY names another library than libcublasLt.so.13, or .12.
 * Errors: NOTFOUND (what was tried), UNSUPPORTED (it lacks a function), DEVICE. */
CUDDLE_CHECK cuddle_status cdl_cublaslt_open(cdl_cublaslt **out, cdl_device *d);
void cdl_cublaslt_close(cdl_cublaslt *b); /* NULL is fine */

/* Bytes that its algorithms may use, as NVIDIA recommends for the GPU. */
size_t cdl_cublaslt_workspace_bytes(const cdl_cublaslt *b);

/* cudaDataType */
enum { CDL_CUBLASLT_F32 = 0, CDL_CUBLASLT_F16 = 2, CDL_CUBLASLT_BF16 = 14 };

/* y [tokens, rows] = x [tokens, cols] W^T (+ add), W [rows, cols]; all row-major, strides in elements, sums in f32.
 * Addresses are the device's, they and the bytes of strides multiples of 16. */
typedef struct {
    const void *x, *weight;
    const void *add;             /* of y's type; NULL: none; may be y                         */
    void *y;
    void *workspace;             /* cdl_cublaslt_workspace_bytes(), 256-byte aligned          */
    uint32_t tokens, rows, cols;
    uint32_t x_stride, weight_stride, add_stride, y_stride;
    int type, y_type;            /* CDL_CUBLASLT_..; of x and W; y's: the same, or F32        */
    const char *node;            /* for errors                                                */
} cdl_cublaslt_product;

/* Returns when the stream was told. Host memory is taken for the first product of a shape with any `tokens`.
 * Errors: UNSUPPORTED (no algorithm), DEVICE. */
CUDDLE_CHECK cuddle_status cdl_cublaslt_multiply(cdl_cublaslt *b, cdl_stream *s, const cdl_cublaslt_product *p);
/* The same for a shape that is new, so that its code is on the device before the work begins; else nothing. */
CUDDLE_CHECK cuddle_status cdl_cublaslt_warm_up(cdl_cublaslt *b, cdl_stream *s, const cdl_cublaslt_product *p);

#endif
