/* words.c - ids of a text and nothing else: cut into words on the way, common words remembered.
 *
 * A word's ids depend on its bytes alone, so a small table (of one encoding, for one tokenizer) gives
 * them back. Words are what the last pre-tokenizer cuts (scan.c), or, where a model takes whole lines and
 * writes spaces as U+2581, what begins with it: unless a token has it behind the same character, nothing
 * joins across. */
#include "token/words.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { WORD_BITS = 13, WORDS = 1 << WORD_BITS, WORD_BYTES = 16, WORD_IDS = 7 };

struct cdl_word {
    uint64_t first, last;      /* its bytes: the first and the last eight, overlapping or zero-filled */
    uint8_t bytes, n;          /* bytes 0: an empty slot                                              */
    int32_t ids[WORD_IDS];
};

static const char MARK[] = "\xe2\x96\x81"; /* U+2581 */
enum { MARK_BYTES = sizeof MARK - 1 };

static bool is_mark(const char *s, const char *end)
{
    return end - s >= MARK_BYTES && memcmp(s, MARK, MARK_BYTES) == 0;
}

/* ---- What a tokenizer allows ---- */

/* Bytes that stand in front of a mark within some token. */
static void find_joining(const cdl_vocab *v, uint8_t *joins)
{
    for (uint32_t id = 0; id < v->ids; id++) {
        const cdl_vocab_entry *k = &v->entry[id];
        const char *s = v->text + k->at, *end = k->n == CDL_VOCAB_NONE ? s : s + k->n;
        for (const char *hit = s + 1; hit < end && (hit = memchr(hit, MARK[0], (size_t)(end - hit))); hit++)
            if (is_mark(hit, end) && (hit - s < MARK_BYTES || !is_mark(hit - MARK_BYTES, end)))
                joins[(uint8_t)hit[-1]] = 1;
    }
}

/* The pre-tokenizers that words.c does itself: a scan at the end, maybe with ByteLevel's bytes behind. */
static void find_scan(cuddle_tokenizer *t)
{
    uint32_t n = t->n_split;
    const cdl_split *last = n ? &t->split[n - 1] : NULL;
    if (!last || last->type != CDL_SPLIT_BYTE_LEVEL || !last->raw_bytes || last->add_prefix_space)
        return;
    if (last->use_regex) {
        t->scan = last->pattern.scan;
        t->n_listed = n - 1;
        return;
    }
    const cdl_split *before = n > 1 ? last - 1 : NULL;
    if (!before || before->type != CDL_SPLIT_PATTERN || before->behavior != CDL_ISOLATED || before->invert)
        return;
    t->scan = before->pattern.scan;
    t->n_listed = t->scan ? n - 2 : n;
}

void cdl_words_plan(cuddle_tokenizer *t)
{
    const cdl_token_model *m = &t->model;
    t->n_listed = t->n_split;
    find_scan(t);
    /* without an unknown token a character may vanish, and what stood around it joins */
    t->marks = m->type == CDL_MODEL_BPE && !m->raw_bytes && !m->ignore_merges && !m->n_prefix && !m->n_suffix
        && m->unk >= 0 && cdl_vocab_find(&m->vocab, MARK, MARK_BYTES) >= 0;
    if (t->marks)
        find_joining(&m->vocab, t->joins);
}

/* ---- Words ---- */

static uint64_t load8(const char *s)
{
    uint64_t v;
    memcpy(&v, s, 8);
    return v;
}

static uint64_t load4(const char *s)
{
    uint32_t v;
    memcpy(&v, s, 4);
    return v;
}

/* n: 1 to WORD_BYTES. */
static void load_word(cdl_word *k, const char *s, size_t n)
{
    k->bytes = (uint8_t)n;
    k->first = k->last = 0;
    if (n >= 8) {
        k->first = load8(s);
        k->last = load8(s + n - 8);
    } else if (n >= 4) {
        k->first = load4(s);
        k->last = load4(s + n - 4);
    } else {
        k->first = (uint64_t)(uint8_t)s[0] << 16 | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint8_t)s[n - 1];
    }
}

