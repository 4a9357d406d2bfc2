/* profile_op.c - runs one op on a backend as an engine would: the same calls, weights packed, state in pages.
 *
 * Cold: a ring of copies of all operands that no cache holds, each call on the next copy. Hot: one copy again and
 * again. A sample is one run of so many calls that it lasts about a millisecond. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/pack.h"
#include "profile.h"

enum { COPIES_MAX = 65536, COLD_BYTES_MIN = 128 << 20, COLD_BYTES_MAX = 512 << 20, HOT_MAX = 256,
       SAMPLES_MAX = 1001, ALIGN = 256, PAGE_GROUP = 0 };
#define SAMPLE_SECONDS 1e-3

typedef struct {
    const profile_machine *m;
    profile_case c;
    cdl_backend *b;
    cdl_pool *pool;
    profile_operand in[CDL_OP_INPUTS], out;
    uint32_t n_in;
    size_t in_at[CDL_OP_INPUTS], out_at, state_at, copy_bytes, panel_bytes, page_bytes, pages;
    uint8_t *block, *table, *workspace;
    size_t table_bytes, workspace_bytes;
    uint32_t copies;
    cdl_pack *packs;           /* [copies * CDL_OP_INPUTS]  */
    cdl_state_layer *layers;   /* [copies]                  */
    cdl_state *states;         /* [copies]                  */
    cdl_call *calls;           /* [copies + HOT_MAX]        */
    int32_t *tables;           /* [spans * pages a span]    */
    cdl_span *spans;
    cdl_step step;
    uint64_t attrs[PROFILE_ATTRS_BYTES / 8];
} bench;

/* ---- Sizes ---- */

static size_t take(size_t *at, size_t bytes)
{
    size_t start = *at;
    *at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return start;
}

static bool has_state(cdl_op op)
{
    return op == CDL_OP_ATTENTION || op == CDL_OP_STATE_WRITE;
}

static uint32_t span_pages(const profile_case *c)
{
    return (c->context + CDL_PAGE_TOKENS - 1) / CDL_PAGE_TOKENS;
}

static cdl_dtype state_type(const bench *b)
{
    return b->b->activation == CDL_DTYPE_F32 ? CDL_DTYPE_F16 : b->b->activation;
}

static cuddle_status operand_bytes(const bench *b, const profile_operand *o, size_t *out)
{
    size_t n = (size_t)o->rows * o->cols;
    *out = n * (o->kind == PROFILE_ACTIVATION ? cdl_dtype_get(b->b->activation)->bytes : 4);
    return o->kind == PROFILE_MATRIX ? b->b->weight_bytes(b->b, out, b->c.type, o->rows, o->cols) : CUDDLE_OK;
}

/* What no cache holds. */
static size_t cold_bytes(const bench *b)
{
    size_t n = 4 * b->m->cache_bytes;
    return n < COLD_BYTES_MIN ? COLD_BYTES_MIN : n < COLD_BYTES_MAX ? n : COLD_BYTES_MAX;
}

/* A table that an op picks rows from is there once; each copy picks others. */
static bool is_table(const bench *b, uint32_t i)
{
    return b->c.op == CDL_OP_EMBED && i == 1;
}

static cuddle_status lay_out(bench *b)
{
    size_t at = 0, bytes;
    for (uint32_t i = 0; i < b->n_in; i++) {
        CDL_TRY(operand_bytes(b, &b->in[i], &bytes));
        b->in_at[i] = take(is_table(b, i) ? &b->table_bytes : &at, bytes);
        if (b->in[i].kind == PROFILE_MATRIX)
            b->panel_bytes = bytes / ((b->in[i].rows + CDL_PACK_ROWS - 1) / CDL_PACK_ROWS);
    }
    CDL_TRY(operand_bytes(b, &b->out, &bytes));
    b->out_at = take(&at, bytes);
    if (has_state(b->c.op)) {
        b->page_bytes = b->b->page_bytes(state_type(b), b->c.kv_heads, b->c.head_dim, b->c.head_dim);
        b->state_at = take(&at, b->pages * b->page_bytes);
    }
    b->copy_bytes = at;
    size_t wanted = cold_bytes(b) / at + 2;
    b->copies = b->m->is_virtual ? 1 : wanted < COPIES_MAX ? (uint32_t)wanted : COPIES_MAX;
    return CUDDLE_OK;
}

