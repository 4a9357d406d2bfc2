/* rope_state.cu - rotates q and k, writes k and v into the pages of the layer; norms the heads of q and k first
 * when asked.
 *
 * Shapes:   q [T, H * D], k [T, K * D], v [T, K * Dv]; inv_freq f32 [R / 2]. D, Dv, R even, at most 256.
 * Numerics: angle = (float)position * inv_freq in f32, as Hugging Face; sine and cosine to 1e-7; one rounding to 16
 *           bits.
 * Design:   one block a row, one warp a head. Values go in transposed (attn/README.md), so each is a 2-byte store.
 * CPU twin: runtime/cpu/ref/rope.c, state_write.c, rmsnorm.c   Proof: tests/cuda/test_attention.c */
#include "common.cuh"

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

/* One head by one warp: x to y (which may be x). */
template <typename T>
__device__ void turn_head(const cdl_rope_state_args &a, const T *x, T *y, const float *norm, uint32_t row)
{
    const uint32_t lane = threadIdx.x % 32, dim = a.state.key_dim;
    const bool is_long = a.inv_freq_long && a.use_long[row];
    const float *inv = is_long ? a.inv_freq_long : a.inv_freq;
    const float scale = is_long ? a.scale_long : a.scale;
    float2 v[PAIRS];
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        const uint32_t i = lane + 32 * p;
        v[p] = make_float2(0.0f, 0.0f);
        if (2 * i < dim) {
            const uint2 at = pair_at(a, i);
            v[p] = make_float2(to_f32(x[at.x]), to_f32(x[at.y]));
        }
        sum += v[p].x * v[p].x + v[p].y * v[p].y;
    }
    const float by = norm ? rsqrtf(warp_sum(sum) / dim + a.eps) : 1.0f;
    const float position = (float)a.positions[row];
    __syncwarp(); /* every element is read before any is written: y may be x */
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        const uint32_t i = lane + 32 * p;
        if (2 * i >= dim)
            continue;
        const uint2 at = pair_at(a, i);
        float2 u = v[p];
        if (norm)
            u = make_float2(u.x * by * (norm[at.x] + a.offset), u.y * by * (norm[at.y] + a.offset));
        if (inv && 2 * i < a.rotary_dim) {
            float s, c;
            sine_cosine(position * inv[i], &s, &c);
            s *= scale;
            c *= scale;
            u = make_float2(u.x * c - u.y * s, u.x * s + u.y * c);
        }
        y[at.x] = from_f32<T>(u.x);
        y[at.y] = from_f32<T>(u.y);
    }
}

template <typename T> __device__ void rope_state_fwd(const cdl_rope_state_args &a)
{
    const uint32_t row = blockIdx.x, lane = threadIdx.x % 32, slot = a.rows.slots[row];
    const cdl_cuda_pages &s = a.state;
    const uint32_t at = slot % CDL_CUDA_PAGE_TOKENS, q_heads = a.q ? a.heads : 0, k_heads = a.k ? s.kv_heads : 0;
    const int32_t page = k_heads || a.v ? a.rows.pages[a.rows.tables[row] + slot / CDL_CUDA_PAGE_TOKENS] : 0;
    const uint32_t head_elements = (s.key_dim + s.value_dim) * CDL_CUDA_PAGE_TOKENS;
    T *base = (T *)((uint8_t *)s.base + (uint64_t)page * s.page_bytes);
    const uint32_t all = q_heads + k_heads + (a.v ? s.kv_heads : 0);

    for (uint32_t h = threadIdx.x / 32; h < all; h += WARPS) {
        if (h < q_heads) {
            turn_head(a, (const T *)a.q + (size_t)row * a.q_stride + h * s.key_dim,
                (T *)a.q_out + (size_t)row * a.q_out_stride + h * s.key_dim, a.q_norm, row);
        } else if (h < q_heads + k_heads) {
            const uint32_t k = h - q_heads;
            turn_head(a, (const T *)a.k + (size_t)row * a.k_stride + k * s.key_dim,
                base + (size_t)k * head_elements + at * s.key_dim, a.k_norm, row);
        } else {
            const uint32_t k = h - q_heads - k_heads;
            const T *v = (const T *)a.v + (size_t)row * a.v_stride + k * s.value_dim;
            T *values = base + (size_t)k * head_elements + s.key_dim * CDL_CUDA_PAGE_TOKENS;
            for (uint32_t d = lane; d < s.value_dim; d += 32)
                values[d * CDL_CUDA_PAGE_TOKENS + at] = v[d];
        }
    }
}

CDL_KERNEL_16(rope_state_fwd, cdl_rope_state_args, CDL_CUDA_ROW_THREADS)
