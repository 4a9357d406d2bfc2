#include "model/convert_parts.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/pool.h"
#include "format/int4.h"
#include "model/architecture.h"

enum { CHUNK_WEIGHTS = 1 << 16, SLAB_CHUNKS = 128, TRANSPOSE_ROWS = 16 };

/* ---- Types ---- */

static const cdl_convert_recipe recipes[] = {
    { "f32", CDL_DTYPE_F32, 0, CDL_DTYPE_F32, false },      { "f16", CDL_DTYPE_F16, 1, CDL_DTYPE_F16, false },
    { "bf16", CDL_DTYPE_BF16, 32, CDL_DTYPE_BF16, false },  { "q8_0", CDL_DTYPE_Q8_0, 7, CDL_DTYPE_Q8_0, false },
    { "q6_k", CDL_DTYPE_Q6_K, 18, CDL_DTYPE_Q6_K, false },  { "q5_k", CDL_DTYPE_Q5_K, 16, CDL_DTYPE_Q5_K, false },
    { "q5_k_m", CDL_DTYPE_Q5_K, 17, CDL_DTYPE_Q6_K, true }, { "q5_1", CDL_DTYPE_Q5_1, 9, CDL_DTYPE_Q5_1, false },
    { "q5_0", CDL_DTYPE_Q5_0, 8, CDL_DTYPE_Q5_0, false },   { "q4_k", CDL_DTYPE_Q4_K, 14, CDL_DTYPE_Q4_K, false },
    { "q4_k_s", CDL_DTYPE_Q4_K, 14, CDL_DTYPE_Q5_K, false }, { "q4_k_m", CDL_DTYPE_Q4_K, 15, CDL_DTYPE_Q6_K, true },
    { "q4_1", CDL_DTYPE_Q4_1, 3, CDL_DTYPE_Q4_1, false },   { "q4_0", CDL_DTYPE_Q4_0, 2, CDL_DTYPE_Q4_0, false },
    { "iq4_nl", CDL_DTYPE_IQ4_NL, 25, CDL_DTYPE_IQ4_NL, false }, { "q3_k", CDL_DTYPE_Q3_K, 11, CDL_DTYPE_Q3_K, false },
    { "q2_k", CDL_DTYPE_Q2_K, 10, CDL_DTYPE_Q2_K, false },
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

const char *cdl_convert_types(void)
{
    return "f32, f16, bf16, q8_0, q6_k, q5_k, q5_k_m, q5_1, q5_0, q4_k, q4_k_s, q4_k_m, q4_1, q4_0, iq4_nl, q3_k, q2_k";
}

static cuddle_status find_recipe(const cdl_convert_recipe **out, const char *name)
{
    for (size_t i = 0; i < N_RECIPES; i++) {
        if (!strcasecmp(recipes[i].name, name)) {
            *out = &recipes[i];
            return CUDDLE_OK;
        }
    }
    return cdl_status_fail(CUDDLE_ERR_ARG, "--quantize %.40s is not known; known are: %s", name, cdl_convert_types());
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* Which layers of attn_v and ffn_down a mix gives more bits, as llama.cpp does. */
static bool gets_more(const cdl_converter *cv, const char *name)
{
    const cdl_convert_recipe *r = cv->recipe;
    unsigned layer, n = 0, other;
    bool v = ends_with(name, ".attn_v.weight") || ends_with(name, ".attn_qkv.weight");
    bool down = ends_with(name, ".ffn_down.weight");
    if (r->more == r->base || (!v && !down) || sscanf(name, "blk.%5u.", &layer) != 1)
        return false;
    for (size_t i = 0; i < cv->n; i++)
        if (sscanf(cv->items[i].name, "blk.%5u.", &other) == 1 && other >= n)
            n = other + 1;
    if (r->mix_m)
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    return v ? layer < 4 : layer < n / 8;
}

/* A type whose blocks fit the width. */
static cdl_dtype fitting(cdl_dtype t, uint64_t width)
{
    if (width % cdl_dtype_get(t)->block == 0)
        return t;
    switch (t) {
    case CDL_DTYPE_Q6_K: t = CDL_DTYPE_Q8_0; break;
    case CDL_DTYPE_Q5_K: t = CDL_DTYPE_Q5_1; break;
    case CDL_DTYPE_Q4_K: t = CDL_DTYPE_Q5_0; break;
    default: t = CDL_DTYPE_IQ4_NL; break;
    }
    return width % cdl_dtype_get(t)->block == 0 ? t : CDL_DTYPE_F16;
}

static bool has_item(const cdl_converter *cv, const char *name)
{
    for (size_t i = 0; i < cv->n; i++)
        if (!strcmp(cv->items[i].name, name))
            return true;
    return false;
}

/* Vectors, biases, norms, positions and factors stay f32; the head (or the embedding that is the head) loses most
 * and gets more bits. */
static cdl_dtype type_of(const cdl_converter *cv, const cdl_gguf_item *t)
{
    const cdl_convert_recipe *r = cv->recipe;
    const char *name = t->name;
    uint64_t width = t->dim[t->ndim - 1];
    if (t->ndim == 1 || !ends_with(name, ".weight") || ends_with(name, "_norm.weight") || !strncmp(name, "rope_", 5)
            || !strcmp(name, "position_embd.weight"))
        return CDL_DTYPE_F32;
    if (cdl_dtype_get(r->base)->block == 1)
        return r->base;
    bool head = !strcmp(name, "output.weight")
        || (!strcmp(name, "token_embd.weight") && !has_item(cv, "output.weight"));
    if (head && r->base != CDL_DTYPE_Q8_0)
        return fitting(CDL_DTYPE_Q6_K, width);
    return fitting(gets_more(cv, name) ? r->more : r->base, width);
}

/* ---- Items ---- */

void cdl_convert_note(const cdl_converter *cv, const char *fmt, ...)
{
    char line[512];
    if (!cv->opts->note)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    cv->opts->note(cv->opts->note_user, line);
}

cuddle_status cdl_convert_add(cdl_converter *cv, const char *name, const cdl_gguf_item *item,
        const cdl_convert_source *source)
{
    if (cv->n == cv->cap) {
        size_t cap = cv->cap ? 2 * cv->cap : 64;
        cdl_gguf_item *items = cdl_mem_realloc(cv->items, cap * sizeof *items);
        if (items)
            cv->items = items;
        cdl_convert_source *sources = items ? cdl_mem_realloc(cv->sources, cap * sizeof *sources) : NULL;
        if (!sources)
            return cdl_status_nomem("the list of tensors");
        cv->sources = sources;
        cv->cap = cap;
    }
    cv->items[cv->n] = *item;
    cv->items[cv->n].name = cdl_arena_strdup(&cv->arena, name);
    if (!cv->items[cv->n].name)
        return cdl_status_nomem("the list of tensors");
    cv->sources[cv->n++] = *source;
    return CUDDLE_OK;
}

static cuddle_status add_entry(cdl_converter *cv, const char *name, const cdl_tensor_entry *e,
        cdl_convert_source source)
{
    cdl_gguf_item t = { .dtype = e->dtype, .ndim = e->ndim };
    if (e->ndim < 1 || e->ndim > CDL_GGUF_DIMS)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %.80s has %u dimensions; GGUF holds 1 to %d",
                cdl_checkpoint_file(cv->c, e->file), e->name, e->ndim, CDL_GGUF_DIMS);
    for (uint32_t d = 0; d < e->ndim; d++)
        t.dim[d] = (uint64_t)e->dim[d];
    if (source.form == CDL_CONVERT_TRANSPOSE) {
        t.dim[0] = (uint64_t)e->dim[1];
        t.dim[1] = (uint64_t)e->dim[0];
    }
    source.entry = e;
    return cdl_convert_add(cv, name, &t, &source);
}

/* Every tensor of a GGUF file, in its form already. */
static cuddle_status list_gguf(cdl_converter *cv)
{
    for (size_t i = 0; i < cdl_checkpoint_count(cv->c); i++) {
        const cdl_tensor_entry *e = cdl_checkpoint_at(cv->c, i);
        char name[256];
        bool known = cdl_gguf_name_of(name, cv->arch, e->name);
        CDL_TRY(add_entry(cv, known ? name : e->name, e, (cdl_convert_source){ .form = CDL_CONVERT_COPY }));
    }
    return CUDDLE_OK;
}

/* Whether an RMSNorm multiplies by 1 + this weight. */
static bool norm_adds_one(const cdl_graph *g, cdl_val weight)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_norm_attrs *a = g->nodes[i].attrs;
        if (g->nodes[i].op == CDL_OP_RMSNORM && g->nodes[i].in[1] == weight)
            return a->offset != 0;
    }
    return false;
}

