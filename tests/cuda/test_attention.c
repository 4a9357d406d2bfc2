/* test_attention.c - CUDA's rotation + state write and attention over pages against the plain twins, through the
 * driver.
 *
 * The twin's pages are f32 in the CPU's layout and hold the same values as the device's. Bound: one rounding of the
 * softmax's weights, of at most the greatest value, and one of the result. */
#include "coverage.h"
#include "pages.h"

typedef struct {
    uint32_t state, heads, kv_heads, dim, value_dim, bucket, window;
    float softcap;
    bool bidirectional, prompt;
    uint32_t spans[SEQUENCES][2]; /* first, n; n 0 ends */
} shape;

static void run_attention(const shape *c, cdl_dtype t, const cdl_attention_args *a, const step *s)
{
    uint32_t groups = attention_groups(c->heads, c->kv_heads);
    attention_launch(t, c->state, c->bucket, c->prompt, c->prompt ? (unsigned[]){ (unsigned)s->n_tiles, c->heads, 1 }
        : (unsigned[]){ s->rows, groups, a->splits }, a);
}

/* Two launches, n elements: the last block of a row's heads leaves the counters ready for the next step. */
static void run_generated(const shape *c, cdl_dtype t, cdl_attention_args *a, const step *s, size_t n)
{
    const uint32_t count = s->rows * attention_groups(c->heads, c->kv_heads);
    uint32_t *counters = calloc(count, sizeof *counters);
    a->counters = (void *)driver_up(counters, count * sizeof *counters);
    run_attention(c, t, a, s);
    float *first = type_down(t, (device_ptr)a->y, n);
    driver_must(driver.copy_down(counters, (device_ptr)a->counters, count * sizeof *counters), "cuMemcpyDtoH");
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(counters[i], 0);
    a->y = (void *)driver_up(NULL, n * 2);
    run_attention(c, t, a, s);
    float *second = type_down(t, (device_ptr)a->y, n);
    assert_memory_equal(first, second, n * sizeof *first);
    free(first); free(second); free(counters);
}

static void attention_case(const shape *c, cdl_dtype t)
{
    kernel_random random = { c->dim + c->heads };
    pages p = pages_new(t, c->state, c->kv_heads, c->dim, c->value_dim);
    step *s = calloc(1, sizeof *s);
    for (uint32_t i = 0; i < SEQUENCES && c->spans[i][1]; i++) {
        step_add(s, c->spans[i][0], c->spans[i][1]);
        for (uint32_t slot = 0; slot < c->spans[i][0] + c->spans[i][1]; slot++)
            pages_fill(&p, s->table[i][slot / T], slot % T, &random);
    }
    size_t nq = (size_t)s->rows * c->heads * c->dim, n = (size_t)s->rows * c->heads * c->value_dim;
    float *q = type_floats(t, nq, &random), *want = malloc(n * sizeof *want);
    cdl_attention_args a = { .q = (void *)type_up(t, q, nq), .y = (void *)driver_up(NULL, n * 2), .state = pages_up(&p),
        .rows = step_up(s), .tile_rows = (void *)driver_up(s->tiles, sizeof s->tiles), .q_stride = c->heads * c->dim,
        .y_stride = c->heads * c->value_dim, .heads = c->heads, .splits = 5, .window = c->window,
        .bidirectional = c->bidirectional, .scale = 1 / sqrtf((float)c->dim), .softcap = c->softcap };
    a.partial = (void *)driver_up(NULL, (size_t)s->rows * c->heads * a.splits * (c->value_dim + 2) * 4);
    if (c->prompt)
        run_attention(c, t, &a, s);
    else
        run_generated(c, t, &a, s, n);
    float *got = type_down(t, (device_ptr)a.y, n);

    cdl_attention_attrs attrs = { .heads = c->heads, .scale = a.scale, .softcap = c->softcap, .window = c->window,
        .bidirectional = c->bidirectional };
    cdl_state state = { .layers = &p.layer, .n_layers = 1 };
    cdl_step host = { .rows = s->rows, .spans = s->spans, .n_spans = s->n_spans };
    cdl_call call = { .attrs = &attrs, .in = { kernel_view(q, s->rows, c->heads * c->dim) }, .n_in = 1,
        .out = kernel_view(want, s->rows, c->heads * c->value_dim), .step = &host, .state = &state };
    cdl_ref_ATTENTION(&call);
    char what[96];
    snprintf(what, sizeof what, "%s %s%s %u/%u heads of %u, %u rows", c->prompt ? "prompt" : "generated",
        cdl_dtype_get(t)->name, pages_suffix(c->state),
        c->heads, c->kv_heads, c->dim, s->rows);
    type_close(what, got, want, n, type_error(t), type_error(t) * (c->state ? 2 : 1)); /* values up to 4 */
    free(q); free(want); free(got); free(s);
    pages_free(&p);
    driver_free_all();
}

