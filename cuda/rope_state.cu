/* rope_state.cu - rotates q and k, writes k and v into the pages of the layer; norms the heads of q and k first
 * when asked.
 *
 * Shapes:   q [T, H * D], k [T, K * D], v [T, K * Dv]; inv_freq f32 [R / 2]. D, Dv, R even, at most 256.
 * Numerics: angle = (float)position * inv_freq in f32, as Hugging Face; sine and cosine to 1e-7; one rounding to 16
 *           bits.
 *           8-bit state: a token's head by its greatest element, scale f32 beside it.
 * Design:   a warp a head. Values go in transposed
 *           (attn/README.md), so each is a 2-byte store.
 * CPU twin: runtime/cpu/ref/rope.c, state_write.c, rmsnorm.c   Proof: tests/cuda/test_attention.c */
#include "pages.cuh"

enum { WARPS = CDL_CUDA_ROW_THREADS / 32, PAIRS = 4 }; /* a lane holds up to 4 pairs: head_dim <= 256 */

/* pi / 2 in three parts: with fused products the reduction is good to |x| < 2^22. */
__device__ __forceinline__ void sine_cosine(float x, float *s, float *c)
{
    const float shifted = fmaf(x, 0.63661977236758134f, 12582912.0f); /* 1.5 * 2^23: rounds to whole numbers */
    const float n = shifted - 12582912.0f;
    float r = fmaf(n, -1.57079637e+00f, x);
    r = fmaf(n, 4.37113883e-08f, r);
    r = fmaf(n, 1.71512489e-15f, r);
    const float r2 = r * r;
    const float sine = fmaf(r * r2, fmaf(r2, fmaf(r2, -1.9515295891e-4f, 8.3321608736e-3f), -1.6666654611e-1f), r);
    const float cosine = fmaf(r2 * r2, fmaf(r2, fmaf(r2, 2.443315711809948e-5f, -1.388731625493765e-3f),
        4.166664568298827e-2f), fmaf(r2, -0.5f, 1.0f));
    const int quadrant = __float_as_int(shifted) & 3;
    const float u = quadrant & 1 ? cosine : sine, v = quadrant & 1 ? sine : cosine;
    *s = quadrant & 2 ? -u : u;
    *c = (quadrant + 1) & 2 ? -v : v;
}

/* The element numbers of pair i of a head: turned pairs first, the others as they stand. */
__device__ __forceinline__ uint2 pair_at(const cdl_rope_state_args &a, uint32_t i)
{
    const uint32_t half = a.rotary_dim / 2;
    if (i >= half || a.interleaved)
        return make_uint2(2 * i, 2 * i + 1);
    return make_uint2(i, i + half);
}

__device__ __forceinline__ uint32_t head_dim(const cdl_rope_state_args &a)
{
    return a.head_dim ? a.head_dim : a.state.key_dim;
}

/* A lane's pairs of a head, normed and turned. */
struct turned {
    float2 v[PAIRS];
};

/* What a lane does to its pairs of a head: weights of the norm; sine and cosine, 0 and 1 where nothing is turned. */
struct turning {
    float2 w[PAIRS], by[PAIRS];
};

__device__ __forceinline__ turning turning_of(const cdl_rope_state_args &a, const float *norm, uint32_t row)
{
    const uint32_t lane = threadIdx.x % 32;
    const bool is_long = a.inv_freq_long && a.use_long[row];
    const float *inv = is_long ? a.inv_freq_long : a.inv_freq;
    const float scale = is_long ? a.scale_long : a.scale, position = (float)a.positions[row];
    turning t;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        const uint32_t i = lane + 32 * p;
        const uint2 at = pair_at(a, i);
        const bool turns = inv && 2 * i < a.rotary_dim;
        t.w[p] = norm && 2 * i < head_dim(a) ? make_float2(norm[at.x] + a.offset, norm[at.y] + a.offset)
                                             : make_float2(0.0f, 0.0f);
        float s = 0.0f, c = 1.0f;
        if (turns)
            sine_cosine(position * inv[i], &s, &c);
        t.by[p] = turns ? make_float2(s * scale, c * scale) : make_float2(0.0f, 1.0f);
    }
    return t;
}

template <typename T>
__device__ __forceinline__ turned turn_head(const cdl_rope_state_args &a, const T *x, const turning &t, bool norm)
{
    const uint32_t lane = threadIdx.x % 32, dim = head_dim(a);
    turned r;
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        const uint32_t i = lane + 32 * p;
        const uint2 at = pair_at(a, i);
        r.v[p] = 2 * i < dim ? make_float2(to_f32(x[at.x]), to_f32(x[at.y])) : make_float2(0.0f, 0.0f);
    }
#pragma unroll
    for (int p = 0; p < PAIRS; p++)
        sum += r.v[p].x * r.v[p].x + r.v[p].y * r.v[p].y;
    const float by = norm ? rsqrtf(warp_sum(sum) / dim + a.eps) : 1.0f;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        float2 u = r.v[p];
        if (norm)
            u = make_float2(u.x * by * t.w[p].x, u.y * by * t.w[p].y);
        if (a.inv_freq && 2 * (lane + 32 * p) < a.rotary_dim)
            u = make_float2(u.x * t.by[p].y - u.y * t.by[p].x, u.x * t.by[p].x + u.y * t.by[p].y);
        r.v[p] = u;
    }
    return r;
}

