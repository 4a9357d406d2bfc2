#define _GNU_SOURCE
#include "mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_size_t count, live;
static atomic_long fail_nth;
static atomic_bool fail_sticky;

/* Counts one allocation; true when a test wants it to fail. */
static bool refused(void)
{
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_nth, memory_order_relaxed) <= 0)
        return false;
    long left = atomic_fetch_sub(&fail_nth, 1);
    if (left == 1 && atomic_load(&fail_sticky))
        atomic_store(&fail_nth, 1);
    return left == 1;
}

void cdl_mem_fail_nth(long n, bool sticky)
{
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_nth, n);
}

size_t cdl_mem_count(void)
{
    return atomic_load(&count);
}

size_t cdl_mem_live(void)
{
    return atomic_load(&live);
}

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *cdl_mem_alloc(size_t n)
{
    return refused() ? NULL : counted(malloc(n ? n : 1));
}

void *cdl_mem_zalloc(size_t n, size_t size)
{
    size_t total;
    if (!cdl_mul(n, size, &total) || refused())
        return NULL;
    return counted(calloc(total ? total : 1, 1));
}

void *cdl_mem_array(size_t n, size_t size)
{
    size_t total;
    return cdl_mul(n, size, &total) ? cdl_mem_alloc(total) : NULL;
}

void *cdl_mem_realloc(void *p, size_t n)
{
    if (refused())
        return NULL;
    return p ? realloc(p, n ? n : 1) : counted(malloc(n ? n : 1));
}

void *cdl_mem_aligned(size_t align, size_t n)
{
    size_t rounded;
    if (!cdl_add(n ? n : 1, align - 1, &rounded) || refused())
        return NULL;
    return counted(aligned_alloc(align, rounded & ~(align - 1)));
}

char *cdl_mem_strndup(const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? cdl_mem_alloc(n + 1) : NULL;
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *cdl_mem_strdup(const char *s)
{
    return cdl_mem_strndup(s, strlen(s));
}

void cdl_mem_free(void *p)
{
    if (p)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

/* Without 2 MiB pages decoding loses 10 to 15 %, so align for them and ask. */
enum { HUGE_PAGE = 2 << 20 };

void *cdl_mem_pages(size_t n)
{
    size_t padded;
    if (refused() || !cdl_add(n, 2 * (size_t)HUGE_PAGE, &padded))
        return NULL;
    char *raw = mmap(NULL, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    char *p = (char *)(((uintptr_t)raw + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    size_t kept = (n + 4095) & ~(size_t)4095;
    if (p > raw)
        munmap(raw, (size_t)(p - raw));
    munmap(p + kept, (size_t)(raw + padded - (p + kept)));
    if (kept >= HUGE_PAGE)
        madvise(p, kept, MADV_HUGEPAGE);
    return counted(p);
}

void cdl_mem_pages_free(void *p, size_t n)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    munmap(p, (n + 4095) & ~(size_t)4095);
}

void *cdl_mem_huge(void *p, size_t n)
{
    char *page = (char *)((uintptr_t)p & ~(uintptr_t)4095);
    if (p && n >= HUGE_PAGE)
        madvise(page, (size_t)((char *)p - page) + n, MADV_HUGEPAGE);
    return p;
}

void cdl_mem_small(void *p, size_t n)
{
    madvise(p, n, MADV_NOHUGEPAGE);
}

void *cdl_mem_lines(size_t n)
{
    return cdl_mem_huge(cdl_mem_aligned(n >= HUGE_PAGE ? HUGE_PAGE : 64, n), n);
}

size_t cdl_mem_cache_bytes(void)
{
#ifdef _SC_LEVEL3_CACHE_SIZE
    long third = sysconf(_SC_LEVEL3_CACHE_SIZE), second = sysconf(_SC_LEVEL2_CACHE_SIZE);
    long most = third > second ? third : second;
    if (most > 0)
        return (size_t)most;
#endif
    return 32 << 20;
}
