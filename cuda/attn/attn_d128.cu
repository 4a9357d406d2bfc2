/* attn_d128.cu - head sizes up to 128. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d128, 128, state_same)
