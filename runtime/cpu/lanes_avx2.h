/* lanes_avx2.h - sixteen lanes as two vectors of eight: see lanes_avx512.h. */
#ifndef CDL_LANES_AVX2_H
#define CDL_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct { __m256i a, b; } vi;
typedef struct { __m256 a, b; } vs;

enum { LANES = 16, TILE_MOST = 4 };

INLINE vi vi_load(const void *p)
{
    return (vi){ _mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1) };
}

INLINE vi vi_from_u8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    return (vi){ _mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)) };
}

INLINE vi vi_from_u16(const void *p)
{
    return (vi){ _mm256_cvtepu16_epi32(_mm_loadu_si128(p)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1)) };
}

INLINE vi vi_both(__m256i v) { return (vi){ v, v }; }
INLINE vi vi_set8(int v) { return vi_both(_mm256_set1_epi8((char)v)); }
INLINE vi vi_set32(int32_t v) { return vi_both(_mm256_set1_epi32(v)); }
INLINE vi vi_and(vi x, vi y) { return (vi){ _mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b) }; }
INLINE vi vi_or(vi x, vi y) { return (vi){ _mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b) }; }
INLINE vi vi_or_and(vi w, vi x, vi y) { return vi_or(w, vi_and(x, y)); }
INLINE vi vi_add32(vi x, vi y) { return (vi){ _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b) }; }
INLINE vi vi_sub32(vi x, vi y) { return (vi){ _mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b) }; }
INLINE vi vi_sll16(vi v, uint32_t n) { return (vi){ _mm256_slli_epi16(v.a, (int)n), _mm256_slli_epi16(v.b, (int)n) }; }
INLINE vi vi_srl16(vi v, uint32_t n) { return (vi){ _mm256_srli_epi16(v.a, (int)n), _mm256_srli_epi16(v.b, (int)n) }; }
INLINE vi vi_sll32(vi v, uint32_t n) { return (vi){ _mm256_slli_epi32(v.a, (int)n), _mm256_slli_epi32(v.b, (int)n) }; }
INLINE vi vi_srl32(vi v, uint32_t n) { return (vi){ _mm256_srli_epi32(v.a, (int)n), _mm256_srli_epi32(v.b, (int)n) }; }
INLINE vi vi_sra32(vi v, uint32_t n) { return (vi){ _mm256_srai_epi32(v.a, (int)n), _mm256_srai_epi32(v.b, (int)n) }; }
INLINE vi vi_sllv32(vi v, vi n) { return (vi){ _mm256_sllv_epi32(v.a, n.a), _mm256_sllv_epi32(v.b, n.b) }; }

INLINE vi vi_if_less32(vi x, vi y, vi yes, vi no)
{
    return (vi){ _mm256_blendv_epi8(no.a, yes.a, _mm256_cmpgt_epi32(y.a, x.a)),
                 _mm256_blendv_epi8(no.b, yes.b, _mm256_cmpgt_epi32(y.b, x.b)) };
}

INLINE vi vi_look_up(__m128i table, vi v)
{
    __m256i t = _mm256_broadcastsi128_si256(table);
    return (vi){ _mm256_shuffle_epi8(t, v.a), _mm256_shuffle_epi8(t, v.b) };
}

INLINE vs vi_to_vs(vi v) { return (vs){ _mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b) }; }
INLINE vs vi_as_vs(vi v) { return (vs){ _mm256_castsi256_ps(v.a), _mm256_castsi256_ps(v.b) }; }

INLINE vs vs_load(const float *p) { return (vs){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }

INLINE vs vs_from_f16(const void *p)
{
    return (vs){ _mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)) };
}

INLINE void vs_store(float *p, vs v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}

INLINE vs vs_set(float v) { return (vs){ _mm256_set1_ps(v), _mm256_set1_ps(v) }; }
INLINE vs vs_add(vs x, vs y) { return (vs){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) }; }
INLINE vs vs_sub(vs x, vs y) { return (vs){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }
INLINE vs vs_mul(vs x, vs y) { return (vs){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
INLINE vs vs_fma(vs x, vs y, vs z) { return (vs){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) }; }

#endif