/* ---- The step: one sequence's prompt, or a generated token of each of several ---- */

static cuddle_status make_step(bench *b)
{
    const profile_case *c = &b->c;
    uint32_t spans = c->prompt ? 1 : c->rows, n = span_pages(c);
    b->pages = (size_t)spans * n;
    b->spans = cdl_mem_zalloc(spans, sizeof *b->spans);
    b->tables = cdl_mem_array(b->pages, sizeof *b->tables);
    if (!b->spans || !b->tables)
        return cdl_status_nomem("a step");
    for (size_t i = 0; i < b->pages; i++)
        b->tables[i] = (int32_t)(b->pages - 1 - i); /* not in the sequence's order */
    for (uint32_t i = 0; i < spans; i++) {
        uint32_t rows = c->prompt ? c->rows : 1;
        b->spans[i] = (cdl_span){ .row = i, .n = rows, .first = c->context - rows, .length = c->context,
                                  .pages = { b->tables + (size_t)i * n } };
    }
    b->step = (cdl_step){ .rows = c->rows, .rows_generated = c->prompt ? 0 : c->rows, .spans = b->spans,
                          .n_spans = spans };
    return CUDDLE_OK;
}

/* ---- Values ---- */

static float normal(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*seed >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7f;
}

static cuddle_status fill_floats(uint8_t *to, cdl_dtype t, size_t n, uint64_t seed)
{
    float part[256];
    size_t bytes = cdl_dtype_get(t)->bytes;
    for (size_t i = 0; i < n; i += 256) {
        size_t k = n - i < 256 ? n - i : 256;
        for (size_t j = 0; j < k; j++)
            part[j] = normal(&seed);
        CDL_TRY(cdl_dtype_from_f32(to + i * bytes, t, part, k));
    }
    return CUDDLE_OK;
}

/* One row of weights; of a type that cuddle does not write, blocks of any codes and a small scale. */
static cuddle_status fill_row(uint8_t *row, cdl_dtype t, size_t row_bytes, uint32_t cols, uint64_t seed)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    float *x = cdl_mem_array(cols, sizeof *x);
    if (!x)
        return cdl_status_nomem("a row of weights");
    for (uint32_t i = 0; i < cols; i++)
        x[i] = normal(&seed);
    cuddle_status st = cdl_dtype_from_f32(row, t, x, cols);
    cdl_mem_free(x);
    if (st != CUDDLE_ERR_UNSUPPORTED)
        return st;
    for (size_t i = 0; i < row_bytes; i++) {
        normal(&seed);
        row[i] = (uint8_t)(seed >> 56);
    }
    static const uint8_t scale[2] = { 0x66, 0x24 }; /* 0.0172 as f16; MXFP4's first byte: 2^-25 */
    for (size_t i = 0; i < row_bytes; i += info->bytes)
        memcpy(row + i, scale, t == CDL_DTYPE_MXFP4 ? 1 : 2);
    return CUDDLE_OK;
}

