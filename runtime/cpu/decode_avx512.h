/* decode_avx512.h - every block type of the r16 layout (pack.h), 32 columns of 16 rows at a time, as
 * unsigned bytes with scales: what the products of the AVX-512 and AMX sets start from. */
#ifndef CDL_DECODE_AVX512_H
#define CDL_DECODE_AVX512_H

#include <immintrin.h>

#include "cpu/pack.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

/* 32 columns of 16 rows: bytes [4 columns][16 rows], unsigned. value = (byte - offset) * d + m. */
typedef struct {
    __m512i w[8];
    __m512 d, m;               /* of the block, or of its first 16 columns  */
    __m512 d2, m2;             /* of the second 16, for types that have them */
} block;

/* What a type is: constants to the templates below. */
typedef struct {
    void (*decode)(const uint8_t *column, uint32_t j, block *out); /* j: which 32 of a larger block */
    uint32_t bytes;            /* of a block column: 16 blocks of the file */
    uint32_t per;              /* blocks of 32 in it                       */
    int shift;                 /* offset = 1 << shift; -1: none            */
    bool has_min, halves;
} type;

INLINE __m512i load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE __m512 halves16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

INLINE __m512i low4(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

INLINE __m512i high4(__m512i v)
{
    return low4(_mm512_srli_epi16(v, 4));
}

/* ---- Decoding ---- */

INLINE void nibbles(const uint8_t *q, block *o)
{
    for (int i = 0; i < 4; i++) {
        __m512i v = load(q + 64 * i);
        o->w[i] = low4(v);
        o->w[4 + i] = high4(v);
    }
}

INLINE void decode_q4_0(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    o->d = halves16(p);
    nibbles(p + 32, o);
}

INLINE void decode_q4_1(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    o->d = halves16(p);
    o->m = halves16(p + 32);
    nibbles(p + 64, o);
}

/* Bit g of each byte of `high` is the fifth bit of vector g's byte. */
INLINE void fifth_bits(__m512i high, block *o)
{
    const __m512i bit = _mm512_set1_epi8(16);
    for (int g = 0; g < 8; g++) {
        __m512i moved = g < 4 ? _mm512_slli_epi16(high, (unsigned)(4 - g)) : _mm512_srli_epi16(high, (unsigned)(g - 4));
        o->w[g] = _mm512_ternarylogic_epi32(o->w[g], moved, bit, 0xF8); /* w | (moved & bit) */
    }
}

INLINE void decode_q5_0(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    o->d = halves16(p);
    nibbles(p + 96, o);
    fifth_bits(load(p + 32), o);
}

INLINE void decode_q5_1(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    o->d = halves16(p);
    o->m = halves16(p + 32);
    nibbles(p + 128, o);
    fifth_bits(load(p + 64), o);
}

INLINE void decode_q8_0(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    o->d = halves16(p);
    for (int i = 0; i < 8; i++)
        o->w[i] = load(p + 32 + 64 * i);
}

/* Byte k of 16 dwords as f32. */
INLINE __m512 byte_of(__m512i v, uint32_t k)
{
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srl_epi32(v, _mm_cvtsi32_si128((int)(8 * k))), _mm512_set1_epi32(255)));
}

INLINE __m512 signed_byte_of(__m512i v, uint32_t k)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_sll_epi32(v, _mm_cvtsi32_si128((int)(24 - 8 * k))), 24));
}

/* Six-bit scales and minimums of q4_k and q5_k, 16 rows at once; p: three dwords a row. */
INLINE void k_scales(const uint8_t *p, uint32_t j, __m512 d, __m512 dmin, block *o)
{
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128), scale, min;
    if (j < 4) {
        scale = _mm512_and_si512(s0, six);
        min = _mm512_and_si512(s1, six);
    } else {
        scale = _mm512_or_si512(_mm512_and_si512(s2, four), _mm512_and_si512(_mm512_srli_epi16(s0, 2), top));
        min = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(s2, 4), four),
                _mm512_and_si512(_mm512_srli_epi16(s1, 2), top));
    }
    o->d = _mm512_mul_ps(d, byte_of(scale, j & 3));
    o->m = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(dmin, byte_of(min, j & 3)));
}

