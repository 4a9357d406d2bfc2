/* sample.cu - the next token of each row of logits: edited, then the likeliest, or drawn.
 *
 * Shapes:   logits f32 [rows, vocab]; tokens [rows], -1 where no logit is above -inf. NaN counts as -inf.
 * Numerics: the stages, edits and weights e^((x - max) / T) are the CPU's bit for bit (runtime/gen/sampler.c; no
 *           fma). Sums of weights are in fixed point, 2^-40: the same in any order of threads.
 * Design:   one block a row. The k-th logit and the weight at which the sum reaches top-p are found by radix
 *           select: four times a histogram of 8 bits in shared memory. A draw walks through stretches of the row.
 * CPU twin: runtime/gen/sampler.c   Proof: tests/cuda/test_sample.c */
#include "common.cuh"

typedef unsigned long long u64;

enum { THREADS = CDL_CUDA_SAMPLE_THREADS, WARPS = THREADS / 32, BINS = 256 };

#define FIXED_ONE 1099511627776.0f /* 2^40 */
#define LOWEST __int_as_float(0xff800000)

/* Who is still a candidate. */
struct cut {
    float max, scale;      /* weight = e^((x - max) * scale)                        */
    float kth;             /* x is at least this                                    */
    float weight;          /* and its weight is above this one, or equal and its    */
    uint32_t last;         /* index at most this one                                */
    float least;           /* and its weight is at least this                       */
};

/* ---- Over the block ---- */

__device__ u64 block_max(u64 v)
{
    __shared__ u64 part[WARPS];
#pragma unroll
    for (int i = 16; i; i >>= 1) {
        const u64 other = __shfl_xor_sync(~0u, v, i);
        v = other > v ? other : v;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        v = part[i] > v ? part[i] : v;
    return v;
}

/* The sum over the threads before this one; *all: over all. */
__device__ u64 block_scan(u64 v, u64 *all)
{
    __shared__ u64 part[WARPS];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u64 sum = v;
#pragma unroll
    for (int i = 1; i < 32; i <<= 1) {
        const u64 other = __shfl_up_sync(~0u, sum, i);
        sum += lane >= i ? other : 0;
    }
    __syncthreads();
    if (lane == 31)
        part[warp] = sum;
    __syncthreads();
    u64 before = sum - v, total = 0;
    for (uint32_t i = 0; i < WARPS; i++) {
        before += i < warp ? part[i] : 0;
        total += part[i];
    }
    *all = total;
    return before;
}

/* ---- Values ---- */

__device__ __forceinline__ float value(const float *x, uint32_t i)
{
    const float v = x[i] + 0.0f; /* one zero */
    return v == v ? v : LOWEST;
}

/* Larger for larger floats. */
__device__ __forceinline__ uint32_t ordered(float v)
{
    const uint32_t u = __float_as_uint(v);
    return u >> 31 ? ~u : u | 0x80000000u;
}

__device__ __forceinline__ float unordered(uint32_t u)
{
    return __uint_as_float(u >> 31 ? u & 0x7fffffffu : ~u);
}

/* exp4 of runtime/gen/sampler_math.c */
__device__ float exp_below_0(float y)
{
    const float magic = 12582912.0f;
    if (!(y >= -87.0f))
        return 0.0f;
    const float k = __fadd_rn(__fadd_rn(__fmul_rn(y, 1.44269504088896341f), magic), -magic);
    const float r = __fadd_rn(__fadd_rn(y, -__fmul_rn(k, 0.693359375f)), __fmul_rn(k, 2.12194440e-4f));
    float p = __fadd_rn(__fmul_rn(r, 1.9875691500e-4f), 1.3981999507e-3f);
    p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
    p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
    p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
    p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
    p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);
    return __int_as_float(__float_as_int(p) + ((int)k << 23));
}

__device__ __forceinline__ float weight(float x, const cut &c)
{
    if (isinf(c.max))
        return x == c.max;
    return exp_below_0(__fmul_rn(__fadd_rn(x, -c.max), c.scale));
}

__device__ __forceinline__ u64 fixed(float w)
{
    return (u64)(w * FIXED_ONE);
}

