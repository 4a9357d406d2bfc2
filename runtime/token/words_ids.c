/* words_ids.c - the ids of words, remembered.
 *
 * A word's ids depend on its bytes alone, so tables give them back: one of the tokenizer, for words that are one token
 * (bpe_whole.h), and two small ones of one encoding, for short words with few ids and for others. Many words go
 * through each step together, so that none waits for the memory, or for its merges, alone. */
#include <string.h>

#include "base/mem.h"
#include "token/bpe_whole.h"
#include "token/words.h"

enum {
    SHORT_BYTES = CDL_WORD_KEY_BYTES, SHORT_IDS = 4, SHORT_BITS = 10, SHORT_BITS_MAX = 16,
    LONG_BYTES = CDL_WORD_LOOK_BYTES, LONG_IDS = 17, LONG_BITS = 8, LONG_BITS_MAX = 14,
    ELSEWHERE = 13, PENDING_PART = 14, PENDING = 15, STEP = 128, LIST = 1024,
    SPARE = 16                 /* ids that may be read and written behind the last */
};

/* In the last byte of the key stands how many ids there are << 4, too; 0: empty. Or one of these: ELSEWHERE: the ids
 * are too many and lie in the table of long words; PENDING: ids[0] is the number of an unseen word of the list at
 * hand; PENDING_PART: of that of parts. */
typedef struct {
    cdl_word_key key;
    int32_t ids[SHORT_IDS];
} short_word;

/* Two cache lines. */
typedef struct {
    uint64_t hash;
    uint16_t bytes, n;         /* bytes 0: empty */
    char text[LONG_BYTES];
    int32_t ids[LONG_IDS];
} long_word;

/* A word that is no whole token. */
typedef struct {
    cdl_word_look look;
    uint32_t place;            /* among the words of the list */
    uint32_t same;             /* 1 + the number of an earlier one that is the same, or 0 */
    uint32_t cut;              /* where its first part ends if it is cut into parts that nothing joins, or 0 */
    uint32_t n;                /* its ids, in the room, or in joined if it is cut */
    size_t at;
} other;

typedef struct {
    cdl_word_look pending[STEP];       /* words that the memory was asked for */
    int32_t *id;               /* [n]: of whole tokens, else -1 */
    other *other;              /* [n_other], in order */
    size_t n_pending, n, n_other, cap, cap_other;
} list;

struct cdl_words {
    short_word *brief;
    long_word *lengthy;
    uint32_t brief_bits, lengthy_bits;
    bool many, cold;           /* their size is fixed, for many texts; ... and nothing was written yet */
    uint32_t brief_puts, lengthy_puts; /* since the table grew */
    uint64_t owner;            /* the serial of their tokenizer */
    bool torn;                 /* an error left pending words   */
    list words, parts;         /* at hand: of the text, and of words that are cut */
    cdl_bpe_word *bpe;
    int32_t *room, *joined;
    size_t room_n, room_cap, joined_n, joined_cap, bpe_cap;
};

/* ---- The tables ---- */

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
    if (t->many || t->brief_bits >= SHORT_BITS_MAX)
        return CUDDLE_OK;
    t->brief_bits = old.brief ? old.brief_bits + 2 : SHORT_BITS;
    t->brief = cdl_mem_zalloc((size_t)1 << t->brief_bits, sizeof *t->brief);
    if (!t->brief) {
        t->brief = old.brief;
        t->brief_bits = old.brief_bits;
        return cdl_status_nomem("the words of a text");
    }
    for (size_t i = 0; old.brief && i < (size_t)1 << old.brief_bits; i++) {
        cdl_word_key key = { old.brief[i].key.low, old.brief[i].key.high & UINT64_MAX >> 4 };
        if (key.high)
            *short_slot(t, cdl_word_hash(key)) = old.brief[i];
    }
    cdl_mem_free(old.brief);
    return CUDDLE_OK;
}

