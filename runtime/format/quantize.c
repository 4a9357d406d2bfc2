/* quantize.c - f32 to every element type that cuddle writes.
 *
 * A block's scale (and minimum) is searched: each candidate rounds the values, the scale that fits the
 * rounded values best by weighted least squares replaces it, the smallest error wins. Large weights
 * count more (root mean square + |x|): they do most of a product. Superblocks then round their
 * blocks' scales and fit the two f16 factors once more to what was rounded.
 * Layouts: quant.c, its inverse.   Tests: tests/unit/test_dtype.c */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "format/dtype.h"

enum { SUPER = 256, BLOCK = 32, SUBS_MAX = 16 };

/* To the nearest integer, ties to even, for |x| < 2^22. Vectorises where rintf does not. */
static inline float nearest(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

static inline float clamp(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static inline void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* Stores d as f16 and gives what was stored. */
static inline float put_half(uint8_t *p, float d)
{
    uint16_t h = cdl_f16_from_f32(d);
    put_u16(p, h);
    return cdl_f32_from_f16(h);
}

static inline float reciprocal(float d)
{
    return d != 0 ? 1 / d : 0;
}

static void weigh(float *w, const float *x, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    float rms = sqrtf(sum / (float)n);
    for (int i = 0; i < n; i++)
        w[i] = rms + fabsf(x[i]);
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = 0;
    for (int i = 0; i < n; i++)
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

/* ---- Searches ---- */

/* x ~ d q with q in [-levels, levels - 1]: the d of least weighted error. */
static float fit_symmetric(const float *x, const float *w, int n, float levels)
{
    float top = extreme(x, n), best = 0, gain = 0;
    if (fabsf(top) < 1e-30f)
        return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -(levels + 0.1f * (float)step) / top, xq = 0, qq = 0;
        for (int i = 0; i < n; i++) {
            float q = clamp(nearest(inverse * x[i]), -levels, levels - 1);
            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        if (qq > 0 && xq * xq > gain * qq) { /* the error is sum w x^2 - xq^2 / qq */
            gain = xq * xq / qq;
            best = xq / qq;
        }
    }
    return best;
}

typedef struct {
    float scale, min;
} affine;

typedef struct {
    float levels;              /* q in [0, levels]                          */
    float first, step;         /* candidates: levels + first + i x step     */
    int steps;
    bool min_below_zero;       /* the type stores -min, unsigned            */
} affine_search;

static float affine_error(const float *x, const float *w, int n, affine a, float levels)
{
    float inverse = reciprocal(a.scale), error = 0;
    for (int i = 0; i < n; i++) {
        float q = clamp(nearest((x[i] - a.min) * inverse), 0, levels);
        float d = a.scale * q + a.min - x[i];
        error += w[i] * d * d;
    }
    return error;
}

/* Least squares for x ~ scale q + min, where q rounds x by the given start. */
static affine refit(const float *x, const float *w, int n, affine start, const affine_search *s)
{
    float inverse = reciprocal(start.scale), sw = 0, sx = 0, sq = 0, sqq = 0, sxq = 0;
    for (int i = 0; i < n; i++) {
        float q = clamp(nearest((x[i] - start.min) * inverse), 0, s->levels);
        sw += w[i];
        sx += w[i] * x[i];
        sq += w[i] * q;
        sqq += w[i] * q * q;
        sxq += w[i] * x[i] * q;
    }
    float det = sw * sqq - sq * sq;
    if (!(det > 0) || !(sqq > 0))
        return start;
    affine a = { (sw * sxq - sx * sq) / det, (sqq * sx - sq * sxq) / det };
    if (s->min_below_zero && a.min > 0)
        a = (affine){ sxq / sqq, 0 };
    return a;
}

static affine fit_affine(const float *x, const float *w, int n, const affine_search *s)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (s->min_below_zero && low > 0)
        low = 0;
    affine best = { (high - low) / s->levels, low };
    if (!(high - low > 1e-30f))
        return (affine){ 0, low };
    float least = affine_error(x, w, n, best, s->levels);
    for (int i = 0; i <= s->steps; i++) {
        affine start = { (high - low) / (s->levels + s->first + s->step * (float)i), low };
        affine a = refit(x, w, n, start, s);
        float error = affine_error(x, w, n, a, s->levels);
        if (error < least) {
            least = error;
            best = a;
        }
    }
    return best;
}

/* ---- 32 weights a block ---- */

static void quantize_symmetric(uint8_t *q, const float *x, int n, float d, int levels)
{
    float inverse = reciprocal(d);
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)((int)clamp(nearest(x[i] * inverse), (float)-levels, (float)(levels - 1)) + levels);
}

static void quantize_affine(uint8_t *q, const float *x, int n, affine a, float levels)
{
    float inverse = reciprocal(a.scale);
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)clamp(nearest((x[i] - a.min) * inverse), 0, levels);
}

