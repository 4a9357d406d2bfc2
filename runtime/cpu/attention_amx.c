/* attention_amx.c - attention of prompt rows with AMX in bf16; generated rows go through the AVX-512 kernel.
 *
 * A query is one head of one row. A chunk is a block of rows of a span times heads that share keys; its
 * queries lie in tiles of 16, row after row. It walks the sequence in blocks of 4 pages (128 slots):
 * turns their keys and values into bf16 tiles, then for every two tiles of queries: scores by tiles,
 * softmax in f32 with a running maximum, weights to bf16, values by tiles onto the output's sums.
 * Blocks begin at multiples of 128 slots, and slots that a query does not see weigh exactly nothing: its
 * bits depend on its own slots alone, however the prompt is cut.
 * Source: Milakov & Gimelshein 2018 (online softmax), Dao 2023 (FlashAttention-2); our own prototypes.
 * Proof: tests/kernel/test_tiles.c   CPU twin: cpu/ref/attention.c */
#include <math.h>
#include <string.h>

#include "cpu/amx.h"
#include "cpu/cpu.h"
#include "cpu/state.h"
#include "cpu/vec_avx512.h"
#include "cpu/vmath.h"

extern const cdl_cpu_kernel cdl_ATTENTION_avx512;

enum {
    SLOTS = CDL_PAGE_TOKENS, PAGES = 4,  /* of a block                                     */
    PAIR = 2 * CDL_TILE_ROWS,            /* queries that go together                       */
    PAGE_SUMS = PAIR * CDL_TILES_WIDTH,  /* floats of a page's scores of a pair            */
    ROWS_MOST = 64, CHUNKS_WANTED = 16
};
_Static_assert((int)SLOTS == CDL_TILES_WIDTH && (int)SLOTS == CDL_TILE_COLUMNS,
        "a page is two tiles of keys, one of values");

static const cdl_state_layer *layer_of(const cdl_call *c)
{
    return &c->state->layers[((const cdl_attention_attrs *)c->attrs)->layer];
}

/* ---- The scratch ---- */

/* Bytes, or where they begin. */
typedef struct {
    uint32_t key_tiles, value_tiles;   /* a query's or key's columns in 32s, a value's in 16s */
    size_t keys, values, scores, weights, queries, sums, max, sum, end;
} layout;

static layout layout_of(const cdl_state_layer *l, uint32_t queries)
{
    layout m = { .key_tiles = cdl_ceil_div(l->key_dim, CDL_TILE_COLUMNS),
                 .value_tiles = cdl_ceil_div(l->value_dim, CDL_TILE_ROWS) };
    uint32_t pairs = cdl_ceil_div(queries, PAIR);
    m.values = m.keys + (size_t)PAGES * 2 * m.key_tiles * CDL_TILE_BYTES;
    m.scores = m.values + (size_t)PAGES * m.value_tiles * CDL_TILE_BYTES;
    m.weights = m.scores + (size_t)PAGES * PAGE_SUMS * sizeof(float);
    m.queries = m.weights + (size_t)2 * PAGES * CDL_TILE_BYTES;
    m.sums = m.queries + (size_t)pairs * 2 * m.key_tiles * CDL_TILE_BYTES;
    m.max = m.sums + (size_t)pairs * cdl_ceil_div(m.value_tiles, 2) * PAGE_SUMS * sizeof(float);
    m.sum = m.max + (size_t)pairs * PAIR * sizeof(float);
    m.end = m.sum + (size_t)pairs * PAIR * sizeof(float);
    return m;
}

/* ---- How a call is cut ---- */

typedef struct {
    uint32_t from;             /* the first prompt row                     */
    uint32_t rows, heads;      /* most rows of a block, heads of a chunk   */
    uint32_t across;           /* chunks of one block                      */
    uint32_t blocks;
} geometry;

static uint32_t count_blocks(const cdl_call *c, uint32_t from, uint32_t rows)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->step->n_spans; i++)
        if (c->step->spans[i].row >= from)
            n += cdl_ceil_div(c->step->spans[i].n, rows);
    return n;
}

