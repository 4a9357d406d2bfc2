/* prefill.cuh - attention of prompt rows over paged state: 64 rows of one sequence and one head a block.
 *
 * Shapes:   q [T, H * D], y [T, H * Dv]; D, Dv multiples of 8 up to BUCKET. Dynamic shared memory: 2 * 64 * BUCKET
 *           * 3 bytes, or * 2 + 1024 with 8-bit state.
 * Numerics: as decode.cuh, but keys ascend in steps of 64 slots counted from the sequence's start. A step that a
 *           row does not see leaves its bits alone, so they do not depend on how the prompt was cut.
 * Design:   4 warps of 16 rows; keys of the next step are copied (cp.async) while values are multiplied, values
 *           while keys are; pages that a warp's rows do not see are skipped.
 * Source:   FlashAttention-2 (Dao 2023).
 * CPU twin: runtime/cpu/ref/attention.c   Proof: tests/cuda/test_attention.c */
#ifndef CDL_ATTN_PREFILL_CUH
#define CDL_ATTN_PREFILL_CUH

#include "attn.cuh"

namespace attn_prefill {

enum { ROWS = CDL_CUDA_FLASH_ROWS, KEYS = CDL_CUDA_FLASH_KEYS, THREADS = CDL_CUDA_FLASH_THREADS };

struct work {
    uint32_t row, rows, k;      /* the tile's rows; its KV head                   */
    uint32_t first, last;       /* slots that any of them sees                    */
    const int32_t *pages;
};

/* The byte at which 8 elements of a token's keys stand in shared memory: no bank twice when a warp reads four tokens'
 * 32 bytes. */
template <typename S, int D> __device__ __forceinline__ uint32_t key_place(uint32_t token, uint32_t eight)
{
    if (S::BYTES == 2)
        return swizzled<D>(token, eight) * 16;
    const uint32_t c = eight / 4, turn = D % 128 ? token >> 3 & 1 : (token & 1) | (token >> 2 & 2);
    const uint32_t at = D == 96 ? token * 3 + c + token / 8 * 2 : token * (D / 32) + (c ^ turn);
    return at * 32 + eight % 4 * 8;
}

/* The same of 8 tokens of a dimension's values. */
template <typename S> __device__ __forceinline__ uint32_t value_place(uint32_t d, uint32_t eight)
{
    if (S::BYTES == 2)
        return swizzled<KEYS>(d, eight) * 16;
    return (d * 2 + (eight / 4 ^ (d >> 1 & 1))) * 32 + eight % 4 * 8;
}

/* What a block holds in shared memory. */
template <typename S, int D> struct tiles {
    uint4 q[ROWS * D / 8];
    __align__(16) uint8_t keys[KEYS * D * S::BYTES + (D == 96 && S::SCALED ? KEYS / 8 * 64 : 0)];
    __align__(16) uint8_t values[D * KEYS * S::BYTES];
    __align__(16) uint8_t key_scales[S::SCALED ? KEYS * 4 : 16], value_scales[S::SCALED ? KEYS * 4 : 16];
};

template <typename S>
__device__ __forceinline__ void fetch_scales(uint8_t *to, const cdl_attention_args &a, const work &w, uint32_t start,
    uint32_t skip)
{
    const uint32_t chunk = threadIdx.x % (PAGE / 4), slot = start + threadIdx.x / (PAGE / 4) * PAGE;
    if (!S::SCALED || threadIdx.x >= KEYS / 4)
        return;
    const int32_t page = slot < w.last ? w.pages[slot / PAGE] : -1;
    const uint8_t *from = page_keys<S>(a.state, max(page, 0), w.k) + scales_at<S>(a.state) + skip + chunk * 16;
    copy_async(to + threadIdx.x * 16, from, page >= 0);
}

template <typename S, int D>
__device__ __forceinline__ void fetch_keys(tiles<S, D> &t, const cdl_attention_args &a, const work &w, uint32_t start)
{
    constexpr uint32_t CHUNKS = D * S::BYTES / 16, EIGHTS = 2 / S::BYTES;
    const uint32_t pitch = key_pitch<S>(a.state);
    for (uint32_t i = threadIdx.x; i < KEYS * CHUNKS; i += THREADS) {
        const uint32_t n = i / CHUNKS, chunk = i % CHUNKS, slot = start + n;
        const int32_t page = slot < w.last ? w.pages[slot / PAGE] : -1;
        const bool wanted = page >= 0 && chunk * 16 < pitch;
        const uint8_t *from = page_keys<S>(a.state, wanted ? page : 0, w.k)
                            + (wanted ? slot % PAGE * pitch + chunk * 16 : 0);
        copy_async(t.keys + key_place<S, D>(n, chunk * EIGHTS), from, wanted);
    }
    fetch_scales<S>(t.key_scales, a, w, start, 0);
}

template <typename S, int D>
__device__ __forceinline__ void fetch_values(tiles<S, D> &t, const cdl_attention_args &a, const work &w, uint32_t start)
{
    constexpr uint32_t CHUNKS = KEYS * S::BYTES / 16, EIGHTS = 2 / S::BYTES;
    for (uint32_t i = threadIdx.x; i < D * CHUNKS; i += THREADS) {
        const uint32_t d = i / CHUNKS, chunk = i % CHUNKS, slot = start + chunk * EIGHTS * 8;
        const int32_t page = slot < w.last ? w.pages[slot / PAGE] : -1;
        const bool wanted = page >= 0 && d < a.state.value_dim;
        const uint8_t *from = page_keys<S>(a.state, wanted ? page : 0, w.k) + values_at<S>(a.state);
        copy_async(t.values + value_place<S>(d, chunk * EIGHTS),
            from + (wanted ? (d * PAGE + slot % PAGE) * S::BYTES : 0), wanted);
    }
    fetch_scales<S>(t.value_scales, a, w, start, PAGE * 4);
}

/* Eight elements from shared memory. */
template <typename T, typename S> __device__ __forceinline__ uint4 eight_of(const uint8_t *at)
{
    return S::template numbers<T>(*(const typename S::eight *)at);
}

/* Scores of one page of the step, of the warp's 16 rows. */
template <typename T, typename S, int D>
__device__ __forceinline__ void page_scores(float (*s)[4], const tiles<S, D> &tile, uint32_t page)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, row = threadIdx.x / 32 * 16 + g;
#pragma unroll
    for (int kk = 0; kk < D / 32; kk++) {
        const uint4 top = tile.q[swizzled<D>(row, 4 * kk + j)], low = tile.q[swizzled<D>(row + 8, 4 * kk + j)];
        const uint32_t even[4] = { top.x, low.x, top.y, low.y }, odd[4] = { top.z, low.z, top.w, low.w };
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const uint4 k = eight_of<T, S>(tile.keys + key_place<S, D>(page * PAGE + token_of(t, g), 4 * kk + j));
            mma<T>(s[t], even, k.x, k.y);
            mma<T>(s[t], odd, k.z, k.w);
        }
    }
    if (S::SCALED) {
        eight_scales by;
        by.load(tile.key_scales + page * PAGE * 4, S::template unit<T>());
        times(s, by);
    }
}