static void put_nibbles(uint8_t *b, const uint8_t *q)
{
    for (int i = 0; i < 16; i++)
        b[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

/* The fifth bits of 32 weights. */
static void put_fifth(uint8_t *b, const uint8_t *q)
{
    memset(b, 0, 4);
    for (int i = 0; i < BLOCK; i++)
        b[i / 8] |= (uint8_t)((q[i] >> 4 & 1) << i % 8);
}

static bool q4_0(uint8_t *b, const float *x)
{
    float w[BLOCK];
    uint8_t q[BLOCK];
    weigh(w, x, BLOCK);
    float d = put_half(b, fit_symmetric(x, w, BLOCK, 8));
    quantize_symmetric(q, x, BLOCK, d, 8);
    put_nibbles(b + 2, q);
    return isfinite(d);
}

static bool q5_0(uint8_t *b, const float *x)
{
    float w[BLOCK];
    uint8_t q[BLOCK];
    weigh(w, x, BLOCK);
    float d = put_half(b, fit_symmetric(x, w, BLOCK, 16));
    quantize_symmetric(q, x, BLOCK, d, 16);
    put_fifth(b + 2, q);
    put_nibbles(b + 6, q);
    return isfinite(d);
}

/* d, m, and the values of a block of q4_1 or q5_1. */
static bool affine_block(uint8_t *b, uint8_t *q, const float *x, const affine_search *s)
{
    float w[BLOCK];
    weigh(w, x, BLOCK);
    affine a = fit_affine(x, w, BLOCK, s);
    a.scale = put_half(b, a.scale);
    a.min = put_half(b + 2, a.min);
    quantize_affine(q, x, BLOCK, a, s->levels);
    return isfinite(a.scale) && isfinite(a.min);
}

static bool q4_1(uint8_t *b, const float *x)
{
    static const affine_search search = { 15, -1, 0.1f, 20, false };
    uint8_t q[BLOCK];
    bool ok = affine_block(b, q, x, &search);
    put_nibbles(b + 4, q);
    return ok;
}

static bool q5_1(uint8_t *b, const float *x)
{
    static const affine_search search = { 31, -0.5f, 0.1f, 15, false };
    uint8_t q[BLOCK];
    bool ok = affine_block(b, q, x, &search);
    put_fifth(b + 4, q);
    put_nibbles(b + 8, q);
    return ok;
}

static bool q8_0(uint8_t *b, const float *x)
{
    float exact = fabsf(extreme(x, BLOCK)) / 127, d = put_half(b, exact), inverse = reciprocal(exact);
    for (int i = 0; i < BLOCK; i++)
        b[2 + i] = (uint8_t)(int8_t)clamp(nearest(x[i] * inverse), -127, 127);
    return isfinite(d);
}

static const int8_t iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

/* The index of the nearest of iq4_values. */
static int iq4_index(float v)
{
    int n = 0;
    for (int i = 0; i < 15; i++)
        n += v > 0.5f * (float)(iq4_values[i] + iq4_values[i + 1]);
    return n;
}

static bool iq4_nl(uint8_t *b, const float *x)
{
    float w[BLOCK], top = extreme(x, BLOCK), best = 0, gain = 0;
    uint8_t q[BLOCK];
    weigh(w, x, BLOCK);
    for (int step = -7; step <= 7 && fabsf(top) > 1e-30f; step++) {
        float inverse = (float)(iq4_values[0] + step) / top, xq = 0, qq = 0;
        for (int i = 0; i < BLOCK; i++) {
            float v = iq4_values[iq4_index(inverse * x[i])];
            xq += w[i] * x[i] * v;
            qq += w[i] * v * v;
        }
        if (qq > 0 && xq * xq > gain * qq) {
            gain = xq * xq / qq;
            best = xq / qq;
        }
    }
    float d = put_half(b, best), inverse = reciprocal(d);
    for (int i = 0; i < BLOCK; i++)
        q[i] = (uint8_t)iq4_index(inverse * x[i]);
    put_nibbles(b + 2, q);
    return isfinite(d);
}

/* ---- 256 weights a block, blocks with scale and minimum: q2_k, q4_k, q5_k ---- */

typedef struct {
    affine_search search;
    int size;                  /* of a block               */
    float scale_levels;        /* scales, mins in 0 .. this */
} affine_super;

typedef struct {
    float d, dmin;             /* as f16 holds them        */
    uint8_t scale[SUBS_MAX], min[SUBS_MAX];
    uint8_t q[SUPER];
} affine_result;

static float to_half_and_back(float x)
{
    return cdl_f32_from_f16(cdl_f16_from_f32(x));
}

static float super_quantize(affine_result *r, const float *x, const float *w, const affine_super *s)
{
    float error = 0;
    for (int j = 0; j < SUPER / s->size; j++) {
        affine a = { r->d * (float)r->scale[j], -r->dmin * (float)r->min[j] };
        int at = j * s->size;
        quantize_affine(r->q + at, x + at, s->size, a, s->search.levels);
        for (int i = at; i < at + s->size; i++) {
            float d = a.scale * (float)r->q[i] + a.min - x[i];
            error += w[i] * d * d;
        }
    }
    return error;
}

/* The least-squares d and dmin of x ~ d (scale q) - dmin min. */
static void super_refit(affine_result *r, const float *x, const float *w, const affine_super *s)
{
    float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int i = 0; i < SUPER; i++) {
        int j = i / s->size;
        float a = (float)r->scale[j] * (float)r->q[i], b = -(float)r->min[j];
        aa += w[i] * a * a;
        ab += w[i] * a * b;
        bb += w[i] * b * b;
        ax += w[i] * a * x[i];
        bx += w[i] * b * x[i];
    }
    float det = aa * bb - ab * ab;
    if (det > 1e-6f * aa * bb) {
        r->d = to_half_and_back((bb * ax - ab * bx) / det);
        r->dmin = to_half_and_back((aa * bx - ab * ax) / det);
    } else if (aa > 0 && bb == 0) {
        r->d = to_half_and_back(ax / aa);
    }
}

static void super_affine(affine_result *r, const float *x, const affine_super *s)
{
    int subs = SUPER / s->size;
    affine fit[SUBS_MAX];
    float w[SUPER], scale_top = 0, min_top = 0;
    for (int j = 0; j < subs; j++) {
        int at = j * s->size;
        weigh(w + at, x + at, s->size);
        fit[j] = fit_affine(x + at, w + at, s->size, &s->search);
        scale_top = fmaxf(scale_top, fit[j].scale);
        min_top = fmaxf(min_top, -fit[j].min);
    }
    r->d = to_half_and_back(scale_top / s->scale_levels);
    r->dmin = to_half_and_back(min_top / s->scale_levels);
    float per_d = reciprocal(scale_top / s->scale_levels), per_min = reciprocal(min_top / s->scale_levels);
    for (int j = 0; j < subs; j++) {
        r->scale[j] = (uint8_t)clamp(nearest(fit[j].scale * per_d), 0, s->scale_levels);
        r->min[j] = (uint8_t)clamp(nearest(-fit[j].min * per_min), 0, s->scale_levels);
    }
    float error = super_quantize(r, x, w, s);
    affine_result again = *r;
    for (int i = 0; i < 2; i++) {
        super_refit(&again, x, w, s);
        float e = super_quantize(&again, x, w, s);
        if (!(e < error))
            break;
        error = e;
        *r = again;
    }
}

static bool q2_k(uint8_t *b, const float *x)
{
    static const affine_super type = { { 3, -0.5f, 0.1f, 15, true }, 16, 15 };
    affine_result r;
    super_affine(&r, x, &type);
    for (int j = 0; j < 16; j++)
        b[j] = (uint8_t)(r.scale[j] | r.min[j] << 4);
    for (int i = 0; i < 64; i++) {
        const uint8_t *q = r.q + 128 * (i / 32) + i % 32;
        b[16 + i] = (uint8_t)(q[0] | q[32] << 2 | q[64] << 4 | q[96] << 6);
    }
    put_half(b + 80, r.d);
    put_half(b + 82, r.dmin);
    return isfinite(r.d) && isfinite(r.dmin);
}

/* d, dmin and the 8 six-bit pairs of q4_k and q5_k. */
static bool put_scales(uint8_t *b, const affine_result *r)
{
    put_half(b, r->d);
    put_half(b + 2, r->dmin);
    for (int j = 0; j < 4; j++) {
        b[4 + j] = (uint8_t)(r->scale[j] | (r->scale[j + 4] >> 4) << 6);
        b[8 + j] = (uint8_t)(r->min[j] | (r->min[j + 4] >> 4) << 6);
        b[12 + j] = (uint8_t)((r->scale[j + 4] & 15) | (r->min[j + 4] & 15) << 4);
    }
    return isfinite(r->d) && isfinite(r->dmin);
}

/* Low nibbles: 32 weights, then the next 32 in the high halves. */
static void put_nibbles_64(uint8_t *b, const uint8_t *q)
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *p = q + 64 * (i / 32) + i % 32;
        b[i] = (uint8_t)((p[0] & 15) | (p[32] & 15) << 4);
    }
}

