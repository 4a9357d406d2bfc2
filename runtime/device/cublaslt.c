#include "device/cublaslt.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "base/env.h"
#include "base/mem.h"
#include "device/device_parts.h"

/* Declared after cublasLt.h of CUDA 13.0, whose enumerations are those of CUDA 12. */

typedef struct cublasLtContext *handle;
typedef struct cublasLtMatmulDescOpaque_t *description;
typedef struct cublasLtMatrixLayoutOpaque_t *layout;
typedef struct cublasLtMatmulPreferenceOpaque_t *preference;

typedef struct {
    uint64_t data[8];
} algorithm;

typedef struct {
    algorithm algo;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} result;

enum {
    COMPUTE_F32 = 68,                                    /* cublasComputeType_t                  */
    TRANSPOSED = 1,                                      /* cublasOperation_t                    */
    DESC_TRANS_A = 3,                                    /* cublasLtMatmulDescAttributes_t       */
    LAYOUT_COLS = 3,                                     /* cublasLtMatrixLayoutAttribute_t      */
    LIMIT_WORKSPACE = 1, ALIGN_A = 5, ALIGN_END = 9,     /* cublasLtMatmulPreferenceAttributes_t */
    ALIGNED = 16                                         /* bytes, of all operands               */
};

#define FUNCTIONS(X)                                                                                                  \
    X(create, int, "cublasLtCreate", (handle *out))                                                                   \
    X(destroy, int, "cublasLtDestroy", (handle h))                                                                    \
    X(status_name, const char *, "cublasLtGetStatusName", (int status))                                               \
    X(description_new, int, "cublasLtMatmulDescCreate", (description *out, int compute, int scale_type))              \
    X(description_free, int, "cublasLtMatmulDescDestroy", (description d))                                            \
    X(description_set, int, "cublasLtMatmulDescSetAttribute", (description d, int which, const void *v, size_t n))    \
    X(layout_new, int, "cublasLtMatrixLayoutCreate",                                                                  \
            (layout *out, int type, uint64_t rows, uint64_t cols, int64_t ld))                                        \
    X(layout_free, int, "cublasLtMatrixLayoutDestroy", (layout l))                                                    \
    X(layout_set, int, "cublasLtMatrixLayoutSetAttribute", (layout l, int which, const void *v, size_t n))            \
    X(preference_new, int, "cublasLtMatmulPreferenceCreate", (preference *out))                                       \
    X(preference_free, int, "cublasLtMatmulPreferenceDestroy", (preference p))                                        \
    X(preference_set, int, "cublasLtMatmulPreferenceSetAttribute", (preference p, int which, const void *v, size_t n)) \
    X(find, int, "cublasLtMatmulAlgoGetHeuristic", (handle h, description d, layout a, layout b, layout c, layout y,  \
            preference p, int wanted, result *out, int *found))                                                       \
    X(multiply, int, "cublasLtMatmul", (handle h, description d, const void *alpha, const void *a, layout la,         \
            const void *b, layout lb, const void *beta, const void *c, layout lc, void *y, layout ly,                 \
            const algorithm *algo, void *workspace, size_t workspace_bytes, cdl_cu_stream stream))

typedef struct {
#define X(field, type, name, parameters) type (*field) parameters;
    FUNCTIONS(X)
#undef X
} table;

/* All that a product's objects depend on, but its tokens. */
typedef struct {
    uint32_t rows, cols, x_stride, weight_stride, add_stride, y_stride;
    int type, y_type;
} shape;

typedef struct {
    shape key;
    description what;
    layout weight, x, add, y;
    uint32_t tokens;             /* those that algo is for; 0: none */
    algorithm algo;
} known;

enum { SHAPES = 64 };

struct cdl_cublaslt {
    cdl_device *device;
    handle handle;
    preference limits;
    size_t workspace_bytes;
    known shapes[SHAPES];
    uint32_t n_shapes;
};

/* ---- The library ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static table lt;
static void *library; /* stays open, as the driver does */

static cuddle_status find_functions(table *t, void *from, const char *path)
{
#define X(field, type, name, parameters)                                                                              \
    *(void **)&t->field = dlsym(from, name);                                                                          \
    if (!t->field)                                                                                                    \
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s has no %s: it is no cuBLASLt of CUDA 12 or 13", path, name);
    FUNCTIONS(X)
#undef X
    return CUDDLE_OK;
}

