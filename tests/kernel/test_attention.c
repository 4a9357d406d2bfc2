/* test_attention.c - attention over paged state, on every set of this machine: against the plain twin, and the same
 * bits whatever else stands in the step and however a prompt is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/state.h"
#include "pools.h"
#include "rows.h"

typedef struct {
    uint32_t heads, kv_heads, key_dim, value_dim, window;
    float softcap;
    bool f32, bidirectional;
} shape;

static const shape shapes[] = {
    { 9, 3, 64, 64, 0, 0, false, false },     { 4, 1, 256, 256, 50, 0, false, false },
    { 8, 8, 40, 40, 0, 50, true, false },     { 2, 1, 24, 16, 0, 0, false, false },
    { 7, 1, 128, 128, 33, 30, false, false }, { 6, 2, 20, 13, 1, 0, true, false },
    { 12, 12, 32, 32, 0, 0, false, true },    { 32, 8, 64, 64, 0, 0, false, false },
    { 16, 1, 96, 96, 64, 0, true, false },
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    cdl_attention_attrs attrs;
    cdl_state_layer layer;
    cdl_state state;
    rows_step step;
    float *q, *out;
    size_t bytes;
    cdl_call call;
} fixture;

/* All pages hold random keys and values; the last slots of pages too, which nothing may see. */
static void fill_state(fixture *f, const shape *s)
{
    cdl_state_layer *l = &f->layer;
    *l = (cdl_state_layer){ .dtype = s->f32 ? CDL_DTYPE_F32 : CDL_DTYPE_F16, .kv_heads = s->kv_heads,
                            .key_dim = s->key_dim, .value_dim = s->value_dim };
    l->page_bytes = cdl_cpu_page_bytes(l->dtype, l->kv_heads, l->key_dim, l->value_dim);
    f->bytes = l->page_bytes * ROWS_SPANS_MAX * ROWS_PAGES_MAX;
    l->base = cdl_mem_pages(f->bytes);
    f->state = (cdl_state){ l, 1 };
    kernel_random r = { s->key_dim };
    size_t n = f->bytes / cdl_state_element(l);
    for (size_t i = 0; i < n; i++)
        cdl_state_set(l, l->base, i, kernel_uniform(&r, -1.5f, 1.5f));
}

static void fixture_open(fixture *f, const shape *s)
{
    memset(f, 0, sizeof *f);
    f->attrs = (cdl_attention_attrs){ .heads = s->heads, .scale = 1 / sqrtf((float)s->key_dim), .softcap = s->softcap,
                                      .window = s->window, .bidirectional = s->bidirectional };
    fill_state(f, s);
    rows_add_span(&f->step, 0, 1);
    rows_add_span(&f->step, s->bidirectional ? 0 : 200, 1);
    rows_add_span(&f->step, 0, 77);
    rows_add_span(&f->step, s->bidirectional ? 0 : 61, 40);
    rows_add_span(&f->step, s->bidirectional ? 0 : 1023, 2);
    kernel_random r = { 77 };
    uint32_t rows = f->step.step.rows;
    f->q = kernel_floats((size_t)rows * s->heads * s->key_dim, &r);
    f->out = calloc((size_t)rows * s->heads * s->value_dim, sizeof(float));
    f->call = (cdl_call){ .op = CDL_OP_ATTENTION, .attrs = &f->attrs, .n_in = 1,
                          .step = &f->step.step, .state = &f->state,
                          .out = kernel_view(f->out, rows, s->heads * s->value_dim) };
    f->call.in[0] = kernel_view(f->q, rows, s->heads * s->key_dim);
}

static void fixture_close(fixture *f)
{
    cdl_mem_pages_free(f->layer.base, f->bytes);
    free(f->q);
    free(f->out);
}

static void test_against_the_twin(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        fixture f;
        fixture_open(&f, &shapes[i]);
        size_t n = (size_t)f.call.out.rows * f.call.out.cols;
        float *want = malloc(n * sizeof *want);
        kernel_run(kernel_set(0), pools[0], &f.call);
        memcpy(want, f.out, n * sizeof *want);
        for (unsigned s = 1; kernel_set(s); s++)
            for (int threads = 0; threads < 2; threads++) {
                memset(f.out, 0xFF, n * sizeof *want);
                kernel_run(kernel_set(s), pools[threads], &f.call);
                float error = rows_error(f.out, want, n);
                float bound = cdl_op_get(CDL_OP_ATTENTION)->tolerance * rows_top(want, n);
                if (!(error <= bound))
                    fail_msg("shape %d, %s, %d threads: error %g, bound %g", i, kernel_set(s)->name, threads + 1,
                            (double)error, (double)bound);
            }
        free(want);
        fixture_close(&f);
    }
}

/* Each row once more, alone in a step. */
static void test_company_does_not_change_the_bits(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        if (shapes[i].bidirectional)
            continue; /* there a row sees its whole span */
        fixture f;
        fixture_open(&f, &shapes[i]);
        for (unsigned s = 1; kernel_set(s); s++) {
            kernel_run(kernel_set(s), pools[1], &f.call);
            for (uint32_t r = 0; r < f.call.out.rows; r++) {
                const cdl_span *from = cdl_span_of(&f.step.step, r);
                cdl_span span = *from;
                span.first += r - from->row;
                span.n = 1;
                span.row = 0;
                cdl_step step = { .rows = 1, .spans = &span, .n_spans = 1 };
                float *y = calloc(f.call.out.cols, sizeof *y);
                cdl_call c = f.call;
                c.step = &step;
                c.in[0] = kernel_view(f.q + (size_t)r * c.in[0].cols, 1, c.in[0].cols);
                c.out = kernel_view(y, 1, c.out.cols);
                kernel_run(kernel_set(s), pools[0], &c);
                assert_memory_equal(y, f.out + (size_t)r * c.out.cols, c.out.cols * sizeof *y);
                free(y);
            }
        }
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_twin), cmocka_unit_test(test_company_does_not_change_the_bits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
