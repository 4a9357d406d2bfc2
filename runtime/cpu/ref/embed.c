#include "cpu/ref/ref.h"

void cdl_ref_embed(const cdl_call *c, cdl_dtype t)
{
    const cdl_embed_attrs *a = c->attrs;
    const int32_t *ids = c->in[0].data;
    for (uint32_t r = 0; r < c->out.rows; r++) {
        float *y = ref_row(&c->out, r);
        ref_weight_row(y, c->in[1].pack, (uint32_t)ids[r], t);
        for (uint32_t i = 0; i < c->out.cols; i++)
            y[i] *= a->scale;
    }
}

void cdl_ref_EMBED(const cdl_call *c)
{
    cdl_ref_embed(c, CDL_DTYPE_F32);
}
