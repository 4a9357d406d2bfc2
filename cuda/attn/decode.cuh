/* decode.cuh - attention of generated rows over paged state: one row, up to 8 heads of one KV head, one split of the
 * slots that the row sees a block.
 *
 * Shapes:   q [T, H * D], y [T, H * Dv]; D, Dv multiples of 8 up to BUCKET. partial: see cdl_attention_args.
 *           Dynamic shared memory: cdl_cuda_decode_shared.
 * Numerics: scores, softmax and outputs in f32, weights rounded to the type before they meet the values. Splits are
 *           counted from the first page that the row sees and their size follows from how many those are, so a row's
 *           bits depend on its own sequence alone.
 * Design:   4 warps take pages in turn. Each lane copies what it will multiply, half a page in front at least, to a
 *           ring of its own in shared memory (cp.async; nobody else reads it, so nobody waits for another), each
 *           byte once, thanks to the page's layout. The registers of the scores Q K^T are, rounded, the B operand of
 *           V^T P^T, whose sums have no empty rows. The warps' sums meet in shared
 *           memory behind one barrier; the last of a row's blocks adds the splits.
 *           Pages that are full were written by earlier steps: they are on their way before the launch in front ends.
 * Source:   Flash-Decoding (Dao et al. 2023).
 * CPU twin: runtime/cpu/ref/attention.c   Proof: tests/cuda/test_attention.c */
#ifndef CDL_ATTN_DECODE_CUH
#define CDL_ATTN_DECODE_CUH

#include "attn.cuh"

namespace attn_decode {

enum { WARPS = CDL_CUDA_DECODE_THREADS / 32, HEADS = CDL_CUDA_DECODE_HEADS, AHEAD = 8 };

/* The block's part: heads [head, head + heads) of KV head k, pages [page, end), the one of `splits` splits. */
struct work {
    uint32_t row, k, head, heads, page, end, splits;
    uint32_t old;                /* pages below this one no launch of this step writes */
    const int32_t *pages;
    sight seen;
};

__device__ __forceinline__ bool work_of(work *w, const cdl_attention_args &a)
{
    const uint32_t group = a.heads / a.state.kv_heads, tiles = (group + HEADS - 1) / HEADS;
    w->row = a.first_row + blockIdx.x;
    w->pages = a.rows.pages + a.rows.tables[w->row];
    const bool first_row = !w->row || a.rows.tables[w->row - 1] != a.rows.tables[w->row];
    w->seen = sight_of(a, w->row);
    w->old = first_row && !a.bidirectional ? (w->seen.last - 1) / PAGE : 0;
    w->k = tiles == 1 ? blockIdx.y : blockIdx.y / tiles;
    const uint32_t tile = blockIdx.y - w->k * tiles;
    w->head = w->k * group + tile * HEADS;
    w->heads = min(group - tile * HEADS, (uint32_t)HEADS);

    const uint32_t first = w->seen.first / PAGE, last = (w->seen.last + PAGE - 1) / PAGE, pages = last - first;
    const uint32_t doubled = 32 - __clz((pages - 1) / (CDL_CUDA_SPLITS * WARPS)), split = WARPS << doubled;
    w->splits = (pages + split - 1) / WARPS >> doubled;
    w->page = first + blockIdx.z * split;
    w->end = min(w->page + split, last);
    return w->page < w->end;
}

/* A lane's part of a page: in steps of CHUNK dimensions of the keys, then of the values, STAGES of them under way. */
template <typename S, int D> struct ring {
    enum {
        CHUNK = D % 64 ? 32 : 64, CHUNKS = D / CHUNK, STEPS = 2 * CHUNKS, PIECES = CHUNK / 8, PIECE = 8 * S::BYTES,
        BYTES = cdl_cuda_decode_ring(D, S::BYTES), STAGES = BYTES / (CHUNK * PAGE * S::BYTES)
    };
    uint8_t *mine;
    uint32_t pitch, at_keys, at_values, key_dims, value_dim;

    __device__ __forceinline__ ring(uint8_t *shared, const cdl_attention_args &a)
    {
        const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4;
        mine = shared + threadIdx.x / 32 * BYTES + lane * PIECE;
        pitch = key_pitch<S>(a.state);
        at_keys = token_of(0, g) * pitch + j * PIECE;
        at_values = values_at<S>(a.state) + (g * PAGE + 8 * j) * S::BYTES;
        key_dims = a.state.key_dim - min(a.state.key_dim, 8 * j); /* from the lane's first on */
        value_dim = a.state.value_dim;
    }

    __device__ __forceinline__ uint8_t *at(int step, int piece) const
    {
        return mine + (step % STAGES * PIECES + piece) * 32 * PIECE;
    }

    /* page: its keys of the block's head. */
    __device__ __forceinline__ void fetch(int step, const uint8_t *page) const
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            const uint32_t d = step < CHUNKS ? step * CHUNK + i / 4 * 32 : (step - CHUNKS) * CHUNK + i * 8;
            const uint8_t *from = step < CHUNKS ? page + at_keys + i % 4 * 2 * pitch + d * S::BYTES
                                                : page + at_values + d * PAGE * S::BYTES;
            const bool wanted = d < (step < CHUNKS ? key_dims : value_dim);
            copy_async_piece<PIECE>(at(step, i), from, wanted);
        }
    }

    template <typename T> __device__ __forceinline__ uint4 piece(int step, int i) const
    {
        return S::template numbers<T>(*(const typename S::eight *)at(step, i));
    }
};

