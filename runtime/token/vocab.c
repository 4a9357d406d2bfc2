#include "vocab.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* ---- Slots ---- */

enum { LINE = 4 };             /* slots of a cache line */
#define KEY 0xff000000ffffffffull /* the bits of high that are a short text's */

static inline bool is_long(const cdl_vocab_slot *k)
{
    return k->high >> 56 == CDL_VOCAB_LONG;
}

/* Up to CDL_VOCAB_SHORT bytes; the id is 0. */
static inline cdl_vocab_slot short_key(const char *s, size_t n)
{
    cdl_vocab_slot k = { 0, (uint64_t)(n + 1) << 56 };
    uint32_t last = 0;
    if (n >= 4)
        memcpy(&last, s + n - 4, 4);
    if (n >= 8) {
        memcpy(&k.low, s, 8);
        k.high |= (uint64_t)last >> 8 * (CDL_VOCAB_SHORT - n);
    } else if (n >= 4) {
        memcpy(&k.low, s, 4);
        k.low |= (uint64_t)last << 8 * (n - 4);
    } else if (n) {
        k.low = (uint64_t)(uint8_t)s[0] | (uint64_t)(uint8_t)s[n / 2] << 8 * (n / 2)
            | (uint64_t)(uint8_t)s[n - 1] << 8 * (n - 1);
    }
    return k;
}

/* The same where CDL_VOCAB_ROOM bytes can be read, without a branch. */
static inline cdl_vocab_slot short_key_in_room(const char *s, size_t n)
{
    uint64_t low;
    uint32_t last;
    memcpy(&low, s, 8);
    memcpy(&last, s + 8, 4);
    uint64_t most = UINT64_MAX >> (-8 * n & 63); /* of n % 8 bytes; all for 0 or 8 */
    low = n >= 8 ? low : n ? low & most : 0;
    last = n > 8 ? last & (uint32_t)(UINT32_MAX >> 8 * (CDL_VOCAB_SHORT - n)) : 0;
    return (cdl_vocab_slot){ low, (uint64_t)last | (uint64_t)(n + 1) << 56 };
}

/* The first slot that it may be in. */
static inline uint32_t slot_of(const cdl_vocab *v, const cdl_vocab_slot *k)
{
    uint64_t hash = is_long(k) ? k->low : mix(k->low, k->high & KEY);
    return (uint32_t)hash & (v->slots - LINE);
}

static inline bool same_key(const cdl_vocab_slot *a, const cdl_vocab_slot *b)
{
    return !((a->low ^ b->low) | ((a->high ^ b->high) & KEY));
}

static inline int32_t id_of(const cdl_vocab_slot *k)
{
    return k->high ? (int32_t)(k->high >> 32 & CDL_VOCAB_ID_MAX) : -1;
}

static inline const char *long_text(const cdl_vocab *v, const cdl_vocab_slot *k)
{
    return v->text + (uint32_t)k->high;
}

/* What a text of two parts, together over CDL_VOCAB_SHORT bytes, is looked for by. */
static cdl_vocab_slot long_key(const char *a, size_t na, const char *b, size_t nb)
{
    hasher x = { 0 };
    hash_part(&x, a, na);
    hash_part(&x, b, nb);
    return (cdl_vocab_slot){ hash_end(&x) | (uint64_t)(na + nb) << 32, (uint64_t)CDL_VOCAB_LONG << 56 };
}

static inline cdl_vocab_slot key_of(const char *s, size_t n)
{
    return n <= CDL_VOCAB_SHORT ? short_key(s, n) : long_key(s, n, "", 0);
}

/* The slot of a text, or the empty one where it would stand. */
static cdl_vocab_slot *find_short(const cdl_vocab *v, cdl_vocab_slot k)
{
    uint32_t at = slot_of(v, &k);
    while (v->slot[at].high && !same_key(&v->slot[at], &k))
        at = (at + 1) & (v->slots - 1);
    return &v->slot[at];
}