static void test_attention(void **state)
{
    static const shape shapes[] = {
        { 0, 9, 3, 64, 64, 64, 0, 0, false, false, { { 0, 1 }, { 300, 1 }, { 31, 1 }, { 255, 1 } } },
        { 0, 4, 1, 256, 256, 256, 40, 0, false, false, { { 100, 1 }, { 290, 1 } } },
        { 0, 20, 1, 72, 40, 96, 0, 20, false, false, { { 36, 1 }, { 77, 2 } } },
        { 0, 8, 8, 128, 128, 128, 0, 0, false, false, { { 260, 1 } } },
        { 0, 2, 1, 160, 160, 192, 0, 0, false, false, { { 50, 1 } } },
        { 0, 9, 3, 64, 64, 64, 0, 0, false, true, { { 0, 5 }, { 180, 70 } } },
        { 0, 4, 1, 256, 256, 256, 40, 0, false, true, { { 0, 130 } } },
        { 0, 3, 1, 72, 40, 96, 0, 20, false, true, { { 33, 66 }, { 0, 1 } } },
        { 0, 2, 2, 128, 128, 128, 0, 0, true, true, { { 0, 67 }, { 0, 30 } } },
        { 0, 2, 1, 160, 160, 192, 0, 0, false, true, { { 7, 65 } } },
    };
    (void)state;
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++)
        attention_case(&shapes[i / 2], activation_types[i % 2]);
}

/* Every kernel in three shapes: a pipeline full of keys, an odd one with fewer dimensions than the bucket, one slot. */
static void test_buckets(void **state)
{
    static const uint32_t buckets[] = { 64, 96, 128, 192, 256 };
    (void)state;
    for (int i = 0; i < 60; i++) {
        uint32_t d = buckets[i / 12], kind = (uint32_t)i / 4 % 3;
        bool prompt = i % 2;
        shape c[] = {
            { kind, 4, 2, d, d, d, 0, 0, false, prompt, { { prompt ? 0 : 600, prompt ? 256 : 1 }, { 511, 2 } } },
            { kind, 3, 3, d - 8, d - 24, d, 70, 5, false, prompt, { { 77, 66 }, { 256, 5 } } },
            { kind, 18, 1, d, d - 16, d, 0, 0, false, prompt, { { 0, 1 } } } };
        for (int k = 0; k < 3; k++)
            attention_case(&c[k], activation_types[i / 2 % 2]);
    }
}

