/* backend.h - where a graph runs: the sizes of things there, the blocks they lie in, and the step itself.
 *
 * The graph, its plan, its weights and the engine are the same everywhere; what differs stands here. An
 * implementation's struct begins with a cdl_backend. Weights lie in panels of CDL_PACK_ROWS rows on
 * every backend. Addresses in views, calls and state are the backend's.
 * Read first: op.h, cpu/pack.h.   Implementations: run_cpu.c
 */
#ifndef CDL_BACKEND_H
#define CDL_BACKEND_H

#include "base/pool.h"
#include "graph/op.h"

/* Steps whose calls stay as they are, for threads that are late. */
enum { CDL_BACKEND_RING = 4 };

typedef struct cdl_backend cdl_backend;
struct cdl_backend {
    const char *kernels;         /* "avx512"                                        */
    cdl_dtype activation;        /* of values between nodes: F32, F16 or BF16; inputs and logits keep their own */
    size_t thread_scratch_bytes; /* what each thread of the pool needs              */

    /* Sizes; nothing is taken. */
    cuddle_status (*weight_bytes)(size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols);
    size_t (*page_bytes)(cdl_dtype t, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim);
    size_t (*scratch_bytes)(const cdl_backend *b, const cdl_call *largest);

    /* Panels [panel, panel + n) from a tensor's rows; see cpu/pack.h. */
    void (*pack)(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes, uint32_t rows, uint32_t cols,
            uint32_t panel, uint32_t n);
    void (*pack_transposed)(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes, uint32_t rows,
            uint32_t cols, uint32_t panel, uint32_t n);

    /* Blocks: zeroed. NOMEM: "out of memory for <what>: N bytes; <remedy>". */
    cuddle_status (*block_new)(cdl_backend *b, uint8_t **out, size_t bytes, const char *what, const char *remedy);
    void (*block_free)(cdl_backend *b, uint8_t *p, size_t bytes);          /* NULL is fine */
    void (*copy)(cdl_backend *b, uint8_t *dst, const uint8_t *src, size_t n); /* within blocks, between steps */

    /* Once, before the first run: the threads, and the most calls of a step. */
    cuddle_status (*start)(cdl_backend *b, cdl_pool *pool, uint32_t calls);
    /* Returns when at most the last `steps` runs may still read their calls. */
    void (*settle)(cdl_backend *b, uint32_t steps);
    /* Runs calls [first, first + n) of a step, in order; slot < CDL_BACKEND_RING says whose they are. */
    cuddle_status (*run)(cdl_backend *b, uint32_t slot, const cdl_call *calls, uint32_t first, uint32_t n);

    void (*free)(cdl_backend *b);
};

/* The CPU; kernels: see cdl_cpu_select. */
CUDDLE_CHECK cuddle_status cdl_backend_cpu(cdl_backend **out, const char *kernels);

#endif
