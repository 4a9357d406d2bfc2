/* cmd_bench.c - `cuddle bench`: prompt and generation speed, measured and printed as llama-bench
 * does.
 *
 * Tokens are random; the work is what `run` does less sampling: each step computes the logits of
 * its last token. A test is warmed up once, then repeated; what fills the context before it
 * (--depth) is not timed. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "cuddle_sequence.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

enum { VALUES_MAX = 32, REPEATS_MAX = 1000 };

static const char *prompts = "512", *gens = "128", *depths = "0", *streams = "1", *threads = "0";
static const char *output = "md", *device, *state_dtype, *cpu;
static int64_t repeats = 5, step = 512;
static bool no_warmup, fast;

static const cli_option options[] = {
    { "n-prompt", 'p', CLI_STRING, &prompts, "N,..",
      "prompt tokens (default: 512; 0: no such test)", 0, 0 },
    { "n-gen", 'n', CLI_STRING, &gens, "N,..",
      "generated tokens (default: 128; 0: no such test)", 0, 0 },
    { "depth", 'd', CLI_STRING, &depths, "N,..",
      "tokens in the context before (default: 0)", 0, 0 },
    { "streams", 's', CLI_STRING, &streams, "N,..",
      "sequences at once; speeds are of all together (default: 1)", 0, 0 },
    { "threads", 't', CLI_STRING, &threads, "N,..", "threads (default: all processors)", 0, 0 },
    { "repetitions", 'r', CLI_INT, &repeats, "N",
      "times each test is measured (default: 5)", 1, REPEATS_MAX },
    { "step", 'u', CLI_INT, &step, "N", "most tokens of one step (default: 512)", 1, 65536 },
    { "device", 0, CLI_STRING, &device, "D", "cpu, cuda, cuda:N (default: a GPU, else cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "state-dtype", 0, CLI_STRING, &state_dtype, "T",
      "type of keys and values: f16 or f32; on cuda f16, bf16, i8 or f8e4m3", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET",
      "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "no-warmup", 0, CLI_FLAG, &no_warmup, NULL, "do not run each test once before", 0, 0 },
    { "output", 'o', CLI_STRING, &output, "FORMAT", "md, csv, json or jsonl (default: md)", 0, 0 },
};

typedef struct {
    uint32_t v[VALUES_MAX];
    uint32_t n;
} list;

static bool read_list(list *out, const char *text, const char *option, uint32_t least,
        uint32_t most)
{
    const char *p = text;
    for (out->n = 0; out->n < VALUES_MAX; p++) {
        char *end;
        errno = 0;
        unsigned long v = strtoul(p, &end, 10);
        if (end == p || *p == '-' || errno || v < least || v > most)
            break;
        out->v[out->n++] = (uint32_t)v;
        p = end;
        if (!*p)
            return true;
        if (*p != ',')
            break;
    }
    cli_fail("--%s %s: wanted at most %d numbers from %u to %u, comma-separated", option, text,
            VALUES_MAX, least, most);
    return false;
}

/* ---- One test ---- */

typedef struct {
    uint32_t n_prompt, n_gen, depth, streams;
} test;

typedef struct {
    test t;
    char time[24];             /* ISO 8601, UTC */
    uint32_t n;
    double ns[REPEATS_MAX], ts[REPEATS_MAX];
} result;

typedef struct {
    cuddle_engine *engine;
    cuddle_engine_plan plan;
    uint32_t vocab, n;
    cuddle_sequence **sequences; /* [n]        */
    cuddle_feed *feeds;          /* [n]        */
    int32_t *tokens;             /* [n, width] */
    float *logits;               /* [n, vocab] */
    size_t width;
    uint64_t random;
} machine;

/* A step of any length for the first `streams` sequences, with random tokens. */
static cuddle_status feed(machine *m, uint32_t streams_now, uint32_t n, bool generated)
{
    for (uint32_t s = 0; s < streams_now; s++) {
        int32_t *tokens = m->tokens + s * m->width;
        for (uint32_t i = 0; i < n; i++) {
            m->random = m->random * 6364136223846793005u + 1442695040888963407u;
            tokens[i] = (int32_t)((m->random >> 33) % m->vocab);
        }
        m->feeds[s] = (cuddle_feed){ .sequence = m->sequences[s], .tokens = tokens, .n = n,
            .generated = generated, .logits = m->logits + (size_t)s * m->vocab };
    }
    return cuddle_engine_feed(m->engine, m->feeds, streams_now);
}