static cdl_convert_source source_of(const cdl_converter *cv, cdl_val v, const cdl_segment *s,
        const cdl_tensor_entry *e)
{
    const cdl_graph *g = &cv->graph;
    cdl_convert_source source = { .form = CDL_CONVERT_COPY, .head_dim = g->n_states ? g->states[0].key_dim : 0,
                                  .rotary_dim = cv->rotary_dim };
    bool turned = strstr(s->tensor, ".q_proj.") || strstr(s->tensor, ".k_proj.");
    if (s->transposed && !e->int4)
        source.form = CDL_CONVERT_TRANSPOSE;
    else if (cv->interleaved && turned)
        source.form = CDL_CONVERT_PERMUTE;
    else if (norm_adds_one(g, v))
        source.form = CDL_CONVERT_PLUS_ONE;
    return source;
}

static cuddle_status list_weight(cdl_converter *cv, cdl_val v, bool *listed)
{
    const cdl_value *value = &cv->graph.values[v];
    for (uint32_t i = 0; i < value->n_segments; i++) {
        const cdl_segment *s = &value->segment[i];
        const cdl_tensor_entry *e = cdl_checkpoint_find(cv->c, s->tensor);
        if (!e)
            return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s: tensor %.80s is missing; fetch the model again",
                    cdl_checkpoint_folder(cv->c), s->tensor);
        char name[256];
        bool *seen = &listed[e - cdl_checkpoint_at(cv->c, 0)];
        cdl_convert_source source = source_of(cv, v, s, e);
        if (*seen)
            continue;
        *seen = true;
        if (source.form == CDL_CONVERT_TRANSPOSE && e->ndim != 2)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s must be a matrix",
                    cdl_checkpoint_folder(cv->c), e->name);
        if (source.form == CDL_CONVERT_PERMUTE && e->dim[0] % source.head_dim)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s has %lld rows, no multiple of head_dim %u",
                    cdl_checkpoint_folder(cv->c), e->name, (long long)e->dim[0], source.head_dim);
        if (!cdl_gguf_name_of(name, cv->arch, e->name))
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: GGUF has no name for tensor %.80s",
                    cdl_checkpoint_folder(cv->c), e->name);
        CDL_TRY(add_entry(cv, name, e, source));
    }
    return CUDDLE_OK;
}

