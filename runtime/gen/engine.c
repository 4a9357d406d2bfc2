#include "gen/engine.h"

#include <string.h>

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "device/device.h"
#include "model/architecture.h"
#include "model/model.h"

enum {
    CONTEXT_DEFAULT = 8192, STEP_DEFAULT = 512, STEP_MAX = 65536, SEQUENCES_MAX = 4096,
    ALIGN = 64
};

/* ---- Options ---- */

static bool has(const cuddle_engine_opts *o, size_t end)
{
    return o && o->size >= end;
}
#define OPT(o, field, fallback) \
    (has(o, offsetof(cuddle_engine_opts, field) + sizeof (o)->field) && (o)->field ? (o)->field : (fallback))

static cuddle_status read_limits(cuddle_engine *e, const cuddle_engine_opts *o)
{
    e->threads = OPT(o, threads, cdl_pool_default_threads());
    uint32_t limit = e->graph.context;
    e->context_max = OPT(o, context_max, limit < CONTEXT_DEFAULT ? limit : CONTEXT_DEFAULT);
    if (e->context_max > limit)
        return cdl_status_fail(CUDDLE_ERR_ARG, "context %u is over the model's limit of %u tokens",
                e->context_max, limit);
    e->sequences_max = OPT(o, sequences_max, 1);
    e->step_tokens = OPT(o, step_tokens, STEP_DEFAULT);
    if (e->sequences_max > SEQUENCES_MAX || e->step_tokens > STEP_MAX || e->threads > 1024)
        return cdl_status_fail(CUDDLE_ERR_ARG, "at most %u sequences, %u tokens a step and 1024 threads",
                SEQUENCES_MAX, STEP_MAX);
    if (e->step_tokens < e->sequences_max)
        e->step_tokens = e->sequences_max; /* all can generate in one step */
    e->logits_rows = OPT(o, logits_rows, e->sequences_max);
    if (e->logits_rows > e->step_tokens)
        e->logits_rows = e->step_tokens;
    e->f32_activations = OPT(o, f32_activations, false);
    return CUDDLE_OK;
}

/* ---- Device ---- */

static cuddle_status open_cpu(cuddle_engine *e, const cuddle_engine_opts *o)
{
    const char *dtype = OPT(o, state_dtype, e->f32_activations ? "f32" : "f16");
    if (OPT(o, fast, false))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "fast (--fast) needs --device cuda: it lets cuBLASLt multiply");
    if (!cdl_dtype_from_name(&e->state_dtype, dtype)
            || (e->state_dtype != CDL_DTYPE_F16 && e->state_dtype != CDL_DTYPE_F32))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "state_dtype %s: f16 and f32 are known", dtype);
    return cdl_backend_cpu(&e->backend, OPT(o, cpu, cdl_env_get(CDL_ENV_CUDDLE_CPU)));
}

/* f16 for a checkpoint whose matrices are; else bf16, which holds every range. */
static cdl_dtype activation_of(const cuddle_engine *e)
{
    const cdl_checkpoint *c = cdl_model_checkpoint(e->model);
    for (size_t i = 0; i < cdl_checkpoint_count(c) && !e->graph.wide; i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        if (t->ndim == 2 && t->dtype == CDL_DTYPE_F16)
            return CDL_DTYPE_F16;
    }
    return CDL_DTYPE_BF16;
}

/* A state of 16 bits has the type of the activations. */
static cuddle_status open_cuda(cuddle_engine *e, const cuddle_engine_opts *o, uint32_t index)
{
    cdl_dtype activation = activation_of(e);
    const char *dtype = OPT(o, state_dtype, cdl_dtype_get(activation)->name);
    if (e->f32_activations)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "f32 activations need device cpu");
    bool known = cdl_dtype_from_name(&e->state_dtype, dtype);
    if (known && (e->state_dtype == CDL_DTYPE_F16 || e->state_dtype == CDL_DTYPE_BF16))
        activation = e->state_dtype;
    else if (!known || (e->state_dtype != CDL_DTYPE_I8 && e->state_dtype != CDL_DTYPE_F8E4M3))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "state_dtype %s: on cuda f16, bf16, i8 and f8e4m3 are known",
                dtype);
    if (e->graph.wide && activation == CDL_DTYPE_F16)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "this model's activations do not fit in f16; use bf16");
    return cdl_backend_cuda(&e->backend, index, activation, OPT(o, fast, false));
}

static const char *device_of(const cuddle_engine_opts *o)
{
    const char *named = cdl_env_get(CDL_ENV_CUDDLE_DEVICE);
    return OPT(o, device, named ? named : "auto");
}

