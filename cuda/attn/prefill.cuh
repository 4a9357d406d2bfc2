/* prefill.cuh - attention of prompt rows over paged state: up to 128 rows of one sequence and one head a block.
 *
 * Shapes:   q [T, H * D], y [T, H * Dv]; D, Dv multiples of 8 up to BUCKET. Dynamic shared memory:
 *           cdl_cuda_flash_shared.
 * Numerics: as decode.cuh, but keys ascend in steps of 64 slots counted from the sequence's start. A step that a
 *           row does not see leaves its bits alone, so they do not depend on how the prompt was cut.
 * Design:   4 warps of 32 rows (heads above 128: of 16), so that a fragment of keys or values serves two products;
 *           queries stand in shared memory as fragments. Keys of the next step are copied (cp.async) while values are
 *           multiplied, values while keys are; pages that a warp's rows do not see are skipped, and only steps that
 *           some row sees in part are masked. The tiles with most to do start first.
 * Source:   FlashAttention-2 (Dao 2023).
 * CPU twin: runtime/cpu/ref/attention.c   Proof: tests/cuda/test_attention.c */
#ifndef CDL_ATTN_PREFILL_CUH
#define CDL_ATTN_PREFILL_CUH

#include "attn.cuh"

namespace attn_prefill {

enum { KEYS = CDL_CUDA_FLASH_KEYS, THREADS = CDL_CUDA_FLASH_THREADS, WARPS = THREADS / 32 };

/* Rows of a block, and tiles of 16 of them a warp. */
template <int D> constexpr uint32_t rows_of = cdl_cuda_flash_rows(D);
template <int D> constexpr int tiles_of = rows_of<D> / WARPS / 16;

/* x, but what follows from it is computed anew in every step: registers are few. */
__device__ __forceinline__ uint32_t again(uint32_t x)
{
    asm volatile("" : "+r"(x));
    return x;
}

struct work {
    uint32_t row, rows, head, k; /* the block's rows and head; its KV head        */
    uint32_t slot;               /* of the first row; the others follow it        */
    uint32_t first, last;        /* slots that any of them sees                   */
    uint32_t table;              /* where its sequence begins in the pages        */
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

/* Where a lane reads: of keys, of token_of(0, g) dimensions 32 i + 8 j; of values, of dimension g tokens 32 i + 8 j. */
template <typename S, int D> struct lane_places {
    enum {
        TURNS = S::BYTES == 1 && D % 128 == 0 ? 4 : 2, ROW = D * S::BYTES,
        PAGE_ROWS = PAGE * ROW + (D == 96 && S::SCALED ? 256 : 0)
    };
    uint32_t keys[TURNS], values[KEYS / PAGE];

    __device__ __forceinline__ lane_places()
    {
        const uint32_t lane = again(threadIdx.x) % 32, g = lane / 4, j = lane % 4;
#pragma unroll
        for (int i = 0; i < TURNS; i++)
            keys[i] = key_place<S, D>(token_of(0, g), 4 * i + j);
#pragma unroll
        for (int i = 0; i < KEYS / PAGE; i++)
            values[i] = value_place<S>(g, 4 * i + j);
    }

    __device__ __forceinline__ uint32_t key(int page, int t, int kk) const
    {
        return keys[kk % TURNS] + page * PAGE_ROWS + 2 * t * ROW + kk / TURNS * TURNS * 32 * S::BYTES;
    }

    __device__ __forceinline__ uint32_t value(int page, int n) const
    {
        return (page ? values[1] : values[0]) + n * 8 * KEYS * S::BYTES;
    }
};

/* What a block holds in shared memory. q: as fragments, of 16 rows and 16 dimensions each. */
template <typename S, int D> struct tiles {
    uint4 q[rows_of<D> * D / 8];
    __align__(16) uint8_t keys[KEYS * D * S::BYTES + (D == 96 && S::SCALED ? KEYS / 8 * 64 : 0)];
    __align__(16) uint8_t values[D * KEYS * S::BYTES];
    __align__(16) uint8_t key_scales[S::SCALED ? KEYS * 4 : 16], value_scales[S::SCALED ? KEYS * 4 : 16];
    work w; /* here, as registers are few */
};

/* The pages of a step, -1 behind the last slot. */
struct step_pages {
    int32_t of[KEYS / PAGE];
};

__device__ __forceinline__ step_pages pages_of(const cdl_attention_args &a, const work &w, uint32_t start)
{
    step_pages p;
#pragma unroll
    for (int i = 0; i < KEYS / PAGE; i++) {
        const uint32_t slot = start + i * PAGE;
        p.of[i] = slot < w.last ? a.rows.pages[w.table + slot / PAGE] : -1;
    }
    return p;
}

template <typename S>
__device__ __forceinline__ void fetch_scales(uint8_t *to, const cdl_attention_args &a, const work &w,
    const step_pages &pages, uint32_t skip)
{
    if (!S::SCALED || threadIdx.x >= KEYS / 4)
        return;
    const int32_t page = threadIdx.x < PAGE / 4 ? pages.of[0] : pages.of[1];
    const uint32_t at = scales_at<S>(a.state) + skip + threadIdx.x % (PAGE / 4) * 16;
    copy_async(to + threadIdx.x * 16, page_keys<S>(a.state, page, w.k) + at, page >= 0);
}

/* A row of keys by so many neighbours, so that what a thread copies stands at constant distances. */
template <typename S, int D>
__device__ __forceinline__ void fetch_keys(tiles<S, D> &t, const cdl_attention_args &a, const work &w,
    const step_pages &pages)
{
    constexpr uint32_t CHUNKS = D * S::BYTES / 16, EIGHTS = 2 / S::BYTES;
    constexpr uint32_t LANES = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2, ROWS = THREADS / LANES;
    const uint32_t thread = again(threadIdx.x), chunk = thread % LANES, n = thread / LANES;
    const uint32_t pitch = key_pitch<S>(a.state);
    uint8_t *to = t.keys + key_place<S, D>(n, chunk * EIGHTS);
    const uint32_t at = n % PAGE * pitch + chunk * 16;
#pragma unroll
    for (uint32_t r = 0; r < KEYS; r += ROWS) {
        const int32_t page = r + n < PAGE ? pages.of[0] : pages.of[1];
        const uint8_t *from = page_keys<S>(a.state, page, w.k) + at;
#pragma unroll
        for (uint32_t c = 0; c < CHUNKS; c += LANES)
            copy_async(to + r * D * S::BYTES + c * 16, from + r % PAGE * pitch + c * 16,
                page >= 0 && (chunk + c) * 16 < pitch);
    }
    fetch_scales<S>(t.key_scales, a, w, pages, 0);
}

template <typename S, int D>
__device__ __forceinline__ void fetch_values(tiles<S, D> &t, const cdl_attention_args &a, const work &w,
    const step_pages &pages)
{
    constexpr uint32_t CHUNKS = KEYS * S::BYTES / 16, EIGHTS = 2 / S::BYTES;
    const uint32_t thread = again(threadIdx.x), chunk = thread % CHUNKS, d = thread / CHUNKS;
    const int32_t page = chunk < CHUNKS / 2 ? pages.of[0] : pages.of[1];
    const uint32_t at = values_at<S>(a.state) + d * PAGE * S::BYTES + chunk % (CHUNKS / 2) * 16;
    const uint8_t *from = page_keys<S>(a.state, page, w.k) + at;
    uint8_t *to = t.values + value_place<S>(d, chunk * EIGHTS);
#pragma unroll
    for (uint32_t i = 0; i < D; i += THREADS / CHUNKS)
        copy_async(to + i * KEYS * S::BYTES, from + i * PAGE * S::BYTES, page >= 0 && d + i < a.state.value_dim);
    fetch_scales<S>(t.value_scales, a, w, pages, PAGE * 4);
}

/* Eight elements from shared memory. */
template <typename T, typename S> __device__ __forceinline__ uint4 eight_of(const uint8_t *at)
{
    return S::template numbers<T>(*(const typename S::eight *)at);
}

/* What lies behind the sequence's end is old: zeros instead, as 0 * NaN is NaN. left: tokens before the end. */
template <typename S, int D> __device__ __forceinline__ void clear_values(tiles<S, D> &t, uint32_t left)
{
    for (uint32_t i = threadIdx.x; i < D * KEYS; i += THREADS) {
        const uint32_t d = i / KEYS, token = i % KEYS;
        if (token >= left)
            for (int b = 0; b < S::BYTES; b++)
                t.values[value_place<S>(d, token / 8) + token % 8 * S::BYTES + b] = 0;
    }
    if (S::SCALED && threadIdx.x < KEYS && threadIdx.x >= left)
        ((float *)t.value_scales)[threadIdx.x / PAGE * PAGE + scale_place(threadIdx.x % PAGE)] = 0.0f;
}

/* A row's 8 dimensions are words of two fragments each of which a lane reads as one: no bank twice in a warp. */
template <typename T, int D> __device__ __forceinline__ void load_queries(uint4 *q, const cdl_attention_args &a,
    const work &w)
{
    constexpr uint32_t PAIRS = (D / 32 + 1) / 2;
    const uint32_t lane = threadIdx.x % 32, j = lane % 4, odd = lane / 16, half = lane / 8 % 2;
    for (uint32_t u = threadIdx.x / 32; u < rows_of<D> / 16 * 4 * PAIRS; u += WARPS) {
        const uint32_t kk = u % PAIRS * 2 + odd, g = u / PAIRS % 4 * 2 + lane / 4 % 2, tile = u / PAIRS / 4;
        const uint32_t n = tile * 16 + half * 8 + g, d = kk * 32 + j * 8;
        if (d >= D)
            continue;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (n < w.rows && d < a.state.key_dim)
            v = *(const uint4 *)((const T *)a.q + (size_t)(w.row + n) * a.q_stride + w.head * a.state.key_dim + d);
        const uint32_t words[4] = { odd ? v.y : v.x, odd ? v.x : v.y, odd ? v.w : v.z, odd ? v.z : v.w };
        uint32_t *to = (uint32_t *)(q + (tile * (D / 32) + kk) * 2 * 32 + g * 4 + j) + half;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            to[i / 2 * 128 + (i % 2 ^ odd) * 2] = words[i];
    }
}

/* Scores of a step, of the warp's rows. */
template <typename T, typename S, int D, int M>
__device__ __forceinline__ void scores(float (&s)[M][8][4], const tiles<S, D> &tile,
    const lane_places<S, D> &at, const bool (&seen)[2])
{
    const uint32_t thread = again(threadIdx.x);
    const uint4 *q = tile.q + thread / 32 * M * D / 32 * 2 * 32 + thread % 32;
#pragma unroll
    for (int i = 0; i < M * 32; i++)
        s[i / 32][i / 4 % 8][i % 4] = 0.0f;
#pragma unroll
    for (int kk = 0; kk < D / 32; kk++) {
        uint32_t low[M][4], high[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            const uint4 x = q[(m * (D / 32) + kk) * 64], y = q[(m * (D / 32) + kk) * 64 + 32];
            low[m][0] = x.x, low[m][1] = x.y, low[m][2] = x.z, low[m][3] = x.w;
            high[m][0] = y.x, high[m][1] = y.y, high[m][2] = y.z, high[m][3] = y.w;
        }
#pragma unroll
        for (int page = 0; page < 2; page++)
            if (seen[page])
#pragma unroll
                for (int t = 0; t < 4; t++) {
                    const uint4 k = eight_of<T, S>(tile.keys + at.key(page, t, kk));
#pragma unroll
                    for (int m = 0; m < M; m++) {
                        mma<T>(s[m][page * 4 + t], low[m], k.x, k.y);
                        mma<T>(s[m][page * 4 + t], high[m], k.z, k.w);
                    }
                }
    }
    if (S::SCALED)
#pragma unroll
        for (int page = 0; page < 2; page++) {
            eight_scales by;
            by.load(tile.key_scales + page * PAGE * 4, S::template unit<T>());
#pragma unroll
            for (int m = 0; m < M; m++)
                times(s[m] + 4 * page, by);
        }
}

/* Weights of a row tile's page as the next product's fragments: of tokens 8 j .. 8 j + 3, and of the next four. */
struct fragments {
    uint32_t low[4], high[4];
};

template <typename T, typename S, int D>
__device__ __forceinline__ fragments packed(float (*p)[4], const tiles<S, D> &tile, int page)
{
    if (S::SCALED) {
        eight_scales by;
        by.load(tile.value_scales + page * PAGE * 4, S::template unit<T>());
        times(p, by);
    }
    fragments f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        f.low[i] = pack2<T>(p[i / 2][i % 2 * 2], p[i / 2][i % 2 * 2 + 1]);
        f.high[i] = pack2<T>(p[2 + i / 2][i % 2 * 2], p[2 + i / 2][i % 2 * 2 + 1]);
    }
    return f;
}

template <typename T, typename S, int D, int M>
__device__ __forceinline__ void page_weigh(float (&o)[M][D / 8][4], const fragments (&p)[M][2],
    const tiles<S, D> &tile, const lane_places<S, D> &at, int page)
{
    fragments now[M];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            now[m].low[i] = page ? p[m][1].low[i] : p[m][0].low[i];
            now[m].high[i] = page ? p[m][1].high[i] : p[m][0].high[i];
        }
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        if ((D > 192 || (D == 128 && S::SCALED)) && n == D / 16)
            __threadfence_block(); /* no load is brought forward across it: registers are few */
        const uint4 v = eight_of<T, S>(tile.values + at.value(page, n));
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma<T>(o[m][n], now[m].low, v.x, v.y);
            mma<T>(o[m][n], now[m].high, v.z, v.w);
        }
    }
}

