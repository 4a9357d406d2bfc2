/* Older kinds of tokenizer files (import.h), small ones written here; large ones are compared in tests/tools. */
#include "refs.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base64.h"
#include "cuddle_tokenizer.h"
#include "token/import.h"
#include "token/load.h"

static char folder[] = "/tmp/cuddle-import-XXXXXX";

static const char *write_file(const char *name, const void *data, size_t n)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
    return path;
}

static const char *write_text(const char *name, const char *text)
{
    return write_file(name, text, strlen(text));
}

/* The ids of a text as "1,2,3". */
static const char *ids_of(const char *path, const char *text)
{
    static char out[256];
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    cuddle_encoding_view v = { .size = sizeof v };
    size_t n = 0;
    MUST(cuddle_tokenizer_open(&t, path));
    MUST(cuddle_encoding_new(&e));
    MUST(cuddle_tokenizer_encode(t, e, text, strlen(text), NULL));
    cuddle_encoding_look(e, &v);
    out[0] = '\0';
    for (size_t i = 0; i < v.n && n < sizeof out - 12; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, i ? ",%d" : "%d", v.ids[i]);
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
    return out;
}

static void expect_error(const char *path, cuddle_status want, const char *part)
{
    cuddle_tokenizer *t;
    assert_int_equal(cuddle_tokenizer_open(&t, path), want);
    if (!strstr(cuddle_errmsg(), part))
        fail_msg("\"%s\" does not say \"%s\"", cuddle_errmsg(), part);
}

