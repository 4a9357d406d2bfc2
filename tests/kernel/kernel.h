/* kernel.h - what tests and benchmarks of the CPU's kernels share: seeded data, weights in every
 * type, and one call of an op run on a pool as the engine would.
 *
 * Nothing here checks: a failure of the library ends the program with its message. Included by
 * tests/kernel/test_*.c and bench/op.c. Read first: cpu/cpu.h, cpu/pack.h. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"

static inline void kernel_must(cuddle_status st, const char *what)
{
    if (st == CUDDLE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, cuddle_errmsg());
    exit(1);
}

/* ---- Seeded data ---- */

typedef struct { uint64_t s; } kernel_random;

static inline uint64_t kernel_next(kernel_random *r) /* splitmix64 */
{
    uint64_t z = r->s += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* In [low, high). */
static inline float kernel_uniform(kernel_random *r, float low, float high)
{
    return low + (high - low) * (float)(kernel_next(r) >> 40) * 0x1p-24f;
}

/* Nearly normal, variance 1: activations as models have them. */
static inline float kernel_normal(kernel_random *r)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += kernel_uniform(r, -0.5f, 0.5f);
    return sum;
}

static inline float *kernel_floats(size_t n, kernel_random *r)
{
    float *x = malloc(n * sizeof *x + 1);
    for (size_t i = 0; i < n; i++)
        x[i] = kernel_normal(r);
    return x;
}

/* ---- Weights as a file has them ---- */

/* Where a block type keeps its f16 scale and minimum; -1: has none. */
static inline void kernel_scales_at(cdl_dtype t, int *d, int *m)
{
    *d = 0;
    *m = -1;
    switch (t) {
    case CDL_DTYPE_Q4_1: case CDL_DTYPE_Q5_1: case CDL_DTYPE_Q4_K: case CDL_DTYPE_Q5_K: *m = 2; break;
    case CDL_DTYPE_Q2_K: *d = 80; *m = 82; break;
    case CDL_DTYPE_Q3_K: *d = 108; break;
    case CDL_DTYPE_Q6_K: *d = 208; break;
    default: break;
    }
}

static inline void kernel_put_half(uint8_t *at, float v)
{
    uint16_t h = cdl_f16_from_f32(v);
    memcpy(at, &h, 2);
}

/* n weights (whole blocks): every bit pattern of quants and small scales, sane main scales. */
static inline void kernel_weights(uint8_t *dst, cdl_dtype t, size_t n, kernel_random *r)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    int d, m;
    kernel_scales_at(t, &d, &m);
    for (size_t i = 0; i < n; i += info->block, dst += info->bytes) {
        float value = kernel_normal(r);
        if (t == CDL_DTYPE_F32) {
            memcpy(dst, &value, 4);
        } else if (t == CDL_DTYPE_F16) {
            kernel_put_half(dst, value);
        } else if (t == CDL_DTYPE_BF16) {
            uint16_t h = cdl_bf16_from_f32(value);
            memcpy(dst, &h, 2);
        } else {
            for (unsigned b = 0; b < info->bytes; b++)
                dst[b] = (uint8_t)kernel_next(r);
            if (t == CDL_DTYPE_MXFP4)
                *dst = (uint8_t)(118 + kernel_next(r) % 12);
            else
                kernel_put_half(dst + d, kernel_uniform(r, 0.005f, 0.02f) * (kernel_next(r) & 1 ? -1.0f : 1.0f));
            if (t == CDL_DTYPE_I4_G32 || t == CDL_DTYPE_I4_G64 || t == CDL_DTYPE_I4_G128) {
                dst[2] = (uint8_t)(dst[2] % 17); /* zero */
                dst[3] = 0;
            }
            if (m >= 0)
                kernel_put_half(dst + m, kernel_uniform(r, -0.1f, 0.1f));
        }
    }
}

/* A pack and its source, [rows, cols] of each segment one after the other. */
typedef struct {
    cdl_pack pack;
    uint8_t *source, *data;
    size_t bytes;          /* of data */
} kernel_matrix;

static inline size_t kernel_row_bytes(cdl_dtype t, uint32_t cols)
{
    size_t bytes = 0;
    if (!cdl_dtype_row_bytes(&bytes, t, cols))
        kernel_must(cdl_status_fail(CUDDLE_ERR_ARG, "%u columns are no whole %s blocks", cols,
                cdl_dtype_get(t)->name), "weights");
    return bytes;
}

