#include "token/bpe_merges.h"

#include <string.h>

#include "base/mem.h"

static void put_merge(const cdl_token_model *m, uint64_t x)
{
    uint64_t pair = x >> CDL_MERGE_RANK_BITS;
    uint32_t at = cdl_merge_slot(m, pair), used = 0, same = 0;
    for (uint32_t i = 0; i < CDL_MERGE_LINE; i++) { /* how many are used is hard to foresee for a branch */
        used += m->merge[at + i] != UINT64_MAX;
        same |= m->merge[at + i] >> CDL_MERGE_RANK_BITS == pair;
    }
    at += same ? 0 : used;
    at &= m->merges - 1;
    while (m->merge[at] != UINT64_MAX && m->merge[at] >> CDL_MERGE_RANK_BITS != pair)
        at = (at + 1) & (m->merges - 1);
    m->merge[at] = x;
}

cuddle_status cdl_bpe_reserve_merges(cdl_token_model *m, size_t n)
{
    uint32_t slots = 16 * CDL_MERGE_LINE, shift = 60, old_slots = m->merges;
    for (; slots < 2 * n && slots < 1u << 30; shift--)
        slots *= 2;
    if (slots <= old_slots)
        return CUDDLE_OK;
    uint64_t *old = m->merge, *table = cdl_mem_lines(slots * sizeof *table);
    if (!table)
        return cdl_status_nomem("the merges");
    memset(table, 0xff, slots * sizeof *table);
    m->merge = table;
    m->merges = slots;
    m->merge_shift = shift;
    for (uint32_t i = 0; i < old_slots; i++)
        if (old[i] != UINT64_MAX)
            put_merge(m, old[i]);
    cdl_mem_free(old);
    return CUDDLE_OK;
}

static cuddle_status too_many(void)
{
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "a BPE model has over %d merges", CDL_MERGES_MAX);
}

cuddle_status cdl_bpe_add_merge(cdl_token_model *m, uint32_t a, uint32_t b, uint32_t id)
{
    if (m->n_merges >= CDL_MERGES_MAX)
        return too_many();
    if (2 * ((size_t)m->n_merges + 1) > m->merges)
        CDL_TRY(cdl_bpe_reserve_merges(m, m->merges));
    CDL_TRY(cdl_work_grow(&m->joined, &m->joined_cap, (size_t)m->n_merges + 1, sizeof *m->joined));
    m->joined[m->n_merges] = id;
    put_merge(m, cdl_merge_pair(a, b) << CDL_MERGE_RANK_BITS | m->n_merges++);
    return CUDDLE_OK;
}

cuddle_status cdl_bpe_take_merges(cdl_token_model *m, uint64_t *pair, uint32_t *id, size_t n)
{
    cdl_mem_free(m->waiting);
    cdl_mem_free(m->joined);
    m->waiting = pair;
    m->joined = id;
    m->joined_cap = n;
    m->n_merges = n > CDL_MERGES_MAX ? 0 : (uint32_t)n;
    return n > CDL_MERGES_MAX ? too_many() : CUDDLE_OK;
}

enum { AHEAD = 32 };           /* merges whose slots are asked for at the same time */

cuddle_status cdl_merge_put_waiting(cdl_token_model *m)
{
    const uint64_t *pair = m->waiting;
    size_t n = m->n_merges;
    if (!pair)
        return CUDDLE_OK;
    CDL_TRY(cdl_bpe_reserve_merges(m, n));
    for (size_t i = 0; i < n; i++) {
        __builtin_prefetch(&m->merge[cdl_merge_slot(m, pair[i + AHEAD < n ? i + AHEAD : i])], 1);
        put_merge(m, pair[i] << CDL_MERGE_RANK_BITS | i);
    }
    cdl_mem_free(m->waiting);
    m->waiting = NULL;
    return CUDDLE_OK;
}