/* The weight of a candidate, 0 of others. */
__device__ __forceinline__ float candidate(float x, uint32_t i, const cut &c)
{
    if (!(x >= c.kth))
        return 0.0f;
    const float w = weight(x, c);
    return w >= c.least && (w > c.weight || (w == c.weight && i <= c.last)) ? w : 0.0f;
}

/* ---- Stages ---- */

/* The row's logits as they are after bias, penalties and bans. */
__device__ const float *edit(const cdl_sample_args &a, const cdl_sample_row &r, const float *logits, uint32_t row)
{
    if (!r.n_bias && !r.n_seen && !r.n_banned)
        return logits;
    float *x = a.edited + (size_t)row * a.stride;
    for (uint32_t i = threadIdx.x; i < a.vocab; i += THREADS)
        x[i] = logits[i];
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < r.n_bias; i += THREADS)
        x[a.bias[r.first_bias + i].token] += a.bias[r.first_bias + i].bias;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < r.n_seen; i += THREADS) {
        const cdl_sample_seen s = a.seen[r.first_seen + i];
        float v = x[s.token];
        v = v < 0 ? __fmul_rn(v, r.repetition) : __fdiv_rn(v, r.repetition);
        if (s.count)
            v = __fadd_rn(v, -__fadd_rn(r.presence, __fmul_rn(r.frequency, (float)s.count)));
        x[s.token] = v;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < r.n_banned; i += THREADS)
        x[a.banned[r.first_banned + i]] = LOWEST;
    __syncthreads();
    return x;
}

/* The first of the largest; false when all are -inf. */
__device__ bool likeliest(const float *x, uint32_t n, float *max, int32_t *token)
{
    u64 best = 0;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        const u64 key = (u64)ordered(value(x, i)) << 32 | ~i;
        best = key > best ? key : best;
    }
    best = block_max(best);
    *max = unordered((uint32_t)(best >> 32));
    *token = (int32_t)~(uint32_t)best;
    return *max > LOWEST;
}

/* Sums by 8 bits of a key, in halves: shared memory adds 32 bits at once. */
struct histogram {
    uint32_t low[BINS], high[BINS];
};

__device__ __forceinline__ void histogram_clear(histogram *h)
{
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
        h->low[i] = h->high[i] = 0;
    __syncthreads();
}

__device__ __forceinline__ void histogram_add(histogram *h, uint32_t bin, u64 v)
{
    const uint32_t low = (uint32_t)v, old = atomicAdd(&h->low[bin], low);
    const uint32_t high = (uint32_t)(v >> 32) + (old + low < old);
    if (high)
        atomicAdd(&h->high[bin], high);
}

/* The bin, from the last one down, at which `before` and the bins' sums reach want; before then is the sum above
 * the bin. */
__device__ uint32_t histogram_reach(const histogram *h, u64 want, u64 *before)
{
    __shared__ u64 sum_above;
    __shared__ uint32_t found;
    __syncthreads();
    if (threadIdx.x == 0) {
        u64 sum = *before;
        uint32_t bin = BINS - 1;
        for (; bin; bin--) {
            const u64 with = sum + ((u64)h->high[bin] << 32 | h->low[bin]);
            if (with >= want)
                break;
            sum = with;
        }
        found = bin;
        sum_above = sum;
    }
    __syncthreads();
    *before = sum_above;
    return found;
}

__device__ float kth_largest(const float *x, uint32_t n, uint32_t k, histogram *h)
{
    uint32_t prefix = 0;
    u64 above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram_clear(h);
        for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
            const uint32_t key = ordered(value(x, i));
            if (shift == 24 || key >> (shift + 8) == prefix)
                histogram_add(h, key >> shift & 255, 1);
        }
        prefix = prefix << 8 | histogram_reach(h, k, &above);
    }
    return unordered(prefix);
}

/* What a thread sums of a row when the order counts. */
struct stretch {
    uint32_t begin, end;
};

__device__ __forceinline__ stretch my_stretch(uint32_t n)
{
    const uint32_t length = (n + THREADS - 1) / THREADS, begin = min(threadIdx.x * length, n);
    return { begin, min(begin + length, n) };
}

__device__ u64 sum_candidates(const float *x, uint32_t n, const cut &c)
{
    u64 sum = 0, all;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        sum += fixed(candidate(value(x, i), i, c));
    block_scan(sum, &all);
    return all;
}

