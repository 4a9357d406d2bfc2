/* test_linear.c - products and embeddings from packed weights of every type against the plain twins, through the
 * driver.
 *
 * Rule: generated rows multiply exact weights, so the bound is the rounding of the result plus f32 sums'; prompt
 *       rows round the scaled weight, so sums of |x w| rounding come on top. A row alone has the bits that it has
 *       in company. */
#include "coverage.h"
#include "weights.h"

/* Result in f64, and the sum of absolute products. */
static void product(const matrix *m, const float *x, uint32_t r, uint32_t n, double *y, double *size)
{
    *y = *size = 0;
    for (uint32_t k = 0; k < m->cols; k++) {
        double p = (double)x[(size_t)r * m->cols + k] * (double)m->value[(size_t)n * m->cols + k];
        *y += p;
        *size += fabs(p);
    }
}

/* With bias and residual; the last row is computed alone as well, of a prompt in the other blocks. */
static void linear_case(int w, cdl_dtype t, int how, uint32_t tokens, uint32_t rows, uint32_t cols)
{
    kernel_random random = { rows + cols };
    matrix m = matrix_new(weights[w].t, rows, cols, &random);
    size_t n = (size_t)tokens * rows;
    float *x = type_floats(t, (size_t)tokens * cols, &random), *bias = kernel_floats(rows, &random);
    float *residual = type_floats(t, n, &random);
    cdl_linear_args a = { .x = (void *)type_up(t, x, (size_t)tokens * cols), .weight = (void *)m.packed,
        .bias = (void *)driver_up(bias, rows * 4), .residual = (void *)type_up(t, residual,
                n), .y = (void *)driver_up(NULL, n * 2),
        .tokens = tokens, .rows = rows, .cols = cols, .x_stride = cols, .y_stride = rows, .residual_stride = rows,
        .act = CDL_CUDA_ACT_NONE };
    linear_launch(w, t, how, &a);
    float *got = type_down(t, (device_ptr)a.y, n);
    bool prompt = how != GENERATED;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double y, size;
        product(&m, x, (uint32_t)(i / rows), (uint32_t)(i % rows), &y, &size);
        y += (double)bias[i % rows] + (double)residual[i];
        double bound = (double)type_error(t) * fabs(y) + 1e-6 * size + 1e-6 + (prompt ? (double)type_error(t) * size
                : 0);
        double error = fabs((double)got[i] - y);
        if (!(error <= bound))
            fail_msg("%s %s [%u, %u] x %u: element %zu is %g, not %g (bound %g)", cdl_dtype_get(weights[w].t)->name,
                prompt ? "prompt" : "generated", rows, cols, tokens, i, (double)got[i], y, bound);
        worst = fmax(worst, error / bound);
    }
    printf("  %s %s [%u, %u] x %u: %.0f %% of the bound\n", cdl_dtype_get(weights[w].t)->name, prompt ? "prompt"
            : "generated", rows,
        cols, tokens, worst * 100);
    a.x = (const uint16_t *)a.x + (size_t)(tokens - 1) * cols;
    a.residual = (const uint16_t *)a.residual + (size_t)(tokens - 1) * rows;
    a.tokens = 1;
    linear_launch(w, t, how == PROMPT ? PROMPT_SMALL : how == PROMPT_SMALL ? PROMPT : how < WGMMA ? how
            : WGMMA + (how - WGMMA + 1) % CDL_WGMMA_BLOCKS, &a);
    float *alone = type_down(t, (device_ptr)a.y, rows);
    assert_memory_equal(alone, got + (size_t)(tokens - 1) * rows, rows * sizeof *alone);
    free(m.value); free(x); free(bias); free(residual); free(got); free(alone);
    driver_free_all();
}

static bool fits(int w, cdl_dtype t)
{
    return cdl_dtype_get(weights[w].t)->block > 1 || weights[w].t == t;
}

/* The most tokens of linear_fwd_decode. */
static uint32_t few_of(int w)
{
    uint32_t cols, bytes = cdl_repack_tile_bytes(weights[w].t, &cols);
    return cdl_linear_few(bytes, cols);
}

