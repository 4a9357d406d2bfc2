/* prefill.cuh - y = x W^T for prompt rows, from the same packed weights.
 *
 * Numerics: a weight is scaled in f32 and rounded to the activations' type, as a dequantised model has it; sums in
 *           f32, two of each: of the even and of the odd steps of 64 columns, each from 0 up, added last. So a row's
 *           bits depend neither on the others nor on the size of the blocks.
 * Design:   128 weight rows x 128 tokens a block, or 64 x 64 where that keeps more multiprocessors busy. Each of the
 *           two sums is half of the warps' work, with its own ring of slots filled by cp.async and its own barrier, so
 *           that one half multiplies while the other waits (one ring for both took 1.4 times as long). A warp takes
 *           32 weight rows and all tokens of the block, so each weight is scaled once; fragments are made during the
 *           16 columns before theirs, also across slots. Dense weights: 64 rows x 64 tokens a warp, by ldmatrix.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_PREFILL_CUH
#define CDL_PREFILL_CUH

#include "decode.cuh"

namespace prefill {

/* ROWS x TOKENS a block, M x N tiles of 16 x 8 a warp; half of K by half of the warps. */
template <int ROWS_, int TOKENS_, int M_, int N_> struct shape {
    static constexpr int ROWS = ROWS_, TOKENS = TOKENS_, M = M_, N = N_;
    static constexpr int TOKEN_WARPS = TOKENS / 8 / N, WARPS = ROWS / 16 / M * TOKEN_WARPS, THREADS = WARPS * 32;
    static constexpr int X_BYTES = TOKENS * 128, STRIDE = ROWS + 4; /* of sums in shared memory; no bank twice */
    static constexpr int PASS = 64;                                 /* tokens whose sums are there at once     */
};
template <typename F> struct shapes {
    typedef shape<CDL_CUDA_PREFILL_TILE, CDL_CUDA_PREFILL_TILE, 2, 16> large;
    typedef shape<CDL_CUDA_PREFILL_SMALL, CDL_CUDA_PREFILL_SMALL, 2, 8> small;
};
template <> struct shapes<format_dense> {
    typedef shape<CDL_CUDA_PREFILL_TILE, CDL_CUDA_PREFILL_TILE, 4, 8> large;
    typedef shape<CDL_CUDA_PREFILL_SMALL, CDL_CUDA_PREFILL_SMALL, 2, 8> small;
};

enum { SLOTS = CDL_CUDA_PREFILL_SLOTS };