static bool q4_k(uint8_t *b, const float *x)
{
    static const affine_super type = { { 15, -1, 0.1f, 20, true }, 32, 63 };
    affine_result r;
    super_affine(&r, x, &type);
    put_nibbles_64(b + 16, r.q);
    return put_scales(b, &r);
}

static bool q5_k(uint8_t *b, const float *x)
{
    static const affine_super type = { { 31, -0.5f, 0.1f, 15, true }, 32, 63 };
    affine_result r;
    super_affine(&r, x, &type);
    memset(b + 16, 0, 32);
    for (int i = 0; i < SUPER; i++)
        b[16 + i % 32] |= (uint8_t)((r.q[i] >> 4) << i / 32);
    put_nibbles_64(b + 48, r.q);
    return put_scales(b, &r);
}

/* ---- 256 weights a block, 16 signed scales: q3_k, q6_k ---- */

typedef struct {
    float d;
    int8_t scale[SUBS_MAX];
    uint8_t q[SUPER];          /* plus levels */
} symmetric_result;

static float signed_quantize(symmetric_result *r, const float *x, const float *w, int levels)
{
    float error = 0;
    for (int j = 0; j < 16; j++) {
        float d = r->d * (float)r->scale[j];
        quantize_symmetric(r->q + 16 * j, x + 16 * j, 16, d, levels);
        for (int i = 16 * j; i < 16 * j + 16; i++) {
            float e = d * (float)(r->q[i] - levels) - x[i];
            error += w[i] * e * e;
        }
    }
    return error;
}

