/* decode.cuh - y = x W^T for generated rows: 16 weight rows and up to 16 tokens a block, from packed weights.
 *
 * Design:   weights are the mma's A operand (16 rows), tokens its columns, so that one row costs one mma of 8
 *           columns. Codes are multiplied unscaled, exactly; each group's f32 sum is then scaled, so only the
 *           rounding of x is lost. Four warps take K tiles in turn, each through its own cp.async ring without
 *           barriers; their sums are added in warp order. The order of K is the same for any number of tokens.
 *           Memory-bound: each weight byte is requested once for up to 16 tokens.
 * Source:   Marlin (Frantar et al. 2024) for the offline shuffle.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_DECODE_CUH
#define CDL_DECODE_CUH

#include "weight.cuh"

namespace decode {

enum { WARPS = CDL_CUDA_DECODE_THREADS / 32, TILES = CDL_CUDA_LINEAR_TOKENS / 8 };

/* A lane's x of 64 columns, two tiles of 8 tokens: 4 columns of each step. Zeros beyond the edges. */
struct columns {
    uint2 b[TILES][4];

    template <typename T>
    __device__ __forceinline__ void load(const cdl_linear_args &a, uint32_t token, uint32_t k)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            const uint32_t row = token + 8 * t + lane / 4;
#pragma unroll
            for (int s = 0; s < 4; s++) {
                const uint32_t at = k + 16 * s + lane % 4 * 4;
                b[t][s] = make_uint2(0, 0);
                if (row < a.tokens && at < a.cols)
                    b[t][s] = *(const uint2 *)((const T *)a.x + (size_t)row * a.x_stride + at);
            }
        }
    }
};

/* acc += a sub-tile of 64 columns. */
template <typename F, typename T>
__device__ __forceinline__ void multiply(float (&acc)[TILES][4], const uint8_t *main, const uint8_t *sub,
    const columns &x,
    bool both)
{
    const int lane = threadIdx.x % 32;
    constexpr int STEPS = 4 / F::GROUPS;
    planes<F> p;
    scales<F> by;
    p.load(sub + F::SCALE_BYTES, lane);
    by.load(main, sub, lane / 4);
#pragma unroll
    for (int group = 0; group < F::GROUPS; group++) {
        uint32_t a[STEPS][4];
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            fragment<F, T>(a[s], p, group * STEPS + s);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            if (t && !both)
                break;
            float part[4] = { 0, 0, 0, 0 }, ones[4] = { 0, 0, 0, 0 };
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                const uint2 b = x.b[t][group * STEPS + s];
                const uint32_t one = pack2<T>(1.0f, 1.0f), full[4] = { one, one, one, one };
                if (F::SCALING == SCALE_NONE)
                    mma<T>(acc[t], a[s], b.x, b.y);
                else
                    mma<T>(part, a[s], b.x, b.y);
                if (F::HAS_MIN)
                    mma<T>(ones, full, b.x, b.y); /* the sums of x of the group */
            }
#pragma unroll
            for (int c = 0; c < 4 && F::SCALING != SCALE_NONE; c++) {
                acc[t][c] = fmaf(by.scale[c / 2][group], part[c], acc[t][c]);
                if (F::HAS_MIN)
                    acc[t][c] = fmaf(by.min[c / 2][F::HAS_MIN ? group : 0], ones[c], acc[t][c]);
            }
        }
    }
}

/* This warp's part of 16 rows: tiles warp, warp + WARPS, ... of K. ring: the warp's own. */
template <typename F, typename T>
__device__ void product(float (&acc)[TILES][4], const cdl_linear_args &a, const void *weight, uint32_t row_tile,
    uint8_t *ring)
{
    constexpr int STAGES = F::STAGES;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS, token = blockIdx.y * CDL_CUDA_LINEAR_TOKENS;
    const uint8_t *from = (const uint8_t *)weight + (size_t)row_tile * tiles * F::TILE_BYTES;
    const bool both = a.tokens > token + 8;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            acc[t][c] = 0.0f;

    auto fetch = [&](uint32_t tile, int stage) {
        if (tile < tiles)
            for (int o = lane * 16; o < F::TILE_BYTES; o += 512)
                copy_async(ring + stage * F::TILE_BYTES + o, from + (size_t)tile * F::TILE_BYTES + o);
        copy_commit();
    };
    for (int i = 0; i < STAGES - 1; i++)
        fetch(warp + i * WARPS, i);
    int stage = 0;
    for (uint32_t tile = warp; tile < tiles; tile += WARPS) {
        const uint8_t *main = ring + stage * F::TILE_BYTES;
        copy_wait<STAGES - 2>();
        __syncwarp(); /* the tile is there, and nobody reads the one that is overwritten next */
        fetch(tile + (STAGES - 1) * WARPS, stage ? stage - 1 : STAGES - 1);
        stage = stage + 1 < STAGES ? stage + 1 : 0;
#pragma unroll 1
        for (int i = 0; i < F::SUBS; i++) {
            columns x;
            x.load<T>(a, token, tile * F::COLUMNS + 64 * i);
            multiply<F, T>(acc, main, main + F::MAIN_BYTES + i * F::SUB_BYTES, x, both);
        }
    }
    copy_wait<0>();
    __syncwarp();
}