/* Softmax of a row g of a fragment so far: the greatest score, and the sum of what this lane saw. */
struct weights {
    float max, sum;

    /* Scores of 8 tokens become weights; returns what earlier sums and outputs are multiplied by. */
    __device__ __forceinline__ float step(float (&p)[8])
    {
        float most = max;
#pragma unroll
        for (int i = 0; i < 8; i++)
            most = fmaxf(most, p[i]);
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        const float base = most == -INFINITY ? 0.0f : most, factor = exp2_fast(max - base);
        max = most;
        sum *= factor;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            p[i] = exp2_fast(p[i] - base);
            sum += p[i];
        }
        return factor;
    }
};

/* A head's queries as the lane multiplies them: dimensions 32 i + 8 j of head g. */
template <typename T, int D>
__device__ __forceinline__ void load_queries(uint4 (&q)[D / 32], const cdl_attention_args &a, const work &w)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, dim = a.state.key_dim;
    const T *from = (const T *)a.q + (size_t)w.row * a.q_stride + (w.head + g) * dim + 8 * j;
#pragma unroll
    for (int i = 0; i < D / 32; i++)
        q[i] = g < w.heads && 32 * i + 8 * j < dim ? *(const uint4 *)(from + 32 * i) : make_uint4(0, 0, 0, 0);
}

/* Eight dimensions of keys of 8 tokens. One fragment of q serves both halves: heads are the rows g of low, and the rows
 * g + 8 of high; the others are of no use. */
template <typename T>
__device__ __forceinline__ void mma_keys(float (&low)[4], float (&high)[4], const uint4 &q, const uint4 &k)
{
    const uint32_t both[4] = { q.x, q.z, q.y, q.w };
    mma<T>(low, both, k.x, k.y);
    mma<T>(high, both, k.z, k.w);
}

/* o [16 dimensions, 8 heads] += the values of those dimensions x p; below, above: dimensions g and g + 8. */
template <typename T>
__device__ __forceinline__ void mma_values(float (&o)[4], const uint4 &below, const uint4 &above,
    const uint32_t (&mask)[4], const uint32_t (&p)[4])
{
    const uint32_t low[4] = { below.x & mask[0], above.x & mask[0], below.y & mask[1], above.y & mask[1] };
    const uint32_t high[4] = { below.z & mask[2], above.z & mask[2], below.w & mask[3], above.w & mask[3] };
    mma<T>(o, low, p[0], p[1]);
    mma<T>(o, high, p[2], p[3]);
}

/* The sums of a warp over its pages: of dimensions 16 m + g (+ 8), heads 2 j and 2 j + 1. */
template <int D> struct sums {
    float o[D / 16][4];
    weights w;
};

