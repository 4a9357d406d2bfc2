/* linear_avx512.c - products with AVX-512 VNNI, straight on the r16 layout (pack.h).
 *
 * A vector holds 4 consecutive columns of 16 rows: one vpdpbusd with a broadcast of 4 activation bytes
 * feeds 16 outputs, and nothing is summed across lanes. A block of 32 columns is decoded once
 * into 8 vectors and used for up to 16 rows of activations. Each row's sums run in column order,
 * whatever the number of rows.
 * Source of the idea: ggml's repacked types, measured in our own prototypes.
 * Proof: tests/kernel/test_linear.c   Speed: bench/op.c */
#include <immintrin.h>
#include <math.h>

#include "cpu/product.h"
#include "cpu/vmath_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, AHEAD = 1536 };

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

/* ---- Quantised activations ---- */

INLINE __m512i four(const int8_t *q)
{
    int32_t v;
    __builtin_memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512i start(int32_t n, int shift)
{
    return shift < 0 ? _mm512_setzero_si512() : _mm512_slli_epi32(_mm512_set1_epi32(n), (unsigned)shift);
}

/* One row, one block of 32: acc += block x activations. */
INLINE __m512 one_row(__m512 acc, const block *w, const int8_t *q, const cdl_activation_block *a, const type *t)
{
    if (!t->halves) {
        __m512i n = start(a->n, t->shift);
        for (int g = 0; g < 8; g++)
            n = _mm512_dpbusd_epi32(n, w->w[g], four(q + 4 * g));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n), _mm512_mul_ps(w->d, _mm512_set1_ps(a->d)), acc);
        return t->has_min ? _mm512_fmadd_ps(w->m, _mm512_set1_ps(a->s), acc) : acc;
    }
    __m512i n = start(a->n_low, t->shift), n2 = start(a->n_high, t->shift);
    for (int g = 0; g < 4; g++) {
        n = _mm512_dpbusd_epi32(n, w->w[g], four(q + 4 * g));
        n2 = _mm512_dpbusd_epi32(n2, w->w[4 + g], four(q + 16 + 4 * g));
    }
    __m512 d = _mm512_set1_ps(a->d);
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n), _mm512_mul_ps(w->d, d), acc);
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n2), _mm512_mul_ps(w->d2, d), acc);
    if (t->has_min) {
        acc = _mm512_fmadd_ps(w->m, _mm512_set1_ps(a->s_low), acc);
        acc = _mm512_fmadd_ps(w->m2, _mm512_set1_ps(a->s_high), acc);
    }
    return acc;
}

/* R rows from row on; R is a constant. */
INLINE void rows_int8(const uint8_t *panel, const cdl_activations *a, uint32_t row, const int R,
        float *out, uint32_t stride, const type t)
{
    __m512 acc[LANES];
    uint32_t blocks = a->cols / CDL_ACTIVATION_BLOCK;
    for (int r = 0; r < R; r++)
        acc[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < blocks; i++) {
        const uint8_t *column = panel + (size_t)(i / t.per) * t.bytes;
        block w;
        if (R <= 4)
            for (uint32_t k = 0; k < t.bytes / t.per; k += 64)
                _mm_prefetch((const char *)column + (i % t.per) * (t.bytes / t.per) + AHEAD + k, _MM_HINT_T0);
        t.decode(column, i % t.per, &w);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            acc[r] = one_row(acc[r], &w, a->q + (size_t)(row + (uint32_t)r) * a->cols + i * CDL_ACTIVATION_BLOCK,
                    &a->b[(size_t)(row + (uint32_t)r) * blocks + i], &t);
    }
    for (int r = 0; r < R; r++)
        _mm512_storeu_ps(out + (size_t)(row + (uint32_t)r) * stride, acc[r]);
}

INLINE void panel_int8(const uint8_t *panel, const cdl_activations *a, uint32_t rows, float *out, uint32_t stride, const type t)
{
    uint32_t r = 0;
    for (; r + 16 <= rows; r += 16)
        rows_int8(panel, a, r, 16, out, stride, t);
    for (; r + 4 <= rows; r += 4)
        rows_int8(panel, a, r, 4, out, stride, t);
    for (; r < rows; r++)
        rows_int8(panel, a, r, 1, out, stride, t);
}

/* ---- Plain activations: values of a block one column at a time ---- */