static void test_generated(void **state)
{
    (void)state;
    for (int w = 0; w < WEIGHTS; w++)
        for (int i = 0; i < 2; i++) {
            cdl_dtype t = activation_types[i];
            uint32_t block = cdl_dtype_get(weights[w].t)->block;
            if (!fits(w, t))
                continue;
            linear_case(w, t, GENERATED, 1, 16, block < 32 ? 64 : block);
            linear_case(w, t, GENERATED, 11, 35, block < 32 ? 200 : 7 * block);
            linear_case(w, t, GENERATED, 17, 40, block < 128 ? 1600 : 18 * block);
            linear_case(w, t, GENERATED, 8, 52, block < 32 ? 72 : 9 * block);
            for (uint32_t k = 0; k < 7; k++) {
                static const uint32_t tokens[] = { 5, 8, 15, 32, 33, 64, 65 }, rows[] = { 35, 16, 100, 90, 48, 40, 33 };
                linear_case(w, t, GENERATED, tokens[k], rows[k], block < 32 ? 840 - 64 * k : (k + 3) * block);
            }
            for (uint32_t tokens = 7; tokens < 64; tokens += tokens)
                for (uint32_t rows = 16; rows < 512; rows *= 4)
                    linear_case(w, t, GENERATED, tokens, rows + tokens, block < 64 ? 160 : 2 * block);
            linear_case(w, t, GENERATED, few_of(w), 35, block < 32 ? 1096 : 17 * block);
            linear_case(w, t, GENERATED, few_of(w), 40, block < 32 ? 328 : 5 * block);
        }
}

static void test_prompt(void **state)
{
    (void)state;
    for (int w = 0; w < WEIGHTS; w++)
        for (int i = 0; i < 2; i++) {
            cdl_dtype t = activation_types[i];
            uint32_t block = cdl_dtype_get(weights[w].t)->block;
            if (!fits(w, t))
                continue;
            for (int how = PROMPT; how < WGMMA + CDL_WGMMA_BLOCKS; how++) {
                if (how >= WGMMA && !driver_has_wgmma())
                    break;
                linear_case(w, t, how, 5, 16, block < 32 ? 64 : block);
                linear_case(w, t, how, 70, 130, block < 64 ? 160 : 2 * block);
                linear_case(w, t, how, 130, 35, block < 64 ? 480 : 3 * block);
                if (how == WGMMA)
                    linear_case(w, t, how, 260, 20, block < 32 ? 520 : block < 64 ? 544 : 5 * block);
            }
        }
}

/* gate and up in one, soft cap and f32 out; the last row is computed alone as well */
static void test_glu_logits(void **state)
{
    enum { TOKENS = 10, ROWS = 24, COLS = 1536 };
    kernel_random random = { 5 };
    (void)state;
    for (int w = 2; w < WEIGHTS; w++) {
        cdl_dtype t = activation_types[w % 2];
        matrix gate = matrix_new(weights[w].t, ROWS, COLS, &random), up = matrix_new(weights[w].t, ROWS, COLS, &random);
        float *x = type_floats(t, TOKENS * COLS, &random), got[TOKENS * ROWS];
        cdl_linear_args a = { .x = (void *)type_up(t, x, TOKENS * COLS), .weight = (void *)gate.packed,
                .up = (void *)up.packed,
            .y = (void *)driver_up(NULL, sizeof got), .tokens = TOKENS, .rows = ROWS, .cols = COLS, .x_stride = COLS,
            .y_stride = ROWS, .act = CDL_CUDA_ACT_SILU, .y_f32 = 1, .softcap = 30.0f };
        linear_launch(w, t, GENERATED, &a);
        driver_must(driver.copy_down(got, (device_ptr)a.y, sizeof got), "cuMemcpyDtoH");
        for (uint32_t i = 0; i < TOKENS * ROWS; i++) {
            double g, u, g_size, u_size;
            product(&gate, x, i / ROWS, i % ROWS, &g, &g_size);
            product(&up, x, i / ROWS, i % ROWS, &u, &u_size);
            double by = g / (1 + exp(-g)), y = 30 * tanh(by * u / 30);
            double bound = 1e-4 * (1 + fabs(y)) + 1e-6 * (1.1 * g_size * fabs(u) + fabs(by) * u_size);
            if (!(fabs((double)got[i] - y) <= bound))
                fail_msg("%s: element %u is %g, not %g", cdl_dtype_get(weights[w].t)->name, i, (double)got[i], y);
        }
        float alone[ROWS];
        a.x = (const uint16_t *)a.x + (TOKENS - 1) * COLS;
        a.tokens = 1;
        linear_launch(w, t, GENERATED, &a);
        driver_must(driver.copy_down(alone, (device_ptr)a.y, sizeof alone), "cuMemcpyDtoH");
        assert_memory_equal(alone, got + (TOKENS - 1) * ROWS, sizeof alone);
        free(gate.value); free(up.value); free(x);
        driver_free_all();
    }
}

