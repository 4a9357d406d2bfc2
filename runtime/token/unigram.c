/* unigram.c - Unigram: the cut of a text whose tokens' scores add up highest. */
#include <string.h>

#include "base/utf8.h"
#include "token/parts.h"

static const double UNK_PENALTY = 10;

/* The best way to a byte of the text. */
typedef struct {
    double score;
    int32_t id;
    uint32_t begin;            /* of the last token on it; UINT32_MAX: no way yet */
} node;

static bool better(const node *target, double score)
{
    return target->begin == UINT32_MAX || score > target->score;
}

/* Offers the way over each token that s[at, n) begins with; whether one of them ends at single. */
static bool offer_tokens(const cdl_token_model *m, node *best, const char *s, uint32_t at, uint32_t n, uint32_t single)
{
    bool found = false;
    uint32_t edge = 0, end_max = n - at > m->vocab.longest ? at + m->vocab.longest : n;
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
        double score = best[at].score + m->score[id];
        if (better(&best[end], score))
            best[end] = (node){ score, id, at };
        found |= end == single;
    }
    return found;
}

static cuddle_status walk(const cdl_token_model *m, node *best, const char *s, uint32_t n)
{
    uint32_t cp;
    for (uint32_t at = 0; at < n; ) {
        uint32_t k = (uint32_t)cdl_utf8_get(s + at, n - at, &cp);
        bool single = offer_tokens(m, best, s, at, n, at + k);
        double unknown = best[at].score + (m->score_min - UNK_PENALTY);
        if (!single && better(&best[at + k], unknown)) {
            if (m->unk < 0)
                return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer has no token for U+%04X and no unk_id", cp);
            best[at + k] = (node){ unknown, m->unk, at };
        }
        at += k;
    }
    return CUDDLE_OK;
}

/* A stretch that is no token of its own: bytes, or the unknown token. */
static cuddle_status put_unknown(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t begin,
        uint32_t end)
{
    bool bytes = m->byte_fallback;
    for (uint32_t i = begin; bytes && i < end; i++)
        bytes = m->byte_id[(uint8_t)s[i]] >= 0;
    for (uint32_t i = begin; bytes && i < end; i++)
        CDL_TRY(cdl_work_token(w, (cdl_token){ .id = m->byte_id[(uint8_t)s[i]], .begin = begin, .end = end }));
    if (bytes)
        return CUDDLE_OK;
    if (m->unk < 0)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer has no token for a text and no unk_id");
    return cdl_work_token(w, (cdl_token){ m->unk, begin, end, s + begin, end - begin });
}

cuddle_status cdl_unigram_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    w->n_token = 0;
    CDL_TRY(cdl_work_grow(&w->scratch, &w->cap_scratch, (n + (size_t)1) * (sizeof(node) + sizeof(uint32_t)), 1));
    node *best = w->scratch;
    uint32_t *cut = (uint32_t *)(best + n + 1), cuts = 0; /* ends of tokens, from the last */
    for (uint32_t i = 0; i <= n; i++)
        best[i] = (node){ .begin = UINT32_MAX };
    CDL_TRY(walk(m, best, s, n));
    for (uint32_t end = n; end; end = best[end].begin) { /* unknowns next to each other are one */
        bool joins = cuts && best[end].id == m->unk && best[cut[cuts - 1]].id == m->unk;
        if (!joins)
            cut[cuts++] = end;
    }
    uint32_t begin = 0;
    while (cuts) {
        uint32_t end = cut[--cuts];
        bool known = best[end].id != m->unk && best[end].begin == begin;
        int32_t id = known ? best[end].id : cdl_vocab_find(&m->vocab, s + begin, end - begin);
        CDL_TRY(id >= 0 ? cdl_work_token(w, (cdl_token){ .id = id, .begin = begin, .end = end })
                        : put_unknown(m, w, s, begin, end));
        begin = end;
    }
    return CUDDLE_OK;
}
