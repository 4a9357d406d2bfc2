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

#include "cpu/decode_avx512.h"
#include "cpu/product.h"
#include "cpu/vmath_avx512.h"

enum { AHEAD = 1536 };

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

const cdl_product_set cdl_product_avx512 = { panel_fn, quantise, act_mul };

static void run_quantise(const void *arg, uint32_t chunk, void *scratch)
{
    (void)scratch;
    cdl_product_quantise(arg, chunk, &cdl_product_avx512);
}

static void run_panels(const void *arg, uint32_t chunk, void *scratch)
{
    cdl_product_run(arg, chunk, scratch, &cdl_product_avx512);
}

static void emit(const cdl_call *c, uint32_t threads, cdl_phases *out)
{
    (void)threads;
    cdl_product_emit(c, out, run_quantise, run_panels);
}

const cdl_cpu_kernel cdl_LINEAR_avx512 = { cdl_product_workspace, emit };
const cdl_cpu_kernel cdl_LINEAR_GLU_avx512 = { cdl_product_workspace, emit };
