/* test_pick.c - a token picked on the device is the one that the host picks from the same logits; steps in a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gen/engine.h"
#include "refs.h"

enum { PROMPT = 5, TOKENS = 2 };

/* Decodes TOKENS tokens; with logits the host picks. */
static void decode(cuddle_engine *e, const cuddle_sampling *o, float *logits, int32_t *out)
{
    static const int32_t prompt[PROMPT] = { 504, 3575, 282, 504, 3575 };
    cuddle_sampler *sampler;
    cuddle_sequence *s;
    MUST(cuddle_sampler_new(&sampler, e->graph.vocab, 64, o));
    MUST(cuddle_sampler_prompt(sampler, prompt, PROMPT));
    MUST(cuddle_sequence_open(&s, e));
    cuddle_feed f = { .sequence = s, .tokens = prompt, .n = PROMPT, .logits = logits, .sampler = sampler };
    for (int i = 0; i < TOKENS; i++) {
        MUST(cuddle_engine_feed(e, &f, 1));
        MUST(cuddle_sampler_accept(sampler, f.token));
        out[i] = f.token;
        f.tokens = &out[i];
        f.n = 1;
        f.generated = true;
    }
    cuddle_sequence_close(s);
    cuddle_sampler_free(sampler);
}

static void test_device_and_host_agree(void **state)
{
    const cuddle_logit_bias bias[] = { { 504, -3 }, { 28, 4 }, { 28, 1 } };
    const cuddle_sampling cases[] = {
        { .size = sizeof cases[0] },
        { .size = sizeof cases[0], .temperature = 1.5f, .top_p = 0.95f, .top_k = 200, .seed = 3 },
        { .size = sizeof cases[0], .temperature = 2, .min_p = 0.01f, .repetition_penalty = 1.4f,
          .presence_penalty = 0.3f, .frequency_penalty = 0.2f, .seed = 5, .bias = bias, .n_bias = 3 },
        { .size = sizeof cases[0], .no_repeat_ngram = 2 },
        { .size = sizeof cases[0], .temperature = 1.5f, .typical_p = 0.8f, .seed = 9 }, /* the host's alone */
    };
    (void)state;
    cuddle_model *m;
    cuddle_engine *e;
    MUST(cuddle_model_open(&m, "models/SmolLM2-135M-Instruct-Q4_1.gguf"));
    cuddle_engine_opts o = { .size = sizeof o, .device = "cuda", .context_max = 64, .threads = 2 };
    MUST(cuddle_engine_open(&e, m, &o));
    float *logits = malloc(e->graph.vocab * sizeof *logits);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t device[TOKENS], host[TOKENS];
        decode(e, &cases[i], NULL, device);
        decode(e, &cases[i], logits, host);
        assert_memory_equal(device, host, sizeof host);
    }
    free(logits);
    cuddle_engine_close(e);
    cuddle_model_close(m);
}

/* A step without logits is not waited for: the next one's rows must not reach it. */
static void test_steps_follow_at_once(void **state)
{
    enum { N = 21, CUT = 12 };
    int32_t tokens[N];
    cuddle_model *m;
    cuddle_engine *e;
    cuddle_sequence *s;
    (void)state;
    for (int32_t i = 0; i < N; i++)
        tokens[i] = 300 + 31 * i;
    MUST(cuddle_model_open(&m, "models/SmolLM2-135M-Instruct-Q4_1.gguf"));
    cuddle_engine_opts o = { .size = sizeof o, .device = "cuda", .context_max = 64, .threads = 2 };
    MUST(cuddle_engine_open(&e, m, &o));
    size_t bytes = e->graph.vocab * sizeof(float);
    float *cut = malloc(bytes), *whole = malloc(bytes);
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_sequence_feed(s, tokens, CUT, NULL));
    MUST(cuddle_sequence_feed(s, tokens + CUT, N - CUT, cut));
    cuddle_sequence_close(s);
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_sequence_feed(s, tokens, N, whole));
    cuddle_sequence_close(s);
    assert_memory_equal(cut, whole, bytes);
    free(cut);
    free(whole);
    cuddle_engine_close(e);
    cuddle_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_device_and_host_agree),
                                        cmocka_unit_test(test_steps_follow_at_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
