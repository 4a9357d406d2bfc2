#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ALIGN = 64 };

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- Who lives where, and how long ---- */

static uint32_t rows_of(const cdl_plan *p, const cdl_value *v)
{
    return v->sym == CDL_ROWS_T ? p->bounds.rows : v->sym == CDL_ROWS_R ? p->bounds.out_rows : v->rows;
}

static size_t element_of(const cdl_plan *p, cdl_val v)
{
    return cdl_dtype_get(p->places[v].dtype)->bytes;
}

/* The node whose output v is, or lies in; NULL when it is no node's. */
static const cdl_node *maker_of(const cdl_graph *g, cdl_val v)
{
    while (g->values[v].kind == CDL_VALUE_VIEW)
        v = g->values[v].base;
    return g->values[v].kind == CDL_VALUE_NODE ? &g->nodes[g->values[v].node] : NULL;
}

/* Activations have the backend's type; the logits, and what is done to each of them alone, are f32. */
static void find_types(cdl_plan *p, const cdl_graph *g, cdl_dtype activation)
{
    for (cdl_val v = 1; v < g->n_values; v++)
        p->places[v].dtype = maker_of(g, v) ? activation : g->values[v].dtype;
    const cdl_node *n = maker_of(g, g->logits);
    while (n) {
        p->places[n->out].dtype = CDL_DTYPE_F32;
        n = n->op == CDL_OP_SOFTCAP || n->op == CDL_OP_SCALE ? maker_of(g, n->in[0]) : NULL;
    }
}

/* The last node that reads exactly the columns of `v`, or columns that overlap them. */
static uint32_t last_overlapping_use(const cdl_plan *p, const cdl_graph *g, cdl_val v)
{
    const cdl_place *a = &p->places[v];
    uint32_t last = 0, cols = g->values[v].cols;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        for (uint32_t k = 0; k < g->nodes[i].n_in; k++) {
            cdl_val u = g->nodes[i].in[k];
            const cdl_place *b = &p->places[u];
            bool overlap = b->root == a->root && b->first_col < a->first_col + cols
                && a->first_col < b->first_col + g->values[u].cols;
            if (overlap)
                last = i;
        }
    }
    return last;
}

/* The input whose place node i may write its output to, or 0. */
static cdl_val in_place_input(const cdl_plan *p, const cdl_graph *g, uint32_t i)
{
    const cdl_node *n = &g->nodes[i];
    cdl_val candidate[2] = { 0, 0 };
    switch (n->op) {
    case CDL_OP_ADD:
    case CDL_OP_ACT_MUL:
        candidate[1] = n->in[1]; /* fall through */
    case CDL_OP_ROPE:
    case CDL_OP_RMSNORM:
    case CDL_OP_LAYERNORM:
    case CDL_OP_ACT:
    case CDL_OP_SOFTCAP:
    case CDL_OP_SCALE:
        candidate[0] = n->in[0];
        break;
    case CDL_OP_LINEAR:
        if (((const cdl_linear_attrs *)n->attrs)->has_residual)
            candidate[0] = n->in[n->n_in - 1];
        break;
    default:
        break;
    }
    for (int k = 0; k < 2; k++) {
        cdl_val v = candidate[k];
        /* a product reads whole rows of x while others write theirs */
        if (n->op == CDL_OP_LINEAR && p->places[v].root == p->places[n->in[0]].root)
            continue;
        if (v && p->places[v].root && g->values[v].kind != CDL_VALUE_INPUT
                && p->places[v].dtype == p->places[n->out].dtype
                && g->values[v].cols == g->values[n->out].cols && last_overlapping_use(p, g, v) == i)
            return v;
    }
    return 0;
}

/* Views lie where their base lies. */
static void place_views(cdl_plan *p, const cdl_graph *g, cdl_val base)
{
    for (cdl_val v = 1; v < g->n_values; v++) {
        uint32_t col = 0;
        cdl_val up = v;
        for (; g->values[up].kind == CDL_VALUE_VIEW && up != base; up = g->values[up].base)
            col += g->values[up].first_col;
        if (up == base && v != base) {
            p->places[v].root = p->places[base].root;
            p->places[v].first_col = p->places[base].first_col + col;
        }
    }
}

