/* prefill.cuh - y = x W^T for prompt rows: 128 weight rows and 128 tokens a block, from the same packed weights.
 *
 * Numerics: a weight is scaled in f32 and rounded to the activations' type, as a dequantised model has it; sums in
 *           f32, K in steps of 16 from 0 up, so a row's bits do not depend on the others.
 * Design:   8 warps, 32 weight rows x 64 tokens each; x and the packed weights come through 3 stages of cp.async; x
 *           is swizzled so that the 8-byte reads of B fragments meet no bank twice; weights are read as fragments.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_PREFILL_CUH
#define CDL_PREFILL_CUH

#include "decode.cuh"

namespace prefill {

enum {
    TILE = CDL_CUDA_PREFILL_TILE,
    STAGES = CDL_CUDA_PREFILL_STAGES,
    X_BYTES = TILE * 64 * 2,
    M = 2,          /* weight tiles of 16 of a warp */
    N = 8,          /* token tiles of 8 of a warp   */
    STRIDE = TILE + 4 /* of results; no bank twice  */
};

/* Rows of dense weights, 64 columns of each. */
__device__ __forceinline__ void fetch_rows(uint8_t *to, const cdl_linear_args &a, uint32_t step)
{
    const uint32_t rows = (a.rows + 15) / 16 * 16;
    const size_t pitch = (a.cols + 63) / 64 * 128;
    for (uint32_t i = threadIdx.x; i < TILE * 8; i += CDL_CUDA_PREFILL_THREADS) {
        const uint32_t m = i / 8, chunk = i % 8, row = blockIdx.x * TILE + m;
        const bool wanted = row < rows;
        const uint8_t *from = (const uint8_t *)a.weight + (wanted ? row * pitch + step * 128 + chunk * 16 : 0);
        copy_async(to + swizzled(m, chunk), from, wanted);
    }
}

/* What 64 columns of the packed types need. */
template <typename F> __device__ __forceinline__ void fetch_tiles(uint8_t *to, const cdl_linear_args &a, uint32_t step)
{
    const uint32_t tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS, row_tiles = (a.rows + 15) / 16;
    constexpr uint32_t CHUNKS = F::PART_BYTES / 16;
    for (uint32_t i = threadIdx.x; i < TILE / 16 * CHUNKS; i += CDL_CUDA_PREFILL_THREADS) {
        const uint32_t m = i / CHUNKS, at = i % CHUNKS * 16, tile = blockIdx.x * (TILE / 16) + m;
        const bool wanted = tile < row_tiles;
        const uint8_t *from = (const uint8_t *)a.weight
                            + (wanted ? ((size_t)tile * tiles + step / F::SUBS) * F::TILE_BYTES : 0);
        const uint32_t skip = (int)at < F::MAIN_BYTES ? 0 : step % F::SUBS * F::SUB_BYTES;
        copy_async(to + m * F::PART_BYTES + at, from + skip + at, wanted);
    }
}

/* 64 columns of x and of the weights into a stage. */
template <typename F, typename T> __device__ __forceinline__ void fetch(uint8_t *stage, const cdl_linear_args &a,
    uint32_t step)
{
    for (uint32_t i = threadIdx.x; i < TILE * 8; i += CDL_CUDA_PREFILL_THREADS) {
        const uint32_t n = i / 8, chunk = i % 8, token = blockIdx.y * TILE + n, k = step * 64 + chunk * 8;
        const bool wanted = token < a.tokens && k < a.cols;
        const T *from = (const T *)a.x + (wanted ? (size_t)token * a.x_stride + k : 0);
        copy_async(stage + swizzled(n, chunk), from, wanted);
    }
    if (F::DENSE)
        fetch_rows(stage + X_BYTES, a, step);
    else
        fetch_tiles<F>(stage + X_BYTES, a, step);
}

/* Codes to weights, rounded to the type. */
template <typename F, typename T> __device__ __forceinline__ void apply(uint32_t (&a)[4], const scales<F> &by, int s)
{
    if (F::DENSE)
        return;
    const int group = s * F::GROUPS / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 v = unpack2<T>(a[i]);
        const float scale = by.scale[i % 2][group], min = F::HAS_MIN ? by.min[i % 2][F::HAS_MIN ? group : 0] : 0.0f;
        a[i] = pack2<T>(fmaf(v.x, scale, min), fmaf(v.y, scale, min));
    }
}