/* What follows the sums of a product that another library made: into 16 bits, and into f32. */
static void finish_case(cdl_dtype t, uint32_t tokens, uint32_t rows, bool y_f32)
{
    kernel_random random = { tokens + rows };
    size_t n = (size_t)tokens * rows;
    float *sums = type_floats(t, n, &random), *residual = type_floats(t, n, &random);
    float *bias = kernel_floats(rows, &random), *want = malloc(n * sizeof *want);
    cdl_linear_args a = { .y = (void *)(y_f32 ? driver_up(sums, n * 4) : type_up(t, sums, n)),
        .bias = (void *)driver_up(bias, rows * 4), .tokens = tokens, .rows = rows, .y_stride = rows, .y_f32 = y_f32,
        .act = y_f32 ? CDL_CUDA_ACT_NONE : CDL_CUDA_ACT_RELU, .softcap = y_f32 ? 2.0f : 0.0f,
        .residual = y_f32 ? NULL : (void *)type_up(t, residual, n), .residual_stride = rows };
    for (size_t i = 0; i < n; i++) {
        float y = sums[i] + bias[i % rows];
        want[i] = y_f32 ? 2 * tanhf(y / 2) : fmaxf(y, 0) + residual[i];
    }
    char name[80];
    type_kernel(name, sizeof name, "linear_fwd_finish_kernel", t);
    driver_launch("linear_finish", name, (rows + CDL_CUDA_ROW_THREADS - 1) / CDL_CUDA_ROW_THREADS, tokens, 1,
        CDL_CUDA_ROW_THREADS, 0, &a);
    float *got = y_f32 ? malloc(n * sizeof *got) : type_down(t, (device_ptr)a.y, n);
    if (y_f32)
        driver_must(driver.copy_down(got, (device_ptr)a.y, n * 4), "cuMemcpyDtoH");
    type_close(name, got, want, n, y_f32 ? 1e-5f : type_error(t), 1e-6f);
    free(sums); free(residual); free(bias); free(want); free(got);
    driver_free_all();
}

static void test_finish(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        finish_case(activation_types[i], 3, 35, false);
        finish_case(activation_types[i], 1, 256, true);
        finish_case(activation_types[i], 7, 700, false);
        finish_case(activation_types[i], 2, 1000, true);
    }
}

/* Weights below each other in one launch: the bits of a launch each. */
static void segments_case(cdl_dtype t, uint32_t n, const int *w, const uint32_t *rows, uint32_t cols, uint32_t tokens,
    bool mixed)
{
    kernel_random random = { cols + n };
    uint32_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += rows[i];
    float *x = type_floats(t, tokens * cols, &random), *bias = kernel_floats(total, &random);
    cdl_linear_args a = { .x = (void *)type_up(t, x, tokens * cols), .bias = (void *)driver_up(bias, total * 4),
        .y = (void *)driver_up(NULL, tokens * total * 4), .tokens = tokens, .rows = total, .cols = cols,
        .x_stride = cols, .y_stride = total, .act = CDL_CUDA_ACT_NONE, .y_f32 = 1, .n_segments = n };
    device_ptr apart = driver_up(NULL, tokens * total * 4);
    for (uint32_t i = 0, first = 0; i < n; first += rows[i++]) {
        matrix m = matrix_new(weights[w[i]].t, rows[i], cols, &random);
        a.segment[i] = (cdl_linear_segment){ (void *)m.packed, rows[i], weights[w[i]].t };
        cdl_linear_args one = a;
        one.n_segments = 0;
        one.weight = (void *)m.packed;
        one.rows = rows[i];
        one.bias += first;
        one.y = (float *)apart + first;
        linear_launch(w[i], t, GENERATED, &one);
        free(m.value);
    }
    linear_launch_decode(mixed ? "linear_mixed" : weights[*w].module,
        mixed ? "mixed" : cdl_dtype_get(weights[*w].t)->name, mixed ? CDL_DTYPE_Q6_K : weights[*w].t, t, &a);
    float *got = malloc(tokens * total * sizeof *got), *want = malloc(tokens * total * sizeof *want);
    driver_must(driver.copy_down(got, (device_ptr)a.y, tokens * total * 4), "cuMemcpyDtoH");
    driver_must(driver.copy_down(want, apart, tokens * total * 4), "cuMemcpyDtoH");
    assert_memory_equal(got, want, tokens * total * sizeof *got);
    free(x); free(bias); free(got); free(want);
    driver_free_all();
}

