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

/* Where a lane reads x: 4 columns of each 16 of one token in each tile of 8. A token beyond the last reads the last
 * one's x, and nobody its result. */
template <typename T, int N> struct columns {
    const T *from[N];
    uint32_t cols;

    __device__ __forceinline__ columns(const cdl_linear_args &a)
    {
        const uint32_t lane = threadIdx.x % 32, token = blockIdx.y * CDL_CUDA_LINEAR_TOKENS + lane / 4;
#pragma unroll
        for (int t = 0; t < N; t++)
            from[t] = (const T *)a.x + (size_t)min(token + 8 * t, a.tokens - 1) * a.x_stride + lane % 4 * 4;
        cols = a.cols;
    }

    /* 64 columns from k on; zeros beyond the last, which only types of 64 columns a tile meet. */
    template <bool WIDE> __device__ __forceinline__ void load(uint2 (&b)[N][4], uint32_t k) const
    {
#pragma unroll
        for (int t = 0; t < N; t++) {
            const T *at = from[t] + k;
            if (WIDE || k + 64 <= cols) {
#pragma unroll
                for (int s = 0; s < 4; s++)
                    b[t][s] = *(const uint2 *)(at + 16 * s);
            } else {
#pragma unroll
                for (int s = 0; s < 4; s++) {
                    const bool inside = k + 16 * s + threadIdx.x % 4 * 4 < cols;
                    b[t][s] = inside ? *(const uint2 *)(at + 16 * s) : make_uint2(0, 0);
                }
            }
        }
    }
};

/* acc += a sub-tile of 64 columns, whose scales and x are there. */
template <typename F, typename T, int N>
__device__ __forceinline__ void multiply(float (&acc)[N][4], const uint8_t *sub, const scales<F> &by,
    const uint2 (&x)[N][4])
{
    constexpr int STEPS = 4 / F::GROUPS;
    const uint32_t one = pack2<T>(1.0f, 1.0f), ones[4] = { one, one, one, one };
    planes<F> p;
    p.load(sub + F::SCALE_BYTES, threadIdx.x % 32);
#pragma unroll
    for (int group = 0; group < F::GROUPS; group++) {
        uint32_t a[STEPS][4];
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            fragment<F, T>(a[s], p, by, group * STEPS + s);
#pragma unroll
        for (int t = 0; t < N; t++) {
            const uint2 *b = x[t] + group * STEPS;
            if (F::DENSE) {
#pragma unroll
                for (int s = 0; s < STEPS; s++)
                    mma<T>(acc[t], a[s], b[s].x, b[s].y);
                continue;
            }
            float part[4], sum[4]; /* of the group: products, x alone */
            mma_first<T>(part, a[0], b[0].x, b[0].y);
            if (F::HAS_MIN)
                mma_first<T>(sum, ones, b[0].x, b[0].y);
#pragma unroll
            for (int s = 1; s < STEPS; s++) {
                mma<T>(part, a[s], b[s].x, b[s].y);
                if (F::HAS_MIN)
                    mma<T>(sum, ones, b[s].x, b[s].y);
            }
#pragma unroll
            for (int c = 0; c < 4; c++) {
                acc[t][c] = fmaf(by.scale[c / 2][group], part[c], acc[t][c]);
                if (F::HAS_MIN)
                    acc[t][c] = fmaf(by.min[c / 2][F::HAS_MIN ? group : 0], sum[c], acc[t][c]);
            }
        }
    }
}

/* A tile by the lanes of a warp; both addresses with the lane's part added already. Dense: 4 rows at a time. */
template <typename F> __device__ __forceinline__ void fetch_tile(uint32_t to, const uint8_t *from, uint32_t tiles)
{
    if (F::DENSE) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            copy_async_warp<512>(to + i * 512, from + i * (size_t)tiles * 512);
    } else {
        copy_async_warp<F::TILE_BYTES>(to, from);
    }
}

