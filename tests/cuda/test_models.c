/* test_models.c - the tiny models of every architecture on a GPU: errors against Hugging Face's own outputs at most
 * twice those of the plain twin that rounds to the same type, for prompt rows and for generated ones; a sequence's
 * logits are the same bits alone, among seven others and with its prompt cut. Longer texts, where attention is split
 * and pages are dropped, are compared with the CPU's f32 path. */
#include "../tiny.h"
#include "virtual.h"

static const char *const dtypes[] = { "bf16", "f16" };

static double error_of(const char *name, const cuddle_engine_opts *o, bool generated)
{
    reference r;
    double error = 0;
    if (cases_open(&r, name, o->device, o) != CUDDLE_OK)
        fail_msg("%s: %s", name, cuddle_errmsg());
    const cdl_json *cases = cdl_json_get(r.meta, "cases");
    assert_true(cdl_json_len(cases) > 0);
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        double e = cases_measure(&r, cdl_json_at(cases, i), generated).error;
        error = e <= error ? error : e; /* a NaN sticks */
    }
    cases_close(&r);
    return error;
}

/* Gemma's residual stream passes the range of f16 in models of real size. */
static void refuses_f16(const char *name)
{
    reference r;
    cuddle_engine_opts o = virtual_options("f16");
    assert_int_equal(cases_open(&r, name, "cuda", &o), CUDDLE_ERR_UNSUPPORTED);
    assert_non_null(strstr(cuddle_errmsg(), "do not fit in f16; use bf16"));
    cases_close(&r);
}

static void test_model(void **state)
{
    const char *name = *state;
    bool wide = !strncmp(name, "gemma", 5);
    if (wide)
        refuses_f16(name);
    for (int i = 0; i < (wide ? 1 : 2); i++) {
        cuddle_engine_opts gpu = virtual_options(dtypes[i]), twin = twin_options(dtypes[i]);
        double bound = 2 * error_of(name, &twin, false);
        double prompt = error_of(name, &gpu, false);
        /* longrope turns the first tokens of a long text by the short table when they come one by one */
        double generated = strcmp(name, "phi3") ? error_of(name, &gpu, true) : prompt;
        printf("  %-19s %-4s of the bound: prompt rows %.0f %%, generated rows %.0f %%\n", name, dtypes[i],
                100 * prompt / bound, 100 * generated / bound);
        assert_true(prompt > 0 && prompt <= bound);
        assert_true(generated > 0 && generated <= bound);
    }
}

/* ---- Bits ---- */

enum { OTHERS = 7, PROMPT = 70, DECODED = 5 };

static int32_t token_of(uint32_t sequence, uint32_t i, uint32_t vocab)
{
    return (int32_t)((sequence * 2654435761u + i * 40503u) / 7 % vocab);
}

static void feed_prompt(cuddle_engine *e, cuddle_sequence **s, uint32_t n, uint32_t cut, uint32_t vocab,
        float **logits)
{
    int32_t tokens[1 + OTHERS][PROMPT];
    for (uint32_t first = 0; first < PROMPT; first += cut) {
        cuddle_feed feed[1 + OTHERS];
        uint32_t fed = 0;
        for (uint32_t k = 0; k < n; k++) {
            uint32_t length = PROMPT - 9 * k, m = length > first ? length - first : 0;
            m = m < cut ? m : cut;
            for (uint32_t i = 0; i < m; i++)
                tokens[k][first + i] = token_of(k, first + i, vocab);
            if (m)
                feed[fed++] = (cuddle_feed){ .sequence = s[k], .tokens = tokens[k] + first, .n = m,
                                             .logits = first + m == length ? logits[k] : NULL };
        }
        MUST(cuddle_engine_feed(e, feed, fed));
    }
}

