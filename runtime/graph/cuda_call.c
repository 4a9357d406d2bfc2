/* cuda_call.c - a call as launches: what the kernels take, which kernels, the ops that are one row or one element at
 * a time. Products stand in cuda_linear.c, the state and attention in cuda_attention.c. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "graph/cuda_call.h"

/* ---- What the kernels take ---- */

cuddle_status cdl_cuda_refuse(const cdl_call *c, const char *what, uint32_t value)
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
            return cdl_cuda_refuse(c, "rows of a multiple of 8 elements", c->in[i].cols);
    if (c->out.cols % 8 && c->out.dtype != CDL_DTYPE_F32)
        return cdl_cuda_refuse(c, "rows of a multiple of 8 elements", c->out.cols);
    return CUDDLE_OK;
}

static cuddle_status check_head(const cdl_call *c, uint32_t dim)
{
    return dim % 2 || dim > 256 ? cdl_cuda_refuse(c, "heads of an even number of elements up to 256", dim) : CUDDLE_OK;
}

cuddle_status cdl_cuda_check(const cdl_backend *b, const cdl_call *c)
{
    enum { GRID_Y_MAX = 65535 }; /* rows lie along y in some grids */
    (void)b;
    if (c->out.rows > GRID_Y_MAX)
        return cdl_cuda_refuse(c, "at most 65535 tokens a step", c->out.rows);
    switch (c->op) {
    case CDL_OP_STATE_WRITE: {
        const cdl_state_layer *l = &c->state->layers[((const cdl_state_attrs *)c->attrs)->layer];
        CDL_TRY(check_head(c, l->value_dim));
        return check_head(c, l->key_dim);
    }
    case CDL_OP_ROPE:
        return check_head(c, ((const cdl_rope_attrs *)c->attrs)->head_dim);
    case CDL_OP_RMSNORM:
        return c->in[1].cols % 8 ? cdl_cuda_refuse(c, "norms of a multiple of 8 elements", c->in[1].cols) : CUDDLE_OK;
    case CDL_OP_SOFTCAP: /* of logits: the product that makes them does it */
        return c->out.dtype == CDL_DTYPE_F32 ? CUDDLE_OK : check_rows(c);
    case CDL_OP_SCALE:
        if (c->out.dtype == CDL_DTYPE_F32)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "op scale (%s): CUDA's kernels do not scale logits",
                    c->name);
        return check_rows(c);
    default:
        return check_rows(c);
    }
}

size_t cdl_cuda_scratch_bytes(const cdl_backend *b, const cdl_call *c)
{
    if (c->op == CDL_OP_ATTENTION)
        return cdl_cuda_attention_bytes(c);
    size_t fast = cdl_cuda_fast_bytes((const cdl_cuda *)b, c, cdl_cuda_up_bytes(c));
    size_t many = c->op == CDL_OP_LINEAR ? cdl_cuda_many_bytes(c->out.cols) : 0;
    return fast > many ? fast : many;
}

/* ---- Kernels ---- */

const char *cdl_cuda_type_name(const cdl_cuda *c)
{
    return cdl_dtype_get(c->base.activation)->name;
}

cuddle_status cdl_cuda_find(const cdl_cuda_kernel **out, cdl_cuda *c, const char *module, uint32_t shared_bytes,
        const char *fmt, ...)
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

cuddle_status cdl_cuda_find_op(const cdl_cuda_kernel **out, cdl_cuda *c, const char *op)
{
    return cdl_cuda_find(out, c, op, 0, "%s_fwd_kernel_%s", op, cdl_cuda_type_name(c));
}

/* ---- Preparing ---- */

static cuddle_status prepare_call(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    switch (call->op) {
    case CDL_OP_EMBED:
        return cdl_cuda_prepare_embed(c, call, node);
    case CDL_OP_GATHER:
        return cdl_cuda_find(&node->kernel, c, "gather", 0, "gather_fwd_kernel_16");
    case CDL_OP_LINEAR: case CDL_OP_LINEAR_GLU:
        return cdl_cuda_prepare_linear(c, call, node);
    case CDL_OP_STATE_WRITE:
        return cdl_cuda_prepare_write(c, call, node);
    case CDL_OP_ROPE:
        return cdl_cuda_find_op(&node->kernel, c, "rope_state");
    case CDL_OP_ATTENTION:
        return cdl_cuda_prepare_attention(c, call, node);
    default:
        return cdl_cuda_find_op(&node->kernel, c, cdl_op_get(call->op)->name);
    }
}