static cuddle_status open_library(void)
{
    const char *named = cdl_env_get(CDL_ENV_CUDDLE_CUBLASLT_LIBRARY);
    const char *const paths[] = { named ? named : "libcublasLt.so.13", named ? NULL : "libcublasLt.so.12" };
    const char *why = NULL;
    void *from = NULL;
    uint32_t i = 0;
    for (; i < 2 && paths[i] && !from; i++) {
        from = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
        const char *error = from ? NULL : dlerror();
        why = why ? why : error;
    }
    if (!from)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "no cuBLASLt: tried %s%s (%s); install NVIDIA's cuBLAS, name its "
                "library in CUDDLE_CUBLASLT_LIBRARY, or do without --fast", paths[0],
                named ? "" : " and libcublasLt.so.12", why ? why : "unknown reason");
    cuddle_status st = find_functions(&lt, from, paths[i - 1]);
    if (st != CUDDLE_OK)
        dlclose(from);
    else
        library = from;
    return st;
}

static cuddle_status check(const cdl_cublaslt *b, int status, const char *doing)
{
    return !status ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_DEVICE, "cuda:%u %s: cuBLASLt, %s: %s %d", b->device->index,
            b->device->facts.name, doing, lt.status_name(status), status);
}

static cuddle_status open_handle(cdl_cublaslt *b)
{
    enum { HOPPER = 9, SMALL = 4 << 20, LARGE = 32 << 20 }; /* cuBLAS's manual, "cublasSetWorkspace" */
    const uint32_t aligned = ALIGNED;
    b->workspace_bytes = b->device->facts.major >= HOPPER ? LARGE : SMALL;
    CDL_TRY(cdl_device_enter(b->device));
    CDL_TRY(check(b, lt.create(&b->handle), "starting"));
    CDL_TRY(check(b, lt.preference_new(&b->limits), "starting"));
    CDL_TRY(check(b, lt.preference_set(b->limits, LIMIT_WORKSPACE, &b->workspace_bytes, sizeof b->workspace_bytes),
            "limiting its workspace"));
    for (int which = ALIGN_A; which < ALIGN_END; which++)
        CDL_TRY(check(b, lt.preference_set(b->limits, which, &aligned, sizeof aligned), "telling alignments"));
    return CUDDLE_OK;
}

cuddle_status cdl_cublaslt_open(cdl_cublaslt **out, cdl_device *d)
{
    *out = NULL;
    pthread_mutex_lock(&lock);
    cuddle_status st = library ? CUDDLE_OK : open_library();
    pthread_mutex_unlock(&lock);
    CDL_TRY(st);
    cdl_cublaslt *b = cdl_mem_zalloc(1, sizeof *b);
    if (!b)
        return cdl_status_nomem("cuBLASLt");
    b->device = d;
    st = open_handle(b);
    if (st != CUDDLE_OK) {
        cdl_cublaslt_close(b);
        return st;
    }
    *out = b;
    return CUDDLE_OK;
}

static void free_shape(known *k)
{
    layout layouts[] = { k->weight, k->x, k->add, k->y };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i])
            lt.layout_free(layouts[i]);
    if (k->what)
        lt.description_free(k->what);
}

void cdl_cublaslt_close(cdl_cublaslt *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < b->n_shapes; i++)
        free_shape(&b->shapes[i]);
    if (b->limits)
        lt.preference_free(b->limits);
    if (b->handle && b->device->cu->context_set(b->device->context) == CDL_CU_OK)
        lt.destroy(b->handle);
    cdl_mem_free(b);
}

size_t cdl_cublaslt_workspace_bytes(const cdl_cublaslt *b)
{
    return b->workspace_bytes;
}

/* ---- Shapes ---- */

static shape shape_of(const cdl_cublaslt_product *p)
{
    return (shape){ p->rows, p->cols, p->x_stride, p->weight_stride, p->add ? p->add_stride : p->y_stride, p->y_stride,
                    p->type, p->y_type };
}

