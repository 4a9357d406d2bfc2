#include <math.h>

#include "cpu/ref/ref.h"

void cdl_ref_LAYERNORM(const cdl_call *c)
{
    const cdl_norm_attrs *a = c->attrs;
    const float *w = c->in[1].data, *b = ref_vector(c, 2);
    uint32_t dim = c->out.cols;
    for (uint32_t r = 0; r < c->out.rows; r++) {
        const float *x = ref_row(&c->in[0], r);
        float *y = ref_row(&c->out, r);
        double mean = 0, square = 0;
        for (uint32_t i = 0; i < dim; i++)
            mean += (double)x[i] / dim;
        for (uint32_t i = 0; i < dim; i++)
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
        double scale = 1 / sqrt(square / dim + (double)a->eps);
        for (uint32_t i = 0; i < dim; i++)
            y[i] = (float)(((double)x[i] - mean) * scale * ((double)w[i] + (double)a->offset) + (b ? (double)b[i] : 0));
    }
}
