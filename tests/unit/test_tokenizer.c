/* test_tokenizer.c - tokenizers against the reference rows, files that are wrong, failing allocations. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/map.h"
#include "cuddle_tokenizer.h"
#include "model/tokenizer_load.h"
#include "refs.h"
#include "torture.h"

/* ---- Tokenizers by name, opened once ---- */

enum { OPEN_MAX = 160 };

static struct {
    char name[64];
    cuddle_tokenizer *t;
} opened[OPEN_MAX];

/* NULL for one of the real tokenizers, unless CUDDLE_TOKENIZERS is a folder that has it. */
static const cuddle_tokenizer *find_tokenizer(const char *name)
{
    size_t i = 0;
    const char *folder = getenv("CUDDLE_TOKENIZERS");
    char path[512];
    for (; i < OPEN_MAX && opened[i].name[0]; i++)
        if (strcmp(opened[i].name, name) == 0)
            return opened[i].t;
    assert_true(i < OPEN_MAX);
    snprintf(opened[i].name, sizeof opened[i].name, "%s", name);
    if (strncmp(name, "real:", 5) != 0)
        snprintf(path, sizeof path, "%s", refs_path("tokenizers/files/%s.json%s", name, ""));
    else if (folder)
        snprintf(path, sizeof path, "%s/%.*s.json", folder, (int)strcspn(name + 5, "_"), name + 5);
    else
        return NULL;
    MUST(cuddle_tokenizer_open(&opened[i].t, path));
    return opened[i].t;
}

static int close_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPEN_MAX; i++)
        cuddle_tokenizer_close(opened[i].t);
    memset(opened, 0, sizeof opened);
    return 0;
}

/* ---- Comparing with a row ---- */

static bool same_ints(const cdl_json *want, const int32_t *v, size_t n)
{
    bool same = cdl_json_len(want) == n;
    for (size_t i = 0; i < n && same; i++)
        same = cdl_json_int(cdl_json_at(want, i), -1) == v[i];
    return same;
}

static bool same_flags(const cdl_json *want, const uint8_t *v, size_t n)
{
    bool same = cdl_json_len(want) == n;
    for (size_t i = 0; i < n && same; i++)
        same = cdl_json_int(cdl_json_at(want, i), -1) == v[i];
    return same;
}

static bool same_offsets(const cdl_json *want, const uint32_t *v, size_t n)
{
    bool same = cdl_json_len(want) == n;
    for (size_t i = 0; i < 2 * n && same; i++)
        same = cdl_json_int(cdl_json_at(cdl_json_at(want, i / 2), i % 2), -1) == v[i];
    return same;
}

static bool same_tokens(const cdl_json *want, const cuddle_tokenizer *t, const cuddle_encoding *e, size_t n)
{
    bool same = cdl_json_len(want) == n;
    for (size_t i = 0; i < n && same; i++) {
        size_t len = 0;
        const char *s = cuddle_encoding_token(e, t, i, &len);
        const cdl_json *w = cdl_json_at(want, i);
        same = s && w->n == len && memcmp(w->as.s, s, len) == 0;
    }
    return same;
}

/* The name of the first member that differs, or NULL. */
static const char *encoding_differs(const cdl_json *row, const cuddle_tokenizer *t, const cuddle_encoding *e)
{
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    const cdl_json *tokens = cdl_json_get(row, "tokens"), *types = cdl_json_get(row, "type_ids");
    const cdl_json *special = cdl_json_get(row, "special_mask"), *attention = cdl_json_get(row, "attention_mask");
    const cdl_json *over = cdl_json_get(row, "overflowing");
    if (!same_ints(cdl_json_get(row, "ids"), v.ids, v.n))
        return "ids";
    if (!same_offsets(cdl_json_get(row, "offsets"), v.offsets, v.n))
        return "offsets";
    if (tokens && !same_tokens(tokens, t, e, v.n))
        return "tokens";
    if (types && !same_flags(types, v.types, v.n))
        return "type_ids";
    if (special && !same_flags(special, v.special, v.n))
        return "special_mask";
    if (attention && !same_flags(attention, v.attention, v.n))
        return "attention_mask";
    if (over && cdl_json_int(cdl_json_get(row, "n_overflowing"), (int64_t)over->n) != (int64_t)v.overflowing)
        return "n_overflowing";
    for (size_t i = 0; i < cdl_json_len(over); i++) /* rows keep only the first */
        if (encoding_differs(cdl_json_at(over, i), t, cuddle_encoding_overflow(e, i)))
            return "overflowing";
    return NULL;
}