cuddle_status cdl_cuda_prepare(cdl_backend *b, const cdl_call *calls, uint32_t n)
{
    cdl_cuda *c = (cdl_cuda *)b;
    c->n_nodes = n;
    c->nodes = cdl_mem_zalloc(n, sizeof *c->nodes);
    if (!c->nodes)
        return cdl_status_nomem("the calls of a step");
    for (uint32_t i = 0; i < n; i++)
        CDL_TRY(cdl_cuda_join(c, calls, i));
    if (c->cublaslt)
        CDL_TRY(cdl_cuda_find(&c->finish, c, "linear_finish", 0, "linear_fwd_finish_kernel_%s", cdl_cuda_type_name(c)));
    for (uint32_t i = 0; i < n; i++)
        if (!c->nodes[i].capped)
            CDL_TRY(prepare_call(c, &calls[i], &c->nodes[i]));
    CDL_TRY(cdl_cuda_attention_open(c, calls, n));
    return cdl_cuda_find(&c->lists.kernel, c, "sample", 0, "sample_fwd_kernel_f32");
}

/* ---- Launching ---- */

cuddle_status cdl_cuda_start(cdl_cuda *c, const cdl_call *call, const cdl_cuda_kernel *k, cdl_cuda_grid g,
        const void *args)
{
    cdl_launch l = { .function = k->function, .kernel = k->name, .node = call->name, .rows = call->out.rows,
                     .cols = call->out.cols, .grid = { g.x, g.y, g.z }, .threads = g.threads,
                     .shared_bytes = g.shared, .args = args };
    c->launches += g.x && g.y && g.z;
    return cdl_stream_launch(&c->stream, &l);
}

static bool is_dense_rows(const cdl_view *v)
{
    return v->stride == v->cols;
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
    return cdl_cuda_start(c, call, node->kernel, cdl_cuda_row_grid(call->out.rows, n), &a);
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
    return cdl_cuda_start(c, call, node->kernel, cdl_cuda_row_grid(call->out.rows * a.heads, 1), &a);
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
            return cdl_cuda_refuse(call, "rows without gaps", call->in[i].stride);
    uint64_t blocks = (a.n / 8 + CDL_CUDA_ROW_THREADS - 1) / CDL_CUDA_ROW_THREADS;
    return cdl_cuda_start(c, call, node->kernel, cdl_cuda_row_grid((uint32_t)blocks, 1), &a);
}

static cuddle_status act_mul(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    if (call->in[0].stride != call->in[1].stride)
        return cdl_cuda_refuse(call, "gate and up of one stride", call->in[1].stride);
    cdl_act_mul_args a = { .gate = call->in[0].data, .up = call->in[1].data, .y = call->out.data,
                           .cols = call->out.cols, .in_stride = call->in[0].stride, .y_stride = call->out.stride,
                           .act = ((const cdl_act_attrs *)call->attrs)->act };
    cdl_cuda_grid g = cdl_cuda_row_grid(cdl_ceil_div(a.cols / 8, CDL_CUDA_ROW_THREADS), call->out.rows);
    return cdl_cuda_start(c, call, node->kernel, g, &a);
}

cuddle_status cdl_cuda_launch(cdl_cuda *c, const cdl_call *calls, uint32_t i, bool together)
{
    const cdl_call *call = &calls[i];
    const cdl_cuda_node *node = &c->nodes[i];
    if (node->capped || (together && node->done))
        return CUDDLE_OK;
    switch (call->op) {
    case CDL_OP_EMBED:
        return cdl_cuda_embed(c, call, node);
    case CDL_OP_GATHER:
        return gather(c, call, node, together);
    case CDL_OP_RMSNORM: case CDL_OP_LAYERNORM:
        return norm(c, call, node, together);
    case CDL_OP_LINEAR:
        return cdl_cuda_linear(c, call, node, together);
    case CDL_OP_LINEAR_GLU:
        return cdl_cuda_linear_glu(c, call, node);
    case CDL_OP_ROPE:
        return cdl_cuda_rope(c, call, node);
    case CDL_OP_STATE_WRITE:
        return cdl_cuda_state_write(c, call, node, together);
    case CDL_OP_ATTENTION:
        return cdl_cuda_attention(c, call, node, together && i && c->nodes[i - 1].rope_q);
    case CDL_OP_ACT_MUL:
        return act_mul(c, call, node);
    case CDL_OP_ADD: case CDL_OP_ACT: case CDL_OP_SOFTCAP: case CDL_OP_SCALE: case CDL_OP_COUNT:
        return map(c, call, node);
    }
    return CUDDLE_OK;
}