static cuddle_status grow_long(cdl_words *t)
{
    long_word *old = t->lengthy;
    uint32_t old_bits = t->lengthy_bits;
    t->lengthy_puts = 0;
    if (t->many || t->lengthy_bits >= LONG_BITS_MAX)
        return CUDDLE_OK;
    t->lengthy_bits = old ? old_bits + 2 : LONG_BITS;
    t->lengthy = cdl_mem_zalloc((size_t)1 << t->lengthy_bits, sizeof *t->lengthy);
    if (!t->lengthy) {
        t->lengthy = old;
        t->lengthy_bits = old_bits;
        return cdl_status_nomem("the words of a text");
    }
    for (size_t i = 0; old && i < (size_t)1 << old_bits; i++)
        if (old[i].bytes)
            *long_slot(t, old[i].hash) = old[i];
    cdl_mem_free(old);
    return CUDDLE_OK;
}

static size_t large_bytes(const cdl_words *t)
{
    return (sizeof *t->brief << t->brief_bits) + (sizeof *t->lengthy << t->lengthy_bits);
}

static void free_tables(cdl_words *t)
{
    if (t->many) {
        cdl_mem_pages_free(t->brief, large_bytes(t));
    } else {
        cdl_mem_free(t->brief);
        cdl_mem_free(t->lengthy);
    }
}

/* The largest tables, in pages that need few faults, which come when they are written to; half as large, one huge page,
 * where few words are left to remember, since most are whole tokens. */
static cuddle_status make_large(const cdl_token_model *m, cdl_words *t)
{
    t->brief_bits = SHORT_BITS_MAX - !!m->whole;
    t->lengthy_bits = LONG_BITS_MAX - !!m->whole;
    t->brief = cdl_mem_pages(large_bytes(t));
    if (!t->brief)
        return cdl_status_nomem("the words of a text");
    t->lengthy = (long_word *)(t->brief + ((size_t)1 << t->brief_bits));
    t->many = t->cold = true;
    return CUDDLE_OK;
}

void cdl_words_free(cdl_words *t)
{
    if (!t)
        return;
    free_tables(t);
    cdl_mem_free(t->words.id);
    cdl_mem_free(t->words.other);
    cdl_mem_free(t->parts.id);
    cdl_mem_free(t->parts.other);
    cdl_mem_free(t->bpe);
    cdl_mem_free(t->room);
    cdl_mem_free(t->joined);
    cdl_mem_free(t);
}

static void clear(cdl_words *t, list *l)
{
    l->n_pending = l->n = l->n_other = 0;
    if (l == &t->words)
        t->room_n = t->joined_n = 0;
}

cuddle_status cdl_words_reserve(const cuddle_tokenizer *t, cdl_token_work *w)
{
    if (w->words && (w->words->owner != t->serial || w->words->many != w->many)) {
        cdl_words_free(w->words);
        w->words = NULL;
    }
    if (!w->words)
        w->words = cdl_mem_zalloc(1, sizeof *w->words);
    if (!w->words)
        return cdl_status_nomem("the words of a text");
    w->words->owner = t->serial;
    return w->many && !w->words->brief ? make_large(&t->model, w->words) : CUDDLE_OK;
}

cuddle_status cdl_words_prepare(const cuddle_tokenizer *t, cdl_token_work *w)
{
    CDL_TRY(cdl_words_reserve(t, w));
    cdl_words *words = w->words;
    clear(words, &words->words);
    if (words->torn && words->brief)
        memset(words->brief, 0, sizeof *words->brief << words->brief_bits);
    words->torn = false;
    if (words->cold)
        words->brief->key.high = words->lengthy->bytes = 0; /* asks the system for the pages */
    words->cold = false;
    if (!words->brief)
        CDL_TRY(grow_short(words));
    return words->lengthy ? CUDDLE_OK : grow_long(words);
}

/* n: of the ids, or ELSEWHERE without them. */
static cuddle_status keep_short(cdl_words *t, const cdl_word_look *v, const int32_t *ids, size_t n)
{
    short_word *slot = short_slot(t, v->hash);
    *slot = (short_word){ .key = { v->key.low, v->key.high | (uint64_t)n << 60 } };
    memcpy(slot->ids, ids, sizeof slot->ids); /* SPARE ones can be read behind the last */
    return ++t->brief_puts >> t->brief_bits ? grow_short(t) : CUDDLE_OK;
}

