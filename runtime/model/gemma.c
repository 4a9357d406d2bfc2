/* gemma.c - norms multiply by 1 + w, the embedding is scaled. Source: transformers modeling_gemma.py. */
#include <math.h>
#include <string.h>

#include "model/architecture.h"
#include "model/decoder.h"

void cdl_gemma_read(cdl_decoder *d, cdl_graph *g, cdl_config *c)
{
    cdl_decoder_read(d, g, c);
    d->norm_offset = cdl_config_gguf(c) ? 0 : 1; /* GGUF's weights contain the 1 */
    d->embed_scale = sqrtf((float)d->hidden);
    g->wide = true; /* trained in bf16: the residual stream passes 65504 */
    d->tied = cdl_config_bool(c, "tie_word_embeddings", true);
    if (!cdl_config_has(c, "hidden_activation"))
        d->act = CDL_ACT_GELU_TANH;
}

void cdl_build_gemma(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_gemma_read(&d, g, c);
    const char *act = cdl_config_string(c, "hidden_act", "gelu");
    d.act = strcmp(act, "gelu") ? cdl_act_of(c, act) : CDL_ACT_GELU_TANH; /* its "gelu" was always the tanh form */
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
