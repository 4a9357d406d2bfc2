/* quant.c - every element type to f32, as ggml's reference does it, bit for bit in f32. */
#include <string.h>

#include "base/half.h"
#include "format/dtype.h"

static inline uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline float half(const uint8_t *p)
{
    return cdl_f32_from_f16(u16(p));
}

/* ---- 32 weights a block ---- */

static void q4_0(float *y, const uint8_t *b)
{
    float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((b[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static void q4_1(float *y, const uint8_t *b)
{
    float d = half(b), m = half(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)(b[4 + i] & 15) * d + m;
        y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

/* The fifth bits of 32 weights. */
static inline uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void q5_0(float *y, const uint8_t *b)
{
    float d = half(b);
    uint32_t high = u32(b + 2);
    for (int i = 0; i < 16; i++) {
        int lo = (b[6 + i] & 15) | (int)(high >> i & 1) << 4, hi = (b[6 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)(lo - 16) * d;
        y[i + 16] = (float)(hi - 16) * d;
    }
}

static void q5_1(float *y, const uint8_t *b)
{
    float d = half(b), m = half(b + 2);
    uint32_t high = u32(b + 4);
    for (int i = 0; i < 16; i++) {
        int lo = (b[8 + i] & 15) | (int)(high >> i & 1) << 4, hi = (b[8 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)lo * d + m;
        y[i + 16] = (float)hi * d + m;
    }
}

static void q8_0(float *y, const uint8_t *b)
{
    float d = half(b);
    for (int i = 0; i < 32; i++)
        y[i] = (float)(int8_t)b[2 + i] * d;
}

static const int8_t iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

static void iq4_nl(float *y, const uint8_t *b)
{
    float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)iq4_values[b[2 + i] & 15];
        y[i + 16] = d * (float)iq4_values[b[2 + i] >> 4];
    }
}

/* e8m0 halved, because the values below are doubled. */
static float e8m0_half(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static void mxfp4(float *y, const uint8_t *b)
{
    static const int8_t values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    float d = e8m0_half(b[0]);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)values[b[1 + i] & 15];
        y[i + 16] = d * (float)values[b[1 + i] >> 4];
    }
}

/* ---- 256 weights a block ---- */

static void q2_k(float *y, const uint8_t *b)
{
    const uint8_t *scales = b, *q = b + 16;
    float d = half(b + 80), min = half(b + 82);
    for (int n = 0, is = 0; n < 2; n++, q += 32) {
        for (int shift = 0; shift < 8; shift += 2) {
            for (int h = 0; h < 2; h++, is++) {
                float dl = d * (float)(scales[is] & 15), ml = min * (float)(scales[is] >> 4);
                for (int l = 0; l < 16; l++)
                    *y++ = dl * (float)(q[16 * h + l] >> shift & 3) - ml;
            }
        }
    }
}

/* The 16 six-bit scales of q3_k. */
static void q3_k_scales(int8_t *out, const uint8_t *s)
{
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
        out[i] = (int8_t)((low | high << 4) - 32);
    }
}

static void q3_k(float *y, const uint8_t *b)
{
    const uint8_t *mask = b, *q = b + 32;
    float d = half(b + 108);
    int8_t scales[16];
    q3_k_scales(scales, b + 96);
    for (int n = 0, is = 0; n < 2; n++, q += 32) {
        for (int j = 0; j < 4; j++) {
            for (int h = 0; h < 2; h++, is++) {
                float dl = d * (float)scales[is];
                for (int l = 0; l < 16; l++) {
                    int at = 16 * h + l, sub = mask[at] >> (4 * n + j) & 1 ? 0 : 4;
                    *y++ = dl * (float)((q[at] >> 2 * j & 3) - sub);
                }
            }
        }
    }
}

/* Six-bit scale and minimum j of the 8 in 12 bytes of q4_k and q5_k. */
static void scale_min(int j, const uint8_t *s, uint8_t *d, uint8_t *m)
{
    if (j < 4) {
        *d = s[j] & 63;
        *m = s[j + 4] & 63;
    } else {
        *d = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *m = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

static void q4_k(float *y, const uint8_t *b)
{
    float d = half(b), min = half(b + 2);
    const uint8_t *q = b + 16;
    for (int j = 0; j < 8; j++) {
        uint8_t sc, m;
        scale_min(j, b + 4, &sc, &m);
        float dl = d * (float)sc, ml = min * (float)m;
        for (int l = 0; l < 32; l++)
            *y++ = dl * (float)(q[32 * (j / 2) + l] >> 4 * (j % 2) & 15) - ml;
    }
}

static void q5_k(float *y, const uint8_t *b)
{
    float d = half(b), min = half(b + 2);
    const uint8_t *high = b + 16, *q = b + 48;
    for (int j = 0; j < 8; j++) {
        uint8_t sc, m;
        scale_min(j, b + 4, &sc, &m);
        float dl = d * (float)sc, ml = min * (float)m;
        for (int l = 0; l < 32; l++) {
            int low = q[32 * (j / 2) + l] >> 4 * (j % 2) & 15;
            *y++ = dl * (float)(low + (high[l] >> j & 1) * 16) - ml;
        }
    }
}

static void q6_k(float *y, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 128;
    const int8_t *scales = (const int8_t *)b + 192;
    float d = half(b + 208);
    for (int n = 0; n < 2; n++, y += 128, low += 64, high += 32, scales += 8) {
        for (int l = 0; l < 32; l++) {
            int is = l / 16;
            int q1 = ((low[l] & 15) | (high[l] & 3) << 4) - 32;
            int q2 = ((low[l + 32] & 15) | (high[l] >> 2 & 3) << 4) - 32;
            int q3 = (low[l] >> 4 | (high[l] >> 4 & 3) << 4) - 32;
            int q4 = (low[l + 32] >> 4 | (high[l] >> 6 & 3) << 4) - 32;
            y[l] = d * (float)scales[is] * (float)q1;
            y[l + 32] = d * (float)scales[is + 2] * (float)q2;
            y[l + 64] = d * (float)scales[is + 4] * (float)q3;
            y[l + 96] = d * (float)scales[is + 6] * (float)q4;
        }
    }
}

static void iq4_xs(float *y, const uint8_t *b)
{
    float d = half(b);
    uint16_t high = u16(b + 2);
    const uint8_t *low = b + 4, *q = b + 8;
    for (int j = 0; j < 8; j++, q += 16, y += 32) {
        int scale = (low[j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
        float dl = d * (float)(scale - 32);
        for (int l = 0; l < 16; l++) {
            y[l] = dl * (float)iq4_values[q[l] & 15];
            y[l + 16] = dl * (float)iq4_values[q[l] >> 4];
        }
    }
}

/* ---- Dense ---- */

static float f8(uint8_t v, int mantissa, int bias, bool has_inf)
{
    int exponent_max = (1 << (7 - mantissa)) - 1;
    int e = v >> mantissa & exponent_max, m = v & ((1 << mantissa) - 1);
    float sign = v & 128 ? -1.0f : 1.0f;
    if (e == exponent_max && has_inf)
        return m ? __builtin_nanf("") : sign * __builtin_inff();
    if (!has_inf && (v & 127) == 127)
        return __builtin_nanf("");
    float f = e ? (float)(m + (1 << mantissa)) : (float)m;
    return sign * __builtin_ldexpf(f, (e ? e : 1) - bias - mantissa);
}

static float element(cdl_dtype t, const uint8_t *p)
{
    union { float f; double d; int16_t s; int32_t i; int64_t l; } u = { .l = 0 };
    memcpy(&u, p, cdl_dtype_get(t)->bytes);
    switch (t) {
    case CDL_DTYPE_F32: return u.f;
    case CDL_DTYPE_F64: return (float)u.d;
    case CDL_DTYPE_F16: return cdl_f32_from_f16(u16(p));
    case CDL_DTYPE_BF16: return cdl_f32_from_bf16(u16(p));
    case CDL_DTYPE_F8E4M3: return f8(*p, 3, 7, false);
    case CDL_DTYPE_F8E5M2: return f8(*p, 2, 15, true);
    case CDL_DTYPE_I8: return (float)(int8_t)*p;
    case CDL_DTYPE_I16: return (float)u.s;
    case CDL_DTYPE_I32: return (float)u.i;
    case CDL_DTYPE_I64: return (float)u.l;
    default: return (float)*p;
    }
}

static void int4(float *y, const uint8_t *b, int n)
{
    float scale = cdl_f32_from_f16(u16(b)), zero = (float)u16(b + 2);
    for (int i = 0; i < n; i++)
        y[i] = ((float)(b[4 + i / 2] >> 4 * (i % 2) & 15) - zero) * scale;
}

static void i4_g32(float *y, const uint8_t *b) { int4(y, b, 32); }
static void i4_g64(float *y, const uint8_t *b) { int4(y, b, 64); }
static void i4_g128(float *y, const uint8_t *b) { int4(y, b, 128); }

typedef void (*block_fn)(float *y, const uint8_t *b);

static block_fn block_of(cdl_dtype t)
{
    switch (t) {
    case CDL_DTYPE_Q4_0: return q4_0;
    case CDL_DTYPE_Q4_1: return q4_1;
    case CDL_DTYPE_Q5_0: return q5_0;
    case CDL_DTYPE_Q5_1: return q5_1;
    case CDL_DTYPE_Q8_0: return q8_0;
    case CDL_DTYPE_Q2_K: return q2_k;
    case CDL_DTYPE_Q3_K: return q3_k;
    case CDL_DTYPE_Q4_K: return q4_k;
    case CDL_DTYPE_Q5_K: return q5_k;
    case CDL_DTYPE_Q6_K: return q6_k;
    case CDL_DTYPE_IQ4_NL: return iq4_nl;
    case CDL_DTYPE_IQ4_XS: return iq4_xs;
    case CDL_DTYPE_MXFP4: return mxfp4;
    case CDL_DTYPE_I4_G32: return i4_g32;
    case CDL_DTYPE_I4_G64: return i4_g64;
    case CDL_DTYPE_I4_G128: return i4_g128;
    default: return NULL;
    }
}

void cdl_dtype_to_f32(float *dst, cdl_dtype t, const void *src, size_t n)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    const uint8_t *p = src;
    block_fn block = block_of(t);
    if (t == CDL_DTYPE_F32)
        memcpy(dst, src, n * 4);
    else if (block)
        for (size_t i = 0; i < n; i += info->block, p += info->bytes)
            block(dst + i, p);
    else
        for (size_t i = 0; i < n; i++, p += info->bytes)
            dst[i] = element(t, p);
}
