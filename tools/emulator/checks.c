/* checks.c - what an access must satisfy, and how its failure is told.
 *
 * off: addresses must lie in a device's arena, in the CTA's shared memory, in the thread's local memory.
 * cheap: and in a live allocation, aligned; barriers and warp operations converged.
 * all: and what is read was written, and no other warp touched it since the last barrier.
 */
#include "emu.h"

#include <string.h>

enum { REPORTS_MAX = 4 };

void emu_fault(emu_warp *w, const emu_insn *i, int lane, enum emu_fault kind, uint64_t address, const char *what)
{
    emu_cta *cta = w->cta;
    emu_launch *l = cta->launch;
    char line[512];
    if (l->reports++ >= REPORTS_MAX)
        return;
    snprintf(line, sizeof line, "%s: %s at PTX line %u (%s), CTA %u,%u,%u warp %u lane %d, address 0x%llx",
             l->kernel->name, what, i->line, l->kernel->opcode[i - l->kernel->code], cta->id[0], cta->id[1],
             cta->id[2], w->id, lane, (unsigned long long)address);
    fprintf(stderr, "vgpu: %s\n", line);
    if (!l->fault) {
        l->fault = kind;
        memcpy(l->report, line, sizeof line);
    }
}

static uint32_t mask_where(const uint64_t *a, uint32_t m, uint64_t bits)
{
    uint32_t r = 0;
    uint64_t any = 0;
    for (int l = 0; l < LANES; l++)
        any |= a[l] & bits;
    if (!any)
        return 0;
    EACH_LANE(l, m)
        r |= (uint32_t)((a[l] & bits) != 0) << l;
    return r;
}

static uint32_t refuse(emu_warp *w, const emu_insn *i, const uint64_t *a, uint32_t bad, enum emu_fault kind,
                       const char *what)
{
    if (bad)
        emu_fault(w, i, __builtin_ctz(bad), kind, a[__builtin_ctz(bad)], what);
    return bad;
}

static bool reachable(const emu_device *own, const emu_device *d)
{
    return d == own || (d && own->peer[d->index]);
}

static bool live(const emu_device *d, uint64_t at, uint32_t bytes)
{
    uint64_t from = at - d->base, last = from + bytes - 1;
    return (from & 255) < d->valid[from >> 8] && (last & 255) < d->valid[last >> 8];
}

/* Most requests span few granules, all of them whole: one look instead of 32. */
static bool all_inside(const emu_device *d, const uint64_t *a, uint32_t m, uint32_t bytes)
{
    uint64_t low = a[__builtin_ctz(m)], high = low;
    EACH_LANE(l, m) {
        low = a[l] < low ? a[l] : low;
        high = a[l] > high ? a[l] : high;
    }
    if (low - d->base > d->bytes - bytes || high - d->base > d->bytes - bytes)
        return false;
    if (emu_check_level == CHECKS_OFF)
        return true;
    uint64_t first = (low - d->base) >> 8, last = (high + bytes - 1 - d->base) >> 8;
    if (last - first > 8)
        return false;
    while (first <= last && d->valid[first] == 256)
        first++;
    return first > last;
}

static uint32_t outside(emu_warp *w, const uint64_t *a, uint32_t m, uint32_t bytes)
{
    const emu_device *own = w->cta->launch->device;
    uint32_t bad = 0;
    if (!m || all_inside(own, a, m, bytes))
        return 0;
    EACH_LANE(l, m) {
        const emu_device *d = own;
        bool ok = a[l] - own->base <= own->bytes - bytes;
        if (!ok) {
            d = emu_device_of(a[l]);
            ok = reachable(own, d) && a[l] - d->base <= d->bytes - bytes;
        }
        if (ok && emu_check_level != CHECKS_OFF)
            ok = live(d, a[l], bytes);
        bad |= (uint32_t)!ok << l;
    }
    return bad;
}

uint32_t emu_check_global(emu_warp *w, const emu_insn *i, const uint64_t *a, uint32_t m, uint32_t bytes,
                          enum emu_access how)
{
    uint32_t align = bytes & (bytes - 1) ? i->size : bytes;
    m &= ~refuse(w, i, a, mask_where(a, m, align - 1), FAULT_MISALIGNED, "misaligned global access");
    m &= ~refuse(w, i, a, outside(w, a, m, bytes), FAULT_ADDRESS, "global access out of bounds");
    if (w->cta->launch->counters && m)
        emu_count_global(w, a, m, bytes, how == ACCESS_WRITE);
    if (emu_check_level != CHECKS_ALL)
        return m;
    EACH_LANE(l, m) {
        if (how != ACCESS_WRITE && !emu_is_written(a[l], bytes))
            emu_fault(w, i, (int)l, FAULT_UNINITIALISED, a[l], "uninitialised global read");
        if (how != ACCESS_READ)
            emu_mark_written(a[l], bytes);
    }
    return m;
}

static uint8_t bytes_mask(uint64_t word, uint64_t at, uint64_t end)
{
    uint8_t r = 0;
    for (uint64_t b = 0; b < 4; b++)
        r |= (uint8_t)((4 * word + b >= at && 4 * word + b < end) << b);
    return r;
}

