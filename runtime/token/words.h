/* words.h - the way of a text when only ids are asked for. Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_WORDS_H
#define CDL_WORDS_H

#include "token/parts.h"

/* What of a tokenizer, complete otherwise, words.c does itself: sets scan, n_listed, marks. */
CUDDLE_CHECK cuddle_status cdl_words_plan(cuddle_tokenizer *t);
/* Before anything else of an encode: tables for this tokenizer. */
CUDDLE_CHECK cuddle_status cdl_words_prepare(const cuddle_tokenizer *t, cdl_token_work *w);
/* Before a thread does that: asks the system for what it needs, so that threads need not, which wait for each other. */
CUDDLE_CHECK cuddle_status cdl_words_reserve(const cuddle_tokenizer *t, cdl_token_work *w);
/* Appends the ids of the pieces that the first n_listed pre-tokenizers made. */
CUDDLE_CHECK cuddle_status cdl_words_encode(const cuddle_tokenizer *t, cuddle_encoding *e);
void cdl_words_free(cdl_words *t);

/* words_ids.c: the words of s [n] that begin at byte at and end at end [k], and an id, join a list; their ids come
 * with flush, and s must stay until then. */
CUDDLE_CHECK cuddle_status cdl_words_add(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n,
        size_t at, const uint32_t *end, size_t k);
CUDDLE_CHECK cuddle_status cdl_words_add_id(const cuddle_tokenizer *t, cuddle_encoding *e, int32_t id);
CUDDLE_CHECK cuddle_status cdl_words_flush(const cuddle_tokenizer *t, cuddle_encoding *e);

/* words_bert.c: makes the table, where a tokenizer is one of BERT's. */
CUDDLE_CHECK cuddle_status cdl_words_plan_bert(cuddle_tokenizer *t);
/* The same as cdl_words_encode for a piece as it is given; not done: go the long way. */
CUDDLE_CHECK cuddle_status cdl_words_encode_bert(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n,
        bool *done);

/* words_bert_avx512.c, needs AVX512_VBMI2: ASCII that a table [2, 128] has: what a byte becomes, and its kind. */
enum { CDL_BERT_WORD, CDL_BERT_SPACE, CDL_BERT_PUNCT, CDL_BERT_OTHER };
typedef struct {
    size_t read, put;          /* bytes, up to 64: up to the first that is OTHER or not ASCII; what they became */
    uint64_t starts;           /* of words, but for a first one without anything in front, in what they became  */
    bool ended;                /* the last byte ends a word */
} cdl_bert_part;
/* out: room for 64 bytes. */
cdl_bert_part cdl_bert_read_avx512(const uint8_t *table, const char *s, size_t n, char *out);

#endif
