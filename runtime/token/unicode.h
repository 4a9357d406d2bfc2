/* unicode.h - character classes, case, and normalization forms as Hugging Face tokenizers has them.
 * The tables (unicode_data.h) are answers of that library itself. Tests: tests/unit/test_scan.c, test_tokenizer.c */
#ifndef CDL_TOKEN_UNICODE_H
#define CDL_TOKEN_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CDL_UC_L 0x1u            /* Oniguruma's \p{L}; so all to LO           */
#define CDL_UC_N 0x2u
#define CDL_UC_M 0x4u
#define CDL_UC_P 0x8u
#define CDL_UC_S 0x10u
#define CDL_UC_SPACE 0x20u       /* \s                                        */
#define CDL_UC_UPPERISH 0x40u    /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]           */
#define CDL_UC_LOWERISH 0x80u    /* [\p{Ll}\p{Lm}\p{Lo}\p{M}]                 */
#define CDL_UC_HAN 0x100u        /* \p{Han}                                   */
#define CDL_UC_WORD 0x200u       /* \w                                        */
#define CDL_UC_ND 0x400u         /* \d, \p{Nd}                                */
#define CDL_UC_LU 0x800u
#define CDL_UC_LL 0x1000u
#define CDL_UC_LT 0x2000u
#define CDL_UC_LM 0x4000u
#define CDL_UC_LO 0x8000u
#define CDL_UC_RUST_WORD 0x10000u  /* \w of Rust's regex                      */
#define CDL_UC_RUST_SPACE 0x20000u /* char::is_whitespace                     */
#define CDL_UC_NUMERIC 0x40000u  /* char::is_numeric                          */
#define CDL_UC_PUNCT 0x80000u    /* ASCII punctuation and categories P*       */
#define CDL_UC_OTHER 0x100000u   /* categories C*, without tab, LF and CR     */
#define CDL_UC_NONSPACING 0x200000u
#define CDL_UC_COMBINING 0x400000u
#define CDL_UC_JOINED 0x800000u  /* of one grapheme with the character before it ... */
#define CDL_UC_APART 0x1000000u  /* ... but with one of these         */

/* Expands the tables; must have run once before the rest (every tokenizer's open calls it). Thread-safe. */
void cdl_unicode_init(void);

extern uint16_t cdl_unicode_page[0x110000 / 128];
extern uint8_t cdl_unicode_class[][128];
extern const uint32_t cdl_unicode_mask[];

/* The CDL_UC_ bits of a code point. */
static inline uint32_t cdl_unicode(uint32_t cp)
{
    return cdl_unicode_mask[cdl_unicode_class[cdl_unicode_page[cp >> 7]][cp & 127]];
}

/* The code points with any bit of mask as (first, last) pairs into out [pairs, 2]; how many pairs
 * there are, also when that is more than fit. */
size_t cdl_unicode_ranges(uint32_t mask, uint32_t *out, size_t pairs);

/* The script that the UnicodeScripts pre-tokenizer sees; 0: any. */
uint32_t cdl_unicode_script(uint32_t cp);

/* Canonical combining class. */
uint32_t cdl_unicode_ccc(uint32_t cp);

/* Lowercase of cp into out; code points written (1, or 2 for U+0130). */
uint32_t cdl_unicode_lower(uint32_t cp, uint32_t out[2]);

/* Full decomposition of cp; *out: tmp, or static memory. Gives the count, 1 when it stays itself. */
uint32_t cdl_unicode_decompose(uint32_t cp, bool compat, uint32_t tmp[3], const uint32_t **out);

/* Whether valid UTF-8 surely is in NFD, NFC, NFKD or NFKC already; false where that is not seen at once. */
bool cdl_unicode_has_form(const char *s, size_t n, bool compat, bool composed);

/* The composition of a and b, or 0. */
uint32_t cdl_unicode_compose(uint32_t a, uint32_t b);

/* GPT-2's printable code point of a byte, and back (-1: not one of them). */
uint32_t cdl_unicode_from_byte(uint8_t b);
int cdl_unicode_to_byte(uint32_t cp);

#endif
