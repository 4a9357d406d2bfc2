/* linear_amx.c - products of prompt rows with AMX in bf16; generated rows go through the AVX-512 products.
 *
 * The rows are packed once as bf16 tiles in the workspace. A chunk is a block of rows times a few
 * pairs of panels (LINEAR: two panels side by side; LINEAR_GLU: gate and up of the same columns). It
 * turns a pair into bf16 tiles in the scratch and multiplies 2 x 2 tiles at a time, sums in f32.
 * A row's sums run through the columns in tiles of 32 from the first to the last, whatever the number of
 * rows and wherever the blocks of columns are cut: loading a tile of sums again loses nothing.
 *
 * From 256 rows on a thread takes its own rows through all columns (activations that lie in another
 * core's cache are slow), as many at a time as stay in its L2 with their sums. Sums of a pair lie
 * together, 128 bytes a row; only the commit writes rows of the whole output.
 * Source: our own prototypes' measurements; Intel's optimisation manual, chapter on AMX.
 * Proof: tests/kernel/test_tiles.c   Speed: bench/op.c */
#include "cpu/amx.h"
#include "cpu/panel_amx.h"
#include "cpu/product.h"
#include "cpu/vec_avx512.h"
#include "cpu/vmath.h"

enum {
    STEPS_WHOLE = 48, STEPS_CUT = 16,    /* of 32 columns: rows longer than 48 go in parts of 16    */
    ROWS_APART = 256,                    /* from so many rows on there are at least two blocks     */
    ROWS_LEAST = 256, ROWS_MOST = 512,   /* of a block, if there are so many                       */
    ROWS_BYTES = 768 << 10,              /* of a block's tiles, when it has more than ROWS_LEAST   */
    SUMS_BYTES = 256 << 10,              /* of a chunk: 4 pairs of 512 rows                        */
    SUMS_AT = 2 * STEPS_WHOLE * CDL_TILE_BYTES, /* the scratch: tiles of a pair, then sums         */
    PAIRS_MOST = 8, CHUNKS_LEAST = 16,
    PACK_ROWS = 32
};
_Static_assert(SUMS_AT + SUMS_BYTES <= CDL_CPU_SCRATCH_BYTES, "room for tiles and sums");

/* ---- Which rows ---- */

static uint32_t generated_rows(const cdl_call *c)
{
    return c->step->f32_activations ? c->out.rows : c->rows_generated;
}

/* The call as if the rows of the AVX-512 products were all. */
static cdl_call generated_part(const cdl_call *c)
{
    cdl_call g = *c;
    g.out.rows = generated_rows(c);
    return g;
}

static uint32_t prompt_rows(const cdl_call *c)
{
    return c->out.rows - generated_rows(c);
}

/* ---- How prompt rows are cut ---- */

typedef struct {
    uint32_t rows, row_step, row_chunks;
    uint32_t pairs, pair_step, pair_chunks;
    uint32_t steps, step;      /* of 32 columns; how many at a time */
} geometry;

static uint32_t clamp(uint32_t v, uint32_t least, uint32_t most)
{
    return v < least ? least : v > most ? most : v;
}

static geometry cut(const cdl_call *c)
{
    uint32_t panels = c->in[1].pack->panels;
    geometry g = { .rows = prompt_rows(c), .steps = cdl_ceil_div(c->in[0].cols, CDL_TILE_COLUMNS) };
    g.step = g.steps <= STEPS_WHOLE ? g.steps : STEPS_CUT;
    uint32_t most = clamp(ROWS_BYTES / (g.steps * CDL_TILE_ROW_BYTES), ROWS_LEAST, ROWS_MOST);
    uint32_t blocks = clamp(cdl_ceil_div(g.rows, most), g.rows >= ROWS_APART ? 2 : 1, UINT32_MAX);
    g.row_step = cdl_ceil_div(cdl_ceil_div(g.rows, blocks), PACK_ROWS) * PACK_ROWS;
    g.row_chunks = cdl_ceil_div(g.rows, g.row_step);
    g.pairs = c->op == CDL_OP_LINEAR_GLU ? panels : cdl_ceil_div(panels, 2);
    uint32_t room = SUMS_BYTES / (g.row_step * CDL_TILES_WIDTH * (uint32_t)sizeof(float));
    g.pair_step = clamp(g.pairs * g.row_chunks / CHUNKS_LEAST, 1, room < PAIRS_MOST ? room : PAIRS_MOST);
    g.pair_chunks = cdl_ceil_div(g.pairs, g.pair_step);
    return g;
}