static bool same_text(const cdl_json *want, const cuddle_tokenizer *t, const int32_t *ids, size_t n, bool skip)
{
    char *text;
    size_t len;
    if (cdl_json_none(want))
        return true;
    MUST(cuddle_tokenizer_decode(t, ids, n, skip, &text, &len));
    bool same = want->n == len && memcmp(want->as.s, text, len) == 0;
    cuddle_tokenizer_text_free(text);
    return same;
}

static const char *text_differs(const cdl_json *row, const cuddle_tokenizer *t, const int32_t *ids, size_t n)
{
    if (!same_text(cdl_json_get(row, "decoded"), t, ids, n, false))
        return "decoded";
    return same_text(cdl_json_get(row, "decoded_skip_special"), t, ids, n, true) ? NULL : "decoded_skip_special";
}

/* ---- Rows ---- */

typedef const char *check_row(const cdl_json *row, const cuddle_tokenizer *t, cuddle_encoding *e);

static void check_rows(const char *file, check_row *check)
{
    cdl_map map;
    cdl_arena arena = { 0 };
    cuddle_encoding *e;
    size_t rows = 0, bad = 0;
    MUST(cdl_map_open(&map, refs_path("tokenizers/%s%s", file, "")));
    MUST(cuddle_encoding_new(&e));
    const char *at = (const char *)map.data, *end = at + map.size;
    for (size_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        const cdl_json *row;
        MUST(cdl_json_parse(&row, &arena, at, (size_t)(stop - at), file));
        const char *name = cdl_json_string(cdl_json_get(row, "tokenizer"), "");
        const cuddle_tokenizer *t = find_tokenizer(name);
        const char *differs = t ? check(row, t, e) : NULL;
        if (differs && bad++ < 10)
            print_error("%s:%zu: %s: %s differs (%s)\n", file, line, name, differs, cuddle_errmsg());
        rows += t != NULL;
        cdl_arena_reset(&arena);
        at = stop + 1;
    }
    cuddle_encoding_free(e);
    cdl_arena_free(&arena);
    cdl_map_close(&map);
    assert_true(rows > 0);
    assert_int_equal(bad, 0);
}

static cuddle_encode_opts opts_of(const cdl_json *row, const cdl_json *pair)
{
    bool bare = cdl_json_is(cdl_json_get(row, "tokenizer"), "real:minilm");
    return (cuddle_encode_opts){ .size = sizeof(cuddle_encode_opts), .pair = cdl_json_none(pair) ? NULL : pair->as.s,
        .n_pair = cdl_json_none(pair) ? 0 : pair->n, .no_truncation = bare, .no_padding = bare,
        .no_special_tokens = !cdl_json_bool(cdl_json_get(row, "add_special_tokens"), true) };
}

/* With ids_only the ids are the same, whatever e was used for before. */
static bool fast_differs(const cuddle_tokenizer *t, cuddle_encoding *e, cuddle_encode_opts o, const cdl_json *text,
        const cdl_json *ids)
{
    cuddle_encoding_view v = { .size = sizeof v };
    bool differs = false;
    o.ids_only = true;
    for (int again = 0; again < 2; again++) { /* the second time from remembered words */
        MUST(cuddle_tokenizer_encode(t, e, text->as.s, text->n, &o));
        cuddle_encoding_look(e, &v);
        differs |= !same_ints(ids, v.ids, v.n) || v.offsets || v.words;
    }
    return differs;
}

static const char *check_case(const cdl_json *row, const cuddle_tokenizer *t, cuddle_encoding *e)
{
    const cdl_json *text = cdl_json_get(row, "text");
    cuddle_encode_opts o = opts_of(row, cdl_json_get(row, "pair"));
    cuddle_status st = cuddle_tokenizer_encode(t, e, text->as.s, text->n, &o);
    if (st != CUDDLE_OK || cdl_json_get(row, "error"))
        return st != CUDDLE_OK && cdl_json_get(row, "error") && cuddle_errmsg()[0] ? NULL : "error";
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    const char *differs = encoding_differs(row, t, e);
    if (differs)
        return differs;
    differs = text_differs(row, t, v.ids, v.n);
    if (differs)
        return differs;
    return fast_differs(t, e, o, text, cdl_json_get(row, "ids")) ? "ids_only" : NULL;
}

