/* combine.cu - the splits of attention_fwd_decode added by a launch of their own.
 *
 * Shapes:   partial [rows][heads][splits][value_dim + 2] f32 -> y [T, H * Dv]. A row with one split was written
 *           already.
 * Proof:    tests/cuda/test_attention.c */
#include "decode.cuh"

template <typename T> __device__ void attention_fwd_combine(const cdl_attention_args &a)
{
    using namespace attn_decode;
    const sight s = sight_of(a, a.first_row + blockIdx.x);
    if (s.first / SPLIT != (s.last - 1) / SPLIT)
        combine<T>(a, blockIdx.x, blockIdx.y, 1);
}

CDL_KERNEL_16(attention_fwd_combine, cdl_attention_args, CDL_CUDA_ROW_THREADS)
