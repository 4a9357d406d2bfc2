/* LINEAR and LINEAR_GLU of every set this machine has, against the plain twins and against themselves. The
 * rule for quantised activations is in README.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "cpu/product.h"
#include "kernel/pools.h"

enum { ROWS = 130, SETS = 4 };

static const uint32_t row_counts[] = { 1, 2, 3, 4, 5, 16, 17, 64, 65, ROWS };

/* ---- A case: inputs of ROWS rows; fewer rows are the first of them ---- */

typedef struct {
    cdl_step step;
    cdl_linear_attrs linear;
    cdl_glu_attrs glu;
    kernel_matrix w[2];
    float *x, *quantised, *bias[2], *residual;
    cdl_call call;
} test_case;

/* The values that activations have after two int8 in blocks of 32: the rule's plain emulation. */
static float *through_int16(const float *x, size_t n)
{
    float *out = malloc(n * sizeof *out);
    for (size_t i = 0; i < n; i += CDL_ACTIVATION_BLOCK) {
        float top = 0;
        for (size_t k = i; k < i + CDL_ACTIVATION_BLOCK; k++)
            top = fmaxf(top, fabsf(x[k]));
        const float most = 127 * 256;
        float d = top / most, inverse = top > 0 ? most / top : 0;
        for (size_t k = i; k < i + CDL_ACTIVATION_BLOCK; k++) {
            int word = (int)nearbyintf(x[k] * inverse), high = (word + 128) >> 8, low = word - 256 * high;
            out[k] = (float)(256 * high + (low < -127 ? -127 : low)) * d;
        }
    }
    return out;
}

/* The same after bf16, which tiles multiply. */
static float *through_bf16(const float *x, size_t n)
{
    float *out = malloc(n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = cdl_f32_from_bf16(cdl_bf16_from_f32(x[i]));
    return out;
}

/* Activations with a few loud columns and a silent block, as models have them. */
static float *activations(size_t rows, uint32_t cols, kernel_random *r)
{
    float *x = kernel_floats(rows * cols, r);
    for (size_t i = 0; i < rows; i++) {
        x[i * cols + kernel_next(r) % cols] *= 20;
        if (i % 5 == 1)
            memset(x + i * cols, 0, (cols < CDL_ACTIVATION_BLOCK ? cols : CDL_ACTIVATION_BLOCK) * sizeof *x);
    }
    return x;
}

static bool is_block(cdl_dtype t)
{
    return cdl_dtype_get(t)->block > 1;
}

typedef struct {
    cdl_op op;
    bool bias, residual;
    cdl_act act;
} variant;

static test_case *case_new(const cdl_dtype *types, const uint32_t *rows, uint32_t n, uint32_t cols, variant v,
        uint64_t seed)
{
    kernel_random r = { seed };
    test_case *t = calloc(1, sizeof *t);
    bool glu = v.op == CDL_OP_LINEAR_GLU;
    for (int i = 0; i < 1 + glu; i++)
        t->w[i] = kernel_matrix_new(types, rows, n, cols, &r);
    uint32_t out = t->w[0].pack.rows;
    t->x = activations(ROWS, cols, &r);
    if (cols % CDL_ACTIVATION_BLOCK == 0)
        t->quantised = through_int16(t->x, (size_t)ROWS * cols);
    t->bias[0] = kernel_floats(out, &r);
    t->bias[1] = kernel_floats(out, &r);
    t->residual = kernel_floats((size_t)ROWS * out, &r);
    t->linear = (cdl_linear_attrs){ v.bias, v.residual };
    t->glu = (cdl_glu_attrs){ .act = v.act, .has_bias = v.bias };
    cdl_call *c = &t->call;
    *c = (cdl_call){ .op = v.op, .attrs = glu ? (void *)&t->glu : (void *)&t->linear,
                     .step = &t->step, .name = "test" };
    for (int i = 0; i < 1 + glu; i++)
        c->in[++c->n_in] = kernel_pack_view(&t->w[i].pack);
    c->n_in++;
    for (int i = 0; v.bias && i < 1 + glu; i++)
        c->in[c->n_in++] = kernel_view(t->bias[i], 1, out);
    if (v.residual)
        c->in[c->n_in++] = kernel_view(t->residual, ROWS, out);
    return t;
}

static void case_free(test_case *t)
{
    for (int i = 0; i < 2; i++) {
        if (t->w[i].data)
            kernel_matrix_free(&t->w[i]);
        free(t->bias[i]);
    }
    free(t->x);
    free(t->quantised);
    free(t->residual);
    free(t);
}

/* The first `rows` rows on a set; the caller frees. The output has rows of odd length, guarded. */
static float *run(test_case *t, const cdl_cpu_set *set, cdl_pool *pool, const float *x, uint32_t rows,
        uint32_t generated, bool f32)
{
    uint32_t out = t->w[0].pack.rows, stride = out + 3;
    float *wide = malloc((size_t)rows * stride * sizeof *wide), *y = malloc((size_t)rows * out * sizeof *y + 1);
    for (size_t i = 0; i < (size_t)rows * stride; i++)
        wide[i] = 12345;
    t->step = (cdl_step){ .rows = rows, .rows_generated = generated, .f32_activations = f32 };
    cdl_call c = t->call;
    c.in[0] = kernel_view(x, rows, t->w[0].pack.cols);
    c.out = kernel_view(wide, rows, out);
    c.out.stride = stride;
    c.rows_generated = generated;
    kernel_run(set, pool, &c);
    for (uint32_t r = 0; r < rows; r++) {
        memcpy(y + (size_t)r * out, wide + (size_t)r * stride, out * sizeof *y);
        for (uint32_t i = out; i < stride; i++)
            assert_true(wide[(size_t)r * stride + i] == 12345);
    }
    free(wide);
    return y;
}

static double top_of(const float *x, size_t n)
{
    double top = 0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)x[i]));
    return top;
}

