/* json.h - JSON in and out (RFC 8259, UTF-8).
 *
 * Two ways in. cdl_json_reader pulls one token at a time from text that may be
 * huge (a tokenizer.json of 30 MB) and copies nothing. cdl_json_parse builds a
 * tree in an arena, for configurations. Our own because a model's JSON needs what
 * general libraries drop: 64-bit integers, NUL inside strings, duplicate keys
 * seen, offsets in errors, no allocation per value.
 * Hostile text: depth at most CDL_JSON_DEPTH, memory bounded by the text's length.
 * Tests: tests/unit/test_json.c, tests/fuzz/fuzz_json.c
 */
#ifndef CDL_JSON_H
#define CDL_JSON_H

#include "arena.h"
#include "buf.h"

enum { CDL_JSON_DEPTH = 128 };

typedef enum {
    CDL_JSON_NULL, CDL_JSON_BOOL, CDL_JSON_INT, CDL_JSON_DOUBLE,
    CDL_JSON_STRING, CDL_JSON_ARRAY, CDL_JSON_OBJECT
} cdl_json_type;

/* ---- The tree ---- */

typedef struct cdl_json cdl_json;
struct cdl_json {
    cdl_json_type type;
    uint32_t key_len;      /* of a member of an object                               */
    const char *key;       /* NUL-terminated (may hold NULs before that), else NULL  */
    size_t n;              /* bytes of a string, items of an array or object         */
    union {
        bool b;
        int64_t i;         /* INT: a number without '.', 'e' that fits in 64 bits    */
        double d;
        const char *s;     /* NUL-terminated, n bytes                                */
        const cdl_json *items;
    } as;
};

/* Parses text[0, len) into the arena; the tree does not point into text.
 * name (a path) starts every error. Duplicate keys are an error (FORMAT).
 * "NaN", "Infinity" and "-Infinity" are accepted as Python writes them. */
CUDDLE_CHECK cuddle_status cdl_json_parse(const cdl_json **out, cdl_arena *a,
        const char *text, size_t len, const char *name);
/* Maps and parses a file. */
CUDDLE_CHECK cuddle_status cdl_json_load(const cdl_json **out, cdl_arena *a, const char *path);

/* All take NULL and a value of another type and then give the fallback. */
const cdl_json *cdl_json_get(const cdl_json *object, const char *key);       /* or NULL         */
const cdl_json *cdl_json_at(const cdl_json *array_or_object, size_t i);      /* or NULL         */
size_t      cdl_json_len(const cdl_json *array_or_object);                   /* or 0            */
const char *cdl_json_string(const cdl_json *v, const char *fallback);
int64_t     cdl_json_int(const cdl_json *v, int64_t fallback);               /* 3.0 counts as 3 */
double      cdl_json_double(const cdl_json *v, double fallback);             /* INT too         */
bool        cdl_json_bool(const cdl_json *v, bool fallback);
bool        cdl_json_is(const cdl_json *v, const char *string);              /* equal strings   */
/* NULL and JSON null. */
static inline bool cdl_json_none(const cdl_json *v) { return !v || v->type == CDL_JSON_NULL; }

/* ---- The reader ---- */

typedef enum {
    CDL_JSON_T_END, CDL_JSON_T_NULL, CDL_JSON_T_FALSE, CDL_JSON_T_TRUE, CDL_JSON_T_NUMBER,
    CDL_JSON_T_STRING, CDL_JSON_T_KEY,
    CDL_JSON_T_ARRAY, CDL_JSON_T_ARRAY_END, CDL_JSON_T_OBJECT, CDL_JSON_T_OBJECT_END
} cdl_json_token;

typedef struct {
    const char *text, *at, *end;
    const char *name;         /* for errors                                                */
    /* Of the token just read: STRING and KEY between the quotes, NUMBER its digits.       */
    const char *s;
    size_t n;
    bool escaped;             /* STRING, KEY: has backslashes: cdl_json_unescape it        */
    /* private */
    uint8_t depth;
    uint8_t state;
    uint64_t in_object[(CDL_JSON_DEPTH + 63) / 64];
} cdl_json_reader;

void cdl_json_reader_init(cdl_json_reader *r, const char *text, size_t len, const char *name);
/* The next token; errors: FORMAT with name and byte offset. END after the one top value. */
CUDDLE_CHECK cuddle_status cdl_json_next(cdl_json_reader *r, cdl_json_token *out);
/* Skips the value that starts at the next token (after a KEY, or inside an array). */
CUDDLE_CHECK cuddle_status cdl_json_skip(cdl_json_reader *r);
/* Skips the rest of a value whose first token was just read. */
CUDDLE_CHECK cuddle_status cdl_json_skip_from(cdl_json_reader *r, cdl_json_token first);
/* The value that starts at the next token, as a tree. */
CUDDLE_CHECK cuddle_status cdl_json_take(const cdl_json **out, cdl_arena *a, cdl_json_reader *r);
/* The current STRING or KEY, unescaped, appended to b (lone surrogates become U+FFFD). */
CUDDLE_CHECK cuddle_status cdl_json_unescape(const cdl_json_reader *r, cdl_buf *b);
/* The current NUMBER as a value. */
CUDDLE_CHECK cuddle_status cdl_json_number(const cdl_json_reader *r, cdl_json *out);
/* FORMAT error with name and the offset of the reader. */
cuddle_status cdl_json_error(const cdl_json_reader *r, const char *what);

/* ---- Out ---- */

/* "..." with escapes; invalid UTF-8 becomes U+FFFD. Non-ASCII is written as it is. */
CUDDLE_CHECK cuddle_status cdl_json_put_string(cdl_buf *b, const char *s, size_t n);
/* The shortest text that reads back as d; NaN and infinities become null. */
CUDDLE_CHECK cuddle_status cdl_json_put_double(cdl_buf *b, double d);

#endif
