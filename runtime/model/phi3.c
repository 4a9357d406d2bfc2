/* phi3.c - q, k, v in one tensor, gate and up in one; longrope; a window for all layers.
 * Source: transformers modeling_phi3.py. */
#include "model/architecture.h"
#include "model/decoder.h"

void cdl_build_phi3(cdl_graph *g, cdl_config *c)
{
    cdl_decoder d = { 0 };
    cdl_decoder_read(&d, g, c);
    d.fused = true;
    cdl_decoder_slide(&d, c, 0);
    if (c->status == CUDDLE_OK)
        cdl_decoder_build(g, &d);
}
