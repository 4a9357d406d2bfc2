/* attn_d64_8.cu - head sizes up to 64, state of 8 bits. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d64_i8, 64, state_i8)
CDL_ATTENTION_KERNELS(d64_f8, 64, state_f8)
