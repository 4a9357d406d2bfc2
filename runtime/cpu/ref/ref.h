/* ref.h - what the plain twins share: rows of views. */
#ifndef CDL_REF_H
#define CDL_REF_H

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

double cdl_ref_act(cdl_act act, double x);

#endif
