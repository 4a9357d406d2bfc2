#include "cpu/product.h"

#include <string.h>

enum {
    CHUNK_BYTES = 32 << 10,    /* of weights, when few rows stream them                 */
    CHUNKS_LEAST = 16,         /* of a phase, so that threads can share it              */
    MANY_ROWS = 16,            /* from here on a chunk is measured in work, not bytes   */
    PANELS_MANY = 8,           /* then                                                  */
    PANELS_MOST = 32           /* scratch: CDL_PRODUCT_ROWS x 16 x 4 x this             */
};

/* ---- How a call is cut ---- */

typedef struct {
    uint32_t rows, row_step, panels, panel_step, row_chunks, panel_chunks;
} geometry;

static const cdl_pack *first_pack(const cdl_call *c)
{
    return c->in[1].pack;
}

static geometry cut(const cdl_call *c)
{
    const cdl_pack *p = first_pack(c);
    geometry g = { .rows = c->out.rows, .panels = p->panels };
    g.row_step = g.rows < CDL_PRODUCT_ROWS ? g.rows : CDL_PRODUCT_ROWS;
    size_t bytes = p->segment[0].panel_bytes * (c->op == CDL_OP_LINEAR_GLU ? 2 : 1);
    g.panel_step = g.rows >= MANY_ROWS ? PANELS_MANY : (uint32_t)(CHUNK_BYTES / (bytes + 1)) + 1;
    uint32_t share = g.panels / CHUNKS_LEAST;
    if (g.panel_step > share)
        g.panel_step = share ? share : 1;
    if (g.panel_step > PANELS_MOST)
        g.panel_step = PANELS_MOST;
    g.row_chunks = cdl_ceil_div(g.rows, g.row_step);
    g.panel_chunks = cdl_ceil_div(g.panels, g.panel_step);
    return g;
}

/* The part of the product that a chunk computes. Chunks of the same rows follow each other. */
typedef struct {
    uint32_t row, rows, panel, panels;
} part;

static part part_of(const geometry *g, uint32_t chunk)
{
    part p = { .row = chunk / g->panel_chunks * g->row_step, .panel = chunk % g->panel_chunks * g->panel_step };
    p.rows = g->rows - p.row < g->row_step ? g->rows - p.row : g->row_step;
    p.panels = g->panels - p.panel < g->panel_step ? g->panels - p.panel : g->panel_step;
    return p;
}

/* ---- Quantised activations in the workspace ---- */

static bool pack_is_dense(const cdl_pack *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (cdl_dtype_get(p->segment[i].dtype)->block != 1)
            return false;
    return true;
}

static bool needs_quantised(const cdl_call *c)
{
    if (c->step->f32_activations)
        return false;
    return !pack_is_dense(c->in[1].pack) || (c->op == CDL_OP_LINEAR_GLU && !pack_is_dense(c->in[2].pack));
}

size_t cdl_product_workspace(const cdl_call *c)
{
    return needs_quantised(c) ? cdl_groups_bytes(c->out.rows, c->in[0].cols) : 0;
}

static cdl_activations activations(const cdl_call *c, uint32_t row)
{
    const cdl_view *x = &c->in[0];
    return (cdl_activations){ .groups = (const uint8_t *)c->workspace + cdl_groups_bytes(row, x->cols),
                              .x = (const float *)x->data + (size_t)row * x->stride, .x_stride = x->stride,
                              .cols = x->cols, .streamed = first_pack(c)->streamed };
}

void cdl_product_quantise(const cdl_call *c, uint32_t chunk, const cdl_product_set *set)
{
    uint32_t first = chunk * CDL_GROUP_ROWS, left = c->out.rows - first;
    cdl_activations a = activations(c, first);
    set->quantise(a.x, a.x_stride, left < CDL_GROUP_ROWS ? left : CDL_GROUP_ROWS, a.cols, (uint8_t *)a.groups);
}

/* ---- Panels ---- */

static const cdl_pack_segment *segment_of(const cdl_pack *p, uint32_t panel)
{
    uint32_t i = 0;
    while (i + 1 < p->n && panel >= p->segment[i + 1].first_panel)
        i++;
    return &p->segment[i];
}

static void compute_panel(const cdl_pack *p, uint32_t panel, const cdl_activations *a, bool f32, uint32_t rows,
        float *out, uint32_t stride, const cdl_product_set *set)
{
    const cdl_pack_segment *s = segment_of(p, panel);
    set->panel(s->dtype, f32)(s->data + (panel - s->first_panel) * s->panel_bytes, a, rows, out, stride);
}

/* The output columns of a panel. */
static uint32_t panel_columns(const cdl_pack *p, uint32_t panel, uint32_t *first)
{
    const cdl_pack_segment *s = segment_of(p, panel);
    uint32_t at = (panel - s->first_panel) * CDL_PACK_ROWS;
    *first = s->first_row + at;
    return s->rows - at < CDL_PACK_ROWS ? s->rows - at : CDL_PACK_ROWS;
}

static void add_bias(const float *bias, const cdl_pack *p, uint32_t panel, float *out, uint32_t rows, uint32_t stride)
{
    uint32_t first, n = panel_columns(p, panel, &first);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < n; i++)
            out[(size_t)r * stride + i] += bias[first + i];
}

