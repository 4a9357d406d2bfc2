/* flow.c - branches, reconvergence, barriers, the end of a warp.
 *
 * A diverged warp is a set of fragments (pc, lanes); the one with the lowest pc runs, so lanes meet again at
 * the first instruction that both reach. Progress: after many backward branches the warp lets another fragment
 * run for a while (a lane may wait for what a lane behind it does), and the CTA lets other warps run.
 */
#include "emu.h"

enum { HOLD_JOINS = 64 };

static const emu_insn *code(emu_warp *w, uint32_t pc) { return &w->cta->launch->kernel->code[pc]; }
static uint32_t pc_of(emu_warp *w, const emu_insn *i) { return (uint32_t)(i - w->cta->launch->kernel->code); }

static void fragment_add(emu_warp *w, uint32_t pc, uint32_t mask, bool waiting)
{
    for (uint32_t f = 0; f < w->fragment_count; f++) {
        emu_fragment *x = &w->fragment[f];
        if (x->pc == pc && x->waiting == waiting) {
            x->mask |= mask;
            return;
        }
    }
    w->fragment[w->fragment_count++] = (emu_fragment){pc, mask, waiting};
}

/* Takes the runnable fragment with the lowest pc that is at least `least`; false when all wait. */
static bool fragment_take(emu_warp *w, uint32_t least)
{
    uint32_t best = w->fragment_count;
    for (uint32_t f = 0; f < w->fragment_count; f++) {
        emu_fragment *x = &w->fragment[f];
        if (!x->waiting && x->pc >= least && (best == w->fragment_count || x->pc < w->fragment[best].pc))
            best = f;
    }
    if (best == w->fragment_count)
        return false;
    w->next = code(w, w->fragment[best].pc);
    w->active = w->fragment[best].mask;
    w->fragment[best] = w->fragment[--w->fragment_count];
    return true;
}

/* Continues the current lanes at pc, or a fragment that is behind them. */
static void go_on(emu_warp *w, uint32_t pc)
{
    if (w->fragment_count) {
        fragment_add(w, pc, w->active, false);
        uint32_t least = 0;
        if (w->hold) {
            w->hold--;
            least = pc;
        }
        fragment_take(w, least);
        return;
    }
    w->next = code(w, pc);
}

void emu_flow_join(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)m;
    if (w->fragment_count) {
        uint32_t pc = pc_of(w, i);
        go_on(w, pc);
        if (w->next != i)
            return;
    }
    w->next = i + 1;
}

/* Too long in loops: lets the fragment behind the loop run, and then the other warps. */
static void yield(emu_warp *w, uint32_t pc)
{
    w->budget = BACKWARD_BUDGET;
    if (w->fragment_count) {
        fragment_add(w, pc, w->active, false);
        w->hold = HOLD_JOINS;
        if (!fragment_take(w, pc + 1))
            fragment_take(w, 0);
    } else {
        w->next = code(w, pc);
    }
    w->resume = pc_of(w, w->next);
    fragment_add(w, w->resume, w->active, false);
    w->next = NULL;
}

void emu_flow_bra(emu_warp *w, const emu_insn *i, uint32_t m)
{
    uint32_t pc = pc_of(w, i), rest = w->active & ~m;
    emu_counters *counters = w->cta->launch->counters;
    if (counters) {
        counters->branches++;
        counters->divergent += m && rest;
    }
    if (!m) {
        go_on(w, pc + 1);
        return;
    }
    if (rest) {
        fragment_add(w, i->target > pc ? i->target : pc + 1, i->target > pc ? m : rest, false);
        w->active = i->target > pc ? rest : m;
    }
    uint32_t to = rest && i->target > pc ? pc + 1 : i->target;
    if (to <= pc && (w->cta->launch->fault || !--w->budget)) {
        if (w->cta->launch->fault) {
            w->next = NULL;
            w->done = true;
            return;
        }
        yield(w, to);
        return;
    }
    go_on(w, to);
}