static double error_of(const float *x, const float *y, size_t n)
{
    double top = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        top = fmax(top, fabs((double)x[i] - (double)y[i]));
    }
    return top;
}

static void must_be_within(double error, double limit, const test_case *t, const char *set, const char *what)
{
    if (error <= limit)
        return;
    print_error("%s %s, %u x %u, %s: %s error %g, allowed %g\n", cdl_op_get(t->call.op)->name,
            cdl_dtype_get(t->w[0].pack.segment[0].dtype)->name, t->w[0].pack.rows, t->w[0].pack.cols, set, what,
            error, limit);
    fail();
}

/* Rows alone, in small steps and in large ones have the same bits. */
static void check_row_counts(test_case *t, const cdl_cpu_set *set, bool f32, bool generated, const float *all)
{
    uint32_t out = t->w[0].pack.rows, cols = t->w[0].pack.cols;
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        uint32_t rows = row_counts[i];
        float *y = run(t, set, pools[i % 2], t->x, rows, generated ? rows : 0, f32);
        assert_memory_equal(y, all, (size_t)rows * out * sizeof *y);
        free(y);
    }
    if (t->linear.has_residual)
        return; /* a row further down has another residual */
    for (uint32_t row = 3; row < ROWS; row += 41) {
        float *y = run(t, set, pools[0], t->x + (size_t)row * cols, 1, generated, f32);
        assert_memory_equal(y, all + (size_t)row * out, out * sizeof *y);
        free(y);
    }
}

typedef struct {
    float *exact, *emulated;    /* the twin on plain and on quantised activations */
    double top, quantising, rounding; /* errors of quantised activations, and of both sides in bf16 */
} expected;

static bool has_tiles(const cdl_cpu_set *set)
{
    return !strcmp(set->name, "amx");
}

