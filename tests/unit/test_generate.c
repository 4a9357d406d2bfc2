/* test_generate.c - generate: ends, lengths, log probabilities, text in pieces, stop strings, cancelling;
 * and stop strings by themselves, however the text is cut. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuddle_generate.h"
#include "refs.h"
#include "torture.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "gen/stop.h"

enum { VOCAB = 136, CONTEXT = 64, END = 2 };

/* ---- A tiny model, with a tokenizer when it has text to give ---- */

typedef struct {
    char folder[64];           /* "": the reference's own */
    cuddle_model *model;
    cuddle_engine *engine;
    cuddle_sequence *sequence;
} bench;

/* Every token is one or two of these characters, as the byte-level alphabet writes bytes: letters, and the two
 * bytes of "é" apart, so that characters are cut by tokens. */
static const char *const alphabet[] = { "a", "b", "c", "d", "e", "Ã", "©", "Ġ" };

static void write_tokenizer(const char *folder)
{
    char path[128];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
               "\"add_prefix_space\":false,\"use_regex\":false},\"post_processor\":null,"
               "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < VOCAB; i++) {
        char number[12];
        snprintf(number, sizeof number, "%d", i / 64);
        fprintf(f, "%s\"%s%s%s\":%d", i ? "," : "", alphabet[i % 8], i >= 8 ? alphabet[i / 8 % 8] : "",
                i >= 72 ? number : "", i);
    }
    fprintf(f, "},\"merges\":[]}}\n");
    assert_int_equal(fclose(f), 0);
}

static void link_file(const char *folder, const char *name)
{
    char from[4096], to[128];
    assert_non_null(realpath(refs_path("models/llama_gqa/%s%s", name, ""), from));
    snprintf(to, sizeof to, "%s/%s", folder, name);
    assert_int_equal(symlink(from, to), 0);
}

static bench open_bench(bool text)
{
    bench b = { .folder = "" };
    if (text) {
        strcpy(b.folder, "/tmp/test_generate.XXXXXX");
        assert_non_null(mkdtemp(b.folder));
        link_file(b.folder, "config.json");
        link_file(b.folder, "generation_config.json");
        link_file(b.folder, "model.safetensors");
        write_tokenizer(b.folder);
    }
    MUST(cuddle_model_open(&b.model, text ? b.folder : refs_path("models/%s%s", "llama_gqa", "")));
    cuddle_engine_opts o = { .size = sizeof o, .threads = 1, .context_max = CONTEXT };
    MUST(cuddle_engine_open(&b.engine, b.model, &o));
    MUST(cuddle_sequence_open(&b.sequence, b.engine));
    return b;
}

