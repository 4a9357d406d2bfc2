/* test_utf8.c - UTF-8 checked by blocks says what character by character says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"

enum { TEXT_MAX = 300, TEXTS = 200000 };

static size_t valid_one_by_one(const char *s, size_t n)
{
    uint32_t cp;
    size_t i = 0;
    for (size_t k; i < n; i += k)
        if (!(k = cdl_utf8_get(s + i, n - i, &cp)))
            break;
    return i;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static uint32_t random_cp(uint32_t *state)
{
    static const uint32_t first[] = { 0, 0x80, 0x800, 0xe000, 0x10000 };
    static const uint32_t count[] = { 0x80, 0x780, 0xd000, 0x2000, 0x100000 };
    uint32_t k = next(state) % 5;
    return first[k] + next(state) % count[k];
}

static void test_damaged_texts_are_seen_where_they_are(void **state)
{
    (void)state;
    uint32_t seed = 1, damaged = 0;
    for (int i = 0; i < TEXTS; i++) {
        char text[TEXT_MAX];
        size_t n = 0, most = CDL_UTF8_LONG + next(&seed) % (TEXT_MAX - CDL_UTF8_LONG - 4);
        while (n < most)
            n += cdl_utf8_put(text + n, random_cp(&seed));
        if (i % 4 == 1)
            text[next(&seed) % n] = (char)next(&seed);
        if (i % 4 == 2)
            text[next(&seed) % n] ^= (char)(1 << next(&seed) % 8);
        if (i % 4 == 3)
            n -= next(&seed) % 4;
        size_t bad = valid_one_by_one(text, n);
        damaged += bad < n;
        assert_int_equal(cdl_utf8_valid(text, n), bad);
    }
    assert_true(damaged > TEXTS / 4 && damaged < TEXTS / 4 * 3);
}

static void test_what_no_character_is_ends_a_text(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc2", "\xe2\x96", "\xf0\x9f\x98", "\xe2\x96\x81\x81",
        "\xf0\x9f\x98\x80\x80"
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (size_t at = 0; at < 100; at++) {
            char text[128];
            memset(text, 'a', sizeof text);
            memcpy(text + at, wrong[i], strlen(wrong[i]));
            size_t bad = valid_one_by_one(text, sizeof text);
            assert_true(bad >= at && bad < sizeof text);
            assert_int_equal(cdl_utf8_valid(text, sizeof text), bad);
        }
}

/* Texts of code points of all lengths, whichever stands where. */
static void test_code_points_are_written_as_one_by_one(void **state)
{
    (void)state;
    static const uint32_t some[] = { 0, 'a', 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff };
    static const uint32_t none[] = { 0xd800, 0xdfff, 0x110000, UINT32_MAX };
    enum { POINTS = 100 };
    uint32_t cp[POINTS], x = 1;
    char out[4 * POINTS + CDL_UTF8_LONG], want[4 * POINTS];
    for (int round = 0; round < 2000; round++) {
        size_t n = (size_t)round % (POINTS + 1), bytes = 0;
        for (size_t i = 0; i < n; i++) {
            x = x * 1103515245 + 12345;
            cp[i] = round % 3 ? some[(x >> 16) % (sizeof some / sizeof *some)] : x >> 24 & 0x7f;
            bytes += cdl_utf8_put(want + bytes, cp[i]);
        }
        assert_int_equal(cdl_utf8_write(out, cp, n), bytes);
        assert_memory_equal(out, want, bytes);
        if (n)
            cp[(x >> 8) % n] = none[round % 4];
        assert_true(!n || cdl_utf8_write(out, cp, n) == SIZE_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_texts_are_seen_where_they_are),
        cmocka_unit_test(test_what_no_character_is_ends_a_text),
        cmocka_unit_test(test_code_points_are_written_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
