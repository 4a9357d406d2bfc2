/* plan.h - a place in the workspace for every value, fixed before anything runs.
 *
 * Values live from the node that makes them to the last that reads them; greedy by size puts
 * values whose lives do not overlap on the same bytes. A view lives in its base; an op that
 * may run in place takes its input's place when nobody reads the input later.
 * Behind the values stand the kernels' scratch bytes, shared by all nodes.
 * Read first: graph.h, backend.h.   Tests: tests/unit/test_graph.c
 */
#ifndef CDL_PLAN_H
#define CDL_PLAN_H

#include "graph/weights.h"

typedef struct {
    uint32_t rows, out_rows;   /* the largest T and R of a step      */
    uint32_t spans;            /* the most sequences of a step       */
    bool f32_activations;
} cdl_bounds;

typedef struct {
    cdl_val root;              /* whose bytes it uses: itself, its base, or the input it overwrites; 0: none */
    uint32_t first_col;        /* of it, in the root's row                                    */
    cdl_dtype dtype;           /* in the workspace: the backend's for activations, F32 for logits */
    uint32_t first, last;      /* of a root: nodes from its making to its last reader         */
    size_t offset, bytes;      /* of a root, in the workspace                                 */
} cdl_place;

typedef struct {
    cdl_place *places;         /* [values]                                                    */
    uint32_t n_values;
    cdl_bounds bounds;
    size_t values_bytes;       /* of the workspace: [0, values_bytes) values, then scratch    */
    size_t scratch_bytes;
    size_t workspace_bytes;
    size_t bound_bytes;        /* the most bytes of values alive at one node, and its scratch: no plan needs less */
} cdl_plan;

/* The view of value v in a workspace at base (which may be NULL), with the bounds' rows. */
cdl_view cdl_plan_view(const cdl_plan *p, const cdl_graph *g, const cdl_weights *w, cdl_val v, uint8_t *base);

/* Fills a call of node n as large as the bounds allow. */
void cdl_plan_call(const cdl_plan *p, const cdl_graph *g, const cdl_weights *w, uint32_t node, uint8_t *base,
        cdl_call *out);

CUDDLE_CHECK cuddle_status cdl_plan_make(cdl_plan *out, const cdl_graph *g, const cdl_weights *w,
        const cdl_backend *b, const cdl_state *state, cdl_bounds bounds);
void cdl_plan_free(cdl_plan *p);

/* A line a block: offset, bytes, nodes it lives through, values in it. */
CUDDLE_CHECK cuddle_status cdl_plan_print(const cdl_plan *p, const cdl_graph *g, cdl_buf *out);

#endif
