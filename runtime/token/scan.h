/* scan.h - split patterns that are known are matched by hand, over masks of a text's character classes.
 * Tests: tests/unit/test_scan.c */
#ifndef CDL_SCAN_H
#define CDL_SCAN_H

#include <stddef.h>

#include "base/status.h"

/* Patterns, by the tokenizer that is best known for them. DEEPSEEK3 stands for three that follow each other. */
typedef enum {
    CDL_SCAN_NONE, CDL_SCAN_GPT2, CDL_SCAN_LLAMA3, CDL_SCAN_QWEN2, CDL_SCAN_QWEN3_5, CDL_SCAN_O200K, CDL_SCAN_TEKKEN,
    CDL_SCAN_DEEPSEEK3,
    CDL_SCAN_DIGITS_GPT2       /* behind Digits, one by one */
} cdl_scan;

/* The scan that matches as the regular expression does, or NONE. */
cdl_scan cdl_scan_find(const char *pattern, size_t n);
/* The expression as its tokenizer has it, where it is one. */
const char *cdl_scan_pattern(cdl_scan scan);
/* The scan that cuts as three expressions after each other do, each match alone, or NONE. Its matches and what lies
 * between them follow each other without a difference. */
cdl_scan cdl_scan_find_three(const char *const pattern[3], const size_t n[3]);

/* One bit a byte; a character's bytes all have its bits. The first eight are a character's kind. */
enum {
    CDL_AT_UPPERISH,           /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]        */
    CDL_AT_LOWERISH,           /* [\p{Ll}\p{Lm}\p{Lo}\p{M}]              */
    CDL_AT_M, CDL_AT_N,
    CDL_AT_PS,                 /* [\p{P}\p{S}], and what the next says   */
    CDL_AT_SPACE,
    CDL_AT_CJK,                /* U+3040..30FF and U+4E00..9FA5          */
    CDL_AT_REST,               /* none of the above but CJK; with PS: Digits takes it for a number */
    CDL_AT_LINE,               /* LF, CR                                 */
    CDL_AT_BLANK, CDL_AT_QUOTE, CDL_AT_SLASH,
    CDL_AT_CONT,               /* bytes in a character, but its first    */
    CDL_AT_HIGH,               /* bytes of characters beyond ASCII       */
    CDL_AT_MASKS
};
typedef uint64_t cdl_scan_block[CDL_AT_MASKS]; /* of 64 bytes */

/* A text and the classes of its characters. A zeroed one is empty and valid. */
typedef struct {
    const char *s;
    size_t n;
    cdl_scan_block *block;     /* [n / 64 + 2], zeros behind the text */
    size_t cap;
} cdl_scan_map;

/* Reads n bytes of valid UTF-8, which must stay while the map is used. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_scan_read(cdl_scan_map *m, const char *s, size_t n);
void cdl_scan_free(cdl_scan_map *m);
/* The ends of up to most pieces that follow each other from byte at < n on, where one begins, into end; how many
 * they are, at least 1. Fastest with room for CDL_SCAN_ENDS or more. */
enum { CDL_SCAN_ENDS = 256 };
size_t cdl_scan_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most);

#endif