/* This warp's part of 16 rows: tiles warp, warp + WARPS, ... of K. ring: the warp's own. */
template <typename F, typename T, int N>
__device__ __forceinline__ void product(float (&acc)[N][4], const cdl_linear_args &a, const void *weight,
    uint32_t row_tile, const uint8_t *ring)
{
    constexpr int BYTES = F::TILE_BYTES, END = F::STAGES * BYTES, NEXT = WARPS * (F::DENSE ? 128 : BYTES);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS;
    const uint8_t *from = (const uint8_t *)weight + (size_t)row_tile * tiles * BYTES;
    from += F::DENSE ? lane / 8 * tiles * 128 + warp * 128 + lane % 8 * 16 : warp * BYTES + lane * 16;
    const uint32_t to = shared_address(ring) + (F::DENSE ? swizzled(lane / 8, lane % 8) : lane * 16);
    const columns<T, N> x(a);
    uint32_t next = warp; /* the tile that is fetched next */
#pragma unroll
    for (int i = 0; i < N * 4; i++)
        acc[i / 4][i % 4] = 0.0f;

    auto fetch = [&](uint32_t at) {
        if (next < tiles)
            fetch_tile<F>(to + at, from, tiles);
        copy_commit();
        next += WARPS;
        from += NEXT;
    };
#pragma unroll
    for (int i = 0; i < F::STAGES - 1; i++)
        fetch(i * BYTES);
    wait_for_previous(); /* weights nobody writes */
    uint32_t at = 0, free = END - BYTES;
    for (uint32_t tile = warp; tile < tiles; tile += WARPS) {
        const uint8_t *main = ring + at;
        copy_wait<F::STAGES - 2>();
        __syncwarp(); /* the tile is there, and nobody reads the one that is overwritten next */
        fetch(free);
        free = at;
        at = at + BYTES < END ? at + BYTES : 0;
        scales<F> by;
        by.load_main(main, lane / 4);
#pragma unroll 1
        for (int i = 0; i < F::SUBS; i++) {
            const uint8_t *sub = main + F::MAIN_BYTES + i * F::SUB_BYTES;
            uint2 b[N][4];
            x.template load<F::WIDE>(b, tile * F::COLUMNS + 64 * i);
            by.load_sub(sub, lane / 4);
            multiply<F, T, N>(acc, sub, by, b);
        }
    }
    let_next_begin();
    copy_wait<0>();
    __syncwarp();
}

struct sums {
    float part[WARPS][TILES * 4][32];

    template <int N> __device__ __forceinline__ void put(const float (&acc)[N][4])
    {
#pragma unroll
        for (int i = 0; i < N * 4; i++)
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

/* The block's rows of up to 8 N tokens. */
template <typename F, typename T, int N>
__device__ __forceinline__ void linear_decode_rows(const cdl_linear_args &a, const decode::work &w,
    decode::rings<F> &ring, decode::sums &sum)
{
    const uint32_t i = threadIdx.x, row = w.row + i % 16;
    float acc[N][4], y[N], up[N];

    for (int second = 0; second < (a.up ? 2 : 1); second++) {
        decode::product<F, T, N>(acc, a, second ? a.up : w.weight, w.tile, ring.warp[i / 32]);
        __syncthreads();
        sum.put(acc);
        __syncthreads();
#pragma unroll
        for (int t = 0; t < N; t++) {
            up[t] = sum.get(i % 16, i / 16 + 8 * t);
            y[t] = second ? y[t] : up[t];
        }
    }
#pragma unroll
    for (int t = 0; t < N; t++) {
        const uint32_t token = blockIdx.y * CDL_CUDA_LINEAR_TOKENS + i / 16 + 8 * t;
        if (token < a.tokens && row < w.end)
            linear_store<T>(a, token, row, y[t], up[t]);
    }
}

template <typename F, typename T>
__device__ __forceinline__ void linear_decode_rows(const cdl_linear_args &a, const decode::work &w,
    decode::rings<F> &ring, decode::sums &sum)
{
    if (a.tokens > blockIdx.y * CDL_CUDA_LINEAR_TOKENS + 8)
        linear_decode_rows<F, T, 2>(a, w, ring, sum);
    else
        linear_decode_rows<F, T, 1>(a, w, ring, sum);
}

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_decode(const cdl_linear_args &a)
{
    __shared__ decode::rings<F> ring;
    __shared__ decode::sums sum;
    linear_decode_rows<F, T>(a, decode::work_of(a), ring, sum);
}

#endif
