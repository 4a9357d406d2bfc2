/* cmd_forward.c - `cuddle forward`: named input tensors through a model, logits to a file.
 *
 * Inputs carry the names of Hugging Face's forward(): input_ids [B, T] (or [T]), attention_mask,
 * position_ids. Every row is a sequence of its own; masked positions are left out of it, and stay
 * zero in the output. On the CPU activations are f32 unless --fast; on cuda --fast is that of `run`. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "cuddle_sequence.h"
#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/safetensors_write.h"
#include "gen/engine.h"

static const char *in_path, *out_path, *device, *cpu;
static bool all, fast;
static int64_t threads;

static const cli_option options[] = {
    { "in", 'i', CLI_STRING, &in_path, "FILE",
      "safetensors with input_ids [B, T] (attention_mask, position_ids)", 0, 0 },
    { "out", 'o', CLI_STRING, &out_path, "FILE", "safetensors to write: logits [B, T, V] f32", 0, 0 },
    { "all", 0, CLI_FLAG, &all, NULL, "write every node's output too, and leave fusions out", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cpu: the kernels that `run` uses, not f32 activations; cuda: `run --fast`",
      0, 0 },
    { "device", 'd', CLI_STRING, &device, "D", "cpu, cuda or cuda:N (default: cpu)", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET", "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
};

/* An integer tensor [B, T] of the inputs, as int64. */
typedef struct {
    uint64_t rows, cols;
    int64_t *v;                /* NULL: not given */
} ints;

typedef struct {
    cdl_checkpoint *file;
    ints ids, mask, positions;
} inputs;

static cuddle_status read_ints(ints *out, const cdl_checkpoint *c, const char *name)
{
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, name);
    *out = (ints){ 0 };
    if (!t)
        return CUDDLE_OK;
    bool wide = t->dtype == CDL_DTYPE_I64, byte = t->dtype == CDL_DTYPE_BOOL || t->dtype == CDL_DTYPE_U8;
    if ((!wide && !byte && t->dtype != CDL_DTYPE_I32) || t->ndim < 1 || t->ndim > 2)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s must be int64 or int32, [B, T] or [T]", in_path, name);
    out->rows = t->ndim == 2 ? (uint64_t)t->dim[0] : 1;
    out->cols = (uint64_t)t->dim[t->ndim - 1];
    size_t n = out->rows * out->cols; /* the file holds them: no overflow */
    out->v = cdl_mem_array(n ? n : 1, sizeof *out->v);
    if (!out->v)
        return cdl_status_nomem("the inputs");
    for (size_t i = 0; i < n; i++) {
        int32_t narrow = 0;
        if (wide)
            memcpy(&out->v[i], t->data + 8 * i, 8);
        else if (byte)
            out->v[i] = t->data[i];
        else
            memcpy(&narrow, t->data + 4 * i, 4);
        if (!wide && !byte)
            out->v[i] = narrow;
    }
    return CUDDLE_OK;
}

static cuddle_status same_shape(const ints *a, const ints *b, const char *name)
{
    if (b->v && (b->rows != a->rows || b->cols != a->cols))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s is [%llu, %llu], input_ids [%llu, %llu]", in_path, name,
                (unsigned long long)b->rows, (unsigned long long)b->cols,
                (unsigned long long)a->rows, (unsigned long long)a->cols);
    return CUDDLE_OK;
}

static cuddle_status read_inputs(inputs *in)
{
    static const char *const known[] = { "input_ids", "attention_mask", "position_ids", "token_type_ids" };
    CDL_TRY(cdl_checkpoint_open(&in->file, in_path, false));
    for (size_t i = 0; i < cdl_checkpoint_count(in->file); i++) {
        const char *name = cdl_checkpoint_at(in->file, i)->name;
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            found |= !strcmp(known[k], name);
        if (!found)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: this model takes no input %s", in_path, name);
    }
    CDL_TRY(read_ints(&in->ids, in->file, "input_ids"));
    CDL_TRY(read_ints(&in->mask, in->file, "attention_mask"));
    CDL_TRY(read_ints(&in->positions, in->file, "position_ids"));
    if (!in->ids.v || !in->ids.rows || !in->ids.cols)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s: there is no input_ids", in_path);
    if (in->ids.cols > 1 << 20)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: input_ids has rows of over a million tokens", in_path);
    CDL_TRY(same_shape(&in->ids, &in->mask, "attention_mask"));
    return same_shape(&in->ids, &in->positions, "position_ids");
}

static void close_inputs(inputs *in)
{
    cdl_mem_free(in->ids.v);
    cdl_mem_free(in->mask.v);
    cdl_mem_free(in->positions.v);
    cdl_checkpoint_close(in->file);
}

/* One row of the batch without its padding. */
typedef struct {
    int32_t *tokens, *positions;
    uint64_t first, n;         /* columns [first, first + n) are tokens */
} row;

static cuddle_status read_row(row *r, const inputs *in, uint64_t b)
{
    const int64_t *mask = in->mask.v ? in->mask.v + b * in->ids.cols : NULL;
    uint64_t cols = in->ids.cols, end = cols;
    r->first = 0;
    while (mask && r->first < cols && !mask[r->first])
        r->first++;
    while (mask && end > r->first && !mask[end - 1])
        end--;
    r->n = end - r->first;
    for (uint64_t i = 0; i < r->n; i++) {
        uint64_t at = b * cols + r->first + i;
        int64_t position = in->positions.v ? in->positions.v[at] : (int64_t)(r->first + i);
        if (mask && !mask[r->first + i])
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: attention_mask row %llu has a hole at %llu",
                    in_path, (unsigned long long)b, (unsigned long long)(r->first + i));
        if (in->ids.v[at] < 0 || in->ids.v[at] > INT32_MAX || position < 0 || position > INT32_MAX)
            return cdl_status_fail(CUDDLE_ERR_ARG, "%s: input_ids or position_ids out of range in row %llu",
                    in_path, (unsigned long long)b);
        r->tokens[i] = (int32_t)in->ids.v[at];
        r->positions[i] = (int32_t)position;
    }
    return CUDDLE_OK;
}

