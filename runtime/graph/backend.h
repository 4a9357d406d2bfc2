/* backend.h - where a graph runs: the sizes of things there, the blocks they lie in, and the step itself.
 *
 * The graph, its plan, its weights and the engine are the same everywhere; what differs stands here. An
 * implementation's struct begins with a cdl_backend. Weights lie in panels of CDL_PACK_ROWS rows on
 * every backend. Addresses in views, calls and state are the backend's: the host reads and writes
 * them only where a backend has no stage, no input and no fetch of its own.
 * Read first: op.h, cpu/pack.h.   Implementations: run_cpu.c, run_cuda.c
 */
#ifndef CDL_BACKEND_H
#define CDL_BACKEND_H

#include "base/pool.h"
#include "cuddle_sampler.h"
#include "graph/graph.h"

enum {
    CDL_BACKEND_RING = 4,           /* steps whose calls stay as they are, for threads that are late */
    CDL_STAGE_BYTES = 4 << 20       /* of what a stage gives                                         */
};

/* What a start needs to know. */
typedef struct {
    cdl_pool *pool;
    uint32_t calls;                 /* of a step                                              */
    uint32_t rows, out_rows, spans; /* the most of a step                                     */
    uint32_t table_pages;           /* of a sequence's page table                             */
    uint32_t long_from;             /* cdl_graph.rope_long_from                               */
    uint32_t vocab;                 /* cols of the logits, f32                                */
} cdl_backend_sizes;

/* A matrix as a file has it. */
typedef struct {
    const uint8_t *data;            /* maybe not aligned                                      */
    size_t row_bytes;               /* from a row to the next; of transposed ones from a column */
    cdl_dtype dtype;
    uint32_t rows, cols;
    bool transposed;                /* dense types only: stored [cols, rows]                  */
} cdl_matrix_source;

/* How the token after a row is picked. Tokens are in the vocabulary; each stands in a list once. */
typedef struct {
    const cuddle_sampling *options; /* defaults filled in; NULL: it is not                    */
    uint64_t position;
    const int32_t *seen;            /* [n_seen] prompt and generated tokens                   */
    const uint32_t *count;          /* [vocab] times generated                                */
    size_t n_seen;
    const int32_t *banned;          /* [n_banned]                                             */
    size_t n_banned;
} cdl_pick;

typedef struct cdl_backend cdl_backend;
struct cdl_backend {
    const char *device;          /* "cpu", "cuda:0"                                 */
    const char *kernels;         /* "avx512", "sm_90"                               */
    cdl_dtype activation;        /* of values between nodes: F32, F16 or BF16; inputs and logits keep their own */
    bool int4_groups;            /* has products of i4_g*: else they come as cdl_int4_plain */
    size_t thread_scratch_bytes; /* what each thread of the pool needs              */

    /* Sizes; nothing is taken. */
    cuddle_status (*weight_bytes)(const cdl_backend *b, size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols);
    size_t (*page_bytes)(cdl_dtype t, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim);
    size_t (*scratch_bytes)(const cdl_backend *b, const cdl_call *largest);
    /* UNSUPPORTED with op, node and why; NULL: it takes every call. */
    cuddle_status (*check)(const cdl_backend *b, const cdl_call *largest);

    /* Panels [panel, panel + n) of a matrix whose panel 0 is at dst; see cpu/pack.h. */
    void (*pack)(const cdl_backend *b, uint8_t *dst, const cdl_matrix_source *m, uint32_t panel, uint32_t n);
    /* Weights on their way into a block: CDL_STAGE_BYTES of host memory to fill, then its first n bytes to
     * dst. The next stage may be filled while the last travel. NULL: they are written in place. */
    cuddle_status (*stage)(cdl_backend *b, uint8_t **out);
    cuddle_status (*send)(cdl_backend *b, uint8_t *dst, size_t n);

    /* Blocks: zeroed. NOMEM: "out of memory for <what>: N bytes; <remedy>". */
    cuddle_status (*block_new)(cdl_backend *b, uint8_t **out, size_t bytes, const char *what, const char *remedy);
    void (*block_free)(cdl_backend *b, uint8_t *p, size_t bytes);          /* NULL is fine */
    void (*copy)(cdl_backend *b, uint8_t *dst, const uint8_t *src, size_t n); /* within blocks, between steps */

    /* Once, before the first run, when all blocks are there. */
    cuddle_status (*start)(cdl_backend *b, const cdl_backend_sizes *sizes);
    /* Once, after start: the calls as large as they get. NULL: nothing to prepare. */
    cuddle_status (*prepare)(cdl_backend *b, const cdl_call *calls, uint32_t n);
    /* Where the host writes an input before each run; *device is where calls find it. NULL: both in the workspace. */
    int32_t *(*input)(cdl_backend *b, cdl_input which, void **device);
    /* Returns when at most the last `steps` runs may still read their calls. */
    void (*settle)(cdl_backend *b, uint32_t steps);
    /* Runs calls [first, first + n) of a step, in order; slot < CDL_BACKEND_RING says whose they are. */
    cuddle_status (*run)(cdl_backend *b, uint32_t slot, const cdl_call *calls, uint32_t first, uint32_t n);
    /* The same, and the seconds that it took by the device's clock; waits. NULL: the host's clock does. */
    cuddle_status (*time)(cdl_backend *b, const cdl_call *calls, uint32_t first, uint32_t n, double *seconds);
    /* *out: v's rows after a run, as f32 where the host can read them, until the next call; waits for them.
     * NULL: v is such already. */
    cuddle_status (*fetch)(cdl_backend *b, const cdl_view *v, cdl_view *out);
    /* After a run: tokens[i] from row i of the logits by picks[i] (-1: none is above -inf), without bringing
     * them down; waits. *done: false when it is too much for the device's lists. NULL: the host picks. */
    cuddle_status (*pick)(cdl_backend *b, const cdl_view *logits, const cdl_pick *picks, int32_t *tokens, bool *done);

    void (*free)(cdl_backend *b);
};

/* The CPU; kernels: see cdl_cpu_select. */
CUDDLE_CHECK cuddle_status cdl_backend_cpu(cdl_backend **out, const char *kernels);
/* GPU `index`; activation: F16 or BF16; fast: cuddle_engine_opts.fast. Errors: those of cdl_device_open and, fast, of
 * cdl_cublaslt_open. */
CUDDLE_CHECK cuddle_status cdl_backend_cuda(cdl_backend **out, uint32_t index, cdl_dtype activation, bool fast);

#endif
