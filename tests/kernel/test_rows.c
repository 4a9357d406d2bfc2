/* test_rows.c - the ops that work row by row, on every set of this machine, against their plain twins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/state.h"
#include "pools.h"
#include "rows.h"

static const uint32_t row_counts[] = { 1, 3, 17, 65 }, widths[] = { 1, 7, 8, 16, 33, 64, 576, 4097, 9000 };
enum { N_ROWS = sizeof row_counts / sizeof *row_counts, N_WIDTHS = sizeof widths / sizeof *widths };

/* Runs c on every set but the first, with one thread and two, and compares with the first. */
static void compare(cdl_call *c, const char *what)
{
    size_t n = (size_t)c->out.rows * c->out.cols;
    float *want = calloc(n + 1, sizeof *want), *got = calloc(n + 1, sizeof *got);
    c->out.data = want;
    kernel_run(kernel_set(0), pools[0], c);
    float bound = cdl_op_get(c->op)->tolerance * fmaxf(rows_top(want, n), 1e-3f);
    for (unsigned s = 1; kernel_set(s); s++)
        for (int threads = 0; threads < 2; threads++) {
            memset(got, 0xFF, n * sizeof *got);
            c->out.data = got;
            kernel_run(kernel_set(s), pools[threads], c);
            float error = rows_error(got, want, n);
            if (!(error <= bound))
                fail_msg("%s %s, %s: [%u, %u]: error %g, bound %g", cdl_op_get(c->op)->name, what,
                        kernel_set(s)->name, c->out.rows, c->out.cols, (double)error, (double)bound);
        }
    free(want);
    free(got);
}

/* For each shape a call with n float inputs of it. */
static void each_shape(cdl_op op, const void *attrs, uint32_t n_in, float spread, const char *what)
{
    for (int i = 0; i < N_ROWS; i++)
        for (int k = 0; k < N_WIDTHS; k++) {
            uint32_t rows = row_counts[i], cols = widths[k];
            kernel_random r = { rows * 31 + cols };
            float *in[2];
            cdl_call c = { .op = op, .attrs = attrs, .n_in = n_in, .out = kernel_view(NULL, rows, cols) };
            for (uint32_t j = 0; j < n_in; j++) {
                in[j] = kernel_floats((size_t)rows * cols, &r);
                for (size_t e = 0; e < (size_t)rows * cols; e++)
                    in[j][e] *= spread;
                c.in[j] = kernel_view(in[j], rows, cols);
            }
            compare(&c, what);
            for (uint32_t j = 0; j < n_in; j++)
                free(in[j]);
        }
}

static void test_element_by_element(void **state)
{
    (void)state;
    each_shape(CDL_OP_ADD, &(cdl_no_attrs){ 0 }, 2, 1, "");
    each_shape(CDL_OP_SCALE, &(cdl_scale_attrs){ 0.37f }, 1, 1, "");
    each_shape(CDL_OP_SOFTCAP, &(cdl_softcap_attrs){ 30 }, 1, 20, "");
}

static void test_activations(void **state)
{
    (void)state;
    for (cdl_act act = 0; act < CDL_ACT_COUNT; act++) {
        char what[16];
        snprintf(what, sizeof what, "act %d", act);
        each_shape(CDL_OP_ACT, &(cdl_act_attrs){ act }, 1, 3, what);
        each_shape(CDL_OP_ACT, &(cdl_act_attrs){ act }, 1, 100, what);
        each_shape(CDL_OP_ACT_MUL, &(cdl_act_attrs){ act }, 2, 2, what);
    }
}

static void test_norms(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++)
        for (int k = 0; k < N_WIDTHS; k++)
            for (int bias = 0; bias < 2; bias++) {
                uint32_t rows = row_counts[i], cols = widths[k], heads = bias ? 1 : 3;
                kernel_random r = { rows * 17 + cols };
                cdl_norm_attrs a = { .eps = 1e-5f, .offset = (float)bias };
                float *x = kernel_floats((size_t)rows * cols * heads, &r), *w = kernel_floats(cols, &r);
                float *b = kernel_floats(cols, &r);
                cdl_call c = { .op = CDL_OP_RMSNORM, .attrs = &a, .n_in = 2,
                               .out = kernel_view(NULL, rows, cols * heads) };
                c.in[0] = kernel_view(x, rows, cols * heads);
                c.in[1] = kernel_view(w, 1, cols);
                compare(&c, bias ? "with offset" : "of heads");
                c.op = CDL_OP_LAYERNORM;
                c.in[0] = kernel_view(x, rows, cols);
                c.in[2] = kernel_view(b, 1, cols);
                c.out = kernel_view(NULL, rows, cols);
                c.n_in = 2 + (uint32_t)bias;
                if (cols > 1) /* of one column the variance is 0: only rounding is left */
                    compare(&c, bias ? "with bias" : "without bias");
                free(x), free(w), free(b);
            }
}