/* Every panel has the same 16 rows. */
static cuddle_status fill_matrix(const bench *b, uint8_t *to, const profile_operand *o)
{
    size_t row_bytes;
    if (!cdl_dtype_row_bytes(&row_bytes, b->c.type, o->cols))
        return cdl_status_fail(CUDDLE_ERR_ARG, "%u columns are no whole blocks", o->cols);
    uint8_t *rows = cdl_mem_array(CDL_PACK_ROWS, row_bytes);
    cuddle_status st = rows ? CUDDLE_OK : cdl_status_nomem("rows of weights");
    for (uint32_t r = 0; r < CDL_PACK_ROWS && st == CUDDLE_OK; r++)
        st = fill_row(rows + r * row_bytes, b->c.type, row_bytes, o->cols, r + 1);
    cdl_matrix_source m = { .data = rows, .row_bytes = row_bytes, .dtype = b->c.type, .cols = o->cols };
    for (uint32_t r = 0; r < o->rows && st == CUDDLE_OK; r += CDL_PACK_ROWS) {
        m.rows = o->rows - r < CDL_PACK_ROWS ? o->rows - r : CDL_PACK_ROWS;
        b->b->pack(b->b, to + r / CDL_PACK_ROWS * b->panel_bytes, &m, 0, 1);
    }
    cdl_mem_free(rows);
    return st;
}

/* Rows of a table, spread over it; positions. */
static void fill_index(const bench *b, int32_t *to, uint32_t n, uint32_t copy)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = b->c.op == CDL_OP_ROPE ? (int32_t)(b->c.prompt ? b->c.context - b->c.rows + i : b->c.context - 1)
                                       : (int32_t)(((uint64_t)copy * n + i) * 7919u % b->c.out);
}

static cuddle_status fill(const bench *b, uint8_t *to, const profile_operand *o, uint64_t seed)
{
    size_t n = (size_t)o->rows * o->cols;
    switch (o->kind) {
    case PROFILE_ACTIVATION: return fill_floats(to, b->b->activation, n, seed);
    case PROFILE_VECTOR: return fill_floats(to, CDL_DTYPE_F32, n, seed);
    case PROFILE_MATRIX: return fill_matrix(b, to, o);
    case PROFILE_INDEX: fill_index(b, (int32_t *)to, o->cols, 0); return CUDDLE_OK;
    case PROFILE_FREQUENCY:
        for (uint32_t i = 0; i < o->cols; i++)
            ((float *)to)[i] = powf(10000.0f, -(float)i / (float)o->cols);
        return CUDDLE_OK;
    }
    return CUDDLE_OK;
}

/* n bytes of the host into a block. */
static cuddle_status upload(const bench *b, uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t at = 0; at < n && b->b->stage; at += CDL_STAGE_BYTES) {
        size_t part = n - at < CDL_STAGE_BYTES ? n - at : CDL_STAGE_BYTES;
        uint8_t *stage;
        CDL_TRY(b->b->stage(b->b, &stage));
        memcpy(stage, from + at, part);
        CDL_TRY(b->b->send(b->b, to + at, part));
    }
    if (!b->b->stage)
        memcpy(to, from, n);
    return CUDDLE_OK;
}

/* The first copy is made on the host; the others are made from it when the backend has started. */
static cuddle_status fill_first(bench *b)
{
    size_t bytes = b->copy_bytes + b->table_bytes;
    uint8_t *host = cdl_mem_pages(bytes);
    cuddle_status st = host ? CUDDLE_OK : cdl_status_nomem("the operands");
    for (uint32_t i = 0; i < b->n_in && st == CUDDLE_OK; i++)
        st = fill(b, host + (is_table(b, i) ? b->copy_bytes : 0) + b->in_at[i], &b->in[i], i + 1);
    if (st == CUDDLE_OK && has_state(b->c.op))
        st = fill_floats(host + b->state_at, state_type(b), b->pages * b->page_bytes
                / cdl_dtype_get(state_type(b))->bytes, 99);
    if (st == CUDDLE_OK)
        st = upload(b, b->block, host, b->copy_bytes);
    if (st == CUDDLE_OK)
        st = upload(b, b->table, host + b->copy_bytes, b->table_bytes);
    cdl_mem_pages_free(host, bytes);
    return st;
}