/* And zeros up to the state's size. */
template <typename T> __device__ __forceinline__ void store_head(const cdl_rope_state_args &a, const turned &r, T *y)
{
    for (uint32_t d = head_dim(a) + threadIdx.x % 32; d < a.state.key_dim; d += 32)
        y[d] = from_f32<T>(0.0f);
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        const uint32_t i = threadIdx.x % 32 + 32 * p;
        if (2 * i >= head_dim(a))
            continue;
        const uint2 at = pair_at(a, i);
        y[at.x] = from_f32<T>(r.v[p].x);
        y[at.y] = from_f32<T>(r.v[p].y);
    }
}

/* The greatest of a head in a warp becomes the greatest code: what elements are multiplied by, and the scale. */
template <typename S> __device__ __forceinline__ float2 scale_of(float most)
{
#pragma unroll
    for (int i = 16; i; i >>= 1)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
    return most < 1e-30f ? make_float2(0.0f, 0.0f) : make_float2(S::MOST / most, most / S::MOST);
}

/* Keys of a token, by one warp. at: the token in the page. */
template <typename T, typename S>
__device__ void write_keys(const cdl_rope_state_args &a, const turned &r, uint8_t *page, uint32_t at)
{
    const uint32_t lane = threadIdx.x % 32;
    uint8_t *keys = page + at * key_pitch<S>(a.state);
    if constexpr (!S::SCALED) {
        store_head(a, r, (T *)keys);
        return;
    } else {
        float most = 0.0f;
#pragma unroll
        for (int p = 0; p < PAIRS; p++)
            most = fmaxf(most, fmaxf(fabsf(r.v[p].x), fabsf(r.v[p].y)));
        const float2 by = scale_of<S>(most);
#pragma unroll
        for (int p = 0; p < PAIRS; p++) {
            const uint32_t i = lane + 32 * p;
            if (2 * i >= head_dim(a))
                continue;
            const uint2 to = pair_at(a, i);
            keys[to.x] = S::code(r.v[p].x * by.x);
            keys[to.y] = S::code(r.v[p].y * by.x);
        }
        if (lane == 0)
            ((float *)(page + scales_at<S>(a.state)))[scale_place(at)] = by.y;
    }
}

/* Values of a token, transposed, by one warp. */
template <typename T, typename S>
__device__ void write_values(const cdl_rope_state_args &a, const T *v, uint8_t *page, uint32_t at)
{
    const uint32_t lane = threadIdx.x % 32, dim = a.value_dim ? a.value_dim : a.state.value_dim;
    uint8_t *values = page + values_at<S>(a.state);
    if constexpr (!S::SCALED) {
        for (uint32_t d = lane; d < dim; d += 32)
            ((T *)values)[d * PAGE + at] = v[d];
    } else {
        float most = 0.0f;
        for (uint32_t d = lane; d < dim; d += 32)
            most = fmaxf(most, fabsf(to_f32(v[d])));
        const float2 by = scale_of<S>(most);
        for (uint32_t d = lane; d < dim; d += 32)
            values[d * PAGE + at] = S::code(to_f32(v[d]) * by.x);
        if (lane == 0)
            ((float *)(page + scales_at<S>(a.state)))[PAGE + scale_place(at)] = by.y;
    }
}

/* What no launch writes is read, and the angles are computed, before the launch in front has ended. */
template <typename T, typename S> __device__ __forceinline__ void rope_state_fwd(const cdl_rope_state_args &a)
{
    let_next_begin();
    const uint32_t row = blockIdx.x, slot = a.rows.slots[row], at = slot % PAGE;
    const cdl_cuda_pages &s = a.state;
    const uint32_t q_heads = a.q ? a.heads : 0, k_heads = a.k ? s.kv_heads : 0;
    const int32_t page = k_heads || a.v ? a.rows.pages[a.rows.tables[row] + slot / PAGE] : 0;
    const uint32_t h = blockIdx.y * WARPS + threadIdx.x / 32;
    const float *norm = h < q_heads ? a.q_norm : a.k_norm;
    turning t;
    if (h < q_heads + k_heads)
        t = turning_of(a, norm, row);
    wait_for_previous();

    if (h < q_heads) {
        const turned r = turn_head(a, (const T *)a.q + (size_t)row * a.q_stride + h * head_dim(a), t, norm);
        __syncwarp(); /* every element was read before any is written: q_out may be q */
        store_head(a, r, (T *)a.q_out + (size_t)row * a.q_out_stride + h * s.key_dim);
    } else if (h < q_heads + k_heads) {
        const uint32_t k = h - q_heads;
        const turned r = turn_head(a, (const T *)a.k + (size_t)row * a.k_stride + k * head_dim(a), t, norm);
        write_keys<T, S>(a, r, page_keys<S>(s, page, k), at);
    } else if (a.v && h < q_heads + k_heads + s.kv_heads) {
        const uint32_t k = h - q_heads - k_heads, dim = a.value_dim ? a.value_dim : s.value_dim;
        write_values<T, S>(a, (const T *)a.v + (size_t)row * a.v_stride + k * dim, page_keys<S>(s, page, k), at);
    }
}

#define CDL_ROPE_KERNEL(name, type, state)                                                                             \
    extern "C" __global__ void __launch_bounds__(CDL_CUDA_ROW_THREADS)                                                 \
        rope_state_fwd_kernel_##name(const __grid_constant__ cdl_rope_state_args a)                                    \
    {                                                                                                                  \
        rope_state_fwd<type, state>(a);                                                                                \
    }
CDL_ROPE_KERNEL(bf16, bf16, state_same)
CDL_ROPE_KERNEL(f16, f16, state_same)
CDL_ROPE_KERNEL(i8_bf16, bf16, state_i8)
CDL_ROPE_KERNEL(i8_f16, f16, state_i8)
CDL_ROPE_KERNEL(f8_bf16, bf16, state_f8)
CDL_ROPE_KERNEL(f8_f16, f16, state_f8)