static void test_prompt_cut(void **state)
{
    shape c = { 0, 3, 1, 64, 64, 64, 0, 0, false, true, { { 0, 150 } } };
    (void)state;
    kernel_random random = { 3 };
    pages p = pages_new(CDL_DTYPE_BF16, 0, 1, 64, 64);
    step whole = { 0 }, *cut = calloc(1, sizeof *cut);
    step_add(&whole, 0, 150);
    for (uint32_t slot = 0; slot < 150; slot++)
        pages_fill(&p, whole.table[0][slot / T], slot % T, &random);
    float *q = type_floats(CDL_DTYPE_BF16, 150 * 192, &random);
    step_add(cut, 37, 113);
    cdl_attention_args a = { .q = (void *)type_up(CDL_DTYPE_BF16, q, 150 * 192),
            .y = (void *)driver_up(NULL, 150 * 384),
        .state = pages_up(&p), .rows = step_up(&whole), .tile_rows = (void *)driver_up(whole.tiles, sizeof whole.tiles),
        .q_stride = 192, .y_stride = 192, .heads = 3, .splits = 1, .scale = 0.125f };
    run_attention(&c, CDL_DTYPE_BF16, &a, &whole);
    float *all = type_down(CDL_DTYPE_BF16, (device_ptr)a.y, 150 * 192);
    a.q = (const uint16_t *)a.q + 37 * 192;
    a.rows = step_up(cut);
    a.tile_rows = (void *)driver_up(cut->tiles, sizeof cut->tiles);
    run_attention(&c, CDL_DTYPE_BF16, &a, cut);
    float *part = type_down(CDL_DTYPE_BF16, (device_ptr)a.y, 113 * 192);
    assert_memory_equal(part, all + 37 * 192, 113 * 192 * sizeof *part);
    free(q); free(all); free(part); free(cut);
    pages_free(&p);
    driver_free_all();
}

/* One token's keys and values in its page: within a step of the state's type; 16-bit values bit for bit. */
static void check_written(const pages *p, int32_t page, uint32_t k, uint32_t slot, const float *keys, const float *v)
{
    for (int values = 0; values < 2; values++) {
        const float *want = values ? v : keys;
        float most = 0, scale = p->state ? *pages_scale(p, page, k, slot, values) : 1;
        for (uint32_t d = 0; d < p->dim; d++)
            most = fmaxf(most, fabsf(want[d]));
        if (p->state)
            assert_true(fabsf(scale * (p->state == CDL_CUDA_STATE_I8 ? 127 : 448) - most) <= 4e-6f * (1 + most));
        for (uint32_t d = 0; d < p->dim; d++) {
            const uint8_t *at = values ? pages_value(p, page, k, slot, d) : pages_key(p, page, k, slot, d);
            float error = fabsf(pages_number(p, at) * scale - want[d]), size = fabsf(want[d]);
            float bound = p->state == CDL_CUDA_STATE_I8 ? 0.501f * scale + 4e-6f
                : p->state == CDL_CUDA_STATE_F8 ? fmaxf(0x1p-4f * size, 0x1p-10f * scale) * 1.001f + 4e-6f
                : values ? 0 : type_error(p->t) * size + 4e-6f;
            if (!(error <= bound))
                fail_msg("%s %u of a token: %g is off by %g (bound %g)", values ? "value" : "key", d, (double)want[d],
                    (double)error, (double)bound);
        }
    }
}

typedef struct {
    uint32_t rows, heads, kv_heads, dim, rotary;
    bool interleaved, norm;
} rope_shape;

