/* wgmma_4bit.cu - prompt rows by wgmma: 4-bit codes, groups of 32. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS_16(q4_0)
CDL_WGMMA_KERNELS_16(q4_1)
CDL_WGMMA_KERNELS_16(iq4_nl)
CDL_WGMMA_KERNELS_16(mxfp4)
