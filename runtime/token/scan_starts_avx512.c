/* scan_starts_avx512.c - the places of up to 64 matches without a loop. */
#ifdef __x86_64__
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define WITH_VBMI2 __attribute__((target("bmi,popcnt,avx512vbmi2")))
#define IN_STARTS WITH_VBMI2 static inline __attribute__((always_inline))

IN_STARTS size_t put_bits(uint32_t *out, size_t base, uint64_t bits)
{
    static const uint8_t place[64] = {
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
    };
    __m512i v = _mm512_maskz_compress_epi8(bits, _mm512_loadu_si512(place)), first = _mm512_set1_epi32((int)base);
    size_t n = (size_t)_mm_popcnt_u64(bits);
    _mm512_storeu_si512(out, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(v))));
    if (n > 16)
        _mm512_storeu_si512(out + 16, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(v, 1))));
    if (n > 32) {
        _mm512_storeu_si512(out + 32, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(v, 2))));
        _mm512_storeu_si512(out + 48, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(v, 3))));
    }
    return n;
}

#include "token/scan_starts.h"

WITH_VBMI2
size_t cdl_scan_ends_avx512(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    return find_ends(m, scan, at, end, most);
}
#endif