/* What the 16 rows from slot on do not see of a step is -infinity. */
__device__ __forceinline__ void see(float (&s)[8][4], const cdl_attention_args &a, const work &w, uint32_t start,
    uint32_t slot)
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const sight seen = sight_at(a, slot + g + 8 * r, w.last);
        const int32_t first = (int32_t)(seen.first - start - 8 * j), last = (int32_t)(seen.last - start - 8 * j);
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const int32_t token = i / 8 * PAGE + i % 8; /* from the lane's first on, see token_of */
            float &x = s[i / 2][2 * r + i % 2];
            x = token >= first && token < last ? x : -INFINITY;
        }
    }
}

/* What the warp's rows see of a step: nothing of it, some, or all of them all of it. */
struct view {
    uint32_t start;
    bool pages[2], masked;       /* pages that some row sees; whether some row sees a part */

    __device__ __forceinline__ view(const cdl_attention_args &a, const work &w, uint32_t start, uint32_t rows)
        : start(start)
    {
        const uint32_t mine = again(threadIdx.x) / 32 * rows, end = w.rows - 1;
        const sight top = sight_at(a, w.slot + mine, w.last);
        const sight low = sight_at(a, w.slot + min(mine + rows - 1, end), w.last);
        const uint32_t to = mine <= end ? low.last : 0;
        pages[0] = start < to && start + PAGE > top.first;
        pages[1] = start + PAGE < to && start + 2 * PAGE > top.first;
        masked = start < low.first || start + KEYS > top.last;
    }
};

