#include "graph/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/int4.h"

enum { ALIGN = 64, BATCH_BYTES = 32 << 20, TASK_BYTES = 512 << 10 };

/* Constants lie in the block only where the device cannot read the host's memory. */
static bool has_own_memory(const cdl_backend *b)
{
    return b->stage != NULL;
}

/* ---- Plan ---- */

static bool used(const cdl_graph *g, cdl_val v)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == v)
                return true;
    return false;
}

/* The type in which the backend keeps a tensor. */
static cdl_dtype type_of(const cdl_backend *b, const cdl_tensor_entry *t)
{
    return t->int4 && !b->int4_groups ? cdl_int4_plain(t->int4) : t->dtype;
}

static bool is_transposed(const cdl_segment *s, const cdl_tensor_entry *t)
{
    return s->transposed && !t->int4;
}

static const cdl_tensor_entry *tensor_of(const cdl_checkpoint *c, const cdl_segment *s)
{
    return cdl_checkpoint_find(c, s->tensor);
}

static cuddle_status wrong_shape(const cdl_checkpoint *c, const cdl_tensor_entry *t, uint32_t rows, uint32_t cols)
{
    char got[CDL_DIMS_MAX * 24];
    size_t n = 0;
    for (uint32_t d = 0; d < t->ndim; d++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%lld", d ? ", " : "", (long long)t->dim[d]);
    return cdl_status_fail(CUDDLE_ERR_FORMAT,
            "%s: tensor %s is [%s], config.json says [%u, %u]; the files do not belong together",
            cdl_checkpoint_file(c, t->file), t->name, got, rows, cols);
}

static cuddle_status find_tensor(const cdl_tensor_entry **out, const cdl_checkpoint *c, const cdl_segment *s)
{
    *out = tensor_of(c, s);
    if (!*out)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND,
                "%s: tensor %s is missing; the model's files are incomplete, fetch them again",
                cdl_checkpoint_folder(c), s->tensor);
    return CUDDLE_OK;
}

/* The shape that a segment [first, first + rows) of a matrix with cols columns needs. */
static cuddle_status check_matrix(const cdl_checkpoint *c, const cdl_tensor_entry *t, const cdl_segment *s,
        uint32_t cols)
{
    uint32_t whole = s->first + s->rows;
    const int64_t *d = t->dim;
    bool transposed = is_transposed(s, t);
    bool fits = t->ndim == 2 && (transposed ? d[0] == cols && d[1] >= whole : d[1] == cols && d[0] >= whole);
    /* a whole tensor must not be larger than the model thinks */
    if (fits && s->first == 0 && !s->part)
        fits = d[transposed ? 1 : 0] == s->rows;
    if (!fits)
        return transposed ? wrong_shape(c, t, cols, whole) : wrong_shape(c, t, whole, cols);
    if (transposed && cdl_dtype_get(t->dtype)->block != 1)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %s: %s blocks cannot be transposed",
                cdl_checkpoint_file(c, t->file), t->name, cdl_dtype_get(t->dtype)->name);
    return CUDDLE_OK;
}

static cuddle_status plan_matrix(cdl_weights *w, const cdl_value *v, const cdl_checkpoint *c, cdl_pack *pack)
{
    *pack = (cdl_pack){ .rows = v->rows, .cols = v->cols, .n = v->n_segments };
    uint32_t row = 0;
    for (uint32_t i = 0; i < v->n_segments; i++) {
        const cdl_segment *s = &v->segment[i];
        const cdl_tensor_entry *t;
        CDL_TRY(find_tensor(&t, c, s));
        CDL_TRY(check_matrix(c, t, s, v->cols));
        size_t bytes;
        cdl_dtype type = type_of(w->backend, t);
        cuddle_status st = w->backend->weight_bytes(w->backend, &bytes, type, s->rows, v->cols);
        if (st != CUDDLE_OK)
            return cdl_status_wrap(st, "%s: tensor %s", cdl_checkpoint_file(c, t->file), t->name);
        uint32_t panels = cdl_ceil_div(s->rows, CDL_PACK_ROWS);
        pack->segment[i] = (cdl_pack_segment){
            .dtype = type, .rows = s->rows, .first_row = row, .first_panel = pack->panels,
            .panel_bytes = panels ? bytes / panels : 0,
            .data = (const uint8_t *)w->bytes }; /* an offset until load */
        row += s->rows;
        pack->panels += panels;
        if (!cdl_add(w->bytes, bytes, &w->bytes))
            return cdl_status_nomem("the model's weights");
    }
    return CUDDLE_OK;
}

