/* attn_d192_8.cu - head sizes up to 192, state of 8 bits. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d192_i8, 192, state_i8)
CDL_ATTENTION_KERNELS(d192_f8, 192, state_f8)
