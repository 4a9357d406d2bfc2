/* utf8_avx2.c - UTF-8 checked 32 bytes at a time: what each two bytes allow is looked up by their halves.
 * Source: Keiser and Lemire, "Validating UTF-8 in less than one instruction per byte", 2021. */
#ifdef __x86_64__
#include <immintrin.h>

#include "utf8.h"

/* What may be wrong with two bytes; a bit that both halves of the first and the high half of the second have is. */
enum {
    TOO_SHORT = 1, TOO_LONG = 2, OVERLONG_3 = 4, TOO_LARGE = 8, SURROGATE = 16, OVERLONG_2 = 32, TOO_LARGE_4 = 64,
    OVERLONG_4 = 64, TWO_CONTINUE = 128, CARRY = TOO_SHORT | TOO_LONG | TWO_CONTINUE
};

#define TABLE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))

static inline __m256i high_half(__m256i v)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}

static inline __m256i wrong_pairs(__m256i v, __m256i before)
{
    const __m256i first_high = TABLE(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
            (char)TWO_CONTINUE, (char)TWO_CONTINUE, (char)TWO_CONTINUE, (char)TWO_CONTINUE, TOO_SHORT | OVERLONG_2,
            TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE, TOO_SHORT | TOO_LARGE | TOO_LARGE_4 | OVERLONG_4);
    const char large = (char)(CARRY | TOO_LARGE | TOO_LARGE_4);
    const __m256i first_low = TABLE((char)(CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4), (char)(CARRY | OVERLONG_2),
            (char)CARRY, (char)CARRY, (char)(CARRY | TOO_LARGE), large, large, large, large, large, large, large, large,
            (char)(large | SURROGATE), large, large);
    const char second = (char)(TOO_LONG | OVERLONG_2 | TWO_CONTINUE);
    const __m256i second_high = TABLE(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
            TOO_SHORT, (char)(second | OVERLONG_3 | TOO_LARGE_4 | OVERLONG_4), (char)(second | OVERLONG_3 | TOO_LARGE),
            (char)(second | SURROGATE | TOO_LARGE), (char)(second | SURROGATE | TOO_LARGE), TOO_SHORT, TOO_SHORT,
            TOO_SHORT, TOO_SHORT);
    __m256i low = _mm256_and_si256(before, _mm256_set1_epi8(15));
    __m256i wrong = _mm256_and_si256(_mm256_shuffle_epi8(first_high, high_half(before)),
            _mm256_shuffle_epi8(first_low, low));
    return _mm256_and_si256(wrong, _mm256_shuffle_epi8(second_high, high_half(v)));
}

/* The block that begins k bytes before v. */
#define EARLIER(v, last, k) _mm256_alignr_epi8(v, _mm256_permute2x128_si256(last, v, 0x21), 16 - (k))

size_t cdl_utf8_blocks_avx2(const char *s, size_t n)
{
    __m256i last = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(s + i));
        if (!_mm256_movemask_epi8(_mm256_or_si256(v, last))) {
            last = v;
            continue;
        }
        __m256i third = _mm256_subs_epu8(EARLIER(v, last, 2), _mm256_set1_epi8((char)(0xe0 - 0x80)));
        __m256i fourth = _mm256_subs_epu8(EARLIER(v, last, 3), _mm256_set1_epi8((char)(0xf0 - 0x80)));
        __m256i must = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)0x80));
        __m256i wrong = _mm256_xor_si256(wrong_pairs(v, EARLIER(v, last, 1)), must);
        if (!_mm256_testz_si256(wrong, wrong))
            break;
        last = v;
    }
    return i;
}

#endif