static cdl_vocab_slot *find_long(const cdl_vocab *v, cdl_vocab_slot k, const char *a, size_t na, const char *b,
        size_t nb)
{
    uint32_t at = slot_of(v, &k);
    for (; v->slot[at].high; at = (at + 1) & (v->slots - 1)) {
        const cdl_vocab_slot *x = &v->slot[at];
        if (x->low == k.low && is_long(x) && memcmp(long_text(v, x), a, na) == 0
                && memcmp(long_text(v, x) + na, b, nb) == 0)
            break;
    }
    return &v->slot[at];
}

static inline cdl_vocab_slot *find_slot(const cdl_vocab *v, cdl_vocab_slot k, const char *s, size_t n)
{
    return is_long(&k) ? find_long(v, k, s, n, "", 0) : find_short(v, k);
}

/* Where a short text is in the line at which its slots begin, told without branches that are hard to foresee: its high,
 * or 0; used: slots of the line, which are filled from its begin on. */
static inline uint64_t look_at_line(const cdl_vocab_slot *line, const cdl_vocab_slot *k, uint32_t *used)
{
    uint64_t high = 0;
    *used = 0;
    for (int i = 0; i < LINE; i++) {
        high |= same_key(&line[i], k) ? line[i].high : 0;
        *used += line[i].high != 0;
    }
    return high;
}

/* Fills the slot of a text, which is entry id. */
static void put(cdl_vocab *v, cdl_vocab_slot k, uint32_t id)
{
    const cdl_vocab_entry *e = &v->entry[id];
    cdl_vocab_slot *slot = &v->slot[slot_of(v, &k)];
    uint32_t used = LINE;
    if (!is_long(&k) && look_at_line(slot, &k, &used))
        used = LINE;
    slot = used < LINE ? slot + used : find_slot(v, k, v->text + e->at, e->n);
    v->repeats |= slot->high != 0;
    v->used += !slot->high;
    *slot = (cdl_vocab_slot){ k.low, k.high | (uint64_t)id << 32 | (is_long(&k) ? e->at : 0) };
}

enum { LARGE = 1 << 16 };      /* slots that are pages of their own, which are zero */

static void free_slots(cdl_vocab_slot *slot, uint32_t n)
{
    if (n >= LARGE)
        cdl_mem_pages_free(slot, n * sizeof *slot);
    else
        cdl_mem_free(slot);
}

static cuddle_status rehash(cdl_vocab *v, uint32_t slots)
{
    cdl_vocab_slot *old = v->slot;
    size_t bytes = slots * sizeof *old;
    cdl_vocab_slot *slot = slots >= LARGE ? cdl_mem_pages(bytes) : cdl_mem_aligned(LINE * sizeof *slot, bytes);
    uint32_t n = v->slots;
    if (!slot)
        return cdl_status_nomem("the vocabulary");
    if (slots < LARGE)
        memset(slot, 0, bytes);
    v->slot = slot;
    v->slots = slots;
    for (uint32_t i = 0; i < n; i++) {
        if (!old[i].high)
            continue;
        uint32_t at = slot_of(v, &old[i]);
        while (slot[at].high)
            at = (at + 1) & (slots - 1);
        slot[at] = old[i];
    }
    free_slots(old, n);
    return CUDDLE_OK;
}

cuddle_status cdl_vocab_reserve(cdl_vocab *v, size_t n)
{
    uint32_t slots = 64;
    while (slots < 2 * n && slots < 1u << 30)
        slots *= 2;
    return slots > v->slots ? rehash(v, slots) : CUDDLE_OK;
}

/* ---- Entries ---- */

/* Zeroed room for so many; where ids go up by leaps, of the added tokens of a large model say, the memory between them
 * is not touched. */
