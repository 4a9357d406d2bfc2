/* Batches over threads, and what may be changed on an open tokenizer. */
#include "refs.h"
#include "torture.h"

#include "cuddle_tokenizer.h"

#define FILE_NAME "tests/golden/tokenizers/files/bpe_bytelevel.json"

enum { TEXTS = 40, TEXT_MAX = 16384 };

static const char *const words[] = { "hello world", "", "na\xc3\xafve caf\xc3\xa9", "  x\n", "The quick brown fox" };

static void expect_same(const cuddle_encoding *a, const cuddle_encoding *b)
{
    cuddle_encoding_view x = { .size = sizeof x }, y = { .size = sizeof y };
    cuddle_encoding_look(a, &x);
    cuddle_encoding_look(b, &y);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.ids, y.ids, x.n * sizeof *x.ids);
    assert_memory_equal(x.offsets, y.offsets, 2 * x.n * sizeof *x.offsets);
}

static cuddle_status encode_batch(cuddle_encoding **e, cuddle_encode_input *in, uint32_t threads, bool bad)
{
    cuddle_tokenizer *t = NULL;
    cuddle_encode_pool *pool = NULL;
    for (int i = 0; i < TEXTS; i++) {
        const char *s = words[i % 5];
        in[i] = (cuddle_encode_input){ .text = s, .n = strlen(s) };
        if (i % 3 == 0) {
            in[i].pair = s;
            in[i].n_pair = strlen(s);
        }
    }
    if (bad)
        in[7].text = in[9].text = "ab\xff";
    in[7].n = bad ? 3 : in[7].n;
    in[9].n = bad ? 3 : in[9].n;
    cuddle_status st = cuddle_tokenizer_open(&t, FILE_NAME);
    if (st == CUDDLE_OK && threads)
        st = cuddle_encode_pool_new(&pool, threads);
    for (int i = 0; i < TEXTS && st == CUDDLE_OK; i++)
        if (!e[i])
            st = cuddle_encoding_new(&e[i]);
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_encode_batch(t, pool, e, in, TEXTS, NULL);
    cuddle_encode_pool_free(pool);
    cuddle_tokenizer_close(t);
    return st;
}

static void free_all(cuddle_encoding **e)
{
    for (int i = 0; i < TEXTS; i++)
        cuddle_encoding_free(e[i]);
}

static void test_a_batch_gives_what_single_texts_give(void **state)
{
    (void)state;
    cuddle_encoding *alone[TEXTS] = { 0 }, *threads[TEXTS] = { 0 };
    cuddle_encode_input in[TEXTS];
    MUST(encode_batch(alone, in, 0, false));
    MUST(encode_batch(threads, in, 3, false));
    for (int i = 0; i < TEXTS; i++)
        expect_same(alone[i], threads[i]);
    assert_int_equal(encode_batch(threads, in, 3, true), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "text 7"));
    assert_int_equal(encode_batch(alone, in, 0, true), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "text 7"));
    free_all(alone);
    free_all(threads);
}

static cuddle_status batch_once(void *user)
{
    cuddle_encoding *e[TEXTS] = { 0 };
    cuddle_encode_input in[TEXTS];
    (void)user;
    cuddle_status st = encode_batch(e, in, 1, false);
    free_all(e);
    return st;
}

static void test_failing_allocations_give_nomem(void **state)
{
    (void)state;
    assert_true(torture(batch_once, NULL, false, 7) > 20);
}

/* Texts of many lengths, of words that repeat and of ones that do not. */
static char *make_texts(const char **texts, size_t *lengths)
{
    char *all = calloc(TEXTS, TEXT_MAX), *p = all;
    for (int i = 0; i < TEXTS; i++, p += TEXT_MAX) {
        texts[i] = p;
        for (int k = 0; k < i * 12; k++)
            lengths[i] += (size_t)snprintf(p + lengths[i], 32, "%s %d", words[k % 5], k * i % 97);
    }
    return all;
}

/* times: 2: the second time in used memory. */
static cuddle_status encode_ids(const char *const *texts, const size_t *lengths, uint32_t threads, int times,
        cuddle_ids **ids, cuddle_tokenizer **t)
{
    cuddle_encode_pool *pool = NULL;
    cuddle_status st = cuddle_tokenizer_open(t, FILE_NAME);
    if (st == CUDDLE_OK && threads)
        st = cuddle_encode_pool_new(&pool, threads);
    if (st == CUDDLE_OK)
        st = cuddle_ids_new(ids);
    for (int i = 0; i < times && st == CUDDLE_OK; i++)
        st = cuddle_tokenizer_encode_ids(*t, pool, *ids, texts, lengths, TEXTS, NULL);
    cuddle_encode_pool_free(pool);
    return st;
}

