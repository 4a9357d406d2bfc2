/* ref.h - what the plain twins share: rows of views, and rounding as a device of 16 bits does it (rounded.c). */
#ifndef CDL_REF_H
#define CDL_REF_H

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"

static inline float *ref_row(const cdl_view *v, uint32_t r)
{
    return (float *)v->data + (size_t)r * v->stride;
}

/* A vector input that may be absent. */
static inline const float *ref_vector(const cdl_call *c, uint32_t i)
{
    return i < c->n_in ? c->in[i].data : NULL;
}

/* v as t (F16, BF16, F32) holds it. */
static inline float ref_round(float v, cdl_dtype t)
{
    return t == CDL_DTYPE_BF16 ? cdl_f32_from_bf16(cdl_bf16_from_f32(v))
         : t == CDL_DTYPE_F16 ? cdl_f32_from_f16(cdl_f16_from_f32(v)) : v;
}

/* Row `row` of a weight; a dense one is rounded to t, blocks are exact. */
void ref_weight_row(float *dst, const cdl_pack *p, uint32_t row, cdl_dtype t);

/* The twins that read weights, with these in type t. */
void cdl_ref_embed(const cdl_call *c, cdl_dtype t);
void cdl_ref_linear(const cdl_call *c, cdl_dtype t);
void cdl_ref_linear_glu(const cdl_call *c, cdl_dtype t);

double cdl_ref_act(cdl_act act, double x);

#endif
