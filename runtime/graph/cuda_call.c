#include "graph/cuda_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/repack.h"

/* ---- What the kernels take ---- */

static cuddle_status refuse(const cdl_call *c, const char *what, uint32_t value)
{
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "op %s (%s): CUDA's kernels take %s, not %u; use --device cpu",
            cdl_op_get(c->op)->name, c->name, what, value);
}

static bool whole8(const cdl_view *v)
{
    return v->cols % 8 == 0 && v->stride % 8 == 0;
}

static cuddle_status check_rows(const cdl_call *c)
{
    for (uint32_t i = 0; i < c->n_in; i++)
        if (c->in[i].dtype != CDL_DTYPE_I32 && !c->in[i].pack && c->in[i].rows != 1 && !whole8(&c->in[i]))
            return refuse(c, "rows of a multiple of 8 elements", c->in[i].cols);
    return c->out.cols % 8 && c->out.dtype != CDL_DTYPE_F32 ? refuse(c, "rows of a multiple of 8 elements", c->out.cols)
        : CUDDLE_OK;
}

static cuddle_status check_head(const cdl_call *c, uint32_t dim)
{
    return dim % 2 || dim > 256 ? refuse(c, "heads of an even number of elements up to 256", dim) : CUDDLE_OK;
}

cuddle_status cdl_cuda_check(const cdl_backend *b, const cdl_call *c)
{
    (void)b;
    switch (c->op) {
    case CDL_OP_STATE_WRITE: {
        const cdl_state_layer *l = &c->state->layers[((const cdl_state_attrs *)c->attrs)->layer];
        CDL_TRY(check_head(c, l->value_dim));
        return check_head(c, l->key_dim);
    }
    case CDL_OP_ROPE:
        return check_head(c, ((const cdl_rope_attrs *)c->attrs)->head_dim);
    case CDL_OP_RMSNORM:
        return c->in[1].cols % 8 ? refuse(c, "norms of a multiple of 8 elements", c->in[1].cols) : CUDDLE_OK;
    case CDL_OP_SCALE:
        if (c->out.dtype == CDL_DTYPE_F32)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "op scale (%s): CUDA's kernels do not scale logits",
                    c->name);
        return check_rows(c);
    default:
        return check_rows(c);
    }
}

uint32_t cdl_cuda_splits(uint32_t table_pages)
{
    return (table_pages * CDL_CUDA_PAGE_TOKENS + CDL_CUDA_SPLIT_TOKENS - 1) / CDL_CUDA_SPLIT_TOKENS;
}

size_t cdl_cuda_scratch_bytes(const cdl_backend *b, const cdl_call *c)
{
    (void)b;
    if (c->op == CDL_OP_LINEAR_GLU) /* what gate is multiplied with */
        return (size_t)c->out.rows * c->out.cols * sizeof(uint16_t);
    if (c->op != CDL_OP_ATTENTION)
        return 0;
    const cdl_attention_attrs *a = c->attrs;
    const cdl_state_layer *l = &c->state->layers[a->layer];
    size_t splits = (size_t)c->step->n_spans * a->heads * cdl_cuda_splits(c->state->table_pages);
    return splits * (cdl_cuda_padded(l->value_dim) + 2) * sizeof(float);
}

/* ---- Kernels ---- */

static const char *type_name(const cdl_cuda *c)
{
    return cdl_dtype_get(c->base.activation)->name;
}

/* printf-like name of a kernel; its shared memory is allowed when it needs more than the usual. */
static __attribute__((format(printf, 5, 6))) cuddle_status find(const cdl_cuda_kernel **out, cdl_cuda *c,
        const char *module, uint32_t shared_bytes, const char *fmt, ...)
{
    char name[sizeof c->kernels[0].name];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (uint32_t i = 0; i < c->n_kernels; i++) {
        *out = &c->kernels[i];
        if (!strcmp(c->kernels[i].name, name))
            return CUDDLE_OK;
    }
    if (c->n_kernels == CDL_CUDA_KERNELS)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "a model with more than %d kernels", CDL_CUDA_KERNELS);
    cdl_cuda_kernel *k = &c->kernels[c->n_kernels];
    CDL_TRY(cdl_device_function(&k->function, c->device, module, name));
    memcpy(k->name, name, sizeof name);
    cdl_launch l = { .function = k->function, .kernel = k->name, .shared_bytes = shared_bytes };
    if (shared_bytes > 48 << 10)
        CDL_TRY(cdl_device_allow_shared(c->device, &l));
    c->n_kernels++;
    *out = k;
    return CUDDLE_OK;
}

