/* cuda_linear.c - products with packed weights, and rows of a packed table, as launches. */
#include "format/repack.h"
#include "graph/cuda_call.h"

/* ---- Kernels ---- */

/* The file of cuda/gemm that holds a type's kernels, and the one that holds those by wgmma. */
static const char *module_of(cdl_dtype t, bool wgmma)
{
    switch (t) {
    case CDL_DTYPE_F16: case CDL_DTYPE_BF16:
        return wgmma ? "wgmma_dense" : "linear_dense";
    case CDL_DTYPE_Q4_0: case CDL_DTYPE_Q4_1: case CDL_DTYPE_IQ4_NL: case CDL_DTYPE_MXFP4:
        return wgmma ? "wgmma_4bit" : "linear_4bit";
    case CDL_DTYPE_Q5_0: case CDL_DTYPE_Q5_1: case CDL_DTYPE_Q8_0:
        return wgmma ? "wgmma_8bit" : "linear_8bit";
    case CDL_DTYPE_Q2_K: case CDL_DTYPE_Q3_K: case CDL_DTYPE_IQ4_XS:
        return wgmma ? "wgmma_k_low" : "linear_k_low";
    case CDL_DTYPE_I4_G32: case CDL_DTYPE_I4_G64: case CDL_DTYPE_I4_G128:
        return wgmma ? "wgmma_int4" : "linear_int4";
    default:
        return wgmma ? "wgmma_k_high" : "linear_k_high";
    }
}

/* tile: weight rows and tokens of a block */
static uint32_t prefill_shared(cdl_dtype t, uint32_t tile)
{
    return cdl_linear_prefill_shared(tile, (uint32_t)cdl_repack_step_bytes(t));
}

static bool is_dense(cdl_dtype t)
{
    return t == CDL_DTYPE_F16 || t == CDL_DTYPE_BF16;
}

static uint32_t wgmma_shared(cdl_dtype t, uint32_t kind)
{
    return cdl_wgmma_shared(kind, (uint32_t)cdl_repack_step_bytes(t), is_dense(t));
}

static cuddle_status find_wgmma(cdl_cuda *c, cdl_cuda_weight *w)
{
    static const char *const kinds[CDL_WGMMA_BLOCKS] = { "wide", "middle", "narrow", "small" };
    for (uint32_t i = 0; i < CDL_WGMMA_BLOCKS; i++)
        CDL_TRY(cdl_cuda_find(&w->wgmma[i], c, module_of(w->dtype, true), wgmma_shared(w->dtype, i),
                "linear_fwd_prefill_%s_sm90_kernel_%s_%s", kinds[i], cdl_dtype_get(w->dtype)->name,
                cdl_cuda_type_name(c)));
    return CUDDLE_OK;
}

/* Large blocks are left out where the GPU has too little shared memory for them. wgmma is of 9.0 alone. */
static cuddle_status find_prefill(cdl_cuda *c, cdl_cuda_weight *w)
{
    const char *name = cdl_dtype_get(w->dtype)->name, *type = cdl_cuda_type_name(c);
    const char *module = module_of(w->dtype, false);
    const cdl_device_facts *facts = cdl_device_get_facts(c->device);
    if (facts->major == 9 && facts->minor == 0)
        return find_wgmma(c, w);
    uint32_t large = prefill_shared(w->dtype, CDL_CUDA_PREFILL_TILE);
    if (large <= facts->shared_bytes)
        CDL_TRY(cdl_cuda_find(&w->prefill, c, module, large, "linear_fwd_prefill_kernel_%s_%s", name, type));
    return cdl_cuda_find(&w->prefill_small, c, module, prefill_shared(w->dtype, CDL_CUDA_PREFILL_SMALL),
            "linear_fwd_prefill_small_kernel_%s_%s", name, type);
}

/* At least `shared` bytes a block, and so many that no multiprocessor takes more than its share of the blocks: those
 * that begin early would crowd where the launch in front ends first. */
static uint32_t evenly_shared(const cdl_cuda *c, uint32_t shared, uint32_t blocks)
{
    enum { RESERVED = 1 << 10, PIECE = 128 }; /* of each block; what shared memory is given out in */
    const cdl_device_facts *f = cdl_device_get_facts(c->device);
    uint32_t all = f->shared_bytes + RESERVED, share = cdl_ceil_div(blocks, f->multiprocessors);
    uint32_t least = all / (share + 1) / PIECE * PIECE + PIECE - RESERVED;
    bool fits = shared + RESERVED <= all / share;
    return fits && least > shared ? least : shared;
}