INLINE void rows_f32(const uint8_t *panel, const cdl_activations *a, uint32_t row, const int R,
        float *out, uint32_t stride, const type t)
{
    const __m512 offset = _mm512_set1_ps(t.shift < 0 ? 0.0f : (float)(1 << (t.shift < 0 ? 0 : t.shift)));
    __m512 acc[LANES];
    for (int r = 0; r < R; r++)
        acc[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < a->cols / CDL_ACTIVATION_BLOCK; i++) {
        const float *x = a->x + (size_t)row * a->x_stride + i * CDL_ACTIVATION_BLOCK;
        block w;
        t.decode(panel + (size_t)(i / t.per) * t.bytes, i % t.per, &w);
        for (uint32_t c = 0; c < CDL_ACTIVATION_BLOCK; c++) {
            bool second = t.halves && c >= 16;
            __m512 v = _mm512_mul_ps(_mm512_sub_ps(byte_of(w.w[c / 4], c % 4), offset), second ? w.d2 : w.d);
            if (t.has_min)
                v = _mm512_add_ps(v, second ? w.m2 : w.m);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                acc[r] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[(size_t)r * a->x_stride + c]), acc[r]);
        }
    }
    for (int r = 0; r < R; r++)
        _mm512_storeu_ps(out + (size_t)(row + (uint32_t)r) * stride, acc[r]);
}

INLINE void panel_f32(const uint8_t *panel, const cdl_activations *a, uint32_t rows, float *out, uint32_t stride, const type t)
{
    uint32_t r = 0;
    for (; r + 16 <= rows; r += 16)
        rows_f32(panel, a, r, 16, out, stride, t);
    for (; r < rows; r++)
        rows_f32(panel, a, r, 1, out, stride, t);
}

#define TYPES(X)                                                                     \
    X(Q4_0,   q4_0,   288,  1, 3,  false, false) X(Q4_1,   q4_1,   320,  1, -1, true,  false) \
    X(Q5_0,   q5_0,   352,  1, 4,  false, false) X(Q5_1,   q5_1,   384,  1, -1, true,  false) \
    X(Q8_0,   q8_0,   544,  1, 7,  false, false) X(Q2_K,   q2_k,   1344, 8, -1, true,  true)  \
    X(Q3_K,   q3_k,   1760, 8, 2,  false, true)  X(Q4_K,   q4_k,   2304, 8, -1, true,  false) \
    X(Q5_K,   q5_k,   2816, 8, -1, true,  false) X(Q6_K,   q6_k,   3360, 8, 5,  false, true)  \
    X(IQ4_NL, iq4_nl, 288,  1, 7,  false, false) X(IQ4_XS, iq4_xs, 2176, 8, 7,  false, false) \
    X(MXFP4,  mxfp4,  272,  1, 7,  false, false)

