/* scan.h - split patterns that are known are matched by hand, over masks of a text's character classes.
 * Tests: tests/unit/test_scan.c */
#ifndef CDL_SCAN_H
#define CDL_SCAN_H

#include <stddef.h>

#include "base/status.h"

typedef enum { CDL_SCAN_NONE, CDL_SCAN_GPT2, CDL_SCAN_LLAMA3, CDL_SCAN_QWEN2 } cdl_scan;

/* GPT-2's pattern, which ByteLevel uses. */
extern const char cdl_gpt2_pattern[];

/* The scan that matches as the regular expression does, or NONE. */
cdl_scan cdl_scan_find(const char *pattern, size_t n);

/* One bit a byte; a character's bytes all have its bits. */
enum {
    CDL_AT_L, CDL_AT_N, CDL_AT_SPACE, CDL_AT_OTHER, CDL_AT_LINE, CDL_AT_UPPERISH, CDL_AT_LOWERISH, CDL_AT_BLANK,
    CDL_AT_MASKS
};
typedef uint64_t cdl_scan_block[CDL_AT_MASKS]; /* of 64 bytes; one cache line */

/* A text and the classes of its characters. A zeroed one is empty and valid. */
typedef struct {
    const char *s;
    size_t n;
    uint8_t *kind;             /* [n]: the low byte of cdl_unicode()  */
    cdl_scan_block *block;     /* [n / 64 + 2], zeros behind the text */
    uint8_t wide;              /* all kinds of characters beyond ASCII */
    size_t cap;
} cdl_scan_map;

/* Reads n bytes of valid UTF-8, which must stay while the map is used. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_scan_read(cdl_scan_map *m, const char *s, size_t n);
void cdl_scan_free(cdl_scan_map *m);
/* The ends of up to most matches that follow each other from byte at < n on, into end; how many they are, at
 * least 1. Fastest with room for CDL_SCAN_ENDS or more. */
enum { CDL_SCAN_ENDS = 256 };
size_t cdl_scan_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most);

#endif
