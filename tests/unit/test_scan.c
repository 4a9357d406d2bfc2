/* test_scan.c - the patterns scanned by hand cut as the regular expressions do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "model/pre_tokenizers.h"
#include "token/load.h"
#include "token/regex.h"
#include "token/scan_map.h"
#include "token/unicode.h"

enum { CHARS = 300, ROUNDS = 12000 };

static uint64_t seed = 88172645463325252ull;

static uint32_t draw(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* ---- Texts ---- */

#define LIST(...) (const uint32_t[]){ __VA_ARGS__, 0xffffffff }

/* What the patterns tell apart, by kind: a text draws from some of the lists, so that runs occur. */
static const uint32_t *const lists[] = {
    LIST(' '), LIST('\n', '\r'), LIST('\'', 0x2019), LIST('s', 'S', 't', 'T', 'm', 'd', 'D'),
    LIST('r', 'R', 'e', 'E', 'v', 'V', 'l', 'L', 0x17f, 0x212a), LIST('a', 'z', 'b', 'c'), LIST('A', 'Z', 'Q'),
    LIST('0', '1', '9'), LIST('/', '/', '\n'), LIST('!', '-', '_', '$', '(', '`', '~', '@', '[', '{'),
    LIST('\t', 0xb, 0xc, 0xa0, 0x85, 0x1680, 0x2003, 0x2028, 0x202f, 0x3000),
    LIST(0xe9, 0x44f, 0x3b1, 0xdf, 0xfb05), LIST(0xc9, 0x42f, 0x391, 0x130, 0x1c4), LIST(0x1c5, 0x1f88),
    LIST(0x2b0, 0x3005, 0xe46, 0x640), LIST(0x5d0, 0x627, 0xe01, 0x905, 0xac00, 0x10330),
    LIST(0x301, 0x93f, 0xe31, 0x20dd, 0xfe0f, 0x1d165), LIST(0x4e00, 0x4e2d, 0x9fa5, 0x6587),
    LIST(0x9fa6, 0x4dff, 0x3041, 0x3040, 0x3099, 0x30a0, 0x30fb, 0x30ff, 0x303f, 0x3100),
    LIST(0xb2, 0xbd, 0x661, 0x96b, 0x2167, 0x3007, 0x1d7ce, 0x11de0, 0x16ff6),
    LIST(0x2014, 0xff0c, 0x3002, 0xab, 0x20ac, 0x2764),
    LIST(0x1f600, 0x1f468, 0x1f3fd), LIST(0x200d, 0x200c, 0xad, 0xfeff, 0x200b),
    LIST(0, 0x7f, 0x1c, 0x1f, 1), LIST(0xe000, 0x10ffff, 0xffff, 0x378, 0x105e2),
};

static uint32_t draw_char(uint32_t few)
{
    if (draw(60) == 0) {
        uint32_t cp = draw(0x110000);
        return cp >= 0xd800 && cp <= 0xdfff ? 'x' : cp;
    }
    const uint32_t *list = lists[few ? (few * 7 + draw(4)) % (sizeof lists / sizeof *lists)
                                     : draw(sizeof lists / sizeof *lists)];
    uint32_t n = 0;
    while (list[n] != 0xffffffff)
        n++;
    return list[draw(n)];
}

/* Of all kinds, or of four. */
static size_t draw_text(char *text)
{
    size_t n = 0;
    uint32_t few = draw(2) ? 1 + draw(200) : 0, run = 1 + draw(draw(8) ? 3 : 90);
    for (uint32_t k = draw(draw(3) ? 40 : CHARS); k; ) {
        uint32_t cp = draw_char(few), again = 1 + draw(run);
        for (; k && again; again--, k--)
            n += cdl_utf8_put(text + n, draw(4) ? cp : draw_char(few));
    }
    return n;
}

/* A block of its own, so that reading on shows. */
static char *exact_copy(const char *text, size_t n)
{
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    return exact;
}

