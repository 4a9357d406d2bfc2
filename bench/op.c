/* op.c - speed of one op of the CPU's kernels on shapes of real models.
 *
 * build/bench/op                 a table: the products of two models at several row counts
 * build/bench/op --op linear --type q4_1 --rows 1 --cols 576 --out 1536 --threads 2 --cpu avx512
 *                                one line; --op linear_glu takes the same options
 * --f32 keeps f32 activations; --set smollm2 or qwen2.5-1.5b narrows the table; --mib the
 * bytes of weights that copies are made for, so that no cache holds them (1024).
 *
 * A sample is one run of the pool over a few calls, each with other weights, that takes about a
 * millisecond, so that the best of many escapes other work on the machine; times are medians (and the
 * best), "+-" is half the distance of the quartiles in per cent. GB/s count weight bytes; "stream" is
 * the speed of reading as many bytes with wide loads, measured first.
 */
#include <time.h>

#include "../tests/kernel/kernel.h"

enum { SAMPLES_MAX = 2001, COPIES_MAX = 4096, CALLS_MAX = 4096 };

/* Of one sample, at least; few rows go by bytes. */
#define SAMPLE_WORK 2e8
#define SAMPLE_BYTES (8u << 20)

typedef struct {
    const char *op, *type, *cpu, *only;
    uint32_t rows, cols, out, threads;
    size_t mib;
    double seconds;             /* of one measurement, at most                                 */
    bool f32;
} options;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct { double median, spread, best; } figures;

/* Runs `step` phases after `step` phases of the ring, until the time is over: seconds of one step. A first
 * round brings everything in. */
static figures measure(cdl_pool *pool, const cdl_phase *phases, uint32_t n, uint32_t step, double seconds)
{
    static double s[SAMPLES_MAX];
    int samples = 0;
    cdl_pool_run(pool, phases, n);
    double end = now() + seconds;
    uint32_t at = 0;
    while (samples < SAMPLES_MAX && (samples < 5 || now() < end)) {
        double begin = now();
        cdl_pool_run(pool, phases + at, step);
        s[samples++] = now() - begin;
        at = at + 2 * step <= n ? at + step : 0;
    }
    qsort(s, (size_t)samples, sizeof *s, by_value);
    double median = s[samples / 2];
    return (figures){ median, (s[samples * 3 / 4] - s[samples / 4]) / 2 / median, s[0] };
}

/* ---- Reading as fast as memory gives ---- */

typedef uint64_t wide __attribute__((vector_size(64)));
enum { STREAM_CHUNK = 64 << 10, STREAM_AHEAD = 2048, STREAM_PHASE = 32 << 20 };

#ifdef __x86_64__
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void read_chunk(const void *arg, uint32_t chunk, void *scratch)
{
    const wide *p = (const wide *)((const uint8_t *)arg + (size_t)chunk * STREAM_CHUNK);
    wide a = { 0 }, b = { 0 };
    for (size_t i = 0; i < STREAM_CHUNK / 64; i += 2) {
        __builtin_prefetch((const uint8_t *)(p + i) + STREAM_AHEAD);
        __builtin_prefetch((const uint8_t *)(p + i + 1) + STREAM_AHEAD);
        a ^= p[i];
        b ^= p[i + 1];
    }
    *(volatile uint64_t *)scratch = (a ^ b)[0];
}

static double stream_speed(cdl_pool *pool, size_t bytes)
{
    uint8_t *data = cdl_mem_pages(bytes);
    cdl_phase *phases = calloc(bytes / STREAM_PHASE + 1, sizeof *phases);
    uint32_t n = 0;
    for (size_t i = 0; i < bytes; i += 4096)
        data[i] = (uint8_t)i;
    for (size_t at = 0; at + STREAM_PHASE <= bytes; at += STREAM_PHASE)
        phases[n++] = (cdl_phase){ .run = read_chunk, .arg = data + at, .chunks = STREAM_PHASE / STREAM_CHUNK };
    figures f = measure(pool, phases, n, 1, 1.0);
    free(phases);
    cdl_mem_pages_free(data, bytes);
    return STREAM_PHASE / f.median;
}

/* ---- One product ---- */

typedef struct {
    const char *name;
    bool glu;
    cdl_dtype type;
    uint32_t out, cols;
} product;

typedef struct {
    cdl_step step;
    cdl_linear_attrs linear;
    cdl_glu_attrs glu;
    kernel_matrix one;              /* what is copied  */
    cdl_pack packs[COPIES_MAX];
    uint8_t *data;
    uint32_t copies;
    float *x, *y;
    uint8_t *workspace;
    cdl_call calls[CALLS_MAX];
    cdl_phase items[CALLS_MAX * CDL_CPU_PHASES];
} bench;

