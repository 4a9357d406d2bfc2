/* test_trie.c - a trie holds its texts and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "token/trie.h"

enum { TEXTS = 20000, TEXT_MAX = 16 };

static int32_t find(const cdl_trie *t, uint32_t root, const char *s)
{
    uint32_t cell = root;
    for (; *s; s++)
        if (!(cell = cdl_trie_next(t, cell, (uint8_t)*s)))
            return -1;
    return t->v[cell].id;
}

static void list_names(cdl_trie_text *text, char (*s)[TEXT_MAX], int n)
{
    for (int i = 0; i < n; i++) {
        int bytes = snprintf(s[i], TEXT_MAX, "%x", i * 7919);
        text[i] = (cdl_trie_text){ s[i], (uint32_t)bytes, i };
    }
}

static void test_trie_holds_its_texts(void **state)
{
    (void)state;
    static char s[TEXTS][TEXT_MAX];
    static cdl_trie_text text[TEXTS + 2];
    cdl_trie t;
    list_names(text, s, TEXTS);
    text[TEXTS] = text[5]; /* a second time */
    text[TEXTS + 1] = (cdl_trie_text){ "7919", 4, 5 };
    assert_int_equal(cdl_trie_make(&t, text, TEXTS + 2, TEXTS + 1, NULL), CUDDLE_OK);
    for (int i = 0; i < TEXTS; i++)
        assert_int_equal(find(&t, 0, s[i]), i);
    assert_int_equal(find(&t, 0, "zz"), -1);
    assert_int_equal(find(&t, 0, "1e"), -1);
    assert_int_equal(find(&t, 1, "7919"), 5);
    assert_int_equal(find(&t, 1, "791"), -1);
    assert_int_equal(find(&t, 1, "1eef"), -1);
    cdl_trie_free(&t);
    assert_int_equal(t.n, 0);
}

/* Every place of a text, with all names that end there, longest first, beside looking each up. */
static void test_trie_follows_the_texts_that_end(void **state)
{
    (void)state;
    enum { NAMES = 3000, LONGEST = 7 };
    static char name[NAMES][TEXT_MAX], text[4 * TEXTS + 1];
    static cdl_trie_text names[NAMES];
    int32_t shorter[NAMES];
    cdl_trie t;
    size_t n = 0, ends = 0;
    list_names(names, name, NAMES);
    assert_int_equal(cdl_trie_make(&t, names, NAMES, NAMES, shorter), CUDDLE_OK);
    for (unsigned i = 0, x = 1; i < TEXTS; i++, n += (size_t)snprintf(text + n, 5, "%x", x >> 20 & 0xfff))
        x = x * 1103515245 + 12345;
    uint32_t cell = 0;
    for (size_t i = 0; i < n; i++) {
        cell = cdl_trie_follow(&t, cell, (uint8_t)text[i]);
        int32_t id = t.v[cell].id;
        for (size_t bytes = i + 1 < LONGEST ? i + 1 : LONGEST; bytes; bytes--) {
            char s[LONGEST + 1] = { 0 };
            memcpy(s, text + i + 1 - bytes, bytes);
            int value = (int)strtol(s, NULL, 16);
            if ((s[0] == '0' && bytes > 1) || value % 7919 || value / 7919 >= NAMES)
                continue;
            assert_int_equal(id, value / 7919);
            id = shorter[id];
            ends++;
        }
        assert_int_equal(id, -1);
    }
    assert_true(ends > 100);
    cdl_trie_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trie_holds_its_texts),
        cmocka_unit_test(test_trie_follows_the_texts_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
