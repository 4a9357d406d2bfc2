#include "gen/stop.h"

#include <string.h>

#include "base/utf8.h"

cuddle_status cdl_stop_check(const cdl_stop *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const char *p = s->strings[i];
        if (!p || !*p)
            return cdl_status_fail(CUDDLE_ERR_ARG, "stop string %zu is empty", i);
        if (cdl_utf8_valid(p, strlen(p)) != strlen(p))
            return cdl_status_fail(CUDDLE_ERR_ARG, "stop string %zu is not UTF-8", i);
    }
    return CUDDLE_OK;
}

/* The first place (bytes from the start) behind a complete stop string, or 0. */
static size_t find_end(const cdl_stop *s, int32_t *which)
{
    for (size_t end = 1; end <= s->text.len; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < s->n; i++) {
            size_t n = strlen(s->strings[i]);
            if (n > end || n <= longest || memcmp(s->text.data + end - n, s->strings[i], n) != 0)
                continue;
            longest = n;
            *which = (int32_t)i;
        }
        if (longest)
            return end;
    }
    return 0;
}

/* Bytes at the end of the text that a stop string may begin with. */
static size_t open_bytes(const cdl_stop *s)
{
    for (size_t from = 0; from < s->text.len; from++) {
        size_t n = s->text.len - from;
        for (size_t i = 0; i < s->n; i++)
            if (n < strlen(s->strings[i]) && memcmp(s->text.data + from, s->strings[i], n) == 0)
                return n;
    }
    return 0;
}

static void drop_given(cdl_stop *s)
{
    if (!s->given)
        return;
    s->text.len -= s->given;
    memmove(s->text.data, s->text.data + s->given, s->text.len);
    s->given = 0;
}

cuddle_status cdl_stop_put(cdl_stop *s, const char *piece, size_t n, const char **out, size_t *n_out, int32_t *found)
{
    *found = -1;
    drop_given(s);
    CDL_TRY(cdl_buf_append(&s->text, piece, n));
    size_t end = find_end(s, found);
    if (end)
        s->text.len = end - strlen(s->strings[*found]);
    s->given = end ? s->text.len : s->text.len - open_bytes(s);
    *out = s->text.data;
    *n_out = s->given;
    return CUDDLE_OK;
}

void cdl_stop_end(cdl_stop *s, const char **out, size_t *n_out)
{
    drop_given(s);
    *out = s->text.data;
    *n_out = s->given = s->text.len;
}

void cdl_stop_free(cdl_stop *s)
{
    cdl_buf_free(&s->text);
}
