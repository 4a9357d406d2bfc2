/* layernorm.cu - y = (x - mean) / sqrt(variance + eps) * (w + offset) + b, one row a block.
 *
 * Shapes:   x, y [rows, dim]; w, b f32 [dim], b may be null. dim % 8 == 0. y may be x.
 * Numerics: mean first, then the squares of differences, as the twin; f32, one rounding.
 * CPU twin: runtime/cpu/ref/layernorm.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

template <typename T> __device__ void layernorm_fwd(const cdl_norm_args &a)
{
    const T *x = (const T *)a.x + (size_t)blockIdx.x * a.x_stride;
    T *y = (T *)a.y + (size_t)blockIdx.x * a.y_stride;
    const uint32_t first = threadIdx.x * 8, step = CDL_CUDA_ROW_THREADS * 8;

    float sum = 0.0f;
    for (uint32_t i = first; i < a.dim; i += step) {
        const vec8 v = load8(x + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            sum += v.v[k];
    }
    const float mean = block_sum<CDL_CUDA_ROW_THREADS>(sum) / a.dim;

    float square = 0.0f;
    for (uint32_t i = first; i < a.dim; i += step) {
        const vec8 v = load8(x + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            square += (v.v[k] - mean) * (v.v[k] - mean);
    }
    const float scale = rsqrtf(block_sum<CDL_CUDA_ROW_THREADS>(square) / a.dim + a.eps);

    for (uint32_t i = first; i < a.dim; i += step) {
        vec8 v = load8(x + i);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v.v[k] = (v.v[k] - mean) * scale * (a.w[i + k] + a.offset) + (a.b ? a.b[i + k] : 0.0f);
        store8(y + i, v);
    }
}

CDL_KERNEL_16(layernorm_fwd, cdl_norm_args, CDL_CUDA_ROW_THREADS)
