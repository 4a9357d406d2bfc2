/* decode.cuh - attention of generated rows over paged state: one row, the heads of one KV head, one split of slots
 * a block.
 *
 * Shapes:   q [T, H * D], y [T, H * Dv]; D, Dv multiples of 8 up to BUCKET. partial: see cdl_attention_args.
 * Numerics: scores, softmax and outputs in f32, weights rounded to the type before they meet the values. Splits are
 *           256 slots counted from the sequence's start, so a row's bits depend on its own sequence alone.
 * Design:   up to 16 heads of a group fill the mma's rows; 4 warps take pages in turn; keys and values go from
 *           global memory into fragments by 16-byte loads, without shared memory, thanks to the page's layout. Each
 *           byte is read once. The last of a row's blocks adds the splits.
 * Source:   Flash-Decoding (Dao et al. 2023).
 * CPU twin: runtime/cpu/ref/attention.c   Proof: tests/cuda/test_attention.c */
#ifndef CDL_ATTN_DECODE_CUH
#define CDL_ATTN_DECODE_CUH

#include "attn.cuh"

namespace attn_decode {

enum { WARPS = CDL_CUDA_DECODE_THREADS / 32, HEADS = 16, SPLIT = CDL_CUDA_SPLIT_TOKENS };

/* The block's part: heads [head, head + heads) of KV head k, slots [first, last) of the split. */
struct work {
    uint32_t row, k, head, heads, first, last;
    bool alone;                /* the row has this split only */
};

__device__ __forceinline__ bool work_of(work *w, const cdl_attention_args &a)
{
    const uint32_t group = a.heads / a.state.kv_heads, tiles = (group + HEADS - 1) / HEADS;
    w->row = a.first_row + blockIdx.x;
    w->k = blockIdx.y / tiles;
    w->head = w->k * group + blockIdx.y % tiles * HEADS;
    w->heads = min(group - blockIdx.y % tiles * HEADS, (uint32_t)HEADS);
    const sight s = sight_of(a, w->row);
    const uint32_t start = blockIdx.z * SPLIT;
    w->first = max(start, s.first);
    w->last = min(start + SPLIT, s.last);
    w->alone = s.first / SPLIT == (s.last - 1) / SPLIT;
    return w->first < w->last;
}

/* Scores of the 32 slots of a page. */
template <typename T, typename S, int D>
__device__ __forceinline__ void scores(float (&s)[4][4], const cdl_attention_args &a, const work &w, const uint4 *q,
    const uint8_t *keys, uint32_t start)
{
    const uint32_t pitch = key_pitch<S>(a.state);
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, dim = a.state.key_dim;
#pragma unroll
    for (int i = 0; i < 16; i++)
        s[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int kk = 0; kk < D / 32; kk++) {
        const uint4 top = q[swizzled<D>(g, 4 * kk + j)], low = q[swizzled<D>(g + 8, 4 * kk + j)];
        const uint32_t even[4] = { top.x, low.x, top.y, low.y }, odd[4] = { top.z, low.z, top.w, low.w };
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const uint32_t token = token_of(t, g), slot = start + token, d = 32 * kk + 8 * j;
            uint4 k = make_uint4(0, 0, 0, 0);
            if (slot >= w.first && slot < w.last && d < dim)
                k = S::template numbers<T>(*(const typename S::eight *)(keys + token * pitch + d * S::BYTES));
            mma<T>(s[t], even, k.x, k.y);
            mma<T>(s[t], odd, k.z, k.w);
        }
    }
    if (S::SCALED) {
        eight_scales by;
        by.load(keys + scales_at<S>(a.state), S::template unit<T>());
        times(s, by);
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const uint32_t slot = start + token_of(i / 4, 2 * j + i % 2);
        const bool seen = slot >= w.first && slot < w.last;
        s[i / 4][i % 4] = seen ? score_of(a, s[i / 4][i % 4]) : -INFINITY;
    }
}

