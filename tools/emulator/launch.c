/* launch.c - one kernel's grid: CTAs in order, warps by turns, barriers, the watchdog. */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

enum { TURNS_MAX = 100000 };    /* of thousands of loop turns each, with no barrier opened: nobody will come */

const emu_op *emu_ops(void)
{
    const char *isa = getenv("CUDDLE_VGPU_ISA");
    bool any = !isa || !strcmp(isa, "avx512"), avx2 = any || !strcmp(isa, "avx2");
    if (any && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
        return emu_ops_avx512;
    if (avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return emu_ops_avx2;
    return emu_ops_base;
}

static void row_fill(emu_warp *w, uint32_t slot, uint32_t value)
{
    for (int l = 0; l < LANES; l++)
        emu_u32(w, slot)[l] = value;
}

static void constants_fill(emu_warp *w, const emu_kernel *k)
{
    *emu_u32(w, k->true_slot) = FULL;
    for (uint32_t c = 0; c < k->constant_count; c++) {
        if (k->constant[c].cls != CLASS_64) {
            row_fill(w, k->constant[c].slot, (uint32_t)k->constant[c].value);
            continue;
        }
        for (int l = 0; l < LANES; l++)
            emu_u64(w, k->constant[c].slot)[l] = k->constant[c].value;
    }
}

/* The registers that are the same for every CTA: see special_names in decode.c. */
static void specials_fill(emu_warp *w, const emu_launch *l)
{
    const uint32_t *slot = l->kernel->special;
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t t = w->id * LANES + lane, bit = 1u << lane;
        uint32_t value[SPECIAL_COUNT] = {
            t % l->block[0], t / l->block[0] % l->block[1], t / l->block[0] / l->block[1],
            l->block[0], l->block[1], l->block[2], 0, 0, 0, l->grid[0], l->grid[1], l->grid[2],
            lane, w->id, bit, bit - 1, bit | (bit - 1), ~(bit | (bit - 1)), ~(bit - 1), 0, 1, l->dynamic_shared,
        };
        for (int s = 0; s < SPECIAL_COUNT; s++)
            emu_u32(w, slot[s])[lane] = value[s];
    }
}

static bool warp_open(emu_cta *cta, uint32_t n)
{
    emu_warp *w = &cta->warp[n];
    const emu_kernel *k = cta->launch->kernel;
    w->cta = cta;
    w->id = n;
    w->hits = cta->launch->hits;
    w->lane_hits = w->hits ? w->hits + k->count : NULL;
    w->reg = aligned_alloc(128, (k->reg_bytes + 255) / 128 * 128);
    w->local = k->local_bytes ? malloc((size_t)k->local_bytes * LANES) : NULL;
    if (!w->reg || (k->local_bytes && !w->local))
        return false;
    memset(w->reg, 0, k->reg_bytes);
    constants_fill(w, k);
    specials_fill(w, cta->launch);
    return true;
}

static void cta_reset(emu_cta *cta)
{
    const emu_launch *l = cta->launch;
    uint32_t threads = l->block[0] * l->block[1] * l->block[2];
    cta->epoch = 1;
    memset(cta->arrived, 0, sizeof cta->arrived);
    memset(cta->shared, 0xff, l->shared_bytes);
    if (cta->lines.line) {
        memset(cta->lines.line, 0, (l->shared_bytes / 64 + 1) * sizeof *cta->lines.line);
        memset(cta->lines.init, 0, (l->shared_bytes / 64 + 1) * sizeof *cta->lines.init);
    }
    cta->unfenced = cta->wrote = false;
    free(cta->party.acquired);
    cta->party.acquired = NULL;
    for (uint32_t n = 0; n < cta->warp_count; n++) {
        emu_warp *w = &cta->warp[n];
        uint32_t rest = threads - n * LANES;
        w->alive = rest >= LANES ? FULL : (1u << rest) - 1;
        w->fragment[0] = (emu_fragment){0, w->alive, false};
        w->fragment_count = 1;
        w->hold = w->resume = 0;
        w->at_barrier = w->done = false;
        w->copy_count = 0;
        w->group = 0;
        for (int x = 0; x < 3; x++)
            row_fill(w, l->kernel->special[6 + x], cta->id[x]);
    }
}

/* Opens each barrier that has all it waits for; false when none could be opened. */
static bool barriers_open(emu_cta *cta)
{
    uint32_t expected = 0;
    bool opened = false;
    for (uint32_t n = 0; n < cta->warp_count; n++)
        expected += cta->warp[n].done ? 0 : LANES;
    for (uint32_t b = 0; b < BARRIERS; b++) {
        uint32_t want = expected, waiting = 0;
        for (uint32_t n = 0; n < cta->warp_count; n++) {
            emu_warp *w = &cta->warp[n];
            if (!w->at_barrier || w->barrier != b)
                continue;
            waiting++;
            want = w->barrier_count ? w->barrier_count : want;
        }
        if (!waiting || cta->arrived[b] < want)
            continue;
        for (uint32_t n = 0; n < cta->warp_count; n++)
            if (cta->warp[n].at_barrier && cta->warp[n].barrier == b)
                emu_flow_release(&cta->warp[n]);
        cta->arrived[b] = 0;
        cta->epoch++;
        opened = true;
    }
    return opened;
}

static void deadlock(emu_cta *cta)
{
    const emu_kernel *k = cta->launch->kernel;
    for (uint32_t n = 0; n < cta->warp_count; n++) {
        emu_warp *w = &cta->warp[n];
        if (!w->done && w->fragment_count)
            emu_fault(w, &k->code[w->fragment[0].pc ? w->fragment[0].pc - 1 : 0], __builtin_ctz(w->fragment[0].mask),
                      FAULT_DEADLOCK, w->barrier, "deadlock: a warp waits for ever");
    }
}

static void cta_run(emu_cta *cta)
{
    cta_reset(cta);
    for (uint32_t turn = 0;; turn++) {
        bool ran = false, left = false;
        for (uint32_t n = 0; n < cta->warp_count && !cta->launch->fault; n++)
            ran |= emu_flow_run(&cta->warp[n]);
        if (cta->launch->fault)
            return;
        for (uint32_t n = 0; n < cta->warp_count; n++)
            left |= !cta->warp[n].done;
        if (!left)
            return;
        if (barriers_open(cta)) {
            turn = 0;
        } else if (!ran || turn > TURNS_MAX) {
            deadlock(cta);
            return;
        }
    }
}

static void cta_free(emu_cta *cta)
{
    for (uint32_t n = 0; n < WARPS_MAX; n++) {
        free(cta->warp[n].reg);
        free(cta->warp[n].local);
        free(cta->warp[n].copy);
    }
    free(cta->shared);
    free(cta->lines.line);
    free(cta->lines.init);
    free(cta->lines.reader);
    free(cta->lines.writer);
    free(cta->party.acquired);
    free(cta);
}

static bool lines_open(emu_cta *cta)
{
    size_t n = cta->launch->shared_bytes / 64 + 1;
    emu_lines *t = &cta->lines;
    t->line = calloc(n, sizeof *t->line);
    t->init = calloc(n, sizeof *t->init);
    t->reader = calloc(64 * n, sizeof *t->reader);
    t->writer = calloc(64 * n, sizeof *t->writer);
    return t->line && t->init && t->reader && t->writer;
}

static emu_cta *cta_new(emu_launch *l)
{
    emu_cta *cta = calloc(1, sizeof *cta);
    if (!cta)
        return NULL;
    cta->launch = l;
    cta->party.phase = l->phase;
    cta->warp_count = (l->block[0] * l->block[1] * l->block[2] + LANES - 1) / LANES;
    cta->shared = aligned_alloc(128, (l->shared_bytes + 255) / 128 * 128);
    bool ok = cta->shared && (emu_check_level != CHECKS_ALL || lines_open(cta));
    for (uint32_t n = 0; ok && n < cta->warp_count; n++)
        ok = warp_open(cta, n);
    if (ok)
        return cta;
    cta_free(cta);
    return NULL;
}

/* One lock: what it guards is short, and a launch has few threads. */
static char lock;
void emu_lock_take(const emu_launch *l)
{
    if (l->shared_by_threads)
        while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE))
            __builtin_ia32_pause();
}

