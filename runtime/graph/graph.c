#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

const cdl_op_info *cdl_op_get(cdl_op op)
{
    static const cdl_op_info table[] = {
#define X(id, name, least, most, attrs, tolerance, split) \
        { name, least, most, sizeof(attrs), (float)(tolerance), CDL_SPLIT_##split },
#include "graph/ops.def"
#undef X
    };
    return &table[op];
}

void cdl_graph_free(cdl_graph *g)
{
    cdl_mem_free(g->values);
    cdl_mem_free(g->nodes);
    cdl_mem_free(g->states);
    cdl_arena_free(&g->arena);
    *g = (cdl_graph){ 0 };
}

void cdl_graph_fail(cdl_graph *g, cuddle_status code, const char *fmt, ...)
{
    if (g->status != CUDDLE_OK)
        return;
    g->status = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->error, sizeof g->error, fmt, ap);
    va_end(ap);
}

cuddle_status cdl_graph_status(const cdl_graph *g)
{
    return g->status == CUDDLE_OK ? CUDDLE_OK : cdl_status_fail(g->status, "%s", g->error);
}

static void out_of_memory(cdl_graph *g)
{
    cdl_graph_fail(g, CUDDLE_ERR_NOMEM, "out of memory for the model's graph");
}

/* One more item behind n items of *p; NULL after a failure. */
static void *append(cdl_graph *g, void **p, uint32_t *n, uint32_t *cap, size_t size)
{
    if (*n == *cap) {
        uint32_t want = *cap ? *cap * 2 : 64;
        void *q = cdl_mem_realloc(*p, want * size);
        if (!q) {
            out_of_memory(g);
            return NULL;
        }
        *p = q;
        *cap = want;
    }
    void *item = (char *)*p + *n * size;
    memset(item, 0, size);
    ++*n;
    return item;
}

/* A new value; 0 (none) after a failure, so that building goes on harmlessly. */
static cdl_val add_value(cdl_graph *g, cdl_value v)
{
    if (g->status != CUDDLE_OK)
        return 0;
    if (!g->n_values && !append(g, (void **)&g->values, &g->n_values, &g->cap_values, sizeof v))
        return 0;
    cdl_value *at = append(g, (void **)&g->values, &g->n_values, &g->cap_values, sizeof v);
    if (!at)
        return 0;
    *at = v;
    return g->n_values - 1;
}

const char *cdl_graph_name(cdl_graph *g, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *s = cdl_arena_strdup(&g->arena, text);
    if (!s)
        out_of_memory(g);
    return s ? s : "";
}

cdl_val cdl_graph_input(cdl_graph *g, cdl_input which)
{
    static const char *const names[] = { "input_ids", "position_ids", "out_rows" };
    for (cdl_val v = 1; v < g->n_values; v++)
        if (g->values[v].kind == CDL_VALUE_INPUT && g->values[v].input == which)
            return v;
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_INPUT, .sym = which == CDL_INPUT_OUT_ROWS ? CDL_ROWS_R : CDL_ROWS_T,
        .cols = 1, .dtype = CDL_DTYPE_I32, .name = names[which], .input = which });
}

/* A tensor that two ops read (tied embeddings) is one value. */
static cdl_val find_matrix(const cdl_graph *g, cdl_segment s, uint32_t cols)
{
    for (cdl_val v = 1; v < g->n_values; v++) {
        const cdl_value *w = &g->values[v];
        if (w->kind == CDL_VALUE_WEIGHT && w->matrix && w->n_segments == 1 && w->cols == cols
                && w->segment[0].first == s.first && w->segment[0].rows == s.rows
                && w->segment[0].transposed == s.transposed && !strcmp(w->segment[0].tensor, s.tensor))
            return v;
    }
    return 0;
}

cdl_val cdl_graph_matrix_part(cdl_graph *g, cdl_segment s, uint32_t cols, cdl_shard shard)
{
    cdl_val same = find_matrix(g, s, cols);
    if (same)
        return same;
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_WEIGHT, .matrix = true, .rows = s.rows, .cols = cols, .name = s.tensor,
        .shard = shard, .segment = { s }, .n_segments = 1 });
}

