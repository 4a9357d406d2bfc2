/* amx.h - tiles of 16 rows of 64 bytes: their configuration and the instructions on them.
 *
 * All eight tiles have the full size always, so one constant configuration does: cdl_tiles_begin loads it,
 * cdl_tiles_end gives the tiles back (a thread that sleeps with live tiles costs 8 KiB a switch). Every
 * chunk does both, some hundred cycles, and thereby runs on any thread of any pool. Who runs tiles has
 * the system's permission: cdl_cpu_select asks for it, and the set is absent without.
 *
 * The compilers' intrinsics are used through these names because gcc's tell it neither what
 * ldtilecfg reads (gcc 12 drops stores to a configuration on the stack) nor what tileloadd reads: the
 * configuration is a constant, and cdl_tiles_fence stands between stores and the loads of them.
 * Tile numbers must be literals. Proof: tests/kernel/test_tiles.c */
#ifndef CDL_AMX_H
#define CDL_AMX_H

#include <immintrin.h>
#include <stdint.h>

enum {
    CDL_TILE_BYTES = 1024, CDL_TILE_ROWS = 16, CDL_TILE_ROW_BYTES = 64,
    CDL_TILE_COLUMNS = 32    /* bf16 in a row of A, columns summed by one cdl_tile_dp_bf16 */
};

/* Intel's palette 1. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} cdl_tiles_config;
_Static_assert(sizeof(cdl_tiles_config) == 64, "the size that ldtilecfg reads");

#define cdl_tiles_fence() __asm__ volatile("" ::: "memory")

static inline void cdl_tiles_begin(void)
{
    static const _Alignas(64) cdl_tiles_config all = {
        .palette = 1,
        .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
        .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
    };
    cdl_tiles_fence();
    _tile_loadconfig(&all);
    cdl_tiles_fence();
}

static inline void cdl_tiles_end(void)
{
    cdl_tiles_fence();
    _tile_release();
}

/* stride_bytes from a row of the tile in memory to the next. */
#define cdl_tile_zero(tile) _tile_zero(tile)
#define cdl_tile_load(tile, from, stride_bytes) _tile_loadd(tile, from, stride_bytes)
#define cdl_tile_store(tile, to, stride_bytes) _tile_stored(tile, to, stride_bytes)

/* sum[m][n] += a[m][2p] * b[p][2n] + a[m][2p + 1] * b[p][2n + 1], over p < 16; sums in f32. */
#define cdl_tile_dp_bf16(sum, a, b) _tile_dpbf16ps(sum, a, b)

#endif
