/* cuddle_engine.h - a model made ready to run on one device.
 *
 * The engine owns weights, state pages, workspace, threads and the scheduler. Everything is
 * planned and allocated by open; nothing is allocated afterwards. Sequences
 * (cuddle_sequence.h) are handles in it; several of them run in one step. A sequence's
 * results do not depend on what else runs, nor on how its prompt was cut, unless `fast` allows it.
 * Read first: cuddle_model.h.   Tests: tests/unit/test_engine.c
 */
#ifndef CUDDLE_ENGINE_H
#define CUDDLE_ENGINE_H

#include <stdio.h>

#include "cuddle_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_engine cuddle_engine;

/* Zero the struct, set size = sizeof it; a zero field means the default. */
typedef struct {
    size_t size;               /* bytes; the struct may grow, never shrink                         */
    const char *device;        /* "cpu", "cuda", "cuda:1", .., "auto": the first GPU (no virtual one), or the CPU where
                                * there is none, it cannot take the model, or cpu or f32_activations are set;
                                * default: CUDDLE_DEVICE, else auto                                */
    uint32_t threads;          /* default: the processors this process may use                     */
    uint32_t context_max;      /* tokens of one sequence; default: the model's limit, at most 8192 */
    uint32_t sequences_max;    /* sequences open at once; default: 1                               */
    uint32_t state_tokens;     /* tokens in all sequences' pages; default: context x sequences     */
    uint32_t step_tokens;      /* most rows of one step; default: 512                              */
    uint32_t logits_rows;      /* most rows with logits in one step; default: sequences_max        */
    bool f32_activations;      /* checking: products keep f32 activations, state is f32            */
    const char *state_dtype;   /* of keys and values. CPU: "f16", "f32"; default: f16 (f32 with f32_activations).
                                * CUDA: "f16", "bf16", which activations have too, "i8", "f8e4m3"; default: f16
                                * for weights of f16, else bf16                                    */
    const char *cpu;           /* kernels: "ref", "avx2", "avx512", "amx"; default: CUDDLE_CPU, else the best */
    cuddle_progress_fn progress; /* while weights are read                                         */
    void *progress_user;
    bool fast;                 /* CUDA: prompts of 128 rows a step and more are multiplied with dense weights by
                                * cuBLASLt, which sums in an order that depends on the number of rows: a sequence's
                                * results may differ in rounding by how its prompt is cut and what runs beside it.
                                * CPU: UNSUPPORTED. No cuBLASLt: NOTFOUND                          */
} cuddle_engine_opts;

/* Reads and repacks the weights, allocates all memory, starts the threads. The model must
 * stay open as long as the engine. opts may be NULL.
 * Errors: ARG, UNSUPPORTED, NOTFOUND (a tensor is missing), FORMAT (its shape), NOMEM, CANCELLED. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_engine_open(cuddle_engine **out, cuddle_model *m,
        const cuddle_engine_opts *opts);
/* All sequences must be closed. */
CUDDLE_API void cuddle_engine_close(cuddle_engine *e);

/* What open would allocate, in bytes, without allocating it. */
typedef struct {
    size_t size;
    uint64_t weights_bytes;      /* repacked weights                                          */
    uint64_t state_bytes;        /* pages of all layers                                       */
    uint64_t workspace_bytes;    /* activations and kernels' scratch, shared by all steps     */
    uint64_t workspace_bound;    /* no plan can need less: most bytes alive at one node       */
    uint32_t pages[4];           /* per state group                                           */
    uint32_t page_bytes[4];      /* of a page in all layers of the group                      */
    uint32_t groups;
    uint32_t nodes, nodes_fused; /* before and after fusion                                   */
    char cpu[16];                /* the kernels: "avx512", "sm_90"                            */
    char device[16];             /* "cpu", "cuda:0"                                           */
    char state_dtype[16];        /* of keys and values: "f16"                                 */
    uint32_t threads, context_max;
} cuddle_engine_plan;

CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_engine_make_plan(cuddle_engine_plan *out, cuddle_model *m,
        const cuddle_engine_opts *opts);
CUDDLE_API void cuddle_engine_describe(const cuddle_engine *e, cuddle_engine_plan *out);
/* Every planned block (tensor, bytes, offset, nodes it lives through) as text lines to out. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_engine_print_plan(FILE *out, cuddle_model *m,
        const cuddle_engine_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
