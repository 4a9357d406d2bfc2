/* test_real.c - SmolLM2 and Gemma 3 on a GPU, teacher-forced over 16 generated positions: where the best token is not
 * that of the CPU's f32 path, its gap is below 3 x the logit error of the plain twin that rounds to the same type. A
 * sequence has the same bits among seven others. Needs `make models`. */
#include "virtual.h"

enum { POSITIONS = 16, PROMPT_MAX = 64, OTHERS = 7, BITS = 4, CONTEXT = 128 };

typedef struct {
    const char *name, *file;
    bool f16;                  /* its activations fit */
} subject;

typedef struct {
    cuddle_model *model;
    uint32_t vocab, n_prompt;
    int32_t tokens[PROMPT_MAX + POSITIONS]; /* the prompt, and what the CPU goes on with */
} text;

/* The shortest of the reference's prompts. */
static void read_prompt(text *t, const char *name)
{
    cdl_arena arena = { 0 };
    const cdl_json *meta, *best = NULL;
    MUST(cdl_json_load(&meta, &arena, refs_path("real/%s/%s", name, "real.json")));
    const cdl_json *greedy = cdl_json_get(meta, "greedy");
    for (size_t i = 0; i < cdl_json_len(greedy); i++) {
        const cdl_json *ids = cdl_json_get(cdl_json_at(greedy, i), "prompt_ids");
        if (!best || cdl_json_len(ids) < cdl_json_len(best))
            best = ids;
    }
    t->n_prompt = (uint32_t)cdl_json_len(best);
    assert_in_range(t->n_prompt, 1, PROMPT_MAX);
    for (uint32_t i = 0; i < t->n_prompt; i++)
        t->tokens[i] = (int32_t)cdl_json_int(cdl_json_at(best, i), -1);
    cdl_arena_free(&arena);
}

static cuddle_engine *open_engine(const text *t, cuddle_engine_opts o, uint32_t sequences, uint32_t logits_rows)
{
    cuddle_engine *e;
    o.context_max = CONTEXT;
    o.sequences_max = sequences;
    o.logits_rows = logits_rows;
    o.step_tokens = 0;
    MUST(cuddle_engine_open(&e, t->model, &o));
    return e;
}

/* Logits after the prompt and after each token that follows, [POSITIONS, vocab]; choose: they set the tokens. */
static float *decode(text *t, cuddle_engine_opts o, bool choose)
{
    cuddle_engine *e = open_engine(t, o, 1, 1);
    cuddle_sequence *s;
    float *logits = malloc((size_t)POSITIONS * t->vocab * sizeof *logits);
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_sequence_feed(s, t->tokens, t->n_prompt, logits));
    for (uint32_t i = 1; i < POSITIONS; i++) {
        const float *last = logits + (size_t)(i - 1) * t->vocab;
        int32_t *token = &t->tokens[t->n_prompt + i - 1];
        if (choose)
            *token = (int32_t)refs_argmax(last, t->vocab);
        MUST(cuddle_sequence_decode(s, *token, logits + (size_t)i * t->vocab));
    }
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    return logits;
}

/* The same of the twin, which has one arithmetic: all positions in one step. */
static float *twin(const text *t, const char *dtype)
{
    cuddle_engine *e = open_engine(t, twin_options(dtype), 1, POSITIONS);
    cuddle_sequence *s;
    float *logits = malloc((size_t)POSITIONS * t->vocab * sizeof *logits);
    uint32_t first = t->n_prompt - 1;
    MUST(cuddle_sequence_open(&s, e));
    if (first)
        MUST(cuddle_sequence_feed(s, t->tokens, first, NULL));
    cuddle_feed f = { .sequence = s, .tokens = t->tokens + first, .n = POSITIONS, .all_logits = true,
                      .logits = logits };
    MUST(cuddle_engine_feed(e, &f, 1));
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    return logits;
}

static double error_of(const float *x, const float *y, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += pow((double)x[i] - (double)y[i], 2);
    return sqrt(square / (double)n);
}