static cuddle_status keep_long(cdl_words *t, const cdl_word_look *v, const int32_t *ids, size_t n)
{
    long_word *slot = long_slot(t, v->hash);
    slot->hash = v->hash;
    slot->bytes = (uint16_t)v->bytes;
    slot->n = (uint16_t)n;
    memcpy(slot->text, v->s, v->bytes);
    memcpy(slot->ids, ids, n * sizeof *ids);
    return ++t->lengthy_puts >> t->lengthy_bits ? grow_long(t) : CUDDLE_OK;
}

static cuddle_status keep(cdl_words *t, const cdl_word_look *v, const int32_t *ids, size_t n)
{
    if (v->bytes <= SHORT_BYTES)
        CDL_TRY(keep_short(t, v, ids, n <= SHORT_IDS ? n : ELSEWHERE));
    bool fits = v->bytes <= LONG_BYTES && n <= LONG_IDS;
    return fits && (v->bytes > SHORT_BYTES || n > SHORT_IDS) ? keep_long(t, v, ids, n) : CUDDLE_OK;
}

/* ---- Looking for words ---- */

static cdl_word_look_at *pick_look(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
        return cdl_word_look_at_avx512;
#endif
    return cdl_word_look_at_plain;
}

static cdl_whole_find *pick_find(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return cdl_whole_find_avx512;
#endif
    return cdl_whole_find_plain;
}

static uint32_t find_none(uint32_t n, int32_t *id, uint32_t *others)
{
    for (uint32_t i = 0; i < n; i++) {
        id[i] = -1;
        others[i] = i;
    }
    return n;
}

/* Tells whole tokens from other words, and asks the memory for these. */
static cuddle_status find_pending(const cdl_token_model *m, const cdl_words *t, list *l)
{
    uint32_t others[STEP], n = (uint32_t)l->n_pending;
    CDL_TRY(cdl_work_grow(&l->id, &l->cap, l->n + STEP + SPARE, sizeof *l->id));
    int32_t *id = l->id + l->n;
    uint32_t k = m->whole ? pick_find()(m, l->pending, n, id, others) : find_none(n, id, others);
    CDL_TRY(cdl_work_grow(&l->other, &l->cap_other, l->n_other + k + 1, sizeof *l->other));
    l->other[l->n_other + k] = (other){ 0 };
    for (uint32_t j = 0; j < k; j++) {
        const cdl_word_look *v = &l->pending[others[j]];
        l->other[l->n_other++] = (other){ .look = *v, .place = (uint32_t)l->n + others[j] };
        const char *slot = v->bytes <= SHORT_BYTES ? (const char *)short_slot(t, v->hash)
            : (const char *)long_slot(t, v->hash);
        __builtin_prefetch(slot);
        __builtin_prefetch(v->bytes <= SHORT_BYTES ? slot : slot + 64);
    }
    l->n += n;
    l->n_pending = 0;
    return CUDDLE_OK;
}

static cuddle_status reserve_room(cdl_words *t, size_t n)
{
    return cdl_work_grow(&t->room, &t->room_cap, t->room_n + n + SPARE, sizeof *t->room);
}

static bool recall_long(cdl_words *t, other *o)
{
    const long_word *slot = long_slot(t, o->look.hash);
    if (slot->hash != o->look.hash || slot->bytes != o->look.bytes || memcmp(slot->text, o->look.s, slot->bytes) != 0)
        return false;
    memcpy(t->room + t->room_n, slot->ids, sizeof slot->ids);
    o->n = slot->n;
    return true;
}

/* A slot that has the word, but not its ids. */
static bool recall_special(cdl_words *t, other *o, const short_word *slot, uint32_t pending)
{
    uint32_t n = (uint32_t)(slot->key.high >> 60);
    o->same = n == pending ? 1 + (uint32_t)slot->ids[0] : 0;
    return n == pending || (n == ELSEWHERE && recall_long(t, o));
}

/* Takes a word's ids, or marks its slot; all ones if it is unseen. What is seen and what not would be guessed wrong too
 * often for branches. */