static void rope_case(cdl_dtype t, uint32_t state, const rope_shape *turn)
{
    const uint32_t rows = turn->rows, heads = turn->heads, kv_heads = turn->kv_heads, dim = turn->dim;
    const uint32_t rotary = turn->rotary;
    kernel_random random = { dim };
    pages p = pages_new(t, state, kv_heads, dim, dim);
    step *s = calloc(1, sizeof *s);
    step_add(s, 30, rows);
    step_add(s, 7, 1);
    size_t nq = (size_t)s->rows * heads * dim, nk = (size_t)s->rows * kv_heads * dim;
    float *q = type_floats(t, nq, &random), *k = type_floats(t, nk, &random), *v = type_floats(t, nk,
            &random), inv[128];
    float *w = kernel_floats(dim, &random), *want_q = malloc(nq * 4), *want_k = malloc(nk * 4);
    int32_t positions[5] = { 131071, 31, 32, 4000, 30 };
    for (uint32_t i = 0; i < rotary / 2; i++)
        inv[i] = powf(10000.0f, -2.0f * (float)i / (float)rotary);
    cdl_rope_state_args a = { .q = (void *)type_up(t, q, nq), .k = (void *)type_up(t, k, nk),
            .v = (void *)type_up(t, v, nk),
        .q_out = (void *)driver_up(NULL, nq * 2), .positions = (void *)driver_up(positions, sizeof positions),
        .inv_freq = (void *)driver_up(inv,
                sizeof inv), .state = pages_up(&p), .rows = step_up(s), .q_stride = heads * dim,
        .k_stride = kv_heads * dim, .v_stride = kv_heads * dim, .q_out_stride = heads * dim,
        .heads = heads, .rotary_dim = rotary,
        .interleaved = turn->interleaved, .scale = 1.1f, .eps = 1e-6f, .offset = 1.0f };
    if (turn->norm)
        a.q_norm = a.k_norm = (void *)driver_up(w, dim * 4);
    char base[40], name[64];
    snprintf(base, sizeof base, "rope_state_fwd_kernel%s", pages_suffix(state));
    driver_launch("rope_state", type_kernel(name, sizeof name, base, t), s->rows, (heads + 2 * kv_heads + 7) / 8, 1,
        CDL_CUDA_ROW_THREADS, 0, &a);

    cdl_norm_attrs norm_attrs = { .eps = 1e-6f, .offset = 1.0f };
    cdl_rope_attrs attrs = { .head_dim = dim, .rotary_dim = rotary, .interleaved = turn->interleaved, .scale = 1.1f };
    for (int i = 0; i < 2; i++) {
        uint32_t h = i ? kv_heads : heads;
        cdl_view x = kernel_view(i ? k : q, s->rows, h * dim), y = kernel_view(i ? want_k : want_q, s->rows, h * dim);
        cdl_call n = { .attrs = &norm_attrs, .in = { x, kernel_view(w, 1, dim) }, .n_in = 2, .out = y };
        cdl_call c = { .attrs = &attrs, .in = { turn->norm ? y : x, kernel_view(positions, 1, s->rows),
                kernel_view(inv, 1, rotary / 2) },
            .n_in = 3, .out = y };
        if (turn->norm)
            cdl_ref_RMSNORM(&n);
        cdl_ref_ROPE(&c);
    }
    float *got = type_down(t, (device_ptr)a.q_out, nq);
    type_close(name, got, want_q, nq, type_error(t), 4e-6f);
    driver_must(driver.copy_down(p.bytes, (device_ptr)a.state.base, PAGES * p.page_bytes), "cuMemcpyDtoH");
    for (uint32_t r = 0; r < s->rows; r++)
        for (uint32_t h = 0; h < kv_heads; h++) {
            size_t at = ((size_t)r * kv_heads + h) * dim;
            check_written(&p, s->table[r / rows][s->slots[r] / T], h, (uint32_t)s->slots[r] % T, want_k + at, v + at);
        }
    free(q); free(k); free(v); free(w); free(want_q); free(want_k); free(got); free(s);
    pages_free(&p);
    driver_free_all();
}

static void test_rope_state(void **state)
{
    static const rope_shape shapes[] = { { 4, 9, 3, 64, 64, false, false }, { 1, 4, 1, 256, 256, false, true },
        { 3, 3, 2, 72, 24, true, false }, { 2, 2, 2, 96, 48, false, true } };
    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
            rope_case(activation_types[i % 2], i / 2, &shapes[k]);
}

static void test_coverage(void **state)
{
    (void)state;
    coverage_of("attention");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rope_state), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_buckets), cmocka_unit_test(test_prompt_cut),
        cmocka_unit_test(test_coverage) };
    return driver_open() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
