/* The trainer: what the tokenizers package learned (tests/golden/train, made by make_train.py), and bad input. */
#include <math.h>

#include "refs.h"
#include "torture.h"

#include "base/json.h"
#include "base/map.h"
#include "cuddle_tokenizer.h"
#include "cuddle_tokenizer_train.h"

#define GOLDEN "tests/golden/train/"
#define CORPUS GOLDEN "corpus.txt"

static const char *const end_token[] = { "<|end|>" }, *const sp_tokens[] = { "<unk>", "<s>" };

/* The pieces of Unigram stand in another order where scores are equal. */
static void compare_pieces(const cdl_json *vocab, const cdl_json *want)
{
    assert_true(cdl_json_len(want) > 50);
    assert_int_equal(cdl_json_len(vocab), cdl_json_len(want));
    for (size_t i = 0; i < cdl_json_len(want); i++) {
        const cdl_json *piece = cdl_json_at(want, i), *ours = NULL;
        for (size_t k = 0; k < cdl_json_len(vocab) && !ours; k++)
            if (cdl_json_is(cdl_json_at(cdl_json_at(vocab, k), 0), cdl_json_string(cdl_json_at(piece, 0), "?")))
                ours = cdl_json_at(cdl_json_at(vocab, k), 1);
        assert_non_null(ours);
        /* characters that are no piece have scores of their own, by 0.0001 each, in an order that is not the same */
        double distance = fabs(cdl_json_double(ours, 0) - cdl_json_double(cdl_json_at(piece, 1), 1));
        assert_true(distance < 2e-9 || (cdl_json_double(ours, 0) < -7 && distance < 0.01));
    }
}

static void compare(const char *json, size_t n, const char *golden)
{
    cdl_arena arena = { 0 };
    const cdl_json *ours, *theirs;
    MUST(cdl_json_parse(&ours, &arena, json, n, "trained"));
    MUST(cdl_json_load(&theirs, &arena, golden));
    const cdl_json *model = cdl_json_get(ours, "model"), *vocab = cdl_json_get(model, "vocab");
    const cdl_json *merges = cdl_json_get(model, "merges"), *want = cdl_json_get(theirs, "vocab");
    if (cdl_json_get(theirs, "pieces")) {
        compare_pieces(vocab, cdl_json_get(theirs, "pieces"));
        cdl_arena_free(&arena);
        return;
    }
    assert_true(cdl_json_len(want) > 100);
    assert_int_equal(cdl_json_len(vocab), cdl_json_len(want));
    for (size_t i = 0; i < cdl_json_len(want); i++) {
        assert_string_equal(cdl_json_at(vocab, i)->key, cdl_json_string(cdl_json_at(want, i), NULL));
        assert_int_equal(cdl_json_int(cdl_json_at(vocab, i), -1), i);
    }
    want = cdl_json_get(theirs, "merges");
    assert_int_equal(cdl_json_len(merges), cdl_json_len(want));
    for (size_t i = 0; i < cdl_json_len(want); i++) {
        char line[256];
        const cdl_json *m = cdl_json_at(merges, i);
        snprintf(line, sizeof line, "%s\t%s", cdl_json_string(cdl_json_at(m, 0), "?"),
                cdl_json_string(cdl_json_at(m, 1), "?"));
        assert_string_equal(line, cdl_json_string(cdl_json_at(want, i), NULL));
    }
    cdl_arena_free(&arena);
}

static void check_golden(cuddle_train_opts o, const char *golden)
{
    cuddle_trainer *t;
    const char *json;
    size_t n;
    o.size = sizeof o;
    MUST(cuddle_trainer_new(&t, &o));
    MUST(cuddle_trainer_feed_file(t, CORPUS));
    MUST(cuddle_trainer_train(t, &json, &n));
    compare(json, n, golden);
    cuddle_tokenizer *tokenizer;
    MUST(cuddle_tokenizer_parse(&tokenizer, json, n, "trained"));
    cuddle_tokenizer_close(tokenizer);
    cuddle_trainer_free(t);
}

static void test_merges_equal_hugging_face(void **state)
{
    (void)state;
    check_golden((cuddle_train_opts){ .vocab_size = 500, .special_tokens = end_token, .n_special = 1 },
            GOLDEN "byte_level.json");
    check_golden((cuddle_train_opts){ .vocab_size = 2000, .special_tokens = end_token, .n_special = 1,
                    .min_frequency = 3, .token_chars_max = 6 }, GOLDEN "byte_level_min.json");
    check_golden((cuddle_train_opts){ .cut = CUDDLE_TRAIN_CUT_METASPACE, .vocab_size = 300,
                    .special_tokens = sp_tokens, .n_special = 2 }, GOLDEN "metaspace.json");
    check_golden((cuddle_train_opts){ .cut = CUDDLE_TRAIN_CUT_WHITESPACE, .vocab_size = 250 },
            GOLDEN "whitespace.json");
}

static void test_words_equal_hugging_face(void **state)
{
    (void)state;
    check_golden((cuddle_train_opts){ .model = CUDDLE_TRAIN_WORDLEVEL, .vocab_size = 150, .min_frequency = 2 },
            GOLDEN "wordlevel.json");
}

static void test_pieces_equal_hugging_face(void **state)
{
    (void)state;
    static const char *const special[] = { "<s>" };
    check_golden((cuddle_train_opts){ .model = CUDDLE_TRAIN_UNIGRAM, .cut = CUDDLE_TRAIN_CUT_WHITESPACE,
                    .vocab_size = 80, .special_tokens = special, .n_special = 1,
                    .initial_alphabet = "\xe6\x97\xa5" }, GOLDEN "unigram.json");
}

