#include "token/trie.h"

#include "base/mem.h"
#include "token/parts.h"

static void put_edge(cdl_trie *t, uint64_t e)
{
    uint64_t key = e >> CDL_TRIE_NODE_BITS;
    uint32_t at = (uint32_t)((key + 1) * 0x9e3779b97f4a7c15ull >> t->shift);
    while (t->edge[at])
        at = (at + 1) & (t->slots - 1);
    t->edge[at] = e;
}

cuddle_status cdl_trie_reserve(cdl_trie *t, size_t nodes)
{
    cdl_trie old = *t;
    if (2 * nodes <= t->slots)
        return CUDDLE_OK;
    t->slots = old.slots ? old.slots : 1024;
    t->shift = old.slots ? old.shift : 54;
    for (; t->slots < 2 * nodes && t->slots < 1u << 31; t->shift--)
        t->slots *= 2;
    t->edge = cdl_mem_zalloc(t->slots, sizeof *t->edge);
    if (!t->edge) {
        *t = old;
        return cdl_status_nomem("a trie");
    }
    for (uint32_t i = 0; i < old.slots; i++)
        if (old.edge[i])
            put_edge(t, old.edge[i]);
    cdl_mem_free(old.edge);
    return CUDDLE_OK;
}

cuddle_status cdl_trie_root(cdl_trie *t, uint32_t *node)
{
    if (t->nodes >> CDL_TRIE_NODE_BITS)
        return cdl_status_fail(CUDDLE_ERR_FULL, "a vocabulary's texts have over %d beginnings",
                1 << CDL_TRIE_NODE_BITS);
    CDL_TRY(cdl_trie_reserve(t, t->nodes + (size_t)1));
    CDL_TRY(cdl_work_grow(&t->id, &t->cap, t->nodes + (size_t)1, sizeof *t->id));
    t->id[t->nodes] = -1;
    *node = t->nodes++;
    return CUDDLE_OK;
}

cuddle_status cdl_trie_add(cdl_trie *t, uint32_t root, const char *s, size_t n, int32_t id)
{
    uint32_t node = root;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = cdl_trie_next(t, node, (uint8_t)s[i]);
        if (!next) {
            CDL_TRY(cdl_trie_root(t, &next));
            put_edge(t, ((uint64_t)node << 8 | (uint8_t)s[i]) << CDL_TRIE_NODE_BITS | next);
        }
        node = next;
    }
    t->id[node] = id;
    return CUDDLE_OK;
}

void cdl_trie_free(cdl_trie *t)
{
    cdl_mem_free(t->edge);
    cdl_mem_free(t->id);
    *t = (cdl_trie){ 0 };
}
