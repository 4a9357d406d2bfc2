/* attn.cuh - what prompt rows' and generated rows' attention share: pages, sight, fragments, online softmax. */
#ifndef CDL_ATTN_CUH
#define CDL_ATTN_CUH

#include "../pages.cuh"

#define CDL_LOG2E 1.4426950408889634f

/* The slots that a row sees: [first, last). */
struct sight {
    uint32_t first, last;
};

/* end: of a bidirectional row. */
__device__ __forceinline__ sight sight_at(const cdl_attention_args &a, uint32_t slot, uint32_t end)
{
    sight s;
    s.first = a.window && slot + 1 > a.window ? slot + 1 - a.window : 0;
    s.last = a.bidirectional ? end : slot + 1;
    return s;
}

__device__ __forceinline__ sight sight_of(const cdl_attention_args &a, uint32_t row)
{
    return sight_at(a, a.rows.slots[row], a.bidirectional ? a.rows.ends[row] : 0);
}

__device__ __forceinline__ uint32_t y_dim(const cdl_attention_args &a)
{
    return a.y_dim ? a.y_dim : a.state.value_dim;
}

/* Chunk of 16 bytes of a row of D elements in shared memory: neighbours of 64 bytes never meet in a bank. */
template <int D> __device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk)
{
    return row * (D / 8) + (D % 64 ? chunk : chunk ^ (row & 1) << 2);
}

/* Token of a page that stands in column n of tile t of 8 scores: so the scores' registers are P's fragment as they are,
 * and a lane's tokens 8 j .. 8 j + 7 one load of transposed values. */
__device__ __forceinline__ uint32_t token_of(uint32_t t, uint32_t n)
{
    return n / 2 * 8 + 2 * t + n % 2;
}

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* A score by the soft cap, in powers of two. */
__device__ __forceinline__ float score_of(const cdl_attention_args &a, float dot)
{
    const float e = exp2_fast(__fdividef(dot * a.scale * (2.0f * CDL_LOG2E), a.softcap));
    return (1.0f - __fdividef(2.0f, 1.0f + e)) * a.softcap * CDL_LOG2E; /* tanh, good to 1e-7 of the cap */
}

/* Scores by the soft cap, in powers of two. */
template <int N> __device__ __forceinline__ void cap_scores(float (&s)[N][4], const cdl_attention_args &a)
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        s[i / 4][i % 4] = score_of(a, s[i / 4][i % 4]);
}

/* Those of a lane; -infinity stays. */
template <int N> __device__ __forceinline__ void scores_of(float (&s)[N], const cdl_attention_args &a)
{
    if (a.softcap > 0.0f) {
#pragma unroll
        for (int i = 0; i < N; i++)
            s[i] = s[i] == -INFINITY ? s[i] : score_of(a, s[i]);
    } else {
        const float scale = a.scale * CDL_LOG2E;
#pragma unroll
        for (int i = 0; i < N; i++)
            s[i] *= scale;
    }
}

/* BYTES (8 or 16) from global to shared memory; zeros when not wanted. */
template <int BYTES> __device__ __forceinline__ void copy_async_piece(void *shared, const void *src, bool wanted)
{
    if constexpr (BYTES == 16)
        copy_async(shared, src, wanted);
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(src),
            "r"(wanted ? 8 : 0) : "memory");
}

/* Of two rows of a fragment (g and g + 8): the greatest score so far, and the sum of what this lane saw. */
struct softmax {
    float max[2], sum[2];

    __device__ __forceinline__ void start()
    {
        max[0] = max[1] = -INFINITY;
        sum[0] = sum[1] = 0.0f;
    }

    /* Scores x scale > 0 become weights; returns what earlier sums and outputs are multiplied by. */
    template <int N> __device__ __forceinline__ float2 step(float (&s)[N][4], float scale)
    {
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = max[r];
#pragma unroll
            for (int t = 0; t < N; t++)
                most = fmaxf(most, fmaxf(s[t][2 * r], s[t][2 * r + 1]));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
            const float base = most == -INFINITY ? 0.0f : most * scale; /* nothing seen yet */
            factor[r] = exp2_fast(fmaf(max[r], scale, -base));
            max[r] = most;
            sum[r] *= factor[r];
#pragma unroll
            for (int t = 0; t < N; t++)
#pragma unroll
                for (int c = 2 * r; c < 2 * r + 2; c++) {
                    s[t][c] = exp2_fast(fmaf(s[t][c], scale, -base));
                    sum[r] += s[t][c];
                }
        }
        return make_float2(factor[0], factor[1]);
    }

    __device__ __forceinline__ void finish()
    {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
            sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        }
    }
};

/* Scales of tokens 8 j .. 8 j + 7 of a page, those of columns 2 j and 2 j + 1 of its four tiles of scores. */
struct eight_scales {
    float v[8];

    __device__ __forceinline__ void load(const uint8_t *of_page, float unit)
    {
        const float4 *p = (const float4 *)of_page + threadIdx.x % 4;
        const float4 a = p[0], b = p[4]; /* scale_place */
        v[0] = a.x * unit, v[1] = a.y * unit, v[2] = a.z * unit, v[3] = a.w * unit;
        v[4] = b.x * unit, v[5] = b.y * unit, v[6] = b.z * unit, v[7] = b.w * unit;
    }
};

/* Four tiles of 8 columns, each times its token's scale. */
__device__ __forceinline__ void times(float (*s)[4], const eight_scales &by)
{
#pragma unroll
    for (int i = 0; i < 16; i++)
        s[i / 4][i % 4] *= by.v[i / 4 * 2 + i % 2];
}

/* The same for values, whose scales behind the sequence's end are old. left: tokens of the page before that. */
__device__ __forceinline__ void weigh_by_scale(float (*p)[4], const uint8_t *of_page, float unit, int32_t left)
{
    eight_scales by;
    by.load(of_page, unit);
#pragma unroll
    for (int i = 0; i < 8; i++)
        by.v[i] = (int32_t)(threadIdx.x % 4 * 8 + i) < left ? by.v[i] : 0.0f;
    times(p, by);
}

/* Which halves of words of 8 tokens from `first` on hold tokens below last. */
__device__ __forceinline__ void token_masks(uint32_t (&mask)[4], int32_t left)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        mask[i] = left >= 2 * i + 2 ? ~0u : left == 2 * i + 1 ? 0xffffu : 0u;
}

#endif
