/* scan_map_avx2.c - 64 bytes at a time, as two registers. Characters beyond ASCII are looked up one by one. */
#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "token/scan_map.h"

typedef struct {
    __m256i row[8];            /* kinds of ASCII, 16 a row, twice */
} tables;

static inline uint64_t both(__m256i a, __m256i b)
{
    return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32;
}

static inline uint64_t equal(const __m256i v[2], char byte)
{
    __m256i x = _mm256_set1_epi8(byte);
    return both(_mm256_cmpeq_epi8(v[0], x), _mm256_cmpeq_epi8(v[1], x));
}

/* A shuffle gives 0 where an index has its high bit: every byte's in all rows but its own. */
static inline __m256i ascii_kinds(const tables *t, __m256i v)
{
    __m256i kind = _mm256_setzero_si256();
    for (int row = 0; row < 8; row++) {
        __m256i at = _mm256_adds_epu8(_mm256_xor_si256(v, _mm256_set1_epi8((char)(row << 4))), _mm256_set1_epi8(0x70));
        kind = _mm256_or_si256(kind, _mm256_shuffle_epi8(t->row[row], at));
    }
    return kind;
}

/* Characters that begin at the bits of lead, into kind [64 + 4]. */
static void put_wide(uint8_t *kind, const uint8_t *s, uint64_t lead)
{
    for (; lead; lead &= lead - 1) {
        size_t i = (size_t)__builtin_ctzll(lead), bytes = s[i] < 0xe0 ? 2 : s[i] < 0xf0 ? 3 : 4;
        uint32_t four = cdl_scan_kind_at(s + i, bytes) * 0x01010101u;
        memcpy(kind + i, &four, 2);
        if (bytes > 2)
            memcpy(kind + i + 2, (const uint8_t *)&four, bytes - 2);
    }
}

static inline void mask_block(const __m256i v[2], const __m256i kind[2], uint64_t *out)
{
    const __m256i first = _mm256_set1_epi8((char)0xc0);
    for (int i = 0; i < CDL_SCAN_KINDS; i++)
        out[i] = both(_mm256_slli_epi16(kind[0], 7 - i), _mm256_slli_epi16(kind[1], 7 - i));
    out[CDL_AT_LINE] = equal(v, '\n') | equal(v, '\r');
    out[CDL_AT_BLANK] = equal(v, ' ');
    out[CDL_AT_QUOTE] = equal(v, '\'');
    out[CDL_AT_SLASH] = equal(v, '/');
    out[CDL_AT_CONT] = both(_mm256_cmpgt_epi8(first, v[0]), _mm256_cmpgt_epi8(first, v[1]));
    out[CDL_AT_HIGH] = both(v[0], v[1]);
}

static inline void load(__m256i v[2], const uint8_t *s)
{
    v[0] = _mm256_loadu_si256((const __m256i *)s);
    v[1] = _mm256_loadu_si256((const __m256i *)(s + 32));
}

/* What of the last character stands in the next block is in wide[64..] between the calls. */
static inline void classify_block(const tables *t, const uint8_t *s, const uint8_t *bytes, uint8_t *wide, uint64_t *out)
{
    __m256i v[2], kind[2];
    load(v, bytes);
    kind[0] = ascii_kinds(t, v[0]);
    kind[1] = ascii_kinds(t, v[1]);
    uint64_t high = both(v[0], v[1]);
    if (high) {
        uint8_t before[4];
        memcpy(before, wide + 64, 4);
        _mm256_storeu_si256((__m256i *)wide, kind[0]);
        _mm256_storeu_si256((__m256i *)(wide + 32), kind[1]);
        for (int i = 0; i < 3 && (bytes[i] & 0xc0) == 0x80; i++)
            wide[i] = before[i];
        uint64_t cont = both(_mm256_cmpgt_epi8(_mm256_set1_epi8((char)0xc0), v[0]),
                _mm256_cmpgt_epi8(_mm256_set1_epi8((char)0xc0), v[1]));
        put_wide(wide, s, high & ~cont);
        load(kind, wide);
    }
    mask_block(v, kind, out);
}

void cdl_scan_classify_avx2(const char *text, size_t n, cdl_scan_block *block)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t wide[64 + 4] = { 0 }, tail[64] = { 0 };
    tables t;
    for (int row = 0; row < 8; row++)
        t.row[row] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(cdl_scan_kind + 16 * row)));
    size_t at = 0;
    for (; n - at >= 64; at += 64)
        classify_block(&t, s + at, s + at, wide, *block++);
    if (at == n)
        return;
    memcpy(tail, s + at, n - at);
    classify_block(&t, s + at, tail, wide, *block);
    for (int i = 0; i < CDL_SCAN_KINDS; i++)
        (*block)[i] &= ((uint64_t)1 << (n - at)) - 1;
}
#endif
