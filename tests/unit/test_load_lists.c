/* test_load_lists.c - the long lists of a tokenizer.json: however written, read alike; errors where they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "cuddle_tokenizer.h"

enum { LETTERS = 26, ENTRIES = LETTERS + LETTERS * LETTERS };

/* How lists are written: what stands around strings; every odd-th entry has an escape, or another way. */
typedef struct {
    const char *open, *colon, *comma, *pair, *pair_comma, *pair_end;
    int odd;
} layout;

static const layout plain = { "{", ": ", ",\n      ", "[", "\", \"", "]", 0 };

static void put_text(cdl_buf *b, int i, bool escaped)
{
    int first = i < LETTERS ? i : (i - LETTERS) / LETTERS;
    assert_int_equal(cdl_buf_printf(b, escaped ? "\\u%04x" : "%c", 'a' + first), CUDDLE_OK);
    if (i >= LETTERS)
        assert_int_equal(cdl_buf_printf(b, "%c", 'a' + (i - LETTERS) % LETTERS), CUDDLE_OK);
}

static bool is_odd(const layout *x, int i)
{
    return x->odd && i % x->odd == x->odd - 1;
}

/* A BPE of the letters and all their pairs, the last pair first. */
static void put_json(cdl_buf *b, const layout *x)
{
    cuddle_status st = cdl_buf_puts(b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    assert_int_equal(st, CUDDLE_OK);
    for (int i = 0; i < ENTRIES; i++) {
        assert_int_equal(cdl_buf_printf(b, "%s%s\"", i ? x->comma : "", is_odd(x, i) ? " " : ""), CUDDLE_OK);
        put_text(b, i, is_odd(x, i));
        assert_int_equal(cdl_buf_printf(b, "\"%s%d", x->colon, i), CUDDLE_OK);
    }
    assert_int_equal(cdl_buf_puts(b, "},\"merges\":["), CUDDLE_OK);
    for (int i = ENTRIES - 1; i >= LETTERS; i--) {
        int a = (i - LETTERS) / LETTERS, c = (i - LETTERS) % LETTERS;
        const char *comma = i < ENTRIES - 1 ? x->comma : "", *more = is_odd(x, i) ? "\t" : "";
        assert_int_equal(cdl_buf_printf(b, "%s%s%s\"", comma, more, x->pair), CUDDLE_OK);
        put_text(b, a, is_odd(x, i));
        assert_int_equal(cdl_buf_printf(b, "%s%c\"%s", x->pair_comma, 'a' + c, x->pair_end), CUDDLE_OK);
    }
    assert_int_equal(cdl_buf_puts(b, "]}}"), CUDDLE_OK);
}

static void check_ids(const cuddle_tokenizer *t)
{
    cuddle_encoding *e;
    assert_int_equal(cuddle_encoding_new(&e), CUDDLE_OK);
    cuddle_encoding_view v = { .size = sizeof v };
    assert_int_equal(cuddle_tokenizer_encode(t, e, "abzyz", 5, NULL), CUDDLE_OK);
    cuddle_encoding_look(e, &v);
    assert_int_equal(v.n, 3); /* zy is merged before yz and bz */
    assert_int_equal(v.ids[0], LETTERS + 1);
    assert_int_equal(v.ids[1], LETTERS + 25 * LETTERS + 24);
    assert_int_equal(v.ids[2], 25);
    cuddle_encoding_free(e);
}

static void test_lists_are_read_alike_however_they_are_written(void **state)
{
    (void)state;
    static const layout layouts[] = {
        { "{", ": ", ",\n      ", "[\n        ", "\",\n        \"", "\n      ]", 0 },
        { "{", ": ", ",\n      ", "[\n        ", "\",\n        \"", "\n      ]", 7 },
        { "{", ":", ",", "[", "\",\"", "]", 0 },
        { "{", ":", ",", "", " ", "", 0 },
        { "{", " : ", " , ", "", " ", "", 2 },
        { "{", ":                                                                               ", ",", "[",
          "\",\n                                                                                 \"", "]", 3 },
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        cdl_buf b = { 0 };
        cuddle_tokenizer *t;
        put_json(&b, &layouts[i]);
        assert_int_equal(cuddle_tokenizer_parse(&t, b.data, b.len, "x"), CUDDLE_OK);
        assert_int_equal(cuddle_tokenizer_vocab(t), ENTRIES);
        check_ids(t);
        cuddle_tokenizer_close(t);
        cdl_buf_free(&b);
    }
}

/* The message of a file in which from, where it stands last, is replaced. */
static void expect_error(const char *from, const char *to, const char *said)
{
    cdl_buf b = { 0 };
    cuddle_tokenizer *t;
    put_json(&b, &plain);
    char *at = NULL;
    assert_int_equal(cdl_buf_putc(&b, '\0'), CUDDLE_OK);
    for (char *hit = b.data; (hit = strstr(hit, from)); hit++)
        at = hit;
    assert_non_null(at);
    if (strlen(from) != strlen(to))
        fail_msg("'%s' and '%s' are not of one length", from, to);
    memcpy(at, to, strlen(to));
    assert_int_equal(cuddle_tokenizer_parse(&t, b.data, b.len - 1, "x"), CUDDLE_ERR_FORMAT);
    if (!strstr(cuddle_errmsg(), said))
        fail_msg("'%s' does not say '%s'", cuddle_errmsg(), said);
    cdl_buf_free(&b);
}

static void test_errors_name_what_is_wrong_within_a_list(void **state)
{
    (void)state;
    expect_error("\"ky\": 310,", "\"ky\": 31x,", "',' or an end was expected");
    expect_error("\"ky\": 310,", "\"ky\": 3.1,", "model: vocab: token id -1");
    expect_error("\"ky\": 310,", "\"ky\": 010,", "',' or an end was expected");
    expect_error("\"ky\": 310,", "\"k\ny\":310,", "control character");
    expect_error("[\"k\", \"y\"]", "[\"k\", \"?\"]", "merge 391, 'k' '?': the second is not in the vocabulary");
    expect_error("[\"k\", \"y\"]", "[\"k\", \"y\"}", "',' or an end was expected");
    expect_error("[\"k\", \"y\"]", "[\"k\",   5]", "a token was expected");
}

static void test_files_that_are_cut_off_are_errors(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    put_json(&b, &plain);
    for (size_t n = 0; n < b.len; n += n + 300 < b.len ? 61 : 1) {
        cuddle_tokenizer *t;
        char *copy = malloc(n ? n : 1); /* as long as it is: sanitizers see what is read behind it */
        assert_non_null(copy);
        memcpy(copy, b.data, n);
        assert_int_equal(cuddle_tokenizer_parse(&t, copy, n, "x"), CUDDLE_ERR_FORMAT);
        free(copy);
    }
    cdl_buf_free(&b);
}

enum { PAIRS = LETTERS + LETTERS * LETTERS, TRIPLES = PAIRS + LETTERS * LETTERS * LETTERS };

static void put_word(cdl_buf *b, int i)
{
    char text[4] = { 0 };
    int n = i < LETTERS ? 1 : i < PAIRS ? 2 : 3, k = i - (n == 1 ? 0 : n == 2 ? LETTERS : PAIRS);
    for (int at = n - 1; at >= 0; at--, k /= LETTERS)
        text[at] = (char)('a' + k % LETTERS);
    assert_int_equal(cdl_buf_puts(b, text), CUDDLE_OK);
}

/* A list of over 1 MB, which threads read in stretches; every 100th merge has an escape, the one at bad no token. */
static void put_long_json(cdl_buf *b, int bad)
{
    assert_int_equal(cdl_buf_puts(b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{"), CUDDLE_OK);
    for (int i = 0; i < TRIPLES; i++) {
        assert_int_equal(cdl_buf_puts(b, i ? ",\n  \"" : "\""), CUDDLE_OK);
        put_word(b, i);
        assert_int_equal(cdl_buf_printf(b, "\": %d", i), CUDDLE_OK);
    }
    assert_int_equal(cdl_buf_puts(b, "},\"merges\":["), CUDDLE_OK);
    for (int i = LETTERS; i < TRIPLES; i++) {
        int k = i - (i < PAIRS ? LETTERS : PAIRS), first = k / LETTERS + (i < PAIRS ? 0 : LETTERS);
        assert_int_equal(cdl_buf_printf(b, "%s[\n%40s\"", i > LETTERS ? ",\n  " : "", ""), CUDDLE_OK);
        put_word(b, first);
        assert_int_equal(cdl_buf_printf(b, "\",\n%40s\"", ""), CUDDLE_OK);
        char last = i - LETTERS == bad ? '?' : (char)('a' + k % LETTERS);
        assert_int_equal(cdl_buf_printf(b, i % 100 ? "%c\"\n  ]" : "\\u%04x\"\n  ]", last), CUDDLE_OK);
    }
    assert_int_equal(cdl_buf_puts(b, "]}}"), CUDDLE_OK);
}

static void test_a_long_list_is_read_in_stretches(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    cuddle_encoding_view v = { .size = sizeof v };
    put_long_json(&b, -1);
    assert_true(b.len > 3 << 19);
    assert_int_equal(cuddle_tokenizer_parse(&t, b.data, b.len, "x"), CUDDLE_OK);
    assert_int_equal(cuddle_encoding_new(&e), CUDDLE_OK);
    for (int i = 0; i < TRIPLES; i += 7) {
        cdl_buf word = { 0 };
        put_word(&word, i);
        bool whole = word.len < 3 || memcmp(word.data, word.data + 1, 2) <= 0; /* else its last two join first */
        assert_int_equal(cuddle_tokenizer_encode(t, e, word.data, word.len, NULL), CUDDLE_OK);
        cuddle_encoding_look(e, &v);
        assert_int_equal(v.n, whole ? 1 : 2);
        assert_int_equal(v.ids[0], whole ? i : word.data[0] - 'a');
        cdl_buf_free(&word);
    }
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
    cdl_buf_free(&b);
}

static void test_an_error_in_a_stretch_is_that_of_the_list(void **state)
{
    (void)state;
    for (int bad = 100; bad < TRIPLES - LETTERS; bad += 5000) {
        cdl_buf b = { 0 };
        cuddle_tokenizer *t;
        char said[64];
        put_long_json(&b, bad);
        snprintf(said, sizeof said, "merge %d, ", bad);
        assert_int_equal(cuddle_tokenizer_parse(&t, b.data, b.len, "x"), CUDDLE_ERR_FORMAT);
        if (!strstr(cuddle_errmsg(), said))
            fail_msg("'%s' does not say '%s'", cuddle_errmsg(), said);
        cdl_buf_free(&b);
    }
}

static void test_bytes_that_are_no_text_are_named(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    put_json(&b, &plain);
    for (size_t at = 0; at < b.len; at += at + 100 < b.len ? 97 : 1) {
        cuddle_tokenizer *t;
        char said[64], old = b.data[at];
        b.data[at] = (char)0xff;
        snprintf(said, sizeof said, "byte %zu is not UTF-8", at);
        assert_int_equal(cuddle_tokenizer_parse(&t, b.data, b.len, "x"), CUDDLE_ERR_FORMAT);
        if (!strstr(cuddle_errmsg(), said))
            fail_msg("'%s' does not say '%s'", cuddle_errmsg(), said);
        b.data[at] = old;
    }
    cdl_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_are_read_alike_however_they_are_written),
        cmocka_unit_test(test_errors_name_what_is_wrong_within_a_list),
        cmocka_unit_test(test_files_that_are_cut_off_are_errors),
        cmocka_unit_test(test_a_long_list_is_read_in_stretches),
        cmocka_unit_test(test_an_error_in_a_stretch_is_that_of_the_list),
        cmocka_unit_test(test_bytes_that_are_no_text_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
