/* test_graph.c - building, fusion and the memory plan, checked by running the plan on symbols: every
 * float of the workspace remembers which value wrote it, and every input must still be intact. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "graph/plan.h"
#include "model/decoder.h"

enum { LAYERS = 3, HIDDEN = 32, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 8, FFN = 48, VOCAB = 64, ROWS = 5, OUT_ROWS = 2 };

/* A small decoder; flags choose the variants that change the graph's shape. */
static void build(cdl_graph *g, bool gemma, bool tied)
{
    static const float inv[HEAD_DIM / 2] = { 1, 0.1f, 0.01f, 0.001f };
    cdl_decoder d = {
        .vocab = VOCAB, .hidden = HIDDEN, .layers = LAYERS, .heads = HEADS, .kv_heads = KV_HEADS,
        .head_dim = HEAD_DIM, .ffn = FFN, .context = 64, .eps = 1e-6f, .act = CDL_ACT_SILU, .embed_scale = 1,
        .attn_scale = 0.3f, .qk_norm = gemma, .sandwich = gemma, .tied = tied,
        .final_softcap = gemma ? 30.0f : 0.0f, .prefix = "model." };
    *g = (cdl_graph){ 0 };
    d.rope[0].inv_freq = cdl_graph_const(g, "inv_freq", inv, HEAD_DIM / 2);
    d.rope[0].attrs = (cdl_rope_attrs){ .head_dim = HEAD_DIM, .rotary_dim = HEAD_DIM, .scale = 1 };
    cdl_decoder_build(g, &d);
    assert_int_equal(cdl_graph_status(g), CUDDLE_OK);
}

static size_t scratch_of(const cdl_backend *b, const cdl_call *c)
{
    (void)b;
    return c->op == CDL_OP_LINEAR ? (size_t)c->in[0].rows * c->in[0].cols : 0;
}

static void plan(cdl_plan *p, const cdl_graph *g, const cdl_weights *w, cdl_dtype activation)
{
    cdl_backend backend = { .kernels = "none", .activation = activation, .scratch_bytes = scratch_of };
    cdl_bounds bounds = { .rows = ROWS, .out_rows = OUT_ROWS, .spans = 1 };
    cdl_state state = { 0 };
    assert_int_equal(cdl_plan_make(p, g, w, &backend, &state, bounds), CUDDLE_OK);
}

/* The value whose bytes a value's cells must carry: what an in-place op or a node wrote. */
static cdl_val writer_of(const cdl_graph *g, cdl_val v)
{
    while (g->values[v].kind == CDL_VALUE_VIEW)
        v = g->values[v].base;
    return v;
}

enum { CELL = 2 }; /* bytes: the least that an element has */

static void mark(const cdl_view *view, uint32_t *cells, cdl_val v, bool check)
{
    size_t size = cdl_dtype_get(view->dtype)->bytes / CELL, first = ((uintptr_t)view->data - 16) / CELL;
    for (uint32_t r = 0; r < view->rows; r++) {
        for (uint32_t c = 0; c < view->cols * size; c++) {
            size_t at = first + (size_t)r * view->stride * size + c;
            if (check)
                assert_int_equal(cells[at], v);
            else
                cells[at] = v;
        }
    }
}

/* Runs the plan on symbols. */
static void check_plan(const cdl_graph *g, cdl_dtype activation)
{
    cdl_weights w = { .n_values = g->n_values };
    w.views = calloc(g->n_values, sizeof *w.views);
    cdl_plan p;
    plan(&p, g, &w, activation);
    assert_true(p.values_bytes <= p.workspace_bytes && p.bound_bytes <= p.workspace_bytes);
    assert_true((double)p.workspace_bytes <= 1.25 * (double)p.bound_bytes);
    uint32_t *cells = calloc(p.values_bytes / CELL, sizeof *cells);
    for (cdl_val v = 1; v < g->n_values; v++) {
        if (g->values[v].kind != CDL_VALUE_INPUT)
            continue;
        cdl_view view = cdl_plan_view(&p, g, &w, v, (uint8_t *)16);
        mark(&view, cells, v, false);
    }
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_node *n = &g->nodes[i];
        cdl_call call;
        cdl_plan_call(&p, g, &w, i, (uint8_t *)16, &call);
        for (uint32_t k = 0; k < n->n_in; k++)
            if (p.places[n->in[k]].root)
                mark(&call.in[k], cells, writer_of(g, n->in[k]), true);
        bool is_logits = g->values[n->out].cols == VOCAB && g->values[n->out].sym == CDL_ROWS_R;
        assert_int_equal(call.out.dtype, is_logits ? CDL_DTYPE_F32 : activation);
        mark(&call.out, cells, n->out, false);
    }
    cdl_view logits = cdl_plan_view(&p, g, &w, g->logits, (uint8_t *)16);
    mark(&logits, cells, g->logits, true);
    assert_int_equal(logits.rows, OUT_ROWS);
    assert_int_equal(logits.cols, VOCAB);
    free(cells);
    free(w.views);
    cdl_plan_free(&p);
}