/* Whatever the threads, ids are those of each text alone. */
static void check_ids(const char *const *texts, const size_t *lengths)
{
    cuddle_encoding *e;
    MUST(cuddle_encoding_new(&e));
    for (uint32_t i = 0; i < 8; i++) {
        cuddle_tokenizer *t;
        cuddle_ids *out;
        const int32_t *ids;
        const size_t *at;
        MUST(encode_ids(texts, lengths, i / 2, 1 + (int)i % 2, &out, &t));
        cuddle_ids_look(out, &ids, &at);
        for (int k = 0; k < TEXTS; k++) {
            cuddle_encoding_view v = { .size = sizeof v };
            MUST(cuddle_tokenizer_encode(t, e, texts[k], lengths[k], NULL));
            cuddle_encoding_look(e, &v);
            assert_int_equal(at[k + 1] - at[k], v.n);
            assert_memory_equal(ids + at[k], v.ids, v.n * sizeof *ids);
        }
        cuddle_ids_free(out);
        cuddle_tokenizer_close(t);
    }
    cuddle_encoding_free(e);
}

static void test_ids_of_many_texts_are_those_of_each(void **state)
{
    (void)state;
    const char *texts[TEXTS];
    size_t lengths[TEXTS] = { 0 };
    char *all = make_texts(texts, lengths);
    check_ids(texts, lengths);
    free(all);
}

/* More of them than there is room for at first. */
static void test_ids_of_texts_with_a_token_a_byte(void **state)
{
    (void)state;
    const char *texts[TEXTS];
    size_t lengths[TEXTS] = { 0 };
    char *all = make_texts(texts, lengths);
    for (int i = 0; i < TEXTS; i++) {
        lengths[i] = i % 7 ? TEXT_MAX : 0;
        for (size_t k = 0; k < lengths[i]; k++)
            ((char *)texts[i])[k] = (char)(1 + (k + (size_t)i) % 8);
    }
    check_ids(texts, lengths);
    free(all);
}

static void test_ids_of_a_bad_text_name_it(void **state)
{
    (void)state;
    const char *texts[TEXTS];
    size_t lengths[TEXTS] = { 0 };
    char *all = make_texts(texts, lengths);
    texts[9] = texts[21] = "ab\xff";
    lengths[9] = lengths[21] = 3;
    for (uint32_t threads = 0; threads < 4; threads += 3) {
        cuddle_tokenizer *t;
        cuddle_ids *out;
        assert_int_equal(encode_ids(texts, lengths, threads, 2, &out, &t), CUDDLE_ERR_ARG);
        assert_non_null(strstr(cuddle_errmsg(), "text 9"));
        cuddle_ids_free(out);
        cuddle_tokenizer_close(t);
    }
    free(all);
}

static cuddle_status ids_once(void *user)
{
    const char *texts[TEXTS];
    size_t lengths[TEXTS] = { 0 };
    char *all = make_texts(texts, lengths);
    cuddle_tokenizer *t = NULL;
    cuddle_ids *out = NULL;
    cuddle_status st = encode_ids(texts, lengths, *(uint32_t *)user, 2, &out, &t);
    cuddle_ids_free(out);
    cuddle_tokenizer_close(t);
    free(all);
    return st;
}

static void test_ids_with_failing_allocations_give_nomem(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads < 3; threads++)
        assert_true(torture(ids_once, &threads, false, 7) > 20);
}

static cuddle_encoding_view encode(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, cuddle_encode_opts o)
{
    cuddle_encoding_view v = { .size = sizeof v };
    o.size = sizeof o;
    MUST(cuddle_tokenizer_encode(t, e, s, strlen(s), &o));
    cuddle_encoding_look(e, &v);
    return v;
}

