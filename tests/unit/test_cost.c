/* test_cost.c - bytes and arithmetic of calls, against numbers counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/pack.h"
#include "graph/cost.h"

static cdl_view view(cdl_dtype t, uint32_t rows, uint32_t cols)
{
    return (cdl_view){ .dtype = t, .rows = rows, .cols = cols, .stride = cols };
}

static cdl_view pack_view(const cdl_pack *p)
{
    return (cdl_view){ .pack = p, .dtype = p->segment[0].dtype, .rows = p->rows, .cols = p->cols };
}

static void same(double got, double want)
{
    if (got < want - 0.5 || got > want + 0.5)
        fail_msg("%f, not %f", got, want);
}

/* 20 rows of q4_0 and 5 of q8_0, 64 columns: panels are padded to 16 rows, bytes are not. */
static const cdl_pack two = { .rows = 25, .cols = 64, .panels = 3, .n = 2, .segment = {
    { .dtype = CDL_DTYPE_Q4_0, .rows = 20, .panel_bytes = 16 * 36 },
    { .dtype = CDL_DTYPE_Q8_0, .rows = 5, .first_row = 20, .first_panel = 2, .panel_bytes = 16 * 68 } } };

static void test_products(void **state)
{
    (void)state;
    cdl_linear_attrs a = { 0 };
    cdl_call c = { .op = CDL_OP_LINEAR, .attrs = &a, .in = { view(CDL_DTYPE_F32, 3, 64), pack_view(&two) }, .n_in = 2,
                   .out = view(CDL_DTYPE_F32, 3, 25) };
    cdl_cost k = cdl_cost_of(&c);
    same(k.in[0], 3 * 64 * 4);
    same(k.in[1], 20 * 36 + 5 * 68);
    same(k.out, 3 * 25 * 4);
    same(k.flops, 2 * 3 * 64 * 25);
    same(k.tiles, 2 * 1 * 4);
    same(cdl_cost_bytes(&k), 768 + 1060 + 300);
    cdl_glu_attrs g = { .act = CDL_ACT_SILU };
    c = (cdl_call){ .op = CDL_OP_LINEAR_GLU, .attrs = &g, .n_in = 3, .out = view(CDL_DTYPE_BF16, 9, 25),
                    .in = { view(CDL_DTYPE_BF16, 9, 64), pack_view(&two), pack_view(&two) } };
    k = cdl_cost_of(&c);
    same(k.in[2], 1060);
    same(k.out, 9 * 25 * 2);
    same(k.flops, 2 * 2 * 9 * 64 * 25);
    same(k.tiles, 2 * 2 * 2 * 4);
}

/* f32 weights that a backend keeps in 16 bits. */
static void test_narrow_weights(void **state)
{
    (void)state;
    cdl_pack p = { .rows = 16, .cols = 8, .panels = 1, .n = 1,
                   .segment = { { .dtype = CDL_DTYPE_F32, .rows = 16, .panel_bytes = 16 * 8 * 2 } } };
    cdl_linear_attrs a = { 0 };
    cdl_call c = { .op = CDL_OP_LINEAR, .attrs = &a, .in = { view(CDL_DTYPE_F16, 1, 8), pack_view(&p) }, .n_in = 2,
                   .out = view(CDL_DTYPE_F16, 1, 16) };
    same(cdl_cost_of(&c).in[1], 256);
}

static void test_picked_rows(void **state)
{
    (void)state;
    cdl_embed_attrs a = { 1 };
    cdl_call c = { .op = CDL_OP_EMBED, .attrs = &a, .in = { view(CDL_DTYPE_I32, 1, 2), pack_view(&two) }, .n_in = 2,
                   .out = view(CDL_DTYPE_F32, 2, 64) };
    cdl_cost k = cdl_cost_of(&c);
    same(k.in[0], 8);
    same(k.in[1], 2 * 36);
    c = (cdl_call){ .op = CDL_OP_GATHER, .in = { view(CDL_DTYPE_F32, 100, 64), view(CDL_DTYPE_I32, 1, 3) }, .n_in = 2,
                    .out = view(CDL_DTYPE_F32, 3, 64) };
    k = cdl_cost_of(&c);
    same(k.in[0], 3 * 64 * 4);
    same(k.flops, 0);
}

static cdl_state_layer layer = { .dtype = CDL_DTYPE_F16, .kv_heads = 2, .key_dim = 16, .value_dim = 8 };
static const cdl_state pages = { .layers = &layer, .n_layers = 1 };

static cdl_cost attend(uint32_t first, uint32_t n, uint32_t generated, uint32_t window, bool bidirectional)
{
    cdl_span span = { .n = n, .first = first, .length = first + n };
    cdl_step step = { .rows = n, .rows_generated = generated, .spans = &span, .n_spans = 1 };
    cdl_attention_attrs a = { .heads = 6, .scale = 1, .window = window, .bidirectional = bidirectional };
    cdl_call c = { .op = CDL_OP_ATTENTION, .attrs = &a, .in = { view(CDL_DTYPE_F32, n, 96) }, .n_in = 1,
                   .out = view(CDL_DTYPE_F32, n, 48), .rows_generated = generated, .step = &step, .state = &pages };
    return cdl_cost_of(&c);
}

static void test_attention(void **state)
{
    (void)state;
    cdl_cost k = attend(9, 1, 1, 0, false); /* one generated row sees 10 slots */
    same(k.state_read, 10 * 2 * 24 * 2);
    same(k.flops, 10 * 2 * 6 * 24);
    same(k.tiles, 2 * (1 * 1 + 1 * 1));     /* heads of a group are one tile's columns */
    k = attend(0, 128, 0, 0, false);        /* causal: 128 * 129 / 2 pairs */
    same(k.state_read, 128 * 2 * 24 * 2);
    same(k.flops, 8256.0 * 2 * 6 * 24);
    same(k.tiles, 8256.0 * 6 * 24 / 2048);
    k = attend(10, 4, 0, 3, false);         /* rows 10 .. 13 see 3 each, 8 .. 13 together */
    same(k.flops, 12 * 2 * 6 * 24);
    same(k.state_read, 6 * 2 * 24 * 2);
    k = attend(0, 4, 0, 0, true);
    same(k.flops, 16 * 2 * 6 * 24);
}

static void test_rows_of_state(void **state)
{
    (void)state;
    cdl_state_attrs a = { 0 };
    cdl_call c = { .op = CDL_OP_STATE_WRITE, .attrs = &a, .n_in = 2, .state = &pages,
                   .in = { view(CDL_DTYPE_F32, 5, 32), view(CDL_DTYPE_F32, 5, 16) } };
    cdl_cost k = cdl_cost_of(&c);
    same(k.in[0] + k.in[1], 5 * 48 * 4);
    same(k.state_written, 5 * 48 * 2);
    same(k.out + k.flops, 0);
    c = (cdl_call){ .op = CDL_OP_ADD, .in = { view(CDL_DTYPE_F32, 2, 8), view(CDL_DTYPE_F32, 2, 8) }, .n_in = 2,
                    .out = view(CDL_DTYPE_F32, 2, 8) };
    k = cdl_cost_of(&c);
    same(cdl_cost_bytes(&k), 3 * 64);
    same(k.flops, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_products), cmocka_unit_test(test_narrow_weights),
        cmocka_unit_test(test_picked_rows), cmocka_unit_test(test_attention), cmocka_unit_test(test_rows_of_state) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
