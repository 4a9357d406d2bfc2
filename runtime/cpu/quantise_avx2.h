/* quantise_avx2.h - rows of f32 to the int8 groups that products read (product.h), for every set of this kind. */
#ifndef CDL_QUANTISE_AVX2_H
#define CDL_QUANTISE_AVX2_H

#include <immintrin.h>

#include "cpu/product.h"

/* Whole numbers of x * scale, 8 to a vector, as 32 bytes in order. */
static inline __m256i quantise_bytes(const __m256 *x, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(x[0], s)), b = _mm256_cvtps_epi32(_mm256_mul_ps(x[1], s));
    __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(x[2], s)), d = _mm256_cvtps_epi32(_mm256_mul_ps(x[3], s));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(bytes, order);
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

static inline int32_t quantise_sum(__m128i v)
{
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xB1)));
}

/* 32 columns of one row: its bytes, and its fields `rows` apart. */
static inline void quantise_block(const float *x, int8_t *q, cdl_group_field *field, uint32_t rows)
{
    __m256 v[4] = { _mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24) };
    float top = quantise_top(v), d = top / 127;
    __m256i bytes = quantise_bytes(v, top > 0 ? 127 / top : 0);
    __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
    int32_t low = quantise_sum(_mm256_castsi256_si128(sums)), high = quantise_sum(_mm256_extracti128_si256(sums, 1));
    _mm256_storeu_si256((void *)q, bytes);
    field[CDL_GROUP_D * rows].f = d;
    field[CDL_GROUP_S * rows].f = d * (float)(low + high);
    field[CDL_GROUP_S_LOW * rows].f = d * (float)low;
    field[CDL_GROUP_S_HIGH * rows].f = d * (float)high;
    field[CDL_GROUP_N * rows].n = -(low + high);
    field[CDL_GROUP_N_LOW * rows].n = -low;
    field[CDL_GROUP_N_HIGH * rows].n = -high;
}

static void quantise(const float *x, uint32_t stride, uint32_t rows, uint32_t cols, uint8_t *group)
{
    for (uint32_t c = 0; c < cols; c += CDL_ACTIVATION_BLOCK, group += cdl_group_bytes(rows))
        for (uint32_t r = 0; r < rows; r++)
            quantise_block(x + (size_t)r * stride + c, (int8_t *)group + r * CDL_ACTIVATION_BLOCK,
                    cdl_group_fields(group, rows) + r, rows);
}

#endif