/* Heads are halved, then rows, until a chunk fits into the scratch. */
static geometry cut(const cdl_call *c)
{
    const cdl_attention_attrs *a = c->attrs;
    const cdl_state_layer *l = layer_of(c);
    uint32_t group = a->heads / l->kv_heads;
    geometry g = { .from = c->step->f32_activations ? c->out.rows : c->rows_generated,
                   .rows = ROWS_MOST, .heads = group };
    while (g.rows > CDL_TILE_ROWS && count_blocks(c, g.from, g.rows) * l->kv_heads < CHUNKS_WANTED)
        g.rows /= 2;
    while (g.rows * g.heads > 1 && layout_of(l, g.rows * g.heads).end > CDL_CPU_SCRATCH_BYTES) {
        if (g.rows > CDL_TILE_ROWS || g.heads == 1)
            g.rows /= 2;
        else
            g.heads = cdl_ceil_div(g.heads, 2);
    }
    g.across = l->kv_heads * cdl_ceil_div(group, g.heads);
    g.blocks = count_blocks(c, g.from, g.rows);
    return g;
}

/* One chunk: heads [head, head + heads), which read KV head kv, of rows [row, row + rows) of a span. */
typedef struct {
    const cdl_span *span;
    uint32_t row, rows, kv, head, heads, queries;
} part;

static part part_of(const cdl_call *c, const geometry *g, uint32_t chunk)
{
    const cdl_attention_attrs *a = c->attrs;
    uint32_t kv_heads = layer_of(c)->kv_heads, group = a->heads / kv_heads, per_kv = g->across / kv_heads;
    uint32_t block = chunk / g->across, first = chunk % per_kv * g->heads, n;
    part p = { .span = c->step->spans, .kv = chunk % g->across / per_kv };
    p.head = p.kv * group + first;
    p.heads = group - first < g->heads ? group - first : g->heads;
    while (p.span->row < g->from)
        p.span++;
    for (; block >= (n = cdl_ceil_div(p.span->n, g->rows)); block -= n)
        p.span++;
    p.row = p.span->row + block * g->rows;
    uint32_t left = p.span->row + p.span->n - p.row;
    p.rows = left < g->rows ? left : g->rows;
    p.queries = p.rows * p.heads;
    return p;
}

/* ---- A chunk at work ---- */

typedef struct {
    const cdl_call *c;
    const cdl_attention_attrs *a;
    const cdl_state_layer *l;
    part p;
    layout m;
    uint8_t *scratch;
    uint32_t last;             /* slots from here on are seen by no query of the chunk */
} work;

/* Slots [first, last) are seen by query q. */
static void sight_of(const work *w, uint32_t q, uint32_t *first, uint32_t *last)
{
    uint32_t slot = w->p.span->first + w->p.row - w->p.span->row + q / w->p.heads;
    *first = cdl_window_start(slot, w->a->window);
    *last = w->a->bidirectional ? w->p.span->first + w->p.span->n : slot + 1;
}

static float *sums_of(const work *w, uint32_t pair, uint32_t columns)
{
    uint32_t per_pair = cdl_ceil_div(w->m.value_tiles, 2);
    return (float *)(w->scratch + w->m.sums) + ((size_t)pair * per_pair + columns) * PAGE_SUMS;
}

static void pack_queries(const work *w)
{
    size_t tile = (size_t)w->m.key_tiles * CDL_TILE_BYTES;
    for (uint32_t q = 0; q < cdl_ceil_div(w->p.queries, CDL_TILE_ROWS) * CDL_TILE_ROWS; q++) {
        const float *x = (const float *)w->c->in[0].data + (size_t)(w->p.row + q / w->p.heads) * w->c->in[0].stride
            + (size_t)(w->p.head + q % w->p.heads) * w->l->key_dim;
        cdl_tile_row_bf16(w->scratch + w->m.queries + q / CDL_TILE_ROWS * tile + q % CDL_TILE_ROWS * CDL_TILE_ROW_BYTES,
                q < w->p.queries ? x : NULL, w->l->key_dim);
        ((float *)(w->scratch + w->m.max))[q] = -INFINITY;
        ((float *)(w->scratch + w->m.sum))[q] = 0;
    }
}