static inline uint64_t recall_short(cdl_words *t, other *o, uint32_t i, uint32_t pending)
{
    short_word *slot = short_slot(t, o->look.hash);
    uint64_t high = slot->key.high, n = high >> 60;
    uint64_t differs = (slot->key.low ^ o->look.key.low) | (high ^ o->look.key.high) << 4;
    uint64_t unseen = -(uint64_t)(differs != 0);
    __asm__("" : "+r"(unseen));
    if (__builtin_expect((n > SHORT_IDS) & ~unseen, 0)) {
        if (recall_special(t, o, slot, pending))
            return 0;
        unseen = UINT64_MAX;
    }
    memcpy(t->room + t->room_n, slot->ids, sizeof slot->ids);
    o->n = (uint32_t)(n & ~unseen);
    slot->key.low = o->look.key.low;
    slot->key.high = (high & ~unseen) | ((o->look.key.high | (uint64_t)pending << 60) & unseen);
    slot->ids[0] = (int32_t)(((uint64_t)slot->ids[0] & ~unseen) | (i & unseen));
    return unseen;
}

/* Takes the ids of words that were there before; lists the numbers of the others. */
static cuddle_status recall(cdl_words *t, list *l, uint32_t *unseen, size_t *n_unseen)
{
    uint32_t pending = l == &t->words ? PENDING : PENDING_PART;
    size_t k = 0;
    CDL_TRY(reserve_room(t, l->n_other * LONG_IDS));
    for (size_t i = 0; i < l->n_other; i++) {
        other *o = &l->other[i];
        o->at = t->room_n;
        unseen[k] = (uint32_t)i;
        if (o->look.bytes <= SHORT_BYTES)
            k += recall_short(t, o, (uint32_t)i, pending) & 1;
        else
            k += !recall_long(t, o);
        t->room_n += o->n;
    }
    *n_unseen = k;
    return CUDDLE_OK;
}

/* ---- Unseen words ---- */

static cuddle_status run_bpe(const cdl_token_model *m, cdl_token_work *w, list *l, const uint32_t *unseen, size_t n)
{
    cdl_words *t = w->words;
    size_t most = 0;
    CDL_TRY(cdl_work_grow(&t->bpe, &t->bpe_cap, n, sizeof *t->bpe));
    for (size_t i = 0; i < n; i++) {
        other *o = &l->other[unseen[i]];
        t->bpe[i] = (cdl_bpe_word){ .s = o->look.s, .n = o->look.bytes };
        o->at = t->room_n + most;
        most += o->look.bytes;
    }
    CDL_TRY(reserve_room(t, most));
    for (size_t i = 0; i < n; i++)
        t->bpe[i].ids = t->room + l->other[unseen[i]].at;
    t->room_n += most;
    CDL_TRY(cdl_bpe_words(m, w, t->bpe, n));
    for (size_t i = 0; i < n; i++)
        l->other[unseen[i]].n = t->bpe[i].n_ids;
    return CUDDLE_OK;
}

static cuddle_status run_unigram(const cdl_token_model *m, cdl_token_work *w, other *o)
{
    cdl_words *t = w->words;
    const int32_t *ids;
    CDL_TRY(cdl_unigram_ids(m, w, o->look.s, o->look.bytes, &ids, &o->n));
    CDL_TRY(cdl_work_check(w, t->room_n + o->n));
    CDL_TRY(reserve_room(t, o->n));
    memcpy(t->room + t->room_n, ids, o->n * sizeof *ids);
    o->at = t->room_n;
    t->room_n += o->n;
    return CUDDLE_OK;
}