/* The logits of sequence 0 after its prompt and each generated token, among n - 1 others. */
static float *run_bits(const reference *r, uint32_t n, uint32_t cut)
{
    cuddle_sequence *s[1 + OTHERS];
    size_t vocab = r->vocab;
    float *out = malloc((1 + DECODED) * vocab * sizeof *out), *rest = malloc(OTHERS * vocab * sizeof *rest);
    float *logits[1 + OTHERS] = { out };
    for (uint32_t k = 0; k < n; k++)
        MUST(cuddle_sequence_open(&s[k], r->engine));
    for (uint32_t k = 1; k < n; k++)
        logits[k] = rest + (k - 1) * vocab;
    feed_prompt(r->engine, s, n, cut, r->vocab, logits);
    for (uint32_t d = 0; d < DECODED; d++) {
        cuddle_feed feed[1 + OTHERS];
        int32_t token[1 + OTHERS];
        logits[0] = out + (d + 1) * vocab;
        for (uint32_t k = 0; k < n; k++) {
            token[k] = token_of(k, PROMPT + d, r->vocab);
            feed[k] = (cuddle_feed){ .sequence = s[k], .tokens = &token[k], .n = 1, .generated = true,
                                     .logits = logits[k] };
        }
        MUST(cuddle_engine_feed(r->engine, feed, n));
    }
    for (uint32_t k = 0; k < n; k++)
        cuddle_sequence_close(s[k]);
    free(rest);
    return out;
}

static void test_bits(void **state)
{
    const char *name = *state;
    reference r;
    cuddle_engine_opts o = virtual_options("bf16");
    o.sequences_max = o.logits_rows = 1 + OTHERS;
    o.step_tokens = 100;
    assert_int_equal(cases_open(&r, name, "cuda", &o), CUDDLE_OK);
    static const uint32_t ways[][2] = { { 1, 7 }, { 1, 33 }, { 1 + OTHERS, PROMPT }, { 1 + OTHERS, 20 } };
    float *want = run_bits(&r, 1, PROMPT);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        float *got = run_bits(&r, ways[i][0], ways[i][1]);
        if (memcmp(want, got, (1 + DECODED) * r.vocab * sizeof *got))
            fail_msg("%s: other bits among %u, cut in %u", name, ways[i][0] - 1, ways[i][1]);
        free(got);
    }
    free(want);
    cases_close(&r);
}

/* ---- Longer texts ---- */

enum { LONG = 600, LONG_CONTEXT = 640, TAIL = 40, TOGETHER = 9 };

#define LONG_COMMON "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"vocab_size\": 125," \
    "\"max_position_embeddings\": 640, \"rms_norm_eps\": 1e-5, "

static const struct { const char *name, *config; } longer[] = {
    { "llama", "{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        LONG_COMMON "\"tie_word_embeddings\": true}" },
    /* 20 heads of one group: two tiles of 16 */
    { "group", "{\"model_type\": \"llama\", \"num_attention_heads\": 20, \"num_key_value_heads\": 1, \"head_dim\": 8, "
        LONG_COMMON "\"tie_word_embeddings\": true}" },
    { "gemma2", "{\"model_type\": \"gemma2\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 16, "
        "\"query_pre_attn_scalar\": 16, \"sliding_window\": 70, \"attn_logit_softcapping\": 5.0, "
        "\"final_logit_softcapping\": 10.0, \"layer_types\": [\"sliding_attention\", \"full_attention\"], "
        LONG_COMMON "\"tie_word_embeddings\": true}" },
    { "phi3", "{\"model_type\": \"phi3\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"original_max_position_embeddings\": 256, \"rope_parameters\": {\"rope_theta\": 10000.0, "
        "\"rope_type\": \"longrope\", \"factor\": 2.5, \"original_max_position_embeddings\": 256, "
        "\"long_factor\": [1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5], \"short_factor\": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]}, "
        LONG_COMMON "\"tie_word_embeddings\": false}" },
};

/* Logits of the last TAIL tokens, all of them generated rows, `together` in a step. */
static float *run_long(cuddle_model *m, cuddle_engine_opts o, uint32_t vocab, uint32_t together)
{
    cuddle_engine *e;
    cuddle_sequence *s;
    int32_t tokens[LONG];
    float *logits = malloc(TAIL * vocab * sizeof *logits);
    o.context_max = LONG_CONTEXT;
    o.step_tokens = 100;
    o.sequences_max = 1;
    o.logits_rows = TOGETHER;
    for (uint32_t i = 0; i < LONG; i++)
        tokens[i] = token_of(1, i, vocab);
    MUST(cuddle_engine_open(&e, m, &o));
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_sequence_feed(s, tokens, LONG - TAIL, NULL));
    for (uint32_t i = 0; i < TAIL; i += together) {
        uint32_t n = TAIL - i < together ? TAIL - i : together;
        cuddle_feed f = { .sequence = s, .tokens = tokens + LONG - TAIL + i, .n = n, .generated = true,
                          .all_logits = true, .logits = logits + (size_t)i * vocab };
        MUST(cuddle_engine_feed(e, &f, 1));
    }
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    return logits;
}

