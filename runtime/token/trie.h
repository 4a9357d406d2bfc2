/* trie.h - texts by their bytes: which of them a text begins with, or ends with. Tests: tests/unit/test_trie.c
 *
 * Nodes are cells; the children of one stand at its base with the byte's bits turned. */
#ifndef CDL_TRIE_H
#define CDL_TRIE_H

#include "base/status.h"

typedef struct {
    const char *s;
    uint32_t n;
    int32_t id;                /* >= 0; one for equal texts */
} cdl_trie_text;

typedef struct {
    uint32_t base, parent;     /* parent: CDL_CELL_FREE, CDL_CELL_ROOT or a cell                    */
    uint32_t suffix;           /* the cell of the longest text that this one ends with               */
    int32_t id;                /* of the text that ends there, or that it ends with (suffixes), or -1 */
} cdl_cell;

enum { CDL_CELL_BLOCK = 256 };
#define CDL_CELL_FREE UINT32_MAX
#define CDL_CELL_ROOT (UINT32_MAX - 1)

/* A zeroed one is empty and valid. */
typedef struct {
    cdl_cell *v;
    uint32_t n;                /* a multiple of CDL_CELL_BLOCK */
    size_t cap;
} cdl_trie;

/* Makes a trie of texts, which become sorted; the first [0, split) are below cell 0, the others below cell 1.
 * shorter: NULL, or when all are below cell 0, room for an entry an id: the longest text that this one ends with,
 * itself not counted, or -1; then cells have suffixes. Errors: NOMEM, FULL (over 2^31 bytes). */
CUDDLE_CHECK cuddle_status cdl_trie_make(cdl_trie *out, cdl_trie_text *text, size_t n, size_t split, int32_t *shorter);
void cdl_trie_free(cdl_trie *t);

/* The cell below, or 0: none. */
static inline uint32_t cdl_trie_next(const cdl_trie *t, uint32_t cell, uint8_t byte)
{
    uint32_t next = t->v[cell].base ^ byte;
    return t->v[next].parent == cell ? next : 0;
}

/* The same, or that of the longest suffix that goes on so; or 0. */
static inline uint32_t cdl_trie_follow(const cdl_trie *t, uint32_t cell, uint8_t byte)
{
    for (;;) {
        uint32_t next = t->v[cell].base ^ byte;
        if (t->v[next].parent == cell)
            return next;
        if (!cell)
            return 0;
        cell = t->v[cell].suffix;
    }
}

#endif
