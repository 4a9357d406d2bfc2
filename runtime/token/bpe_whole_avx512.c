/* bpe_whole_avx512.c - a line of the table of whole tokens compared at once. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/bpe_whole.h"

uint32_t cdl_whole_find_avx512(const cdl_token_model *m, const cdl_word_look *v, uint32_t n, int32_t *id,
        uint32_t *others)
{
    const __m512i bits = _mm512_broadcast_i32x4(_mm_set_epi64x((int64_t)CDL_WHOLE_KEY, -1));
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        __m512i line = _mm512_load_si512(cdl_whole_line(m, v[i].hash));
        __m512i key = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)&v[i].key));
        uint32_t equal = _mm512_testn_epi64_mask(_mm512_xor_si512(line, key), bits); /* two halves an entry */
        equal = equal & equal << 1 & 0xaa;
        __m128i high = _mm512_castsi512_si128(_mm512_maskz_compress_epi64((__mmask8)equal, line));
        int32_t found = (int32_t)((uint64_t)_mm_cvtsi128_si64(high) >> 32 & CDL_WHOLE_ID);
        id[i] = equal ? found : -1;
        others[k] = i;
        k += !equal;
    }
    return k;
}
#endif