static void check_set(test_case *t, const cdl_cpu_set *set, const expected *e, bool f32, bool generated)
{
    size_t n = (size_t)ROWS * t->w[0].pack.rows;
    double tolerance = (double)cdl_op_get(t->call.op)->tolerance * e->top;
    bool quantised = !f32 && is_block(t->w[0].pack.segment[0].dtype);
    float *all = run(t, set, pools[1], t->x, ROWS, generated ? ROWS : 0, f32);
    if (f32)
        must_be_within(error_of(all, e->exact, n), tolerance, t, set->name, "f32");
    else if (has_tiles(set) && !generated)
        must_be_within(error_of(all, e->exact, n), 2 * e->rounding + tolerance, t, set->name, "bf16");
    else
        must_be_within(error_of(all, e->exact, n), 2 * e->quantising + tolerance, t, set->name, "total");
    if (quantised && generated)
        must_be_within(error_of(all, e->emulated, n), tolerance, t, set->name, "against the emulation");
    check_row_counts(t, set, f32, generated, all);
    free(all);
}

/* Of the twin with activations and weights in bf16, which tiles multiply. */
static double rounding_error(test_case *t, const float *exact)
{
    float *x = through_bf16(t->x, (size_t)ROWS * t->w[0].pack.cols);
    kernel_matrix w[2];
    int n = t->call.op == CDL_OP_LINEAR_GLU ? 2 : 1;
    for (int i = 0; i < n; i++) {
        w[i] = kernel_matrix_bf16(&t->w[i].pack);
        t->call.in[1 + i] = kernel_pack_view(&w[i].pack);
    }
    float *y = run(t, kernel_set(0), pools[0], x, ROWS, ROWS, true);
    double error = error_of(y, exact, (size_t)ROWS * t->w[0].pack.rows);
    for (int i = 0; i < n; i++) {
        t->call.in[1 + i] = kernel_pack_view(&t->w[i].pack);
        kernel_matrix_free(&w[i]);
    }
    free(x);
    free(y);
    return error;
}

static void check(test_case *t)
{
    size_t n = (size_t)ROWS * t->w[0].pack.rows;
    const cdl_cpu_set *ref = kernel_set(0);
    expected e = { .exact = run(t, ref, pools[0], t->x, ROWS, ROWS, true) };
    e.top = top_of(e.exact, n);
    if (t->quantised) {
        e.emulated = run(t, ref, pools[0], t->quantised, ROWS, ROWS, true);
        e.quantising = error_of(e.emulated, e.exact, n);
    }
    e.rounding = rounding_error(t, e.exact);
    for (unsigned s = 1; s < SETS; s++) {
        const cdl_cpu_set *set = kernel_set(s);
        for (int way = 0; set && way < 4; way++)
            check_set(t, set, &e, way & 1, way & 2);
    }
    free(e.exact);
    free(e.emulated);
}

/* ---- The cases ---- */

static bool packs(cdl_dtype t)
{
    size_t bytes;
    return cdl_pack_bytes(&bytes, t, 16, 256) == CUDDLE_OK;
}

static void check_shapes(cdl_dtype type, variant v, const uint32_t *rows, size_t n_rows)
{
    static const uint32_t cols[] = { 32, 64, 96, 256, 576, 1024 };
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        for (size_t k = 0; cols[i] % cdl_dtype_get(type)->block == 0 && k < n_rows; k++) {
            test_case *t = case_new(&type, &rows[k], 1, cols[i], v, 7 + i);
            check(t);
            case_free(t);
        }
    }
}

static void test_linear_every_type(void **state)
{
    (void)state;
    static const uint32_t rows[] = { 1, 15, 16, 17, 100 };
    for (int t = 0; t < CDL_DTYPE_COUNT; t++)
        if (packs((cdl_dtype)t))
            check_shapes((cdl_dtype)t, (variant){ .op = CDL_OP_LINEAR }, rows, 5);
}

static void test_linear_bias_residual(void **state)
{
    (void)state;
    static const uint32_t rows[] = { 17, 100 };
    for (int k = 1; k < 4; k++) {
        variant v = { .op = CDL_OP_LINEAR, .bias = k & 1, .residual = k & 2 };
        check_shapes(CDL_DTYPE_Q4_1, v, rows, 2);
        check_shapes(CDL_DTYPE_F16, v, rows, 2);
    }
}

