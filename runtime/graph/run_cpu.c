/* run_cpu.c - the CPU as a backend: each call becomes phases, and the pool runs them. */
#include <string.h>

#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"
#include "graph/backend.h"

typedef struct {
    cdl_backend base;
    const cdl_cpu_set *set;
    cdl_pool *pool;
    cdl_phase *phases[CDL_BACKEND_RING]; /* [calls * CDL_CPU_PHASES] */
} cpu;

static size_t scratch_bytes(const cdl_backend *b, const cdl_call *largest)
{
    const cdl_cpu_kernel *k = &((const cpu *)b)->set->kernel[largest->op];
    return k->workspace ? k->workspace(largest) : 0;
}

static cuddle_status weight_bytes(const cdl_backend *b, size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols)
{
    (void)b;
    return cdl_pack_bytes(out, t, rows, cols);
}

static void pack(const cdl_backend *b, uint8_t *dst, const cdl_matrix_source *m, uint32_t panel, uint32_t n)
{
    (void)b;
    if (m->transposed)
        cdl_pack_panels_transposed(dst, m->dtype, m->data, m->row_bytes, m->rows, m->cols, panel, n);
    else
        cdl_pack_panels(dst, m->dtype, m->data, m->row_bytes, m->rows, m->cols, panel, n);
}

static cuddle_status block_new(cdl_backend *b, uint8_t **out, size_t bytes, const char *what, const char *remedy)
{
    (void)b;
    *out = cdl_mem_pages(bytes);
    return *out ? CUDDLE_OK
        : cdl_status_fail(CUDDLE_ERR_NOMEM, "out of memory for %s: %zu bytes; %s", what, bytes, remedy);
}

static void block_free(cdl_backend *b, uint8_t *p, size_t bytes)
{
    (void)b;
    cdl_mem_pages_free(p, bytes);
}

static void copy(cdl_backend *b, uint8_t *dst, const uint8_t *src, size_t n)
{
    (void)b;
    memcpy(dst, src, n);
}

static cuddle_status start(cdl_backend *b, const cdl_backend_sizes *sizes)
{
    cpu *c = (cpu *)b;
    c->pool = sizes->pool;
    for (int i = 0; i < CDL_BACKEND_RING; i++) {
        c->phases[i] = cdl_mem_zalloc((size_t)sizes->calls * CDL_CPU_PHASES, sizeof *c->phases[i]);
        if (!c->phases[i])
            return cdl_status_nomem("the calls of a step");
    }
    return CUDDLE_OK;
}

static void settle(cdl_backend *b, uint32_t steps)
{
    cdl_pool_quiesce(((cpu *)b)->pool, steps);
}

static cuddle_status run(cdl_backend *b, uint32_t slot, const cdl_call *calls, uint32_t first, uint32_t n)
{
    const cpu *c = (const cpu *)b;
    cdl_phases phases = { c->phases[slot] + (size_t)first * CDL_CPU_PHASES, 0, n * CDL_CPU_PHASES };
    for (uint32_t i = first; i < first + n; i++)
        if (calls[i].out.rows)
            c->set->kernel[calls[i].op].emit(&calls[i], cdl_pool_threads(c->pool), &phases);
    cdl_pool_run(c->pool, phases.items, phases.n);
    return CUDDLE_OK;
}

static void release(cdl_backend *b)
{
    cpu *c = (cpu *)b;
    for (int i = 0; i < CDL_BACKEND_RING; i++)
        cdl_mem_free(c->phases[i]);
    cdl_mem_free(c);
}

cuddle_status cdl_backend_cpu(cdl_backend **out, const char *kernels)
{
    const cdl_cpu_set *set;
    CDL_TRY(cdl_cpu_select(&set, kernels));
    cpu *c = cdl_mem_zalloc(1, sizeof *c);
    if (!c)
        return cdl_status_nomem("the CPU's backend");
    c->set = set;
    c->base = (cdl_backend){
        .device = "cpu", .kernels = set->name, .activation = CDL_DTYPE_F32, .thread_scratch_bytes = set->scratch_bytes,
        .weight_bytes = weight_bytes, .page_bytes = cdl_cpu_page_bytes, .scratch_bytes = scratch_bytes,
        .pack = pack,
        .block_new = block_new, .block_free = block_free, .copy = copy,
        .start = start, .settle = settle, .run = run, .free = release };
    *out = &c->base;
    return CUDDLE_OK;
}
