/* test_allocations.c - nothing is allocated on the device, nor made or loaded by its driver, nor taken from the heap,
 * once an engine is open: prompts in several steps, generated rows in graphs and without, tokens picked, sequences
 * closed and opened again. */
#include "counted.h"
#include "virtual.h"

/* ---- Steps ---- */

enum { SEQUENCES = 3, PROMPT = 61, DECODED = 6, VOCAB_MOST = 1024 };

static float logits[SEQUENCES][PROMPT * VOCAB_MOST];

typedef struct {
    cuddle_engine *engine;
    cuddle_sampler *sampler[SEQUENCES];
    uint32_t vocab;
} bench;

static int32_t token_of(const bench *b, uint32_t sequence, uint32_t i)
{
    return (int32_t)((i * 37 + sequence * 11 + 5) % b->vocab);
}

/* Feeds that go together: the sequences [0, n) with one generated token each; the last is a prompt if mixed. */
static void feed(bench *b, cuddle_sequence **s, uint32_t n, bool mixed, bool picks)
{
    cuddle_feed feeds[SEQUENCES] = { 0 };
    int32_t tokens[SEQUENCES][2];
    for (uint32_t i = 0; i < n; i++) {
        bool prompt = mixed && i == n - 1;
        tokens[i][0] = tokens[i][1] = token_of(b, i, (uint32_t)cuddle_sequence_length(s[i]));
        feeds[i] = (cuddle_feed){ .sequence = s[i], .tokens = tokens[i], .n = prompt ? 2 : 1, .generated = !prompt,
                                  .logits = picks ? NULL : logits[i], .sampler = picks ? b->sampler[i] : NULL };
    }
    MUST(cuddle_engine_feed(b->engine, feeds, n));
    for (uint32_t i = 0; i < n && picks; i++)
        MUST(cuddle_sampler_accept(b->sampler[i], feeds[i].token));
}

static void work(bench *b)
{
    cuddle_sequence *s[SEQUENCES];
    int32_t prompt[PROMPT];
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        for (uint32_t k = 0; k < PROMPT; k++)
            prompt[k] = token_of(b, k < 40 ? 0 : i, k); /* the first page is shared */
        cuddle_feed f = { .tokens = prompt, .n = PROMPT, .logits = logits[i], .all_logits = i == 2 };
        MUST(cuddle_sequence_open(&s[i], b->engine));
        f.sequence = s[i];
        MUST(cuddle_engine_feed(b->engine, &f, 1));
    }
    for (uint32_t n = 1; n <= SEQUENCES; n++)
        for (uint32_t k = 0; k < DECODED; k++)
            feed(b, s, n, k == 2 || k == 3, k % 2);
    MUST(cuddle_sequence_truncate(s[0], cuddle_sequence_length(s[0]) - 3));
    MUST(cuddle_sequence_feed(s[0], prompt, 7, NULL));
    for (uint32_t i = 0; i < SEQUENCES; i++)
        cuddle_sequence_close(s[i]);
}

static void samplers(bench *b)
{
    static const cuddle_sampling options[SEQUENCES] = {
        { .size = sizeof *options, .mode = CUDDLE_PICK_GREEDY },
        { .size = sizeof *options, .temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .min_p = 0.01f, .seed = 7 },
        { .size = sizeof *options, .temperature = 1, .typical_p = 0.9f, .repetition_penalty = 1.2f,
          .presence_penalty = 0.1f, .no_repeat_ngram = 2 } }; /* typical: picked on the host */
    for (int i = 0; i < SEQUENCES; i++)
        MUST(cuddle_sampler_new(&b->sampler[i], b->vocab, 128, &options[i]));
}

static void test_nothing_after_open(void **state)
{
    reference r;
    cuddle_engine_opts o = virtual_options("bf16");
    counted_begin();
    if (cases_open(&r, *state, "cuda", &o) != CUDDLE_OK)
        fail_msg("%s: %s", (const char *)*state, cuddle_errmsg());
    assert_true(counted.mem_alloc && counted.host_alloc && counted.module_load && counted.graph_instantiate);
    printf("  %s: opened with %u blocks on the device, %u on the host, %u graphs\n", (const char *)*state,
            counted.mem_alloc, counted.host_alloc, counted.graph_instantiate);
    assert_in_range(r.vocab, 1, VOCAB_MOST);
    bench b = { .engine = r.engine, .vocab = r.vocab };
    samplers(&b);
    counted_begin();
    const size_t heap = cdl_mem_count();
    for (int i = 0; i < 2; i++)
        work(&b);
    counted_none();
    assert_int_equal(cdl_mem_count(), heap);
    for (int i = 0; i < SEQUENCES; i++)
        cuddle_sampler_free(b.sampler[i]);
    cases_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_nothing_after_open, "llama_gqa"),
        cmocka_unit_test_prestate(test_nothing_after_open, "gemma3_text"), /* two groups of pages, tied weights */
        cmocka_unit_test_prestate(test_nothing_after_open, "gpt2") };
    virtual_use();
    return cmocka_run_group_tests(tests, counted_open, NULL);
}