static void find_roots(cdl_plan *p, const cdl_graph *g)
{
    for (cdl_val v = 1; v < g->n_values; v++)
        if (g->values[v].kind == CDL_VALUE_INPUT)
            p->places[v].root = v;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        cdl_val out = g->nodes[i].out, in = in_place_input(p, g, i);
        p->places[out].root = in ? p->places[in].root : out;
        p->places[out].first_col = in ? p->places[in].first_col : 0;
        place_views(p, g, out);
    }
}

/* Lives of the roots, from their own making to the last reader of anything in them. */
static void find_lives(cdl_plan *p, const cdl_graph *g)
{
    for (cdl_val v = 1; v < g->n_values; v++)
        p->places[v].first = UINT32_MAX;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_node *n = &g->nodes[i];
        cdl_place *out = &p->places[p->places[n->out].root];
        if (i < out->first)
            out->first = i;
        if (i > out->last)
            out->last = i;
        for (uint32_t k = 0; k < n->n_in; k++) {
            cdl_place *in = &p->places[p->places[n->in[k]].root];
            if (i > in->last)
                in->last = i;
        }
    }
    for (cdl_val v = 1; v < g->n_values; v++) {
        cdl_place *a = &p->places[v];
        if (g->values[v].kind == CDL_VALUE_INPUT)
            a->first = 0;
        if (g->values[v].kind == CDL_VALUE_INPUT || p->places[g->logits].root == v)
            a->last = g->n_nodes;
    }
}

/* ---- Placing ---- */