static const char *check_decode(const cdl_json *row, const cuddle_tokenizer *t, cuddle_encoding *e)
{
    (void)e;
    const cdl_json *list = cdl_json_get(row, "ids");
    int32_t *ids = calloc(cdl_json_len(list) + 1, sizeof *ids);
    for (size_t i = 0; i < cdl_json_len(list); i++)
        ids[i] = (int32_t)cdl_json_int(cdl_json_at(list, i), -1);
    const char *differs = text_differs(row, t, ids, cdl_json_len(list));
    free(ids);
    return differs;
}

static cuddle_status encode_batch(const cdl_json *row, const cuddle_tokenizer *t, cuddle_encoding **v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const cdl_json *input = cdl_json_at(cdl_json_get(row, "inputs"), i), *text = input;
        cuddle_encode_opts o = opts_of(row, cdl_json_at(input, 1));
        if (input->type == CDL_JSON_ARRAY)
            text = cdl_json_at(input, 0);
        o.no_padding = true;
        MUST(cuddle_encoding_new(&v[i]));
        CDL_TRY(cuddle_tokenizer_encode(t, v[i], text->as.s, text->n, &o));
    }
    return cuddle_tokenizer_pad(t, v, n);
}

static const char *check_batch(const cdl_json *row, const cuddle_tokenizer *t, cuddle_encoding *e)
{
    (void)e;
    cuddle_encoding *v[16] = { 0 };
    const char *differs = NULL;
    size_t n = cdl_json_len(cdl_json_get(row, "inputs"));
    assert_true(n <= 16);
    bool failed = encode_batch(row, t, v, n) != CUDDLE_OK;
    if (failed || cdl_json_get(row, "error"))
        differs = failed && cdl_json_get(row, "error") ? NULL : "error";
    else
        for (size_t i = 0; i < n && !differs; i++)
            differs = encoding_differs(cdl_json_at(cdl_json_get(row, "encodings"), i), t, v[i]);
    for (size_t i = 0; i < n; i++)
        cuddle_encoding_free(v[i]);
    return differs;
}

static void test_encode_equals_references(void **state)
{
    (void)state;
    check_rows("cases.jsonl", check_case);
}

static void test_decode_equals_references(void **state)
{
    (void)state;
    check_rows("decode.jsonl", check_decode);
}

static void test_batch_equals_references(void **state)
{
    (void)state;
    check_rows("batch.jsonl", check_batch);
}

/* ---- Files that are wrong ---- */

#define BPE(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"
#define WITH(member) "{" member ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"

