/* test_tiles_attention.c - AMX attention: near the plain twin as bf16 allows, and with bits that depend on
 * a row's own slots alone. On a CPU without AMX the tile instructions are carried out by amx_trap.h. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/state.h"
#include "kernel/tiles.h"

extern const cdl_cpu_kernel cdl_ATTENTION_amx;

enum { SEQUENCES = 3, PAGES_EACH = 12, SLOTS_EACH = PAGES_EACH * CDL_PAGE_TOKENS };

/* Three sequences whose pages lie mixed in one layer, and queries for each of their slots. */
typedef struct {
    cdl_attention_attrs attrs;
    cdl_state_layer layer;
    int32_t pages[SEQUENCES][PAGES_EACH];
    size_t bytes;
    float *q;                  /* [SEQUENCES * SLOTS_EACH, H * D] */
} world;

static world world_new(cdl_dtype t, uint32_t heads, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim,
        uint64_t seed)
{
    kernel_random r = { seed };
    world w = { .attrs = { .heads = heads, .scale = 1 / sqrtf((float)key_dim) },
                .layer = { .dtype = t, .kv_heads = kv_heads, .key_dim = key_dim, .value_dim = value_dim,
                           .page_bytes = cdl_cpu_page_bytes(t, kv_heads, key_dim, value_dim) } };
    w.bytes = w.layer.page_bytes * SEQUENCES * PAGES_EACH;
    w.layer.base = cdl_mem_aligned(64, w.bytes);
    for (int32_t s = 0; s < SEQUENCES; s++)
        for (int32_t p = 0; p < PAGES_EACH; p++)
            w.pages[s][p] = p * SEQUENCES + (s + p) % SEQUENCES;
    for (size_t i = 0; i < w.bytes / cdl_state_element(&w.layer); i++)
        cdl_state_set(&w.layer, w.layer.base, i, kernel_normal(&r));
    w.q = kernel_floats((size_t)SEQUENCES * SLOTS_EACH * heads * key_dim, &r);
    return w;
}

static void world_free(world *w)
{
    cdl_mem_free(w->layer.base);
    free(w->q);
}

/* A copy of the state whose slots of a sequence from `end` on were never written: NaN. */
static uint8_t *poisoned(const world *w, const uint32_t end[SEQUENCES])
{
    cdl_state_layer l = w->layer;
    l.base = cdl_mem_aligned(64, w->bytes);
    memcpy(l.base, w->layer.base, w->bytes);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        for (uint32_t slot = end[s]; slot < SLOTS_EACH; slot++)
            for (uint32_t k = 0; k < l.kv_heads; k++) {
                int32_t page = w->pages[s][slot / CDL_PAGE_TOKENS];
                uint32_t at = slot % CDL_PAGE_TOKENS;
                for (uint32_t d = 0; d < l.key_dim; d++)
                    cdl_state_set(&l, cdl_state_keys(&l, page, k), d * CDL_PAGE_TOKENS + at, NAN);
                for (uint32_t d = 0; d < l.value_dim; d++)
                    cdl_state_set(&l, cdl_state_values(&l, page, k), at * l.value_dim + d, NAN);
            }
    return l.base;
}

/* Rows of a step: slots [first, first + n) of a sequence, one span after the other. */
typedef struct { uint32_t sequence, first, n; } piece;

typedef struct {
    const piece *pieces;
    uint32_t n, generated, threads; /* of the rows, the leading ones */
    bool f32;
} plan;

static uint32_t plan_rows(const plan *p)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < p->n; i++)
        rows += p->pieces[i].n;
    return rows;
}

static float *run(const cdl_cpu_set *set, const world *w, plan p)
{
    uint32_t rows = plan_rows(&p), width = w->attrs.heads * w->layer.key_dim;
    uint32_t out_width = w->attrs.heads * w->layer.value_dim;
    uint32_t end[SEQUENCES] = { 0 }, row = 0;
    float *x = malloc((size_t)rows * width * sizeof *x), *out = malloc((size_t)rows * out_width * sizeof *out);
    cdl_span spans[8];
    for (uint32_t i = 0; i < p.n; i++, row += p.pieces[i - 1].n) {
        const piece *at = &p.pieces[i];
        spans[i] = (cdl_span){ .row = row, .n = at->n, .first = at->first, .length = at->first + at->n,
                               .pages = { w->pages[at->sequence] } };
        memcpy(x + (size_t)row * width, w->q + ((size_t)at->sequence * SLOTS_EACH + at->first) * width,
                (size_t)at->n * width * sizeof *x);
        if (end[at->sequence] < at->first + at->n)
            end[at->sequence] = at->first + at->n;
    }
    cdl_state_layer layer = w->layer;
    layer.base = poisoned(w, end);
    cdl_state state = { &layer, 1 };
    cdl_step step = { .rows = rows, .rows_generated = p.generated, .spans = spans, .n_spans = p.n,
                      .f32_activations = p.f32 };
    cdl_call c = { .op = CDL_OP_ATTENTION, .attrs = &w->attrs, .n_in = 1, .step = &step, .state = &state,
                   .rows_generated = p.generated, .name = "attention" };
    c.in[0] = kernel_view(x, rows, width);
    c.out = kernel_view(out, rows, out_width);
    tiles_run(set, p.threads, &c);
    cdl_mem_free(layer.base);
    free(x);
    return out;
}

