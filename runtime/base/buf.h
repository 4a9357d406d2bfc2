/* buf.h - a growable byte buffer with a maximum. A zeroed cdl_buf is empty and valid.
 * data is always NUL-terminated once anything was appended. Tests: tests/unit/test_buf.c */
#ifndef CDL_BUF_H
#define CDL_BUF_H

#include "status.h"

typedef struct {
    char *data;  /* NULL until the first append        */
    size_t len;  /* bytes, without the NUL             */
    size_t cap;
    size_t max;  /* largest len allowed; 0: no limit   */
} cdl_buf;

/* Errors of all: NOMEM, FULL (over max); nothing was appended then. */
CUDDLE_CHECK cuddle_status cdl_buf_append(cdl_buf *b, const void *p, size_t n);
CUDDLE_CHECK cuddle_status cdl_buf_puts(cdl_buf *b, const char *s);
CUDDLE_CHECK cuddle_status cdl_buf_putc(cdl_buf *b, char c);
CUDDLE_CHECK cuddle_status cdl_buf_printf(cdl_buf *b, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));
/* Room for n more bytes, so that the next n appended cannot fail. */
CUDDLE_CHECK cuddle_status cdl_buf_reserve(cdl_buf *b, size_t n);
void cdl_buf_clear(cdl_buf *b);  /* empty, keeps the memory */
void cdl_buf_free(cdl_buf *b);   /* empty, frees it; max stays */

#endif
