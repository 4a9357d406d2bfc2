/* gather.cu - y[i] = x[rows[i]]: the rows whose logits are wanted.
 *
 * Shapes:   x [T, cols], rows i32 [R], y [R, cols]. cols % 8 == 0. Bits are copied.
 * CPU twin: runtime/cpu/ref/gather.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(CDL_CUDA_ROW_THREADS)
    gather_fwd_kernel_16(const __grid_constant__ cdl_gather_args a)
{
    after_previous();
    const auto &m = a.of[blockIdx.y];
    const uint16_t *x = (const uint16_t *)m.x + (size_t)a.rows[blockIdx.x] * m.x_stride;
    uint16_t *y = (uint16_t *)m.y + (size_t)blockIdx.x * m.y_stride;
    for (uint32_t i = threadIdx.x * 8; i < m.cols; i += CDL_CUDA_ROW_THREADS * 8)
        *(uint4 *)(y + i) = *(const uint4 *)(x + i);
}