static known *find_shape(cdl_cublaslt *b, const shape *key)
{
    for (uint32_t i = 0; i < b->n_shapes; i++)
        if (!memcmp(&b->shapes[i].key, key, sizeof *key))
            return &b->shapes[i];
    return NULL;
}

/* The library's matrices are column-major: y^T [rows, tokens] = W x^T, W given as its transpose. */
static cuddle_status make_objects(cdl_cublaslt *b, known *k)
{
    const shape *s = &k->key;
    const int transposed = TRANSPOSED;
    CDL_TRY(check(b, lt.description_new(&k->what, COMPUTE_F32, CDL_CUBLASLT_F32), "describing a product"));
    CDL_TRY(check(b, lt.description_set(k->what, DESC_TRANS_A, &transposed, sizeof transposed), "transposing"));
    CDL_TRY(check(b, lt.layout_new(&k->weight, s->type, s->cols, s->rows, s->weight_stride), "describing weights"));
    CDL_TRY(check(b, lt.layout_new(&k->x, s->type, s->cols, 1, s->x_stride), "describing x"));
    CDL_TRY(check(b, lt.layout_new(&k->add, s->y_type, s->rows, 1, s->add_stride), "describing a sum"));
    return check(b, lt.layout_new(&k->y, s->y_type, s->rows, 1, s->y_stride), "describing y");
}

static cuddle_status make_shape(known **out, cdl_cublaslt *b, const shape *key)
{
    if (b->n_shapes == SHAPES)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "a model with more than %d shapes of products; do without "
                "--fast", SHAPES);
    known *k = &b->shapes[b->n_shapes];
    *k = (known){ .key = *key };
    cuddle_status st = make_objects(b, k);
    if (st != CUDDLE_OK)
        free_shape(k);
    else
        b->n_shapes++;
    *out = k;
    return st;
}

static cuddle_status pick_algorithm(cdl_cublaslt *b, known *k, const cdl_cublaslt_product *p)
{
    const uint64_t tokens = p->tokens;
    layout of_tokens[] = { k->x, k->add, k->y };
    result r;
    int found = 0;
    k->tokens = 0;
    for (size_t i = 0; i < sizeof of_tokens / sizeof *of_tokens; i++)
        CDL_TRY(check(b, lt.layout_set(of_tokens[i], LAYOUT_COLS, &tokens, sizeof tokens), "telling the rows"));
    int status = lt.find(b->handle, k->what, k->weight, k->x, k->add, k->y, b->limits, 1, &r, &found);
    if (status || !found || r.state)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: cuBLASLt has no algorithm for [%u, %u] x [%u, %u] (%s); "
                "do without --fast", p->node, p->tokens, p->cols, p->rows, p->cols,
                lt.status_name(status ? status : r.state));
    k->algo = r.algo;
    k->tokens = p->tokens;
    return CUDDLE_OK;
}

/* ---- Products ---- */

cuddle_status cdl_cublaslt_multiply(cdl_cublaslt *b, cdl_stream *s, const cdl_cublaslt_product *p)
{
    const float one = 1, zero = 0;
    const shape key = shape_of(p);
    CDL_TRY(cdl_device_enter(b->device));
    known *k = find_shape(b, &key);
    if (!k)
        CDL_TRY(make_shape(&k, b, &key));
    if (k->tokens != p->tokens)
        CDL_TRY(pick_algorithm(b, k, p));
    s->last = (cdl_launched){ "cublasLtMatmul", p->node, p->tokens, p->rows };
    int status = lt.multiply(b->handle, k->what, &one, p->weight, k->weight, p->x, k->x, p->add ? &one : &zero,
            p->add ? p->add : p->y, k->add, p->y, k->y, &k->algo, p->workspace, b->workspace_bytes, s->handle);
    CDL_TRY(check(b, status, p->node));
    return s->sync ? cdl_stream_wait(s) : CUDDLE_OK;
}

cuddle_status cdl_cublaslt_warm_up(cdl_cublaslt *b, cdl_stream *s, const cdl_cublaslt_product *p)
{
    const shape key = shape_of(p);
    return find_shape(b, &key) ? CUDDLE_OK : cdl_cublaslt_multiply(b, s, p);
}
