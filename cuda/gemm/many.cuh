/* many.cuh - y = x W^T for more generated rows than decode.cuh takes, from the same packed weights.
 *
 * Numerics: decode.cuh's: a chain of K tiles is one warp's, with the same instructions in the same order, and chains
 *           are added in their order. So a row has the bits of linear_fwd_decode.
 * Design:   a warp takes two tiles of 16 weight rows (with up, one of gate and one of up) and 8 N tokens, so that each
 *           weight is made a number once, and a fragment of x serves two tiles. `pairs` of tiles side by side share a
 *           chain's x and the sums of its groups; `chains` of these run beside each other, the block's others after
 *           them; `splits` blocks share the chains where rows are few, and the last of them adds the sums. A ring of
 *           steps of 64 columns is filled by cp.async; warps wait for those that share their x, never for the block.
 *           The host chooses the numbers (cuda_linear.c). On an H100 an mma takes a scheduler 7 cycles in which it
 *           issues nothing else: products of 32 and 64 tokens are bound by mma and fma, those of 8 by instructions.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_MANY_CUH
#define CDL_MANY_CUH

#include "decode.cuh"

namespace many {

using decode::shared;

enum { STAGES = CDL_CUDA_MANY_STAGES };

__device__ __forceinline__ void barrier(uint32_t id, uint32_t threads)
{
    if (threads == 32)
        __syncwarp();
    else
        asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Where a warp stands in its block. Of the ring: [stage][x and its sums of each chain | two row tiles of each warp]. */
template <typename F, int N> struct place {
    static constexpr uint32_t SUM_BYTES = F::HAS_MIN ? (F::GROUPS * N * 32 + 127) / 128 * 128 : 0;
    static constexpr uint32_t X_BYTES = N * 1024 + SUM_BYTES, W_BYTES = 2 * F::PART_BYTES;
    uint32_t pair, chain, chains;

    __device__ __forceinline__ place(const cdl_linear_args &a)
    {
        const uint32_t warp = threadIdx.x / 32;
        chain = warp / a.pairs;
        pair = warp % a.pairs;
        chains = blockDim.x / 32 / a.pairs;
    }
    /* Of the warps that share x, and of those that share weight rows. */
    __device__ __forceinline__ void chain_barrier(const cdl_linear_args &a) const { barrier(1 + chain, a.pairs * 32); }
    __device__ __forceinline__ void pair_barrier() const { barrier(9 + pair, chains * 32); }
    __device__ __forceinline__ uint32_t x_at() const { return chain * X_BYTES; }
    __device__ __forceinline__ uint32_t w_at() const { return chains * X_BYTES + threadIdx.x / 32 * W_BYTES; }
};

/* What a thread brings of each step of 64 columns, and which step comes next: tiles chain, chain + all, ... of each of
 * the warp's chains. */
