/* cuda_fast.c - large products of prompt rows with dense weights by cuBLASLt (cuddle_engine_opts.fast).
 *
 * Generated rows keep their kernel, and so do few prompt rows: both are bound by the reading of weights, as a GPU
 * multiplies and adds some 150 (A100) to 300 (H100) times for each byte that it reads, and a row of 16-bit weights
 * needs one a byte. Kernels and library read the same copy (cuda/gemm/README.md). What follows the sums, but a
 * residual, is done by linear_fwd_finish. */
#include "format/repack.h"
#include "graph/cuda_call.h"

enum { ROWS_LEAST = 128, ALIGN = 256 };

/* ---- Memory ---- */

static bool has_dense(const cdl_cuda *c, const cdl_view *weight)
{
    for (uint32_t i = 0; i < weight->pack->n; i++)
        if (cdl_cuda_weight_type(&c->base, weight->pack->segment[i].dtype) == c->base.activation)
            return true;
    return false;
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t cdl_cuda_fast_bytes(const cdl_cuda *c, const cdl_call *call, size_t before)
{
    bool product = call->op == CDL_OP_LINEAR || call->op == CDL_OP_LINEAR_GLU;
    if (!c->cublaslt || !product || call->out.rows < ROWS_LEAST)
        return before;
    bool dense = has_dense(c, &call->in[1]) || (call->op == CDL_OP_LINEAR_GLU && has_dense(c, &call->in[2]));
    return dense ? aligned(before) + cdl_cublaslt_workspace_bytes(c->cublaslt) : before;
}

/* Behind what else the call has there. */
static void *workspace_of(const cdl_call *call)
{
    return (uint8_t *)call->workspace + aligned(cdl_cuda_up_bytes(call));
}

/* ---- Products ---- */

static bool is_aligned(const void *p, size_t stride_bytes)
{
    return (uintptr_t)p % 16 == 0 && stride_bytes % 16 == 0;
}

/* The library adds a residual to the sums, as y may be its place: only where nothing but a bias is added too. */
static bool takes_residual(const cdl_linear_args *a)
{
    return !a->residual || (a->act == CDL_CUDA_ACT_NONE && !a->y_f32
        && is_aligned(a->residual, a->residual_stride * sizeof(uint16_t)));
}

bool cdl_cuda_is_fast(const cdl_cuda *c, const cdl_cuda_weight *w, const cdl_linear_args *a)
{
    return c->cublaslt && w->dtype == c->base.activation && a->tokens >= ROWS_LEAST && takes_residual(a)
        && is_aligned(a->x, a->x_stride * sizeof(uint16_t)) && is_aligned(a->weight, 0)
        && is_aligned(a->y, a->y_stride * (a->y_f32 ? sizeof(float) : sizeof(uint16_t)));
}

static cdl_cublaslt_product product_of(const cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a)
{
    int type = c->base.activation == CDL_DTYPE_F16 ? CDL_CUBLASLT_F16 : CDL_CUBLASLT_BF16;
    return (cdl_cublaslt_product){
        .x = a->x, .weight = a->weight, .y = a->y, .workspace = workspace_of(call), .tokens = a->tokens,
        .rows = a->rows, .cols = a->cols, .x_stride = a->x_stride, .weight_stride = cdl_repack_pitch(a->cols),
        .y_stride = a->y_stride, .add = a->residual, .add_stride = a->residual_stride, .type = type,
        .y_type = a->y_f32 ? CDL_CUBLASLT_F32 : type, .node = call->name };
}

cuddle_status cdl_cuda_fast_warm_up(cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a)
{
    cdl_cublaslt_product p = product_of(c, call, a);
    return cdl_cublaslt_warm_up(c->cublaslt, &c->stream, &p);
}

cuddle_status cdl_cuda_fast(cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a)
{
    cdl_cublaslt_product p = product_of(c, call, a);
    cdl_linear_args rest = *a;
    rest.residual = NULL;
    CDL_TRY(cdl_cublaslt_multiply(c->cublaslt, &c->stream, &p));
    c->launches++;
    if (!a->bias && a->act == CDL_CUDA_ACT_NONE && a->softcap <= 0)
        return CUDDLE_OK;
    cdl_cuda_grid g = cdl_cuda_row_grid(cdl_ceil_div(a->rows, CDL_CUDA_ROW_THREADS), a->tokens);
    return cdl_cuda_start(c, call, c->finish, g, &rest);
}
