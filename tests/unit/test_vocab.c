/* Vocabularies: every text is found by its own id, whatever its length, and no other is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "token/vocab.h"

enum { TEXTS = 50000, LENGTHS = 41, BATCH = 64 };

/* Text i: of 0 to 40 bytes; those of one length differ in a few bytes alone, wherever those stand. */
static size_t make_text(char *s, uint32_t i)
{
    size_t n = i % LENGTHS, k = n < 3 ? n : 3, at = n > 3 ? (i / LENGTHS) % (n - 3) : 0;
    uint32_t rest = i / LENGTHS;
    memset(s, 'x', n);
    for (size_t j = 0; j < k; j++, rest /= 200)
        s[at + j] = (char)(rest % 200 + 1);
    return n;
}

/* The last of the ids that equal texts were given; short ones repeat. */
static void test_texts_of_all_lengths_are_found(void **state)
{
    (void)state;
    char s[2 * LENGTHS], other[2 * LENGTHS];
    cdl_vocab v = { 0 };
    for (uint32_t i = 0; i < TEXTS; i++)
        assert_int_equal(i % 2 ? cdl_vocab_append(&v, s, make_text(s, i), i)
                               : cdl_vocab_add(&v, s, make_text(s, i), i), CUDDLE_OK);
    assert_int_equal(cdl_vocab_index(&v), CUDDLE_OK);
    assert_true(v.repeats);
    assert_int_equal(v.ids, TEXTS);
    for (uint32_t i = 0; i < TEXTS; i++) {
        size_t n = make_text(s, i), length;
        int32_t id = cdl_vocab_find(&v, s, n);
        assert_in_range(id, i, TEXTS - 1);
        assert_int_equal(make_text(other, (uint32_t)id), n);
        assert_memory_equal(s, other, n);
        assert_memory_equal(cdl_vocab_text(&v, i, &length), s, n);
        assert_int_equal(length, n);
        assert_int_equal(cdl_vocab_find_joined(&v, s, n / 3, s + n / 3, n - n / 3), id);
        s[n] = 'y';
        if (n >= 3)
            assert_int_equal(cdl_vocab_find(&v, s, n + 1), -1);
    }
    cdl_vocab_free(&v);
}

static void test_batches_find_the_same(void **state)
{
    (void)state;
    char s[BATCH][LENGTHS + CDL_VOCAB_ROOM] = { { 0 } };
    cdl_vocab v = { 0 };
    for (uint32_t i = 0; i < TEXTS / 2; i++)
        assert_int_equal(cdl_vocab_append(&v, s[0], make_text(s[0], i), i), CUDDLE_OK);
    assert_int_equal(cdl_vocab_index(&v), CUDDLE_OK);
    for (uint32_t from = 0; from + BATCH < TEXTS; from += BATCH) {
        cdl_vocab_string text[BATCH];
        cdl_vocab_slot key[BATCH];
        int32_t id[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            text[i] = (cdl_vocab_string){ s[i], make_text(s[i], from + i) };
            key[i] = cdl_vocab_ask(&v, text[i].s, text[i].n);
        }
        cdl_vocab_find_asked(&v, text, key, id, BATCH);
        for (uint32_t i = 0; i < BATCH; i++)
            assert_int_equal(id[i], cdl_vocab_find(&v, text[i].s, text[i].n));
    }
    cdl_vocab_free(&v);
}

/* A file may give one id to two texts; both have it then, and the id has the last one's text. */
static void test_an_id_of_two_texts(void **state)
{
    static const char *const texts[] = { "", "a", "a text of many more bytes", "another of twenty-eight bytes" };
    (void)state;
    for (int i = 0; i < 16; i++) {
        size_t n;
        cdl_vocab v = { 0 };
        const char *a = texts[i / 4], *b = texts[i % 4];
        assert_int_equal(cdl_vocab_add(&v, a, strlen(a), 7), CUDDLE_OK);
        assert_int_equal(cdl_vocab_add(&v, b, strlen(b), 7), CUDDLE_OK);
        assert_int_equal(cdl_vocab_find(&v, a, strlen(a)), 7);
        assert_int_equal(cdl_vocab_find(&v, b, strlen(b)), 7);
        assert_string_equal(cdl_vocab_text(&v, 7, &n), b);
        assert_int_equal(v.used, a == b ? 1 : 2);
        cdl_vocab_free(&v);
    }
}

/* Ids that leap, as those of added tokens do. */
static void test_ids_between_are_none(void **state)
{
    (void)state;
    size_t n;
    cdl_vocab v = { 0 };
    static const int64_t ids[] = { 3, 600, 300000, 2000000, 9 };
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(cdl_vocab_add(&v, "text" + i % 4, 4 - i % 4, ids[i]), CUDDLE_OK);
    assert_int_equal(v.ids, 2000001);
    for (uint32_t id = 0; id < v.ids; id += id < 700 ? 1 : 100)
        assert_int_equal(cdl_vocab_text(&v, id, &n) != NULL,
                id == 3 || id == 9 || id == 600 || id == 300000 || id == 2000000);
    assert_int_equal(cdl_vocab_find(&v, "text", 4), 9);
    assert_int_equal(cdl_vocab_find(&v, "t", 1), 2000000);
    assert_int_equal(cdl_vocab_add(&v, "x", 1, CDL_VOCAB_ID_MAX + 1), CUDDLE_ERR_FORMAT);
    cdl_vocab_free(&v);
}

static void test_joins(void **state)
{
    (void)state;
    char s[2 * LENGTHS + CDL_VOCAB_ROOM] = { 0 };
    cdl_vocab v = { 0 };
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(cdl_vocab_add(&v, s, make_text(s, i), i), CUDDLE_OK);
    for (uint32_t i = 0; i < 2000; i++) {
        size_t n = make_text(s, i), cut = (i / LENGTHS) % (n + 1);
        cdl_vocab_string a = { s, cut }, b = { s + cut, n - cut };
        assert_true(cdl_vocab_joins(&v, i, &a, &b));
        assert_false(cdl_vocab_joins(&v, 2000, &a, &b));
        for (size_t k = 0; k < n; k++) {
            s[k] ^= 1;
            assert_false(cdl_vocab_joins(&v, i, &a, &b));
            s[k] ^= 1;
        }
        b.n++;
        assert_false(cdl_vocab_joins(&v, i, &a, &b));
    }
    cdl_vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_of_all_lengths_are_found),
        cmocka_unit_test(test_batches_find_the_same),
        cmocka_unit_test(test_an_id_of_two_texts),
        cmocka_unit_test(test_ids_between_are_none),
        cmocka_unit_test(test_joins),
    };
    return cmocka_run_group_tests_name("vocab", tests, NULL, NULL);
}