/* What the model's graph uses. */
static cuddle_status list_model(cdl_converter *cv)
{
    bool *listed = cdl_mem_zalloc(cdl_checkpoint_count(cv->c) + 1, sizeof *listed);
    if (!listed)
        return cdl_status_nomem("the list of tensors");
    cuddle_status st = CUDDLE_OK;
    for (cdl_val v = 1; v < cv->graph.n_values && st == CUDDLE_OK; v++)
        if (cv->graph.values[v].kind == CDL_VALUE_WEIGHT)
            st = list_weight(cv, v, listed);
    cdl_mem_free(listed);
    return st;
}

/* ---- Bytes ---- */

typedef struct {
    const cdl_gguf_item *item;
    const cdl_convert_source *source;
    uint64_t rows, cols, rows_per_chunk, first; /* first: row of chunk 0 */
    size_t row_bytes, source_row_bytes;
    _Atomic bool failed;
} job;

/* The row of the source for row r: GGUF's llama has the two halves of a head in turns. */
static uint64_t source_row(const job *j, uint64_t r)
{
    if (j->source->form != CDL_CONVERT_PERMUTE)
        return r;
    uint64_t in_head = r % j->source->head_dim, rotary = j->source->rotary_dim;
    return in_head < rotary ? r - in_head + in_head / 2 + (in_head % 2) * (rotary / 2) : r;
}

static bool write_int4_row(const job *j, uint64_t r, float *x)
{
    const cdl_int4 *w = j->source->entry->int4;
    uint8_t *dst = j->item->data + r * j->row_bytes;
    bool holds = cdl_int4_holds(w, j->item->dtype);
    cdl_int4_rows(holds ? dst : (uint8_t *)x, w, holds ? j->item->dtype : CDL_DTYPE_F32, (uint32_t)source_row(j, r), 1);
    return holds || cdl_dtype_from_f32(dst, j->item->dtype, x, j->cols) == CUDDLE_OK;
}

static bool write_row(const job *j, uint64_t r, float *x)
{
    const cdl_convert_source *s = j->source;
    uint8_t *dst = j->item->data + r * j->row_bytes;
    if (s->entry && s->entry->int4)
        return write_int4_row(j, r, x);
    const uint8_t *src = s->entry ? s->entry->data + source_row(j, r) * j->source_row_bytes : NULL;
    if (src && s->entry->dtype == j->item->dtype && s->form != CDL_CONVERT_PLUS_ONE) {
        memcpy(dst, src, j->row_bytes);
        return true;
    }
    if (src)
        cdl_dtype_to_f32(x, s->entry->dtype, src, j->cols);
    else
        memcpy(x, s->values + r * j->cols, j->cols * sizeof *x);
    for (uint64_t i = 0; s->form == CDL_CONVERT_PLUS_ONE && i < j->cols; i++)
        x[i] += 1;
    return cdl_dtype_from_f32(dst, j->item->dtype, x, j->cols) == CUDDLE_OK;
}