/* Kernels of generated rows, allowed the most of shared memory that they ever take. */
static cuddle_status find_generated(cdl_cuda_generated *g, cdl_cuda *c, const char *module, const char *name)
{
    const char *type = cdl_cuda_type_name(c);
    uint32_t all = cdl_device_get_facts(c->device)->shared_bytes;
    CDL_TRY(cdl_cuda_find(&g->decode, c, module, all, "linear_fwd_decode_kernel_%s_%s", name, type));
    for (uint32_t i = 0; i < CDL_CUDA_MANY_KERNELS; i++)
        CDL_TRY(cdl_cuda_find(&g->many[i], c, module, all, "linear_fwd_many%u_kernel_%s_%s", 8u << i, name, type));
    return CUDDLE_OK;
}

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
        CDL_TRY(find_generated(&w->generated, c, module_of(t, false), cdl_dtype_get(t)->name));
        CDL_TRY(find_prefill(c, w));
    }
    return CUDDLE_OK;
}

size_t cdl_cuda_up_bytes(const cdl_call *call)
{
    return call->op == CDL_OP_LINEAR_GLU ? (size_t)call->out.rows * call->out.cols * sizeof(uint16_t) : 0;
}

/* Of partial sums: 64 tokens of each chain of all pairs of row tiles, of which each segment may have some more. */
size_t cdl_cuda_many_bytes(uint32_t rows)
{
    enum { MOST = 16 << 20 };
    size_t pairs = cdl_ceil_div(rows, 32) + CDL_CUDA_LINEAR_SEGMENTS * (CDL_CUDA_MANY_PAIRS + 1);
    size_t bytes = pairs * cdl_linear_chains(false) * 64 * 128;
    return bytes <= MOST ? bytes : 0;
}

/* Rows [row, row + n) of a product with one stretch of weights, into `out`. */
static cdl_linear_args linear_args(const cdl_call *call, const cdl_view *out, const cdl_cuda_weight *w, uint32_t row,
        uint32_t n)
{
    return (cdl_linear_args){
        .x = cdl_cuda_row_of(&call->in[0], row, 0), .weight = w->data, .y = cdl_cuda_row_of(out, row, w->first_row),
        .tokens = n, .rows = w->rows, .cols = call->in[0].cols, .x_stride = call->in[0].stride,
        .y_stride = out->stride, .act = CDL_CUDA_ACT_NONE, .y_f32 = out->dtype == CDL_DTYPE_F32 };
}