static void close_bench(bench *b)
{
    cuddle_sequence_close(b->sequence);
    cuddle_engine_close(b->engine);
    cuddle_model_close(b->model);
    static const char *const names[] = { "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json" };
    for (size_t i = 0; i < 4 && b->folder[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", b->folder, names[i]);
        unlink(path);
    }
    if (b->folder[0])
        rmdir(b->folder);
}

/* ---- What a generation gave ---- */

typedef struct {
    int32_t ids[CONTEXT];
    float logprobs[CONTEXT];
    cuddle_logprob top[CONTEXT][4];
    size_t n, pieces;
    size_t stop_after;         /* on_token says no at this token; 0: never  */
    size_t stop_after_pieces;  /* on_text likewise                          */
    uint32_t k;                /* log probabilities asked for               */
    bool whole;                /* every piece was valid UTF-8               */
    size_t n_text;
    char text[8 * CONTEXT];
    cuddle_generate_result r;
} record;

static bool on_token(void *user, const cuddle_generated *g)
{
    record *r = user;
    assert_int_equal(g->index, r->n);
    r->ids[r->n] = g->token;
    r->logprobs[r->n] = g->logprob;
    memcpy(r->top[r->n], g->top, r->k * sizeof *g->top);
    r->n++;
    return r->n != r->stop_after;
}

static bool on_text(void *user, const char *text, size_t n)
{
    record *r = user;
    assert_true(n > 0);
    r->whole &= cdl_utf8_valid(text, n) == n;
    assert_true(r->n_text + n < sizeof r->text);
    memcpy(r->text + r->n_text, text, n);
    r->n_text += n;
    r->text[r->n_text] = '\0';
    r->pieces++;
    return r->pieces != r->stop_after_pieces;
}

static const int32_t prompt[] = { 5, 77, 12, 40, 9 };
/* Hot enough that a random model's text is random. */
static const cuddle_sampling hot = { .size = sizeof hot, .temperature = 50, .seed = 7 };

/* A fresh generation; what is not set in o is: prompt, sampling (hot), no end token. */
static cuddle_status try_generate(bench *b, cuddle_generate_opts o, record *r)
{
    r->whole = true;
    r->n = r->pieces = 0;
    r->r.size = sizeof r->r;
    r->k = o.logprobs;
    r->n_text = 0;
    r->text[0] = '\0';
    o.size = sizeof o;
    o.prompt = prompt;
    o.n_prompt = o.n_prompt ? o.n_prompt : sizeof prompt / sizeof *prompt;
    o.sampling = o.sampling ? o.sampling : &hot;
    o.on_token = on_token;
    o.on_text = b->folder[0] ? on_text : NULL;
    o.user = r;
    MUST(cuddle_sequence_truncate(b->sequence, 0));
    return cuddle_generate(b->sequence, &o, &r->r);
}

static void generate(bench *b, cuddle_generate_opts o, record *r)
{
    MUST(try_generate(b, o, r));
    assert_int_equal(r->r.tokens, r->n);
}

/* ---- Tokens ---- */

static void test_length_ends_at_tokens_max(void **state)
{
    (void)state;
    bench b = open_bench(false);
    for (size_t max = 1; max < 9; max++) {
        record r = { .n = 0 };
        generate(&b, (cuddle_generate_opts){ .tokens_max = max, .ignore_end = true }, &r);
        assert_int_equal(r.n, max);
        assert_int_equal(r.r.finish, CUDDLE_FINISH_LENGTH);
        assert_int_equal(r.r.end_token, -1);
        assert_int_equal(r.r.stop, -1);
        assert_int_equal(r.r.prompt_tokens, 5);
        assert_int_equal(cuddle_sequence_length(b.sequence), 5 + max - 1); /* the last one is not fed */
    }
    close_bench(&b);
}

static void test_length_ends_at_the_context(void **state)
{
    (void)state;
    bench b = open_bench(false);
    record r = { .n = 0 };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_LENGTH);
    assert_int_equal(cuddle_sequence_length(b.sequence), CONTEXT);
    assert_int_equal(r.n, CONTEXT - 5 + 1);
    close_bench(&b);
}

static const cuddle_logit_bias to_end = { END, 1000 };
static const cuddle_sampling ends = { .size = sizeof ends, .mode = CUDDLE_PICK_GREEDY, .bias = &to_end, .n_bias = 1 };

static void test_the_end_token_stops_and_is_left_out(void **state)
{
    (void)state;
    bench b = open_bench(false);
    record r = { .n = 0 };
    generate(&b, (cuddle_generate_opts){ .tokens_max = 10, .sampling = &ends }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_STOP);
    assert_int_equal(r.r.end_token, END);
    assert_int_equal(r.n, 0);
    generate(&b, (cuddle_generate_opts){ .tokens_max = 10, .sampling = &ends, .ignore_end = true }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_LENGTH);
    assert_int_equal(r.n, 10);
    assert_int_equal(r.ids[9], END);
    close_bench(&b);
}

static void test_on_token_cancels(void **state)
{
    (void)state;
    bench b = open_bench(false);
    record r = { .stop_after = 3 };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_CANCELLED);
    assert_int_equal(r.n, 3);
    close_bench(&b);
}

/* The tokens are those that feed, decode and a sampler give by hand, and so are their log probabilities. */
static void test_generate_is_feed_sample_decode(void **state)
{
    (void)state;
    enum { N = 12, K = 4 };
    bench b = open_bench(false);
    const cuddle_sampling o = { .size = sizeof o, .temperature = 3, .top_p = 0.9f, .repetition_penalty = 1.3f,
        .seed = 5 };
    record r = { .n = 0 };
    generate(&b, (cuddle_generate_opts){ .tokens_max = N, .ignore_end = true, .sampling = &o, .logprobs = K }, &r);
    float logits[VOCAB], p;
    cuddle_logprob top[K];
    cuddle_sampler *s;
    MUST(cuddle_sequence_truncate(b.sequence, 0));
    MUST(cuddle_sampler_new(&s, VOCAB, CONTEXT, &o));
    MUST(cuddle_sampler_prompt(s, prompt, 5));
    MUST(cuddle_sequence_feed(b.sequence, prompt, 5, logits));
    for (size_t i = 0; i < N; i++) {
        int32_t token;
        MUST(cuddle_sampler_pick(s, logits, 5 + i, &token));
        assert_int_equal(token, r.ids[i]);
        MUST(cuddle_sampler_logprobs(s, logits, token, &p, top, K));
        assert_true(p == r.logprobs[i]);
        assert_memory_equal(top, r.top[i], sizeof top);
        assert_true(top[0].logprob >= top[K - 1].logprob && top[0].logprob >= p);
        MUST(cuddle_sampler_accept(s, token));
        MUST(cuddle_sequence_decode(b.sequence, token, logits));
    }
    cuddle_sampler_free(s);
    close_bench(&b);
}