template <typename F, typename T, int N> struct source {
    static constexpr uint32_t TILE = F::DENSE ? 128 : F::TILE_BYTES;
    const uint8_t *weight[2];
    const T *x;
    uint32_t to_x, to_w, row, rows;
    uint32_t k, w; /* of the next step: column, and byte of the row tile, behind the main scales */

    __device__ __forceinline__ source(const cdl_linear_args &a, const place<F, N> &p, const uint8_t *w0,
        const uint8_t *w1, uint32_t first)
    {
        const uint32_t lane = threadIdx.x % 32, i = p.pair * 32 + lane;
        const uint32_t from = F::DENSE ? lane / 8 * ((a.cols + 63) / 64) * 128 + lane % 8 * 16
                                       : F::MAIN_BYTES + lane * 16;
        weight[0] = w0 + from;
        weight[1] = w1 + from;
        row = i / 8;
        rows = a.tokens - first;
        x = (const T *)a.x + (size_t)(first + row) * a.x_stride + i % 8 * 8;
        to_x = shared_address(shared) + p.x_at() + swizzled(row, i % 8);
        to_w = shared_address(shared) + p.w_at() + (F::DENSE ? swizzled(lane / 8, lane % 8) : lane * 16);
        asm volatile("" : "+l"(weight[0]), "+l"(weight[1]), "+l"(x), "+r"(to_x), "+r"(to_w)); /* kept, not made again */
    }

    __device__ __forceinline__ void begin(uint32_t chain)
    {
        k = chain * F::COLUMNS;
        w = chain * TILE;
    }

    __device__ __forceinline__ bool more(const cdl_linear_args &a) const { return k < a.cols; }

    __device__ __forceinline__ void advance(const cdl_linear_args &a, uint32_t all, uint32_t chains, uint32_t end)
    {
        k += 64;
        w += F::SUB_BYTES;
        if (F::SUBS > 1 && k % F::COLUMNS)
            return;
        const uint32_t chain = (k / F::COLUMNS - 1) % all + chains;
        k += (all - 1) * F::COLUMNS;
        w += all * TILE - F::SUBS * F::SUB_BYTES;
        if (k >= a.cols && chain < end)
            begin(chain);
    }

    __device__ __forceinline__ void fetch_weights(uint32_t stage, uint32_t cols) const
    {
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const uint32_t to = to_w + stage + m * F::PART_BYTES;
            const uint8_t *from = weight[m] + w;
            if constexpr (F::DENSE) {
                decode::fetch_tile<F>(to, from, (cols + 63) / 64);
            } else {
                if (F::MAIN_BYTES && k % F::COLUMNS == 0)
                    copy_async_warp<F::MAIN_BYTES>(to, from - F::MAIN_BYTES);
                copy_async_warp<F::SUB_BYTES>(to + F::MAIN_BYTES, from);
            }
        }
    }

    /* 64 columns of the tokens that there are; zeros beyond the last column. */
    __device__ __forceinline__ void fetch_x(uint32_t stage, const cdl_linear_args &a) const
    {
        const uint32_t step = a.pairs * 4;
        const bool inside = F::WIDE || k + threadIdx.x % 8 * 8 < a.cols;
        const T *from = x + (inside ? k : 0);
        uint32_t to = to_x + stage;
#pragma unroll 1
        for (uint32_t r = row; r < min(rows, 8 * N); r += step, from += step * (size_t)a.x_stride, to += step * 128)
            if (F::WIDE)
                copy_async(to, from);
            else
                copy_async(to, from, inside);
    }
};

/* Rows of x beyond the last token: zeros, in all stages. */
template <int N>
__device__ __forceinline__ void clear_x(uint32_t stage_bytes, uint32_t end, uint32_t chains, uint32_t x_bytes,
    int tokens)
{
    for (uint32_t at = 0; at < end; at += stage_bytes)
        for (uint32_t i = threadIdx.x; i < chains * N * 64; i += blockDim.x)
            if (i % (N * 64) >= tokens * 8)
                *(uint4 *)(shared + at + i / (N * 64) * x_bytes + i % (N * 64) * 16) = make_uint4(0, 0, 0, 0);
}

/* The sums of each group of a stage's x, [group][token], by the warps that share it. */
template <typename F, typename T, int N>
__device__ __forceinline__ void sum_groups(uint8_t *stage, uint32_t x_lane, uint32_t sums_at, uint32_t warp,
    uint32_t warps)
{
    constexpr int STEPS = 4 / F::GROUPS;
#pragma unroll 1
    for (uint32_t i = warp; i < F::GROUPS * N; i += warps) {
        const uint32_t group = i / N, tile = i % N;
        uint2 b[STEPS];
        float sum[4];
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            b[s] = *(const uint2 *)(stage + (x_lane ^ (group * STEPS + s) * 32) + tile * 1024);
        decode::group_sums<T, STEPS>(sum, b);
        if (threadIdx.x % 32 < 4)
            *(float2 *)(stage + sums_at + i * 32 + threadIdx.x % 4 * 8) = make_float2(sum[0], sum[1]);
    }
}