/* What a warp has added up. */
template <int D, int M> struct result {
    float o[M][D / 8][4];
    softmax sums[M];
};

/* Scores become weights; what was added up before is brought to their maximum. */
template <typename T, typename S, int D, int M>
__device__ __forceinline__ void weights_of(fragments (&p)[M][2], result<D, M> &r, float (&s)[M][8][4],
    const tiles<S, D> &tile, const cdl_attention_args &a, const view &v)
{
    const uint32_t slot = tile.w.slot + again(threadIdx.x) / 32 * 16 * M;
    const float scale = a.softcap > 0.0f ? 1.0f : a.scale * CDL_LOG2E;
#pragma unroll
    for (int m = 0; m < M; m++) {
        if (a.softcap > 0.0f)
            cap_scores(s[m], a);
        if (v.masked)
            see(s[m], a, tile.w, v.start, slot + 16 * m);
        const float2 factor = r.sums[m].step(s[m], scale);
        if (__any_sync(~0u, factor.x != 1.0f || factor.y != 1.0f))
#pragma unroll
            for (int i = 0; i < D / 2; i++)
                r.o[m][i / 4][i % 4] *= i % 4 < 2 ? factor.x : factor.y;
#pragma unroll
        for (int page = 0; page < 2; page++)
            p[m][page] = packed<T, S, D>(s[m] + 4 * page, tile, page);
    }
}

