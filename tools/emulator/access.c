/* access.c - atomics, fences and the landing of asynchronous copies, the same for every CPU. */
#include "emu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t as_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float half_value(uint16_t h)
{
    int e = h >> 10 & 31, f = h & 1023;
    float r = e == 31 ? (f ? NAN : INFINITY) : e ? ldexpf((float)(f + 1024), e - 25) : ldexpf((float)f, -24);
    return h & 0x8000 ? -r : r;
}

static uint16_t half_bits(float x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    float a = fabsf(x);
    if (x != x)
        return 0x7fff;
    if (a >= 65520.0f)
        return sign | 0x7c00;
    int e;
    frexpf(a, &e);
    e = e < -13 ? -13 : e;
    return sign | (uint16_t)((uint32_t)nearbyintf(ldexpf(a, 11 - e)) + ((uint32_t)(e + 13) << 10));
}

static uint16_t bf16_bits(float x)
{
    uint32_t u = as_bits(x);
    return x != x ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint32_t add_pairs(uint32_t a, uint32_t b, bool bf16)
{
    uint32_t r = 0;
    for (int h = 0; h < 32; h += 16) {
        uint16_t x = (uint16_t)(a >> h), y = (uint16_t)(b >> h);
        if (bf16)
            r |= (uint32_t)bf16_bits(as_float((uint32_t)x << 16) + as_float((uint32_t)y << 16)) << h;
        else
            r |= (uint32_t)half_bits(half_value(x) + half_value(y)) << h;
    }
    return r;
}

static uint64_t atom_float(const emu_insn *i, uint64_t old, uint64_t b)
{
    if (i->count)
        return add_pairs((uint32_t)old, (uint32_t)b, i->count == 2);
    if (i->size == 4)
        return as_bits(as_float((uint32_t)old) + as_float((uint32_t)b));
    double x, y;
    memcpy(&x, &old, 8);
    memcpy(&y, &b, 8);
    x += y;
    memcpy(&old, &x, 8);
    return old;
}

static uint64_t atom_apply(const emu_insn *i, uint64_t old, uint64_t b, uint64_t c)
{
    int64_t x = i->size == 4 ? (int32_t)old : (int64_t)old, y = i->size == 4 ? (int32_t)b : (int64_t)b;
    bool less = i->is_signed ? x < y : old < b;
    switch (i->sub) {
    case ATOM_ADD: return i->is_float ? atom_float(i, old, b) : old + b;
    case ATOM_MIN: return less ? old : b;
    case ATOM_MAX: return less ? b : old;
    case ATOM_AND: return old & b;
    case ATOM_OR: return old | b;
    case ATOM_XOR: return old ^ b;
    case ATOM_EXCH: return b;
    case ATOM_CAS: return old == b ? c : old;
    case ATOM_INC: return old >= b ? 0 : old + 1;
    default: return !old || old > b ? b : old - 1;
    }
}

static uint64_t row_value(emu_warp *w, const emu_insn *i, int operand, uint32_t l)
{
    return i->wide_data ? emu_u64(w, i->o[operand])[l] : emu_u32(w, i->o[operand])[l];
}

/* o: old value, address, b, c */
void emu_op_atom(emu_warp *w, const emu_insn *i, uint32_t m)
{
    emu_request q;
    if (!m)
        return;
    for (int l = 0; l < LANES; l++)
        q.a[l] = (i->wide_address ? emu_u64(w, i->o[1])[l] : emu_u32(w, i->o[1])[l]) + (uint64_t)i->imm;
    bool shared = i->space == SPACE_SHARED;
    if (i->space == SPACE_GENERIC && (q.a[__builtin_ctz(m)] & WINDOW_MASK) == SHARED_WINDOW) {
        shared = true;
        for (int l = 0; l < LANES; l++)
            q.a[l] &= ~WINDOW_MASK;
    }
    emu_request_sum(&q, m, i->size);
    if (!shared)
        emu_lock_take(w->cta->launch);
    m = shared ? emu_check_shared(w, i, &q, m, i->size, ACCESS_ATOMIC)
        : emu_check_global(w, i, &q, m, i->size, ACCESS_ATOMIC);
    EACH_LANE(l, m) {
        void *at = shared ? w->cta->shared + q.a[l] : (void *)q.a[l];
        uint64_t old = 0, b = row_value(w, i, 2, l), c = i->sub == ATOM_CAS ? row_value(w, i, 3, l) : 0;
        memcpy(&old, at, i->size);
        uint64_t new = atom_apply(i, old, b, c);
        memcpy(at, &new, i->size);
        if (i->n)
            continue;
        if (i->wide_data)
            emu_u64(w, i->o[0])[l] = old;
        else
            emu_u32(w, i->o[0])[l] = (uint32_t)old;
    }
    if (!shared)
        emu_lock_give(w->cta->launch);
}

void emu_op_fence(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    if (m)
        w->cta->unfenced = false;
}

void emu_op_grid_wait(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    w->waited |= m;
}

void emu_copy_add(emu_warp *w, const emu_insn *i, const emu_copy *c)
{
    if (w->copy_count == w->copy_capacity) {
        size_t capacity = w->copy_capacity ? 2 * w->copy_capacity : 64;
        emu_copy *grown = realloc(w->copy, capacity * sizeof *grown);
        if (!grown) {
            emu_fault(w, i, 0, FAULT_TRAP, c->src, "out of host memory");
            return;
        }
        w->copy = grown;
        w->copy_capacity = capacity;
    }
    emu_shared_begin(w, c->dst, c->n);
    w->copy[w->copy_count] = *c;
    w->copy[w->copy_count++].group = w->group;
}

void emu_op_copy_commit(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    w->group += m != 0;
}

/* What the warp wrote to shared memory may be read by the asynchronous proxy. */
void emu_op_proxy_fence(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    for (size_t n = 0; m && n < w->unproxied_count; n++)
        w->cta->lines.unproxied[w->unproxied[n].line] &= ~w->unproxied[n].bytes;
    w->unproxied_count = m ? 0 : w->unproxied_count;
}

void emu_op_wgmma_fence(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    w->product_fenced |= m != 0;
}

void emu_op_wgmma_commit(emu_warp *w, const emu_insn *i, uint32_t m)
{
    (void)i;
    w->product_group += m != 0;
    w->product_fenced &= !m;
}

/* One more product under way; NULL: no memory. */
emu_product *emu_product_add(emu_warp *w, const emu_insn *i)
{
    if (w->product_count == w->product_capacity) {
        size_t capacity = w->product_capacity ? 2 * w->product_capacity : 16;
        emu_product *grown = aligned_alloc(64, capacity * sizeof *grown);
        if (!grown) {
            emu_fault(w, i, 0, FAULT_TRAP, 0, "out of host memory");
            return NULL;
        }
        if (w->product_count)
            memcpy(grown, w->product, w->product_count * sizeof *grown);
        free(w->product);
        w->product = grown;
        w->product_capacity = capacity;
    }
    emu_product *p = &w->product[w->product_count++];
    p->insn = i;
    p->group = w->product_group;
    return p;
}

/* Lands the copies of the groups before `before`; copies are in order of groups. */
void emu_copy_land(emu_warp *w, uint32_t before)
{
    size_t n = 0;
    for (; n < w->copy_count && (int32_t)(w->copy[n].group - before) < 0; n++) {
        emu_copy *c = &w->copy[n];
        uint8_t *to = w->cta->shared + c->dst;
        memcpy(to, (const void *)c->src, c->src_n);
        memset(to + c->src_n, 0, c->n - c->src_n);
        emu_shared_landed(w, c->dst, c->n);
    }
    w->copy_count -= n;
    memmove(w->copy, w->copy + n, w->copy_count * sizeof *w->copy);
}

void emu_op_copy_wait(emu_warp *w, const emu_insn *i, uint32_t m)
{
    if (m && w->copy_count)
        emu_copy_land(w, i->imm < 0 ? w->group + 1 : w->group - (uint32_t)i->imm);
}
