/* linear_finish.cu - what stands behind the sums of a product that cuBLASLt made (--fast): bias, act, soft cap.
 *
 * Shapes:   y [tokens, rows] holds the sums; the rest as of a product (cdl_linear_args), no up, no segments.
 *           grid: (ceil(rows / ROW_THREADS), tokens).
 * Numerics: the sums were rounded to y's type once before.
 * Design:   one element a thread; memory-bound.
 * Proof:    tests/cuda/test_linear.c */
#include "decode.cuh"

template <typename T> __device__ __forceinline__ void linear_fwd_finish(const cdl_linear_args &a)
{
    const uint32_t row = blockIdx.x * CDL_CUDA_ROW_THREADS + threadIdx.x, token = blockIdx.y;
    const size_t at = (size_t)token * a.y_stride + row;
    if (row < a.rows)
        linear_store<T>(a, token, row, a.y_f32 ? ((const float *)a.y)[at] : to_f32(((const T *)a.y)[at]), 0.0f);
}

CDL_KERNEL_16(linear_fwd_finish, cdl_linear_args, CDL_CUDA_ROW_THREADS)
