/* regex.c - Oniguruma, with the character classes of the version that Hugging Face tokenizers has.
 *
 * The installed Oniguruma may know an older Unicode. So \w, \d and the common properties are
 * written as properties of our own in the pattern, defined from unicode.h's tables. */
#include "regex.h"

#include <limits.h>
#include <oniguruma.h>
#include <pthread.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/unicode.h"

/* Where a match may go back to: 4 places a byte and some. Oniguruma itself has no limit, and a pattern of 60 kB can
 * leave thousands at every byte. */
enum { STACK_ROOM = 1 << 20, STACK_FACTOR = 4 };

struct cdl_regex {
    OnigRegex regex;
    OnigMatchParam *small;     /* for texts of up to STACK_ROOM bytes */
};

/* ---- Properties ---- */

static const struct {
    const char *name, *own;    /* as Oniguruma compares names: lower case, no _ - or space */
    uint32_t mask;
} properties[] = {
    { "l", "cuddlel", CDL_UC_L }, { "n", "cuddlen", CDL_UC_N }, { "m", "cuddlem", CDL_UC_M },
    { "p", "cuddlep", CDL_UC_P }, { "s", "cuddles", CDL_UC_S },
    { "lu", "cuddlelu", CDL_UC_LU }, { "ll", "cuddlell", CDL_UC_LL },
    { "lt", "cuddlelt", CDL_UC_LT }, { "lm", "cuddlelm", CDL_UC_LM }, { "lo", "cuddlelo", CDL_UC_LO },
    { "nd", "cuddlend", CDL_UC_ND }, { "han", "cuddlehan", CDL_UC_HAN }, { "word", "cuddleword", CDL_UC_WORD },
    { "", "cuddlewordinset", CDL_UC_WORD },
};

enum { N_PROPERTIES = sizeof properties / sizeof *properties, PAIRS_MAX = 1024 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static OnigCodePoint ranges[N_PROPERTIES][1 + 2 * PAIRS_MAX]; /* a count, and pairs */

/* [\w] is another set than \w in Oniguruma: it lacks the numbers of Latin-1. Their ranges end or begin others. */
static void leave_out_latin1_numbers(OnigCodePoint *r)
{
    static const OnigCodePoint gone[][2] = { { 0xb2, 0xb3 }, { 0xb9, 0xb9 }, { 0xbc, 0xbe } };
    OnigCodePoint out[1 + 2 * PAIRS_MAX], n = 0;
    for (OnigCodePoint i = 0; i < r[0]; i++) {
        OnigCodePoint begin = r[1 + 2 * i], end = r[2 + 2 * i];
        for (size_t k = 0; k < sizeof gone / sizeof *gone; k++) {
            begin = begin >= gone[k][0] && begin <= gone[k][1] ? gone[k][1] + 1 : begin;
            end = end >= gone[k][0] && end <= gone[k][1] ? gone[k][0] - 1 : end;
        }
        if (begin > end)
            continue;
        out[1 + 2 * n] = begin;
        out[2 + 2 * n++] = end;
    }
    out[0] = n;
    memcpy(r, out, (1 + 2 * n) * sizeof *r);
}

static void start(void)
{
    OnigEncoding encodings[] = { ONIG_ENCODING_UTF8 };
    onig_initialize(encodings, 1);
    for (size_t i = 0; i < N_PROPERTIES; i++) {
        ranges[i][0] = (OnigCodePoint)cdl_unicode_ranges(properties[i].mask, ranges[i] + 1, PAIRS_MAX);
        if (!*properties[i].name)
            leave_out_latin1_numbers(ranges[i]);
        onig_unicode_define_user_property(properties[i].own, ranges[i]);
    }
}

/* The name of our own for the property s[0, n), or NULL. */
static const char *find_property(const char *s, size_t n)
{
    char name[8];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ' || s[i] == '_' || s[i] == '-')
            continue;
        if (len == sizeof name - 1)
            return NULL;
        name[len++] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
    }
    name[len] = '\0';
    for (size_t i = 0; i < N_PROPERTIES; i++)
        if (strcmp(name, properties[i].name) == 0)
            return properties[i].own;
    return NULL;
}

/* Writes the escape at s ("\w", "\p{L}", or whatever it is) and gives its length. */
static cuddle_status put_escape(cdl_buf *b, const char *s, size_t n, bool in_set, size_t *length)
{
    char c = n > 1 ? s[1] : 0;
    *length = n > 1 ? 2 : 1;
    if (c == 'w' || c == 'W')
        return cdl_buf_printf(b, "\\%c{cuddleword%s}", c == 'w' ? 'p' : 'P', in_set ? "inset" : "");
    if (c == 'd' || c == 'D')
        return cdl_buf_puts(b, c == 'd' ? "\\p{cuddlend}" : "\\P{cuddlend}");
    const char *close = (c == 'p' || c == 'P') && n > 3 && s[2] == '{' ? memchr(s, '}', n) : NULL;
    if (!close)
        return cdl_buf_append(b, s, *length);
    const char *name = s + 3 + (s[3] == '^');
    const char *own = find_property(name, (size_t)(close - name));
    *length = (size_t)(close - s) + 1;
    if (!own)
        return cdl_buf_append(b, s, *length);
    CDL_TRY(cdl_buf_append(b, s, (size_t)(name - s)));
    CDL_TRY(cdl_buf_puts(b, own));
    return cdl_buf_putc(b, '}');
}