/* Other rows for each copy. */
static cuddle_status fill_picks(bench *b)
{
    uint32_t n = b->in[0].cols;
    int32_t *rows = cdl_mem_array(n, sizeof *rows);
    cuddle_status st = rows ? CUDDLE_OK : cdl_status_nomem("the rows of a table");
    for (uint32_t copy = 1; copy < b->copies && st == CUDDLE_OK; copy++) {
        fill_index(b, rows, n, copy);
        st = upload(b, b->block + copy * b->copy_bytes + b->in_at[0], (const uint8_t *)rows, n * sizeof *rows);
    }
    cdl_mem_free(rows);
    return st;
}

/* ---- Calls ---- */

static cdl_view view_of(bench *b, uint32_t copy, uint32_t i)
{
    const profile_operand *o = &b->in[i];
    uint8_t *data = (is_table(b, i) ? b->table : b->block + copy * b->copy_bytes) + b->in_at[i];
    cdl_view v = { .data = data, .rows = o->rows, .cols = o->cols, .stride = o->cols,
                   .dtype = o->kind == PROFILE_ACTIVATION ? b->b->activation
                       : o->kind == PROFILE_INDEX ? CDL_DTYPE_I32 : CDL_DTYPE_F32 };
    if (o->kind != PROFILE_MATRIX)
        return v;
    cdl_pack *p = &b->packs[copy * CDL_OP_INPUTS + i];
    *p = (cdl_pack){ .rows = o->rows, .cols = o->cols, .n = 1,
                     .panels = (o->rows + CDL_PACK_ROWS - 1) / CDL_PACK_ROWS,
                     .segment = { { .dtype = b->c.type, .rows = o->rows, .panel_bytes = b->panel_bytes,
                                    .data = data } } };
    v.data = NULL;
    v.pack = p;
    v.dtype = b->c.type;
    return v;
}

static void make_call(bench *b, uint32_t copy)
{
    cdl_call *c = &b->calls[copy];
    uint8_t *base = b->block + copy * b->copy_bytes;
    *c = (cdl_call){ .op = b->c.op, .attrs = b->attrs, .n_in = b->n_in, .step = &b->step, .name = "profile",
                     .rows_generated = b->step.rows_generated };
    for (uint32_t i = 0; i < b->n_in; i++)
        c->in[i] = view_of(b, copy, i);
    c->out = (cdl_view){ .data = base + b->out_at, .dtype = b->b->activation, .rows = b->out.rows,
                         .cols = b->out.cols, .stride = b->out.cols };
    if (has_state(b->c.op)) {
        b->layers[copy] = (cdl_state_layer){ .base = base + b->state_at, .page_bytes = b->page_bytes,
            .group = PAGE_GROUP, .dtype = state_type(b), .kv_heads = b->c.kv_heads, .key_dim = b->c.head_dim,
            .value_dim = b->c.head_dim };
        b->states[copy] = (cdl_state){ .layers = &b->layers[copy], .n_layers = 1,
                                        .table_pages = span_pages(&b->c) };
        c->state = &b->states[copy];
    }
}

static cuddle_status make_calls(bench *b)
{
    b->packs = cdl_mem_zalloc((size_t)b->copies * CDL_OP_INPUTS, sizeof *b->packs);
    b->layers = cdl_mem_zalloc(b->copies, sizeof *b->layers);
    b->states = cdl_mem_zalloc(b->copies, sizeof *b->states);
    b->calls = cdl_mem_zalloc(b->copies + HOT_MAX, sizeof *b->calls);
    if (!b->packs || !b->layers || !b->states || !b->calls)
        return cdl_status_nomem("the calls");
    for (uint32_t i = 0; i < b->copies; i++)
        make_call(b, i);
    b->workspace_bytes = b->b->scratch_bytes(b->b, &b->calls[0]) + ALIGN;
    CDL_TRY(b->b->block_new(b->b, &b->workspace, b->workspace_bytes, "the kernel's scratch", "take smaller --shapes"));
    for (uint32_t i = 0; i < b->copies; i++)
        b->calls[i].workspace = b->workspace;
    for (uint32_t i = 0; i < HOT_MAX; i++)
        b->calls[b->copies + i] = b->calls[0];
    return CUDDLE_OK;
}