struct sums {
    float part[WARPS][TILES * 4][32];

    __device__ __forceinline__ void put(const float (&acc)[TILES][4])
    {
#pragma unroll
        for (int i = 0; i < TILES * 4; i++)
            part[threadIdx.x / 32][i][threadIdx.x % 32] = acc[i / 4][i % 4];
    }

    /* Of one weight row and token of the block. */
    __device__ __forceinline__ float get(uint32_t row, uint32_t token) const
    {
        const uint32_t lane = row % 8 * 4 + token % 8 / 2, at = token / 8 * 4 + row / 8 * 2 + token % 2;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            sum += part[w][at][lane];
        return sum;
    }
};

/* What a block computes: 16 rows of one weight. */
struct work {
    const void *weight;
    uint32_t type, tile;         /* of the weight: its type, the tile of 16 rows   */
    uint32_t row, end;           /* the first column of y, and the weight's last + 1 */
};

__device__ __forceinline__ work work_of(const cdl_linear_args &a)
{
    work w = { a.weight, 0, blockIdx.x, blockIdx.x * CDL_CUDA_LINEAR_ROWS, a.rows };
    uint32_t first = 0;
#pragma unroll
    for (uint32_t i = 0; i < CDL_CUDA_LINEAR_SEGMENTS; i++) {
        const cdl_linear_segment &s = a.segment[i];
        if (i >= a.n_segments)
            break;
        if (i) {
            const uint32_t before = a.segment[i - 1].rows;
            w.tile -= (before + CDL_CUDA_LINEAR_ROWS - 1) / CDL_CUDA_LINEAR_ROWS;
            first += before;
        }
        w.weight = s.weight;
        w.type = s.type;
        w.row = first + w.tile * CDL_CUDA_LINEAR_ROWS;
        w.end = first + s.rows;
        if (w.row < w.end)
            break;
    }
    return w;
}

template <typename F> struct rings {
    __align__(16) uint8_t warp[WARPS][F::STAGES * F::TILE_BYTES];
};

} /* namespace decode */

/* What stands after the sums of a product: bias, up, act, residual, soft cap. Token and row are inside. */
template <typename T>
__device__ __forceinline__ void linear_store(const cdl_linear_args &a, uint32_t token, uint32_t row, float y, float up)
{
    y += a.bias ? a.bias[row] : 0.0f;
    if (a.act != CDL_CUDA_ACT_NONE)
        y = activate(a.act, y);
    if (a.up)
        y *= up + (a.up_bias ? a.up_bias[row] : 0.0f);
    if (a.residual)
        y += to_f32(((const T *)a.residual)[(size_t)token * a.residual_stride + row]);
    if (a.softcap > 0.0f)
        y = a.softcap * tanh_f32(y / a.softcap);
    const size_t at = (size_t)token * a.y_stride + row;
    if (a.y_f32)
        ((float *)a.y)[at] = y;
    else
        ((T *)a.y)[at] = from_f32<T>(y);
}

/* The block's rows and tokens. */
template <typename F, typename T>
__device__ __forceinline__ void linear_decode_rows(const cdl_linear_args &a, const decode::work &w,
    decode::rings<F> &ring, decode::sums &sum)
{
    const uint32_t i = threadIdx.x, row = w.row + i % 16;
    float acc[decode::TILES][4], y[2] = { 0, 0 }, up[2];

    for (int second = 0; second < (a.up ? 2 : 1); second++) {
        decode::product<F, T>(acc, a, second ? a.up : w.weight, w.tile, ring.warp[i / 32]);
        __syncthreads();
        sum.put(acc);
        __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            up[half] = sum.get(i % 16, i / 16 + 8 * half);
            y[half] = second ? y[half] : up[half];
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t token = blockIdx.y * CDL_CUDA_LINEAR_TOKENS + i / 16 + 8 * half;
        if (token < a.tokens && row < w.end)
            linear_store<T>(a, token, row, y[half], up[half]);
    }
}

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_decode(const cdl_linear_args &a)
{
    __shared__ decode::rings<F> ring;
    __shared__ decode::sums sum;
    linear_decode_rows<F, T>(a, decode::work_of(a), ring, sum);
}

#endif