__device__ __forceinline__ void barrier(uint32_t id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- From global memory ---- */

/* Where a piece of 16 bytes of dense weights and their x stands in rows of 64 columns, so that ldmatrix meets no bank
 * twice. */
template <typename F> __device__ __forceinline__ uint32_t place(uint32_t row, uint32_t piece)
{
    return F::DENSE ? row * 128 + (piece ^ (row & 7)) * 16 : swizzled(row, piece);
}

/* What a thread brings of each step. Rows beyond the last are read as the last one's. Tokens there are zeros: read as
 * the last one's, its lines would be asked for so often that all blocks wait for them (24 of 64 tokens took an H100 182
 * us instead of 73). */
template <typename F, typename S> struct source {
    static constexpr int BYTES = S::X_BYTES + S::ROWS / 16 * F::PART_BYTES; /* of a slot              */
    static constexpr int THREADS = S::THREADS, X = S::TOKENS * 8 / THREADS; /* pieces of x            */
    static constexpr int W = F::DENSE ? S::ROWS * 8 / THREADS : S::ROWS / 16 / S::WARPS; /* of rows, row tiles */
    const uint8_t *x, *w[W];
    uint32_t cols, stride, to_x, to_w; /* stride: bytes from a piece of x to the next */
    int tokens;                        /* from the first piece's on                   */

    /* i: the thread among those of its half */
    __device__ __forceinline__ source(const cdl_linear_args &a, uint32_t i)
    {
        const uint32_t first = i / 8, chunk = i % 8;
        x = (const uint8_t *)a.x + (size_t)(blockIdx.x * S::TOKENS + first) * a.x_stride * 2 + chunk * 16;
        cols = a.cols;
        stride = THREADS / 8 * a.x_stride * 2;
        tokens = (int)(a.tokens - blockIdx.x * S::TOKENS - first);
        to_x = place<F>(first, chunk);
        to_w = S::X_BYTES + (F::DENSE ? to_x : i / 32 * F::PART_BYTES + i % 32 * 16);
        const size_t row_bytes = F::DENSE ? (a.cols + 63) / 64 * 128
                                          : (a.cols + F::COLUMNS - 1) / F::COLUMNS * F::TILE_BYTES;
#pragma unroll
        for (int j = 0; j < W; j++)
            w[j] = F::DENSE ? row_of(a, first + j * (THREADS / 8), 16, row_bytes) + chunk * 16
                            : row_of(a, i / 32 + j * S::WARPS, 1, row_bytes) + i % 32 * 16;
    }

    /* Row i of the block, or row tile i; each: rows of a row tile, or 1. */
    __device__ __forceinline__ static const uint8_t *row_of(const cdl_linear_args &a, uint32_t i, uint32_t each,
        size_t bytes)
    {
        const uint32_t row = blockIdx.y * (S::ROWS / 16 * each) + i;
        return (const uint8_t *)a.weight + min(row, (a.rows + 15) / 16 * each - 1) * bytes;
    }

    __device__ __forceinline__ void fetch(uint32_t slot, uint32_t step) const
    {
        const int here = F::WIDE || step * 64 + threadIdx.x % 8 * 8 < cols ? tokens : 0;
#pragma unroll
        for (int j = 0; j < X; j++)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(slot + to_x + j * THREADS * 16),
                "l"(x + (step * 128 + j * stride)), "r"(j * (THREADS / 8) < here ? 16 : 0) : "memory");
        const uint32_t tile = step / F::SUBS * F::TILE_BYTES;
        const uint32_t sub = tile + F::MAIN_BYTES + step % F::SUBS * F::SUB_BYTES;
#pragma unroll
        for (int j = 0; j < W; j++) {
            if constexpr (F::DENSE) {
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(slot + to_w + j * THREADS * 16),
                    "l"(w[j] + step * 128) : "memory");
            } else {
                const uint32_t to = slot + to_w + j * S::WARPS * F::PART_BYTES;
                copy_async_warp<F::MAIN_BYTES>(to, w[j] + tile);
                copy_async_warp<F::SUB_BYTES>(to + F::MAIN_BYTES, w[j] + sub);
            }
        }
    }
};

/* ---- Packed weights: codes to numbers ---- */

/* BITS bits of each byte of v to bit TO: of bytes 0 and 2 from bit `even`, of 1 and 3 from bit `odd`. */
template <int BITS, int TO> __device__ __forceinline__ uint32_t picked(uint32_t v, int even, int odd)
{
    constexpr uint32_t MASK = ((1u << BITS) - 1) << TO;
    return (shifted(v, even - TO) & MASK * 0x00010001u) | (shifted(v, odd - TO) & MASK * 0x01000100u);
}

/* Columns 0, 2, 1, 3 (of 8-bit codes: 0, 1, 2, 3) of a lane in step s of 16 as bytes, of rows g and g + 8. */
template <typename F> __device__ __forceinline__ void codes(uint32_t (&c)[2], const planes<F> &p, int s)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        c[half] = 0;
        if (F::PLANES & 8)
            c[half] = word(p.wide[F::PLANES & 8 ? s / 2 : 0], s % 2 * 2 + half) ^ 0x80808080u;
        if (F::PLANES & 4)
            c[half] = word(p.wide[0], s) >> 4 * half & 0x0f0f0f0fu;
        if (F::TABLE)
            c[half] = look_up<F::TABLE>(c[half]) ^ 0x80808080u;
        if (F::PLANES & 2) {
            const uint32_t v = __byte_perm(s < 2 ? p.two.x : p.two.y, 0, s % 2 ? 0x3311 : 0x2200);
            c[half] |= picked<2, F::PLANES & 4 ? 4 : 0>(v, 2 * half, 4 + 2 * half);
        }
        if (F::PLANES & 1) {
            const uint32_t v = __byte_perm(p.one, 0, s / 2 ? 0x3311 : 0x2200);
            c[half] |= picked<1, F::PLANES & 4 ? 4 : 2>(v, 4 * (s % 2) + half, 4 * (s % 2) + 2 + half);
        }
    }
}

