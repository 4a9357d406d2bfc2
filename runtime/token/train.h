/* train.h - what the parts of a trainer share: counted words in, a vocabulary and merges out. */
#ifndef CDL_TOKEN_TRAIN_H
#define CDL_TOKEN_TRAIN_H

#include "base/buf.h"
#include "cuddle_tokenizer_train.h"
#include "token/vocab.h"

/* ---- Counted words (train_words.c) ---- */

typedef struct {
    uint64_t at;               /* of its bytes in text */
    uint32_t n, hash;
    uint64_t count;
} cdl_counted;

/* A zeroed one is empty and valid. Words stand in the order in which they were first seen. */
typedef struct {
    char *text;
    cdl_counted *v;
    uint32_t *slot;            /* open addressing: 1 + index, 0 where empty */
    size_t n, cap, n_text, cap_text, slots;
} cdl_counted_words;

CUDDLE_CHECK cuddle_status cdl_counted_add(cdl_counted_words *w, const char *s, uint32_t n);
/* Adds the words of another text, as if they stood behind those of this one. */
CUDDLE_CHECK cuddle_status cdl_counted_merge(cdl_counted_words *w, const cdl_counted_words *more);
void cdl_counted_clear(cdl_counted_words *w); /* keeps its memory */
void cdl_counted_free(cdl_counted_words *w);

/* ---- Learning ---- */

typedef struct {
    uint32_t a, b;
} cdl_learned_merge;

typedef struct {
    cuddle_train_opts o;       /* defaults filled in                                              */
    const cdl_counted_words *words;
    bool raw_bytes;            /* words are bytes, which GPT-2's printable characters stand for   */
    cdl_vocab vocab;           /* special tokens at first                                         */
    cdl_learned_merge *merge;
    size_t n_merge, cap_merge;
    double *score;             /* UNIGRAM: [vocab.ids] */
    size_t cap_score;
} cdl_learning;

/* The next code point of a word, as its tokens show it. */
size_t cdl_learning_char(const cdl_learning *l, const char *s, size_t n, uint32_t *cp);
CUDDLE_CHECK cuddle_status cdl_learning_progress(const cdl_learning *l, const char *what, uint64_t done,
        uint64_t total);

/* Adds the alphabet to the vocabulary. id [0x110000]: ids of the characters kept, else -1. */
CUDDLE_CHECK cuddle_status cdl_learn_alphabet(cdl_learning *l, int32_t *id);
/* BPE and WordPiece: adds tokens and merges until the vocabulary is full. */
CUDDLE_CHECK cuddle_status cdl_learn_merges(cdl_learning *l);
/* UNIGRAM: adds pieces with their scores. */
CUDDLE_CHECK cuddle_status cdl_learn_unigram(cdl_learning *l);
/* WORDLEVEL: adds the most frequent words. */
CUDDLE_CHECK cuddle_status cdl_learn_words(cdl_learning *l);
void cdl_learning_free(cdl_learning *l);

/* The model of a tokenizer.json. */
CUDDLE_CHECK cuddle_status cdl_learned_write(const cdl_learning *l, cdl_buf *out);

#endif
