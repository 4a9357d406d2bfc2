/* train_bpe.c - the most frequent pair becomes a token, again and again (Sennrich et al. 2016).
 *
 * Every pair knows how often it stands and in which words it appeared; a heap gives the best one. An entry of
 * the heap may be out of date: its count is looked up when it comes to the top, and it goes back when it fell.
 * A merge touches only the words of its entry, so the whole takes about as many steps as there are symbols.
 * Results: those of BpeTrainer in the tokenizers package. As there, a merged pair's count stays what it was,
 * and pairs that make a token too long are not counted.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/train.h"
#include "token/unicode.h"

enum { CODE_POINTS = 0x110000, PAIR_SLOTS_FIRST = 1 << 12, PROGRESS_STEP = 256 };

typedef struct {
    uint32_t a, b;
    int64_t count;
    uint32_t fresh, word;      /* words it newly appeared in since the last entry, and the last of them */
    size_t at;                 /* where the next of them goes in merging.where                          */
} pair;

typedef struct {
    uint64_t count;
    uint32_t a, b;             /* ids: the smaller pair comes first */
    uint32_t pair, n;
    size_t at;                 /* its words: where[at .. at + n)    */
} entry;

typedef struct {
    uint32_t pair, word;
} appearance;

typedef struct {
    uint32_t n;
    size_t at;                 /* in symbol */
} word;

typedef struct {
    cdl_learning *l;
    uint32_t *symbol;
    word *words;
    pair *pairs;
    uint32_t *slot;            /* open addressing: 1 + index, 0 where empty */
    entry *heap;
    uint32_t *where;
    appearance *seen;          /* of this round */
    uint32_t *chars;           /* [ids]: characters of a token, without prefix */
    size_t slots, n_symbol, cap_symbol, n_pairs, cap_pairs, n_heap, cap_heap, n_where, cap_where, n_seen, cap_seen,
        cap_chars;
    cdl_buf text;              /* of the token that is being made */
} merging;

/* ---- The alphabet ---- */

typedef struct {
    uint32_t cp;
    uint64_t count;
} letter;

/* The most frequent first, of equal ones the smaller code point. */
static int by_count(const void *a, const void *b)
{
    const letter *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->cp < y->cp ? -1 : x->cp > y->cp;
}

static int by_code_point(const void *a, const void *b)
{
    const letter *x = a, *y = b;
    return x->cp < y->cp ? -1 : x->cp > y->cp;
}

static void count_letters(const cdl_learning *l, uint64_t *count)
{
    for (size_t i = 0; i < l->words->n; i++) {
        const cdl_counted *k = &l->words->v[i];
        const char *s = l->words->text + k->at;
        uint32_t cp;
        for (size_t at = 0; at < k->n; count[cp] += k->count)
            at += cdl_learning_char(l, s + at, k->n - at, &cp);
    }
    for (int b = 0; l->raw_bytes && !l->o.no_byte_alphabet && b < 256; b++)
        count[cdl_unicode_from_byte((uint8_t)b)] = UINT64_MAX;
    const char *more = l->o.initial_alphabet;
    uint32_t cp;
    for (size_t k, left = strlen(more); left; more += k, left -= k) {
        k = cdl_utf8_get(more, left, &cp);
        count[cp] = UINT64_MAX;
    }
}

/* The token of a character, -1: none. */
static int32_t letter_id(const cdl_learning *l, uint32_t cp)
{
    char utf8[4];
    return cdl_vocab_find(&l->vocab, utf8, cdl_utf8_put(utf8, cp));
}

