/* bpe.c - byte pair encoding: the best-ranked pair of neighbours becomes one token, again and again. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/bpe_merges.h"
#include "token/unicode.h"

enum { SMALL = 32 };          /* up to this many symbols the best pair is searched, above a heap keeps it */
#define NO_RANK UINT64_MAX

typedef struct {
    uint32_t begin, end;      /* bytes of the piece */
    int32_t id, joined;       /* joined: the token of the pair that begins here */
    int32_t prev, next;       /* with a heap        */
    uint64_t rank;            /* of that pair       */
} symbol;

typedef struct {
    uint64_t rank;
    uint32_t at;
    int32_t joined;
} candidate;

/* ---- Merges ---- */

static uint32_t count_chars(const char *s, uint32_t n)
{
    uint32_t chars = 0;
    for (uint32_t i = 0; i < n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    return chars < 1023 ? chars : 1023;
}

/* Without a list of merges (SentencePiece in GGUF) the pair's text is looked up: the token's rank
 * first, then the longer left part, the longer right part, the lower id. */
static uint64_t join_rank(const cdl_token_model *m, const char *s, const symbol *a, const symbol *b, int32_t *joined)
{
    int32_t id = cdl_vocab_find(&m->vocab, s + a->begin, b->end - a->begin);
    if (id < 0 || m->join_rank[id] == NO_RANK)
        return NO_RANK;
    *joined = id;
    uint64_t left = 1023 - count_chars(s + a->begin, a->end - a->begin);
    uint64_t right = 1023 - count_chars(s + b->begin, b->end - b->begin);
    return m->join_rank[id] << 41 | left << 31 | right << 21 | (uint64_t)id; /* 23, 10, 10, 21 bits */
}

static uint64_t pair_rank(const cdl_token_model *m, const char *s, const symbol *a, const symbol *b, int32_t *joined)
{
    if (a->id < 0 || b->id < 0)
        return NO_RANK;
    if (m->join_rank)
        return join_rank(m, s, a, b, joined);
    if (!m->merges)
        return NO_RANK;
    int32_t rank = cdl_merge_find(m, (uint32_t)a->id, (uint32_t)b->id);
    if (rank == CDL_NO_MERGE)
        return NO_RANK;
    *joined = (int32_t)m->joined[rank];
    return (uint64_t)rank;
}

static uint32_t merge_small(const cdl_token_model *m, const char *s, symbol *v, uint32_t n)
{
    for (uint32_t i = 0; i + 1 < n; i++)
        v[i].rank = pair_rank(m, s, &v[i], &v[i + 1], &v[i].joined);
    for (;;) {
        uint64_t best = NO_RANK;
        uint32_t at = 0;
        for (uint32_t i = 0; i + 1 < n; i++)
            if (v[i].rank < best) {
                best = v[i].rank;
                at = i;
            }
        if (best == NO_RANK)
            return n;
        v[at].id = v[at].joined;
        v[at].end = v[at + 1].end;
        memmove(v + at + 1, v + at + 2, (n - at - 2) * sizeof *v);
        n--;
        if (at + 1 < n)
            v[at].rank = pair_rank(m, s, &v[at], &v[at + 1], &v[at].joined);
        if (at)
            v[at - 1].rank = pair_rank(m, s, &v[at - 1], &v[at], &v[at - 1].joined);
    }
}

static bool before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(candidate *heap, uint32_t *n, candidate c)
{
    uint32_t i = (*n)++;
    for (; i && before(&c, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static candidate pop(candidate *heap, uint32_t *n)
{
    candidate top = heap[0], last = heap[--*n];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < *n; i = child) {
        child += child + 1 < *n && before(&heap[child + 1], &heap[child]);
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void push_pair(const cdl_token_model *m, const char *s, const symbol *v, int32_t at, candidate *heap,
        uint32_t *n)
{
    candidate c = { .at = (uint32_t)at };
    if (at < 0 || v[at].next < 0)
        return;
    c.rank = pair_rank(m, s, &v[at], &v[v[at].next], &c.joined);
    if (c.rank != NO_RANK)
        push(heap, n, c);
}

/* Whether dropout leaves out what comes; splitmix64. */
static bool drops(const cdl_token_model *m, uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (float)((x ^ x >> 31) >> 40) * 0x1p-24f < m->dropout;
}

/* heap: room for 3 n candidates. random: with dropout, else NULL: a candidate that is left out waits, behind the
 * heap, for the next one that is not, as in Hugging Face's merge_all. */
static uint32_t merge_large(const cdl_token_model *m, const char *s, symbol *v, uint32_t n, candidate *heap,
        uint64_t *random)
{
    uint32_t waiting = 0, left_out = 0, room = 3 * n;
    for (uint32_t i = 0; i < n; i++) {
        v[i].prev = (int32_t)i - 1;
        v[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (uint32_t i = 0; i + 1 < n; i++)
        push_pair(m, s, v, (int32_t)i, heap, &waiting);
    while (waiting) {
        candidate c = pop(heap, &waiting);
        symbol *a = &v[c.at];
        if (random && drops(m, random)) {
            heap[room - ++left_out] = c;
            continue;
        }
        for (; left_out; left_out--)
            push(heap, &waiting, heap[room - left_out]);
        int32_t joined;
        if (a->id < 0 || a->next < 0 || pair_rank(m, s, a, &v[a->next], &joined) != c.rank || joined != c.joined)
            continue; /* one of the two has changed since */
        symbol *b = &v[a->next];
        a->id = c.joined;
        a->end = b->end;
        b->id = -1;
        a->next = b->next;
        if (b->next >= 0)
            v[b->next].prev = (int32_t)c.at;
        push_pair(m, s, v, a->prev, heap, &waiting);
        push_pair(m, s, v, (int32_t)c.at, heap, &waiting);
    }
    uint32_t out = 0;
    for (int32_t i = 0; i >= 0; i = v[i].next)
        v[out++] = v[i];
    return out;
}

/* ---- First symbols ---- */

typedef struct {
    const cdl_token_model *m;
    symbol *v;
    uint32_t n, at;           /* at: bytes so far */
    bool unk;                 /* an unknown is pending */
    uint32_t unk_bytes;
} start;

static void add_symbol(start *t, int32_t id, uint32_t bytes)
{
    t->v[t->n++] = (symbol){ .begin = t->at, .end = t->at + bytes, .id = id };
    t->at += bytes;
}

static void flush_unk(start *t)
{
    if (t->unk)
        add_symbol(t, t->m->unk, t->unk_bytes);
    t->unk = false;
}

static void add_unknown(start *t, uint32_t bytes)
{
    if (t->m->unk < 0)
        return;
    if (t->unk && t->m->fuse_unk) {
        t->unk_bytes += bytes;
        return;
    }
    flush_unk(t);
    t->unk = true;
    t->unk_bytes = bytes;
}

/* A character with no token of its own as bytes, those of a prefix and a suffix too; what is unknown before
 * it comes behind, as in Hugging Face's merge_word. */
static bool add_bytes(start *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->m->byte_id[(uint8_t)s[i]] < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        add_symbol(t, t->m->byte_id[(uint8_t)s[i]], 1);
    return true;
}

/* The character with what the model puts around it; *n bytes, in room if there is any. */
static const char *framed_char(const cdl_token_model *m, const char *s, size_t *n, bool first, bool last, char *room)
{
    if ((first || !m->n_prefix) && (!last || !m->n_suffix))
        return s;
    size_t len = 0;
    if (!first) {
        memcpy(room, m->prefix, m->n_prefix);
        len = m->n_prefix;
    }
    memcpy(room + len, s, *n);
    len += *n;
    if (last) {
        memcpy(room + len, m->suffix, m->n_suffix);
        len += m->n_suffix;
    }
    *n = len;
    return room;
}

static void start_symbols(start *t, const char *s, uint32_t n, char *room)
{
    const cdl_token_model *m = t->m;
    uint32_t cp;
    size_t k;
    for (size_t i = 0; i < n; i += k) {
        size_t len = k = m->raw_bytes ? 1 : cdl_utf8_get(s + i, n - i, &cp);
        const char *c = m->raw_bytes ? s + i : framed_char(m, s + i, &len, i == 0, i + k == n, room);
        int32_t id = m->raw_bytes ? m->byte_id[(uint8_t)*c] : cdl_vocab_find(&m->vocab, c, len);
        if (id >= 0) {
            flush_unk(t);
            add_symbol(t, id, (uint32_t)k);
        } else if (m->raw_bytes || !m->byte_fallback || !add_bytes(t, c, len)) {
            add_unknown(t, (uint32_t)k);
        }
    }
    flush_unk(t);
}

/* Byte-fallback and unknown tokens do not join by the text they stand for. */
static void seal(const cdl_token_model *m, const char *s, symbol *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bool byte = m->byte_fallback && v[i].end - v[i].begin == 1 && v[i].id == m->byte_id[(uint8_t)s[v[i].begin]];
        if (byte || v[i].id == m->unk)
            v[i].id = -2 - v[i].id;
    }
}

static uint32_t width_of(char byte)
{
    return 1 + (cdl_unicode_from_byte((uint8_t)byte) >= 0x80);
}

/* Hugging Face adds up lengths in the text that ByteLevel makes, where a byte takes one or two: bytes
 * that the vocabulary lacks are left out there, so that tokens behind them move forward. */
static void move_forward(const cdl_token_model *m, cdl_token_work *w, const char *s)
{
    uint32_t kept = 0, wide = 0, at = 0, at_wide = 0; /* at_wide: where byte at begins */
    for (size_t i = 0; i < w->n_token; i++) {
        cdl_token *t = &w->token[i];
        for (; at_wide + width_of(s[at]) <= wide; at++)
            at_wide += width_of(s[at]);
        for (uint32_t left = t->end - t->begin; left; kept++)
            if (m->byte_id[(uint8_t)s[kept]] >= 0) {
                wide += width_of(s[kept]);
                left--;
            }
        uint32_t last = at;
        for (uint32_t last_wide = at_wide; last_wide + width_of(s[last]) < wide; last++)
            last_wide += width_of(s[last]);
        t->begin = at;
        t->end = last + 1;
    }
}

/* The token that the whole piece is, or -1. */
static cuddle_status find_whole(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n, int32_t *id)
{
    if (!m->raw_bytes) {
        *id = cdl_vocab_find(&m->vocab, s, n);
        return CUDDLE_OK;
    }
    cdl_edit_begin(w);
    for (uint32_t i = 0; i < n && w->n_edit <= m->vocab.longest; i++)
        CDL_TRY(cdl_edit_put_cp(w, cdl_unicode_from_byte((uint8_t)s[i]), (cdl_align){ 0, 0 }));
    *id = cdl_vocab_find(&m->vocab, w->edit, w->n_edit);
    return CUDDLE_OK;
}

cuddle_status cdl_bpe_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    w->n_token = 0;
    bool random = m->dropout > 0;
    if (m->ignore_merges && !random) {
        int32_t id;
        CDL_TRY(find_whole(m, w, s, n, &id));
        if (id >= 0)
            return cdl_work_token(w, (cdl_token){ .id = id, .end = n });
    }
    size_t most = m->byte_fallback ? n * ((size_t)m->n_prefix + 1) + m->n_suffix : n;
    CDL_TRY(cdl_work_check(w, most));
    size_t room = m->n_prefix + m->n_suffix + 4, heap = most > SMALL || random ? 3 * most * sizeof(candidate) : 0;
    CDL_TRY(cdl_work_grow(&w->scratch, &w->cap_scratch, most * sizeof(symbol) + heap + room, 1));
    start t = { .m = m, .v = w->scratch };
    candidate *candidates = (candidate *)(t.v + most);
    start_symbols(&t, s, n, (char *)w->scratch + most * sizeof(symbol) + heap);
    if (m->join_rank)
        seal(m, s, t.v, t.n);
    uint32_t left = t.n <= SMALL && !random ? merge_small(m, s, t.v, t.n)
        : merge_large(m, s, t.v, t.n, candidates, random ? &w->random : NULL);
    for (uint32_t i = 0; i < left; i++) {
        int32_t id = t.v[i].id < 0 ? -2 - t.v[i].id : t.v[i].id;
        CDL_TRY(cdl_work_token(w, (cdl_token){ .id = id, .begin = t.v[i].begin, .end = t.v[i].end }));
    }
    if (m->raw_bytes && t.at < n)
        move_forward(m, w, s);
    return CUDDLE_OK;
}

void cdl_token_model_free(cdl_token_model *m)
{
    cdl_vocab_free(&m->vocab);
    cdl_mem_free(m->merge);
    cdl_mem_free(m->joined);
    cdl_mem_free(m->waiting);
    cdl_mem_free(m->first_rank);
    cdl_mem_free(m->char_id);
    cdl_mem_free(m->joins);
    cdl_mem_pages_free(m->whole, m->whole_bytes);
    cdl_trie_free(&m->trie);
    cdl_mem_free(m->shorter);
    cdl_mem_free((void *)m->join_rank);
    cdl_mem_free((void *)m->score);
}