static cuddle_status find_op(const cdl_cuda_kernel **out, cdl_cuda *c, const char *op)
{
    return find(out, c, op, 0, "%s_fwd_kernel_%s", op, type_name(c));
}

/* The file of cuda/gemm that holds a type's kernels. */
static const char *module_of(cdl_dtype t)
{
    switch (t) {
    case CDL_DTYPE_F16: case CDL_DTYPE_BF16:
        return "linear_dense";
    case CDL_DTYPE_Q4_0: case CDL_DTYPE_Q4_1: case CDL_DTYPE_IQ4_NL: case CDL_DTYPE_MXFP4:
        return "linear_4bit";
    case CDL_DTYPE_Q5_0: case CDL_DTYPE_Q5_1: case CDL_DTYPE_Q8_0:
        return "linear_8bit";
    case CDL_DTYPE_Q2_K: case CDL_DTYPE_Q3_K: case CDL_DTYPE_IQ4_XS:
        return "linear_k_low";
    case CDL_DTYPE_I4_G32: case CDL_DTYPE_I4_G64: case CDL_DTYPE_I4_G128:
        return "linear_int4";
    default:
        return "linear_k_high";
    }
}

static uint32_t prefill_shared(cdl_dtype t)
{
    return (uint32_t)(CDL_CUDA_PREFILL_STAGES * (16384 + 8 * cdl_repack_step_bytes(t)));
}

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

static uint32_t flash_shared(const cdl_state_layer *l)
{
    uint32_t bucket = bucket_of(l);
    return cdl_cuda_state_of(l->dtype) == CDL_CUDA_STATE_SAME ? 384 * bucket : 256 * bucket + 1024;
}

/* ---- Preparing ---- */

/* A pack's segments, neighbours of one type joined. */
static cuddle_status prepare_weights(cdl_cuda *c, const cdl_pack *p, cdl_cuda_weight *out, uint32_t *n)
{
    *n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const cdl_pack_segment *s = &p->segment[i];
        cdl_cuda_weight *last = *n ? &out[*n - 1] : NULL;
        cdl_dtype t = cdl_cuda_weight_type(&c->base, s->dtype);
        if (last && last->dtype == t && last->rows % CDL_PACK_ROWS == 0
                && last->data + last->rows / CDL_PACK_ROWS * s->panel_bytes == s->data) {
            last->rows += s->rows;
            continue;
        }
        cdl_cuda_weight *w = &out[(*n)++];
        *w = (cdl_cuda_weight){ .data = s->data, .dtype = t, .rows = s->rows, .first_row = s->first_row };
        const char *name = cdl_dtype_get(t)->name;
        CDL_TRY(find(&w->decode, c, module_of(t), 0, "linear_fwd_decode_kernel_%s_%s", name, type_name(c)));
        CDL_TRY(find(&w->prefill, c, module_of(t), prefill_shared(t), "linear_fwd_prefill_kernel_%s_%s", name,
                type_name(c)));
    }
    return CUDDLE_OK;
}

static bool has_one_type(const cdl_cuda_node *n)
{
    for (uint32_t i = 1; i < n->weights; i++)
        if (n->weight[i].dtype != n->weight[0].dtype)
            return false;
    return true;
}

static cuddle_status prepare_attention(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    const cdl_state_layer *l = &call->state->layers[((const cdl_attention_attrs *)call->attrs)->layer];
    const char *state = state_name(l), *type = type_name(c);
    uint32_t bucket = bucket_of(l);
    char module[16];
    snprintf(module, sizeof module, "attn_d%u%s", bucket, *state ? "_8" : "");
    CDL_TRY(find(&node->kernel, c, module, 0, "attention_fwd_decode_kernel_d%u_%s%s", bucket, state, type));
    return find(&node->second, c, module, flash_shared(l), "attention_fwd_prefill_kernel_d%u_%s%s", bucket, state,
            type);
}

