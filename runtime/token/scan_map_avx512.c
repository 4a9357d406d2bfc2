/* scan_map_avx512.c - 64 bytes at a time: two registers hold the classes of all of ASCII. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/scan_map.h"

static inline void mask_block(__m512i v, __m512i kind, __mmask64 valid, uint64_t *out)
{
    __mmask64 line = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\n'))
        | _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\r'));
    out[CDL_AT_L] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8(CDL_UC_L));
    out[CDL_AT_N] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8(CDL_UC_N));
    out[CDL_AT_SPACE] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8(CDL_UC_SPACE));
    out[CDL_AT_OTHER] = _mm512_mask_testn_epi8_mask(valid, kind, _mm512_set1_epi8(CDL_UC_L | CDL_UC_N | CDL_UC_SPACE));
    out[CDL_AT_LINE] = line & valid;
    out[CDL_AT_BLANK] = _mm512_mask_cmpeq_epi8_mask(valid, v, _mm512_set1_epi8(' '));
    out[CDL_AT_UPPERISH] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8(CDL_UC_UPPERISH));
    out[CDL_AT_LOWERISH] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8((char)CDL_UC_LOWERISH));
}

uint8_t cdl_scan_classify_avx512(const char *s, size_t n, uint8_t *kind, cdl_scan_block *block)
{
    uint8_t ascii[128], all = 0;
    for (uint32_t i = 0; i < 128; i++)
        ascii[i] = (uint8_t)cdl_unicode(i);
    const __m512i low = _mm512_loadu_si512(ascii), high = _mm512_loadu_si512(ascii + 64);
    for (size_t at = 0; at < n; at += 64, block++) {
        __mmask64 valid = n - at < 64 ? ((uint64_t)1 << (n - at)) - 1 : UINT64_MAX;
        __m512i v = _mm512_maskz_loadu_epi8(valid, s + at), k = _mm512_permutex2var_epi8(low, v, high);
        _mm512_storeu_si512(kind + at, k);
        if (_mm512_movepi8_mask(v)) {
            all |= cdl_scan_fix(s, n, at, _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)0xc0)), kind);
            k = _mm512_loadu_si512(kind + at);
        }
        mask_block(v, k, valid, *block);
    }
    return all;
}
#endif