static cuddle_status reserve_entries(cdl_vocab *v, uint32_t cap)
{
    bool leap = cap / 2 > v->ids_cap;
    cdl_vocab_entry *entry = leap ? cdl_mem_zalloc(cap, sizeof *entry) : cdl_mem_realloc(v->entry, cap * sizeof *entry);
    if (!entry)
        return cdl_status_nomem("the vocabulary");
    if (leap && v->ids)
        memcpy(entry, v->entry, v->ids * sizeof *entry);
    if (leap)
        cdl_mem_free(v->entry);
    else
        memset(entry + v->ids_cap, 0, (cap - v->ids_cap) * sizeof *entry);
    v->entry = entry;
    v->ids_cap = cap;
    return CUDDLE_OK;
}

static cuddle_status grow_entries(cdl_vocab *v, uint32_t id)
{
    uint32_t cap = v->ids_cap < 512 ? 512 : v->ids_cap;
    while (cap <= id)
        cap *= 2;
    if (cap > v->ids_cap)
        CDL_TRY(reserve_entries(v, cap));
    v->ids = id < v->ids ? v->ids : id + 1;
    return CUDDLE_OK;
}

static cuddle_status too_long(void)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "a vocabulary's texts take over 4 GiB");
}

cuddle_status cdl_vocab_reserve_text(cdl_vocab *v, size_t bytes)
{
    if (bytes <= v->text_cap)
        return CUDDLE_OK;
    char *text = cdl_mem_huge(cdl_mem_realloc(v->text, bytes), bytes);
    if (!text)
        return cdl_status_nomem("the vocabulary");
    v->text = text;
    v->text_cap = bytes;
    return CUDDLE_OK;
}

static cuddle_status add_text(cdl_vocab *v, const char *s, size_t n, uint32_t *at)
{
    if (n >= UINT32_MAX || n + 2 >= UINT32_MAX - v->text_n)
        return too_long();
    if (v->text_n + 1 + n + CDL_VOCAB_ROOM > v->text_cap) {
        size_t cap = v->text_cap < 4096 ? 4096 : v->text_cap * 2;
        while (cap < v->text_n + 1 + n + CDL_VOCAB_ROOM)
            cap *= 2;
        CDL_TRY(cdl_vocab_reserve_text(v, cap));
    }
    if (!v->text_n)
        v->text[v->text_n++] = '\0';
    *at = (uint32_t)v->text_n;
    memcpy(v->text + *at, s, n);
    v->text[*at + n] = '\0';
    v->text_n += n + 1;
    return CUDDLE_OK;
}

static cuddle_status wrong_id(int64_t id)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "token id %lld is not within 0 and %d", (long long)id, CDL_VOCAB_ID_MAX);
}

static cuddle_status add_entry(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    uint32_t at;
    if (id < 0 || id > CDL_VOCAB_ID_MAX)
        return wrong_id(id);
    CDL_TRY(add_text(v, s, n, &at));
    CDL_TRY(grow_entries(v, (uint32_t)id));
    v->entry[id] = (cdl_vocab_entry){ at, (uint32_t)n };
    v->longest = n > v->longest ? (uint32_t)n : v->longest;
    return CUDDLE_OK;
}

cuddle_status cdl_vocab_add(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    CDL_TRY(cdl_vocab_index(v));
    if (2 * (v->used + 1) > v->slots)
        CDL_TRY(cdl_vocab_reserve(v, v->slots ? v->slots : 32));
    CDL_TRY(add_entry(v, s, n, id));
    put(v, key_of(s, n), (uint32_t)id);
    v->indexed = v->ids;
    return CUDDLE_OK;
}

cuddle_status cdl_vocab_append(cdl_vocab *v, const char *s, size_t n, int64_t id)
{
    return id < v->ids ? cdl_vocab_add(v, s, n, id) : add_entry(v, s, n, id);
}

cdl_vocab_slot cdl_vocab_ask(const cdl_vocab *v, const char *s, size_t n)
{
    cdl_vocab_slot k = n <= CDL_VOCAB_SHORT ? short_key_in_room(s, n) : long_key(s, n, "", 0);
    __builtin_prefetch(&v->slot[slot_of(v, &k)]);
    return k;
}

enum { AHEAD = 32 };           /* texts that wait for the memory at the same time: a power of two */

