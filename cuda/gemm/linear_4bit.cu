/* linear_4bit.cu - 4-bit codes, groups of 32. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS_16(q4_0)
CDL_WEIGHT_KERNELS_16(q4_1)
CDL_WEIGHT_KERNELS_16(iq4_nl)
CDL_WEIGHT_KERNELS_16(mxfp4)