template <typename T, int D, int M>
__device__ __forceinline__ void store(const cdl_attention_args &a, const work &w, const float (&o)[M][D / 8][4],
    const softmax (&sums)[M])
{
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, j = lane % 4, dim = y_dim(a);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int m = i / 2, r = i % 2;
        const uint32_t row = (threadIdx.x / 32 * M + m) * 16 + g + 8 * r;
        const float by = __fdividef(1.0f, sums[m].sum[r]);
        T *y = (T *)a.y + (size_t)(w.row + row) * a.y_stride + w.head * dim;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            if (row < w.rows && 8 * n + 2 * j < dim)
                *(uint32_t *)(y + 8 * n + 2 * j) = pack2<T>(o[m][n][2 * r] * by, o[m][n][2 * r + 1] * by);
    }
}

/* Blocks take heads in turn, from the last tile on. All threads get there. */
template <int D> __device__ __forceinline__ bool work_of(work *shared, const cdl_attention_args &a)
{
    constexpr uint32_t PARTS = CDL_CUDA_FLASH_ROWS / rows_of<D>;
    const uint32_t i = blockIdx.y * gridDim.x + blockIdx.x, part = gridDim.x - 1 - i / gridDim.y;
    const uint32_t tile = part / PARTS, skip = part % PARTS * rows_of<D>, rows = a.tile_rows[2 * tile + 1];
    if (skip >= rows)
        return false;
    work w;
    w.row = a.tile_rows[2 * tile] + skip;
    w.rows = min(rows - skip, rows_of<D>);
    w.head = i % gridDim.y;
    w.k = w.head / (a.heads / a.state.kv_heads);
    w.slot = a.rows.slots[w.row];
    w.first = sight_of(a, w.row).first;
    w.last = sight_of(a, w.row + w.rows - 1).last;
    w.table = a.rows.tables[w.row];
    if (threadIdx.x == 0)
        *shared = w;
    __syncthreads();
    return true;
}

} /* namespace attn_prefill */

