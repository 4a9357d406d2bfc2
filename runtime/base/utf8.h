/* utf8.h - code points in and out of UTF-8. Tests: tests/unit/test_utf8.c */
#ifndef CDL_UTF8_H
#define CDL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CDL_UTF8_LONG = 64 };

/* Decodes one code point of s[0, n): bytes used (1 to 4), or 0 when n is 0 or the bytes
 * are invalid (overlong, surrogate, above U+10FFFF, cut off). */
static inline size_t cdl_utf8_get(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (u[0] < 0x80) {
        *cp = u[0];
        return 1;
    }
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || n < len)
        return 0;
    uint32_t v = u[0] & (0x7f >> len);
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (u[i] & 0x3f);
    }
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *cp = v;
    return len;
}

/* Encodes cp (<= U+10FFFF) into out[4]; bytes written. */
static inline size_t cdl_utf8_put(char *out, uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

static inline uint32_t cdl_utf8_little(uint32_t x)
{
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? x : __builtin_bswap32(x);
}

/* Code points cp [n] as UTF-8; bytes, or SIZE_MAX: one is none, or a surrogate. Room for 4 n + CDL_UTF8_LONG. */
size_t cdl_utf8_write(char *out, const uint32_t *cp, size_t n);
/* utf8_avx512.c: those of the first blocks of 16 that are all code points, in *done. Needs AVX512F, BW, VBMI2. */
size_t cdl_utf8_write_avx512(char *out, const uint32_t *cp, size_t n, size_t *done);

/* Where a character begins up to which long texts are valid, found by many bytes at a time; 0: nothing is known. */
size_t cdl_utf8_blocks(const char *s, size_t n);
/* utf8_avx2.c: blocks of 32 bytes that are valid, but for characters that go on behind the last; in bytes. */
size_t cdl_utf8_blocks_avx2(const char *s, size_t n);

/* The first byte that is not valid UTF-8, or n. */
static inline size_t cdl_utf8_valid(const char *s, size_t n)
{
    size_t i = n >= CDL_UTF8_LONG ? cdl_utf8_blocks(s, n) : 0;
    uint32_t cp;
    while (i < n) {
        uint64_t eight;
        if (n - i >= 8 && (memcpy(&eight, s + i, 8), !(eight & 0x8080808080808080ull))) {
            i += 8;
            continue;
        }
        if (n - i >= 4) { /* most of what is not ASCII */
            uint32_t four;
            memcpy(&four, s + i, 4);
            four = cdl_utf8_little(four);
            uint32_t lead = four & 0xff;
            if ((four & 0xc0e0) == 0x80c0 && lead >= 0xc2) {
                i += 2;
                continue;
            }
            if ((four & 0xc0c0f0) == 0x8080e0 && lead != 0xe0 && lead != 0xed) {
                i += 3;
                continue;
            }
        }
        size_t k = cdl_utf8_get(s + i, n - i, &cp);
        if (!k)
            return i;
        i += k;
    }
    return n;
}

#endif
