/* test_engine_torture.c - each allocation of open, feed and close fails once: NOMEM, and nothing is
 * left over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"
#include "torture.h"

enum { VOCAB = 136 };

static cuddle_status feed(cuddle_engine *e)
{
    static const int32_t tokens[] = { 1, 5, 9, 13, 17 };
    float logits[VOCAB];
    cuddle_sequence *s;
    cuddle_status st = cuddle_sequence_open(&s, e);
    if (st != CUDDLE_OK)
        return st;
    st = cuddle_sequence_feed(s, tokens, 5, logits);
    if (st == CUDDLE_OK)
        st = cuddle_sequence_decode(s, 21, logits);
    if (st == CUDDLE_OK)
        st = cuddle_sequence_truncate(s, 3);
    cuddle_sequence_close(s);
    return st;
}

static cuddle_status open_feed_close(void *user)
{
    cuddle_engine_opts o = { .size = sizeof o, .threads = 2, .context_max = 64, .sequences_max = 2,
        .step_tokens = 32 };
    cuddle_model *m = NULL;
    cuddle_engine *e = NULL;
    cuddle_status st = cuddle_model_open(&m, user);
    if (st != CUDDLE_OK)
        return st;
    st = cuddle_engine_open(&e, m, &o);
    if (st == CUDDLE_OK)
        st = feed(e);
    cuddle_engine_close(e);
    cuddle_model_close(m);
    return st;
}

static void test_open_feed_close_without_memory(void **state)
{
    (void)state;
    static const char *const models[] = { "llama_gqa", "gpt2", "gemma3_text" };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s", refs_path("models/%s%s", models[i], ""));
        assert_true(torture(open_feed_close, path, false, 1) > 10);
        torture(open_feed_close, path, true, 7);
    }
}

/* Its rows are made in memory of their own while they are packed. */
static void test_int4_without_memory(void **state)
{
    (void)state;
    char path[] = "tests/golden/int4/awq";
    assert_true(torture(open_feed_close, path, false, 1) > 10);
    torture(open_feed_close, path, true, 7);
}

static cuddle_status plan(void *user)
{
    cuddle_engine_plan p = { .size = sizeof p };
    cuddle_engine_opts o = { .size = sizeof o, .threads = 2, .context_max = 64 };
    cuddle_model *m = NULL;
    cuddle_status st = cuddle_model_open(&m, user);
    if (st == CUDDLE_OK)
        st = cuddle_engine_make_plan(&p, m, &o);
    cuddle_model_close(m);
    return st;
}

static void test_plan_without_memory(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s", refs_path("models/%s%s", "llama_gqa", ""));
    torture(plan, path, false, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_feed_close_without_memory),
        cmocka_unit_test(test_int4_without_memory),
        cmocka_unit_test(test_plan_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
