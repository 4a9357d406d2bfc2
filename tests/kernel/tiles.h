/* tiles.h - what tests of the AMX kernels share: a set of them that runs on every CPU that has AVX-512 with
 * bf16, where there is no AMX through amx_trap.h. Include after _GNU_SOURCE. */
#ifndef TILES_H
#define TILES_H

#include "kernel/kernel.h"

#include "kernel/amx_trap.h"

/* Without kernels: a program puts those that it tests in. */
static cdl_cpu_set amx = { .name = "amx", .scratch_bytes = CDL_CPU_SCRATCH_BYTES };
static const cdl_cpu_set *avx512;
static bool has_amx;

/* False, after the line of a test that is skipped, where AVX-512 with bf16 is missing. */
static inline bool tiles_begin(void)
{
    const cdl_cpu_set *real;
    has_amx = cdl_cpu_select(&real, "amx") == CUDDLE_OK;
    if (cdl_cpu_select(&avx512, "avx512") != CUDDLE_OK || !__builtin_cpu_supports("avx512bf16")) {
        printf("1..1\nok 1 - tiles # SKIP this CPU has no AVX-512 with bf16\n");
        return false;
    }
    return true;
}

/* One call on a pool of so many threads (0: 1). */
static inline void tiles_run(const cdl_cpu_set *set, uint32_t threads, cdl_call *c)
{
    if (!has_amx)
        trap_install(); /* here, since cmocka puts its own handler before each test */
    cdl_pool *pool = kernel_pool(set, threads ? threads : 1);
    kernel_run(set, pool, c);
    cdl_pool_free(pool);
}

/* The program's exit code: who carried tiles out is said, and no tiles at all is a failure. */
static inline int tiles_end(int failed)
{
    if (has_amx)
        printf("# tiles by the CPU\n");
    else
        printf("# %llu tile instructions by amx_trap.h\n", (unsigned long long)trap_count);
    return failed || (!has_amx && !trap_count);
}

#endif