/* ---- By regular expressions ---- */

typedef struct {
    uint32_t end[4 * CHARS];
    size_t n;
} cuts;

/* Cuts each piece of the text by a pattern: matches and what lies between. */
static void cut_by_regex(const cdl_regex *r, const char *s, cuts *c)
{
    cuts out = { .n = 0 };
    for (size_t i = 0, from = 0; i < c->n; from = c->end[i++]) {
        size_t n = c->end[i] - from, last = 0, begin, end;
        cdl_regex_walk walk = { 0 };
        bool found;
        for (;;) {
            assert_int_equal(cdl_regex_next(r, &walk, s + from, n, &begin, &end, &found), CUDDLE_OK);
            if (!found)
                break;
            if (begin > last)
                out.end[out.n++] = (uint32_t)(from + begin);
            if (end > begin)
                out.end[out.n++] = (uint32_t)(from + end);
            last = end;
        }
        if (last < n)
            out.end[out.n++] = (uint32_t)(from + n);
    }
    *c = out;
}

/* ---- */

static void check_text(cdl_scan scan, cdl_regex *const *r, const char *s, size_t n)
{
    cuts want = { .end = { (uint32_t)n }, .n = n ? 1 : 0 };
    for (; *r; r++)
        cut_by_regex(*r, s, &want);
    cdl_scan_map map = { 0 };
    uint32_t one, ends[CDL_SCAN_ENDS];
    assert_int_equal(cdl_scan_read(&map, s, n), CUDDLE_OK);
    size_t batch = 0, of = 0;
    cdl_scan_find_ends *find_ends = draw(2) ? cdl_scan_ends : cdl_scan_ends_plain;
    for (size_t at = 0, i = 0; at < n; at = want.end[i++]) {
        if (of == batch) {
            batch = find_ends(&map, scan, at, ends, CDL_SCAN_ENDS);
            of = 0;
            assert_true(batch > 0 && batch <= CDL_SCAN_ENDS);
        }
        assert_int_equal(cdl_scan_ends(&map, scan, at, &one, 1), 1);
        if (one != want.end[i] || ends[of] != want.end[i])
            fail_msg("scan %d, at byte %zu of %zu, \"%.*s\": the expression ends at %u, one match at %u, 64 bytes at a "
                    "time at %u", (int)scan, at, n, (int)n, s, want.end[i], one, ends[of]);
        of++;
    }
    cdl_scan_free(&map);
}

static void check_patterns(const char *const *pattern, cdl_scan want)
{
    cdl_regex *r[4] = { NULL };
    cdl_unicode_init();
    for (size_t i = 0; pattern[i]; i++)
        assert_int_equal(cdl_regex_new(&r[i], pattern[i], strlen(pattern[i]), "test"), CUDDLE_OK);
    for (int round = 0; round < ROUNDS; round++) {
        char text[CHARS * 4];
        size_t n = draw_text(text);
        char *exact = exact_copy(text, n);
        check_text(want, r, exact, n);
        free(exact);
    }
    for (size_t i = 0; r[i]; i++)
        cdl_regex_free(r[i]);
}

static void check_pattern(const char *pattern, cdl_scan want)
{
    assert_int_equal(cdl_scan_find(pattern, strlen(pattern)), want);
    check_patterns((const char *const[]){ pattern, NULL }, want);
}

/* ---- Classes ---- */

static void check_masks(cdl_scan_classify *classify, const char *s, size_t n)
{
    enum { BLOCKS = CHARS / 16 + 2 };
    static cdl_scan_block block[2][BLOCKS];
    cdl_scan_classify_plain(s, n, block[0]);
    classify(s, n, block[1]);
    for (size_t i = 0; i < (n + 63) / 64; i++)
        for (size_t k = 0; k < CDL_AT_MASKS; k++)
            if (block[0][i][k] != block[1][i][k])
                fail_msg("mask %zu of block %zu of \"%.*s\" (%zu bytes): %016lx, wanted %016lx", k, i, (int)n, s, n,
                        (unsigned long)block[1][i][k], (unsigned long)block[0][i][k]);
}