static void place_vector(cdl_weights *w, const cdl_value *v, cdl_view *view)
{
    view->data = (void *)w->bytes; /* an offset until load */
    w->bytes += ((size_t)v->cols * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
}

static cuddle_status plan_vector(cdl_weights *w, const cdl_value *v, const cdl_checkpoint *c, cdl_view *view)
{
    for (uint32_t i = 0; i < v->n_segments; i++) {
        const cdl_segment *s = &v->segment[i];
        const cdl_tensor_entry *t;
        CDL_TRY(find_tensor(&t, c, s));
        uint64_t n = 1;
        for (uint32_t d = 0; d < t->ndim; d++)
            n *= (uint64_t)t->dim[d];
        if (n < (uint64_t)s->first + s->rows || (!s->part && n != s->rows))
            return wrong_shape(c, t, 1, s->first + s->rows);
        if (cdl_dtype_get(t->dtype)->block != 1)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %s: a vector of %s blocks",
                    cdl_checkpoint_file(c, t->file), t->name, cdl_dtype_get(t->dtype)->name);
    }
    place_vector(w, v, view);
    return CUDDLE_OK;
}

cuddle_status cdl_weights_plan(cdl_weights *w, const cdl_graph *g, const cdl_checkpoint *c, cdl_backend *b)
{
    *w = (cdl_weights){ .backend = b, .n_values = g->n_values };
    for (cdl_val v = 1; v < g->n_values; v++)
        w->n_packs += g->values[v].kind == CDL_VALUE_WEIGHT && g->values[v].matrix;
    w->views = cdl_mem_zalloc(g->n_values, sizeof *w->views);
    w->packs = cdl_mem_zalloc(w->n_packs, sizeof *w->packs);
    cuddle_status st = w->views && w->packs ? CUDDLE_OK : cdl_status_nomem("the model's weights");
    uint32_t n = 0;
    for (cdl_val i = 1; i < g->n_values && st == CUDDLE_OK; i++) {
        const cdl_value *v = &g->values[i];
        cdl_view *view = &w->views[i];
        if ((v->kind != CDL_VALUE_WEIGHT && v->kind != CDL_VALUE_CONST) || !used(g, i))
            continue;
        *view = (cdl_view){ .dtype = CDL_DTYPE_F32, .rows = v->rows, .cols = v->cols, .stride = v->cols };
        if (v->kind == CDL_VALUE_CONST && has_own_memory(b)) {
            place_vector(w, v, view);
        } else if (v->kind == CDL_VALUE_CONST) {
            view->data = (void *)v->data;
        } else if (v->matrix) {
            view->pack = &w->packs[n];
            st = plan_matrix(w, v, c, &w->packs[n++]);
        } else {
            st = plan_vector(w, v, c, view);
        }
    }
    if (st != CUDDLE_OK)
        cdl_weights_free(w);
    return st;
}

/* ---- Load ---- */

/* Some panels of one segment. dst: where its panel 0 would be, on the host. */
typedef struct {
    uint8_t *dst;
    const cdl_tensor_entry *tensor;
    const cdl_segment *segment;
    uint32_t cols, panel, panels;
    uint8_t *rows;             /* of an int4 tensor: memory for the rows of these panels */
} task;

typedef struct {
    cdl_backend *backend;
    const cdl_checkpoint *checkpoint;
    task *tasks;
    uint32_t n, cap;
    size_t bytes;              /* packed, in this batch                                */
    uint8_t *stage, *to;       /* with a stage: the batch's memory, and where it will go */
    cdl_pool *pool;
    cuddle_progress_fn progress;
    void *user;
    uint64_t done, total;
} loader;

