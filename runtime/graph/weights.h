/* weights.h - the weights of a graph: from the checkpoint's tensors into one block, packed for the backend's kernels.
 *
 * plan checks every tensor's presence and shape and sizes the block; load reads, packs (on all
 * threads) and drops the file's pages behind itself, so that file and packed form are
 * never both resident. Vectors become f32.
 * Read first: graph.h, cpu/pack.h.   Tests: tests/unit/test_graph.c
 */
#ifndef CDL_WEIGHTS_H
#define CDL_WEIGHTS_H

#include "cpu/pack.h"
#include "format/checkpoint.h"
#include "graph/backend.h"
#include "graph/graph.h"

typedef struct {
    cdl_backend *backend;  /* borrowed                                                           */
    cdl_view *views;       /* [values]; of weights and constants, by value                       */
    cdl_pack *packs;       /* of the matrices                                                    */
    uint32_t n_packs;
    uint32_t n_values;
    uint8_t *block;        /* NULL until loaded                                                  */
    size_t bytes;          /* of the block                                                       */
} cdl_weights;

/* Errors: NOTFOUND, FORMAT, UNSUPPORTED with tensor, wanted, got and file; NOMEM. */
CUDDLE_CHECK cuddle_status cdl_weights_plan(cdl_weights *out, const cdl_graph *g, const cdl_checkpoint *c,
        cdl_backend *b);
/* progress may be NULL; false from it gives CANCELLED. */
CUDDLE_CHECK cuddle_status cdl_weights_load(cdl_weights *w, const cdl_graph *g, const cdl_checkpoint *c,
        cdl_pool *pool, cuddle_progress_fn progress, void *user);
void cdl_weights_free(cdl_weights *w);

#endif
