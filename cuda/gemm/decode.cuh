/* decode.cuh - y = x W^T for few generated rows: 16 weight rows x F::FEW tokens a block, from packed weights.
 *
 * Design:   weights are the mma's A operand (16 rows), tokens its columns, so that one row costs one mma of 8
 *           columns. Codes are multiplied unscaled, exactly; each group's f32 sum is then scaled, so only the
 *           rounding of x is lost. Eight warps take K tiles in turn, four those of gate and up together, each through
 *           its own cp.async ring without barriers; their sums are added in warp order. The order of K is the same
 *           for any number of tokens (many.cuh has those above F::FEW). Memory-bound: a weight byte is requested once.
 *           The next launch's blocks may come as soon as all of this one's are there: they ask for their weights, while
 *           these are still at work. The host leaves a multiprocessor no room for more than its share of them.
 *           x comes through the ring too, as ptxas puts loads into registers right before their use; gate and up side
 *           by side share x and its sums.
 * Source:   Marlin (Frantar et al. 2024) for the offline shuffle.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_DECODE_CUH
#define CDL_DECODE_CUH

#include "weight.cuh"

namespace decode {

enum { WARPS = CDL_CUDA_LINEAR_THREADS / 32, PAIR_WARPS = CDL_CUDA_PAIR_THREADS / 32 };

/* Sums of x over a group of 16 * STEPS columns, for each of the 8 tokens. */
template <typename T, int STEPS> __device__ __forceinline__ void group_sums(float (&sum)[4], const uint2 *b)
{
    const uint32_t one = pack2<T>(1.0f, 1.0f), ones[4] = { one, one, one, one };
    mma_first<T>(sum, ones, b[0].x, b[0].y);
#pragma unroll
    for (int s = 1; s < STEPS; s++)
        mma<T>(sum, ones, b[s].x, b[s].y);
}

/* acc += a group of columns, whose codes, scales and x are there. */
template <typename F, typename T, int STEPS>
__device__ __forceinline__ void multiply(float (&acc)[4], const uint32_t (*a)[4], const scales<F> &by, const uint2 *b,
    const float (&sum)[4], int group)
{
    float part[4];
    if (F::DENSE) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            mma<T>(acc, a[s], b[s].x, b[s].y);
        return;
    }
    mma_first<T>(part, a[0], b[0].x, b[0].y);
#pragma unroll
    for (int s = 1; s < STEPS; s++)
        mma<T>(part, a[s], b[s].x, b[s].y);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        acc[c] = fmaf(by.scale[c / 2][group], part[c], acc[c]);
        if (F::HAS_MIN)
            acc[c] = fmaf(by.min[c / 2][F::HAS_MIN ? group : 0], sum[c], acc[c]);
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

/* Where a lane begins to copy a row tile. */
template <typename F> __device__ __forceinline__ uint32_t lane_offset(uint32_t tiles)
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return F::DENSE ? lane / 8 * tiles * 128 + warp * 128 + lane % 8 * 16 : warp * F::TILE_BYTES + lane * 16;
}

/* x of up to F::FEW tokens on its way through a ring, beside the tiles. A row has 32 bytes more: 8-byte
 * reads of 4 lanes a row meet no bank twice. */
template <typename F, typename T> struct x_ring {
    enum { ROW = F::COLUMNS * 2 + 32, PIECES = F::COLUMNS / 8, AT_ONCE = 32 / PIECES };
    const T *from;
    uint32_t to, at, tokens, cols, stride;

    __device__ __forceinline__ x_ring(const cdl_linear_args &a, uint32_t ring)
    {
        const uint32_t lane = threadIdx.x % 32, token = lane / PIECES;
        tokens = a.tokens;
        from = (const T *)a.x + (size_t)token * a.x_stride + lane % PIECES * 8;
        to = ring + token * ROW + lane % PIECES * 16;
        at = min(lane / 4, tokens - 1) * ROW + lane % 4 * 8;
        cols = a.cols;
        stride = a.x_stride;
    }

    __device__ __forceinline__ void fetch(uint32_t stage, uint32_t k) const
    {
        const uint32_t lane = threadIdx.x % 32;
        const bool inside = F::WIDE || k + lane % PIECES * 8 < cols;
#pragma unroll
        for (int i = 0; i < F::FEW; i += AT_ONCE)
            if (i + lane / PIECES < tokens)
                copy_async(to + stage + i * ROW, inside ? from + k + (size_t)i * stride : from, inside);
    }

    /* 64 columns of a stage. */
    __device__ __forceinline__ void load(uint2 (&b)[4], const uint8_t *stage, int sub) const
    {
#pragma unroll
        for (int s = 0; s < 4; s++)
            b[s] = *(const uint2 *)(stage + at + sub * 128 + s * 32);
    }
};

