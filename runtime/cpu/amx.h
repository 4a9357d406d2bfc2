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
#include <stdbool.h>
#include <stddef.h>
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

/* ---- Filling tiles ---- */

static inline __mmask16 cdl_first_lanes(uint32_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

/* A row of `cols` floats as that row of a run of A tiles, the first at `to`, zeros behind its end.
 * x: NULL for a row of zeros. */
static inline void cdl_tile_row_bf16(uint8_t *to, const float *x, uint32_t cols)
{
    for (uint32_t k = 0; k < cols; k += CDL_TILE_COLUMNS, to += CDL_TILE_BYTES) {
        uint32_t left = cols - k;
        __m512i y = _mm512_setzero_si512();
        if (x) {
            __m512 low = _mm512_maskz_loadu_ps(cdl_first_lanes(left), x + k);
            __m512 high = _mm512_maskz_loadu_ps(cdl_first_lanes(left < 16 ? 0 : left - 16), x + k + 16);
            y = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        }
        _mm512_store_si512((void *)to, y);
    }
}

/* A row of a B tile: two summed columns of its 16 outputs, side by side. */
static inline __attribute__((always_inline)) void cdl_tile_pair_bf16(uint8_t *to, __m512 even, __m512 odd)
{
    const __m512i side_by_side = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
    _mm512_store_si512((void *)to, _mm512_permutexvar_epi16(side_by_side, both));
}

/* ---- Products ---- */

enum { CDL_TILES_WIDTH = 32 }; /* floats from a row of sums to the next: two tiles stand side by side */

/* One run of tiles, the next step's tile next in memory, or (two) also the run `next` bytes on. */
typedef struct {
    const uint8_t *at;
    size_t next;
    bool two;
} cdl_tiles_side;

/* R and P are constants, 1 or 2. */
static inline __attribute__((always_inline)) void cdl_tiles_multiply_rp(cdl_tiles_side rows, cdl_tiles_side columns,
        uint32_t steps, float *sums, bool begin, const int R, const int P)
{
    const uint8_t *a = rows.at, *b = columns.at;
    enum { NEXT = CDL_TILES_WIDTH * 4, RIGHT = 16, DOWN = CDL_TILES_WIDTH * CDL_TILE_ROWS };
    if (begin) {
        cdl_tile_zero(0);
        cdl_tile_zero(1);
        cdl_tile_zero(2);
        cdl_tile_zero(3);
    } else {
        cdl_tile_load(0, sums, NEXT);
        if (P > 1)
            cdl_tile_load(1, sums + RIGHT, NEXT);
        if (R > 1)
            cdl_tile_load(2, sums + DOWN, NEXT);
        if (R > 1 && P > 1)
            cdl_tile_load(3, sums + DOWN + RIGHT, NEXT);
    }
    for (uint32_t k = 0; k < steps; k++, a += CDL_TILE_BYTES, b += CDL_TILE_BYTES) {
        cdl_tile_load(4, a, CDL_TILE_ROW_BYTES);
        cdl_tile_load(6, b, CDL_TILE_ROW_BYTES);
        if (P > 1)
            cdl_tile_load(7, b + columns.next, CDL_TILE_ROW_BYTES);
        cdl_tile_dp_bf16(0, 4, 6);
        if (R > 1)
            cdl_tile_load(5, a + rows.next, CDL_TILE_ROW_BYTES);
        if (P > 1)
            cdl_tile_dp_bf16(1, 4, 7);
        if (R > 1)
            cdl_tile_dp_bf16(2, 5, 6);
        if (R > 1 && P > 1)
            cdl_tile_dp_bf16(3, 5, 7);
    }
    cdl_tile_store(0, sums, NEXT);
    if (P > 1)
        cdl_tile_store(1, sums + RIGHT, NEXT);
    if (R > 1)
        cdl_tile_store(2, sums + DOWN, NEXT);
    if (R > 1 && P > 1)
        cdl_tile_store(3, sums + DOWN + RIGHT, NEXT);
}

/* Sums of up to 2 x 2 tiles over `steps` tiles of each: rows of A, columns of B. begin: sums start at zero,
 * else at what `sums` holds. A row's bits do not depend on how it is put together. */
static inline void cdl_tiles_multiply(cdl_tiles_side rows, cdl_tiles_side columns, uint32_t steps, float *sums,
        bool begin)
{
    cdl_tiles_fence();
    if (rows.two && columns.two)
        cdl_tiles_multiply_rp(rows, columns, steps, sums, begin, 2, 2);
    else if (rows.two)
        cdl_tiles_multiply_rp(rows, columns, steps, sums, begin, 2, 1);
    else if (columns.two)
        cdl_tiles_multiply_rp(rows, columns, steps, sums, begin, 1, 2);
    else
        cdl_tiles_multiply_rp(rows, columns, steps, sums, begin, 1, 1);
    cdl_tiles_fence();
}

#endif