static void pack_task(const void *arg, uint32_t chunk, void *scratch)
{
    (void)scratch;
    const loader *l = arg;
    const task *t = &l->tasks[chunk];
    const cdl_segment *s = t->segment;
    const cdl_tensor_entry *e = t->tensor;
    cdl_matrix_source m = { .dtype = type_of(l->backend, e), .rows = s->rows, .cols = t->cols,
                            .transposed = is_transposed(s, e) };
    size_t element = cdl_dtype_get(m.dtype)->bytes;
    if (m.transposed)
        m.row_bytes = (size_t)e->dim[1] * element;
    else if (!cdl_dtype_row_bytes(&m.row_bytes, m.dtype, t->cols))
        return; /* plan has refused it */
    if (e->int4) {
        uint32_t first = t->panel * CDL_PACK_ROWS, n = t->panels * CDL_PACK_ROWS;
        cdl_int4_rows(t->rows, e->int4, m.dtype, s->first + first, s->rows - first < n ? s->rows - first : n);
        m.data = t->rows - first * m.row_bytes;
    } else {
        m.data = e->data + s->first * (m.transposed ? element : m.row_bytes);
    }
    l->backend->pack(l->backend, t->dst, &m, t->panel, t->panels);
}

/* Forgets the file's pages that a task has read. Transposed tensors and int4's are read from end to end by each. */
static void drop_task(const loader *l, const task *t)
{
    size_t row, first = (size_t)t->panel * CDL_PACK_ROWS, last = first + (size_t)t->panels * CDL_PACK_ROWS;
    const cdl_segment *s = t->segment;
    if (t->tensor->int4 && last >= s->rows)
        cdl_checkpoint_drop(l->checkpoint, t->tensor, 0, t->tensor->bytes);
    if (t->tensor->int4 || s->transposed || !cdl_dtype_row_bytes(&row, t->tensor->dtype, t->cols))
        return;
    last = last < s->rows ? last : s->rows;
    cdl_checkpoint_drop(l->checkpoint, t->tensor, (s->first + first) * row, (last - first) * row);
}

static cuddle_status flush(loader *l)
{
    cdl_phase phase = { .run = pack_task, .arg = l, .chunks = l->n };
    cdl_pool_run(l->pool, &phase, 1);
    for (uint32_t i = 0; i < l->n; i++) {
        drop_task(l, &l->tasks[i]);
        cdl_mem_free(l->tasks[i].rows);
        l->tasks[i].rows = NULL;
    }
    if (l->stage) {
        cdl_pool_quiesce(l->pool, 0);
        l->stage = NULL;
        CDL_TRY(l->backend->send(l->backend, l->to, l->bytes));
    }
    l->done += l->bytes;
    l->n = 0;
    l->bytes = 0;
    if (l->progress && !l->progress(l->user, "loading weights", l->done, l->total))
        return cdl_status_fail(CUDDLE_ERR_CANCELLED, "loading the weights was cancelled");
    return CUDDLE_OK;
}

/* A stage that goes on to `to` with room for n bytes. */
static cuddle_status make_room(loader *l, uint8_t *to, size_t n)
{
    if (n > CDL_STAGE_BYTES)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "a weight of more than %d bytes a 16 rows",
                CDL_STAGE_BYTES);
    if (l->stage && (l->to + l->bytes != to || l->bytes + n > CDL_STAGE_BYTES))
        CDL_TRY(flush(l));
    if (!l->stage) {
        CDL_TRY(l->backend->stage(l->backend, &l->stage));
        l->to = to;
    }
    return CUDDLE_OK;
}

static cuddle_status make_rows(const loader *l, task *t)
{
    size_t row = 0;
    if (!t->tensor->int4 || !cdl_dtype_row_bytes(&row, type_of(l->backend, t->tensor), t->cols))
        return CUDDLE_OK;
    t->rows = cdl_mem_alloc(t->panels * CDL_PACK_ROWS * row);
    return t->rows ? CUDDLE_OK : cdl_status_nomem("rows of the model's weights");
}

