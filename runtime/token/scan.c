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

/* ---- GPT-2's, 64 bytes at a time ---- */

/* What a contraction at the end of a block does to the first bits of the next. */
typedef struct {
    uint64_t clear, set;
} spill;

/* A contraction is a match of its own, where a ' begins one: no match begins behind the ', one does behind it. */
static uint64_t cut_contractions(const cdl_scan_map *m, size_t at, uint64_t starts, uint64_t quotes, spill *next)
{
    for (; quotes; quotes &= quotes - 1) {
        unsigned i = (unsigned)__builtin_ctzll(quotes);
        size_t end = m->s[at + i] == '\'' ? contraction(m, at + i, false) : 0;
        if (!end)
            continue;
        unsigned __int128 two = starts | (unsigned __int128)next->set << 64, one = 1;
        two = (two & ~(one << (i + 1))) | (end < m->n ? one << (end - at) : 0);
        next->clear |= i == 63;
        starts = (uint64_t)two;
        next->set = (uint64_t)(two >> 64);
    }
    return starts;
}

static inline uint64_t behind(const cdl_scan_block *b, int mask, bool first)
{
    return b[0][mask] << 1 | (first ? 0 : b[-1][mask] >> 63);
}

/* The bytes of block b where matches begin, when all white space is ASCII. Matches begin where the class changes
 * but behind a blank, which goes with what follows, and at the last white space before something else. */
static uint64_t gpt2_starts(const cdl_scan_map *m, size_t b, spill *carry)
{
    const cdl_scan_block *k = &m->block[b];
    const uint64_t *now = *k;
    uint64_t space = now[CDL_AT_SPACE], next = space >> 1 | k[1][CDL_AT_SPACE] << 63;
    uint64_t same = (now[CDL_AT_L] & behind(k, CDL_AT_L, !b)) | (now[CDL_AT_N] & behind(k, CDL_AT_N, !b))
        | (now[CDL_AT_OTHER] & behind(k, CDL_AT_OTHER, !b));
    uint64_t solid = now[CDL_AT_L] | now[CDL_AT_N] | now[CDL_AT_OTHER];
    if (m->n - 64 * b <= 64)
        next |= (uint64_t)1 << (m->n - 64 * b - 1); /* the end of the text is no start of something else */
    uint64_t starts = (solid & ~same & ~behind(k, CDL_AT_BLANK, !b)) | (space & ~(behind(k, CDL_AT_SPACE, !b) & next));
    uint64_t letter = now[CDL_AT_L] >> 1 | k[1][CDL_AT_L] << 63;
    spill out = { 0 };
    starts = (starts & ~carry->clear) | carry->set;
    starts = cut_contractions(m, 64 * b, starts, starts & now[CDL_AT_OTHER] & letter, &out);
    *carry = out;
    return starts;
}

static size_t gpt2_ends(const cdl_scan_map *m, size_t at, uint32_t *end, size_t most)
{
    size_t k = 0, b = at / 64;
    spill carry = { 0 };
    if (b)
        gpt2_starts(m, b - 1, &carry);
    for (; 64 * b < m->n && k + 65 <= most; b++) {
        uint64_t starts = gpt2_starts(m, b, &carry);
        if (b == at / 64)
            starts &= (UINT64_MAX - 1) << at % 64;
        for (; starts; starts &= starts - 1)
            end[k++] = (uint32_t)(64 * b + (size_t)__builtin_ctzll(starts));
    }
    if (64 * b >= m->n)
        end[k++] = (uint32_t)m->n;
    return k;
}

size_t cdl_scan_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    size_t k = 0;
    if (scan == CDL_SCAN_GPT2 && most >= CDL_SCAN_ENDS && !(m->wide & CDL_UC_SPACE))
        return gpt2_ends(m, at, end, most);
    if (scan == CDL_SCAN_GPT2)
        for (; k < most && at < m->n; k++)
            end[k] = (uint32_t)(at = next_gpt2(m, at));
    else
        for (int numbers = scan == CDL_SCAN_LLAMA3 ? 3 : 1; k < most && at < m->n; k++)
            end[k] = (uint32_t)(at = next_llama3(m, at, numbers));
    return k;
}