/* Of rows g and g + 8: weight = scale * lifted code + min. A byte becomes an f32 by standing in the mantissa of 128,
 * one of 8 bits in that of 32768; what that adds goes off with min, which is exact but for types with a min (2^-17 of
 * the scale) and for SCALE_I8_32, where it goes off first. */
template <typename F> struct lifted {
    static constexpr bool EIGHT = F::PLANES & 8 || F::TABLE, FIRST = F::SCALING == SCALE_I8_32;
    float scale[2][F::GROUPS], min[2][F::GROUPS];

    __device__ __forceinline__ void set(const scales<F> &by)
    {
#pragma unroll
        for (int i = 0; i < 2 * F::GROUPS; i++) {
            const int half = i / F::GROUPS, group = i % F::GROUPS;
            float zero = EIGHT ? 32896.0f : 128.0f + F::ZERO;
            if (F::SCALING == SCALE_F16_ZERO)
                zero = __uint_as_float(__byte_perm(by.zero[half][group], 0x43000000u, 0x7044));
            scale[half][group] = by.scale[half][group];
            min[half][group] = FIRST ? 0.0f
                                     : fmaf(-zero, by.scale[half][group],
                                         F::HAS_MIN ? by.min[half][F::HAS_MIN ? group : 0] : 0.0f);
        }
    }

    /* Of byte i of codes. */
    __device__ __forceinline__ float weight(uint32_t codes, int i, int half, int group) const
    {
        const float v = __uint_as_float(EIGHT ? __byte_perm(codes, 0x47000000u, 0x7404 | i << 4)
                                              : __byte_perm(codes, 0x43000000u, 0x7044 | i << 8));
        return FIRST ? (v - 32896.0f) * scale[half][group] : fmaf(v, scale[half][group], min[half][group]);
    }
};

/* ---- Products ---- */

