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

/* A product of generated rows by the kernel that takes so many; mixed weights: t is Q6_K. */
static inline void linear_launch_decode(const char *module, const char *weight, cdl_dtype t, cdl_dtype activations,
        unsigned blocks, const cdl_linear_args *a)
{
    char base[64], name[80];
    uint32_t cols, bytes = cdl_repack_tile_bytes(t, &cols);
    bool few = a->tokens <= cdl_linear_few(bytes, cols);
    snprintf(base, sizeof base, "linear_fwd_%s_kernel_%s", few ? "decode" : "many", weight);
    driver_launch(module, type_kernel(name, sizeof name, base, activations), blocks,
        few ? 1 : (a->tokens + CDL_CUDA_LINEAR_MANY - 1) / CDL_CUDA_LINEAR_MANY, 1,
        a->up ? CDL_CUDA_PAIR_THREADS : CDL_CUDA_LINEAR_THREADS,
        few ? cdl_linear_decode_shared(bytes, cols, a->tokens, !!a->up) : cdl_linear_many_shared(bytes, !!a->up),
        (void *)a);
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
        linear_launch_decode(weights[w].module, weight, weights[w].t, t, (a->rows + 15) / 16, a);
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
