/* arena.h - memory that is freed all at once: one arena a load or a request.
 * A zeroed cdl_arena is empty and valid. Not thread-safe. Tests: tests/unit/test_arena.c */
#ifndef CDL_ARENA_H
#define CDL_ARENA_H

#include <stddef.h>

typedef struct cdl_arena_chunk cdl_arena_chunk;

typedef struct {
    cdl_arena_chunk *head; /* the chunk that is being filled */
    size_t bytes;          /* taken from the heap so far     */
    size_t bytes_max;      /* 0: no limit                    */
} cdl_arena;

/* 16-byte aligned, not zeroed; NULL when memory or the limit is reached. */
void *cdl_arena_alloc(cdl_arena *a, size_t n);
void *cdl_arena_zalloc(cdl_arena *a, size_t count, size_t size);   /* zeroed, product checked */
char *cdl_arena_strndup(cdl_arena *a, const char *s, size_t n);    /* adds a NUL              */
char *cdl_arena_strdup(cdl_arena *a, const char *s);
char *cdl_arena_printf(cdl_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Empties the arena and keeps its largest chunk for what comes. */
void cdl_arena_reset(cdl_arena *a);
/* Frees everything; the arena is empty and usable again. */
void cdl_arena_free(cdl_arena *a);

#endif
