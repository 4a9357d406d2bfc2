/* profile_machine.c - what a profile ran on: the CPU or GPU, its clocks, and its limits. */
#include <string.h>

#include "base/mem.h"
#include "device/nvml.h"
#include "graph/cuda_call.h"
#include "profile.h"

/* ---- GPUs: kernels of cuda/peak.cu ---- */

enum { PEAK_ROUNDS = 10, PEAK_BYTES = 512 << 20, PEAK_LOOPS = 4096, PEAK_BLOCKS = 8 };

typedef struct {
    cdl_cuda *c;
    cdl_event from, to;
    cdl_launch launch;
} gpu_timer;

static cuddle_status best_ms(gpu_timer *t, double *best)
{
    *best = 0;
    for (int i = 0; i < PEAK_ROUNDS; i++) {
        float ms = 0;
        CDL_TRY(cdl_event_record(&t->from, &t->c->stream));
        CDL_TRY(cdl_stream_launch(&t->c->stream, &t->launch));
        CDL_TRY(cdl_event_record(&t->to, &t->c->stream));
        CDL_TRY(cdl_stream_wait(&t->c->stream));
        CDL_TRY(cdl_event_ms(&ms, &t->from, &t->to));
        *best = i == 0 || (double)ms < *best ? (double)ms : *best;
    }
    return CUDDLE_OK;
}

/* Bytes read and products made a second. */
static cuddle_status gpu_peaks(profile_machine *m, gpu_timer *t, cdl_cu_ptr data)
{
    const cdl_device_facts *f = cdl_device_get_facts(t->c->device);
    cdl_peak_args a = { .data = (const void *)data, .out = (void *)data, .n = PEAK_BYTES / 16, .loops = PEAK_LOOPS };
    double ms;
    t->launch = (cdl_launch){ .kernel = "peak_fwd_read_kernel", .node = "peak", .threads = CDL_CUDA_ROW_THREADS,
                              .grid = { f->multiprocessors * PEAK_BLOCKS, 1, 1 }, .args = &a };
    CDL_TRY(cdl_device_function(&t->launch.function, t->c->device, "peak", t->launch.kernel));
    CDL_TRY(best_ms(t, &ms));
    m->stream = PEAK_BYTES / (ms * 1e-3);
    t->launch.kernel = "peak_fwd_mma_kernel";
    CDL_TRY(cdl_device_function(&t->launch.function, t->c->device, "peak", t->launch.kernel));
    CDL_TRY(best_ms(t, &ms));
    double warps = (double)t->launch.grid[0] * CDL_CUDA_ROW_THREADS / 32;
    m->half = warps * PEAK_LOOPS * CDL_CUDA_PEAK_CHAINS * 2 * 16 * 8 * 16 / (ms * 1e-3);
    return CUDDLE_OK;
}

static cuddle_status measure_gpu(profile_machine *m, cdl_cuda *c)
{
    gpu_timer t = { .c = c };
    cdl_cu_ptr data = 0;
    cuddle_status st = cdl_device_alloc(&data, c->device, PEAK_BYTES, "measuring its memory", "free some memory");
    if (st == CUDDLE_OK)
        st = cdl_stream_fill(&c->stream, data, 0, PEAK_BYTES);
    if (st == CUDDLE_OK)
        st = cdl_event_open(&t.from, c->device, true);
    if (st == CUDDLE_OK)
        st = cdl_event_open(&t.to, c->device, true);
    if (st == CUDDLE_OK)
        st = gpu_peaks(m, &t, data);
    cdl_event_close(&t.from);
    cdl_event_close(&t.to);
    cdl_device_free(c->device, data);
    return st;
}

/* What only the management library knows; without it the driver's own facts. */
static void read_clocks(profile_machine *m, const cdl_device_facts *f)
{
    cdl_nvml_facts n;
    if (cdl_nvml_read(&n, f, NULL) != CUDDLE_OK) {
        snprintf(m->clocks, sizeof m->clocks, "clocks up to %u MHz, memory %u MHz; power limit unknown: %.40s",
                f->clock_mhz, f->memory_clock_mhz, cuddle_errmsg());
        return;
    }
    snprintf(m->driver, sizeof m->driver, "%.60s", n.driver);
    snprintf(m->clocks, sizeof m->clocks, "clocks %u of %u MHz, memory %u of %u MHz, power limit %u W, ECC %s",
            n.clock_mhz, n.clock_max_mhz, n.memory_clock_mhz, n.memory_clock_max_mhz, n.power_limit_mw / 1000,
            n.ecc < 0 ? "unknown" : n.ecc ? "on" : "off");
}

cuddle_status profile_gpu_machine(profile_machine *m, cdl_backend *b)
{
    cdl_cuda *c = (cdl_cuda *)b;
    const cdl_device_facts *f = cdl_device_get_facts(c->device);
    m->is_gpu = true;
    m->is_virtual = !strcmp(f->name, CDL_DEVICE_VIRTUAL);
    m->cache_bytes = f->l2_bytes;
    snprintf(m->device, sizeof m->device, "%s", b->device);
    snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1, f->name);
    if (m->is_virtual)
        return CUDDLE_OK;
    CDL_TRY(measure_gpu(m, c));
    read_clocks(m, f);
    return CUDDLE_OK;
}

/* ---- */

cuddle_status profile_machine_open(profile_machine *out, const profile_opts *o)
{
    cdl_backend *b;
    cdl_pool *pool = NULL;
    *out = (profile_machine){ .device = "cpu", .threads = o->threads, .cache_bytes = cdl_mem_cache_bytes() };
    CDL_TRY(profile_backend_open(&b, o));
    snprintf(out->kernels, sizeof out->kernels, "%s", b->kernels);
    cuddle_status st = CUDDLE_OK;
    if (strcmp(o->device, "cpu")) {
        st = profile_gpu_machine(out, b);
    } else {
        cli_cpu_name(out->name, sizeof out->name);
        st = cdl_pool_new(&pool, o->threads, b->thread_scratch_bytes);
        if (st == CUDDLE_OK)
            st = profile_cpu_peaks(out, pool);
    }
    cdl_pool_free(pool);
    b->free(b);
    return st;
}