static void test_segments(void **state)
{
    static const uint32_t rows[] = { 35, 16, 8, 33 };
    (void)state;
    for (int w = 0; w < WEIGHTS; w++)
        for (int i = 0; i < 2; i++)
            if (fits(w, activation_types[i])) {
                const int same[] = { w, w, w }, mixed[] = { w, 2 + (w + 5) % 16, w, 2 + (w + 9) % 16 };
                segments_case(activation_types[i], 3, same, rows, 512, 3, false);
                segments_case(activation_types[i], 3, same, rows, 512, 18, false);
                static const uint32_t tokens[] = { 1, 7, 9, 20, 40 };
                for (int k = 0; k < 5; k++)
                    for (uint32_t segments = 1; segments <= 4; segments += segments)
                        segments_case(activation_types[i], segments, mixed, rows, segments == 2 ? 256 : 768, tokens[k],
                            true);
            }
}

static void embed_case(int w, cdl_dtype t, uint32_t n, uint32_t rows, uint32_t cols)
{
    kernel_random random = { rows * cols };
    matrix m = matrix_new(weights[w].t, rows, cols, &random);
    int32_t ids[5] = { 0, (int32_t)rows - 1, (int32_t)rows / 2, 9, 1 };
    float *want = malloc(n * cols * sizeof *want);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < cols; k++)
            want[i * cols + k] = m.value[(size_t)ids[i] * cols + k] * 1.5f;
    cdl_embed_args a = { .ids = (void *)driver_up(ids, sizeof ids), .table = (void *)m.packed,
            .y = (void *)driver_up(NULL, 2 * n * cols),
        .rows = rows, .cols = cols, .y_stride = cols, .scale = 1.5f };
    char base[64], name[80];
    snprintf(base, sizeof base, "embed_fwd_kernel_%s", cdl_dtype_get(weights[w].t)->name);
    driver_launch(weights[w].module, type_kernel(name, sizeof name, base, t), n, 1, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    float *got = type_down(t, (device_ptr)a.y, n * cols);
    type_close(name, got, want, n * cols, type_error(t), 1e-7f);
    free(m.value); free(want); free(got);
    driver_free_all();
}

static void test_embed(void **state)
{
    (void)state;
    for (int w = 0; w < WEIGHTS; w++)
        for (int i = 0; i < 2; i++) {
            uint32_t block = cdl_dtype_get(weights[w].t)->block;
            if (!fits(w, activation_types[i]))
                continue;
            embed_case(w, activation_types[i], 5, 10, block < 32 ? 8 : block);
            embed_case(w, activation_types[i], 1, 33, block < 128 ? 576 : 768);
            embed_case(w, activation_types[i], 4, 17, block < 32 ? 1000 : 3 * block);
        }
}

static void test_coverage(void **state)
{
    (void)state;
    coverage_of("linear");
    if (driver_has_wgmma())
        coverage_of("wgmma");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_generated), cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_glu_logits), cmocka_unit_test(test_finish), cmocka_unit_test(test_segments),
        cmocka_unit_test(test_embed), cmocka_unit_test(test_coverage) };
    return driver_open() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
