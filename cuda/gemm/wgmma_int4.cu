/* wgmma_int4.cu - prompt rows by wgmma: 4-bit codes with a scale and a zero a group of 32, 64 or 128: GPTQ, AWQ. */
#include "prefill_wgmma.cuh"

CDL_WGMMA_KERNELS_16(i4_g32)
CDL_WGMMA_KERNELS_16(i4_g64)
CDL_WGMMA_KERNELS_16(i4_g128)
