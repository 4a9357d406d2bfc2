/* linear_8bit.cu - 5- and 8-bit codes, groups of 32. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS_16(q5_0)
CDL_WEIGHT_KERNELS_16(q5_1)
CDL_WEIGHT_KERNELS_16(q8_0)
