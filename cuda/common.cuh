/* common.cuh - what the kernels share: 16-bit types, vectors of 8, sums over a block, cp.async, mma. */
#ifndef CDL_COMMON_CUH
#define CDL_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels.h"

typedef __nv_bfloat16 bf16;
typedef __half f16;

/* ---- Early launches: begun before the one in front has ended (programmatic dependent launch, from Hopper on) ---- */

/* Behind this line what that one wrote may be read, and anything written. All threads of all kernels pass it. */
__device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next launch may begin, once all blocks came here: its blocks take what room the multiprocessors have left. */
__device__ __forceinline__ void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* The first line of a kernel that has nothing to do before. */
__device__ __forceinline__ void after_previous()
{
    let_next_begin();
    wait_for_previous();
}

/* One extern "C" kernel for each type of activations. */
#define CDL_KERNEL_16(fn, args, threads)                                                                               \
    extern "C" __global__ void __launch_bounds__(threads) fn##_kernel_bf16(const __grid_constant__ args a)             \
    {                                                                                                                  \
        after_previous();                                                                                              \
        fn<bf16>(a);                                                                                                   \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(threads) fn##_kernel_f16(const __grid_constant__ args a)              \
    {                                                                                                                  \
        after_previous();                                                                                              \
        fn<f16>(a);                                                                                                    \
    }

/* ---- Elements ---- */

__device__ __forceinline__ float to_f32(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_f32(f16 v) { return __half2float(v); }

template <typename T> __device__ __forceinline__ T from_f32(float v);
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float v) { return __float2bfloat16_rn(v); }
template <> __device__ __forceinline__ f16 from_f32<f16>(float v) { return __float2half_rn(v); }

template <typename T> constexpr bool is_f16 = false;
template <> constexpr bool is_f16<f16> = true;

/* Two values as one register, the first in the low half. */
template <typename T> __device__ __forceinline__ uint32_t pack2(float lo, float hi);
template <> __device__ __forceinline__ uint32_t pack2<bf16>(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
template <> __device__ __forceinline__ uint32_t pack2<f16>(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

template <typename T> __device__ __forceinline__ float2 unpack2(uint32_t v);
template <> __device__ __forceinline__ float2 unpack2<bf16>(uint32_t v)
{
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack2<f16>(uint32_t v)
{
    return make_float2(__half2float(__ushort_as_half((unsigned short)v)),
        __half2float(__ushort_as_half((unsigned short)(v >> 16))));
}

/* 8 elements of 16 bits as f32. */
struct vec8 {
    float v[8];
};

template <typename T> __device__ __forceinline__ vec8 load8(const T *p)
{
    const uint4 u = *(const uint4 *)p;
    const uint32_t w[4] = { u.x, u.y, u.z, u.w };
    vec8 r;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 f = unpack2<T>(w[i]);
        r.v[2 * i] = f.x;
        r.v[2 * i + 1] = f.y;
    }
    return r;
}

template <typename T> __device__ __forceinline__ void store8(T *p, const vec8 &x)
{
    *(uint4 *)p = make_uint4(pack2<T>(x.v[0], x.v[1]), pack2<T>(x.v[2], x.v[3]), pack2<T>(x.v[4], x.v[5]),
        pack2<T>(x.v[6], x.v[7]));
}

/* ---- Sums ---- */

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int i = 16; i; i >>= 1)
        v += __shfl_xor_sync(~0u, v, i);
    return v;
}

/* Over all threads of the block, each of which gets the result. May be called again at once. */
template <int THREADS> __device__ __forceinline__ float block_sum(float v)
{
    __shared__ float part[THREADS / 32];
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++)
        sum += part[i];
    return sum;
}

/* ---- Activations ---- */

__device__ __forceinline__ float tanh_f32(float x)
{
    const float e = __expf(-2.0f * fabsf(x));
    const float x2 = x * x;
    /* close to 0 the quotient cancels */
    const float t = fabsf(x) < 0.1f ? fabsf(x) * (1.0f + x2 * (-1.0f / 3 + x2 * (2.0f / 15 - x2 * (17.0f / 315))))
                                    : (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -t : t;
}

__device__ __forceinline__ float activate(uint32_t act, float x)
{
    switch (act) {
    case CDL_CUDA_ACT_SILU:
        return x / (1.0f + __expf(-x));
    case CDL_CUDA_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case CDL_CUDA_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanh_f32(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case CDL_CUDA_ACT_RELU:
        return fmaxf(x, 0.0f);
    default:
        return x;
    }
}

/* ---- Copies that do not wait ---- */

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes from global to shared memory; zeros when not wanted (src must be an address all the same). */
__device__ __forceinline__ void copy_async(void *shared, const void *src, bool wanted = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(src),
        "r"(wanted ? 16 : 0) : "memory");
}

__device__ __forceinline__ void copy_async(uint32_t shared, const void *src, bool wanted = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(src), "r"(wanted ? 16 : 0)
        : "memory");
}

/* BYTES (a multiple of 16) by the lanes of a warp; both addresses with the lane's 16 bytes added already. */
template <int BYTES, int AT = 0>
__device__ __forceinline__ void copy_async_warp(uint32_t shared, const uint8_t *src)
{
    if constexpr (AT < BYTES) {
        if (AT + 512 <= BYTES || threadIdx.x % 32 < (BYTES - AT) / 16)
            asm volatile("cp.async.cg.shared.global [%0 + %2], [%1 + %2], 16;" ::"r"(shared), "l"(src), "n"(AT)
                : "memory");
        copy_async_warp<BYTES, AT + 512>(shared, src);
    }
}

__device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N groups of this thread are under way. */
template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- mma: c [16, 8] += a [16, 16] * b [16, 8] ---- */

template <typename T> __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
    uint32_t b1);
template <typename T> __device__ __forceinline__ void mma_first(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
    uint32_t b1); /* c = */

#define CDL_MMA(type, name)                                                                                            \
    template <> __device__ __forceinline__ void mma<type>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,          \
        uint32_t b1)                                                                                                   \
    {                                                                                                                  \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                                    \
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                           \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \
    }                                                                                                                  \
    template <> __device__ __forceinline__ void mma_first<type>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,    \
        uint32_t b1)                                                                                                   \
    {                                                                                                                  \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                                    \
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"                                       \
                     : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));                       \
    }
CDL_MMA(bf16, "bf16")
CDL_MMA(f16, "f16")
#undef CDL_MMA

#endif