/* acc += 64 columns of two row tiles. */
template <typename F, typename T, int N>
__device__ __forceinline__ void multiply_step(float (&acc)[2][N][4], scales<F> (&by)[2], const uint8_t *w,
    const uint8_t *x, uint32_t x_lane, uint32_t sums_at, int tokens)
{
    constexpr int STEPS = F::GROUPS == 4 ? 1 : 2;
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < 4; step += STEPS) {
        uint32_t a[2][STEPS][4];
#pragma unroll
        for (int m = 0; m < 2; m++) {
            planes<F> p;
            by[m].load_sub(w + m * F::PART_BYTES + F::MAIN_BYTES, lane / 4);
            p.load(w + m * F::PART_BYTES + F::MAIN_BYTES + F::SCALE_BYTES, lane);
#pragma unroll
            for (int s = 0; s < STEPS; s++)
                fragment<F, T>(a[m][s], p, by[m], step + s);
        }
#pragma unroll
        for (int t = 0; t < N; t++) {
            if ((N == 4 ? t > 0 : t % 4 == 2) && t * 8 >= tokens) /* also what ptxas moves nothing across */
                break;
            uint2 b[STEPS];
            float sum[4];
#pragma unroll
            for (int s = 0; s < STEPS; s++)
                b[s] = *(const uint2 *)(x + (x_lane ^ (step + s) * 32) + t * 1024);
            if (F::HAS_MIN) {
                const float2 v = *(const float2 *)(x + sums_at + (step / STEPS * N + t) * 32);
                sum[0] = sum[2] = v.x, sum[1] = sum[3] = v.y;
            }
#pragma unroll
            for (int m = 0; m < 2; m++)
                decode::multiply<F, T, STEPS>(acc[m][t], a[m], by[m], b, sum, step * F::GROUPS / 4);
        }
        if (N > 0)
            asm volatile("" ::: "memory"); /* what is loaded is loaded again: of each group only its part stays */
    }
}

/* Where the sums of a pair stand, from byte `at` on: [weight][token tile][lane]. */
template <int N> __device__ __forceinline__ float4 *sums_of(uint32_t pair, uint32_t at)
{
    return (float4 *)(shared + at) + pair * (2 * N * 32);
}

/* The sums of a pair's chains, added in their order: [weight][token tile][lane]. */
template <typename F, int N>
__device__ __forceinline__ void add_in_order(float4 *total, const float (&acc)[2][N][4], const place<F, N> &p,
    uint32_t pairs, bool first)
{
#pragma unroll 1
    for (uint32_t c = 0; c < p.chains; c++) {
        if (threadIdx.x / (32 * pairs) == c) {
#pragma unroll
            for (int i = 0; i < 2 * N; i++) {
                const float(&v)[4] = acc[i / N][i % N];
                float4 &to = total[i * 32 + threadIdx.x % 32];
                float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (!first || c)
                    sum = to;
                to = make_float4(sum.x + v[0], sum.y + v[1], sum.z + v[2], sum.w + v[3]);
                if (i % 2)
                    asm volatile("" ::: "memory"); /* ptxas would load them all first */
            }
        }
        p.pair_barrier();
    }
}

/* Where lane 0's sums of a chain of the block's pair stand in a.partial: [token block][chain][pair][tile][lane]. */
template <int N>
__device__ __forceinline__ float4 *partial_of(const cdl_linear_args &a, uint32_t all, uint32_t chain, uint32_t pair)
{
    const uint32_t pairs = gridDim.x * a.pairs, i = blockIdx.x * a.pairs + pair;
    return (float4 *)a.partial + (((size_t)blockIdx.y * all + chain) * pairs + i) * (2 * N * 32);
}

/* Whether this is the last of the blocks that share chains; then all partial sums are there. */
__device__ __forceinline__ bool is_last(const cdl_linear_args &a)
{
    uint32_t *flag = (uint32_t *)shared;
    __syncthreads(); /* the ring was read, the sums were written */
    if (threadIdx.x == 0) {
        __threadfence();
        *flag = atomicInc(&a.counters[blockIdx.y * gridDim.x + blockIdx.x], a.splits - 1) == a.splits - 1;
    }
    __syncthreads();
    const bool last = *flag;
    __syncthreads(); /* the flag was read */
    __threadfence();
    return last;
}

/* A warp's tile m of 16 rows of a.weight or a segment, or of a.up; beyond the last it is the last, whose sums nobody
 * stores. */
template <typename F>
__device__ __forceinline__ const uint8_t *rows_of(const cdl_linear_args &a, const decode::work &w, uint32_t pair, int m)
{
    const uint32_t each = a.up ? 1 : 2, first = w.row - w.tile * a.pairs * each * 16;
    const uint32_t i = min((w.tile * a.pairs + pair) * each + (a.up ? 0 : m), (w.end - first + 15) / 16 - 1);
    return decode::rows_of<F>(a, a.up && m ? a.up : w.weight, i);
}

