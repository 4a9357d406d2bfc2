/* attn_d192.cu - head sizes up to 192. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d192, 192, state_same)
