/* vocab.h - token texts by id, ids by text. Tests: tests/unit/test_vocab.c */
#ifndef CDL_VOCAB_H
#define CDL_VOCAB_H

#include <stdbool.h>
#include <string.h>

#include "base/status.h"

/* A text. high: its id << 32 and 1 + its bytes << 56; 0: empty. Up to CDL_VOCAB_SHORT bytes stand here themselves, the
 * last four in high; of a longer one low has a hash and its bytes << 32, high where it stands and CDL_VOCAB_LONG. */
typedef struct {
    uint64_t low, high;
} cdl_vocab_slot;

typedef struct {
    uint32_t at, n;          /* bytes in text; at 0: no such id */
} cdl_vocab_entry;

typedef struct {
    const char *s;
    size_t n;
} cdl_vocab_string;

/* A zeroed cdl_vocab is empty and valid. */
typedef struct {
    char *text;              /* a NUL in front of the first and behind each */
    size_t text_n, text_cap;
    cdl_vocab_entry *entry;  /* [ids] */
    uint32_t ids, ids_cap;
    cdl_vocab_slot *slot;    /* open addressing, from the begin of a cache line on */
    uint32_t slots, used;    /* slots: a power of two */
    uint32_t longest;        /* bytes of the longest text */
    uint32_t indexed;        /* of the ids: the texts of others are not found yet */
    bool repeats;            /* some text was given two ids */
} cdl_vocab;


/* Twice the largest vocabulary there is; bounds what a small file can ask for. */
enum {
    CDL_VOCAB_ID_MAX = (1 << 21) - 1, CDL_VOCAB_SHORT = 12, CDL_VOCAB_LONG = CDL_VOCAB_SHORT + 2,
    CDL_VOCAB_ROOM = 16        /* bytes that can be read where any text of a vocabulary begins */
};

/* Room for about n entries, so that adding them is cheap. */
CUDDLE_CHECK cuddle_status cdl_vocab_reserve(cdl_vocab *v, size_t n);
/* The same for so many bytes of texts; memory that is not used then costs nothing. */
CUDDLE_CHECK cuddle_status cdl_vocab_reserve_text(cdl_vocab *v, size_t bytes);
/* Gives text s the id, replacing an earlier id of s. Errors: FORMAT (id out of range), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_vocab_add(cdl_vocab *v, const char *s, size_t n, int64_t id);
/* The same for one of many with rising ids; cdl_vocab_index, to be called behind the last, lets them be found. */
CUDDLE_CHECK cuddle_status cdl_vocab_append(cdl_vocab *v, const char *s, size_t n, int64_t id);
CUDDLE_CHECK cuddle_status cdl_vocab_index(cdl_vocab *v);
/* The id of s, or -1. */
int32_t cdl_vocab_find(const cdl_vocab *v, const char *s, size_t n);
/* The ids of k texts, or -1, by keys that cdl_vocab_ask gave a while before, so that they wait for the memory together.
 * CDL_VOCAB_ROOM bytes can be read at each text; there is room for some (cdl_vocab_reserve). */
cdl_vocab_slot cdl_vocab_ask(const cdl_vocab *v, const char *s, size_t n);
void cdl_vocab_find_asked(const cdl_vocab *v, const cdl_vocab_string *text, const cdl_vocab_slot *key, int32_t *id,
        size_t k);
/* Whether the text of an id is a followed by b, at both of which CDL_VOCAB_ROOM bytes can be read. */
bool cdl_vocab_joins(const cdl_vocab *v, int64_t id, const cdl_vocab_string *a, const cdl_vocab_string *b);
/* The id of the text a followed by b, or -1. */
int32_t cdl_vocab_find_joined(const cdl_vocab *v, const char *a, size_t na, const char *b, size_t nb);
void cdl_vocab_free(cdl_vocab *v);

/* Bytes of all texts, and more where some stand twice. */
static inline size_t cdl_vocab_bytes(const cdl_vocab *v)
{
    return v->text_n - v->used - (v->text_n > 0);
}

/* The text of an id, or NULL. */
static inline const char *cdl_vocab_text(const cdl_vocab *v, int64_t id, size_t *n)
{
    if (id < 0 || id >= v->ids || !v->entry[id].at)
        return NULL;
    *n = v->entry[id].n;
    return v->text + v->entry[id].at;
}

#endif
