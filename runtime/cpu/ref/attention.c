#include <math.h>
#include <string.h>

#include "cpu/ref/ref.h"
#include "cpu/state.h"

enum { VALUE_DIM_MAX = 1 << 14 };

typedef struct {
    const cdl_attention_attrs *a;
    const cdl_state_layer *l;
    const int32_t *pages;
    uint32_t first, last;      /* slots [first, last) are seen */
} sight;

static double score(const sight *s, const float *q, uint32_t k, uint32_t slot)
{
    const void *keys = cdl_state_keys(s->l, s->pages[slot / CDL_PAGE_TOKENS], k);
    double sum = 0;
    for (uint32_t d = 0; d < s->l->key_dim; d++)
        sum += (double)q[d] * (double)cdl_state_get(s->l, keys, d * CDL_PAGE_TOKENS + slot % CDL_PAGE_TOKENS);
    sum *= (double)s->a->scale;
    double cap = (double)s->a->softcap;
    return cap > 0 ? cap * tanh(sum / cap) : sum;
}

/* One row and head; two passes over the scores, so nothing is stored. */
static void attend(const sight *s, const float *q, uint32_t k, float *y)
{
    double max = -INFINITY, sum = 0;
    uint32_t dim = s->l->value_dim;
    double out[VALUE_DIM_MAX];
    memset(out, 0, dim * sizeof *out);
    for (uint32_t i = s->first; i < s->last; i++)
        max = fmax(max, score(s, q, k, i));
    for (uint32_t i = s->first; i < s->last; i++) {
        double p = exp(score(s, q, k, i) - max);
        const void *values = cdl_state_values(s->l, s->pages[i / CDL_PAGE_TOKENS], k);
        sum += p;
        for (uint32_t d = 0; d < dim; d++)
            out[d] += p * (double)cdl_state_get(s->l, values, i % CDL_PAGE_TOKENS * dim + d);
    }
    for (uint32_t d = 0; d < dim; d++)
        y[d] = (float)(out[d] / sum);
}

void cdl_ref_ATTENTION(const cdl_call *c)
{
    const cdl_attention_attrs *a = c->attrs;
    sight s = { .a = a, .l = &c->state->layers[a->layer] };
    uint32_t group = a->heads / s.l->kv_heads;
    for (uint32_t r = 0; r < c->out.rows; r++) {
        const cdl_span *span = cdl_span_of(c->step, r);
        uint32_t slot = span->first + r - span->row;
        s.pages = span->pages[s.l->group];
        s.first = cdl_window_start(slot, a->window);
        s.last = a->bidirectional ? span->first + span->n : slot + 1;
        for (uint32_t h = 0; h < a->heads; h++)
            attend(&s, ref_row(&c->in[0], r) + h * s.l->key_dim, h / group, ref_row(&c->out, r) + h * s.l->value_dim);
    }
}