void emu_flow_ret(emu_warp *w, const emu_insn *i, uint32_t m)
{
    emu_check_waited(w, i, m);
    if (m && w->product_count)
        emu_fault(w, i, __builtin_ctz(m), FAULT_SYNC, 0, "a warp ends before its wgmma");
    w->alive &= ~m;
    w->active &= ~m;
    if (w->active) {
        go_on(w, pc_of(w, i) + 1);
    } else if (!fragment_take(w, 0)) {
        w->next = NULL;
        w->done = !w->alive;
        w->at_barrier = w->alive != 0;
    }
}

void emu_flow_trap(emu_warp *w, const emu_insn *i, uint32_t m)
{
    w->next = i + 1;
    if (m) {
        emu_fault(w, i, __builtin_ctz(m), FAULT_TRAP, 0, "trap");
        w->next = NULL;
        w->done = true;
    }
}

static uint32_t uniform(emu_warp *w, uint32_t o, uint32_t m) { return emu_u32(w, o)[__builtin_ctz(m)]; }

/* The lanes of m arrive; the warp leaves the loop when none of its lanes can run. */
void emu_flow_bar(emu_warp *w, const emu_insn *i, uint32_t m)
{
    uint32_t pc = pc_of(w, i) + 1;
    w->next = i + 1;
    if (!m)
        return;
    uint32_t id = uniform(w, i->o[1], m), count = i->has_pred_dst ? uniform(w, i->o[2], m) : 0;
    if (id >= BARRIERS) {
        emu_fault(w, i, __builtin_ctz(m), FAULT_BARRIER, id, "barrier number above 15");
        return;
    }
    if (m != w->alive && i->n && emu_check_level != CHECKS_OFF)
        emu_fault(w, i, __builtin_ctz(m), FAULT_BARRIER, id, "divergent barrier");
    w->cta->arrived[id] += i->n ? LANES : (uint32_t)__builtin_popcount(m);
    w->barrier = id;
    w->barrier_count = count;
    if (i->sub)
        return;
    fragment_add(w, pc, m, true);
    if (w->active & ~m)
        fragment_add(w, pc, w->active & ~m, false);
    if (!fragment_take(w, 0)) {
        w->next = NULL;
        w->at_barrier = true;
    }
}

/* All that waited go on. */
void emu_flow_release(emu_warp *w)
{
    uint32_t n = w->fragment_count;
    emu_fragment old[FRAGMENTS_MAX];
    for (uint32_t f = 0; f < n; f++)
        old[f] = w->fragment[f];
    w->fragment_count = 0;
    for (uint32_t f = 0; f < n; f++)
        fragment_add(w, old[f].pc, old[f].mask, false);
    w->at_barrier = false;
}

static void loop(emu_warp *w, const emu_insn *i)
{
    uint64_t executed = 0;
    for (;;) {
        uint32_t m = w->active & (*(const uint32_t *)(w->reg + i->pred) ^ i->negate);
        i->fn(w, i, m);
        executed++;
        if (!i->flow) {
            i++;
            continue;
        }
        i = w->next;
        if (!i)
            break;
    }
    w->executed += executed;
}

/* The same, counting, and stopping after w->slice instructions when that is not 0. */
static void loop_watched(emu_warp *w, const emu_insn *i)
{
    for (uint32_t left = w->slice; i; left--) {
        uint32_t m = w->active & (*(const uint32_t *)(w->reg + i->pred) ^ i->negate);
        uint32_t pc = pc_of(w, i);
        if (w->slice && !left) {
            fragment_add(w, pc, w->active, false);
            w->resume = pc;
            return;
        }
        if (w->hits) {
            w->hits[pc]++;
            w->lane_hits[pc] += (uint32_t)__builtin_popcount(m);
        }
        i->fn(w, i, m);
        w->executed++;
        i = i->flow ? w->next : i + 1;
    }
}

/* Runs the warp until it waits, ends or has had its share; false when it could not run. */
bool emu_flow_run(emu_warp *w)
{
    uint32_t least = w->resume;
    w->resume = 0;
    if (w->done || w->at_barrier || (!fragment_take(w, least) && !fragment_take(w, 0)))
        return false;
    if (!w->slice)
        w->budget = BACKWARD_BUDGET;
    if (w->hits || w->slice)
        loop_watched(w, w->next);
    else
        loop(w, w->next);
    return true;
}