/* Products of a step as large as it gets, where cuBLASLt does them: what it lacks is found when the engine opens. */
static cuddle_status warm_up(cdl_cuda *c, const cdl_call *call, const cdl_cuda_weight *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cdl_linear_args a = linear_args(call, &call->out, &w[i], 0, call->out.rows);
        if (cdl_cuda_is_fast(c, &w[i], &a))
            CDL_TRY(cdl_cuda_fast_warm_up(c, call, &a));
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

cuddle_status cdl_cuda_prepare_linear(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    CDL_TRY(prepare_weights(c, call->in[1].pack, node->weight, &node->weights));
    if (call->op == CDL_OP_LINEAR_GLU) {
        CDL_TRY(prepare_weights(c, call->in[2].pack, node->up, &node->ups));
        CDL_TRY(cdl_cuda_find_op(&node->kernel, c, "act_mul"));
    }
    CDL_TRY(warm_up(c, call, node->weight, node->weights));
    CDL_TRY(warm_up(c, call, node->up, node->ups));
    return has_one_type(node) ? CUDDLE_OK : find_generated(&node->mixed, c, "linear_mixed", "mixed");
}

cuddle_status cdl_cuda_prepare_embed(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node)
{
    cdl_dtype t = cdl_cuda_weight_type(&c->base, call->in[1].pack->segment[0].dtype);
    return cdl_cuda_find(&node->kernel, c, module_of(t, false), 0, "embed_fwd_kernel_%s_%s", cdl_dtype_get(t)->name,
            cdl_cuda_type_name(c));
}

/* ---- Products ---- */

static cdl_cuda_grid prefill_grid(const cdl_linear_args *a, cdl_dtype t, uint32_t tile, uint32_t threads)
{
    return (cdl_cuda_grid){ cdl_ceil_div(a->tokens, tile), cdl_ceil_div(a->rows, tile), 1, threads,
                            prefill_shared(t, tile) };
}

/* Large blocks, unless there are so few that small ones are done sooner. On an H200 a large block takes as long as
 * three small ones of the same multiprocessor: 175 us for 1 and 235 for 4 each ([4096 x 14336] x 512, Q4_K), 60 and 32
 * for 1 each ([4096 x 4096] x 128). */
static cuddle_status launch_prefill(cdl_cuda *c, const cdl_call *call, const cdl_cuda_weight *w,
        const cdl_linear_args *a)
{
    enum { SMALLS = 3 };
    uint32_t all = cdl_device_get_facts(c->device)->multiprocessors;
    cdl_cuda_grid large = prefill_grid(a, w->dtype, CDL_CUDA_PREFILL_TILE, CDL_CUDA_PREFILL_THREADS);
    cdl_cuda_grid small = prefill_grid(a, w->dtype, CDL_CUDA_PREFILL_SMALL, CDL_CUDA_PREFILL_SMALL_THREADS);
    bool fits = w->prefill && SMALLS * cdl_ceil_div(large.x * large.y, all) <= cdl_ceil_div(small.x * small.y, all);
    return cdl_cuda_start(c, call, fits ? w->prefill : w->prefill_small, fits ? large : small, a);
}

/* In the blocks that are done soonest: in rounds of one for each multiprocessor. */
static cuddle_status launch_wgmma(cdl_cuda *c, const cdl_call *call, const cdl_cuda_weight *w,
        const cdl_linear_args *a)
{
    uint32_t all = cdl_device_get_facts(c->device)->multiprocessors, kind = 0;
    uint32_t least = UINT32_MAX;
    cdl_cuda_grid g = { 0 };
    for (uint32_t i = 0; i < CDL_WGMMA_BLOCKS; i++) {
        const cdl_wgmma_block *b = &cdl_wgmma_block_of[i];
        uint32_t x = cdl_ceil_div(a->tokens, b->tokens), y = cdl_ceil_div(a->rows, b->rows);
        uint32_t time = cdl_ceil_div(x * y, all) * b->each;
        time = time > b->alone ? time : b->alone;
        if (time < least) {
            least = time;
            kind = i;
            g = (cdl_cuda_grid){ x, y, 1, 2 * b->rows, wgmma_shared(w->dtype, i) };
        }
    }
    return cdl_cuda_start(c, call, w->wgmma[kind], g, a);
}

/* Blocks of `each` weight rows that the product's weights take. */
static uint32_t row_blocks(const cdl_linear_args *a, uint32_t each)
{
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < a->n_segments; i++)
        blocks += cdl_ceil_div(a->segment[i].rows, each);
    return a->n_segments ? blocks : cdl_ceil_div(a->rows, each);
}

/* What a plan costs in cycles, by fits of an H100: a step of 64 columns takes a warp so long when it is alone, and as
 * many warps of a scheduler the sum of theirs; x of a block comes at 64 bytes a cycle; a pair's chains are added one
 * after another, by the last block when they are split. */
static uint64_t plan_cost(const cdl_device_facts *f, const cdl_linear_many *m, const cdl_linear_args *a,
        uint32_t warps_max)
{
    static const uint32_t alone[CDL_CUDA_MANY_KERNELS] = { 1250, 1500, 2250, 3000 };
    static const uint32_t each[CDL_CUDA_MANY_KERNELS] = { 480, 620, 870, 1300 };
    enum { SPLITS = 5000, BYTES = 64, ADDED_BYTES = 40, CHAIN = 60, CHAIN_TOKEN = 6 };
    uint32_t i = cdl_linear_many_kernel(m->tokens), warps = m->threads / 32, all = cdl_linear_chains(!!a->up);
    uint32_t blocks = row_blocks(a, m->pairs * (a->up ? 16 : 32)) * m->splits * cdl_ceil_div(a->tokens, m->tokens);
    uint32_t there = cdl_ceil_div(blocks, f->multiprocessors), fit = warps_max / warps;
    uint32_t steps = cdl_ceil_div(cdl_ceil_div(a->cols, 64), all);
    fit = f->shared_bytes / m->shared < fit ? f->shared_bytes / m->shared : fit;
    fit = there < fit ? there : fit;
    uint64_t busy = (uint64_t)cdl_ceil_div(fit * warps, 4) * each[i], x = fit * m->chains * m->tokens * 128 / BYTES;
    uint64_t step = (busy > alone[i] ? busy : alone[i]) + x;
    uint64_t added = m->splits > 1 ? SPLITS + all * m->pairs * m->tokens * 128 / ADDED_BYTES
                   : all * (CHAIN + CHAIN_TOKEN * m->tokens);
    return cdl_ceil_div(there, fit) * (all / m->splits / m->chains * steps * step + added);
}

