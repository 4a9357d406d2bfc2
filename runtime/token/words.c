/* words.c - ids of a text and nothing else: cut into words on the way, common words remembered.
 *
 * A word's ids depend on its bytes alone, so two small tables (of one encoding, for one tokenizer) give
 * them back: one of short words with few ids, one of others. Words are what the last pre-tokenizer cuts
 * (scan.c), or, where a model takes whole lines and writes spaces as U+2581, what begins with it: unless a
 * token has it behind the same character, nothing joins across. */
#include "token/words.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum {
    SHORT_BYTES = 15, SHORT_IDS = 4, SHORT_BITS = 10, SHORT_BITS_MAX = 16,
    LONG_BYTES = 48, LONG_IDS = 17, LONG_BITS = 8, LONG_BITS_MAX = 14,
    BATCH = CDL_SCAN_ENDS, AHEAD = 16
};

/* text: the bytes, zeros behind, and in the last byte how many they are | how many ids << 4; 0: empty. */
typedef struct {
    uint64_t text[2];
    int32_t ids[SHORT_IDS];
} short_word;

typedef struct {
    uint64_t hash;
    uint32_t bytes, n;         /* bytes 0: empty */
    char text[LONG_BYTES];
    int32_t ids[LONG_IDS];
} long_word;

struct cdl_words {
    short_word *brief;
    long_word *lengthy;
    uint32_t brief_bits, lengthy_bits;
    uint32_t brief_puts, lengthy_puts; /* since the table grew */
    uint64_t owner;            /* the serial of their tokenizer */
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

cuddle_status cdl_words_plan(cuddle_tokenizer *t)
{
    const cdl_token_model *m = &t->model;
    t->n_listed = t->n_split;
    find_scan(t);
    /* without an unknown token a character may vanish, and what stood around it joins */
    t->marks = m->type == CDL_MODEL_BPE && !m->raw_bytes && !m->ignore_merges && !m->n_prefix && !m->n_suffix
        && m->unk >= 0 && cdl_vocab_find(&m->vocab, MARK, MARK_BYTES) >= 0;
    if (t->marks)
        find_joining(&m->vocab, t->joins);
    return cdl_words_plan_bert(t);
}

/* ---- The tables ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ (b << 25 | b >> 39) * 0xd6e8feb86659fd93ull) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 32;
}

static uint64_t short_hash(const uint64_t key[2])
{
    return mix(key[0], key[1]) * 0x94d049bb133111ebull;
}

static short_word *short_slot(const cdl_words *t, uint64_t hash)
{
    return &t->brief[hash >> (64 - t->brief_bits)];
}

static long_word *long_slot(const cdl_words *t, uint64_t hash)
{
    return &t->lengthy[hash >> (64 - t->lengthy_bits)];
}

/* Four times the slots of a table that was filled about once. */
static cuddle_status grow_short(cdl_words *t)
{
    cdl_words old = *t;
    t->brief_puts = 0;
    if (t->brief_bits >= SHORT_BITS_MAX)
        return CUDDLE_OK;
    t->brief_bits = old.brief ? old.brief_bits + 2 : SHORT_BITS;
    t->brief_bits = t->brief_bits < SHORT_BITS_MAX ? t->brief_bits : SHORT_BITS_MAX;
    t->brief = cdl_mem_zalloc((size_t)1 << t->brief_bits, sizeof *t->brief);
    if (!t->brief) {
        *t = old;
        return cdl_status_nomem("the words of a text");
    }
    for (size_t i = 0; old.brief && i < (size_t)1 << old.brief_bits; i++) {
        uint64_t key[2] = { old.brief[i].text[0], old.brief[i].text[1] & 0x0fffffffffffffffull };
        if (key[1] >> 56)
            *short_slot(t, short_hash(key)) = old.brief[i];
    }
    cdl_mem_free(old.brief);
    return CUDDLE_OK;
}

static cuddle_status grow_long(cdl_words *t)
{
    cdl_words old = *t;
    t->lengthy_puts = 0;
    if (t->lengthy_bits >= LONG_BITS_MAX)
        return CUDDLE_OK;
    t->lengthy_bits = old.lengthy ? old.lengthy_bits + 2 : LONG_BITS;
    t->lengthy = cdl_mem_zalloc((size_t)1 << t->lengthy_bits, sizeof *t->lengthy);
    if (!t->lengthy) {
        *t = old;
        return cdl_status_nomem("the words of a text");
    }
    for (size_t i = 0; old.lengthy && i < (size_t)1 << old.lengthy_bits; i++)
        if (old.lengthy[i].bytes)
            *long_slot(t, old.lengthy[i].hash) = old.lengthy[i];
    cdl_mem_free(old.lengthy);
    return CUDDLE_OK;
}

void cdl_words_free(cdl_words *t)
{
    if (!t)
        return;
    cdl_mem_free(t->brief);
    cdl_mem_free(t->lengthy);
    cdl_mem_free(t);
}

cuddle_status cdl_words_prepare(const cuddle_tokenizer *t, cdl_token_work *w)
{
    if (w->words && w->words->owner != t->serial) {
        cdl_words_free(w->words);
        w->words = NULL;
    }
    if (!w->words)
        w->words = cdl_mem_zalloc(1, sizeof *w->words);
    if (!w->words)
        return cdl_status_nomem("the words of a text");
    w->words->owner = t->serial;
    if (!w->words->brief)
        CDL_TRY(grow_short(w->words));
    return w->words->lengthy ? CUDDLE_OK : grow_long(w->words);
}

/* The ids of a word, by the model. */
static cuddle_status put_model(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n)
{
    cdl_token_work *w = &e->work;
    if (t->model.type == CDL_MODEL_BPE && !t->model.n_prefix && !t->model.n_suffix) {
        uint32_t k;
        CDL_TRY(cdl_encoding_reserve(e, e->n + n));
        CDL_TRY(cdl_bpe_ids(&t->model, w, s, (uint32_t)n, e->ids + e->n, &k));
        e->n += k;
        return CUDDLE_OK;
    }
    CDL_TRY(cdl_token_model_run(&t->model, w, s, (uint32_t)n));
    CDL_TRY(cdl_work_check(w, e->n + w->n_token));
    CDL_TRY(cdl_encoding_reserve(e, e->n + w->n_token));
    for (size_t i = 0; i < w->n_token; i++)
        e->ids[e->n++] = w->token[i].id;
    return CUDDLE_OK;
}

static uint64_t hash_long(const char *s, size_t n)
{
    uint64_t h = n * 0x94d049bb133111ebull, eight;
    for (size_t i = 0; i + 8 <= n; i += 8) {
        memcpy(&eight, s + i, 8);
        h = mix(h, eight);
    }
    eight = 0;
    memcpy(&eight, s + n / 8 * 8, n % 8);
    return mix(h, eight) * 0x94d049bb133111ebull;
}

static cuddle_status keep_short(cdl_words *words, const uint64_t *key, const int32_t *ids, size_t k)
{
    short_word *slot = short_slot(words, short_hash(key));
    *slot = (short_word){ .text = { key[0], key[1] | (uint64_t)k << 60 } };
    memcpy(slot->ids, ids, k * sizeof *ids);
    return ++words->brief_puts >> words->brief_bits ? grow_short(words) : CUDDLE_OK;
}

static cuddle_status keep_long(cdl_words *words, uint64_t hash, const char *s, size_t n, const int32_t *ids, size_t k)
{
    long_word *slot = long_slot(words, hash);
    slot->hash = hash;
    slot->bytes = (uint32_t)n;
    slot->n = (uint32_t)k;
    memcpy(slot->text, s, n);
    memcpy(slot->ids, ids, k * sizeof *ids);
    return ++words->lengthy_puts >> words->lengthy_bits ? grow_long(words) : CUDDLE_OK;
}

/* A word in parts that nothing joins, the first of which ends at first. */
static cuddle_status put_parts(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, size_t first)
{
    uint32_t end[64];
    for (size_t at = 0, next = first; at < n; ) {
        size_t k = 0;
        for (; k < 64 && next <= n; next = next < n ? cdl_bpe_cut(&t->model, s, n, next) : n + 1)
            end[k++] = (uint32_t)next;
        CDL_TRY(cdl_words_put(t, e, s, n, at, end, k));
        at = end[k - 1];
    }
    return CUDDLE_OK;
}

/* A word that is not among the short ones; hash: hash_long of up to LONG_BYTES; key: of a short word, or NULL. */
static cuddle_status put_other(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n,
        uint64_t hash, const uint64_t *key)
{
    cdl_words *words = e->work.words;
    const long_word *slot = long_slot(words, hash);
    size_t before = e->n;
    if (n <= LONG_BYTES && slot->hash == hash && slot->bytes == n && memcmp(slot->text, s, n) == 0) {
        CDL_TRY(cdl_encoding_reserve(e, e->n + LONG_IDS));
        memcpy(e->ids + e->n, slot->ids, sizeof slot->ids);
        e->n += slot->n;
        return CUDDLE_OK;
    }
    size_t cut = t->model.joins ? cdl_bpe_cut(&t->model, s, n, 0) : n;
    CDL_TRY(cut < n ? put_parts(t, e, s, n, cut) : put_model(t, e, s, n));
    size_t ids = e->n - before;
    if (key && ids <= SHORT_IDS)
        return keep_short(words, key, e->ids + before, ids);
    return n <= LONG_BYTES && ids <= LONG_IDS ? keep_long(words, hash, s, n, e->ids + before, ids) : CUDDLE_OK;
}

/* The key of a short word; 16 bytes can be read at s if there is room for them. */
static inline void load_key(uint64_t key[2], const char *s, size_t n, bool room)
{
    char copy[16] = { 0 };
    if (!room) {
        memcpy(copy, s, n);
        s = copy;
    }
    memcpy(key, s, 16);
    if (n <= 8)
        key[0] &= UINT64_MAX >> (64 - 8 * n);
    key[1] = n <= 8 ? 0 : key[1] & UINT64_MAX >> (128 - 8 * n);
    key[1] |= (uint64_t)n << 56;
}

/* What a word is looked for by: a short one's key, or the hash of others. */
typedef struct {
    uint64_t key[2], hash;
} look;

/* Asks the memory for the words that begin at byte at and end at end[0, k), before they are needed. */
static inline void look_ahead(const cdl_words *words, const char *s, size_t n, size_t at, const uint32_t *end,
        size_t k, look *v)
{
    for (size_t i = 0; i < k; at = end[i++]) {
        size_t bytes = end[i] - at;
        v[i].hash = 0;
        if (bytes <= SHORT_BYTES) {
            load_key(v[i].key, s + at, bytes, at + 16 <= n);
            v[i].hash = short_hash(v[i].key);
            __builtin_prefetch(short_slot(words, v[i].hash));
        } else if (bytes <= LONG_BYTES) {
            const long_word *slot = long_slot(words, v[i].hash = hash_long(s + at, bytes));
            __builtin_prefetch(slot);
            __builtin_prefetch((const char *)slot + 64);
        }
    }
}

cuddle_status cdl_words_put(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, size_t at,
        const uint32_t *end, size_t k)
{
    look v[AHEAD];
    const cdl_words *words = e->work.words;
    CDL_TRY(cdl_encoding_reserve(e, e->n + k * SHORT_IDS + SHORT_IDS));
    for (size_t i = 0; i < k; at = end[i++]) {
        size_t bytes = end[i] - at;
        look *x = &v[i % AHEAD];
        if (i % AHEAD == 0)
            look_ahead(words, s, n, at, end + i, k - i < AHEAD ? k - i : AHEAD, v);
        if (bytes <= SHORT_BYTES) {
            const short_word *slot = short_slot(words, x->hash);
            if (slot->text[0] == x->key[0] && (slot->text[1] ^ x->key[1]) << 4 == 0) {
                memcpy(e->ids + e->n, slot->ids, sizeof slot->ids);
                e->n += slot->text[1] >> 60;
                continue;
            }
            CDL_TRY(put_other(t, e, s + at, bytes, hash_long(s + at, bytes), x->key));
        } else {
            CDL_TRY(put_other(t, e, s + at, bytes, x->hash, NULL));
        }
        CDL_TRY(cdl_encoding_reserve(e, e->n + (k - i) * SHORT_IDS));
    }
    return CUDDLE_OK;
}

/* ---- Cutting ---- */

static cuddle_status put_scanned(const cuddle_tokenizer *t, cuddle_encoding *e, const cdl_piece *p)
{
    uint32_t end[BATCH];
    cdl_scan_map *map = &e->work.map;
    CDL_TRY(cdl_scan_read(map, p->s, p->n));
    for (size_t at = 0, k; at < p->n; at = end[k - 1]) {
        k = cdl_scan_ends(map, t->scan, at, end, BATCH);
        CDL_TRY(cdl_words_put(t, e, p->s, p->n, at, end, k));
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
        CDL_TRY(cdl_words_put(t, e, p->s, p->n, at, end, k));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_words_encode(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    const cdl_token_work *w = &e->work;
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
            CDL_TRY(cdl_words_put(t, e, p->s, p->n, 0, &p->n, 1));
        }
    }
    return CUDDLE_OK;
}
