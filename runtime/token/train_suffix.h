/* train_suffix.h - the substrings of a text that stand in it more than once. Tests: tests/unit/test_train.c */
#ifndef CDL_TRAIN_SUFFIX_H
#define CDL_TRAIN_SUFFIX_H

#include "base/status.h"

/* A place where the substring stands, its length, how often it stands. */
typedef void cdl_substring_fn(void *user, int32_t at, int32_t n, int32_t count);

/* Calls f for each substring of s [n], values 0 .. upper, that is followed by different values (or the end) where it
 * stands: the inner nodes of the suffix tree, as esaxx gives them to Hugging Face's trainer. Linear in n; takes about
 * 25 n bytes. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_substrings(const int32_t *s, int32_t n, int32_t upper, cdl_substring_fn *f, void *user);

#endif
