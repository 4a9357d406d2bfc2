/* qwen2.c - biases on q, k and v; upper layers may slide. Source: transformers modeling_qwen2.py. */
#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_qwen2(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    d.qkv_bias = true;
    d.o_bias = false;
    cdl_qwen_slide(&d, c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}

void cdl_qwen_slide(cdl_decoder *d, cdl_config *c)
{
    if (cdl_config_has(c, "layer_types") || !cdl_config_bool(c, "use_sliding_window", false))
        return;
    uint32_t first = cdl_config_u32(c, "max_window_layers", 0, 0, UINT32_MAX);
    for (uint32_t i = first; i < d->layers; i++)
        d->window[i] = cdl_config_u32(c, "sliding_window", 0, 0, UINT32_MAX);
}