static cuddle_status prepare_call(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    switch (call->op) {
    case CDL_OP_EMBED: {
        cdl_dtype t = cdl_cuda_weight_type(&c->base, call->in[1].pack->segment[0].dtype);
        return find(&node->kernel, c, module_of(t), 0, "embed_fwd_kernel_%s_%s", cdl_dtype_get(t)->name, type_name(c));
    }
    case CDL_OP_GATHER:
        return find(&node->kernel, c, "gather", 0, "gather_fwd_kernel_16");
    case CDL_OP_LINEAR_GLU:
        CDL_TRY(prepare_weights(c, call->in[2].pack, node->up, &node->ups));
        CDL_TRY(find_op(&node->kernel, c, "act_mul")); /* fall through */
    case CDL_OP_LINEAR:
        CDL_TRY(prepare_weights(c, call->in[1].pack, node->weight, &node->weights));
        return has_one_type(node) ? CUDDLE_OK
            : find(&node->mixed, c, "linear_mixed", 0, "linear_fwd_decode_kernel_mixed_%s", type_name(c));
    case CDL_OP_STATE_WRITE:
        return find(&node->kernel, c, "rope_state", 0, "rope_state_fwd_kernel_%s%s", state_name(
                &call->state->layers[((const cdl_state_attrs *)call->attrs)->layer]), type_name(c));
    case CDL_OP_ROPE:
        return find_op(&node->kernel, c, "rope_state");
    case CDL_OP_ATTENTION:
        return prepare_attention(c, call, node);
    default:
        return find_op(&node->kernel, c, cdl_op_get(call->op)->name);
    }
}

static size_t bytes_of(const cdl_view *v, size_t elements)
{
    return elements * cdl_dtype_get(v->dtype)->bytes;
}

/* Whether no element of one is one of the other. */
static bool apart(const cdl_view *a, const cdl_view *b)
{
    uintptr_t x = (uintptr_t)a->data, y = (uintptr_t)b->data, stride = bytes_of(a, a->stride);
    size_t x_bytes = bytes_of(a, (size_t)(a->rows - 1) * a->stride + a->cols);
    size_t y_bytes = bytes_of(b, (size_t)(b->rows - 1) * b->stride + b->cols);
    if (x + x_bytes <= y || y + y_bytes <= x)
        return true;
    if (stride != bytes_of(b, b->stride)) /* else: columns of one matrix */
        return false;
    size_t shift = (y - x) % stride;
    return shift >= bytes_of(a, a->cols) && shift + bytes_of(b, b->cols) <= stride;
}

/* What a row's own block may write while others still read theirs. */
static bool row_safe(const cdl_view *out, const cdl_view *in)
{
    return (out->data == in->data && out->stride == in->stride) || apart(out, in);
}

static bool makes(const cdl_call *c, cdl_op op, const cdl_view *v)
{
    return c->op == op && c->out.data == v->data && c->out.cols == v->cols;
}

/* rope q, rope k (and before them the norms of their heads) stand right before the write: one launch does them all. */
static void join_rope(cdl_cuda *c, const cdl_call *calls, uint32_t i)
{
    cdl_cuda_node *n = &c->nodes[i];
    const cdl_call *write = &calls[i], *attention = i + 1 < c->n_nodes ? &calls[i + 1] : NULL;
    const cdl_state_layer *l = &write->state->layers[((const cdl_state_attrs *)write->attrs)->layer];
    if (i < 2 || !attention || attention->op != CDL_OP_ATTENTION)
        return;
    const cdl_call *k = &calls[i - 1], *q = &calls[i - 2];
    if (!makes(k, CDL_OP_ROPE, &write->in[0]) || !makes(q, CDL_OP_ROPE, &attention->in[0])
            || memcmp(k->attrs, q->attrs, sizeof(cdl_rope_attrs)) || k->in[2].data != q->in[2].data
            || ((const cdl_rope_attrs *)k->attrs)->head_dim != l->key_dim)
        return;
    bool normed = i >= 4 && makes(&calls[i - 3], CDL_OP_RMSNORM, &k->in[0])
        && makes(&calls[i - 4], CDL_OP_RMSNORM, &q->in[0]) && calls[i - 3].in[1].cols == l->key_dim
        && calls[i - 4].in[1].cols == l->key_dim
        && !memcmp(calls[i - 3].attrs, calls[i - 4].attrs, sizeof(cdl_norm_attrs));
    const cdl_view *out = &attention->in[0], *from_q = normed ? &calls[i - 4].in[0] : &q->in[0];
    if (!row_safe(out, from_q) || !apart(out, normed ? &calls[i - 3].in[0] : &k->in[0]) || !apart(out, &write->in[1]))
        return;
    n->rope_q = q;
    n->rope_k = k;
    n->attention = attention;
    n->norm_k = normed ? &calls[i - 3] : NULL;
    n->norm_q = normed ? &calls[i - 4] : NULL;
    for (uint32_t j = i - (normed ? 4 : 2); j < i; j++)
        c->nodes[j].done = true;
}