/* The masks of every instruction set are those of the plain loop. */
static void test_masks_are_equal(void **state)
{
    (void)state;
    cdl_scan_init();
#ifdef __x86_64__
    bool avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi");
    if (!__builtin_cpu_supports("avx2"))
        skip();
    for (int round = 0; round < 3 * ROUNDS; round++) {
        char text[4 * CHARS];
        size_t n = draw_text(text);
        char *exact = exact_copy(text, n);
        check_masks(cdl_scan_classify_avx2, exact, n);
        if (avx512)
            check_masks(cdl_scan_classify_avx512, exact, n);
        free(exact);
    }
    for (uint32_t cp = 0; cp < 0x110000; cp++) { /* every character, at every place of a block in turn */
        char text[72];
        size_t n = cp % 67;
        memset(text, 'a', n);
        if (cp >= 0xd800 && cp <= 0xdfff)
            continue;
        n += cdl_utf8_put(text + n, cp);
        check_masks(avx512 && cp % 2 ? cdl_scan_classify_avx512 : cdl_scan_classify_avx2, text, n);
    }
#else
    skip();
#endif
}

/* The plain masks, by what a class is. */
static void test_masks_of_classes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int mask;
        uint64_t bits;
    } cases[] = {
        { "aB1 -\n", CDL_AT_UPPERISH, 2 }, { "aB1 -\n", CDL_AT_LOWERISH, 1 }, { "aB1 -\n", CDL_AT_N, 4 },
        { "aB1 -\n", CDL_AT_SPACE, 0x28 }, { "aB1 -\n", CDL_AT_BLANK, 8 }, { "aB1 -\n", CDL_AT_PS, 16 },
        { "aB1 -\n", CDL_AT_LINE, 32 }, { "a\u0301b", CDL_AT_M, 6 }, { "a\u0301b", CDL_AT_CONT, 4 },
        { "a\u0301b", CDL_AT_HIGH, 6 }, { "\u4e00\u9fa6\u3040", CDL_AT_CJK, 0x1c7 }, { "\u4e00", CDL_AT_LOWERISH, 7 },
        { "/'\x7f", CDL_AT_SLASH, 1 }, { "/'\x7f", CDL_AT_QUOTE, 2 }, { "/'\x7f", CDL_AT_REST, 4 },
        { "\u3040", CDL_AT_REST, 7 }, { "\U0001f600", CDL_AT_PS, 15 },
    };
    cdl_scan_init();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cdl_scan_block block;
        cdl_scan_classify_plain(cases[i].text, strlen(cases[i].text), &block);
        if (block[cases[i].mask] != cases[i].bits)
            fail_msg("case %zu: %lx", i, (unsigned long)block[cases[i].mask]);
    }
}

/* ---- Patterns ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS_TO(digits) CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASES_TO(tail, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" tail \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" tail \
    "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" \
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK_ESCAPES "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* ... and its quote is one */
#define DEEPSEEK_QUOTE "[!\\\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static void test_scan_gpt2_equals_regex(void **state)
{
    (void)state;
    check_pattern(GPT2, CDL_SCAN_GPT2);
    check_pattern("'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", CDL_SCAN_GPT2);
    check_pattern("'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s",
            CDL_SCAN_GPT2);
}

/* Digits knows numbers of a later Unicode than the expressions do. */
static void test_scan_digits_gpt2_equals_regex(void **state)
{
    (void)state;
    const char *const two[] = { "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]", GPT2, NULL };
    check_patterns(two, CDL_SCAN_DIGITS_GPT2);
}

static void test_scan_llama3_equals_regex(void **state)
{
    (void)state;
    check_pattern(WORDS_TO("\\p{N}{1,3}"), CDL_SCAN_LLAMA3);
    check_pattern("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
            "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", CDL_SCAN_LLAMA3);
}

