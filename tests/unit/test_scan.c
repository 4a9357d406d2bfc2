/* test_scan.c - the patterns scanned by hand cut as the regular expressions do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "token/regex.h"
#include "token/scan_map.h"

#define WORDS_TO(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static uint64_t seed = 88172645463325252ull;

static uint32_t draw(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* Mostly what the patterns tell apart, now and then any code point. */
static uint32_t draw_char(void)
{
    static const uint32_t some[] = {
        ' ', ' ', ' ', '\n', '\r', '\t', '\'', '\'', 's', 'S', 't', 'T', 'r', 'e', 'E', 'v', 'V', 'm', 'l', 'L',
                'd', 'D',
        'a', 'Z', '0', '9', '!', '-', '_', 0xa0, 0x3000, 0x2028, 0x85, 0x17f, 0x212a, 0xe9, 0x301, 0x4e2d, 0xbd,
                0x661, 0x2167,
        0x1f600, 0x200d, 0, 0x7f, 0x1c, 0xfb05, 0x130, 0x105e2 };
    uint32_t cp = draw(10) ? some[draw(sizeof some / sizeof *some)] : draw(0x110000);
    return cp >= 0xd800 && cp <= 0xdfff ? 'x' : cp;
}

static void check_text(cdl_scan scan, const cdl_regex *r, const char *s, size_t n)
{
    cdl_regex_walk walk = { 0 };
    size_t at = 0, begin, end;
    bool found;
    cdl_scan_map map = { 0 };
    uint32_t next, ends[CDL_SCAN_ENDS];
    size_t batch = 0, of = 0, batch_at = 0;
    assert_int_equal(cdl_scan_read(&map, s, n), CUDDLE_OK);
    while (at < n) {
        assert_int_equal(cdl_regex_next(r, &walk, s, n, &begin, &end, &found), CUDDLE_OK);
        assert_int_equal(cdl_scan_ends(&map, scan, at, &next, 1), 1);
        if (of == batch) {
            batch = cdl_scan_ends(&map, scan, batch_at, ends, CDL_SCAN_ENDS);
            assert_true(batch > 0);
            of = 0;
        }
        batch_at = ends[of++];
        assert_int_equal(next, batch_at); /* one at a time and many at once */
        if (!found || begin != at || end != next)
            fail_msg("at byte %zu of \"%.*s\": the scan ends at %zu, the expression matches %zu..%zu", at,
                    (int)n, s, (size_t)next, begin, end);
        at = next;
    }
    cdl_scan_free(&map);
}

static size_t draw_text(char *text, uint32_t chars)
{
    size_t n = 0;
    for (uint32_t k = draw(chars); k; k--)
        n += cdl_utf8_put(text + n, draw_char());
    return n;
}

static void check_pattern(const char *pattern, cdl_scan want)
{
    cdl_regex *r;
    cdl_unicode_init();
    assert_int_equal(cdl_scan_find(pattern, strlen(pattern)), want);
    assert_int_equal(cdl_regex_new(&r, pattern, strlen(pattern), "test"), CUDDLE_OK);
    for (int round = 0; round < 20000; round++) {
        char text[200 * 4];
        size_t n = draw_text(text, 200);
        char *exact = malloc(n + 1); /* its own block, so that reading on shows */
        memcpy(exact, text, n);
        check_text(want, r, exact, n);
        free(exact);
    }
    cdl_regex_free(r);
}

/* The masks of every instruction set are those of the plain loop. */
static void test_masks_are_equal(void **state)
{
    (void)state;
    enum { CHARS = 300, BLOCKS = CHARS / 16 + 2 };
    static uint8_t kind[2][64 * BLOCKS];
    static cdl_scan_block block[2][BLOCKS];
    cdl_unicode_init();
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vbmi"))
        skip();
    for (int round = 0; round < 20000; round++) {
        char text[4 * CHARS];
        size_t n = draw_text(text, CHARS);
        char *exact = malloc(n + 1);
        memcpy(exact, text, n);
        cdl_scan_classify_plain(exact, n, kind[0], block[0]);
        cdl_scan_classify_avx512(exact, n, kind[1], block[1]);
        assert_memory_equal(kind[0], kind[1], n);
        for (size_t i = 0; i < (n + 63) / 64; i++)
            assert_memory_equal(block[0][i], block[1][i], CDL_AT_MASKS * sizeof(uint64_t));
        free(exact);
    }
#endif
}

static void test_scan_gpt2_equals_regex(void **state)
{
    (void)state;
    check_pattern(cdl_gpt2_pattern, CDL_SCAN_GPT2);
}

static void test_scan_llama3_equals_regex(void **state)
{
    (void)state;
    check_pattern(WORDS_TO("\\p{N}{1,3}"), CDL_SCAN_LLAMA3);
}

static void test_scan_qwen2_equals_regex(void **state)
{
    (void)state;
    check_pattern(WORDS_TO("\\p{N}"), CDL_SCAN_QWEN2);
}

static void test_scan_knows_only_these(void **state)
{
    (void)state;
    assert_int_equal(cdl_scan_find("\\w+", 3), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find("", 0), CDL_SCAN_NONE);
    assert_int_equal(cdl_scan_find(cdl_gpt2_pattern, strlen(cdl_gpt2_pattern) - 1), CDL_SCAN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_are_equal),
        cmocka_unit_test(test_scan_gpt2_equals_regex),
        cmocka_unit_test(test_scan_llama3_equals_regex),
        cmocka_unit_test(test_scan_qwen2_equals_regex),
        cmocka_unit_test(test_scan_knows_only_these),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
