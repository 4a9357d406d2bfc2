/* test_memory.c - the most memory that a process takes to open a real model and use it: at most 1.15 x file + state
 * + 20 MB (the file's own pages are dropped as they are packed). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "refs.h"

enum { CONTEXT = 1024, PROMPT = 600 };

static cuddle_engine_opts options(void)
{
    return (cuddle_engine_opts){ .size = sizeof(cuddle_engine_opts), .context_max = CONTEXT };
}

/* What the measured process does; 0 when all went well. */
static int use_model(const char *path)
{
    cuddle_model *m;
    cuddle_engine *e;
    cuddle_sequence *s;
    const cuddle_tokenizer *t;
    const cuddle_engine_opts o = options();
    int32_t prompt[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++)
        prompt[i] = 100 + i;
    if (cuddle_model_open(&m, path) != CUDDLE_OK || cuddle_model_tokenizer(m, &t) != CUDDLE_OK
            || cuddle_engine_open(&e, m, &o) != CUDDLE_OK || cuddle_sequence_open(&s, e) != CUDDLE_OK
            || cuddle_sequence_feed(s, prompt, PROMPT, NULL) != CUDDLE_OK
            || cuddle_sequence_decode(s, 5, NULL) != CUDDLE_OK)
        return 1;
    return 0;
}

static uint64_t peak_of_use(const char *path)
{
    struct rusage usage;
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(use_model(path));
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return (uint64_t)usage.ru_maxrss * 1024;
}

static void test_peak_memory(void **state)
{
    const char *path = *state;
    struct stat file;
    assert_int_equal(stat(path, &file), 0);
    uint64_t peak = peak_of_use(path);
    cuddle_model *m;
    const cuddle_engine_opts o = options();
    cuddle_engine_plan plan = { .size = sizeof plan };
    MUST(cuddle_model_open(&m, path));
    MUST(cuddle_engine_make_plan(&plan, m, &o));
    cuddle_model_close(m);
    double bound = 1.15 * (double)file.st_size + (double)plan.state_bytes + 20e6;
    printf("  %s: peak %.1f MB, bound %.1f MB\n", path, (double)peak * 1e-6, bound * 1e-6);
    assert_true((double)peak <= bound);
}

int main(void)
{
    static char smol[] = "models/SmolLM2-135M-Instruct-Q4_1.gguf", gemma[] = "models/gemma-3-270m-Q4_K_M.gguf";
    const struct CMUnitTest tests[] = {
        { .name = "test_peak_memory_smollm2", .test_func = test_peak_memory, .initial_state = smol },
        { .name = "test_peak_memory_gemma3", .test_func = test_peak_memory, .initial_state = gemma },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
