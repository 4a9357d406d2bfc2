/* vec_avx512.h - sixteen floats: the primitives that rows.inc and attention.inc are written in.
 * vec_avx2.h has the same names on eight; a new instruction set brings its own. Loads and
 * stores need no alignment; the _n forms touch the first n lanes only (0 <= n <= VF, others read 0). */
#ifndef CDL_VEC_AVX512_H
#define CDL_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define VEC static inline __attribute__((always_inline))

typedef __m512 vf;
typedef __mmask16 vf_mask;
enum { VF = 16 };

VEC vf vf_set(float x) { return _mm512_set1_ps(x); }
VEC vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
VEC vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }   /* a * b + c   */
VEC vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a * b   */
VEC vf vf_abs(vf a) { return _mm512_abs_ps(a); }
VEC vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* a with the sign of s flipped in where s is negative. */
VEC vf vf_xor_sign(vf a, vf s)
{
    return _mm512_xor_ps(a, _mm512_and_ps(s, _mm512_set1_ps(-0.0f)));
}

VEC vf_mask vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
VEC vf vf_select(vf_mask m, vf yes, vf no) { return _mm512_mask_mov_ps(no, m, yes); }
/* Lanes first <= i < last. */
VEC vf_mask vf_lanes(int first, int last)
{
    unsigned below = last >= 16 ? 0xFFFFu : last > 0 ? (1u << last) - 1 : 0;
    unsigned skip = first >= 16 ? 0xFFFFu : first > 0 ? (1u << first) - 1 : 0;
    return (vf_mask)(below & ~skip);
}

VEC float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
VEC float vf_top(vf a) { return _mm512_reduce_max_ps(a); }

/* p * 2^n, n a whole number; underflows to 0, overflows to inf. */
VEC vf vf_scale(vf p, vf n) { return _mm512_scalef_ps(p, n); }

VEC vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(vf_lanes(0, n), p); }
VEC void vf_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, vf_lanes(0, n), v); }

VEC vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
VEC vf vf_load_f16_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_lanes(0, n), p));
}
VEC void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    _mm256_mask_storeu_epi16(p, vf_lanes(0, n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* Neighbours 2i and 2i + 1 change places. */
VEC vf vf_swap_pairs(vf a) { return _mm512_permute_ps(a, 0xB1); }

/* 0 where n is even, -0.0 where it is odd, for whole numbers n >> bit; see vmath.h. */
VEC vf vf_odd_sign(vf n, int bit)
{
    __m512i i = _mm512_cvtps_epi32(n);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_srli_epi32(i, (unsigned)bit), 31));
}
VEC vf_mask vf_odd(vf n) { return _mm512_test_epi32_mask(_mm512_cvtps_epi32(n), _mm512_set1_epi32(1)); }

#endif