/* ---- Near the plain twin ---- */

static double rms(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += pow((double)a[i] - (b ? (double)b[i] : 0), 2) / (double)n;
    return sqrt(sum);
}

/* The same world with queries, keys and values rounded to bf16, in an f32 state. */
static world rounded(const world *w)
{
    world r = *w;
    size_t n = w->bytes / cdl_state_element(&w->layer);
    size_t queries = (size_t)SEQUENCES * SLOTS_EACH * w->attrs.heads * w->layer.key_dim;
    size_t page = (size_t)w->layer.kv_heads * (w->layer.key_dim + w->layer.value_dim) * CDL_PAGE_TOKENS;
    r.layer.dtype = CDL_DTYPE_F32;
    r.layer.page_bytes = cdl_cpu_page_bytes(CDL_DTYPE_F32, w->layer.kv_heads, w->layer.key_dim, w->layer.value_dim);
    r.bytes = r.layer.page_bytes * SEQUENCES * PAGES_EACH;
    r.layer.base = cdl_mem_aligned(64, r.bytes);
    r.q = malloc(queries * sizeof *r.q);
    assert_true(n >= page * SEQUENCES * PAGES_EACH);
    for (size_t p = 0; p < SEQUENCES * PAGES_EACH; p++)
        for (size_t i = 0; i < page; i++)
            ((float *)(r.layer.base + p * r.layer.page_bytes))[i] = cdl_f32_from_bf16(cdl_bf16_from_f32(
                    cdl_state_get(&w->layer, w->layer.base + p * w->layer.page_bytes, i)));
    for (size_t i = 0; i < queries; i++)
        r.q[i] = cdl_f32_from_bf16(cdl_bf16_from_f32(w->q[i]));
    return r;
}

/* The error is at most twice that of rounding queries, keys and values to bf16. */
static void check_near(const world *w, plan p, const char *what)
{
    size_t n = (size_t)plan_rows(&p) * w->attrs.heads * w->layer.value_dim;
    world r = rounded(w);
    float *fast = run(&amx, w, p), *exact = run(kernel_set(0), w, p), *plain = run(kernel_set(0), &r, p);
    double allowed = rms(plain, exact, n), is = rms(fast, exact, n);
    if (!(is <= 2 * allowed && is > 0))
        fail_msg("%s: error %g, of bf16 rounding %g, size %g", what, is, allowed, rms(exact, NULL, n));
    free(fast);
    free(exact);
    free(plain);
    world_free(&r);
}

static void check_shape(cdl_dtype t, uint32_t heads, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim,
        const char *what)
{
    static const piece pieces[] = { { 0, 0, 67 }, { 1, 130, 70 }, { 2, 5, 1 } };
    world w = world_new(t, heads, kv_heads, key_dim, value_dim, 1);
    check_near(&w, (plan){ pieces, 3, 0, 2, false }, what);
    world_free(&w);
}

static void test_attention_shapes(void **state)
{
    (void)state;
    check_shape(CDL_DTYPE_F16, 9, 3, 64, 64, "9 heads, 3 KV heads of 64");
    check_shape(CDL_DTYPE_F16, 4, 1, 256, 256, "4 heads, 1 KV head of 256");
    check_shape(CDL_DTYPE_F32, 12, 12, 32, 32, "12 heads of 32 in f32");
    check_shape(CDL_DTYPE_F16, 2, 1, 80, 40, "keys of 80, values of 40");
    check_shape(CDL_DTYPE_F32, 3, 1, 5, 3, "keys of 5, values of 3");
    check_shape(CDL_DTYPE_F16, 16, 1, 576, 512, "latents, 16 heads");
    check_shape(CDL_DTYPE_F16, 1, 1, 1100, 1000, "too large for tiles");
}

