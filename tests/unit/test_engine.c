/* test_engine.c - one engine, many sequences: the same bits alone, in company and in chunks; shared
 * prefixes; truncation; errors; nothing allocated after open. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"

enum { VOCAB = 136, LONG = 86, DECODED = 8, OTHERS = 7 };

/* One with windows, one without, one whose products have biases, one with LayerNorm. */
static const char *const models[] = { "llama_gqa", "gemma3_text", "qwen2", "gpt2", "mistral", "phi3_plain" };

typedef struct {
    cuddle_model *model;
    cuddle_engine *engine;
} bench;

static bench open_bench(const char *name, cuddle_engine_opts o)
{
    bench b;
    o.size = sizeof o;
    if (!o.threads)
        o.threads = 2;
    MUST(cuddle_model_open(&b.model, refs_path("models/%s%s", name, "")));
    MUST(cuddle_engine_open(&b.engine, b.model, &o));
    return b;
}

static void close_bench(bench *b)
{
    cuddle_engine_close(b->engine);
    cuddle_model_close(b->model);
}

static void make_tokens(int32_t *out, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (int32_t)((seed >> 8) % VOCAB);
    }
}

/* Logits after the prompt, and after each of DECODED given tokens: [1 + DECODED, VOCAB]. */
typedef struct {
    float logits[1 + DECODED][VOCAB];
} outcome;

static void run(cuddle_sequence *s, const int32_t *tokens, uint32_t n, uint32_t chunk, outcome *out)
{
    for (uint32_t i = 0; i < n; i += chunk) {
        uint32_t k = n - i < chunk ? n - i : chunk;
        MUST(cuddle_sequence_feed(s, tokens + i, k, i + k == n ? out->logits[0] : NULL));
    }
    for (uint32_t i = 0; i < DECODED; i++)
        MUST(cuddle_sequence_decode(s, (int32_t)(7 * i + 3), out->logits[1 + i]));
}

static void same(const outcome *a, const outcome *b, const char *what)
{
    for (uint32_t i = 0; i <= DECODED; i++)
        if (memcmp(a->logits[i], b->logits[i], sizeof a->logits[i]))
            fail_msg("%s: logits %u differ", what, i);
}

static const cuddle_engine_opts roomy = { .context_max = 96, .sequences_max = 1 + OTHERS, .step_tokens = 64 };

static void test_chunks_of_any_size_give_the_same_bits(void **state)
{
    (void)state;
    static const uint32_t chunks[] = { 1, 7, 512 };
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        bench b = open_bench(models[m], roomy);
        int32_t tokens[LONG];
        make_tokens(tokens, LONG, 1);
        outcome got[3];
        for (size_t i = 0; i < 3; i++) {
            cuddle_sequence *s;
            MUST(cuddle_sequence_open(&s, b.engine));
            run(s, tokens, LONG, chunks[i], &got[i]);
            cuddle_sequence_close(s);
            same(&got[0], &got[i], models[m]);
        }
        for (uint32_t k = 0; k < VOCAB; k++)
            assert_true(isfinite(got[0].logits[DECODED][k]));
        close_bench(&b);
    }
}

/* All sequences in the same steps: prompts together, then generated tokens together, with one
 * more prompt coming in while the others generate. */
static void test_company_does_not_change_the_bits(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        bench b = open_bench(models[m], roomy);
        static int32_t tokens[1 + OTHERS][LONG];
        static outcome alone[1 + OTHERS], company[1 + OTHERS];
        cuddle_sequence *s[1 + OTHERS];
        cuddle_feed f[1 + OTHERS];
        for (uint32_t i = 0; i <= OTHERS; i++) {
            make_tokens(tokens[i], LONG, 100 + i);
            MUST(cuddle_sequence_open(&s[0], b.engine));
            run(s[0], tokens[i], LONG - 9 * i, 512, &alone[i]);
            cuddle_sequence_close(s[0]);
        }
        for (uint32_t i = 0; i <= OTHERS; i++)
            MUST(cuddle_sequence_open(&s[i], b.engine));
        for (uint32_t i = 0; i < OTHERS; i++)
            f[i] = (cuddle_feed){ .sequence = s[i], .tokens = tokens[i], .n = LONG - 9 * i,
                                  .logits = company[i].logits[0] };
        MUST(cuddle_engine_feed(b.engine, f, OTHERS));
        for (uint32_t k = 0; k < DECODED; k++) {
            int32_t token = (int32_t)(7 * k + 3);
            for (uint32_t i = 0; i <= OTHERS; i++)
                f[i] = (cuddle_feed){ .sequence = s[i], .tokens = &token, .n = 1, .generated = true,
                                      .logits = company[i].logits[1 + k] };
            if (!k) /* the last one still feeds its prompt */
                f[OTHERS] = (cuddle_feed){ .sequence = s[OTHERS], .tokens = tokens[OTHERS], .n = LONG - 9 * OTHERS,
                                           .logits = company[OTHERS].logits[0] };
            MUST(cuddle_engine_feed(b.engine, f, 1 + OTHERS));
            if (!k)
                MUST(cuddle_sequence_decode(s[OTHERS], token, company[OTHERS].logits[1]));
        }
        for (uint32_t i = 0; i <= OTHERS; i++) {
            same(&alone[i], &company[i], models[m]);
            cuddle_sequence_close(s[i]);
        }
        close_bench(&b);
    }
}

