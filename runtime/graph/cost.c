#include "graph/cost.h"

#include "cpu/pack.h"

enum { TILE_ROWS = 16, TILE_COLS = 8, TILE_DEPTH = 16 };

static double tiles(uint32_t n, uint32_t of)
{
    return (double)((n + of - 1) / of);
}

/* As its type has it: panels may be padded, and dense weights narrower where they lie. */
static double row_bytes(const cdl_pack *p, const cdl_pack_segment *s)
{
    const cdl_dtype_info *t = cdl_dtype_get(s->dtype);
    double packed = (double)s->panel_bytes / CDL_PACK_ROWS, plain = (double)p->cols * t->bytes / t->block;
    return packed < plain ? packed : plain;
}

static double pack_bytes(const cdl_pack *p)
{
    double bytes = 0;
    for (uint32_t i = 0; i < p->n; i++)
        bytes += p->segment[i].rows * row_bytes(p, &p->segment[i]);
    return bytes;
}

static double view_bytes(const cdl_view *v, uint32_t rows)
{
    const cdl_dtype_info *t = cdl_dtype_get(v->dtype);
    return v->pack ? pack_bytes(v->pack) : (double)rows * v->cols * t->bytes / t->block;
}

static double elements(const cdl_view *v)
{
    return (double)v->rows * v->cols;
}

static void product_cost(cdl_cost *k, const cdl_call *c, uint32_t weights)
{
    const cdl_view *x = &c->in[0], *w = &c->in[1];
    k->flops = 2.0 * weights * x->rows * w->cols * w->rows;
    k->tiles = weights * tiles(w->rows, TILE_ROWS) * tiles(x->rows, TILE_COLS) * tiles(w->cols, TILE_DEPTH);
}

/* ---- Attention ---- */

typedef struct {
    uint32_t first, last;      /* slots [first, last) */
} sight;

static sight sees(const cdl_attention_attrs *a, const cdl_span *s, uint32_t row)
{
    uint32_t slot = s->first + row;
    return (sight){ a->window && slot + 1 > a->window ? slot + 1 - a->window : 0,
                    a->bidirectional ? s->first + s->n : slot + 1 };
}

/* A generated row: the heads that share a KV head are the columns of its tiles. */
static double generated_tiles(const cdl_state_layer *l, uint32_t group, uint32_t seen)
{
    double cols = l->kv_heads * tiles(group, TILE_COLS);
    return cols * (tiles(seen, TILE_ROWS) * tiles(l->key_dim, TILE_DEPTH)
                   + tiles(seen, TILE_DEPTH) * tiles(l->value_dim, TILE_ROWS));
}

static void attention_cost(cdl_cost *k, const cdl_call *c)
{
    const cdl_attention_attrs *a = c->attrs;
    const cdl_state_layer *l = &c->state->layers[a->layer];
    uint32_t dims = l->key_dim + l->value_dim;
    double element = cdl_dtype_get(l->dtype)->bytes, per_pair = 2.0 * a->heads * dims;
    for (uint32_t i = 0; i < c->step->n_spans; i++) {
        const cdl_span *s = &c->step->spans[i];
        double prompt_pairs = 0;
        for (uint32_t r = 0; r < s->n; r++) {
            sight seen = sees(a, s, r);
            bool generated = s->row + r < c->rows_generated;
            k->flops += per_pair * (seen.last - seen.first);
            if (generated)
                k->tiles += generated_tiles(l, a->heads / l->kv_heads, seen.last - seen.first);
            else
                prompt_pairs += seen.last - seen.first;
        }
        k->tiles += prompt_pairs * a->heads * dims / (TILE_ROWS * TILE_COLS * TILE_DEPTH);
        if (s->n)
            k->state_read += (sees(a, s, s->n - 1).last - sees(a, s, 0).first) * element * l->kv_heads * dims;
    }
}

/* ---- */

/* Inputs of which only the rows that are wanted are touched. */
static void picked_cost(cdl_cost *k, const cdl_call *c, uint32_t table)
{
    const cdl_view *v = &c->in[table];
    k->in[table] = v->pack ? c->out.rows * row_bytes(v->pack, &v->pack->segment[0]) : view_bytes(v, c->out.rows);
    k->flops = c->op == CDL_OP_EMBED ? elements(&c->out) : 0;
}

cdl_cost cdl_cost_of(const cdl_call *c)
{
    cdl_cost k = { .out = view_bytes(&c->out, c->out.rows), .flops = elements(&c->out) };
    for (uint32_t i = 0; i < c->n_in; i++)
        k.in[i] = view_bytes(&c->in[i], c->in[i].rows);
    switch (c->op) {
    case CDL_OP_EMBED: picked_cost(&k, c, 1); break;
    case CDL_OP_GATHER: picked_cost(&k, c, 0); break;
    case CDL_OP_LINEAR: product_cost(&k, c, 1); break;
    case CDL_OP_LINEAR_GLU: product_cost(&k, c, 2); break;
    case CDL_OP_ATTENTION:
        k.flops = 0;
        attention_cost(&k, c);
        break;
    case CDL_OP_STATE_WRITE: {
        const cdl_state_attrs *a = c->attrs;
        double element = cdl_dtype_get(c->state->layers[a->layer].dtype)->bytes;
        k.state_written = (elements(&c->in[0]) + elements(&c->in[1])) * element;
        k.out = k.flops = 0;
        break;
    }
    case CDL_OP_ROPE: k.flops = 3 * elements(&c->out); break;
    case CDL_OP_RMSNORM: case CDL_OP_LAYERNORM: k.flops = 4 * elements(&c->out); break;
    default: break;
    }
    return k;
}

double cdl_cost_bytes(const cdl_cost *c)
{
    double bytes = c->state_read + c->state_written + c->out;
    for (uint32_t i = 0; i < CDL_OP_INPUTS; i++)
        bytes += c->in[i];
    return bytes;
}