typedef struct {
    size_t calls, stop_at;
    uint64_t done;
} watch;

static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    watch *w = user;
    assert_string_equal(what, "prompt");
    assert_true(done > w->done && done <= total);
    w->done = done;
    return ++w->calls != w->stop_at;
}

/* Watched prompts are cut in steps: the same tokens, and a way out between them. */
static void test_progress_watches_the_prompt_and_cancels(void **state)
{
    (void)state;
    enum { N = 40, STEP = 16 };
    bench b = open_bench(false);
    int32_t ids[2][6], many[N];
    for (int i = 0; i < N; i++)
        many[i] = (i * 29 + 3) % VOCAB;
    cuddle_engine *e;
    cuddle_engine_opts eo = { .size = sizeof eo, .threads = 1, .context_max = CONTEXT, .step_tokens = STEP };
    MUST(cuddle_engine_open(&e, b.model, &eo));
    for (int watched = 0; watched < 2; watched++) {
        watch w = { 0 };
        record r = { .n = 0 };
        cuddle_sequence *s;
        MUST(cuddle_sequence_open(&s, e));
        cuddle_generate_opts o = { .size = sizeof o, .prompt = many, .n_prompt = N, .tokens_max = 6, .ignore_end = true,
            .on_token = on_token, .user = &r, .progress = watched ? on_progress : NULL, .progress_user = &w };
        MUST(cuddle_generate(s, &o, NULL));
        assert_int_equal(w.calls, watched ? 3 : 0);
        memcpy(ids[watched], r.ids, sizeof ids[0]);
        cuddle_sequence_close(s);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    watch w = { .stop_at = 2 };
    cuddle_generate_opts o = { .size = sizeof o, .prompt = many, .n_prompt = N, .progress = on_progress,
        .progress_user = &w };
    cuddle_generate_result r = { .size = sizeof r };
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_generate(s, &o, &r));
    assert_int_equal(r.finish, CUDDLE_FINISH_CANCELLED);
    assert_int_equal(r.tokens, 0);
    assert_int_equal(cuddle_sequence_length(s), 2 * STEP);
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    close_bench(&b);
}

static void test_earlier_turns_count_for_the_penalties(void **state)
{
    (void)state;
    bench b = open_bench(false);
    const cuddle_sampling once = { .size = sizeof once, .mode = CUDDLE_PICK_GREEDY, .no_repeat_ngram = 1 };
    record r = { .n = 0 };
    bool seen[VOCAB] = { false };
    generate(&b, (cuddle_generate_opts){ .tokens_max = 20, .ignore_end = true, .sampling = &once }, &r);
    for (size_t i = 0; i < 5 + 19; i++)
        seen[i < 5 ? prompt[i] : r.ids[i - 5]] = true;
    const int32_t next = 100;
    record second = { .n = 0 };
    cuddle_generate_opts o = { .size = sizeof o, .prompt = &next, .n_prompt = 1, .tokens_max = 10, .ignore_end = true,
        .sampling = &once, .on_token = on_token, .user = &second };
    MUST(cuddle_generate(b.sequence, &o, NULL));
    assert_int_equal(second.n, 10);
    for (size_t i = 0; i < 10; i++)
        assert_false(seen[second.ids[i]]);
    close_bench(&b);
}