/* A stage's 64 columns. tokens, rows: how many of the warp's are there; with WHOLE all of them. */
template <bool WHOLE, typename F, typename T>
__device__ __forceinline__ void multiply(float (&acc)[M][N][4], const uint8_t *stage, int tokens, int rows)
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, j = lane % 4;
    planes<F> p[M];
    scales<F> by[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        const uint8_t *part = stage + X_BYTES + (warp / 2 * M + m) * F::PART_BYTES;
        p[m].load(part + F::MAIN_BYTES + F::SCALE_BYTES, lane);
        by[m].load(part, part + F::MAIN_BYTES, g);
    }
#pragma unroll
    for (int s = 0; s < 4; s++) {
        uint32_t w[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            fragment<F, T>(w[m], p[m], by[m], s);
            apply<F, T>(w[m], by[m], s);
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            if (!WHOLE && n * 8 >= tokens)
                break;
            const uint32_t token = warp % 2 * 64 + n * 8 + g;
            const uint2 b = *(const uint2 *)(stage + swizzled(token, 2 * s + j / 2) + j % 2 * 8);
#pragma unroll
            for (int m = 0; m < M; m++)
                if (WHOLE || m * 16 < rows)
                    mma<T>(acc[m][n], w[m], b.x, b.y);
        }
    }
}

/* A warp's sums of 64 tokens to [token][row] in shared memory, so that results are stored row by row. */
__device__ __forceinline__ void spread(float *to, const float (&acc)[M][N][4])
{
    const uint32_t lane = threadIdx.x % 32, first = threadIdx.x / 64 * M * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) {
        const int m = i / (N * 4), n = i / 4 % N, c = i % 4;
        to[(n * 8 + lane % 4 * 2 + c % 2) * STRIDE + first + m * 16 + c / 2 * 8] = acc[m][n][c];
    }
}

} /* namespace prefill */

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_prefill(const cdl_linear_args &a)
{
    using namespace prefill;
    using decode::shared;
    constexpr int BYTES = X_BYTES + TILE / 16 * F::PART_BYTES;
    const uint32_t steps = (a.cols + 63) / 64, warp = threadIdx.x / 32;
    const int tokens = (int)a.tokens - (int)(blockIdx.y * TILE + warp % 2 * N * 8);
    const int rows = (int)a.rows - (int)(blockIdx.x * TILE + warp / 2 * M * 16);
    float acc[M][N][4];
#pragma unroll
    for (int i = 0; i < M * N * 4; i++)
        acc[i / (N * 4)][i / 4 % N][i % 4] = 0.0f;

    after_previous();
    for (uint32_t i = 0; i < STAGES - 1; i++) {
        if (i < steps)
            fetch<F, T>(shared + i * BYTES, a, i);
        copy_commit();
    }
    for (uint32_t step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads(); /* this stage is there, and the one read last may be overwritten */
        if (step + STAGES - 1 < steps)
            fetch<F, T>(shared + (step + STAGES - 1) % STAGES * BYTES, a, step + STAGES - 1);
        copy_commit();
        if (tokens >= N * 8 && rows >= M * 16)
            multiply<true, F, T>(acc, shared + step % STAGES * BYTES, tokens, rows);
        else if (tokens > 0 && rows > 0)
            multiply<false, F, T>(acc, shared + step % STAGES * BYTES, tokens, rows);
    }
    copy_wait<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        __syncthreads(); /* the last stage, or the other half, was read */
        if (warp % 2 == half)
            spread((float *)shared, acc);
        __syncthreads();
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < TILE / 2 * TILE; i += CDL_CUDA_PREFILL_THREADS) {
            const uint32_t n = i / TILE, m = i % TILE;
            const uint32_t token = blockIdx.y * TILE + half * (TILE / 2) + n, row = blockIdx.x * TILE + m;
            if (token < a.tokens && row < a.rows)
                linear_store<T>(a, token, row, ((const float *)shared)[n * STRIDE + m], 0.0f);
        }
    }
}

#endif
