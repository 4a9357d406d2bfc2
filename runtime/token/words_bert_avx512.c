/* words_bert_avx512.c - BERT's words of ASCII, 64 bytes at a time: lower case, and no white space between them. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/words.h"

__attribute__((target("avx512vbmi2")))
cdl_bert_part cdl_bert_read_avx512(const uint8_t *table, const char *s, size_t n, char *out)
{
    uint64_t valid = n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
    __m512i v = _mm512_maskz_loadu_epi8(valid, s);
    __m512i kind = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), v, _mm512_loadu_si512(table + 192));
    __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), v, _mm512_loadu_si512(table + 64));
    uint64_t stop = _mm512_movepi8_mask(v) | _mm512_cmpeq_epi8_mask(kind, _mm512_set1_epi8(CDL_BERT_OTHER)) | ~valid;
    uint64_t here = stop ? (stop & -stop) - 1 : UINT64_MAX;
    uint64_t space = _mm512_mask_cmpeq_epi8_mask(here, kind, _mm512_set1_epi8(CDL_BERT_SPACE));
    uint64_t punct = _mm512_mask_cmpeq_epi8_mask(here, kind, _mm512_set1_epi8(CDL_BERT_PUNCT)), kept = here & ~space;
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi8(kept, low));
    size_t read = (size_t)_mm_popcnt_u64(here);
    return (cdl_bert_part){ .read = read, .put = (size_t)_mm_popcnt_u64(kept),
                            .starts = _pext_u64(kept & (punct | (space | punct) << 1), kept),
                            .ended = read && (space | punct) >> (read - 1) & 1 };
}
#endif