static void test_scan_qwen_equals_regex(void **state)
{
    (void)state;
    check_pattern(WORDS_TO("\\p{N}"), CDL_SCAN_QWEN2);
    check_pattern(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
            "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", CDL_SCAN_QWEN3_5);
}

static void test_scan_o200k_equals_regex(void **state)
{
    (void)state;
    check_pattern(CASES_TO(CONTRACTIONS "?", "\\p{N}{1,3}"), CDL_SCAN_O200K);
}

static void test_scan_tekken_equals_regex(void **state)
{
    (void)state;
    check_pattern(CASES_TO("", "\\p{N}"), CDL_SCAN_TEKKEN);
}

static void test_scan_deepseek_equals_regex(void **state)
{
    (void)state;
    static const char *const last[] = { DEEPSEEK, DEEPSEEK_ESCAPES, DEEPSEEK_QUOTE };
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        const char *const three[] = { "\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", last[i], NULL };
        size_t n[3] = { strlen(three[0]), strlen(three[1]), strlen(three[2]) };
        assert_int_equal(cdl_scan_find_three(three, n), CDL_SCAN_DEEPSEEK3);
        check_patterns(three, CDL_SCAN_DEEPSEEK3);
    }
}

/* What GGUF names is spelled as the table of scans has it. */
static void test_names_of_gguf_are_scanned(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        cdl_scan scan;
    } cases[] = {
        { "gpt-2", CDL_SCAN_GPT2 }, { "smollm", CDL_SCAN_DIGITS_GPT2 }, { "llama-bpe", CDL_SCAN_LLAMA3 },
        { "qwen2", CDL_SCAN_QWEN2 }, { "qwen35", CDL_SCAN_QWEN3_5 }, { "gpt-4o", CDL_SCAN_O200K },
        { "tekken", CDL_SCAN_TEKKEN }, { "deepseek-v3", CDL_SCAN_DEEPSEEK3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cuddle_tokenizer *t;
        const cdl_json *v;
        cdl_arena arena = { 0 };
        const cdl_pre_tokenizer *p = cdl_pre_tokenizer_find(cases[i].pre);
        assert_non_null(p);
        assert_int_equal(cdl_tokenizer_new(&t), CUDDLE_OK);
        assert_int_equal(cdl_json_parse(&v, &arena, p->json, strlen(p->json), p->pre), CUDDLE_OK);
        assert_int_equal(cdl_load_pre_tokenizer(t, v, p->pre), CUDDLE_OK);
        if (t->split[0].pattern.scan != cases[i].scan)
            fail_msg("%s: scan %d", p->pre, (int)t->split[0].pattern.scan);
        cuddle_tokenizer_close(t);
        cdl_arena_free(&arena);
    }
}

static void test_scan_knows_only_these(void **state)
{
    (void)state;
    const char *const three[] = { "\\p{N}{1,3}", "[一-龥]+", DEEPSEEK };
    size_t n[3] = { strlen(three[0]), strlen(three[1]), strlen(three[2]) };
    assert_int_equal(cdl_scan_find("\\w+", 3), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find("", 0), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find(GPT2, strlen(GPT2) - 1), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find(DEEPSEEK, strlen(DEEPSEEK)), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find_three(three, n), CDL_SCAN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_of_classes),
        cmocka_unit_test(test_masks_are_equal),
        cmocka_unit_test(test_scan_gpt2_equals_regex),
        cmocka_unit_test(test_scan_digits_gpt2_equals_regex),
        cmocka_unit_test(test_scan_llama3_equals_regex),
        cmocka_unit_test(test_scan_qwen_equals_regex),
        cmocka_unit_test(test_scan_o200k_equals_regex),
        cmocka_unit_test(test_scan_tekken_equals_regex),
        cmocka_unit_test(test_scan_deepseek_equals_regex),
        cmocka_unit_test(test_names_of_gguf_are_scanned),
        cmocka_unit_test(test_scan_knows_only_these),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
