/* test_cublaslt.c - the stand-in of cuBLASLt on the virtual GPU against sums in f64. */
#include "vgpu.h"

#include <cublasLt.h>

#define LIBRARY(X) X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatrixLayoutSetAttribute) X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmul)
LIBRARY(DECLARE)

static cublasLtHandle_t handle;

static void ok(cublasStatus_t s) { assert_int_equal(s, CUBLAS_STATUS_SUCCESS); }

static int open_both(void **state)
{
    if (open_library(state) || context_open(state))
        return 1;
    void *lib = dlopen("build/emulator/libcublasLt.so.13", RTLD_NOW);
    assert_non_null(lib);
    LIBRARY(RESOLVE)
    ok(p_cublasLtCreate(&handle));
    return 0;
}

static int close_both(void **state)
{
    ok(p_cublasLtDestroy(handle));
    return context_close(state);
}

typedef struct {
    cudaDataType_t type;
    int m, n, k, pad;           /* pad: what lies between lines */
    bool trans_a, trans_b, rows, bias;
    float beta;
} shape;

static size_t type_bytes(cudaDataType_t t) { return t == CUDA_R_32F ? 4 : 2; }

/* Small values that every type holds. */
static float value(int row, int col, int seed) { return (float)((row * 7 + col * 5 + seed) % 15 - 7) / 4; }

static uint32_t code(cudaDataType_t t, float f)
{
    uint32_t u;
    int e;
    memcpy(&u, &f, 4);
    if (t == CUDA_R_32F)
        return u;
    if (t == CUDA_R_16BF)
        return u >> 16;
    if (f == 0)
        return 0;
    float x = frexpf(fabsf(f), &e);
    return (f < 0 ? 0x8000u : 0) | (uint32_t)(e + 14) << 10 | (uint32_t)((x * 2 - 1) * 1024);
}

static double decoded(cudaDataType_t t, const uint8_t *p)
{
    uint32_t u = 0;
    float f;
    memcpy(&u, p, type_bytes(t));
    if (t == CUDA_R_16F)
        return ((u & 0x8000) ? -1 : 1) * ldexp((double)(u & 1023) / 1024 + ((u >> 10 & 31) != 0),
                                               (int)((u >> 10 & 31) ? u >> 10 & 31 : 1) - 15);
    u <<= t == CUDA_R_16BF ? 16 : 0;
    memcpy(&f, &u, 4);
    return (double)f;
}

typedef struct {
    cublasLtMatrixLayout_t layout;
    CUdeviceptr at;
    uint8_t *host;
    int rows, cols, ld;
    bool by_rows;
    size_t bytes;
} matrix;

static size_t place(const matrix *x, int row, int col)
{
    return (size_t)(x->by_rows ? row * x->ld + col : col * x->ld + row);
}

/* The matrix on the device, filled with value(row, col, seed); what lies between its lines is nobody's. */
static matrix matrix_new(const shape *s, int rows, int cols, int seed)
{
    matrix x = {.rows = rows, .cols = cols, .by_rows = s->rows};
    x.ld = (x.by_rows ? cols : rows) + s->pad;
    x.bytes = (size_t)x.ld * (size_t)(x.by_rows ? rows : cols) * type_bytes(s->type);
    x.host = malloc(x.bytes);
    memset(x.host, 0x5a, x.bytes);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            uint32_t bits = code(s->type, value(r, c, seed));
            memcpy(x.host + place(&x, r, c) * type_bytes(s->type), &bits, type_bytes(s->type));
        }
    x.at = upload(x.host, x.bytes);
    int32_t order = CUBLASLT_ORDER_ROW;
    ok(p_cublasLtMatrixLayoutCreate(&x.layout, s->type, (uint64_t)rows, (uint64_t)cols, x.ld));
    if (x.by_rows)
        ok(p_cublasLtMatrixLayoutSetAttribute(x.layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
    return x;
}

static void matrix_free(matrix *x)
{
    ok(p_cublasLtMatrixLayoutDestroy(x->layout));
    check(p_cuMemFree(x->at));
    free(x->host);
}

static cublasLtMatmulDesc_t description_new(const shape *s, CUdeviceptr bias)
{
    cublasLtMatmulDesc_t d;
    cublasOperation_t t = CUBLAS_OP_T, n = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    int32_t f32 = CUDA_R_32F;
    ok(p_cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    ok(p_cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, s->trans_a ? &t : &n, sizeof t));
    ok(p_cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSB, s->trans_b ? &t : &n, sizeof t));
    if (s->bias) {
        ok(p_cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        ok(p_cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
        ok(p_cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &f32, sizeof f32));
    }
    return d;
}

static void compare(const shape *s, const matrix *d, const float *bias)
{
    uint8_t *got = malloc(d->bytes);
    check(p_cuMemcpyDtoH(got, d->at, d->bytes));
    double ulp = s->type == CUDA_R_32F ? 1e-6 : s->type == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
    for (int r = 0; r < s->m; r++)
        for (int c = 0; c < s->n; c++) {
            double want = (double)(s->beta * value(r, c, 3)) + (s->bias ? (double)bias[r] : 0);
            for (int k = 0; k < s->k; k++)
                want += 0.5 * (double)(value(s->trans_a ? k : r, s->trans_a ? r : k, 1)
                                       * value(s->trans_b ? c : k, s->trans_b ? k : c, 2));
            double is = decoded(s->type, got + place(d, r, c) * type_bytes(s->type));
            assert_true(fabs(is - want) <= ulp * fabs(want) + 1e-4);
        }
    for (size_t i = 0; i < d->bytes; i++) {
        int line = s->rows ? s->n : s->m, at = (int)(i / type_bytes(s->type)) % d->ld;
        assert_true(at < line || got[i] == 0x5a);
    }
    free(got);
}

static void product_case(const shape *s)
{
    float alpha = 0.5f, *bias = malloc((size_t)s->m * sizeof *bias);
    for (int i = 0; i < s->m; i++)
        bias[i] = (float)i / 2;
    CUdeviceptr device_bias = upload(bias, (size_t)s->m * 4);
    matrix a = matrix_new(s, s->trans_a ? s->k : s->m, s->trans_a ? s->m : s->k, 1);
    matrix b = matrix_new(s, s->trans_b ? s->n : s->k, s->trans_b ? s->k : s->n, 2);
    matrix c = matrix_new(s, s->m, s->n, 3), d = matrix_new(s, s->m, s->n, 4);
    cublasLtMatmulDesc_t what = description_new(s, device_bias);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[2];
    size_t limit = 0;
    int n = 0;
    ok(p_cublasLtMatmulPreferenceCreate(&preference));
    ok(p_cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit,
                                              sizeof limit));
    ok(p_cublasLtMatmulAlgoGetHeuristic(handle, what, a.layout, b.layout, c.layout, d.layout, preference, 2, found,
                                        &n));
    assert_int_equal(n, 1);
    ok(p_cublasLtMatmul(handle, what, &alpha, (void *)a.at, a.layout, (void *)b.at, b.layout, &s->beta, (void *)c.at,
                        c.layout, (void *)d.at, d.layout, &found[0].algo, NULL, 0, NULL));
    compare(s, &d, bias);
    ok(p_cublasLtMatmulPreferenceDestroy(preference));
    ok(p_cublasLtMatmulDescDestroy(what));
    matrix_free(&a); matrix_free(&b); matrix_free(&c); matrix_free(&d);
    check(p_cuMemFree(device_bias));
    free(bias);
}