cdl_val cdl_graph_matrix(cdl_graph *g, const char *tensor, uint32_t rows, uint32_t cols, cdl_shard shard)
{
    return cdl_graph_matrix_part(g, (cdl_segment){ .tensor = tensor, .rows = rows }, cols, shard);
}

cdl_val cdl_graph_vector_part(cdl_graph *g, const char *tensor, uint32_t first, uint32_t n)
{
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_WEIGHT, .rows = 1, .cols = n, .dtype = CDL_DTYPE_F32, .name = tensor,
        .segment = { { .tensor = tensor, .first = first, .rows = n, .part = true } }, .n_segments = 1 });
}

cdl_val cdl_graph_vector(cdl_graph *g, const char *tensor, uint32_t n)
{
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_WEIGHT, .rows = 1, .cols = n, .dtype = CDL_DTYPE_F32, .name = tensor,
        .segment = { { .tensor = tensor, .rows = n } }, .n_segments = 1 });
}

cdl_val cdl_graph_const(cdl_graph *g, const char *name, const float *data, uint32_t n)
{
    float *copy = cdl_arena_alloc(&g->arena, n * sizeof *copy);
    if (!copy) {
        out_of_memory(g);
        return 0;
    }
    if (n)
        memcpy(copy, data, n * sizeof *copy);
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_CONST, .rows = 1, .cols = n, .dtype = CDL_DTYPE_F32, .name = name, .data = copy });
}

cdl_val cdl_graph_view(cdl_graph *g, cdl_val base, uint32_t first_col, uint32_t cols)
{
    if (!base || g->status != CUDDLE_OK)
        return 0;
    const cdl_value *b = &g->values[base];
    if (first_col > b->cols || cols > b->cols - first_col) {
        cdl_graph_fail(g, CUDDLE_ERR_INTERNAL, "%s: columns %u + %u of %u", b->name, first_col, cols, b->cols);
        return 0;
    }
    return add_value(g, (cdl_value){
        .kind = CDL_VALUE_VIEW, .sym = b->sym, .rows = b->rows, .cols = cols, .dtype = b->dtype,
        .name = b->name, .base = base, .first_col = first_col });
}

uint32_t cdl_graph_state(cdl_graph *g, cdl_state_decl decl)
{
    cdl_state_decl *at = append(g, (void **)&g->states, &g->n_states, &g->cap_states, sizeof decl);
    if (!at)
        return 0;
    *at = decl;
    return g->n_states - 1;
}

cdl_val cdl_graph_op(cdl_graph *g, cdl_op op, const void *attrs, const cdl_val *in, uint32_t n_in, const char *name)
{
    if (g->status != CUDDLE_OK)
        return 0;
    const cdl_op_info *info = cdl_op_get(op);
    void *copy = cdl_arena_zalloc(&g->arena, 1, info->attrs_bytes);
    cdl_node *n = append(g, (void **)&g->nodes, &g->n_nodes, &g->cap_nodes, sizeof *n);
    if (!copy || !n) {
        out_of_memory(g);
        return 0;
    }
    if (attrs)
        memcpy(copy, attrs, info->attrs_bytes);
    *n = (cdl_node){ .op = op, .attrs = copy, .n_in = n_in, .name = name };
    memcpy(n->in, in, n_in * sizeof *in);
    uint32_t index = g->n_nodes - 1, rows, cols;
    cdl_rows sym;
    cuddle_status st = cdl_shape_infer(g, n, &sym, &rows, &cols);
    if (st != CUDDLE_OK) {
        cdl_graph_fail(g, st, "%s", cuddle_errmsg());
        return 0;
    }
    cdl_val out = add_value(g, (cdl_value){
        .kind = CDL_VALUE_NODE, .sym = sym, .rows = rows, .cols = cols, .dtype = CDL_DTYPE_F32,
        .name = name, .node = index });
    g->nodes[index].out = out;
    return out;
}

/* ---- Typed builders ---- */

cdl_val cdl_graph_embed(cdl_graph *g, cdl_val ids, cdl_val table, float scale, const char *name)
{
    cdl_embed_attrs a = { scale };
    return cdl_graph_op(g, CDL_OP_EMBED, &a, (cdl_val[]){ ids, table }, 2, name);
}