static const struct {
    const char *json, *says;
    cuddle_status status;
} wrong_files[] = {
    { "", "", CUDDLE_ERR_FORMAT },
    { "[]", "an object", CUDDLE_ERR_FORMAT },
    { "{}", "model", CUDDLE_ERR_FORMAT },
    { "{\"model\":null}", "model", CUDDLE_ERR_FORMAT },
    { "{\"model\":{\"type\":\"BPE\"}}", "vocab", CUDDLE_ERR_FORMAT },
    { "{\"model\":{\"type\":\"Magic\",\"vocab\":{}}}", "Magic", CUDDLE_ERR_UNSUPPORTED },
    { "{\"model\":{\"type\":3,\"vocab\":{}}}", "type", CUDDLE_ERR_UNSUPPORTED },
    { "{\"model\":{\"type\":\"BPE\",\"dropout\":1.5,\"vocab\":{\"a\":0}}}", "dropout", CUDDLE_ERR_FORMAT },
    { BPE("3", "[]"), "vocab", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[],\"merges\":[]"), "merges", CUDDLE_ERR_FORMAT },
    { WITH("\"added_tokens\":[3]"), "added token", CUDDLE_ERR_FORMAT },
    { WITH("\"added_tokens\":[{\"id\":1,\"content\":\"x\",\"id\":2}]"), "twice", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":\"b\"}", "[]"), "id", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":-1}", "[]"), "-1", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":261577895}", "[]"), "261577895", CUDDLE_ERR_FORMAT }, /* 2 GiB of empty entries */
    { BPE("{\"a\":4294967296}", "[]"), "4294967296", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":9223372036854775807}", "[]"), "9223372036854775807", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":1e300}", "[]"), "vocab", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "{}"), "merges", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[\"aa\"]"), "space", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[\"a a\"]"), "join", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[\"a b\"]"), "second", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[[\"a\"]]"), "token", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[[\"a\",\"a\",\"a\"]]"), "two", CUDDLE_ERR_FORMAT },
    { BPE("[[\"a\",0]]", "[]"), "type", CUDDLE_ERR_FORMAT },
    { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",-1]]}}", "unk_id", CUDDLE_ERR_FORMAT },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", "score", CUDDLE_ERR_FORMAT },
    { WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"), "precompiled",
      CUDDLE_ERR_FORMAT },
    { WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}"),
      "malformed", CUDDLE_ERR_FORMAT },
    { WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}"), "Regex", CUDDLE_ERR_FORMAT },
    { WITH("\"normalizer\":{\"type\":\"Shout\"}"), "Shout", CUDDLE_ERR_UNSUPPORTED },
    { WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":3}"), "normalizers", CUDDLE_ERR_FORMAT },
    { WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "one character",
      CUDDLE_ERR_FORMAT },
    { WITH("\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}"), "length", CUDDLE_ERR_FORMAT },
    { WITH("\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Odd\"}"), "behavior", CUDDLE_ERR_FORMAT },
    { WITH("\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\"],\"cls\":[\"y\",1]}"), "sep",
      CUDDLE_ERR_FORMAT },
    { WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
           "{\"SpecialToken\":{\"id\":\"X\",\"type_id\":0}}],"
           "\"pair\":[],\"special_tokens\":{}}"), "special_tokens", CUDDLE_ERR_FORMAT },
    { WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"), "start",
      CUDDLE_ERR_FORMAT },
    { WITH("\"truncation\":{\"max_length\":-5}"), "truncation", CUDDLE_ERR_FORMAT },
    { WITH("\"padding\":{\"strategy\":{\"Fixed\":99999999999}}"), "padding", CUDDLE_ERR_FORMAT },
    { WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "added_tokens", CUDDLE_ERR_FORMAT },
    { WITH("\"added_tokens\":[{\"id\":4000000000,\"content\":\"x\"}]"), "added_tokens", CUDDLE_ERR_FORMAT },
    { BPE("{\"\xff\":0}", "[]"), "UTF-8", CUDDLE_ERR_FORMAT },
    { BPE("{\"a\":0}", "[]") "x", "", CUDDLE_ERR_FORMAT },
};

static void test_parse_refuses_wrong_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong_files / sizeof *wrong_files; i++) {
        cuddle_tokenizer *t = (void *)1;
        cuddle_status st = cuddle_tokenizer_parse(&t, wrong_files[i].json, strlen(wrong_files[i].json), "name.json");
        if (st != wrong_files[i].status || t || !strstr(cuddle_errmsg(), wrong_files[i].says)
                || strncmp(cuddle_errmsg(), "name.json", 9))
            fail_msg("%s gives %s: %s", wrong_files[i].json, cuddle_status_name(st), cuddle_errmsg());
    }
    cuddle_tokenizer *t;
    assert_int_equal(cuddle_tokenizer_open(&t, "no/such/tokenizer.json"), CUDDLE_ERR_NOTFOUND);
}

static void test_parse_refuses_a_file_cut_anywhere(void **state)
{
    (void)state;
    static const char *const names[] = { "bpe_bytelevel", "wordpiece_bert", "added_unigram",
            "trunc_only_second_right" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cdl_map m;
        MUST(cdl_map_open(&m, refs_path("tokenizers/files/%s.json%s", names[i], "")));
        size_t n = m.size;
        while (n && (m.data[n - 1] == '\n' || m.data[n - 1] == ' '))
            n--;
        for (size_t cut = 0; cut < n; cut += cut + 64 < n ? 61 : 1) {
            char *half = malloc(cut + 1); /* its own block, so that reading on shows */
            memcpy(half, m.data, cut);
            cuddle_tokenizer *t;
            assert_int_equal(cuddle_tokenizer_parse(&t, half, cut, "cut.json"), CUDDLE_ERR_FORMAT);
            assert_non_null(strstr(cuddle_errmsg(), "cut.json"));
            free(half);
        }
        cdl_map_close(&m);
    }
}

