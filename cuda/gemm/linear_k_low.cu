/* linear_k_low.cu - 2, 3 and 4 bits, super-blocks of 256. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS_16(q2_k)
CDL_WEIGHT_KERNELS_16(q3_k)
CDL_WEIGHT_KERNELS_16(iq4_xs)
