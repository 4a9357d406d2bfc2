/* test_tiles.c - the AMX products: near the plain twins as bf16 allows, and with bits that depend on a row
 * alone. On a CPU without AMX the tile instructions are carried out by amx_trap.h. (No name that ends
 * in _amx: this program itself must start on any CPU.) */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernel/tiles.h"

extern const cdl_cpu_kernel cdl_LINEAR_amx, cdl_LINEAR_GLU_amx;

/* ---- Calls ---- */

/* A product with all that can come with it. */
typedef struct {
    kernel_matrix w, up;       /* up: only of LINEAR_GLU */
    cdl_linear_attrs linear;
    cdl_glu_attrs glu;
    bool is_glu;
    uint32_t rows, cols, out_cols, stride;
    float *x, *bias, *up_bias, *residual;
} product;

static product product_new(const cdl_dtype *types, const uint32_t *weight_rows, uint32_t n, uint32_t cols,
        uint32_t rows, bool glu, uint64_t seed)
{
    kernel_random r = { seed };
    product p = { .is_glu = glu, .rows = rows, .cols = cols, .stride = cols + 3 };
    p.w = kernel_matrix_new(types, weight_rows, n, cols, &r);
    p.out_cols = p.w.pack.rows;
    if (glu)
        p.up = kernel_matrix_new(types, weight_rows, n, cols, &r);
    p.x = kernel_floats((size_t)rows * p.stride, &r);
    p.bias = kernel_floats(p.out_cols, &r);
    p.up_bias = kernel_floats(p.out_cols, &r);
    p.residual = kernel_floats((size_t)rows * p.out_cols, &r);
    p.linear = (cdl_linear_attrs){ seed & 1, seed >> 1 & 1 };
    p.glu = (cdl_glu_attrs){ seed % CDL_ACT_COUNT, seed & 1 };
    return p;
}

static void product_free(product *p)
{
    kernel_matrix_free(&p->w);
    if (p->is_glu)
        kernel_matrix_free(&p->up);
    free(p->x);
    free(p->bias);
    free(p->up_bias);
    free(p->residual);
}

/* Rows [first, first + n) of the product by a set; the leading `generated` of them are generated rows. */
typedef struct {
    uint32_t first, n, generated, threads;
    bool f32;
} slice;

static void run_packs(const cdl_cpu_set *set, const product *p, const cdl_pack *w, const cdl_pack *up,
        const float *x, slice s, float *out)
{
    cdl_step step = { .rows = s.n, .rows_generated = s.generated, .f32_activations = s.f32 };
    cdl_call c = { .op = p->is_glu ? CDL_OP_LINEAR_GLU : CDL_OP_LINEAR,
                   .attrs = p->is_glu ? (const void *)&p->glu : &p->linear,
                   .rows_generated = s.generated, .step = &step, .name = "product", .n_in = 1 };
    c.in[0] = kernel_view(x + (size_t)s.first * p->stride, s.n, p->cols);
    c.in[0].stride = p->stride;
    c.in[c.n_in++] = kernel_pack_view(w);
    if (p->is_glu)
        c.in[c.n_in++] = kernel_pack_view(up);
    if (p->is_glu ? p->glu.has_bias : p->linear.has_bias)
        c.in[c.n_in++] = kernel_view(p->bias, 1, p->out_cols);
    if (p->is_glu && p->glu.has_bias)
        c.in[c.n_in++] = kernel_view(p->up_bias, 1, p->out_cols);
    if (!p->is_glu && p->linear.has_residual)
        c.in[c.n_in++] = kernel_view(p->residual + (size_t)s.first * p->out_cols, s.n, p->out_cols);
    c.out = kernel_view(out, s.n, p->out_cols);
    tiles_run(set, s.threads, &c);
}

static float *run_slice(const cdl_cpu_set *set, const product *p, slice s)
{
    float *out = malloc((size_t)s.n * p->out_cols * sizeof *out + 1);
    run_packs(set, p, &p->w.pack, p->is_glu ? &p->up.pack : NULL, p->x, s, out);
    return out;
}

/* ---- Near the plain twin ---- */

/* The plain twin with weights and activations rounded to bf16. */
static float *run_rounded(const product *p, slice s)
{
    float *out = malloc((size_t)s.n * p->out_cols * sizeof *out + 1);
    float *x = malloc((size_t)p->rows * p->stride * sizeof *x);
    for (size_t i = 0; i < (size_t)p->rows * p->stride; i++)
        x[i] = cdl_f32_from_bf16(cdl_bf16_from_f32(p->x[i]));
    kernel_matrix w = kernel_matrix_bf16(&p->w.pack), up = { 0 };
    if (p->is_glu)
        up = kernel_matrix_bf16(&p->up.pack);
    run_packs(kernel_set(0), p, &w.pack, &up.pack, x, s, out);
    kernel_matrix_free(&w);
    if (p->is_glu)
        kernel_matrix_free(&up);
    free(x);
    return out;
}