/* A warp's operands when weights are packed: planes and scales of a slot, A fragments of two steps of 16. */
template <typename F, typename T, typename S> struct operands {
    planes<F> p[S::M];
    lifted<F> by[S::M];
    uint32_t w[2][S::M][4];
    uint32_t w_at, x_at; /* from a slot's first byte */

    __device__ __forceinline__ operands(uint32_t warp)
    {
        const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4;
        w_at = S::X_BYTES + warp / S::TOKEN_WARPS * S::M * F::PART_BYTES;
        x_at = warp % S::TOKEN_WARPS * S::N * 1024 + j % 2 * 8 + swizzled(g, j / 2);
    }

    __device__ __forceinline__ void load(int m, const uint8_t *slot)
    {
        const uint8_t *part = slot + w_at + m * F::PART_BYTES;
        scales<F> raw;
        p[m].load(part + F::MAIN_BYTES + F::SCALE_BYTES, threadIdx.x % 32);
        raw.load(part, part + F::MAIN_BYTES, threadIdx.x % 32 / 4);
        by[m].set(raw);
    }

    /* The A fragment of step s, after load of its slot: weights, rounded to the type. */
    __device__ __forceinline__ void prepare(int m, int s)
    {
        constexpr int SECOND = F::PLANES & 8 ? 1 : 2; /* where column 1 is */
        const int group = s * F::GROUPS / 4;
        uint32_t c[2];
        codes<F>(c, p[m], s);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            w[s % 2][m][i] = pack2<T>(by[m].weight(c[i], 0, i, group), by[m].weight(c[i], SECOND, i, group));
            w[s % 2][m][2 + i] = pack2<T>(by[m].weight(c[i], 3 - SECOND, i, group), by[m].weight(c[i], 3, i, group));
        }
    }

    __device__ __forceinline__ void begin(const uint8_t *slot)
    {
#pragma unroll
        for (int m = 0; m < S::M; m++) {
            load(m, slot);
            prepare(m, 0);
        }
    }

    /* During tile n of step s: what the step after it needs. */
    __device__ __forceinline__ void ahead(int s, int n, const uint8_t *slot, const uint8_t *next)
    {
        constexpr int EACH = S::N / S::M;
        if (s == 3 && n % EACH == 0)
            load(n / EACH, next);
        if (n % EACH == EACH / 2)
            prepare(n / EACH, (s + 1) % 4);
    }

    __device__ __forceinline__ void multiply(float (&acc)[S::M][S::N][4], int s, int n, const uint8_t *slot)
    {
        const uint2 b = *(const uint2 *)(slot + (x_at ^ s * 32) + n * 1024);
#pragma unroll
        for (int m = 0; m < S::M; m++)
            mma<T>(acc[m][n], w[s % 2][m], b.x, b.y);
    }
};

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const uint8_t *at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]),
        "=r"(r[3]) : "r"(shared_address(at)) : "memory");
}

/* The same of dense weights: fragments of both operands of two steps of 16. */
template <typename T, typename S> struct operands<format_dense, T, S> {
    uint32_t w_at, x_at, w[2][S::M][4], x[2][S::N / 2][4];

    __device__ __forceinline__ operands(uint32_t warp)
    {
        const uint32_t lane = threadIdx.x % 32;
        w_at = S::X_BYTES + warp / S::TOKEN_WARPS * S::M * 2048 + place<format_dense>(lane % 16, lane / 16);
        x_at = warp % S::TOKEN_WARPS * S::N * 1024 + place<format_dense>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    }

    __device__ __forceinline__ void load_w(int m, int s, const uint8_t *slot)
    {
        load_matrices(w[s % 2][m], slot + (w_at ^ s * 32) + m * 2048);
    }
    __device__ __forceinline__ void load_x(int pair, int s, const uint8_t *slot)
    {
        load_matrices(x[s % 2][pair], slot + (x_at ^ s * 32) + pair * 2048);
    }

    __device__ __forceinline__ void begin(const uint8_t *slot)
    {
#pragma unroll
        for (int m = 0; m < S::M; m++)
            load_w(m, 0, slot);
#pragma unroll
        for (int pair = 0; pair < S::N / 2; pair++)
            load_x(pair, 0, slot);
    }

    __device__ __forceinline__ void ahead(int s, int n, const uint8_t *slot, const uint8_t *next)
    {
        if (n % 2 == 0)
            load_x(n / 2, (s + 1) % 4, s == 3 ? next : slot);
        if (n % (S::N / S::M) == 0)
            load_w(n / (S::N / S::M), (s + 1) % 4, s == 3 ? next : slot);
    }

    __device__ __forceinline__ void multiply(float (&acc)[S::M][S::N][4], int s, int n, const uint8_t *)
    {
#pragma unroll
        for (int m = 0; m < S::M; m++)
            mma<T>(acc[m][n], w[s % 2][m], x[s % 2][n / 2][n % 2 * 2], x[s % 2][n / 2][n % 2 * 2 + 1]);
    }
};

