/* rope.h - the frequencies of rotary position embeddings, from config.json.
 *
 * Types: default, linear, llama3, yarn, longrope (su), dynamic (as default: the context is limited
 * to where it does nothing). Source: transformers modeling_rope_utils.py (5.x), papers named there.
 * Tests: tests/unit/test_model.c */
#ifndef CDL_ROPE_H
#define CDL_ROPE_H

#include "graph/graph.h"
#include "model/config.h"

typedef struct {
    cdl_val inv_freq, inv_freq_long;  /* [rotary_dim / 2]; long: 0 when there is none */
    cdl_rope_attrs attrs;
} cdl_rope;

/* params: rope_parameters or rope_scaling (may be NULL); theta when params has none. */
cdl_rope cdl_rope_make(cdl_graph *g, cdl_config *c, const cdl_json *params, double theta, uint32_t head_dim);

/* What config.json says for all layers: rope_parameters, or rope_theta and rope_scaling. */
cdl_rope cdl_rope_of_config(cdl_graph *g, cdl_config *c, double default_theta, uint32_t head_dim);

#endif
