/* log.h - one line to the caller's log function (cuddle_log_set). Never to a file or terminal. */
#ifndef CDL_LOG_H
#define CDL_LOG_H

#include "cuddle.h"

void cdl_log(cuddle_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
