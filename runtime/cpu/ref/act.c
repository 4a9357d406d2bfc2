#include <math.h>

#include "cpu/ref/ref.h"

double cdl_ref_act(cdl_act act, double x)
{
    switch (act) {
    case CDL_ACT_SILU:
        return x / (1 + exp(-x));
    case CDL_ACT_GELU:
        return 0.5 * x * (1 + erf(x * M_SQRT1_2));
    case CDL_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
        return x > 0 ? x : 0;
    }
}

void cdl_ref_ACT(const cdl_call *c)
{
    const cdl_act_attrs *a = c->attrs;
    for (uint32_t r = 0; r < c->out.rows; r++)
        for (uint32_t i = 0; i < c->out.cols; i++)
            ref_row(&c->out, r)[i] = (float)cdl_ref_act(a->act, (double)ref_row(&c->in[0], r)[i]);
}