/* Keys and values of 8 bits: an error of their own on top of bf16's, which no twin has: i8's (2^-8 of a head's
 * greatest) is about as large as bf16's rounding, e4m3's (2^-4) a multiple. The same bits in any company. */
static void check_small_state(cuddle_model *m, const float *want, uint32_t vocab, double bound)
{
    static const struct { const char *dtype; double factor; } kinds[] = { { "i8", 2 }, { "f8e4m3", 6 } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        float *got = run_long(m, virtual_options(kinds[i].dtype), vocab, 1);
        float *joint = run_long(m, virtual_options(kinds[i].dtype), vocab, TOGETHER);
        double error = virtual_error(got, want, (size_t)TAIL * vocab);
        printf("  state in %s: %.0f %% of the bound, %.0f x that of bf16\n", kinds[i].dtype,
                100 * error / (kinds[i].factor * bound), kinds[i].factor);
        assert_true(error > 0 && error <= kinds[i].factor * bound);
        assert_memory_equal(joint, got, (size_t)TAIL * vocab * sizeof *got);
        free(got);
        free(joint);
    }
}

static void test_long(void **state)
{
    enum { VOCAB = 125, N = TAIL * VOCAB };
    const char *config = NULL;
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (!strcmp(longer[i].name, *state))
            config = longer[i].config;
    char *folder = tiny_folder();
    cuddle_model *m;
    MUST(tiny_model(folder, config));
    MUST(cuddle_model_open(&m, folder));
    cuddle_engine_opts plain = cases_options();
    plain.f32_activations = true;
    float *want = run_long(m, plain, VOCAB, 1), *twin = run_long(m, twin_options("bf16"), VOCAB, 1);
    float *got = run_long(m, virtual_options("bf16"), VOCAB, 1);
    float *joint = run_long(m, virtual_options("bf16"), VOCAB, TOGETHER); /* more rows than sequences */
    double bound = 2 * virtual_error(twin, want, N), error = virtual_error(got, want, N);
    printf("  %s, %d tokens: %.0f %% of the bound of %g\n", (const char *)*state, LONG, 100 * error / bound, bound);
    assert_true(error > 0 && error <= bound);
    assert_memory_equal(joint, got, N * sizeof *got);
    check_small_state(m, want, VOCAB, bound);
    free(want);
    free(twin);
    free(got);
    free(joint);
    cuddle_model_close(m);
    tiny_remove(folder);
}

static struct CMUnitTest named(const char *name, CMUnitTestFunction run, const char *state)
{
    return (struct CMUnitTest){ .name = name, .test_func = run, .initial_state = (void *)state };
}

int main(void)
{
    static const char *const bits[] = { "llama_gqa", "gemma2", "gemma3_text", "phi3_plain", "gpt2", "qwen3" };
    enum { BITS = sizeof bits / sizeof *bits, LONGER = sizeof longer / sizeof *longer };
    struct CMUnitTest tests[CASES_MODELS + CASES_INT4 + BITS + LONGER];
    char names[BITS + LONGER][32];
    size_t n = 0, k = 0;
    virtual_use();
    for (size_t i = 0; i < CASES_MODELS; i++)
        tests[n++] = named(cases_models[i], test_model, cases_models[i]);
    for (size_t i = 0; i < CASES_INT4; i++)
        tests[n++] = named(cases_int4[i], test_model, cases_int4[i]);
    for (size_t i = 0; i < BITS; i++, k++) {
        snprintf(names[k], sizeof names[k], "bits_%s", bits[i]);
        tests[n++] = named(names[k], test_bits, bits[i]);
    }
    for (size_t i = 0; i < LONGER; i++, k++) {
        snprintf(names[k], sizeof names[k], "long_%s", longer[i].name);
        tests[n++] = named(names[k], test_long, longer[i].name);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