static void test_plan_keeps_every_value_until_its_last_reader(void **state)
{
    (void)state;
    static const char *const off[] = { "all", NULL, "qkv", "glu", "residual", "qkv,glu", "glu,residual" };
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        for (int variant = 0; variant < 4; variant++) {
            cdl_graph g;
            build(&g, variant & 1, variant & 2);
            assert_int_equal(cdl_graph_fuse(&g, off[i]), CUDDLE_OK);
            check_plan(&g, CDL_DTYPE_F32);
            check_plan(&g, CDL_DTYPE_BF16);
            cdl_graph_free(&g);
        }
    }
}

static uint32_t count(const cdl_graph *g, cdl_op op)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op == op;
    return n;
}

static void test_fusions_leave_what_they_should(void **state)
{
    (void)state;
    cdl_graph g;
    build(&g, false, true);
    uint32_t plain = g.n_nodes;
    assert_int_equal(count(&g, CDL_OP_LINEAR), LAYERS * 7 + 1);
    assert_int_equal(cdl_graph_fuse(&g, NULL), CUDDLE_OK);
    assert_int_equal(count(&g, CDL_OP_LINEAR), LAYERS * 3 + 1); /* qkv, o, down; the head */
    assert_int_equal(count(&g, CDL_OP_LINEAR_GLU), LAYERS);
    assert_int_equal(count(&g, CDL_OP_ADD), 0);
    assert_int_equal(count(&g, CDL_OP_ACT_MUL), 0);
    assert_int_equal(plain - g.n_nodes, LAYERS * (2 + 2 + 2));
    cdl_graph_free(&g);
}

static void test_fusions_can_be_switched_off_one_by_one(void **state)
{
    (void)state;
    static const struct { const char *off; uint32_t linear, glu, add; } cases[] = {
        { "all", LAYERS * 7 + 1, 0, LAYERS * 2 },
        { "qkv", LAYERS * 5 + 1, LAYERS, 0 },
        { "residual", LAYERS * 3 + 1, LAYERS, LAYERS * 2 },
        { "glu", LAYERS * 4 + 1, 0, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cdl_graph g;
        build(&g, false, false);
        assert_int_equal(cdl_graph_fuse(&g, cases[i].off), CUDDLE_OK);
        assert_int_equal(count(&g, CDL_OP_LINEAR), cases[i].linear);
        assert_int_equal(count(&g, CDL_OP_LINEAR_GLU), cases[i].glu);
        assert_int_equal(count(&g, CDL_OP_ADD), cases[i].add);
        cdl_graph_free(&g);
    }
}

static void test_tied_head_is_the_embedding(void **state)
{
    (void)state;
    cdl_graph g;
    build(&g, false, true);
    cdl_val table = 0, head = 0;
    for (uint32_t i = 0; i < g.n_nodes; i++) {
        if (g.nodes[i].op == CDL_OP_EMBED)
            table = g.nodes[i].in[1];
        if (g.nodes[i].out == g.logits)
            head = g.nodes[i].in[1];
    }
    assert_true(table && table == head);
    cdl_graph_free(&g);
}

static void test_wrong_shapes_name_the_node(void **state)
{
    (void)state;
    cdl_graph g = { 0 };
    cdl_val h = cdl_graph_embed(&g, cdl_graph_input(&g, CDL_INPUT_IDS),
            cdl_graph_matrix(&g, "table", 10, 8, CDL_SHARD_NONE), 1, "embed");
    cdl_graph_linear(&g, h, cdl_graph_matrix(&g, "w", 4, 9, CDL_SHARD_NONE), 0, "bad.linear");
    assert_int_equal(cdl_graph_status(&g), CUDDLE_ERR_FORMAT);
    assert_non_null(strstr(cuddle_errmsg(), "bad.linear"));
    assert_non_null(strstr(cuddle_errmsg(), "wanted 8, got 9"));
    cdl_graph_free(&g);
}

static void test_no_memory_is_an_error_everywhere(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        cdl_graph g = { 0 };
        static const float inv[HEAD_DIM / 2] = { 1, 0.1f, 0.01f, 0.001f };
        cdl_decoder d = { .vocab = VOCAB, .hidden = HIDDEN, .layers = 1, .heads = HEADS, .kv_heads = KV_HEADS,
            .head_dim = HEAD_DIM, .ffn = FFN, .context = 64, .embed_scale = 1, .prefix = "model." };
        cdl_mem_fail_nth(n, true);
        d.rope[0].inv_freq = cdl_graph_const(&g, "inv_freq", inv, HEAD_DIM / 2);
        d.rope[0].attrs = (cdl_rope_attrs){ .head_dim = HEAD_DIM, .rotary_dim = HEAD_DIM, .scale = 1 };
        cdl_decoder_build(&g, &d);
        cuddle_status st = cdl_graph_fuse(&g, NULL);
        cdl_mem_fail_nth(0, false);
        cdl_graph_free(&g);
        if (st == CUDDLE_OK)
            break;
        assert_int_equal(st, CUDDLE_ERR_NOMEM);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_keeps_every_value_until_its_last_reader),
        cmocka_unit_test(test_fusions_leave_what_they_should),
        cmocka_unit_test(test_fusions_can_be_switched_off_one_by_one),
        cmocka_unit_test(test_tied_head_is_the_embedding),
        cmocka_unit_test(test_wrong_shapes_name_the_node),
        cmocka_unit_test(test_no_memory_is_an_error_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
