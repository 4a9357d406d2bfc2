/* linear_k_high.cu - 4, 5 and 6 bits, super-blocks of 256. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS_16(q4_k)
CDL_WEIGHT_KERNELS_16(q5_k)
CDL_WEIGHT_KERNELS_16(q6_k)
