/* status.h - how a failure is reported inside the library. Tests: tests/unit/test_status.c */
#ifndef CDL_STATUS_H
#define CDL_STATUS_H

#include "cuddle.h"

/* Sets this thread's error line (cut at 1023 bytes, control characters replaced) and returns code. */
cuddle_status cdl_status_fail(cuddle_status code, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* Puts context in front of the current line, "context: line"; returns code. */
cuddle_status cdl_status_wrap(cuddle_status code, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* Out of memory for `what` (a noun: "the tokenizer"). */
cuddle_status cdl_status_nomem(const char *what);

/* Passes a failure up. */
#define CDL_TRY(x)                                   \
    do {                                             \
        cuddle_status cdl_try_status_ = (x);         \
        if (cdl_try_status_ != CUDDLE_OK)            \
            return cdl_try_status_;                  \
    } while (0)

/* The same where zeroed locals must be freed at the label `out`, with the status in `st`. */
#define CDL_TRY_OUT(x)                               \
    do {                                             \
        st = (x);                                    \
        if (st != CUDDLE_OK)                         \
            goto out;                                \
    } while (0)

/* printf's %.*s arguments for a (pointer, length) name from outside, cut at 80 bytes. */
#define CDL_STR(s, n) ((n) < 80 ? (int)(n) : 80), (s)

#endif
