/* test_counters.c - what the kernels request, by the virtual GPU's counters, against the table counters.def. */
#include <unistd.h>

#include "base/json.h"
#include "pages.h"
#include "weights.h"

static char path[] = "/tmp/cuddle-counters-XXXXXX";
static uint32_t beyond;   /* figures above their limit */

/* ---- What the last launch did ---- */

typedef struct {
    double instructions, mma, wavefronts, ideal;
    struct { int64_t offset; double read, written; } operand[32]; /* bytes of requested sectors */
    uint32_t operands;
} counters;

static counters counters_read(void)
{
    counters c = { 0 };
    cdl_arena arena = { 0 };
    const cdl_json *j;
    kernel_must(cdl_json_load(&j, &arena, path), "counters");
    c.instructions = cdl_json_double(cdl_json_get(j, "warp_instructions"), 0);
    c.mma = cdl_json_double(cdl_json_get(j, "mma"), 0);
    c.wavefronts = cdl_json_double(cdl_json_get(j, "shared_wavefronts"), 0);
    c.ideal = cdl_json_double(cdl_json_get(j, "shared_ideal"), 0);
    const cdl_json *all = cdl_json_get(j, "operands");
    for (; c.operands < cdl_json_len(all) && c.operands < 32; c.operands++) {
        const cdl_json *o = cdl_json_at(all, c.operands);
        c.operand[c.operands].offset = cdl_json_int(cdl_json_get(o, "offset"), -1);
        c.operand[c.operands].read = 32 * cdl_json_double(cdl_json_get(o, "read_sectors"), 0);
        c.operand[c.operands].written = 32 * cdl_json_double(cdl_json_get(o, "written_sectors"), 0);
    }
    cdl_arena_free(&arena);
    return c;
}

/* Bytes of the sectors that were requested of the operand whose pointer stands at offset of the struct. */
static double requested(const counters *c, size_t offset)
{
    for (uint32_t i = 0; i < c->operands; i++)
        if ((size_t)c->operand[i].offset == offset)
            return c->operand[i].read + c->operand[i].written;
    return 0;
}

static void counters_start(void)
{
    if (truncate(path, 0))
        fail_msg("%s: cannot be emptied", path);
}

static void below(const char *what, double value, double limit)
{
    if (value <= limit)
        return;
    printf("  ^ %s: %.3f is above %.3f\n", what, value, limit);
    beyond++;
}

/* ---- Products ---- */

static int weight_of(cdl_dtype t)
{
    int w = 0;
    while (weights[w].t != t)
        w++;
    return w;
}

typedef struct {
    cdl_dtype type;
    uint32_t tokens, rows, cols;
    int how;
} product_shape;

static counters count_product(const product_shape *s, size_t *weight_bytes)
{
    kernel_random random = { 1 };
    matrix m = matrix_new(s->type, s->rows, s->cols, &random);
    float *x = type_floats(CDL_DTYPE_BF16, (size_t)s->tokens * s->cols, &random);
    cdl_linear_args a = { .x = (void *)type_up(CDL_DTYPE_BF16, x, (size_t)s->tokens * s->cols),
        .weight = (void *)m.packed, .y = (void *)driver_up(NULL, (size_t)s->tokens * s->rows * 2), .tokens = s->tokens,
        .rows = s->rows, .cols = s->cols, .x_stride = s->cols, .y_stride = s->rows, .act = CDL_CUDA_ACT_NONE };
    kernel_must(cdl_repack_bytes(weight_bytes, s->type, s->rows, s->cols), "repack");
    counters_start();
    linear_turn = 0; /* two pairs of row tiles a block: none is left over */
    linear_launch(weight_of(s->type), CDL_DTYPE_BF16, s->how, &a);
    free(m.value); free(x);
    driver_free_all();
    return counters_read();
}