/* Whether a norm and the sum before it may write while other rows of what they and `first` read are read. */
static bool rows_safe(const cdl_call *norm, const cdl_call *add, const cdl_call *first)
{
    const cdl_view *in[] = { &add->in[0], &add->in[1], &first->in[0] };
    bool safe = true;
    for (int i = 0; i < 3; i++)
        safe &= row_safe(&norm->out, in[i]) && row_safe(&add->out, in[i]) && in[i]->stride == norm->in[0].stride;
    return safe;
}

/* A sum before a norm, and a norm of one of its terms before that. */
static void join_norms(cdl_cuda *c, const cdl_call *calls, uint32_t i)
{
    const cdl_call *call = &calls[i], *add = i ? &calls[i - 1] : NULL, *first = i > 1 ? &calls[i - 2] : NULL;
    uint32_t cols = call->in[0].cols;
    if (!add || !makes(add, CDL_OP_ADD, &call->in[0]) || call->in[1].cols != cols || !rows_safe(call, add, add))
        return;
    c->nodes[i].add = add;
    c->nodes[i - 1].done = true;
    if (!first || first->op != CDL_OP_RMSNORM || first->in[1].cols != cols
            || memcmp(first->attrs, call->attrs, sizeof(cdl_norm_attrs))
            || (first->out.data != add->in[0].data && first->out.data != add->in[1].data)
            || !rows_safe(call, add, first))
        return;
    c->nodes[i].first = first;
    c->nodes[i - 2].done = true;
}

static bool is_dense_rows(const cdl_view *v)
{
    return v->stride == v->cols;
}

static cuddle_status join_calls(cdl_cuda *c, const cdl_call *calls, uint32_t i)
{
    const cdl_call *call = &calls[i];
    if (call->op == CDL_OP_STATE_WRITE)
        join_rope(c, calls, i);
    if (call->op == CDL_OP_RMSNORM)
        join_norms(c, calls, i);
    if (call->op == CDL_OP_ACT && i && makes(&calls[i - 1], CDL_OP_LINEAR, &call->in[0])
            && !((const cdl_linear_attrs *)calls[i - 1].attrs)->has_residual
            && apart(&call->out, &calls[i - 1].in[0])) {
        c->nodes[i - 1].act = call;
        c->nodes[i].done = true;
    }
    if (call->op == CDL_OP_GATHER && i && calls[i - 1].op == CDL_OP_GATHER && !c->nodes[i - 1].done
            && calls[i - 1].in[1].data == call->in[1].data && apart(&call->out, &calls[i - 1].in[0])) {
        c->nodes[i - 1].gather = call;
        c->nodes[i].done = true;
    }
    if (call->op == CDL_OP_SOFTCAP && call->out.dtype == CDL_DTYPE_F32) {
        if (!i || !makes(&calls[i - 1], CDL_OP_LINEAR, &call->in[0]) || calls[i - 1].out.data != call->out.data)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "op softcap (%s): CUDA's kernels cap the logits of a "
                    "product only", call->name);
        c->nodes[i - 1].softcap = ((const cdl_softcap_attrs *)call->attrs)->cap;
        c->nodes[i].capped = true;
    }
    return CUDDLE_OK;
}

