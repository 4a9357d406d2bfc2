#include "cpu/ref/ref.h"

void cdl_ref_ADD(const cdl_call *c)
{
    for (uint32_t r = 0; r < c->out.rows; r++) {
        const float *x = ref_row(&c->in[0], r), *y = ref_row(&c->in[1], r);
        for (uint32_t i = 0; i < c->out.cols; i++)
            ref_row(&c->out, r)[i] = x[i] + y[i];
    }
}
