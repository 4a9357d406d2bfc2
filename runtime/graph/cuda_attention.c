/* cuda_attention.c - rotation, the state, and attention as launches. */
#include <stdio.h>

#include "graph/cuda_call.h"

/* ---- Kernels ---- */

static uint32_t bucket_of(const cdl_state_layer *l)
{
    static const uint32_t buckets[] = { 64, 96, 128, 192, 256 };
    uint32_t dim = l->key_dim > l->value_dim ? l->key_dim : l->value_dim, i = 0;
    while (buckets[i] < dim)
        i++;
    return buckets[i];
}

uint32_t cdl_cuda_state_of(cdl_dtype t)
{
    return t == CDL_DTYPE_I8 ? CDL_CUDA_STATE_I8 : t == CDL_DTYPE_F8E4M3 ? CDL_CUDA_STATE_F8 : CDL_CUDA_STATE_SAME;
}

/* What stands before the activations' type in the names of kernels that touch the state. */
static const char *state_name(const cdl_state_layer *l)
{
    static const char *const names[] = { "", "i8_", "f8_" };
    return names[cdl_cuda_state_of(l->dtype)];
}

/* Bytes of an element. */
static uint32_t state_bytes(const cdl_state_layer *l)
{
    return cdl_cuda_state_of(l->dtype) == CDL_CUDA_STATE_SAME ? 2 : 1;
}

static uint32_t flash_shared(const cdl_state_layer *l)
{
    return cdl_cuda_flash_shared(bucket_of(l), state_bytes(l));
}

static uint32_t decode_shared(const cdl_state_layer *l)
{
    return cdl_cuda_decode_shared(bucket_of(l), state_bytes(l));
}

uint32_t cdl_cuda_splits(uint32_t pages)
{
    uint32_t n = cdl_ceil_div(pages, CDL_CUDA_SPLIT_TOKENS / CDL_CUDA_PAGE_TOKENS);
    return n < CDL_CUDA_SPLITS ? n : CDL_CUDA_SPLITS;
}

/* Of a row that sees at most `window` slots (0: all), in a step whose rows have that many splits at most. */
static uint32_t splits_seen(uint32_t splits, uint32_t window)
{
    uint32_t most = cdl_cuda_splits(window / CDL_CUDA_PAGE_TOKENS + 2);
    return window && most < splits ? most : splits;
}

cuddle_status cdl_cuda_prepare_attention(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    const cdl_state_layer *l = &call->state->layers[((const cdl_attention_attrs *)call->attrs)->layer];
    const char *state = state_name(l), *type = cdl_cuda_type_name(c);
    uint32_t bucket = bucket_of(l);
    char module[16];
    snprintf(module, sizeof module, "attn_d%u%s", bucket, *state ? "_8" : "");
    CDL_TRY(cdl_cuda_find(&node->kernel, c, module, decode_shared(l), "attention_fwd_decode_kernel_d%u_%s%s", bucket,
            state, type));
    return cdl_cuda_find(&node->second, c, module, flash_shared(l), "attention_fwd_prefill_kernel_d%u_%s%s", bucket,
            state, type);
}

cuddle_status cdl_cuda_prepare_write(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    const cdl_state_layer *l = &call->state->layers[((const cdl_state_attrs *)call->attrs)->layer];
    return cdl_cuda_find(&node->kernel, c, "rope_state", 0, "rope_state_fwd_kernel_%s%s", state_name(l),
            cdl_cuda_type_name(c));
}

size_t cdl_cuda_attention_bytes(const cdl_call *call)
{
    const cdl_attention_attrs *a = call->attrs;
    const cdl_state_layer *l = &call->state->layers[a->layer];
    size_t splits = (size_t)call->step->n_spans * a->heads * cdl_cuda_splits(call->state->table_pages);
    return splits * (cdl_cuda_padded(l->value_dim) + 2) * sizeof(float);
}