/* The page that a warp multiplies, and its next, or null. */
template <typename S, int D> struct two_pages {
    const uint8_t *now, *next;
    uint32_t start; /* slot of now */

    /* What step has freed is filled with what comes STAGES later. */
    __device__ __forceinline__ void refill(const ring<S, D> &in, int step) const
    {
        if (step + in.STAGES < in.STEPS)
            in.fetch(step + in.STAGES, now);
        else if (next)
            in.fetch(step + in.STAGES - in.STEPS, next);
        copy_commit();
    }
};

/* Scores of head g and tokens 8 j .. 8 j + 7 of the page. */
template <typename T, typename S, int D>
__device__ __forceinline__ void page_scores(float (&p)[8], const ring<S, D> &in, const uint4 (&q)[D / 32],
    const two_pages<S, D> &pages, const cdl_attention_args &a, const sight &seen)
{
    typedef ring<S, D> R;
    eight_scales by;
    if (S::SCALED)
        by.load(pages.now + scales_at<S>(a.state), S::template unit<T>());
    float low[4][4] = {}, high[4][4] = {};
#pragma unroll
    for (int step = 0; step < R::CHUNKS; step++) {
        copy_wait<R::STAGES - 1>();
#pragma unroll
        for (int i = 0; i < R::PIECES; i++)
            mma_keys<T>(low[i % 4], high[i % 4], q[step * (R::CHUNK / 32) + i / 4], in.template piece<T>(step, i));
        pages.refill(in, step);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t slot = pages.start + 8 * (threadIdx.x % 4) + i;
        p[i] = (low[i / 2][i % 2] + high[i / 2][2 + i % 2]) * (S::SCALED ? by.v[i] : 1.0f);
        p[i] = slot >= seen.first && slot < seen.last ? p[i] : -INFINITY;
    }
    scores_of(p, a);
}

/* The sums += values x weights. left: of the lane's tokens, those before the sequence's end. */
template <typename T, typename S, int D>
__device__ __forceinline__ void page_weigh(float (&o)[D / 16][4], const float (&p)[8], const ring<S, D> &in,
    const two_pages<S, D> &pages, const cdl_attention_args &a, int32_t left)
{
    typedef ring<S, D> R;
    eight_scales by;
    if (S::SCALED)
        by.load(pages.now + scales_at<S>(a.state) + PAGE * 4, S::template unit<T>());
    uint32_t mask[4], b[4];
    token_masks(mask, left); /* what lies behind the end is old */
#pragma unroll
    for (int i = 0; i < 4; i++)
        b[i] = !S::SCALED ? pack2<T>(p[2 * i], p[2 * i + 1]) : pack2<T>(2 * i < left ? p[2 * i] * by.v[2 * i] : 0.0f,
            2 * i + 1 < left ? p[2 * i + 1] * by.v[2 * i + 1] : 0.0f);
#pragma unroll
    for (int step = R::CHUNKS; step < R::STEPS; step++) {
        copy_wait<R::STAGES - 1>();
#pragma unroll
        for (int i = 0; i < R::PIECES; i += 2)
            mma_values<T>(o[(step - R::CHUNKS) * (R::CHUNK / 16) + i / 2], in.template piece<T>(step, i),
                in.template piece<T>(step, i + 1), mask, b);
        pages.refill(in, step);
    }
}

/* Sets the warp's first page on its way, behind the launches in front when one of them may write it. */
template <typename S, int D>
__device__ __forceinline__ const uint8_t *first_page(const ring<S, D> &in, const cdl_attention_args &a, const work &w)
{
    const uint32_t page = w.page + threadIdx.x / 32;
    const uint8_t *keys = page < w.end ? page_keys<S>(a.state, w.pages[page], w.k) : nullptr;
#pragma unroll 1
    for (int turn = 0; turn < 2; turn++) {
        if (turn)
            wait_for_previous();
        if (keys && turn == (page >= w.old))
#pragma unroll
            for (int step = 0; step < in.STAGES; step++) {
                in.fetch(step, keys);
                copy_commit();
            }
    }
    return keys;
}

