/* slots.c - virtual registers to rows of the register file.
 *
 * PTX's registers are written once, so a file of all of them would not fit any cache. Liveness is computed
 * over the control flow (a definition under a predicate does not end a life, as the other lanes keep the old
 * value), each register's life is the interval from its first to its last live instruction, and a linear scan
 * gives out rows. Writes are masked by lane, so the liveness of one thread is the liveness of the warp.
 */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

enum { ROW = 128, UNUSED = -1 };

typedef struct {
    int from, to;
    uint32_t vreg;
} interval;

typedef struct {
    emu_decoder *d;
    uint32_t *first_ref;        /* of each instruction; refs are in order of instructions */
    uint32_t words;
    uint64_t *live, **at_label;
    interval *of;
} liveness;

static void extend(liveness *v, int at)
{
    for (uint32_t w = 0; w < v->words; w++) {
        for (uint64_t bits = v->live[w]; bits; bits &= bits - 1) {
            interval *i = &v->of[64 * w + (uint32_t)__builtin_ctzll(bits)];
            if (i->from == UNUSED || i->from > at)
                i->from = at;
            if (i->to < at)
                i->to = at;
        }
    }
}

static void touch(interval *i, int at)
{
    if (i->from == UNUSED || i->from > at)
        i->from = at;
    if (i->to < at)
        i->to = at;
}

static bool predicated(liveness *v, uint32_t insn)
{
    return v->d->ref[v->first_ref[insn]].vreg != v->d->true_vreg;
}

/* Steps the live set backwards over one instruction; true when a label's set grew. */
static bool step(liveness *v, uint32_t n, bool record)
{
    emu_insn *i = &v->d->kernel->code[n];
    bool partial = predicated(v, n), grew = false;
    if (i->op == OP_RET && !partial)
        memset(v->live, 0, v->words * 8);
    if (i->op == OP_BRA) {
        const uint64_t *there = v->at_label[i->target];
        for (uint32_t w = 0; w < v->words; w++)
            v->live[w] = (partial ? v->live[w] : 0) | there[w];
    }
    if (record)
        extend(v, (int)n);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t r = v->first_ref[n]; r < v->first_ref[n + 1]; r++) {
            emu_ref *ref = &v->d->ref[r];
            uint64_t bit = 1ull << (ref->vreg & 63);
            if (ref->def && !pass && !partial)
                v->live[ref->vreg / 64] &= ~bit;
            if (!ref->def && pass)
                v->live[ref->vreg / 64] |= bit;
            if (record)
                touch(&v->of[ref->vreg], (int)n);
        }
    }
    if (record)
        extend(v, (int)n);
    if (i->op == OP_JOIN) {
        for (uint32_t w = 0; w < v->words; w++) {
            grew |= (v->live[w] & ~v->at_label[n][w]) != 0;
            v->at_label[n][w] |= v->live[w];
        }
    }
    return grew;
}

static void solve(liveness *v)
{
    uint32_t count = v->d->kernel->count;
    bool grew = true;
    while (grew) {
        grew = false;
        memset(v->live, 0, v->words * 8);
        for (uint32_t n = count; n-- > 0;)
            grew |= step(v, n, false);
    }
    memset(v->live, 0, v->words * 8);
    for (uint32_t n = count; n-- > 0;)
        step(v, n, true);
}

static int by_start(const void *a, const void *b)
{
    const interval *x = a, *y = b;
    return x->from != y->from ? (x->from < y->from ? -1 : 1) : (x->vreg < y->vreg ? -1 : x->vreg > y->vreg);
}

typedef struct {
    uint32_t *free[3];
    uint32_t frees[3], top, word, word_end;
} rows;

static uint32_t row_take(rows *r, enum emu_class cls)
{
    if (r->frees[cls])
        return r->free[cls][--r->frees[cls]];
    if (cls == CLASS_PRED) {
        if (r->word == r->word_end) {
            r->word = r->top;
            r->word_end = r->top += ROW;
        }
        r->word += 4;
        return r->word - 4;
    }
    uint32_t at = r->top;
    r->top += cls == CLASS_64 ? 2 * ROW : ROW;
    return at;
}

