/* attn_d128_8.cu - head sizes up to 128, state of 8 bits. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d128_i8, 128, state_i8)
CDL_ATTENTION_KERNELS(d128_f8, 128, state_f8)
