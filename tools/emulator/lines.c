/* lines.c - who touched which byte: uninitialised reads and races, 64 bytes at a time.
 *
 * A line of 64 bytes has a bit per byte for "was written" and, for the present phase, the bytes that were read,
 * written and touched by atomics, and by whom. In shared memory a phase lies between two barriers and the parties are
 * warps; in global memory it is a launch and they are CTAs. Two parties race on a byte when one of them writes it and
 * no atomic, or no release that the later one acquired, stands between them.
 */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

enum { SEVERAL = 0x7fffffff };

/* Bytes of the set whose party, as recorded byte by byte, is another and not ordered before me. */
static uint64_t others(const emu_party *me, const uint32_t *owner, uint64_t set)
{
    uint64_t r = 0;
    for (; set; set &= set - 1) {
        int b = __builtin_ctzll(set);
        r |= (uint64_t)(owner[b] != me->id && !emu_ordered(me, owner[b])) << b;
    }
    return r;
}

static bool foreign(const emu_party *me, uint32_t who)
{
    return who != me->id && !(who == SEVERAL ? me->acquired != NULL : emu_ordered(me, who));
}

static uint64_t written_by_others(const emu_party *me, const emu_line *x, const uint32_t *owner, uint64_t bytes)
{
    uint64_t r = x->written & bytes && foreign(me, x->writer) ? x->written & bytes : 0;
    return x->written_more & bytes ? r | others(me, owner, x->written_more & bytes) : r;
}

static uint64_t read_by_others(const emu_party *me, const emu_line *x, const uint32_t *owner, uint64_t bytes)
{
    uint64_t r = x->read & bytes && foreign(me, x->reader) ? x->read & bytes : 0;
    if (x->read_more & bytes)
        r |= others(me, owner, x->read_more & bytes);
    return me->acquired ? r : r | (x->read_many & bytes);
}

static void read_note(const emu_party *me, emu_line *x, uint32_t *owner, uint64_t bytes)
{
    bytes &= ~x->read_many;
    if (!bytes)
        return;
    if (!x->read && !x->read_more)
        x->reader = me->id;
    if (x->reader == me->id) {
        x->read |= bytes & ~x->read_more;
        bytes &= x->read_more;
    } else {
        x->read_many |= bytes & x->read;
        bytes &= ~x->read;
    }
    for (; bytes; bytes &= bytes - 1) {
        int b = __builtin_ctzll(bytes);
        uint64_t bit = 1ull << b;
        if (!(x->read_more & bit))
            owner[b] = me->id;
        else if (owner[b] != me->id)
            x->read_many |= bit;
        x->read_more |= bit;
    }
}

static void write_note(const emu_party *me, emu_line *x, uint32_t *owner, uint64_t bytes)
{
    if (!x->written && !x->written_more)
        x->writer = me->id;
    if (x->writer == me->id) {
        x->written |= bytes & ~x->written_more;
        bytes &= x->written_more;
    } else {
        x->written &= ~bytes;
        x->written_more |= bytes;
    }
    for (; bytes; bytes &= bytes - 1)
        owner[__builtin_ctzll(bytes)] = me->id;
}

/* Records an access to bytes of line n; the bytes that must not be touched go to *bad, and why is returned. */
const char *emu_line_touch(emu_lines *t, const emu_party *me, uint64_t n, uint64_t bytes, enum emu_access how,
                           uint64_t *bad)
{
    emu_line *x = &t->line[n];
    bool reads = how == ACCESS_READ || how == ACCESS_ATOMIC || how == ACCESS_STRONG_READ;
    bool writes = how == ACCESS_WRITE || how == ACCESS_COPY, strong = how >= ACCESS_ATOMIC;
    uint32_t *reader = t->reader + 64 * n, *writer = t->writer + 64 * n;
    const char *what = NULL;
    if (x->phase != me->phase)
        *x = (emu_line){.phase = me->phase};
    if (reads && (*bad = bytes & ~t->init[n]))
        what = "uninitialised read";
    else if ((*bad = written_by_others(me, x, writer, bytes)))
        what = "race with a write";
    else if (!strong && x->atomics & bytes && foreign(me, x->atomic) && (*bad = x->atomics & bytes))
        what = "race with an atomic";
    else if (how != ACCESS_READ && how != ACCESS_STRONG_READ && (*bad = read_by_others(me, x, reader, bytes)))
        what = "race with a read";
    if (how == ACCESS_READ)
        read_note(me, x, reader, bytes);
    else if (writes)
        write_note(me, x, writer, bytes);
    if (how == ACCESS_ATOMIC || how == ACCESS_STRONG_WRITE) {
        x->atomic = x->atomics && x->atomic != me->id ? SEVERAL : me->id;
        x->atomics |= bytes;
    }
    if (how != ACCESS_READ && how != ACCESS_STRONG_READ)
        t->init[n] |= bytes;
    return what;
}

