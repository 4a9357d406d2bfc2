/* fuse.c - rewrites of the plain graph. Each can be switched off by name (CUDDLE_NO_FUSION). */
#include <string.h>

#include "base/mem.h"
#include "graph/graph.h"

/* Whether `name` stands in the comma-separated list `off`. */
static bool switched_off(const char *off, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = off; p && *p;) {
        size_t k = strcspn(p, ",");
        if ((k == n && !strncmp(p, name, n)) || (k == 3 && !strncmp(p, "all", 3)))
            return true;
        p += k + (p[k] == ',');
    }
    return false;
}

static uint32_t uses(const cdl_graph *g, cdl_val v)
{
    uint32_t count = g->logits == v;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_in; k++)
            count += g->nodes[i].in[k] == v;
    for (cdl_val u = 1; u < g->n_values; u++)
        count += g->values[u].kind == CDL_VALUE_VIEW && g->values[u].base == v;
    return count;
}

/* Removes nodes marked with out == 0 and renumbers the rest. */
static void compact(cdl_graph *g)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (!g->nodes[i].out)
            continue;
        g->nodes[kept] = g->nodes[i];
        g->values[g->nodes[kept].out].node = kept;
        kept++;
    }
    g->n_nodes = kept;
}

/* ---- qkv: products of one input become one product whose output is cut in views ---- */

static bool plain_linear(const cdl_graph *g, const cdl_node *n)
{
    return n->out && n->op == CDL_OP_LINEAR && !((const cdl_linear_attrs *)n->attrs)->has_residual
        && g->values[n->out].kind == CDL_VALUE_NODE;
}

/* One weight (or bias) whose segments are those of in[k] of all members. 0 when they are too many. */
static cdl_val join(cdl_graph *g, const uint32_t *members, uint32_t n, uint32_t k)
{
    cdl_value v = g->values[g->nodes[members[0]].in[k]];
    v.name = cdl_graph_name(g, "%s+%u", v.name, n - 1);
    uint32_t total = v.matrix ? v.rows : v.cols;
    for (uint32_t m = 1; m < n; m++) {
        const cdl_value *w = &g->values[g->nodes[members[m]].in[k]];
        if (v.n_segments + w->n_segments > sizeof v.segment / sizeof *v.segment)
            return 0;
        memcpy(v.segment + v.n_segments, w->segment, w->n_segments * sizeof *w->segment);
        v.n_segments += w->n_segments;
        total += w->matrix ? w->rows : w->cols;
    }
    if (v.matrix)
        v.rows = total;
    else
        v.cols = total;
    cdl_val out = cdl_graph_const(g, v.name, NULL, 0); /* a fresh slot */
    if (out)
        g->values[out] = v;
    return out;
}

/* The products after node i, before its output is used, that read the same input. */
static uint32_t siblings(const cdl_graph *g, uint32_t i, uint32_t *members)
{
    const cdl_node *first = &g->nodes[i];
    uint32_t n = 0;
    for (uint32_t j = i; j < g->n_nodes && n < 4; j++) {
        const cdl_node *c = &g->nodes[j];
        if (plain_linear(g, c) && c->in[0] == first->in[0] && c->n_in == first->n_in)
            members[n++] = j;
    }
    return n;
}

static void fuse_siblings(cdl_graph *g, const uint32_t *members, uint32_t n)
{
    cdl_val w = join(g, members, n, 1), b = 0;
    bool bias = g->nodes[members[0]].n_in == 3;
    if (bias)
        b = join(g, members, n, 2);
    if (!w || (bias && !b))
        return;
    cdl_node *first = &g->nodes[members[0]];
    cdl_value whole = g->values[first->out];
    whole.cols = g->values[w].rows;
    whole.name = cdl_graph_name(g, "%s+%u", first->name, n - 1);
    cdl_val out = cdl_graph_const(g, whole.name, NULL, 0);
    if (!out)
        return;
    g->values[out] = whole;
    uint32_t col = 0;
    for (uint32_t m = 0; m < n; m++) {
        cdl_node *c = &g->nodes[members[m]];
        cdl_value *old = &g->values[c->out];
        old->kind = CDL_VALUE_VIEW;
        old->base = out;
        old->first_col = col;
        col += old->cols;
        if (m)
            c->out = 0;
    }
    first->in[1] = w;
    first->in[2] = b;
    first->out = out;
    first->name = whole.name;
}

