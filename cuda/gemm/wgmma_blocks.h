/* wgmma_blocks.h - the blocks of linear_fwd_prefill_<name>_sm90 (prefill_wgmma.cuh), for the host's C and for CUDA. */
#ifndef CDL_WGMMA_BLOCKS_H
#define CDL_WGMMA_BLOCKS_H

#include "../kernels.h"

#ifdef __CUDACC__
#define CDL_WGMMA_TABLE static constexpr
#else
#define CDL_WGMMA_TABLE static const
#endif

/* From large to small: weight rows and tokens; how many a multiprocessor has at once, of packed and of dense weights.
 * Twice as many threads as rows. alone, each: ns of a step of 64 columns on an H100, of a block and of one of many. */
typedef struct {
    uint32_t rows, tokens, packed, dense, alone, each;
} cdl_wgmma_block;

enum { CDL_WGMMA_WIDE, CDL_WGMMA_MIDDLE, CDL_WGMMA_NARROW, CDL_WGMMA_SMALL, CDL_WGMMA_BLOCKS };

CDL_WGMMA_TABLE cdl_wgmma_block cdl_wgmma_block_of[CDL_WGMMA_BLOCKS] = {
    { 128, 256, 1, 1, 830, 830 }, { 128, 128, 2, 1, 520, 520 },
    { 64, 128, 2, 2, 390, 310 }, { 64, 64, 2, 2, 335, 225 } };

/* Steps of 64 columns in flight: as many as there is room for, at most 6. step_bytes: of 16 weight rows. */
CDL_CUDA_BOTH uint32_t cdl_wgmma_slots(uint32_t kind, uint32_t step_bytes, uint32_t dense)
{
    const cdl_wgmma_block b = cdl_wgmma_block_of[kind];
    uint32_t room = (228u << 10) / (dense ? b.dense : b.packed) - 2048;
    uint32_t n = room / (b.tokens * 128 + b.rows / 16 * step_bytes);
    return n < 6 ? n : 6;
}

/* Dynamic shared memory: the slots, from a multiple of 1024 on. */
CDL_CUDA_BOTH uint32_t cdl_wgmma_shared(uint32_t kind, uint32_t step_bytes, uint32_t dense)
{
    const cdl_wgmma_block b = cdl_wgmma_block_of[kind];
    return 1024 + cdl_wgmma_slots(kind, step_bytes, dense) * (b.tokens * 128 + b.rows / 16 * step_bytes);
}

#endif