static float signed_refit(const symmetric_result *r, const float *x, const float *w, int levels)
{
    float xq = 0, qq = 0;
    for (int i = 0; i < SUPER; i++) {
        float q = (float)r->scale[i / 16] * (float)(r->q[i] - levels);
        xq += w[i] * x[i] * q;
        qq += w[i] * q * q;
    }
    return qq > 0 ? to_half_and_back(xq / qq) : r->d;
}

/* Scales in [-scale_levels, scale_levels - 1]. */
static void super_symmetric(symmetric_result *r, const float *x, int levels, float scale_levels)
{
    float w[SUPER], fit[16];
    for (int j = 0; j < 16; j++) {
        weigh(w + 16 * j, x + 16 * j, 16);
        fit[j] = fit_symmetric(x + 16 * j, w + 16 * j, 16, (float)levels);
    }
    float exact = -extreme(fit, 16) / scale_levels, inverse = reciprocal(exact);
    r->d = to_half_and_back(exact);
    for (int j = 0; j < 16; j++)
        r->scale[j] = (int8_t)clamp(nearest(fit[j] * inverse), -scale_levels, scale_levels - 1);
    float error = signed_quantize(r, x, w, levels);
    symmetric_result again = *r;
    for (int i = 0; i < 2; i++) {
        again.d = signed_refit(&again, x, w, levels);
        float e = signed_quantize(&again, x, w, levels);
        if (!(e < error))
            break;
        error = e;
        *r = again;
    }
}

