/* gemma3.c - as gemma2 without attention's soft cap, with norms over the heads of q and k; five of six
 * layers slide and turn with a RoPE table of their own. Source: transformers modeling_gemma3.py. */
#include <math.h>

#include "model/architecture.h"
#include "model/decoder.h"

/* rope[0] is the global table, rope[1] the local one. */
static void read_ropes(cdl_decoder *d, cdl_graph *g, cdl_config *c)
{
    const cdl_json *p = cdl_json_get(c->json, "rope_parameters");
    const cdl_json *full = cdl_json_get(p, "full_attention"), *local = cdl_json_get(p, "sliding_attention");
    if (!cdl_json_none(full)) {
        d->rope[0] = cdl_rope_make(g, c, full, 1000000, d->head_dim);
        d->rope[1] = cdl_rope_make(g, c, local, 10000, d->head_dim);
    } else {
        const cdl_json *scaling = cdl_json_none(p) ? cdl_json_get(c->json, "rope_scaling") : p;
        d->rope[0] = cdl_rope_make(g, c, scaling, cdl_config_double(c, "rope_theta", 1000000), d->head_dim);
        d->rope[1] = cdl_rope_make(g, c, NULL, cdl_config_double(c, "rope_local_base_freq", 10000), d->head_dim);
    }
    for (uint32_t i = 0; i < d->layers; i++)
        d->rope_of[i] = d->window[i] != 0;
}

void cdl_build_gemma3(cdl_graph *g, cdl_config *c)
{
    const cdl_json *text = cdl_json_get(c->json, "text_config");
    if (!cdl_json_none(text))
        c->json = text;
    cdl_decoder d = { 0 };
    cdl_gemma_read(&d, g, c);
    d.sandwich = d.qk_norm = true;
    d.final_softcap = (float)cdl_config_double(c, "final_logit_softcapping", 0);
    double scalar = cdl_config_double(c, "query_pre_attn_scalar", d.head_dim);
    d.attn_scale = (float)(1 / sqrt(scalar));
    uint32_t pattern = cdl_config_u32(c, "sliding_window_pattern", 6, 0, UINT32_MAX);
    cdl_decoder_slide(&d, c, cdl_config_u32(c, "_sliding_window_pattern", pattern, 0, UINT32_MAX));
    if (scalar <= 0)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "query_pre_attn_scalar must be above 0");
    if (cdl_config_bool(c, "use_bidirectional_attention", false))
        cdl_config_fail(c, CUDDLE_ERR_UNSUPPORTED, "use_bidirectional_attention is not known");
    if (c->status != CUDDLE_OK)
        return;
    read_ropes(&d, g, c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
