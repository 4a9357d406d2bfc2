/* unigram.c - Unigram: the cut of a text whose tokens' scores add up highest. */
#include "base/utf8.h"
#include "token/parts.h"

static const double UNK_PENALTY = 10;

enum { UNKNOWN = -2 };         /* instead of a token: a character that has none */

/* The best way to a byte of the text where a character ends: its score, and the token that it ends with. Scores are
 * needed as far back as tokens reach, so they lie in a ring. */
typedef struct {
    const cdl_token_model *m;
    const char *s;
    uint32_t n, mask;          /* of the ring */
    double *score;
    int32_t *last;             /* [n + 1] */
} lattice;

/* The ways to a byte so far. */
typedef struct {
    double score;
    int32_t last;
    uint32_t shortest;         /* bytes of the token of the latest way; 0: none so far */
} ways;

/* Tokens come longest first, and of equal ways the first stays. */
static inline void offer(const lattice *l, ways *x, uint32_t end, int32_t id, uint32_t bytes)
{
    double score = l->score[(end - bytes) & l->mask] + l->m->score[id];
    bool better = !x->shortest || !(score <= x->score);
    x->score = better ? score : x->score;
    x->last = better ? id : x->last;
    x->shortest = bytes;
}

/* Without cells, each text in front of the byte is looked for. */
static void offer_found(const lattice *l, ways *x, uint32_t end)
{
    const cdl_vocab *v = &l->m->vocab;
    for (uint32_t at = end > v->longest ? end - v->longest : 0; at < end; at++) {
        int32_t id = (l->s[at] & 0xc0) == 0x80 ? -1 : cdl_vocab_find(v, l->s + at, end - at);
        if (id >= 0)
            offer(l, x, end, id, end - at);
    }
}

static cuddle_status walk(const lattice *l)
{
    const cdl_token_model *m = l->m;
    uint32_t cp, cell = 0;
    l->score[0] = 0;
    for (uint32_t at = 0, end; at < l->n; at = end) {
        ways x = { 0 };
        end = at + (uint32_t)cdl_utf8_get(l->s + at, l->n - at, &cp);
        if (m->trie.n) {
            for (uint32_t i = at; i < end; i++)
                cell = cdl_trie_follow(&m->trie, cell, (uint8_t)l->s[i]);
            for (int32_t id = m->trie.v[cell].id; id >= 0; id = m->shorter[id])
                offer(l, &x, end, id, m->vocab.entry[id].n);
        } else {
            offer_found(l, &x, end);
        }
        double unknown = l->score[at & l->mask] + (m->score_min - UNK_PENALTY);
        if (x.shortest != end - at && (!x.shortest || !(unknown <= x.score))) {
            if (m->unk < 0)
                return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer has no token for U+%04X and no unk_id", cp);
            x.score = unknown;
            x.last = UNKNOWN;
        }
        l->score[end & l->mask] = x.score;
        l->last[end] = x.last;
    }
    return CUDDLE_OK;
}

/* Bytes of the token that ends, or with begins that begins, at a place of the text. */
static uint32_t bytes_at(const lattice *l, int32_t id, uint32_t at, bool begins)
{
    uint32_t k = 1;
    if (id != UNKNOWN)
        return l->m->vocab.entry[id].n;
    while (begins ? at + k < l->n && (l->s[at + k] & 0xc0) == 0x80 : (l->s[at - k] & 0xc0) == 0x80)
        k++;
    return k;
}

/* last becomes, where a token of the best way begins, that token. */
static void turn(const lattice *l)
{
    int32_t id = l->last[l->n];
    for (uint32_t end = l->n; end; ) {
        uint32_t begin = end - bytes_at(l, id, end, false);
        int32_t before = l->last[begin];
        l->last[begin] = id;
        id = before;
        end = begin;
    }
}

static cuddle_status find_way(lattice *l, const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    size_t ring = 8;
    while (ring <= m->vocab.longest && ring <= n)
        ring *= 2;
    CDL_TRY(cdl_work_grow(&w->scratch, &w->cap_scratch, ring * sizeof(double) + (n + (size_t)1) * sizeof(int32_t), 1));
    *l = (lattice){ .m = m, .s = s, .n = n, .mask = (uint32_t)ring - 1, .score = w->scratch };
    l->last = (int32_t *)(l->score + ring);
    CDL_TRY(walk(l));
    turn(l);
    return CUDDLE_OK;
}

/* The stretch of the best way that begins at a place: one token, or unknowns next to each other. Its end, and its id
 * or -1. */
static uint32_t next_stretch(const lattice *l, uint32_t begin, int32_t *id)
{
    const cdl_token_model *m = l->m;
    uint32_t end = begin, tokens = 0;
    do {
        *id = l->last[end];
        end += bytes_at(l, *id, end, true);
        tokens++;
    } while ((*id == UNKNOWN || *id == m->unk) && end < l->n && (l->last[end] == UNKNOWN || l->last[end] == m->unk));
    if (tokens > 1 || *id == UNKNOWN || *id == m->unk)
        *id = cdl_vocab_find(&m->vocab, l->s + begin, end - begin);
    return end;
}

/* Whether a stretch that is no token of its own is written as bytes. */
static bool as_bytes(const cdl_token_model *m, const char *s, uint32_t begin, uint32_t end)
{
    bool bytes = m->byte_fallback;
    for (uint32_t i = begin; bytes && i < end; i++)
        bytes = m->byte_id[(uint8_t)s[i]] >= 0;
    return bytes;
}

static cuddle_status no_unknown(void)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer has no token for a text and no unk_id");
}

/* A stretch that is no token of its own: bytes, or the unknown token. */
static cuddle_status put_unknown(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t begin,
        uint32_t end)
{
    bool bytes = as_bytes(m, s, begin, end);
    for (uint32_t i = begin; bytes && i < end; i++)
        CDL_TRY(cdl_work_token(w, (cdl_token){ .id = m->byte_id[(uint8_t)s[i]], .begin = begin, .end = end }));
    if (bytes)
        return CUDDLE_OK;
    return m->unk < 0 ? no_unknown() : cdl_work_token(w, (cdl_token){ m->unk, begin, end, s + begin, end - begin });
}

cuddle_status cdl_unigram_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    lattice l;
    w->n_token = 0;
    CDL_TRY(find_way(&l, m, w, s, n));
    for (uint32_t begin = 0, end; begin < n; begin = end) {
        int32_t id;
        end = next_stretch(&l, begin, &id);
        CDL_TRY(id >= 0 ? cdl_work_token(w, (cdl_token){ .id = id, .begin = begin, .end = end })
                        : put_unknown(m, w, s, begin, end));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_unigram_ids(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n,
        const int32_t **ids, uint32_t *n_ids)
{
    lattice l;
    uint32_t k = 0; /* never more than bytes of the text so far: they take last's place */
    CDL_TRY(find_way(&l, m, w, s, n));
    for (uint32_t begin = 0, end; begin < n; begin = end) {
        int32_t id;
        end = next_stretch(&l, begin, &id);
        if (id < 0 && as_bytes(m, s, begin, end)) {
            for (uint32_t i = begin; i < end; i++)
                l.last[k++] = m->byte_id[(uint8_t)s[i]];
            continue;
        }
        if (id < 0 && m->unk < 0)
            return no_unknown();
        l.last[k++] = id < 0 ? m->unk : id;
    }
    *ids = l.last;
    *n_ids = k;
    return CUDDLE_OK;
}
