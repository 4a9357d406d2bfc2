/* vec_avx2.h - eight floats: see vec_avx512.h for what each primitive promises. */
#ifndef CDL_VEC_AVX2_H
#define CDL_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline))

typedef __m256 vf;
typedef __m256 vf_mask; /* sign bits */
enum { VF = 8 };

VEC vf vf_set(float x) { return _mm256_set1_ps(x); }
VEC vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
VEC void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
VEC vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VEC vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VEC vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VEC vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
VEC vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VEC vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
VEC vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

VEC vf vf_xor_sign(vf a, vf s)
{
    return _mm256_xor_ps(a, _mm256_and_ps(s, _mm256_set1_ps(-0.0f)));
}

VEC vf_mask vf_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
VEC vf vf_select(vf_mask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
VEC vf_mask vf_lanes(int first, int last)
{
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i from = _mm256_cmpgt_epi32(i, _mm256_set1_epi32(first - 1));
    return _mm256_castsi256_ps(_mm256_and_si256(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(last), i)));
}

VEC float vf_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VEC float vf_top(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* In two steps, so that results below the smallest normal number come out right. */
VEC vf vf_scale(vf p, vf n)
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
    __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}

VEC vf vf_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(vf_lanes(0, n)));
}
VEC void vf_store_n(float *p, vf v, int n)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(vf_lanes(0, n)), v);
}

VEC vf vf_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
VEC vf vf_load_f16_n(const uint16_t *p, int n)
{
    uint16_t h[8] = { 0 };
    memcpy(h, p, (size_t)n * sizeof *h);
    return vf_load_f16(h);
}
VEC void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    uint16_t h[8];
    _mm_storeu_si128((void *)h, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    memcpy(p, h, (size_t)n * sizeof *h);
}

VEC vf vf_swap_pairs(vf a) { return _mm256_permute_ps(a, 0xB1); }

VEC vf vf_odd_sign(vf n, int bit)
{
    __m256i i = _mm256_cvtps_epi32(n);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(i, bit), 31));
}
VEC vf_mask vf_odd(vf n) { return vf_odd_sign(n, 0); }

#endif