/* Counters for the most heads or a product's blocks, and room for the widest q of heads that are no multiple of 8. */
cuddle_status cdl_cuda_attention_open(cdl_cuda *c, const cdl_call *calls, uint32_t n)
{
    size_t filled = 0, heads = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (calls[i].op != CDL_OP_ATTENTION)
            continue;
        const cdl_attention_attrs *a = calls[i].attrs;
        uint32_t dim = calls[i].state->layers[a->layer].key_dim;
        size_t bytes = dim % 8 ? (size_t)calls[i].out.rows * a->heads * cdl_cuda_padded(dim) * sizeof(uint16_t) : 0;
        filled = bytes > filled ? bytes : filled;
        heads = a->heads > heads ? a->heads : heads;
        CDL_TRY(cdl_cuda_find_op(&c->nodes[i].fill, c, "rope_state"));
    }
    size_t most = c->sizes.spans * heads;
    size_t bytes = (most > CDL_CUDA_MANY_COUNTERS ? most : CDL_CUDA_MANY_COUNTERS) * sizeof(uint32_t);
    CDL_TRY(cdl_device_alloc(&c->counters, c->device, bytes, "kernels' counters", "use fewer sequences"));
    CDL_TRY(cdl_stream_fill(&c->stream, c->counters, 0, bytes));
    return filled ? cdl_device_alloc(&c->filled_q, c->device, filled, "filled heads", "use fewer tokens a step")
        : CUDDLE_OK;
}

/* ---- Rotation and state ---- */

static cdl_cuda_pages pages_of(const cdl_state_layer *l)
{
    return (cdl_cuda_pages){ .base = l->base, .page_bytes = l->page_bytes, .kv_heads = l->kv_heads,
                             .key_dim = cdl_cuda_padded(l->key_dim), .value_dim = cdl_cuda_padded(l->value_dim) };
}

/* Heads that are no multiple of 8 are filled up: q in a place of its own. */
static void set_heads(const cdl_cuda *c, cdl_rope_state_args *a, const cdl_state_layer *l, uint32_t heads)
{
    a->heads = heads;
    a->head_dim = l->key_dim;
    a->value_dim = l->value_dim;
    if (l->key_dim % 8 && a->q) {
        a->q_out = (void *)c->filled_q;
        a->q_out_stride = heads * cdl_cuda_padded(l->key_dim);
    }
}

static cdl_cuda_rows rows_of(const cdl_cuda *c, uint32_t group)
{
    return (cdl_cuda_rows){ .slots = c->gpu.slots, .tables = c->gpu.tables, .ends = c->gpu.ends,
                            .pages = c->gpu.pages + (size_t)group * c->group_pages };
}

static void set_rope(const cdl_cuda *c, cdl_rope_state_args *a, const cdl_call *rope)
{
    const cdl_rope_attrs *r = rope->attrs;
    a->positions = rope->in[1].data;
    a->inv_freq = rope->in[2].data;
    a->inv_freq_long = rope->n_in > 3 ? rope->in[3].data : NULL;
    a->use_long = c->gpu.use_long;
    a->rotary_dim = r->rotary_dim;
    a->interleaved = r->interleaved;
    a->scale = r->scale;
    a->scale_long = r->scale_long;
}

/* A warp for each head. */
static cuddle_status start_rope(cdl_cuda *c, const cdl_call *call, const cdl_cuda_kernel *k, uint32_t rows,
        const cdl_rope_state_args *a)
{
    uint32_t heads = (a->q ? a->heads : 0) + (a->k ? a->state.kv_heads : 0) + (a->v ? a->state.kv_heads : 0);
    return cdl_cuda_start(c, call, k, cdl_cuda_row_grid(rows, cdl_ceil_div(heads, CDL_CUDA_ROW_THREADS / 32)), a);
}

cuddle_status cdl_cuda_rope(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    uint32_t dim = ((const cdl_rope_attrs *)call->attrs)->head_dim;
    cdl_rope_state_args a = { .q = call->in[0].data, .q_out = call->out.data, .state = { .key_dim = dim },
                              .rows = rows_of(c, 0), .q_stride = call->in[0].stride, .q_out_stride = call->out.stride,
                              .heads = call->out.cols / dim };
    set_rope(c, &a, call);
    return start_rope(c, call, node->kernel, call->out.rows, &a);
}

