/* words.h - the way of a text when only ids are asked for. Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_WORDS_H
#define CDL_WORDS_H

#include "token/parts.h"

/* What of a tokenizer, complete otherwise, words.c does itself: sets scan, n_listed, marks. */
void cdl_words_plan(cuddle_tokenizer *t);
/* Appends the ids of the pieces that the first n_listed pre-tokenizers made. */
CUDDLE_CHECK cuddle_status cdl_words_encode(const cuddle_tokenizer *t, cuddle_encoding *e);
void cdl_words_free(cdl_words *t);

#endif
