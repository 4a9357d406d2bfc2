/* prefill_wgmma.cuh - y = x W^T for prompt rows by Hopper's wgmma, from the same packed weights.
 *
 * Numerics: a weight is scaled in f32 and rounded to the activations' type, as a dequantised model has it; one sum in
 *           f32 over K ascending. So a row's bits depend neither on the others nor on the size of the blocks.
 * Design:   a warpgroup takes 64 weight rows and all tokens of the block; 16 columns of weights become fragments in
 *           registers while the products of the 16 before run. Dense weights are read by the products themselves. x and
 *           weights come through a ring of slots of 64 columns by cp.async, with one barrier a slot.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_PREFILL_WGMMA_CUH
#define CDL_PREFILL_WGMMA_CUH

#include "../wgmma.cuh"
#include "prefill.cuh"
#include "wgmma_blocks.h"

namespace prefill_wgmma {

template <typename F, int KIND> struct shape {
    static constexpr int ROWS = cdl_wgmma_block_of[KIND].rows, TOKENS = cdl_wgmma_block_of[KIND].tokens;
    static constexpr int BLOCKS = F::DENSE ? cdl_wgmma_block_of[KIND].dense : cdl_wgmma_block_of[KIND].packed;
    static constexpr int SLOTS = (int)cdl_wgmma_slots(KIND, F::PART_BYTES, F::DENSE), THREADS = ROWS * 2;
    static constexpr int X_BYTES = TOKENS * 128, W_BYTES = ROWS / 16 * F::PART_BYTES, BYTES = X_BYTES + W_BYTES;
    static constexpr int STRIDE = ROWS + 4, PASS = 64; /* of sums in shared memory; tokens that are there at once */
};

/* What a thread brings of each step. Tokens beyond the last are zeros, rows there are read as the last one's. */
template <typename F, typename S> struct source {
    static constexpr int ROWS = S::THREADS / 8, X = S::TOKENS / ROWS, WARPS = S::THREADS / 32;
    static constexpr int W = F::DENSE ? S::ROWS / ROWS : S::ROWS / 16 / WARPS;
    const uint8_t *x, *w[W];
    uint32_t cols, stride, to_x, to_w;
    int tokens;

    __device__ __forceinline__ source(const cdl_linear_args &a)
    {
        const uint32_t i = threadIdx.x, first = i / 8, chunk = i % 8, token = blockIdx.x * S::TOKENS + first;
        x = (const uint8_t *)a.x + (size_t)token * a.x_stride * 2 + chunk * 16;
        cols = a.cols;
        stride = ROWS * a.x_stride * 2;
        tokens = (int)(a.tokens - token);
        to_x = prefill::place<format_dense>(first, chunk); /* as matrix() wants it */
        to_w = F::DENSE ? to_x : i / 32 * F::PART_BYTES + i % 32 * 16;
        const size_t row_bytes = F::DENSE ? (a.cols + 63) / 64 * 128
                                          : (a.cols + F::COLUMNS - 1) / F::COLUMNS * F::TILE_BYTES;
#pragma unroll
        for (int j = 0; j < W; j++)
            w[j] = F::DENSE ? row_of(a, first + j * ROWS, 16, row_bytes) + chunk * 16
                            : row_of(a, i / 32 + j * WARPS, 1, row_bytes) + i % 32 * 16;
    }

    /* Row i of the block, or row tile i; each: rows of a row tile, or 1. */
    __device__ __forceinline__ static const uint8_t *row_of(const cdl_linear_args &a, uint32_t i, uint32_t each,
        size_t bytes)
    {
        const uint32_t row = blockIdx.y * (S::ROWS / 16 * each) + i;
        return (const uint8_t *)a.weight + min(row, (a.rows + 15) / 16 * each - 1) * bytes;
    }

    __device__ __forceinline__ void fetch_x(uint32_t slot, uint32_t step) const
    {
        const bool here = F::WIDE || step * 64 + threadIdx.x % 8 * 8 < cols;
#pragma unroll
        for (int j = 0; j < X; j++)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(slot + to_x + j * ROWS * 128),
                "l"(x + step * 128 + (size_t)j * stride), "r"(here && j * ROWS < tokens ? 16 : 0) : "memory");
    }

    __device__ __forceinline__ void fetch_w(uint32_t slot, uint32_t step) const
    {
        const uint32_t tile = step / F::SUBS * F::TILE_BYTES;
        const uint32_t sub = tile + F::MAIN_BYTES + step % F::SUBS * F::SUB_BYTES;
#pragma unroll
        for (int j = 0; j < W; j++) {
            if constexpr (F::DENSE) {
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(slot + to_w + j * ROWS * 128),
                    "l"(w[j] + step * 128) : "memory");
            } else {
                const uint32_t to = slot + to_w + j * WARPS * F::PART_BYTES;
                copy_async_warp<F::MAIN_BYTES>(to, w[j] + tile);
                copy_async_warp<F::SUB_BYTES>(to + F::MAIN_BYTES, w[j] + sub);
            }
        }
    }
};