static const char bert[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nwor\n##ld\n";

static void test_vocab_txt_is_bert(void **state)
{
    (void)state;
    const char *path = write_text("vocab.txt", bert);
    assert_string_equal(ids_of(path, "Hello world x"), "2,4,5,6,1,3");
    write_text("tokenizer_config.json", "{\"do_lower_case\":false}");
    path = write_text("vocab.txt", bert);
    assert_string_equal(ids_of(path, "Hello world"), "2,1,5,6,3");
    expect_error(write_text("other.txt", "a\nb\n"), CUDDLE_ERR_FORMAT, "[UNK]");
}

static void test_vocab_json_and_merges_are_byte_level(void **state)
{
    (void)state;
    write_text("merges.txt", "#version: 0.2\na b\n\xc4\xa0 ab\n");
    const char *path = write_text("vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"\xc4\xa0\":3,\"\xc4\xa0" "ab\":4,"
            "\"<|endoftext|>\":5}");
    assert_string_equal(ids_of(path, "ab ab<|endoftext|>b"), "2,4,5,1");
    write_text("merges.txt", "a b\nab\n");
    expect_error(path = write_text("vocab.json", "{\"a\":0}"), CUDDLE_ERR_FORMAT, "line 2");
    expect_error(write_text("vocab.json", "[1]"), CUDDLE_ERR_FORMAT, "object");
}

static void test_tiktoken_merges_follow_from_ranks(void **state)
{
    (void)state;
    /* a, b, ab, space, " ab" */
    const char *path = write_text("x.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\nIA== 3\nIGFi 4\n");
    assert_string_equal(ids_of(path, "ab aba"), "2,4,0");
    expect_error(write_text("x.tiktoken", "YQ== 0\nYg!= 1\n"), CUDDLE_ERR_FORMAT, "rank 1");
    expect_error(write_text("x.tiktoken", "YQ== 0\nYg==\n"), CUDDLE_ERR_FORMAT, "line 2");
}

static void test_tekken_has_special_tokens_first(void **state)
{
    (void)state;
    const char *good = "{\"config\":{\"pattern\":\"\\\\p{L}+|\\\\s+\",\"default_vocab_size\":5,"
        "\"default_num_special_tokens\":2},\"vocab\":[{\"rank\":0,\"token_bytes\":\"YQ==\"},"
        "{\"rank\":1,\"token_bytes\":\"Yg==\"},{\"rank\":2,\"token_bytes\":\"YWI=\"},"
        "{\"rank\":3,\"token_bytes\":\"IA==\"}],"
        "\"special_tokens\":[{\"rank\":1,\"token_str\":\"<s>\"}]}";
    assert_string_equal(ids_of(write_text("tekken.json", good), "ab<s>a"), "4,1,2");
    assert_string_equal(ids_of(write_text("mistral.json", good), "ab<s>a"), "4,1,2"); /* whatever its name is */
    const char *other = "{\"version\":\"1.0\",\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"a\","
        "\"vocab\":{\"a\":0,\"b\":1}}}";
    assert_string_equal(ids_of(write_text("tekken.json", other), "b"), "1");
    expect_error(write_text("tekken.json", "{\"vocab\":[]}"), CUDDLE_ERR_FORMAT, "pattern");
    expect_error(write_text("tekken.json", "{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5,"
            "\"default_num_special_tokens\":2}}"), CUDDLE_ERR_FORMAT, "\"vocab\"");
}

/* ---- SentencePiece ---- */

static void put_piece(cdl_buf *b, const char *s, float score, int type)
{
    size_t n = strlen(s);
    char head[] = { 0x0a, (char)(n + 2 + 5 + 2), 0x0a, (char)n }, kind[] = { 0x18, (char)type };
    MUST(cdl_buf_append(b, head, 4));
    MUST(cdl_buf_append(b, s, n));
    MUST(cdl_buf_append(b, "\x15", 1));
    MUST(cdl_buf_append(b, (const char *)&score, 4));
    MUST(cdl_buf_append(b, kind, 2));
}

#define MARK "\xe2\x96\x81"

static cdl_buf make_sentencepiece(int model)
{
    cdl_buf b = { 0 };
    char trainer[] = { 0x12, 2, 0x18, (char)model };
    put_piece(&b, "<unk>", 0, 2);
    put_piece(&b, "<s>", 0, 3);
    put_piece(&b, MARK, -3, 1);
    put_piece(&b, "a", -4, 1);
    put_piece(&b, "b", -4.5f, 1);
    put_piece(&b, MARK "a", -1, 1);
    put_piece(&b, "ab", -2, 1);
    MUST(cdl_buf_append(&b, trainer, 4));
    return b;
}

static void test_sentencepiece_of_both_kinds(void **state)
{
    (void)state;
    cdl_buf b = make_sentencepiece(1);
    assert_string_equal(ids_of(write_file("tokenizer.model", b.data, b.len), " a  ab x<s>"), "5,2,6,2,0,1");
    expect_error(write_file("tokenizer.model", b.data, b.len - 3), CUDDLE_ERR_FORMAT, "cut off");
    cdl_buf_free(&b);
    b = make_sentencepiece(2);
    assert_string_equal(ids_of(write_file("tokenizer.model", b.data, b.len), "ab a"), "5,4,5");
    cdl_buf_free(&b);
    b = make_sentencepiece(3);
    expect_error(write_file("tokenizer.model", b.data, b.len), CUDDLE_ERR_UNSUPPORTED, "model_type 3");
    cdl_buf_free(&b);
}

static cuddle_status import_one(void *user)
{
    cuddle_tokenizer *t = NULL;
    const cdl_buf *b = user;
    cuddle_status st = cdl_tokenizer_import(&t, CDL_IMPORT_SENTENCEPIECE, b->data, b->len, "m.model");
    cuddle_tokenizer_close(t);
    return st;
}

static void test_failing_allocations_give_nomem(void **state)
{
    (void)state;
    cdl_buf b = make_sentencepiece(2);
    assert_true(torture(import_one, &b, false, 1) > 20);
    cdl_buf_free(&b);
}

static void test_base64(void **state)
{
    (void)state;
    const uint8_t bytes[] = { 0, 255, 16, 131, 7 };
    for (size_t n = 1; n <= 3; n++) {
        char four[4];
        uint8_t back[4];
        size_t len;
        cdl_base64_encode(bytes, n, four);
        assert_true(cdl_base64_decode(four, 4, back, &len));
        assert_int_equal(len, n);
        assert_memory_equal(back, bytes, n);
    }
}

static void test_converted_text_opens_again(void **state)
{
    (void)state;
    char *json;
    size_t n;
    cuddle_tokenizer *t;
    MUST(cuddle_tokenizer_convert(write_text("v.txt", bert), &json, &n));
    MUST(cuddle_tokenizer_parse(&t, json, n, "converted"));
    assert_int_equal(cuddle_tokenizer_id(t, "hello", 5), 4);
    cuddle_tokenizer_close(t);
    cuddle_tokenizer_text_free(json);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = { "vocab.txt", "other.txt", "v.txt", "merges.txt", "vocab.json", "x.tiktoken",
                                         "mistral.json", "tekken.json", "tokenizer.model", "tokenizer_config.json" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocab_txt_is_bert),
        cmocka_unit_test(test_vocab_json_and_merges_are_byte_level),
        cmocka_unit_test(test_tiktoken_merges_follow_from_ranks),
        cmocka_unit_test(test_tekken_has_special_tokens_first),
        cmocka_unit_test(test_sentencepiece_of_both_kinds),
        cmocka_unit_test(test_failing_allocations_give_nomem),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_converted_text_opens_again),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
