/* texts.c - strings of another language as UTF-8. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"

enum { ROOM = 2 << 20, KEPT = 64 << 20 }; /* bytes of a new one; what is kept for the next strings */

struct cuddle_texts {
    char *utf8;                /* of those that are not ASCII; in pages of its own */
    size_t n, cap;
    uint32_t *points;          /* of the string at hand */
    const char **text;
    size_t *length;
    size_t cap_points, cap_text, cap_length;
};

static cuddle_status reserve(cuddle_texts *x, size_t n)
{
    if (n <= x->cap)
        return CUDDLE_OK;
    size_t cap = n > 2 * x->cap ? n : 2 * x->cap;
    cap = cap > ROOM ? cap : ROOM;
    char *more = cdl_mem_pages(cap);
    if (!more)
        return cdl_status_nomem("the texts of a batch");
    if (x->n)
        memcpy(more, x->utf8, x->n);
    cdl_mem_pages_free(x->utf8, x->cap);
    x->utf8 = more;
    x->cap = cap;
    return CUDDLE_OK;
}

cuddle_status cuddle_texts_new(cuddle_texts **out)
{
    *out = cdl_mem_zalloc(1, sizeof **out);
    return *out ? CUDDLE_OK : cdl_status_nomem("the texts of a batch");
}

void cuddle_texts_free(cuddle_texts *x)
{
    if (!x)
        return;
    cdl_mem_pages_free(x->utf8, x->cap);
    cdl_mem_free(x->points);
    cdl_mem_free(x->text);
    cdl_mem_free(x->length);
    cdl_mem_free(x);
}

/* Appends the string's UTF-8; how many bytes. */
static cuddle_status write_string(cuddle_texts *x, const cuddle_string_calls *calls, void *string, size_t i,
        size_t *bytes)
{
    ptrdiff_t n = calls->length(string);
    if (n < 0 || (size_t)n > SIZE_MAX / 8)
        return cdl_status_fail(CUDDLE_ERR_ARG, "text %zu is no string", i);
    CDL_TRY(cdl_work_grow(&x->points, &x->cap_points, (size_t)n, sizeof *x->points));
    CDL_TRY(reserve(x, x->n + 4 * (size_t)n + CDL_UTF8_LONG));
    if (n && !calls->copy(string, x->points, n, 0))
        return cdl_status_fail(CUDDLE_ERR_ARG, "text %zu: its characters cannot be had", i);
    *bytes = cdl_utf8_write(x->utf8 + x->n, x->points, (size_t)n);
    if (*bytes == SIZE_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "text %zu has a surrogate, which UTF-8 does not", i);
    x->n += *bytes;
    return CUDDLE_OK;
}

cuddle_status cuddle_texts_read(cuddle_texts *x, const cuddle_string_calls *calls, void *list, const uint8_t *ascii,
        size_t n)
{
    x->n = 0;
    if (x->cap > KEPT) {
        cdl_mem_pages_free(x->utf8, x->cap);
        x->utf8 = NULL;
        x->cap = 0;
    }
    CDL_TRY(cdl_work_grow(&x->text, &x->cap_text, n, sizeof *x->text));
    CDL_TRY(cdl_work_grow(&x->length, &x->cap_length, n, sizeof *x->length));
    for (size_t i = 0; i < n; i++) {
        void *string = calls->item(list, (ptrdiff_t)i);
        ptrdiff_t bytes = 0;
        x->text[i] = string && ascii[i] ? calls->utf8(string, &bytes) : NULL;
        x->length[i] = (size_t)bytes;
        if (!string || (ascii[i] && !x->text[i]))
            return cdl_status_fail(CUDDLE_ERR_ARG, "text %zu is no string", i);
        if (!ascii[i])
            CDL_TRY(write_string(x, calls, string, i, &x->length[i]));
    }
    const char *next = x->utf8; /* which stays from now on */
    for (size_t i = 0; i < n; i++)
        if (!ascii[i]) {
            x->text[i] = next;
            next += x->length[i];
        }
    return CUDDLE_OK;
}

void cuddle_texts_look(const cuddle_texts *x, const char *const **texts, const size_t **lengths)
{
    *texts = x->text;
    *lengths = x->length;
}