/* ---- Texts that are wrong, and long ones ---- */

static void test_encode_refuses_invalid_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = { "\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
            "\xe2\x82", "x\x80y" };
    cuddle_encoding *e;
    MUST(cuddle_encoding_new(&e));
    const cuddle_tokenizer *t = find_tokenizer("bpe_bytelevel");
    cuddle_encode_opts o = { .size = sizeof o };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(cuddle_tokenizer_encode(t, e, bad[i], strlen(bad[i]), NULL), CUDDLE_ERR_ARG);
        assert_non_null(strstr(cuddle_errmsg(), "UTF-8"));
        o.pair = bad[i];
        o.n_pair = strlen(bad[i]);
        assert_int_equal(cuddle_tokenizer_encode(t, e, "fine", 4, &o), CUDDLE_ERR_ARG);
    }
    cuddle_encoding_free(e);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A megabyte of one thing takes a second or so, under sanitizers ten; quadratic work would take hours. */
static void test_encode_of_long_runs_is_not_quadratic(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static const char *const runs[] = { "a", " ", "\n", "'", "7", "e\xcc\x81\xcc\xa3", "\xe4\xb8\xad", "<",
            "ab", "\x01", "\xef\xbf\xbd" };
    static const char *const names[] = { "pat_gpt2", "pat_o200k", "bpe_byte_fallback", "added_unigram",
                                         "wordpiece_bert", "norm_nfkc", "pre_split_inv_removed" };
    char *text = malloc(BYTES + 8);
    cuddle_encoding *e;
    MUST(cuddle_encoding_new(&e));
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        size_t n = 0, len = strlen(runs[i]);
        for (; n + len <= BYTES; n += len)
            memcpy(text + n, runs[i], len);
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            double start = cpu_seconds();
            MUST(cuddle_tokenizer_encode(find_tokenizer(names[k]), e, text, n, NULL));
            if (cpu_seconds() - start > 60)
                fail_msg("%s: a megabyte of '%s' took %.0f s", names[k], runs[i], cpu_seconds() - start);
        }
    }
    cuddle_encoding_free(e);
    free(text);
}

/* ---- Ids alone ---- */

