/* Block types against ggml: values exactly, quantisers no worse. Golden: tests/golden/make_dtype.py */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "format/checkpoint.h"

static const cdl_dtype blocks[] = { CDL_DTYPE_Q4_0, CDL_DTYPE_Q4_1, CDL_DTYPE_Q5_0, CDL_DTYPE_Q5_1, CDL_DTYPE_Q8_0,
        CDL_DTYPE_Q2_K,
    CDL_DTYPE_Q3_K, CDL_DTYPE_Q4_K, CDL_DTYPE_Q5_K, CDL_DTYPE_Q6_K, CDL_DTYPE_IQ4_NL, CDL_DTYPE_IQ4_XS,
            CDL_DTYPE_MXFP4 };
enum { N_BLOCKS = sizeof blocks / sizeof *blocks };

static cdl_checkpoint *golden;

static const cdl_tensor_entry *get(const char *type, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", type, what);
    return cdl_checkpoint_find(golden, name);
}

static int open_golden(void **state)
{
    (void)state;
    return cdl_checkpoint_open(&golden, "tests/golden/dtype.safetensors", false) != CUDDLE_OK;
}

static int close_golden(void **state)
{
    (void)state;
    cdl_checkpoint_close(golden);
    return 0;
}

static void test_block_values_are_ggmls(void **state)
{
    (void)state;
    for (int i = 0; i < N_BLOCKS; i++) {
        const cdl_dtype_info *info = cdl_dtype_get(blocks[i]);
        const cdl_tensor_entry *bytes = get(info->name, ".bytes"), *values = get(info->name, ".values");
        size_t n = values->bytes / 4;
        float *got = malloc(n * sizeof *got);
        cdl_dtype_to_f32(got, blocks[i], bytes->data, n);
        for (size_t k = 0; k < n; k++) {
            float want;
            memcpy(&want, values->data + 4 * k, 4);
            if (fabsf(got[k] - want) > 1e-6f * fabsf(want))
                fail_msg("%s[%zu] is %.9g, wanted %.9g", info->name, k, (double)got[k], (double)want);
        }
        free(got);
    }
}

static void test_quantisers_are_as_good_as_ggmls(void **state)
{
    (void)state;
    const cdl_tensor_entry *x = get("x", "");
    size_t n = x->bytes / 4;
    float *in = malloc(x->bytes), *out = malloc(x->bytes);
    memcpy(in, x->data, x->bytes);
    for (int i = 0; i < N_BLOCKS; i++) {
        const cdl_dtype_info *info = cdl_dtype_get(blocks[i]);
        const cdl_tensor_entry *rms = get(info->name, ".rms");
        size_t bytes;
        float theirs;
        double error = 0, sum = 0;
        if (!rms)
            continue;
        memcpy(&theirs, rms->data, 4);
        assert_true(cdl_dtype_row_bytes(&bytes, blocks[i], n));
        uint8_t *q = malloc(bytes + 1);
        assert_int_equal(cdl_dtype_from_f32(q + 1, blocks[i], in, n), CUDDLE_OK); /* any alignment */
        cdl_dtype_to_f32(out, blocks[i], q + 1, n);
        for (size_t k = 0; k < n; k++) {
            error += pow((double)(out[k] - in[k]), 2);
            sum += pow((double)in[k], 2);
        }
        if (sqrt(error / sum) > 1.01 * (double)theirs)
            fail_msg("%s: relative error %.5f, ggml's %.5f", info->name, sqrt(error / sum), (double)theirs);
        free(q);
    }
    free(in);
    free(out);
}

static void test_zeros_and_constants_survive(void **state)
{
    (void)state;
    static const float constants[] = { 0, 1, -1, 0.1f, -3000, 1e-38f };
    float in[256], out[256];
    uint8_t q[1024];
    for (size_t c = 0; c < sizeof constants / sizeof *constants; c++) {
        for (int i = 0; i < 256; i++)
            in[i] = constants[c];
        for (int t = 0; t < N_BLOCKS - 2; t++) {
            assert_int_equal(cdl_dtype_from_f32(q, blocks[t], in, 256), CUDDLE_OK);
            cdl_dtype_to_f32(out, blocks[t], q, 256);
            float bound = 0.02f * fabsf(in[0]) + 1e-7f;
            for (int i = 0; i < 256; i++)
                if (!(fabsf(out[i] - in[i]) <= bound))
                    fail_msg("%s: %g came back as %g", cdl_dtype_get(blocks[t])->name, (double)in[i], (double)out[i]);
        }
    }
}

