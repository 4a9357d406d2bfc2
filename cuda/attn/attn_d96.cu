/* attn_d96.cu - head sizes up to 96. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d96, 96, state_same)
