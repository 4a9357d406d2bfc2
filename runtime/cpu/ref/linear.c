#include "base/mem.h"
#include "cpu/ref/ref.h"

static double dot(const float *x, const float *w, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)w[i];
    return sum;
}

/* One weight row at a time stands in the workspace as f32. */
void cdl_ref_linear(const cdl_call *c, cdl_dtype t)
{
    const cdl_linear_attrs *a = c->attrs;
    const cdl_pack *p = c->in[1].pack;
    const float *bias = a->has_bias ? c->in[2].data : NULL;
    const cdl_view *residual = a->has_residual ? &c->in[2 + a->has_bias] : NULL;
    float *w = c->workspace;
    for (uint32_t n = 0; n < p->rows; n++) {
        ref_weight_row(w, p, n, t);
        for (uint32_t r = 0; r < c->out.rows; r++) {
            double y = dot(ref_row(&c->in[0], r), w, p->cols) + (bias ? (double)bias[n] : 0);
            if (residual)
                y += (double)ref_row(residual, r)[n];
            ref_row(&c->out, r)[n] = (float)y;
        }
    }
}

void cdl_ref_LINEAR(const cdl_call *c)
{
    cdl_ref_linear(c, CDL_DTYPE_F32);
}

void cdl_ref_linear_glu(const cdl_call *c, cdl_dtype t)
{
    const cdl_glu_attrs *a = c->attrs;
    const cdl_pack *gate = c->in[1].pack, *up = c->in[2].pack;
    const float *gate_bias = a->has_bias ? c->in[3].data : NULL, *up_bias = a->has_bias ? c->in[4].data : NULL;
    float *wg = c->workspace, *wu = wg + gate->cols;
    for (uint32_t n = 0; n < gate->rows; n++) {
        ref_weight_row(wg, gate, n, t);
        ref_weight_row(wu, up, n, t);
        for (uint32_t r = 0; r < c->out.rows; r++) {
            const float *x = ref_row(&c->in[0], r);
            double g = dot(x, wg, gate->cols) + (gate_bias ? (double)gate_bias[n] : 0);
            double u = dot(x, wu, up->cols) + (up_bias ? (double)up_bias[n] : 0);
            ref_row(&c->out, r)[n] = (float)(cdl_ref_act(a->act, g) * u);
        }
    }
}

void cdl_ref_LINEAR_GLU(const cdl_call *c)
{
    cdl_ref_linear_glu(c, CDL_DTYPE_F32);
}
