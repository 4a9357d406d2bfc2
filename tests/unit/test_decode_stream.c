/* test_decode_stream.c - text from ids that come one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "cuddle_tokenizer.h"
#include "refs.h"
#include "torture.h"

static cuddle_tokenizer *open_tokenizer(const char *name)
{
    cuddle_tokenizer *t;
    MUST(cuddle_tokenizer_open(&t, refs_path("tokenizers/files/%s.json%s", name, "")));
    return t;
}

static void append_whole(cdl_buf *out, const char *text, size_t n)
{
    assert_int_equal(cdl_utf8_valid(text, n), n);
    MUST(cdl_buf_append(out, text, n));
}

static void stream_all(const cuddle_tokenizer *t, const int32_t *ids, size_t n, bool skip, cdl_buf *out)
{
    cuddle_decode_stream *s;
    const char *text;
    size_t len;
    MUST(cuddle_decode_stream_new(&s, t, skip));
    for (size_t i = 0; i < n; i++) {
        MUST(cuddle_decode_stream_put(s, ids[i], &text, &len));
        append_whole(out, text, len);
    }
    MUST(cuddle_decode_stream_end(s, &text, &len));
    append_whole(out, text, len);
    cuddle_decode_stream_free(s);
    MUST(cdl_buf_append(out, "", 0));
}

static void check_stream_equals_decode(const cuddle_tokenizer *t, const int32_t *ids, size_t n)
{
    for (int skip = 0; skip < 2; skip++) {
        cdl_buf streamed = { 0 };
        char *text;
        size_t len;
        stream_all(t, ids, n, skip, &streamed);
        MUST(cuddle_tokenizer_decode(t, ids, n, skip, &text, &len));
        if (streamed.len != len)
            fail_msg("streamed \"%s\", decoded \"%s\"", streamed.data, text);
        assert_memory_equal(streamed.data, text, len);
        cuddle_tokenizer_text_free(text);
        cdl_buf_free(&streamed);
    }
}

static void check_text(const cuddle_tokenizer *t, const char *text, size_t n)
{
    cuddle_encoding *e;
    cuddle_encoding_view v = { .size = sizeof v };
    MUST(cuddle_encoding_new(&e));
    MUST(cuddle_tokenizer_encode(t, e, text, n, NULL));
    cuddle_encoding_look(e, &v);
    check_stream_equals_decode(t, v.ids, v.n);
    cuddle_encoding_free(e);
}

static const char *const names[] = { "bpe_bytelevel", "pat_gpt2", "pat_cl100k", "bpe_byte_fallback",
                                     "pat_gemma", "added_bytelevel", "added_wordpiece", "added_unigram",
                                             "wordpiece_bert", "bpe_suffix", "dec_strip" };
enum { N_NAMES = sizeof names / sizeof *names };

static void test_stream_equals_decode(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "a", "Hello, world! don't, it's  12 o'clock.\n\n",
        "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9",
        "  leading and trailing  ",
        "<s>new fox</s> word <ADD><|im_end|> e\xcc\x81\xcc\xa3 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd end" };
    for (size_t i = 0; i < N_NAMES; i++) {
        cuddle_tokenizer *t = open_tokenizer(names[i]);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            check_text(t, texts[k], strlen(texts[k]));
        cuddle_tokenizer_close(t);
    }
}

/* Characters of every length, one after the other without end: nothing may wait for long. */
static void test_stream_of_long_foreign_text(void **state)
{
    (void)state;
    static const uint32_t first[] = { 'A', 0x410, 0x3041, 0x1f600 };
    char text[4 * 2000];
    size_t n = 0;
    for (uint32_t i = 0; i < 2000; i++)
        n += cdl_utf8_put(text + n, first[i % 4] + i % 26);
    for (size_t i = 0; i < N_NAMES; i++) {
        cuddle_tokenizer *t = open_tokenizer(names[i]);
        check_text(t, text, n);
        cuddle_tokenizer_close(t);
    }
}

/* Any ids: whole characters come out, and with byte-level tokens the same as at once. */
static void test_stream_of_random_ids_gives_whole_characters(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252ull;
    for (size_t i = 0; i < N_NAMES; i++) {
        cuddle_tokenizer *t = open_tokenizer(names[i]);
        uint32_t vocab = cuddle_tokenizer_vocab(t);
        bool byte_level = strstr(names[i], "level") || strcmp(names[i], "pat_gpt2") == 0;
        for (int round = 0; round < 100; round++) {
            int32_t ids[40];
            for (size_t k = 0; k < 40; k++) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                ids[k] = (int32_t)(seed % (vocab + 2));
            }
            cdl_buf out = { 0 };
            if (byte_level)
                check_stream_equals_decode(t, ids, 40);
            else
                stream_all(t, ids, 40, false, &out);
            cdl_buf_free(&out);
        }
        cuddle_tokenizer_close(t);
    }
}

static int32_t id_of(const cuddle_tokenizer *t, const char *token)
{
    int32_t id = cuddle_tokenizer_id(t, token, strlen(token));
    assert_true(id >= 0);
    return id;
}

static void check_put(cuddle_decode_stream *s, int32_t id, const char *want)
{
    const char *text;
    size_t n;
    MUST(cuddle_decode_stream_put(s, id, &text, &n));
    assert_int_equal(n, strlen(want));
    assert_memory_equal(text, want, n);
}

/* A euro sign as three bytes: text comes with the last; unfinished, it comes at the end. */
static void test_stream_holds_back_unfinished_characters(void **state)
{
    (void)state;
    cuddle_tokenizer *t = open_tokenizer("bpe_byte_fallback");
    int32_t e2 = id_of(t, "<0xE2>"), x82 = id_of(t, "<0x82>"), ac = id_of(t, "<0xAC>"), a = id_of(t, "<0x41>");
    cuddle_decode_stream *s;
    const char *text;
    size_t n;
    MUST(cuddle_decode_stream_new(&s, t, false));
    check_put(s, a, "A");
    check_put(s, e2, "");
    check_put(s, x82, "");
    check_put(s, ac, "\xe2\x82\xac");
    check_put(s, e2, "");
    MUST(cuddle_decode_stream_end(s, &text, &n));
    assert_int_equal(n, 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    check_put(s, a, "A"); /* and it can begin again */
    cuddle_decode_stream_free(s);
    cuddle_tokenizer_close(t);
}

static cuddle_status open_and_stream(void *path)
{
    cuddle_tokenizer *t;
    cuddle_decode_stream *s = NULL;
    const char *text;
    size_t n;
    CDL_TRY(cuddle_tokenizer_open(&t, path));
    cuddle_status st = cuddle_decode_stream_new(&s, t, false);
    for (int32_t id = 0; id < 90 && st == CUDDLE_OK; id++)
        st = cuddle_decode_stream_put(s, id, &text, &n);
    if (st == CUDDLE_OK)
        st = cuddle_decode_stream_end(s, &text, &n);
    cuddle_decode_stream_free(s);
    cuddle_tokenizer_close(t);
    return st;
}

static void test_failing_allocations_give_nomem(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", refs_path("tokenizers/files/%s.json%s", "bpe_byte_fallback", ""));
    torture(open_and_stream, path, false, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_equals_decode),
        cmocka_unit_test(test_stream_of_long_foreign_text),
        cmocka_unit_test(test_stream_of_random_ids_gives_whole_characters),
        cmocka_unit_test(test_stream_holds_back_unfinished_characters),
        cmocka_unit_test(test_failing_allocations_give_nomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