static const char words[] = "hug hug pug pun bun hugs hugs hugs";

/* Feeds the text, trains and gives the id of a token, -1 when there is none. */
static cuddle_status train_words(cuddle_train_opts o, const char *text, const char *token, int32_t *id)
{
    cuddle_trainer *t = NULL;
    cuddle_tokenizer *k = NULL;
    const char *json;
    size_t n;
    o.size = sizeof o;
    cuddle_status st = cuddle_trainer_new(&t, &o);
    if (st == CUDDLE_OK)
        st = cuddle_trainer_feed(t, text, strlen(text));
    if (st == CUDDLE_OK)
        st = cuddle_trainer_train(t, &json, &n);
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_parse(&k, json, n, "trained");
    if (st == CUDDLE_OK)
        *id = cuddle_tokenizer_id(k, token, strlen(token));
    cuddle_tokenizer_close(k);
    cuddle_trainer_free(t);
    return st;
}

static void test_wordpiece_continues_words_with_the_prefix(void **state)
{
    (void)state;
    cuddle_train_opts o = { .model = CUDDLE_TRAIN_WORDPIECE, .vocab_size = 40 };
    int32_t id = -1;
    MUST(train_words(o, words, "[UNK]", &id));
    assert_int_equal(id, 0);
    MUST(train_words(o, words, "hugs", &id));
    assert_true(id > 0);
    MUST(train_words(o, words, "##ug", &id));
    assert_true(id > 0);
    MUST(train_words(o, words, "ug", &id));
    assert_int_equal(id, -1);
}

static void test_words_end_with_the_suffix(void **state)
{
    (void)state;
    cuddle_train_opts o = { .cut = CUDDLE_TRAIN_CUT_WHITESPACE, .vocab_size = 40, .end_suffix = "</w>",
                            .initial_alphabet = "xyz" };
    int32_t id = -1;
    MUST(train_words(o, words, "hugs</w>", &id));
    assert_true(id > 0);
    MUST(train_words(o, words, "z", &id));
    assert_true(id > 0);
    MUST(train_words(o, words, "hugs", &id));
    assert_int_equal(id, -1);
}

static void expect_error(cuddle_train_opts o, const char *text, cuddle_status want, const char *part)
{
    int32_t id;
    assert_int_equal(train_words(o, text, "x", &id), want);
    if (!strstr(cuddle_errmsg(), part))
        fail_msg("\"%s\" does not say \"%s\"", cuddle_errmsg(), part);
}

static bool cancel(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)user, (void)what, (void)done, (void)total;
    return false;
}

static void test_bad_input_is_told_in_one_line(void **state)
{
    (void)state;
    cuddle_train_opts o = { 0 };
    expect_error(o, "", CUDDLE_ERR_ARG, "nothing to learn from");
    expect_error(o, "ab\xff", CUDDLE_ERR_ARG, "0xff at offset 2");
    o.progress = cancel;
    expect_error(o, words, CUDDLE_ERR_CANCELLED, "cancelled");
    expect_error((cuddle_train_opts){ .vocab_size = 100 }, words, CUDDLE_ERR_ARG, "alphabet of 256");
    expect_error((cuddle_train_opts){ .normalizer = "{\"type\":\"Nope\"}" }, words, CUDDLE_ERR_UNSUPPORTED, "Nope");
    expect_error((cuddle_train_opts){ .pre_tokenizer = "{" }, words, CUDDLE_ERR_FORMAT, "pre_tokenizer");
    expect_error((cuddle_train_opts){ .unk_token = "\xc3" }, words, CUDDLE_ERR_ARG, "not UTF-8");
    expect_error((cuddle_train_opts){ .model = 7 }, words, CUDDLE_ERR_ARG, "no model 7");
    o = (cuddle_train_opts){ .model = CUDDLE_TRAIN_UNIGRAM, .vocab_size = 3 };
    expect_error(o, words, CUDDLE_ERR_ARG, "alphabet of 8");
    o.shrinking_factor = 1.5;
    expect_error(o, words, CUDDLE_ERR_ARG, "shrinking factor of 1.5");
    cuddle_trainer *t;
    MUST(cuddle_trainer_new(&t, NULL));
    assert_int_equal(cuddle_trainer_feed_file(t, "no/such/file"), CUDDLE_ERR_NOTFOUND);
    cuddle_trainer_free(t);
}

static cuddle_status train_one(void *user)
{
    int32_t id;
    return train_words(*(const cuddle_train_opts *)user, words, "x", &id);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    cuddle_train_opts bpe = { .vocab_size = 270 }, wordpiece = { .model = CUDDLE_TRAIN_WORDPIECE, .vocab_size = 40 };
    assert_true(torture(train_one, &bpe, false, 1) > 20);
    assert_true(torture(train_one, &wordpiece, true, 1) > 20);
    cuddle_train_opts unigram = { .model = CUDDLE_TRAIN_UNIGRAM, .vocab_size = 15 };
    cuddle_train_opts wordlevel = { .model = CUDDLE_TRAIN_WORDLEVEL };
    assert_true(torture(train_one, &unigram, true, 1) > 20);
    assert_true(torture(train_one, &wordlevel, false, 1) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_equal_hugging_face),
        cmocka_unit_test(test_words_equal_hugging_face),
        cmocka_unit_test(test_pieces_equal_hugging_face),
        cmocka_unit_test(test_wordpiece_continues_words_with_the_prefix),
        cmocka_unit_test(test_words_end_with_the_suffix),
        cmocka_unit_test(test_bad_input_is_told_in_one_line),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
