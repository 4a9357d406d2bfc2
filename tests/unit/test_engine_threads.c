/* tsan */
/* test_engine_threads.c - sequences of one engine fed from several threads at once: the same bits
 * as alone, whatever shared a step. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/pool.h"
#include "refs.h"

enum { VOCAB = 136, SEQUENCES = 8, FEEDERS = 4, PROMPT = 40, DECODED = 12 };

typedef struct {
    cuddle_engine *engine;
    uint32_t first;
    float logits[SEQUENCES][1 + DECODED][VOCAB];
    cuddle_status status;
    char error[256];
} feeder;

static void make_prompt(int32_t *tokens, uint32_t sequence)
{
    uint32_t x = 77 + sequence;
    for (uint32_t i = 0; i < PROMPT; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((x >> 8) % VOCAB);
    }
}

/* Lengths differ, so that prompts and generated tokens meet in steps. */
static cuddle_status run_sequence(feeder *f, uint32_t which)
{
    int32_t tokens[PROMPT];
    make_prompt(tokens, which);
    cuddle_sequence *s;
    cuddle_status st = cuddle_sequence_open(&s, f->engine);
    if (st != CUDDLE_OK)
        return st;
    st = cuddle_sequence_feed(s, tokens, PROMPT - 3 * which, f->logits[which][0]);
    for (uint32_t i = 0; i < DECODED && st == CUDDLE_OK; i++)
        st = cuddle_sequence_decode(s, (int32_t)((11 * i + which) % VOCAB), f->logits[which][1 + i]);
    cuddle_sequence_close(s);
    return st;
}

static void *feed_some(void *arg)
{
    feeder *f = arg;
    for (uint32_t round = 0; round < 3 && f->status == CUDDLE_OK; round++)
        for (uint32_t s = f->first; s < SEQUENCES && f->status == CUDDLE_OK; s += FEEDERS)
            f->status = run_sequence(f, s);
    if (f->status != CUDDLE_OK)
        snprintf(f->error, sizeof f->error, "%s", cuddle_errmsg());
    return NULL;
}

static void test_sequences_from_several_threads(void **state)
{
    (void)state;
    static feeder alone, fed[FEEDERS];
    cuddle_engine_opts o = { .size = sizeof o, .threads = 2, .context_max = 64,
        .sequences_max = SEQUENCES, .step_tokens = 32 };
    cuddle_model *m;
    MUST(cuddle_model_open(&m, refs_path("models/%s%s", "llama_gqa", "")));
    MUST(cuddle_engine_open(&alone.engine, m, &o));
    for (uint32_t s = 0; s < SEQUENCES; s++)
        MUST(run_sequence(&alone, s));
    pthread_t threads[FEEDERS];
    for (uint32_t i = 0; i < FEEDERS; i++) {
        fed[i].engine = alone.engine;
        fed[i].first = i;
        assert_int_equal(pthread_create(&threads[i], NULL, feed_some, &fed[i]), 0);
    }
    for (uint32_t i = 0; i < FEEDERS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        const feeder *f = &fed[s % FEEDERS];
        if (f->status != CUDDLE_OK)
            fail_msg("feeder %u: %s", s % FEEDERS, f->error);
        assert_memory_equal(f->logits[s], alone.logits[s], sizeof alone.logits[s]);
    }
    cuddle_engine_close(alone.engine);
    cuddle_model_close(m);
}

/* ThreadSanitizer would report the reads of late threads, see base/pool.h. */
int main(void)
{
#if defined(__SANITIZE_THREAD__)
    cdl_pool_set_steal(false);
#endif
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sequences_from_several_threads) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
