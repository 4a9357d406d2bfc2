/* int4.h - GPTQ's and AWQ's matrices: the tensors of a quantised module read as one weight, row by row.
 *
 * x.qweight, x.qzeros, x.scales and maybe x.g_idx of [out, in] become the one entry x.weight. Its type is i4_g32,
 * i4_g64 or i4_g128 (dtype.def; longer groups are cut), or f16 where a group's columns do not stand together
 * (act-order) or are no multiple of 32. Where there are no products of i4, the same weights are q4_0 if every zero
 * is 8, else q5_0: code - zero + 16 fits in 5 bits, so nothing is rounded.
 * Source: AutoGPTQ's and AutoAWQ's checkpoints ("gptq", "gptq_v2"; AWQ's "gemm").
 * Tests: tests/unit/test_int4.c, tests/model/test_int4.c, tests/cuda/test_models.c
 */
#ifndef CDL_INT4_H
#define CDL_INT4_H

#include "base/json.h"
#include "format/checkpoint.h"

typedef struct cdl_int4 {
    cdl_tensor_entry codes, zeros, scales; /* i32, i32, f16, as the file lists them                     */
    cdl_tensor_entry order;                /* act-order's group of each column; its name is NULL: none  */
    uint32_t rows, cols, group;            /* group: columns, of the file                               */
    cdl_dtype dtype;
    bool even;                             /* every zero is 8                                           */
    bool awq;                              /* codes [cols, rows / 8] interleaved; else [cols / 8, rows] */
    uint8_t zero_is;                       /* what is added to a stored zero: 1 in "gptq"               */
} cdl_int4;

/* Replaces the tensors when q, config.json's quantization_config (or what stands for it), says gptq or awq; method:
 * where q does not say. The list's index must be built again.
 * Errors: UNSUPPORTED (bits, shapes, version: the tensor, and what to do), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_int4_list(cdl_checkpoint *c, const cdl_json *q, const char *method);

/* The type that holds the weights exactly without i4: q4_0, q5_0 or f16. */
cdl_dtype cdl_int4_plain(const cdl_int4 *w);
/* Whether cdl_int4_rows gives t without rounding; f16 of act-order counts as such. */
bool cdl_int4_holds(const cdl_int4 *w, cdl_dtype t);

/* Rows [first, first + n) in type t: one that holds them, or f32. dst: their bytes. */
void cdl_int4_rows(uint8_t *dst, const cdl_int4 *w, cdl_dtype t, uint32_t first, uint32_t n);

#endif