static void decode_case(cdl_dtype t, uint32_t rows, uint32_t cols, double sectors, double instructions)
{
    static const uint32_t tokens[] = { 1, 5, 8, 9, 16 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        product_shape s = { t, tokens[i], rows, cols, GENERATED };
        size_t bytes;
        counters c = count_product(&s, &bytes);
        double n = tokens[i], by_weight = requested(&c, offsetof(cdl_linear_args, weight)) / (double)bytes;
        double each = c.instructions / rows / cols;
        printf("  decode %s [%u, %u] x %2u: weights %.3f of %.2f, x %.2f, y %.2f; %.3f instructions a weight\n",
            cdl_dtype_get(t)->name, rows, cols, tokens[i], by_weight, sectors,
            requested(&c, offsetof(cdl_linear_args, x)) / (2 * n * cols),
            requested(&c, offsetof(cdl_linear_args, y)) / (2 * n * rows), each);
        below("sectors of weights", by_weight, sectors);
        if (tokens[i] == 1)
            below("instructions", each, instructions);
    }
}

static uint32_t over(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static void prefill_size(int how, cdl_dtype t, uint32_t tokens, uint32_t rows, uint32_t cols, double banks, double mma)
{
    product_shape s = { t, tokens, rows, cols, how };
    size_t bytes;
    counters c = count_product(&s, &bytes);
    double by_bank = c.wavefronts / c.ideal, by_mma = c.mma / over(rows, 16) / over(tokens, 8) / over(cols, 16);
    printf("  prefill%s %s [%u, %u] x %u: banks %.3f of %.2f, mma %.3f of %.2f; weights %.2f, x %.2f, y %.2f\n",
        how == PROMPT ? "" : " small", cdl_dtype_get(t)->name, rows, cols, tokens, by_bank, banks, by_mma, mma,
        requested(&c, offsetof(cdl_linear_args, weight)) / (double)bytes,
        requested(&c, offsetof(cdl_linear_args, x)) / (2.0 * tokens * cols),
        requested(&c, offsetof(cdl_linear_args, y)) / (2.0 * tokens * rows));
    below("banks", by_bank, banks);
    below("mma", by_mma, mma);
}

static void prefill_case(cdl_dtype t, uint32_t tokens, uint32_t rows, uint32_t cols, double banks, double mma)
{
    prefill_size(PROMPT, t, tokens, rows, cols, banks, mma);
    prefill_size(PROMPT_SMALL, t, tokens, rows, cols, banks, mma);
}

static void test_products(void **state)
{
    (void)state;
#define DECODE(type, ...) decode_case(CDL_DTYPE_##type, __VA_ARGS__);
#define PREFILL(type, ...) prefill_case(CDL_DTYPE_##type, __VA_ARGS__);
#define ATTENTION_DECODE(...)
#define ATTENTION_PREFILL(...)
#include "counters.def"
#undef DECODE
#undef PREFILL
#undef ATTENTION_DECODE
#undef ATTENTION_PREFILL
    assert_int_equal(beyond, 0);
}

/* ---- Attention ---- */

typedef struct {
    uint32_t state, heads, kv_heads, dim, bucket, window, tokens;
} attention_shape;

/* One sequence of `tokens` slots, the last or all of them rows of the step. */
static counters count_attention(const attention_shape *c, bool prompt)
{
    kernel_random random = { 1 };
    pages p = pages_new(CDL_DTYPE_BF16, c->state, c->kv_heads, c->dim, c->dim);
    step *s = calloc(1, sizeof *s);
    step_add(s, prompt ? 0 : c->tokens - 1, prompt ? c->tokens : 1);
    for (uint32_t slot = 0; slot < c->tokens; slot++)
        pages_fill(&p, s->table[0][slot / T], slot % T, &random);
    size_t n = (size_t)s->rows * c->heads * c->dim;
    uint32_t splits = over(c->tokens, CDL_CUDA_SPLIT_TOKENS), groups = attention_groups(c->heads, c->kv_heads);
    float *q = type_floats(CDL_DTYPE_BF16, n, &random);
    uint32_t *zeros = calloc(groups, sizeof *zeros);
    cdl_attention_args a = { .q = (void *)type_up(CDL_DTYPE_BF16, q, n), .y = (void *)driver_up(NULL, n * 2),
        .state = pages_up(&p), .rows = step_up(s), .tile_rows = (void *)driver_up(s->tiles, sizeof s->tiles),
        .partial = (void *)driver_up(NULL, (size_t)s->rows * c->heads * splits * (c->dim + 2) * 4),
        .q_stride = c->heads * c->dim, .y_stride = c->heads * c->dim, .heads = c->heads, .splits = splits,
        .window = c->window, .scale = 0.1f, .counters = (void *)driver_up(zeros, groups * sizeof *zeros) };
    counters_start();
    attention_launch(CDL_DTYPE_BF16, c->state, c->bucket, prompt, prompt
        ? (unsigned[]){ (unsigned)s->n_tiles, c->heads, 1 } : (unsigned[]){ 1, groups, splits }, &a);
    free(q); free(zeros); free(s);
    pages_free(&p);
    driver_free_all();
    return counters_read();
}

static const char *shape_text(const attention_shape *s)
{
    static char text[80];
    snprintf(text, sizeof text, "%s, %u/%u heads of %u, %u tokens",
        s->state ? pages_suffix(s->state) + 1 : "16 bits", s->heads, s->kv_heads, s->dim, s->tokens);
    return text;
}

/* Bytes of the keys and values of a slot, with their scales. */
static double slot_bytes(const attention_shape *s)
{
    return (double)cdl_cuda_page_bytes(s->state, s->kv_heads, s->dim, s->dim) / CDL_CUDA_PAGE_TOKENS;
}

static void attention_decode_case(const attention_shape *s, double sectors)
{
    counters c = count_attention(s, false);
    double bytes = slot_bytes(s) * (s->window && s->window < s->tokens ? s->window : s->tokens);
    double state = requested(&c, offsetof(cdl_attention_args, state.base)) / bytes;
    printf("  decode's attention, %s: state %.3f of %.2f, q %.2f, y %.2f, partial sums %.2f of the state\n",
        shape_text(s), state, sectors, requested(&c, offsetof(cdl_attention_args, q)) / (2 * s->heads * s->dim),
        requested(&c, offsetof(cdl_attention_args, y)) / (2 * s->heads * s->dim),
        requested(&c, offsetof(cdl_attention_args, partial)) / bytes);
    below("sectors of state", state, sectors);
}

static void attention_prefill_case(const attention_shape *s, double banks, double mma)
{
    counters c = count_attention(s, true);
    double pairs = 0; /* of a row and a slot that it sees */
    for (uint32_t t = 0; t < s->tokens; t++)
        pairs += s->window && t >= s->window ? s->window : t + 1;
    double by_bank = c.wavefronts / c.ideal, by_mma = c.mma / (pairs * s->heads * s->dim * 2 / (16 * 8 * 16));
    printf("  prompt's attention, %s: banks %.3f of %.2f, mma %.3f of %.2f; state %.1f, q %.2f\n", shape_text(s),
        by_bank, banks, by_mma, mma,
        requested(&c, offsetof(cdl_attention_args, state.base)) / (slot_bytes(s) * s->tokens),
        requested(&c, offsetof(cdl_attention_args, q)) / (2.0 * s->tokens * s->heads * s->dim));
    below("banks", by_bank, banks);
    below("mma", by_mma, mma);
}

static void test_attention(void **state)
{
    (void)state;
#define DECODE(...)
#define PREFILL(...)
#define ATTENTION_DECODE(state, heads, kv_heads, dim, bucket, window, slots, ...)                                      \
    attention_decode_case(&(attention_shape){ CDL_CUDA_STATE_##state, heads, kv_heads, dim, bucket, window, slots },   \
        __VA_ARGS__);
#define ATTENTION_PREFILL(state, heads, kv_heads, dim, bucket, window, tokens, ...)                                    \
    attention_prefill_case(&(attention_shape){ CDL_CUDA_STATE_##state, heads, kv_heads, dim, bucket, window, tokens }, \
        __VA_ARGS__);
#include "counters.def"
    assert_int_equal(beyond, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_products), cmocka_unit_test(test_attention) };
    int fd = mkstemp(path);
    if (fd < 0 || setenv("CUDDLE_VGPU_COUNTERS", path, 1) || !driver_open())
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