/* Room for the widest q of heads that are no multiple of 8. */
static cuddle_status make_filled_q(cdl_cuda *c, const cdl_call *calls, uint32_t n)
{
    size_t most = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (calls[i].op != CDL_OP_ATTENTION)
            continue;
        const cdl_attention_attrs *a = calls[i].attrs;
        uint32_t dim = calls[i].state->layers[a->layer].key_dim;
        size_t bytes = dim % 8 ? (size_t)calls[i].out.rows * a->heads * cdl_cuda_padded(dim) * sizeof(uint16_t) : 0;
        most = bytes > most ? bytes : most;
        CDL_TRY(find_op(&c->nodes[i].fill, c, "rope_state"));
    }
    return most ? cdl_device_alloc(&c->filled_q, c->device, most, "filled heads", "use fewer tokens a step")
        : CUDDLE_OK;
}

cuddle_status cdl_cuda_prepare(cdl_backend *b, const cdl_call *calls, uint32_t n)
{
    cdl_cuda *c = (cdl_cuda *)b;
    c->n_nodes = n;
    c->nodes = cdl_mem_zalloc(n, sizeof *c->nodes);
    if (!c->nodes)
        return cdl_status_nomem("the calls of a step");
    for (uint32_t i = 0; i < n; i++)
        CDL_TRY(join_calls(c, calls, i));
    uint32_t heads = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (calls[i].op == CDL_OP_ATTENTION && ((const cdl_attention_attrs *)calls[i].attrs)->heads > heads)
            heads = ((const cdl_attention_attrs *)calls[i].attrs)->heads;
        if (!c->nodes[i].capped)
            CDL_TRY(prepare_call(c, &calls[i], &c->nodes[i]));
    }
    size_t bytes = (size_t)c->sizes.spans * heads * sizeof(uint32_t);
    CDL_TRY(cdl_device_alloc(&c->counters, c->device, bytes, "attention's counters", "use fewer sequences"));
    CDL_TRY(make_filled_q(c, calls, n));
    CDL_TRY(find(&c->lists.kernel, c, "sample", 0, "sample_fwd_kernel_f32"));
    return cdl_stream_fill(&c->stream, c->counters, 0, bytes);
}

/* ---- Launching ---- */

typedef struct {
    uint32_t x, y, z, threads, shared;
} grid;

static cuddle_status launch(cdl_cuda *c, const cdl_call *call, const cdl_cuda_kernel *k, grid g, const void *args)
{
    cdl_launch l = { .function = k->function, .kernel = k->name, .node = call->name, .rows = call->out.rows,
                     .cols = call->out.cols, .grid = { g.x, g.y, g.z }, .threads = g.threads,
                     .shared_bytes = g.shared, .args = args };
    c->launches += g.x && g.y && g.z;
    return cdl_stream_launch(&c->stream, &l);
}

static grid row_grid(uint32_t x, uint32_t y)
{
    return (grid){ x, y, 1, CDL_CUDA_ROW_THREADS, 0 };
}

static void *row_of(const cdl_view *v, uint32_t row, uint32_t col)
{
    return (uint8_t *)v->data + ((size_t)row * v->stride + col) * cdl_dtype_get(v->dtype)->bytes;
}

/* Rows [row, row + n) of a product with one stretch of weights, into `out`. */
static cdl_linear_args linear_args(const cdl_call *call, const cdl_view *out, const cdl_cuda_weight *w, uint32_t row,
        uint32_t n)
{
    return (cdl_linear_args){
        .x = row_of(&call->in[0], row, 0), .weight = w->data, .y = row_of(out, row, w->first_row), .tokens = n,
        .rows = w->rows, .cols = call->in[0].cols, .x_stride = call->in[0].stride, .y_stride = out->stride,
        .act = CDL_CUDA_ACT_NONE, .y_f32 = out->dtype == CDL_DTYPE_F32 };
}

static cuddle_status launch_product(cdl_cuda *c, const cdl_call *call, const cdl_cuda_weight *w, bool prompt,
        const cdl_linear_args *a)
{
    grid decode = { cdl_ceil_div(a->rows, CDL_CUDA_LINEAR_ROWS), cdl_ceil_div(a->tokens, CDL_CUDA_LINEAR_TOKENS), 1,
                    CDL_CUDA_DECODE_THREADS, 0 };
    grid prefill = { cdl_ceil_div(a->rows, CDL_CUDA_PREFILL_TILE), cdl_ceil_div(a->tokens, CDL_CUDA_PREFILL_TILE), 1,
                     CDL_CUDA_PREFILL_THREADS, prefill_shared(w->dtype) };
    return launch(c, call, prompt ? w->prefill : w->decode, prompt ? prefill : decode, a);
}

