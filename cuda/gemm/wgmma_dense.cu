/* wgmma_dense.cu - prompt rows by wgmma: weights of the activations' own type. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS(bf16, format_dense, bf16)
CDL_WGMMA_KERNELS(f16, format_dense, f16)
