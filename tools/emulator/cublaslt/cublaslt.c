/* cublaslt.c - a libcublasLt.so.13 for the virtual GPU: dense products of f32, f16 and bf16 with f32 sums.
 *
 * A product is a host function in its stream, so its order and its capture are those of any work; its operands are
 * checked as a kernel's are. Each sum is made of sixteen, of every sixteenth k, so the bits are not those of cuddle's
 * own kernels, as with the real library. What it does not know is refused with CUBLAS_STATUS_NOT_SUPPORTED.
 */
#pragma GCC visibility push(default)
#include <cublasLt.h>
#include <cuda.h>

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

typedef struct {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
    bool by_rows;
} layout;

/* The objects of the API are opaque arrays; these lie in them. */
typedef struct {
    bool trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    bool bias_f32;              /* else of D's type */
} description;

/* Bytes, of A, B, C and D: in a preference, and in the algorithm found by it. */
typedef struct {
    uint32_t of[4];
} alignments;

typedef struct product {
    layout a, b, c, d;
    description what;
    uint64_t m, n, k;
    float alpha, beta;
    const uint8_t *at_a, *at_b, *at_c;
    uint8_t *at_d;
    struct context *owner;
    struct product *next;
} product;

typedef struct context {
    __typeof__(&cuLaunchHostFunc) host;
    CUresult (*touch)(CUdeviceptr, size_t, int);    /* of the virtual GPU: what a kernel's access would be told */
    product *products;          /* a captured one may run again: all live as long as the handle */
} context;

_Static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "a layout fits its opaque place");
_Static_assert(sizeof(description) <= sizeof(cublasLtMatmulDescOpaque_t), "a description fits its opaque place");

static size_t type_bytes(cudaDataType_t t)
{
    return t == CUDA_R_32F ? 4 : t == CUDA_R_16F || t == CUDA_R_16BF ? 2 : 0;
}

static float half_value(uint16_t h)
{
    int e = h >> 10 & 31, f = h & 1023;
    float r = e == 31 ? (f ? NAN : INFINITY) : e ? ldexpf((float)(f + 1024), e - 25) : ldexpf((float)f, -24);
    return h & 0x8000 ? -r : r;
}

static uint16_t half_bits(float x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    float a = fabsf(x);
    int e;
    if (x != x)
        return 0x7fff;
    if (a >= 65520.0f)
        return sign | 0x7c00;
    if (a == 0)
        return sign;
    frexpf(a, &e);
    e = e < -13 ? -13 : e;
    return sign | (uint16_t)((uint32_t)nearbyintf(ldexpf(a, 11 - e)) + ((uint32_t)(e + 13) << 10));
}

static float load(const layout *l, const uint8_t *p, uint64_t row, uint64_t col)
{
    uint64_t at = l->by_rows ? row * (uint64_t)l->ld + col : col * (uint64_t)l->ld + row;
    uint16_t h;
    uint32_t u;
    float f;
    if (l->type == CUDA_R_32F) {
        memcpy(&f, p + 4 * at, 4);
        return f;
    }
    memcpy(&h, p + 2 * at, 2);
    if (l->type == CUDA_R_16F)
        return half_value(h);
    u = (uint32_t)h << 16;
    memcpy(&f, &u, 4);
    return f;
}

static void store(const layout *l, uint8_t *p, uint64_t row, uint64_t col, float f)
{
    uint64_t at = l->by_rows ? row * (uint64_t)l->ld + col : col * (uint64_t)l->ld + row;
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t bf16 = f != f ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    uint16_t h = l->type == CUDA_R_16F ? half_bits(f) : bf16;
    if (l->type == CUDA_R_32F)
        memcpy(p + 4 * at, &f, 4);
    else
        memcpy(p + 2 * at, &h, 2);
}

/* Whether all of a matrix may be read, or is now written. */
static bool touch(const context *c, const layout *l, const void *at, bool write)
{
    uint64_t lines = l->by_rows ? l->rows : l->cols, line = (l->by_rows ? l->cols : l->rows) * type_bytes(l->type);
    for (uint64_t n = 0; n < lines; n++)
        if (c->touch((CUdeviceptr)at + n * (uint64_t)l->ld * type_bytes(l->type), line, write))
            return false;
    return true;
}