/* A lane's part of the planes in the order of x, as its fragment has it: columns 2 j, 2 j + 1, 2 j + 8, 2 j + 9 of 16,
 * which are columns 0 and 1, or 2 and 3, of two lanes of the packed layout. */
template <typename F> __device__ __forceinline__ void load_in_order(planes<F> &p, const uint8_t *at)
{
    const uint32_t lane = threadIdx.x % 32, odd = lane & 1, low = lane / 4 * 4 + lane % 4 / 2;
    planes<F> high;
    p.load(at, low);
    high.load(at, low + 2);
    const uint32_t select = F::PLANES & 8 ? odd ? 0x7632 : 0x5410 : odd ? 0x7351 : 0x6240;
#pragma unroll
    for (int i = 0; i < (F::PLANES & 8 ? 2 : F::PLANES & 4 ? 1 : 0); i++) {
        p.wide[i].x = __byte_perm(p.wide[i].x, high.wide[i].x, select);
        p.wide[i].y = __byte_perm(p.wide[i].y, high.wide[i].y, select);
        p.wide[i].z = __byte_perm(p.wide[i].z, high.wide[i].z, select);
        p.wide[i].w = __byte_perm(p.wide[i].w, high.wide[i].w, select);
    }
    if (F::PLANES & 2) {
        p.two.x = (p.two.x >> 4 * odd & 0x0f0f0f0fu) | (high.two.x << (4 - 4 * odd) & 0xf0f0f0f0u);
        p.two.y = (p.two.y >> 4 * odd & 0x0f0f0f0fu) | (high.two.y << (4 - 4 * odd) & 0xf0f0f0f0u);
    }
    if (F::PLANES & 1)
        p.one = (p.one >> 2 * odd & 0x33333333u) | (high.one << (2 - 2 * odd) & 0xccccccccu);
}

/* A warp's 16 rows of a slot, and fragments of four steps of 16 columns. */
template <typename F, typename T> struct operands {
    planes<F> p;
    prefill::lifted<F> by;
    uint32_t w[4][4];

    __device__ __forceinline__ void load(const uint8_t *part)
    {
        scales<F> raw;
        load_in_order<F>(p, part + F::MAIN_BYTES + F::SCALE_BYTES);
        raw.load(part, part + F::MAIN_BYTES, threadIdx.x % 32 / 4);
        by.set(raw);
    }

    /* Weights, rounded to the type. */
    __device__ __forceinline__ void prepare(int s)
    {
        constexpr int SECOND = F::PLANES & 8 ? 1 : 2; /* where column 1 is */
        const int group = s * F::GROUPS / 4;
        uint32_t c[2];
        prefill::codes<F>(c, p, s);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            w[s][i] = pack2<T>(by.weight(c[i], 0, i, group), by.weight(c[i], SECOND, i, group));
            w[s][2 + i] = pack2<T>(by.weight(c[i], 3 - SECOND, i, group), by.weight(c[i], 3, i, group));
        }
    }
};

/* The slots of a block, and where it stands in them. */
template <typename F, typename S> struct ring {
    const uint8_t *slots;
    uint32_t x_at, w_at, at, free, step, steps;

    __device__ __forceinline__ ring(const uint8_t *first, uint32_t n)
        : slots(first), at(0), free(S::SLOTS - 1), step(0), steps(n)
    {
        x_at = shared_address(first);
        w_at = x_at + S::SLOTS * S::X_BYTES;
    }

    __device__ __forceinline__ uint64_t x() const { return wgmma::matrix(x_at + at * S::X_BYTES); }
    /* of a warpgroup's dense rows */
    __device__ __forceinline__ uint64_t w() const
    {
        return wgmma::matrix(w_at + at * S::W_BYTES + threadIdx.x / 128 * 8192);
    }
    __device__ __forceinline__ const uint8_t *part() const
    {
        return slots + S::SLOTS * S::X_BYTES + at * S::W_BYTES + threadIdx.x / 32 * F::PART_BYTES;
    }

    /* Weights first: they do not wait for the launch in front. */
    __device__ __forceinline__ void begin(const source<F, S> &from)
    {
#pragma unroll
        for (uint32_t k = 0; k < S::SLOTS - 1; k++)
            if (k < steps)
                from.fetch_w(w_at + k * S::W_BYTES, k);
        after_previous();
#pragma unroll
        for (uint32_t k = 0; k < S::SLOTS - 1; k++) {
            if (k < steps)
                from.fetch_x(x_at + k * S::X_BYTES, k);
            copy_commit();
        }
        copy_wait<S::SLOTS - 2>();
        wgmma::publish();
        __syncthreads();
    }

    /* The next slot is there, and the one read last may be filled again: its products are done. */
    __device__ __forceinline__ void go_on(const source<F, S> &from)
    {
        copy_wait<S::SLOTS - 3>();
        wgmma::publish();
        __syncthreads();
        if (step + S::SLOTS - 1 < steps) {
            from.fetch_x(x_at + free * S::X_BYTES, step + S::SLOTS - 1);
            from.fetch_w(w_at + free * S::W_BYTES, step + S::SLOTS - 1);
        }
        copy_commit();
        free = at;
        if (++step < steps)
            at = at + 1 < S::SLOTS ? at + 1 : 0;
    }
};

