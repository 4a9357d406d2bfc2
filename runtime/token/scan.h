/* scan.h - split patterns that are known are matched by hand. Tests: tests/unit/test_scan.c */
#ifndef CDL_SCAN_H
#define CDL_SCAN_H

#include <stddef.h>

typedef enum { CDL_SCAN_NONE, CDL_SCAN_GPT2, CDL_SCAN_LLAMA3, CDL_SCAN_QWEN2 } cdl_scan;

/* GPT-2's pattern, which ByteLevel uses. */
extern const char cdl_gpt2_pattern[];

/* The scan that matches as the regular expression does, or NONE. */
cdl_scan cdl_scan_find(const char *pattern, size_t n);
/* The end of the match that begins at byte at < n of valid UTF-8. */
size_t cdl_scan_next(cdl_scan scan, const char *s, size_t n, size_t at);

#endif