typedef struct { double rms, max; } gap;

static gap gap_of(const float *a, const float *b, size_t n)
{
    gap g = { 0, 0 };
    for (size_t i = 0; i < n; i++) {
        double d = b ? fabs((double)a[i] - (double)b[i]) : fabs((double)a[i]);
        g.rms += d * d / (double)n;
        g.max = d > g.max || isnan(d) ? d : g.max;
    }
    g.rms = sqrt(g.rms);
    return g;
}

/* The error is at most twice that of rounding both sides to bf16, and nearly all of it is that rounding. */
static void check_near(const product *p, const char *what)
{
    slice all = { .n = p->rows };
    size_t n = (size_t)p->rows * p->out_cols;
    float *fast = run_slice(&amx, p, all), *exact = run_slice(kernel_set(0), p, all), *plain = run_rounded(p, all);
    gap size = gap_of(exact, NULL, n), allowed = gap_of(plain, exact, n);
    gap is = gap_of(fast, exact, n), apart = gap_of(fast, plain, n);
    bool good = is.rms <= 2 * allowed.rms + 1e-6 * size.rms && is.max <= 2 * allowed.max + 2e-6 * size.max
        && apart.rms <= 0.25 * allowed.rms + 1e-6 * size.rms;
    if (!good)
        fail_msg("%s, rows %u, %u -> %u: error rms %g max %g, of bf16 rounding %g %g, apart %g, size %g", what, p->rows,
                p->cols, p->out_cols, is.rms, is.max, allowed.rms, allowed.max, apart.rms, size.rms);
    free(fast);
    free(exact);
    free(plain);
}

static void check_shape(cdl_dtype t, uint32_t weight_rows, uint32_t cols, uint32_t rows, bool glu, uint64_t seed)
{
    product p = product_new(&t, &weight_rows, 1, cols, rows, glu, seed);
    check_near(&p, cdl_dtype_get(t)->name);
    product_free(&p);
}

static const cdl_dtype types[] = {
    CDL_DTYPE_F32, CDL_DTYPE_F16, CDL_DTYPE_BF16, CDL_DTYPE_Q4_0, CDL_DTYPE_Q4_1, CDL_DTYPE_Q5_0,
    CDL_DTYPE_Q5_1, CDL_DTYPE_Q8_0, CDL_DTYPE_Q2_K, CDL_DTYPE_Q3_K, CDL_DTYPE_Q4_K, CDL_DTYPE_Q5_K,
    CDL_DTYPE_Q6_K, CDL_DTYPE_IQ4_NL, CDL_DTYPE_IQ4_XS, CDL_DTYPE_MXFP4,
};
enum { TYPES_N = sizeof types / sizeof *types };

static void test_linear_every_type(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TYPES_N; i++) {
        uint32_t block = cdl_dtype_get(types[i])->block;
        check_shape(types[i], 70, block > 1 ? 3 * block : 101, 40, false, i);
        check_shape(types[i], 1, block > 1 ? block : 1, 1, false, i + 1);
        check_shape(types[i], 33, block > 1 ? block : 33, 17, false, i + 2);
    }
}

static void test_linear_glu_every_type(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TYPES_N; i++) {
        uint32_t block = cdl_dtype_get(types[i])->block;
        check_shape(types[i], 50, block > 1 ? 2 * block : 66, 19, true, i);
        check_shape(types[i], 16, block > 1 ? block : 31, 33, true, i + 1);
    }
}

/* Rows longer than what is kept whole in the cache go in parts. */
static void test_linear_long_rows(void **state)
{
    (void)state;
    check_shape(CDL_DTYPE_Q4_1, 48, 50 * 32, 35, false, 3);
    check_shape(CDL_DTYPE_Q6_K, 40, 9 * 256, 7, true, 4);
    check_shape(CDL_DTYPE_IQ4_NL, 1100, 51 * 32, 17, false, 4);
    check_shape(CDL_DTYPE_BF16, 20, 1537, 18, false, 2);
}

/* More rows than a block of them, and more panels than a chunk takes. */
static void test_linear_many_rows(void **state)
{
    (void)state;
    check_shape(CDL_DTYPE_Q8_0, 100, 32, 300, false, 3);
    check_shape(CDL_DTYPE_Q4_0, 80, 64, 256, true, 2);
    check_shape(CDL_DTYPE_Q4_0, 1100, 32, 1000, false, 1);
    check_shape(CDL_DTYPE_F16, 700, 40, 290, true, 5);
}

static void test_linear_segments_of_several_types(void **state)
{
    static const cdl_dtype mixed[] = { CDL_DTYPE_Q4_K, CDL_DTYPE_Q4_K, CDL_DTYPE_Q6_K, CDL_DTYPE_F32 };
    static const uint32_t rows[] = { 40, 24, 17, 5 };
    (void)state;
    product p = product_new(mixed, rows, 4, 256, 37, false, 7);
    check_near(&p, "segments");
    product_free(&p);
}