/* The rows of what a write reads; its own output has none. */
cuddle_status cdl_cuda_state_write(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
{
    const cdl_state_layer *l = &call->state->layers[((const cdl_state_attrs *)call->attrs)->layer];
    cdl_view k = call->in[0], v = call->in[1];
    cdl_rope_state_args a = { .v = v.data, .v_stride = v.stride, .positions = c->gpu.input[CDL_INPUT_POSITIONS],
                              .state = pages_of(l), .rows = rows_of(c, l->group), .head_dim = l->key_dim,
                              .value_dim = l->value_dim };
    if (together && node->rope_q) {
        cdl_view q = node->norm_q ? node->norm_q->in[0] : node->rope_q->in[0];
        k = node->norm_k ? node->norm_k->in[0] : node->rope_k->in[0];
        a.q = q.data;
        a.q_stride = q.stride;
        a.q_out = node->attention->in[0].data;
        a.q_out_stride = node->attention->in[0].stride;
        set_heads(c, &a, l, q.cols / l->key_dim);
        set_rope(c, &a, node->rope_k);
    }
    if (together && node->norm_k) {
        const cdl_norm_attrs *n = node->norm_k->attrs;
        a.q_norm = node->norm_q->in[1].data;
        a.k_norm = node->norm_k->in[1].data;
        a.eps = n->eps;
        a.offset = n->offset;
    }
    a.k = k.data;
    a.k_stride = k.stride;
    return start_rope(c, call, node->kernel, call->step->rows, &a);
}

/* ---- Attention ---- */

/* q as it is, filled up. */
static cuddle_status fill_q(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, const cdl_state_layer *l)
{
    cdl_rope_state_args a = { .q = call->in[0].data, .q_stride = call->in[0].stride, .state = pages_of(l),
                              .positions = c->gpu.input[CDL_INPUT_POSITIONS], .rows = rows_of(c, l->group) };
    set_heads(c, &a, l, call->in[0].cols / l->key_dim);
    return start_rope(c, call, node->fill, call->out.rows, &a);
}

cuddle_status cdl_cuda_attention(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool turned)
{
    const cdl_attention_attrs *t = call->attrs;
    const cdl_state_layer *l = &call->state->layers[t->layer];
    uint32_t generated = call->rows_generated, group = t->heads / l->kv_heads;
    cdl_attention_args a = { .q = call->in[0].data, .y = call->out.data, .state = pages_of(l),
                             .rows = rows_of(c, l->group), .tile_rows = c->gpu.tiles, .partial = call->workspace,
                             .q_stride = call->in[0].stride, .y_stride = call->out.stride, .heads = t->heads,
                             .splits = splits_seen(c->splits, t->window), .window = t->window,
                             .bidirectional = t->bidirectional,
                             .scale = t->scale, .softcap = t->softcap, .counters = (uint32_t *)c->counters,
                             .y_dim = l->value_dim };
    if (l->key_dim % 8) {
        a.q = (const void *)c->filled_q;
        a.q_stride = t->heads * cdl_cuda_padded(l->key_dim);
        if (!turned)
            CDL_TRY(fill_q(c, call, node, l));
    }
    for (; a.first_row < generated; a.first_row += c->sizes.spans) { /* so many have room for their splits */
        uint32_t left = generated - a.first_row, n = left < c->sizes.spans ? left : c->sizes.spans;
        cdl_cuda_grid decode = { n, l->kv_heads * cdl_ceil_div(group, CDL_CUDA_DECODE_HEADS), a.splits,
                                 CDL_CUDA_DECODE_THREADS, decode_shared(l) };
        CDL_TRY(cdl_cuda_start(c, call, node->kernel, decode, &a));
    }
    uint32_t parts = CDL_CUDA_FLASH_ROWS / cdl_cuda_flash_rows(bucket_of(l));
    cdl_cuda_grid flash = { c->n_tiles * parts, t->heads, 1, CDL_CUDA_FLASH_THREADS, flash_shared(l) };
    return cdl_cuda_start(c, call, node->second, flash, &a);
}
