/* mem.h - the one door to the host's heap: checked sizes, a counter, injected failures.
 *
 * Every allocation of the library goes through here, so that tests can count
 * them ("nothing allocates after an engine is open") and fail the n-th.
 * Thread-safe. Tests: tests/unit/test_mem.c
 */
#ifndef CDL_MEM_H
#define CDL_MEM_H

#include <stddef.h>
#include <stdbool.h>

/* All return NULL when memory is out or the size overflows; n = 0 gives a valid pointer. */
void *cdl_mem_alloc(size_t n);
void *cdl_mem_zalloc(size_t count, size_t size);            /* zeroed, product checked      */
void *cdl_mem_array(size_t count, size_t size);             /* product checked              */
void *cdl_mem_realloc(void *p, size_t n);
void *cdl_mem_aligned(size_t align, size_t n);              /* align: power of two, >= 8    */
char *cdl_mem_strdup(const char *s);
char *cdl_mem_strndup(const char *s, size_t n);             /* copies n bytes, adds a NUL   */
void  cdl_mem_free(void *p);                                /* of any of the above, or NULL */

/* Large zeroed page-aligned blocks (mmap, huge pages advised), for weights and state. */
void *cdl_mem_pages(size_t n);
void  cdl_mem_pages_free(void *p, size_t n);
/* n bytes from the begin of a cache line on, of huge pages if they are that many; for cdl_mem_free. */
void *cdl_mem_lines(size_t n);
/* Asks for huge pages within a block of n bytes of any of the above (or NULL), which will be used all over; gives p. */
void *cdl_mem_huge(void *p, size_t n);
/* Takes that back within a block of cdl_mem_pages, for whole huge pages of n bytes from p on, of which little will be
 * used: a small page is cleared in a microsecond, a huge one in hundreds. */
void  cdl_mem_small(void *p, size_t n);

/* Bytes of the largest cache of a processor; 32 MiB when the system does not say. */
size_t cdl_mem_cache_bytes(void);

/* Allocations so far in this process. */
size_t cdl_mem_count(void);
/* Allocations not freed yet. */
size_t cdl_mem_live(void);

/* Tests: the n-th allocation from now fails (1 = the next), and all after it when sticky. 0 = none. */
void cdl_mem_fail_nth(long n, bool sticky);

/* a * b and a + b into *out; false when they overflow. */
static inline bool cdl_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool cdl_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
