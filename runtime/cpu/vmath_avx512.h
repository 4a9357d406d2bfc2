/* vmath_avx512.h - exp, tanh and activations on 16 floats. Errors are below 2e-7 relative (exp)
 * and 2e-7 absolute of the result's scale (tanh, erf); tests/kernel/test_act.c */
#ifndef CDL_VMATH_AVX512_H
#define CDL_VMATH_AVX512_H

#include <immintrin.h>
#include <math.h>

#include "graph/op.h"

/* 2^n * p(f) with n = round(x log2 e) and |f| <= ln 2 / 2; below -104: 0, above 88.7: inf. */
static inline __m512 cdl_exp_avx512(__m512 x)
{
    const __m512 log2e = _mm512_set1_ps(1.44269504f), ln2_hi = _mm512_set1_ps(0.693359375f), ln2_lo = _mm512_set1_ps(-2.12194440e-4f);
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-104.0f)), _mm512_set1_ps(89.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_fnmadd_ps(n, ln2_lo, _mm512_fnmadd_ps(n, ln2_hi, x));
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(f, f), _mm512_add_ps(f, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* (1 - e) / (1 + e) with e = exp(-2|x|); a series where that would cancel. */
static inline __m512 cdl_tanh_avx512(__m512 x)
{
    __m512 a = _mm512_abs_ps(x), e = cdl_exp_avx512(_mm512_mul_ps(a, _mm512_set1_ps(-2.0f)));
    __m512 one = _mm512_set1_ps(1.0f), y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
    __m512 z = _mm512_mul_ps(x, x), s = _mm512_set1_ps(-5.70498872745e-3f);
    s = _mm512_fmadd_ps(s, z, _mm512_set1_ps(2.06390887954e-2f));
    s = _mm512_fmadd_ps(s, z, _mm512_set1_ps(-5.37397155531e-2f));
    s = _mm512_fmadd_ps(s, z, _mm512_set1_ps(1.33314422036e-1f));
    s = _mm512_fmadd_ps(s, z, _mm512_set1_ps(-3.33332819422e-1f));
    s = _mm512_fmadd_ps(_mm512_mul_ps(s, z), a, a);
    y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, _mm512_set1_ps(0.625f), _CMP_LT_OQ), s);
    return _mm512_mask_sub_ps(y, _mm512_movepi32_mask(_mm512_castps_si512(x)), _mm512_setzero_ps(), y);
}

static inline __m512 cdl_act_avx512(cdl_act act, __m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f);
    if (act == CDL_ACT_SILU)
        return _mm512_div_ps(x, _mm512_add_ps(one, cdl_exp_avx512(_mm512_sub_ps(_mm512_setzero_ps(), x))));
    if (act == CDL_ACT_GELU_TANH) {
        __m512 x3 = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
        __m512 u = _mm512_mul_ps(_mm512_set1_ps(0.797884561f), _mm512_fmadd_ps(_mm512_set1_ps(0.044715f), x3, x));
        return _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, cdl_tanh_avx512(u)));
    }
    if (act == CDL_ACT_RELU)
        return _mm512_max_ps(x, _mm512_setzero_ps());
    float v[16];
    _mm512_storeu_ps(v, x);
    for (int i = 0; i < 16; i++)
        v[i] = 0.5f * v[i] * (1 + erff(v[i] * 0.707106781f));
    return _mm512_loadu_ps(v);
}

#endif