static void test_products(void **state)
{
    static const cudaDataType_t types[] = {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF};
    (void)state;
    for (int form = 0; form < 48; form++)
        product_case(&(shape){.type = types[form % 3], .m = 5 + form, .n = 3 + form % 7, .k = 1 + form * 3,
            .pad = form % 5, .trans_a = form & 1, .trans_b = form >> 1 & 1, .rows = form >> 2 & 1,
            .bias = form >> 3 & 1, .beta = form >> 4 & 1 ? 1.0f : 0.0f});
}

static void test_what_is_not_known_is_refused(void **state)
{
    (void)state;
    cublasLtMatmulDesc_t d;
    cublasLtMatrixLayout_t l, other;
    int n;
    float one[4] = {1, 1, 1, 1};
    cublasLtMatmulHeuristicResult_t found;
    assert_int_equal(p_cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_64F, CUDA_R_64F), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(p_cublasLtMatrixLayoutCreate(&l, CUDA_R_8I, 4, 4, 4), CUBLAS_STATUS_NOT_SUPPORTED);
    ok(p_cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    ok(p_cublasLtMatrixLayoutCreate(&l, CUDA_R_32F, 4, 4, 4));
    ok(p_cublasLtMatrixLayoutCreate(&other, CUDA_R_32F, 5, 4, 5));
    assert_int_equal(p_cublasLtMatmulAlgoGetHeuristic(handle, d, l, other, l, l, NULL, 1, &found, &n),
                     CUBLAS_STATUS_INVALID_VALUE);
    CUdeviceptr p = upload(one, sizeof one);
    /* less aligned than told: 256 bytes unless a preference says less */
    cublasLtMatmulPreference_t preference;
    ok(p_cublasLtMatmulPreferenceCreate(&preference));
    ok(p_cublasLtMatmulAlgoGetHeuristic(handle, d, l, l, l, l, preference, 1, &found, &n));
    assert_int_equal(p_cublasLtMatmul(handle, d, one, (void *)(p + 16), l, (void *)p, l, &(float){0}, (void *)p, l,
                                      (void *)p, l, &found.algo, NULL, 0, NULL), CUBLAS_STATUS_INVALID_VALUE);
    ok(p_cublasLtMatmulPreferenceDestroy(preference));
    ok(p_cublasLtMatmul(handle, d, one, (void *)p, l, (void *)p, l, &(float){0}, (void *)p, l, (void *)p, l, NULL,
                        NULL, 0, NULL));
    assert_int_equal(p_cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    ok(p_cublasLtMatmulDescDestroy(d));
    ok(p_cublasLtMatrixLayoutDestroy(l));
    ok(p_cublasLtMatrixLayoutDestroy(other));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_products),
        cmocka_unit_test(test_what_is_not_known_is_refused) };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