static cuddle_status run_once(machine *m, const test *t, double *seconds)
{
    for (uint32_t s = 0; s < t->streams; s++)
        CDL_TRY(cuddle_sequence_truncate(m->sequences[s], 0));
    if (t->depth)
        CDL_TRY(feed(m, t->streams, t->depth, false));
    double begin = cli_seconds();
    if (t->n_prompt)
        CDL_TRY(feed(m, t->streams, t->n_prompt, false));
    for (uint32_t i = 0; i < t->n_gen; i++) {
        CDL_TRY(feed(m, t->streams, 1, true));
        if (cli_interrupted())
            return cdl_status_fail(CUDDLE_ERR_CANCELLED, "interrupted");
    }
    *seconds = cli_seconds() - begin;
    return CUDDLE_OK;
}

static cuddle_status measure(machine *m, result *r)
{
    double seconds;
    test warmup = r->t;
    warmup.depth = 0;
    warmup.n_gen = warmup.n_gen < 8 ? warmup.n_gen : 8;
    if (!no_warmup)
        CDL_TRY(run_once(m, &warmup, &seconds));
    time_t now = time(NULL);
    strftime(r->time, sizeof r->time, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    r->n = (uint32_t)repeats;
    for (uint32_t i = 0; i < r->n; i++) {
        CDL_TRY(run_once(m, &r->t, &seconds));
        r->ns[i] = round(seconds * 1e9);
        r->ts[i] = (double)(r->t.n_prompt + r->t.n_gen) * r->t.streams / seconds;
        if (cli_interrupted())
            return cdl_status_fail(CUDDLE_ERR_CANCELLED, "interrupted");
    }
    return CUDDLE_OK;
}

static double average(const double *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += v[i];
    return sum / n;
}

/* Of a sample, as llama-bench's. */
static double deviation(const double *v, uint32_t n)
{
    double mean = average(v, n), sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (v[i] - mean) * (v[i] - mean);
    return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

/* ---- Output ---- */

typedef struct {
    const cuddle_model_facts *facts;
    const machine *m;
    char cpu_name[128];
    bool first;
} printer;

/* "pp512", "tg128 x16 @ d1024" */
static void name_test(char *out, size_t size, const test *t)
{
    int at = t->n_prompt && t->n_gen ? snprintf(out, size, "pp%u+tg%u", t->n_prompt, t->n_gen)
        : snprintf(out, size, "%s%u", t->n_prompt ? "pp" : "tg", t->n_prompt + t->n_gen);
    if (t->streams > 1)
        at += snprintf(out + at, size - (size_t)at, " x%u", t->streams);
    if (t->depth)
        snprintf(out + at, size - (size_t)at, " @ d%u", t->depth);
}

static void name_size(char *out, size_t size, uint64_t bytes)
{
    double mib = (double)bytes / (1 << 20);
    snprintf(out, size, mib < 1024 ? "%.2f MiB" : "%.2f GiB", mib < 1024 ? mib : mib / 1024);
}

static void name_params(char *out, size_t size, uint64_t n)
{
    double m = (double)n / 1e6;
    snprintf(out, size, m < 1000 ? "%.2f M" : "%.2f B", m < 1000 ? m : m / 1000);
}

/* The file's or folder's own name; *n without ".gguf". */
static const char *base_name(const char *path, int *n)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t begin = len;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    if (len - begin > 5 && !strncmp(path + len - 5, ".gguf", 5))
        len -= 5;
    *n = (int)(len - begin);
    return path + begin;
}

/* As llama-bench calls it. */
static const char *backend_name(const printer *p)
{
    return strcmp(p->m->plan.device, "cpu") ? "CUDA" : "CPU";
}

static void print_md(printer *p, const result *r)
{
    char name[64], bytes[32], params[32], backend[32];
    if (p->first) {
        static const char dashes[] = "------------------------------";
        printf("| %-30s | %10s | %10s | %-10s | %7s | %15s | %20s |\n", "model", "size", "params",
                "backend", "threads", "test", "t/s");
        printf("| %.30s | %.9s: | %.9s: | %.10s | %.6s: | %.14s: | %.19s: |\n", dashes, dashes,
                dashes, dashes, dashes, dashes, dashes);
    }
    name_test(name, sizeof name, &r->t);
    name_size(bytes, sizeof bytes, p->facts->bytes);
    name_params(params, sizeof params, p->facts->parameters);
    snprintf(backend, sizeof backend, "%s %s", backend_name(p), p->m->plan.cpu);
    int n;
    const char *model = base_name(p->facts->path, &n);
    printf("| %-30.*s | %10s | %10s | %-10s | %7u | %15s | %11.2f ± %6.2f |\n", n, model, bytes,
            params, backend, p->m->plan.threads, name, average(r->ts, r->n), deviation(r->ts, r->n));
}

typedef enum { TEXT, NUMBER, SAMPLES } kind;

typedef struct {
    const char *name;
    kind kind;
    const char *text;
    double number;
    const double *samples;
} field;

enum { FIELDS_MAX = 32 };

static uint32_t list_fields(field f[FIELDS_MAX], const printer *p, const result *r)
{
    const cuddle_model_facts *m = p->facts;
    const cuddle_engine_plan *plan = &p->m->plan;
    const field all[] = {
        { "build_commit", TEXT, cuddle_version(), 0, NULL },
        { "build_number", NUMBER, NULL, 0, NULL },
        { "cpu_info", TEXT, p->cpu_name, 0, NULL },
        { "gpu_info", TEXT, strcmp(plan->device, "cpu") ? plan->device : "", 0, NULL },
        { "backends", TEXT, backend_name(p), 0, NULL },
        { "cpu_kernels", TEXT, plan->cpu, 0, NULL },
        { "fast", NUMBER, NULL, fast, NULL },
        { "model_filename", TEXT, m->path, 0, NULL },
        { "model_type", TEXT, m->architecture, 0, NULL },
        { "model_size", NUMBER, NULL, (double)m->bytes, NULL },
        { "model_n_params", NUMBER, NULL, (double)m->parameters, NULL },
        { "n_batch", NUMBER, NULL, (double)step, NULL },
        { "n_ubatch", NUMBER, NULL, (double)step, NULL },
        { "n_threads", NUMBER, NULL, plan->threads, NULL },
        { "type_k", TEXT, plan->state_dtype, 0, NULL },
        { "type_v", TEXT, plan->state_dtype, 0, NULL },
        { "n_gpu_layers", NUMBER, NULL, 0, NULL },
        { "n_prompt", NUMBER, NULL, r->t.n_prompt, NULL },
        { "n_gen", NUMBER, NULL, r->t.n_gen, NULL },
        { "n_depth", NUMBER, NULL, r->t.depth, NULL },
        { "n_streams", NUMBER, NULL, r->t.streams, NULL },
        { "test_time", TEXT, r->time, 0, NULL },
        { "avg_ns", NUMBER, NULL, round(average(r->ns, r->n)), NULL },
        { "stddev_ns", NUMBER, NULL, round(deviation(r->ns, r->n)), NULL },
        { "avg_ts", NUMBER, NULL, average(r->ts, r->n), NULL },
        { "stddev_ts", NUMBER, NULL, deviation(r->ts, r->n), NULL },
        { "samples_ns", SAMPLES, NULL, 0, r->ns },
        { "samples_ts", SAMPLES, NULL, 0, r->ts },
    };
    _Static_assert(sizeof all / sizeof *all <= FIELDS_MAX, "room for all fields");
    memcpy(f, all, sizeof all);
    return sizeof all / sizeof *all;
}

static cuddle_status put_number(cdl_buf *b, double v)
{
    return v == floor(v) && fabs(v) < 1e15 ? cdl_buf_printf(b, "%.0f", v) : cdl_json_put_double(b, v);
}

/* The samples belong to JSON; CSV has one value a column. */
static cuddle_status put_csv(cdl_buf *b, printer *p, const result *r)
{
    field f[FIELDS_MAX];
    uint32_t n = list_fields(f, p, r);
    for (uint32_t i = 0; p->first && i < n; i++)
        if (f[i].kind != SAMPLES)
            CDL_TRY(cdl_buf_printf(b, "%s%s", i ? "," : "", f[i].name));
    if (p->first)
        CDL_TRY(cdl_buf_putc(b, '\n'));
    for (uint32_t i = 0; i < n; i++) {
        if (f[i].kind == SAMPLES)
            continue;
        CDL_TRY(cdl_buf_puts(b, i ? ",\"" : "\""));
        if (f[i].kind == NUMBER)
            CDL_TRY(put_number(b, f[i].number));
        for (const char *c = f[i].text; c && *c; c++) {
            if (*c == '"')
                CDL_TRY(cdl_buf_putc(b, '"'));
            CDL_TRY(cdl_buf_putc(b, *c));
        }
        CDL_TRY(cdl_buf_putc(b, '"'));
    }
    return cdl_buf_putc(b, '\n');
}

static cuddle_status put_value(cdl_buf *b, const field *f, uint32_t samples)
{
    if (f->kind == TEXT)
        return cdl_json_put_string(b, f->text, strlen(f->text));
    if (f->kind == NUMBER)
        return put_number(b, f->number);
    CDL_TRY(cdl_buf_putc(b, '['));
    for (uint32_t i = 0; i < samples; i++) {
        CDL_TRY(cdl_buf_puts(b, i ? ", " : ""));
        CDL_TRY(put_number(b, f->samples[i]));
    }
    return cdl_buf_putc(b, ']');
}

static cuddle_status put_json(cdl_buf *b, printer *p, const result *r, bool lines)
{
    field f[FIELDS_MAX];
    uint32_t n = list_fields(f, p, r);
    CDL_TRY(cdl_buf_puts(b, lines ? "{" : p->first ? "[\n  {\n" : ",\n  {\n"));
    for (uint32_t i = 0; i < n; i++) {
        CDL_TRY(cdl_buf_printf(b, "%s\"%s\": ", lines ? (i ? ", " : "") : "    ", f[i].name));
        CDL_TRY(put_value(b, &f[i], r->n));
        if (!lines)
            CDL_TRY(cdl_buf_puts(b, i + 1 < n ? ",\n" : "\n  }"));
    }
    return lines ? cdl_buf_puts(b, "}\n") : CUDDLE_OK;
}

static cuddle_status print(printer *p, const result *r)
{
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    if (!strcmp(output, "md"))
        print_md(p, r);
    else if (!strcmp(output, "csv"))
        st = put_csv(&b, p, r);
    else
        st = put_json(&b, p, r, !strcmp(output, "jsonl"));
    if (st == CUDDLE_OK && b.len)
        fwrite(b.data, 1, b.len, stdout);
    cdl_buf_free(&b);
    fflush(stdout);
    p->first = false;
    return st;
}

/* ---- All tests ---- */

typedef struct {
    list prompts, gens, depths, streams, threads;
} plan;

static bool read_plan(plan *p)
{
    static const char *const formats[] = { "md", "csv", "json", "jsonl" };
    bool known = false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        known |= !strcmp(output, formats[i]);
    if (!known)
        cli_fail("--output %s: wanted md, csv, json or jsonl", output);
    return known && read_list(&p->prompts, prompts, "n-prompt", 0, 1 << 20)
        && read_list(&p->gens, gens, "n-gen", 0, 1 << 20)
        && read_list(&p->depths, depths, "depth", 0, 1 << 20)
        && read_list(&p->streams, streams, "streams", 1, 4096)
        && read_list(&p->threads, threads, "threads", 0, 1024);
}

static uint32_t largest(const list *l)
{
    uint32_t max = 0;
    for (uint32_t i = 0; i < l->n; i++)
        max = l->v[i] > max ? l->v[i] : max;
    return max;
}

static void stop(machine *m)
{
    for (uint32_t s = 0; m->sequences && s < m->n; s++)
        if (m->sequences[s])
            cuddle_sequence_close(m->sequences[s]);
    cuddle_engine_close(m->engine);
    cdl_mem_free(m->sequences);
    cdl_mem_free(m->feeds);
    cdl_mem_free(m->tokens);
    cdl_mem_free(m->logits);
}

static cuddle_status start(machine *m, cuddle_model *model, const cuddle_model_facts *facts,
        const plan *p, uint32_t n_threads)
{
    uint32_t prompt = largest(&p->prompts), gen = largest(&p->gens);
    uint32_t context = largest(&p->depths) + (prompt > gen ? prompt : gen);
    context = context ? context : 1;
    *m = (machine){ .vocab = facts->vocab, .n = largest(&p->streams), .width = context,
        .random = 1 };
    if (context > facts->context_max)
        return cdl_status_fail(CUDDLE_ERR_ARG, "depth and test need %u tokens, and the model's"
                " context has %u", context, facts->context_max);
    cuddle_engine_opts o = { .size = sizeof o, .device = device, .fast = fast,
        .state_dtype = state_dtype, .cpu = cpu, .threads = n_threads,
        .context_max = context, .sequences_max = m->n, .step_tokens = (uint32_t)step, .progress = cli_progress };
    cuddle_status st = cuddle_engine_open(&m->engine, model, &o);
    cli_progress_end();
    CDL_TRY(st);
    m->plan.size = sizeof m->plan;
    cuddle_engine_describe(m->engine, &m->plan);
    m->sequences = cdl_mem_zalloc(m->n, sizeof(cuddle_sequence *));
    m->feeds = cdl_mem_zalloc(m->n, sizeof *m->feeds);
    m->tokens = cdl_mem_zalloc(m->n, m->width * sizeof *m->tokens);
    m->logits = cdl_mem_zalloc(m->n, m->vocab * sizeof *m->logits);
    if (!m->sequences || !m->feeds || !m->tokens || !m->logits)
        return cdl_status_nomem("the benchmark");
    for (uint32_t s = 0; s < m->n; s++)
        CDL_TRY(cuddle_sequence_open(&m->sequences[s], m->engine));
    return CUDDLE_OK;
}

static cuddle_status run_test(machine *m, printer *out, test t)
{
    static result r;
    r.t = t;
    CDL_TRY(measure(m, &r));
    return print(out, &r);
}

static cuddle_status run_tests(machine *m, printer *out, const plan *p)
{
    for (uint32_t i = 0; i < p->depths.n * p->streams.n; i++) {
        test t = { 0, 0, p->depths.v[i / p->streams.n], p->streams.v[i % p->streams.n] };
        for (uint32_t k = 0; k < p->prompts.n; k++) {
            t.n_prompt = p->prompts.v[k];
            if (t.n_prompt)
                CDL_TRY(run_test(m, out, t));
        }
        t.n_prompt = 0;
        for (uint32_t k = 0; k < p->gens.n; k++) {
            t.n_gen = p->gens.v[k];
            if (t.n_gen)
                CDL_TRY(run_test(m, out, t));
        }
    }
    return CUDDLE_OK;
}

static cuddle_status bench_model(cuddle_model *model, const plan *p)
{
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(model, &facts);
    printer out = { .facts = &facts, .first = true };
    cli_cpu_name(out.cpu_name, sizeof out.cpu_name);
    cuddle_status st = CUDDLE_OK;
    for (uint32_t t = 0; t < p->threads.n && st == CUDDLE_OK; t++) {
        machine m;
        out.m = &m;
        st = start(&m, model, &facts, p, p->threads.v[t]);
        if (st == CUDDLE_OK)
            st = run_tests(&m, &out, p);
        stop(&m);
    }
    if (!strcmp(output, "json") && st == CUDDLE_OK)
        puts(out.first ? "[]" : "\n]");
    return st;
}

static int run(char **args);
const cli_command cmd_bench = {
    "bench", "measure prompt and generation speed", "MODEL [options]",
    "Prints llama-bench's columns: ppN is a prompt of N tokens, tgN the generation of N tokens one by\n"
    "one, tokens per second as average ± standard deviation. Options take comma-separated lists.\n"
    "Example: cuddle bench MODEL -p 128,512 -n 64 -t 1,2 -o json\n",
    options, sizeof options / sizeof *options, 1, 1, run };

static int run(char **args)
{
    plan p;
    if (!read_plan(&p))
        return CLI_USAGE;
    cli_catch_interrupt();
    cuddle_model *m;
    if (cuddle_model_open(&m, args[0]) != CUDDLE_OK)
        return cli_fail_status();
    cuddle_status st = bench_model(m, &p);
    cuddle_model_close(m);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}
