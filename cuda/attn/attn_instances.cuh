/* attn_instances.cuh - the two attention kernels of one bucket of head sizes and one kind of state, in both types. */
#include "decode.cuh"
#include "prefill.cuh"

#define CDL_ATTENTION_KERNEL(fn, name, bucket, type, state, ...)                                                       \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                          \
        fn##_kernel_##name##_##type(const __grid_constant__ cdl_attention_args a)                                      \
    {                                                                                                                  \
        fn<type, state, bucket>(a);                                                                                    \
    }

#define CDL_DECODE_BOUNDS(bucket) CDL_CUDA_DECODE_THREADS, bucket > 128 ? 2 : 3 /* blocks an SM */
#define CDL_FLASH_BOUNDS(bucket) CDL_CUDA_FLASH_THREADS, bucket > 128 ? 1 : 2

#define CDL_ATTENTION_KERNELS(name, bucket, state)                                                                     \
    CDL_ATTENTION_KERNEL(attention_fwd_decode, name, bucket, bf16, state, CDL_DECODE_BOUNDS(bucket))                   \
    CDL_ATTENTION_KERNEL(attention_fwd_decode, name, bucket, f16, state, CDL_DECODE_BOUNDS(bucket))                    \
    CDL_ATTENTION_KERNEL(attention_fwd_prefill, name, bucket, bf16, state, CDL_FLASH_BOUNDS(bucket))                   \
    CDL_ATTENTION_KERNEL(attention_fwd_prefill, name, bucket, f16, state, CDL_FLASH_BOUNDS(bucket))