/* A GPU is taken unasked when nothing asked for what only the CPU has. */
static bool gpu_suits(const cuddle_engine_opts *o)
{
    cdl_device_facts f;
    return !OPT(o, cpu, cdl_env_get(CDL_ENV_CUDDLE_CPU)) && !OPT(o, f32_activations, false)
        && cdl_device_describe(&f, 0) == CUDDLE_OK && strcmp(f.name, CDL_DEVICE_VIRTUAL);
}

static cuddle_status open_device(cuddle_engine *e, const cuddle_engine_opts *o)
{
    const char *device = device_of(o);
    unsigned index = 0;
    int end = 0;
    if (!strcmp(device, "cpu") || (!strcmp(device, "auto") && !e->tries_gpu))
        return open_cpu(e, o);
    if (!strcmp(device, "auto"))
        return open_cuda(e, o, 0);
    bool numbered = sscanf(device, "cuda:%u%n", &index, &end) == 1 && !device[end];
    if (numbered || !strcmp(device, "cuda"))
        return open_cuda(e, o, index);
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "device %s is not known; there are: auto, cpu, cuda, cuda:N",
            device);
}

/* ---- State: groups and layers ---- */

static cuddle_status group_of(cuddle_engine *e, uint32_t window, uint32_t *out)
{
    for (*out = 0; *out < e->n_groups; ++*out)
        if (e->group[*out].window == window)
            return CUDDLE_OK;
    if (e->n_groups == CDL_STATE_GROUPS)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "the model's layers have more than %d different windows",
                CDL_STATE_GROUPS);
    e->group[e->n_groups++].window = window;
    return CUDDLE_OK;
}

/* Pages a group needs: everything its sequences may hold at once. A window's pages hold the
 * window, a step's new rows, and a partly used page at either end. */
static uint64_t pages_needed(const cuddle_engine *e, const cdl_page_group *g, uint64_t state_tokens)
{
    uint64_t all = state_tokens / CDL_PAGE_TOKENS;
    if (!g->window)
        return all;
    uint64_t span = ((uint64_t)g->window + e->step_tokens) / CDL_PAGE_TOKENS + 2;
    if (span > e->table_pages)
        span = e->table_pages;
    return span * e->sequences_max < all ? span * e->sequences_max : all;
}

static cuddle_status plan_state(cuddle_engine *e, const cuddle_engine_opts *o)
{
    const cdl_graph *g = &e->graph;
    e->layers = cdl_mem_zalloc(g->n_states, sizeof *e->layers);
    if (!e->layers)
        return cdl_status_nomem("the state's layers");
    e->state = (cdl_state){ .layers = e->layers, .n_layers = g->n_states };
    e->table_pages = cdl_ceil_div(e->context_max, CDL_PAGE_TOKENS);
    e->state.table_pages = e->table_pages;
    uint64_t most = (uint64_t)e->table_pages * e->sequences_max * CDL_PAGE_TOKENS;
    uint64_t tokens = OPT(o, state_tokens, 0);
    tokens = !tokens || tokens > most ? most : (tokens + CDL_PAGE_TOKENS - 1) / CDL_PAGE_TOKENS * CDL_PAGE_TOKENS;
    for (uint32_t i = 0; i < g->n_states; i++) {
        const cdl_state_decl *d = &g->states[i];
        uint32_t window = d->window < e->context_max ? d->window : 0;
        cdl_state_layer *l = &e->layers[i];
        CDL_TRY(group_of(e, window, &l->group));
        l->dtype = e->state_dtype;
        l->kv_heads = d->kv_heads;
        l->key_dim = d->key_dim;
        l->value_dim = d->value_dim;
        l->page_bytes = e->backend->page_bytes(l->dtype, d->kv_heads, d->key_dim, d->value_dim);
        e->group[l->group].page_bytes += l->page_bytes;
    }
    for (uint32_t i = 0; i < e->n_groups; i++)
        e->group[i].n_pages = (uint32_t)pages_needed(e, &e->group[i], tokens);
    for (uint32_t i = 0; i < g->n_states; i++) {
        cdl_state_layer *l = &e->layers[i];
        size_t bytes;
        /* one page more in front: a late thread may look at page -1 (base/pool.h) */
        l->base = (uint8_t *)(e->state_bytes + l->page_bytes);
        if (!cdl_mul((size_t)e->group[l->group].n_pages + 1, l->page_bytes, &bytes)
                || !cdl_add(e->state_bytes, bytes, &e->state_bytes))
            return cdl_status_nomem("the state's pages");
    }
    return CUDDLE_OK;
}

/* ---- Plan, then allocate ---- */

