/* attn_instances.cuh - the two attention kernels of one bucket of head sizes, in both types. */
#include "decode.cuh"
#include "prefill.cuh"

#define CDL_ATTENTION_KERNEL(fn, bucket, type, ...)                                                                    \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                          \
        fn##_kernel_d##bucket##_##type(const __grid_constant__ cdl_attention_args a)                                   \
    {                                                                                                                  \
        fn<type, bucket>(a);                                                                                           \
    }

#define CDL_ATTENTION_KERNELS(bucket)                                                                                  \
    CDL_ATTENTION_KERNEL(attention_fwd_decode, bucket, bf16, CDL_CUDA_DECODE_THREADS)                                  \
    CDL_ATTENTION_KERNEL(attention_fwd_decode, bucket, f16, CDL_CUDA_DECODE_THREADS)                                   \
    CDL_ATTENTION_KERNEL(attention_fwd_prefill, bucket, bf16, CDL_CUDA_FLASH_THREADS, 1)                               \
    CDL_ATTENTION_KERNEL(attention_fwd_prefill, bucket, f16, CDL_CUDA_FLASH_THREADS, 1)