/* Up to TRANSPOSE_ROWS rows: that many neighbours of each of the source's rows. */
static bool write_transposed(const job *j, uint64_t r, uint64_t n, float *x)
{
    const cdl_tensor_entry *e = j->source->entry;
    size_t element = cdl_dtype_get(e->dtype)->bytes;
    for (uint64_t c = 0; c < j->cols; c++) {
        float few[TRANSPOSE_ROWS];
        cdl_dtype_to_f32(few, e->dtype, e->data + (c * j->rows + r) * element, n);
        for (uint64_t i = 0; i < n; i++)
            x[i * j->cols + c] = few[i];
    }
    bool ok = true;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t *dst = j->item->data + (r + i) * j->row_bytes;
        ok &= cdl_dtype_from_f32(dst, j->item->dtype, x + i * j->cols, j->cols) == CUDDLE_OK;
    }
    return ok;
}

static void run_chunk(const void *arg, uint32_t chunk, void *scratch)
{
    job *j = (job *)arg;
    uint64_t r = j->first + chunk * j->rows_per_chunk, left = j->rows - r;
    uint64_t end = r + (left < j->rows_per_chunk ? left : j->rows_per_chunk);
    bool ok = true;
    if (j->source->form == CDL_CONVERT_TRANSPOSE)
        ok = write_transposed(j, r, end - r, scratch);
    else
        for (; r < end; r++)
            ok &= write_row(j, r, scratch);
    if (!ok)
        atomic_store(&j->failed, true);
}

/* A vector that is permuted counts as rows of one. */
static job job_of(const cdl_converter *cv, size_t i)
{
    job j = { .item = &cv->items[i], .source = &cv->sources[i], .rows = 1 };
    j.cols = j.item->dim[j.item->ndim - 1];
    for (uint32_t d = 0; d + 1 < j.item->ndim; d++)
        j.rows *= j.item->dim[d];
    if (j.item->ndim == 1 && j.source->form == CDL_CONVERT_PERMUTE) {
        j.rows = j.cols;
        j.cols = 1;
    }
    bool transposed = j.source->form == CDL_CONVERT_TRANSPOSE;
    j.rows_per_chunk = transposed ? TRANSPOSE_ROWS : CHUNK_WEIGHTS / (j.cols ? j.cols : 1);
    if (!j.rows_per_chunk)
        j.rows_per_chunk = 1;
    j.row_bytes = j.rows ? j.item->bytes / j.rows : 0;
    j.source_row_bytes = j.rows && j.source->entry ? j.source->entry->bytes / j.rows : 0;
    return j;
}

static size_t scratch_bytes(const cdl_converter *cv)
{
    size_t most = 64;
    for (size_t i = 0; i < cv->n; i++) {
        job j = job_of(cv, i);
        size_t n = j.cols * (j.source->form == CDL_CONVERT_TRANSPOSE ? TRANSPOSE_ROWS : 1) * sizeof(float);
        most = n > most ? n : most;
    }
    return most;
}

static bool report(const cdl_converter *cv, uint64_t done, uint64_t total)
{
    return !cv->opts->progress || cv->opts->progress(cv->opts->progress_user, "converting", done, total);
}

static cuddle_status write_item(const cdl_converter *cv, cdl_pool *pool, size_t i, uint64_t done, uint64_t total)
{
    job j = job_of(cv, i);
    uint64_t chunks = (j.rows + j.rows_per_chunk - 1) / j.rows_per_chunk;
    for (uint64_t at = 0; at < chunks; at += SLAB_CHUNKS) {
        uint64_t n = chunks - at < SLAB_CHUNKS ? chunks - at : SLAB_CHUNKS;
        j.first = at * j.rows_per_chunk;
        cdl_phase phase = { .run = run_chunk, .arg = &j, .chunks = (uint32_t)n };
        cdl_pool_run(pool, &phase, 1);
        cdl_pool_quiesce(pool, 0); /* j is written again */
        if (!report(cv, done + j.first * j.row_bytes, total))
            return cdl_status_fail(CUDDLE_ERR_CANCELLED, "cancelled");
    }
    if (atomic_load(&j.failed))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s: a value is not finite or too large for %s;"
                " convert to f32",
                cdl_checkpoint_folder(cv->c), j.item->name, cdl_dtype_get(j.item->dtype)->name);
    if (j.source->entry)
        cdl_checkpoint_drop(cv->c, j.source->entry, 0, j.source->entry->bytes);
    cdl_outfile_drop(&cv->w.file, (size_t)(j.item->data - cv->w.file.data), j.item->bytes);
    return CUDDLE_OK;
}