/* Copies of one random matrix that fill `bytes`. */
static void make_weights(bench *b, const product *p, size_t bytes)
{
    kernel_random r = { 1 };
    b->one = kernel_matrix_new(&p->type, &p->out, 1, p->cols, &r);
    size_t copies = bytes / b->one.bytes + 2;
    b->copies = copies < COPIES_MAX ? (uint32_t)copies : COPIES_MAX;
    b->data = cdl_mem_pages(b->copies * b->one.bytes);
    for (uint32_t i = 0; i < b->copies; i++) {
        uint8_t *to = b->data + i * b->one.bytes;
        memcpy(to, b->one.data, b->one.bytes);
        b->packs[i] = b->one.pack;
        b->packs[i].segment[0].data = to;
        b->packs[i].streamed = bytes > cdl_mem_cache_bytes();
    }
}

static cdl_call call_of(bench *b, const product *p, uint32_t rows, uint32_t copy)
{
    cdl_call c = { .op = p->glu ? CDL_OP_LINEAR_GLU : CDL_OP_LINEAR,
                   .attrs = p->glu ? (void *)&b->glu : (void *)&b->linear,
                   .n_in = p->glu ? 3 : 2, .step = &b->step, .rows_generated = b->step.rows_generated };
    c.in[0] = kernel_view(b->x, rows, p->cols);
    c.in[1] = kernel_pack_view(&b->packs[copy % b->copies]);
    if (p->glu)
        c.in[2] = kernel_pack_view(&b->packs[(copy + 1) % b->copies]);
    c.out = kernel_view(b->y, rows, p->out);
    return c;
}

/* Seconds of one call, weights cold. */
static figures time_product(bench *b, const cdl_cpu_set *set, cdl_pool *pool, const product *p, uint32_t rows,
        const options *o)
{
    kernel_random r = { 2 };
    double work = (double)rows * p->cols * p->out * (p->glu ? 2 : 1);
    uint32_t step = p->glu ? 2 : 1, calls = b->copies / step, sample = (uint32_t)(SAMPLE_WORK / work) + 1;
    if (rows < 64 && sample < SAMPLE_BYTES / (b->one.bytes * step))
        sample = (uint32_t)(SAMPLE_BYTES / (b->one.bytes * step));
    if (calls > CALLS_MAX)
        calls = CALLS_MAX;
    if (rows >= 64 || calls < sample)
        calls = sample;
    b->x = kernel_floats((size_t)rows * p->cols, &r);
    b->y = calloc((size_t)rows * p->out, sizeof *b->y);
    b->step = (cdl_step){ .rows = rows, .rows_generated = rows > 64 ? 0 : rows, .f32_activations = o->f32 };
    cdl_call first = call_of(b, p, rows, 0);
    b->workspace = cdl_mem_aligned(64, kernel_workspace(set, &first) + 1);
    cdl_phases phases = { .items = b->items, .cap = CALLS_MAX * CDL_CPU_PHASES };
    for (uint32_t i = 0; i < calls; i++) {
        b->calls[i] = call_of(b, p, rows, i * step);
        b->calls[i].workspace = b->workspace;
        set->kernel[first.op].emit(&b->calls[i], cdl_pool_threads(pool), &phases);
    }
    figures f = measure(pool, b->items, phases.n, phases.n / calls * sample, o->seconds);
    f.median /= sample;
    f.best /= sample;
    cdl_pool_quiesce(pool, 0);
    free(b->x);
    free(b->y);
    cdl_mem_free(b->workspace);
    return f;
}

static void print_line(bench *b, const product *p, uint32_t rows, figures f, double stream)
{
    double bytes = (double)b->one.bytes * (p->glu ? 2 : 1), work = (double)rows * p->cols * p->out * (p->glu ? 2 : 1);
    printf("%-9s %-6s %7u x %-5u %4u rows %10.1f us +-%4.1f %% (best %.1f)  "
           "%6.2f GB/s (%3.0f %% of stream)  %7.1f GMAC/s\n",
            p->name, cdl_dtype_get(p->type)->name, p->out, p->cols, rows, f.median * 1e6, f.spread * 100, f.best * 1e6,
            bytes / f.median * 1e-9, 100 * bytes / f.median / stream, work / f.median * 1e-9);
    fflush(stdout);
}

