/* linear_mixed.cu - a product of generated rows whose weights are of several types: q, k and v of K-quant files.
 *
 * Design:   as decode.cuh and many.cuh; each block looks up the type of its rows. Registers and shared memory are
 *           those of the greediest type, so weights of one type take their own kernel.
 * CPU twin: runtime/cpu/ref/linear.c   Proof: tests/cuda/test_linear.c */
#include "many.cuh"

enum {
#define X(id, ...) TYPE_##id,
#include "../../runtime/format/dtype.def"
#undef X
};

/* N: 0, or tokens / 8 of linear_fwd_many. */
template <typename T, int N> __device__ __forceinline__ void linear_mixed(const cdl_linear_args &a)
{
    const decode::work w = decode::work_of(a, N ? a.pairs * 32 : CDL_CUDA_LINEAR_ROWS, blockIdx.x);
    switch (w.type) {
#define FORMAT(id, format)                                                                                             \
    case TYPE_##id:                                                                                                    \
        if constexpr (N > 0)                                                                                           \
            linear_many_rows<format, T, N>(a, w);                                                                      \
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

#define MIXED(fn, n, threads, blocks, type)                                                                            \
    extern "C" __global__ void __launch_bounds__(threads, blocks)                                                      \
        fn##_kernel_mixed_##type(const __grid_constant__ cdl_linear_args a)                                            \
    {                                                                                                                  \
        linear_mixed<type, n>(a);                                                                                      \
    }
#define MANY(tokens, type)                                                                                             \
    MIXED(linear_fwd_many##tokens, tokens / 8, cdl_linear_many_warps(tokens, 0) * 32, 1, type)

MIXED(linear_fwd_decode, 0, CDL_CUDA_LINEAR_THREADS, 2, bf16)
MIXED(linear_fwd_decode, 0, CDL_CUDA_LINEAR_THREADS, 2, f16)
MANY(8, bf16)
MANY(8, f16)
MANY(16, bf16)
MANY(16, f16)
MANY(32, bf16)
MANY(32, f16)
MANY(64, bf16)
MANY(64, f16)
