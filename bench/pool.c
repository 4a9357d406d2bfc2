/* pool.c - what a phase of the thread pool costs, alone and beside a busy process.
 *
 * build/bench/pool [threads]: for 1 .. threads, nanoseconds a phase when its chunks are empty, and
 * the speed of a decode-like run (phases of 5 us chunks) against one thread's. "beside" has a
 * process that spins on the last processor. Each figure is the median (and best) of several
 * rounds.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"

enum { PHASES = 400, ROUNDS = 101 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void nothing(const void *arg, uint32_t chunk, void *scratch)
{
    (void)arg, (void)chunk, (void)scratch;
}

static void nothing_commit(const void *arg, uint32_t chunk, const void *scratch)
{
    (void)arg, (void)chunk, (void)scratch;
}

/* A fixed number of instructions: 5 us or so. */
static void some(const void *arg, uint32_t chunk, void *scratch)
{
    (void)arg;
    uint32_t x = chunk;
    for (int i = 0; i < 4000; i++)
        x = x * 1664525u + 1013904223u;
    *(volatile uint32_t *)scratch = x;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct { double median, best, mean; } figures;

/* The two phases in turn. */
static figures measure(uint32_t threads, cdl_phase even, cdl_phase odd)
{
    static cdl_phase phases[PHASES];
    static double ns[ROUNDS];
    for (int i = 0; i < PHASES; i++)
        phases[i] = i % 2 ? odd : even;
    cdl_pool *p;
    if (cdl_pool_new(&p, threads, 64) != CUDDLE_OK) {
        fprintf(stderr, "%s\n", cuddle_errmsg());
        exit(1);
    }
    double sum = 0;
    for (int r = -5; r < ROUNDS; r++) {
        double begin = now();
        cdl_pool_run(p, phases, PHASES);
        double each = (now() - begin) * 1e9 / PHASES;
        if (r >= 0) {
            ns[r] = each;
            sum += each;
        }
    }
    cdl_pool_free(p);
    qsort(ns, ROUNDS, sizeof *ns, by_value);
    return (figures){ ns[ROUNDS / 2], ns[0], sum / ROUNDS };
}

static pid_t start_busy(void)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((int)sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (volatile unsigned x = 0;; x++)
        ;
}

static void table(uint32_t threads_max)
{
    static const cdl_phase empty[] = {
        { nothing, NULL, NULL, 1 },
        { nothing, NULL, NULL, 16 },
        { nothing, nothing_commit, NULL, 1 },
        { nothing, nothing_commit, NULL, 2 },
        { nothing, nothing_commit, NULL, 16 },
        { nothing, nothing_commit, NULL, 64 },
    };
    for (uint32_t t = 1; t <= threads_max; t *= 2)
        for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
            figures f = measure(t, empty[i], empty[i]);
            printf("%u threads, %2u empty chunks, %s: %7.0f ns a phase (best %.0f, mean %.0f)\n", t,
                    empty[i].chunks, empty[i].commit ? "commit" : "direct", f.median, f.best, f.mean);
        }
    cdl_phase work = { some, nothing_commit, NULL, 16 };
    cdl_phase serial = { some, nothing_commit, NULL, 1 };
    double one = 0;
    for (uint32_t t = 1; t <= threads_max; t *= 2) {
        figures f = measure(t, serial, work);
        one = t == 1 ? f.mean : one;
        printf("%u threads, 1 and 16 chunks of work: %5.1f us a phase (best %.1f, mean %.1f), %.2f x one thread\n",
                t, f.median / 1e3, f.best / 1e3, f.mean / 1e3, one / f.mean);
    }
    serial.commit = NULL;
    for (uint32_t t = 2; t <= threads_max; t *= 2) {
        figures f = measure(t, serial, work);
        printf("%u threads, the 1 chunk direct:      %5.1f us a phase (best %.1f, mean %.1f), %.2f x one thread\n",
                t, f.median / 1e3, f.best / 1e3, f.mean / 1e3, one / f.mean);
    }
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : cdl_pool_default_threads();
    printf("alone\n");
    table(threads);
    fflush(stdout);
    pid_t busy = start_busy();
    printf("beside a busy process\n");
    table(threads);
    kill(busy, SIGKILL);
    waitpid(busy, NULL, 0);
    return 0;
}
