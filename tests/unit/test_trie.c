/* test_trie.c - a trie holds what was added and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "token/trie.h"

static int32_t find(const cdl_trie *t, uint32_t root, const char *s)
{
    uint32_t node = root;
    for (; *s; s++)
        if (!(node = cdl_trie_next(t, node, (uint8_t)*s)))
            return -1;
    return t->id[node];
}

static void test_trie_holds_what_was_added(void **state)
{
    (void)state;
    enum { TEXTS = 20000 };
    cdl_trie t = { 0 };
    uint32_t a, b;
    char s[32];
    assert_int_equal(cdl_trie_root(&t, &a), CUDDLE_OK);
    assert_int_equal(cdl_trie_root(&t, &b), CUDDLE_OK);
    assert_int_equal(a, 0);
    for (int i = 0; i < TEXTS; i++) {
        snprintf(s, sizeof s, "%x", i * 7919);
        assert_int_equal(cdl_trie_add(&t, a, s, strlen(s), i), CUDDLE_OK);
    }
    assert_int_equal(cdl_trie_add(&t, b, "7919", 4, 5), CUDDLE_OK);
    for (int i = 0; i < TEXTS; i++) {
        snprintf(s, sizeof s, "%x", i * 7919);
        assert_int_equal(find(&t, a, s), i);
    }
    assert_int_equal(find(&t, a, "zz"), -1);
    assert_int_equal(find(&t, b, "7919"), 5);
    assert_int_equal(find(&t, b, "791"), -1);
    assert_int_equal(find(&t, b, "1eef"), -1);
    cdl_trie_free(&t);
    assert_int_equal(t.nodes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_trie_holds_what_was_added) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