/* The matrix as floats, each of `lines` lines of k values; across: a line is a column. */
static float *lines_of(const layout *l, const uint8_t *at, uint64_t lines, uint64_t k, bool across)
{
    float *r = malloc(lines * k * sizeof *r);
    for (uint64_t n = 0; r && n < lines; n++)
        for (uint64_t i = 0; i < k; i++)
            r[n * k + i] = across ? load(l, at, i, n) : load(l, at, n, i);
    return r;
}

static float dot(const float *a, const float *b, uint64_t k)
{
    float part[16] = {0}, sum = 0;
    uint64_t i = 0;
    for (; i + 16 <= k; i += 16)
        for (int j = 0; j < 16; j++)
            part[j] += a[i + j] * b[i + j];
    for (; i < k; i++)
        part[i % 16] += a[i] * b[i];
    for (int j = 0; j < 16; j++)
        sum += part[j];
    return sum;
}

static void CUDA_CB multiply(void *data)
{
    const product *p = data;
    layout bias = {p->what.bias_f32 ? CUDA_R_32F : p->d.type, p->m, 1, (int64_t)p->m, false};
    bool biased = p->what.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (!touch(p->owner, &p->a, p->at_a, false) || !touch(p->owner, &p->b, p->at_b, false)
        || (p->beta != 0 && !touch(p->owner, &p->c, p->at_c, false))
        || (biased && !touch(p->owner, &bias, p->what.bias, false)) || !touch(p->owner, &p->d, p->at_d, true))
        return;
    float *a = lines_of(&p->a, p->at_a, p->m, p->k, p->what.trans_a);
    float *b = lines_of(&p->b, p->at_b, p->n, p->k, !p->what.trans_b);
    for (uint64_t col = 0; a && b && col < p->n; col++)
        for (uint64_t row = 0; row < p->m; row++) {
            float sum = p->alpha * dot(a + row * p->k, b + col * p->k, p->k);
            if (p->beta != 0)
                sum += p->beta * load(&p->c, p->at_c, row, col);
            if (biased)
                sum += load(&bias, p->what.bias, row, 0);
            store(&p->d, p->at_d, row, col, sum);
        }
    free(a);
    free(b);
}

