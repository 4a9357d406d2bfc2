/* embed.cuh - y[i] = table[ids[i]] * scale, the table packed as the products read it (a tied head is one copy).
 *
 * Shapes:   ids i32 [T], table [rows, cols], y [T, cols].
 * Numerics: the weight in f32, times scale, one rounding.
 * Design:   one block a token. Dense: 8 columns a thread. Else one warp 64 columns at a time; the 4 lanes that hold the
 *           row in the tile's fragments write it, 4 columns of each step.
 * CPU twin: runtime/cpu/ref/embed.c   Proof: tests/cuda/test_linear.c */
#ifndef CDL_EMBED_CUH
#define CDL_EMBED_CUH

#include "gemm/weight.cuh"

template <typename T> __device__ __forceinline__ void embed_dense(const cdl_embed_args &a)
{
    const uint32_t id = (uint32_t)a.ids[blockIdx.x], pitch = (a.cols + 63) / 64 * 64;
    const T *from = (const T *)a.table + (size_t)(id < a.rows ? id : 0) * pitch;
    const float scale = id < a.rows ? a.scale : 0.0f;
    for (uint32_t k = threadIdx.x * 8; k < a.cols; k += CDL_CUDA_ROW_THREADS * 8) {
        vec8 x = load8(from + k);
#pragma unroll
        for (int i = 0; i < 8; i++)
            x.v[i] *= scale;
        store8((T *)a.y + (size_t)blockIdx.x * a.y_stride + k, x);
    }
}

template <typename F, typename T> __device__ __forceinline__ void embed_packed(const cdl_embed_args &a)
{
    const uint32_t lane = threadIdx.x % 32, id = (uint32_t)a.ids[blockIdx.x], row = id < a.rows ? id : 0;
    const uint32_t tiles = (a.cols + F::COLUMNS - 1) / F::COLUMNS, half = row % 16 / 8;
    const uint8_t *from = (const uint8_t *)a.table + (size_t)(row / 16) * tiles * F::TILE_BYTES;
    T *y = (T *)a.y + (size_t)blockIdx.x * a.y_stride;
    if (lane / 4 != row % 8)
        return;
    for (uint32_t step = threadIdx.x / 32; step * 64 < a.cols; step += CDL_CUDA_ROW_THREADS / 32) {
        const uint8_t *main = from + (size_t)(step / F::SUBS) * F::TILE_BYTES;
        const uint8_t *sub = main + F::MAIN_BYTES + step % F::SUBS * F::SUB_BYTES;
        planes<F> p;
        scales<F> by;
        p.load(sub + F::SCALE_BYTES, lane);
        by.load(main, sub, lane / 4);
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t w[4];
            fragment<F, T>(w, p, by, s);
            const int group = s * F::GROUPS / 4;
            const float2 u = unpack2<T>(half ? w[1] : w[0]), v = unpack2<T>(half ? w[3] : w[2]);
            const float scale = half ? by.scale[1][group] : by.scale[0][group];
            const float min = !F::HAS_MIN ? 0.0f : half ? by.min[1][F::HAS_MIN ? group : 0] :
                                                              by.min[0][F::HAS_MIN ? group : 0];
            const float by_all = id < a.rows ? a.scale : 0.0f;
            const uint32_t k = step * 64 + 16 * s + lane % 4 * 4;
            if (k < a.cols)
                *(uint2 *)(y + k) = make_uint2(pack2<T>(fmaf(u.x, scale, min) * by_all, fmaf(u.y, scale, min) * by_all),
                    pack2<T>(fmaf(v.x, scale, min) * by_all, fmaf(v.y, scale, min) * by_all));
        }
    }
}

template <typename F, typename T> __device__ __forceinline__ void embed_fwd(const cdl_embed_args &a)
{
    after_previous();
    if constexpr (F::DENSE)
        embed_dense<T>(a);
    else
        embed_packed<F, T>(a);
}

#endif
