/* linear_int4.cu - 4-bit codes with a scale and a zero a group of 32, 64 or 128: GPTQ, AWQ. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS_16(i4_g32)
CDL_WEIGHT_KERNELS_16(i4_g64)
CDL_WEIGHT_KERNELS_16(i4_g128)