void emu_lock_give(const emu_launch *l)
{
    if (l->shared_by_threads)
        __atomic_clear(&lock, __ATOMIC_RELEASE);
}

static void cta_place(emu_cta *cta, uint64_t n)
{
    const uint32_t *grid = cta->launch->grid;
    cta->id[0] = (uint32_t)(n % grid[0]);
    cta->id[1] = (uint32_t)(n / grid[0] % grid[1]);
    cta->id[2] = (uint32_t)(n / grid[0] / grid[1]);
    cta->party.id = (uint32_t)n + 1;
}

/* A thread's share of the grid: one CTA after the other. */
static void ctas_run(void *launch)
{
    emu_launch *l = launch;
    emu_cta *cta = l->next_cta < l->ctas ? cta_new(l) : NULL;
    uint64_t n;
    while (cta && !l->fault && (n = __atomic_fetch_add(&l->next_cta, 1, __ATOMIC_RELAXED)) < l->ctas) {
        cta_place(cta, n);
        cta_run(cta);
    }
    if (cta)
        cta_free(cta);
}

static void counters_open(emu_launch *l)
{
    if (!emu_counters_wanted() || !(l->hits = calloc(2 * (size_t)l->kernel->count, sizeof *l->hits)))
        return;
    emu_counters_begin(l);
}

void emu_launch_run(emu_launch *l)
{
    static uint32_t launches;
    unsigned threads = emu_pool_threads();
    l->shared_bytes = l->kernel->shared_bytes + l->dynamic_shared;
    l->phase = ++launches;
    l->ctas = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    l->order = emu_check_level == CHECKS_ALL ? emu_order_new(l->ctas) : NULL;
    counters_open(l);
    threads = l->hits ? 1 : threads < l->ctas ? threads : (unsigned)l->ctas;
    l->shared_by_threads = threads > 1;
    if (threads > 1)
        emu_pool_run(ctas_run, l, threads);
    else
        ctas_run(l);
    if (!l->fault && l->next_cta < l->ctas) {
        l->fault = FAULT_TRAP;
        snprintf(l->report, sizeof l->report, "%s: out of host memory", l->kernel->name);
    }
    if (l->hits)
        emu_counters_end(l, l->hits, l->hits + l->kernel->count);
    free(l->hits);
    emu_order_free(l->order);
}
