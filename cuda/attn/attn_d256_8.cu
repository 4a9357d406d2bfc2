/* attn_d256_8.cu - head sizes up to 256, state of 8 bits. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d256_i8, 256, state_i8)
CDL_ATTENTION_KERNELS(d256_f8, 256, state_f8)