/* ---- objects ---- */
cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    context *c = calloc(1, sizeof *c);
    if (c && lib) {
        c->host = (__typeof__(c->host))dlsym(lib, TEXT(cuLaunchHostFunc));
        c->touch = (__typeof__(c->touch))dlsym(lib, "cuddleVgpuTouch");
    }
    if (!c || !c->host || !c->touch) {
        free(c);
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *out = (cublasLtHandle_t)c;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    context *c = (context *)handle;
    for (product *p = c ? c->products : NULL, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    free(c);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return CUBLAS_STATUS_ALLOC_FAILED;
    ((description *)*out)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t trans_set(bool *out, const void *value)
{
    cublasOperation_t op;
    memcpy(&op, value, sizeof op);
    *out = op == CUBLAS_OP_T;
    return op == CUBLAS_OP_T || op == CUBLAS_OP_N ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t bias_type_set(description *d, const void *value, size_t bytes)
{
    int32_t type;
    if (bytes != sizeof type)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&type, value, sizeof type);
    d->bias_f32 = type == CUDA_R_32F;
    return type == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    description *d = (description *)desc;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return bytes == sizeof(cublasOperation_t) ? trans_set(&d->trans_a, value) : CUBLAS_STATUS_INVALID_VALUE;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return bytes == sizeof(cublasOperation_t) ? trans_set(&d->trans_b, value) : CUBLAS_STATUS_INVALID_VALUE;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        if (bytes != sizeof d->epilogue)
            return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(&d->epilogue, value, bytes);
        return d->epilogue == CUBLASLT_EPILOGUE_DEFAULT || d->epilogue == CUBLASLT_EPILOGUE_BIAS
            ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        if (bytes != sizeof d->bias)
            return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(&d->bias, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return bias_type_set(d, value, bytes);
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    if (!type_bytes(type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *(layout *)*out = (layout){type, rows, cols, ld, false};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes)
{
    int32_t order;
    if (attribute == CUBLASLT_MATRIX_LAYOUT_COLS && bytes == sizeof(uint64_t)) {
        memcpy(&((layout *)l)->cols, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    if (attribute != CUBLASLT_MATRIX_LAYOUT_ORDER || bytes != sizeof order)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memcpy(&order, value, sizeof order);
    ((layout *)l)->by_rows = order == CUBLASLT_ORDER_ROW;
    return order == CUBLASLT_ORDER_ROW || order == CUBLASLT_ORDER_COL ? CUBLAS_STATUS_SUCCESS
        : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *(alignments *)*out = (alignments){{256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

/* The one algorithm wants no workspace, so every limit is kept; it holds who uses it to the least alignment told. */
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
        cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t bytes)
{
    if (!p || !value || !bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (attribute < CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES
            || attribute > CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
        return CUBLAS_STATUS_SUCCESS;
    memcpy(&((alignments *)p)->of[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, sizeof(uint32_t));
    return bytes == sizeof(uint32_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- products ---- */
static bool layout_fits(const layout *l, uint64_t rows, uint64_t cols)
{
    return l->rows == rows && l->cols == cols && l->ld >= (int64_t)(l->by_rows ? cols : rows) && rows && cols;
}

static cublasStatus_t shape_of(product *p)
{
    p->m = p->what.trans_a ? p->a.cols : p->a.rows;
    p->k = p->what.trans_a ? p->a.rows : p->a.cols;
    p->n = p->what.trans_b ? p->b.rows : p->b.cols;
    bool fits = (p->what.trans_b ? p->b.cols : p->b.rows) == p->k && layout_fits(&p->a, p->a.rows, p->a.cols)
        && layout_fits(&p->b, p->b.rows, p->b.cols) && layout_fits(&p->c, p->m, p->n) && layout_fits(&p->d, p->m, p->n);
    return !fits ? CUBLAS_STATUS_INVALID_VALUE : p->a.type != p->b.type ? CUBLAS_STATUS_NOT_SUPPORTED
        : CUBLAS_STATUS_SUCCESS;
}

static product product_of(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                          cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    return (product){.a = *(layout *)a, .b = *(layout *)b, .c = *(layout *)c, .d = *(layout *)d,
        .what = *(description *)desc};
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
        cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
        cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t results[], int *found)
{
    (void)handle;
    product p = product_of(desc, a, b, c, d);
    cublasStatus_t s = shape_of(&p);
    *found = 0;
    if (s || wanted < 1)
        return s ? s : CUBLAS_STATUS_INVALID_VALUE;
    memset(&results[0], 0, sizeof results[0]);
    if (preference)
        memcpy(results[0].algo.data, preference->data, sizeof(alignments));
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1.0f;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* As the algorithm's preference told. */
static bool is_aligned(const cublasLtMatmulAlgo_t *algorithm, const void *const operand[4])
{
    alignments a;
    memcpy(&a, algorithm->data, sizeof a);
    for (int i = 0; i < 4; i++)
        if (a.of[i] && (uintptr_t)operand[i] % a.of[i])
            return false;
    return true;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
        cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
        const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
        const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    (void)workspace;
    (void)workspace_bytes;
    context *x = (context *)handle;
    product *p = malloc(sizeof *p);
    if (!p)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *p = product_of(desc, a_layout, b_layout, c_layout, d_layout);
    memcpy(&p->alpha, alpha, sizeof p->alpha);
    memcpy(&p->beta, beta, sizeof p->beta);
    cublasStatus_t s = shape_of(p);
    if (!s && p->what.epilogue == CUBLASLT_EPILOGUE_BIAS && !p->what.bias)
        s = CUBLAS_STATUS_INVALID_VALUE;
    if (!s && algorithm && !is_aligned(algorithm, (const void *[]){a, b, c, d}))
        s = CUBLAS_STATUS_INVALID_VALUE;
    if (s) {
        free(p);
        return s;
    }
    p->at_a = a;
    p->at_b = b;
    p->at_c = c;
    p->at_d = d;
    p->owner = x;
    p->next = x->products;
    x->products = p;
    return x->host((CUstream)stream, multiply, p) ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t s)
{
    switch (s) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

size_t cublasLtGetVersion(void) { return 130000; }
