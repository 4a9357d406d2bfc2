/* test_bits.c - a real model's logits are the same bits alone, among seven others, and with its prompt cut in steps
 * of 1, 7 and 512 tokens: quantised weights, fast kernels, every set of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"

enum { LONG = 530, DECODED = 4, OTHERS = 7, CONTEXT = 640 };

typedef struct {
    cuddle_engine *engine;
    uint32_t vocab;
    int32_t tokens[1 + OTHERS][LONG];
} fixture;

static size_t logits_bytes(const fixture *f)
{
    return (size_t)(1 + DECODED) * f->vocab * sizeof(float);
}

/* After the prompt, and after each of DECODED tokens: [1 + DECODED, vocab]. */
static void decode(fixture *f, cuddle_sequence *s, float *logits)
{
    for (int32_t i = 0; i < DECODED; i++)
        MUST(cuddle_sequence_decode(s, 40 + i, logits + (size_t)(i + 1) * f->vocab));
}

static float *run_cut(fixture *f, size_t cut)
{
    float *logits = malloc(logits_bytes(f));
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, f->engine));
    for (size_t i = 0; i < LONG; i += cut) {
        size_t n = LONG - i < cut ? LONG - i : cut;
        MUST(cuddle_sequence_feed(s, f->tokens[0] + i, n, i + n == LONG ? logits : NULL));
    }
    decode(f, s, logits);
    cuddle_sequence_close(s);
    return logits;
}

/* Eight prompts of different lengths in the same steps, then eight generated tokens a step. */
static float *run_in_company(fixture *f)
{
    float *logits = malloc(logits_bytes(f)), *rest = malloc(f->vocab * sizeof *rest * OTHERS);
    cuddle_sequence *s[1 + OTHERS];
    cuddle_feed feed[1 + OTHERS];
    for (size_t i = 0; i <= OTHERS; i++) {
        MUST(cuddle_sequence_open(&s[i], f->engine));
        feed[i] = (cuddle_feed){ .sequence = s[i], .tokens = f->tokens[i], .n = LONG - 60 * i,
                                 .logits = i ? rest + (i - 1) * f->vocab : logits };
    }
    MUST(cuddle_engine_feed(f->engine, feed, 1 + OTHERS));
    for (int32_t k = 0; k < DECODED; k++) {
        int32_t token[1 + OTHERS];
        for (size_t i = 0; i <= OTHERS; i++) {
            token[i] = 40 + k + (int32_t)(i * 100);
            feed[i] = (cuddle_feed){ .sequence = s[i], .tokens = &token[i], .n = 1, .generated = true,
                                     .logits = i ? rest + (i - 1) * f->vocab : logits + (size_t)(k + 1) * f->vocab };
        }
        MUST(cuddle_engine_feed(f->engine, feed, 1 + OTHERS));
    }
    for (size_t i = 0; i <= OTHERS; i++)
        cuddle_sequence_close(s[i]);
    free(rest);
    return logits;
}

static void must_equal(const fixture *f, const float *want, float *got, const char *set, const char *what)
{
    if (memcmp(want, got, logits_bytes(f)))
        fail_msg("%s, %s: the logits differ", set, what);
    free(got);
}

static bool open_fixture(fixture *f, cuddle_model *m, const char *set)
{
    cuddle_engine_opts o = { .size = sizeof o, .context_max = CONTEXT, .sequences_max = 1 + OTHERS, .step_tokens = 512,
                             .threads = 2, .cpu = set };
    cuddle_status st = cuddle_engine_open(&f->engine, m, &o);
    if (st == CUDDLE_ERR_UNSUPPORTED)
        return false;
    MUST(st);
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(m, &facts);
    f->vocab = facts.vocab;
    uint32_t seed = 1;
    for (size_t i = 0; i <= OTHERS; i++)
        for (size_t k = 0; k < LONG; k++) {
            seed = seed * 1664525u + 1013904223u;
            f->tokens[i][k] = (int32_t)((seed >> 8) % 40000);
        }
    return true;
}

static void test_same_bits(void **state)
{
    static const char *const sets[] = { "avx2", "avx512", "amx" };
    static fixture f;
    cuddle_model *m;
    MUST(cuddle_model_open(&m, *state));
    unsigned run = 0;
    for (int i = 0; i < 3; i++) {
        if (!open_fixture(&f, m, sets[i])) {
            printf("  %s: not run, this CPU lacks it\n", sets[i]);
            continue;
        }
        float *want = run_cut(&f, 512);
        must_equal(&f, want, run_cut(&f, 7), sets[i], "cut in 7");
        must_equal(&f, want, run_cut(&f, 1), sets[i], "cut in 1");
        must_equal(&f, want, run_in_company(&f), sets[i], "among seven others");
        free(want);
        cuddle_engine_close(f.engine);
        run++;
    }
    assert_true(run);
    cuddle_model_close(m);
}

int main(void)
{
    static char smol[] = "models/SmolLM2-135M-Instruct-Q4_1.gguf", gemma[] = "models/gemma-3-270m-Q4_K_M.gguf";
    const struct CMUnitTest tests[] = {
        { .name = "test_same_bits_smollm2", .test_func = test_same_bits, .initial_state = smol },
        { .name = "test_same_bits_gemma3", .test_func = test_same_bits, .initial_state = gemma },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
