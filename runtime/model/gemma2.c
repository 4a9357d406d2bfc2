/* gemma2.c - norms around attention and MLP, soft caps, every other layer slides.
 * Source: transformers modeling_gemma2.py. */
#include <math.h>

#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_gemma2(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_gemma_read(&d, g, c);
    d.sandwich = true;
    d.attn_softcap = (float)cdl_config_double(c, "attn_logit_softcapping", 0);
    d.final_softcap = (float)cdl_config_double(c, "final_logit_softcapping", 0);
    double scalar = cdl_config_double(c, "query_pre_attn_scalar", d.head_dim);
    d.attn_scale = (float)(1 / sqrt(scalar));
    cdl_decoder_slide(&d, c, 2);
    if (scalar <= 0)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "query_pre_attn_scalar must be above 0");
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
