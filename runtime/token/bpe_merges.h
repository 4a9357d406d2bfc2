/* bpe_merges.h - the merges of a BPE model: by the two tokens, their rank and what they become.
 *
 * A slot packs the left token, the right one and the rank into 8 bytes; the joined token stands by rank. Slots are
 * filled from the begin of a cache line on, so that one line tells whether there is a merge.
 * Read first: parts.h.   Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_BPE_MERGES_H
#define CDL_BPE_MERGES_H

#include "token/parts.h"

enum {
    CDL_MERGE_ID_BITS = 21, CDL_MERGE_RANK_BITS = 22, CDL_MERGES_MAX = (1 << CDL_MERGE_RANK_BITS) - 1,
    CDL_MERGE_LINE = 8,        /* slots of a line                                     */
    CDL_MERGE_FEW = 64         /* symbols of a word that cdl_merge_words takes*/
};
#define CDL_NO_MERGE INT32_MAX
#define CDL_MERGE_HASH 0x9e3779b97f4a7c15ull

static inline uint64_t cdl_merge_pair(uint32_t a, uint32_t b)
{
    return (uint64_t)a << CDL_MERGE_ID_BITS | b;
}

static inline uint32_t cdl_merge_slot(const cdl_token_model *m, uint64_t pair)
{
    return (uint32_t)(pair * CDL_MERGE_HASH >> m->merge_shift) * CDL_MERGE_LINE;
}

/* The rank of the merge of tokens a and b, or CDL_NO_MERGE; the model has merges. */
static inline int32_t cdl_merge_find(const cdl_token_model *m, uint32_t a, uint32_t b)
{
    uint64_t pair = cdl_merge_pair(a, b);
    for (uint32_t at = cdl_merge_slot(m, pair); m->merge[at] != UINT64_MAX; at = (at + 1) & (m->merges - 1))
        if (m->merge[at] >> CDL_MERGE_RANK_BITS == pair)
            return (int32_t)(m->merge[at] & CDL_MERGES_MAX);
    return CDL_NO_MERGE;
}

/* Puts those into the table that cdl_bpe_take_merges took. */
CUDDLE_CHECK cuddle_status cdl_merge_put_waiting(cdl_token_model *m);

/* A word's symbols, which become fewer. */
typedef struct {
    const uint8_t *s;          /* the bytes that they are, when id and rank hold nothing yet; or NULL */
    int32_t *id, *rank;        /* [n]; rank: of the pair that begins there                            */
    uint32_t n;                /* 1 to CDL_MERGE_FEW; becomes UINT32_MAX if a byte has no token       */
    uint64_t first;            /* cdl_merge_words_avx512: which of the n at first each symbol left begins with */
} cdl_merge_word;

/* Merges each word, best pairs first; ranks are used up. */
typedef void cdl_merge_words(const cdl_token_model *m, cdl_merge_word *word, size_t n);
cdl_merge_words cdl_merge_words_plain;
cdl_merge_words cdl_merge_words_avx512; /* needs AVX512F, BW, DQ, VL */
/* What there is for this machine. */
cdl_merge_words *cdl_merge_pick(void);

/* The first symbols of a text of characters, and the ranks of their pairs: id, rank [n]. Gives how many; UINT32_MAX:
 * one of them is not known. */
uint32_t cdl_merge_start_chars(const cdl_token_model *m, const char *s, uint32_t n, int32_t *id, int32_t *rank);
/* The same for a text of either kind, merged. */
uint32_t cdl_merge_text(const cdl_token_model *m, const char *s, uint32_t n, int32_t *id, int32_t *rank);
/* bpe_windows.c: the tokens of a long text, for a model with windows; UINT32_MAX: only cdl_bpe_run tells. */
uint32_t cdl_bpe_windows(const cdl_token_model *m, const char *s, uint32_t n, int32_t *ids);

#endif