static cuddle_status run_model(const cdl_token_model *m, cdl_token_work *w, list *l, const uint32_t *unseen, size_t n)
{
    cdl_words *t = w->words;
    if (m->type == CDL_MODEL_BPE && !m->n_prefix && !m->n_suffix)
        return run_bpe(m, w, l, unseen, n);
    for (size_t i = 0; i < n; i++) {
        other *o = &l->other[unseen[i]];
        if (m->type == CDL_MODEL_UNIGRAM) {
            CDL_TRY(run_unigram(m, w, o));
            continue;
        }
        CDL_TRY(cdl_token_model_run(m, w, o->look.s, o->look.bytes));
        CDL_TRY(cdl_work_check(w, t->room_n + w->n_token));
        CDL_TRY(reserve_room(t, w->n_token));
        o->at = t->room_n;
        o->n = (uint32_t)w->n_token;
        for (size_t j = 0; j < w->n_token; j++)
            t->room[t->room_n++] = w->token[j].id;
    }
    return CUDDLE_OK;
}

static cuddle_status join_cut(const cdl_token_model *m, cdl_token_work *w, list *l);

/* Words of bytes are cut in front of characters beyond ASCII only: soon told of a short one. */
static bool may_cut(const cdl_token_model *m, const cdl_word_look *v)
{
    if (!m->joins)
        return false;
    return !m->raw_bytes || v->bytes > SHORT_BYTES || (v->key.low | v->key.high) & 0x8080808080808080ull;
}

/* All ids of the list's words. */
static cuddle_status resolve(const cdl_token_model *m, cdl_token_work *w, list *l)
{
    cdl_words *t = w->words;
    uint32_t unseen[LIST + STEP];
    size_t n, k = 0;
    CDL_TRY(find_pending(m, t, l));
    t->torn = true;
    CDL_TRY(recall(t, l, unseen, &n));
    for (size_t i = 0; i < n; i++) {
        other *o = &l->other[unseen[i]];
        size_t bytes = o->look.bytes, cut = bytes;
        if (l == &t->words && may_cut(m, &o->look))
            cut = cdl_bpe_cut(m, o->look.s, bytes, 0);
        o->cut = cut < bytes ? (uint32_t)cut : 0;
        unseen[k] = unseen[i];
        k += !o->cut;
    }
    if (k)
        CDL_TRY(run_model(m, w, l, unseen, k));
    for (size_t i = 0; i < k; i++) {
        const other *o = &l->other[unseen[i]];
        CDL_TRY(keep(t, &o->look, t->room + o->at, o->n));
    }
    if (k < n)
        CDL_TRY(join_cut(m, w, l));
    for (size_t i = 0; i < l->n_other; i++) {
        other *o = &l->other[i];
        const other *first = o->same ? &l->other[o->same - 1] : o;
        o->at = first->at;
        o->n = first->n;
        o->cut = first->cut;
    }
    t->torn = l != &t->words;
    return CUDDLE_OK;
}

/* ---- Words that are cut into parts ---- */

/* n ids, and up to SPARE behind them: in steps that most often are one. */
static inline int32_t *copy(int32_t *to, const int32_t *ids, size_t n, size_t step)
{
    size_t i = 0;
    do
        memcpy(to + i, ids + i, step * sizeof *ids);
    while ((i += step) < n);
    return to + n;
}

/* The ids of the parts at hand go to the words that they are of: of[i] of the i-th. */
static cuddle_status take_parts(const cdl_token_model *m, cdl_token_work *w, other *const *of)
{
    cdl_words *t = w->words;
    list *l = &t->parts;
    size_t room = t->room_n, n = l->n + l->n_pending;
    CDL_TRY(resolve(m, w, l));
    for (size_t i = 0; i < l->n_other; i++)
        n += l->other[i].n;
    CDL_TRY(cdl_work_grow(&t->joined, &t->joined_cap, t->joined_n + n + SPARE, sizeof *t->joined));
    const other *next = l->other; /* one is there behind the last */
    int32_t *to = t->joined + t->joined_n;
    for (size_t i = 0; i < l->n; i++) {
        const int32_t *ids = l->id + i, *others = t->room + next->at;
        other *word = of[i];
        uintptr_t whole = -(uintptr_t)(*ids >= 0);
        __asm__("" : "+r"(whole));
        ids = (const int32_t *)(((uintptr_t)ids & whole) | ((uintptr_t)others & ~whole));
        uint32_t k = (uint32_t)((1 & whole) | (next->n & ~whole));
        next += 1 & ~whole;
        word->at = word->n ? word->at : (size_t)(to - t->joined);
        word->n += k;
        to = copy(to, ids, k, 2 * SHORT_IDS);
    }
    t->joined_n = (size_t)(to - t->joined);
    t->room_n = room;
    clear(t, l);
    return CUDDLE_OK;
}

