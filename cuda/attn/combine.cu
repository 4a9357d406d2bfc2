/* combine.cu - the splits of attention_fwd_decode brought to one maximum and added in order.
 *
 * Shapes:   partial [rows][heads][splits][value_dim + 2] f32 -> y [T, H * Dv]. A row with one split was written
 *           already.
 * Proof:    tests/cuda/test_attention.c */
#include "decode.cuh"

template <typename T> __device__ void attention_fwd_combine(const cdl_attention_args &a)
{
    using namespace attn_decode;
    const uint32_t row = a.first_row + blockIdx.x, head = blockIdx.y, dim = a.state.value_dim;
    const sight s = sight_of(a, row);
    const uint32_t first = s.first / SPLIT, last = (s.last - 1) / SPLIT;
    if (first == last)
        return;
    float most = -INFINITY;
    for (uint32_t i = first; i <= last; i++)
        most = fmaxf(most, partial_of(a, blockIdx.x, head, i)[1]);
    for (uint32_t d = threadIdx.x; d < dim; d += CDL_CUDA_ROW_THREADS) {
        float sum = 0.0f, y = 0.0f;
        for (uint32_t i = first; i <= last; i++) {
            const float *p = partial_of(a, blockIdx.x, head, i);
            const float by = exp2_fast(p[1] - most);
            sum += p[0] * by;
            y += p[2 + d] * by;
        }
        ((T *)a.y)[(size_t)row * a.y_stride + head * dim + d] = from_f32<T>(y / sum);
    }
}

CDL_KERNEL_16(attention_fwd_combine, cdl_attention_args, CDL_CUDA_ROW_THREADS)