static cuddle_status own_properties(cdl_buf *b, const char *s, size_t n)
{
    size_t depth = 0; /* of sets: [..[..]..] */
    CDL_TRY(cdl_buf_reserve(b, n));
    for (size_t i = 0, length; i < n; i += length) {
        length = 1;
        if (s[i] == '\\') {
            CDL_TRY(put_escape(b, s + i, n - i, depth > 0, &length));
            continue;
        }
        depth += s[i] == '[';
        depth -= s[i] == ']' && depth > 0;
        CDL_TRY(cdl_buf_putc(b, s[i]));
    }
    return cdl_buf_append(b, "", 0);
}

/* ---- */

static cuddle_status compile(cdl_regex *r, const char *s, size_t n, const char *pattern, size_t n_pattern,
        const char *name)
{
    OnigErrorInfo info;
    const OnigUChar *p = (const OnigUChar *)s;
    int rc = onig_new(&r->regex, p, p + n, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    if (rc == ONIG_NORMAL)
        return CUDDLE_OK;
    if (rc == ONIGERR_MEMORY)
        return cdl_status_nomem("a regular expression");
    OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(text, rc, &info);
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: the regular expression '%.*s' is malformed: %s", name,
            CDL_STR(pattern, n_pattern), (const char *)text);
}

static OnigMatchParam *make_param(size_t n)
{
    OnigMatchParam *p = onig_new_match_param();
    if (p)
        onig_set_match_stack_limit_size_of_match_param(p, (unsigned)(STACK_ROOM + STACK_FACTOR * n));
    return p;
}

cuddle_status cdl_regex_new(cdl_regex **out, const char *pattern, size_t n, const char *name)
{
    *out = NULL;
    pthread_once(&once, start);
    cdl_regex *r = cdl_mem_zalloc(1, sizeof *r);
    if (!r)
        return cdl_status_nomem("a regular expression");
    cdl_buf b = { 0 };
    cuddle_status st = own_properties(&b, pattern, n);
    if (st == CUDDLE_OK)
        st = compile(r, b.data, b.len, pattern, n, name);
    cdl_buf_free(&b);
    r->small = make_param(STACK_ROOM);
    if (st == CUDDLE_OK && !r->small)
        st = cdl_status_nomem("a regular expression");
    if (st == CUDDLE_OK)
        *out = r;
    else
        cdl_regex_free(r);
    return st;
}

void cdl_regex_free(cdl_regex *r)
{
    if (!r)
        return;
    if (r->regex)
        onig_free(r->regex);
    if (r->small)
        onig_free_match_param(r->small);
    cdl_mem_free(r);
}

static cuddle_status search(const cdl_regex *r, const char *s, size_t n, size_t from, int *begin, int *end)
{
    OnigRegion region = { 0 };
    const OnigUChar *u = (const OnigUChar *)s;
    OnigMatchParam *own = n > STACK_ROOM ? make_param(n < UINT_MAX / 8 ? n : UINT_MAX / 8) : r->small;
    if (!own)
        return cdl_status_nomem("a regular expression");
    int rc = onig_search_with_param(r->regex, u, u + n, u + from, u + n, &region, ONIG_OPTION_NONE, own);
    if (own != r->small)
        onig_free_match_param(own);
    *begin = -1;
    if (rc >= 0) {
        *begin = region.beg[0];
        *end = region.end[0];
    }
    onig_region_free(&region, 0);
    if (rc == ONIGERR_MEMORY)
        return cdl_status_nomem("a regular expression");
    if (rc < 0 && rc != ONIG_MISMATCH)
        return cdl_status_fail(CUDDLE_ERR_FORMAT,
                "a regular expression of the tokenizer takes too many steps, or too much memory, on this text");
    return CUDDLE_OK;
}

cuddle_status cdl_regex_next(const cdl_regex *r, cdl_regex_walk *walk, const char *s, size_t n,
        size_t *begin, size_t *end, bool *found)
{
    *found = false;
    while (walk->at <= n) {
        int b, e = 0;
        CDL_TRY(search(r, s, n, walk->at, &b, &e));
        if (b < 0)
            return CUDDLE_OK;
        if (b == e && walk->last_end == (size_t)e + 1) { /* an empty match right behind the last one */
            uint32_t cp;
            size_t step = cdl_utf8_get(s + walk->at, n - walk->at, &cp);
            walk->at += step ? step : 1;
            continue;
        }
        walk->at = (size_t)e;
        walk->last_end = (size_t)e + 1;
        *begin = (size_t)b;
        *end = (size_t)e;
        *found = true;
        return CUDDLE_OK;
    }
    return CUDDLE_OK;
}
