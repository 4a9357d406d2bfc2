#include "vocab.h"

#include <string.h>

#include "base/mem.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t p = (__uint128_t)(a ^ 0x9e3779b97f4a7c15ull) * (b ^ 0xd6e8feb86659fd93ull);
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t load_upto8(const char *s, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, s, n);
    return v;
}

/* Hash of a text given in parts: eight bytes at a time, wherever the parts meet. */
typedef struct {
    uint64_t h, word;
    uint32_t filled, n;
} hasher;

static void hash_part(hasher *x, const char *s, size_t n)
{
    x->n += (uint32_t)n;
    while (n) {
        size_t take = 8 - x->filled < n ? 8 - x->filled : n;
        x->word |= load_upto8(s, take) << (8 * x->filled);
        x->filled += (uint32_t)take;
        s += take;
        n -= take;
        if (x->filled == 8) {
            x->h = mix(x->h ^ x->word, x->word + 0x2545f4914f6cdd1dull);
            x->word = 0;
            x->filled = 0;
        }
    }
}

static uint32_t hash_end(hasher *x)
{
    return (uint32_t)mix(x->h ^ x->word, x->n + 0x94d049bb133111ebull);
}

enum { SHORT = 16 };

/* Up to SHORT bytes: the first and the last eight, which have all of them. */
static inline void load_short(const char *s, size_t n, uint64_t *first, uint64_t *last)
{
    uint32_t word[2] = { 0 };
    *first = *last = 0;
    if (n >= 8) {
        memcpy(first, s, 8);
        memcpy(last, s + n - 8, 8);
    } else if (n >= 4) {
        memcpy(&word[0], s, 4);
        memcpy(&word[1], s + n - 4, 4);
        *first = word[0];
        *last = word[1];
    } else if (n) {
        *first = (uint64_t)(uint8_t)s[0] << 16 | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint8_t)s[n - 1];
    }
}

static inline uint32_t hash_text(const char *s, size_t n)
{
    if (n <= SHORT) {
        uint64_t first, last;
        load_short(s, n, &first, &last);
        return (uint32_t)mix(first ^ n << 56, last);
    }
    hasher x = { 0 };
    hash_part(&x, s, n);
    return hash_end(&x);
}

static inline void copy_text(char *to, const char *s, size_t n)
{
    if (n < 8 || n > SHORT) {
        memcpy(to, s, n);
        return;
    }
    uint64_t first, last;
    memcpy(&first, s, 8);
    memcpy(&last, s + n - 8, 8);
    memcpy(to, &first, 8);
    memcpy(to + n - 8, &last, 8);
}

/* Whether two texts of n bytes are equal. */
static inline bool same_text(const char *s, const char *t, size_t n)
{
    if (n > SHORT)
        return memcmp(s, t, n) == 0;
    uint64_t first, last, first_t, last_t;
    load_short(s, n, &first, &last);
    load_short(t, n, &first_t, &last_t);
    return first == first_t && last == last_t;
}

static cuddle_status rehash(cdl_vocab *v, uint32_t slots)
{
    cdl_vocab_slot *slot = cdl_mem_zalloc(slots, sizeof *slot);
    if (!slot)
        return cdl_status_nomem("the vocabulary");
    for (uint32_t i = 0; i < v->slots; i++) {
        if (!v->slot[i].at)
            continue;
        uint32_t at = v->slot[i].hash & (slots - 1);
        while (slot[at].at)
            at = (at + 1) & (slots - 1);
        slot[at] = v->slot[i];
    }
    cdl_mem_free(v->slot);
    v->slot = slot;
    v->slots = slots;
    return CUDDLE_OK;
}

cuddle_status cdl_vocab_reserve(cdl_vocab *v, size_t n)
{
    uint32_t slots = 64;
    while (slots < 2 * n && slots < 1u << 30)
        slots *= 2;
    return slots > v->slots ? rehash(v, slots) : CUDDLE_OK;
}

static cuddle_status grow_entries(cdl_vocab *v, uint32_t id)
{
    if (id < v->ids)
        return CUDDLE_OK;
    if (id >= v->ids_cap) {
        uint32_t cap = v->ids_cap < 512 ? 512 : v->ids_cap;
        while (cap <= id)
            cap *= 2;
        cdl_vocab_entry *entry = cdl_mem_realloc(v->entry, cap * sizeof *entry);
        if (!entry)
            return cdl_status_nomem("the vocabulary");
        v->entry = entry;
        v->ids_cap = cap;
    }
    for (uint32_t i = v->ids; i <= id; i++)
        v->entry[i] = (cdl_vocab_entry){ 0, CDL_VOCAB_NONE };
    v->ids = id + 1;
    return CUDDLE_OK;
}

