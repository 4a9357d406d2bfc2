/* test_kernels.c - CUDA's kernels of rows and elements against their plain twins, through the driver. */
#include "coverage.h"

static void twin(void (*ref)(const cdl_call *), const void *attrs, cdl_view x, cdl_view second, cdl_view third,
        cdl_view out)
{
    cdl_call c = { .attrs = attrs, .in = { x, second, third }, .n_in = third.data ? 3 : second.data ? 2 : 1,
            .out = out };
    ref(&c);
}

static const cdl_view none;

static void norm_case(cdl_dtype t, bool rms, uint32_t rows, uint32_t heads, uint32_t dim, bool residual)
{
    kernel_random random = { dim + rows };
    size_t n = (size_t)rows * heads * dim;
    float *x = type_floats(t, n, &random), *w = kernel_floats(dim, &random), *b = kernel_floats(dim, &random);
    float *r = type_floats(t, n, &random), *want = malloc(n * sizeof *want);
    cdl_norm_args a = { .w = (const float *)driver_up(w, dim * 4), .b = rms ? NULL
            : (const float *)driver_up(b, dim * 4),
        .x = (void *)type_up(t, x, n), .y = (void *)driver_up(NULL, n * 2), .dim = dim, .heads = heads,
        .x_stride = heads * dim, .y_stride = heads * dim, .eps = 1e-5f, .offset = rms ? 1.0f : 0.0f };
    if (residual) {
        a.residual = (void *)type_up(t, r, n);
        a.sum = (void *)driver_up(NULL, n * 2);
        for (size_t i = 0; i < n; i++)
            x[i] = type_value(t, type_bits(t, x[i] + r[i]));
    }
    char name[64];
    driver_launch(rms ? "rmsnorm" : "layernorm", type_kernel(name, sizeof name, rms ? "rmsnorm_fwd_kernel"
            : "layernorm_fwd_kernel", t),
        rows * heads, 1, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    cdl_norm_attrs attrs = { .eps = a.eps, .offset = a.offset };
    twin(rms ? cdl_ref_RMSNORM : cdl_ref_LAYERNORM, &attrs, kernel_view(x, rows, heads * dim), kernel_view(w, 1, dim),
        rms ? none : kernel_view(b, 1, dim), kernel_view(want, rows, heads * dim));
    float *got = type_down(t, (device_ptr)a.y, n);
    type_close(name, got, want, n, type_error(t), 4e-6f);
    if (residual) {
        free(got);
        got = type_down(t, (device_ptr)a.sum, n);
        type_close("its sum", got, x, n, 0, 1e-30f);
    }
    free(x); free(w); free(b); free(r); free(want); free(got);
    driver_free_all();
}

/* Norm, sum and the next norm in one launch: the bits of two. */
static void sandwich_case(cdl_dtype t, uint32_t rows, uint32_t dim)
{
    kernel_random random = { dim };
    size_t n = (size_t)rows * dim;
    float *x = type_floats(t, n, &random), *r = type_floats(t, n, &random), *w = kernel_floats(2 * dim, &random);
    const float *weights = (const float *)driver_up(w, 2 * dim * sizeof *w);
    void *residual = (void *)type_up(t, r, n);
    cdl_norm_args first = { .w = weights, .x = (void *)type_up(t, x, n), .y = (void *)driver_up(NULL, n * 2),
        .dim = dim, .heads = 1, .x_stride = dim, .y_stride = dim, .eps = 1e-5f, .offset = 1.0f };
    cdl_norm_args second = first, both = first;
    second.x = first.y;
    second.w = weights + dim;
    second.residual = residual;
    second.sum = (void *)driver_up(NULL, n * 2);
    second.y = (void *)driver_up(NULL, n * 2);
    both.next = weights + dim;
    both.residual = both.sum = residual;
    both.y = (void *)both.x;
    char name[64];
    type_kernel(name, sizeof name, "rmsnorm_fwd_kernel", t);
    driver_launch("rmsnorm", name, rows, 1, 1, CDL_CUDA_ROW_THREADS, 0, &first);
    driver_launch("rmsnorm", name, rows, 1, 1, CDL_CUDA_ROW_THREADS, 0, &second);
    driver_launch("rmsnorm", name, rows, 1, 1, CDL_CUDA_ROW_THREADS, 0, &both);
    const void *pairs[2][2] = { { both.y, second.y }, { both.sum, second.sum } };
    for (int i = 0; i < 2; i++) {
        float *got = type_down(t, (device_ptr)pairs[i][0], n), *want = type_down(t, (device_ptr)pairs[i][1], n);
        assert_memory_equal(got, want, n * sizeof *got);
        free(got); free(want);
    }
    free(x); free(r); free(w);
    driver_free_all();
}

static void test_norms(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        cdl_dtype t = activation_types[i];
        norm_case(t, true, 3, 1, 576, false);
        norm_case(t, true, 2, 3, 72, false);
        norm_case(t, true, 2, 1, 4104, true);
        norm_case(t, false, 3, 1, 384, false);
        norm_case(t, false, 1, 1, 4104, false);
        norm_case(t, false, 5, 1, 8, false);
        sandwich_case(t, 3, 640);
        sandwich_case(t, 2, 8);
        sandwich_case(t, 1, 4104);
    }
}

