/* words.c - ids of a text and nothing else: cut into words on the way.
 *
 * Words are what the last pre-tokenizer cuts (scan.c), or, where a model takes whole lines and writes spaces as
 * U+2581, what begins with it: unless a token has it behind the same character, nothing joins across. */
#include "token/words.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { BATCH = CDL_SCAN_ENDS };

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
        const char *s = v->text + k->at, *end = s + k->n;
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

/* Whether the pre-tokenizers have cut there. */
static bool cuts_marks(const cuddle_tokenizer *t)
{
    const cdl_split *last = t->n_split ? &t->split[t->n_split - 1] : NULL;
    return last && last->type == CDL_SPLIT_METASPACE && last->split && last->cp == 0x2581;
}

cuddle_status cdl_words_plan(cuddle_tokenizer *t)
{
    const cdl_token_model *m = &t->model;
    t->n_listed = t->n_split;
    find_scan(t);
    /* without an unknown token a character may vanish, and what stood around it joins */
    t->marks = !cuts_marks(t) && m->type == CDL_MODEL_BPE && !m->raw_bytes && !m->ignore_merges && !m->n_prefix
        && !m->n_suffix && m->unk >= 0 && cdl_vocab_find(&m->vocab, MARK, MARK_BYTES) >= 0;
    if (t->marks)
        find_joining(&m->vocab, t->joins);
    return cdl_words_plan_bert(t);
}

/* ---- Cutting ---- */

static cuddle_status put_scanned(const cuddle_tokenizer *t, cuddle_encoding *e, const cdl_piece *p)
{
    uint32_t end[BATCH];
    cdl_scan_map *map = &e->work.map;
    CDL_TRY(cdl_scan_read(map, p->s, p->n));
    for (size_t at = 0, k; at < p->n; at = end[k - 1]) {
        k = cdl_scan_ends(map, t->scan, at, end, BATCH);
        CDL_TRY(cdl_words_add(t, e, p->s, p->n, at, end, k));
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
    uint32_t end[BATCH];
    for (size_t at = 0, next; at < p->n; at = next) {
        size_t k = 0;
        for (next = at; k < BATCH && next < p->n; k++)
            end[k] = (uint32_t)(next = next_mark(t, p->s, p->n, next));
        CDL_TRY(cdl_words_add(t, e, p->s, p->n, at, end, k));
    }
    return CUDDLE_OK;
}

/* Pieces from number i on that lie behind each other in memory, put together; the number of the next. */
static cuddle_status put_neighbours(const cuddle_tokenizer *t, cuddle_encoding *e, size_t *i)
{
    const cdl_token_work *w = &e->work;
    const char *s = w->piece[*i].s;
    uint32_t end[BATCH];
    uint64_t n = 0;
    size_t k = 0;
    for (; k < BATCH && *i < w->n; ++*i) {
        const cdl_piece *p = &w->piece[*i];
        if (p->id >= 0 || p->s != s + n || n + p->n > UINT32_MAX)
            break;
        end[k] = (uint32_t)(n += p->n);
        k += p->n > 0;
    }
    return cdl_words_add(t, e, s, n, 0, end, k);
}

cuddle_status cdl_words_encode(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    const cdl_token_work *w = &e->work;
    for (size_t i = 0; i < w->n; ) {
        const cdl_piece *p = &w->piece[i];
        if (p->id >= 0) {
            CDL_TRY(cdl_words_add_id(t, e, p->id));
        } else if (t->scan) {
            CDL_TRY(put_scanned(t, e, p));
        } else if (t->marks) {
            CDL_TRY(put_marked(t, e, p));
        } else {
            CDL_TRY(put_neighbours(t, e, &i));
            continue;
        }
        i++;
    }
    return cdl_words_flush(t, e);
}
