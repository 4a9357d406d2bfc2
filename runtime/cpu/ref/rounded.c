/* rounded.c - the plain twins as a device with activations of 16 bits computes: an op's values are rounded to the
 * type before it reads them, and so are dense weights. Sums stay f64, vectors and block-quantised weights exact,
 * and logits f32, which nothing but a soft cap reads. What CUDA's kernels may differ from f32 by is measured
 * with it.   Tests: tests/model/test_twin.c */
#include "cpu/ref/ref.h"

void ref_weight_row(float *dst, const cdl_pack *p, uint32_t row, cdl_dtype t)
{
    const cdl_pack_segment *s = p->segment;
    cdl_pack_row(dst, p, row);
    while (row >= s->first_row + s->rows)
        s++;
    for (uint32_t i = 0; i < p->cols && cdl_dtype_get(s->dtype)->block == 1; i++)
        dst[i] = ref_round(dst[i], t);
}

static void round_rows(const cdl_view *v, cdl_dtype t)
{
    for (uint32_t r = 0; r < v->rows; r++)
        for (uint32_t i = 0; i < v->cols; i++)
            ref_row(v, r)[i] = ref_round(ref_row(v, r)[i], t);
}

/* Rounding twice is rounding once, so values that several ops read need no care. */
static void round_inputs(const cdl_call *c, cdl_dtype t)
{
    switch (c->op) {
    case CDL_OP_EMBED:
    case CDL_OP_SOFTCAP:
        return;
    case CDL_OP_ADD:
    case CDL_OP_ACT_MUL:
    case CDL_OP_STATE_WRITE:
        round_rows(&c->in[1], t);
        break;
    case CDL_OP_LINEAR:
        if (((const cdl_linear_attrs *)c->attrs)->has_residual)
            round_rows(&c->in[c->n_in - 1], t);
        break;
    default:
        break;
    }
    round_rows(&c->in[0], t);
}

void cdl_ref_rounded(const cdl_call *c, cdl_dtype t, void (*twin)(const cdl_call *c))
{
    round_inputs(c, t);
    switch (c->op) {
    case CDL_OP_EMBED: cdl_ref_embed(c, t); break;
    case CDL_OP_LINEAR: cdl_ref_linear(c, t); break;
    case CDL_OP_LINEAR_GLU: cdl_ref_linear_glu(c, t); break;
    default: twin(c); break;
    }
}
