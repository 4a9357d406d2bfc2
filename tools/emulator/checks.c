/* checks.c - what an access must satisfy, and how its failure is told.
 *
 * off: addresses must lie in a device's arena, in the CTA's shared memory, in the thread's local memory.
 * cheap: and in a live allocation, aligned; barriers and warp operations converged.
 * all: and what is read was written, and no other warp touched it since the last barrier; a launch that may begin early
 *      keeps off what other kernels of its graph wrote, and writes nothing, until griddepcontrol.wait.
 */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

enum { REPORTS_MAX = 4 };

void emu_fault(emu_warp *w, const emu_insn *i, int lane, enum emu_fault kind, uint64_t address, const char *what)
{
    emu_cta *cta = w->cta;
    emu_launch *l = cta->launch;
    char line[512];
    if (__atomic_fetch_add(&l->reports, 1, __ATOMIC_RELAXED) >= REPORTS_MAX)
        return;
    snprintf(line, sizeof line, "%s: %s at PTX line %u (%s), CTA %u,%u,%u warp %u lane %d, address 0x%llx",
             l->kernel->name, what, i->line, l->kernel->opcode[i - l->kernel->code], cta->id[0], cta->id[1],
             cta->id[2], w->id, lane, (unsigned long long)address);
    fprintf(stderr, "vgpu: %s\n", line);
    enum emu_fault none = FAULT_NONE;
    if (__atomic_compare_exchange_n(&l->fault, &none, kind, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        memcpy(l->report, line, sizeof line);
}

void emu_request_sum(emu_request *q, uint32_t m, uint32_t bytes)
{
    uint64_t first = q->a[__builtin_ctz(m)], at = first, wrong = 0, differ = 0;
    q->low = q->high = first;
    q->any = 0;
    EACH_LANE(l, m) {
        uint64_t x = q->a[l];
        q->low = x < q->low ? x : q->low;
        q->high = x > q->high ? x : q->high;
        q->any |= x;
        wrong |= x ^ at;
        differ |= x ^ first;
        at += bytes;
    }
    q->dense = !wrong;
    q->uniform = !differ;
}

/* The lanes that go on when `bad` ones are refused with a report. */
static uint32_t refuse(emu_warp *w, const emu_insn *i, emu_request *q, uint32_t m, uint32_t bad, uint32_t bytes,
                       enum emu_fault kind, const char *what)
{
    if (!bad)
        return m;
    emu_fault(w, i, __builtin_ctz(bad), kind, q->a[__builtin_ctz(bad)], what);
    m &= ~bad;
    if (m)
        emu_request_sum(q, m, bytes);
    return m;
}

static uint32_t misaligned(const emu_insn *i, const emu_request *q, uint32_t m, uint32_t bytes)
{
    uint32_t align = bytes & (bytes - 1) ? i->size : bytes, bad = 0;
    if (q->any & (align - 1))
        EACH_LANE(l, m)
            bad |= (uint32_t)((q->a[l] & (align - 1)) != 0) << l;
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

/* Whether all lie in one allocation, which is remembered. */
static bool in_one_block(emu_warp *w, const emu_request *q, uint32_t bytes)
{
    emu_cta *cta = w->cta;
    uint64_t base = cta->launch->device->base;
    size_t size = cta->launch->device->bytes;
    if (q->low < base || q->high > base + size - bytes)
        return false;
    if (emu_check_level != CHECKS_OFF && !emu_block_find(q->low, &base, &size))
        return false;
    if (size < bytes || q->high > base + size - bytes)
        return false;
    cta->known.from = base;
    cta->known.to = base + size;
    return true;
}

static uint32_t outside(emu_warp *w, const emu_request *q, uint32_t m, uint32_t bytes)
{
    const emu_device *own = w->cta->launch->device;
    uint32_t bad = 0;
    if (q->low >= w->cta->known.from && q->high + bytes <= w->cta->known.to)
        return 0;
    if (in_one_block(w, q, bytes))
        return 0;
    EACH_LANE(l, m) {
        const emu_device *d = emu_device_of(q->a[l]);
        bool ok = reachable(own, d) && q->a[l] - d->base <= d->bytes - bytes;
        if (ok && emu_check_level != CHECKS_OFF)
            ok = live(d, q->a[l], bytes);
        bad |= (uint32_t)!ok << l;
    }
    return bad;
}

/* The lowest lane that touches one of the bytes. */
static int lane_of(const emu_request *q, uint32_t m, uint32_t bytes, uint64_t at)
{
    EACH_LANE(l, m)
        if (at - q->a[l] < bytes)
            return (int)l;
    return __builtin_ctz(m);
}

/* Bytes of shared memory that were written as usual: wgmma may read them when the warp has told its proxy. */
static void unproxied_note(emu_warp *w, const emu_piece *piece, uint32_t n)
{
    if (!w->cta->lines.unproxied)
        return;
    if (w->unproxied_count + n > w->unproxied_capacity) {
        size_t capacity = 2 * w->unproxied_capacity + PIECES_MAX;
        emu_piece *grown = realloc(w->unproxied, capacity * sizeof *grown);
        if (!grown)
            return;
        w->unproxied = grown;
        w->unproxied_capacity = capacity;
    }
    for (uint32_t p = 0; p < n; p++) {
        w->cta->lines.unproxied[piece[p].line] |= piece[p].bytes;
        w->unproxied[w->unproxied_count++] = piece[p];
    }
}

/* d: NULL for shared memory, whose parties are the warps. */
static void lines_touch(emu_warp *w, const emu_insn *i, const emu_request *q, uint32_t m, uint32_t bytes,
                        enum emu_access how, emu_device *d)
{
    emu_party warp = {w->cta->epoch, w->id + 1, NULL}, *me = d ? &w->cta->party : &warp;
    emu_lines *t = d ? &d->lines : &w->cta->lines;
    uint64_t base = d ? d->base : 0;
    emu_piece piece[PIECES_MAX];
    uint32_t n = emu_pieces(q, m, bytes, base, piece);
    if (!d && (how == ACCESS_WRITE || how == ACCESS_ATOMIC))
        unproxied_note(w, piece, n);
    for (uint32_t p = 0; p < n; p++) {
        uint64_t bad = 0;
        const char *what = emu_line_touch(t, me, piece[p].line, piece[p].bytes, how, &bad);
        if (!what && !d && how != ACCESS_READ && t->held && t->held[piece[p].line]) {
            what = "write below a wgmma under way";
            bad = piece[p].bytes;
        }
        if (!what)
            continue;
        char text[64];
        uint64_t at = base + 64 * piece[p].line + (uint64_t)__builtin_ctzll(bad);
        snprintf(text, sizeof text, "%s of %s memory", what, d ? "global" : "shared");
        emu_fault(w, i, lane_of(q, m, bytes, at), what[0] == 'u' ? FAULT_UNINITIALISED : FAULT_RACE, at, text);
    }
}

/* The lock is held by who performs an atomic or strong access: its order is that of the values seen.
 * They order what the CTA wrote and what it will read. */
static void order_note(emu_cta *cta, const emu_insn *i, const emu_request *q, uint32_t m, enum emu_access how)
{
    bool release = how != ACCESS_STRONG_READ && cta->wrote && (!cta->unfenced || i->flags & FLAG_RELEASE);
    EACH_LANE(l, m) {
        if (release)
            emu_order_release(cta->launch->order, &cta->party, q->a[l]);
        if (how != ACCESS_STRONG_WRITE)
            emu_order_acquire(cta->launch->order, &cta->party, q->a[l]);
        if (q->uniform)
            return;
    }
}

/* Lines that kernels wrote are remembered, and looked up for lanes that have not waited. */
static void early_touch(emu_warp *w, const emu_insn *i, const emu_request *q, uint32_t m, uint32_t bytes, bool writes,
                        emu_device *d)
{
    uint32_t early = w->cta->launch->early ? m & ~w->waited : 0;
    emu_piece piece[PIECES_MAX];
    if (!writes && !early)
        return;
    uint32_t n = emu_pieces(q, m, bytes, d->base, piece);
    for (uint32_t p = 0; p < n; p++) {
        uint64_t *word = &d->by_kernel[piece[p].line / 64], bit = 1ull << (piece[p].line & 63);
        if (early && (writes || *word & bit))
            emu_fault(w, i, __builtin_ctz(early), FAULT_RACE, d->base + 64 * piece[p].line, writes
                ? "write before griddepcontrol.wait" : "read of what a kernel wrote before griddepcontrol.wait");
        if (writes)
            *word |= bit;
    }
}

void emu_check_waited(emu_warp *w, const emu_insn *i, uint32_t m)
{
    uint32_t late = w->cta->launch->early && emu_check_level == CHECKS_ALL ? m & ~w->waited : 0;
    if (late)
        emu_fault(w, i, __builtin_ctz(late), FAULT_SYNC, 0, "an early launch ends without griddepcontrol.wait");
}

static void touch_global(emu_warp *w, const emu_insn *i, const emu_request *q, uint32_t m, uint32_t bytes,
                         enum emu_access how)
{
    emu_cta *cta = w->cta;
    emu_device *d = emu_device_of(q->low);
    if (how >= ACCESS_ATOMIC)
        order_note(cta, i, q, m, how);
    else
        emu_lock_take(cta->launch);
    if (how == ACCESS_WRITE)
        cta->wrote = cta->unfenced = true;
    if (d && emu_device_of(q->high) == d) {
        lines_touch(w, i, q, m, bytes, how, d);
        early_touch(w, i, q, m, bytes, how != ACCESS_READ && how != ACCESS_STRONG_READ, d);
    }
    if (how < ACCESS_ATOMIC)
        emu_lock_give(cta->launch);
}

uint32_t emu_check_global(emu_warp *w, const emu_insn *i, emu_request *q, uint32_t m, uint32_t bytes,
                          enum emu_access how)
{
    m = refuse(w, i, q, m, misaligned(i, q, m, bytes), bytes, FAULT_MISALIGNED, "misaligned global access");
    if (m)
        m = refuse(w, i, q, m, outside(w, q, m, bytes), bytes, FAULT_ADDRESS, "global access out of bounds");
    if (m && w->cta->launch->counters)
        emu_count_global(w, q, m, bytes, how == ACCESS_WRITE || how == ACCESS_STRONG_WRITE);
    if (m && emu_check_level == CHECKS_ALL)
        touch_global(w, i, q, m, bytes, how);
    return m;
}

uint32_t emu_check_shared(emu_warp *w, const emu_insn *i, emu_request *q, uint32_t m, uint32_t bytes,
                          enum emu_access how)
{
    uint32_t bad = 0, size = w->cta->launch->shared_bytes;
    how = how == ACCESS_STRONG_READ ? ACCESS_READ : how == ACCESS_STRONG_WRITE ? ACCESS_WRITE : how;
    m = refuse(w, i, q, m, misaligned(i, q, m, bytes), bytes, FAULT_MISALIGNED, "misaligned shared access");
    if (m && (q->high > size || size - q->high < bytes))
        EACH_LANE(l, m)
            bad |= (uint32_t)(q->a[l] > size || size - q->a[l] < bytes) << l;
    m = refuse(w, i, q, m, bad, bytes, FAULT_ADDRESS, "shared access out of bounds");
    if (m && w->cta->launch->counters)
        emu_count_shared(w, q, m, bytes);
    if (m && emu_check_level == CHECKS_ALL)
        lines_touch(w, i, q, m, bytes, how, NULL);
    return m;
}

static void shared_init(emu_warp *w, uint32_t at, uint32_t bytes, bool there)
{
    uint64_t *init = w->cta->lines.init;
    for (uint32_t end = at + bytes; at < end;) {
        uint32_t rest = 64 - (at & 63), n = end - at < rest ? end - at : rest;
        uint64_t bits = (n == 64 ? ~0ull : (1ull << n) - 1) << (at & 63);
        init[at / 64] = there ? init[at / 64] | bits : init[at / 64] & ~bits;
        at += n;
    }
}

/* A copy is on its way: the bytes hold nothing until it lands. */
void emu_shared_begin(emu_warp *w, uint32_t at, uint32_t bytes)
{
    if (emu_check_level == CHECKS_ALL)
        shared_init(w, at, bytes, false);
}

void emu_shared_landed(emu_warp *w, uint32_t at, uint32_t bytes)
{
    if (emu_check_level != CHECKS_ALL)
        return;
    emu_party me = {w->cta->epoch, w->id + 1, NULL};
    emu_request q = {.low = at, .high = at, .uniform = true};
    emu_piece piece[PIECES_MAX];
    uint64_t bad;
    uint32_t n = emu_pieces(&q, 1, bytes, 0, piece);
    unproxied_note(w, piece, n);
    for (uint32_t p = 0; p < n; p++)
        emu_line_touch(&w->cta->lines, &me, piece[p].line, piece[p].bytes, ACCESS_COPY, &bad);
}

bool emu_matrix_row(uint64_t descriptor, uint32_t n, uint32_t *at, bool *swapped)
{
    enum { SWIZZLE_128 = 1, ROWS = 8, ROW_BYTES = 128 };
    uint32_t first = (uint32_t)(descriptor & 0x3fff) << 4, groups = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    uint32_t row = first + n / ROWS * groups + n % ROWS * ROW_BYTES, swizzle = (row >> 7 & 7) << 4;
    *at = (row ^ swizzle) & ~31u;
    *swapped = swizzle >> 4 & 1;
    return descriptor >> 62 == SWIZZLE_128 && !(descriptor >> 49 & 7) && !(first & 0x39f) && !(groups & 1023);
}

/* Rows of a matrix that a wgmma reads: at its start, and again at its wait, as it may read them at any time between;
 * meanwhile nobody may write to their lines. */
bool emu_check_matrix(emu_warp *w, const emu_insn *i, uint64_t descriptor, uint32_t first, uint32_t rows, bool wait)
{
    emu_cta *cta = w->cta;
    emu_party me = {cta->epoch, w->id + 1, NULL};
    for (uint32_t n = first; n < first + rows; n++) {
        uint32_t at;
        uint64_t bad = 0;
        bool swapped, known = emu_matrix_row(descriptor, n, &at, &swapped);
        if (!known || at > cta->launch->shared_bytes || cta->launch->shared_bytes - at < 32) {
            emu_fault(w, i, 0, known ? FAULT_ADDRESS : FAULT_TRAP, descriptor, known
                ? "matrix out of shared memory's bounds" : "matrix that is not of rows swizzled by 128 bytes");
            return false;
        }
        if (emu_check_level != CHECKS_ALL)
            continue;
        uint64_t bytes = 0xffffffffull << (at & 63);
        cta->lines.held[at / 64] += wait ? UINT32_MAX : 1;
        const char *what = emu_line_touch(&cta->lines, &me, at / 64, bytes, ACCESS_READ, &bad);
        if (!what && cta->lines.unproxied[at / 64] & bytes)
            what = "read before fence.proxy.async";
        if (what) {
            emu_fault(w, i, 0, what[0] == 'u' ? FAULT_UNINITIALISED : FAULT_RACE, at, what);
            return false;
        }
    }
    return true;
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
    if (bad)
        emu_fault(w, i, __builtin_ctz(bad), FAULT_ADDRESS, a[__builtin_ctz(bad)],
                  param ? "parameter read out of bounds" : "local access out of bounds");
    m &= ~bad;
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