static int larger_first(const void *a, const void *b)
{
    const cdl_place *x = *(cdl_place *const *)a, *y = *(cdl_place *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y;
}

static bool lives_overlap(const cdl_place *a, const cdl_place *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static int by_offset(const void *a, const void *b)
{
    const cdl_place *x = *(cdl_place *const *)a, *y = *(cdl_place *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The lowest gap for `a` between the placed ones that live at the same time; near: room for them. */
static size_t lowest_gap(const cdl_place *a, cdl_place **placed, uint32_t n, cdl_place **near)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++)
        if (lives_overlap(a, placed[i]))
            near[m++] = placed[i];
    qsort(near, m, sizeof *near, by_offset);
    size_t at = 0;
    for (uint32_t i = 0; i < m && near[i]->offset < at + a->bytes; i++)
        if (near[i]->offset + near[i]->bytes > at)
            at = near[i]->offset + near[i]->bytes;
    return at;
}

static cuddle_status place_roots(cdl_plan *p, const cdl_graph *g)
{
    cdl_place **roots = cdl_mem_array(3 * (size_t)p->n_values, sizeof *roots);
    if (!roots)
        return cdl_status_nomem("the memory plan");
    cdl_place **placed = roots + p->n_values, **near = placed + p->n_values;
    uint32_t n = 0;
    for (cdl_val v = 1; v < p->n_values; v++) {
        cdl_place *a = &p->places[v];
        if (a->root != v)
            continue;
        a->bytes = aligned((size_t)rows_of(p, &g->values[v]) * g->values[v].cols * element_of(p, v));
        roots[n++] = a;
    }
    qsort(roots, n, sizeof *roots, larger_first);
    for (uint32_t i = 0; i < n; i++) {
        roots[i]->offset = lowest_gap(roots[i], placed, i, near);
        placed[i] = roots[i];
        size_t end = roots[i]->offset + roots[i]->bytes;
        if (end > p->values_bytes)
            p->values_bytes = end;
    }
    cdl_mem_free(roots);
    return CUDDLE_OK;
}

/* ---- Calls ---- */

cdl_view cdl_plan_view(const cdl_plan *p, const cdl_graph *g, const cdl_weights *w, cdl_val v, uint8_t *base)
{
    const cdl_value *x = &g->values[v];
    const cdl_place *a = &p->places[v];
    if (!a->root)
        return w->views[v];
    const cdl_place *root = &p->places[a->root];
    return (cdl_view){
        .data = base ? base + root->offset + a->first_col * element_of(p, v) : NULL,
        .dtype = a->dtype, .rows = rows_of(p, x), .cols = x->cols, .stride = g->values[a->root].cols };
}

void cdl_plan_call(const cdl_plan *p, const cdl_graph *g, const cdl_weights *w, uint32_t node, uint8_t *base,
        cdl_call *out)
{
    const cdl_node *n = &g->nodes[node];
    *out = (cdl_call){ .op = n->op, .attrs = n->attrs, .n_in = n->n_in, .name = n->name };
    for (uint32_t k = 0; k < n->n_in; k++)
        out->in[k] = cdl_plan_view(p, g, w, n->in[k], base);
    out->out = cdl_plan_view(p, g, w, n->out, base);
    out->workspace = base ? base + p->values_bytes : NULL;
}

/* Kernels' scratch, and the lower bound: values alive at a node, and what its kernel needs. */
static cuddle_status plan_scratch(cdl_plan *p, const cdl_graph *g, const cdl_weights *w, const cdl_backend *b,
        const cdl_state *state)
{
    cdl_step step = { .rows = p->bounds.rows, .out_rows = p->bounds.out_rows, .n_spans = p->bounds.spans,
                      .f32_activations = p->bounds.f32_activations };
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        cdl_call call;
        cdl_plan_call(p, g, w, i, NULL, &call);
        call.step = &step;
        call.state = state;
        if (b->check)
            CDL_TRY(b->check(b, &call));
        size_t scratch = aligned(b->scratch_bytes(b, &call)), alive = scratch;
        if (scratch > p->scratch_bytes)
            p->scratch_bytes = scratch;
        for (cdl_val v = 1; v < p->n_values; v++)
            if (p->places[v].root == v && p->places[v].first <= i && p->places[v].last >= i)
                alive += p->places[v].bytes;
        if (alive > p->bound_bytes)
            p->bound_bytes = alive;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_plan_make(cdl_plan *p, const cdl_graph *g, const cdl_weights *w,
        const cdl_backend *b, const cdl_state *state, cdl_bounds bounds)
{
    *p = (cdl_plan){ .n_values = g->n_values, .bounds = bounds };
    p->places = cdl_mem_zalloc(g->n_values, sizeof *p->places);
    if (!p->places)
        return cdl_status_nomem("the memory plan");
    find_types(p, g, b->activation);
    find_roots(p, g);
    find_lives(p, g);
    cuddle_status st = place_roots(p, g);
    if (st == CUDDLE_OK)
        st = plan_scratch(p, g, w, b, state);
    if (st != CUDDLE_OK) {
        cdl_plan_free(p);
        return st;
    }
    p->workspace_bytes = p->values_bytes + p->scratch_bytes;
    return CUDDLE_OK;
}

void cdl_plan_free(cdl_plan *p)
{
    cdl_mem_free(p->places);
    *p = (cdl_plan){ 0 };
}

cuddle_status cdl_plan_print(const cdl_plan *p, const cdl_graph *g, cdl_buf *out)
{
    CDL_TRY(cdl_buf_printf(out, "%12s %12s  %-11s %s\n", "offset", "bytes", "nodes", "value"));
    for (cdl_val v = 1; v < p->n_values; v++) {
        const cdl_place *a = &p->places[v];
        if (a->root == v)
            CDL_TRY(cdl_buf_printf(out, "%12zu %12zu  %5u-%-5u %s\n", a->offset, a->bytes, a->first,
                    a->last < g->n_nodes ? a->last : g->n_nodes, g->values[v].name));
    }
    return cdl_buf_printf(out, "%12zu %12zu  %-11s %s\n", p->values_bytes, p->scratch_bytes, "all", "kernels' scratch");
}