#define X(ID, name, bytes, per, shift, has_min, halves)                                                        \
    static void int8_##name(const uint8_t *p, const cdl_activations *a, uint32_t rows, float *out, uint32_t stride) \
    {                                                                                                          \
        panel_int8(p, a, rows, out, stride, (type){ decode_##name, bytes, per, shift, has_min, halves });       \
    }                                                                                                          \
    static void f32_##name(const uint8_t *p, const cdl_activations *a, uint32_t rows, float *out, uint32_t stride) \
    {                                                                                                          \
        panel_f32(p, a, rows, out, stride, (type){ decode_##name, bytes, per, shift, has_min, halves });        \
    }
TYPES(X)
#undef X

/* ---- Dense weights: a vector is one column of 16 rows ---- */

INLINE uint32_t element(cdl_dtype t)
{
    return t == CDL_DTYPE_F32 ? 4 : 2;
}

INLINE __m512 column_of(const uint8_t *panel, uint32_t c, cdl_dtype t)
{
    if (t == CDL_DTYPE_F32)
        return _mm512_loadu_ps((const float *)panel + (size_t)c * LANES);
    __m256i h = _mm256_loadu_si256((const void *)(panel + (size_t)c * 2 * LANES));
    if (t == CDL_DTYPE_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Four sums, by column mod 4, hide the latency of a single row. */
INLINE void rows_dense(const uint8_t *panel, const cdl_activations *a, uint32_t row, const int R,
        float *out, uint32_t stride, const cdl_dtype t)
{
    __m512 acc[4][4];
    const float *x = a->x + (size_t)row * a->x_stride;
    uint32_t c = 0;
    for (int r = 0; r < R; r++)
        acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = _mm512_setzero_ps();
    for (; c + 4 <= a->cols; c += 4) {
        if (R == 1)
            for (uint32_t k = 0; k < 4 * LANES * element(t); k += 64)
                _mm_prefetch((const char *)panel + (size_t)c * LANES * element(t) + 2 * AHEAD + k, _MM_HINT_T0);
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) {
            __m512 w = column_of(panel, c + k, t);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                acc[r][k] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[(size_t)r * a->x_stride + c + k]), acc[r][k]);
        }
    }
    for (; c < a->cols; c++)
        for (int r = 0; r < R; r++)
            acc[r][0] = _mm512_fmadd_ps(column_of(panel, c, t), _mm512_set1_ps(x[(size_t)r * a->x_stride + c]), acc[r][0]);
    for (int r = 0; r < R; r++)
        _mm512_storeu_ps(out + (size_t)(row + (uint32_t)r) * stride,
                _mm512_add_ps(_mm512_add_ps(acc[r][0], acc[r][1]), _mm512_add_ps(acc[r][2], acc[r][3])));
}

#define DENSE(name, ID)                                                                                            \
    static void dense_##name(const uint8_t *p, const cdl_activations *a, uint32_t rows, float *out, uint32_t stride) \
    {                                                                                                              \
        uint32_t r = 0;                                                                                            \
        for (; r + 4 <= rows; r += 4)                                                                              \
            rows_dense(p, a, r, 4, out, stride, CDL_DTYPE_##ID);                                                   \
        for (; r < rows; r++)                                                                                      \
            rows_dense(p, a, r, 1, out, stride, CDL_DTYPE_##ID);                                                   \
    }
DENSE(f32, F32)
DENSE(f16, F16)
DENSE(bf16, BF16)

static cdl_panel_fn panel_fn(cdl_dtype t, bool f32)
{
    switch (t) {
#define X(ID, name, bytes, per, shift, has_min, halves) \
    case CDL_DTYPE_##ID: return f32 ? f32_##name : int8_##name;
    TYPES(X)
#undef X
    case CDL_DTYPE_F16: return dense_f16;
    case CDL_DTYPE_BF16: return dense_bf16;
    default: return dense_f32;
    }
}

/* ---- Quantising ---- */

static void quantise(const float *x, uint32_t cols, int8_t *q, cdl_activation_block *b)
{
    for (uint32_t i = 0; i < cols; i += CDL_ACTIVATION_BLOCK, b++) {
        __m512 u = _mm512_loadu_ps(x + i), v = _mm512_loadu_ps(x + i + 16);
        float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(u), _mm512_abs_ps(v)));
        float d = max / 127, inverse = max > 0 ? 127 / max : 0;
        __m512 scale = _mm512_set1_ps(inverse);
        __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(u, scale)), hi = _mm512_cvtps_epi32(_mm512_mul_ps(v, scale));
        _mm_storeu_si128((void *)(q + i), _mm512_cvtsepi32_epi8(lo));
        _mm_storeu_si128((void *)(q + i + 16), _mm512_cvtsepi32_epi8(hi));
        int32_t low = _mm512_reduce_add_epi32(lo), high = _mm512_reduce_add_epi32(hi);
        *b = (cdl_activation_block){ .d = d, .s = d * (float)(low + high), .s_low = d * (float)low, .s_high = d * (float)high,
                                     .n = -(low + high), .n_low = -low, .n_high = -high };
    }
}

static void act_mul(cdl_act act, float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += LANES)
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(cdl_act_avx512(act, _mm512_loadu_ps(gate + i)), _mm512_loadu_ps(up + i)));
}

static const cdl_product_set set = { panel_fn, quantise, act_mul };

static void run_quantise(const void *arg, uint32_t chunk, void *scratch)
{
    (void)scratch;
    cdl_product_quantise(arg, chunk, &set);
}

static void run_panels(const void *arg, uint32_t chunk, void *scratch)
{
    cdl_product_run(arg, chunk, scratch, &set);
}

static void emit(const cdl_call *c, uint32_t threads, cdl_phases *out)
{
    (void)threads;
    cdl_product_emit(c, out, run_quantise, run_panels);
}

const cdl_cpu_kernel cdl_LINEAR_avx512 = { cdl_product_workspace, emit };
const cdl_cpu_kernel cdl_LINEAR_GLU_avx512 = { cdl_product_workspace, emit };
