/* attn_d96_8.cu - head sizes up to 96, state of 8 bits. */
#include "attn_instances.cuh"

CDL_ATTENTION_KERNELS(d96_i8, 96, state_i8)
CDL_ATTENTION_KERNELS(d96_f8, 96, state_f8)
