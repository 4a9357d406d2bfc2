/* run.h - executes a planned graph, a step at a time; its backend starts the kernels.
 *
 * All calls are prepared once; a step only sets their rows. Late threads of a step (base/pool.h) may
 * still read its calls, so the last few steps' calls are kept in a ring.
 * CUDDLE_TRACE, CUDDLE_DUMP, CUDDLE_NAN, a tap and a timer run the nodes one by one.
 * Read first: plan.h.   Tests: tests/unit/test_graph.c, test_engine.c
 */
#ifndef CDL_RUN_H
#define CDL_RUN_H

#include "graph/plan.h"

typedef struct cdl_exec cdl_exec;

/* Called after each node with its output (rows of this step); f32. */
typedef cuddle_status (*cdl_tap)(void *user, const cdl_node *node, const cdl_view *out);

typedef struct {
    const cdl_graph *graph;
    const cdl_plan *plan;
    const cdl_weights *weights;
    cdl_backend *backend;     /* started            */
    const cdl_state *state;
    uint8_t *workspace;       /* plan->workspace_bytes */
} cdl_exec_parts;             /* all borrowed until free */

CUDDLE_CHECK cuddle_status cdl_exec_new(cdl_exec **out, const cdl_exec_parts *parts);
void cdl_exec_free(cdl_exec *e);

/* To be filled before run: [plan rows] (OUT_ROWS: [plan out_rows]). NULL when the graph lacks it. */
int32_t *cdl_exec_input(cdl_exec *e, cdl_input which);
/* The logits of the last run: [out_rows, V], row stride V, until the next. */
CUDDLE_CHECK cuddle_status cdl_exec_logits(cdl_exec *e, const float **out);

/* step and its spans are copied; the page tables it points to must stay mapped. */
CUDDLE_CHECK cuddle_status cdl_exec_run(cdl_exec *e, const cdl_step *step);
/* Picks the tokens after the rows of the last run, [out_rows], where the backend can: *done. */
CUDDLE_CHECK cuddle_status cdl_exec_pick(cdl_exec *e, const cdl_pick *picks, int32_t *tokens, bool *done);

/* NULL: none. */
void cdl_exec_set_tap(cdl_exec *e, cdl_tap tap, void *user);
/* Called after each node with the seconds that it took, run alone. */
typedef void (*cdl_timer)(void *user, uint32_t node, const cdl_call *call, double seconds);
void cdl_exec_set_timer(cdl_exec *e, cdl_timer timer, void *user);
/* The calls of the last run, in order, with 0 seconds; their rows are still there. */
void cdl_exec_each_call(const cdl_exec *e, cdl_timer each, void *user);

#endif
