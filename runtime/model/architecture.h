/* architecture.h - from config.json to a graph, by model_type.
 *
 * A new architecture: a row in architectures.def, a file with cdl_build_<symbol>, a
 * golden case, a row in README.   Tests: tests/model/, tests/unit/test_model.c
 */
#ifndef CDL_ARCHITECTURE_H
#define CDL_ARCHITECTURE_H

#include "graph/graph.h"
#include "model/config.h"
#include "model/decoder.h"

/* Each builds the plain graph; errors stick in the config or the graph. */
#define X(type, symbol) void cdl_build_##symbol(cdl_graph *g, cdl_config *c);
#include "model/architectures.def"
#undef X

/* What several files share. */
void cdl_qwen_slide(cdl_decoder *d, cdl_config *c);
void cdl_gemma_read(cdl_decoder *d, cdl_graph *g, cdl_config *c);

/* The graph of a checkpoint. UNSUPPORTED names the architecture and those that are known. */
CUDDLE_CHECK cuddle_status cdl_architecture_build(cdl_graph *out, const cdl_checkpoint *c);
/* config.json's model_type, "" without one. */
const char *cdl_architecture_name(const cdl_checkpoint *c);

#endif
