/* smollm3.c - every fourth layer does not turn q and k. Source: transformers modeling_smollm3.py. */
#include "model/architecture.h"
#include "model/decoder.h"

static void read_rope_layers(cdl_decoder *d, cdl_config *c)
{
    const cdl_json *list = cdl_config_array(c, "no_rope_layers", d->layers); /* 1: turns */
    uint32_t interval = cdl_config_u32(c, "no_rope_layer_interval", 4, 1, UINT32_MAX);
    for (uint32_t i = 0; i < d->layers; i++) {
        bool turns = list ? cdl_json_int(cdl_json_at(list, i), 1) != 0 : (i + 1) % interval != 0;
        d->rope_of[i] = turns ? 0 : CDL_ROPE_NONE;
    }
}

void cdl_build_smollm3(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    d.tied = cdl_config_bool(c, "tie_word_embeddings", true);
    d.rope[0].attrs.interleaved = cdl_config_gguf(c);
    read_rope_layers(&d, c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