/* The same with what LINEAR adds to a product; act: the call that follows it, or NULL. */
static cdl_linear_args whole_args(const cdl_call *call, const cdl_cuda_node *node, const cdl_cuda_weight *w,
        const cdl_call *act, uint32_t row, uint32_t n)
{
    const cdl_linear_attrs *attrs = call->attrs;
    const cdl_view *residual = attrs->has_residual ? &call->in[2 + attrs->has_bias] : NULL;
    cdl_linear_args a = linear_args(call, act ? &act->out : &call->out, w, row, n);
    a.bias = attrs->has_bias ? (const float *)call->in[2].data + w->first_row : NULL;
    a.residual = residual ? row_of(residual, row, w->first_row) : NULL;
    a.residual_stride = residual ? residual->stride : 0;
    a.softcap = node->softcap;
    if (act)
        a.act = ((const cdl_act_attrs *)act->attrs)->act;
    return a;
}

/* All stretches of weights in one launch. */
static cuddle_status linear_generated(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node,
        const cdl_call *act)
{
    cdl_linear_args a = whole_args(call, node, &node->weight[0], act, 0, call->rows_generated);
    grid g = { 0, cdl_ceil_div(a.tokens, CDL_CUDA_LINEAR_TOKENS), 1, CDL_CUDA_DECODE_THREADS, 0 };
    a.rows = 0;
    a.n_segments = node->weights;
    for (uint32_t i = 0; i < node->weights; i++) {
        const cdl_cuda_weight *w = &node->weight[i];
        a.segment[i] = (cdl_linear_segment){ w->data, w->rows, w->dtype };
        a.rows += w->rows;
        g.x += cdl_ceil_div(w->rows, CDL_CUDA_LINEAR_ROWS);
    }
    return launch(c, call, node->mixed ? node->mixed : node->weight[0].decode, g, &a);
}