static void test_values_that_no_block_holds_are_refused(void **state)
{
    (void)state;
    const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f, -1e12f };
    float in[256] = { 0 };
    uint8_t q[1024];
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        in[100] = bad[b];
        for (int t = 0; t < N_BLOCKS - 2; t++)
            assert_int_equal(cdl_dtype_from_f32(q, blocks[t], in, 256), CUDDLE_ERR_FORMAT);
        assert_int_equal(cdl_dtype_from_f32(q, CDL_DTYPE_F32, in, 256), CUDDLE_OK);
    }
    assert_int_equal(cdl_dtype_from_f32(q, CDL_DTYPE_IQ4_XS, in, 256), CUDDLE_ERR_UNSUPPORTED);
    assert_int_equal(cdl_dtype_from_f32(q, CDL_DTYPE_I8, in, 256), CUDDLE_ERR_UNSUPPORTED);
}

static void test_halves_go_there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t in = (uint16_t)h, out;
        float f;
        cdl_dtype_to_f32(&f, CDL_DTYPE_F16, &in, 1);
        assert_int_equal(cdl_dtype_from_f32(&out, CDL_DTYPE_F16, &f, 1), CUDDLE_OK);
        assert_true(out == in || isnan(f));
        cdl_dtype_to_f32(&f, CDL_DTYPE_BF16, &in, 1);
        assert_int_equal(cdl_dtype_from_f32(&out, CDL_DTYPE_BF16, &f, 1), CUDDLE_OK);
        assert_true(out == in || isnan(f));
    }
}

static void test_eight_bit_floats(void **state)
{
    (void)state;
    static const struct { cdl_dtype t; uint8_t bits; float value; } cases[] = {
        { CDL_DTYPE_F8E4M3, 0x38, 1 }, { CDL_DTYPE_F8E4M3, 0x7e, 448 }, { CDL_DTYPE_F8E4M3, 0x01, 0x1p-9f },
        { CDL_DTYPE_F8E4M3, 0xb8, -1 }, { CDL_DTYPE_F8E5M2, 0x3c, 1 }, { CDL_DTYPE_F8E5M2, 0x7b, 57344 },
        { CDL_DTYPE_F8E5M2, 0x01, 0x1p-16f }, { CDL_DTYPE_F8E5M2, 0x7c, INFINITY } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float f;
        cdl_dtype_to_f32(&f, cases[i].t, &cases[i].bits, 1);
        assert_true(f == cases[i].value);
    }
}

static void test_row_bytes_need_whole_blocks(void **state)
{
    (void)state;
    size_t n;
    assert_true(cdl_dtype_row_bytes(&n, CDL_DTYPE_Q4_K, 512));
    assert_int_equal(n, 288);
    assert_false(cdl_dtype_row_bytes(&n, CDL_DTYPE_Q4_K, 300));
    assert_false(cdl_dtype_row_bytes(&n, CDL_DTYPE_F32, UINT64_MAX / 2));
    cdl_dtype t;
    assert_true(cdl_dtype_from_name(&t, "Q6_K"));
    assert_int_equal(t, CDL_DTYPE_Q6_K);
    assert_false(cdl_dtype_from_ggml(&t, 9999));
    assert_false(cdl_dtype_from_safetensors(&t, "F3", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_values_are_ggmls), cmocka_unit_test(test_quantisers_are_as_good_as_ggmls),
        cmocka_unit_test(test_zeros_and_constants_survive),
                cmocka_unit_test(test_values_that_no_block_holds_are_refused),
        cmocka_unit_test(test_halves_go_there_and_back), cmocka_unit_test(test_eight_bit_floats),
        cmocka_unit_test(test_row_bytes_need_whole_blocks),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
