/* cmd_plan.c - `cuddle plan`: what an engine would allocate, to the byte, without allocating it. */
#include "cli.h"
#include "cuddle_engine.h"

static bool json, blocks;
static int64_t context, batch = 1, step, threads;
static const char *device, *state_dtype, *cpu;
static bool f32, fast;

static const cli_option options[] = {
    { "context", 'c', CLI_INT, &context, "N", "tokens of a sequence (default: the model's limit, at most 8192)",
      1, 1 << 28 },
    { "batch", 'b', CLI_INT, &batch, "N", "sequences at once (default: 1)", 1, 4096 },
    { "step", 0, CLI_INT, &step, "N", "most tokens of one step (default: 512)", 1, 65536 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "device", 0, CLI_STRING, &device, "D", "cpu, cuda, cuda:N (default: a GPU, else cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "state-dtype", 0, CLI_STRING, &state_dtype, "T",
      "type of keys and values: f16 or f32; on cuda f16, bf16, i8 or f8e4m3", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET", "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "f32-activations", 0, CLI_FLAG, &f32, NULL, "plan for the checking path", 0, 0 },
    { "blocks", 0, CLI_FLAG, &blocks, NULL, "print every block of the workspace too", 0, 0 },
    { "json", 0, CLI_FLAG, &json, NULL, "print JSON", 0, 0 },
};

static void print_json(const cuddle_engine_plan *p)
{
    printf("{\"cpu\":\"%s\",\"threads\":%u,\"context\":%u,\"nodes\":%u,\"nodes_fused\":%u,"
           "\"weights_bytes\":%llu,\"state_bytes\":%llu,\"workspace_bytes\":%llu,\"workspace_bound_bytes\":%llu,"
           "\"total_bytes\":%llu,\"groups\":[", p->cpu, p->threads, p->context_max, p->nodes, p->nodes_fused,
           (unsigned long long)p->weights_bytes, (unsigned long long)p->state_bytes,
           (unsigned long long)p->workspace_bytes, (unsigned long long)p->workspace_bound,
           (unsigned long long)(p->weights_bytes + p->state_bytes + p->workspace_bytes));
    for (uint32_t i = 0; i < p->groups; i++)
        printf("%s{\"pages\":%u,\"page_bytes\":%u}", i ? "," : "", p->pages[i], p->page_bytes[i]);
    puts("]}");
}

static void print_table(const cuddle_engine_plan *p)
{
    printf("kernels      %s, %u threads\n", p->cpu, p->threads);
    printf("context      %u tokens, %lld sequences\n", p->context_max, (long long)batch);
    printf("graph        %u nodes, %u after fusion\n", p->nodes, p->nodes_fused);
    printf("weights      %14llu bytes\n", (unsigned long long)p->weights_bytes);
    printf("state        %14llu bytes", (unsigned long long)p->state_bytes);
    for (uint32_t i = 0; i < p->groups; i++)
        printf("%s%u pages of %u", i ? ", " : "  = ", p->pages[i], p->page_bytes[i]);
    printf(" (32 tokens each, and a guard page a layer)\n");
    printf("workspace    %14llu bytes  lower bound %llu, plan / bound %.3f\n", (unsigned long long)p->workspace_bytes,
           (unsigned long long)p->workspace_bound, (double)p->workspace_bytes / (double)p->workspace_bound);
    printf("total        %14llu bytes\n",
           (unsigned long long)(p->weights_bytes + p->state_bytes + p->workspace_bytes));
}

static int run(char **args);
const cli_command cmd_plan = {
    "plan", "show the memory plan of a model", "MODEL [options]",
    "Prints the three blocks an engine allocates when it opens: repacked weights, state pages, and the\n"
    "workspace that all values of a step share. Nothing is allocated after that.\n",
    options, sizeof options / sizeof *options, 1, 1, run };

static int run(char **args)
{
    cuddle_engine_opts o = { .size = sizeof o, .context_max = (uint32_t)context, .sequences_max = (uint32_t)batch,
                             .step_tokens = (uint32_t)step, .threads = (uint32_t)threads, .device = device,
                             .state_dtype = state_dtype, .cpu = cpu, .f32_activations = f32, .fast = fast };
    cuddle_engine_plan plan = { .size = sizeof plan };
    cuddle_model *m;
    if (cuddle_model_open(&m, args[0]) != CUDDLE_OK)
        return cli_fail_status();
    int code = CLI_OK;
    if (cuddle_engine_make_plan(&plan, m, &o) != CUDDLE_OK)
        code = cli_fail_status();
    else if (json)
        print_json(&plan);
    else
        print_table(&plan);
    if (code == CLI_OK && blocks && cuddle_engine_print_plan(stdout, m, &o) != CUDDLE_OK)
        code = cli_fail_status();
    cuddle_model_close(m);
    return code;
}