static void map_case(cdl_dtype t, const char *op, void (*ref)(const cdl_call *), const void *attrs, uint32_t n,
        uint32_t act)
{
    kernel_random random = { n };
    float *x = type_floats(t, n, &random), *z = type_floats(t, n, &random), *want = malloc(n * sizeof *want);
    for (uint32_t i = 0; i < n; i++)
        x[i] *= 4;
    cdl_map_args a = { .x = (void *)type_up(t, x, n), .z = (void *)type_up(t, z, n),
            .y = (void *)driver_up(NULL, n * 2), .n = n,
        .factor = 2.5f, .act = act };
    char kernel[64], name[80];
    snprintf(kernel, sizeof kernel, "%s_fwd_kernel", op);
    driver_launch(op, type_kernel(name, sizeof name, kernel, t),
            (n / 8 + CDL_CUDA_ROW_THREADS - 1) / CDL_CUDA_ROW_THREADS, 1, 1,
        CDL_CUDA_ROW_THREADS, 0, &a);
    twin(ref, attrs, kernel_view(x, 1, n), kernel_view(z, 1, n), none, kernel_view(want, 1, n));
    float *got = type_down(t, (device_ptr)a.y, n);
    type_close(name, got, want, n, type_error(t) * 1.01f, 1e-6f);
    free(x); free(z); free(want); free(got);
    driver_free_all();
}

static void test_maps(void **state)
{
    static const uint32_t sizes[] = { 8, 3000, 6144 };
    cdl_softcap_attrs cap = { .cap = 2.5f };
    cdl_scale_attrs scale = { .factor = 2.5f };
    (void)state;
    for (int i = 0; i < 6; i++) {
        cdl_dtype t = activation_types[i % 2];
        uint32_t n = sizes[i / 2];
        map_case(t, "add", cdl_ref_ADD, NULL, n, 0);
        map_case(t, "softcap", cdl_ref_SOFTCAP, &cap, n, 0);
        map_case(t, "scale", cdl_ref_SCALE, &scale, n, 0);
        for (uint32_t act = 0; act < CDL_ACT_COUNT; act++) {
            cdl_act_attrs attrs = { .act = act };
            map_case(t, "act", cdl_ref_ACT, &attrs, n, act);
        }
    }
}