static void test_truncation_and_padding_are_set_and_taken_away(void **state)
{
    (void)state;
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    MUST(cuddle_tokenizer_open(&t, FILE_NAME));
    MUST(cuddle_encoding_new(&e));
    size_t whole = encode(t, e, "hello world", (cuddle_encode_opts){ 0 }).n;
    assert_true(whole > 3);
    cuddle_truncation cut = { .size = sizeof cut, .max_length = 3 };
    MUST(cuddle_tokenizer_set_truncation(t, &cut));
    cuddle_encoding_view v = encode(t, e, "hello world", (cuddle_encode_opts){ 0 });
    assert_int_equal(v.n, 3);
    assert_true(v.overflowing > 0);
    cuddle_padding p = { .size = sizeof p, .fixed = true, .length = 5, .id = 7, .token = "P" };
    MUST(cuddle_tokenizer_set_padding(t, &p));
    v = encode(t, e, "hello world", (cuddle_encode_opts){ 0 });
    assert_int_equal(v.n, 5);
    assert_int_equal(v.ids[4], 7);
    assert_int_equal(v.attention[4], 0);
    MUST(cuddle_tokenizer_set_truncation(t, NULL));
    MUST(cuddle_tokenizer_set_padding(t, NULL));
    assert_int_equal(encode(t, e, "hello world", (cuddle_encode_opts){ 0 }).n, whole);
    p.length = (size_t)1 << 40;
    assert_int_equal(cuddle_tokenizer_set_padding(t, &p), CUDDLE_ERR_ARG);
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
}

static void test_added_tokens_are_found(void **state)
{
    (void)state;
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    size_t added;
    MUST(cuddle_tokenizer_open(&t, FILE_NAME));
    MUST(cuddle_encoding_new(&e));
    int32_t before = (int32_t)cuddle_tokenizer_vocab(t);
    cuddle_added_token v[] = { { .content = "<new>", .n = 5, .special = true }, { .content = "", .n = 0 },
                               { .content = "<new>", .n = 5, .special = true } };
    MUST(cuddle_tokenizer_add_tokens(t, v, 3, &added));
    assert_int_equal(added, 1);
    int32_t id = cuddle_tokenizer_id(t, "<new>", 5);
    assert_true(id >= before && cuddle_tokenizer_is_special(t, id) && !cuddle_tokenizer_in_model(t, id));
    cuddle_encoding_view k = encode(t, e, "<new>", (cuddle_encode_opts){ .no_special_tokens = true });
    assert_int_equal(k.n, 1);
    assert_int_equal(k.ids[0], id);
    v[0].content = "\xff";
    v[0].n = 1;
    assert_int_equal(cuddle_tokenizer_add_tokens(t, v, 1, &added), CUDDLE_ERR_ARG);
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
}

static void test_offsets_count_bytes_when_asked_and_words_stand_alone(void **state)
{
    (void)state;
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    MUST(cuddle_tokenizer_open(&t, FILE_NAME));
    MUST(cuddle_encoding_new(&e));
    cuddle_encoding_view v = encode(t, e, "\xc3\xa9x", (cuddle_encode_opts){ .no_special_tokens = true });
    assert_int_equal(v.offsets[2 * v.n - 1], 2);
    v = encode(t, e, "\xc3\xa9x", (cuddle_encode_opts){ .no_special_tokens = true, .byte_offsets = true });
    assert_int_equal(v.offsets[2 * v.n - 1], 3);
    size_t ends[] = { 5, 5, 7 };
    v = encode(t, e, "helloab", (cuddle_encode_opts){ .no_special_tokens = true, .word_ends = ends, .n_words = 3 });
    assert_int_equal(v.words[0], 0);
    assert_int_equal(v.words[v.n - 1], 2);
    assert_int_equal(v.offsets[2 * v.n - 1], 2);
    ends[2] = 9;
    cuddle_encode_opts o = { .size = sizeof o, .word_ends = ends, .n_words = 3 };
    assert_int_equal(cuddle_tokenizer_encode(t, e, "helloab", 7, &o), CUDDLE_ERR_ARG);
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_batch_gives_what_single_texts_give),
        cmocka_unit_test(test_failing_allocations_give_nomem),
        cmocka_unit_test(test_ids_of_many_texts_are_those_of_each),
        cmocka_unit_test(test_ids_of_texts_with_a_token_a_byte),
        cmocka_unit_test(test_ids_of_a_bad_text_name_it),
        cmocka_unit_test(test_ids_with_failing_allocations_give_nomem),
        cmocka_unit_test(test_truncation_and_padding_are_set_and_taken_away),
        cmocka_unit_test(test_added_tokens_are_found),
        cmocka_unit_test(test_offsets_count_bytes_when_asked_and_words_stand_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