cuddle_status cdl_vocab_index(cdl_vocab *v)
{
    cdl_vocab_slot key[AHEAD];
    if (v->indexed == v->ids)
        return CUDDLE_OK;
    CDL_TRY(cdl_vocab_reserve(v, v->used + (size_t)(v->ids - v->indexed)));
    for (uint32_t i = v->indexed; i < v->ids + AHEAD; i++) {
        cdl_vocab_slot *k = &key[i % AHEAD];
        if (i >= v->indexed + AHEAD && k->high)
            put(v, *k, i - AHEAD);
        cdl_vocab_entry e = i < v->ids ? v->entry[i] : (cdl_vocab_entry){ 0 };
        *k = e.at ? cdl_vocab_ask(v, v->text + e.at, e.n) : (cdl_vocab_slot){ 0 };
    }
    v->indexed = v->ids;
    return CUDDLE_OK;
}

int32_t cdl_vocab_find(const cdl_vocab *v, const char *s, size_t n)
{
    return !v->slots || n > v->longest ? -1 : id_of(find_slot(v, key_of(s, n), s, n));
}

/* The text of key k. */
static inline int32_t find_key(const cdl_vocab *v, cdl_vocab_slot k, const cdl_vocab_string *text)
{
    uint32_t used = LINE;
    uint64_t high = is_long(&k) ? 0 : look_at_line(&v->slot[slot_of(v, &k)], &k, &used);
    if (!high && used == LINE)
        return id_of(find_slot(v, k, text->s, text->n));
    return high ? (int32_t)(high >> 32 & CDL_VOCAB_ID_MAX) : -1;
}

/* Asks the memory for the text that a long one is to be compared with. */
static void ask_text(const cdl_vocab *v, const cdl_vocab_slot *k)
{
    const cdl_vocab_slot *x = &v->slot[slot_of(v, k)];
    if (x->low == k->low && is_long(x))
        __builtin_prefetch(long_text(v, x));
}

void cdl_vocab_find_asked(const cdl_vocab *v, const cdl_vocab_string *text, const cdl_vocab_slot *key, int32_t *id,
        size_t k)
{
    for (size_t i = 0; i < k; i++)
        if (is_long(&key[i]))
            ask_text(v, &key[i]);
    for (size_t i = 0; i < k; i++)
        id[i] = find_key(v, key[i], &text[i]);
}

/* Whether two texts of n bytes are equal; CDL_VOCAB_ROOM can be read at both. */
static inline bool same_text(const char *s, const char *t, size_t n)
{
#ifdef __SSE2__
    if (n <= CDL_VOCAB_ROOM) {
        __m128i a = _mm_loadu_si128((const __m128i *)s), b = _mm_loadu_si128((const __m128i *)t);
        uint32_t differ = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
        return !(differ & ((1u << n) - 1));
    }
#endif
    return memcmp(s, t, n) == 0;
}

bool cdl_vocab_joins(const cdl_vocab *v, int64_t id, const cdl_vocab_string *a, const cdl_vocab_string *b)
{
    size_t n;
    const char *text = cdl_vocab_text(v, id, &n);
    return text && n == a->n + b->n && same_text(text, a->s, a->n) && same_text(text + a->n, b->s, b->n);
}

int32_t cdl_vocab_find_joined(const cdl_vocab *v, const char *a, size_t na, const char *b, size_t nb)
{
    char both[CDL_VOCAB_SHORT];
    if (!v->slots || na + nb > v->longest)
        return -1;
    if (na + nb > sizeof both)
        return id_of(find_long(v, long_key(a, na, b, nb), a, na, b, nb));
    memcpy(both, a, na);
    memcpy(both + na, b, nb);
    return cdl_vocab_find(v, both, na + nb);
}

void cdl_vocab_free(cdl_vocab *v)
{
    cdl_mem_free(v->text);
    cdl_mem_free(v->entry);
    free_slots(v->slot, v->slots);
    *v = (cdl_vocab){ 0 };
}
