#include <math.h>

#include "cpu/ref/ref.h"

void cdl_ref_RMSNORM(const cdl_call *c)
{
    const cdl_norm_attrs *a = c->attrs;
    const float *w = c->in[1].data;
    uint32_t dim = c->in[1].cols;
    for (uint32_t r = 0; r < c->out.rows; r++) {
        for (uint32_t h = 0; h < c->out.cols; h += dim) {
            const float *x = ref_row(&c->in[0], r) + h;
            float *y = ref_row(&c->out, r) + h;
            double sum = 0;
            for (uint32_t i = 0; i < dim; i++)
                sum += (double)x[i] * (double)x[i];
            double scale = 1 / sqrt(sum / dim + (double)a->eps);
            for (uint32_t i = 0; i < dim; i++)
                y[i] = (float)((double)x[i] * scale * ((double)w[i] + (double)a->offset));
        }
    }
}