/* Segments of types[i] with rows[i] rows. */
static inline kernel_matrix kernel_matrix_new(const cdl_dtype *types, const uint32_t *rows, uint32_t n,
        uint32_t cols, kernel_random *r)
{
    kernel_matrix m = { .pack = { .cols = cols, .n = n } };
    size_t at[CDL_PACK_SEGMENTS], bytes, source = 0;
    for (uint32_t i = 0; i < n; i++) {
        kernel_must(cdl_pack_bytes(&bytes, types[i], rows[i], cols), "pack");
        at[i] = m.bytes;
        m.bytes += bytes;
        source += rows[i] * kernel_row_bytes(types[i], cols);
    }
    m.data = cdl_mem_pages(m.bytes + 1);
    m.source = malloc(source + 1);
    uint8_t *from = m.source;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t panels = (rows[i] + CDL_PACK_ROWS - 1) / CDL_PACK_ROWS;
        size_t row_bytes = kernel_row_bytes(types[i], cols);
        kernel_must(cdl_pack_bytes(&bytes, types[i], rows[i], cols), "pack");
        kernel_weights(from, types[i], (size_t)rows[i] * cols, r);
        cdl_pack_panels(m.data + at[i], types[i], from, row_bytes, rows[i], cols, 0, panels);
        m.pack.segment[i] = (cdl_pack_segment){ .dtype = types[i], .rows = rows[i], .first_row = m.pack.rows,
            .first_panel = m.pack.panels, .panel_bytes = panels ? bytes / panels : 0, .data = m.data + at[i] };
        m.pack.rows += rows[i];
        m.pack.panels += panels;
        from += rows[i] * row_bytes;
    }
    return m;
}

/* The pack's weights rounded to bf16, as one segment of f32. */
static inline kernel_matrix kernel_matrix_bf16(const cdl_pack *p)
{
    uint32_t panels = (p->rows + CDL_PACK_ROWS - 1) / CDL_PACK_ROWS;
    kernel_matrix m = { .pack = { .rows = p->rows, .cols = p->cols, .panels = panels, .n = 1 } };
    size_t n = (size_t)p->rows * p->cols;
    kernel_must(cdl_pack_bytes(&m.bytes, CDL_DTYPE_F32, p->rows, p->cols), "pack");
    m.data = cdl_mem_pages(m.bytes + 1);
    m.source = malloc(n * sizeof(float) + 1);
    float *w = (float *)m.source;
    for (uint32_t i = 0; i < p->rows; i++)
        cdl_pack_row(w + (size_t)i * p->cols, p, i);
    for (size_t i = 0; i < n; i++)
        w[i] = cdl_f32_from_bf16(cdl_bf16_from_f32(w[i]));
    cdl_pack_panels(m.data, CDL_DTYPE_F32, m.source, p->cols * sizeof(float), p->rows, p->cols, 0, panels);
    m.pack.segment[0] = (cdl_pack_segment){ CDL_DTYPE_F32, p->rows, 0, 0, m.bytes / panels, m.data };
    return m;
}

static inline void kernel_matrix_free(kernel_matrix *m)
{
    cdl_mem_pages_free(m->data, m->bytes + 1);
    free(m->source);
}

/* ---- Views and calls ---- */

static inline cdl_view kernel_view(const void *data, uint32_t rows, uint32_t cols)
{
    return (cdl_view){ .data = (void *)data, .dtype = CDL_DTYPE_F32, .rows = rows, .cols = cols, .stride = cols };
}

static inline cdl_view kernel_pack_view(const cdl_pack *p)
{
    return (cdl_view){ .pack = p, .dtype = p->segment[0].dtype, .rows = p->rows, .cols = p->cols, .stride = p->cols };
}

static inline cdl_pool *kernel_pool(const cdl_cpu_set *set, uint32_t threads)
{
    cdl_pool *pool;
    kernel_must(cdl_pool_new(&pool, threads, set->scratch_bytes), "pool");
    return pool;
}

static inline size_t kernel_workspace(const cdl_cpu_set *set, const cdl_call *c)
{
    return set->kernel[c->op].workspace ? set->kernel[c->op].workspace(c) : 0;
}

/* Runs the call on all threads of the pool and waits until no late thread is left. The
 * workspace is of exactly the size asked for, so that sanitizers see what lies beyond. */
static inline void kernel_run(const cdl_cpu_set *set, cdl_pool *pool, const cdl_call *call)
{
    cdl_phase items[CDL_CPU_PHASES];
    cdl_phases phases = { .items = items, .cap = CDL_CPU_PHASES };
    cdl_call c = *call;
    c.workspace = cdl_mem_aligned(64, kernel_workspace(set, call));
    set->kernel[c.op].emit(&c, cdl_pool_threads(pool), &phases);
    cdl_pool_run(pool, items, phases.n);
    cdl_pool_quiesce(pool, 0);
    cdl_mem_free(c.workspace);
}

/* The sets of this machine, the plain twins first. */
static inline const cdl_cpu_set *kernel_set(unsigned i)
{
    static const char *const names[] = { "ref", "avx2", "avx512", "amx" };
    const cdl_cpu_set *set;
    return i < 4 && cdl_cpu_select(&set, names[i]) == CUDDLE_OK ? set : NULL;
}

#endif
