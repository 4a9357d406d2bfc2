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

template <typename T> __device__ __forceinline__ void linear_fwd_decode_mixed(const cdl_linear_args &a)
{
    constexpr int BYTES = sizeof(decode::rings<format_q6_k>); /* the largest */
    __shared__ __align__(16) uint8_t ring[BYTES];
    __shared__ decode::sums sum;
    const decode::work w = decode::work_of(a);
    switch (w.type) {
#define FORMAT(id, format)                                                                                             \
    case TYPE_##id:                                                                                                    \
        static_assert(sizeof(decode::rings<format>) <= BYTES, "larger than the largest");                              \
        linear_decode_rows<format, T>(a, w, *(decode::rings<format> *)ring, sum);                                      \
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

extern "C" __global__ void __launch_bounds__(CDL_CUDA_DECODE_THREADS)
    linear_fwd_decode_kernel_mixed_bf16(const __grid_constant__ cdl_linear_args a)
{
    linear_fwd_decode_mixed<bf16>(a);
}

extern "C" __global__ void __launch_bounds__(CDL_CUDA_DECODE_THREADS)
    linear_fwd_decode_kernel_mixed_f16(const __grid_constant__ cdl_linear_args a)
{
    linear_fwd_decode_mixed<f16>(a);
}
