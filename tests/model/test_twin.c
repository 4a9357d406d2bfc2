/* test_twin.c - the plain twins that round to 16 bits: what they round, exactly, and that their models' errors are
 * those of their type, in every architecture. The bound of CUDA's kernels is counted in these errors. */
#include "cases.h"
#include "cpu/pack.h"
#include "cpu/ref/ref.h"

/* 1 + 2^-7 is bf16, 1 + 2^-10 is f16 alone. */
static const float fine = 1 + 0x1p-10f, coarse = 1 + 0x1p-7f;

static float run(cdl_dtype t, cdl_call *c, void (*twin)(const cdl_call *), float x)
{
    *(float *)c->in[0].data = x;
    cdl_ref_rounded(c, t, twin);
    return *(const float *)c->out.data;
}

static void test_values_rounded(void **state)
{
    (void)state;
    float x, y, z;
    cdl_scale_attrs scale = { 1 };
    cdl_softcap_attrs cap = { 1e6f };
    cdl_view a = { .data = &x, .rows = 1, .cols = 1, .stride = 1 };
    cdl_view b = { .data = &y, .rows = 1, .cols = 1, .stride = 1 };
    cdl_view out = { .data = &z, .rows = 1, .cols = 1, .stride = 1 };
    cdl_call c = { .op = CDL_OP_SCALE, .attrs = &scale, .in = { a }, .n_in = 1, .out = out };
    assert_true(run(CDL_DTYPE_BF16, &c, cdl_ref_SCALE, fine) == 1);
    assert_true(run(CDL_DTYPE_BF16, &c, cdl_ref_SCALE, coarse) == coarse);
    assert_true(run(CDL_DTYPE_F16, &c, cdl_ref_SCALE, fine) == fine);
    assert_true(run(CDL_DTYPE_F16, &c, cdl_ref_SCALE, 1 + 0x1p-12f) == 1);
    c = (cdl_call){ .op = CDL_OP_ADD, .in = { a, b }, .n_in = 2, .out = out };
    y = fine;
    assert_true(run(CDL_DTYPE_BF16, &c, cdl_ref_ADD, fine) == 2);
    c = (cdl_call){ .op = CDL_OP_SOFTCAP, .attrs = &cap, .in = { a }, .n_in = 1, .out = out }; /* of logits */
    assert_true(fabsf(run(CDL_DTYPE_BF16, &c, cdl_ref_SOFTCAP, fine) - fine) < 1e-6f);
}

/* A dense weight is rounded, one in blocks is not: both are `fine`. */
static void test_weights_rounded(void **state)
{
    (void)state;
    enum { COLS = 32 };
    const float dense[COLS] = { fine };
    const uint16_t d = cdl_f16_from_f32(fine);
    uint8_t block[34] = { (uint8_t)d, (uint8_t)(d >> 8), 1 };
    float x[COLS] = { 1 }, y, weights[2 * COLS];
    for (int i = 0; i < 2; i++) {
        cdl_dtype t = i ? CDL_DTYPE_Q8_0 : CDL_DTYPE_F32;
        size_t bytes;
        MUST(cdl_pack_bytes(&bytes, t, 1, COLS));
        uint8_t *packed = aligned_alloc(64, bytes);
        cdl_pack_panels(packed, t, i ? block : (const uint8_t *)dense, i ? sizeof block : sizeof dense, 1, COLS, 0, 1);
        cdl_pack p = { .rows = 1, .cols = COLS, .panels = 1, .n = 1,
                       .segment = { { .dtype = t, .rows = 1, .panel_bytes = bytes, .data = packed } } };
        cdl_linear_attrs attrs = { 0 };
        cdl_call c = { .op = CDL_OP_LINEAR, .attrs = &attrs, .n_in = 2, .workspace = weights,
            .in = { { .data = x, .rows = 1, .cols = COLS, .stride = COLS }, { .pack = &p, .rows = 1, .cols = COLS } },
            .out = { .data = &y, .rows = 1, .cols = 1, .stride = 1 } };
        assert_true(run(CDL_DTYPE_BF16, &c, cdl_ref_LINEAR, 1) == (i ? fine : 1));
        assert_true(run(CDL_DTYPE_F16, &c, cdl_ref_LINEAR, 1) == fine);
        free(packed);
    }
}

static double error_of(const char *name, const char *set, double *largest)
{
    reference r;
    double error = 0;
    cuddle_engine_opts o = cases_options();
    o.cpu = set;
    o.state_dtype = "f32";
    assert_int_equal(cases_open(&r, name, set, &o), CUDDLE_OK);
    const cdl_json *cases = cdl_json_get(r.meta, "cases");
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        cases_result m = cases_measure(&r, cdl_json_at(cases, i), false);
        error = m.error <= error ? error : m.error;
        *largest = fmax(*largest, m.largest);
    }
    cases_close(&r);
    return error;
}

static void test_model(void **state)
{
    double largest = 0, plain = error_of(*state, "ref", &largest);
    double f16 = error_of(*state, "ref-f16", &largest), bf16 = error_of(*state, "ref-bf16", &largest);
    printf("%-12s error of the greatest logit: f32 %.1e, f16 %.1e, bf16 %.1e\n", (const char *)*state,
            plain / largest, f16 / largest, bf16 / largest);
    assert_true(plain < f16 / 4);
    assert_true(f16 < bf16 / 2);
    assert_true(bf16 < 0.1 * largest);
}

int main(void)
{
    enum { FIRST = 2 };
    struct CMUnitTest tests[FIRST + CASES_MODELS] = { cmocka_unit_test(test_values_rounded),
        cmocka_unit_test(test_weights_rounded) };
    for (size_t i = 0; i < CASES_MODELS; i++)
        tests[FIRST + i] = (struct CMUnitTest){ .name = cases_models[i], .test_func = test_model,
                                                .initial_state = (void *)cases_models[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