template <typename F, typename T, typename S>
__device__ __forceinline__ void sums_of_packed(float (&acc)[S::TOKENS / 2], ring<F, S> &r, const source<F, S> &from)
{
    operands<F, T> o;
    o.load(r.part());
    o.prepare(0);
    o.prepare(1);
    while (r.step < r.steps) {
        const uint64_t x = r.x();
#pragma unroll
        for (int s = 0; s < 4; s++) {
            wgmma::fence();
            wgmma::multiply<T>(acc, o.w[s], x + 2 * s);
            wgmma::commit();
            wgmma::wait<2>(); /* so that two on may be prepared where two before were */
            if (s == 2) {
                r.go_on(from);
                o.load(r.part());
            }
            o.prepare((s + 2) % 4);
        }
    }
}

template <typename F, typename T, typename S>
__device__ __forceinline__ void sums_of_dense(float (&acc)[S::TOKENS / 2], ring<F, S> &r, const source<F, S> &from)
{
    while (r.step < r.steps) {
        const uint64_t x = r.x(), w = r.w();
        wgmma::fence();
#pragma unroll
        for (int s = 0; s < 4; s++)
            wgmma::multiply<T>(acc, w + 2 * s, x + 2 * s);
        wgmma::commit();
        wgmma::wait<1>();
        r.go_on(from);
    }
}

/* Sums of a pass's tokens to [token][row] in shared memory. */
template <typename S>
__device__ __forceinline__ void spread(float *to, const float (&acc)[S::TOKENS / 2], int pass)
{
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int n = 0; n < S::PASS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[(n * 8 + lane % 4 * 2 + i % 2) * S::STRIDE + row + i / 2 * 8] = acc[(pass * (S::PASS / 8) + n) * 4 + i];
}

/* prefill::store takes the threads of half a block. */
template <typename S> struct stored : S {
    static constexpr int THREADS = S::THREADS / 2;
};

template <typename F, typename T, typename S> __device__ __forceinline__ void product(const cdl_linear_args &a)
{
    using decode::shared;
    const uint32_t first = (1024 - shared_address(shared) % 1024) % 1024;
    float acc[S::TOKENS / 2];
#pragma unroll
    for (int i = 0; i < S::TOKENS / 2; i++)
        acc[i] = 0.0f;
    const source<F, S> from(a);
    ring<F, S> r(shared + first, (a.cols + 63) / 64);
    r.begin(from);
    if constexpr (F::DENSE)
        sums_of_dense<F, T, S>(acc, r, from);
    else
        sums_of_packed<F, T, S>(acc, r, from);
    wgmma::wait<0>();
    copy_wait<0>();
#pragma unroll
    for (int pass = 0; pass < S::TOKENS / S::PASS; pass++) {
        __syncthreads(); /* the last slots, or the pass before, were read */
        spread<S>((float *)shared, acc, pass);
        __syncthreads();
        prefill::store<T, stored<S>>((const float *)shared, a, pass);
    }
}

} /* namespace prefill_wgmma */

#define CDL_WGMMA_KERNEL(name, kind, weight, format, type)                                                             \
    extern "C" __global__ void __launch_bounds__(prefill_wgmma::shape<format, kind>::THREADS,                          \
        prefill_wgmma::shape<format, kind>::BLOCKS)                                                                    \
        linear_fwd_prefill_##name##_sm90_kernel_##weight##_##type(const __grid_constant__ cdl_linear_args a)           \
    {                                                                                                                  \
        prefill_wgmma::product<format, type, prefill_wgmma::shape<format, kind>>(a);                                   \
    }

#define CDL_WGMMA_KERNELS(weight, format, type)                                                                        \
    CDL_WGMMA_KERNEL(wide, CDL_WGMMA_WIDE, weight, format, type)                                                       \
    CDL_WGMMA_KERNEL(middle, CDL_WGMMA_MIDDLE, weight, format, type)                                                   \
    CDL_WGMMA_KERNEL(narrow, CDL_WGMMA_NARROW, weight, format, type)                                                   \
    CDL_WGMMA_KERNEL(small, CDL_WGMMA_SMALL, weight, format, type)

#define CDL_WGMMA_KERNELS_16(weight)                                                                                   \
    CDL_WGMMA_KERNELS(weight, format_##weight, bf16)                                                                   \
    CDL_WGMMA_KERNELS(weight, format_##weight, f16)

#endif
