/* The trainer: what the tokenizers package learned (tests/golden/train, made by make_train.py), and bad input. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "refs.h"
#include "torture.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"
#include "base/utf8.h"
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

static void compare_merges(const cdl_json *model, const cdl_json *theirs)
{
    const cdl_json *vocab = cdl_json_get(model, "vocab"), *merges = cdl_json_get(model, "merges");
    const cdl_json *want = cdl_json_get(theirs, "vocab");
    assert_true(cdl_json_len(want) > 20);
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
}

static void compare(const char *json, size_t n, const char *golden)
{
    cdl_arena arena = { 0 };
    const cdl_json *ours, *theirs;
    MUST(cdl_json_parse(&ours, &arena, json, n, "trained"));
    MUST(cdl_json_load(&theirs, &arena, golden));
    const cdl_json *model = cdl_json_get(ours, "model");
    if (cdl_json_get(theirs, "pieces"))
        compare_pieces(cdl_json_get(model, "vocab"), cdl_json_get(theirs, "pieces"));
    else
        compare_merges(model, theirs);
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
    check_golden((cuddle_train_opts){ .model = CUDDLE_TRAIN_WORDLEVEL, .cut = CUDDLE_TRAIN_CUT_BYTE_LEVEL,
                    .vocab_size = 150, .unk_token = "<unk>" }, GOLDEN "wordlevel_bytes.json");
}

static void test_pieces_equal_hugging_face(void **state)
{
    (void)state;
    static const char *const special[] = { "<s>" };
    check_golden((cuddle_train_opts){ .model = CUDDLE_TRAIN_UNIGRAM, .cut = CUDDLE_TRAIN_CUT_WHITESPACE,
                    .vocab_size = 80, .special_tokens = special, .n_special = 1,
                    .initial_alphabet = "\xe6\x97\xa5" }, GOLDEN "unigram.json");
}

static bool is_single(const char *piece)
{
    uint32_t cp;
    size_t n = strlen(piece);
    return cdl_utf8_get(piece, n, &cp) == n;
}

static void compare_bits(const cdl_json *a, const cdl_json *b)
{
    double x = cdl_json_double(cdl_json_at(a, 1), NAN), y = cdl_json_double(cdl_json_at(b, 1), NAN);
    assert_memory_equal(&x, &y, sizeof x);
}

/* Scores to the last bit in their order. Characters stand in the order of a hash table where they have the same score,
 * or are no piece and have scores of their own by 0.0001 each: that of all others is the same. */
static void compare_run(const cdl_json *ours, const cdl_json *theirs)
{
    size_t n = cdl_json_len(theirs);
    assert_int_equal(cdl_json_len(ours), n);
    for (size_t i = 0; i < n; i++) {
        const cdl_json *a = cdl_json_at(ours, i), *b = cdl_json_at(theirs, i);
        const char *text = cdl_json_string(cdl_json_at(b, 0), "?"), *mine = cdl_json_string(cdl_json_at(a, 0), "?");
        compare_bits(a, b);
        bool found = strcmp(mine, text) == 0;
        assert_true(found || (is_single(text) && is_single(mine)));
        for (size_t k = 0; k < n && !found; k++)
            found = cdl_json_is(cdl_json_at(cdl_json_at(ours, k), 0), text);
        assert_true(found);
    }
}

static void feed_run(cuddle_trainer *t, const cdl_json *list)
{
    for (int64_t round = 0, left = 1; left; round++) {
        left = 0;
        for (size_t i = 0; i < cdl_json_len(list); i++) {
            const cdl_json *word = cdl_json_at(list, i);
            const char *s = cdl_json_string(cdl_json_at(word, 0), "?");
            if (round >= cdl_json_int(cdl_json_at(word, 1), 0))
                continue;
            MUST(cuddle_trainer_feed(t, s, strlen(s)));
            left++;
        }
    }
}