/* acc += a sub-tile of 64 columns of each of M weights; b: its x. */
template <typename F, typename T, int M>
__device__ __forceinline__ void multiply_sub(float (&acc)[M][4], scales<F> (&by)[M], const uint8_t *sub,
    const uint2 (&b)[4])
{
    constexpr int STEPS = F::GROUPS == 4 ? 1 : 2;
    const uint32_t lane = threadIdx.x % 32;
    planes<F> p[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        by[m].load_sub(sub + m * F::TILE_BYTES, lane / 4);
        p[m].load(sub + m * F::TILE_BYTES + F::SCALE_BYTES, lane);
    }
#pragma unroll
    for (int step = 0; step < 4; step += STEPS) {
        float sum[4];
        if (F::HAS_MIN)
            group_sums<T, STEPS>(sum, b + step);
#pragma unroll
        for (int m = 0; m < M; m++) {
            uint32_t w[STEPS][4];
#pragma unroll
            for (int s = 0; s < STEPS; s++)
                fragment<F, T>(w[s], p[m], by[m], step + s);
            multiply<F, T, STEPS>(acc[m], w, by[m], b + step, sum, step * F::GROUPS / 4);
        }
    }
}

/* acc += this warp's part of 16 rows of M weights: tiles warp, warp + W, ... of K, for up to F::FEW tokens. */
template <typename F, typename T, int M, int W>
__device__ __forceinline__ void product_few(float (&acc)[M][4], const cdl_linear_args &a,
    const uint8_t *const (&weight)[M], const uint8_t *shared)
{
    constexpr int BYTES = F::TILE_BYTES, STAGES = F::STAGES;
    constexpr int NEXT = W * (F::DENSE ? 128 : BYTES);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS;
    const uint32_t stage = BYTES * M + a.tokens * x_ring<F, T>::ROW, end = stage * STAGES;
    const uint8_t *ring = shared + warp * end, *from[M];
    const uint32_t to = shared_address(ring) + (F::DENSE ? swizzled(lane / 8, lane % 8) : lane * 16);
    const x_ring<F, T> x(a, shared_address(ring) + BYTES * M);
    uint32_t next = warp; /* the tile that is fetched next */
#pragma unroll
    for (int m = 0; m < M; m++)
        from[m] = weight[m] + lane_offset<F>(tiles);

    auto fetch = [&](uint32_t at) {
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (next < tiles)
                fetch_tile<F>(to + at + m * BYTES, from[m], tiles);
            from[m] += NEXT;
        }
        next += W;
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++)
        fetch(i * stage);
    let_next_begin();
    wait_for_previous(); /* weights nobody writes */
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (warp + i * W < tiles)
            x.fetch(i * stage, (warp + i * W) * F::COLUMNS);
        copy_commit();
    }
    uint32_t at = 0, free = end - stage;
#pragma unroll 1
    for (uint32_t tile = warp; tile < tiles; tile += W) {
        const uint8_t *main = ring + at;
        scales<F> by[M];
        copy_wait<STAGES - 2>();
        __syncwarp(); /* the tile is there, and nobody reads the one that is overwritten next */
        if (next < tiles)
            x.fetch(free, next * F::COLUMNS);
        fetch(free);
        copy_commit();
        free = at;
        at = at + stage < end ? at + stage : 0;
#pragma unroll
        for (int m = 0; m < M; m++)
            by[m].load_main(main + m * BYTES, lane / 4);
#pragma unroll
        for (int i = 0; i < F::SUBS; i++) {
            const uint8_t *sub = main + F::MAIN_BYTES + i * F::SUB_BYTES;
            uint2 b[4];
            x.load(b, main + BYTES * M, i);
            multiply_sub<F, T, M>(acc, by, sub, b);
        }
    }
    copy_wait<0>();
}

