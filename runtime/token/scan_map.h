/* scan_map.h - a text's character classes as masks, by instruction set. Tests: tests/unit/test_scan.c */
#ifndef CDL_SCAN_MAP_H
#define CDL_SCAN_MAP_H

#include "token/scan.h"
#include "token/unicode.h"

/* Fills kind [n + 64, rounded up to 64] and block [n / 64 + 2] for n bytes of valid UTF-8. Gives all kinds of
 * characters beyond ASCII together. */
typedef uint8_t cdl_scan_classify(const char *s, size_t n, uint8_t *kind, cdl_scan_block *block);
cdl_scan_classify cdl_scan_classify_plain;
cdl_scan_classify cdl_scan_classify_avx512; /* needs AVX512BW and AVX512_VBMI */

/* The kinds of the characters beyond ASCII that begin at the set bits of lead, in the 64 bytes from at
 * on, all together; what stands there of the character before has that one's kind. */
static inline uint8_t cdl_scan_fix(const char *text, size_t n, size_t at, uint64_t lead, uint8_t *kind)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t all = 0;
    for (size_t i = at; i < n && i < at + 3 && (s[i] & 0xc0) == 0x80; i++)
        kind[i] = kind[i - 1];
    for (; lead; lead &= lead - 1) {
        size_t i = at + (size_t)__builtin_ctzll(lead);
        uint8_t *k = kind + i;
        if (s[i] < 0xe0) {
            k[0] = k[1] = (uint8_t)cdl_unicode((s[i] & 0x1fu) << 6 | (s[i + 1] & 0x3fu));
        } else if (s[i] < 0xf0) {
            k[0] = k[1] = k[2] = (uint8_t)cdl_unicode((s[i] & 0xfu) << 12 | (s[i + 1] & 0x3fu) << 6
                | (s[i + 2] & 0x3fu));
        } else {
            k[0] = k[1] = k[2] = k[3] = (uint8_t)cdl_unicode((s[i] & 7u) << 18 | (s[i + 1] & 0x3fu) << 12
                | (s[i + 2] & 0x3fu) << 6 | (s[i + 3] & 0x3fu));
        }
        all |= k[0];
    }
    return all;
}

#endif