static void test_wrong_use_says_why(void **state)
{
    (void)state;
    bench b = open_bench(false), with_text = open_bench(true);
    record r = { .n = 0 };
    static int32_t many[CONTEXT + 1];
    cuddle_generate_opts o = { .size = sizeof o, .prompt = many, .n_prompt = CONTEXT + 1 };
    assert_int_equal(cuddle_generate(b.sequence, &o, NULL), CUDDLE_ERR_FULL);
    assert_non_null(strstr(cuddle_errmsg(), "context"));
    o.n_prompt = 0;
    assert_int_equal(cuddle_generate(b.sequence, &o, NULL), CUDDLE_ERR_ARG);
    assert_int_equal(try_generate(&b, (cuddle_generate_opts){ .logprobs = 65 }, &r), CUDDLE_ERR_ARG);
    const cuddle_sampling bad = { .size = sizeof bad, .top_p = 2 };
    assert_int_equal(try_generate(&b, (cuddle_generate_opts){ .sampling = &bad }, &r), CUDDLE_ERR_ARG);
    const char *const stops[] = { "x", "" }, *const half[] = { "\xc3" };
    assert_int_equal(try_generate(&b, (cuddle_generate_opts){ .stops = stops, .n_stops = 1 }, &r), CUDDLE_ERR_NOTFOUND);
    cuddle_generate_opts empty = { .stops = stops, .n_stops = 2 }, no_utf8 = { .stops = half, .n_stops = 1 };
    assert_int_equal(try_generate(&with_text, empty, &r), CUDDLE_ERR_ARG);
    assert_int_equal(try_generate(&with_text, no_utf8, &r), CUDDLE_ERR_ARG);
    close_bench(&with_text);
    close_bench(&b);
}

/* ---- Text ---- */

static char *decode(const bench *b, const int32_t *ids, size_t n, size_t *len)
{
    const cuddle_tokenizer *t;
    char *text;
    MUST(cuddle_model_tokenizer(b->model, &t));
    MUST(cuddle_tokenizer_decode(t, ids, n, true, &text, len));
    return text;
}

static void assert_text(const record *r, const char *want, size_t n)
{
    assert_int_equal(r->n_text, n);
    assert_memory_equal(r->text, want, n);
}

static void test_text_comes_in_whole_characters(void **state)
{
    (void)state;
    bench b = open_bench(true);
    size_t split = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        cuddle_sampling o = hot;
        o.seed = seed;
        record r = { .n = 0 };
        generate(&b, (cuddle_generate_opts){ .ignore_end = true, .sampling = &o }, &r);
        size_t n;
        char *text = decode(&b, r.ids, r.n, &n);
        assert_text(&r, text, n);
        assert_true(r.whole);
        split += r.pieces < r.n;
        cuddle_tokenizer_text_free(text);
    }
    assert_true(split > 20); /* tokens did end inside characters */
    close_bench(&b);
}

static cuddle_status generate_once(void *user)
{
    const char *const stops[] = { "abc", "never" };
    record r = { .n = 0 };
    return try_generate(user, (cuddle_generate_opts){ .tokens_max = 12, .ignore_end = true, .logprobs = 2,
        .stops = stops, .n_stops = 2 }, &r);
}

static void test_each_failing_allocation_is_an_error(void **state)
{
    (void)state;
    bench b = open_bench(true);
    MUST(generate_once(&b)); /* loads the tokenizer */
    assert_true(torture(generate_once, &b, false, 1) > 5);
    close_bench(&b);
}

static void test_on_text_cancels(void **state)
{
    (void)state;
    bench b = open_bench(true);
    record r = { .stop_after_pieces = 2 };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_CANCELLED);
    assert_int_equal(r.pieces, 2);
    close_bench(&b);
}

/* Any stretch of the text as a stop string ends it there, across tokens too. */
static void test_stop_strings_end_the_text(void **state)
{
    (void)state;
    bench b = open_bench(true);
    record all = { .n = 0 }, r = { .n = 0 };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true }, &all);
    size_t n = all.n_text, tried = 0;
    for (size_t from = 0; from + 1 < n; from++)
        for (size_t len = 1; len < 7 && from + len <= n; len++) {
            char stop[8] = { 0 };
            memcpy(stop, all.text + from, len);
            if (cdl_utf8_valid(stop, len) != len)
                continue;
            const char *const stops[] = { "never there", stop };
            generate(&b, (cuddle_generate_opts){ .ignore_end = true, .stops = stops, .n_stops = 2 }, &r);
            const char *first = strstr(all.text, stop);
            assert_int_equal(r.r.finish, CUDDLE_FINISH_STOP);
            assert_int_equal(r.r.stop, 1);
            assert_int_equal(r.r.end_token, -1);
            assert_true(r.n <= all.n && r.whole);
            assert_memory_equal(r.ids, all.ids, r.n * sizeof *r.ids);
            assert_text(&r, all.text, (size_t)(first - all.text));
            tried++;
        }
    assert_true(tried > 100);
    close_bench(&b);
}