static void test_a_shared_prefix_is_reused_with_the_same_bits(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        bench b = open_bench(models[m], roomy);
        int32_t tokens[LONG], other[LONG];
        make_tokens(tokens, LONG, 5);
        memcpy(other, tokens, sizeof other);
        other[70] ^= 1;
        outcome alone, shared, first;
        cuddle_sequence *donor, *s;
        MUST(cuddle_sequence_open(&s, b.engine));
        run(s, other, LONG, 512, &alone);
        cuddle_sequence_close(s);
        MUST(cuddle_sequence_open(&donor, b.engine));
        MUST(cuddle_sequence_feed(donor, tokens, 66, NULL)); /* a window still holds what row 64 sees */
        MUST(cuddle_sequence_open(&s, b.engine));
        cuddle_feed f = { .sequence = s, .tokens = other, .n = LONG, .logits = shared.logits[0] };
        MUST(cuddle_engine_feed(b.engine, &f, 1));
        assert_int_equal(f.reused, 64);
        assert_int_equal(cuddle_sequence_length(s), LONG);
        /* the donor goes back into a shared page, writes there, and goes away */
        MUST(cuddle_sequence_truncate(donor, 65));
        if (m == 0) {
            MUST(cuddle_sequence_truncate(donor, 40));
            run(donor, tokens + 40, 20, 512, &first);
        }
        cuddle_sequence_close(donor);
        for (uint32_t i = 0; i < DECODED; i++)
            MUST(cuddle_sequence_decode(s, (int32_t)(7 * i + 3), shared.logits[1 + i]));
        same(&alone, &shared, models[m]);
        cuddle_sequence_close(s);
        close_bench(&b);
    }
}

static void test_generated_tokens_are_not_shared_as_a_prompt(void **state)
{
    (void)state;
    bench b = open_bench("llama_gqa", roomy);
    int32_t tokens[LONG];
    make_tokens(tokens, LONG, 6);
    cuddle_sequence *a, *s;
    MUST(cuddle_sequence_open(&a, b.engine));
    MUST(cuddle_sequence_feed(a, tokens, 32, NULL));
    for (uint32_t i = 32; i < 70; i++)
        MUST(cuddle_sequence_decode(a, tokens[i], NULL));
    MUST(cuddle_sequence_open(&s, b.engine));
    cuddle_feed f = { .sequence = s, .tokens = tokens, .n = LONG };
    MUST(cuddle_engine_feed(b.engine, &f, 1));
    assert_int_equal(f.reused, 32);
    cuddle_sequence_close(a);
    cuddle_sequence_close(s);
    close_bench(&b);
}

static void test_truncate_then_continue(void **state)
{
    (void)state;
    bench b = open_bench("llama_gqa", roomy);
    int32_t tokens[LONG], detour[20];
    make_tokens(tokens, LONG, 8);
    make_tokens(detour, 20, 9);
    outcome straight, back;
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, b.engine));
    run(s, tokens, LONG, 512, &straight);
    cuddle_sequence_close(s);
    MUST(cuddle_sequence_open(&s, b.engine));
    MUST(cuddle_sequence_feed(s, tokens, 50, NULL));
    MUST(cuddle_sequence_feed(s, detour, 20, NULL));
    MUST(cuddle_sequence_truncate(s, 50));
    run(s, tokens + 50, LONG - 50, 512, &back);
    same(&straight, &back, "truncate");
    assert_int_equal(cuddle_sequence_truncate(s, 1000), CUDDLE_ERR_ARG);
    cuddle_sequence_close(s);
    close_bench(&b);
}