static bool scan(emu_decoder *d, interval *sorted, uint32_t n)
{
    rows r = {0};
    uint32_t active_count = 0, *active = malloc((n + 1) * sizeof *active);
    bool ok = active != NULL;
    for (int c = 0; c < 3; c++)
        ok &= (r.free[c] = malloc((n + 1) * sizeof(uint32_t))) != NULL;
    for (uint32_t i = 0; ok && i < d->vregs; i++)
        if (d->vreg[i].pinned)
            d->vreg[i].slot = row_take(&r, d->vreg[i].cls);
    for (uint32_t i = 0; ok && i < n; i++) {
        for (uint32_t a = 0; a < active_count;) {
            interval *old = &sorted[active[a]];
            emu_vreg *v = &d->vreg[old->vreg];
            if (old->to >= sorted[i].from) {
                a++;
                continue;
            }
            r.free[v->cls][r.frees[v->cls]++] = v->slot;
            active[a] = active[--active_count];
        }
        emu_vreg *v = &d->vreg[sorted[i].vreg];
        v->slot = row_take(&r, v->cls);
        active[active_count++] = i;
    }
    d->kernel->wgmma_rows = r.top;
    d->kernel->reg_bytes = r.top + (d->kernel->wgmma_count ? 6 * ROW : 0);
    for (int c = 0; c < 3; c++)
        free(r.free[c]);
    free(active);
    return ok;
}

static void patch(emu_decoder *d)
{
    emu_kernel *k = d->kernel;
    for (uint32_t r = 0; r < d->refs; r++) {
        emu_ref *ref = &d->ref[r];
        emu_insn *i = &k->code[ref->insn];
        uint32_t slot = d->vreg[ref->vreg].slot;
        if (ref->field == FIELD_PRED)
            i->pred = slot;
        else if (ref->field >= FIELD_WGMMA)
            memcpy((uint32_t *)&k->wgmma[i->extra] + (ref->field - FIELD_WGMMA), &slot, sizeof slot);
        else if (ref->field >= FIELD_MMA)
            memcpy((uint32_t *)&k->mma[i->extra] + (ref->field - FIELD_MMA), &slot, sizeof slot);
        else
            i->o[ref->field] = slot;
    }
    for (uint32_t c = 0; c < k->constant_count; c++)
        k->constant[c].slot = d->vreg[d->constant_vreg[c]].slot;
    for (int s = 0; s < SPECIAL_COUNT; s++)
        k->special[s] = d->vreg[d->special_vreg[s]].slot;
    k->true_slot = d->vreg[d->true_vreg].slot;
}

static void liveness_free(liveness *v, uint32_t count)
{
    for (uint32_t n = 0; v->at_label && n < count; n++)
        free(v->at_label[n]);
    free(v->at_label);
    free(v->live);
    free(v->of);
    free(v->first_ref);
}

static bool liveness_alloc(liveness *v)
{
    emu_decoder *d = v->d;
    uint32_t count = d->kernel->count;
    v->words = (d->vregs + 63) / 64;
    v->live = calloc(v->words + 1, 8);
    v->at_label = calloc(count + 1, sizeof *v->at_label);
    v->of = malloc((d->vregs + 1) * sizeof *v->of);
    v->first_ref = calloc(count + 2, sizeof *v->first_ref);
    bool ok = v->live && v->at_label && v->of && v->first_ref;
    for (uint32_t n = 0; ok && n < count; n++)
        if (d->kernel->code[n].op == OP_JOIN)
            ok = (v->at_label[n] = calloc(v->words + 1, 8)) != NULL;
    for (uint32_t i = 0; ok && i < d->vregs; i++)
        v->of[i] = (interval){UNUSED, UNUSED, i};
    for (uint32_t r = 0, n = 0; ok && n <= count; n++) {
        while (r < d->refs && d->ref[r].insn < n)
            r++;
        v->first_ref[n] = r;
    }
    if (ok)
        v->first_ref[count] = d->refs;
    return ok;
}

bool emu_slots(emu_decoder *d)
{
    liveness v = {.d = d};
    bool ok = liveness_alloc(&v);
    if (ok) {
        solve(&v);
        uint32_t n = 0;
        for (uint32_t i = 0; i < d->vregs; i++)
            if (v.of[i].from != UNUSED && !d->vreg[i].pinned)
                v.of[n++] = v.of[i];
        qsort(v.of, n, sizeof *v.of, by_start);
        ok = scan(d, v.of, n);
    }
    if (ok)
        patch(d);
    liveness_free(&v, d->kernel->count);
    return ok;
}