static size_t slot_of(const cdl_word *k)
{
    uint64_t h = (k->first ^ k->bytes) * 0x9e3779b97f4a7c15ull ^ k->last * 0xd6e8feb86659fd93ull;
    return (h ^ h >> 29) * 0x94d049bb133111ebull >> (64 - WORD_BITS);
}

static cuddle_status prepare(const cuddle_tokenizer *t, cdl_token_work *w)
{
    if (!w->word)
        w->word = cdl_mem_array(WORDS, sizeof *w->word);
    if (!w->word)
        return cdl_status_nomem("the words of a text");
    if (w->word_owner != t->serial)
        memset(w->word, 0, WORDS * sizeof *w->word);
    w->word_owner = t->serial;
    return CUDDLE_OK;
}

static cuddle_status put_tokens(cuddle_encoding *e)
{
    const cdl_token_work *w = &e->work;
    CDL_TRY(cdl_encoding_reserve(e, e->n + w->n_token));
    for (size_t i = 0; i < w->n_token; i++)
        e->ids[e->n++] = w->token[i].id;
    return CUDDLE_OK;
}

static cuddle_status put_word(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n)
{
    cdl_token_work *w = &e->work;
    if (n > WORD_BYTES) {
        CDL_TRY(cdl_token_model_run(&t->model, w, s, (uint32_t)n));
        return put_tokens(e);
    }
    cdl_word key;
    load_word(&key, s, n);
    cdl_word *slot = &w->word[slot_of(&key)];
    if (slot->first == key.first && slot->last == key.last && slot->bytes == key.bytes) {
        if (e->n + WORD_IDS > e->cap)
            CDL_TRY(cdl_encoding_reserve(e, e->n + WORD_IDS));
        memcpy(e->ids + e->n, slot->ids, sizeof slot->ids);
        e->n += slot->n;
        return CUDDLE_OK;
    }
    CDL_TRY(cdl_token_model_run(&t->model, w, s, (uint32_t)n));
    if (w->n_token <= WORD_IDS) {
        *slot = key;
        slot->n = (uint8_t)w->n_token;
        for (size_t i = 0; i < w->n_token; i++)
            slot->ids[i] = w->token[i].id;
    }
    return put_tokens(e);
}

/* ---- Cutting ---- */

static cuddle_status put_scanned(const cuddle_tokenizer *t, cuddle_encoding *e, const cdl_piece *p)
{
    for (size_t at = 0, end; at < p->n; at = end) {
        end = cdl_scan_next(t->scan, p->s, p->n, at);
        CDL_TRY(put_word(t, e, p->s + at, end - at));
    }
    return CUDDLE_OK;
}

/* The next run of marks behind at that begins a word, or n. */
static size_t next_mark(const cuddle_tokenizer *t, const char *s, size_t n, size_t at)
{
    const char *end = s + n, *hit = s + at;
    for (;;) {
        while (is_mark(hit, end))
            hit += MARK_BYTES;
        while (hit < end && (hit = memchr(hit, MARK[0], (size_t)(end - hit))) && !is_mark(hit, end))
            hit++;
        if (!hit || hit >= end)
            return n;
        if (!t->joins[(uint8_t)hit[-1]])
            return (size_t)(hit - s);
    }
}

static cuddle_status put_marked(const cuddle_tokenizer *t, cuddle_encoding *e, const cdl_piece *p)
{
    for (size_t at = 0, end; at < p->n; at = end) {
        end = next_mark(t, p->s, p->n, at);
        CDL_TRY(put_word(t, e, p->s + at, end - at));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_words_encode(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    const cdl_token_work *w = &e->work;
    CDL_TRY(prepare(t, &e->work));
    for (size_t i = 0; i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        if (p->id >= 0) {
            CDL_TRY(cdl_encoding_reserve(e, e->n + 1));
            e->ids[e->n++] = p->id;
        } else if (t->scan) {
            CDL_TRY(put_scanned(t, e, p));
        } else if (t->marks) {
            CDL_TRY(put_marked(t, e, p));
        } else if (p->n) {
            CDL_TRY(put_word(t, e, p->s, p->n));
        }
    }
    return CUDDLE_OK;
}