VEC vf state_row(const void *p, size_t i, int n, const bool f32)
{
    return f32 ? vf_load_n((const float *)p + i, n) : vf_load_f16_n((const uint16_t *)p + i, n);
}

/* A page's keys as two runs of tiles, of 16 slots each. They are stored by dimension. */
VEC void pack_keys(const void *keys, uint32_t dim, uint32_t tiles, uint8_t *to, const bool f32)
{
    for (uint32_t half = 0; half < 2; half++)
        for (uint32_t d = 0; d < tiles * CDL_TILE_COLUMNS; d += 2, to += CDL_TILE_ROW_BYTES)
            cdl_tile_pair_bf16(to, state_row(keys, (size_t)d * SLOTS + 16 * half, d < dim ? 16 : 0, f32),
                    state_row(keys, (size_t)(d + 1) * SLOTS + 16 * half, d + 1 < dim ? 16 : 0, f32));
}

/* A page's values as one tile for every 16 columns, `next` bytes apart; slots from n on are zeros. */
VEC void pack_values(const void *values, uint32_t dim, uint32_t n, uint8_t *to, size_t next, const bool f32)
{
    for (uint32_t at = 0; at < dim; at += 16, to += next) {
        int width = dim - at < 16 ? (int)(dim - at) : 16;
        for (uint32_t s = 0; s < SLOTS; s += 2)
            cdl_tile_pair_bf16(to + (size_t)s / 2 * CDL_TILE_ROW_BYTES,
                    state_row(values, (size_t)s * dim + at, s < n ? width : 0, f32),
                    state_row(values, (size_t)(s + 1) * dim + at, s + 1 < n ? width : 0, f32));
    }
}

/* Page i of the block as tiles. */
static void pack_page(const work *w, uint32_t page, uint32_t i)
{
    int32_t number = w->p.span->pages[w->l->group][page];
    const void *keys = cdl_state_keys(w->l, number, w->p.kv), *values = cdl_state_values(w->l, number, w->p.kv);
    uint8_t *to_keys = w->scratch + w->m.keys + (size_t)i * 2 * w->m.key_tiles * CDL_TILE_BYTES;
    uint8_t *to_values = w->scratch + w->m.values + (size_t)i * CDL_TILE_BYTES;
    uint32_t n = w->last - page * SLOTS;
    if (w->l->dtype == CDL_DTYPE_F32) {
        pack_keys(keys, w->l->key_dim, w->m.key_tiles, to_keys, true);
        pack_values(values, w->l->value_dim, n, to_values, (size_t)PAGES * CDL_TILE_BYTES, true);
    } else {
        pack_keys(keys, w->l->key_dim, w->m.key_tiles, to_keys, false);
        pack_values(values, w->l->value_dim, n, to_values, (size_t)PAGES * CDL_TILE_BYTES, false);
    }
}

/* ---- Softmax ---- */

static void rescale(const work *w, uint32_t q, float by)
{
    for (uint32_t i = 0; i < cdl_ceil_div(w->m.value_tiles, 2); i++) {
        float *o = sums_of(w, q / PAIR, i) + q % PAIR * CDL_TILES_WIDTH;
        vf_store(o, vf_mul(vf_load(o), vf_set(by)));
        vf_store(o + VF, vf_mul(vf_load(o + VF), vf_set(by)));
    }
}

/* Scores of 16 slots from `slot` on, -inf where query sight [first, last) does not reach. */
VEC vf scores_at(const work *w, const float *s, uint32_t slot, uint32_t first, uint32_t last)
{
    vf x = vf_mul(vf_load(s), vf_set(w->a->scale));
    if (w->a->softcap > 0)
        x = vf_mul(vf_set(w->a->softcap), vf_tanh(vf_div(x, vf_set(w->a->softcap))));
    return vf_select(vf_lanes((int)first - (int)slot, (int)last - (int)slot), x, vf_set(-INFINITY));
}

/* Query q's scores of pages [from, to) become weights relative to its new maximum, in bf16; begun: its sums of
 * the output hold something. */