template <typename T, typename S, int D>
__device__ __forceinline__ void page_weigh(float (&o)[D / 8][4], float (*p)[4], const tiles<S, D> &tile, uint32_t page,
    int32_t left)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4;
    if (S::SCALED)
        weigh_by_scale(p, tile.value_scales + page * PAGE * 4, S::template unit<T>(), left);
    const uint32_t even[4] = { pack2<T>(p[0][0], p[0][1]), pack2<T>(p[0][2], p[0][3]), pack2<T>(p[1][0], p[1][1]),
        pack2<T>(p[1][2], p[1][3]) };
    const uint32_t odd[4] = { pack2<T>(p[2][0], p[2][1]), pack2<T>(p[2][2], p[2][3]), pack2<T>(p[3][0], p[3][1]),
        pack2<T>(p[3][2], p[3][3]) };
    uint32_t mask[4];
    token_masks(mask, left - (int32_t)(8 * j)); /* what lies behind the sequence's end is old */
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        const uint4 v = eight_of<T, S>(tile.values + value_place<S>(8 * n + g, 4 * page + j));
        mma<T>(o[n], even, v.x & mask[0], v.y & mask[1]);
        mma<T>(o[n], odd, v.z & mask[2], v.w & mask[3]);
    }
}

/* Scores of a step as they enter the softmax; what a row does not see is -infinity. */
__device__ __forceinline__ void see(float (&s)[8][4], const cdl_attention_args &a, const sight (&rows)[2],
    uint32_t start)
{
    const uint32_t j = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const uint32_t slot = start + i / 16 * PAGE + token_of(i / 4 % 4, 2 * j + i % 2);
        const sight &r = rows[i % 4 / 2];
        s[i / 4][i % 4] = slot >= r.first && slot < r.last ? score_of(a, s[i / 4][i % 4]) : -INFINITY;
    }
}