/* now: the warp's first page. */
template <typename T, typename S, int D>
__device__ __forceinline__ void add_pages(sums<D> &r, const ring<S, D> &in, const cdl_attention_args &a, const work &w,
    const uint8_t *now)
{
    const uint32_t j = threadIdx.x % 4;
    uint32_t page = w.page + threadIdx.x / 32;
    if (page >= w.end)
        return;
    two_pages<S, D> pages = { now };
    int32_t next = page + WARPS < w.end ? w.pages[page + WARPS] : -1; /* known a page ahead */
    uint4 q[D / 32];
    load_queries<T, D>(q, a, w);
    for (; page < w.end; page += WARPS) {
        pages.start = page * PAGE;
        pages.next = next >= 0 ? page_keys<S>(a.state, next, w.k) : nullptr;
        next = page + 2 * WARPS < w.end ? w.pages[page + 2 * WARPS] : -1;
        float p[8];
        page_scores<T, S, D>(p, in, q, pages, a, w.seen);
        const float factor = r.w.step(p);
        const float by[2] = { __shfl_sync(~0u, factor, 8 * j), __shfl_sync(~0u, factor, 8 * j + 4) };
#pragma unroll
        for (int i = 0; i < D / 4; i++)
            r.o[i / 4][i % 4] *= by[i % 2];
        page_weigh<T, S, D>(r.o, p, in, pages, a, (int32_t)(w.seen.last - pages.start - 8 * j));
        pages.now = pages.next;
    }
}

/* The warps' sums in shared memory. */
template <typename S, int D> struct merged {
    enum { PITCH = D + 4 };  /* floats of a head: no bank twice when a warp stores */
    uint8_t *shared;
    float2 (*of)[HEADS];     /* a warp's greatest score and sum of each head */
    uint32_t *last;          /* of is_last */

    __device__ __forceinline__ merged(uint8_t *s)
        : shared(s), of((float2(*)[HEADS])(s + WARPS * ring<S, D>::BYTES)), last((uint32_t *)(of + WARPS))
    {
    }

    __device__ __forceinline__ float *sums_of(uint32_t warp, uint32_t head) const
    {
        return (float *)(shared + warp * ring<S, D>::BYTES) + head * PITCH;
    }

    __device__ __forceinline__ void put(sums<D> &r, uint32_t heads) const
    {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, j = lane % 4;
        static_assert(HEADS * PITCH * 4 <= ring<S, D>::BYTES, "a warp's sums stand where its pages stood");
        r.w.sum += __shfl_xor_sync(~0u, r.w.sum, 1);
        r.w.sum += __shfl_xor_sync(~0u, r.w.sum, 2); /* and every lane has read its pages */
        if (j == 0)
            of[warp][g] = make_float2(r.w.max, r.w.sum);
        if (2 * j < heads)
#pragma unroll
            for (int i = 0; i < D / 4; i++)
                sums_of(warp, 2 * j + i % 2)[i / 4 * 16 + i % 4 / 2 * 8 + g] = r.o[i / 4][i % 4];
    }

    /* Four dimensions of a head, brought to one maximum and added in warp order. */
    __device__ __forceinline__ float4 get(float *most, float *sum, uint32_t head, uint32_t d) const
    {
        *most = of[0][head].x;
#pragma unroll
        for (int i = 1; i < WARPS; i++)
            *most = fmaxf(*most, of[i][head].x);
        float4 y = make_float4(0, 0, 0, 0);
        *sum = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS; i++) {
            const float by = exp2_fast(of[i][head].x - *most);
            const float4 v = *(const float4 *)(sums_of(i, head) + d);
            *sum += of[i][head].y * by;
            y.x += v.x * by, y.y += v.y * by, y.z += v.z * by, y.w += v.w * by;
        }
        return y;
    }
};

template <typename T>
__device__ __forceinline__ void store_result(const cdl_attention_args &a, uint32_t row, uint32_t head, uint32_t d,
    const float4 &y, float sum)
{
    const uint32_t dim = y_dim(a);
    const float by = __fdividef(1.0f, sum);
    uint32_t *to = (uint32_t *)((T *)a.y + (size_t)row * a.y_stride + head * dim + d);
    if (d < dim)
        to[0] = pack2<T>(y.x * by, y.y * by);
    if (d + 2 < dim)
        to[1] = pack2<T>(y.z * by, y.w * by);
}