/* A slot's 64 columns, and the first operands of the next. WHOLE: of all tokens, else of the first n. */
template <bool WHOLE, typename S, typename O>
__device__ __forceinline__ void multiply(float (&acc)[S::M][S::N][4], O &o, const uint8_t *slot, const uint8_t *next,
    int tokens)
{
#pragma unroll
    for (int s = 0; s < 4; s++) {
        if (!WHOLE) {
#pragma unroll
            for (int n = 0; n < S::N; n++)
                o.ahead(s, n, slot, next);
        }
#pragma unroll
        for (int n = 0; n < S::N; n += 2) {
            if (WHOLE) {
                o.ahead(s, n, slot, next);
                o.ahead(s, n + 1, slot, next);
            } else if (n * 8 >= tokens) {
                break;
            }
            o.multiply(acc, s, n, slot);
            o.multiply(acc, s, n + 1, slot);
        }
    }
}

/* One half of K. tokens: how many of the warp's are there; none when its rows are not. */
template <bool WHOLE, typename F, typename T, typename S>
__device__ __forceinline__ void half_product(float (&acc)[S::M][S::N][4], const cdl_linear_args &a,
    const uint8_t *ring, int tokens)
{
    constexpr uint32_t BYTES = source<F, S>::BYTES, END = SLOTS * BYTES;
    const uint32_t half = threadIdx.x / S::THREADS, i = threadIdx.x % S::THREADS, steps = (a.cols + 63) / 64;
    const uint32_t base = shared_address(ring);
    if (half >= steps)
        return;
    const source<F, S> from(a, i);
    operands<F, T, S> o(i / 32);
    uint32_t step = half;
#pragma unroll
    for (int k = 0; k < SLOTS - 1; k++) {
        if (step + 2 * k < steps)
            from.fetch(base + k * BYTES, step + 2 * k);
        copy_commit();
    }
    copy_wait<SLOTS - 2>();
    barrier(1 + half, S::THREADS);
    o.begin(ring);
    uint32_t at = 0, free = END - BYTES;
    for (; step < steps; step += 2) {
        copy_wait<SLOTS - 3>();
        barrier(1 + half, S::THREADS); /* the next slot is there, and the one read last may be overwritten */
        if (step + 2 * (SLOTS - 1) < steps)
            from.fetch(base + free, step + 2 * (SLOTS - 1));
        copy_commit();
        free = at;
        const uint32_t next = at + BYTES < END ? at + BYTES : 0;
        if (WHOLE || tokens > 0)
            multiply<WHOLE, S>(acc, o, ring + at, ring + (step + 2 < steps ? next : at), tokens);
        at = next;
    }
    copy_wait<0>();
}

/* ---- Results ---- */

/* A warp's sums of a pass's tokens to [token][row] in shared memory, or added there. */
template <typename S>
__device__ __forceinline__ void spread(float *to, const float (&acc)[S::M][S::N][4], uint32_t warp, int pass, bool add)
{
    const uint32_t lane = threadIdx.x % 32, first = warp / S::TOKEN_WARPS * S::M * 16 + lane / 4;
    const int before = (int)(warp % S::TOKEN_WARPS) * S::N * 8 - pass * S::PASS;
#pragma unroll
    for (int n = 0; n < S::N; n++) {
        const int token = before + n * 8;
        if (token < 0 || token >= S::PASS)
            continue;
#pragma unroll
        for (int i = 0; i < S::M * 4; i++) {
            float *at = to + (token + lane % 4 * 2 + i % 2) * S::STRIDE + first + i / 4 * 16 + i % 4 / 2 * 8;
            *at = add ? *at + acc[i / 4][n][i % 4] : acc[i / 4][n][i % 4];
        }
    }
}

/* Whether four rows of a token may be stored at once, with nothing but bias and residual to add: alike in all lanes. */
template <typename T> __device__ __forceinline__ bool is_plain(const cdl_linear_args &a)
{
    return a.act == CDL_CUDA_ACT_NONE && a.softcap == 0.0f && !a.y_f32
        && ((size_t)a.y | (size_t)a.residual | (a.y_stride | a.residual_stride) * sizeof(T)) % 8 == 0;
}

