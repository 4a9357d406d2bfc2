/* torture.h - runs a function with its n-th allocation failing, for n = 1, 2, ... until it passes.
 *
 * The function builds something, uses it and frees it. It must give NOMEM, with an error line,
 * when an allocation failed; afterwards no allocation, file, mapping of a file or thread may be left.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cuddle.h"

static inline unsigned torture_count_entries(const char *folder)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static inline unsigned torture_count_mapped_models(void)
{
    char line[4096];
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, ".safetensors") || strstr(line, ".gguf");
    if (f)
        fclose(f);
    return n;
}

typedef struct {
    size_t live;
    unsigned files, threads, mapped;
} torture_state;

static inline torture_state torture_look(void)
{
    return (torture_state){ cdl_mem_live(), torture_count_entries("/proc/self/fd"),
        torture_count_entries("/proc/self/task"), torture_count_mapped_models() };
}

static inline void torture_compare(const torture_state *a, long i)
{
    torture_state b = torture_look();
    for (int tries = 0; b.threads > a->threads && tries < 1000; tries++)
        b = torture_look(); /* a joined thread's entry goes a moment later */
    if (b.live != a->live || b.files != a->files || b.threads != a->threads || b.mapped != a->mapped)
        fail_msg("allocation %ld failed, and left over: %ld allocations, %d files, %d threads, %d mappings",
                i, (long)(b.live - a->live), (int)(b.files - a->files), (int)(b.threads - a->threads),
                (int)(b.mapped - a->mapped));
}

typedef cuddle_status (*torture_fn)(void *user);

/* Fails each allocation once, in turn. With sticky all later ones fail too. step > 1 tries only
 * every step-th. Returns how many the function makes when none fails. */
static inline long torture(torture_fn fn, void *user, bool sticky, long step)
{
    size_t before = cdl_mem_count();
    assert_int_equal(fn(user), CUDDLE_OK);
    long n = (long)(cdl_mem_count() - before);
    torture_state clean = torture_look();
    for (long i = 1; i <= n; i += step) {
        cdl_mem_fail_nth(i, sticky);
        cuddle_status st = fn(user);
        cdl_mem_fail_nth(0, false);
        if (st != CUDDLE_ERR_NOMEM)
            fail_msg("allocation %ld of %ld failed, and the status is \"%s\" (%s)", i, n,
                    cuddle_status_name(st), cuddle_errmsg());
        assert_true(cuddle_errmsg()[0] != '\0');
        torture_compare(&clean, i);
    }
    assert_int_equal(fn(user), CUDDLE_OK);
    return n;
}

#endif
