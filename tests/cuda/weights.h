/* weights.h - packed weights for tests of CUDA kernels: every type with its module, random matrices, products of
 * generated and prompt rows. */
#ifndef TEST_WEIGHTS_H
#define TEST_WEIGHTS_H

#include "device.h"
#include "../../cuda/gemm/wgmma_blocks.h"
#include "format/repack.h"

static const struct { cdl_dtype t; const char *module; } weights[] = {
    { CDL_DTYPE_F16, "linear_dense" }, { CDL_DTYPE_BF16, "linear_dense" }, { CDL_DTYPE_Q4_0, "linear_4bit" },
    { CDL_DTYPE_Q4_1, "linear_4bit" }, { CDL_DTYPE_IQ4_NL, "linear_4bit" }, { CDL_DTYPE_MXFP4, "linear_4bit" },
    { CDL_DTYPE_Q5_0, "linear_8bit" }, { CDL_DTYPE_Q5_1, "linear_8bit" }, { CDL_DTYPE_Q8_0, "linear_8bit" },
    { CDL_DTYPE_Q2_K, "linear_k_low" }, { CDL_DTYPE_Q3_K, "linear_k_low" }, { CDL_DTYPE_IQ4_XS, "linear_k_low" },
    { CDL_DTYPE_Q4_K, "linear_k_high" }, { CDL_DTYPE_Q5_K, "linear_k_high" }, { CDL_DTYPE_Q6_K, "linear_k_high" },
    { CDL_DTYPE_I4_G32, "linear_int4" }, { CDL_DTYPE_I4_G64, "linear_int4" }, { CDL_DTYPE_I4_G128, "linear_int4" },
};
enum { WEIGHTS = sizeof weights / sizeof *weights };

/* A matrix of a file, as f32 and as the device has it. */
typedef struct {
    uint32_t rows, cols;
    float *value;
    device_ptr packed;
} matrix;

static inline matrix matrix_new(cdl_dtype t, uint32_t rows, uint32_t cols, kernel_random *random)
{
    matrix m = { .rows = rows, .cols = cols, .value = malloc((size_t)rows * cols * sizeof(float)) };
    size_t row_bytes = kernel_row_bytes(t, cols), bytes;
    uint8_t *src = malloc(rows * row_bytes);
    kernel_weights(src, t, (size_t)rows * cols, random);
    kernel_must(cdl_repack_bytes(&bytes, t, rows, cols), "repack");
    uint8_t *packed = malloc(bytes);
    cdl_repack_tiles(packed, t, src, row_bytes, rows, cols, 0, (rows + 15) / 16);
    for (uint32_t r = 0; r < rows; r++)
        cdl_dtype_to_f32(m.value + (size_t)r * cols, t, src + r * row_bytes, cols);
    m.packed = driver_up(packed, bytes);
    free(src);
    free(packed);
    return m;
}

static uint32_t linear_turn;

/* How the next product of many generated rows is cut: each in another of these ways, as the room allows. */
static inline cdl_linear_many linear_plan(const cdl_linear_args *a, uint32_t step_bytes, uint32_t columns)
{
    static const struct { uint32_t pairs, chains, splits; } plans[] = {
        { 2, 4, 1 }, { 3, 2, 4 }, { 1, 8, 1 }, { 7, 1, 1 }, { 4, 2, 2 }, { 2, 1, 4 }, { 7, 4, 1 } };
    uint32_t i = linear_turn++ % (sizeof plans / sizeof *plans), all = cdl_linear_chains(!!a->up);
    cdl_linear_many m = { .tokens = cdl_linear_many_tokens(a->tokens), .pairs = plans[i].pairs,
        .chains = plans[i].chains, .splits = plans[i].splits };
    if (m.chains * m.splits > all)
        m.chains = all / m.splits;
    for (;;) {
        cdl_linear_many_size(&m, step_bytes, all);
        if (m.threads <= 32 * cdl_linear_many_warps(m.tokens, columns) && m.shared <= CDL_CUDA_BLOCK_SHARED)
            return m;
        *(m.pairs > 1 ? &m.pairs : &m.chains) /= 2;
    }
}

/* Blocks of `each` rows of a product's weights. */
static inline uint32_t linear_blocks(const cdl_linear_args *a, uint32_t each)
{
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < a->n_segments; i++)
        blocks += (a->segment[i].rows + each - 1) / each;
    return a->n_segments ? blocks : (a->rows + each - 1) / each;
}

