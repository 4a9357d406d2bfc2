/* train_words.c - how often each word stands in the texts; the most frequent ones as a vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/train.h"
#include "token/unicode.h"

enum { SLOTS_FIRST = 1 << 12 };

static uint32_t hash_of(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15ull, v;
    for (; n > 8; s += 8, n -= 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xd6e8feb86659fd93ull;
        h ^= h >> 32;
    }
    v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(uint8_t)s[i] << 8 * i;
    h = (h ^ v) * 0x94d049bb133111ebull;
    return (uint32_t)(h ^ h >> 32);
}

static cuddle_status grow_slots(cdl_counted_words *w)
{
    size_t slots = w->slots ? 2 * w->slots : SLOTS_FIRST;
    uint32_t *slot = cdl_mem_zalloc(slots, sizeof *slot);
    if (!slot)
        return cdl_status_nomem("the words of the texts");
    for (size_t i = 0; i < w->n; i++) {
        size_t at = w->v[i].hash & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)i + 1;
    }
    cdl_mem_free(w->slot);
    w->slot = slot;
    w->slots = slots;
    return CUDDLE_OK;
}

static cuddle_status add_hashed(cdl_counted_words *w, const char *s, uint32_t n, uint32_t hash, uint64_t count)
{
    if (2 * w->n >= w->slots)
        CDL_TRY(grow_slots(w));
    size_t at = hash & (w->slots - 1);
    for (; w->slot[at]; at = (at + 1) & (w->slots - 1)) {
        cdl_counted *k = &w->v[w->slot[at] - 1];
        if (k->hash == hash && k->n == n && memcmp(w->text + k->at, s, n) == 0) {
            k->count += count;
            return CUDDLE_OK;
        }
    }
    if (w->n >= UINT32_MAX / 2)
        return cdl_status_fail(CUDDLE_ERR_FULL, "over %zu different words; feed less text", w->n);
    CDL_TRY(cdl_work_grow(&w->v, &w->cap, w->n + 1, sizeof *w->v));
    CDL_TRY(cdl_work_grow(&w->text, &w->cap_text, w->n_text + n, 1));
    memcpy(w->text + w->n_text, s, n);
    w->v[w->n++] = (cdl_counted){ w->n_text, n, hash, count };
    w->n_text += n;
    w->slot[at] = (uint32_t)w->n;
    return CUDDLE_OK;
}

cuddle_status cdl_counted_add(cdl_counted_words *w, const char *s, uint32_t n)
{
    return add_hashed(w, s, n, hash_of(s, n), 1);
}

cuddle_status cdl_counted_merge(cdl_counted_words *w, const cdl_counted_words *more)
{
    for (const cdl_counted *k = more->v, *end = k + more->n; k < end; k++)
        CDL_TRY(add_hashed(w, more->text + k->at, k->n, k->hash, k->count));
    return CUDDLE_OK;
}

void cdl_counted_clear(cdl_counted_words *w)
{
    w->n = w->n_text = 0;
    if (w->slot)
        memset(w->slot, 0, w->slots * sizeof *w->slot);
}

/* ---- WordLevel ---- */

static _Thread_local const cdl_learning *sorted; /* qsort has no room for what comparisons need */

/* As their tokens show them: GPT-2's characters have another order than the bytes. */
static int compare_words(const cdl_counted *x, const cdl_counted *y)
{
    const char *a = sorted->words->text + x->at, *b = sorted->words->text + y->at;
    size_t n = x->n < y->n ? x->n : y->n, i = 0;
    int order = sorted->raw_bytes ? 0 : memcmp(a, b, n);
    if (sorted->raw_bytes) {
        while (i < n && a[i] == b[i])
            i++;
        if (i < n)
            order = cdl_unicode_from_byte((uint8_t)a[i]) < cdl_unicode_from_byte((uint8_t)b[i]) ? -1 : 1;
    }
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static int by_count(const void *a, const void *b)
{
    const cdl_counted *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : compare_words(x, y);
}

/* The most frequent first, of equal ones in the order of their characters. */
cuddle_status cdl_learn_words(cdl_learning *l)
{
    const cdl_counted_words *w = l->words;
    cdl_counted *v = cdl_mem_array(w->n, sizeof *v);
    if (!v)
        return cdl_status_nomem("the words of the texts");
    memcpy(v, w->v, w->n * sizeof *v);
    sorted = l;
    qsort(v, w->n, sizeof *v, by_count);
    cuddle_status st = CUDDLE_OK;
    cdl_buf text = { 0 };
    for (size_t i = 0; i < w->n && st == CUDDLE_OK && l->vocab.ids < l->o.vocab_size; i++) {
        if (v[i].count < l->o.min_frequency)
            break;
        cdl_buf_clear(&text);
        for (size_t at = 0; at < v[i].n && st == CUDDLE_OK; ) {
            char utf8[4];
            uint32_t cp;
            at += cdl_learning_char(l, w->text + v[i].at + at, v[i].n - at, &cp);
            st = cdl_buf_append(&text, utf8, cdl_utf8_put(utf8, cp));
        }
        if (st == CUDDLE_OK)
            st = cdl_vocab_add(&l->vocab, text.data, text.len, l->vocab.ids);
    }
    cdl_buf_free(&text);
    cdl_mem_free(v);
    return st;
}

void cdl_counted_free(cdl_counted_words *w)
{
    cdl_mem_free(w->text);
    cdl_mem_free(w->v);
    cdl_mem_free(w->slot);
    *w = (cdl_counted_words){ 0 };
}
