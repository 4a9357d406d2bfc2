/* wgmma_k_low.cu - prompt rows by wgmma: 2, 3 and 4 bits, super-blocks of 256. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS_16(q2_k)
CDL_WGMMA_KERNELS_16(q3_k)
CDL_WGMMA_KERNELS_16(iq4_xs)
