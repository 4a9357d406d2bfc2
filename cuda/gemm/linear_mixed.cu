/* linear_mixed.cu - a product of generated rows whose weights are of several types: q, k and v of K-quant files.
 *
 * Design:   as decode.cuh; each block looks up the type of its 16 rows. Registers and shared memory are those of the
 *           greediest type, so weights of one type take their own kernel.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#include "decode.cuh"

enum {
#define X(id, ...) TYPE_##id,
#include "../../runtime/format/dtype.def"
#undef X
};

template <typename T, bool MANY> __device__ __forceinline__ void linear_mixed(const cdl_linear_args &a)
{
    const decode::work w = decode::work_of(a);
    switch (w.type) {
#define FORMAT(id, format)                                                                                             \
    case TYPE_##id:                                                                                                    \
        if (MANY)                                                                                                      \
            linear_many_rows<format, T, decode::WARPS>(a, w);                                                          \
        else                                                                                                           \
            linear_few_rows<format, T, 1, decode::WARPS>(a, w);                                                        \
        break;
    case TYPE_BF16: /* dense weights have the activations' type */
        FORMAT(F16, format_dense)
        FORMAT(Q4_0, format_q4_0)
        FORMAT(Q4_1, format_q4_1)
        FORMAT(Q5_0, format_q5_0)
        FORMAT(Q5_1, format_q5_1)
        FORMAT(Q8_0, format_q8_0)
        FORMAT(IQ4_NL, format_iq4_nl)
        FORMAT(MXFP4, format_mxfp4)
        FORMAT(Q2_K, format_q2_k)
        FORMAT(Q3_K, format_q3_k)
        FORMAT(Q4_K, format_q4_k)
        FORMAT(Q5_K, format_q5_k)
        FORMAT(Q6_K, format_q6_k)
        FORMAT(IQ4_XS, format_iq4_xs)
        FORMAT(I4_G32, format_i4_g32)
        FORMAT(I4_G64, format_i4_g64)
        FORMAT(I4_G128, format_i4_g128)
#undef FORMAT
    }
}

#define MIXED(fn, many, type)                                                                                          \
    extern "C" __global__ void __launch_bounds__(CDL_CUDA_LINEAR_THREADS, 2)                                           \
        fn##_kernel_mixed_##type(const __grid_constant__ cdl_linear_args a)                                            \
    {                                                                                                                  \
        linear_mixed<type, many>(a);                                                                                   \
    }
MIXED(linear_fwd_decode, false, bf16)
MIXED(linear_fwd_decode, false, f16)
MIXED(linear_fwd_many, true, bf16)
MIXED(linear_fwd_many, true, f16)
