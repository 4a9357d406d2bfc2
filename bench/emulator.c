/* emulator.c - speed of the virtual GPU on the kernels of one decoded token of SmolLM2-135M.
 *
 * build/bench/emulator [-o] [PART...]    needs `make cuda emulator`; -o: the mix of opcodes of each kernel
 * Launches the products of a layer, its attention over 600 slots and the logits, each for half a second, best time;
 * G lane-instr/s are those of the launch's counters. The last lines are a layer and a token of 30 of them.
 * Honours CUDDLE_VGPU_CHECKS. Times are the emulation's, not a GPU's.
 */
#include <time.h>

#include "../tests/cuda/device.h"
#include "format/repack.h"

enum { LAYERS = 30, HIDDEN = 576, FFN = 1536, HEADS = 9, KV = 3, DIM = 64, SLOTS = 600, VOCAB = 49152 };

typedef struct {
    const char *part, *module, *kernel;
    cdl_dtype t;
    uint32_t rows, cols, up, per_token;
} product;

/* A row a launch; per_token counts launches of a token, 0: not part of it. */
static const product products[] = {
    { "qkv q4_1", "linear_4bit", "linear_fwd_decode_kernel_q4_1_bf16", CDL_DTYPE_Q4_1, 960, HIDDEN, 0, LAYERS },
    { "out q4_1", "linear_4bit", "linear_fwd_decode_kernel_q4_1_bf16", CDL_DTYPE_Q4_1, HIDDEN, HIDDEN, 0, LAYERS },
    { "gate q4_1", "linear_4bit", "linear_fwd_decode_kernel_q4_1_bf16", CDL_DTYPE_Q4_1, FFN, HIDDEN, 1, LAYERS },
    { "down q4_1", "linear_4bit", "linear_fwd_decode_kernel_q4_1_bf16", CDL_DTYPE_Q4_1, HIDDEN, FFN, 0, LAYERS },
    { "head q8_0", "linear_8bit", "linear_fwd_decode_kernel_q8_0_bf16", CDL_DTYPE_Q8_0, VOCAB, HIDDEN, 0, 1 },
    { "down q6_k", "linear_k_high", "linear_fwd_decode_kernel_q6_k_bf16", CDL_DTYPE_Q6_K, HIDDEN, FFN, 0, 0 },
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const char *counters_path = "build/bench/emulator.json";
static bool opcodes;

/* The number behind "name": in the counters' lines, added up over launches. */
static double counted(const char *text, const char *name)
{
    char key[64];
    double sum = 0;
    snprintf(key, sizeof key, "\"%s\":", name);
    for (const char *at = text; (at = strstr(at, key)); at += strlen(key))
        sum += strtod(at + strlen(key), NULL);
    return sum;
}

typedef struct { char name[64]; double n; } share;

static int by_count(const void *a, const void *b)
{
    double x = ((const share *)a)->n, y = ((const share *)b)->n;
    return (x < y) - (x > y);
}

static void print_opcodes(const char *text, double all)
{
    static share list[512];
    size_t n = 0;
    const char *at = strstr(text, "\"opcodes\":{");
    for (at = at ? strchr(at + 10, '"') : NULL; at && n < 512; at = *at == ',' ? at + 1 : NULL) {
        int used = 0;
        if (sscanf(at, "\"%63[^\"]\":%lf%n", list[n].name, &list[n].n, &used) < 2)
            break;
        n++;
        at += used;
    }
    qsort(list, n, sizeof *list, by_count);
    for (size_t i = 0; i < n && i < 24; i++)
        printf("    %-56s %5.1f %%\n", list[i].name, list[i].n / all * 100);
}

/* Best of half a second, and the counters of one more. */
static double measure(const char *part, void (*launch)(const void *), const void *what)
{
    double best = 1e30;
    static char text[1 << 20];
    remove(counters_path);
    setenv("CUDDLE_VGPU_COUNTERS", counters_path, 1);
    launch(what);
    unsetenv("CUDDLE_VGPU_COUNTERS");
    FILE *f = fopen(counters_path, "r");
    text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
    if (f)
        fclose(f);
    for (double sum = 0, took; sum < 0.5; sum += took) {
        took = now();
        launch(what);
        took = now() - took;
        best = took < best ? took : best;
    }
    double lanes = counted(text, "lane_instructions"), warps = counted(text, "warp_instructions");
    printf("%-12s %9.2f ms  %6.2f M warp instr  %5.2f G lane instr/s  %6.0f k mma\n", part, best * 1e3, warps / 1e6,
            lanes / best / 1e9, counted(text, "mma") / 1e3);
    if (opcodes)
        print_opcodes(text, warps);
    return best;
}

typedef struct {
    const product *p;
    cdl_linear_args args;
} linear_launch;

static void launch_linear(const void *what)
{
    const linear_launch *l = what;
    uint32_t cols, bytes = cdl_repack_tile_bytes(l->p->t, &cols), up = !!l->args.up;
    driver_launch(l->p->module, l->p->kernel, (l->args.rows + 15) / 16, 1, 1,
            up ? CDL_CUDA_PAIR_THREADS : CDL_CUDA_LINEAR_THREADS,
            cdl_linear_decode_shared(bytes, cols, l->args.tokens, up), (void *)&l->args);
}

static device_ptr weight_up(const product *p, kernel_random *random)
{
    size_t row_bytes = kernel_row_bytes(p->t, p->cols), bytes;
    uint8_t *src = malloc(p->rows * row_bytes);
    kernel_weights(src, p->t, (size_t)p->rows * p->cols, random);
    kernel_must(cdl_repack_bytes(&bytes, p->t, p->rows, p->cols), "repack");
    uint8_t *packed = malloc(bytes);
    cdl_repack_tiles(packed, p->t, src, row_bytes, p->rows, p->cols, 0, (p->rows + 15) / 16);
    device_ptr d = driver_up(packed, bytes);
    free(src);
    free(packed);
    return d;
}

static double bench_product(const product *p)
{
    kernel_random random = { p->rows };
    float *x = type_floats(CDL_DTYPE_BF16, p->cols, &random);
    linear_launch l = { p, { .x = (void *)type_up(CDL_DTYPE_BF16, x, p->cols), .weight = (void *)weight_up(p, &random),
            .up = p->up ? (void *)weight_up(p, &random) : NULL, .y = (void *)driver_up(NULL, p->rows * 4), .tokens = 1,
            .rows = p->rows, .cols = p->cols, .x_stride = p->cols, .y_stride = p->rows,
            .act = p->up ? CDL_CUDA_ACT_SILU : CDL_CUDA_ACT_NONE, .y_f32 = p->rows == VOCAB } };
    double s = measure(p->part, launch_linear, &l);
    free(x);
    driver_free_all();
    return s;
}

static void launch_attention(const void *what)
{
    const cdl_attention_args *a = what;
    driver_launch("attn_d64", "attention_fwd_decode_kernel_d64_bf16", 1, KV, a->splits, CDL_CUDA_DECODE_THREADS, 0,
            (void *)a);
}

static double bench_attention(void)
{
    enum { PAGES = (SLOTS + 31) / 32, PAGE = KV * DIM * 2 * 32, SPLITS = (SLOTS + 255) / 256 };
    kernel_random random = { 1 };
    int32_t pages[PAGES], slot = SLOTS - 1, table = 0, end = SLOTS;
    uint32_t counters[KV] = { 0 };
    float *state = type_floats(CDL_DTYPE_BF16, PAGES * PAGE, &random), *q = type_floats(CDL_DTYPE_BF16, HEADS * DIM,
            &random);
    for (int i = 0; i < PAGES; i++)
        pages[i] = i;
    cdl_attention_args a = { .q = (void *)type_up(CDL_DTYPE_BF16, q, HEADS * DIM), .y = (void *)driver_up(NULL,
            HEADS * DIM * 2), .heads = HEADS, .splits = SPLITS, .q_stride = HEADS * DIM, .y_stride = HEADS * DIM,
        .partial = (void *)driver_up(NULL, (size_t)HEADS * SPLITS * (DIM + 2) * 4), .scale = 0.125f,
        .counters = (void *)driver_up(counters, sizeof counters),
        .state = { .base = (void *)type_up(CDL_DTYPE_BF16, state, PAGES * PAGE), .page_bytes = PAGE * 2, .kv_heads = KV,
            .key_dim = DIM, .value_dim = DIM },
        .rows = { (void *)driver_up(&slot, 4), (void *)driver_up(&table, 4), (void *)driver_up(&end, 4),
            (void *)driver_up(pages, sizeof pages) } };
    double s = measure("attention", launch_attention, &a);
    free(state);
    free(q);
    driver_free_all();
    return s;
}

int main(int argc, char **argv)
{
    double layer = 0, token = 0;
    if (!driver_open())
        return 1;
    opcodes = argc > 1 && !strcmp(argv[1], "-o");
    const char *only = argc > 1 + opcodes ? argv[1 + opcodes] : NULL;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        if (only && !strstr(products[i].part, only))
            continue;
        double s = bench_product(&products[i]);
        layer += products[i].per_token == LAYERS ? s : 0;
        token += products[i].per_token * s;
    }
    if (!only || strstr("attention", only)) {
        double s = bench_attention();
        layer += s;
        token += LAYERS * s;
    }
    printf("a layer %.2f ms, a token of %d layers %.3f s\n", layer * 1e3, LAYERS, token);
    return 0;
}
