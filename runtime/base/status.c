#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1024 };

static _Thread_local char line[LINE_BYTES];

/* A name from a hostile file must not move the cursor of a terminal. */
static void clean(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

cuddle_status cdl_status_fail(cuddle_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    clean(line);
    return code;
}

cuddle_status cdl_status_wrap(cuddle_status code, const char *fmt, ...)
{
    char tail[LINE_BYTES];
    memcpy(tail, line, sizeof tail);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < LINE_BYTES - 3)
        snprintf(line + n, sizeof line - (size_t)n, ": %s", tail);
    clean(line);
    return code;
}

cuddle_status cdl_status_nomem(const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_NOMEM,
            "out of memory for %s; close other programs or use a smaller model or context", what);
}

const char *cuddle_errmsg(void)
{
    return line;
}

const char *cuddle_version(void)
{
    return CUDDLE_VERSION;
}

const char *cuddle_status_name(cuddle_status status)
{
    static const char *const names[] = {
        "ok", "argument", "out of memory", "input/output", "not found", "malformed",
        "unsupported", "full", "device", "cancelled", "deadline", "internal"
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown";
}