/* Everything but memory. */
static cuddle_status prepare(cuddle_engine *e, cuddle_model *m, const cuddle_engine_opts *o)
{
    const cdl_checkpoint *c = cdl_model_checkpoint(m);
    e->model = m;
    CDL_TRY(cdl_architecture_build(&e->graph, c));
    CDL_TRY(read_limits(e, o));
    CDL_TRY(open_device(e, o));
    e->nodes_plain = e->graph.n_nodes;
    CDL_TRY(cdl_graph_fuse(&e->graph, cdl_env_get(CDL_ENV_CUDDLE_NO_FUSION)));
    CDL_TRY(cdl_weights_plan(&e->weights, &e->graph, c, e->backend));
    CDL_TRY(plan_state(e, o));
    cdl_bounds bounds = { .rows = e->step_tokens, .out_rows = e->logits_rows, .spans = e->sequences_max,
                          .f32_activations = e->f32_activations };
    return cdl_plan_make(&e->plan, &e->graph, &e->weights, e->backend, &e->state, bounds);
}

static cuddle_status allocate_groups(cuddle_engine *e)
{
    for (uint32_t i = 0; i < e->n_groups; i++) {
        cdl_page_group *g = &e->group[i];
        g->free = cdl_mem_array(g->n_pages, sizeof *g->free);
        g->refs = cdl_mem_zalloc(g->n_pages, sizeof *g->refs);
        if (!g->free || !g->refs)
            return cdl_status_nomem("the lists of state pages");
        for (uint32_t p = g->n_pages; p-- > 0;)
            g->free[g->n_free++] = p;
    }
    return CUDDLE_OK;
}

static cuddle_status allocate_sequences(cuddle_engine *e)
{
    size_t table = e->table_pages, per = table * e->n_groups + e->context_max;
    e->sequences = cdl_mem_zalloc(e->sequences_max, sizeof *e->sequences);
    e->spans = cdl_mem_zalloc(e->sequences_max, sizeof *e->spans);
    e->picks = cdl_mem_zalloc(e->sequences_max, sizeof *e->picks);
    e->picked = cdl_mem_zalloc(e->sequences_max, sizeof *e->picked);
    e->tables = cdl_mem_array(e->sequences_max, per * sizeof *e->tables);
    if (!e->sequences || !e->spans || !e->picks || !e->picked || !e->tables)
        return cdl_status_nomem("the sequences");
    memset(e->tables, 0xff, e->sequences_max * per * sizeof *e->tables);
    int32_t *at = e->tables;
    for (uint32_t i = 0; i < e->sequences_max; i++) {
        cuddle_sequence *s = &e->sequences[i];
        s->engine = e;
        for (uint32_t k = 0; k < e->n_groups; k++, at += table)
            s->pages[k] = at;
        s->tokens = at;
        at += e->context_max;
    }
    return CUDDLE_OK;
}

static cuddle_status allocate_blocks(cuddle_engine *e)
{
    cdl_backend *b = e->backend;
    char what[96];
    snprintf(what, sizeof what, "the state of %u sequences of %u tokens", e->sequences_max, e->context_max);
    CDL_TRY(b->block_new(b, &e->state_block, e->state_bytes, what, "use a smaller context (--context)"));
    for (uint32_t i = 0; i < e->state.n_layers; i++)
        e->layers[i].base = e->state_block + (size_t)e->layers[i].base;
    return b->block_new(b, &e->workspace, e->plan.workspace_bytes, "the workspace", "use fewer tokens a step");
}

static cuddle_status allocate(cuddle_engine *e, const cuddle_engine_opts *o)
{
    CDL_TRY(allocate_groups(e));
    CDL_TRY(allocate_sequences(e));
    CDL_TRY(allocate_blocks(e));
    CDL_TRY(cdl_pool_new(&e->pool, e->threads, e->backend->thread_scratch_bytes));
    CDL_TRY(cdl_weights_load(&e->weights, &e->graph, cdl_model_checkpoint(e->model), e->pool,
            OPT(o, progress, NULL), OPT(o, progress_user, NULL)));
    cdl_backend_sizes sizes = {
        .pool = e->pool, .calls = e->graph.n_nodes, .rows = e->step_tokens, .out_rows = e->logits_rows,
        .spans = e->sequences_max, .table_pages = e->table_pages, .long_from = e->graph.rope_long_from,
        .vocab = e->graph.vocab };
    CDL_TRY(e->backend->start(e->backend, &sizes));
    cdl_exec_parts parts = { &e->graph, &e->plan, &e->weights, e->backend, &e->state, e->workspace };
    return cdl_exec_new(&e->exec, &parts);
}

static cuddle_status new_engine(cuddle_engine **out, cuddle_model *m, const cuddle_engine_opts *o, bool whole, bool gpu)
{
    cuddle_engine *e = cdl_mem_zalloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return cdl_status_nomem("the engine");
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    e->tries_gpu = gpu;
    cuddle_status st = prepare(e, m, o);
    if (st == CUDDLE_OK && whole)
        st = allocate(e, o);
    if (st != CUDDLE_OK) {
        cuddle_engine_close(e);
        return st;
    }
    *out = e;
    return CUDDLE_OK;
}

