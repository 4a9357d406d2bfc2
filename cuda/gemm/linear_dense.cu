/* linear_dense.cu - weights of the activations' own type. */
#include "linear.cuh"

CDL_WEIGHT_KERNELS(bf16, format_dense, bf16)
CDL_WEIGHT_KERNELS(f16, format_dense, f16)
