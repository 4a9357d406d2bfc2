/* trie.h - texts by their bytes: which of them a text begins with. Tests: tests/unit/test_trie.c */
#ifndef CDL_TRIE_H
#define CDL_TRIE_H

#include "base/status.h"

enum { CDL_TRIE_NODE_BITS = 28 };

/* Edges in one table, by node and byte. A zeroed one is empty and valid. */
typedef struct {
    uint64_t *edge;            /* node, byte, child; 0: empty          */
    uint32_t slots, shift;     /* a power of two                       */
    int32_t *id;               /* [nodes] of the text that ends there, or -1 */
    uint32_t nodes;
    size_t cap;
} cdl_trie;

/* Room for about so many nodes, so that adding them is cheap. */
CUDDLE_CHECK cuddle_status cdl_trie_reserve(cdl_trie *t, size_t nodes);
/* A node with nothing above it; the first is 0. */
CUDDLE_CHECK cuddle_status cdl_trie_root(cdl_trie *t, uint32_t *node);
/* Adds a text of n >= 1 bytes below a root. Errors: NOMEM, FULL (over 2^28 nodes). */
CUDDLE_CHECK cuddle_status cdl_trie_add(cdl_trie *t, uint32_t root, const char *s, size_t n, int32_t id);
void cdl_trie_free(cdl_trie *t);

/* The node below, or 0: none. */
static inline uint32_t cdl_trie_next(const cdl_trie *t, uint32_t node, uint8_t byte)
{
    uint64_t key = (uint64_t)node << 8 | byte, e;
    uint32_t at = (uint32_t)((key + 1) * 0x9e3779b97f4a7c15ull >> t->shift);
    for (; (e = t->edge[at]); at = (at + 1) & (t->slots - 1))
        if (e >> CDL_TRIE_NODE_BITS == key)
            return (uint32_t)e & ((1u << CDL_TRIE_NODE_BITS) - 1);
    return 0;
}

#endif