/* Whether blocks may share chains: only where rows are few, as all partial sums have their room. */
static bool may_split(const cdl_call *call, const cdl_linear_args *a)
{
    return call->op == CDL_OP_LINEAR && a->tokens <= 64 && cdl_cuda_many_bytes(a->rows);
}

/* Of the weights: what 64 columns of 16 rows take of the greediest type, columns of a tile (0: of several types). */
typedef struct {
    uint32_t step_bytes, columns;
} plan_limits;

/* `best` with the cheapest numbers for blocks of m->tokens; least: what it costs. */
static void plan_of(cdl_linear_many *best, uint64_t *least, cdl_linear_many *m, const cdl_device_facts *f,
        const cdl_linear_args *a, uint32_t splits_max, plan_limits most)
{
    uint32_t all = cdl_linear_chains(!!a->up), warps_max = cdl_linear_many_warps(m->tokens, most.columns);
    for (m->splits = 1; m->splits <= splits_max; m->splits *= 2)
        for (m->chains = all / m->splits; m->chains; m->chains /= 2)
            for (m->pairs = 1; m->pairs <= CDL_CUDA_MANY_PAIRS; m->pairs++) {
                cdl_linear_many_size(m, most.step_bytes, all);
                if (m->shared > f->shared_bytes || m->pairs * m->chains > warps_max)
                    break;
                uint64_t cost = plan_cost(f, m, a, warps_max);
                if (cost < *least) {
                    *least = cost;
                    *best = *m;
                }
            }
}

/* The cheapest plan. Few weight rows leave multiprocessors idle, so that blocks of fewer tokens are tried as well. */
static cdl_linear_many many_plan(const cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a,
        plan_limits limits)
{
    const cdl_device_facts *f = cdl_device_get_facts(c->device);
    uint32_t most = cdl_linear_many_tokens(a->tokens);
    bool small = row_blocks(a, a->up ? 16 : 32) <= f->multiprocessors;
    cdl_linear_many best = { .shared = 0 }, m = { .tokens = small ? 8 : most };
    uint64_t least = UINT64_MAX;
    for (; m.tokens <= most; m.tokens *= 2)
        plan_of(&best, &least, &m, f, a, may_split(call, a) ? cdl_linear_chains(!!a->up) : 1, limits);
    return best;
}

/* A product of generated rows. t: the weights' type that a block of few rows must have room for; step_bytes: see
 * plan_limits. */
static cuddle_status launch_generated(cdl_cuda *c, const cdl_call *call, const cdl_cuda_generated *g, cdl_dtype t,
        uint32_t step_bytes, cdl_linear_args *a)
{
    uint32_t cols, bytes = cdl_repack_tile_bytes(t, &cols), tiles = row_blocks(a, CDL_CUDA_LINEAR_ROWS);
    if (a->tokens <= cdl_linear_few(bytes, cols)) {
        uint32_t shared = cdl_linear_decode_shared(bytes, cols, a->tokens, !!a->up);
        cdl_cuda_grid grid = { tiles, 1, 1, cdl_linear_chains(!!a->up) * 32, evenly_shared(c, shared, tiles) };
        return cdl_cuda_start(c, call, g->decode, grid, a);
    }
    cdl_linear_many m = many_plan(c, call, a, (plan_limits){ step_bytes, a->n_segments > 1 ? 0 : cols });
    a->pairs = m.pairs;
    a->splits = m.splits;
    a->partial = m.splits > 1 ? call->workspace : NULL;
    a->counters = (uint32_t *)c->counters;
    cdl_cuda_grid grid = { row_blocks(a, m.pairs * (a->up ? 16 : 32)), cdl_ceil_div(a->tokens, m.tokens), m.splits,
                           m.threads, m.shared };
    return cdl_cuda_start(c, call, g->many[cdl_linear_many_kernel(m.tokens)], grid, a);
}