static void check_type(text *t, const char *name, const char *dtype, const float *want)
{
    size_t n = (size_t)POSITIONS * t->vocab;
    float *plain = twin(t, dtype), *got = decode(t, virtual_options(dtype), false);
    double error = error_of(plain, want, n), own = error_of(got, want, n);
    unsigned differ = 0;
    for (uint32_t i = 0; i < POSITIONS; i++) {
        const float *w = want + (size_t)i * t->vocab;
        uint32_t best = refs_argmax(w, t->vocab), chosen = refs_argmax(got + (size_t)i * t->vocab, t->vocab);
        double gap = (double)w[best] - (double)w[chosen];
        differ += best != chosen;
        if (best != chosen && !(gap < 3 * error))
            fail_msg("%s %s: position %u: token %u, not %u, with a gap of %g; the twin's error is %g", name, dtype, i,
                    chosen, best, gap, error);
    }
    printf("  %s %s: logit error %.4f, the plain twin's %.4f; %u of %u tokens differ\n", name, dtype, own, error,
            differ, POSITIONS);
    assert_true(own > 0 && own <= 2 * error);
    free(plain);
    free(got);
}

static void open_text(text *t, const subject *what)
{
    *t = (text){ 0 };
    MUST(cuddle_model_open(&t->model, what->file));
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(t->model, &facts);
    t->vocab = facts.vocab;
    read_prompt(t, what->name);
}

static void test_forced(void **state)
{
    const subject *what = *state;
    text t;
    open_text(&t, what);
    cuddle_engine_opts cpu = { .size = sizeof cpu, .threads = 2, .f32_activations = true };
    float *want = decode(&t, cpu, true);
    check_type(&t, what->name, "bf16", want);
    if (what->f16)
        check_type(&t, what->name, "f16", want);
    free(want);
    cuddle_model_close(t.model);
}

/* Sequence 0 after its prompt and BITS - 1 tokens, among n - 1 others with other tokens: [BITS, vocab]. */
static float *among(const text *t, cuddle_engine *e, uint32_t n)
{
    cuddle_sequence *s[1 + OTHERS];
    cuddle_feed feed[1 + OTHERS];
    int32_t prompt[1 + OTHERS][PROMPT_MAX], token[1 + OTHERS];
    float *out = malloc((size_t)BITS * t->vocab * sizeof *out);
    float *rest = malloc((size_t)OTHERS * t->vocab * sizeof *rest);
    for (uint32_t k = 0; k < n; k++) {
        MUST(cuddle_sequence_open(&s[k], e));
        for (uint32_t i = 0; i < t->n_prompt; i++)
            prompt[k][i] = k ? (int32_t)((k * 7919 + i * 104729) % t->vocab) : t->tokens[i];
        feed[k] = (cuddle_feed){ .sequence = s[k], .tokens = prompt[k], .n = t->n_prompt - k % 3 % t->n_prompt,
                                 .logits = k ? rest + (size_t)(k - 1) * t->vocab : out };
    }
    MUST(cuddle_engine_feed(e, feed, n));
    for (uint32_t i = 1; i < BITS; i++) {
        for (uint32_t k = 0; k < n; k++) {
            token[k] = (int32_t)((k * 1009 + i * 97) % t->vocab);
            feed[k].tokens = &token[k];
            feed[k].n = 1;
            feed[k].generated = true;
        }
        feed[0].logits = out + (size_t)i * t->vocab;
        MUST(cuddle_engine_feed(e, feed, n));
    }
    for (uint32_t k = 0; k < n; k++)
        cuddle_sequence_close(s[k]);
    free(rest);
    return out;
}

static void test_company(void **state)
{
    text t;
    open_text(&t, *state);
    cuddle_engine *e = open_engine(&t, virtual_options("bf16"), 1 + OTHERS, 1 + OTHERS);
    float *alone = among(&t, e, 1), *company = among(&t, e, 1 + OTHERS);
    assert_memory_equal(alone, company, (size_t)BITS * t.vocab * sizeof *alone);
    free(alone);
    free(company);
    cuddle_engine_close(e);
    cuddle_model_close(t.model);
}

int main(void)
{
    static subject smol = { "smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", true };
    static subject gemma = { "gemma3", "models/gemma-3-270m-Q4_K_M.gguf", false };
    const struct CMUnitTest tests[] = {
        { .name = "forced_smollm2", .test_func = test_forced, .initial_state = &smol },
        { .name = "forced_gemma3", .test_func = test_forced, .initial_state = &gemma },
        { .name = "company_smollm2", .test_func = test_company, .initial_state = &smol },
        { .name = "company_gemma3", .test_func = test_company, .initial_state = &gemma },
    };
    virtual_use();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