/* One word of an access against what other warps did since the last barrier. */
static const char *word_conflict(emu_warp *w, emu_shadow *s, uint8_t bytes, enum emu_access how)
{
    uint16_t epoch = (uint16_t)w->cta->epoch;
    uint8_t me = (uint8_t)(w->id + 1);
    bool write = how == ACCESS_WRITE || how == ACCESS_COPY, atomic = how == ACCESS_ATOMIC;
    const char *what = NULL;
    if (s->write_epoch == epoch && s->write_warp != me && (s->write_mask & bytes) && !(atomic && s->write_warp == 254))
        what = "shared memory race with a write";
    else if (write && s->read_epoch == epoch && s->read_warp && s->read_warp != me)
        what = "shared memory race with a read";
    else if (!write && (s->init & bytes) != bytes)
        what = "uninitialised shared read";
    if (write || atomic) {
        s->write_mask = s->write_epoch == epoch ? s->write_mask | bytes : bytes;
        s->write_epoch = epoch;
        s->write_warp = atomic ? 254 : me;
        s->init |= bytes;
    } else {
        s->read_warp = s->read_epoch == epoch && s->read_warp != me ? 255 : me;
        s->read_epoch = epoch;
    }
    return what;
}

static void shadow_check(emu_warp *w, const emu_insn *i, uint32_t l, uint64_t at, uint32_t bytes, enum emu_access how)
{
    for (uint64_t word = at / 4; word <= (at + bytes - 1) / 4; word++) {
        const char *what = word_conflict(w, &w->cta->shadow[word], bytes_mask(word, at, at + bytes), how);
        if (what)
            emu_fault(w, i, (int)l, what[0] == 'u' ? FAULT_UNINITIALISED : FAULT_RACE, at, what);
    }
}

uint32_t emu_check_shared(emu_warp *w, const emu_insn *i, const uint64_t *a, uint32_t m, uint32_t bytes,
                          enum emu_access how)
{
    uint32_t bad = 0, size = w->cta->launch->shared_bytes;
    uint32_t align = bytes & (bytes - 1) ? i->size : bytes;
    m &= ~refuse(w, i, a, mask_where(a, m, align - 1), FAULT_MISALIGNED, "misaligned shared access");
    uint64_t most = 0;
    for (int l = 0; l < LANES; l++)
        most = a[l] > most ? a[l] : most;
    if (most > size || size - most < bytes)
        EACH_LANE(l, m)
            bad |= (uint32_t)(a[l] > size || size - a[l] < bytes) << l;
    m &= ~refuse(w, i, a, bad, FAULT_ADDRESS, "shared access out of bounds");
    if (w->cta->launch->counters && m)
        emu_count_shared(w, a, m, bytes);
    if (emu_check_level == CHECKS_ALL)
        EACH_LANE(l, m)
            shadow_check(w, i, l, a[l], bytes, how);
    return m;
}

/* A copy is on its way: the words hold nothing until it lands. */
void emu_shared_begin(emu_warp *w, uint32_t at, uint32_t bytes)
{
    if (emu_check_level == CHECKS_ALL)
        for (uint32_t word = at / 4; word <= (at + bytes - 1) / 4; word++)
            w->cta->shadow[word].init = 0;
}

void emu_shared_landed(emu_warp *w, uint32_t at, uint32_t bytes)
{
    if (emu_check_level != CHECKS_ALL)
        return;
    for (uint32_t word = at / 4; word <= (at + bytes - 1) / 4; word++) {
        emu_shadow *s = &w->cta->shadow[word];
        s->init = s->write_mask = 15;
        s->write_epoch = (uint16_t)w->cta->epoch;
        s->write_warp = (uint8_t)(w->id + 1);
    }
}

uint32_t emu_check_local(emu_warp *w, const emu_insn *i, enum emu_space space, uint64_t *a, uint32_t m,
                         uint32_t bytes)
{
    emu_kernel *k = w->cta->launch->kernel;
    bool param = space == SPACE_PARAM;
    uint32_t size = param ? k->param_bytes : k->local_bytes, bad = 0;
    for (uint32_t l = 0; l < LANES; l++)
        a[l] &= ~WINDOW_MASK;
    EACH_LANE(l, m)
        bad |= (uint32_t)(a[l] > size || size - a[l] < bytes) << l;
    m &= ~refuse(w, i, a, bad, FAULT_ADDRESS, param ? "parameter read out of bounds" : "local access out of bounds");
    for (uint32_t l = 0; l < LANES; l++)
        a[l] += param ? (uint64_t)w->cta->launch->params : (uint64_t)w->local + (uint64_t)l * size;
    return m;
}

/* The lanes that run an operation of the whole warp are those that it names. */
bool emu_check_converged(emu_warp *w, const emu_insn *i, uint32_t m, uint32_t members)
{
    if (emu_check_level != CHECKS_OFF && (members & w->alive) != m)
        emu_fault(w, i, __builtin_ctz(m), FAULT_SYNC, members, "warp operation whose lanes are not together");
    return true;
}
