#include <math.h>

#include "cpu/ref/ref.h"

void cdl_ref_SOFTCAP(const cdl_call *c)
{
    const cdl_softcap_attrs *a = c->attrs;
    double cap = (double)a->cap;
    for (uint32_t r = 0; r < c->out.rows; r++)
        for (uint32_t i = 0; i < c->out.cols; i++)
            ref_row(&c->out, r)[i] = (float)(cap * tanh((double)ref_row(&c->in[0], r)[i] / cap));
}
