/* mistral.c - Llama's layout; all layers may see a sliding window only.
 * Source: transformers modeling_mistral.py. */
#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_mistral(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    cdl_decoder_slide(&d, c, 0);
    d.rope[0].attrs.interleaved = cdl_config_gguf(c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
