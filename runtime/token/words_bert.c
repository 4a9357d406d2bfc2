/* words_bert.c - BERT's normalizer and pre-tokenizer in one pass when only ids are asked for.
 *
 * What most characters become is one character, or nothing, or the end of a word: a table of the first plane
 * tells. Others (decomposed ones, the upper planes) take the long way, one by one. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/bits.h"
#include "token/scan_map.h"
#include "token/unicode.h"
#include "token/words.h"

enum { PLANE = 0x10000, ASCII = 128, BATCH = 512, GROWS_TO = 64 }; /* GROWS_TO: bytes a character becomes, at most */

/* An entry of the table: the character, and what it is. */
enum {
    WORD = 0, SPACE = 1 << 24, PUNCT = 2 << 24, DROP = 3 << 24, LONG_WAY = 4 << 24, KIND = 7 << 24,
    CHAR = (1 << 24) - 1
};

static uint32_t kind_of(uint32_t cp)
{
    uint32_t c = cdl_unicode(cp);
    return c & CDL_UC_RUST_SPACE ? SPACE : c & CDL_UC_PUNCT ? PUNCT : WORD;
}

static uint32_t entry_of(const cdl_norm *step, uint32_t cp)
{
    uint32_t tmp[3], low[2];
    const uint32_t *parts;
    int32_t clean = step->clean_text ? cdl_norm_bert_clean(cp) : (int32_t)cp;
    if (clean < 0)
        return DROP;
    cp = (uint32_t)clean;
    bool alone = step->chinese && cdl_norm_is_chinese(cp);
    uint32_t n = step->strip_accents ? cdl_unicode_decompose(cp, false, tmp, &parts) : 1, kept = 0;
    for (uint32_t i = 0; step->strip_accents && i < n; i++) {
        if (cdl_unicode(parts[i]) & CDL_UC_NONSPACING)
            continue;
        cp = parts[i];
        kept++;
        if (cdl_unicode_ccc(cp))
            return LONG_WAY;
    }
    if (step->strip_accents && !kept)
        return alone ? LONG_WAY : DROP;
    if (kept > 1 || (step->lowercase && cdl_unicode_lower(cp, low) > 1))
        return LONG_WAY;
    cp = step->lowercase ? low[0] : cp;
    return alone ? kind_of(cp) == WORD ? PUNCT | cp : LONG_WAY : kind_of(cp) | cp;
}

/* The table of ASCII, where vectors can be had. */
static cuddle_status plan_ascii(cuddle_tokenizer *t)
{
#ifdef __x86_64__
    if (!cdl_scan_may_avx512() || !__builtin_cpu_supports("avx512vbmi2") || !__builtin_cpu_supports("avx512bw"))
        return CUDDLE_OK;
    t->bert_ascii = cdl_arena_alloc(&t->arena, 2 * ASCII);
    if (!t->bert_ascii)
        return cdl_status_nomem("the tokenizer");
    for (uint32_t cp = 0; cp < ASCII; cp++) {
        uint32_t k = t->bert[cp], kind = k & KIND;
        t->bert_ascii[cp] = (uint8_t)k;
        t->bert_ascii[ASCII + cp] = (k & CHAR) >= ASCII ? CDL_BERT_OTHER : kind == WORD ? CDL_BERT_WORD
            : kind == SPACE ? CDL_BERT_SPACE : kind == PUNCT ? CDL_BERT_PUNCT : CDL_BERT_OTHER;
    }
#endif
    return CUDDLE_OK;
}

cuddle_status cdl_words_plan_bert(cuddle_tokenizer *t)
{
    if (t->n_norm != 1 || t->norm[0].type != CDL_NORM_BERT || t->n_split != 1 || t->split[0].type != CDL_SPLIT_BERT
            || t->model.type == CDL_MODEL_BPE)
        return CUDDLE_OK;
    t->bert = cdl_arena_alloc(&t->arena, PLANE * sizeof *t->bert);
    if (!t->bert)
        return cdl_status_nomem("the tokenizer");
    for (uint32_t cp = 0; cp < PLANE; cp++)
        t->bert[cp] = entry_of(&t->norm[0], cp);
    return plan_ascii(t);
}

/* ---- A text ---- */

typedef struct {
    const cuddle_tokenizer *t;
    cuddle_encoding *e;
    char *out;                 /* words without gaps: the work's edit */
    size_t n, begin;           /* bytes so far; where the word at hand begins */
    uint32_t end[BATCH];
    size_t words;
} pass;

static cuddle_status flush(pass *p)
{
    cdl_token_work *w = &p->e->work;
    CDL_TRY(cdl_words_add(p->t, p->e, p->out, p->n, 0, p->end, p->words));
    CDL_TRY(cdl_words_flush(p->t, p->e));
    if (p->begin < p->n)
        memmove(p->out, p->out + p->begin, p->n - p->begin);
    p->n -= p->begin;
    p->begin = p->words = 0;
    if (w->cap_edit < 2 * p->n + 2 * GROWS_TO + 4096)
        CDL_TRY(cdl_work_grow(&w->edit, &w->cap_edit, 2 * p->n + 2 * GROWS_TO + 4096, 1));
    p->out = w->edit;
    return CUDDLE_OK;
}

