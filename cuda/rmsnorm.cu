/* rmsnorm.cu - y = x / sqrt(mean(x * x) + eps) * (w + offset), over each dim elements; also of x + residual, and of
 *              residual + norm(x).
 *
 * Shapes:   x, y [rows, heads * dim]; w f32 [dim]. dim % 8 == 0. y may be x.
 * Numerics: sums and products in f32, one rounding at the end (two with residual: the sum is stored rounded).
 * Design:   one block a norm, 16-byte loads. A thread keeps what it has of x, and has w before the launch in front has
 *           ended, so that memory is waited for once; what is over HELD * 2048 elements of a row is read again, from
 *           cache.
 * CPU twin: runtime/cpu/ref/rmsnorm.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

enum { THREADS = CDL_CUDA_ROW_THREADS, STEP = THREADS * 8, HELD = 2 };

/* Element i .. i + 7 of what is normed. Rounded as it is stored, so that both passes see the same. */
template <typename T> __device__ __forceinline__ vec8 normed(const T *x, const T *residual, uint32_t i)
{
    vec8 v = load8(x + i);
    if (residual) {
        const vec8 r = load8(residual + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v.v[k] = to_f32(from_f32<T>(v.v[k] + r.v[k]));
    }
    return v;
}

__device__ __forceinline__ float square_sum(const vec8 &v)
{
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += v.v[k] * v.v[k];
    return sum;
}

__device__ __forceinline__ vec8 load_f32(const float *w)
{
    const float4 a = *(const float4 *)w, b = *(const float4 *)(w + 4);
    return { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w };
}

__device__ __forceinline__ vec8 scaled(const vec8 &v, float scale, const vec8 &w, float offset)
{
    vec8 r;
#pragma unroll
    for (int k = 0; k < 8; k++)
        r.v[k] = v.v[k] * scale * (w.v[k] + offset);
    return r;
}

/* rsqrt of the mean of all threads' squares. */
__device__ __forceinline__ float scale_of(const cdl_norm_args &a, float sum, float *part)
{
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++)
        sum += part[i];
    return rsqrtf(sum / a.dim + a.eps);
}

/* sum = residual + norm(x), y = the next norm of sum: as three launches would, rounding by rounding. */
template <typename T>
__device__ void norm_add_norm(const cdl_norm_args &a, const T *x, const T *residual, T *total, T *y)
{
    __shared__ float part[2][THREADS / 32];
    wait_for_previous();
    const uint32_t first = threadIdx.x * 8;
    float sum = 0.0f;
    for (uint32_t i = first; i < a.dim; i += STEP)
        sum += square_sum(load8(x + i));
    float scale = scale_of(a, sum, part[0]);

    sum = 0.0f;
    for (uint32_t i = first; i < a.dim; i += STEP) {
        vec8 v = scaled(load8(x + i), scale, load_f32(a.w + i), a.offset);
        const vec8 r = load8(residual + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v.v[k] = to_f32(from_f32<T>(r.v[k] + to_f32(from_f32<T>(v.v[k]))));
        sum += square_sum(v);
        store8(total + i, v);
    }
    scale = scale_of(a, sum, part[1]);

    for (uint32_t i = first; i < a.dim; i += STEP)
        store8(y + i, scaled(load8(total + i), scale, load_f32(a.next + i), a.offset));
}

template <typename T>
__device__ __forceinline__ void norm(const cdl_norm_args &a, const T *x, const T *residual, T *total, T *y)
{
    __shared__ float part[THREADS / 32];
    const uint32_t first = threadIdx.x * 8;
    vec8 v[HELD], w[HELD];
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < HELD; n++)
        if (first + n * STEP < a.dim)
            w[n] = load_f32(a.w + first + n * STEP);
    wait_for_previous();
#pragma unroll
    for (int n = 0; n < HELD; n++)
        if (first + n * STEP < a.dim)
            v[n] = normed(x, residual, first + n * STEP);
#pragma unroll
    for (int n = 0; n < HELD; n++)
        if (first + n * STEP < a.dim)
            sum += square_sum(v[n]);
    for (uint32_t i = first + HELD * STEP; i < a.dim; i += STEP)
        sum += square_sum(normed(x, residual, i));
    const float scale = scale_of(a, sum, part);

#pragma unroll
    for (int n = 0; n < HELD; n++) {
        const uint32_t i = first + n * STEP;
        if (i < a.dim) {
            if (total)
                store8(total + i, v[n]);
            store8(y + i, scaled(v[n], scale, w[n], a.offset));
        }
    }
    for (uint32_t i = first + HELD * STEP; i < a.dim; i += STEP) {
        const vec8 u = normed(x, residual, i);
        if (total)
            store8(total + i, u);
        store8(y + i, scaled(u, scale, load_f32(a.w + i), a.offset));
    }
}

template <typename T> __device__ void rmsnorm_fwd(const cdl_norm_args &a)
{
    let_next_begin();
    const uint32_t row = blockIdx.x / a.heads, head = blockIdx.x % a.heads;
    const size_t at = (size_t)row * a.x_stride + head * a.dim;
    const T *x = (const T *)a.x + at, *residual = a.residual ? (const T *)a.residual + at : nullptr;
    T *y = (T *)a.y + (size_t)row * a.y_stride + head * a.dim, *total = a.sum ? (T *)a.sum + at : nullptr;
    if (a.next)
        norm_add_norm(a, x, residual, total, y);
    else
        norm(a, x, residual, total, y);
}

extern "C" __global__ void __launch_bounds__(THREADS) rmsnorm_fwd_kernel_bf16(const __grid_constant__ cdl_norm_args a)
{
    rmsnorm_fwd<bf16>(a);
}

extern "C" __global__ void __launch_bounds__(THREADS) rmsnorm_fwd_kernel_f16(const __grid_constant__ cdl_norm_args a)
{
    rmsnorm_fwd<f16>(a);
}
