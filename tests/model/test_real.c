/* test_real.c - SmolLM2 and Gemma 3 against transformers' float32 run of the same GGUF weights
 * (all tensors dequantised): distributions over texts, and greedy continuations by teacher forcing.
 * The f32-activation path must meet check.py's bounds; the fast path must be no worse than llama.cpp.
 * Needs `make models`. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"

enum { CONTEXT = 1024 };
static const double kl_max = 1e-4, tie = 0.05;

typedef struct {
    const char *name, *file;
    bool fast;
    const char *set;           /* kernels; NULL: the best */
} subject;

typedef struct {
    const subject *what;
    cdl_arena arena;
    const cdl_json *meta;
    cdl_checkpoint *data;
    cuddle_model *model;
    cuddle_engine *engine;
    uint32_t vocab;
    double kl_sum, kl_llama;   /* over all positions of all texts */
    double square_sum;         /* of top-k logits' errors         */
    uint64_t positions, logits;
} reference;

static bool open_reference(reference *r, const subject *what)
{
    *r = (reference){ .what = what };
    MUST(cdl_json_load(&r->meta, &r->arena, refs_path("real/%s/%s", what->name, "real.json")));
    MUST(cdl_checkpoint_open(&r->data, refs_path("real/%s/%s", what->name, "logits.safetensors"), false));
    MUST(cuddle_model_open(&r->model, what->file));
    cuddle_engine_opts o = { .size = sizeof o, .context_max = CONTEXT, .threads = 2, .logits_rows = 64,
                             .f32_activations = !what->fast, .cpu = what->set };
    cuddle_status st = cuddle_engine_open(&r->engine, r->model, &o);
    if (st == CUDDLE_ERR_UNSUPPORTED && what->set)
        return false; /* this CPU lacks the set */
    MUST(st);
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(r->model, &facts);
    r->vocab = facts.vocab;
    return true;
}

static void close_reference(reference *r)
{
    cuddle_engine_close(r->engine);
    cuddle_model_close(r->model);
    cdl_checkpoint_close(r->data);
    cdl_arena_free(&r->arena);
}

static double log_sum_exp(const float *x, uint32_t n)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

/* The reference keeps the top k of each position and the logsumexp; the rest counts as one event. */
static double divergence(const float *logits, uint32_t vocab, const int32_t *ids, const float *top, float lse,
        uint32_t k)
{
    double own = log_sum_exp(logits, vocab), kl = 0, p_rest = 1, q_rest = 1;
    for (uint32_t i = 0; i < k; i++) {
        double a = (double)top[i] - (double)lse, b = (double)logits[ids[i]] - own;
        kl += exp(a) * (a - b);
        p_rest -= exp(a);
        q_rest -= exp(b);
    }
    p_rest = fmax(p_rest, 1e-12);
    q_rest = fmax(q_rest, 1e-12);
    return kl + p_rest * log(p_rest / q_rest);
}

static const char *tensor(const char *text, const char *what)
{
    static char name[128];
    snprintf(name, sizeof name, "%s.%s", text, what);
    return name;
}

static void check_text(reference *r, const cdl_json *t)
{
    refs_ints ids = refs_read_ints(r->data, tensor(t->key, "input_ids"));
    refs_ints top_ids = refs_read_ints(r->data, tensor(t->key, "topk_ids"));
    size_t n_top, n_lse;
    float *top = refs_read_floats(r->data, tensor(t->key, "topk_logits"), &n_top);
    float *lse = refs_read_floats(r->data, tensor(t->key, "logsumexp"), &n_lse);
    assert_true(ids.v && top_ids.v && top && lse && n_lse == ids.cols);
    float *logits = malloc(sizeof *logits * ids.cols * r->vocab);
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, r->engine));
    cuddle_feed f = { .sequence = s, .tokens = ids.v, .n = ids.cols, .logits = logits, .all_logits = true };
    MUST(cuddle_engine_feed(r->engine, &f, 1));
    cuddle_sequence_close(s);
    uint32_t k = top_ids.cols;
    double kl = 0;
    for (uint32_t i = 0; i < ids.cols; i++) {
        const float *row = logits + (size_t)i * r->vocab, *want = top + (size_t)i * k;
        const int32_t *want_ids = top_ids.v + (size_t)i * k;
        kl += divergence(row, r->vocab, want_ids, want, lse[i], k);
        for (uint32_t j = 0; j < k; j++)
            r->square_sum += pow((double)row[want_ids[j]] - (double)want[j], 2);
        if (!r->what->fast && (double)(want[0] - want[1]) >= tie)
            assert_int_equal(refs_argmax(row, r->vocab), want_ids[0]);
    }
    if (!r->what->fast)
        assert_true(kl / ids.cols < kl_max);
    double llama = cdl_json_double(cdl_json_get(cdl_json_get(t, "llama_cpp_distance"), "mean_kl_topk"), NAN);
    printf("  %-10s mean KL %.2e (llama.cpp %.2e)\n", t->key, kl / ids.cols, llama);
    if (!isnan(llama)) { /* the longest text has no figure */
        r->kl_sum += kl;
        r->kl_llama += llama * ids.cols;
        r->positions += ids.cols;
    }
    r->logits += (uint64_t)ids.cols * k;
    free(ids.v);
    free(top_ids.v);
    free(top);
    free(lse);
    free(logits);
}