/* ---- Time ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

profile_time profile_time_of(double *s, uint32_t n)
{
    if (!n)
        return (profile_time){ 0 };
    qsort(s, n, sizeof *s, by_value);
    double median = s[n / 2];
    return (profile_time){ median, (s[n * 3 / 4] - s[n / 4]) / 2 / median, s[0], n };
}

/* By the device's own clock where it has one. */
static cuddle_status run_calls(bench *b, uint32_t first, uint32_t n, double *seconds)
{
    b->b->settle(b->b, 0);
    if (b->b->time)
        return b->b->time(b->b, b->calls, first, n, seconds);
    double begin = cli_seconds();
    CDL_TRY(b->b->run(b->b, 0, b->calls, first, n));
    *seconds = cli_seconds() - begin;
    return CUDDLE_OK;
}

/* Runs of n calls, of which [first, first + calls) hold several. */
static cuddle_status measure(bench *b, uint32_t first, uint32_t calls, uint32_t n, double limit, profile_time *out)
{
    double *s = cdl_mem_array(SAMPLES_MAX, sizeof *s), end = cli_seconds() + limit;
    cuddle_status st = s ? CUDDLE_OK : cdl_status_nomem("the samples");
    uint32_t samples = 0, at = 0;
    for (; st == CUDDLE_OK && samples < SAMPLES_MAX && (samples < 5 || cli_seconds() < end); samples++) {
        st = run_calls(b, first + at, n, &s[samples]);
        s[samples] /= n;
        at = at + 2 * n <= calls ? at + n : 0;
        if (cli_interrupted() && st == CUDDLE_OK)
            st = cdl_status_fail(CUDDLE_ERR_CANCELLED, "interrupted");
    }
    if (st == CUDDLE_OK)
        *out = profile_time_of(s, samples);
    cdl_mem_free(s);
    return st;
}

static void set_streamed(bench *b, bool streamed)
{
    for (size_t i = 0; i < (size_t)b->copies * CDL_OP_INPUTS; i++)
        b->packs[i].streamed = streamed;
}

static uint32_t calls_of_sample(double seconds, uint32_t most)
{
    double n = SAMPLE_SECONDS / seconds;
    return n < 1 ? 1 : n < most ? (uint32_t)n : most;
}

static cuddle_status time_case(bench *b, profile_row *out, double limit)
{
    double once, again;
    CDL_TRY(run_calls(b, 0, b->copies, &once)); /* brings all copies in, wakes the threads */
    CDL_TRY(run_calls(b, b->copies, 4, &again));
    uint32_t n = calls_of_sample(again / 4, HOT_MAX);
    CDL_TRY(measure(b, b->copies, n, n, limit, &out->hot));
    if (b->copy_bytes * b->copies < cold_bytes(b) / 2)
        return CUDDLE_OK;
    set_streamed(b, true);
    return measure(b, 0, b->copies, calls_of_sample(once / b->copies, b->copies), limit, &out->cold);
}

/* ---- */

cuddle_status profile_backend_open(cdl_backend **out, const profile_opts *o)
{
    unsigned index = 0;
    int end = 0;
    if (o->fast && !strcmp(o->device, "cpu"))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "--fast needs --device cuda");
    if (!strcmp(o->device, "cpu"))
        return cdl_backend_cpu(out, o->cpu);
    bool numbered = sscanf(o->device, "cuda:%u%n", &index, &end) == 1 && !o->device[end];
    if (numbered || !strcmp(o->device, "cuda"))
        return cdl_backend_cuda(out, index, CDL_DTYPE_BF16, o->fast);
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "device %s is not known; there are: cpu, cuda, cuda:N", o->device);
}