static void test_rope(void **state)
{
    (void)state;
    enum { ROWS = 20 };
    static const uint32_t dims[][2] = { { 2, 2 }, { 8, 4 }, { 64, 64 }, { 80, 20 }, { 96, 96 }, { 256, 256 } };
    for (int d = 0; d < 6; d++)
        for (int way = 0; way < 4; way++) {
            uint32_t dim = dims[d][0], rotary = dims[d][1], heads = 3;
            rows_step s = { 0 };
            rows_add_span(&s, 0, 4);
            rows_add_span(&s, 400, ROWS - 4);
            cdl_rope_attrs a = { .head_dim = dim, .rotary_dim = rotary, .interleaved = way & 1, .scale = 1.1f,
                                 .scale_long = 0.9f, .long_from = 100 };
            kernel_random r = { dim };
            float *x = kernel_floats((size_t)ROWS * dim * heads, &r), inv[128], inv_long[128];
            int32_t positions[ROWS];
            for (int i = 0; i < ROWS; i++)
                positions[i] = i * i * 97; /* to 35000 */
            for (uint32_t i = 0; i < rotary / 2; i++) {
                inv[i] = powf(10000, -2 * (float)i / (float)rotary);
                inv_long[i] = inv[i] / 3;
            }
            cdl_call c = { .op = CDL_OP_ROPE, .attrs = &a, .n_in = 3 + (uint32_t)(way >> 1), .step = &s.step,
                           .out = kernel_view(NULL, ROWS, dim * heads) };
            c.in[0] = kernel_view(x, ROWS, dim * heads);
            c.in[1] = (cdl_view){ .data = positions, .dtype = CDL_DTYPE_I32, .rows = ROWS, .cols = 1, .stride = 1 };
            c.in[2] = kernel_view(inv, 1, rotary / 2);
            c.in[3] = kernel_view(inv_long, 1, rotary / 2);
            compare(&c, way & 1 ? "interleaved" : "halves");
            free(x);
        }
}

static void test_embed_and_gather(void **state)
{
    (void)state;
    enum { ROWS = 37, VOCAB = 100, COLS = 96 };
    const cdl_dtype types[] = { CDL_DTYPE_F32, CDL_DTYPE_BF16, CDL_DTYPE_Q8_0, CDL_DTYPE_Q4_1 };
    kernel_random r = { 9 };
    int32_t ids[ROWS];
    for (int i = 0; i < ROWS; i++)
        ids[i] = (int32_t)(kernel_next(&r) % VOCAB);
    for (int t = 0; t < 4; t++) {
        kernel_matrix m = kernel_matrix_new(&types[t], &(uint32_t){ VOCAB }, 1, COLS, &r);
        cdl_call c = { .op = CDL_OP_EMBED, .attrs = &(cdl_embed_attrs){ 1.5f }, .n_in = 2,
                       .out = kernel_view(NULL, ROWS, COLS) };
        c.in[0] = (cdl_view){ .data = ids, .dtype = CDL_DTYPE_I32, .rows = ROWS, .cols = 1, .stride = 1 };
        c.in[1] = kernel_pack_view(&m.pack);
        compare(&c, "");
        kernel_matrix_free(&m);
    }
    float *x = kernel_floats(VOCAB * COLS, &r);
    cdl_call c = { .op = CDL_OP_GATHER, .attrs = &(cdl_no_attrs){ 0 }, .n_in = 2,
                   .out = kernel_view(NULL, ROWS, COLS) };
    c.in[0] = kernel_view(x, VOCAB, COLS);
    c.in[1] = (cdl_view){ .data = ids, .dtype = CDL_DTYPE_I32, .rows = ROWS, .cols = 1, .stride = 1 };
    compare(&c, "");
    free(x);
}

/* Pages after a write are the same bytes with every set. */
static void test_state_write(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        cdl_state_layer l = { .dtype = way & 1 ? CDL_DTYPE_F32 : CDL_DTYPE_F16, .kv_heads = 2,
                              .key_dim = way & 2 ? 20 : 64, .value_dim = way & 2 ? 12 : 64 };
        rows_step s = { 0 };
        rows_add_span(&s, 30, 1);
        rows_add_span(&s, 0, 70);
        rows_add_span(&s, 95, 3);
        l.page_bytes = cdl_cpu_page_bytes(l.dtype, l.kv_heads, l.key_dim, l.value_dim);
        size_t bytes = l.page_bytes * (size_t)s.n_pages;
        cdl_state st = { &l, 1 };
        kernel_random r = { (uint64_t)way };
        float *k = kernel_floats(s.step.rows * 2 * l.key_dim, &r);
        float *v = kernel_floats(s.step.rows * 2 * l.value_dim, &r);
        uint8_t *want = cdl_mem_pages(bytes), *got = cdl_mem_pages(bytes);
        cdl_call c = { .op = CDL_OP_STATE_WRITE, .attrs = &(cdl_state_attrs){ 0 }, .n_in = 2,
                       .step = &s.step, .state = &st, .out = kernel_view(NULL, s.step.rows, 2 * l.key_dim) };
        c.in[0] = kernel_view(k, s.step.rows, 2 * l.key_dim);
        c.in[1] = kernel_view(v, s.step.rows, 2 * l.value_dim);
        l.base = want;
        kernel_run(kernel_set(0), pools[0], &c);
        l.base = got;
        for (unsigned i = 1; kernel_set(i); i++) {
            memset(got, 0, bytes);
            kernel_run(kernel_set(i), pools[1], &c);
            assert_memory_equal(got, want, bytes);
        }
        cdl_mem_pages_free(want, bytes);
        cdl_mem_pages_free(got, bytes);
        free(k), free(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_element_by_element), cmocka_unit_test(test_activations), cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rope), cmocka_unit_test(test_embed_and_gather), cmocka_unit_test(test_state_write),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