static cuddle_status add_letters(cdl_learning *l, letter *v, size_t n, int32_t *id)
{
    size_t all = n;
    qsort(v, n, sizeof *v, by_count);
    if (l->o.limit_alphabet && n > l->o.limit_alphabet)
        n = l->o.limit_alphabet;
    for (size_t i = n; i < all; i++)
        id[v[i].cp] = letter_id(l, v[i].cp); /* one that is a special token is not lost */
    if (l->vocab.ids + n > l->o.vocab_size)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a vocabulary of %u has no room for %u special tokens and an alphabet "
                "of %zu; make it larger or limit the alphabet", l->o.vocab_size, l->vocab.ids, n);
    qsort(v, n, sizeof *v, by_code_point);
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        size_t bytes = cdl_utf8_put(utf8, v[i].cp);
        int32_t old = letter_id(l, v[i].cp);
        id[v[i].cp] = old >= 0 ? old : (int32_t)l->vocab.ids;
        if (old < 0)
            CDL_TRY(cdl_vocab_add(&l->vocab, utf8, bytes, l->vocab.ids));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_learn_alphabet(cdl_learning *l, int32_t *id)
{
    uint64_t *count = cdl_mem_zalloc(CODE_POINTS, sizeof *count);
    if (!count)
        return cdl_status_nomem("the alphabet");
    count_letters(l, count);
    size_t n = 0;
    for (uint32_t cp = 0; cp < CODE_POINTS; cp++) {
        n += count[cp] != 0;
        id[cp] = -1;
    }
    letter *v = cdl_mem_array(n, sizeof *v);
    n = 0;
    for (uint32_t cp = 0; v && cp < CODE_POINTS; cp++)
        if (count[cp])
            v[n++] = (letter){ cp, count[cp] };
    cdl_mem_free(count);
    cuddle_status st = v ? add_letters(l, v, n, id) : cdl_status_nomem("the alphabet");
    cdl_mem_free(v);
    return st;
}

/* ---- Words as symbols ---- */

/* The id of a character with the prefix before it, or the suffix behind it. */
static cuddle_status framed_id(merging *m, uint32_t cp, bool prefix, bool suffix, int32_t *id)
{
    char utf8[4];
    cdl_vocab *v = &m->l->vocab;
    cdl_buf_clear(&m->text);
    CDL_TRY(cdl_buf_puts(&m->text, prefix ? m->l->o.continuing_prefix : ""));
    CDL_TRY(cdl_buf_append(&m->text, utf8, cdl_utf8_put(utf8, cp)));
    CDL_TRY(cdl_buf_puts(&m->text, suffix ? m->l->o.end_suffix : ""));
    *id = cdl_vocab_find(v, m->text.data, m->text.len);
    if (*id >= 0)
        return CUDDLE_OK;
    *id = (int32_t)v->ids;
    return cdl_vocab_add(v, m->text.data, m->text.len, *id);
}

/* inner: the ids of characters that do not begin a word, -1 where not known yet. */
static cuddle_status cut_word(merging *m, const cdl_counted *k, const int32_t *id, int32_t *inner, word *out)
{
    const char *s = m->l->words->text + k->at;
    bool suffixed = *m->l->o.end_suffix;
    uint32_t cp;
    out->at = m->n_symbol;
    for (size_t at = 0, bytes; at < k->n; at += bytes) {
        bytes = cdl_learning_char(m->l, s + at, k->n - at, &cp);
        if (id[cp] < 0)
            continue;
        int32_t token = at ? inner[cp] : id[cp];
        if (suffixed && at + bytes == k->n)
            CDL_TRY(framed_id(m, cp, at > 0, true, &token));
        else if (token < 0)
            CDL_TRY(framed_id(m, cp, true, false, &inner[cp]));
        m->symbol[m->n_symbol++] = (uint32_t)(token < 0 ? inner[cp] : token);
    }
    out->n = (uint32_t)(m->n_symbol - out->at);
    return CUDDLE_OK;
}

static cuddle_status cut_words(merging *m, int32_t *id)
{
    const cdl_counted_words *words = m->l->words;
    CDL_TRY(cdl_learn_alphabet(m->l, id));
    m->words = cdl_mem_array(words->n, sizeof *m->words);
    m->symbol = cdl_mem_array(words->n_text, sizeof *m->symbol);
    if (!m->words || !m->symbol)
        return cdl_status_nomem("the words of the texts");
    int32_t *inner = id;
    if (*m->l->o.continuing_prefix) {
        inner = id + CODE_POINTS;
        memset(inner, -1, CODE_POINTS * sizeof *inner);
    }
    for (size_t i = 0; i < words->n; i++)
        CDL_TRY(cut_word(m, &words->v[i], id, inner, &m->words[i]));
    return CUDDLE_OK;
}

/* ---- Pairs ---- */

static size_t hash_pair(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15ull;
    return (size_t)(h >> 29);
}

static cuddle_status grow_pairs(merging *m)
{
    size_t slots = m->slots ? 2 * m->slots : PAIR_SLOTS_FIRST;
    uint32_t *slot = cdl_mem_zalloc(slots, sizeof *slot);
    if (!slot)
        return cdl_status_nomem("the pairs of tokens");
    for (size_t i = 0; i < m->n_pairs; i++) {
        size_t at = hash_pair(m->pairs[i].a, m->pairs[i].b) & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)i + 1;
    }
    cdl_mem_free(m->slot);
    m->slot = slot;
    m->slots = slots;
    return CUDDLE_OK;
}