/* ---- A row's bits ---- */

static void check_same(const product *p, slice s, const float *whole)
{
    float *part = run_slice(&amx, p, s);
    const float *want = whole + (size_t)s.first * p->out_cols;
    for (size_t i = 0; i < (size_t)s.n * p->out_cols; i++)
        if (cdl_f32_bits(part[i]) != cdl_f32_bits(want[i]))
            fail_msg("rows [%u, +%u), %u generated, %u threads: element %zu is %.9g, not %.9g", s.first, s.n,
                    s.generated, s.threads, i, (double)part[i], (double)want[i]);
    free(part);
}

static void check_cuts(cdl_dtype t, uint32_t weight_rows, uint32_t cols, uint32_t rows, bool glu)
{
    product p = product_new(&t, &weight_rows, 1, cols, rows, glu, 3);
    float *whole = run_slice(&amx, &p, (slice){ .n = rows });
    check_same(&p, (slice){ .first = 0, .n = 1 }, whole);
    check_same(&p, (slice){ .first = 1, .n = 7 }, whole);
    check_same(&p, (slice){ .first = 8, .n = rows - 8 }, whole);
    check_same(&p, (slice){ .first = 3, .n = 32 }, whole);
    check_same(&p, (slice){ .first = 0, .n = rows, .threads = 2 }, whole);
    check_same(&p, (slice){ .first = 0, .n = rows, .threads = 3 }, whole);
    free(whole);
    product_free(&p);
}

static void test_prompt_in_chunks_same_bits(void **state)
{
    (void)state;
    check_cuts(CDL_DTYPE_Q4_1, 50, 96, 40, false);
    check_cuts(CDL_DTYPE_Q4_K, 36, 256 * 7, 60, false); /* parts of rows */
    check_cuts(CDL_DTYPE_Q6_K, 40, 256, 300, true);
    check_cuts(CDL_DTYPE_F32, 40, 77, 290, false);
}

/* Generated rows are the AVX-512 set's, prompt rows those of a step without generated ones. */
static void check_mixed(cdl_dtype t, uint32_t cols, uint32_t rows, uint32_t generated, bool glu)
{
    uint32_t weight_rows = 45;
    product p = product_new(&t, &weight_rows, 1, cols, rows, glu, 11);
    float *want = malloc((size_t)rows * p.out_cols * sizeof *want);
    float *prompt = run_slice(&amx, &p, (slice){ .first = generated, .n = rows - generated });
    float *exact = run_slice(avx512, &p, (slice){ .n = generated, .generated = generated });
    memcpy(want, exact, (size_t)generated * p.out_cols * sizeof *want);
    memcpy(want + (size_t)generated * p.out_cols, prompt, (size_t)(rows - generated) * p.out_cols * sizeof *want);
    check_same(&p, (slice){ .n = rows, .generated = generated }, want);
    check_same(&p, (slice){ .n = rows, .generated = generated, .threads = 2 }, want);
    check_same(&p, (slice){ .n = generated, .generated = generated }, want);
    free(want);
    free(prompt);
    free(exact);
    product_free(&p);
}

static void test_generated_beside_prompt_rows(void **state)
{
    (void)state;
    check_mixed(CDL_DTYPE_Q4_0, 96, 30, 3, false);
    check_mixed(CDL_DTYPE_Q8_0, 64, 50, 17, true);
    check_mixed(CDL_DTYPE_F32, 33, 20, 1, false);
}

static void test_f32_activations_take_the_vector_kernels(void **state)
{
    cdl_dtype t = CDL_DTYPE_Q5_K;
    uint32_t weight_rows = 40;
    (void)state;
    product p = product_new(&t, &weight_rows, 1, 256, 21, false, 1);
    float *want = run_slice(avx512, &p, (slice){ .n = 21, .f32 = true });
    check_same(&p, (slice){ .n = 21, .f32 = true }, want);
    check_same(&p, (slice){ .n = 21, .f32 = true, .generated = 4 }, want);
    free(want);
    product_free(&p);
}

int main(void)
{
    if (!tiles_begin())
        return 0;
    amx.kernel[CDL_OP_LINEAR] = cdl_LINEAR_amx;
    amx.kernel[CDL_OP_LINEAR_GLU] = cdl_LINEAR_GLU_amx;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_every_type),
        cmocka_unit_test(test_linear_glu_every_type),
        cmocka_unit_test(test_linear_long_rows),
        cmocka_unit_test(test_linear_many_rows),
        cmocka_unit_test(test_linear_segments_of_several_types),
        cmocka_unit_test(test_prompt_in_chunks_same_bits),
        cmocka_unit_test(test_generated_beside_prompt_rows),
        cmocka_unit_test(test_f32_activations_take_the_vector_kernels),
    };
    return tiles_end(cmocka_run_group_tests(tests, NULL, NULL));
}
