/* test_fast.c - the engine's option fast: dense products of long prompts by cuBLASLt (on the virtual GPU its stand-in,
 * which sums in another order than the kernels) stay within twice the plain twin's error, in one step and in steps
 * that mix; few rows keep the kernels' bits; nothing is allocated once an engine is open; what cannot be
 * fast says so in one line. */
#include "../tiny.h"
#include "counted.h"
#include "virtual.h"

enum { TOKENS = 200, FEW = 100, CONTEXT = 256, GENERATED = 3 };

#define COMMON "\"hidden_size\": 72, \"intermediate_size\": 104, \"num_hidden_layers\": 2, \"head_dim\": 16, " \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-5, "

static const struct { const char *name, *config; uint32_t vocab; } models[] = {
    { "llama", "{\"model_type\": \"llama\", " COMMON "\"vocab_size\": 128, \"tie_word_embeddings\": true}", 128 },
    /* biases of q, k, v; logits whose rows are no multiple of 16 bytes */
    { "qwen2", "{\"model_type\": \"qwen2\", " COMMON "\"vocab_size\": 130, \"tie_word_embeddings\": false}", 130 },
    /* biases everywhere, of products with a residual and with an activation behind them too; transposed weights */
    { "gpt2", "{\"model_type\": \"gpt2\", \"n_embd\": 64, \"n_layer\": 2, \"n_head\": 4, \"n_positions\": 256, "
        "\"vocab_size\": 96}", 96 },
    /* a soft cap of the logits */
    { "gemma2", "{\"model_type\": \"gemma2\", " COMMON "\"query_pre_attn_scalar\": 16, \"sliding_window\": 70, "
        "\"attn_logit_softcapping\": 5.0, \"final_logit_softcapping\": 10.0, "
        "\"layer_types\": [\"sliding_attention\", \"full_attention\"], \"vocab_size\": 128}", 128 },
};

typedef struct {
    char *folder;
    cuddle_model *model;
    uint32_t vocab;
} tiny;

static tiny tiny_open(const char *name)
{
    tiny t = { .folder = tiny_folder() };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (strcmp(models[i].name, name))
            continue;
        t.vocab = models[i].vocab;
        MUST(tiny_model(t.folder, models[i].config));
    }
    MUST(cuddle_model_open(&t.model, t.folder));
    return t;
}

static void tiny_close(tiny *t)
{
    cuddle_model_close(t->model);
    tiny_remove(t->folder);
}

static cuddle_engine_opts sized(cuddle_engine_opts o)
{
    o.context_max = CONTEXT;
    o.step_tokens = o.logits_rows = CONTEXT;
    o.sequences_max = 2;
    return o;
}

/* Logits of the first n tokens as one prompt, then of GENERATED tokens; with `beside`, prompt and generated tokens of
 * another sequence share the steps. */
static float *run(const tiny *t, cuddle_engine_opts o, uint32_t n, bool beside)
{
    cuddle_engine *e;
    cuddle_sequence *s[2];
    int32_t tokens[CONTEXT];
    float *logits = malloc((n + GENERATED) * t->vocab * sizeof *logits);
    for (uint32_t i = 0; i < CONTEXT; i++)
        tokens[i] = (int32_t)(i * i * 31 % t->vocab);
    o = sized(o);
    MUST(cuddle_engine_open(&e, t->model, &o));
    counted_begin();
    for (int i = 0; i < 2; i++)
        MUST(cuddle_sequence_open(&s[i], e));
    if (beside)
        MUST(cuddle_sequence_feed(s[1], tokens + 7, 5, NULL));
    for (uint32_t first = 0; first < n + GENERATED; first += first ? 1 : n) {
        cuddle_feed f[] = {
            { .sequence = s[0], .tokens = tokens + first, .n = first ? 1 : n, .generated = first > 0,
              .all_logits = true, .logits = logits + (size_t)first * t->vocab },
            { .sequence = s[1], .tokens = tokens + first, .n = 1, .generated = true } };
        MUST(cuddle_engine_feed(e, f, beside ? 2 : 1));
    }
    counted_none();
    for (int i = 0; i < 2; i++)
        cuddle_sequence_close(s[i]);
    cuddle_engine_close(e);
    return logits;
}

/* The machine may have a GPU, and no cuBLASLt. */
static void need_library(const tiny *t)
{
    cuddle_engine_plan plan = { .size = sizeof plan };
    cuddle_engine_opts o = virtual_options("bf16");
    o.fast = true;
    if (virtual_is() || cuddle_engine_make_plan(&plan, t->model, &o) != CUDDLE_ERR_NOTFOUND)
        return;
    printf("  %s\n", cuddle_errmsg());
    skip();
}