/* What stands in front of a text, so that looking for it goes to one place in memory. */
typedef struct {
    uint32_t id, n;
} head;

static inline head head_of(const cdl_vocab *v, uint32_t at)
{
    head h;
    memcpy(&h, v->text + at - sizeof h, sizeof h);
    return h;
}

static void set_head(cdl_vocab *v, uint32_t at, head h)
{
    memcpy(v->text + at - sizeof h, &h, sizeof h);
}

static cuddle_status add_text(cdl_vocab *v, const char *s, size_t n, uint32_t id, uint32_t *at)
{
    size_t more = sizeof(head) + n + 1;
    if (n >= UINT32_MAX || more >= UINT32_MAX - v->text_n)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "a vocabulary's texts take over 4 GiB");
    if (v->text_n + more > v->text_cap) {
        size_t cap = v->text_cap < 4096 ? 4096 : v->text_cap * 2;
        while (cap < v->text_n + more)
            cap *= 2;
        char *text = cdl_mem_realloc(v->text, cap);
        if (!text)
            return cdl_status_nomem("the vocabulary");
        v->text = text;
        v->text_cap = cap;
    }
    *at = (uint32_t)(v->text_n + sizeof(head));
    set_head(v, *at, (head){ id, (uint32_t)n });
    copy_text(v->text + *at, s, n);
    v->text[*at + n] = '\0';
    v->text_n += more;
    return CUDDLE_OK;
}

/* The slot of s, or the empty one where it would stand. */
static cdl_vocab_slot *find_slot(const cdl_vocab *v, uint32_t hash, const char *s, size_t n)
{
    uint32_t at = hash & (v->slots - 1);
    for (; v->slot[at].at; at = (at + 1) & (v->slots - 1))
        if (v->slot[at].hash == hash && head_of(v, v->slot[at].at).n == n
                && same_text(v->text + v->slot[at].at, s, n))
            break;
    return &v->slot[at];
}

static cuddle_status wrong_id(int64_t id)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "token id %lld is not within 0 and %d", (long long)id, CDL_VOCAB_ID_MAX);
}

cuddle_status cdl_vocab_add(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    if (id < 0 || id > CDL_VOCAB_ID_MAX)
        return wrong_id(id);
    CDL_TRY(cdl_vocab_index(v));
    if (2 * (v->used + 1) > v->slots)
        CDL_TRY(cdl_vocab_reserve(v, v->slots ? v->slots : 32));
    CDL_TRY(grow_entries(v, (uint32_t)id));
    uint32_t hash = hash_text(s, n);
    cdl_vocab_slot *slot = find_slot(v, hash, s, n);
    if (slot->at) {
        v->repeats = true;
        set_head(v, slot->at, (head){ (uint32_t)id, (uint32_t)n });
    } else {
        uint32_t at;
        CDL_TRY(add_text(v, s, n, (uint32_t)id, &at));
        v->used++;
        *slot = (cdl_vocab_slot){ hash, at };
    }
    v->entry[id] = (cdl_vocab_entry){ slot->at, (uint32_t)n };
    v->longest = n > v->longest ? (uint32_t)n : v->longest;
    v->indexed = v->ids;
    return CUDDLE_OK;
}

cuddle_status cdl_vocab_append(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    if (id < v->ids)
        return cdl_vocab_add(v, s, n, id);
    if (id > CDL_VOCAB_ID_MAX)
        return wrong_id(id);
    uint32_t at;
    CDL_TRY(add_text(v, s, n, (uint32_t)id, &at));
    CDL_TRY(grow_entries(v, (uint32_t)id));
    v->entry[id] = (cdl_vocab_entry){ at, (uint32_t)n };
    v->longest = n > v->longest ? (uint32_t)n : v->longest;
    return CUDDLE_OK;
}

enum { TOGETHER = 32 };        /* texts that wait for the memory at the same time */

static void index_entry(cdl_vocab *v, uint32_t id, uint32_t hash)
{
    cdl_vocab_entry e = v->entry[id];
    cdl_vocab_slot *slot = find_slot(v, hash, v->text + e.at, e.n);
    v->repeats |= slot->at != 0;
    v->used += !slot->at;
    *slot = (cdl_vocab_slot){ hash, e.at };
}

