#include "token/trie.h"

#include <string.h>

#include "base/mem.h"
#include "token/parts.h"

enum { TRIES = 32, OPEN_BLOCKS = 16, BLOCK_WORDS = CDL_CELL_BLOCK / 64, BYTES = 256 };

/* The texts [begin, end) that have the first so many bytes in common. */
typedef struct {
    uint32_t begin, end, depth, cell;
} node;

typedef struct {
    cdl_trie *t;
    cdl_trie_text *text, *sorted; /* [n] each; sorted: room */
    node *node;                /* [nodes], by depth */
    size_t nodes, cap_node, cap_free;
    uint64_t *free;            /* a bit a cell */
    uint32_t from;             /* the first word of free that is looked at */
    uint32_t count[BYTES];     /* by byte; 0 between nodes */
    uint8_t byte[BYTES];       /* those that texts of the node at hand go on with */
} making;

/* ---- Cells ---- */

static cuddle_status add_block(making *p)
{
    cdl_trie *t = p->t;
    CDL_TRY(cdl_work_grow(&t->v, &t->cap, (size_t)t->n + CDL_CELL_BLOCK, sizeof *t->v));
    CDL_TRY(cdl_work_grow(&p->free, &p->cap_free, (size_t)t->n / 64 + BLOCK_WORDS, sizeof *p->free));
    for (uint32_t i = 0; i < CDL_CELL_BLOCK; i++)
        t->v[t->n + i] = (cdl_cell){ .parent = CDL_CELL_FREE, .id = -1 };
    memset(p->free + t->n / 64, 0xff, BLOCK_WORDS * sizeof *p->free);
    t->n += CDL_CELL_BLOCK;
    return CUDDLE_OK;
}

static bool fits(const making *p, uint32_t base, uint32_t k)
{
    for (uint32_t i = 1; i < k; i++) {
        uint32_t at = base ^ p->byte[i];
        if (!(p->free[at / 64] >> at % 64 & 1))
            return false;
    }
    return true;
}

/* Where the k children of the node at hand find free cells, among the latest blocks or in a new one. */
static cuddle_status find_base(making *p, uint32_t k, uint32_t *base)
{
    uint32_t words = p->t->n / 64, tries = 0;
    if (words > OPEN_BLOCKS * BLOCK_WORDS && p->from < words - OPEN_BLOCKS * BLOCK_WORDS)
        p->from = words - OPEN_BLOCKS * BLOCK_WORDS;
    while (p->from < words && !p->free[p->from])
        p->from++;
    for (uint32_t w = p->from; w < words && tries < TRIES; w++)
        for (uint64_t bits = p->free[w]; bits && tries < TRIES; bits &= bits - 1, tries++) {
            *base = (64 * w + (uint32_t)__builtin_ctzll(bits)) ^ p->byte[0];
            if (fits(p, *base, k))
                return CUDDLE_OK;
        }
    *base = p->t->n;
    return add_block(p);
}

static cuddle_status add_node(making *p, node x, uint32_t parent)
{
    p->free[x.cell / 64] &= ~((uint64_t)1 << x.cell % 64);
    p->t->v[x.cell].parent = parent;
    if (p->nodes == p->cap_node)
        CDL_TRY(cdl_work_grow(&p->node, &p->cap_node, p->nodes + 1, sizeof *p->node));
    p->node[p->nodes++] = x;
    return CUDDLE_OK;
}

/* ---- Texts ---- */

/* Takes away those of the node that end there, and sorts the others by their next byte; how many bytes there are.
 * count becomes where the texts of each end. */
static uint32_t sort_texts(making *p, node *x)
{
    uint32_t k = 0, ended = 0;
    for (uint32_t i = x->begin; i < x->end; i++) {
        const cdl_trie_text *text = &p->text[i];
        if (text->n == x->depth) {
            p->t->v[x->cell].id = text->id;
            ended++;
        } else if (!p->count[(uint8_t)text->s[x->depth]]++) {
            p->byte[k++] = (uint8_t)text->s[x->depth];
        }
    }
    uint32_t begin = x->begin, at = begin += ended;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t n = p->count[p->byte[i]];
        p->count[p->byte[i]] = at;
        at += n;
    }
    for (uint32_t i = x->begin; i < x->end; i++)
        if (p->text[i].n > x->depth)
            p->sorted[p->count[(uint8_t)p->text[i].s[x->depth]]++] = p->text[i];
    if (k > 1 || ended)
        memcpy(p->text + begin, p->sorted + begin, (x->end - begin) * sizeof *p->text);
    x->begin = begin;
    return k;
}

static cuddle_status add_children(making *p, node x)
{
    uint32_t k = sort_texts(p, &x), base;
    if (!k)
        return CUDDLE_OK;
    CDL_TRY(find_base(p, k, &base));
    p->t->v[x.cell].base = base;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t end = p->count[p->byte[i]];
        p->count[p->byte[i]] = 0;
        CDL_TRY(add_node(p, (node){ x.begin, end, x.depth + 1, base ^ p->byte[i] }, x.cell));
        x.begin = end;
    }
    return CUDDLE_OK;
}

static cuddle_status add_all(making *p, size_t n, size_t split)
{
    CDL_TRY(add_block(p));
    CDL_TRY(add_node(p, (node){ 0, (uint32_t)split, 0, 0 }, CDL_CELL_ROOT));
    CDL_TRY(add_node(p, (node){ (uint32_t)split, (uint32_t)n, 0, 1 }, CDL_CELL_ROOT));
    for (size_t i = 0; i < p->nodes; i++)
        CDL_TRY(add_children(p, p->node[i]));
    return CUDDLE_OK;
}

/* Shorter texts have theirs first. */
static void find_suffixes(making *p, int32_t *shorter)
{
    const cdl_trie *t = p->t;
    for (size_t i = 2; i < p->nodes; i++) {
        cdl_cell *x = &t->v[p->node[i].cell];
        uint8_t byte = (uint8_t)(p->node[i].cell ^ t->v[x->parent].base);
        x->suffix = x->parent ? cdl_trie_follow(t, t->v[x->parent].suffix, byte) : 0;
        int32_t rest = t->v[x->suffix].id;
        if (x->id >= 0)
            shorter[x->id] = rest;
        else
            x->id = rest;
    }
}

cuddle_status cdl_trie_make(cdl_trie *out, cdl_trie_text *text, size_t n, size_t split, int32_t *shorter)
{
    making p = { .t = out, .text = text };
    size_t bytes = 0;
    *out = (cdl_trie){ 0 };
    for (size_t i = 0; i < n; i++)
        bytes += text[i].n;
    if (bytes >> 31)
        return cdl_status_fail(CUDDLE_ERR_FULL, "a vocabulary's texts have over 2^31 bytes");
    p.sorted = cdl_mem_array(n, sizeof *p.sorted);
    cuddle_status st = p.sorted ? add_all(&p, n, split) : cdl_status_nomem("a trie");
    if (st == CUDDLE_OK && shorter)
        find_suffixes(&p, shorter);
    cdl_mem_free(p.sorted);
    cdl_mem_free(p.node);
    cdl_mem_free(p.free);
    return st;
}

void cdl_trie_free(cdl_trie *t)
{
    cdl_mem_free(t->v);
    *t = (cdl_trie){ 0 };
}