static bool q3_k(uint8_t *b, const float *x)
{
    symmetric_result r;
    super_symmetric(&r, x, 4, 32);
    memset(b, 0, 110);
    for (int i = 0; i < SUPER; i++) { /* the third bits, two low bits */
        b[i % 32] |= (uint8_t)((r.q[i] >> 2) << i / 32);
        b[32 + 32 * (i / 128) + i % 32] |= (uint8_t)((r.q[i] & 3) << 2 * (i / 32 % 4));
    }
    for (int j = 0; j < 16; j++) {
        int s = r.scale[j] + 32;
        b[96 + j % 8] |= (uint8_t)((s & 15) << 4 * (j / 8));
        b[104 + j % 4] |= (uint8_t)((s >> 4) << 2 * (j / 4));
    }
    put_half(b + 108, r.d);
    return isfinite(r.d);
}

static bool q6_k(uint8_t *b, const float *x)
{
    symmetric_result r;
    super_symmetric(&r, x, 32, 128);
    for (int n = 0; n < 2; n++) {
        const uint8_t *q = r.q + 128 * n;
        uint8_t *low = b + 64 * n, *high = b + 128 + 32 * n;
        for (int i = 0; i < 32; i++) {
            low[i] = (uint8_t)((q[i] & 15) | (q[i + 64] & 15) << 4);
            low[i + 32] = (uint8_t)((q[i + 32] & 15) | (q[i + 96] & 15) << 4);
            high[i] = (uint8_t)(q[i] >> 4 | (q[i + 32] >> 4) << 2 | (q[i + 64] >> 4) << 4 | (q[i + 96] >> 4) << 6);
        }
    }
    memcpy(b + 192, r.scale, 16);
    put_half(b + 208, r.d);
    return isfinite(r.d);
}

/* ---- */

typedef bool (*block_fn)(uint8_t *b, const float *x); /* false: a scale does not fit in f16 */

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
    default: return NULL;
    }
}

/* No NaN, no infinity, and nothing beyond what the largest f16 scales reach: sums of squares stay finite. */
static bool in_range(const float *x, size_t n)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok &= fabsf(x[i]) <= 1e9f;
    return ok;
}

static cuddle_status quantize_blocks(uint8_t *dst, cdl_dtype t, const float *src, size_t n)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    block_fn block = block_of(t);
    for (size_t i = 0; i < n; i += info->block, dst += info->bytes)
        if (!in_range(src + i, info->block) || !block(dst, src + i))
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "a value is not finite or too large for %s; write f32 or bf16",
                    info->name);
    return CUDDLE_OK;
}

cuddle_status cdl_dtype_from_f32(void *dst, cdl_dtype t, const float *src, size_t n)
{
    uint8_t *p = dst;
    if (block_of(t))
        return quantize_blocks(p, t, src, n);
    if (t == CDL_DTYPE_F32)
        memcpy(p, src, n * 4);
    else if (t == CDL_DTYPE_F16)
        for (size_t i = 0; i < n; i++)
            put_u16(p + 2 * i, cdl_f16_from_f32(src[i]));
    else if (t == CDL_DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            put_u16(p + 2 * i, cdl_bf16_from_f32(src[i]));
    else
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "cuddle reads %s but does not write it", cdl_dtype_get(t)->name);
    return CUDDLE_OK;
}
