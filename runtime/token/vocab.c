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

/* Of up to SHORT bytes: the first and the last eight. */
static uint32_t hash_short(const char *s, size_t n)
{
    uint64_t first = 0, last = 0;
    uint32_t word;
    if (n >= 8) {
        memcpy(&first, s, 8);
        memcpy(&last, s + n - 8, 8);
    } else if (n >= 4) {
        memcpy(&word, s, 4);
        first = word;
        memcpy(&word, s + n - 4, 4);
        last = word;
    } else if (n) {
        first = (uint64_t)(uint8_t)s[0] << 16 | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint8_t)s[n - 1];
    }
    return (uint32_t)mix(first ^ n << 56, last);
}

static uint32_t hash_text(const char *s, size_t n)
{
    if (n <= SHORT)
        return hash_short(s, n);
    hasher x = { 0 };
    hash_part(&x, s, n);
    return hash_end(&x);
}

static cuddle_status rehash(cdl_vocab *v, uint32_t slots)
{
    cdl_vocab_slot *slot = cdl_mem_array(slots, sizeof *slot);
    if (!slot)
        return cdl_status_nomem("the vocabulary");
    memset(slot, 0xff, slots * sizeof *slot);
    for (uint32_t i = 0; i < v->slots; i++) {
        if (v->slot[i].id == CDL_VOCAB_NONE)
            continue;
        uint32_t at = v->slot[i].hash & (slots - 1);
        while (slot[at].id != CDL_VOCAB_NONE)
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

static cuddle_status add_text(cdl_vocab *v, const char *s, size_t n)
{
    if (n >= UINT32_MAX - v->text_n)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "a vocabulary's texts take over 4 GiB");
    if (v->text_n + n + 1 > v->text_cap) {
        size_t cap = v->text_cap < 4096 ? 4096 : v->text_cap * 2;
        while (cap < v->text_n + n + 1)
            cap *= 2;
        char *text = cdl_mem_realloc(v->text, cap);
        if (!text)
            return cdl_status_nomem("the vocabulary");
        v->text = text;
        v->text_cap = cap;
    }
    memcpy(v->text + v->text_n, s, n);
    v->text[v->text_n + n] = '\0';
    v->text_n += n + 1;
    return CUDDLE_OK;
}

/* The slot of s, or the empty one where it would stand. */
static cdl_vocab_slot *find_slot(const cdl_vocab *v, uint32_t hash, const char *s, size_t n)
{
    uint32_t at = hash & (v->slots - 1);
    for (; v->slot[at].id != CDL_VOCAB_NONE; at = (at + 1) & (v->slots - 1)) {
        const cdl_vocab_entry *e = &v->entry[v->slot[at].id];
        if (v->slot[at].hash == hash && e->n == n && memcmp(v->text + e->at, s, n) == 0)
            break;
    }
    return &v->slot[at];
}

cuddle_status cdl_vocab_add(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    if (id < 0 || id > CDL_VOCAB_ID_MAX)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "token id %lld is not within 0 and %d", (long long)id,
                CDL_VOCAB_ID_MAX);
    if (2 * (v->used + 1) > v->slots)
        CDL_TRY(cdl_vocab_reserve(v, v->slots ? v->slots : 32));
    CDL_TRY(grow_entries(v, (uint32_t)id));
    uint32_t hash = hash_text(s, n);
    cdl_vocab_slot *slot = find_slot(v, hash, s, n);
    cdl_vocab_entry e = { (uint32_t)v->text_n, (uint32_t)n };
    if (slot->id != CDL_VOCAB_NONE)
        e = v->entry[slot->id];
    else
        CDL_TRY(add_text(v, s, n));
    v->used += slot->id == CDL_VOCAB_NONE;
    v->entry[id] = e;
    v->longest = n > v->longest ? (uint32_t)n : v->longest;
    *slot = (cdl_vocab_slot){ hash, (uint32_t)id };
    return CUDDLE_OK;
}

int32_t cdl_vocab_find(const cdl_vocab *v, const char *s, size_t n)
{
    if (!v->slots || n > v->longest)
        return -1;
    uint32_t id = find_slot(v, hash_text(s, n), s, n)->id;
    return id == CDL_VOCAB_NONE ? -1 : (int32_t)id;
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
    for (; v->slot[at].id != CDL_VOCAB_NONE; at = (at + 1) & (v->slots - 1)) {
        const cdl_vocab_entry *e = &v->entry[v->slot[at].id];
        const char *text = v->text + e->at;
        if (v->slot[at].hash == hash && e->n == n && memcmp(text, a, na) == 0 && memcmp(text + na, b, nb) == 0)
            return (int32_t)v->slot[at].id;
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
