/* llama.c - Llama 1 to 3, SmolLM, and whatever follows their layout.
 * Source: transformers modeling_llama.py. GGUF files interleave the rotary pairs. */
#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_llama(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    d.rope[0].attrs.interleaved = cdl_config_gguf(c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
