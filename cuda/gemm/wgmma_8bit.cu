/* wgmma_8bit.cu - prompt rows by wgmma: 5- and 8-bit codes, groups of 32. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS_16(q5_0)
CDL_WGMMA_KERNELS_16(q5_1)
CDL_WGMMA_KERNELS_16(q8_0)
