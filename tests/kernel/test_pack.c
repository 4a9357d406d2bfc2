/* What goes into a pack comes out again, bit for bit: every type, odd rows, transposed, segments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernel/kernel.h"

static bool packs(cdl_dtype t)
{
    size_t bytes;
    return cdl_pack_bytes(&bytes, t, 16, 256) == CUDDLE_OK;
}

/* Rows of the matrix against its source. */
static void check_rows(const kernel_matrix *m)
{
    const uint8_t *from = m->source;
    float *want = malloc(m->pack.cols * sizeof *want), *got = malloc(m->pack.cols * sizeof *got);
    for (uint32_t s = 0; s < m->pack.n; s++) {
        const cdl_pack_segment *g = &m->pack.segment[s];
        for (uint32_t r = 0; r < g->rows; r++, from += kernel_row_bytes(g->dtype, m->pack.cols)) {
            cdl_dtype_to_f32(want, g->dtype, from, m->pack.cols);
            memset(got, 0xFF, m->pack.cols * sizeof *got);
            cdl_pack_row(got, &m->pack, g->first_row + r);
            assert_memory_equal(got, want, m->pack.cols * sizeof *got);
        }
    }
    free(want);
    free(got);
}

static void test_pack_every_type(void **state)
{
    (void)state;
    static const uint32_t rows[] = { 1, 15, 16, 17, 33 };
    kernel_random r = { 1 };
    unsigned types = 0;
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        if (!packs((cdl_dtype)t))
            continue;
        types++;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            for (uint32_t blocks = 1; blocks <= 3; blocks++) {
                kernel_matrix m = kernel_matrix_new(&(cdl_dtype){ (cdl_dtype)t }, &rows[i], 1,
                        blocks * cdl_dtype_get((cdl_dtype)t)->block, &r);
                check_rows(&m);
                kernel_matrix_free(&m);
            }
        }
    }
    assert_int_equal(types, 16);
}

/* Any bytes at all, NaN scales too: packing moves bits, it does not compute. */
static void test_pack_any_bytes(void **state)
{
    (void)state;
    kernel_random r = { 2 };
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        if (!packs((cdl_dtype)t))
            continue;
        cdl_dtype type = (cdl_dtype)t;
        uint32_t rows = 19, cols = 2 * cdl_dtype_get(type)->block;
        kernel_matrix m = kernel_matrix_new(&type, &rows, 1, cols, &r);
        size_t row_bytes = kernel_row_bytes(type, cols);
        for (size_t i = 0; i < rows * row_bytes; i++)
            m.source[i] = (uint8_t)kernel_next(&r);
        cdl_pack_panels(m.data, type, m.source, row_bytes, rows, cols, 0, m.pack.panels);
        check_rows(&m);
        kernel_matrix_free(&m);
    }
}

/* Panel by panel, out of order, from unaligned memory: the same bytes as in one go. */
static void test_pack_panels_apart(void **state)
{
    (void)state;
    kernel_random r = { 3 };
    const cdl_dtype type = CDL_DTYPE_Q4_K;
    const uint32_t rows = 50, cols = 512;
    kernel_matrix m = kernel_matrix_new(&type, &rows, 1, cols, &r);
    size_t row_bytes = kernel_row_bytes(type, cols);
    uint8_t *odd = malloc(rows * row_bytes + 1), *data = malloc(m.bytes);
    memcpy(odd + 1, m.source, rows * row_bytes);
    for (uint32_t p = m.pack.panels; p-- > 0;)
        cdl_pack_panels(data, type, odd + 1, row_bytes, rows, cols, p, 1);
    assert_memory_equal(data, m.data, m.bytes);
    free(odd);
    free(data);
    kernel_matrix_free(&m);
}

static void test_pack_transposed(void **state)
{
    (void)state;
    static const cdl_dtype types[] = { CDL_DTYPE_F32, CDL_DTYPE_F16, CDL_DTYPE_BF16 };
    kernel_random r = { 4 };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t e = cdl_dtype_get(types[i])->bytes;
        const uint32_t rows = 37, cols = 21, stride = 40;
        kernel_matrix m = kernel_matrix_new(&types[i], &rows, 1, cols, &r);
        uint8_t *turned = malloc(cols * stride * e), *data = calloc(1, m.bytes);
        for (uint32_t n = 0; n < rows; n++)
            for (uint32_t c = 0; c < cols; c++)
                memcpy(turned + (c * stride + n) * e, m.source + (n * cols + c) * e, e);
        cdl_pack_panels_transposed(data, types[i], turned, stride * e, rows, cols, 0, 1);
        cdl_pack_panels_transposed(data, types[i], turned, stride * e, rows, cols, 1, m.pack.panels - 1);
        assert_memory_equal(data, m.data, m.bytes);
        free(turned);
        free(data);
        kernel_matrix_free(&m);
    }
}

static void test_pack_segments(void **state)
{
    (void)state;
    static const cdl_dtype types[] = { CDL_DTYPE_Q4_K, CDL_DTYPE_F16, CDL_DTYPE_Q6_K, CDL_DTYPE_Q8_0 };
    static const uint32_t rows[] = { 33, 1, 16, 5 };
    kernel_random r = { 5 };
    kernel_matrix m = kernel_matrix_new(types, rows, 4, 256, &r);
    assert_int_equal(m.pack.rows, 55);
    assert_int_equal(m.pack.panels, 3 + 1 + 1 + 1);
    check_rows(&m);
    kernel_matrix_free(&m);
}

static void test_pack_refuses(void **state)
{
    (void)state;
    size_t bytes;
    assert_int_equal(cdl_pack_bytes(&bytes, CDL_DTYPE_I8, 16, 32), CUDDLE_ERR_UNSUPPORTED);
    assert_non_null(strstr(cuddle_errmsg(), "i8"));
    assert_int_equal(cdl_pack_bytes(&bytes, CDL_DTYPE_Q4_K, 16, 288), CUDDLE_ERR_UNSUPPORTED);
    assert_non_null(strstr(cuddle_errmsg(), "288 columns"));
    assert_int_not_equal(cdl_pack_bytes(&bytes, CDL_DTYPE_F32, UINT64_MAX / 2, UINT64_MAX / 16), CUDDLE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack_every_type), cmocka_unit_test(test_pack_any_bytes),
        cmocka_unit_test(test_pack_panels_apart), cmocka_unit_test(test_pack_transposed),
        cmocka_unit_test(test_pack_segments), cmocka_unit_test(test_pack_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
