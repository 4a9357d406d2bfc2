/* linear.cuh - the kernels that read one type of packed weights: products of generated rows, of prompt rows,
 * embedding. */
#ifndef CDL_LINEAR_CUH
#define CDL_LINEAR_CUH

#include "../embed.cuh"
#include "many.cuh"
#include "prefill.cuh"

/* blocks: that a multiprocessor must hold; without it ptxas guesses from the shared memory, and spills q2_k. */
#define CDL_WEIGHT_KERNEL(fn, weight, format, type, args, threads, blocks)                                             \
    extern "C" __global__ void __launch_bounds__(threads, blocks)                                                      \
        fn##_kernel_##weight##_##type(const __grid_constant__ args a)                                                  \
    {                                                                                                                  \
        fn<format, type>(a);                                                                                           \
    }

#define CDL_MANY_KERNEL(tokens, weight, format, type)                                                                  \
    extern "C" __global__ void __launch_bounds__(cdl_linear_many_warps(tokens, format::COLUMNS) * 32, 1)               \
        linear_fwd_many##tokens##_kernel_##weight##_##type(const __grid_constant__ cdl_linear_args a)                  \
    {                                                                                                                  \
        linear_fwd_many<format, type, tokens / 8>(a);                                                                  \
    }

#define CDL_WEIGHT_KERNELS(weight, format, type)                                                                       \
    CDL_WEIGHT_KERNEL(linear_fwd_decode, weight, format, type, cdl_linear_args, CDL_CUDA_LINEAR_THREADS, 2)            \
    CDL_MANY_KERNEL(8, weight, format, type)                                                                           \
    CDL_MANY_KERNEL(16, weight, format, type)                                                                          \
    CDL_MANY_KERNEL(32, weight, format, type)                                                                          \
    CDL_MANY_KERNEL(64, weight, format, type)                                                                          \
    CDL_WEIGHT_KERNEL(linear_fwd_prefill, weight, format, type, cdl_linear_args, CDL_CUDA_PREFILL_THREADS, 1)          \
    CDL_WEIGHT_KERNEL(linear_fwd_prefill_small, weight, format, type, cdl_linear_args,                                 \
        CDL_CUDA_PREFILL_SMALL_THREADS, 3)                                                                             \
    CDL_WEIGHT_KERNEL(embed_fwd, weight, format, type, cdl_embed_args, CDL_CUDA_ROW_THREADS, 1)

#define CDL_WEIGHT_KERNELS_16(weight)                                                                                  \
    CDL_WEIGHT_KERNELS(weight, format_##weight, bf16)                                                                  \
    CDL_WEIGHT_KERNELS(weight, format_##weight, f16)

#endif
