/* linear_avx2.c - products with AVX2, without VNNI. See linear.inc.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits and saturates; how many such
 * sums of |activation| <= 127 fit before they are widened follows from the bits of the weights: 8 of
 * 4 bits (30480), 4 of 5 bits (31496), 2 of 6 bits (32004). Of 8 bits not even one is safe unsigned:
 * those are taken as signed, |w| x (activation with w's sign), at most 2 x 128 x 127 = 32512. */
#include "cpu/vec_avx2.h"

#include "cpu/lanes_avx2.h"

#include "cpu/decode.inc"

#define SET avx2
#define SIGNED_BYTES 1

INLINE __m256i pairs(__m256i w, __m256i four, const int bits)
{
    if (bits < 8)
        return _mm256_maddubs_epi16(w, four);
    __m256i s = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(four, s));
}

INLINE __m256i widened(__m256i n, __m256i sums)
{
    return _mm256_add_epi32(n, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
}

INLINE vi dot(vi n, const block *w, const int8_t *q, const int first, const int count, const int bits)
{
    const int fit = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    __m256i a = _mm256_setzero_si256(), b = a;
#pragma GCC unroll 8
    for (int g = first; g < first + count; g++) {
        int32_t bytes;
        __builtin_memcpy(&bytes, q + 4 * g, 4);
        __m256i four = _mm256_set1_epi32(bytes);
        a = _mm256_add_epi16(a, pairs(w->w[g].a, four, bits));
        b = _mm256_add_epi16(b, pairs(w->w[g].b, four, bits));
        if ((g - first + 1) % fit && g + 1 < first + count)
            continue;
        n = (vi){ widened(n.a, a), widened(n.b, b) };
        a = b = _mm256_setzero_si256();
    }
    return n;
}

#include "cpu/linear.inc"