static cuddle_status linear(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
{
    const cdl_call *act = together ? node->act : NULL;
    uint32_t generated = call->rows_generated, prompt = call->out.rows - generated;
    if (generated)
        CDL_TRY(linear_generated(c, call, node, act));
    for (uint32_t i = 0; i < node->weights && prompt; i++) {
        cdl_linear_args a = whole_args(call, node, &node->weight[i], act, generated, prompt);
        CDL_TRY(launch_product(c, call, &node->weight[i], true, &a));
    }
    return CUDDLE_OK;
}

/* Gate, up and their product in one; only generated rows' kernel can. */
static cuddle_status glu_together(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, uint32_t n)
{
    const cdl_glu_attrs *attrs = call->attrs;
    for (uint32_t i = 0; i < node->weights && n; i++) {
        const cdl_cuda_weight *w = &node->weight[i];
        cdl_linear_args a = linear_args(call, &call->out, w, 0, n);
        a.up = node->up[i].data;
        a.act = attrs->act;
        a.bias = attrs->has_bias ? (const float *)call->in[3].data + w->first_row : NULL;
        a.up_bias = attrs->has_bias ? (const float *)call->in[4].data + w->first_row : NULL;
        CDL_TRY(launch_product(c, call, w, false, &a));
    }
    return CUDDLE_OK;
}

/* Gate into the output, up into the scratch, then both. */
static cuddle_status glu_apart(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, uint32_t row, uint32_t n,
        bool prompt)
{
    const cdl_glu_attrs *attrs = call->attrs;
    cdl_view up = call->out;
    up.data = call->workspace;
    for (uint32_t i = 0; i < node->weights && n; i++) {
        cdl_linear_args a = linear_args(call, &call->out, &node->weight[i], row, n);
        a.bias = attrs->has_bias ? (const float *)call->in[3].data + node->weight[i].first_row : NULL;
        CDL_TRY(launch_product(c, call, &node->weight[i], prompt, &a));
    }
    for (uint32_t i = 0; i < node->ups && n; i++) {
        cdl_linear_args a = linear_args(call, &up, &node->up[i], row, n);
        a.bias = attrs->has_bias ? (const float *)call->in[4].data + node->up[i].first_row : NULL;
        CDL_TRY(launch_product(c, call, &node->up[i], prompt, &a));
    }
    cdl_act_mul_args m = { .gate = row_of(&call->out, row, 0), .up = row_of(&up, row, 0),
                           .y = row_of(&call->out, row, 0), .cols = call->out.cols, .in_stride = call->out.stride,
                           .y_stride = call->out.stride, .act = attrs->act };
    return launch(c, call, node->kernel, row_grid(cdl_ceil_div(m.cols / 8, CDL_CUDA_ROW_THREADS), n), &m);
}

static bool same_types(const cdl_cuda_node *n)
{
    bool same = n->weights == n->ups;
    for (uint32_t i = 0; same && i < n->weights; i++)
        same = n->weight[i].dtype == n->up[i].dtype && n->weight[i].rows == n->up[i].rows;
    return same;
}

static cuddle_status linear_glu(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    uint32_t generated = call->rows_generated;
    CDL_TRY(same_types(node) ? glu_together(c, call, node, generated) : glu_apart(c, call, node, 0, generated, false));
    return glu_apart(c, call, node, generated, call->out.rows - generated, true);
}

static cuddle_status embed(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    const cdl_pack *p = call->in[1].pack;
    cdl_embed_args a = { .ids = call->in[0].data, .table = p->segment[0].data, .y = call->out.data, .rows = p->rows,
                         .cols = p->cols, .y_stride = call->out.stride,
                         .scale = ((const cdl_embed_attrs *)call->attrs)->scale };
    return launch(c, call, node->kernel, row_grid(call->out.rows, 1), &a);
}

static cuddle_status gather(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
{
    const cdl_call *both[] = { call, together ? node->gather : NULL };
    cdl_gather_args a = { .rows = call->in[1].data };
    uint32_t n = 0;
    for (; n < 2 && both[n]; n++) {
        a.of[n].x = both[n]->in[0].data;
        a.of[n].y = both[n]->out.data;
        a.of[n].cols = both[n]->out.cols;
        a.of[n].x_stride = both[n]->in[0].stride;
        a.of[n].y_stride = both[n]->out.stride;
    }
    return launch(c, call, node->kernel, row_grid(call->out.rows, n), &a);
}

static cuddle_status norm(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
{
    const cdl_norm_attrs *n = call->attrs;
    uint32_t dim = call->in[1].cols;
    const cdl_call *add = together ? node->add : NULL;
    cdl_norm_args a = { .x = call->in[0].data, .y = call->out.data, .w = call->in[1].data,
                        .b = call->n_in > 2 ? call->in[2].data : NULL, .dim = dim, .heads = call->in[0].cols / dim,
                        .x_stride = call->in[0].stride, .y_stride = call->out.stride, .eps = n->eps,
                        .offset = n->offset };
    if (add) {
        bool swapped = node->first && node->first->out.data == add->in[1].data;
        a.x = node->first ? node->first->in[0].data : add->in[0].data;
        a.residual = add->in[!swapped].data;
        a.sum = add->out.data;
    }
    if (add && node->first) {
        a.next = a.w;
        a.w = node->first->in[1].data;
    }
    return launch(c, call, node->kernel, row_grid(call->out.rows * a.heads, 1), &a);
}

static cuddle_status map(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    cdl_map_args a = { .x = call->in[0].data, .z = call->n_in > 1 ? call->in[1].data : NULL, .y = call->out.data,
                       .n = (uint64_t)call->out.rows * call->out.cols };
    if (call->op == CDL_OP_ACT)
        a.act = ((const cdl_act_attrs *)call->attrs)->act;
    if (call->op == CDL_OP_SCALE)
        a.factor = ((const cdl_scale_attrs *)call->attrs)->factor;
    if (call->op == CDL_OP_SOFTCAP)
        a.factor = ((const cdl_softcap_attrs *)call->attrs)->cap;
    for (uint32_t i = 0; i < call->n_in; i++)
        if (!is_dense_rows(&call->in[i]))
            return refuse(call, "rows without gaps", call->in[i].stride);
    return launch(c, call, node->kernel, row_grid((uint32_t)((a.n / 8 + CDL_CUDA_ROW_THREADS - 1)
            / CDL_CUDA_ROW_THREADS), 1), &a);
}

static cuddle_status act_mul(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    if (call->in[0].stride != call->in[1].stride)
        return refuse(call, "gate and up of one stride", call->in[1].stride);
    cdl_act_mul_args a = { .gate = call->in[0].data, .up = call->in[1].data, .y = call->out.data,
                           .cols = call->out.cols, .in_stride = call->in[0].stride, .y_stride = call->out.stride,
                           .act = ((const cdl_act_attrs *)call->attrs)->act };
    return launch(c, call, node->kernel, row_grid(cdl_ceil_div(a.cols / 8, CDL_CUDA_ROW_THREADS), call->out.rows), &a);
}

/* ---- State and attention ---- */

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

static cuddle_status rope(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    uint32_t dim = ((const cdl_rope_attrs *)call->attrs)->head_dim;
    cdl_rope_state_args a = { .q = call->in[0].data, .q_out = call->out.data, .state = { .key_dim = dim },
                              .rows = rows_of(c, 0), .q_stride = call->in[0].stride, .q_out_stride = call->out.stride,
                              .heads = call->out.cols / dim };
    set_rope(c, &a, call);
    return launch(c, call, node->kernel, row_grid(call->out.rows, 1), &a);
}

/* The rows of what a write reads; its own output has none. */
static cuddle_status state_write(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
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
    return launch(c, call, node->kernel, row_grid(call->step->rows, 1), &a);
}

/* q as it is, filled up. */
static cuddle_status fill_q(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, const cdl_state_layer *l)
{
    cdl_rope_state_args a = { .q = call->in[0].data, .q_stride = call->in[0].stride, .state = pages_of(l),
                              .positions = c->gpu.input[CDL_INPUT_POSITIONS], .rows = rows_of(c, l->group) };
    set_heads(c, &a, l, call->in[0].cols / l->key_dim);
    return launch(c, call, node->fill, row_grid(call->out.rows, 1), &a);
}

/* turned: the call before has put q where it is filled up. */
static cuddle_status attention(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool turned)
{
    const cdl_attention_attrs *t = call->attrs;
    const cdl_state_layer *l = &call->state->layers[t->layer];
    uint32_t generated = call->rows_generated, group = t->heads / l->kv_heads;
    cdl_attention_args a = { .q = call->in[0].data, .y = call->out.data, .state = pages_of(l),
                             .rows = rows_of(c, l->group), .tile_rows = c->gpu.tiles, .partial = call->workspace,
                             .q_stride = call->in[0].stride, .y_stride = call->out.stride, .heads = t->heads,
                             .splits = c->splits, .window = t->window, .bidirectional = t->bidirectional,
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
        grid decode = { n, l->kv_heads * cdl_ceil_div(group, 16), c->splits, CDL_CUDA_DECODE_THREADS, 0 };
        CDL_TRY(launch(c, call, node->kernel, decode, &a));
    }
    grid flash = { c->n_tiles, t->heads, 1, CDL_CUDA_FLASH_THREADS, flash_shared(l) };
    return launch(c, call, node->second, flash, &a);
}

cuddle_status cdl_cuda_launch(cdl_cuda *c, const cdl_call *calls, uint32_t i, bool together)
{
    const cdl_call *call = &calls[i];
    const cdl_cuda_node *node = &c->nodes[i];
    if (node->capped || (together && node->done))
        return CUDDLE_OK;
    switch (call->op) {
    case CDL_OP_EMBED:
        return embed(c, call, node);
    case CDL_OP_GATHER:
        return gather(c, call, node, together);
    case CDL_OP_RMSNORM: case CDL_OP_LAYERNORM:
        return norm(c, call, node, together);
    case CDL_OP_LINEAR:
        return linear(c, call, node, together);
    case CDL_OP_LINEAR_GLU:
        return linear_glu(c, call, node);
    case CDL_OP_ROPE:
        return rope(c, call, node);
    case CDL_OP_STATE_WRITE:
        return state_write(c, call, node, together);
    case CDL_OP_ATTENTION:
        return attention(c, call, node, together && i && c->nodes[i - 1].rope_q);
    case CDL_OP_ACT_MUL:
        return act_mul(c, call, node);
    case CDL_OP_ADD: case CDL_OP_ACT: case CDL_OP_SOFTCAP: case CDL_OP_SCALE: case CDL_OP_COUNT:
        return map(c, call, node);
    }
    return CUDDLE_OK;
}
