/* utf8_avx512.c - code points as UTF-8, 16 at a time: each in 4 bytes, of which those that it has are kept. */
#ifdef __x86_64__
#include <immintrin.h>

#include "utf8.h"

__attribute__((target("avx512vbmi2")))
size_t cdl_utf8_write_avx512(char *out, const uint32_t *cp, size_t n, size_t *done)
{
    const __m512i six = _mm512_set1_epi32(0x3f);
    char *to = out;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512i v = _mm512_loadu_si512(cp + i);
        __mmask16 two = _mm512_cmpge_epu32_mask(v, _mm512_set1_epi32(0x80));
        if (!two) {
            _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(v));
            to += 16;
            continue;
        }
        __mmask16 three = _mm512_cmpge_epu32_mask(v, _mm512_set1_epi32(0x800));
        __mmask16 four = _mm512_cmpge_epu32_mask(v, _mm512_set1_epi32(0x10000));
        __m512i surrogate = _mm512_and_si512(v, _mm512_set1_epi32((int)0xfffff800));
        if (_mm512_cmpeq_epi32_mask(surrogate, _mm512_set1_epi32(0xd800))
                | _mm512_cmpgt_epu32_mask(v, _mm512_set1_epi32(0x10ffff)))
            break;
        __m512i bytes = _mm512_slli_epi32(_mm512_and_si512(v, six), 24); /* the last byte is the highest */
        __m512i second = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(v, 6), six), 16);
        __m512i third = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(v, 12), six), 8);
        bytes = _mm512_or_si512(_mm512_or_si512(bytes, second), _mm512_or_si512(third, _mm512_srli_epi32(v, 18)));
        __m512i lead = _mm512_set1_epi32((int)0x80c00000), kept = _mm512_set1_epi32((int)0x80800000);
        lead = _mm512_mask_mov_epi32(lead, three, _mm512_set1_epi32((int)0x8080e000));
        lead = _mm512_mask_mov_epi32(lead, four, _mm512_set1_epi32((int)0x808080f0));
        kept = _mm512_mask_mov_epi32(kept, three, _mm512_set1_epi32((int)0x80808000));
        kept = _mm512_mask_mov_epi32(kept, four, _mm512_set1_epi32((int)0x80808080));
        kept = _mm512_mask_mov_epi32(_mm512_set1_epi32((int)0x80000000), two, kept);
        bytes = _mm512_mask_or_epi32(_mm512_slli_epi32(v, 24), two, bytes, lead);
        __mmask64 places = _mm512_movepi8_mask(kept);
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(places, bytes));
        to += _mm_popcnt_u64(places);
    }
    *done = i;
    return (size_t)(to - out);
}
#endif