static inline void end_word(pass *p)
{
    if (p->n == p->begin)
        return;
    p->end[p->words++] = (uint32_t)p->n;
    p->begin = p->n;
}

static inline void put_cp(pass *p, uint32_t cp, uint32_t kind)
{
    if (kind != WORD)
        end_word(p);
    if (kind == SPACE)
        return;
    if (cp < 0x80)
        p->out[p->n++] = (char)cp;
    else
        p->n += cdl_utf8_put(p->out + p->n, cp);
    if (kind == PUNCT)
        end_word(p);
}

static void put_lower(pass *p, const cdl_norm *step, uint32_t cp)
{
    uint32_t low[2] = { cp }, n = step->lowercase ? cdl_unicode_lower(cp, low) : 1;
    for (uint32_t i = 0; i < n; i++)
        put_cp(p, low[i], kind_of(low[i]));
}

/* Whether the marks that are kept may have to change places: only cdl_norm_run does that. */
static bool reorders(const cdl_norm *step, uint32_t cp)
{
    uint32_t tmp[3];
    const uint32_t *parts;
    uint32_t n = step->strip_accents ? cdl_unicode_decompose(cp, false, tmp, &parts) : 0;
    for (uint32_t i = 0; i < n; i++)
        if (cdl_unicode_ccc(parts[i]) && !(cdl_unicode(parts[i]) & CDL_UC_NONSPACING))
            return true;
    return false;
}

static void put_long_way(pass *p, const cdl_norm *step, uint32_t cp)
{
    uint32_t tmp[3], n = 1;
    const uint32_t *parts = &cp;
    int32_t clean = step->clean_text ? cdl_norm_bert_clean(cp) : (int32_t)cp;
    if (clean < 0)
        return;
    cp = (uint32_t)clean;
    bool alone = step->chinese && cdl_norm_is_chinese(cp);
    if (alone)
        end_word(p);
    if (step->strip_accents)
        n = cdl_unicode_decompose(cp, false, tmp, &parts);
    for (uint32_t i = 0; i < n; i++)
        if (!step->strip_accents || !(cdl_unicode(parts[i]) & CDL_UC_NONSPACING))
            put_lower(p, step, parts[i]);
    if (alone)
        end_word(p);
}

/* ASCII that stays in words, up to what the pass has room for; where it ends. */
static inline size_t put_ascii(pass *p, const char *s, size_t n, size_t at)
{
    const uint32_t *entry = p->t->bert;
    size_t room = p->e->work.cap_edit - p->n - GROWS_TO, end = n - at < room ? n : at + room;
    char *out = p->out + p->n;
    size_t first = at;
    for (uint32_t k; at < end && (uint8_t)s[at] < 0x80 && (k = entry[(uint8_t)s[at]]) < SPACE; at++)
        *out++ = (char)k;
    p->n += at - first;
    return at;
}

/* ASCII up to what is no part of it or dropped; where it ends. */
static cuddle_status put_blocks(pass *p, const char *s, size_t n, size_t *at)
{
    while (*at < n && (uint8_t)s[*at] < 0x80) {
        if (p->words + CDL_BITS_ROOM > BATCH || p->n + GROWS_TO > p->e->work.cap_edit)
            CDL_TRY(flush(p));
        cdl_bert_part part = cdl_bert_read_avx512(p->t->bert_ascii, s + *at, n - *at, p->out + p->n);
        if (!part.read)
            return CUDDLE_OK;
        if (p->n == p->begin)
            part.starts &= ~(uint64_t)1; /* no word ends there */
        size_t k = cdl_bits_put(p->end + p->words, p->n, part.starts);
        p->words += k;
        p->begin = k ? p->end[p->words - 1] : p->begin;
        p->n += part.put;
        *at += part.read;
        if (part.ended)
            end_word(p);
    }
    return CUDDLE_OK;
}

cuddle_status cdl_words_encode_bert(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, bool *done)
{
    const cdl_norm *step = &t->norm[0];
    pass p = { .t = t, .e = e };
    size_t before = e->n;
    CDL_TRY(flush(&p));
    for (size_t at = 0, k; at < n; at += k) {
        if (p.words + 8 > BATCH || p.n + GROWS_TO > e->work.cap_edit)
            CDL_TRY(flush(&p));
        if (t->bert_ascii)
            CDL_TRY(put_blocks(&p, s, n, &at));
        else
            at = put_ascii(&p, s, n, at);
        if (at == n)
            break;
        if (p.words + 8 > BATCH || p.n + GROWS_TO > e->work.cap_edit)
            CDL_TRY(flush(&p));
        uint32_t cp = (uint8_t)s[at], entry;
        k = cp < 0x80 ? 1 : cdl_utf8_get(s + at, n - at, &cp);
        entry = cp < PLANE ? t->bert[cp] : LONG_WAY;
        if ((entry & KIND) < DROP) {
            put_cp(&p, entry & CHAR, entry & KIND);
        } else if (entry == LONG_WAY) {
            if (reorders(step, cp)) {
                e->n = before;
                *done = false;
                return CUDDLE_OK;
            }
            put_long_way(&p, step, cp);
        }
    }
    end_word(&p);
    *done = true;
    return flush(&p);
}
