#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

cuddle_status cdl_buf_reserve(cdl_buf *b, size_t n)
{
    if (n < b->cap - b->len && b->cap)
        return CUDDLE_OK;
    size_t want = b->len + n + 1;
    if (want <= b->len || want > SIZE_MAX / 2)
        return cdl_status_nomem("a buffer");
    if (b->max && want - 1 > b->max)
        return cdl_status_fail(CUDDLE_ERR_FULL, "text is longer than its limit of %zu bytes", b->max);
    size_t cap = b->cap ? b->cap : 64;
    while (cap < want)
        cap *= 2;
    char *p = cdl_mem_realloc(b->data, cap);
    if (!p)
        return cdl_status_nomem("a buffer");
    b->data = p;
    b->cap = cap;
    return CUDDLE_OK;
}

cuddle_status cdl_buf_append(cdl_buf *b, const void *p, size_t n)
{
    if (b->max && (n > b->max || b->len > b->max - n))
        return cdl_status_fail(CUDDLE_ERR_FULL, "text is longer than its limit of %zu bytes", b->max);
    CDL_TRY(cdl_buf_reserve(b, n));
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return CUDDLE_OK;
}

cuddle_status cdl_buf_puts(cdl_buf *b, const char *s)
{
    return cdl_buf_append(b, s, strlen(s));
}

cuddle_status cdl_buf_putc(cdl_buf *b, char c)
{
    return cdl_buf_append(b, &c, 1);
}

cuddle_status cdl_buf_printf(cdl_buf *b, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    cuddle_status st = n < 0 ? cdl_status_fail(CUDDLE_ERR_INTERNAL, "bad format") : cdl_buf_reserve(b, (size_t)n);
    if (st == CUDDLE_OK && b->max && b->len + (size_t)n > b->max)
        st = cdl_status_fail(CUDDLE_ERR_FULL, "text is longer than its limit of %zu bytes", b->max);
    if (st == CUDDLE_OK) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap2);
        b->len += (size_t)n;
    }
    va_end(ap2);
    return st;
}

void cdl_buf_clear(cdl_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void cdl_buf_free(cdl_buf *b)
{
    cdl_mem_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}
