/* panel_amx.c - weights of every type to bf16 tiles, in the order of their columns.
 *
 * A byte b of a block becomes the float 256 + b by two bit operations, and the block's
 * scale and minimum follow in one fma: (256 + b) * d + (m - (256 + offset) * d), which is exact but
 * for the last rounding where d is a half and m is 0. */
#include "cpu/panel_amx.h"

#include "cpu/amx.h"
#include "cpu/decode_avx512.h"

enum { AHEAD = 2048 };

/* ---- Blocks ---- */

/* 256 + byte k of 16 dwords. */
INLINE __m512 byte_and_256(__m512i v, const int k)
{
    const __m512i mantissa = _mm512_set1_epi32(255 << 15), exponent = _mm512_set1_epi32(0x43800000);
    v = k < 2 ? _mm512_slli_epi32(v, k < 2 ? 15 - 8 * k : 0) : _mm512_srli_epi32(v, k < 2 ? 0 : 8 * k - 15);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(v, mantissa, exponent, 0xEA)); /* v & mantissa | exponent */
}

INLINE void store_block(uint8_t *tile, const block *b, const type *t)
{
    const __m512 shift = _mm512_set1_ps(256.0f + (t->shift < 0 ? 0.0f : (float)(1 << (t->shift < 0 ? 0 : t->shift))));
    const __m512 zero = _mm512_setzero_ps();
    __m512 m = _mm512_fnmadd_ps(b->d, shift, t->has_min ? b->m : zero), m2 = m;
    if (t->halves)
        m2 = _mm512_fnmadd_ps(b->d2, shift, t->has_min ? b->m2 : zero);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        bool second = t->halves && g >= 4;
        __m512 scale = second ? b->d2 : b->d, add = second ? m2 : m;
        uint8_t *to = tile + (size_t)g * 2 * CDL_TILE_ROW_BYTES;
        cdl_tile_pair_bf16(to, _mm512_fmadd_ps(byte_and_256(b->w[g], 0), scale, add),
                _mm512_fmadd_ps(byte_and_256(b->w[g], 1), scale, add));
        cdl_tile_pair_bf16(to + CDL_TILE_ROW_BYTES, _mm512_fmadd_ps(byte_and_256(b->w[g], 2), scale, add),
                _mm512_fmadd_ps(byte_and_256(b->w[g], 3), scale, add));
    }
}

INLINE void blocks(const uint8_t *panel, uint32_t step, uint32_t n, uint8_t *tiles, const type t)
{
    const uint32_t bytes = t.bytes / t.per;
    for (uint32_t i = step; i < step + n; i++, tiles += CDL_TILE_BYTES) {
        const uint8_t *column = panel + (size_t)(i / t.per) * t.bytes;
        block w;
        for (uint32_t k = 0; k < bytes; k += 64)
            _mm_prefetch((const char *)column + (i % t.per) * bytes + AHEAD + k, _MM_HINT_T0);
        t.decode(column, i % t.per, &w);
        store_block(tiles, &w, &t);
    }
}

#define X(ID, name, bytes, per, shift, has_min, halves)                                                       \
    static void tiles_##name(const uint8_t *panel, uint32_t cols, uint32_t step, uint32_t n, uint8_t *tiles)  \
    {                                                                                                         \
        (void)cols;                                                                                           \
        blocks(panel, step, n, tiles, (type){ decode_##name, bytes, per, shift, has_min, halves });           \
    }
TYPES(X)
#undef X

/* ---- Dense weights: column after column of 16 rows ---- */

INLINE __m512 dense_column(const uint8_t *panel, uint32_t c, const cdl_dtype t)
{
    if (t == CDL_DTYPE_F32)
        return _mm512_loadu_ps((const float *)panel + (size_t)c * LANES);
    __m256i h = _mm256_loadu_si256((const void *)(panel + (size_t)c * 2 * LANES));
    if (t == CDL_DTYPE_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE void dense(const uint8_t *panel, uint32_t cols, uint32_t step, uint32_t n, uint8_t *tiles, const cdl_dtype t)
{
    const uint32_t bytes = 2 * LANES * (t == CDL_DTYPE_F32 ? 4 : 2);
    uint32_t c = step * CDL_TILE_COLUMNS;
    for (uint32_t row = 0; row < n * CDL_TILE_ROWS; row++, c += 2, tiles += CDL_TILE_ROW_BYTES) {
        for (uint32_t k = 0; k < bytes; k += 64)
            _mm_prefetch((const char *)panel + (size_t)c / 2 * bytes + AHEAD + k, _MM_HINT_T0);
        cdl_tile_pair_bf16(tiles, c < cols ? dense_column(panel, c, t) : _mm512_setzero_ps(),
                c + 1 < cols ? dense_column(panel, c + 1, t) : _mm512_setzero_ps());
    }
}

#define DENSE(name, ID)                                                                                       \
    static void tiles_##name(const uint8_t *panel, uint32_t cols, uint32_t step, uint32_t n, uint8_t *tiles)  \
    {                                                                                                         \
        dense(panel, cols, step, n, tiles, CDL_DTYPE_##ID);                                                   \
    }
DENSE(f32, F32)
DENSE(f16, F16)
DENSE(bf16, BF16)

cdl_panel_tiles_fn cdl_panel_tiles(cdl_dtype t)
{
    switch (t) {
#define X(ID, name, bytes, per, shift, has_min, halves) \
    case CDL_DTYPE_##ID: return tiles_##name;
    TYPES(X)
#undef X
    case CDL_DTYPE_F16: return tiles_f16;
    case CDL_DTYPE_BF16: return tiles_bf16;
    default: return tiles_f32;
    }
}
