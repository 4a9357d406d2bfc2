/* attn_d64.cu - head sizes up to 64. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d64, 64, state_same)
