/* add.cu - y = x + z.
 *
 * Shapes:   any, dense, n % 8 == 0 elements; y may be an input. Memory-bound.
 * Numerics: f32 inside, one rounding.
 * CPU twin: runtime/cpu/ref/add.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

template <typename T> __device__ void add_fwd(const cdl_map_args &a)
{
    const uint64_t i = ((uint64_t)blockIdx.x * CDL_CUDA_ROW_THREADS + threadIdx.x) * 8;
    if (i >= a.n)
        return;
    vec8 x = load8((const T *)a.x + i);
    const vec8 z = load8((const T *)a.z + i);
#pragma unroll
    for (int k = 0; k < 8; k++)
        x.v[k] += z.v[k];
    store8((T *)a.y + i, x);
}

CDL_KERNEL_16(add_fwd, cdl_map_args, CDL_CUDA_ROW_THREADS)