static void check_errors(const tiny *t, const char *dtype, bool beside)
{
    const size_t n = (size_t)(TOKENS + GENERATED) * t->vocab;
    cuddle_engine_opts plain = cases_options(), fast = virtual_options(dtype);
    plain.f32_activations = true;
    fast.fast = true;
    float *want = run(t, plain, TOKENS, false), *twin = run(t, twin_options(dtype), TOKENS, false);
    float *got = run(t, fast, TOKENS, beside), *off = run(t, virtual_options(dtype), TOKENS, beside);
    double bound = 2 * virtual_error(twin, want, n), error = virtual_error(got, want, n);
    printf("  %s%s: %.0f %% of the bound of %g, %.0f %% without fast\n", dtype, beside ? ", beside another" : "",
            100 * error / bound, bound, 100 * virtual_error(off, want, n) / bound);
    assert_true(error > 0 && error <= bound);
    if (virtual_is()) /* it did multiply */
        assert_memory_not_equal(got, off, n * sizeof *got);
    free(want); free(twin); free(got); free(off);
}

static void test_errors(void **state)
{
    tiny t = tiny_open(*state);
    need_library(&t);
    check_errors(&t, "bf16", false);
    check_errors(&t, "bf16", true);
    if (strcmp(*state, "gemma2")) /* whose activations do not fit */
        check_errors(&t, "f16", false);
    tiny_close(&t);
}

static void test_few_rows_keep_their_bits(void **state)
{
    (void)state;
    tiny t = tiny_open("llama");
    need_library(&t);
    cuddle_engine_opts fast = virtual_options("bf16");
    fast.fast = true;
    float *got = run(&t, fast, FEW, true), *want = run(&t, virtual_options("bf16"), FEW, true);
    assert_memory_equal(got, want, (size_t)(FEW + GENERATED) * t.vocab * sizeof *got);
    free(got);
    free(want);
    tiny_close(&t);
}

/* Its workspace is planned: 4 or 32 MiB by the GPU, partly where sums of generated rows are without it. */
static void test_plan(void **state)
{
    (void)state;
    tiny t = tiny_open("llama");
    need_library(&t);
    cuddle_engine_opts o = sized(virtual_options("bf16")), few = o;
    cuddle_engine_plan with = { .size = sizeof with }, without = with, short_steps = with;
    MUST(cuddle_engine_make_plan(&without, t.model, &o));
    o.fast = true;
    MUST(cuddle_engine_make_plan(&with, t.model, &o));
    assert_in_range(with.workspace_bytes, 4 << 20, without.workspace_bytes + (32 << 20));
    assert_true(with.workspace_bytes > without.workspace_bytes);
    assert_int_equal(with.weights_bytes, without.weights_bytes); /* one copy */
    assert_string_equal(with.device, "cuda:0"); /* its engine is gone */
    assert_true(!strncmp(with.cpu, "sm_", 3));
    few.step_tokens = few.logits_rows = FEW;
    MUST(cuddle_engine_make_plan(&without, t.model, &few));
    few.fast = true;
    MUST(cuddle_engine_make_plan(&short_steps, t.model, &few));
    assert_int_equal(short_steps.workspace_bytes, without.workspace_bytes);
    tiny_close(&t);
}

/* ---- What cannot be: before the library is opened, which it stays ---- */

static void refused(const tiny *t, const cuddle_engine_opts *o, cuddle_status want, const char *part)
{
    cuddle_engine *e;
    cuddle_status got = cuddle_engine_open(&e, t->model, o);
    if (got != want || !strstr(cuddle_errmsg(), part) || strchr(cuddle_errmsg(), '\n'))
        fail_msg("status \"%s\", line \"%s\"; wanted \"%s\" and \"%s\"", cuddle_status_name(got), cuddle_errmsg(),
                cuddle_status_name(want), part);
}

static void test_refused(void **state)
{
    (void)state;
    tiny t = tiny_open("llama");
    const char *given = getenv("CUDDLE_CUBLASLT_LIBRARY");
    char *library = given ? strdup(given) : NULL;
    cuddle_engine_opts cpu = cases_options(), gpu = virtual_options("bf16");
    cpu.fast = gpu.fast = true;
    refused(&t, &cpu, CUDDLE_ERR_UNSUPPORTED, "needs --device cuda");
    setenv("CUDDLE_CUBLASLT_LIBRARY", "/nowhere/libcublasLt.so.13", 1);
    refused(&t, &gpu, CUDDLE_ERR_NOTFOUND, "no cuBLASLt: tried /nowhere/libcublasLt.so.13 (");
    setenv("CUDDLE_CUBLASLT_LIBRARY", "libm.so.6", 1);
    refused(&t, &gpu, CUDDLE_ERR_UNSUPPORTED, "libm.so.6 has no cublasLtCreate");
    unsetenv("CUDDLE_CUBLASLT_LIBRARY");
    if (library)
        setenv("CUDDLE_CUBLASLT_LIBRARY", library, 1);
    free(library);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_plan), cmocka_unit_test(test_few_rows_keep_their_bits),
        cmocka_unit_test_prestate(test_errors, "llama"), cmocka_unit_test_prestate(test_errors, "qwen2"),
        cmocka_unit_test_prestate(test_errors, "gpt2"), cmocka_unit_test_prestate(test_errors, "gemma2") };
    virtual_use();
    return cmocka_run_group_tests(tests, counted_open, NULL);
}