/* Four rows of a token, with nothing but bias and residual to add. */
template <typename T>
__device__ __forceinline__ void store_plain(const cdl_linear_args &a, uint32_t token, uint32_t row, float4 y,
    const float4 &bias)
{
    y.x += bias.x, y.y += bias.y, y.z += bias.z, y.w += bias.w;
    if (a.residual) {
        const uint2 v = *(const uint2 *)((const T *)a.residual + (size_t)token * a.residual_stride + row);
        const float2 low = unpack2<T>(v.x), high = unpack2<T>(v.y);
        y.x += low.x, y.y += low.y, y.z += high.x, y.w += high.y;
    }
    *(uint2 *)((T *)a.y + (size_t)token * a.y_stride + row) = make_uint2(pack2<T>(y.x, y.y), pack2<T>(y.z, y.w));
}

/* A pass's sums, finished: four rows of a token a thread. */
template <typename T, typename S>
__device__ __forceinline__ void store(const float *sums, const cdl_linear_args &a, int pass)
{
    constexpr int LANES = S::ROWS / 4, STEP = 2 * S::THREADS / LANES;
    const uint32_t m = threadIdx.x % LANES * 4, row = blockIdx.y * S::ROWS + m;
    const uint32_t first = blockIdx.x * S::TOKENS + pass * S::PASS;
    const int tokens = min((int)(a.tokens - first), (int)S::PASS);
    if (is_plain<T>(a) && (blockIdx.y + 1) * S::ROWS <= a.rows) {
        float4 bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (a.bias)
            bias = make_float4(a.bias[row], a.bias[row + 1], a.bias[row + 2], a.bias[row + 3]);
        for (int n = threadIdx.x / LANES; n < tokens; n += STEP)
            store_plain<T>(a, first + n, row, *(const float4 *)(sums + n * S::STRIDE + m), bias);
    } else {
#pragma unroll 1
        for (int n = threadIdx.x / LANES; n < tokens; n += STEP)
#pragma unroll 1
            for (uint32_t i = 0; i < 4 && row + i < a.rows; i++)
                linear_store<T>(a, first + n, row + i, sums[n * S::STRIDE + m + i], 0.0f);
    }
}

template <typename F, typename T, typename S> __device__ __forceinline__ void product(const cdl_linear_args &a)
{
    using decode::shared;
    const uint32_t half = threadIdx.x / S::THREADS, warp = threadIdx.x % S::THREADS / 32;
    const int tokens = (int)a.tokens - (int)(blockIdx.x * S::TOKENS + warp % S::TOKEN_WARPS * S::N * 8);
    const bool here = blockIdx.y * S::ROWS + warp / S::TOKEN_WARPS * S::M * 16 < a.rows;
    const uint8_t *ring = shared + half * SLOTS * source<F, S>::BYTES;
    float acc[S::M][S::N][4];
#pragma unroll
    for (int i = 0; i < S::M * S::N * 4; i++)
        acc[i / (S::N * 4)][i / 4 % S::N][i % 4] = 0.0f;

    if (here && tokens > S::N * 5) /* so many that the zeros behind them are the smaller cost */
        half_product<true, F, T, S>(acc, a, ring, tokens);
    else
        half_product<false, F, T, S>(acc, a, ring, here ? tokens : 0);

#pragma unroll
    for (int pass = 0; pass < S::TOKENS / S::PASS; pass++) {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            __syncthreads(); /* the last slots, the pass before or the other half was read */
            if (half == i)
                spread<S>((float *)shared, acc, warp, pass, i > 0);
        }
        __syncthreads();
        store<T, S>((const float *)shared, a, pass);
    }
}

} /* namespace prefill */

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_prefill(const cdl_linear_args &a)
{
    after_previous();
    prefill::product<F, T, typename prefill::shapes<F>::large>(a);
}

template <typename F, typename T> __device__ __forceinline__ void linear_fwd_prefill_small(const cdl_linear_args &a)
{
    after_previous();
    prefill::product<F, T, typename prefill::shapes<F>::small>(a);
}

#endif
