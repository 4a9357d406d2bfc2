/* pages.cuh - what stands where in a page of keys and values (attn/README.md), by how the state is stored. */
#ifndef CDL_PAGES_CUH
#define CDL_PAGES_CUH

#include "numbers.cuh"

enum { PAGE = CDL_CUDA_PAGE_TOKENS };

/* A state type says: its bytes an element, whether a token's elements have a scale, how 8 elements become 16-bit
 * numbers, and UNIT: an element is number * UNIT * scale. */

struct state_same { /* of the activations' type */
    static constexpr int BYTES = 2;
    static constexpr bool SCALED = false;
    static constexpr float MOST = 0.0f;
    typedef uint4 eight;

    template <typename T> static __device__ constexpr float unit() { return 1.0f; }
    template <typename T> static __device__ __forceinline__ uint4 numbers(uint4 v) { return v; }
};

struct state_i8 {
    static constexpr int BYTES = 1;
    static constexpr bool SCALED = true;
    static constexpr float MOST = 127.0f;
    typedef uint2 eight;

    /* f16 has codes / 128, so that weights times scales do not fall below its normal numbers. */
    template <typename T> static __device__ constexpr float unit() { return is_f16<T> ? 128.0f : 1.0f; }

    template <typename T> static __device__ __forceinline__ uint4 numbers(uint2 v);
    static __device__ __forceinline__ uint8_t code(float x) { return (uint8_t)__float2int_rn(x); }
};

struct state_f8 { /* e4m3 */
    static constexpr int BYTES = 1;
    static constexpr bool SCALED = true;
    static constexpr float MOST = 448.0f;
    typedef uint2 eight;

    template <typename T> static __device__ constexpr float unit() { return is_f16<T> ? 256.0f : 1.0f; }

    template <typename T> static __device__ __forceinline__ uint4 numbers(uint2 v);

    /* The nearest, ties to even; |x| <= 448. */
    static __device__ __forceinline__ uint8_t code(float x)
    {
        const uint32_t u = __float_as_uint(fabsf(x)), sign = __float_as_uint(x) >> 24 & 0x80;
        const uint32_t low = (uint32_t)__float2int_rn(fabsf(x) * 512.0f); /* below 2^-6: steps of 2^-9 */
        const uint32_t high = ((u + 0x7ffffu + (u >> 20 & 1)) >> 20) - (120 << 3);
        return (uint8_t)(sign | (fabsf(x) < 0x1p-6f ? low : high));
    }
};

template <> __device__ __forceinline__ uint4 state_i8::numbers<bf16>(uint2 v)
{
    uint4 r;
    byte_numbers<bf16>(v.x, &r.x, &r.y);
    byte_numbers<bf16>(v.y, &r.z, &r.w);
    return r;
}

__device__ __forceinline__ uint32_t fma_f16(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

template <> __device__ __forceinline__ uint4 state_i8::numbers<f16>(uint2 v)
{
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) { /* (1024 + 128 + code) / 128 - 9 */
        const uint32_t u = (i < 2 ? v.x : v.y) ^ 0x80808080u;
        r[i] = fma_f16(__byte_perm(u, 0x64646464u, i % 2 ? 0x4342 : 0x4140), 0x20002000u, 0xc880c880u);
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* Exponent and mantissa move to where the type has them, which divides by a power of two. */
template <> __device__ __forceinline__ uint4 state_f8::numbers<f16>(uint2 v)
{
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t x = __byte_perm(i < 2 ? v.x : v.y, 0, i % 2 ? 0x3424 : 0x1404);
        r[i] = bits_or(x >> 1, 0x3f803f80u, x & 0x80008000u);
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}
template <> __device__ __forceinline__ uint4 state_f8::numbers<bf16>(uint2 v)
{
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t x = __byte_perm(i < 2 ? v.x : v.y, 0, i % 2 ? 0x3424 : 0x1404);
        const uint32_t small = bits_or(x >> 4, 0x07f007f0u, x & 0x80008000u);
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r[i]) : "r"(small), "r"(0x7b807b80u), "r"(0x80008000u)); /* 2^120 */
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* ---- Where things stand ---- */

/* Bytes from a token's keys to the next one's. */
template <typename S> __device__ __forceinline__ uint32_t key_pitch(const cdl_cuda_pages &s)
{
    return S::SCALED ? (s.key_dim + 15) / 16 * 16 : s.key_dim * S::BYTES;
}

/* KV head k of a page: keys, then values transposed, then scales of keys and of values. */
template <typename S> __device__ __forceinline__ uint8_t *page_keys(const cdl_cuda_pages &s, int32_t page, uint32_t k)
{
    const uint32_t head = (key_pitch<S>(s) + s.value_dim * S::BYTES) * PAGE + (S::SCALED ? 2 * PAGE * 4 : 0);
    return (uint8_t *)s.base + (uint64_t)page * s.page_bytes + (size_t)k * head;
}

template <typename S> __device__ __forceinline__ uint32_t values_at(const cdl_cuda_pages &s)
{
    return key_pitch<S>(s) * PAGE;
}

template <typename S> __device__ __forceinline__ uint32_t scales_at(const cdl_cuda_pages &s)
{
    return values_at<S>(s) + s.value_dim * S::BYTES * PAGE;
}

/* Where a token's scale stands among a page's 32: what a lane needs of 8 neighbours is two loads of 16 bytes, each
 * next to the other lanes'. */
__device__ __forceinline__ uint32_t scale_place(uint32_t token)
{
    return token % 8 / 4 * 16 + token / 8 * 4 + token % 4;
}

#endif