static uint32_t draw(uint32_t n)
{
    static uint64_t seed = 88172645463325252ull;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* Runs of few letters, long words and changes of script: what is cut, joined in windows and remembered. */
static size_t draw_text(char *text, size_t most)
{
    static const char *const parts[] = { "a", "b", "e", "th", "he", "in", "er", "A", "7", "12", " ", " ", "  ", "\n",
        "\t", ".", "'s", "(", "_", "-=", "\xc3\xa9", "\xce\xb1", "\xd0\xb0\xd0\xbd", "\xe4\xb8\xad", "\xe6\x96\x87",
        "\xe2\x96\x81", "\xf0\x9f\x98\x80", "\xcc\x81", "\xe3\x80\x80", "\x01", "\xea\xb0\x81", "\xc4\xb0" };
    enum { PARTS = sizeof parts / sizeof *parts };
    size_t n = 0, want = 1 + draw(draw(8) ? 200 : (uint32_t)most - 8);
    uint32_t first = draw(PARTS), span = 1 + draw(draw(2) ? 3 : PARTS);
    while (n < want) {
        const char *part = parts[(first + draw(span)) % PARTS];
        size_t len = strlen(part);
        memcpy(text + n, part, len);
        n += len;
        if (!draw(40))
            first = draw(PARTS);
    }
    return n;
}

static void compare_ways(const cuddle_tokenizer *t, const char *name)
{
    enum { BYTES = 4000 };
    char text[BYTES];
    cuddle_encode_opts o = { .size = sizeof o, .no_truncation = true, .no_padding = true };
    cuddle_encoding *full, *fast;
    MUST(cuddle_encoding_new(&full));
    MUST(cuddle_encoding_new(&fast));
    for (int round = 0; round < 1000; round++) {
        size_t n = draw_text(text, BYTES);
        cuddle_encoding_view want = { .size = sizeof want }, got = { .size = sizeof got };
        o.ids_only = false;
        MUST(cuddle_tokenizer_encode(t, full, text, n, &o));
        o.ids_only = true;
        MUST(cuddle_tokenizer_encode(t, fast, text, n, &o));
        cuddle_encoding_look(full, &want);
        cuddle_encoding_look(fast, &got);
        if (want.n != got.n || memcmp(want.ids, got.ids, want.n * sizeof *want.ids) != 0)
            fail_msg("%s: round %d: other ids without offsets for %zu bytes: %.*s", name, round, n, (int)n, text);
    }
    cuddle_encoding_free(full);
    cuddle_encoding_free(fast);
}

static void test_ids_alone_equal_those_of_the_full_way(void **state)
{
    (void)state;
    static const char *const names[] = { "pat_gpt2", "pat_qwen2", "pat_cl100k", "pat_gemma", "bpe_bytelevel",
        "bpe_byte_fallback", "bpe_fuse_unk", "wordpiece_bert", "norm_bert", "norm_nfkc", "added_bytelevel",
        "added_wordpiece", "added_unigram", "pre_meta_first", "wordlevel" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        compare_ways(find_tokenizer(names[k]), names[k]);
}

/* A tokenizer of the references with something in its file put otherwise, in as many bytes. */
static void compare_ways_with(const char *name, const char *from, const char *to)
{
    cdl_map m;
    cuddle_tokenizer *t;
    MUST(cdl_map_open(&m, refs_path("tokenizers/files/%s.json%s", name, "")));
    char *json = malloc(m.size);
    memcpy(json, m.data, m.size);
    char *option = memmem(json, m.size, from, strlen(from));
    assert_non_null(option);
    memcpy(option, to, strlen(from));
    MUST(cuddle_tokenizer_parse(&t, json, m.size, name));
    compare_ways(t, name);
    cuddle_tokenizer_close(t);
    free(json);
    cdl_map_close(&m);
}

/* Words that are longer than any token are merged in windows, shorter ones may be tokens that no merge makes. */
static void test_ids_alone_where_whole_tokens_come_first(void **state)
{
    (void)state;
    static const char *const names[] = { "pat_gpt2", "pat_gemma", "bpe_bytelevel", "bpe_byte_fallback" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        compare_ways_with(names[k], "\"ignore_merges\":false", "\"ignore_merges\":true ");
}

static void test_ids_alone_where_characters_are_unknown(void **state)
{
    (void)state;
    compare_ways_with("bpe_byte_fallback", "\"byte_fallback\":true", "\"byte_fallback\":null");
}

/* ---- Pre-tokenizers that one scan does ---- */

#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}"
#define NUMBERS SPLIT("\\\\p{N}{1,3}")
#define CJK SPLIT("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
#define WORDS SPLIT("[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*" \
    "|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+")
#define BYTES(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":" regex "}"

/* bpe_bytelevel with other pre-tokenizers. */
static cuddle_tokenizer *with_pre_tokenizers(const char *list)
{
    cdl_map m;
    cuddle_tokenizer *t;
    MUST(cdl_map_open(&m, refs_path("tokenizers/files/%s.json%s", "bpe_bytelevel", "")));
    const char *s = (const char *)m.data, *from = memmem(s, m.size, "\"pre_tokenizer\":", 16);
    const char *to = memmem(s, m.size, ",\"post_processor\":", 18);
    char *json = malloc(m.size + strlen(list) + 64);
    int n = sprintf(json, "%.*s\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[%s]}%.*s", (int)(from - s),
            s, list, (int)(s + m.size - to), to);
    MUST(cuddle_tokenizer_parse(&t, json, (size_t)n, "changed"));
    free(json);
    cdl_map_close(&m);
    return t;
}

static void compare_full(const cuddle_tokenizer *a, const cuddle_tokenizer *b)
{
    enum { BYTES = 4000 };
    char text[BYTES];
    cuddle_encoding *e[2];
    MUST(cuddle_encoding_new(&e[0]));
    MUST(cuddle_encoding_new(&e[1]));
    for (int round = 0; round < 1000; round++) {
        size_t n = draw_text(text, BYTES);
        cuddle_encoding_view x = { .size = sizeof x }, y = { .size = sizeof y };
        MUST(cuddle_tokenizer_encode(a, e[0], text, n, NULL));
        MUST(cuddle_tokenizer_encode(b, e[1], text, n, NULL));
        cuddle_encoding_look(e[0], &x);
        cuddle_encoding_look(e[1], &y);
        if (x.n != y.n || memcmp(x.ids, y.ids, x.n * sizeof *x.ids) != 0
                || memcmp(x.words, y.words, x.n * sizeof *x.words) != 0)
            fail_msg("round %d: %zu bytes are cut in other ways: %.*s", round, n, (int)n, text);
    }
    cuddle_encoding_free(e[0]);
    cuddle_encoding_free(e[1]);
}

/* One of them twice changes nothing, but is no sequence that is known. */
static void test_pre_tokenizers_joined_cut_as_apart(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        { DIGITS "," BYTES("true"), DIGITS "," DIGITS "," BYTES("true") },
        { NUMBERS "," CJK "," WORDS "," BYTES("false"), NUMBERS "," CJK "," CJK "," WORDS "," BYTES("false") },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        cuddle_tokenizer *joined = with_pre_tokenizers(lists[i][0]), *apart = with_pre_tokenizers(lists[i][1]);
        compare_full(joined, apart);
        cuddle_tokenizer_close(joined);
        cuddle_tokenizer_close(apart);
    }
}

/* ---- Vocabulary ---- */

static void test_vocab_names_tokens(void **state)
{
    (void)state;
    const cuddle_tokenizer *t = find_tokenizer("added_bytelevel");
    size_t n = 0;
    assert_int_equal(cuddle_tokenizer_vocab(t), 430);
    assert_int_equal(cuddle_tokenizer_id(t, "<ADD>", 5), 420);
    assert_string_equal(cuddle_tokenizer_token(t, 420, &n), "<ADD>");
    assert_int_equal(n, 5);
    assert_string_equal(cuddle_tokenizer_token(t, 429, &n), "<tag9>"); /* it is found in lowercase text */
    assert_int_equal(cuddle_tokenizer_id(t, "<Tag9>", 6), 429);
    assert_int_equal(cuddle_tokenizer_id(t, "no such token", 13), -1);
    assert_null(cuddle_tokenizer_token(t, 430, &n));
    assert_null(cuddle_tokenizer_token(t, -1, &n));
    assert_true(cuddle_tokenizer_is_special(t, 0));
    assert_false(cuddle_tokenizer_is_special(t, 420));
    assert_false(cuddle_tokenizer_is_special(t, -1));
    assert_false(cuddle_tokenizer_is_special(t, INT32_MAX));
}

/* Ids follow the vocabulary, not the file, as in Hugging Face. */
static void test_added_tokens_are_numbered_behind_the_vocabulary(void **state)
{
    (void)state;
    static const char json[] = "{\"added_tokens\":[{\"id\":0,\"content\":\"a\"},{\"id\":77,\"content\":\"new\"},"
        "{\"id\":78,\"content\":\"new\",\"special\":true},{\"id\":79,\"content\":\"other\"}],"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}";
    cuddle_tokenizer *t;
    MUST(cuddle_tokenizer_parse(&t, json, sizeof json - 1, "added.json"));
    assert_int_equal(cuddle_tokenizer_id(t, "a", 1), 0);
    assert_int_equal(cuddle_tokenizer_id(t, "new", 3), 2);
    assert_int_equal(cuddle_tokenizer_id(t, "other", 5), 3);
    assert_true(cuddle_tokenizer_is_special(t, 2));
    assert_false(cuddle_tokenizer_is_special(t, 3));
    assert_int_equal(cuddle_tokenizer_vocab(t), 4);
    cuddle_tokenizer_close(t);
}