static cuddle_status open_bench(bench *b, const profile_opts *o)
{
    b->n_in = profile_case_operands(&b->c, b->in, &b->out, b->attrs);
    CDL_TRY(profile_backend_open(&b->b, o));
    CDL_TRY(cdl_pool_new(&b->pool, o->threads, b->b->thread_scratch_bytes));
    CDL_TRY(make_step(b));
    CDL_TRY(lay_out(b));
    CDL_TRY(b->b->block_new(b->b, &b->block, b->copies * b->copy_bytes, "the operands", "take smaller --shapes"));
    CDL_TRY(b->b->block_new(b->b, &b->table, b->table_bytes + ALIGN, "the table", "take smaller --shapes"));
    CDL_TRY(make_calls(b));
    CDL_TRY(fill_first(b));
    if (b->c.op == CDL_OP_EMBED)
        CDL_TRY(fill_picks(b));
    cdl_backend_sizes sizes = { .pool = b->pool, .calls = b->copies + HOT_MAX, .rows = b->c.rows,
                                .spans = b->step.n_spans, .table_pages = span_pages(&b->c), .vocab = 1 };
    CDL_TRY(b->b->start(b->b, &sizes));
    for (uint32_t i = 1; i < b->copies && b->c.op != CDL_OP_EMBED; i++)
        b->b->copy(b->b, b->block + i * b->copy_bytes, b->block, b->copy_bytes);
    if (b->b->check)
        CDL_TRY(b->b->check(b->b, &b->calls[0]));
    return b->b->prepare ? b->b->prepare(b->b, b->calls, b->copies + HOT_MAX) : CUDDLE_OK;
}

static void close_bench(bench *b)
{
    if (b->b) {
        if (b->pool && b->calls)
            cdl_pool_quiesce(b->pool, 0);
        b->b->block_free(b->b, b->block, b->copies * b->copy_bytes);
        b->b->block_free(b->b, b->table, b->table_bytes + ALIGN);
        b->b->block_free(b->b, b->workspace, b->workspace_bytes);
        b->b->free(b->b);
    }
    cdl_pool_free(b->pool);
    cdl_mem_free(b->packs);
    cdl_mem_free(b->layers);
    cdl_mem_free(b->states);
    cdl_mem_free(b->calls);
    cdl_mem_free(b->spans);
    cdl_mem_free(b->tables);
}

cuddle_status profile_case_run(profile_row *out, const profile_machine *m, const profile_case *c,
        const profile_opts *o, cdl_arena *a)
{
    bench b = { .m = m, .c = *c };
    *out = (profile_row){ .c = *c };
    profile_case_name(out->shape, sizeof out->shape, c);
    cuddle_status st = open_bench(&b, o);
    if (st == CUDDLE_OK) {
        out->cost = cdl_cost_of(&b.calls[0]);
        st = m->is_virtual ? profile_count(out, b.b, b.calls, a) : time_case(&b, out, o->seconds);
    }
    close_bench(&b);
    return st;
}

double profile_peak(const profile_machine *m, const profile_row *r, const char **name)
{
    bool product = r->c.op == CDL_OP_LINEAR || r->c.op == CDL_OP_LINEAR_GLU;
    bool codes = product && cdl_dtype_get(r->c.type)->block > 1 && m->int8 > 0;
    bool half = (product || r->c.op == CDL_OP_ATTENTION) && m->half > m->f32;
    *name = codes ? "int8" : half ? "16-bit" : "f32";
    return codes ? m->int8 : half ? m->half : m->f32;
}

double profile_bound(const profile_machine *m, const profile_row *r, const char **limit)
{
    double peak = profile_peak(m, r, limit), memory = m->stream > 0 ? cdl_cost_bytes(&r->cost) / m->stream : 0;
    double work = peak > 0 ? r->cost.flops / peak : 0;
    if (memory >= work)
        *limit = "memory";
    return memory >= work ? memory : work;
}
