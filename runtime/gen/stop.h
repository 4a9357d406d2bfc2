/* stop.h - stop strings in a text that comes in pieces.
 *
 * Text is given on as soon as it cannot be the beginning of a stop string. Of several, the one that
 * is complete first ends the text, so the result does not depend on how the text was cut.
 * Tests: tests/unit/test_generate.c
 */
#ifndef CDL_STOP_H
#define CDL_STOP_H

#include "base/buf.h"

/* Zero it and set strings and n. */
typedef struct {
    const char *const *strings; /* [n], borrowed, none empty      */
    size_t n;
    cdl_buf text;               /* what was given on last, then what is held back */
    size_t given;               /* bytes of text given on         */
} cdl_stop;

/* ARG when a string is NULL, empty or not UTF-8. */
CUDDLE_CHECK cuddle_status cdl_stop_check(const cdl_stop *s);

/* Takes a piece. (*out, *n_out): what can be given on now, borrowed until the next call.
 * *found: the stop string that ended the text (it and what follows are dropped), or -1. */
CUDDLE_CHECK cuddle_status cdl_stop_put(cdl_stop *s, const char *piece, size_t n, const char **out, size_t *n_out,
        int32_t *found);

/* The text ended: what is still held back. */
void cdl_stop_end(cdl_stop *s, const char **out, size_t *n_out);

void cdl_stop_free(cdl_stop *s);

#endif
