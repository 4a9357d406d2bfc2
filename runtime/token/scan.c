/* scan.c - the split patterns of GPT-2, Llama 3 and Qwen 2 by hand: what the regular expressions match, many times
 * faster. Every place of a text begins a match, so pieces follow each other without gaps. */
#include "token/scan.h"

#include <string.h>

#include "base/utf8.h"
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

/* ---- Characters ---- */

enum { LETTER = 1, NUMBER = 2, SPACE = 4, OTHER = 8, LINE_END = 16 }; /* LINE_END besides SPACE */

#define O OTHER
#define L LETTER
#define N NUMBER
#define W SPACE
#define E (SPACE | LINE_END)
static const uint8_t ascii[128] = {
    O, O, O, O, O, O, O, O, O, W, E, W, W, E, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    W, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O };
#undef O
#undef L
#undef N
#undef W
#undef E

/* The kind of the character at s[at] and its length; at < n. */
static inline uint32_t kind_at(const char *s, size_t n, size_t at, size_t *length)
{
    uint8_t byte = (uint8_t)s[at];
    uint32_t cp;
    *length = 1;
    if (byte < 0x80)
        return ascii[byte];
    *length = cdl_utf8_get(s + at, n - at, &cp);
    uint32_t c = cdl_unicode(cp);
    return c & CDL_UC_L ? LETTER : c & CDL_UC_N ? NUMBER : c & CDL_UC_SPACE ? SPACE : OTHER;
}

/* The end of the run of a kind. */
static inline size_t skip(const char *s, size_t n, size_t at, uint32_t kind)
{
    for (size_t k; at < n && kind_at(s, n, at, &k) & kind; )
        at += k;
    return at;
}

/* White space: all of it at the end of the text, else all but the last character, or the only one. */
static size_t skip_space(const char *s, size_t n, size_t at)
{
    size_t end = at, last = at, k;
    while (end < n && kind_at(s, n, end, &k) & SPACE) {
        last = end;
        end += k;
    }
    return end == n || last == at ? end : last;
}

/* ---- The patterns ---- */

/* 's 't 're 've 'm 'll 'd behind at, or 0. */
static size_t contraction(const char *s, size_t n, size_t at, bool any_case)
{
    uint8_t fold = any_case ? 0x20 : 0;
    char a = at + 1 < n ? (char)(s[at + 1] | fold) : 0, b = at + 2 < n ? (char)(s[at + 2] | fold) : 0;
    if (s[at] != '\'')
        return 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return at + 3;
    bool long_s = any_case && at + 2 < n && memcmp(s + at + 1, "\xc5\xbf", 2) == 0; /* U+017F folds to s */
    return long_s ? at + 3 : 0;
}

static size_t next_gpt2(const char *s, size_t n, size_t at)
{
    size_t k, end = contraction(s, n, at, false);
    if (end)
        return end;
    size_t first = at + (s[at] == ' ' && at + 1 < n);
    uint32_t kind = kind_at(s, n, first, &k);
    return kind & SPACE ? skip_space(s, n, at) : skip(s, n, first + k, kind);
}

/* White space up to its last line end, if it has one. */
static size_t skip_lines(const char *s, size_t n, size_t at)
{
    size_t end = 0, k;
    uint32_t kind;
    for (size_t i = at; i < n && (kind = kind_at(s, n, i, &k)) & SPACE; i += k)
        end = kind & LINE_END ? i + k : end;
    return end ? end : skip_space(s, n, at);
}

static size_t skip_numbers(const char *s, size_t n, size_t at, int most)
{
    for (size_t k; most && at < n && kind_at(s, n, at, &k) & NUMBER; most--)
        at += k;
    return at;
}

static size_t next_llama3(const char *s, size_t n, size_t at, int numbers)
{
    size_t k, length, end = contraction(s, n, at, true);
    if (end)
        return end;
    uint32_t kind = kind_at(s, n, at, &k);
    if (kind & NUMBER)
        return skip_numbers(s, n, at, numbers);
    uint32_t next = at + k < n ? kind_at(s, n, at + k, &length) : 0;
    if (kind & LETTER || (next & LETTER && !(kind & LINE_END)))
        return skip(s, n, at + k, LETTER);
    if (kind & OTHER || (s[at] == ' ' && next & OTHER))
        return skip(s, n, skip(s, n, at + k, OTHER), LINE_END);
    return skip_lines(s, n, at);
}

size_t cdl_scan_next(cdl_scan scan, const char *s, size_t n, size_t at)
{
    return scan == CDL_SCAN_GPT2 ? next_gpt2(s, n, at) : next_llama3(s, n, at, scan == CDL_SCAN_LLAMA3 ? 3 : 1);
}
