/* peak.cu - the limits of a GPU for `cuddle profile`: reading memory, and products of 16-bit tiles.
 *
 * read:     all blocks stride over n pieces of 16 bytes, 4 under way in a thread; memory-bound.
 * mma:      PEAK_CHAINS independent sums a warp, no memory at all; bound by the tensor cores.
 * The results go to out only if they have a value that zeros never give: the loops must not be dropped.
 * Host:     tools/profile_machine.c     Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(CDL_CUDA_ROW_THREADS) peak_fwd_read_kernel(
    const __grid_constant__ cdl_peak_args a)
{
    after_previous();
    const uint4 *x = (const uint4 *)a.data;
    const uint64_t step = (uint64_t)gridDim.x * CDL_CUDA_ROW_THREADS;
    uint32_t sum = 0;
    uint64_t i = (uint64_t)blockIdx.x * CDL_CUDA_ROW_THREADS + threadIdx.x;
    for (; i + 3 * step < a.n; i += 4 * step) {
        const uint4 v[4] = {x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]};
#pragma unroll
        for (int k = 0; k < 4; k++)
            sum |= v[k].x | v[k].y | v[k].z | v[k].w;
    }
    for (; i < a.n; i += step)
        sum |= x[i].x | x[i].y | x[i].z | x[i].w;
    if (sum)
        *(uint32_t *)a.out = sum;
}

extern "C" __global__ void __launch_bounds__(CDL_CUDA_ROW_THREADS) peak_fwd_mma_kernel(
    const __grid_constant__ cdl_peak_args a)
{
    after_previous();
    float c[CDL_CUDA_PEAK_CHAINS][4] = {};
    uint32_t x[4] = {threadIdx.x & 0, 0, 0, 0};
    for (uint32_t i = 0; i < a.loops; i++)
#pragma unroll
        for (int k = 0; k < CDL_CUDA_PEAK_CHAINS; k++)
            mma<bf16>(c[k], x, x[0], x[1]);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < CDL_CUDA_PEAK_CHAINS; k++)
        sum += c[k][0] + c[k][1] + c[k][2] + c[k][3];
    if (sum != 0)
        *(float *)a.out = sum;
}
