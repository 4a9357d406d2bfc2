/* state.h - keys and values of 32 tokens of one layer: what a page holds.
 *
 * For each KV head: keys transposed [D][32], then values [32][Dv]; F16 or F32. A vector load of keys
 * is one dimension of 16 tokens, so scores need no horizontal sums. */
#ifndef CDL_STATE_H
#define CDL_STATE_H

#include "base/half.h"
#include "graph/op.h"

static inline size_t cdl_state_element(const cdl_state_layer *l)
{
    return l->dtype == CDL_DTYPE_F32 ? 4 : 2;
}

/* Keys of KV head k in a page: element (d, slot) at [d * 32 + slot]. */
static inline void *cdl_state_keys(const cdl_state_layer *l, int32_t page, uint32_t k)
{
    size_t head = (size_t)(l->key_dim + l->value_dim) * CDL_PAGE_TOKENS * cdl_state_element(l);
    return l->base + (ptrdiff_t)page * (ptrdiff_t)l->page_bytes + (ptrdiff_t)(k * head);
}

/* Values: element (slot, d) at [slot * Dv + d]. */
static inline void *cdl_state_values(const cdl_state_layer *l, int32_t page, uint32_t k)
{
    return (uint8_t *)cdl_state_keys(l, page, k) + (size_t)l->key_dim * CDL_PAGE_TOKENS * cdl_state_element(l);
}

static inline float cdl_state_get(const cdl_state_layer *l, const void *p, size_t i)
{
    return l->dtype == CDL_DTYPE_F32 ? ((const float *)p)[i] : cdl_f32_from_f16(((const uint16_t *)p)[i]);
}

static inline void cdl_state_set(const cdl_state_layer *l, void *p, size_t i, float v)
{
    if (l->dtype == CDL_DTYPE_F32)
        ((float *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = cdl_f16_from_f32(v);
}

/* The first slot that a row at `slot` sees through a window (0: all). */
static inline uint32_t cdl_window_start(uint32_t slot, uint32_t window)
{
    return window && slot + 1 > window ? slot + 1 - window : 0;
}

/* The span that row r of the step belongs to. */
static inline const cdl_span *cdl_span_of(const cdl_step *s, uint32_t r)
{
    const cdl_span *p = s->spans;
    while (r >= p->row + p->n)
        p++;
    return p;
}

#endif
