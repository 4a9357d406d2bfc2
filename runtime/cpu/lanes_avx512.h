/* lanes_avx512.h - sixteen lanes, one a row of a panel: the primitives that decode.inc and linear.inc are
 * written in. lanes_avx2.h has the same names on pairs of vectors; a new instruction set brings its own.
 * Loads need no alignment. 8, 16 and 32 in a name are the bits of the elements it works on. */
#ifndef CDL_LANES_AVX512_H
#define CDL_LANES_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512i vi; /* 16 dwords */
typedef __m512 vs;  /* 16 floats */

enum { LANES = 16, TILE_MOST = 16 /* rows of activations that share a decoded block */ };

INLINE vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE vi vi_from_u8(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }
INLINE vi vi_from_u16(const void *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p)); }
INLINE vi vi_set8(int v) { return _mm512_set1_epi8((char)v); }
INLINE vi vi_set32(int32_t v) { return _mm512_set1_epi32(v); }
INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vi vi_or_and(vi w, vi a, vi b) { return _mm512_ternarylogic_epi32(w, a, b, 0xF8); } /* w | (a & b) */
INLINE vi vi_add32(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi vi_sub32(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi vi_sll16(vi v, uint32_t n) { return _mm512_slli_epi16(v, n); }
INLINE vi vi_srl16(vi v, uint32_t n) { return _mm512_srli_epi16(v, n); }
INLINE vi vi_sll32(vi v, uint32_t n) { return _mm512_slli_epi32(v, n); }
INLINE vi vi_srl32(vi v, uint32_t n) { return _mm512_srli_epi32(v, n); }
INLINE vi vi_sra32(vi v, uint32_t n) { return _mm512_srai_epi32(v, n); }
INLINE vi vi_sllv32(vi v, vi n) { return _mm512_sllv_epi32(v, n); }
/* yes where a < b (signed), else no. */
INLINE vi vi_if_less32(vi a, vi b, vi yes, vi no)
{
    return _mm512_mask_mov_epi32(no, _mm512_cmplt_epi32_mask(a, b), yes);
}
/* Bytes of a table of 16 at the indices (0 .. 15) in v. */
INLINE vi vi_look_up(__m128i table, vi v) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), v); }
INLINE vs vi_to_vs(vi v) { return _mm512_cvtepi32_ps(v); }
INLINE vs vi_as_vs(vi v) { return _mm512_castsi512_ps(v); }

INLINE vs vs_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE vs vs_from_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
INLINE void vs_store(float *p, vs v) { _mm512_storeu_ps(p, v); }
INLINE vs vs_set(float v) { return _mm512_set1_ps(v); }
INLINE vs vs_add(vs a, vs b) { return _mm512_add_ps(a, b); }
INLINE vs vs_sub(vs a, vs b) { return _mm512_sub_ps(a, b); }
INLINE vs vs_mul(vs a, vs b) { return _mm512_mul_ps(a, b); }
INLINE vs vs_fma(vs a, vs b, vs c) { return _mm512_fmadd_ps(a, b, c); } /* a * b + c */

#endif
