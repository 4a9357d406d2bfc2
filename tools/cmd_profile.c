/* cmd_profile.c - `cuddle profile`: where the time and the bytes go, of a model node by node or of one op.
 *
 * On the CPU and on a GPU it times; on the virtual GPU it counts. See profile.h. */
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/pool.h"
#include "profile.h"

enum { ROWS_MAX = 512 };

static const char *op, *device = "cpu", *cpu, *output = "table";
static cli_list shapes, types;
static int64_t threads, prompt = 512, generate = 16;
static double seconds = 0.2;
static bool fast;

static const cli_option options[] = {
    { "op", 0, CLI_STRING, &op, "NAME", "an op of ops.def, or all, instead of a model", 0, 0 },
    { "shapes", 's', CLI_LIST, &shapes, "N=V,..",
      "sizes of the op: rows, cols, out, heads, kv_heads, head_dim, context, window", 0, 0 },
    { "type", 0, CLI_LIST, &types, "T", "type of its weights (default: q4_k); may be given again", 0, 0 },
    { "prompt", 'p', CLI_INT, &prompt, "N", "of a model: tokens of its prompt (default: 512; 0: none)", 0, 65536 },
    { "generate", 'n', CLI_INT, &generate, "N", "of a model: generated tokens (default: 16; 0: none)", 0, 4096 },
    { "device", 'd', CLI_STRING, &device, "D", "cpu, cuda or cuda:N (default: cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET", "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "seconds", 0, CLI_DOUBLE, &seconds, "S", "time for each measurement of an op (default: 0.2)", 0.001, 60 },
    { "output", 'o', CLI_STRING, &output, "FORMAT", "table, json, html or trace (default: table)", 0, 0 },
};

static int run(char **args);
const cli_command cmd_profile = {
    "profile", "where the time and the bytes go: of a model, or of one op", "[MODEL] [--op NAME] [options]",
    "Of an op: cold and hot caches, median and half the quartiles' distance, GB/s and GFLOP/s beside what this\n"
    "machine was measured to reach. --shapes changes sizes of its usual cases; without `rows` a generated token and a\n"
    "prompt are taken, with up to 64 rows these are generated tokens, with more a prompt's.\n"
    "On the virtual GPU (CUDDLE_CUDA_LIBRARY=build/emulator/libcuda.so.1, --device cuda) nothing is timed: each\n"
    "kernel's traffic by operand, bank conflicts, branches and mma are counted, registers and occupancy read from its\n"
    "code; of a model one prompt and one generated token.\n"
    "-o html is one page with a roofline and a timeline, -o trace a Chrome trace (Perfetto) of a model's nodes or of\n"
    "ops, on the virtual GPU of estimates by public figures, as long as each GPU needs at least.\n\n"
    "  cuddle profile models/SmolLM2-135M-Instruct-Q4_1.gguf\n"
    "  cuddle profile --op linear --type q4_k --type q8_0 --shapes rows=16,cols=1536,out=8960\n"
    "  cuddle profile models/SmolLM2-135M-Instruct-Q4_1.gguf -o html > profile.html\n",
    options, sizeof options / sizeof *options, 0, 1, run };

/* ---- Which cases ---- */

typedef struct {
    profile_row *rows;
    uint32_t n;
} cases;

static bool add_case(cases *c, cdl_op which, cdl_dtype type, bool of_prompt, const char *text)
{
    if (c->n == ROWS_MAX) {
        cli_fail("more than %d cases", ROWS_MAX);
        return false;
    }
    return profile_case_read(&c->rows[c->n++].c, which, type, of_prompt, text);
}

/* Rows that the text names, or 0. */
static unsigned long rows_in(const char *text)
{
    const char *at = strncmp(text, "rows=", 5) ? strstr(text, ",rows=") : text;
    return at ? strtoul(strchr(at, '=') + 1, NULL, 10) : 0;
}

static bool add_shapes(cases *c, cdl_op which, cdl_dtype type)
{
    enum { GENERATED_MAX = 64 };
    static const char *const none[] = { "" };
    const char *const *list = shapes.n ? shapes.items : none;
    for (size_t i = 0; i < (shapes.n ? shapes.n : 1); i++) {
        unsigned long rows = rows_in(list[i]);
        if (rows <= GENERATED_MAX && !add_case(c, which, type, false, list[i]))
            return false;
        if ((!rows || rows > GENERATED_MAX) && !add_case(c, which, type, true, list[i]))
            return false;
    }
    return true;
}

static bool add_types(cases *c, cdl_op which)
{
    static const char *const usual[] = { "q4_k" };
    const char *const *list = types.n ? types.items : usual;
    for (size_t i = 0; i < (types.n ? types.n : 1); i++) {
        cdl_dtype t;
        if (!cdl_dtype_from_name(&t, list[i])) {
            cli_fail("--type %s: no such type; GGUF's names are known, and f32, f16, bf16", list[i]);
            return false;
        }
        if (!add_shapes(c, which, t))
            return false;
        if (!profile_case_weighs(which))
            break;
    }
    return true;
}

static bool list_cases(cases *c)
{
    bool found = false;
    for (int i = 0; i < CDL_OP_COUNT; i++) {
        if (strcmp(op, "all") && strcmp(op, cdl_op_get((cdl_op)i)->name))
            continue;
        found = true;
        if (!add_types(c, (cdl_op)i))
            return false;
    }
    if (!found)
        cli_fail("--op %s: no such op; see runtime/graph/ops.def, or --op all", op);
    return found;
}

/* ---- */

static cuddle_status print(const profile_report *r)
{
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    if (!strcmp(output, "table"))
        profile_print_table(r);
    else
        st = !strcmp(output, "json") ? profile_put_json(&b, r) : !strcmp(output, "html") ? profile_put_page(&b, r)
            : profile_put_trace(&b, r);
    if (st == CUDDLE_OK && b.len)
        fwrite(b.data, 1, b.len, stdout);
    cdl_buf_free(&b);
    return st;
}

static cuddle_status profile(const char *path, cases *c, cdl_arena *a)
{
    profile_opts o = { .device = device, .fast = fast, .cpu = cpu ? cpu : cdl_env_get(CDL_ENV_CUDDLE_CPU),
                       .seconds = seconds,
                       .threads = threads ? (uint32_t)threads : cdl_pool_default_threads() };
    profile_machine m;
    profile_model model;
    CDL_TRY(profile_machine_open(&m, &o));
    if (fast && m.is_virtual)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "--fast: the virtual GPU cannot count cuBLASLt's kernels; "
                "do without --fast, or use a real GPU");
    for (uint32_t i = 0; i < c->n; i++) {
        profile_case which = c->rows[i].c;
        CDL_TRY(profile_case_run(&c->rows[i], &m, &which, &o, a));
    }
    if (path)
        CDL_TRY(profile_model_run(&model, &m, path, (uint32_t)prompt, (uint32_t)generate, &o, a));
    profile_report r = { .machine = &m, .rows = c->rows, .n_rows = c->n, .model = path ? &model : NULL };
    return print(&r);
}

static bool check_options(const char *path)
{
    static const char *const formats[] = { "table", "json", "html", "trace" };
    bool known = false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        known |= !strcmp(output, formats[i]);
    if (!known)
        cli_fail("--output %s: wanted table, json, html or trace", output);
    else if (!path == !op)
        cli_fail("wanted a MODEL or --op NAME, one of them");
    else if (path && (shapes.n || types.n))
        cli_fail("--shapes and --type belong to --op");
    else if (path && !prompt && !generate)
        cli_fail("--prompt and --generate are both 0: nothing to profile");
    else
        return true;
    return false;
}

static int run(char **args)
{
    cdl_arena a = { 0 };
    if (!check_options(args[0]))
        return CLI_USAGE;
    cases c = { .rows = cdl_arena_zalloc(&a, ROWS_MAX, sizeof *c.rows) };
    int code = CLI_USAGE;
    if (!c.rows)
        code = cli_fail("out of memory");
    else if (!op || list_cases(&c)) {
        cli_catch_interrupt();
        code = profile(args[0], &c, &a) == CUDDLE_OK ? CLI_OK : cli_fail_status();
    }
    cdl_arena_free(&a);
    return code;
}
