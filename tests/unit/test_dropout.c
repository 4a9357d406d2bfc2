/* test_dropout.c - BPE with dropout: the given part of merges is left out, the same one for the same seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "cuddle_tokenizer.h"
#include "refs.h"

enum { WORDS = 20000, TEXTS = 9 };

static cuddle_tokenizer *make(const char *dropout)
{
    cuddle_tokenizer *t;
    cdl_buf b = { 0 };
    MUST(cdl_buf_printf(&b, "{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},"
            "\"model\":{\"type\":\"BPE\",\"dropout\":%s,"
            "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4,\"abcabc\":5,\"ca\":6},"
            "\"merges\":[\"a b\",\"ab c\",\"abc abc\",\"c a\"]}}", dropout));
    MUST(cuddle_tokenizer_parse(&t, b.data, b.len, "dropout.json"));
    cdl_buf_free(&b);
    return t;
}

/* The word, so many times. */
static void repeat(cdl_buf *b, const char *word, size_t n)
{
    cdl_buf_clear(b);
    for (size_t i = 0; i < n; i++)
        MUST(cdl_buf_puts(b, word));
}

static cuddle_encoding *encode(const cuddle_tokenizer *t, const cdl_buf *text, uint64_t seed, bool ids_only,
        cuddle_encoding_view *v)
{
    cuddle_encoding *e;
    cuddle_encode_opts o = { .size = sizeof o, .seed = seed, .ids_only = ids_only };
    MUST(cuddle_encoding_new(&e));
    MUST(cuddle_tokenizer_encode(t, e, text->data, text->len, &o));
    v->size = sizeof *v;
    cuddle_encoding_look(e, v);
    return e;
}

static void assert_same(const cuddle_encoding_view *a, const cuddle_encoding_view *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
}

static void test_the_given_part_is_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } parts[] = { { "null", 0 }, { "0.0", 0 }, { "0.25", 0.25 }, { "0.9", 0.9 }, { "1.0", 1 } };
    cdl_buf text = { 0 };
    repeat(&text, "ab ", WORDS); /* each word has one merge */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cuddle_tokenizer *t = make(parts[i].text);
        cuddle_encoding_view v;
        cuddle_encoding *e = encode(t, &text, i, false, &v);
        double left_out = ((double)v.n - WORDS) / WORDS, p = parts[i].value;
        assert_true(fabs(left_out - p) <= 5 * sqrt(p * (1 - p) / WORDS));
        cuddle_encoding_free(e);
        cuddle_tokenizer_close(t);
    }
    cdl_buf_free(&text);
}

static void test_a_seed_gives_its_tokens(void **state)
{
    (void)state;
    cuddle_tokenizer *t = make("0.4");
    cdl_buf text = { 0 };
    repeat(&text, "abcabcabcabcabcabcabcabcabcabcabcabcabc ", 50);
    cuddle_encoding_view a, b, ids, other;
    cuddle_encoding *e[] = { encode(t, &text, 7, false, &a), encode(t, &text, 7, false, &b),
                             encode(t, &text, 7, true, &ids), encode(t, &text, 8, false, &other) };
    assert_same(&a, &b);
    assert_same(&a, &ids);
    assert_null(ids.offsets);
    assert_false(a.n == other.n && memcmp(a.ids, other.ids, a.n * sizeof *a.ids) == 0);
    for (size_t i = 0, at = 0; i < a.n; i++) { /* no letter is lost, whatever is left out */
        at += at < text.len && text.data[at] == ' ';
        assert_int_equal(a.offsets[2 * i], at);
        at = a.offsets[2 * i + 1];
    }
    for (size_t i = 0; i < sizeof e / sizeof *e; i++)
        cuddle_encoding_free(e[i]);
    cdl_buf_free(&text);
    cuddle_tokenizer_close(t);
}

static void test_batches_count_seeds(void **state)
{
    (void)state;
    cuddle_tokenizer *t = make("0.4");
    cuddle_encode_pool *pool;
    cuddle_encoding *e[TEXTS];
    cuddle_encode_input in[TEXTS];
    cuddle_encode_opts o = { .size = sizeof o, .seed = 100 };
    cdl_buf text = { 0 };
    repeat(&text, "abcabcabc ", 30);
    MUST(cuddle_encode_pool_new(&pool, 3));
    for (size_t i = 0; i < TEXTS; i++) {
        MUST(cuddle_encoding_new(&e[i]));
        in[i] = (cuddle_encode_input){ .text = text.data, .n = text.len };
    }
    MUST(cuddle_tokenizer_encode_batch(t, pool, e, in, TEXTS, &o));
    for (size_t i = 0; i < TEXTS; i++) {
        cuddle_encoding_view v = { .size = sizeof v }, alone;
        cuddle_encoding_look(e[i], &v);
        cuddle_encoding *one = encode(t, &text, 100 + i, false, &alone);
        assert_same(&v, &alone);
        cuddle_encoding_free(one);
        cuddle_encoding_free(e[i]);
    }
    cuddle_encode_pool_free(pool);
    cdl_buf_free(&text);
    cuddle_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_given_part_is_left_out),
                                        cmocka_unit_test(test_a_seed_gives_its_tokens),
                                        cmocka_unit_test(test_batches_count_seeds) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