/* What a chunk computes. Chunks of the same rows follow each other. row counts from the first prompt row. */
typedef struct {
    uint32_t row, rows, pair, pairs;
} part;

static part part_of(const geometry *g, uint32_t chunk)
{
    part p = { .row = chunk / g->pair_chunks * g->row_step, .pair = chunk % g->pair_chunks * g->pair_step };
    p.rows = g->rows - p.row < g->row_step ? g->rows - p.row : g->row_step;
    p.pairs = g->pairs - p.pair < g->pair_step ? g->pairs - p.pair : g->pair_step;
    return p;
}

/* ---- Rows as tiles ---- */

static size_t tiles_bytes(uint32_t rows, uint32_t cols)
{
    return (size_t)cdl_ceil_div(rows, CDL_TILE_ROWS) * cdl_ceil_div(cols, CDL_TILE_COLUMNS) * CDL_TILE_BYTES;
}

static size_t tiles_at(const cdl_call *generated)
{
    return (cdl_product_workspace(generated) + 63) / 64 * 64;
}

static uint8_t *row_tiles(const cdl_call *c)
{
    cdl_call g = generated_part(c);
    return (uint8_t *)c->workspace + tiles_at(&g);
}

static size_t workspace(const cdl_call *c)
{
    return c->step->f32_activations ? cdl_product_workspace(c) : tiles_at(c) + tiles_bytes(c->out.rows, c->in[0].cols);
}

static void pack_rows(const void *arg, uint32_t chunk, void *scratch)
{
    const cdl_call *c = arg;
    uint32_t rows = prompt_rows(c), cols = c->in[0].cols, first = generated_rows(c);
    uint32_t rows_full = cdl_ceil_div(rows, CDL_TILE_ROWS) * CDL_TILE_ROWS;
    size_t next = (size_t)cdl_ceil_div(cols, CDL_TILE_COLUMNS) * CDL_TILE_BYTES;
    uint8_t *tiles = row_tiles(c);
    (void)scratch;
    for (uint32_t r = chunk * PACK_ROWS; r < (chunk + 1) * PACK_ROWS && r < rows_full; r++)
        cdl_tile_row_bf16(tiles + r / CDL_TILE_ROWS * next + r % CDL_TILE_ROWS * CDL_TILE_ROW_BYTES,
                r < rows ? (const float *)c->in[0].data + (size_t)(first + r) * c->in[0].stride : NULL, cols);
}

/* ---- Panels ---- */

typedef struct {
    const uint8_t *data;
    cdl_panel_tiles_fn tiles;
    uint32_t column, n;        /* of the output; n == 0: there is no such panel */
} panel;

static panel panel_of(const cdl_pack *p, uint32_t index)
{
    uint32_t i = 0;
    if (index >= p->panels)
        return (panel){ 0 };
    while (i + 1 < p->n && index >= p->segment[i + 1].first_panel)
        i++;
    const cdl_pack_segment *s = &p->segment[i];
    uint32_t at = (index - s->first_panel) * CDL_PACK_ROWS, left = s->rows - at;
    return (panel){ s->data + (size_t)(index - s->first_panel) * s->panel_bytes, cdl_panel_tiles(s->dtype),
                    s->first_row + at, left < CDL_PACK_ROWS ? left : CDL_PACK_ROWS };
}