static cuddle_status find_pair(merging *m, uint32_t a, uint32_t b, pair **out)
{
    if (2 * m->n_pairs >= m->slots)
        CDL_TRY(grow_pairs(m));
    size_t at = hash_pair(a, b) & (m->slots - 1);
    for (; m->slot[at]; at = (at + 1) & (m->slots - 1)) {
        *out = &m->pairs[m->slot[at] - 1];
        if ((*out)->a == a && (*out)->b == b)
            return CUDDLE_OK;
    }
    if (m->n_pairs >= UINT32_MAX / 2)
        return cdl_status_fail(CUDDLE_ERR_FULL, "over %zu different pairs; feed less text", m->n_pairs);
    CDL_TRY(cdl_work_grow(&m->pairs, &m->cap_pairs, m->n_pairs + 1, sizeof *m->pairs));
    *out = &m->pairs[m->n_pairs++];
    **out = (pair){ .a = a, .b = b };
    m->slot[at] = (uint32_t)m->n_pairs;
    return CUDDLE_OK;
}

static cuddle_status pair_goes(merging *m, uint32_t a, uint32_t b, uint32_t in)
{
    pair *p;
    CDL_TRY(find_pair(m, a, b, &p));
    p->count -= (int64_t)m->l->words->v[in].count;
    return CUDDLE_OK;
}

static cuddle_status pair_comes(merging *m, uint32_t a, uint32_t b, uint32_t in)
{
    pair *p;
    CDL_TRY(find_pair(m, a, b, &p));
    p->count += (int64_t)m->l->words->v[in].count;
    if (p->fresh && p->word == in)
        return CUDDLE_OK;
    CDL_TRY(cdl_work_grow(&m->seen, &m->cap_seen, m->n_seen + 1, sizeof *m->seen));
    m->seen[m->n_seen++] = (appearance){ (uint32_t)(p - m->pairs), in };
    p->fresh++;
    p->word = in;
    return CUDDLE_OK;
}

/* ---- The heap ---- */

static bool before(const entry *x, const entry *y)
{
    if (x->count != y->count)
        return x->count > y->count;
    return x->a != y->a ? x->a < y->a : x->b < y->b;
}

static void sink(merging *m, entry e)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        child += child + 1 < m->n_heap && before(&m->heap[child + 1], &m->heap[child]);
        if (!before(&m->heap[child], &e))
            break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = e;
}