/* A pair's rows, finished by its warps. */
template <typename T, int N, typename P>
__device__ __forceinline__ void store(const cdl_linear_args &a, const P &p, const float4 *total)
{
    const uint32_t width = a.up ? 16 : 32, first = blockIdx.y * (8 * N);
    uint32_t block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block)); /* so that the rows need no registers before */
    const decode::work w = decode::work_of(a, a.pairs * width, block);
#pragma unroll 1
    for (uint32_t i = p.chain * 32 + threadIdx.x % 32; i < width * 8 * N; i += p.chains * 32) {
        const uint32_t row = i % width, token = i / width;
        const float *v = (const float *)(total + (row / 16 * N + token / 8) * 32 + row % 8 * 4 + token % 8 / 2)
                       + row / 8 % 2 * 2 + token % 2;
        const float y = *v, up = a.up ? v[N * 32 * 4] : y;
        if (w.row + p.pair * width + row < w.end && first + token < a.tokens)
            linear_store<T>(a, first + token, w.row + p.pair * width + row, y, up);
    }
}

/* A warp's part of the block's product: its chains, by the ring that it shares. */
template <typename F, typename T, int N> struct product {
    const cdl_linear_args &a;
    const place<F, N> p;
    source<F, T, N> from;
    uint32_t all, begin, end, tiles; /* chains in all; of the warp: the first, behind the last of its block */
    uint32_t stage_bytes, ring_end, at, x_at, w_at;
    int tokens;

    __device__ __forceinline__ product(const cdl_linear_args &a, const decode::work &w)
        : a(a), p(a), from(a, p, rows_of<F>(a, w, p.pair, 0), rows_of<F>(a, w, p.pair, 1), blockIdx.y * (8 * N))
    {
        const uint32_t lane = threadIdx.x % 32;
        all = a.up ? decode::PAIR_WARPS : decode::WARPS;
        end = (blockIdx.z + 1) * (all / a.splits);
        begin = end - all / a.splits + p.chain;
        tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS;
        tokens = (int)(a.tokens - blockIdx.y * (8 * N));
        stage_bytes = p.chains * place<F, N>::X_BYTES + blockDim.x / 32 * place<F, N>::W_BYTES;
        ring_end = STAGES * stage_bytes;
        x_at = p.x_at() + swizzled(lane / 4, lane % 4 / 2) + lane % 2 * 8;
        w_at = p.w_at();
        if (N < 4)
            asm volatile("" : "+r"(x_at), "+r"(w_at)); /* kept, not made again */
    }

    __device__ __forceinline__ bool has_one_turn() const { return all / a.splits == p.chains; }
    __device__ __forceinline__ uint32_t sums_at() const { return p.x_at() + N * 1024; }

    /* The ring's first steps, and the sums of the very first. */
    __device__ __forceinline__ void start()
    {
        from.begin(begin);
#pragma unroll 1
        for (at = 0; at + stage_bytes < ring_end && from.more(a); at += stage_bytes) {
            from.fetch_weights(at, a.cols);
            from.advance(a, all, p.chains, end);
        }
        if (tokens < 8 * N)
            clear_x<N>(stage_bytes, ring_end, p.chains, place<F, N>::X_BYTES, tokens);
        wait_for_previous(); /* weights nobody writes */
        from.begin(begin);
#pragma unroll 1
        for (at = 0; at + stage_bytes < ring_end; at += stage_bytes) {
            if (from.more(a)) {
                from.fetch_x(at, a);
                from.advance(a, all, p.chains, end);
            }
            copy_commit();
        }
        at = 0;
        if (tokens < 8 * N)
            __syncthreads(); /* zeros are there */
        if (F::HAS_MIN) {
            copy_wait<STAGES - 2>();
            p.chain_barrier(a);
            if (begin < tiles)
                sum_groups<F, T, N>(shared, x_at, sums_at(), p.pair, a.pairs);
        }
    }

    /* acc += the next step; last: of the warp. */
    __device__ __forceinline__ void step(float (&acc)[2][N][4], scales<F> (&by)[2], bool first_of_tile, bool last)
    {
        const uint32_t lane = threadIdx.x % 32;
        copy_wait<STAGES - 2 - F::HAS_MIN>();
        p.chain_barrier(a); /* the step is there, and nobody reads the one that is overwritten next */
        const uint32_t after = at + stage_bytes < ring_end ? at + stage_bytes : 0;
        if (F::HAS_MIN && !last)
            sum_groups<F, T, N>(shared + after, x_at, sums_at(), p.pair, a.pairs);
        if (from.more(a)) {
            const uint32_t free = (at ? at : ring_end) - stage_bytes;
            from.fetch_weights(free, a.cols);
            from.fetch_x(free, a);
            from.advance(a, all, p.chains, end);
        }
        copy_commit();
        const uint8_t *part = shared + at + w_at;
        if (first_of_tile) {
#pragma unroll
            for (int m = 0; m < 2; m++)
                by[m].load_main(part + m * F::PART_BYTES, lane / 4);
        }
        multiply_step<F, T, N>(acc, by, part, shared + at, x_at, sums_at() + lane % 4 * 8, tokens);
        at = after;
    }

    /* acc = a chain. */
    __device__ __forceinline__ void run(float (&acc)[2][N][4], uint32_t chain)
    {
        scales<F> by[2];
#pragma unroll
        for (int i = 0; i < 8 * N; i++)
            acc[i / (4 * N)][i / 4 % N][i % 4] = 0.0f;
        int left = chain < tiles ? (int)((tiles - chain + all - 1) / all * F::SUBS) : 0;
#pragma unroll 1
        for (; left; left--)
            step(acc, by, left % F::SUBS == 0, left == 1 && chain + p.chains >= min(end, tiles));
    }

    /* A chain for the block that adds them. */
    __device__ __forceinline__ void put(const float (&acc)[2][N][4], uint32_t chain) const
    {
        float4 *to = partial_of<N>(a, all, chain, p.pair) + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const float(&v)[4] = acc[i / N][i % N];
            to[i * 32] = make_float4(v[0], v[1], v[2], v[3]);
        }
    }

    /* All chains of all splits. */
    __device__ __forceinline__ void add(float4 *total) const
    {
        const uint32_t lane = threadIdx.x % 32;
        for (uint32_t i = p.chain; i < 2 * N; i += p.chains) {
            float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
            for (uint32_t c = 0; c < all; c++) {
                const float4 v = __ldcg(partial_of<N>(a, all, c, p.pair) + i * 32 + lane);
                sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
            }
            total[i * 32 + lane] = sum;
        }
        p.pair_barrier();
    }
};

} /* namespace many */

