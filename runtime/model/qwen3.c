/* qwen3.c - norms over the heads of q and k. Source: transformers modeling_qwen3.py. */
#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_qwen3(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    d.qk_norm = true;
    cdl_qwen_slide(&d, c);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