/* t: of mixed weights the one of most bytes. */
static inline void linear_launch_many(const char *module, const char *weight, cdl_dtype t, cdl_dtype activations,
        const cdl_linear_args *given)
{
    char base[64], name[80];
    cdl_linear_args a = *given;
    uint32_t columns;
    cdl_repack_tile_bytes(t, &columns);
    cdl_linear_many m = linear_plan(&a, (uint32_t)cdl_repack_step_bytes(t), strcmp(weight, "mixed") ? columns : 0);
    uint32_t x = linear_blocks(&a, m.pairs * (a.up ? 16 : 32)), y = (a.tokens + m.tokens - 1) / m.tokens;
    uint32_t *zeros = calloc(x * y, sizeof *zeros);
    a.pairs = m.pairs;
    a.splits = m.splits;
    a.partial = (void *)driver_up(NULL, (size_t)x * y * m.pairs * cdl_linear_chains(!!a.up) * m.tokens * 128);
    a.counters = (void *)driver_up(zeros, x * y * sizeof *zeros);
    snprintf(base, sizeof base, "linear_fwd_many%u_kernel_%s", m.tokens, weight);
    driver_launch(module, type_kernel(name, sizeof name, base, activations), x, y, m.splits, m.threads, m.shared, &a);
    free(zeros);
}

/* A product of generated rows by the kernel that takes so many. t: the weights' type, of mixed ones Q6_K. */
static inline void linear_launch_decode(const char *module, const char *weight, cdl_dtype t, cdl_dtype activations,
        const cdl_linear_args *a)
{
    char base[64], name[80];
    uint32_t cols, bytes = cdl_repack_tile_bytes(t, &cols);
    bool mixed = !strcmp(weight, "mixed");
    if (a->tokens > cdl_linear_few(bytes, cols)) {
        linear_launch_many(module, weight, mixed ? CDL_DTYPE_F16 : t, activations, a);
        return;
    }
    snprintf(base, sizeof base, "linear_fwd_decode_kernel_%s", weight);
    driver_launch(module, type_kernel(name, sizeof name, base, activations),
        linear_blocks(a, CDL_CUDA_LINEAR_ROWS), 1, 1, cdl_linear_chains(!!a->up) * 32,
        cdl_linear_decode_shared(bytes, cols, a->tokens, !!a->up), (void *)a);
}

/* Kernels of a product: of generated rows, of prompt rows in large blocks and in small ones, and in those of wgmma. */
enum { GENERATED, PROMPT, PROMPT_SMALL, WGMMA };

static inline bool weights_are_dense(int w)
{
    return weights[w].t == CDL_DTYPE_F16 || weights[w].t == CDL_DTYPE_BF16;
}

static inline void linear_launch_wgmma(int w, cdl_dtype t, uint32_t kind, const cdl_linear_args *a)
{
    static const char *const kinds[CDL_WGMMA_BLOCKS] = { "wide", "middle", "narrow", "small" };
    const cdl_wgmma_block *b = &cdl_wgmma_block_of[kind];
    char module[32], base[64], name[96];
    snprintf(module, sizeof module, "wgmma%s", strchr(weights[w].module, '_'));
    snprintf(base, sizeof base, "linear_fwd_prefill_%s_sm90_kernel_%s", kinds[kind], cdl_dtype_get(weights[w].t)->name);
    driver_launch(module, type_kernel(name, sizeof name, base, t), (a->tokens + b->tokens - 1) / b->tokens,
        (a->rows + b->rows - 1) / b->rows, 1, 2 * b->rows, cdl_wgmma_shared(kind,
            (uint32_t)cdl_repack_step_bytes(weights[w].t), weights_are_dense(w)), (void *)a);
}

static inline void linear_launch(int w, cdl_dtype t, int how, const cdl_linear_args *a)
{
    char base[64], name[80];
    const char *weight = cdl_dtype_get(weights[w].t)->name;
    if (how == GENERATED) {
        linear_launch_decode(weights[w].module, weight, weights[w].t, t, a);
        return;
    }
    setenv("CUDDLE_VGPU_CAPABILITY", "90", 0); /* an A100 has not the memory for large blocks of dense weights */
    if (how >= WGMMA) {
        linear_launch_wgmma(w, t, (uint32_t)(how - WGMMA), a);
        return;
    }
    uint32_t tile = how == PROMPT ? CDL_CUDA_PREFILL_TILE : CDL_CUDA_PREFILL_SMALL;
    unsigned x = (a->tokens + tile - 1) / tile, y = (a->rows + tile - 1) / tile;
    uint32_t shared = cdl_linear_prefill_shared(tile, (uint32_t)cdl_repack_step_bytes(weights[w].t));
    snprintf(base, sizeof base, "linear_fwd_prefill%s_kernel_%s", how == PROMPT ? "" : "_small", weight);
    type_kernel(name, sizeof name, base, t);
    if (how == PROMPT && shared > driver_shared()) { /* a smaller GPU takes small blocks, which have the same bits */
        driver_record_launch(name, (unsigned[]){ x, y, 1 });
        linear_launch(w, t, PROMPT_SMALL, a);
        return;
    }
    driver_launch(weights[w].module, name, x, y, 1,
        how == PROMPT ? CDL_CUDA_PREFILL_THREADS : CDL_CUDA_PREFILL_SMALL_THREADS, shared, (void *)a);
}

#endif
