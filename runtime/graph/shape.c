/* shape.c - the shape rule of every op. */
#include "graph/graph.h"

static const cdl_value *input(const cdl_graph *g, const cdl_node *n, uint32_t i)
{
    return &g->values[n->in[i]];
}

static cuddle_status wrong(const cdl_node *n, const char *what, uint32_t want, uint32_t got)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s (%s): %s: wanted %u, got %u",
            n->name, cdl_op_get(n->op)->name, what, want, got);
}

/* A bias, norm weight or other vector of n elements. */
static cuddle_status check_vector(const cdl_graph *g, const cdl_node *n, uint32_t i, uint32_t cols)
{
    const cdl_value *v = input(g, n, i);
    return v->cols == cols ? CUDDLE_OK : wrong(n, v->name, cols, v->cols);
}

static cuddle_status check_same(const cdl_graph *g, const cdl_node *n, uint32_t i)
{
    const cdl_value *x = input(g, n, 0), *y = input(g, n, i);
    if (x->sym != y->sym)
        return wrong(n, "rows of another kind", x->sym, y->sym);
    return check_vector(g, n, i, x->cols);
}

static cuddle_status linear_shape(const cdl_graph *g, const cdl_node *n, uint32_t *cols)
{
    const cdl_linear_attrs *a = n->attrs;
    const cdl_value *w = input(g, n, 1);
    if (w->cols != input(g, n, 0)->cols)
        return wrong(n, w->name, input(g, n, 0)->cols, w->cols);
    if (a->has_bias)
        CDL_TRY(check_vector(g, n, 2, w->rows));
    if (a->has_residual)
        CDL_TRY(check_vector(g, n, 2u + a->has_bias, w->rows));
    *cols = w->rows;
    return CUDDLE_OK;
}

static cuddle_status glu_shape(const cdl_graph *g, const cdl_node *n, uint32_t *cols)
{
    const cdl_glu_attrs *a = n->attrs;
    const cdl_value *x = input(g, n, 0), *gate = input(g, n, 1), *up = input(g, n, 2);
    if (gate->cols != x->cols || up->cols != x->cols)
        return wrong(n, gate->name, x->cols, gate->cols != x->cols ? gate->cols : up->cols);
    if (gate->rows != up->rows)
        return wrong(n, up->name, gate->rows, up->rows);
    for (uint32_t i = 3; a->has_bias && i < 5; i++)
        CDL_TRY(check_vector(g, n, i, gate->rows));
    *cols = gate->rows;
    return CUDDLE_OK;
}

static cuddle_status attention_shape(const cdl_graph *g, const cdl_node *n, uint32_t *cols)
{
    const cdl_attention_attrs *a = n->attrs;
    if (a->layer >= g->n_states)
        return wrong(n, "state layer", g->n_states, a->layer);
    const cdl_state_decl *s = &g->states[a->layer];
    if (!s->kv_heads || !a->heads || a->heads % s->kv_heads)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: %u heads over %u key/value heads",
                n->name, a->heads, s->kv_heads);
    CDL_TRY(check_vector(g, n, 0, a->heads * s->key_dim));
    *cols = a->heads * s->value_dim;
    return CUDDLE_OK;
}

static cuddle_status state_shape(const cdl_graph *g, const cdl_node *n)
{
    const cdl_state_attrs *a = n->attrs;
    if (a->layer >= g->n_states)
        return wrong(n, "state layer", g->n_states, a->layer);
    const cdl_state_decl *s = &g->states[a->layer];
    CDL_TRY(check_vector(g, n, 0, s->kv_heads * s->key_dim));
    return check_vector(g, n, 1, s->kv_heads * s->value_dim);
}

static cuddle_status rope_shape(const cdl_graph *g, const cdl_node *n)
{
    const cdl_rope_attrs *a = n->attrs;
    uint32_t cols = input(g, n, 0)->cols;
    if (!a->head_dim || cols % a->head_dim)
        return wrong(n, "columns are no whole heads of", a->head_dim, cols);
    if (a->rotary_dim > a->head_dim || a->rotary_dim % 2)
        return wrong(n, "rotary_dim (even, at most head_dim)", a->head_dim, a->rotary_dim);
    for (uint32_t i = 2; i < n->n_in; i++)
        CDL_TRY(check_vector(g, n, i, a->rotary_dim / 2));
    return CUDDLE_OK;
}

static cuddle_status norm_shape(const cdl_graph *g, const cdl_node *n)
{
    uint32_t cols = input(g, n, 0)->cols, dim = input(g, n, 1)->cols;
    if (!dim || cols % dim || (n->op == CDL_OP_LAYERNORM && dim != cols))
        return wrong(n, input(g, n, 1)->name, cols, dim);
    return n->n_in > 2 ? check_vector(g, n, 2, dim) : CUDDLE_OK;
}

cuddle_status cdl_shape_infer(const cdl_graph *g, const cdl_node *n, cdl_rows *sym, uint32_t *rows, uint32_t *cols)
{
    const cdl_op_info *info = cdl_op_get(n->op);
    if (n->n_in < info->least || n->n_in > info->most)
        return wrong(n, "number of inputs", info->least, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!n->in[i] || n->in[i] >= g->n_values)
            return wrong(n, "an input is missing", i, 0);
    const cdl_value *x = input(g, n, 0);
    *sym = x->sym;
    *rows = x->rows;
    *cols = x->cols;
    switch (n->op) {
    case CDL_OP_EMBED:
        *cols = input(g, n, 1)->cols;
        return CUDDLE_OK;
    case CDL_OP_GATHER:
        *sym = input(g, n, 1)->sym;
        return CUDDLE_OK;
    case CDL_OP_RMSNORM:
    case CDL_OP_LAYERNORM:
        return norm_shape(g, n);
    case CDL_OP_LINEAR:
        return linear_shape(g, n, cols);
    case CDL_OP_LINEAR_GLU:
        return glu_shape(g, n, cols);
    case CDL_OP_ROPE:
        return rope_shape(g, n);
    case CDL_OP_STATE_WRITE:
        *cols = 0;
        return state_shape(g, n);
    case CDL_OP_ATTENTION:
        return attention_shape(g, n, cols);
    case CDL_OP_ADD:
    case CDL_OP_ACT_MUL:
        return check_same(g, n, 1);
    default:
        return CUDDLE_OK;
    }
}