static void test_linear_glu(void **state)
{
    (void)state;
    static const uint32_t rows[] = { 16, 100 };
    static const cdl_dtype types[] = { CDL_DTYPE_Q4_1, CDL_DTYPE_Q6_K, CDL_DTYPE_F32 };
    for (int act = 0; act < CDL_ACT_COUNT; act++)
        for (size_t t = 0; t < 3; t++)
            check_shapes(types[t], (variant){ .op = CDL_OP_LINEAR_GLU, .bias = act & 1, .act = (cdl_act)act }, rows, 2);
}

/* q, k and v in one pack: types and odd row counts follow each other. */
static void test_linear_segments(void **state)
{
    (void)state;
    static const cdl_dtype types[] = { CDL_DTYPE_Q4_K, CDL_DTYPE_Q4_K, CDL_DTYPE_Q6_K };
    static const uint32_t rows[] = { 65, 7, 33 };
    for (int k = 0; k < 4; k++) {
        variant v = { .op = CDL_OP_LINEAR, .bias = k & 1, .residual = k & 2 };
        test_case *t = case_new(types, rows, 3, 512, v, 11);
        check(t);
        case_free(t);
    }
}

/* Columns that are no multiple of anything: dense weights take them. */
static void test_linear_odd_columns(void **state)
{
    (void)state;
    static const cdl_dtype types[] = { CDL_DTYPE_F32, CDL_DTYPE_F16, CDL_DTYPE_BF16 };
    static const uint32_t cols[] = { 1, 3, 33, 77 }, rows = 21;
    for (size_t i = 0; i < 12; i++) {
        test_case *t = case_new(&types[i % 3], &rows, 1, cols[i / 3], (variant){ .op = CDL_OP_LINEAR }, 13);
        check(t);
        case_free(t);
    }
}

/* The largest bytes and activations: sums in 16 bits must not saturate. */
static void test_linear_extreme_quants(void **state)
{
    (void)state;
    const uint32_t rows = 32, cols = 256;
    for (int type = 0; type < CDL_DTYPE_COUNT; type++) {
        for (int fill = 0; packs((cdl_dtype)type) && is_block((cdl_dtype)type) && fill < 2; fill++) {
            cdl_dtype dtype = (cdl_dtype)type;
            test_case *t = case_new(&dtype, &rows, 1, cols, (variant){ .op = CDL_OP_LINEAR }, 17);
            size_t row_bytes = kernel_row_bytes(dtype, cols), bytes = cdl_dtype_get(dtype)->bytes;
            int d, m;
            kernel_scales_at(dtype, &d, &m);
            memset(t->w[0].source, fill ? 0xFF : 0x80, rows * row_bytes);
            for (size_t i = 0; i < rows * row_bytes; i += bytes) {
                kernel_put_half(t->w[0].source + i + d, 0.01f);
                if (m >= 0)
                    kernel_put_half(t->w[0].source + i + m, 0.1f);
                if (dtype == CDL_DTYPE_MXFP4)
                    t->w[0].source[i] = 120;
            }
            cdl_pack_panels(t->w[0].data, dtype, t->w[0].source, row_bytes, rows, cols, 0, t->w[0].pack.panels);
            for (size_t i = 0; i < (size_t)ROWS * cols; i++)
                t->x[i] = i / cols % 2 ? 1.0f : -1.0f;
            free(t->quantised);
            t->quantised = through_int16(t->x, (size_t)ROWS * cols);
            check(t);
            case_free(t);
        }
    }
}

static int set_up_sets(void **state)
{
    for (unsigned s = 0; s < SETS; s++)
        if (kernel_set(s))
            print_message("set %s\n", kernel_set(s)->name);
    return set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_every_type), cmocka_unit_test(test_linear_bias_residual),
        cmocka_unit_test(test_linear_glu), cmocka_unit_test(test_linear_segments),
        cmocka_unit_test(test_linear_odd_columns), cmocka_unit_test(test_linear_extreme_quants),
    };
    return cmocka_run_group_tests(tests, set_up_sets, tear_down);
}
