/* scan.c - known split patterns by hand: what the regular expressions match, one match at a time. Every place of a
 * text begins a match, so pieces follow each other without gaps. A run of characters of one class ends at the first
 * zero of a mask. */
#include <string.h>

#include "token/scan_map.h"

/* ---- The patterns ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SHORT_CONTRACTIONS "'(?i:[sdmt]|ll|ve|re)"
#define WHITE "|\\s+(?!\\S)|\\s+"
#define LINES "|\\s*[\\r\\n]+" WHITE
#define WORDS_TO(digits) "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES
#define UPPERISH "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERISH "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASES_TO(tail, digits) "[^\\r\\n\\p{L}\\p{N}]?" UPPERISH "*" LOWERISH "+" tail \
    "|[^\\r\\n\\p{L}\\p{N}]?" UPPERISH "+" LOWERISH "*" tail "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" LINES
#define GPT2_TO(contractions) contractions "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+" WHITE
/* in tokenizer.json it has line ends as they are, elsewhere as escapes, and the quote too */
#define DEEPSEEK_TO(quote, line) "[!" quote "#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^" line "\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[" line "]*|\\s*[" line "]+" WHITE

static const struct {
    cdl_scan scan;
    const char *pattern;
} known[] = {
    { CDL_SCAN_GPT2, GPT2_TO("'s|'t|'re|'ve|'m|'ll|'d") },
    { CDL_SCAN_GPT2, GPT2_TO("'(?:[sdmt]|ll|ve|re)") },
    { CDL_SCAN_GPT2, "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s" },
    { CDL_SCAN_LLAMA3, CONTRACTIONS WORDS_TO("\\p{N}{1,3}") },
    /* tiktoken's later spelling of cl100k; [^..]?+ and ++ change nothing, nor does a line end without its + */
    { CDL_SCAN_LLAMA3, SHORT_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
        "|\\s*[\\r\\n]" WHITE },
    { CDL_SCAN_QWEN2, CONTRACTIONS WORDS_TO("\\p{N}") },
    { CDL_SCAN_QWEN3_5, CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
        "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" LINES },
    { CDL_SCAN_O200K, CASES_TO(CONTRACTIONS "?", "\\p{N}{1,3}") },
    { CDL_SCAN_TEKKEN, CASES_TO("", "\\p{N}") },
};

static const char *const deepseek[][3] = {
    { "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_TO("\"", "\r\n") },
    { "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_TO("\"", "\\r\\n") },
    { "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_TO("\\\"", "\\r\\n") },
};

static bool equals(const char *a, size_t n, const char *b)
{
    return n == strlen(b) && memcmp(a, b, n) == 0;
}

cdl_scan cdl_scan_find(const char *pattern, size_t n)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (equals(pattern, n, known[i].pattern))
            return known[i].scan;
    return CDL_SCAN_NONE;
}

const char *cdl_scan_pattern(cdl_scan scan)
{
    size_t i = 0;
    while (known[i].scan != scan)
        i++;
    return known[i].pattern;
}

cdl_scan cdl_scan_find_three(const char *const pattern[3], const size_t n[3])
{
    for (size_t i = 0; i < sizeof deepseek / sizeof *deepseek; i++)
        if (equals(pattern[0], n[0], deepseek[i][0]) && equals(pattern[1], n[1], deepseek[i][1])
                && equals(pattern[2], n[2], deepseek[i][2]))
            return CDL_SCAN_DEEPSEEK3;
    return CDL_SCAN_NONE;
}

/* ---- What patterns share ---- */

static inline size_t skip(const cdl_scan_map *m, size_t at, int of)
{
    return cdl_scan_skip(m, at, of);
}

static inline bool is(const cdl_scan_map *m, size_t at, int of)
{
    return cdl_scan_is(m, at, of);
}

