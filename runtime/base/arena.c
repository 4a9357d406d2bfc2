#include "arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

enum { CHUNK_MIN = 1 << 12, CHUNK_MAX = 1 << 20 };

struct cdl_arena_chunk {
    cdl_arena_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

/* Chunks double up to 1 MiB, so a small arena is small and a big one has few chunks. */
static cdl_arena_chunk *grow(cdl_arena *a, size_t n)
{
    size_t size = a->bytes < CHUNK_MIN ? CHUNK_MIN : a->bytes > CHUNK_MAX ? CHUNK_MAX : a->bytes;
    if (size < n)
        size = n;
    if (size > SIZE_MAX / 2 || (a->bytes_max && (size > a->bytes_max || a->bytes > a->bytes_max - size)))
        return NULL;
    cdl_arena_chunk *c = cdl_mem_alloc(sizeof *c + size);
    if (!c)
        return NULL;
    *c = (cdl_arena_chunk){ .next = a->head, .size = size };
    a->head = c;
    a->bytes += size;
    return c;
}

void *cdl_arena_alloc(cdl_arena *a, size_t n)
{
    if (n > SIZE_MAX - 15)
        return NULL;
    n = (n + 15) & ~(size_t)15;
    cdl_arena_chunk *c = a->head;
    if (!c || c->size - c->used < n)
        c = grow(a, n);
    if (!c)
        return NULL;
    void *p = c->data + c->used;
    c->used += n;
    return p;
}

void *cdl_arena_zalloc(cdl_arena *a, size_t count, size_t size)
{
    size_t n;
    void *p = cdl_mul(count, size, &n) ? cdl_arena_alloc(a, n) : NULL;
    if (p)
        memset(p, 0, n);
    return p;
}

char *cdl_arena_strndup(cdl_arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? cdl_arena_alloc(a, n + 1) : NULL;
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *cdl_arena_strdup(cdl_arena *a, const char *s)
{
    return cdl_arena_strndup(a, s, strlen(s));
}

char *cdl_arena_printf(cdl_arena *a, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : cdl_arena_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    return p;
}

void cdl_arena_free(cdl_arena *a)
{
    for (cdl_arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        cdl_mem_free(c);
    }
    a->head = NULL;
    a->bytes = 0;
}

void cdl_arena_reset(cdl_arena *a)
{
    cdl_arena_chunk *keep = NULL;
    for (cdl_arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        cdl_arena_chunk *drop = keep && keep->size >= c->size ? c : keep;
        if (drop != c)
            keep = c;
        cdl_mem_free(drop);
    }
    a->head = keep;
    a->bytes = 0;
    if (keep) {
        keep->next = NULL;
        keep->used = 0;
        a->bytes = keep->size;
    }
}
