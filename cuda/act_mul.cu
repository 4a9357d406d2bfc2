/* act_mul.cu - y = act(gate) * up; gate and up may be halves of one product's rows.
 *
 * Shapes:   gate, up [rows, cols] with one stride, y [rows, cols]. cols % 8 == 0. y may be gate.
 * Numerics: f32 inside, one rounding. Memory-bound.
 * CPU twin: runtime/cpu/ref/act_mul.c   Proof: tests/cuda/test_kernels.c */
#include "common.cuh"

template <typename T> __device__ void act_mul_fwd(const cdl_act_mul_args &a)
{
    const uint32_t i = (blockIdx.x * CDL_CUDA_ROW_THREADS + threadIdx.x) * 8;
    if (i >= a.cols)
        return;
    const size_t at = (size_t)blockIdx.y * a.in_stride + i;
    vec8 gate = load8((const T *)a.gate + at);
    const vec8 up = load8((const T *)a.up + at);
#pragma unroll
    for (int k = 0; k < 8; k++)
        gate.v[k] = activate(a.act, gate.v[k]) * up.v[k];
    store8((T *)a.y + (size_t)blockIdx.y * a.y_stride + i, gate);
}

CDL_KERNEL_16(act_mul_fwd, cdl_act_mul_args, CDL_CUDA_ROW_THREADS)