template <typename T, typename S, int D>
__device__ __forceinline__ void weigh(float (&o)[D / 8][4], const float (&p)[4][4], const uint8_t *values, uint32_t dim,
    int32_t left)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4;
    const uint32_t even[4] = { pack2<T>(p[0][0], p[0][1]), pack2<T>(p[0][2], p[0][3]), pack2<T>(p[1][0], p[1][1]),
        pack2<T>(p[1][2], p[1][3]) };
    const uint32_t odd[4] = { pack2<T>(p[2][0], p[2][1]), pack2<T>(p[2][2], p[2][3]), pack2<T>(p[3][0], p[3][1]),
        pack2<T>(p[3][2], p[3][3]) };
    uint32_t mask[4];
    token_masks(mask, left - (int32_t)(8 * j)); /* what lies behind the sequence's end is old */
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (8 * n < dim && left > (int32_t)(8 * j))
            v = S::template numbers<T>(*(const typename S::eight *)(values + ((8 * n + g) * PAGE + 8 * j) * S::BYTES));
        mma<T>(o[n], even, v.x & mask[0], v.y & mask[1]);
        mma<T>(o[n], odd, v.z & mask[2], v.w & mask[3]);
    }
}

/* The warps' outputs brought to one maximum and added in warp order. */
template <int D> struct merged {
    float max[WARPS][HEADS], sum[WARPS][HEADS];
    float o[HEADS][D + 8];
    uint32_t last;               /* of is_last */

    __device__ void add(float (&part)[D / 8][4], const softmax &m)
    {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, j = lane % 4;
#pragma unroll
        for (int r = 0; r < 2; r++)
            if (j == 0) {
                max[warp][g + 8 * r] = m.max[r];
                sum[warp][g + 8 * r] = m.sum[r];
            }
        __syncthreads();
        const float by[2] = { exp2_fast(m.max[0] - most(g)), exp2_fast(m.max[1] - most(g + 8)) };
        for (int turn = 0; turn < WARPS; turn++) {
            if (turn == warp)
#pragma unroll
                for (int i = 0; i < D / 2; i++) {
                    float *at = &o[g + i % 4 / 2 * 8][i / 4 * 8 + 2 * j + i % 2];
                    *at = part[i / 4][i % 4] * by[i % 4 / 2] + (turn ? *at : 0.0f);
                }
            __syncthreads();
        }
    }

    __device__ __forceinline__ float most(uint32_t head) const
    {
        float m = max[0][head];
        for (int w = 1; w < WARPS; w++)
            m = fmaxf(m, max[w][head]);
        return m;
    }

    __device__ __forceinline__ float total(uint32_t head) const
    {
        float t = 0.0f;
        for (int w = 0; w < WARPS; w++)
            t += sum[w][head] * exp2_fast(max[w][head] - most(head));
        return t;
    }
};

__device__ __forceinline__ float *partial_of(const cdl_attention_args &a, uint32_t row, uint32_t head, uint32_t split)
{
    return a.partial + (((size_t)row * a.heads + head) * a.splits + split) * (a.state.value_dim + 2);
}

template <typename T, int D>
__device__ __forceinline__ void store(const cdl_attention_args &a, const work &w, const merged<D> &m)
{
    const uint32_t dim = a.state.value_dim;
    for (uint32_t i = threadIdx.x; i < w.heads * dim; i += CDL_CUDA_DECODE_THREADS) {
        const uint32_t h = i / dim, d = i % dim;
        if (w.alone) {
            if (d < y_dim(a))
                ((T *)a.y)[(size_t)w.row * a.y_stride + (w.head + h) * y_dim(a) + d]
                    = from_f32<T>(m.o[h][d] / m.total(h));
            continue;
        }
        float *to = partial_of(a, blockIdx.x, w.head + h, blockIdx.z);
        to[2 + d] = m.o[h][d];
        if (d == 0) {
            to[0] = m.total(h);
            to[1] = m.most(h);
        }
    }
}

