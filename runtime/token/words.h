/* words.h - the way of a text when only ids are asked for. Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_WORDS_H
#define CDL_WORDS_H

#include "token/parts.h"

/* What of a tokenizer, complete otherwise, words.c does itself: sets scan, n_listed, marks. */
CUDDLE_CHECK cuddle_status cdl_words_plan(cuddle_tokenizer *t);
/* Before anything else of an encode: tables for this tokenizer. */
CUDDLE_CHECK cuddle_status cdl_words_prepare(const cuddle_tokenizer *t, cdl_token_work *w);
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

#endif
