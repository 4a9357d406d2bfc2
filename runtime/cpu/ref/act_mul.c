#include "cpu/ref/ref.h"

void cdl_ref_ACT_MUL(const cdl_call *c)
{
    const cdl_act_attrs *a = c->attrs;
    for (uint32_t r = 0; r < c->out.rows; r++) {
        const float *gate = ref_row(&c->in[0], r), *up = ref_row(&c->in[1], r);
        for (uint32_t i = 0; i < c->out.cols; i++)
            ref_row(&c->out, r)[i] = (float)(cdl_ref_act(a->act, (double)gate[i]) * (double)up[i]);
    }
}