/* The model that the words of a run give, in the arena. */
static const cdl_json *train_model(const cuddle_train_opts *o, const cdl_json *run, cdl_arena *arena)
{
    cuddle_trainer *t;
    const cdl_json *trained;
    const char *json;
    size_t n;
    MUST(cuddle_trainer_new(&t, o));
    feed_run(t, cdl_json_get(run, "words"));
    MUST(cuddle_trainer_train(t, &json, &n));
    json = cdl_arena_strndup(arena, json, n);
    cuddle_trainer_free(t);
    assert_non_null(json);
    MUST(cdl_json_parse(&trained, arena, json, n, "trained"));
    return cdl_json_get(trained, "model");
}

static void train_run(const cdl_json *golden, const cdl_json *run, uint32_t threads)
{
    static const char *const special[] = { "<s>" };
    cuddle_train_opts o = { .size = sizeof o, .model = CUDDLE_TRAIN_UNIGRAM, .pre_tokenizer = "null",
                            .special_tokens = special, .n_special = 1, .threads = threads };
    o.vocab_size = (uint32_t)cdl_json_int(cdl_json_get(golden, "vocab_size"), 0);
    o.piece_chars_max = (uint32_t)cdl_json_int(cdl_json_get(golden, "max_piece_length"), 0);
    cdl_arena arena = { 0 };
    compare_run(cdl_json_get(train_model(&o, run, &arena), "vocab"), cdl_json_get(run, "pieces"));
    cdl_arena_free(&arena);
}

static void check_merge_run(const cdl_json *run)
{
    const char *special[2] = { NULL };
    const cdl_json *list = cdl_json_get(run, "special_tokens"), *more = cdl_json_get(run, "initial_alphabet");
    for (size_t i = 0; i < cdl_json_len(list); i++)
        special[i] = cdl_json_string(cdl_json_at(list, i), "?");
    cuddle_train_opts o = { .size = sizeof o, .pre_tokenizer = "null", .special_tokens = special,
                            .n_special = cdl_json_len(list), .unk_token = "[UNK]" };
    o.model = cdl_json_is(cdl_json_get(run, "model"), "BPE") ? CUDDLE_TRAIN_BPE : CUDDLE_TRAIN_WORDPIECE;
    o.vocab_size = (uint32_t)cdl_json_int(cdl_json_get(run, "vocab_size"), 0);
    o.min_frequency = (uint64_t)cdl_json_int(cdl_json_get(run, "min_frequency"), 0);
    o.limit_alphabet = (uint32_t)cdl_json_int(cdl_json_get(run, "limit_alphabet"), 0);
    o.continuing_prefix = cdl_json_string(cdl_json_get(run, "continuing_subword_prefix"), NULL);
    o.end_suffix = cdl_json_string(cdl_json_get(run, "end_of_word_suffix"), NULL);
    o.initial_alphabet = cdl_json_string(cdl_json_at(more, 0), NULL);
    cdl_arena arena = { 0 };
    compare_merges(train_model(&o, run, &arena), run);
    cdl_arena_free(&arena);
}

/* Prefixes and suffixes: ids, and so ties, in the order of the words of one run of the library. */
static void test_merges_equal_hugging_face_in_its_order(void **state)
{
    (void)state;
    cdl_arena arena = { 0 };
    const cdl_json *golden;
    MUST(cdl_json_load(&golden, &arena, GOLDEN "merge_runs.json"));
    const cdl_json *runs = cdl_json_get(golden, "runs");
    assert_true(cdl_json_len(runs) >= 5);
    for (size_t i = 0; i < cdl_json_len(runs); i++)
        check_merge_run(cdl_json_at(runs, i));
    cdl_arena_free(&arena);
}

static const cdl_json *find_piece(const cdl_json *pieces, const char *text)
{
    for (size_t i = 0; i < cdl_json_len(pieces); i++)
        if (cdl_json_is(cdl_json_at(cdl_json_at(pieces, i), 0), text))
            return cdl_json_at(cdl_json_at(pieces, i), 1);
    return NULL;
}

/* Two runs of the library on one thread, which are not the same: the sums follow the order of the words, and that is a
 * new one in every run. In the order of each ours is the same to the last bit, with any number of threads. */