static void test_attention_window_softcap_bidirectional(void **state)
{
    static const piece pieces[] = { { 0, 0, 100 }, { 1, 130, 140 }, { 2, 40, 33 } };
    static const piece whole[] = { { 0, 0, 100 }, { 1, 0, 129 }, { 2, 0, 7 } };
    (void)state;
    world w = world_new(CDL_DTYPE_F16, 6, 2, 64, 48, 2);
    w.attrs.window = 40;
    check_near(&w, (plan){ pieces, 3, 0, 1, false }, "window of 40");
    w.attrs.window = 1;
    check_near(&w, (plan){ pieces, 3, 0, 1, false }, "window of 1");
    w.attrs.window = 0;
    w.attrs.softcap = 0.5f;
    check_near(&w, (plan){ pieces, 3, 0, 1, false }, "soft cap");
    w.attrs.softcap = 0;
    w.attrs.bidirectional = true;
    check_near(&w, (plan){ whole, 3, 0, 1, false }, "bidirectional");
    world_free(&w);
}

/* ---- A row's bits ---- */

/* Rows of part, a plan, equal those of whole that begin at row `at`. */
static void check_same(const world *w, plan part, const float *whole, uint32_t at, const char *what)
{
    uint32_t width = w->attrs.heads * w->layer.value_dim;
    float *got = run(&amx, w, part);
    for (size_t i = 0; i < (size_t)plan_rows(&part) * width; i++)
        if (cdl_f32_bits(got[i]) != cdl_f32_bits(whole[(size_t)at * width + i]))
            fail_msg("%s: row %zu, element %zu is %.9g, not %.9g", what, i / width, i % width, (double)got[i],
                    (double)whole[(size_t)at * width + i]);
    free(got);
}

static void check_chunks(uint32_t window)
{
    static const piece all = { 1, 0, 300 };
    static const piece chunks[] = { { 1, 0, 1 }, { 1, 1, 7 }, { 1, 8, 120 }, { 1, 128, 1 }, { 1, 129, 171 } };
    world w = world_new(CDL_DTYPE_F16, 6, 2, 64, 64, 3);
    w.attrs.window = window;
    float *whole = run(&amx, &w, (plan){ &all, 1, 0, 1, false });
    for (uint32_t i = 0; i < 5; i++)
        check_same(&w, (plan){ &chunks[i], 1, 0, 1, false }, whole, chunks[i].first, "a chunk");
    check_same(&w, (plan){ &all, 1, 0, 3, false }, whole, 0, "three threads");
    piece beside[] = { { 0, 3, 77 }, { 1, 8, 120 } };
    float *both = run(&amx, &w, (plan){ beside, 2, 0, 1, false });
    check_same(&w, (plan){ &beside[1], 1, 0, 1, false }, both, 77, "beside another sequence");
    check_same(&w, (plan){ &beside[1], 1, 0, 1, false }, whole, 8, "a part");
    free(both);
    free(whole);
    world_free(&w);
}

static void test_attention_in_chunks_same_bits(void **state)
{
    (void)state;
    check_chunks(0);
    check_chunks(50);
}

/* Generated rows are the AVX-512 set's, and so is everything with f32 activations. */
static void test_attention_generated_rows(void **state)
{
    static const piece generated[] = { { 0, 200, 1 }, { 2, 77, 1 } }, prompt = { 1, 64, 90 };
    piece mixed[] = { generated[0], generated[1], prompt };
    (void)state;
    world w = world_new(CDL_DTYPE_F16, 9, 3, 64, 64, 4);
    float *first = run(avx512, &w, (plan){ generated, 2, 2, 1, false });
    float *rest = run(&amx, &w, (plan){ &prompt, 1, 0, 1, false });
    float *both = run(&amx, &w, (plan){ mixed, 3, 2, 2, false });
    float *f32 = run(avx512, &w, (plan){ mixed, 3, 2, 1, true });
    size_t width = (size_t)w.attrs.heads * w.layer.value_dim;
    assert_memory_equal(both, first, 2 * width * sizeof *both);
    assert_memory_equal(both + 2 * width, rest, 90 * width * sizeof *both);
    check_same(&w, (plan){ generated, 2, 2, 1, false }, first, 0, "generated rows alone");
    check_same(&w, (plan){ mixed, 3, 2, 1, true }, f32, 0, "f32 activations");
    free(first);
    free(rest);
    free(both);
    free(f32);
    world_free(&w);
}

int main(void)
{
    if (!tiles_begin())
        return 0;
    amx.kernel[CDL_OP_ATTENTION] = cdl_ATTENTION_amx;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_shapes),
        cmocka_unit_test(test_attention_window_softcap_bidirectional),
        cmocka_unit_test(test_attention_in_chunks_same_bits),
        cmocka_unit_test(test_attention_generated_rows),
    };
    return tiles_end(cmocka_run_group_tests(tests, NULL, NULL));
}