static void run_product(const cdl_cpu_set *set, cdl_pool *pool, const product *p, const uint32_t *rows, uint32_t n,
        const options *o, double stream)
{
    bench *b = calloc(1, sizeof *b);
    b->linear = (cdl_linear_attrs){ 0 };
    b->glu = (cdl_glu_attrs){ .act = CDL_ACT_SILU };
    make_weights(b, p, o->mib << 20);
    for (uint32_t i = 0; i < n; i++)
        print_line(b, p, rows[i], time_product(b, set, pool, p, rows[i], o), stream);
    cdl_mem_pages_free(b->data, b->copies * b->one.bytes);
    kernel_matrix_free(&b->one);
    free(b);
}

/* ---- The table ---- */

typedef struct {
    const char *name;
    product products[6];
} model;

static const model models[] = {
    { "smollm2", { { "qkv", false, CDL_DTYPE_Q4_1, 960, 576 }, { "o", false, CDL_DTYPE_Q4_1, 576, 576 },
                   { "gate, up", true, CDL_DTYPE_Q4_1, 1536, 576 }, { "down", false, CDL_DTYPE_Q4_1, 576, 1536 },
                   { "head", false, CDL_DTYPE_Q8_0, 49152, 576 } } },
    { "qwen2.5-1.5b", { { "qkv", false, CDL_DTYPE_Q4_K, 2048, 1536 }, { "o", false, CDL_DTYPE_Q4_K, 1536, 1536 },
                        { "gate, up", true, CDL_DTYPE_Q4_K, 8960, 1536 }, { "down", false, CDL_DTYPE_Q6_K, 1536, 8960 },
                        { "head", false, CDL_DTYPE_Q6_K, 151936, 1536 } } },
};

static void run_table(const cdl_cpu_set *set, cdl_pool *pool, const options *o, double stream)
{
    static const uint32_t rows[] = { 1, 4, 16, 64, 512 };
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        if (o->only && strcmp(o->only, models[m].name))
            continue;
        printf("%s\n", models[m].name);
        for (const product *p = models[m].products; p->name; p++)
            run_product(set, pool, p, rows, p->out > 16384 ? 3 : 5, o, stream);
    }
}

/* ---- Options ---- */

static int usage(void)
{
    fprintf(stderr, "usage: op [--op linear|linear_glu --type T --rows N --cols N --out N] [--set MODEL]\n"
                    "          [--threads N] [--cpu SET] [--f32] [--mib N] [--seconds S]\n");
    return 2;
}

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(name, "--f32")) {
            o->f32 = true;
            continue;
        }
        if (!value)
            return false;
        i++;
        if (!strcmp(name, "--op"))
            o->op = value;
        else if (!strcmp(name, "--type"))
            o->type = value;
        else if (!strcmp(name, "--cpu"))
            o->cpu = value;
        else if (!strcmp(name, "--set"))
            o->only = value;
        else if (!strcmp(name, "--rows"))
            o->rows = (uint32_t)atoi(value);
        else if (!strcmp(name, "--cols"))
            o->cols = (uint32_t)atoi(value);
        else if (!strcmp(name, "--out"))
            o->out = (uint32_t)atoi(value);
        else if (!strcmp(name, "--threads"))
            o->threads = (uint32_t)atoi(value);
        else if (!strcmp(name, "--mib"))
            o->mib = (size_t)atoi(value);
        else if (!strcmp(name, "--seconds"))
            o->seconds = atof(value);
        else
            return false;
    }
    return o->rows && o->cols && o->out && o->threads;
}

int main(int argc, char **argv)
{
    options o = { .type = "q4_1", .rows = 1, .cols = 576, .out = 1536, .threads = cdl_pool_default_threads(),
                  .mib = 1024, .seconds = 0.4 };
    const cdl_cpu_set *set;
    cdl_dtype type;
    if (!parse(&o, argc, argv) || !cdl_dtype_from_name(&type, o.type))
        return usage();
    if (o.op && strcmp(o.op, "linear") && strcmp(o.op, "linear_glu"))
        return usage();
    kernel_must(cdl_cpu_select(&set, o.cpu), "cpu");
    cdl_pool *pool = kernel_pool(set, o.threads);
    double stream = stream_speed(pool, o.mib < 64 ? STREAM_PHASE : o.mib << 20);
    printf("%s, %u threads, stream %.1f GB/s over %zu MiB\n", set->name, o.threads, stream * 1e-9, o.mib);
    product p = { o.op, o.op && !strcmp(o.op, "linear_glu"), type, o.out, o.cols };
    if (o.op)
        run_product(set, pool, &p, &o.rows, 1, &o, stream);
    else
        run_table(set, pool, &o, stream);
    cdl_pool_free(pool);
    return 0;
}