/* Of the warps, [warp][weight and token tile][lane][4]. */
template <int TILES, int W> struct sums {
    float4 part[W][TILES][32];

    __device__ __forceinline__ void put(const float (&acc)[4], int tile)
    {
        part[threadIdx.x / 32][tile][threadIdx.x % 32] = make_float4(acc[0], acc[1], acc[2], acc[3]);
    }

    /* Of one weight row and token of a tile. */
    __device__ __forceinline__ float get(uint32_t row, uint32_t token, uint32_t tile) const
    {
        const uint32_t lane = row % 8 * 4 + token / 2, at = row / 8 * 2 + token % 2;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < W; w++)
            sum += ((const float *)&part[w][tile][lane])[at];
        return sum;
    }
};

/* What a block computes: 16 rows of one weight. */
struct work {
    const void *weight;
    uint32_t type, tile;         /* of the weight: its type, the tile of 16 rows   */
    uint32_t row, end;           /* the first column of y, and the weight's last + 1 */
};

/* Of a block of `each` rows. */
__device__ __forceinline__ work work_of(const cdl_linear_args &a, uint32_t each, uint32_t block)
{
    work w = { a.weight, 0, block, block * each, a.rows };
    uint32_t first = 0;
#pragma unroll
    for (uint32_t i = 0; i < CDL_CUDA_LINEAR_SEGMENTS; i++) {
        const cdl_linear_segment &s = a.segment[i];
        if (i >= a.n_segments)
            break;
        if (i) {
            const uint32_t before = a.segment[i - 1].rows;
            w.tile -= (before + each - 1) / each;
            first += before;
        }
        w.weight = s.weight;
        w.type = s.type;
        w.row = first + w.tile * each;
        w.end = first + s.rows;
        if (w.row < w.end)
            break;
    }
    return w;
}

/* Where the block's rows of a packed weight begin. */
template <typename F>
__device__ __forceinline__ const uint8_t *rows_of(const cdl_linear_args &a, const void *weight, uint32_t tile)
{
    return (const uint8_t *)weight + (size_t)tile * ((a.cols + F::COLUMNS - 1) / F::COLUMNS) * F::TILE_BYTES;
}

extern __shared__ __align__(128) uint8_t shared[];

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

/* The block's 16 rows of up to F::FEW tokens: of a weight, or of gate and up side by side. */
template <typename F, typename T, int M, int W>
__device__ __forceinline__ void linear_few_rows(const cdl_linear_args &a, const decode::work &w)
{
    using namespace decode;
    const uint32_t i = threadIdx.x;
    const uint8_t *weight[M] = { rows_of<F>(a, w.weight, w.tile) };
    if (M == 2)
        weight[M - 1] = rows_of<F>(a, a.up, w.tile);
    float acc[M][4] = {};
    product_few<F, T, M, W>(acc, a, weight, shared);
    sums<M, W> &sum = *(sums<M, W> *)shared;
    __syncthreads(); /* the rings were read */
#pragma unroll
    for (int m = 0; m < M; m++)
        sum.put(acc[m], m);
    __syncthreads();
    const uint32_t row = w.row + i % 16, token = i / 16;
    if (row < w.end && token < a.tokens)
        linear_store<T>(a, token, row, sum.get(i % 16, i / 16, 0), M == 2 ? sum.get(i % 16, i / 16, M - 1) : 0.0f);
}

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_decode(const cdl_linear_args &a)
{
    if (a.up)
        linear_few_rows<F, T, 2, decode::PAIR_WARPS>(a, decode::work_of(a, CDL_CUDA_LINEAR_ROWS, blockIdx.x));
    else
        linear_few_rows<F, T, 1, decode::WARPS>(a, decode::work_of(a, CDL_CUDA_LINEAR_ROWS, blockIdx.x));
}

#endif
