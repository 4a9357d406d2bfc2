/* attn_d256.cu - head sizes up to 256. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d256, 256, state_same)
