/* wordpiece.c - WordPiece (the longest token first) and WordLevel (the whole word). */
#include <string.h>

#include "base/mem.h"
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

enum { TRIE_TEXT_MAX = 8 << 20, TAILS = 1 }; /* TAILS: the cell of what may stand behind the first */

/* The texts of the trie: all, and of WordPiece behind them what may stand behind the first, without its prefix. */
static size_t list_texts(const cdl_token_model *m, cdl_trie_text *text, size_t *split)
{
    const cdl_vocab *v = &m->vocab;
    bool pieces = m->type == CDL_MODEL_WORDPIECE;
    size_t k = 0, n;
    for (uint32_t i = 0; i < v->ids; i++) {
        const char *s = cdl_vocab_text(v, i, &n);
        if (s && n && (pieces || cdl_utf8_valid(s, n) == n))
            text[k++] = (cdl_trie_text){ s, (uint32_t)n, v->repeats ? cdl_vocab_find(v, s, n) : (int32_t)i };
    }
    *split = k;
    for (size_t i = 0; pieces && i < *split; i++) {
        const cdl_trie_text *x = &text[i];
        if (x->n > m->n_prefix && memcmp(x->s, m->prefix, m->n_prefix) == 0)
            text[k++] = (cdl_trie_text){ x->s + m->n_prefix, x->n - m->n_prefix, x->id };
    }
    return k;
}

cuddle_status cdl_token_model_plan(cdl_token_model *m)
{
    bool pieces = m->type == CDL_MODEL_WORDPIECE;
    size_t split = 0, n;
    if ((!pieces && m->type != CDL_MODEL_UNIGRAM) || cdl_vocab_bytes(&m->vocab) > TRIE_TEXT_MAX || !m->vocab.ids)
        return CUDDLE_OK;
    cdl_trie_text *text = cdl_mem_array(2 * (size_t)m->vocab.ids, sizeof *text);
    m->shorter = pieces ? NULL : cdl_mem_array(m->vocab.ids, sizeof *m->shorter);
    cuddle_status st = text && (pieces || m->shorter) ? CUDDLE_OK : cdl_status_nomem("a vocabulary");
    n = st == CUDDLE_OK ? list_texts(m, text, &split) : 0;
    if (st == CUDDLE_OK)
        st = cdl_trie_make(&m->trie, text, n, split, m->shorter);
    cdl_mem_free(text);
    return st;
}

static uint32_t longest_by_trie(const cdl_token_model *m, const char *s, uint32_t at, uint32_t n, int32_t *id)
{
    uint32_t cell = at ? TAILS : 0, last = at;
    for (uint32_t i = at; i < n; i++) {
        cell = cdl_trie_next(&m->trie, cell, (uint8_t)s[i]);
        if (!cell)
            break;
        if (m->trie.v[cell].id >= 0) {
            *id = m->trie.v[cell].id;
            last = i + 1;
        }
    }
    return last;
}

/* The longest token that s[at, n) begins with; its end, or at. */
static uint32_t longest(const cdl_token_model *m, const char *s, uint32_t at, uint32_t n, int32_t *id)
{
    if (m->trie.n)
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