/* ---- --all: every node's output ---- */

typedef struct {
    cdl_safetensors_item *items; /* [0] is logits, then a node each */
    size_t n;
    uint64_t cols, b, first;     /* of the batch; row and first column now */
} nodes;

static cuddle_status keep(void *user, const cdl_node *node, const cdl_view *out)
{
    nodes *k = user;
    for (size_t i = 1; i < k->n; i++) {
        if (strcmp(k->items[i].name, node->name))
            continue;
        for (uint32_t r = 0; r < out->rows; r++)
            memcpy((float *)k->items[i].data + (k->b * k->cols + k->first + r) * out->cols,
                    (const float *)out->data + (size_t)r * out->stride, out->cols * sizeof(float));
        break;
    }
    return CUDDLE_OK;
}

static cuddle_status list_items(nodes *k, const cuddle_engine *e, const inputs *in)
{
    const cdl_graph *g = &e->graph;
    k->items = cdl_mem_zalloc((all ? g->n_nodes : 0) + 1, sizeof *k->items);
    if (!k->items)
        return cdl_status_nomem("the outputs");
    k->cols = in->ids.cols;
    k->items[k->n++] = (cdl_safetensors_item){ "logits", CDL_DTYPE_F32, 3, { in->ids.rows, k->cols, g->vocab }, NULL };
    for (uint32_t i = 0; all && i < g->n_nodes; i++) {
        const cdl_value *v = &g->values[g->nodes[i].out];
        if (v->cols && strcmp(g->nodes[i].name, "logits"))
            k->items[k->n++] = (cdl_safetensors_item){ g->nodes[i].name, CDL_DTYPE_F32, 3,
                                                       { in->ids.rows, k->cols, v->cols }, NULL };
    }
    return CUDDLE_OK;
}

/* ---- */

static cuddle_status feed_rows(cuddle_engine *e, const inputs *in, nodes *k, row *r)
{
    for (uint64_t b = 0; b < in->ids.rows; b++) {
        CDL_TRY(read_row(r, in, b));
        if (!r->n)
            continue;
        cuddle_sequence *s;
        CDL_TRY(cuddle_sequence_open(&s, e));
        k->b = b;
        k->first = r->first;
        cuddle_feed f = { .sequence = s, .tokens = r->tokens, .n = r->n, .all_logits = true,
                          .positions = in->positions.v || r->first ? r->positions : NULL,
                          .logits = (float *)k->items[0].data + (b * k->cols + r->first) * e->graph.vocab };
        cuddle_status st = cuddle_engine_feed(e, &f, 1);
        cuddle_sequence_close(s);
        CDL_TRY(st);
    }
    return CUDDLE_OK;
}

static cuddle_status forward(cuddle_engine *e, const inputs *in)
{
    nodes k = { 0 };
    row r = { cdl_mem_array(in->ids.cols, sizeof *r.tokens), cdl_mem_array(in->ids.cols, sizeof *r.positions), 0, 0 };
    cdl_safetensors_writer w = { 0 };
    cuddle_status st = r.tokens && r.positions ? list_items(&k, e, in) : cdl_status_nomem("a row");
    if (st == CUDDLE_OK)
        st = cdl_safetensors_create(&w, out_path, k.items, k.n);
    if (st == CUDDLE_OK) {
        if (all)
            cdl_engine_set_tap(e, keep, &k);
        st = feed_rows(e, in, &k, &r);
    }
    if (st == CUDDLE_OK)
        st = cdl_safetensors_finish(&w);
    cdl_safetensors_abandon(&w);
    cdl_mem_free(r.tokens);
    cdl_mem_free(r.positions);
    cdl_mem_free(k.items);
    return st;
}

static cuddle_status forward_model(cuddle_model *m)
{
    inputs in = { 0 };
    cuddle_engine *e = NULL;
    if (all)
        setenv("CUDDLE_NO_FUSION", "all", 0);
    cuddle_status st = read_inputs(&in);
    if (st == CUDDLE_OK) {
        uint32_t cols = (uint32_t)in.ids.cols;
        bool cpu_runs = !device || !strcmp(device, "cpu");
        cuddle_engine_opts o = { .size = sizeof o, .device = device ? device : "cpu", .cpu = cpu,
            .threads = (uint32_t)threads,
            .context_max = cols, .step_tokens = all ? cols : 512, .logits_rows = all ? cols : 64,
            .f32_activations = cpu_runs && !fast, .fast = !cpu_runs && fast, .progress = cli_progress };
        st = cuddle_engine_open(&e, m, &o);
        cli_progress_end();
    }
    if (st == CUDDLE_OK)
        st = forward(e, &in);
    cuddle_engine_close(e);
    close_inputs(&in);
    return st;
}

static int run(char **args);
const cli_command cmd_forward = {
    "forward", "run named input tensors through a model", "MODEL --in inputs.safetensors --out outputs.safetensors",
    "Writes logits [B, T, V] as f32; positions that attention_mask leaves out are zero.\n",
    options, sizeof options / sizeof *options, 1, 1, run };

static int run(char **args)
{
    if (!in_path || !out_path) {
        cli_fail("--in and --out are needed");
        return CLI_USAGE;
    }
    cuddle_model *m;
    if (cuddle_model_open(&m, args[0]) != CUDDLE_OK)
        return cli_fail_status();
    cuddle_status st = forward_model(m);
    cuddle_model_close(m);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}
