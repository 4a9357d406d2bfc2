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
        if (cta->lines.held) {
            memset(cta->lines.unproxied, 0, (l->shared_bytes / 64 + 1) * sizeof *cta->lines.unproxied);
            memset(cta->lines.held, 0, (l->shared_bytes / 64 + 1) * sizeof *cta->lines.held);
        }
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
        w->budget = BACKWARD_BUDGET;
        w->at_barrier = w->done = false;
        w->copy_count = 0;
        w->group = w->product_group = 0;
        w->product_count = w->unproxied_count = 0;
        w->product_fenced = false;
        w->waited = 0;
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

static const emu_insn *waits_at(const emu_warp *w)
{
    uint32_t pc = w->fragment[0].pc;
    return &w->cta->launch->kernel->code[w->at_barrier && pc ? pc - 1 : pc];
}

/* One report for all warps that stand at the same place. */
static void deadlock(emu_cta *cta)
{
    bool told[WARPS_MAX] = {false};
    for (uint32_t n = 0; n < cta->warp_count; n++) {
        emu_warp *w = &cta->warp[n];
        char text[256] = "deadlock: ";
        size_t at = strlen(text);
        if (told[n] || w->done || !w->fragment_count)
            continue;
        if (w->at_barrier)
            at += (size_t)snprintf(text + at, sizeof text - at, "barrier %u, where %u threads came, is waited for by",
                                   w->barrier, cta->arrived[w->barrier]);
        else
            at += (size_t)snprintf(text + at, sizeof text - at, "no end of");
        at += (size_t)snprintf(text + at, sizeof text - at, " warps");
        for (uint32_t k = n; k < cta->warp_count; k++) {
            emu_warp *other = &cta->warp[k];
            if (other->done || !other->fragment_count || waits_at(other) != waits_at(w))
                continue;
            told[k] = true;
            if (at + 8 < sizeof text)
                at += (size_t)snprintf(text + at, sizeof text - at, " %u", k);
        }
        emu_fault(w, waits_at(w), __builtin_ctz(w->fragment[0].mask), FAULT_DEADLOCK, w->barrier, text);
    }
}

static bool cta_done(const emu_cta *cta)
{
    for (uint32_t n = 0; n < cta->warp_count; n++)
        if (!cta->warp[n].done)
            return false;
    return true;
}

static void cta_run(emu_cta *cta)
{
    cta_reset(cta);
    for (uint32_t turn = 0;; turn++) {
        bool ran = false;
        for (uint32_t n = 0; n < cta->warp_count && !cta->launch->fault; n++)
            ran |= emu_flow_run(&cta->warp[n]);
        if (cta->launch->fault || cta_done(cta))
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
        free(cta->warp[n].product);
        free(cta->warp[n].unproxied);
    }
    free(cta->shared);
    free(cta->lines.line);
    free(cta->lines.init);
    free(cta->lines.reader);
    free(cta->lines.writer);
    free(cta->lines.unproxied);
    free(cta->lines.held);
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
    bool products = cta->launch->kernel->wgmma_count;
    t->unproxied = products ? calloc(n, sizeof *t->unproxied) : NULL;
    t->held = products ? calloc(n, sizeof *t->held) : NULL;
    return t->line && t->init && t->reader && t->writer && ((t->unproxied && t->held) || !products);
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

/* ---- seeded schedules ---- */
enum { RESIDENT = 6, SLICE_MAX = 100, SLICES_MAX = 50000000 };

static uint32_t random_below(emu_launch *l, uint32_t n)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return (uint32_t)((l->random >> 16) % n);
}

static uint64_t common(uint64_t a, uint64_t b) { return b ? common(b, a % b) : a; }

/* A warp that can go on runs for a few instructions, and copies may land before they must. False: none could. */
static bool slice_run(emu_cta *cta)
{
    emu_launch *l = cta->launch;
    uint32_t first = random_below(l, cta->warp_count);
    for (uint32_t n = 0; n < cta->warp_count; n++) {
        emu_warp *w = &cta->warp[(first + n) % cta->warp_count];
        w->slice = 1 + random_below(l, SLICE_MAX);
        if (!emu_flow_run(w))
            continue;
        if (w->copy_count && !random_below(l, 4))
            emu_copy_land(w, w->group + random_below(l, 2));
        return true;
    }
    return false;
}

/* Ends what a resident CTA cannot go on with; true when it has ended and another took its place. */
static bool cta_settle(emu_cta *cta, uint64_t *next, uint64_t step, uint64_t shift)
{
    emu_launch *l = cta->launch;
    if (!cta_done(cta))
        return barriers_open(cta);
    if (*next >= l->ctas)
        return false;
    cta_place(cta, ((unsigned __int128)(*next)++ * step + shift) % l->ctas);
    cta_reset(cta);
    return true;
}

/* Several CTAs at once in an order that the seed gives; each turn one of them runs for a few instructions. */
static void ctas_shuffle(emu_launch *l)
{
    emu_cta *resident[RESIDENT] = {0};
    uint32_t count = 0;
    uint64_t step = 1 + (l->random >> 20) % l->ctas, next = 0, shift = l->random % l->ctas;
    while (common(step, l->ctas) != 1)
        step++;
    for (; count < RESIDENT && count < l->ctas && (resident[count] = cta_new(l)); count++) {
        cta_place(resident[count], ((unsigned __int128)next++ * step + shift) % l->ctas);
        cta_reset(resident[count]);
    }
    for (uint64_t idle = 0; count && !l->fault && idle < SLICES_MAX; idle++) {
        uint32_t first = random_below(l, count), n = 0;
        while (n < count && !slice_run(resident[(first + n) % count]))
            n += !cta_settle(resident[(first + n) % count], &next, step, shift);
        if (n == count)
            break;
    }
    l->next_cta = next;
    for (uint32_t n = 0; n < count; n++) {
        if (!l->fault && !cta_done(resident[n]))
            deadlock(resident[n]);
        cta_free(resident[n]);
    }
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
    const char *seed = getenv("CUDDLE_VGPU_SEED");
    l->shared_bytes = l->kernel->shared_bytes + l->dynamic_shared;
    l->phase = ++launches;
    l->ctas = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    l->order = emu_check_level == CHECKS_ALL ? emu_order_new(l->ctas) : NULL;
    counters_open(l);
    l->random = seed && *seed ? strtoull(seed, NULL, 0) * 0x9e3779b97f4a7c15ull + l->phase : 0;
    threads = l->hits || l->random ? 1 : threads < l->ctas ? threads : (unsigned)l->ctas;
    l->shared_by_threads = threads > 1;
    if (l->random)
        ctas_shuffle(l);
    else if (threads > 1)
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