INLINE void decode_q4_k(const uint8_t *p, uint32_t j, block *o)
{
    const uint8_t *q = p + 64 + 192 + 512 * (j / 2);
    k_scales(p + 64, j, halves16(p), halves16(p + 32), o);
    for (int i = 0; i < 8; i++)
        o->w[i] = j & 1 ? high4(load(q + 64 * i)) : low4(load(q + 64 * i));
}

INLINE void decode_q5_k(const uint8_t *p, uint32_t j, block *o)
{
    const uint8_t *high = p + 64 + 192, *q = high + 512 + 512 * (j / 2);
    const __m128i shift = _mm_cvtsi32_si128((int)j);
    const __m512i one = _mm512_set1_epi8(1);
    k_scales(p + 64, j, halves16(p), halves16(p + 32), o);
    for (int i = 0; i < 8; i++) {
        __m512i low = j & 1 ? high4(load(q + 64 * i)) : low4(load(q + 64 * i));
        __m512i bit = _mm512_and_si512(_mm512_srl_epi16(load(high + 64 * i), shift), one);
        o->w[i] = _mm512_or_si512(low, _mm512_slli_epi16(bit, 4));
    }
}

/* 128 weights share 32 bytes of high bits: 32-blocks 0 and 1 are low nibbles, 2 and 3 high ones. */
INLINE void decode_q6_k(const uint8_t *p, uint32_t j, block *o)
{
    const uint8_t *scales = p + 32, *high = scales + 256 + 512 * (j / 4), *low = scales + 256 + 1024 + 1024 * (j / 4) + 512 * (j & 1);
    const __m512i top = _mm512_set1_epi8(48);
    uint32_t part = j & 3;
    for (int i = 0; i < 8; i++) {
        __m512i l = part < 2 ? low4(load(low + 64 * i)) : high4(load(low + 64 * i)), h = load(high + 64 * i);
        h = part == 0 ? _mm512_slli_epi16(h, 4) : part == 1 ? _mm512_slli_epi16(h, 2) : part == 2 ? h : _mm512_srli_epi16(h, 2);
        o->w[i] = _mm512_ternarylogic_epi32(l, h, top, 0xF8);
    }
    __m512 d = halves16(p);
    __m512i s = load(scales + 64 * (j / 2));
    o->d = _mm512_mul_ps(d, signed_byte_of(s, 2 * (j & 1)));
    o->d2 = _mm512_mul_ps(d, signed_byte_of(s, 2 * (j & 1) + 1));
}

INLINE void decode_q2_k(const uint8_t *p, uint32_t j, block *o)
{
    const uint8_t *q = p + 64 + 256 + 512 * (j / 4);
    const __m128i shift = _mm_cvtsi32_si128((int)(2 * (j & 3)));
    const __m512i three = _mm512_set1_epi8(3);
    for (int i = 0; i < 8; i++)
        o->w[i] = _mm512_and_si512(_mm512_srl_epi16(load(q + 64 * i), shift), three);
    __m512 d = halves16(p), dmin = _mm512_sub_ps(_mm512_setzero_ps(), halves16(p + 32));
    __m512i s = load(p + 64 + 64 * (j / 2)), scale = low4(s), min = high4(s);
    uint32_t k = 2 * (j & 1);
    o->d = _mm512_mul_ps(d, byte_of(scale, k));
    o->d2 = _mm512_mul_ps(d, byte_of(scale, k + 1));
    o->m = _mm512_mul_ps(dmin, byte_of(min, k));
    o->m2 = _mm512_mul_ps(dmin, byte_of(min, k + 1));
}

/* Scale i = 2j + h of the 16 six-bit ones; p: three dwords a row. */
INLINE __m512 q3_scale(const uint8_t *p, uint32_t i)
{
    __m512i low = load(p + 64 * (i / 4 % 2)), top = load(p + 128);
    low = i < 8 ? low4(low) : high4(low);
    top = _mm512_and_si512(_mm512_srl_epi16(top, _mm_cvtsi32_si128((int)(2 * (i / 4)))), _mm512_set1_epi8(3));
    __m512i s = _mm512_or_si512(low, _mm512_slli_epi16(top, 4));
    return _mm512_sub_ps(byte_of(s, i & 3), _mm512_set1_ps(32));
}