/* ---- GGUF ---- */

/* Chat texts of a GGUF model give the ids of its tokenizer.json. */
static void check_gguf(const char *model, const char *cases)
{
    cdl_arena arena = { 0 };
    const cdl_json *json;
    cdl_checkpoint *c;
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    if (access(model, R_OK) != 0 || access(cases, R_OK) != 0)
        skip();
    MUST(cdl_json_load(&json, &arena, cases));
    MUST(cdl_checkpoint_open(&c, model, true));
    MUST(cdl_tokenizer_load(&t, c));
    MUST(cuddle_encoding_new(&e));
    const cdl_json *list = cdl_json_get(json, "cases");
    assert_true(cdl_json_len(list) > 0);
    for (size_t i = 0; i < list->n; i++) {
        const cdl_json *row = cdl_json_at(list, i), *text = cdl_json_get(row, "text");
        cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = true };
        cuddle_encoding_view v = { .size = sizeof v };
        MUST(cuddle_tokenizer_encode(t, e, text->as.s, text->n, &o));
        cuddle_encoding_look(e, &v);
        assert_true(same_ints(cdl_json_get(row, "ids"), v.ids, v.n));
    }
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
    cdl_checkpoint_close(c);
    cdl_arena_free(&arena);
}

static void test_gguf_byte_level_equals_references(void **state)
{
    (void)state;
    check_gguf("models/SmolLM2-135M-Instruct-Q4_1.gguf", refs_path("real/%s/chat.json%s", "smol", ""));
}

