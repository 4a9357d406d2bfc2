/* engine.h - what the files of the engine share. Public side: include/cuddle_engine.h, cuddle_sequence.h.
 *
 * engine.c opens and closes, pages.c hands out state pages, sequence.c keeps a sequence's
 * pages, schedule.c runs steps. One lock guards everything but the running step itself.
 */
#ifndef CDL_ENGINE_H
#define CDL_ENGINE_H

#include <pthread.h>

#include "cuddle_sequence.h"
#include "graph/run.h"

/* Layers that keep the same stretch of a sequence share page tables. */
typedef struct {
    uint32_t window;           /* 0: everything                                       */
    uint32_t n_pages;
    uint32_t n_free;
    uint32_t *free;            /* [n_pages] stack of free pages                       */
    uint32_t *refs;            /* [n_pages] sequences that hold it                    */
    uint64_t page_bytes;       /* in all layers of the group                          */
} cdl_page_group;

struct cuddle_sequence {
    cuddle_engine *engine;
    bool open;
    uint32_t length;
    int32_t *tokens;           /* [context_max]                                       */
    int32_t *pages[CDL_STATE_GROUPS]; /* [tables], -1: none                           */
    /* The leading tokens whose pages others may share: computed as prompt rows, at their own
     * positions, all with the short or all with the long RoPE table. */
    uint32_t shareable;
    bool shareable_long;
    /* The feed that is being worked on, or NULL. */
    cuddle_feed *feed;
    uint32_t feed_done;        /* tokens of it that are in the state                  */
    uint32_t feed_length;      /* of the sequence after the whole feed                */
    uint32_t taken, taken_out; /* rows, and rows with logits, in the running step     */
    cuddle_status pick;        /* of its feed; why stands in the feed                 */
    cuddle_sequence *next;     /* in the queue                                        */
};

struct cuddle_engine {
    cuddle_model *model;
    /* after defaults were filled in */
    uint32_t threads, context_max, sequences_max, step_tokens, logits_rows;
    bool f32_activations;
    bool tries_gpu;            /* with device auto                                    */
    cdl_dtype state_dtype;

    cdl_backend *backend;
    cdl_graph graph;
    uint32_t nodes_plain;      /* before fusion                                       */
    cdl_weights weights;
    cdl_plan plan;
    cdl_state state;
    cdl_state_layer *layers;   /* [graph.n_states]; base is an offset until allocated */
    size_t state_bytes;
    cdl_page_group group[CDL_STATE_GROUPS];
    uint32_t n_groups;
    uint32_t table_pages;      /* of a sequence's page table                          */

    cdl_pool *pool;
    cdl_exec *exec;
    uint8_t *state_block, *workspace;
    cuddle_sequence *sequences; /* [sequences_max]                                    */
    int32_t *tables;           /* memory of all page tables and tokens                */
    cdl_span *spans;           /* [sequences_max] of the step that is being built     */
    cdl_pick *picks;           /* [sequences_max] of its rows with logits             */
    int32_t *picked;           /* [sequences_max]                                     */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool leading;              /* a caller is running steps                           */
    cuddle_sequence *queue;    /* sequences with a feed, oldest first                 */
};

/* ---- pages.c ---- */
/* A page with one reference; false when none is free. */
bool cdl_pages_take(cdl_page_group *g, int32_t *out);
void cdl_pages_share(cdl_page_group *g, int32_t page);
void cdl_pages_release(cdl_page_group *g, int32_t page);
/* Copies a page's contents in all layers of group `which`. */
void cdl_pages_copy(const cuddle_engine *e, uint32_t which, int32_t to, int32_t from);

/* ---- sequence.c; all with the lock held ---- */
/* Pages for tokens [length, length + n) where every token is kept. FULL: nothing was taken. */
CUDDLE_CHECK cuddle_status cdl_sequence_reserve(cuddle_sequence *s, uint32_t n);
/* The same for windows, just before a step writes n tokens. */
CUDDLE_CHECK cuddle_status cdl_sequence_reserve_window(cuddle_sequence *s, uint32_t n);
/* Gives back pages that no window reaches any more. */
void cdl_sequence_drop_passed(cuddle_sequence *s);
/* Gives back all pages of slots >= n. */
void cdl_sequence_release_from(cuddle_sequence *s, uint32_t n);
/* An empty sequence takes over the longest common prefix of a living one; tokens taken. */
uint32_t cdl_sequence_reuse(cuddle_sequence *s, const cuddle_feed *f);

/* For tools that look at every node (`cuddle forward --all`). Not while a feed runs. */
void cdl_engine_set_tap(cuddle_engine *e, cdl_tap tap, void *user);
/* The same for each node's time (`cuddle profile`). */
void cdl_engine_set_timer(cuddle_engine *e, cdl_timer timer, void *user);
/* What the last step ran, node by node, untimed. */
void cdl_engine_each_call(const cuddle_engine *e, cdl_timer each, void *user);

#endif