static cuddle_status write_items(const cdl_converter *cv)
{
    cdl_pool *pool;
    CDL_TRY(cdl_pool_new(&pool, cv->opts->threads ? cv->opts->threads : cdl_pool_default_threads(), scratch_bytes(cv)));
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < cv->n; i++)
        total += cv->items[i].bytes;
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < cv->n && st == CUDDLE_OK; i++) {
        st = write_item(cv, pool, i, done, total);
        done += cv->items[i].bytes;
    }
    cdl_pool_free(pool);
    return st;
}

/* ---- */

/* A GGUF file's metadata, without what describes its types and parts. */
static cuddle_status copy_metadata(cdl_converter *cv)
{
    static const char *const own[] = { "general.file_type", "general.quantization_version", "general.alignment" };
    for (size_t i = 0; i < cdl_checkpoint_gguf_count(cv->c); i++) {
        const cdl_gguf_pair *p = cdl_checkpoint_gguf_at(cv->c, i);
        bool skip = !strncmp(p->key, "split.", 6) || !strncmp(p->key, "quantize.imatrix.", 17);
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            skip |= !strcmp(p->key, own[k]);
        if (!skip)
            cdl_gguf_put_raw(&cv->w, p->key, p->type, p->value, p->n);
    }
    return cv->w.status;
}

static cuddle_status from_gguf(cdl_converter *cv)
{
    cv->arch = cdl_json_string(cdl_json_get(cdl_checkpoint_gguf(cv->c), "general.architecture"), "");
    CDL_TRY(list_gguf(cv));
    return copy_metadata(cv);
}

static cuddle_status from_folder(cdl_converter *cv)
{
    CDL_TRY(cdl_architecture_build(&cv->graph, cv->c));
    CDL_TRY(cdl_convert_find_arch(cv));
    CDL_TRY(list_model(cv));
    CDL_TRY(cdl_convert_put_config(cv));
    return cdl_convert_put_tokenizer(cv);
}

/* Says so when 4-bit groups are quantised a second time. */
static void note_int4(const cdl_converter *cv)
{
    cdl_dtype exact = CDL_DTYPE_Q4_0;
    bool rounded = false;
    for (size_t i = 0; i < cv->n; i++) {
        const cdl_tensor_entry *e = cv->sources[i].entry;
        if (!e || !e->int4 || e->int4->dtype == CDL_DTYPE_F16)
            continue;
        exact = e->int4->even ? exact : CDL_DTYPE_Q5_0;
        rounded |= cdl_dtype_get(cv->items[i].dtype)->block > 1 && !cdl_int4_holds(e->int4, cv->items[i].dtype);
    }
    if (rounded)
        cdl_convert_note(cv, "the model's 4-bit groups are quantised again; -q %s keeps them as they are",
                cdl_dtype_get(exact)->name);
}

static cuddle_status convert(cdl_converter *cv, const char *path)
{
    CDL_TRY(cdl_checkpoint_gguf(cv->c) ? from_gguf(cv) : from_folder(cv));
    cdl_gguf_put_u32(&cv->w, "general.file_type", cv->recipe->file_type);
    cdl_gguf_put_u32(&cv->w, "general.quantization_version", 2);
    for (size_t i = 0; i < cv->n; i++)
        cv->items[i].dtype = type_of(cv, &cv->items[i]);
    note_int4(cv);
    CDL_TRY(cdl_gguf_create(&cv->w, path, cv->items, cv->n));
    CDL_TRY(write_items(cv));
    return cdl_gguf_finish(&cv->w);
}

cuddle_status cdl_convert(const cdl_checkpoint *c, const char *path, const cdl_convert_opts *opts)
{
    cdl_converter cv = { .c = c, .opts = opts };
    cuddle_status st = find_recipe(&cv.recipe, opts->type);
    if (st == CUDDLE_OK)
        st = convert(&cv, path);
    cdl_gguf_abandon(&cv.w);
    cdl_graph_free(&cv.graph);
    cdl_arena_free(&cv.arena);
    cdl_mem_free(cv.items);
    cdl_mem_free(cv.sources);
    return st;
}