static void run_glu(const cdl_call *c, const part *t, uint32_t panel, float *out, uint32_t stride,
        const cdl_product_set *set)
{
    const cdl_glu_attrs *a = c->attrs;
    cdl_activations x = activations(c, t->row);
    bool f32 = c->step->f32_activations;
    float up[CDL_PRODUCT_ROWS * CDL_PACK_ROWS];
    compute_panel(c->in[1].pack, panel, &x, f32, t->rows, out, stride, set);
    compute_panel(c->in[2].pack, panel, &x, f32, t->rows, up, CDL_PACK_ROWS, set);
    if (a->has_bias) {
        add_bias(c->in[3].data, c->in[1].pack, panel, out, t->rows, stride);
        add_bias(c->in[4].data, c->in[2].pack, panel, up, t->rows, CDL_PACK_ROWS);
    }
    for (uint32_t r = 0; r < t->rows; r++)
        set->act_mul(a->act, out + (size_t)r * stride, up + (size_t)r * CDL_PACK_ROWS, CDL_PACK_ROWS);
}

void cdl_product_run(const cdl_call *c, uint32_t chunk, float *scratch, const cdl_product_set *set)
{
    geometry g = cut(c);
    part t = part_of(&g, chunk);
    uint32_t stride = t.panels * CDL_PACK_ROWS;
    cdl_activations x = activations(c, t.row);
    for (uint32_t i = 0; i < t.panels; i++) {
        float *out = scratch + (size_t)i * CDL_PACK_ROWS;
        if (c->op == CDL_OP_LINEAR_GLU)
            run_glu(c, &t, t.panel + i, out, stride, set);
        else
            compute_panel(first_pack(c), t.panel + i, &x, c->step->f32_activations, t.rows, out, stride, set);
    }
}

/* ---- Commit: bias, residual, and out ---- */

/* n columns of one row; bias and residual may be NULL, and the residual may be out itself. */
static void commit_row(float *to, const float *restrict from, const float *restrict bias, const float *residual,
        uint32_t n)
{
    if (bias && residual)
        for (uint32_t k = 0; k < n; k++)
            to[k] = from[k] + bias[k] + residual[k];
    else if (bias)
        for (uint32_t k = 0; k < n; k++)
            to[k] = from[k] + bias[k];
    else if (residual)
        for (uint32_t k = 0; k < n; k++)
            to[k] = from[k] + residual[k];
    else
        memcpy(to, from, n * sizeof *to);
}

/* Columns [first, first + n) of out, which the scratch has from column `at` on. */
static void commit_columns(const cdl_call *c, const part *t, const float *scratch, uint32_t at, uint32_t first,
        uint32_t n)
{
    bool linear = c->op == CDL_OP_LINEAR;
    const cdl_linear_attrs *a = linear ? c->attrs : NULL;
    const float *bias = linear && a->has_bias ? (const float *)c->in[2].data + first : NULL;
    const cdl_view *rest = linear && a->has_residual ? &c->in[2 + a->has_bias] : NULL;
    for (uint32_t r = 0; r < t->rows; r++) {
        size_t row = t->row + r;
        commit_row((float *)c->out.data + row * c->out.stride + first,
                scratch + (size_t)r * t->panels * CDL_PACK_ROWS + at, bias,
                rest ? (const float *)rest->data + row * rest->stride + first : NULL, n);
    }
}

/* Panels whose columns follow each other go out together. */
void cdl_product_commit(const void *arg, uint32_t chunk, const void *scratch)
{
    const cdl_call *c = arg;
    geometry g = cut(c);
    part t = part_of(&g, chunk);
    uint32_t at = 0, first = 0, n = 0;
    for (uint32_t i = 0; i < t.panels; i++) {
        uint32_t next, columns = panel_columns(first_pack(c), t.panel + i, &next);
        if (n && (next != first + n || n % CDL_PACK_ROWS)) {
            commit_columns(c, &t, scratch, at, first, n);
            n = 0;
        }
        if (!n) {
            at = i * CDL_PACK_ROWS;
            first = next;
        }
        n += columns;
    }
    commit_columns(c, &t, scratch, at, first, n);
}

uint32_t cdl_product_quantise_chunks(const cdl_call *c)
{
    return needs_quantised(c) ? cdl_ceil_div(c->out.rows, CDL_GROUP_ROWS) : 0;
}

uint32_t cdl_product_run_chunks(const cdl_call *c)
{
    geometry g = cut(c);
    return g.row_chunks * g.panel_chunks;
}

void cdl_product_emit(const cdl_call *c, cdl_phases *out,
        void (*quantise)(const void *, uint32_t, void *), void (*run)(const void *, uint32_t, void *))
{
    if (needs_quantised(c))
        cdl_phases_add(out, (cdl_phase){ .run = quantise, .arg = c, .chunks = cdl_product_quantise_chunks(c) });
    cdl_phases_add(out, (cdl_phase){ .run = run, .commit = cdl_product_commit, .arg = c,
                                     .chunks = cdl_product_run_chunks(c) });
}