/* The index of the m-th candidate with the cut's weight. */
__device__ uint32_t find_tie(const float *x, uint32_t n, const cut &c, u64 m)
{
    __shared__ uint32_t found;
    const stretch s = my_stretch(n);
    u64 ties = 0, all;
    for (uint32_t i = s.begin; i < s.end; i++)
        ties += candidate(value(x, i), i, c) == c.weight;
    u64 before = block_scan(ties, &all);
    for (uint32_t i = s.begin; i < s.end && before < m; i++) {
        before += candidate(value(x, i), i, c) == c.weight;
        if (before == m)
            found = i;
    }
    __syncthreads();
    return found;
}

/* Keeps the likeliest candidates whose weights reach top-p of all. */
__device__ void keep_top_p(const float *x, uint32_t n, u64 top_p, cut *c, histogram *h)
{
    const u64 total = sum_candidates(x, n, *c);
    const u64 want = __umul64hi(total, top_p) << 24 | total * top_p >> 40;
    uint32_t prefix = 0;
    u64 before = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram_clear(h);
        for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
            const float w = candidate(value(x, i), i, *c);
            const uint32_t key = __float_as_uint(w);
            if (w > 0.0f && (shift == 24 || key >> (shift + 8) == prefix))
                histogram_add(h, key >> shift & 255, fixed(w));
        }
        prefix = prefix << 8 | histogram_reach(h, want, &before);
    }
    c->weight = __uint_as_float(prefix);
    const u64 one = fixed(c->weight);
    c->last = find_tie(x, n, *c, want > before && one ? (want - before + one - 1) / one : 1);
}

__device__ void draw(const float *x, uint32_t n, const cut &c, u64 random, int32_t *token)
{
    const stretch s = my_stretch(n);
    u64 sum = 0, all;
    for (uint32_t i = s.begin; i < s.end; i++)
        sum += fixed(candidate(value(x, i), i, c));
    const u64 before = block_scan(sum, &all), left = __umul64hi(random, all);
    if (left < before || left >= before + sum)
        return;
    u64 at = before;
    for (uint32_t i = s.begin; i < s.end; i++) {
        at += fixed(candidate(value(x, i), i, c));
        if (left < at) {
            *token = (int32_t)i;
            return;
        }
    }
}

/* Philox4x32-10's first 53 bits, at the top. */
__device__ u64 random_bits(u64 key, u64 counter)
{
    uint32_t c[4] = { (uint32_t)counter, (uint32_t)(counter >> 32), 0, 0 };
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const u64 a = (u64)c[0] * 0xd2511f53u, b = (u64)c[2] * 0xcd9e8d57u;
        const uint32_t next0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, next2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[0] = next0;
        c[1] = (uint32_t)b;
        c[2] = next2;
        c[3] = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return ((u64)c[1] << 32 | c[0]) >> 11 << 11;
}

extern "C" __global__ void __launch_bounds__(THREADS) sample_fwd_kernel_f32(const __grid_constant__ cdl_sample_args a)
{
    __shared__ histogram h;
    const uint32_t row = blockIdx.x;
    after_previous();
    const cdl_sample_row r = a.rows[row];
    const float *logits = a.logits + (size_t)row * a.stride, *x = edit(a, r, logits, row);
    int32_t *token = a.tokens + row, best;
    cut c = { .max = 0.0f, .scale = r.inv_temperature, .kth = LOWEST, .weight = 0.0f, .last = ~0u, .least = 0.0f };
    const bool any = likeliest(x, a.vocab, &c.max, &best);
    if (!any && !likeliest(logits, a.vocab, &c.max, &best)) /* all was banned: what the model itself prefers */
        best = -1;
    if (threadIdx.x == 0)
        *token = best;
    if (!any || r.greedy)
        return;
    __syncthreads();
    if (r.top_k && r.top_k < a.vocab)
        c.kth = kth_largest(x, a.vocab, r.top_k, &h);
    if (r.top_p < (u64)1 << 40)
        keep_top_p(x, a.vocab, r.top_p, &c, &h);
    c.least = r.min_p;
    draw(x, a.vocab, c, random_bits(r.seed, r.position), token);
}
