#include "regex.h"

#include <oniguruma.h>
#include <pthread.h>

#include "base/mem.h"
#include "base/utf8.h"

struct cdl_regex {
    OnigRegex regex;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void)
{
    OnigEncoding encodings[] = { ONIG_ENCODING_UTF8 };
    onig_initialize(encodings, 1);
}

cuddle_status cdl_regex_new(cdl_regex **out, const char *pattern, size_t n, const char *name)
{
    *out = NULL;
    pthread_once(&once, start);
    cdl_regex *r = cdl_mem_zalloc(1, sizeof *r);
    if (!r)
        return cdl_status_nomem("a regular expression");
    OnigErrorInfo info;
    const OnigUChar *p = (const OnigUChar *)pattern;
    int rc = onig_new(&r->regex, p, p + n, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    if (rc == ONIG_NORMAL) {
        *out = r;
        return CUDDLE_OK;
    }
    cdl_mem_free(r);
    if (rc == ONIGERR_MEMORY)
        return cdl_status_nomem("a regular expression");
    OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(text, rc, &info);
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: the regular expression '%.*s' is malformed: %s", name, CDL_STR(pattern, n),
            (const char *)text);
}

void cdl_regex_free(cdl_regex *r)
{
    if (!r)
        return;
    onig_free(r->regex);
    cdl_mem_free(r);
}

static cuddle_status search(const cdl_regex *r, const char *s, size_t n, size_t from, int *begin, int *end)
{
    OnigRegion region = { 0 };
    const OnigUChar *u = (const OnigUChar *)s;
    int rc = onig_search(r->regex, u, u + n, u + from, u + n, &region, ONIG_OPTION_NONE);
    *begin = -1;
    if (rc >= 0) {
        *begin = region.beg[0];
        *end = region.end[0];
    }
    onig_region_free(&region, 0);
    if (rc == ONIGERR_MEMORY)
        return cdl_status_nomem("a regular expression");
    if (rc < 0 && rc != ONIG_MISMATCH)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "a regular expression of the tokenizer takes too many steps on this text");
    return CUDDLE_OK;
}

cuddle_status cdl_regex_next(const cdl_regex *r, cdl_regex_walk *walk, const char *s, size_t n, size_t *begin, size_t *end,
        bool *found)
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
