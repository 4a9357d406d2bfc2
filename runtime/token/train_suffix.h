/* train_suffix.h - the substrings of a text that stand in it more than once. Tests: tests/unit/test_train.c */
#ifndef CDL_TRAIN_SUFFIX_H
#define CDL_TRAIN_SUFFIX_H

#include "base/status.h"

/* The substring begins the suffixes of ranks first .. first + count - 1; n: its length. */
typedef void cdl_substring_fn(void *user, int32_t first, int32_t n, int32_t count);

/* sa [n + 1]: gets the suffixes of s [n], values 0 .. upper, in order. Calls f for each substring that is followed by
 * different values (or the end) where it stands, an inner node of the suffix tree, as esaxx gives them to Hugging
 * Face's trainer. Linear in n; takes about 25 n bytes. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_substrings(const int32_t *s, int32_t n, int32_t upper, int32_t *sa, cdl_substring_fn *f,
        void *user);

#endif
