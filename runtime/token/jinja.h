/* jinja.h - the Jinja that chat templates are written in, as transformers runs it.
 *
 * Jinja 3.1 with trim_blocks, lstrip_blocks, loop controls, the generation tag and an immutable
 * sandbox. Tags: if for set (also as a block) macro call filter with raw break continue
 * generation. Template inheritance, includes and imports are refused. Values follow Python
 * (repr, slices, integer and float division, generators that are consumed once);
 * integers have 64 bits, and overflow is an error.
 * Templates and their data are untrusted: steps, depth, memory and output are bounded.
 *
 * Files: jinja_lex.c (text to tokens), jinja_parse.c (tokens to a tree), jinja_eval.c (runs
 * expressions), jinja_exec.c (runs statements and macros), jinja_value.c (Python's values),
 * jinja_functions.c (range, namespace, ..., methods of lists and dicts), jinja_string.c (methods of
 * strings), jinja_format.c (% and format), jinja_filters.c, jinja_select.c (filters that take
 * filters, tests, attributes), jinja_tests.c, jinja_tojson.c.
 * Tests: tests/unit/test_jinja.c, tests/fuzz/fuzz_jinja.c
 */
#ifndef CDL_JINJA_H
#define CDL_JINJA_H

#include "base/json.h"

typedef struct cdl_jinja cdl_jinja;

/* source is copied. name starts every error: "NAME, line 3: ...".
 * Errors: FORMAT, UNSUPPORTED (a tag), FULL (nested too deeply), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_jinja_parse(cdl_jinja **out, const char *source, size_t n,
        const char *name);
void cdl_jinja_free(cdl_jinja *t);

typedef struct {
    const char *name;
    const cdl_json *value;
} cdl_jinja_var;

/* A zero field means the default. */
typedef struct {
    uint64_t steps;        /* nodes run, and bytes touched / 64; default: 20 million */
    size_t output_max;     /* bytes; default: 16 MiB                                 */
    size_t memory_max;     /* bytes of values; default: 256 MiB                      */
} cdl_jinja_limits;

/* Appends the text to out (out->max is set while it runs). now: for strftime_now.
 * Errors: ARG (raise_exception, with its text), FORMAT, UNSUPPORTED, FULL, NOMEM. */
CUDDLE_CHECK cuddle_status cdl_jinja_render(const cdl_jinja *t, const cdl_jinja_var *vars, size_t n_vars,
        int64_t now, const cdl_jinja_limits *limits, cdl_buf *out);

#endif