static cuddle_status push(merging *m, entry e)
{
    CDL_TRY(cdl_work_grow(&m->heap, &m->cap_heap, m->n_heap + 1, sizeof *m->heap));
    size_t i = m->n_heap++;
    for (; i && before(&e, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = e;
    return CUDDLE_OK;
}

/* The best pair with its count as it is now; false: none is left. */
static bool pop(merging *m, entry *out)
{
    while (m->n_heap) {
        *out = m->heap[0];
        int64_t count = m->pairs[out->pair].count;
        uint64_t now = count > 0 ? (uint64_t)count : 0;
        if (now == out->count) {
            m->n_heap--;
            if (m->n_heap)
                sink(m, m->heap[m->n_heap]);
            return true;
        }
        out->count = now;
        sink(m, *out);
    }
    return false;
}

/* The round's appearances become entries of the heap. */
static cuddle_status queue_seen(merging *m)
{
    CDL_TRY(cdl_work_grow(&m->where, &m->cap_where, m->n_where + m->n_seen, sizeof *m->where));
    for (size_t i = 0; i < m->n_seen; i++) {
        pair *p = &m->pairs[m->seen[i].pair];
        if (p->fresh) { /* its first: takes its room */
            p->at = m->n_where;
            m->n_where += p->fresh;
            if (p->count > 0)
                CDL_TRY(push(m, (entry){ (uint64_t)p->count, p->a, p->b, m->seen[i].pair, p->fresh, p->at }));
            p->fresh = 0;
        }
        m->where[p->at++] = m->seen[i].word;
    }
    m->n_seen = 0;
    return CUDDLE_OK;
}

static cuddle_status count_pairs(merging *m)
{
    for (size_t i = 0; i < m->l->words->n; i++) {
        const word *w = &m->words[i];
        for (uint32_t k = 1; k < w->n; k++)
            CDL_TRY(pair_comes(m, m->symbol[w->at + k - 1], m->symbol[w->at + k], (uint32_t)i));
    }
    return queue_seen(m);
}

/* ---- Merging ---- */

static bool fits(const merging *m, uint32_t a, uint32_t b)
{
    return !m->l->o.token_chars_max || m->chars[a] + m->chars[b] < m->l->o.token_chars_max;
}

static cuddle_status merge_word(merging *m, uint32_t in, const entry *e, uint32_t id)
{
    uint32_t *s = m->symbol + m->words[in].at, n = m->words[in].n, to = 0;
    for (uint32_t i = 0; i < n; ) {
        if (s[i] != e->a || i + 1 == n || s[i + 1] != e->b) {
            s[to++] = s[i++];
            continue;
        }
        if (to) {
            CDL_TRY(pair_goes(m, s[to - 1], e->a, in));
            if (fits(m, s[to - 1], id))
                CDL_TRY(pair_comes(m, s[to - 1], id, in));
        }
        s[to++] = id;
        i += 2;
        if (i < n) {
            CDL_TRY(pair_goes(m, e->b, s[i], in));
            if (fits(m, id, s[i]))
                CDL_TRY(pair_comes(m, id, s[i], in));
        }
    }
    m->words[in].n = to;
    return CUDDLE_OK;
}

/* The id of the token that a pair makes; it may be there already. */
static cuddle_status joined_id(merging *m, const entry *e, uint32_t *id)
{
    cdl_vocab *v = &m->l->vocab;
    const char *prefix = m->l->o.continuing_prefix;
    size_t na = 0, nb = 0, skip = strlen(prefix);
    const char *a = cdl_vocab_text(v, e->a, &na), *b = cdl_vocab_text(v, e->b, &nb);
    if (nb < skip || memcmp(b, prefix, skip) != 0)
        skip = 0;
    cdl_buf_clear(&m->text);
    CDL_TRY(cdl_buf_append(&m->text, a, na));
    CDL_TRY(cdl_buf_append(&m->text, b + skip, nb - skip));
    int32_t old = cdl_vocab_find(v, m->text.data, m->text.len);
    *id = old >= 0 ? (uint32_t)old : v->ids;
    if (old < 0)
        CDL_TRY(cdl_vocab_add(v, m->text.data, m->text.len, *id));
    CDL_TRY(cdl_work_grow(&m->chars, &m->cap_chars, v->ids, sizeof *m->chars));
    m->chars[*id] = m->chars[e->a] + m->chars[e->b];
    return CUDDLE_OK;
}

static cuddle_status merge_best(merging *m, const entry *e)
{
    cdl_learning *l = m->l;
    uint32_t id;
    CDL_TRY(joined_id(m, e, &id));
    CDL_TRY(cdl_work_grow(&l->merge, &l->cap_merge, l->n_merge + 1, sizeof *l->merge));
    l->merge[l->n_merge++] = (cdl_learned_merge){ e->a, e->b };
    for (uint32_t i = 0; i < e->n; i++)
        CDL_TRY(merge_word(m, m->where[e->at + i], e, id));
    return queue_seen(m);
}

static cuddle_status merge_all(merging *m)
{
    cdl_learning *l = m->l;
    entry e;
    CDL_TRY(cdl_work_grow(&m->chars, &m->cap_chars, l->vocab.ids, sizeof *m->chars));
    for (uint32_t i = 0; i < l->vocab.ids; i++)
        m->chars[i] = 1;
    CDL_TRY(count_pairs(m));
    while (l->vocab.ids < l->o.vocab_size && pop(m, &e)) {
        if (e.count < 1 || e.count < l->o.min_frequency)
            break;
        if (l->n_merge % PROGRESS_STEP == 0)
            CDL_TRY(cdl_learning_progress(l, "merging", l->vocab.ids, l->o.vocab_size));
        CDL_TRY(merge_best(m, &e));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_learn_merges(cdl_learning *l)
{
    merging m = { .l = l };
    int32_t *id = cdl_mem_array(2 * (size_t)CODE_POINTS, sizeof *id);
    cuddle_status st = id ? cut_words(&m, id) : cdl_status_nomem("the alphabet");
    cdl_mem_free(id);
    if (st == CUDDLE_OK)
        st = merge_all(&m);
    cdl_mem_free(m.symbol);
    cdl_mem_free(m.words);
    cdl_mem_free(m.pairs);
    cdl_mem_free(m.slot);
    cdl_mem_free(m.heap);
    cdl_mem_free(m.where);
    cdl_mem_free(m.seen);
    cdl_mem_free(m.chars);
    cdl_buf_free(&m.text);
    return st;
}