static uint64_t span_bits(uint32_t bytes, uint64_t at)
{
    return (bytes >= 64 ? ~0ull : (1ull << bytes) - 1) << (at & 63);
}

/* The bytes from..to as pieces of lines. */
static uint32_t pieces_dense(uint64_t from, uint64_t to, emu_piece *out)
{
    uint32_t n = 0;
    while (from < to) {
        uint64_t rest = 64 - (from & 63), bytes = to - from < rest ? to - from : rest;
        out[n++] = (emu_piece){from >> 6, span_bits((uint32_t)bytes, from)};
        from += bytes;
    }
    return n;
}

/* What the lanes of m touch, by lines; each lane lies within one. base is taken off the addresses. */
uint32_t emu_pieces(const emu_request *q, uint32_t m, uint32_t bytes, uint64_t base, emu_piece *out)
{
    uint64_t low = q->low - base, high = q->high - base, first = low >> 6, window[32] = {0};
    uint32_t n = 0;
    if (q->uniform)
        return pieces_dense(low, low + bytes, out);
    if (q->dense)
        return pieces_dense(low, high + bytes, out);
    if (((high + bytes - 1) >> 6) - first < 32) {
        EACH_LANE(l, m)
            window[((q->a[l] - base) >> 6) - first] |= span_bits(bytes, q->a[l]);
        for (uint32_t x = 0; x < 32; x++)
            if (window[x])
                out[n++] = (emu_piece){first + x, window[x]};
        return n;
    }
    EACH_LANE(l, m) {
        uint64_t line = (q->a[l] - base) >> 6, bits = span_bits(bytes, q->a[l]);
        if (n && out[n - 1].line == line)
            out[n - 1].bytes |= bits;
        else
            out[n++] = (emu_piece){line, bits};
    }
    return n;
}

/* ---- order between CTAs: who has acquired what others released ---- */
typedef struct {
    uint64_t address, *released;    /* a bit per CTA */
} sync_point;

struct emu_order {
    sync_point *point;
    uint32_t capacity, count, words;
};

emu_order *emu_order_new(uint64_t ctas)
{
    emu_order *o = calloc(1, sizeof *o);
    if (o)
        o->words = (uint32_t)((ctas + 64) / 64);
    return o;
}

void emu_order_free(emu_order *o)
{
    for (uint32_t n = 0; o && n < o->capacity; n++)
        free(o->point[n].released);
    if (o)
        free(o->point);
    free(o);
}

static sync_point *point_slot(sync_point *point, uint32_t capacity, uint64_t address)
{
    uint32_t at = (uint32_t)((address >> 2) * 0x9e3779b1u) & (capacity - 1);
    while (point[at].address && point[at].address != address)
        at = (at + 1) & (capacity - 1);
    return &point[at];
}

static bool order_grow(emu_order *o)
{
    uint32_t capacity = o->capacity ? 2 * o->capacity : 64;
    sync_point *grown = calloc(capacity, sizeof *grown);
    if (!grown)
        return false;
    for (uint32_t n = 0; n < o->capacity; n++)
        if (o->point[n].address)
            *point_slot(grown, capacity, o->point[n].address) = o->point[n];
    free(o->point);
    o->point = grown;
    o->capacity = capacity;
    return true;
}

/* What the CTA wrote before, and what it has acquired, is there for whoever acquires at the address. */
void emu_order_release(emu_order *o, emu_party *me, uint64_t address)
{
    if (o->count * 2 >= o->capacity && !order_grow(o))
        return;
    sync_point *p = point_slot(o->point, o->capacity, address);
    if (!p->released && !(p->released = calloc(o->words, sizeof *p->released)))
        return;
    o->count += !p->address;
    p->address = address;
    p->released[me->id / 64] |= 1ull << (me->id & 63);
    for (uint32_t n = 0; me->acquired && n < o->words; n++)
        p->released[n] |= me->acquired[n];
}

void emu_order_acquire(emu_order *o, emu_party *me, uint64_t address)
{
    const sync_point *p = o->capacity ? point_slot(o->point, o->capacity, address) : NULL;
    if (!p || !p->released)
        return;
    if (!me->acquired && !(me->acquired = calloc(o->words, sizeof *me->acquired)))
        return;
    for (uint32_t n = 0; n < o->words; n++)
        me->acquired[n] |= p->released[n];
}

bool emu_ordered(const emu_party *me, uint32_t who)
{
    return me->acquired && (me->acquired[who / 64] >> (who & 63) & 1);
}