INLINE void decode_q3_k(const uint8_t *p, uint32_t j, block *o)
{
    const uint8_t *mask = p + 32 + 192, *q = mask + 512 + 512 * (j / 4);
    const __m128i shift = _mm_cvtsi32_si128((int)(2 * (j & 3))), bit = _mm_cvtsi32_si128((int)j);
    const __m512i three = _mm512_set1_epi8(3), one = _mm512_set1_epi8(1);
    for (int i = 0; i < 8; i++) {
        __m512i low = _mm512_and_si512(_mm512_srl_epi16(load(q + 64 * i), shift), three);
        __m512i high = _mm512_and_si512(_mm512_srl_epi16(load(mask + 64 * i), bit), one);
        o->w[i] = _mm512_or_si512(low, _mm512_slli_epi16(high, 2));
    }
    __m512 d = halves16(p);
    o->d = _mm512_mul_ps(d, q3_scale(p + 32, 2 * j));
    o->d2 = _mm512_mul_ps(d, q3_scale(p + 32, 2 * j + 1));
}

/* Values of a nibble + 128. */
INLINE void look_up(const int8_t *values, block *o)
{
    __m512i t = _mm512_broadcast_i32x4(_mm_xor_si128(_mm_loadu_si128((const void *)values), _mm_set1_epi8((char)0x80)));
    for (int i = 0; i < 8; i++)
        o->w[i] = _mm512_shuffle_epi8(t, o->w[i]);
}

static const int8_t iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
static const int8_t mxfp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

INLINE void decode_iq4_nl(const uint8_t *p, uint32_t j, block *o)
{
    decode_q4_0(p, j, o);
    look_up(iq4_values, o);
}

INLINE void decode_iq4_xs(const uint8_t *p, uint32_t j, block *o)
{
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p + 32))), low = load(p + 64);
    __m512i l = _mm512_and_si512(_mm512_srl_epi32(low, _mm_cvtsi32_si128((int)(4 * j))), _mm512_set1_epi32(15));
    __m512i h = _mm512_and_si512(_mm512_srl_epi32(high, _mm_cvtsi32_si128((int)(2 * j))), _mm512_set1_epi32(3));
    __m512i s = _mm512_sub_epi32(_mm512_or_si512(l, _mm512_slli_epi32(h, 4)), _mm512_set1_epi32(32));
    o->d = _mm512_mul_ps(halves16(p), _mm512_cvtepi32_ps(s));
    nibbles(p + 128 + 256 * j, o);
    look_up(iq4_values, o);
}

INLINE void decode_mxfp4(const uint8_t *p, uint32_t j, block *o)
{
    (void)j;
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    __mmask16 small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    o->d = _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, tiny));
    nibbles(p + 16, o);
    look_up(mxfp4_values, o);
}

/* ---- The types, for templates ---- */

#define TYPES(X)                                                                     \
    X(Q4_0,   q4_0,   288,  1, 3,  false, false) X(Q4_1,   q4_1,   320,  1, -1, true,  false) \
    X(Q5_0,   q5_0,   352,  1, 4,  false, false) X(Q5_1,   q5_1,   384,  1, -1, true,  false) \
    X(Q8_0,   q8_0,   544,  1, 7,  false, false) X(Q2_K,   q2_k,   1344, 8, -1, true,  true)  \
    X(Q3_K,   q3_k,   1760, 8, 2,  false, true)  X(Q4_K,   q4_k,   2304, 8, -1, true,  false) \
    X(Q5_K,   q5_k,   2816, 8, -1, true,  false) X(Q6_K,   q6_k,   3360, 8, 5,  false, true)  \
    X(IQ4_NL, iq4_nl, 288,  1, 7,  false, false) X(IQ4_XS, iq4_xs, 2176, 8, 7,  false, false) \
    X(MXFP4,  mxfp4,  272,  1, 7,  false, false)

#endif