template <typename F, typename T, int N>
__device__ __forceinline__ void linear_many_rows(const cdl_linear_args &a, const decode::work &w)
{
    using namespace many;
    product<F, T, N> warp(a, w);
    const bool in_ring = warp.has_one_turn(); /* then its sums stand where the ring was */
    warp.start();
#pragma unroll 1
    for (uint32_t chain = warp.begin; chain < warp.end; chain += warp.p.chains) {
        float acc[2][N][4];
        warp.run(acc, chain);
        if (a.splits > 1) {
            warp.put(acc, chain);
            continue;
        }
        if (in_ring) {
            copy_wait<0>();
            __syncthreads(); /* the ring was read */
        }
        add_in_order<F, N>(sums_of<N>(warp.p.pair, in_ring ? 0 : warp.ring_end), acc, warp.p, a.pairs,
            chain < warp.p.chains);
    }
    copy_wait<0>();
    let_next_begin();
    if (a.splits > 1) {
        if (!is_last(a))
            return;
        warp.add(sums_of<N>(warp.p.pair, 0));
    }
    store<T, N>(a, warp.p, sums_of<N>(warp.p.pair, a.splits > 1 || in_ring ? 0 : warp.ring_end));
}

template <typename F, typename T, int N> __device__ __forceinline__ void linear_fwd_many(const cdl_linear_args &a)
{
    linear_many_rows<F, T, N>(a, decode::work_of(a, a.pairs * (a.up ? 16 : 32), blockIdx.x));
}

#endif
