/* test_refs.c - the tiny models of every architecture against Hugging Face's own outputs: logits within
 * check.py's bounds, greedy continuations equal outside near ties; with every set of kernels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"

static const char *const names[] = {
    "llama", "llama_gqa", "llama_tied", "llama_linear", "llama_rope3", "llama_yarn", "mistral", "qwen2", "qwen3",
    "gemma", "gemma2", "gemma3_text", "phi3", "phi3_plain", "gpt2", "smollm3" };

enum { CONTEXT = 96, NEW_TOKENS = 16 };
static const double tie = 1e-3;

typedef struct {
    const char *name, *set;
    cdl_checkpoint *io;
    cdl_arena arena;
    const cdl_json *meta;
    cuddle_model *model;
    cuddle_engine *engine;
    uint32_t vocab;
    double worst;              /* error / bound over all cases */
} reference;

static char key[128];
static const char *key_of(const char *name, const char *kind, const char *what)
{
    snprintf(key, sizeof key, "%s.%s.%s", name, kind, what);
    return key;
}

static bool open_reference(reference *r, const char *name, const char *set)
{
    *r = (reference){ .name = name, .set = set };
    MUST(cdl_checkpoint_open(&r->io, refs_path("models/%s/%s", name, "io.safetensors"), false));
    MUST(cdl_json_load(&r->meta, &r->arena, refs_path("models/%s/%s", name, "io.json")));
    MUST(cuddle_model_open(&r->model, refs_path("models/%s/%s", name, "model.safetensors")));
    cuddle_engine_opts o = { .size = sizeof o, .context_max = CONTEXT, .sequences_max = 4, .step_tokens = 24,
                             .logits_rows = 7, .threads = 2, .f32_activations = true, .cpu = set };
    cuddle_status st = cuddle_engine_open(&r->engine, r->model, &o);
    if (st == CUDDLE_ERR_UNSUPPORTED && set)
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
    cdl_checkpoint_close(r->io);
    cdl_arena_free(&r->arena);
}

static double noise_of(const cdl_json *c)
{
    double a = cdl_json_double(cdl_json_get(cdl_json_get(c, "noise_float64"), "logits"), 0);
    double b = cdl_json_double(cdl_json_get(cdl_json_get(c, "noise_nudge"), "logits"), 0);
    a = a < 1e-3 ? a : 0;
    b = b < 1e-3 ? b : 0;
    return a > b ? a : b;
}

/* Row b of the batch without its padding. */
typedef struct {
    int32_t tokens[CONTEXT], positions[CONTEXT];
    uint32_t first, n;
} row;

static row row_of(const reference *r, const char *name, uint32_t b)
{
    refs_ints ids = refs_read_ints(r->io, key_of(name, "in", "input_ids"));
    refs_ints mask = refs_read_ints(r->io, key_of(name, "in", "attention_mask"));
    refs_ints positions = refs_read_ints(r->io, key_of(name, "in", "position_ids"));
    row out = { .first = UINT32_MAX };
    for (uint32_t i = 0; i < ids.cols; i++) {
        uint32_t at = b * ids.cols + i;
        if (mask.v && !mask.v[at])
            continue;
        if (out.first == UINT32_MAX)
            out.first = i;
        out.tokens[out.n] = ids.v[at];
        out.positions[out.n++] = positions.v ? positions.v[at] : (int32_t)i;
    }
    free(ids.v);
    free(mask.v);
    free(positions.v);
    return out;
}

static void check_case(reference *r, const cdl_json *c)
{
    size_t n;
    float *want = refs_read_floats(r->io, key_of(c->key, "out", "logits"), &n);
    refs_ints ids = refs_read_ints(r->io, key_of(c->key, "in", "input_ids"));
    assert_non_null(want);
    assert_int_equal(n, (size_t)ids.rows * ids.cols * r->vocab);
    double largest = 0, error = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (uint32_t b = 0; b < ids.rows; b++) {
        row x = row_of(r, c->key, b);
        float *got = malloc(sizeof *got * x.n * r->vocab);
        cuddle_sequence *s;
        MUST(cuddle_sequence_open(&s, r->engine));
        cuddle_feed f = { .sequence = s, .tokens = x.tokens, .n = x.n, .positions = x.positions,
                          .all_logits = true, .logits = got };
        MUST(cuddle_engine_feed(r->engine, &f, 1));
        cuddle_sequence_close(s);
        const float *w = want + ((size_t)b * ids.cols + x.first) * r->vocab;
        for (size_t i = 0; i < (size_t)x.n * r->vocab; i++) {
            double e = fabs((double)got[i] - (double)w[i]);
            error = e <= error ? error : e; /* a NaN sticks */
        }
        free(got);
    }
    double bound = fmax(5e-5 + 5e-5 * largest, 20 * noise_of(c));
    r->worst = fmax(r->worst, error / bound);
    if (!(error <= bound))
        fail_msg("%s %s (%s): error %g, bound %g", r->name, c->key, r->set ? r->set : "best", error, bound);
    free(want);
    free(ids.v);
}

/* Greedy tokens of row b after its prompt; a first difference must be a near tie. */
static void check_greedy(reference *r, const cdl_json *g, uint32_t b)
{
    const cdl_json *ids = cdl_json_at(cdl_json_get(g, "new_ids"), b), *gap = cdl_json_at(cdl_json_get(g, "gap"), b);
    row x = row_of(r, g->key, b);
    float *logits = malloc(sizeof *logits * r->vocab);
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, r->engine));
    MUST(cuddle_sequence_feed(s, x.tokens, x.n, logits));
    for (size_t i = 0; i < ids->n; i++) {
        int32_t token = (int32_t)refs_argmax(logits, r->vocab);
        if (token != cdl_json_int(cdl_json_at(ids, i), -1)) {
            if (cdl_json_double(cdl_json_at(gap, i), 1) >= tie)
                fail_msg("%s greedy %s (%s): token %zu is %d", r->name, g->key, r->set ? r->set : "best", i, token);
            break;
        }
        MUST(cuddle_sequence_decode(s, token, logits));
    }
    cuddle_sequence_close(s);
    free(logits);
}

static void check_model(const char *name, const char *set)
{
    reference r;
    if (open_reference(&r, name, set)) {
        const cdl_json *cases = cdl_json_get(r.meta, "cases"), *greedy = cdl_json_get(r.meta, "greedy");
        assert_true(cdl_json_len(cases) > 0);
        for (size_t i = 0; i < cdl_json_len(cases); i++)
            check_case(&r, cdl_json_at(cases, i));
        for (size_t i = 0; i < cdl_json_len(greedy); i++)
            for (uint32_t b = 0; b < cdl_json_len(cdl_json_get(cdl_json_at(greedy, i), "new_ids")); b++)
                check_greedy(&r, cdl_json_at(greedy, i), b);
        printf("%-12s %-7s worst error %.0f %% of the bound\n", name, set ? set : "best", 100 * r.worst);
    }
    close_reference(&r);
}

static void test_model(void **state)
{
    static const char *const sets[] = { "ref", "avx2", "avx512", "amx" };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        check_model(*state, sets[i]);
}

int main(void)
{
    struct CMUnitTest tests[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        tests[i] = (struct CMUnitTest){ .name = names[i], .test_func = test_model, .initial_state = (void *)names[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
