/* vocab.h - token texts by id, ids by text. Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_VOCAB_H
#define CDL_VOCAB_H

#include "base/status.h"

typedef struct {
    uint32_t hash, id;
} cdl_vocab_slot;

typedef struct {
    uint32_t at, n;          /* bytes in text; n = CDL_VOCAB_NONE: no such id */
} cdl_vocab_entry;

#define CDL_VOCAB_NONE UINT32_MAX

/* A zeroed cdl_vocab is empty and valid. */
typedef struct {
    char *text;
    size_t text_n, text_cap;
    cdl_vocab_entry *entry;  /* [ids] */
    uint32_t ids, ids_cap;
    cdl_vocab_slot *slot;    /* open addressing, id = CDL_VOCAB_NONE where empty */
    uint32_t slots, used;    /* slots: a power of two */
    uint32_t longest;        /* bytes of the longest text */
} cdl_vocab;

/* Twice the largest vocabulary there is; bounds what a small file can ask for. */
enum { CDL_VOCAB_ID_MAX = (1 << 21) - 1 };

/* Room for about n entries, so that adding them is cheap. */
CUDDLE_CHECK cuddle_status cdl_vocab_reserve(cdl_vocab *v, size_t n);
/* Gives text s the id, replacing an earlier id of s. Errors: FORMAT (id out of range), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_vocab_add(cdl_vocab *v, const char *s, size_t n, int64_t id);
/* The id of s, or -1. */
int32_t cdl_vocab_find(const cdl_vocab *v, const char *s, size_t n);
/* The id of the text a followed by b, or -1. */
int32_t cdl_vocab_find_joined(const cdl_vocab *v, const char *a, size_t na, const char *b, size_t nb);
void cdl_vocab_free(cdl_vocab *v);

/* The text of an id, or NULL. */
static inline const char *cdl_vocab_text(const cdl_vocab *v, int64_t id, size_t *n)
{
    if (id < 0 || id >= v->ids || v->entry[id].n == CDL_VOCAB_NONE)
        return NULL;
    *n = v->entry[id].n;
    return v->text + v->entry[id].at;
}

#endif