static void test_scores_equal_hugging_face_to_the_last_bit(void **state)
{
    (void)state;
    cdl_arena arena = { 0 };
    const cdl_json *golden;
    MUST(cdl_json_load(&golden, &arena, GOLDEN "unigram_runs.json"));
    const cdl_json *runs = cdl_json_get(golden, "runs");
    assert_int_equal(cdl_json_len(runs), 2);
    for (size_t i = 0; i < 2; i++)
        for (uint32_t threads = 1; threads <= 3; threads++)
            train_run(golden, cdl_json_at(runs, i), threads);
    const cdl_json *a = cdl_json_get(cdl_json_at(runs, 0), "pieces"), *b = cdl_json_get(cdl_json_at(runs, 1), "pieces");
    size_t other = 0;
    for (size_t i = 0; i < cdl_json_len(a); i++) {
        const char *text = cdl_json_string(cdl_json_at(cdl_json_at(a, i), 0), "?");
        const cdl_json *score = find_piece(b, text);
        assert_non_null(score);
        other += !is_single(text) && cdl_json_double(cdl_json_at(cdl_json_at(a, i), 1), 0) != cdl_json_double(score, 0);
    }
    assert_true(other > 0);
    cdl_arena_free(&arena);
}

/* Lines of a few words, over a megabyte: each thread counts a part of them. */
static void write_lines(FILE *f)
{
    static const char *const stems[] = { "low", "new", "wide", "\xc3\xbc" };
    uint32_t r = 1;
    for (size_t i = 0; i < 240000; i++) {
        r = r * 1664525 + 1013904223;
        fprintf(f, "%s%c%c", stems[r >> 30], 'a' + (r >> 20) % 26, i % 6 ? ' ' : '\n');
    }
    assert_int_equal(fclose(f), 0);
}

static cdl_buf train_file(cuddle_train_opts o, const char *path, uint32_t threads)
{
    cdl_buf out = { 0 };
    cuddle_trainer *t;
    const char *json;
    size_t n;
    o.size = sizeof o;
    o.threads = threads;
    MUST(cuddle_trainer_new(&t, &o));
    MUST(cuddle_trainer_feed_file(t, path));
    MUST(cuddle_trainer_train(t, &json, &n));
    MUST(cdl_buf_append(&out, json, n));
    cuddle_trainer_free(t);
    return out;
}

static cuddle_status train_lines(void *path)
{
    cuddle_train_opts o = { .size = sizeof o, .model = CUDDLE_TRAIN_WORDLEVEL, .vocab_size = 300, .threads = 2 };
    cuddle_trainer *t = NULL;
    const char *json;
    size_t n;
    cuddle_status st = cuddle_trainer_new(&t, &o);
    if (st == CUDDLE_OK)
        st = cuddle_trainer_feed_file(t, path);
    if (st == CUDDLE_OK)
        st = cuddle_trainer_train(t, &json, &n);
    cuddle_trainer_free(t);
    return st;
}

static void test_any_number_of_threads_learns_the_same(void **state)
{
    (void)state;
    char path[] = "/tmp/cuddle-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    write_lines(fdopen(fd, "w"));
    for (int model = CUDDLE_TRAIN_BPE; model <= CUDDLE_TRAIN_WORDLEVEL; model++) {
        cuddle_train_opts o = { .model = (cuddle_train_model)model, .vocab_size = 300 };
        cdl_buf one = train_file(o, path, 1);
        for (uint32_t threads = 2; threads <= 5; threads += 3) {
            cdl_buf many = train_file(o, path, threads);
            assert_int_equal(many.len, one.len);
            assert_memory_equal(many.data, one.data, one.len);
            cdl_buf_free(&many);
        }
        cdl_buf_free(&one);
    }
    assert_true(torture(train_lines, path, true, 1) > 20);
    remove(path);
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
        cmocka_unit_test(test_merges_equal_hugging_face_in_its_order),
        cmocka_unit_test(test_words_equal_hugging_face),
        cmocka_unit_test(test_pieces_equal_hugging_face),
        cmocka_unit_test(test_scores_equal_hugging_face_to_the_last_bit),
        cmocka_unit_test(test_any_number_of_threads_learns_the_same),
        cmocka_unit_test(test_wordpiece_continues_words_with_the_prefix),
        cmocka_unit_test(test_words_end_with_the_suffix),
        cmocka_unit_test(test_bad_input_is_told_in_one_line),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
