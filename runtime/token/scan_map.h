/* scan_map.h - a text's character classes as masks: how they are made, by instruction set, and looked at.
 * Tests: tests/unit/test_scan.c */
#ifndef CDL_SCAN_MAP_H
#define CDL_SCAN_MAP_H

#include <stdbool.h>

#include "token/scan.h"

/* ---- Making: internal to scan_map*.c ---- */

enum { CDL_SCAN_PLANE = 0x10000, CDL_SCAN_KINDS = 8 }; /* masks that a kind has */

/* Bit i of a kind: mask i. Of the first plane; others go by cdl_scan_kind_of. */
extern uint8_t cdl_scan_kind[CDL_SCAN_PLANE];
/* The kind of all of 512 characters that follow each other, where they have one; else 0. */
extern uint8_t cdl_scan_group[CDL_SCAN_PLANE / 512];
uint8_t cdl_scan_kind_of(uint32_t cp);
void cdl_scan_init(void);
/* Whether CUDDLE_CPU leaves AVX-512 to texts. */
bool cdl_scan_may_avx512(void);

/* Fills block [(n + 63) / 64] for n bytes of valid UTF-8. */
typedef void cdl_scan_classify(const char *s, size_t n, cdl_scan_block *block);
cdl_scan_classify cdl_scan_classify_plain;
cdl_scan_classify cdl_scan_classify_avx2;
cdl_scan_classify cdl_scan_classify_avx512; /* needs AVX512BW and AVX512_VBMI */

/* cdl_scan_ends, by instruction set: scan_starts*.c */
typedef size_t cdl_scan_find_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most);
cdl_scan_find_ends cdl_scan_ends_plain;
cdl_scan_find_ends cdl_scan_ends_avx512; /* needs BMI, AVX512BW and AVX512_VBMI2 */

/* The kind of the character of bytes bytes at s. */
static inline uint8_t cdl_scan_kind_at(const uint8_t *s, size_t bytes)
{
    switch (bytes) {
    case 1:
        return cdl_scan_kind[s[0]];
    case 2:
        return cdl_scan_kind[(s[0] & 0x1fu) << 6 | (s[1] & 0x3fu)];
    case 3:
        return cdl_scan_kind[(s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu)];
    default:
        return cdl_scan_kind_of((s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu));
    }
}

/* ---- Looking ---- */

/* Classes that are made of masks. */
enum {
    CDL_OF_L = CDL_AT_MASKS,
    CDL_OF_LM,
    CDL_OF_OTHER,              /* [^\s\p{L}\p{N}]                        */
    CDL_OF_OTHER_NO_M,         /* [^\s\p{L}\p{M}\p{N}]                   */
    CDL_OF_TRAIL,              /* [\r\n/]                                */
    CDL_OF_UPPER,              /* [\p{Lu}\p{Lt}]                         */
    CDL_OF_WHITE,              /* spaces that end no line                */
    CDL_OF_CUT,                /* DeepSeek: numbers and CJK, and what is none or is CJK */
    CDL_OF_WORD, CDL_OF_PUNCT, CDL_OF_FREE, CDL_OF_CJK_WORD, CDL_OF_CJK_PUNCT, CDL_OF_CJK_FREE,
    CDL_OF_LATIN,              /* [A-Za-z]                               */
    CDL_OF_NUMERIC, CDL_OF_OTHER_NOT_NUMERIC,
    CDL_OF_NOTHING
};

static inline uint64_t cdl_scan_bits(const uint64_t *k, int of)
{
    switch (of) {
    case CDL_OF_L:
        return (k[CDL_AT_UPPERISH] | k[CDL_AT_LOWERISH]) & ~k[CDL_AT_M];
    case CDL_OF_LM:
        return k[CDL_AT_UPPERISH] | k[CDL_AT_LOWERISH];
    case CDL_OF_OTHER:
        return k[CDL_AT_M] | k[CDL_AT_PS] | k[CDL_AT_REST];
    case CDL_OF_OTHER_NO_M:
        return k[CDL_AT_PS] | k[CDL_AT_REST];
    case CDL_OF_TRAIL:
        return k[CDL_AT_LINE] | k[CDL_AT_SLASH];
    case CDL_OF_UPPER:
        return k[CDL_AT_UPPERISH] & ~k[CDL_AT_LOWERISH];
    case CDL_OF_WHITE:
        return k[CDL_AT_SPACE] & ~k[CDL_AT_LINE];
    case CDL_OF_CUT:
        return k[CDL_AT_N] | k[CDL_AT_CJK];
    case CDL_OF_WORD:
        return (k[CDL_AT_UPPERISH] | k[CDL_AT_LOWERISH]) & ~k[CDL_AT_CJK];
    case CDL_OF_PUNCT:
        return k[CDL_AT_PS] & ~(k[CDL_AT_CJK] | k[CDL_AT_REST]);
    case CDL_OF_FREE:
        return k[CDL_AT_REST] & ~k[CDL_AT_CJK];
    case CDL_OF_CJK_WORD:
        return (k[CDL_AT_UPPERISH] | k[CDL_AT_LOWERISH]) & k[CDL_AT_CJK];
    case CDL_OF_CJK_PUNCT:
        return k[CDL_AT_PS] & k[CDL_AT_CJK] & ~k[CDL_AT_REST];
    case CDL_OF_CJK_FREE:
        return k[CDL_AT_REST] & k[CDL_AT_CJK];
    case CDL_OF_LATIN:
        return (k[CDL_AT_UPPERISH] | k[CDL_AT_LOWERISH]) & ~k[CDL_AT_HIGH];
    case CDL_OF_NUMERIC:
        return k[CDL_AT_N] | (k[CDL_AT_PS] & k[CDL_AT_REST]);
    case CDL_OF_OTHER_NOT_NUMERIC:
        return k[CDL_AT_M] | (k[CDL_AT_PS] ^ k[CDL_AT_REST]);
    case CDL_OF_NOTHING:
        return 0;
    default:
        return k[of];
    }
}

/* Whether the character at a byte is of a class; none is at the end of the text. */
static inline bool cdl_scan_is(const cdl_scan_map *m, size_t at, int of)
{
    return cdl_scan_bits(m->block[at / 64], of) >> at % 64 & 1;
}

/* The first byte from at on that is not of the class. */
static inline size_t cdl_scan_skip(const cdl_scan_map *m, size_t at, int of)
{
    size_t b = at / 64;
    uint64_t other = ~cdl_scan_bits(m->block[b], of) >> at % 64;
    if (other)
        return at + (size_t)__builtin_ctzll(other);
    do
        other = ~cdl_scan_bits(m->block[++b], of);
    while (!other);
    return 64 * b + (size_t)__builtin_ctzll(other);
}

/* ---- Matching (scan.c) ---- */

/* Where the match ends that begins at byte at < n. */
size_t cdl_scan_next(const cdl_scan_map *m, cdl_scan scan, size_t at);
/* Where 's 't 're 've 'm 'll or 'd ends that begins with the ' at byte at; 0: none does. */
size_t cdl_scan_contraction(const cdl_scan_map *m, size_t at, bool any_case);

#endif