cuddle_status cdl_vocab_index(cdl_vocab *v)
{
    uint32_t hash[TOGETHER];
    if (v->indexed == v->ids)
        return CUDDLE_OK;
    CDL_TRY(cdl_vocab_reserve(v, v->used + (size_t)(v->ids - v->indexed)));
    for (uint32_t from = v->indexed, k; from < v->ids; from += k) {
        const cdl_vocab_entry *e = &v->entry[from];
        k = v->ids - from < TOGETHER ? v->ids - from : TOGETHER;
        for (uint32_t i = 0; i < k; i++) {
            hash[i] = e[i].n == CDL_VOCAB_NONE ? 0 : hash_text(v->text + e[i].at, e[i].n);
            __builtin_prefetch(&v->slot[hash[i] & (v->slots - 1)]);
        }
        for (uint32_t i = 0; i < k; i++)
            if (e[i].n != CDL_VOCAB_NONE)
                index_entry(v, from + i, hash[i]);
    }
    v->indexed = v->ids;
    return CUDDLE_OK;
}

int32_t cdl_vocab_find(const cdl_vocab *v, const char *s, size_t n)
{
    if (!v->slots || n > v->longest)
        return -1;
    uint32_t at = find_slot(v, hash_text(s, n), s, n)->at;
    return at ? (int32_t)head_of(v, at).id : -1;
}

static void find_some(const cdl_vocab *v, const cdl_vocab_string *text, int32_t *id, size_t k)
{
    uint32_t hash[TOGETHER], at[TOGETHER];
    for (size_t i = 0; i < k; i++) {
        hash[i] = hash_text(text[i].s, text[i].n);
        __builtin_prefetch(&v->slot[hash[i] & (v->slots - 1)]);
    }
    for (size_t i = 0; i < k; i++) {
        uint32_t slot = hash[i] & (v->slots - 1);
        while (v->slot[slot].at && v->slot[slot].hash != hash[i])
            slot = (slot + 1) & (v->slots - 1);
        at[i] = v->slot[slot].at;
        __builtin_prefetch(v->text + at[i]);
    }
    for (size_t i = 0; i < k; i++) {
        head h = { CDL_VOCAB_NONE, 0 };
        if (at[i])
            h = head_of(v, at[i]);
        if (at[i] && (h.n != text[i].n || !same_text(v->text + at[i], text[i].s, h.n))) /* of the same hash */
            h.id = (uint32_t)cdl_vocab_find(v, text[i].s, text[i].n);
        id[i] = (int32_t)h.id;
    }
}

void cdl_vocab_find_all(const cdl_vocab *v, const cdl_vocab_string *text, int32_t *id, size_t k)
{
    for (size_t i = 0; i < k; i += TOGETHER)
        if (v->slots)
            find_some(v, text + i, id + i, k - i < TOGETHER ? k - i : TOGETHER);
        else
            memset(id + i, 0xff, (k - i < TOGETHER ? k - i : TOGETHER) * sizeof *id);
}

bool cdl_vocab_joins(const cdl_vocab *v, int64_t id, const cdl_vocab_string *a, const cdl_vocab_string *b)
{
    size_t n;
    const char *text = cdl_vocab_text(v, id, &n);
    return text && n == a->n + b->n && same_text(text, a->s, a->n) && same_text(text + a->n, b->s, b->n);
}

int32_t cdl_vocab_find_joined(const cdl_vocab *v, const char *a, size_t na, const char *b, size_t nb)
{
    size_t n = na + nb;
    char both[SHORT];
    if (!v->slots || n > v->longest)
        return -1;
    if (n <= SHORT) {
        memcpy(both, a, na);
        memcpy(both + na, b, nb);
        return cdl_vocab_find(v, both, n);
    }
    hasher x = { 0 };
    hash_part(&x, a, na);
    hash_part(&x, b, nb);
    uint32_t hash = hash_end(&x), at = hash & (v->slots - 1);
    for (; v->slot[at].at; at = (at + 1) & (v->slots - 1)) {
        const char *text = v->text + v->slot[at].at;
        head h = head_of(v, v->slot[at].at);
        if (v->slot[at].hash == hash && h.n == n && memcmp(text, a, na) == 0 && memcmp(text + na, b, nb) == 0)
            return (int32_t)h.id;
    }
    return -1;
}

void cdl_vocab_free(cdl_vocab *v)
{
    cdl_mem_free(v->text);
    cdl_mem_free(v->entry);
    cdl_mem_free(v->slot);
    *v = (cdl_vocab){ 0 };
}