static void soften(const work *w, uint32_t q, uint32_t block, uint32_t from, uint32_t to, bool begun)
{
    const float *s = (const float *)(w->scratch + w->m.scores) + q % PAIR * CDL_TILES_WIDTH;
    uint8_t *p = w->scratch + w->m.weights + q % PAIR / CDL_TILE_ROWS * PAGES * CDL_TILE_BYTES
        + q % CDL_TILE_ROWS * CDL_TILE_ROW_BYTES;
    float *max = (float *)(w->scratch + w->m.max) + q, *sum = (float *)(w->scratch + w->m.sum) + q;
    uint32_t first, last;
    vf x[PAGES][2], top = vf_set(-INFINITY), total = vf_set(0);
    sight_of(w, q, &first, &last);
    for (uint32_t i = from; i < to; i++)
        for (uint32_t j = 0; j < 2; j++) {
            x[i][j] = scores_at(w, s + i * PAGE_SUMS + j * VF, (block * PAGES + i) * SLOTS + j * VF, first, last);
            top = vf_max(top, x[i][j]);
        }
    float new_max = vf_top(top);
    if (new_max > *max) {
        float by[VF];
        vf_store(by, vf_exp(vf_set(*max - new_max)));
        if (begun)
            rescale(w, q, by[0]);
        *sum *= by[0];
        *max = new_max;
    }
    for (uint32_t i = from; i < to; i++) {
        for (uint32_t j = 0; j < 2; j++) {
            vf e = vf_exp(vf_sub(x[i][j], vf_set(*max)));
            x[i][j] = vf_select(vf_less(vf_set(-INFINITY), x[i][j]), e, vf_set(0)); /* none seen: max is -inf */
            total = vf_add(total, x[i][j]);
        }
        _mm512_store_si512((void *)(p + i * CDL_TILE_BYTES), (__m512i)_mm512_cvtne2ps_pbh(x[i][1], x[i][0]));
    }
    *sum += vf_sum(total);
}

/* ---- A pair of query tiles and a block ---- */

/* Pages [from, to) of the block that some query of the pair sees; empty when from >= to. */
static void pages_seen(const work *w, uint32_t pair, uint32_t block, uint32_t *from, uint32_t *to)
{
    uint32_t begin = block * PAGES * SLOTS, first, last, unused;
    uint32_t end = (pair + 1) * PAIR < w->p.queries ? (pair + 1) * PAIR : w->p.queries;
    sight_of(w, pair * PAIR, &first, &unused);
    sight_of(w, end - 1, &unused, &last);
    *from = first > begin ? (first - begin) / SLOTS : 0;
    *to = last > begin ? cdl_ceil_div(last - begin, SLOTS) : 0;
    *to = *to < PAGES ? *to : PAGES;
}

static void attend_pair(const work *w, uint32_t pair, uint32_t block)
{
    const layout *m = &w->m;
    size_t row_of_tiles = (size_t)m->key_tiles * CDL_TILE_BYTES, of_values = (size_t)PAGES * CDL_TILE_BYTES;
    uint32_t n = w->p.queries - pair * PAIR < PAIR ? w->p.queries - pair * PAIR : PAIR, from, to, begins, unused;
    bool two = n > CDL_TILE_ROWS;
    pages_seen(w, pair, block, &from, &to);
    if (from >= to)
        return;
    sight_of(w, pair * PAIR, &begins, &unused);
    bool begun = begins / (PAGES * SLOTS) < block;
    const cdl_tiles_side queries = { w->scratch + m->queries + pair * 2 * row_of_tiles, row_of_tiles, two };
    for (uint32_t i = from; i < to; i++) {
        const cdl_tiles_side keys = { w->scratch + m->keys + i * 2 * row_of_tiles, row_of_tiles, true };
        cdl_tiles_multiply(queries, keys, m->key_tiles, (float *)(w->scratch + m->scores) + i * PAGE_SUMS, true);
    }
    for (uint32_t q = 0; q < n; q++)
        soften(w, pair * PAIR + q, block, from, to, begun);
    const cdl_tiles_side weights = { w->scratch + m->weights + from * CDL_TILE_BYTES, of_values, two };
    for (uint32_t i = 0; i < m->value_tiles; i += 2) {
        const cdl_tiles_side values = { w->scratch + m->values + i * of_values + from * CDL_TILE_BYTES, of_values,
                                        i + 1 < m->value_tiles };
        cdl_tiles_multiply(weights, values, to - from, sums_of(w, pair, i / 2), !begun);
    }
}

