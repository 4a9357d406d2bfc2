/* numbers.cuh - small integers and 8-bit floats as exact 16-bit numbers, by bits. */
#ifndef CDL_NUMBERS_CUH
#define CDL_NUMBERS_CUH

#include "common.cuh"

/* (v & mask) | base, in one instruction. */
__device__ __forceinline__ uint32_t bits_or(uint32_t v, uint32_t mask, uint32_t base)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(v), "r"(mask), "r"(base));
    return r;
}

__device__ __forceinline__ uint32_t shifted(uint32_t v, int right)
{
    return right >= 0 ? v >> right : v << -right;
}

__device__ __forceinline__ uint32_t add_bf16(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return r;
}

__device__ __forceinline__ uint32_t sub_f16(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

/* Four signed bytes as 16-bit numbers: lo has the first two. */
template <typename T> __device__ __forceinline__ void byte_numbers(uint32_t bytes, uint32_t *lo, uint32_t *hi);
template <> __device__ __forceinline__ void byte_numbers<f16>(uint32_t bytes, uint32_t *lo, uint32_t *hi)
{
    const uint32_t u = bytes ^ 0x80808080u; /* 1024 + 128 + code */
    *lo = sub_f16(__byte_perm(u, 0x64646464u, 0x4140), 0x64806480u);
    *hi = sub_f16(__byte_perm(u, 0x64646464u, 0x4342), 0x64806480u);
}
__device__ __forceinline__ uint32_t two_bytes_bf16(uint32_t spread) /* 128 + 7 bits, less 128 or, if negative, 256 */
{
    return add_bf16(bits_or(spread, 0x007f007fu, 0x43004300u), bits_or(spread, 0x00800080u, 0xc300c300u));
}
template <> __device__ __forceinline__ void byte_numbers<bf16>(uint32_t bytes, uint32_t *lo, uint32_t *hi)
{
    *lo = two_bytes_bf16(__byte_perm(bytes, 0, 0x4140));
    *hi = two_bytes_bf16(__byte_perm(bytes, 0, 0x4342));
}

#endif