static void pair_of(const cdl_call *c, uint32_t index, panel out[2])
{
    bool glu = c->op == CDL_OP_LINEAR_GLU;
    out[0] = panel_of(c->in[1].pack, glu ? index : 2 * index);
    out[1] = panel_of(c->in[glu ? 2 : 1].pack, glu ? index : 2 * index + 1);
}

/* ---- Chunks ---- */

/* A pair of panels, `steps` tiles of each in b, times `rows` rows. */
static void multiply_rows(const uint8_t *a, size_t a_next, const uint8_t *b, uint32_t steps,
        uint32_t rows, float *sums, bool begin, bool pair)
{
    const cdl_tiles_side columns = { b, (size_t)steps * CDL_TILE_BYTES, pair };
    for (uint32_t r = 0; r < rows; r += 2 * CDL_TILE_ROWS, a += 2 * a_next)
        cdl_tiles_multiply((cdl_tiles_side){ a, a_next, rows - r > CDL_TILE_ROWS }, columns, steps,
                sums + (size_t)r * CDL_TILES_WIDTH, begin);
}

/* gate becomes act(gate) * up. */
static void activate(const cdl_call *c, const panel *gate, float *sums, uint32_t rows)
{
    const cdl_glu_attrs *a = c->attrs;
    __m512 gate_bias = _mm512_setzero_ps(), up_bias = gate_bias;
    if (a->has_bias) {
        gate_bias = _mm512_maskz_loadu_ps(cdl_first_lanes(gate->n), (const float *)c->in[3].data + gate->column);
        up_bias = _mm512_maskz_loadu_ps(cdl_first_lanes(gate->n), (const float *)c->in[4].data + gate->column);
    }
    for (uint32_t r = 0; r < rows; r++, sums += CDL_TILES_WIDTH) {
        __m512 x = _mm512_add_ps(_mm512_load_ps(sums), gate_bias);
        __m512 up = _mm512_add_ps(_mm512_load_ps(sums + CDL_PACK_ROWS), up_bias);
        _mm512_store_ps(sums, _mm512_mul_ps(vf_act(a->act, x), up));
    }
}

static float *sums_of(const void *scratch, uint32_t pair, uint32_t rows)
{
    uint32_t rows_full = cdl_ceil_div(rows, CDL_TILE_ROWS) * CDL_TILE_ROWS;
    return (float *)((uintptr_t)scratch + SUMS_AT) + (size_t)pair * rows_full * CDL_TILES_WIDTH;
}

static void run_prompt(const void *arg, uint32_t chunk, void *scratch)
{
    const cdl_call *c = arg;
    const geometry g = cut(c);
    const part t = part_of(&g, chunk);
    const size_t a_next = (size_t)g.steps * CDL_TILE_BYTES;
    const uint8_t *a = row_tiles(c) + t.row / CDL_TILE_ROWS * a_next;
    uint8_t *b = scratch;
    cdl_tiles_begin();
    for (uint32_t k = 0; k < g.steps; k += g.step) {
        uint32_t n = g.steps - k < g.step ? g.steps - k : g.step;
        for (uint32_t i = 0; i < t.pairs; i++) {
            panel p[2];
            pair_of(c, t.pair + i, p);
            for (int s = 0; s < 2 && p[s].n; s++)
                p[s].tiles(p[s].data, c->in[0].cols, k, n, b + (size_t)s * n * CDL_TILE_BYTES);
            float *sums = sums_of(scratch, i, t.rows);
            multiply_rows(a + (size_t)k * CDL_TILE_BYTES, a_next, b, n, t.rows, sums, k == 0, p[1].n);
            if (k + n == g.steps && c->op == CDL_OP_LINEAR_GLU)
                activate(c, &p[0], sums, t.rows);
        }
    }
    cdl_tiles_end();
}

/* ---- Commit: bias, residual, and out ---- */