/* The ends of the parts of a word behind byte at, up to most; how many. */
static size_t cut_ends(const cdl_token_model *m, const other *o, size_t at, uint32_t *end, size_t most)
{
    size_t k = 0;
    for (; k < most && at < o->look.bytes; k++) {
        at = at ? cdl_bpe_cut(m, o->look.s, o->look.bytes, at) : o->cut;
        end[k] = (uint32_t)at;
    }
    return k;
}

static cuddle_status join_cut(const cdl_token_model *m, cdl_token_work *w, list *l)
{
    cdl_words *t = w->words;
    list *parts = &t->parts;
    other *of[LIST];
    uint32_t end[STEP];
    size_t n = 0;
    clear(t, parts);
    for (size_t i = 0; i < l->n_other; i++) {
        other *o = &l->other[i];
        for (size_t at = 0, k; o->cut && at < o->look.bytes; at = end[k - 1]) {
            k = cut_ends(m, o, at, end, STEP - parts->n_pending);
            pick_look()(m, parts->pending + parts->n_pending, o->look.s, o->look.bytes, at, end, k);
            parts->n_pending += k;
            for (size_t j = 0; j < k; j++)
                of[n++] = o;
            if (parts->n_pending == STEP)
                CDL_TRY(find_pending(m, t, parts));
            if (n == LIST)
                CDL_TRY(take_parts(m, w, of));
            n = n == LIST ? 0 : n;
        }
    }
    CDL_TRY(take_parts(m, w, of));
    for (size_t i = 0; i < l->n_other; i++) {
        const other *o = &l->other[i];
        if (o->cut)
            CDL_TRY(keep(t, &o->look, t->joined + o->at, o->n));
    }
    return CUDDLE_OK;
}

/* ---- Out ---- */

cuddle_status cdl_words_flush(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    cdl_words *words = e->work.words;
    list *l = &words->words;
    CDL_TRY(resolve(&t->model, &e->work, l));
    size_t n = l->n - l->n_other, place = 0;
    for (size_t i = 0; i < l->n_other; i++)
        n += l->other[i].n;
    CDL_TRY(cdl_encoding_reserve(e, e->n + n + SPARE));
    int32_t *to = e->ids + e->n;
    for (size_t i = 0; i < l->n_other; i++) {
        const other *o = &l->other[i];
        to = copy(to, l->id + place, o->place - place, SPARE);
        to = copy(to, (o->cut ? words->joined : words->room) + o->at, o->n, 2 * SHORT_IDS);
        place = o->place + 1;
    }
    copy(to, l->id + place, l->n - place, SPARE);
    e->n += n;
    clear(words, l);
    return CUDDLE_OK;
}

cuddle_status cdl_words_add(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, size_t at,
        const uint32_t *end, size_t k)
{
    cdl_words *words = e->work.words;
    list *l = &words->words;
    for (size_t i = 0, some; i < k; at = end[i + some - 1], i += some) {
        some = k - i < STEP - l->n_pending ? k - i : STEP - l->n_pending;
        pick_look()(&t->model, l->pending + l->n_pending, s, n, at, end + i, some);
        l->n_pending += some;
        if (l->n_pending < STEP)
            return CUDDLE_OK;
        CDL_TRY(find_pending(&t->model, words, l));
        if (l->n >= LIST)
            CDL_TRY(cdl_words_flush(t, e));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_words_add_id(const cuddle_tokenizer *t, cuddle_encoding *e, int32_t id)
{
    list *l = &e->work.words->words;
    if (l->n + l->n_pending >= LIST)
        CDL_TRY(cdl_words_flush(t, e));
    CDL_TRY(find_pending(&t->model, e->work.words, l));
    CDL_TRY(cdl_work_grow(&l->id, &l->cap, l->n + 1 + SPARE, sizeof *l->id));
    l->id[l->n++] = id;
    return CUDDLE_OK;
}
