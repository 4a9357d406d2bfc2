/* scan.c - the split patterns of GPT-2, Llama 3 and Qwen 2 by hand: what the regular expressions match, many times
 * faster. Every place of a text begins a match, so pieces follow each other without gaps. A run of characters of
 * one class ends at the first zero of a mask. */
#include "token/scan.h"

#include <string.h>

#include "token/unicode.h"

const char cdl_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define WORDS_TO(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

cdl_scan cdl_scan_find(const char *pattern, size_t n)
{
    static const char llama3[] = WORDS_TO("\\p{N}{1,3}"), qwen2[] = WORDS_TO("\\p{N}");
    if (n == sizeof cdl_gpt2_pattern - 1 && memcmp(pattern, cdl_gpt2_pattern, n) == 0)
        return CDL_SCAN_GPT2;
    if (n == sizeof llama3 - 1 && memcmp(pattern, llama3, n) == 0)
        return CDL_SCAN_LLAMA3;
    if (n == sizeof qwen2 - 1 && memcmp(pattern, qwen2, n) == 0)
        return CDL_SCAN_QWEN2;
    return CDL_SCAN_NONE;
}

/* ---- Runs ---- */

/* The first byte from at on that is not of the class. */
static inline size_t skip(const cdl_scan_map *m, size_t at, int mask)
{
    size_t b = at / 64;
    uint64_t other = ~m->block[b][mask] >> at % 64;
    if (other)
        return at + (size_t)__builtin_ctzll(other);
    do
        other = ~m->block[++b][mask];
    while (!other);
    return 64 * b + (size_t)__builtin_ctzll(other);
}

static inline bool is(const cdl_scan_map *m, size_t at, int mask)
{
    return m->block[at / 64][mask] >> at % 64 & 1;
}

/* The first byte of the character in front of byte at. */
static inline size_t char_before(const cdl_scan_map *m, size_t at)
{
    do
        at--;
    while ((m->s[at] & 0xc0) == 0x80);
    return at;
}

/* White space: all of it at the end of the text, else all but the last character, or the only one. */
static inline size_t skip_space(const cdl_scan_map *m, size_t at)
{
    size_t end = skip(m, at, CDL_AT_SPACE), last;
    if (end == m->n || end == at + 1)
        return end;
    last = char_before(m, end);
    return last == at ? end : last;
}

static inline size_t char_end(const cdl_scan_map *m, size_t at)
{
    uint8_t byte = (uint8_t)m->s[at];
    return at + (byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
}

/* ---- The patterns ---- */

/* 's 't 're 've 'm 'll 'd behind at, where a ' stands, or 0. */
static size_t contraction(const cdl_scan_map *m, size_t at, bool any_case)
{
    const char *s = m->s;
    uint8_t fold = any_case ? 0x20 : 0;
    char a = at + 1 < m->n ? (char)(s[at + 1] | fold) : 0, b = at + 2 < m->n ? (char)(s[at + 2] | fold) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return at + 3;
    bool long_s = any_case && at + 2 < m->n && memcmp(s + at + 1, "\xc5\xbf", 2) == 0; /* U+017F folds to s */
    return long_s ? at + 3 : 0;
}

static inline size_t next_gpt2(const cdl_scan_map *m, size_t at)
{
    size_t first = at + (m->s[at] == ' '), end;
    if (is(m, first, CDL_AT_L))
        return skip(m, first, CDL_AT_L);
    if (m->s[at] == '\'' && (end = contraction(m, at, false)))
        return end;
    if (is(m, first, CDL_AT_OTHER))
        return skip(m, first, CDL_AT_OTHER);
    return is(m, first, CDL_AT_N) ? skip(m, first, CDL_AT_N) : skip_space(m, at);
}

/* White space up to its last line end, if it has one. */
static size_t skip_lines(const cdl_scan_map *m, size_t at)
{
    size_t end = skip(m, at, CDL_AT_SPACE), i = end;
    while (i > at && !is(m, i - 1, CDL_AT_LINE))
        i--;
    return i > at ? i : skip_space(m, at);
}

static inline size_t skip_numbers(const cdl_scan_map *m, size_t at, int most)
{
    for (; most && is(m, at, CDL_AT_N); most--)
        at = char_end(m, at);
    return at;
}

static inline size_t next_llama3(const cdl_scan_map *m, size_t at, int numbers)
{
    size_t end;
    if (m->s[at] == '\'' && (end = contraction(m, at, true)))
        return end;
    if (is(m, at, CDL_AT_L))
        return skip(m, at, CDL_AT_L);
    if (is(m, at, CDL_AT_N))
        return skip_numbers(m, at, numbers);
    size_t next = char_end(m, at);
    if (is(m, next, CDL_AT_L) && !is(m, at, CDL_AT_LINE))
        return skip(m, next, CDL_AT_L);
    if (is(m, at, CDL_AT_OTHER) || (m->s[at] == ' ' && is(m, next, CDL_AT_OTHER)))
        return skip(m, skip(m, next, CDL_AT_OTHER), CDL_AT_LINE);
    return skip_lines(m, at);
}

size_t cdl_scan_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    size_t k = 0;
    if (scan == CDL_SCAN_GPT2)
        for (; k < most && at < m->n; k++)
            end[k] = (uint32_t)(at = next_gpt2(m, at));
    else
        for (int numbers = scan == CDL_SCAN_LLAMA3 ? 3 : 1; k < most && at < m->n; k++)
            end[k] = (uint32_t)(at = next_llama3(m, at, numbers));
    return k;
}