static void act_mul_case(cdl_dtype t, uint32_t rows, uint32_t cols, uint32_t act)
{
    kernel_random random = { cols };
    size_t n = (size_t)rows * cols;
    float *both = type_floats(t, 2 * n, &random), *want = malloc(n * sizeof *want);
    device_ptr in = type_up(t, both, 2 * n);
    cdl_act_mul_args a = { .gate = (void *)in, .up = (void *)(in + cols * 2), .y = (void *)driver_up(NULL, n * 2),
            .cols = cols,
        .in_stride = 2 * cols, .y_stride = cols, .act = act };
    char name[64];
    driver_launch("act_mul", type_kernel(name, sizeof name, "act_mul_fwd_kernel", t),
        (cols / 8 + CDL_CUDA_ROW_THREADS - 1) / CDL_CUDA_ROW_THREADS, rows, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    cdl_view gate = kernel_view(both, rows, cols), up = kernel_view(both + cols, rows, cols);
    gate.stride = up.stride = 2 * cols;
    cdl_act_attrs attrs = { .act = act };
    twin(cdl_ref_ACT_MUL, &attrs, gate, up, none, kernel_view(want, rows, cols));
    float *got = type_down(t, (device_ptr)a.y, n);
    type_close(name, got, want, n, type_error(t) * 1.01f, 1e-6f);
    free(both); free(want); free(got);
    driver_free_all();
}

/* Rows of two matrices, the second twice as wide. */
static void gather_case(uint32_t from, uint32_t rows, uint32_t cols)
{
    kernel_random random = { cols };
    float *x[2];
    int32_t *at = malloc(rows * sizeof *at);
    for (uint32_t i = 0; i < rows; i++)
        at[i] = (int32_t)((i * 7 + 3) % from);
    cdl_gather_args a = { .rows = (void *)driver_up(at, rows * 4) };
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t wide = cols * (k + 1);
        x[k] = type_floats(CDL_DTYPE_F16, (size_t)from * wide, &random);
        a.of[k].x = (void *)type_up(CDL_DTYPE_F16, x[k], (size_t)from * wide);
        a.of[k].y = (void *)driver_up(NULL, (size_t)rows * wide * 2);
        a.of[k].cols = a.of[k].x_stride = a.of[k].y_stride = wide;
    }
    driver_launch("gather", "gather_fwd_kernel_16", rows, 2, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t wide = cols * (k + 1);
        float *want = malloc((size_t)rows * wide * sizeof *want);
        twin(cdl_ref_GATHER, NULL, kernel_view(x[k], from, wide), kernel_view(at, 1, rows), none,
                kernel_view(want, rows, wide));
        float *got = type_down(CDL_DTYPE_F16, (device_ptr)a.of[k].y, (size_t)rows * wide);
        assert_memory_equal(got, want, (size_t)rows * wide * sizeof *want);
        free(x[k]); free(want); free(got);
    }
    free(at);
    driver_free_all();
}

static void test_act_mul_gather(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2 * CDL_ACT_COUNT; i++) {
        act_mul_case(activation_types[i % 2], 3, 1000, i / 2);
        act_mul_case(activation_types[i % 2], 1, 8, i / 2);
        act_mul_case(activation_types[i % 2], 2, 4608, i / 2);
    }
    gather_case(5, 3, 8);
    gather_case(9, 4, 1000);
    gather_case(3, 2, 2304);
}

static void test_coverage(void **state)
{
    (void)state;
    coverage_of("kernels");
    coverage_is_whole();
}

/* Reads every piece: one byte that is not zero shows, wherever it stands. The products of zeros leave out alone. */
static void peak_case(unsigned blocks, uint32_t n)
{
    uint8_t *data = calloc(n, 16);
    uint32_t out[1] = { 0 };
    cdl_peak_args a = { .data = (void *)driver_up(data, n * 16), .out = (void *)driver_up(out, 4), .n = n, .loops = n };
    driver_launch("peak", "peak_fwd_read_kernel", blocks, 1, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    driver_launch("peak", "peak_fwd_mma_kernel", blocks, 1, 1, CDL_CUDA_ROW_THREADS, 0, &a);
    driver_must(driver.copy_down(out, (device_ptr)a.out, 4), "cuMemcpyDtoH");
    assert_int_equal(out[0], 0);
    for (uint32_t at = 0; at < n; at += n / 3 + 1) {
        memset(data, 0, n * 16);
        data[at * 16 + at % 16] = 1;
        a.data = (void *)driver_up(data, n * 16);
        a.out = (void *)driver_up((uint32_t[]){ 0 }, 4);
        driver_launch("peak", "peak_fwd_read_kernel", blocks, 1, 1, CDL_CUDA_ROW_THREADS, 0, &a);
        driver_must(driver.copy_down(out, (device_ptr)a.out, 4), "cuMemcpyDtoH");
        assert_int_not_equal(out[0], 0);
    }
    free(data);
    driver_free_all();
}

static void test_peaks(void **state)
{
    (void)state;
    peak_case(1, 1);
    peak_case(2, 2048);
    peak_case(3, 777);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_norms), cmocka_unit_test(test_maps),
        cmocka_unit_test(test_act_mul_gather), cmocka_unit_test(test_peaks), cmocka_unit_test(test_coverage) };
    return driver_open() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
