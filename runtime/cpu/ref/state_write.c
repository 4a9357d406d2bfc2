#include "cpu/ref/ref.h"
#include "cpu/state.h"

void cdl_ref_STATE_WRITE(const cdl_call *c)
{
    const cdl_state_attrs *a = c->attrs;
    const cdl_state_layer *l = &c->state->layers[a->layer];
    for (uint32_t r = 0; r < c->out.rows; r++) {
        const cdl_span *s = cdl_span_of(c->step, r);
        uint32_t slot = s->first + r - s->row, at = slot % CDL_PAGE_TOKENS;
        int32_t page = s->pages[l->group][slot / CDL_PAGE_TOKENS];
        for (uint32_t k = 0; k < l->kv_heads; k++) {
            const float *key = ref_row(&c->in[0], r) + k * l->key_dim;
            const float *value = ref_row(&c->in[1], r) + k * l->value_dim;
            void *keys = cdl_state_keys(l, page, k), *values = cdl_state_values(l, page, k);
            for (uint32_t d = 0; d < l->key_dim; d++)
                cdl_state_set(l, keys, d * CDL_PAGE_TOKENS + at, key[d]);
            for (uint32_t d = 0; d < l->value_dim; d++)
                cdl_state_set(l, values, at * l->value_dim + d, value[d]);
        }
    }
}
