/* quantise_avx2.h - rows of f32 to the int8 groups that products read (product.h), for every set of this kind. */
#ifndef CDL_QUANTISE_AVX2_H
#define CDL_QUANTISE_AVX2_H

#include <immintrin.h>

#include "cpu/product.h"

/* Columns 0 .. 31 as 16 bits each: 0-3 8-11 4-7 12-15 in a, and so on in b. */
typedef struct { __m256i a, b; } quantised;

static inline quantised quantise_words(const __m256 *x, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(x[0], s)), b = _mm256_cvtps_epi32(_mm256_mul_ps(x[1], s));
    __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(x[2], s)), d = _mm256_cvtps_epi32(_mm256_mul_ps(x[3], s));
    return (quantised){ _mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d) };
}

/* Words that fit in a byte as bytes, in the columns' order. */
static inline __m256i quantise_bytes(quantised w)
{
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(w.a, w.b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* w = 256 high + low; a low byte of -128 becomes -127, since linear_avx2.c multiplies it by -128. */
static inline __m256i quantise_high(__m256i w)
{
    return _mm256_srai_epi16(_mm256_add_epi16(w, _mm256_set1_epi16(128)), 8);
}

static inline __m256i quantise_low(__m256i w, __m256i high)
{
    return _mm256_max_epi16(_mm256_sub_epi16(w, _mm256_slli_epi16(high, 8)), _mm256_set1_epi16(-127));
}

static inline float quantise_top(const __m256 *x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 m = _mm256_max_ps(_mm256_max_ps(_mm256_andnot_ps(sign, x[0]), _mm256_andnot_ps(sign, x[1])),
            _mm256_max_ps(_mm256_andnot_ps(sign, x[2]), _mm256_andnot_ps(sign, x[3])));
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

/* Sums of the first and the second 16 bytes. */
static inline void quantise_sums(__m256i bytes, int32_t *sum)
{
    __m256i v = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
    v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4E));
    v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xB1));
    sum[0] = _mm256_extract_epi32(v, 0);
    sum[1] = _mm256_extract_epi32(v, 4);
}

/* 32 columns of one row: its bytes, and its fields `rows` apart. */
static inline void quantise_block(const float *x, int8_t *q, cdl_group_field *field, uint32_t rows)
{
    const float most = 127 * 256;
    __m256 v[4] = { _mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24) };
    float top = quantise_top(v), d = top / most;
    quantised w = quantise_words(v, top > 0 ? most / top : 0);
    quantised h = { quantise_high(w.a), quantise_high(w.b) };
    quantised l = { quantise_low(w.a, h.a), quantise_low(w.b, h.b) };
    __m256i high = quantise_bytes(h), low = quantise_bytes(l);
    int32_t s[2], t[2];
    quantise_sums(high, s);
    quantise_sums(low, t);
    _mm256_storeu_si256((void *)q, high);
    _mm256_storeu_si256((void *)(q + CDL_ACTIVATION_BLOCK), low);
    int32_t first = 256 * s[0] + t[0], second = 256 * s[1] + t[1];
    field[CDL_GROUP_D * rows].f = d;
    field[CDL_GROUP_S * rows].f = d * (float)(first + second);
    field[CDL_GROUP_S_LOW * rows].f = d * (float)first;
    field[CDL_GROUP_S_HIGH * rows].f = d * (float)second;
    field[CDL_GROUP_N * rows].n = first + second;
    field[CDL_GROUP_N_LOW * rows].n = first;
    field[CDL_GROUP_N_HIGH * rows].n = second;
}

static void quantise(const float *x, uint32_t stride, uint32_t rows, uint32_t cols, uint8_t *group)
{
    for (uint32_t c = 0; c < cols; c += CDL_ACTIVATION_BLOCK, group += cdl_group_bytes(rows))
        for (uint32_t r = 0; r < rows; r++)
            quantise_block(x + (size_t)r * stride + c, (int8_t *)group + r * CDL_ACTIVATION_BYTES,
                    cdl_group_fields(group, rows) + r, rows);
}

#endif