static void fuse_qkv(cdl_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        uint32_t members[4];
        if (!plain_linear(g, &g->nodes[i]))
            continue;
        uint32_t n = siblings(g, i, members);
        if (n > 1)
            fuse_siblings(g, members, n);
    }
    compact(g);
}

/* ---- glu: act(x gate) * (x up) ---- */

static cdl_node *maker(cdl_graph *g, cdl_val v)
{
    return g->values[v].kind == CDL_VALUE_NODE ? &g->nodes[g->values[v].node] : NULL;
}

static void fuse_glu(cdl_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        cdl_node *n = &g->nodes[i];
        if (n->op != CDL_OP_ACT_MUL)
            continue;
        cdl_node *gate = maker(g, n->in[0]), *up = maker(g, n->in[1]);
        if (!gate || !up || gate == up || !plain_linear(g, gate) || !plain_linear(g, up)
                || gate->in[0] != up->in[0] || gate->n_in != up->n_in
                || uses(g, n->in[0]) != 1 || uses(g, n->in[1]) != 1)
            continue;
        bool bias = gate->n_in == 3;
        cdl_glu_attrs *a = cdl_arena_zalloc(&g->arena, 1, sizeof *a);
        if (!a) {
            cdl_graph_fail(g, CUDDLE_ERR_NOMEM, "out of memory for the model's graph");
            return;
        }
        *a = (cdl_glu_attrs){ .act = ((const cdl_act_attrs *)n->attrs)->act, .has_bias = bias };
        n->op = CDL_OP_LINEAR_GLU;
        n->attrs = a;
        n->n_in = bias ? 5 : 3;
        n->in[0] = gate->in[0];
        n->in[1] = gate->in[1];
        n->in[2] = up->in[1];
        n->in[3] = bias ? gate->in[2] : 0;
        n->in[4] = bias ? up->in[2] : 0;
        gate->out = up->out = 0;
    }
    compact(g);
}

/* ---- residual: x + product ---- */

static void fuse_residual(cdl_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        cdl_node *n = &g->nodes[i];
        if (n->op != CDL_OP_ADD)
            continue;
        for (uint32_t k = 0; k < 2; k++) {
            cdl_node *p = maker(g, n->in[k]);
            if (!p || !plain_linear(g, p) || uses(g, n->in[k]) != 1)
                continue;
            cdl_linear_attrs *a = cdl_arena_zalloc(&g->arena, 1, sizeof *a);
            if (!a) {
                cdl_graph_fail(g, CUDDLE_ERR_NOMEM, "out of memory for the model's graph");
                return;
            }
            *a = (cdl_linear_attrs){ .has_bias = p->n_in == 3, .has_residual = 1 };
            cdl_val residual = n->in[1 - k];
            n->op = CDL_OP_LINEAR;
            n->attrs = a;
            n->n_in = p->n_in + 1;
            memcpy(n->in, p->in, p->n_in * sizeof *p->in);
            n->in[p->n_in] = residual;
            n->name = p->name;
            p->out = 0;
            break;
        }
    }
    compact(g);
}

cuddle_status cdl_graph_fuse(cdl_graph *g, const char *off)
{
    CDL_TRY(cdl_graph_status(g));
    if (!switched_off(off, "glu"))
        fuse_glu(g);
    if (!switched_off(off, "qkv"))
        fuse_qkv(g);
    if (!switched_off(off, "residual"))
        fuse_residual(g);
    return cdl_graph_status(g);
}
