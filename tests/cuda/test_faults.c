/* test_faults.c - what goes wrong on a GPU gives one line and leaves the process well: memory that ends while an
 * engine opens, a kernel that faults, a NaN among the weights, devices and types that are not there; which
 * device is taken unasked. */
#include "../tiny.h"
#include "device/device.h"
#include "gen/engine.h"
#include "virtual.h"

#include <sys/wait.h>

static void assert_line(cuddle_status got, cuddle_status want, const char *part)
{
    if (got != want || !strstr(cuddle_errmsg(), part) || strchr(cuddle_errmsg(), '\n'))
        fail_msg("status \"%s\", line \"%s\"; wanted \"%s\" and \"%s\"", cuddle_status_name(got), cuddle_errmsg(),
                cuddle_status_name(want), part);
}

static const char *model_path(void)
{
    return refs_path("models/%s/%s", "llama_gqa", "model.safetensors");
}

/* ---- Memory; each size in a process of its own, since the virtual GPU reads it once ---- */

enum { NOMEM_CLEAN, OPENED_CLEAN, WRONG_STATUS, WRONG_LINE, LEFT_OVER, NO_DEVICE };

static bool all_free(size_t *out)
{
    const cdl_cu *cu;
    cdl_device *d;
    size_t total;
    if (cdl_cu_open(&cu) != CUDDLE_OK || cdl_device_open(&d, 0) != CUDDLE_OK)
        return false;
    bool ok = cu->mem_info(out, &total) == CDL_CU_OK;
    cdl_device_close(d);
    return ok;
}

static int open_with(size_t bytes)
{
    char text[32];
    cuddle_model *m;
    cuddle_engine *e;
    size_t before, after;
    snprintf(text, sizeof text, "%zu", bytes);
    setenv("CUDDLE_VGPU_MEMORY", text, 1);
    cuddle_engine_opts o = virtual_options("bf16");
    if (!all_free(&before) || cuddle_model_open(&m, model_path()) != CUDDLE_OK)
        return NO_DEVICE;
    cuddle_status st = cuddle_engine_open(&e, m, &o);
    if (st != CUDDLE_OK && st != CUDDLE_ERR_NOMEM)
        return WRONG_STATUS;
    if (st == CUDDLE_ERR_NOMEM && (e || !strstr(cuddle_errmsg(), "bytes") || !strstr(cuddle_errmsg(), "are free; use")))
        return WRONG_LINE;
    cuddle_engine_close(e);
    cuddle_model_close(m);
    if (!all_free(&after) || after != before)
        return LEFT_OVER;
    return st == CUDDLE_OK ? OPENED_CLEAN : NOMEM_CLEAN;
}

static int in_child(int (*run)(size_t), size_t arg)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        _exit(run(arg));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_memory_ends(void **state)
{
    (void)state;
    unsigned failed = 0;
    int code = NOMEM_CLEAN;
    for (size_t bytes = 16 << 10; bytes < (size_t)64 << 20 && code == NOMEM_CLEAN; bytes += bytes / 4) {
        code = in_child(open_with, bytes);
        failed += code == NOMEM_CLEAN;
    }
    printf("  %u sizes of the device's memory were too small\n", failed);
    assert_int_equal(code, OPENED_CLEAN);
    assert_in_range(failed, 4, 100);
}

/* ---- Options ---- */

static void test_options(void **state)
{
    (void)state;
    cuddle_model *m;
    cuddle_engine *e;
    cuddle_engine_opts o = virtual_options("bf16");
    MUST(cuddle_model_open(&m, model_path()));
    o.device = "cuda:99";
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_ARG, "there is no cuda:99");
    o.device = "cuda:";
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_UNSUPPORTED, "device cuda: is not known");
    o.device = "cuda:0x";
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_UNSUPPORTED, "device cuda:0x is not known");
    o.device = "cuda";
    o.step_tokens = 65536;
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_UNSUPPORTED, "at most 65535 tokens a step, not 65536");
    o.step_tokens = 24;
    o.state_dtype = "f32";
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_UNSUPPORTED, "state_dtype f32");
    o.f32_activations = true;
    assert_line(cuddle_engine_open(&e, m, &o), CUDDLE_ERR_UNSUPPORTED, "f32 activations need device cpu");
    cuddle_model_close(m);
}

/* ---- A fault ---- */

enum { PAGE_NOWHERE = 1 << 20 };

/* The logits of one generated token; with `broken` the sequence's page table leads nowhere for that step. */
static cuddle_status generate(cuddle_engine *e, bool broken, float *logits)
{
    static const int32_t prompt[] = { 5, 6, 7 };
    cuddle_sequence *s;
    CDL_TRY(cuddle_sequence_open(&s, e));
    cuddle_status st = cuddle_sequence_feed(s, prompt, 3, NULL);
    if (st == CUDDLE_OK) {
        int32_t page = s->pages[0][0];
        s->pages[0][0] = broken ? PAGE_NOWHERE : page;
        st = cuddle_sequence_decode(s, 9, logits);
        s->pages[0][0] = page;
    }
    cuddle_sequence_close(s);
    return st;
}