/* whole: with its memory, else for its plan. A GPU that nobody asked for gives way to the CPU. */
static cuddle_status make_engine(cuddle_engine **out, cuddle_model *m, const cuddle_engine_opts *o, bool whole)
{
    if (!strcmp(device_of(o), "auto") && gpu_suits(o)) {
        cuddle_status st = new_engine(out, m, o, whole, true);
        if (st != CUDDLE_ERR_NOMEM && st != CUDDLE_ERR_UNSUPPORTED && st != CUDDLE_ERR_DEVICE)
            return st;
        cdl_log(CUDDLE_LOG_WARN, "the CPU runs this model, not the GPU: %s", cuddle_errmsg());
    }
    return new_engine(out, m, o, whole, false);
}

cuddle_status cuddle_engine_open(cuddle_engine **out, cuddle_model *m, const cuddle_engine_opts *opts)
{
    return make_engine(out, m, opts, true);
}

void cuddle_engine_close(cuddle_engine *e)
{
    if (!e)
        return;
    cdl_pool_free(e->pool);
    cdl_exec_free(e->exec);
    for (uint32_t i = 0; i < e->n_groups; i++) {
        cdl_mem_free(e->group[i].free);
        cdl_mem_free(e->group[i].refs);
    }
    if (e->backend) {
        e->backend->block_free(e->backend, e->state_block, e->state_bytes);
        e->backend->block_free(e->backend, e->workspace, e->plan.workspace_bytes);
    }
    cdl_mem_free(e->sequences);
    cdl_mem_free(e->spans);
    cdl_mem_free(e->picks);
    cdl_mem_free(e->picked);
    cdl_mem_free(e->tables);
    cdl_mem_free(e->layers);
    cdl_plan_free(&e->plan);
    cdl_weights_free(&e->weights);
    if (e->backend)
        e->backend->free(e->backend);
    cdl_graph_free(&e->graph);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    cdl_mem_free(e);
}

/* ---- Facts ---- */

void cuddle_engine_describe(const cuddle_engine *e, cuddle_engine_plan *out)
{
    cuddle_engine_plan p = {
        .size = sizeof p, .weights_bytes = e->weights.bytes, .state_bytes = e->state_bytes,
        .workspace_bytes = e->plan.workspace_bytes, .workspace_bound = e->plan.bound_bytes,
        .groups = e->n_groups, .nodes = e->nodes_plain, .nodes_fused = e->graph.n_nodes,
        .threads = e->threads, .context_max = e->context_max };
    snprintf(p.cpu, sizeof p.cpu, "%s", e->backend->kernels);
    snprintf(p.device, sizeof p.device, "%s", e->backend->device);
    snprintf(p.state_dtype, sizeof p.state_dtype, "%s", cdl_dtype_get(e->state_dtype)->name);
    for (uint32_t i = 0; i < e->n_groups; i++) {
        p.pages[i] = e->group[i].n_pages;
        p.page_bytes[i] = (uint32_t)e->group[i].page_bytes;
    }
    size_t size = out->size && out->size < sizeof p ? out->size : sizeof p;
    memcpy(out, &p, size);
    out->size = size;
}

cuddle_status cuddle_engine_make_plan(cuddle_engine_plan *out, cuddle_model *m, const cuddle_engine_opts *opts)
{
    cuddle_engine *e;
    CDL_TRY(make_engine(&e, m, opts, false));
    cuddle_engine_describe(e, out);
    cuddle_engine_close(e);
    return CUDDLE_OK;
}

cuddle_status cuddle_engine_print_plan(FILE *out, cuddle_model *m, const cuddle_engine_opts *opts)
{
    cuddle_engine *e;
    CDL_TRY(make_engine(&e, m, opts, false));
    cdl_buf text = { 0 };
    cuddle_status st = cdl_plan_print(&e->plan, &e->graph, &text);
    if (st == CUDDLE_OK && fwrite(text.data, 1, text.len, out) != text.len)
        st = cdl_status_fail(CUDDLE_ERR_IO, "cannot write the plan");
    cdl_buf_free(&text);
    cuddle_engine_close(e);
    return st;
}

void cdl_engine_set_tap(cuddle_engine *e, cdl_tap tap, void *user)
{
    cdl_exec_set_tap(e->exec, tap, user);
}

void cdl_engine_set_timer(cuddle_engine *e, cdl_timer timer, void *user)
{
    cdl_exec_set_timer(e->exec, timer, user);
}

void cdl_engine_each_call(const cuddle_engine *e, cdl_timer each, void *user)
{
    cdl_exec_each_call(e->exec, each, user);
}
