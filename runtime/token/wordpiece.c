/* wordpiece.c - WordPiece (the longest token first) and WordLevel (the whole word). */
#include <string.h>

#include "base/utf8.h"
#include "token/parts.h"

static cuddle_status put_unknown(const cdl_token_model *m, cdl_token_work *w, uint32_t n)
{
    if (m->unk < 0)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the tokenizer's unk_token '%.*s' is not in its vocabulary",
                CDL_STR(m->unk_text, m->n_unk_text));
    w->n_token = 0;
    return cdl_work_token(w, (cdl_token){ .id = m->unk, .end = n });
}

cuddle_status cdl_wordlevel_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    w->n_token = 0;
    int32_t id = cdl_vocab_find(&m->vocab, s, n);
    return id < 0 ? put_unknown(m, w, n) : cdl_work_token(w, (cdl_token){ .id = id, .end = n });
}

static uint32_t count_chars(const char *s, uint32_t n)
{
    uint32_t chars = 0;
    for (uint32_t i = 0; i < n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    return chars;
}

enum { TRIE_TEXT_MAX = 8 << 20 };

cuddle_status cdl_token_model_plan(cdl_token_model *m)
{
    bool pieces = m->type == CDL_MODEL_WORDPIECE;
    uint32_t root;
    if ((!pieces && m->type != CDL_MODEL_UNIGRAM) || cdl_vocab_bytes(&m->vocab) > TRIE_TEXT_MAX || !m->vocab.ids)
        return CUDDLE_OK;
    CDL_TRY(cdl_trie_reserve(&m->trie, cdl_vocab_bytes(&m->vocab) / 2));
    CDL_TRY(cdl_trie_root(&m->trie, &root));
    if (pieces)
        CDL_TRY(cdl_trie_root(&m->trie, &m->tail_root));
    for (uint32_t i = 0; i < m->vocab.ids; i++) {
        size_t n;
        const char *s = cdl_vocab_text(&m->vocab, i, &n);
        if (!s || !n)
            continue;
        int32_t id = cdl_vocab_find(&m->vocab, s, n);
        CDL_TRY(cdl_trie_add(&m->trie, root, s, n, id));
        if (pieces && n > m->n_prefix && memcmp(s, m->prefix, m->n_prefix) == 0)
            CDL_TRY(cdl_trie_add(&m->trie, m->tail_root, s + m->n_prefix, n - m->n_prefix, id));
    }
    return CUDDLE_OK;
}

static uint32_t longest_by_trie(const cdl_token_model *m, const char *s, uint32_t at, uint32_t n, int32_t *id)
{
    uint32_t node = at ? m->tail_root : 0, last = at;
    for (uint32_t i = at; i < n; i++) {
        node = cdl_trie_next(&m->trie, node, (uint8_t)s[i]);
        if (!node)
            break;
        if (m->trie.id[node] >= 0) {
            *id = m->trie.id[node];
            last = i + 1;
        }
    }
    return last;
}

/* The longest token that s[at, n) begins with; its end, or at. */
static uint32_t longest(const cdl_token_model *m, const char *s, uint32_t at, uint32_t n, int32_t *id)
{
    if (m->trie.nodes)
        return longest_by_trie(m, s, at, n, id);
    uint32_t room = m->vocab.longest, end = n - at > room ? at + room : n;
    while (end > at && end < n && (s[end] & 0xc0) == 0x80)
        end--;
    while (end > at) {
        *id = at ? cdl_vocab_find_joined(&m->vocab, m->prefix, m->n_prefix, s + at, end - at)
                 : cdl_vocab_find(&m->vocab, s, end);
        if (*id >= 0)
            return end;
        do
            end--;
        while (end > at && (s[end] & 0xc0) == 0x80);
    }
    return at;
}

cuddle_status cdl_wordpiece_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    w->n_token = 0;
    if (n > m->chars_max && count_chars(s, n) > m->chars_max)
        return put_unknown(m, w, n);
    for (uint32_t at = 0; at < n; ) {
        int32_t id = -1;
        uint32_t end = longest(m, s, at, n, &id);
        if (end == at)
            return put_unknown(m, w, n);
        CDL_TRY(cdl_work_token(w, (cdl_token){ .id = id, .begin = at, .end = end }));
        at = end;
    }
    return CUDDLE_OK;
}