template <typename T, typename S, int D>
__device__ __forceinline__ void attention_fwd_prefill(const cdl_attention_args &a)
{
    using namespace attn_prefill;
    after_previous();
    constexpr int M = tiles_of<D>;
    extern __shared__ uint4 shared[];
    tiles<S, D> &tile = *(tiles<S, D> *)shared;
    work &w = tile.w;
    if (!work_of<D>(&w, a))
        return;
    uint32_t start = w.first / KEYS * KEYS;
    step_pages pages = pages_of(a, w, start);
    fetch_keys<S, D>(tile, a, w, pages);
    copy_commit();
    load_queries<T, D>(tile.q, a, w);

    result<D, M> r = {};
#pragma unroll
    for (int m = 0; m < M; m++)
        r.sums[m].start();
    for (; start < w.last; start += KEYS) {
        copy_wait<0>();
        __syncthreads(); /* keys are there, values were read */
        fetch_values<S, D>(tile, a, w, pages);
        copy_commit();
        const bool more = start + KEYS < w.last;
        if (more)
            pages = pages_of(a, w, start + KEYS);
        const view v(a, w, start, 16 * M);
        const lane_places<S, D> at;
        float s[M][8][4];
        scores<T, S, D, M>(s, tile, at, v.pages);
        copy_wait<0>();
        __syncthreads(); /* values are there, keys were read */
        if (more)
            fetch_keys<S, D>(tile, a, w, pages);
        copy_commit();
        if (start + KEYS > w.last) {
            clear_values<S, D>(tile, w.last - start);
            __syncthreads();
        }
        if (!v.pages[0] && !v.pages[1])
            continue;
        fragments p[M][2];
        weights_of<T, S, D, M>(p, r, s, tile, a, v);
#pragma unroll(D > 192 ? 1 : 2)
        for (int page = 0; page < 2; page++)
            if (page ? v.pages[1] : v.pages[0])
                page_weigh<T, S, D, M>(r.o, p, tile, at, page);
    }
#pragma unroll
    for (int m = 0; m < M; m++)
        r.sums[m].finish();
    store<T, D, M>(a, w, r.o, r.sums);
}

#endif