/* The splits of a row's heads [head, head + heads) brought to one maximum and added in order. block_row: the grid's. */
template <typename T>
__device__ __forceinline__ void combine(const cdl_attention_args &a, uint32_t block_row, uint32_t head, uint32_t heads)
{
    const uint32_t row = a.first_row + block_row, dim = y_dim(a);
    const sight s = sight_of(a, row);
    const uint32_t first = s.first / SPLIT, last = (s.last - 1) / SPLIT;
    for (uint32_t i = threadIdx.x; i < heads * dim; i += blockDim.x) {
        const uint32_t h = head + i / dim, d = i % dim;
        float most = -INFINITY, sum = 0.0f, y = 0.0f;
        for (uint32_t split = first; split <= last; split++)
            most = fmaxf(most, partial_of(a, block_row, h, split)[1]);
        for (uint32_t split = first; split <= last; split++) {
            const float *p = partial_of(a, block_row, h, split);
            const float by = exp2_fast(p[1] - most);
            sum += p[0] * by;
            y += p[2 + d] * by;
        }
        ((T *)a.y)[(size_t)row * a.y_stride + h * dim + d] = from_f32<T>(y / sum);
    }
}

/* True in the block that finishes last of the row's heads; the counter is zero again then. */
__device__ __forceinline__ bool is_last(const cdl_attention_args &a, const work &w, uint32_t *last)
{
    const sight s = sight_of(a, w.row);
    __threadfence(); /* the partial sums come before the count */
    __syncthreads();
    if (threadIdx.x == 0) {
        const uint32_t others = (s.last - 1) / SPLIT - s.first / SPLIT;
        *last = atomicInc(&a.counters[blockIdx.x * gridDim.y + blockIdx.y], others) == others;
    }
    __syncthreads();
    __threadfence();
    return *last;
}

} /* namespace attn_decode */

template <typename T, typename S, int D>
__device__ __forceinline__ void attention_fwd_decode(const cdl_attention_args &a)
{
    using namespace attn_decode;
    __shared__ uint4 q[HEADS * D / 8];
    __shared__ merged<D> all;
    work w;
    if (!work_of(&w, a))
        return;
    const T *from = (const T *)a.q + (size_t)w.row * a.q_stride + w.head * a.state.key_dim;
    for (uint32_t i = threadIdx.x; i < HEADS * D / 8; i += CDL_CUDA_DECODE_THREADS) {
        const uint32_t h = i / (D / 8), chunk = i % (D / 8);
        uint4 v = make_uint4(0, 0, 0, 0);
        if (h < w.heads && chunk * 8 < a.state.key_dim)
            v = *(const uint4 *)(from + h * a.state.key_dim + chunk * 8);
        q[swizzled<D>(h, chunk)] = v;
    }
    __syncthreads();

    float o[D / 8][4];
    softmax m;
    m.start();
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[i / 4][i % 4] = 0.0f;
    const int32_t *pages = a.rows.pages + a.rows.tables[w.row];
    for (uint32_t page = w.first / PAGE + threadIdx.x / 32; page * PAGE < w.last; page += WARPS) {
        const uint8_t *keys = page_keys<S>(a.state, pages[page], w.k);
        float s[4][4];
        scores<T, S, D>(s, a, w, q, keys, page * PAGE);
        const float2 factor = m.step(s);
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[i / 4][i % 4] *= i % 4 < 2 ? factor.x : factor.y;
        if (S::SCALED)
            weigh_by_scale(s, keys + scales_at<S>(a.state) + PAGE * 4, S::template unit<T>(), w.last - page * PAGE);
        weigh<T, S, D>(o, s, keys + values_at<S>(a.state), a.state.value_dim, w.last - page * PAGE);
    }
    m.finish();
    all.add(o, m);
    store<T, D>(a, w, all);
    if (!w.alone && is_last(a, w, &all.last))
        combine<T>(a, blockIdx.x, w.head, w.heads);
}

#endif
