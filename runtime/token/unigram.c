/* unigram.c - Unigram: the cut of a text whose tokens' scores add up highest. */
#include <string.h>

#include "base/utf8.h"
#include "token/parts.h"

static const double UNK_PENALTY = 10;

enum { UNKNOWN = -2 };         /* instead of a token: a character that has none */

/* The best way to a byte of the text: its score, and the token that it ends with. Scores are needed as far back as
 * tokens reach, so they lie in a ring. */
typedef struct {
    double score;
    bool reached;
} way;

typedef struct {
    const cdl_token_model *m;
    const char *s;
    uint32_t n, mask;          /* of the ring */
    way *way;
    int32_t *last;             /* [n + 1] */
} lattice;

static inline void offer(const lattice *l, double score, int32_t id, uint32_t end)
{
    way *x = &l->way[end & l->mask];
    if (x->reached && score <= x->score)
        return;
    *x = (way){ score, true };
    l->last[end] = id;
}

/* Offers the way over each token that the text from at on begins with; whether one of them ends at single. */
static bool offer_tokens(const lattice *l, uint32_t at, uint32_t single)
{
    const cdl_token_model *m = l->m;
    const char *s = l->s;
    const double score = l->way[at & l->mask].score;
    bool found = false;
    uint32_t edge = 0, n = l->n, end_max = n - at > m->vocab.longest ? at + m->vocab.longest : n;
    for (uint32_t end = at + 1; end <= end_max; end++) {
        int32_t id = -1;
        if (m->trie.nodes) {
            edge = cdl_trie_next(&m->trie, edge, (uint8_t)s[end - 1]);
            if (!edge)
                break;
            id = m->trie.id[edge];
        } else if (end == n || (s[end] & 0xc0) != 0x80) {
            id = cdl_vocab_find(&m->vocab, s + at, end - at);
        }
        if (id < 0)
            continue;
        offer(l, score + m->score[id], id, end);
        found |= end == single;
    }
    return found;
}

static cuddle_status walk(const lattice *l)
{
    const cdl_token_model *m = l->m;
    uint32_t cp;
    for (uint32_t at = 0; at < l->n; ) {
        uint32_t k = (uint32_t)cdl_utf8_get(l->s + at, l->n - at, &cp);
        if (!offer_tokens(l, at, at + k)) {
            offer(l, l->way[at & l->mask].score + (m->score_min - UNK_PENALTY), UNKNOWN, at + k);
            if (l->last[at + k] == UNKNOWN && m->unk < 0)
                return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer has no token for U+%04X and no unk_id", cp);
        }
        for (uint32_t i = 0; i < k; i++)
            l->way[(at + i) & l->mask].reached = false;
        at += k;
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
    CDL_TRY(cdl_work_grow(&w->scratch, &w->cap_scratch, ring * sizeof(way) + (n + (size_t)1) * sizeof(int32_t), 1));
    *l = (lattice){ .m = m, .s = s, .n = n, .mask = (uint32_t)ring - 1, .way = w->scratch };
    l->last = (int32_t *)(l->way + ring);
    memset(l->way, 0, ring * sizeof *l->way);
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