typedef struct {
    const float *sums, *bias;  /* bias: of the first column, or NULL */
    uint32_t column;
    __mmask16 lanes;
} piece;

static uint32_t pieces_of(const cdl_call *c, const part *t, const void *scratch, piece *out)
{
    bool linear = c->op == CDL_OP_LINEAR;
    const float *bias = linear && ((const cdl_linear_attrs *)c->attrs)->has_bias ? c->in[2].data : NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->pairs; i++) {
        panel p[2];
        pair_of(c, t->pair + i, p);
        for (int s = 0; s < (linear ? 2 : 1) && p[s].n; s++)
            out[n++] = (piece){ sums_of(scratch, i, t->rows) + s * CDL_PACK_ROWS, bias ? bias + p[s].column : NULL,
                                p[s].column, cdl_first_lanes(p[s].n) };
    }
    return n;
}

static void commit_prompt(const void *arg, uint32_t chunk, const void *scratch)
{
    const cdl_call *c = arg;
    const geometry g = cut(c);
    const part t = part_of(&g, chunk);
    const cdl_linear_attrs *a = c->op == CDL_OP_LINEAR ? c->attrs : NULL;
    const cdl_view *residual = a && a->has_residual ? &c->in[2 + a->has_bias] : NULL;
    piece pieces[2 * PAIRS_MOST];
    uint32_t n = pieces_of(c, &t, scratch, pieces), first = generated_rows(c) + t.row;
    for (uint32_t r = 0; r < t.rows; r++) {
        float *to = (float *)c->out.data + (size_t)(first + r) * c->out.stride;
        const float *rest = residual ? (const float *)residual->data + (size_t)(first + r) * residual->stride : NULL;
        for (uint32_t i = 0; i < n; i++) {
            const piece *p = &pieces[i];
            __m512 y = _mm512_load_ps(p->sums + (size_t)r * CDL_TILES_WIDTH);
            if (p->bias)
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(p->lanes, p->bias));
            if (rest)
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(p->lanes, rest + p->column));
            _mm512_mask_storeu_ps(to + p->column, p->lanes, y);
        }
    }
}

/* ---- Generated rows ---- */

static void quantise_generated(const void *arg, uint32_t chunk, void *scratch)
{
    cdl_call g = generated_part(arg);
    (void)scratch;
    cdl_product_quantise(&g, chunk, &cdl_product_avx512);
}

static void run_generated(const void *arg, uint32_t chunk, void *scratch)
{
    cdl_call g = generated_part(arg);
    cdl_product_run(&g, chunk, scratch, &cdl_product_avx512);
}

static void commit_generated(const void *arg, uint32_t chunk, const void *scratch)
{
    cdl_call g = generated_part(arg);
    cdl_product_commit(&g, chunk, scratch);
}

static void emit(const cdl_call *c, uint32_t threads, cdl_phases *out)
{
    (void)threads;
    cdl_call g = generated_part(c);
    if (g.out.rows) {
        cdl_phases_add(out, (cdl_phase){ .run = quantise_generated, .arg = c,
                                         .chunks = cdl_product_quantise_chunks(&g) });
        cdl_phases_add(out, (cdl_phase){ .run = run_generated, .commit = commit_generated, .arg = c,
                                         .chunks = cdl_product_run_chunks(&g) });
    }
    if (g.out.rows == c->out.rows)
        return;
    geometry p = cut(c);
    cdl_phases_add(out, (cdl_phase){ .run = pack_rows, .arg = c, .chunks = cdl_ceil_div(p.rows, PACK_ROWS) });
    cdl_phases_add(out, (cdl_phase){ .run = run_prompt, .commit = commit_prompt, .arg = c,
                                     .chunks = p.row_chunks * p.pair_chunks });
}

const cdl_cpu_kernel cdl_LINEAR_amx = { workspace, emit };
const cdl_cpu_kernel cdl_LINEAR_GLU_amx = { workspace, emit };
