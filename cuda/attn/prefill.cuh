/* prefill.cuh - attention of prompt rows over paged state: 64 rows of one sequence and one head a block.
 *
 * Shapes:   q [T, H * D], y [T, H * Dv]; D, Dv multiples of 8 up to BUCKET. Dynamic shared memory: 2 * 64 * BUCKET
 *           * 3 bytes.
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

template <typename T, int D>
__device__ __forceinline__ void fetch_keys(uint4 *keys, const cdl_attention_args &a, const work &w, uint32_t start)
{
    for (uint32_t i = threadIdx.x; i < KEYS * D / 8; i += THREADS) {
        const uint32_t n = i / (D / 8), chunk = i % (D / 8), slot = start + n;
        const int32_t page = slot < w.last ? w.pages[slot / PAGE] : -1;
        const bool wanted = page >= 0 && chunk * 8 < a.state.key_dim;
        const T *from = page_keys<T>(a.state, wanted ? page : 0, w.k)
                      + (wanted ? slot % PAGE * a.state.key_dim + chunk * 8 : 0);
        copy_async(keys + swizzled<D>(n, chunk), from, wanted);
    }
}

template <typename T, int D>
__device__ __forceinline__ void fetch_values(uint4 *values, const cdl_attention_args &a, const work &w, uint32_t start)
{
    for (uint32_t i = threadIdx.x; i < D * KEYS / 8; i += THREADS) {
        const uint32_t d = i / (KEYS / 8), chunk = i % (KEYS / 8), slot = start + chunk * 8;
        const int32_t page = slot < w.last ? w.pages[slot / PAGE] : -1;
        const bool wanted = page >= 0 && d < a.state.value_dim;
        const T *from = page_keys<T>(a.state, wanted ? page : 0, w.k) + PAGE * a.state.key_dim;
        copy_async(values + swizzled<KEYS>(d, chunk), from + (wanted ? d * PAGE + slot % PAGE : 0), wanted);
    }
}

/* Scores of one page of the step, of the warp's 16 rows. */
template <typename T, int D>
__device__ __forceinline__ void page_scores(float (*s)[4], const uint4 *q, const uint4 *keys)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, row = threadIdx.x / 32 * 16 + g;
#pragma unroll
    for (int kk = 0; kk < D / 32; kk++) {
        const uint4 top = q[swizzled<D>(row, 4 * kk + j)], low = q[swizzled<D>(row + 8, 4 * kk + j)];
        const uint32_t even[4] = { top.x, low.x, top.y, low.y }, odd[4] = { top.z, low.z, top.w, low.w };
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const uint4 k = keys[swizzled<D>(token_of(t, g), 4 * kk + j)];
            mma<T>(s[t], even, k.x, k.y);
            mma<T>(s[t], odd, k.z, k.w);
        }
    }
}

template <typename T, int D>
__device__ __forceinline__ void page_weigh(float (&o)[D / 8][4], const float (*p)[4], const uint4 *values,
    uint32_t page,
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
        const uint4 v = values[swizzled<KEYS>(8 * n + g, 4 * page + j)];
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
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, dim = a.state.value_dim;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row = threadIdx.x / 32 * 16 + g + 8 * r;
        T *y = (T *)a.y + (size_t)(w.row + row) * a.y_stride + blockIdx.y * dim;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            if (row < w.rows && 8 * n < dim)
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

template <typename T, int D> __device__ __forceinline__ void attention_fwd_prefill(const cdl_attention_args &a)
{
    using namespace attn_prefill;
    extern __shared__ uint4 shared[];
    uint4 *q = shared, *keys = q + ROWS * D / 8, *values = keys + KEYS * D / 8;
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
    fetch_queries<T, D>(q, a, w);
    fetch_keys<T, D>(keys, a, w, start);
    copy_commit();
    for (; start < w.last; start += KEYS) {
        fetch_values<T, D>(values, a, w, start);
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
                page_scores<T, D>(s + 4 * page, q, keys + page * PAGE * (D / 8));
        }
        __syncthreads(); /* keys were read */
        if (start + KEYS < w.last)
            fetch_keys<T, D>(keys, a, w, start + KEYS);
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
                page_weigh<T, D>(o, s + 4 * page, values, page, w.last - (start + page * PAGE));
        __syncthreads(); /* values were read */
    }
    copy_wait<0>();
    m.finish();
    store<T, D>(a, w, o, m);
}

#endif
