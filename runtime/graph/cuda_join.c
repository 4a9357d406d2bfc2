/* cuda_join.c - which calls of a step go together in one launch, found when the engine opens. */
#include <string.h>

#include "graph/cuda_call.h"

/* ---- What may be written while what is read ---- */

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

/* ---- Calls that go together ---- */

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

cuddle_status cdl_cuda_join(cdl_cuda *c, const cdl_call *calls, uint32_t i)
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