template <typename T, int D> __device__ __forceinline__ void fetch_queries(uint4 *q, const cdl_attention_args &a,
    const work &w)
{
    for (uint32_t i = threadIdx.x; i < ROWS * D / 8; i += THREADS) {
        const uint32_t n = i / (D / 8), chunk = i % (D / 8);
        const bool wanted = n < w.rows && chunk * 8 < a.state.key_dim;
        const T *from = (const T *)a.q;
        if (wanted)
            from += (size_t)(w.row + n) * a.q_stride + blockIdx.y * a.state.key_dim + chunk * 8;
        copy_async(q + swizzled<D>(n, chunk), from, wanted);
    }
}

template <typename T, int D>
__device__ __forceinline__ void store(const cdl_attention_args &a, const work &w, const float (&o)[D / 8][4],
    const softmax &m)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, dim = y_dim(a);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row = threadIdx.x / 32 * 16 + g + 8 * r;
        T *y = (T *)a.y + (size_t)(w.row + row) * a.y_stride + blockIdx.y * dim;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            if (row < w.rows && 8 * n + 2 * j < dim)
                *(uint32_t *)(y + 8 * n + 2 * j) = pack2<T>(o[n][2 * r] / m.sum[r], o[n][2 * r + 1] / m.sum[r]);
    }
}

__device__ __forceinline__ work work_of(const cdl_attention_args &a)
{
    work w;
    w.row = a.tile_rows[2 * blockIdx.x];
    w.rows = a.tile_rows[2 * blockIdx.x + 1];
    w.k = blockIdx.y / (a.heads / a.state.kv_heads);
    w.first = sight_of(a, w.row).first;
    w.last = sight_of(a, w.row + w.rows - 1).last;
    w.pages = a.rows.pages + a.rows.tables[w.row];
    return w;
}

} /* namespace attn_prefill */

template <typename T, typename S, int D>
__device__ __forceinline__ void attention_fwd_prefill(const cdl_attention_args &a)
{
    using namespace attn_prefill;
    extern __shared__ uint4 shared[];
    tiles<S, D> &tile = *(tiles<S, D> *)shared;
    const work w = work_of(a);
    const uint32_t mine = threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, end = w.rows - 1;
    const sight rows[2] = { sight_of(a, w.row + min(mine + g, end)), sight_of(a, w.row + min(mine + g + 8, end)) };
    const uint32_t from = sight_of(a, w.row + min(mine, end)).first;
    const uint32_t to = mine <= end ? sight_of(a, w.row + min(mine + 15, end)).last : 0; /* of the warp's rows */
    float o[D / 8][4];
    softmax m;
    m.start();
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[i / 4][i % 4] = 0.0f;

    uint32_t start = w.first / KEYS * KEYS;
    fetch_queries<T, D>(tile.q, a, w);
    fetch_keys<S, D>(tile, a, w, start);
    copy_commit();
    for (; start < w.last; start += KEYS) {
        fetch_values<S, D>(tile, a, w, start);
        copy_commit();
        copy_wait<1>();
        __syncthreads(); /* keys are there */
        float s[8][4];
        bool seen[2];
#pragma unroll
        for (int page = 0; page < 2; page++) {
            seen[page] = start + page * PAGE < to && start + page * PAGE + PAGE > from;
#pragma unroll
            for (int i = 0; i < 16; i++)
                s[page * 4 + i / 4][i % 4] = 0.0f;
            if (seen[page])
                page_scores<T, S, D>(s + 4 * page, tile, page);
        }
        __syncthreads(); /* keys were read */
        if (start + KEYS < w.last)
            fetch_keys<S, D>(tile, a, w, start + KEYS);
        copy_commit();
        see(s, a, rows, start);
        const float2 factor = m.step(s);
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[i / 4][i % 4] *= i % 4 < 2 ? factor.x : factor.y;
        copy_wait<1>();
        __syncthreads(); /* values are there */
#pragma unroll
        for (int page = 0; page < 2; page++)
            if (seen[page])
                page_weigh<T, S, D>(o, s + 4 * page, tile, page, w.last - (start + page * PAGE));
        __syncthreads(); /* values were read */
    }
    copy_wait<0>();
    m.finish();
    store<T, D>(a, w, o, m);
}

#endif
