/* The ids of a text in parts are those of the whole, wherever the parts end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "refs.h"
#include "token/stream_encode.h"

static const char *const pieces[] = {
    "the cat", " sat", "\n", "\n\n", " ", "  ", "a b", "x\ny", "\xe4\xb8\xad\xe6\x96\x87", ".\n", "\xe3\x80\x82\n",
    "'s", "1234", " 5", "!?", "e\xcc\x81", "\xcc\x81", "<|endoftext|>", "[SEP]", "<s>", "\t", "\r\n", "Hello World",
    "\xe2\x96\x81", "\xe2\x80\x99t", "\xf0\x9f\x98\x80", "\xc2\xa0", "don't you", "/", "\xe1\x84\x80\xe1\x85\xa1" };
enum { PIECES = sizeof pieces / sizeof *pieces, TEXT = 6000 };

static size_t make_text(char *text, uint32_t seed)
{
    size_t n = 0;
    while (n < TEXT) {
        seed = seed * 1664525u + 1013904223u;
        const char *s = pieces[(seed >> 8) % PIECES];
        memcpy(text + n, s, strlen(s));
        n += strlen(s);
    }
    return n;
}

/* Returns the calls that gave ids before the end: that something was cut. */
static size_t compare(const cuddle_tokenizer *t, const char *text, size_t n, size_t block)
{
    cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = true, .ids_only = true, .no_truncation = true,
                             .no_padding = true };
    cuddle_encoding *e;
    MUST(cuddle_encoding_new(&e));
    MUST(cuddle_tokenizer_encode(t, e, text, n, &o));
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    cdl_stream_encode *s;
    MUST(cdl_stream_encode_new(&s, t, 1));
    size_t at = 0, early = 0;
    for (size_t i = 0; i < n; i += block) {
        const int32_t *ids = NULL;
        size_t k = 0, len = n - i < block ? n - i : block;
        MUST(cdl_stream_encode_put(s, text + i, len, i + len == n, &ids, &k));
        assert_true(at + k <= v.n);
        if (k)
            assert_memory_equal(ids, v.ids + at, k * sizeof *ids);
        at += k;
        early += k && i + len < n;
    }
    assert_int_equal(at, v.n);
    cdl_stream_encode_free(s);
    cuddle_encoding_free(e);
    return early;
}

/* A tokenizer in parts, with a vocabulary of what the texts have. */
static void test_made(const char *name, const char *parts, bool unigram)
{
    static char text[TEXT + 64], json[4096];
    static const char *const vocab[] = { "<unk>", "\xe2\x96\x81", "a", "b", "c", "e", "h", "s", "t", "x", "y", "o", "u",
        "\\n", "\xe2\x96\x81" "a", "\xe2\x96\x81s", "th", "the", "at", "\xe2\x96\x81" "at", "ca", "cat" };
    size_t n = (size_t)snprintf(json, sizeof json, "{%s,\"model\":{\"type\":\"%s\",\"vocab\":%c", parts,
            unigram ? "Unigram" : "BPE", unigram ? '[' : '{');
    for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++)
        n += (size_t)snprintf(json + n, sizeof json - n, unigram ? "%s[\"%s\",-%zu.5]" : "%s\"%s\":%zu", i ? "," : "",
                vocab[i], i);
    snprintf(json + n, sizeof json - n, "%s}}", unigram ? "],\"unk_id\":0" : "},\"unk_token\":\"<unk>\",\"merges\":"
            "[\"t h\",\"th e\",\"\xe2\x96\x81 a\",\"\xe2\x96\x81 s\",\"a t\",\"\xe2\x96\x81 at\",\"c a\",\"ca t\"]");
    cuddle_tokenizer *t;
    MUST(cuddle_tokenizer_parse(&t, json, strlen(json), name));
    size_t early = 0;
    for (uint32_t seed = 0; seed < 40; seed++) {
        size_t len = make_text(text, seed);
        early += compare(t, text, len, 1 + seed * 5);
    }
    print_message("# %s: %zu cuts\n", name, early);
    assert_true(early);
    cuddle_tokenizer_close(t);
}

#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}"
#define REPLACE(kind, from, to) \
    "{\"type\":\"Replace\",\"pattern\":{\"" kind "\":\"" from "\"},\"content\":\"" to "\"}"
#define MARKS REPLACE("String", " ", "\xe2\x96\x81")
#define NORMS(list) "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" list "]}"
#define METASPACE \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"never\"}"
#define ADDED "\"added_tokens\":[{\"id\":22,\"content\":\"<s>\",\"special\":true,\"normalized\":false}]"

static void test_what_begins_a_text_is_put_once(void **state)
{
    (void)state;
    test_made("llama", NORMS(PREPEND "," MARKS) "," ADDED, false);
    test_made("strip", NORMS("{\"type\":\"Strip\"}," PREPEND "," MARKS) "," ADDED, false);
    test_made("imported", NORMS(REPLACE("Regex", "\\\\A +| +\\\\z", "") "," REPLACE("Regex", " {2,}", " ") ","
            PREPEND "," MARKS) "," METASPACE "," ADDED, true);
    test_made("runs", NORMS(REPLACE("Regex", " {3,}", "  ") "," REPLACE("Regex", "!+", "?") "," MARKS) "," METASPACE,
            true);
    test_made("nmt", NORMS("{\"type\":\"Nmt\"}," REPLACE("String", "!?", "") "," MARKS) "," METASPACE, true);
}

static void test_tokenizers(const char *const *paths, size_t n_paths, bool must_cut)
{
    static char text[TEXT + 64];
    for (size_t i = 0; i < n_paths; i++) {
        cuddle_tokenizer *t;
        if (cuddle_tokenizer_open(&t, paths[i]) != CUDDLE_OK)
            fail_msg("%s", cuddle_errmsg());
        size_t early = 0;
        for (uint32_t seed = 0; seed < 20; seed++) {
            size_t n = make_text(text, seed);
            early += compare(t, text, n, 1 + seed * 7);
        }
        print_message("# %s: %zu cuts\n", paths[i], early);
        assert_true(early || !must_cut);
        cuddle_tokenizer_close(t);
    }
}

static void test_cuts_give_the_ids_of_the_whole(void **state)
{
    (void)state;
    const char *real = getenv("CUDDLE_TOKENIZERS"); /* a folder with the real ones, unpacked */
    static const char *const names[] = { "smollm2", "gemma3", "minilm", "whisper" };
    for (size_t i = 0; real && i < 4; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s.json", real, names[i]);
        const char *one = path;
        test_tokenizers(&one, 1, true);
    }
    static const char *const made[] = { "bpe_bytelevel", "pat_gemma", "pat_gpt2", "pat_qwen2", "added_bytelevel",
        "added_wordpiece", "norm_bert", "norm_strip", "pre_meta_first", "pre_digits", "pre_scripts", "pat_o200k",
        "pat_cl100k", "pat_deepseek_v3" };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        const char *one = refs_path("tokenizers/files/%s.json%s", made[i], "");
        test_tokenizers(&one, 1, i == 0 || i == 2 || i == 7 || i > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_cuts_give_the_ids_of_the_whole),
                                        cmocka_unit_test(test_what_begins_a_text_is_put_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
