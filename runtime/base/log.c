#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static cuddle_log_fn log_fn;
static void *log_user;

void cuddle_log_set(cuddle_log_fn fn, void *user)
{
    log_fn = fn;
    log_user = user;
}

void cdl_log(cuddle_log_level level, const char *fmt, ...)
{
    if (!log_fn)
        return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log_fn(log_user, level, line);
}
