/* regex.h - regular expressions as Hugging Face tokenizers has them: the one door to Oniguruma. */
#ifndef CDL_REGEX_H
#define CDL_REGEX_H

#include "base/status.h"

typedef struct cdl_regex cdl_regex;

/* pattern: n bytes of UTF-8; name starts the error. Errors: FORMAT, NOMEM. */
CUDDLE_CHECK cuddle_status cdl_regex_new(cdl_regex **out, const char *pattern, size_t n, const char *name);
void cdl_regex_free(cdl_regex *r);

/* Walks the matches of r in s[0, n). Zero the struct before the first call. */
typedef struct {
    size_t at;               /* where the next search begins        */
    size_t last_end;         /* 1 + the end of the match before     */
} cdl_regex_walk;

/* The next match into *begin, *end; *found false when there is none. Thread-safe for one r.
 * Errors: FORMAT (the pattern gives up on this text: too many steps), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_regex_next(const cdl_regex *r, cdl_regex_walk *walk, const char *s, size_t n,
        size_t *begin, size_t *end, bool *found);

#endif
