/* added.c - added tokens: found in the text before anything else looks at it. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

static cuddle_status add_node(cdl_added_trie *t, uint8_t byte, uint32_t *out)
{
    CDL_TRY(cdl_work_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v));
    t->v[t->n] = (cdl_added_node){ .byte = byte };
    *out = (uint32_t)t->n++;
    return CUDDLE_OK;
}

static uint32_t child_of(const cdl_added_trie *t, uint32_t node, uint8_t byte)
{
    uint32_t c = t->v[node].child;
    while (c && t->v[c].byte != byte)
        c = t->v[c].sibling;
    return c;
}

cuddle_status cdl_added_insert(cdl_added_trie *t, const char *s, size_t n, uint32_t index)
{
    uint32_t node = 0, c;
    if (!n)
        return CUDDLE_OK;
    if (!t->n)
        CDL_TRY(add_node(t, 0, &c));
    for (size_t i = 0; i < n; i++, node = c) {
        uint8_t byte = (uint8_t)s[i];
        c = child_of(t, node, byte);
        if (c)
            continue;
        CDL_TRY(add_node(t, byte, &c));
        t->v[c].sibling = t->v[node].child;
        t->v[node].child = c;
        if (node == 0) {
            t->first[byte] = c;
            t->n_first++;
            t->only = byte;
        }
    }
    if (!t->v[node].token)
        t->v[node].token = index + 1;
    return CUDDLE_OK;
}

/* The longest token that begins at s; 1 + its index and its length, or 0. */
static uint32_t longest_at(const cdl_added_trie *t, const char *s, size_t n, size_t *len)
{
    uint32_t token = 0, node = t->first[(uint8_t)s[0]];
    for (size_t i = 1; node; node = i < n ? child_of(t, node, (uint8_t)s[i]) : 0, i++)
        if (t->v[node].token) {
            token = t->v[node].token;
            *len = i;
        }
    return token;
}

static bool word_before(const char *s, size_t at)
{
    size_t i = at;
    uint32_t cp;
    while (i && (s[--i] & 0xc0) == 0x80)
        ;
    return at && cdl_utf8_get(s + i, at - i, &cp) && cdl_unicode(cp) & CDL_UC_RUST_WORD;
}

static bool word_at(const char *s, size_t at, size_t n)
{
    uint32_t cp;
    return cdl_utf8_get(s + at, n - at, &cp) && cdl_unicode(cp) & CDL_UC_RUST_WORD;
}

/* Where the white space in front of at begins. */
static size_t skip_back(const char *s, size_t at)
{
    for (;;) {
        size_t i = at;
        uint32_t cp;
        while (i && (s[--i] & 0xc0) == 0x80)
            ;
        if (!at || !cdl_utf8_get(s + i, at - i, &cp) || !(cdl_unicode(cp) & CDL_UC_RUST_SPACE))
            return at;
        at = i;
    }
}

static size_t skip_space(const char *s, size_t at, size_t n)
{
    uint32_t cp;
    size_t k;
    while ((k = cdl_utf8_get(s + at, n - at, &cp)) && cdl_unicode(cp) & CDL_UC_RUST_SPACE)
        at += k;
    return at;
}

static cuddle_status split_piece(const cdl_added_tokens *a, const cdl_added_trie *t, cdl_token_work *w,
        const cdl_piece *p)
{
    size_t last = 0, len = 0;
    for (size_t at = 0; at < p->n; ) {
        if (t->n_first == 1) {
            const char *next = memchr(p->s + at, t->only, p->n - at);
            if (!next)
                break;
            at = (size_t)(next - p->s);
        }
        uint32_t hit = t->first[(uint8_t)p->s[at]] ? longest_at(t, p->s + at, p->n - at, &len) : 0;
        if (!hit) {
            at++;
            continue;
        }
        const cdl_added *token = &a->v[hit - 1];
        size_t begin = at, end = at + len;
        at = end;
        if (a->encode_special && a->special[token->id])
            continue;
        if (token->single_word && (word_before(p->s, begin) || word_at(p->s, end, p->n)))
            continue;
        if (token->lstrip) {
            begin = skip_back(p->s, begin);
            begin = begin < last ? last : begin;
        }
        if (token->rstrip)
            end = skip_space(p->s, end, p->n);
        if (begin > last)
            CDL_TRY(cdl_work_slice(w, p, (uint32_t)last, (uint32_t)begin, -1));
        CDL_TRY(cdl_work_slice(w, p, (uint32_t)begin, (uint32_t)end, token->id));
        last = end;
    }
    return last < p->n ? cdl_work_slice(w, p, (uint32_t)last, p->n, -1) : CUDDLE_OK;
}

cuddle_status cdl_added_split(const cdl_added_tokens *a, const cdl_added_trie *t, cdl_token_work *w)
{
    if (!t->n)
        return CUDDLE_OK;
    for (size_t i = 0; i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        CDL_TRY(p->id >= 0 ? cdl_work_slice(w, p, 0, p->n, p->id) : split_piece(a, t, w, p));
    }
    cdl_work_turn(w);
    return CUDDLE_OK;
}

void cdl_added_free(cdl_added_tokens *a)
{
    cdl_vocab_free(&a->vocab);
    cdl_vocab_free(&a->shown);
    cdl_mem_free(a->special);
    cdl_mem_free(a->raw.v);
    cdl_mem_free(a->normalized.v);
}