static void attend(work *w)
{
    uint32_t first, begin, unused;
    sight_of(w, 0, &first, &unused);
    sight_of(w, w->p.queries - 1, &begin, &w->last);
    pack_queries(w);
    cdl_tiles_begin();
    for (uint32_t block = first / (PAGES * SLOTS); block * PAGES * SLOTS < w->last; block++) {
        for (uint32_t i = 0; i < PAGES; i++) {
            uint32_t page = block * PAGES + i;
            if (page >= first / SLOTS && page * SLOTS < w->last)
                pack_page(w, page, i);
        }
        for (uint32_t pair = 0; pair * PAIR < w->p.queries; pair++)
            attend_pair(w, pair, block);
    }
    cdl_tiles_end();
}

/* ---- Phases ---- */

static void run_prompt(const void *arg, uint32_t chunk, void *scratch)
{
    const cdl_call *c = arg;
    const geometry g = cut(c);
    work w = { .c = c, .a = c->attrs, .l = layer_of(c), .p = part_of(c, &g, chunk), .scratch = scratch };
    w.m = layout_of(w.l, w.p.queries);
    attend(&w);
}

static void commit_prompt(const void *arg, uint32_t chunk, const void *scratch)
{
    const cdl_call *c = arg;
    const geometry g = cut(c);
    const work w = { .c = c, .l = layer_of(c), .p = part_of(c, &g, chunk), .scratch = (void *)(uintptr_t)scratch,
                     .m = layout_of(layer_of(c), part_of(c, &g, chunk).queries) };
    uint32_t dim = w.l->value_dim;
    for (uint32_t q = 0; q < w.p.queries; q++) {
        float *to = (float *)c->out.data + (size_t)(w.p.row + q / w.p.heads) * c->out.stride
                    + (size_t)(w.p.head + q % w.p.heads) * dim;
        vf scale = vf_set(1.0f / ((const float *)(w.scratch + w.m.sum))[q]);
        for (uint32_t d = 0; d < dim; d += VF) {
            const float *o = sums_of(&w, q / PAIR, d / CDL_TILES_WIDTH) + q % PAIR * CDL_TILES_WIDTH
                             + d % CDL_TILES_WIDTH;
            vf_store_n(to + d, vf_mul(vf_load(o), scale), dim - d < VF ? (int)(dim - d) : VF);
        }
    }
}

/* ---- Generated rows: the phase that the AVX-512 kernel would run, were they all ---- */

static cdl_call generated_part(const cdl_call *c, cdl_phase *phase)
{
    cdl_call some = *c;
    cdl_phases one = { phase, 0, 1 };
    some.out.rows = cut(c).from;
    cdl_ATTENTION_avx512.emit(&some, 1, &one);
    return some;
}

static void run_generated(const void *arg, uint32_t chunk, void *scratch)
{
    cdl_phase phase;
    cdl_call some = generated_part(arg, &phase);
    phase.run(&some, chunk, scratch);
}

static void commit_generated(const void *arg, uint32_t chunk, const void *scratch)
{
    cdl_phase phase;
    cdl_call some = generated_part(arg, &phase);
    phase.commit(&some, chunk, scratch);
}

static void emit(const cdl_call *c, uint32_t threads, cdl_phases *out)
{
    const cdl_state_layer *l = layer_of(c);
    const geometry g = cut(c);
    cdl_phase phase;
    if (layout_of(l, 1).end > CDL_CPU_SCRATCH_BYTES) {
        cdl_ATTENTION_avx512.emit(c, threads, out);
        return;
    }
    if (g.from) {
        generated_part(c, &phase);
        cdl_phases_add(out, (cdl_phase){ .run = run_generated, .commit = commit_generated, .arg = c,
                                         .chunks = phase.chunks });
    }
    if (g.from < c->out.rows)
        cdl_phases_add(out, (cdl_phase){ .run = run_prompt, .commit = commit_prompt, .arg = c,
                                         .chunks = g.blocks * g.across });
}

const cdl_cpu_kernel cdl_ATTENTION_amx = { .emit = emit };