static cuddle_status launch_product(cdl_cuda *c, const cdl_call *call, const cdl_cuda_weight *w, bool prompt,
        cdl_linear_args *a)
{
    if (!prompt)
        return launch_generated(c, call, &w->generated, w->dtype, (uint32_t)cdl_repack_step_bytes(w->dtype), a);
    if (cdl_cuda_is_fast(c, w, a))
        return cdl_cuda_fast(c, call, a);
    return w->wgmma[0] ? launch_wgmma(c, call, w, a) : launch_prefill(c, call, w, a);
}

/* The same with what LINEAR adds to a product; act: the call that follows it, or NULL. */
static cdl_linear_args whole_args(const cdl_call *call, const cdl_cuda_node *node, const cdl_cuda_weight *w,
        const cdl_call *act, uint32_t row, uint32_t n)
{
    const cdl_linear_attrs *attrs = call->attrs;
    const cdl_view *residual = attrs->has_residual ? &call->in[2 + attrs->has_bias] : NULL;
    cdl_linear_args a = linear_args(call, act ? &act->out : &call->out, w, row, n);
    a.bias = attrs->has_bias ? (const float *)call->in[2].data + w->first_row : NULL;
    a.residual = residual ? cdl_cuda_row_of(residual, row, w->first_row) : NULL;
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
    const cdl_cuda_weight *w = &node->weight[0];
    bool mixed = node->mixed.decode != NULL;
    uint32_t step_bytes = 0;
    a.rows = 0;
    a.n_segments = node->weights;
    for (uint32_t i = 0; i < node->weights; i++) {
        uint32_t bytes = (uint32_t)cdl_repack_step_bytes(w[i].dtype);
        a.segment[i] = (cdl_linear_segment){ w[i].data, w[i].rows, w[i].dtype };
        a.rows += w[i].rows;
        step_bytes = bytes > step_bytes ? bytes : step_bytes;
    }
    return launch_generated(c, call, mixed ? &node->mixed : &w->generated, mixed ? CDL_DTYPE_Q6_K : w->dtype,
            step_bytes, &a);
}

cuddle_status cdl_cuda_linear(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node, bool together)
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

/* ---- Gate and up ---- */

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
    cdl_act_mul_args m = { .gate = cdl_cuda_row_of(&call->out, row, 0), .up = cdl_cuda_row_of(&up, row, 0),
                           .y = cdl_cuda_row_of(&call->out, row, 0), .cols = call->out.cols,
                           .in_stride = call->out.stride, .y_stride = call->out.stride, .act = attrs->act };
    cdl_cuda_grid g = cdl_cuda_row_grid(cdl_ceil_div(m.cols / 8, CDL_CUDA_ROW_THREADS), n);
    return cdl_cuda_start(c, call, node->kernel, g, &m);
}

static bool same_types(const cdl_cuda_node *n)
{
    bool same = n->weights == n->ups;
    for (uint32_t i = 0; same && i < n->weights; i++)
        same = n->weight[i].dtype == n->up[i].dtype && n->weight[i].rows == n->up[i].rows;
    return same;
}

cuddle_status cdl_cuda_linear_glu(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    uint32_t generated = call->rows_generated;
    CDL_TRY(same_types(node) ? glu_together(c, call, node, generated) : glu_apart(c, call, node, 0, generated, false));
    return glu_apart(c, call, node, generated, call->out.rows - generated, true);
}

/* ---- Rows of a table ---- */

cuddle_status cdl_cuda_embed(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node)
{
    const cdl_pack *p = call->in[1].pack;
    cdl_embed_args a = { .ids = call->in[0].data, .table = p->segment[0].data, .y = call->out.data, .rows = p->rows,
                         .cols = p->cols, .y_stride = call->out.stride,
                         .scale = ((const cdl_embed_attrs *)call->attrs)->scale };
    return cdl_cuda_start(c, call, node->kernel, cdl_cuda_row_grid(call->out.rows, 1), &a);
}
