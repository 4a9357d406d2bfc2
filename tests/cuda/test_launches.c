/* test_launches.c - how many kernels a generated token takes: at most 8 a layer and 4 more, in one graph. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gen/engine.h"
#include "graph/cuda_call.h"
#include "refs.h"

static void token_launches(const char *path)
{
    cuddle_model *m;
    cuddle_engine *e;
    cuddle_sequence *s;
    const int32_t prompt[] = { 1, 2, 3 };
    MUST(cuddle_model_open(&m, path));
    cuddle_engine_opts o = { .size = sizeof o, .device = "cuda", .context_max = 512, .threads = 2 };
    MUST(cuddle_engine_open(&e, m, &o));
    float *logits = malloc(e->graph.vocab * sizeof *logits);
    MUST(cuddle_sequence_open(&s, e));
    MUST(cuddle_sequence_feed(s, prompt, 3, NULL));
    const cdl_cuda *c = (const cdl_cuda *)e->backend;
    uint64_t before = c->launches;
    MUST(cuddle_sequence_decode(s, 7, logits));
    uint64_t n = c->launches - before;
    printf("  %s: %llu launches in %llu graph, %u layers\n", path, (unsigned long long)n,
            (unsigned long long)c->graph_launches, e->graph.n_states);
    assert_int_equal(c->graph_launches, 1);
    assert_in_range(n, 1, 8 * e->graph.n_states + 4);
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    cuddle_model_close(m);
    free(logits);
}

static void test_smollm2(void **state)
{
    (void)state;
    token_launches("models/SmolLM2-135M-Instruct-Q4_1.gguf");
}

static void test_gemma3(void **state)
{
    (void)state;
    token_launches("models/gemma-3-270m-Q4_K_M.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_smollm2), cmocka_unit_test(test_gemma3) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