static inline size_t char_before(const cdl_scan_map *m, size_t at)
{
    do
        at--;
    while ((m->s[at] & 0xc0) == 0x80);
    return at;
}

static inline size_t char_end(const cdl_scan_map *m, size_t at)
{
    uint8_t byte = (uint8_t)m->s[at];
    return at + (byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
}

/* White space: all of it at the end of the text or in front of what is of stop, else all but the last character, or
 * the only one. */
static size_t skip_space(const cdl_scan_map *m, size_t at, int stop)
{
    size_t end = skip(m, at, CDL_AT_SPACE);
    if (end == m->n || is(m, end, stop))
        return end;
    size_t last = char_before(m, end);
    return last == at ? end : last;
}

/* White space up to its last line end, if it has one. */
static size_t skip_lines(const cdl_scan_map *m, size_t at, int stop)
{
    size_t end = skip(m, at, CDL_AT_SPACE), i = end;
    while (i > at && !is(m, i - 1, CDL_AT_LINE))
        i--;
    return i > at ? i : skip_space(m, at, stop);
}

static inline size_t skip_numbers(const cdl_scan_map *m, size_t at, int most)
{
    for (; most && is(m, at, CDL_AT_N); most--)
        at = char_end(m, at);
    return at;
}

size_t cdl_scan_contraction(const cdl_scan_map *m, size_t at, bool any_case)
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

static inline size_t contraction(const cdl_scan_map *m, size_t at, bool any_case)
{
    return at < m->n && m->s[at] == '\'' ? cdl_scan_contraction(m, at, any_case) : 0;
}

/* ---- One match ---- */

/* cut: what is cut out before, one by one, so that white space ends in front of it as at the end of the text. */
static inline size_t next_gpt2(const cdl_scan_map *m, size_t at, int other, int number, int cut)
{
    size_t first = at + (m->s[at] == ' '), end = contraction(m, at, false);
    if (is(m, first, CDL_OF_L))
        return skip(m, first, CDL_OF_L);
    if (end)
        return end;
    if (is(m, first, other))
        return skip(m, first, other);
    if (is(m, at, cut))
        return char_end(m, at);
    return is(m, first, number) ? skip(m, first, number) : skip_space(m, at, cut);
}

static inline size_t next_words(const cdl_scan_map *m, size_t at, int letter, int other, int numbers)
{
    size_t end = contraction(m, at, true);
    if (end)
        return end;
    if (is(m, at, letter))
        return skip(m, at, letter);
    if (is(m, at, CDL_AT_N))
        return skip_numbers(m, at, numbers);
    size_t next = char_end(m, at);
    if (is(m, next, letter) && !is(m, at, CDL_AT_LINE))
        return skip(m, next, letter);
    if (is(m, at, other) || (m->s[at] == ' ' && is(m, next, other)))
        return skip(m, skip(m, next, other), CDL_AT_LINE);
    return skip_lines(m, at, CDL_OF_NOTHING);
}

/* The last character in [at, end) that is upperish and lowerish: where it ends, or end when there is none. */
static size_t last_of_both(const cdl_scan_map *m, size_t at, size_t end)
{
    size_t i = end;
    while (i > at && !is(m, i - 1, CDL_AT_LOWERISH))
        i--;
    return i > at ? i : end;
}

/* A word of letters and marks from at on. UPPERISH* takes what it can, and gives back what LOWERISH+ needs. */
static size_t skip_word(const cdl_scan_map *m, size_t at)
{
    size_t end = skip(m, at, CDL_AT_UPPERISH);
    return is(m, end, CDL_AT_LOWERISH) ? skip(m, end, CDL_AT_LOWERISH) : last_of_both(m, at, end);
}

/* A mark at the beginning is part of the word, whether the expression takes it as such or as what may stand in front:
 * where the second gives no match that ends with LOWERISH+, the first does. */
static inline size_t next_cases(const cdl_scan_map *m, size_t at, int numbers, bool contractions)
{
    size_t next = char_end(m, at), word = at;
    if (!is(m, at, CDL_OF_LM) && !is(m, at, CDL_AT_N) && !is(m, at, CDL_AT_LINE))
        word = next;
    if (is(m, word, CDL_OF_LM)) {
        size_t end = skip_word(m, word), more = contractions ? contraction(m, end, true) : 0;
        return more ? more : end;
    }
    if (is(m, at, CDL_AT_N))
        return skip_numbers(m, at, numbers);
    if (is(m, at, CDL_OF_OTHER) || (m->s[at] == ' ' && is(m, next, CDL_OF_OTHER)))
        return skip(m, skip(m, next, CDL_OF_OTHER), CDL_OF_TRAIL);
    return skip_lines(m, at, CDL_OF_NOTHING);
}

/* Classes of what is CJK, or of what is not: neither goes on with the other. */
typedef struct {
    int word, punct, free;
} deepseek_classes;

/* What nothing matches, up to what stands in front of a word. */
static size_t skip_free(const cdl_scan_map *m, size_t at, const deepseek_classes *of)
{
    size_t end = skip(m, at, of->free);
    return is(m, end, of->word) ? char_before(m, end) : end;
}

/* Numbers and CJK are cut out first, so that white space ends in front of them as at the end of the text. */
static inline size_t next_deepseek(const cdl_scan_map *m, size_t at, const deepseek_classes of)
{
    size_t next = char_end(m, at);
    bool free = is(m, at, of.free), blank = m->s[at] == ' ';
    if (is(m, at, CDL_AT_N))
        return skip_numbers(m, at, 3);
    if (is(m, at, of.word))
        return skip(m, at, of.word);
    if (is(m, at, of.punct) && !is(m, at, CDL_AT_HIGH) && is(m, next, CDL_OF_LATIN))
        return skip(m, next, CDL_OF_LATIN);
    if ((free || is(m, at, CDL_OF_WHITE)) && is(m, next, of.word))
        return skip(m, next, of.word);
    if (is(m, at, of.punct) || (blank && is(m, next, of.punct))) {
        size_t end = skip(m, next, of.punct);
        return of.punct == CDL_OF_PUNCT ? skip(m, end, CDL_AT_LINE) : end;
    }
    return free ? skip_free(m, at, &of) : skip_lines(m, at, CDL_OF_CUT);
}

size_t cdl_scan_next(const cdl_scan_map *m, cdl_scan scan, size_t at)
{
    switch (scan) {
    case CDL_SCAN_LLAMA3:
        return next_words(m, at, CDL_OF_L, CDL_OF_OTHER, 3);
    case CDL_SCAN_QWEN2:
        return next_words(m, at, CDL_OF_L, CDL_OF_OTHER, 1);
    case CDL_SCAN_QWEN3_5:
        return next_words(m, at, CDL_OF_LM, CDL_OF_OTHER_NO_M, 1);
    case CDL_SCAN_O200K:
        return next_cases(m, at, 3, true);
    case CDL_SCAN_TEKKEN:
        return next_cases(m, at, 1, false);
    case CDL_SCAN_DEEPSEEK3:
        return is(m, at, CDL_AT_CJK)
            ? next_deepseek(m, at, (deepseek_classes){ CDL_OF_CJK_WORD, CDL_OF_CJK_PUNCT, CDL_OF_CJK_FREE })
            : next_deepseek(m, at, (deepseek_classes){ CDL_OF_WORD, CDL_OF_PUNCT, CDL_OF_FREE });
    case CDL_SCAN_DIGITS_GPT2:
        return next_gpt2(m, at, CDL_OF_OTHER_NOT_NUMERIC, CDL_OF_NOTHING, CDL_OF_NUMERIC);
    default:
        return next_gpt2(m, at, CDL_OF_OTHER, CDL_AT_N, CDL_OF_NOTHING);
    }
}