static void test_gguf_sentencepiece_equals_references(void **state)
{
    (void)state;
    check_gguf("models/gemma-3-270m-Q4_K_M.gguf", refs_path("real/%s/chat.json%s", "gemma3", ""));
}

/* ---- Failing allocations ---- */

static cuddle_status use(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    static const char text[] = "The new fox <s> jumps\xc3\xa9 e\xcc\x81 12,345 times <ADD>!\n\n";
    cuddle_encode_opts o = { .size = sizeof o, .pair = "a second text of some length", .n_pair = 28 };
    char *s;
    size_t n;
    cuddle_encoding_view v = { .size = sizeof v };
    CDL_TRY(cuddle_tokenizer_encode(t, e, text, sizeof text - 1, &o));
    CDL_TRY(cuddle_tokenizer_pad(t, &e, 1));
    cuddle_encoding_look(e, &v);
    CDL_TRY(cuddle_tokenizer_decode(t, v.ids, v.n, false, &s, &n));
    cuddle_tokenizer_text_free(s);
    return CUDDLE_OK;
}

static cuddle_status open_and_use(void *path)
{
    cuddle_tokenizer *t;
    cuddle_encoding *e = NULL;
    CDL_TRY(cuddle_tokenizer_open(&t, path));
    cuddle_status st = cuddle_encoding_new(&e);
    if (st == CUDDLE_OK)
        st = use(t, e);
    cuddle_encoding_free(e);
    cuddle_tokenizer_close(t);
    return st;
}

static void test_failing_allocations_give_nomem(void **state)
{
    (void)state;
    static const char *const names[] = { "added_bytelevel", "added_wordpiece", "added_unigram", "pad_multiple",
                                         "bpe_byte_fallback", "trunc_longest_first_left", "post_roberta",
                                         "norm_bert", "dec_ctc" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s", refs_path("tokenizers/files/%s.json%s", names[i], ""));
        torture(open_and_use, path, false, 1);
        torture(open_and_use, path, true, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_equals_references),
        cmocka_unit_test(test_decode_equals_references),
        cmocka_unit_test(test_batch_equals_references),
        cmocka_unit_test(test_parse_refuses_wrong_files),
        cmocka_unit_test(test_parse_refuses_a_file_cut_anywhere),
        cmocka_unit_test(test_encode_refuses_invalid_utf8),
        cmocka_unit_test(test_encode_of_long_runs_is_not_quadratic),
        cmocka_unit_test(test_ids_alone_equal_those_of_the_full_way),
        cmocka_unit_test(test_ids_alone_where_whole_tokens_come_first),
        cmocka_unit_test(test_ids_alone_where_characters_are_unknown),
        cmocka_unit_test(test_pre_tokenizers_joined_cut_as_apart),
        cmocka_unit_test(test_vocab_names_tokens),
        cmocka_unit_test(test_added_tokens_are_numbered_behind_the_vocabulary),
        cmocka_unit_test(test_gguf_byte_level_equals_references),
        cmocka_unit_test(test_gguf_sentencepiece_equals_references),
        cmocka_unit_test(test_failing_allocations_give_nomem),
    };
    return cmocka_run_group_tests(tests, NULL, close_all);
}