static void test_what_a_stop_string_held_back_comes_at_the_end(void **state)
{
    (void)state;
    bench b = open_bench(true);
    record all = { .n = 0 }, r = { .n = 0 };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true, .tokens_max = 20 }, &all);
    char longer[256];
    size_t n = all.n_text;
    assert_true(n > 12 && n < 200);
    snprintf(longer, sizeof longer, "%s and more", all.text + n - 1); /* starts like the last character */
    while ((longer[0] & 0xc0) == 0x80)
        snprintf(longer, sizeof longer, "%s and more", all.text + --n);
    const char *const stops[] = { longer };
    generate(&b, (cuddle_generate_opts){ .ignore_end = true, .tokens_max = 20, .stops = stops, .n_stops = 1 }, &r);
    assert_int_equal(r.r.finish, CUDDLE_FINISH_LENGTH);
    assert_int_equal(r.r.stop, -1);
    assert_text(&r, all.text, all.n_text);
    close_bench(&b);
}

/* ---- Stop strings alone ---- */

static uint32_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* The stop string that is complete first, the longest of those: where it begins, and which; by brute force. */
static size_t find_stop(const char *text, size_t n, const char *const *stops, size_t n_stops, int32_t *which)
{
    *which = -1;
    for (size_t end = 1; end <= n; end++) {
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && memcmp(text + end - len, stops[i], len) == 0
                && (*which < 0 || len > strlen(stops[*which])))
                *which = (int32_t)i;
        }
        if (*which >= 0)
            return end - strlen(stops[*which]);
    }
    return n;
}

static void check_cut(const char *text, size_t n, const char *const *stops, size_t n_stops)
{
    cdl_stop s = { .strings = stops, .n = n_stops };
    cdl_buf got = { 0 };
    int32_t found = -1, want;
    const char *out;
    size_t n_out, end = find_stop(text, n, stops, n_stops, &want);
    for (size_t at = 0, k; at < n && found < 0; at += k) {
        k = 1 + below(4);
        k = k < n - at ? k : n - at;
        MUST(cdl_stop_put(&s, text + at, k, &out, &n_out, &found));
        MUST(cdl_buf_append(&got, out, n_out));
        assert_true(found >= 0 || got.len + 6 > at + k); /* held back: less than the longest stop string */
    }
    if (found < 0) {
        cdl_stop_end(&s, &out, &n_out);
        MUST(cdl_buf_append(&got, out, n_out));
    }
    assert_int_equal(found, want);
    assert_int_equal(got.len, end);
    assert_memory_equal(got.data ? got.data : "", text, end);
    cdl_buf_free(&got);
    cdl_stop_free(&s);
}

static void test_stop_strings_do_not_depend_on_the_cut(void **state)
{
    (void)state;
    size_t found = 0;
    for (int tries = 0; tries < 3000; tries++) {
        char text[40], strings[3][6];
        const char *stops[3];
        size_t n_stops = 1 + below(3);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)('a' + below(3));
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = 1 + below(5);
            for (size_t k = 0; k < len; k++)
                strings[i][k] = (char)('a' + below(3));
            strings[i][len] = '\0';
            stops[i] = strings[i];
        }
        int32_t which;
        found += find_stop(text, sizeof text, stops, n_stops, &which) < sizeof text;
        for (int cut = 0; cut < 5; cut++)
            check_cut(text, sizeof text, stops, n_stops);
    }
    assert_in_range(found, 1000, 2990);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length_ends_at_tokens_max),
        cmocka_unit_test(test_length_ends_at_the_context),
        cmocka_unit_test(test_the_end_token_stops_and_is_left_out),
        cmocka_unit_test(test_on_token_cancels),
        cmocka_unit_test(test_generate_is_feed_sample_decode),
        cmocka_unit_test(test_progress_watches_the_prompt_and_cancels),
        cmocka_unit_test(test_earlier_turns_count_for_the_penalties),
        cmocka_unit_test(test_wrong_use_says_why),
        cmocka_unit_test(test_text_comes_in_whole_characters),
        cmocka_unit_test(test_each_failing_allocation_is_an_error),
        cmocka_unit_test(test_on_text_cancels),
        cmocka_unit_test(test_stop_strings_end_the_text),
        cmocka_unit_test(test_what_a_stop_string_held_back_comes_at_the_end),
        cmocka_unit_test(test_stop_strings_do_not_depend_on_the_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
