/* wgmma_k_high.cu - prompt rows by wgmma: 4, 5 and 6 bits, super-blocks of 256. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS_16(q4_k)
CDL_WGMMA_KERNELS_16(q5_k)
CDL_WGMMA_KERNELS_16(q6_k)
