/* scale.cu - y = x * factor.
 *
 * Shapes:   any, dense, n % 8 == 0 elements; y may be an input. Memory-bound.
 * Numerics: f32 inside, one rounding.
 * CPU twin: runtime/cpu/ref/scale.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

template <typename T> __device__ void scale_fwd(const cdl_map_args &a)
{
    const uint64_t i = ((uint64_t)blockIdx.x * CDL_CUDA_ROW_THREADS + threadIdx.x) * 8;
    if (i >= a.n)
        return;
    vec8 x = load8((const T *)a.x + i);
#pragma unroll
    for (int k = 0; k < 8; k++)
        x.v[k] *= a.factor;
    store8((T *)a.y + i, x);
}

CDL_KERNEL_16(scale_fwd, cdl_map_args, CDL_CUDA_ROW_THREADS)