/* Feeds the reference's own continuation; at each position another best token needs a gap below
 * 3 x this path's error. Outside check.py's ties the f32 path must follow exactly. */
static uint32_t check_greedy(reference *r, const cdl_json *g, double error)
{
    const cdl_json *prompt = cdl_json_get(g, "prompt_ids"), *ids = cdl_json_get(g, "new_ids");
    const cdl_json *gap = cdl_json_get(g, "gap");
    int32_t tokens[CONTEXT];
    float *logits = malloc(sizeof *logits * r->vocab);
    cuddle_sequence *s;
    uint32_t differ = 0;
    bool diverged = false;
    assert_true(prompt->n + ids->n < CONTEXT);
    for (size_t i = 0; i < prompt->n; i++)
        tokens[i] = (int32_t)cdl_json_int(cdl_json_at(prompt, i), -1);
    MUST(cuddle_sequence_open(&s, r->engine));
    MUST(cuddle_sequence_feed(s, tokens, prompt->n, logits));
    for (size_t i = 0; i < ids->n; i++) {
        int32_t want = (int32_t)cdl_json_int(cdl_json_at(ids, i), -1), got = (int32_t)refs_argmax(logits, r->vocab);
        double by = cdl_json_double(cdl_json_at(gap, i), 1);
        if (got != want) {
            differ++;
            if (by >= 3 * error || (!r->what->fast && !diverged && by >= tie))
                fail_msg("%s %s: token %zu is %d, not %d, with a gap of %g; error %g", r->what->name,
                        cdl_json_string(cdl_json_get(g, "id"), "?"), i, got, want, by, error);
            diverged = true;
        }
        MUST(cuddle_sequence_decode(s, want, logits));
    }
    cuddle_sequence_close(s);
    free(logits);
    return differ;
}

static void test_model(void **state)
{
    const subject *what = *state;
    reference r;
    if (!open_reference(&r, what)) {
        close_reference(&r);
        printf("  %s: not run, this CPU lacks it\n", what->set);
        return;
    }
    const cdl_json *texts = cdl_json_get(r.meta, "texts"), *greedy = cdl_json_get(r.meta, "greedy");
    assert_true(cdl_json_len(texts) && cdl_json_len(greedy));
    for (size_t i = 0; i < cdl_json_len(texts); i++)
        check_text(&r, cdl_json_at(texts, i));
    double error = sqrt(r.square_sum / (double)r.logits), n = (double)r.positions;
    uint32_t differ = 0;
    for (size_t i = 0; i < cdl_json_len(greedy); i++)
        differ += check_greedy(&r, cdl_json_at(greedy, i), error);
    printf("  %s %s: mean KL %.2e (llama.cpp %.2e), logit error %.4f, %u other tokens at near ties\n", what->name,
           what->fast ? "fast" : "f32", r.kl_sum / n, r.kl_llama / n, error, differ);
    if (what->fast)
        assert_true(r.kl_sum <= r.kl_llama);
    close_reference(&r);
}

int main(void)
{
    static const subject subjects[] = {
        { "smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", false, NULL },
        { "smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", true, "avx2" },
        { "smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", true, "avx512" },
        { "smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", true, "amx" },
        { "gemma3", "models/gemma-3-270m-Q4_K_M.gguf", false, NULL },
        { "gemma3", "models/gemma-3-270m-Q4_K_M.gguf", true, "avx2" },
        { "gemma3", "models/gemma-3-270m-Q4_K_M.gguf", true, "avx512" },
        { "gemma3", "models/gemma-3-270m-Q4_K_M.gguf", true, "amx" },
    };
    enum { N = sizeof subjects / sizeof *subjects };
    struct CMUnitTest tests[N];
    char names[N][64];
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%s_%s%s", subjects[i].name, subjects[i].fast ? "fast_" : "f32",
                 subjects[i].set ? subjects[i].set : "");
        tests[i] = (struct CMUnitTest){ .name = names[i], .test_func = test_model,
                                        .initial_state = (void *)&subjects[i] };
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
