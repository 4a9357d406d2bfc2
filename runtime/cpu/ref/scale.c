#include "cpu/ref/ref.h"

void cdl_ref_SCALE(const cdl_call *c)
{
    const cdl_scale_attrs *a = c->attrs;
    for (uint32_t r = 0; r < c->out.rows; r++)
        for (uint32_t i = 0; i < c->out.cols; i++)
            ref_row(&c->out, r)[i] = ref_row(&c->in[0], r)[i] * a->factor;
}
