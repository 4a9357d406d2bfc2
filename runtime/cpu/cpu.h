/* cpu.h - the CPU's kernels, by instruction set.
 *
 * For every op a set of kernels has workspace(), the scratch bytes a call needs at its
 * largest, and emit(), which appends the phases (base/pool.h) that run the call. The call
 * passed to emit stays valid until the phases ran. Sets: ref (the plain twins, one
 * chunk each), ref-bf16 and ref-f16 (the same, rounding), avx2, avx512 (VNNI), amx. A set may
 * take kernels of a lower one.
 * Read first: graph/op.h, base/pool.h, pack.h.   Tests: tests/kernel/
 */
#ifndef CDL_CPU_H
#define CDL_CPU_H

#include "base/pool.h"
#include "graph/op.h"

/* Phases of a step; room is reserved by the planner, so append cannot fail. */
typedef struct {
    cdl_phase *items;
    uint32_t n, cap;
} cdl_phases;

enum {
    CDL_CPU_PHASES = 4,                 /* at most, of one call                      */
    CDL_CPU_SCRATCH_BYTES = 384 << 10   /* of a thread: all that a kernel may use    */
};

static inline void cdl_phases_add(cdl_phases *p, cdl_phase phase)
{
    p->items[p->n++] = phase;
}

typedef struct {
    size_t (*workspace)(const cdl_call *largest);       /* NULL: none needed */
    void (*emit)(const cdl_call *call, uint32_t threads, cdl_phases *out);
} cdl_cpu_kernel;

typedef struct {
    const char *name;                       /* "avx512"                                     */
    cdl_cpu_kernel kernel[CDL_OP_COUNT];
    size_t scratch_bytes;                   /* a thread's scratch for cdl_pool_new          */
} cdl_cpu_set;

/* name: "ref" ("ref-bf16", "ref-f16": with values rounded as cpu/ref/rounded.c says; activations and state are to
 * be f32), "avx2", "avx512", "amx", or NULL for the best that this CPU has.
 * UNSUPPORTED, with what the CPU has, when it lacks it. */
CUDDLE_CHECK cuddle_status cdl_cpu_select(const cdl_cpu_set **out, const char *name);

/* The plain twins, cpu/ref/<op>.c: whole op, one thread, f32 in and out, sums in f64. */
#define X(id, name, least, most, attrs, tolerance, split) void cdl_ref_##id(const cdl_call *c);
#include "graph/ops.def"
#undef X

/* A twin in type t; see cpu/ref/rounded.c. It rounds the call's inputs where they lie. */
void cdl_ref_rounded(const cdl_call *c, cdl_dtype t, void (*twin)(const cdl_call *c));

/* State pages, cpu/state.c: bytes of a page of one layer, for CDL_PAGE_TOKENS tokens. */
size_t cdl_cpu_page_bytes(cdl_dtype t, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim);

#endif