static cuddle_status load_segment(loader *l, const cdl_segment *s, const cdl_pack_segment *p, uint32_t cols)
{
    uint32_t panels = cdl_ceil_div(s->rows, CDL_PACK_ROWS);
    uint32_t step = (uint32_t)(TASK_BYTES / (p->panel_bytes + 1)) + 1;
    const cdl_tensor_entry *t = tensor_of(l->checkpoint, s);
    for (uint32_t panel = 0; panel < panels; panel += step) {
        uint32_t n = panels - panel < step ? panels - panel : step;
        uint8_t *dst = (uint8_t *)p->data;
        if (has_own_memory(l->backend)) {
            CDL_TRY(make_room(l, dst + panel * p->panel_bytes, n * p->panel_bytes));
            dst = l->stage + l->bytes - panel * p->panel_bytes;
        }
        l->tasks[l->n] = (task){ dst, t, s, cols, panel, n, NULL };
        CDL_TRY(make_rows(l, &l->tasks[l->n++]));
        l->bytes += n * p->panel_bytes;
        if (l->n == l->cap || l->bytes >= BATCH_BYTES)
            CDL_TRY(flush(l));
    }
    return CUDDLE_OK;
}

static void read_vector(const cdl_value *v, const cdl_checkpoint *c, float *dst)
{
    if (v->kind == CDL_VALUE_CONST)
        memcpy(dst, v->data, v->cols * sizeof *dst);
    for (uint32_t i = 0; i < v->n_segments; i++) {
        const cdl_segment *s = &v->segment[i];
        const cdl_tensor_entry *t = tensor_of(c, s);
        cdl_dtype_to_f32(dst, t->dtype, t->data + (size_t)s->first * cdl_dtype_get(t->dtype)->bytes, s->rows);
        dst += s->rows;
    }
}

static cuddle_status load_vector(loader *l, const cdl_value *v, uint8_t *dst)
{
    if (!has_own_memory(l->backend)) {
        read_vector(v, l->checkpoint, (float *)dst);
        return CUDDLE_OK;
    }
    size_t n = v->cols * sizeof(float);
    if (l->n)
        CDL_TRY(flush(l));
    CDL_TRY(make_room(l, dst, n));
    read_vector(v, l->checkpoint, (float *)l->stage);
    l->bytes = n;
    return flush(l);
}

static cuddle_status load_all(cdl_weights *w, const cdl_graph *g, loader *l)
{
    bool streamed = w->bytes > cdl_mem_cache_bytes();
    for (uint32_t i = 0; i < w->n_packs; i++) {
        w->packs[i].streamed = streamed;
        for (uint32_t k = 0; k < w->packs[i].n; k++)
            w->packs[i].segment[k].data = w->block + (size_t)w->packs[i].segment[k].data;
    }
    for (cdl_val i = 1; i < g->n_values; i++) {
        const cdl_value *v = &g->values[i];
        cdl_view *view = &w->views[i];
        if ((v->kind != CDL_VALUE_WEIGHT && !(v->kind == CDL_VALUE_CONST && has_own_memory(w->backend)))
                || !view->cols)
            continue;
        if (!v->matrix) {
            view->data = w->block + (size_t)view->data;
            CDL_TRY(load_vector(l, v, view->data));
            continue;
        }
        for (uint32_t k = 0; k < v->n_segments; k++)
            CDL_TRY(load_segment(l, &v->segment[k], &view->pack->segment[k], v->cols));
    }
    return flush(l);
}

cuddle_status cdl_weights_load(cdl_weights *w, const cdl_graph *g, const cdl_checkpoint *c,
        cdl_pool *pool, cuddle_progress_fn progress, void *user)
{
    loader l = { .backend = w->backend, .checkpoint = c, .cap = BATCH_BYTES / TASK_BYTES * 2, .pool = pool,
                 .progress = progress, .user = user, .total = w->bytes };
    l.tasks = cdl_mem_array(l.cap, sizeof *l.tasks);
    cuddle_status st = l.tasks ? CUDDLE_OK : cdl_status_nomem("the model's weights");
    if (st == CUDDLE_OK)
        st = w->backend->block_new(w->backend, &w->block, w->bytes, "the weights", "use a smaller model");
    if (st == CUDDLE_OK)
        st = load_all(w, g, &l);
    cdl_pool_quiesce(pool, 0);
    for (uint32_t i = 0; i < l.n; i++)
        cdl_mem_free(l.tasks[i].rows);
    cdl_mem_free(l.tasks);
    return st; /* a half-loaded block is freed with w */
}

void cdl_weights_free(cdl_weights *w)
{
    if (w->block)
        w->backend->block_free(w->backend, w->block, w->bytes);
    cdl_mem_free(w->views);
    cdl_mem_free(w->packs);
    *w = (cdl_weights){ 0 };
}
