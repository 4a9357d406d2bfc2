/* repack.h - weights in the order that the CUDA kernels read them, and back.
 *
 * The layout is that of cuda/gemm/README.md: dense rows as they are, others in tiles of 16 rows x 64, 128 or 256
 * columns, shuffled into mma fragments. Lossless: every weight can be read back exactly (cdl_repack_row).
 * Host memory only; upload the result as it is. Tests: tests/unit/test_repack.c
 */
#ifndef CDL_REPACK_H
#define CDL_REPACK_H

#include "format/dtype.h"

/* Bytes of the packed form of [rows, cols]. t: F16, BF16 (for kernels of that type of activations) or a block type.
 * Errors: UNSUPPORTED with the type's name, or when cols is no whole number of blocks; ARG when it overflows. */
CUDDLE_CHECK cuddle_status cdl_repack_bytes(size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols);

/* Bytes of a tile that 64 columns of 16 rows need: what a stage of linear_fwd_prefill holds 8 of (cuda/kernels.h). 0
 * for a type that cdl_repack_bytes refuses. */
size_t cdl_repack_step_bytes(cdl_dtype t);

/* Bytes of a tile of 16 rows and its columns; of dense weights 64. 0 for a type that cdl_repack_bytes refuses. */
uint32_t cdl_repack_tile_bytes(cdl_dtype t, uint32_t *cols);

/* Elements from a row to the next of dense weights. */
static inline uint32_t cdl_repack_pitch(uint32_t cols)
{
    return (cols + 63) / 64 * 64;
}

/* Packs row tiles [tile, tile + n) of ceil(rows / 16). src: the tensor's first row as the file has it, row-major,
 * row_bytes apart, may be unaligned. dst: the matrix's first packed byte. Thread-safe for different tiles.
 * t must be one that cdl_repack_bytes takes. */
void cdl_repack_tiles(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes, uint32_t rows, uint32_t cols,
        uint32_t tile, uint32_t n);

/* One row as f32 [cols], exactly the values that cdl_dtype_to_f32 gives. */
void cdl_repack_row(float *dst, cdl_dtype t, const uint8_t *packed, uint32_t cols, uint32_t row);

#endif