static void test_fault(void **state)
{
    static const char *const names[] = { "rope_state_fwd_kernel_bf16 of node model.layers.0.self_attn.cache, output [1",
                                         "a kernel up to linear_fwd_decode_kernel_bf16_bf16 of node lm_head" };
    (void)state;
    for (int i = 0; i < 2; i++) {
        cuddle_model *m;
        cuddle_engine *e;
        cuddle_engine_opts o = virtual_options("bf16");
        setenv("CUDDLE_SYNC", i ? "0" : "1", 1);
        MUST(cuddle_model_open(&m, model_path()));
        MUST(cuddle_engine_open(&e, m, &o));
        size_t n = e->graph.vocab;
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        MUST(generate(e, false, want));
        assert_line(generate(e, true, got), CUDDLE_ERR_DEVICE, names[i]);
        assert_line(generate(e, false, got), CUDDLE_ERR_DEVICE, names[i]); /* dead, with the first line, whole */
        assert_line(CUDDLE_ERR_DEVICE, CUDDLE_ERR_DEVICE, "the engine is dead, open another");
        cuddle_engine_close(e);
        MUST(cuddle_engine_open(&e, m, &o)); /* the process lives */
        MUST(generate(e, false, got));
        assert_memory_equal(want, got, n * sizeof *got);
        cuddle_engine_close(e);
        cuddle_model_close(m);
        free(want);
        free(got);
    }
    unsetenv("CUDDLE_SYNC");
}

/* ---- A NaN ---- */

static void put_nan(const char *folder, const char *tensor)
{
    static uint8_t file[1 << 20];
    const float nan_value = NAN;
    cdl_checkpoint *c;
    FILE *f = fopen(tiny_path(folder, "model.safetensors"), "rb");
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    MUST(cdl_checkpoint_open(&c, folder, true));
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, tensor);
    assert_true(t && t->bytes >= 64 && n < sizeof file);
    uint8_t *at = NULL;
    for (size_t i = 0; i + 64 <= n && !at; i++)
        at = memcmp(file + i, t->data, 64) ? NULL : file + i;
    assert_non_null(at);
    memcpy(at + 20, &nan_value, sizeof nan_value);
    cdl_checkpoint_close(c);
    tiny_write(folder, "model.safetensors", file, n);
}

static void test_nan(void **state)
{
    static const char config[] = "{\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 48, "
        "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 64, "
        "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true}";
    char *folder = tiny_folder();
    cuddle_model *m;
    cuddle_engine *e;
    float logits[64];
    (void)state;
    MUST(tiny_model(folder, config));
    put_nan(folder, "model.layers.1.self_attn.o_proj.weight");
    MUST(cuddle_model_open(&m, folder));
    cuddle_engine_opts o = virtual_options("bf16");
    o.context_max = 32;
    setenv("CUDDLE_NAN", "1", 1);
    MUST(cuddle_engine_open(&e, m, &o));
    assert_line(generate(e, false, logits), CUDDLE_ERR_FORMAT, "model.layers.1.self_attn.o_proj (linear): row 0");
    cuddle_engine_close(e);
    unsetenv("CUDDLE_NAN");
    cuddle_model_close(m);
    tiny_remove(folder);
}

/* ---- Device auto ---- */

static const struct { const char *name, *memory, *cpu; bool f32; const char *want; } autos[] = {
    { "GPU", NULL, NULL, false, "cuda:0" },
    { NULL, NULL, NULL, false, "cpu" },          /* the virtual one is not taken */
    { "GPU", "200000", NULL, false, "cpu" },     /* which the model does not fit */
    { "GPU", NULL, "ref", false, "cpu" },
    { "GPU", NULL, NULL, true, "cpu" },
};

static int open_auto(size_t i)
{
    cuddle_engine_opts o = cases_options();
    cuddle_engine_plan plan = { .size = sizeof plan };
    cuddle_model *m;
    cuddle_engine *e;
    if (autos[i].name)
        setenv("CUDDLE_VGPU_NAME", autos[i].name, 1);
    if (autos[i].memory)
        setenv("CUDDLE_VGPU_MEMORY", autos[i].memory, 1);
    setenv("CUDDLE_DEVICE", "auto", 1);
    unsetenv("CUDDLE_CPU");
    o.cpu = autos[i].cpu;
    o.f32_activations = autos[i].f32;
    if (cuddle_model_open(&m, model_path()) != CUDDLE_OK || cuddle_engine_open(&e, m, &o) != CUDDLE_OK)
        return 1;
    cuddle_engine_describe(e, &plan);
    cuddle_engine_close(e);
    cuddle_model_close(m);
    return strcmp(plan.device, autos[i].want) ? 2 : 0;
}

static void test_auto(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof autos / sizeof *autos; i++)
        if (in_child(open_auto, i))
            fail_msg("case %zu: not %s", i, autos[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_memory_ends), /* before the driver is open here */
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_options), cmocka_unit_test(test_fault), cmocka_unit_test(test_nan) };
    virtual_use();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