static void test_truncate_behind_a_window_is_refused(void **state)
{
    (void)state;
    bench b = open_bench("mistral", roomy);
    int32_t tokens[LONG];
    make_tokens(tokens, LONG, 8);
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, b.engine));
    MUST(cuddle_sequence_feed(s, tokens, LONG, NULL));
    assert_int_equal(cuddle_sequence_truncate(s, 20), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "window"));
    assert_int_equal(cuddle_sequence_length(s), LONG);
    MUST(cuddle_sequence_truncate(s, 0));
    cuddle_sequence_close(s);
    close_bench(&b);
}

static void test_wrong_feeds_say_why_and_change_nothing(void **state)
{
    (void)state;
    bench b = open_bench("llama_gqa",
            (cuddle_engine_opts){ .context_max = 64, .sequences_max = 2, .state_tokens = 96 });
    int32_t tokens[LONG], bad[3] = { 1, VOCAB, 2 };
    make_tokens(tokens, LONG, 8);
    cuddle_sequence *s, *t, *u;
    MUST(cuddle_sequence_open(&s, b.engine));
    MUST(cuddle_sequence_open(&t, b.engine));
    assert_int_equal(cuddle_sequence_open(&u, b.engine), CUDDLE_ERR_FULL);
    assert_int_equal(cuddle_sequence_feed(s, tokens, 65, NULL), CUDDLE_ERR_FULL);
    assert_non_null(strstr(cuddle_errmsg(), "context is 64"));
    assert_int_equal(cuddle_sequence_feed(s, bad, 3, NULL), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "token 136"));
    assert_int_equal(cuddle_sequence_feed(s, tokens, 0, NULL), CUDDLE_ERR_ARG);
    assert_int_equal(cuddle_sequence_length(s), 0);
    MUST(cuddle_sequence_feed(s, tokens, 64, NULL));
    MUST(cuddle_sequence_feed(t, tokens + 10, 32, NULL));
    assert_int_equal(cuddle_sequence_feed(t, tokens, 1, NULL), CUDDLE_ERR_FULL); /* 96 tokens are taken */
    assert_int_equal(cuddle_sequence_length(t), 32);
    cuddle_sequence_close(s);
    MUST(cuddle_sequence_feed(t, tokens, 1, NULL));
    cuddle_sequence_close(t);
    close_bench(&b);
}

static void test_nothing_is_allocated_after_open(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        bench b = open_bench(models[m], roomy);
        int32_t tokens[LONG];
        make_tokens(tokens, LONG, 3);
        outcome o;
        size_t before = cdl_mem_count();
        cuddle_sequence *s;
        MUST(cuddle_sequence_open(&s, b.engine));
        run(s, tokens, LONG, 40, &o);
        MUST(cuddle_sequence_truncate(s, LONG));
        cuddle_sequence_close(s);
        assert_int_equal(cdl_mem_count(), before);
        close_bench(&b);
    }
}

static void test_the_plan_is_what_open_allocates(void **state)
{
    (void)state;
    cuddle_engine_opts o = roomy;
    o.size = sizeof o;
    bench b = open_bench("gemma3_text", o);
    cuddle_engine_plan plan = { .size = sizeof plan }, real = { .size = sizeof real };
    o.threads = 2;
    MUST(cuddle_engine_make_plan(&plan, b.model, &o));
    cuddle_engine_describe(b.engine, &real);
    assert_memory_equal(&plan, &real, sizeof plan);
    assert_int_equal(plan.groups, 2);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_of_any_size_give_the_same_bits),
        cmocka_unit_test(test_company_does_not_change_the_bits),
        cmocka_unit_test(test_a_shared_prefix_is_reused_with_the_same_bits),
        cmocka_unit_test(test_generated_tokens_are_not_shared_as_a_prompt),
        cmocka_unit_test(test_truncate_then_continue),
        cmocka_unit_test(test_truncate_behind_a_window_is_refused),
        cmocka_unit_test(test_wrong_feeds_say_why_and_change_nothing),
        cmocka_unit_test(test_nothing_is_allocated_after_open),
        cmocka_unit_test(test_the_plan_is_what_open_allocates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
