/* rmsnorm.cu - y = x / sqrt(mean(x * x) + eps) * (w + offset), over each dim elements; also of x + residual, and of
 *              residual + norm(x).
 *
 * Shapes:   x, y [rows, heads * dim]; w f32 [dim]. dim % 8 == 0. y may be x.
 * Numerics: sums and products in f32, one rounding at the end (two with residual: the sum is stored rounded).
 * Design:   one block a norm, 16-byte loads; x is read twice, the second time from cache.
 * CPU twin: runtime/cpu/ref/rmsnorm.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

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

/* sum = residual + norm(x), y = the next norm of sum: as three launches would, rounding by rounding. */
template <typename T>
__device__ void norm_add_norm(const cdl_norm_args &a, const T *x, const T *residual, T *total, T *y)
{
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x * 8; i < a.dim; i += CDL_CUDA_ROW_THREADS * 8) {
        const vec8 v = load8(x + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            sum += v.v[k] * v.v[k];
    }
    float scale = rsqrtf(block_sum<CDL_CUDA_ROW_THREADS>(sum) / a.dim + a.eps);

    sum = 0.0f;
    for (uint32_t i = threadIdx.x * 8; i < a.dim; i += CDL_CUDA_ROW_THREADS * 8) {
        vec8 v = load8(x + i);
        const vec8 r = load8(residual + i);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const float normed = to_f32(from_f32<T>(v.v[k] * scale * (a.w[i + k] + a.offset)));
            v.v[k] = to_f32(from_f32<T>(r.v[k] + normed));
            sum += v.v[k] * v.v[k];
        }
        store8(total + i, v);
    }
    scale = rsqrtf(block_sum<CDL_CUDA_ROW_THREADS>(sum) / a.dim + a.eps);

    for (uint32_t i = threadIdx.x * 8; i < a.dim; i += CDL_CUDA_ROW_THREADS * 8) {
        vec8 v = load8(total + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v.v[k] = v.v[k] * scale * (a.next[i + k] + a.offset);
        store8(y + i, v);
    }
}

template <typename T> __device__ void rmsnorm_fwd(const cdl_norm_args &a)
{
    const uint32_t row = blockIdx.x / a.heads, head = blockIdx.x % a.heads;
    const size_t at = (size_t)row * a.x_stride + head * a.dim;
    const T *x = (const T *)a.x + at, *residual = a.residual ? (const T *)a.residual + at : nullptr;
    T *y = (T *)a.y + (size_t)row * a.y_stride + head * a.dim, *total = a.sum ? (T *)a.sum + at : nullptr;
    if (a.next) {
        norm_add_norm(a, x, residual, total, y);
        return;
    }

    float sum = 0.0f;
    for (uint32_t i = threadIdx.x * 8; i < a.dim; i += CDL_CUDA_ROW_THREADS * 8) {
        const vec8 v = normed(x, residual, i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            sum += v.v[k] * v.v[k];
    }
    const float scale = rsqrtf(block_sum<CDL_CUDA_ROW_THREADS>(sum) / a.dim + a.eps);

    for (uint32_t i = threadIdx.x * 8; i < a.dim; i += CDL_CUDA_ROW_THREADS * 8) {
        vec8 v = normed(x, residual, i);
        if (total)
            store8(total + i, v);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v.v[k] = v.v[k] * scale * (a.w[i + k] + a.offset);
        store8(y + i, v);
    }
}

CDL_KERNEL_16(rmsnorm_fwd, cdl_norm_args, CDL_CUDA_ROW_THREADS)