cdl_val cdl_graph_gather(cdl_graph *g, cdl_val x, cdl_val rows, const char *name)
{
    return cdl_graph_op(g, CDL_OP_GATHER, NULL, (cdl_val[]){ x, rows }, 2, name);
}

cdl_val cdl_graph_rmsnorm(cdl_graph *g, cdl_val x, cdl_val w, float eps, float offset, const char *name)
{
    cdl_norm_attrs a = { eps, offset };
    return cdl_graph_op(g, CDL_OP_RMSNORM, &a, (cdl_val[]){ x, w }, 2, name);
}

cdl_val cdl_graph_layernorm(cdl_graph *g, cdl_val x, cdl_val w, cdl_val b, float eps, const char *name)
{
    cdl_norm_attrs a = { eps, 0 };
    return cdl_graph_op(g, CDL_OP_LAYERNORM, &a, (cdl_val[]){ x, w, b }, b ? 3 : 2, name);
}

cdl_val cdl_graph_linear(cdl_graph *g, cdl_val x, cdl_val w, cdl_val bias, const char *name)
{
    cdl_linear_attrs a = { .has_bias = bias != 0 };
    return cdl_graph_op(g, CDL_OP_LINEAR, &a, (cdl_val[]){ x, w, bias }, bias ? 3 : 2, name);
}

cdl_val cdl_graph_rope(cdl_graph *g, cdl_val x, cdl_val inv_freq, cdl_val long_or_0, const cdl_rope_attrs *a,
        const char *name)
{
    cdl_val positions = cdl_graph_input(g, CDL_INPUT_POSITIONS);
    return cdl_graph_op(g, CDL_OP_ROPE, a, (cdl_val[]){ x, positions, inv_freq, long_or_0 },
            long_or_0 ? 4 : 3, name);
}

void cdl_graph_state_write(cdl_graph *g, cdl_val k, cdl_val v, uint32_t layer, const char *name)
{
    cdl_state_attrs a = { layer };
    (void)cdl_graph_op(g, CDL_OP_STATE_WRITE, &a, (cdl_val[]){ k, v }, 2, name);
}

cdl_val cdl_graph_attention(cdl_graph *g, cdl_val q, const cdl_attention_attrs *a, const char *name)
{
    return cdl_graph_op(g, CDL_OP_ATTENTION, a, &q, 1, name);
}

cdl_val cdl_graph_add(cdl_graph *g, cdl_val x, cdl_val y, const char *name)
{
    return cdl_graph_op(g, CDL_OP_ADD, NULL, (cdl_val[]){ x, y }, 2, name);
}

cdl_val cdl_graph_act(cdl_graph *g, cdl_val x, cdl_act act, const char *name)
{
    cdl_act_attrs a = { act };
    return cdl_graph_op(g, CDL_OP_ACT, &a, &x, 1, name);
}

cdl_val cdl_graph_act_mul(cdl_graph *g, cdl_val gate, cdl_val up, cdl_act act, const char *name)
{
    cdl_act_attrs a = { act };
    return cdl_graph_op(g, CDL_OP_ACT_MUL, &a, (cdl_val[]){ gate, up }, 2, name);
}

cdl_val cdl_graph_softcap(cdl_graph *g, cdl_val x, float cap, const char *name)
{
    cdl_softcap_attrs a = { cap };
    return cdl_graph_op(g, CDL_OP_SOFTCAP, &a, &x, 1, name);
}

cdl_val cdl_graph_scale(cdl_graph *g, cdl_val x, float factor, const char *name)
{
    cdl_scale_attrs a = { factor };
    return cdl_graph_op(g, CDL_OP_SCALE, &a, &x, 1, name);
}

cuddle_status cdl_graph_dump(const cdl_graph *g, cdl_buf *out)
{
    static const char sym[] = " TR";
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_node *n = &g->nodes[i];
        const cdl_value *o = &g->values[n->out];
        CDL_TRY(cdl_buf_printf(out, "%4u %-12s %c x %-6u %s  <-", i, cdl_op_get(n->op)->name,
                sym[o->sym], o->cols, n->name));
        for (uint32_t k = 0; k < n->n_in; k++)
            CDL_TRY(cdl_buf_printf(out, " %s", g->values[n->in[k]].name));
        CDL_TRY(cdl_buf_putc(out, '\n'));
    }
    return CUDDLE_OK;
}