/* Of a row's head, counted in splits: where one's sums and where its maximum and sum of weights stand. */
__device__ __forceinline__ size_t split_of(const cdl_attention_args &a, uint32_t head, uint32_t split)
{
    return ((size_t)blockIdx.x * a.heads + head) * a.splits + split;
}

__device__ __forceinline__ float2 *partial_weights(const cdl_attention_args &a, size_t split)
{
    return (float2 *)(a.partial + (size_t)gridDim.x * a.heads * a.splits * a.state.value_dim) + split;
}

__device__ __forceinline__ float *partial_sums(const cdl_attention_args &a, size_t split)
{
    return a.partial + split * a.state.value_dim;
}

/* Four dimensions of a head: the splits brought to one maximum and added in order, AHEAD at a time. */
template <typename T>
__device__ __forceinline__ void combine(const cdl_attention_args &a, const work &w, uint32_t head, uint32_t d)
{
    const size_t first = split_of(a, head, 0);
    float most = -INFINITY, sum = 0.0f;
    float4 y = make_float4(0, 0, 0, 0);
    for (uint32_t split = 0; split < w.splits; split += AHEAD) {
        float2 of[AHEAD];
        float4 v[AHEAD];
        float before = most;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const size_t at = first + min(split + i, w.splits - 1);
            of[i] = __ldcg(partial_weights(a, at));
            v[i] = __ldcg((const float4 *)(partial_sums(a, at) + d));
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            of[i].x = split + i < w.splits ? of[i].x : -INFINITY;
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            most = fmaxf(most, of[i].x);
        before = exp2_fast(before - most);
        sum *= before;
        y.x *= before, y.y *= before, y.z *= before, y.w *= before;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const float by = exp2_fast(of[i].x - most);
            sum += of[i].y * by;
            y.x += v[i].x * by, y.y += v[i].y * by, y.z += v[i].z * by, y.w += v[i].w * by;
        }
    }
    store_result<T>(a, w.row, head, d, y, sum);
}

/* True in the block that finishes last of the row's heads; the counter is zero again then. */
__device__ __forceinline__ bool is_last(const cdl_attention_args &a, const work &w, uint32_t *last)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); /* the block's partial sums come before the count */
        *last = atomicInc(&a.counters[blockIdx.x * gridDim.y + blockIdx.y], w.splits - 1) == w.splits - 1;
        __threadfence();
    }
    __syncthreads();
    return *last;
}

} /* namespace attn_decode */

template <typename T, typename S, int D>
__device__ __forceinline__ void attention_fwd_decode(const cdl_attention_args &a)
{
    using namespace attn_decode;
    extern __shared__ uint4 shared[];
    work w;
    let_next_begin();
    if (!work_of(&w, a)) {
        wait_for_previous();
        return;
    }
    const ring<S, D> in((uint8_t *)shared, a);
    const merged<S, D> all((uint8_t *)shared);
    sums<D> r = {};
    r.w.max = -INFINITY;
    add_pages<T, S, D>(r, in, a, w, first_page(in, a, w));
    all.put(r, w.heads);
    __syncthreads();

    const uint32_t n = w.heads * (D / 4), dim = a.state.value_dim;
    for (uint32_t i = threadIdx.x; i < n; i += CDL_CUDA_DECODE_THREADS) {
        const uint32_t head = i / (D / 4), d = i % (D / 4) * 4;
        float most, sum;
        const float4 y = all.get(&most, &sum, head, d);
        if (d >= dim)
            continue;
        if (w.splits == 1) {
            store_result<T>(a, w.row, w.head + head, d, y, sum);
            continue;
        }
        const size_t at = split_of(a, w.head + head, blockIdx.z);
        *(float4 *)(partial_sums(a, at) + d) = y;
        if (d == 0)
            *partial_weights(a, at) = make_float2(most, sum);
    }
    if (w.splits == 1 || !is_last(a, w, all.last))
        return;
    for (uint32_t i = threadIdx.x; i < n; i += CDL_CUDA_DECODE_THREADS)
        if (i % (D / 4) * 4 < y_dim(a))
            combine<T>(a, w, w.head + i / (D / 4), i % (D / 4) * 4);
}

#endif
