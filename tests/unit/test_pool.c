/* tsan */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "torture.h"

enum { CHUNKS = 5000 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static cdl_pool *make(uint32_t threads)
{
    cdl_pool *p;
    assert_int_equal(cdl_pool_new(&p, threads, 256), CUDDLE_OK);
    assert_int_equal(cdl_pool_threads(p), threads);
    return p;
}

/* ---- Each chunk exactly once ---- */

typedef struct {
    _Atomic uint32_t ran[CHUNKS], committed[CHUNKS];
} counts;

static void count_run(const void *arg, uint32_t chunk, void *scratch)
{
    counts *c = (counts *)arg;
    atomic_fetch_add(&c->ran[chunk], 1);
    *(uint32_t *)scratch = chunk;
}

static void count_commit(const void *arg, uint32_t chunk, const void *scratch)
{
    counts *c = (counts *)arg;
    assert_int_equal(*(const uint32_t *)scratch, chunk);
    atomic_fetch_add(&c->committed[chunk], 1);
}

static void test_chunk_runs_once(void **state)
{
    (void)state;
    static counts plain, committed;
    static const uint32_t sizes[] = { 0, 1, 2, 3, 5, 16, 17, 4095, 4096, 4097, CHUNKS };
    for (uint32_t threads = 1; threads <= 5; threads++) {
        cdl_pool *p = make(threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            memset(&plain, 0, sizeof plain);
            memset(&committed, 0, sizeof committed);
            cdl_phase phases[] = {
                { count_run, NULL, &plain, sizes[s] },
                { count_run, count_commit, &committed, sizes[s] },
                { count_run, NULL, &plain, 0 },
            };
            cdl_pool_run(p, phases, 3);
            for (uint32_t c = 0; c < CHUNKS; c++) {
                assert_int_equal(plain.ran[c], c < sizes[s]);
                assert_int_equal(committed.committed[c], c < sizes[s]);
                assert_true((committed.ran[c] > 0) == (c < sizes[s]));
            }
            cdl_pool_quiesce(p, 0);
        }
        cdl_pool_free(p);
    }
}

static void test_steal_off_computes_once(void **state)
{
    (void)state;
    static counts c;
    cdl_pool_set_steal(false);
    cdl_pool *p = make(4);
    for (int i = 0; i < 200; i++) {
        memset(&c, 0, sizeof c);
        cdl_pool_run(p, &(cdl_phase){ count_run, count_commit, &c, 64 }, 1);
        for (uint32_t k = 0; k < 64; k++)
            assert_true(c.ran[k] == 1 && c.committed[k] == 1);
    }
    cdl_pool_free(p);
    cdl_pool_set_steal(true);
}

/* ---- A phase sees all of the one before ---- */

enum { WIDTH = 64 };

/* Values pass from buffer to buffer; a late thread may read what a later phase writes, so
 * they are relaxed atomics here. */
typedef struct {
    _Atomic uint32_t *in, *out;
    uint32_t salt;
} mix;

static uint32_t mixed(const mix *m, uint32_t chunk)
{
    uint32_t h = m->salt + chunk;
    for (uint32_t i = 0; i < WIDTH; i++)
        h = (h ^ atomic_load_explicit(&m->in[i], memory_order_relaxed)) * 16777619u;
    return h;
}

static void mix_run(const void *arg, uint32_t chunk, void *scratch)
{
    *(uint32_t *)scratch = mixed(arg, chunk);
}

static void mix_commit(const void *arg, uint32_t chunk, const void *scratch)
{
    const mix *m = arg;
    atomic_store_explicit(&m->out[chunk], *(const uint32_t *)scratch, memory_order_relaxed);
}

static void mix_direct(const void *arg, uint32_t chunk, void *scratch)
{
    (void)scratch;
    const mix *m = arg;
    atomic_store_explicit(&m->out[chunk], mixed(m, chunk), memory_order_relaxed);
}

/* A serial phase: must see all chunks of the one before, and all must see it. */
static void turn_run(const void *arg, uint32_t chunk, void *scratch)
{
    (void)scratch;
    const mix *m = arg;
    for (uint32_t i = 0; i < WIDTH; i++)
        atomic_store_explicit(&m->out[i], atomic_load_explicit(&m->in[WIDTH - 1 - i],
                    memory_order_relaxed) + chunk + m->salt, memory_order_relaxed);
}

static uint32_t run_chain(uint32_t threads, int runs)
{
    enum { DEPTH = 60 };
    _Atomic uint32_t a[WIDTH] = { 0 }, b[WIDTH] = { 0 };
    mix args[DEPTH];
    cdl_phase phases[DEPTH];
    for (uint32_t i = 0; i < DEPTH; i++) {
        args[i] = (mix){ i % 2 ? b : a, i % 2 ? a : b, i };
        phases[i] = (cdl_phase){ mix_run, mix_commit, &args[i], WIDTH };
        if (i % 4 == 1)
            phases[i] = (cdl_phase){ mix_direct, NULL, &args[i], WIDTH };
        if (i % 4 == 2)
            phases[i] = (cdl_phase){ turn_run, NULL, &args[i], 1 };
    }
    cdl_pool *p = make(threads);
    for (int r = 0; r < runs; r++) {
        cdl_pool_run(p, phases, DEPTH);
        if (r % 16 == 0)
            usleep(r % 64 ? 10 : 1000); /* long enough to fall asleep */
    }
    cdl_pool_free(p);
    return a[0] ^ b[WIDTH - 1];
}

static void test_phases_follow_each_other(void **state)
{
    (void)state;
    uint32_t wanted = run_chain(1, 300);
    for (uint32_t threads = 2; threads <= 6; threads++)
        assert_int_equal(run_chain(threads, 300), wanted);
}

/* ---- Late threads ---- */

enum { LATE_CHUNKS = 8 };

typedef struct {
    _Atomic uint32_t committed[LATE_CHUNKS], inside, slept;
    uint32_t sleep_us;
    pthread_t caller;
} late;

static void late_run(const void *arg, uint32_t chunk, void *scratch)
{
    late *l = (late *)arg;
    atomic_fetch_add(&l->inside, 1);
    for (double end = seconds() + 0.0003; seconds() < end;)
        ; /* both threads get some */
    uint32_t mine = 0;
    if (!pthread_equal(pthread_self(), l->caller) && !atomic_fetch_add(&l->slept, 1)) {
        usleep(l->sleep_us); /* as good as descheduled */
        mine = 1000;
    }
    *(uint32_t *)scratch = mine + chunk;
    atomic_fetch_sub(&l->inside, 1);
}

static void late_commit(const void *arg, uint32_t chunk, const void *scratch)
{
    late *l = (late *)arg;
    atomic_fetch_add(&l->committed[chunk], 1);
    (void)scratch;
}

static void test_late_chunk_is_computed_again(void **state)
{
    (void)state;
    static late l[20];
    static counts other[20];
    cdl_pool *p = make(2);
    int passed = 0;
    for (int i = 0; i < 20; i++) {
        l[i].sleep_us = 50000;
        l[i].caller = pthread_self();
        cdl_phase phases[] = {
            { late_run, late_commit, &l[i], LATE_CHUNKS },
            { count_run, count_commit, &other[i], 16 },
            { count_run, NULL, &other[i], 2 },
        };
        double begin = seconds();
        cdl_pool_run(p, phases, 3);
        passed += l[i].slept && seconds() - begin < 0.04;
        cdl_pool_quiesce(p, 0);
        assert_int_equal(l[i].inside, 0);
        for (uint32_t c = 0; c < LATE_CHUNKS; c++)
            assert_int_equal(l[i].committed[c], 1);
        for (uint32_t c = 0; c < 16; c++)
            assert_int_equal(other[i].committed[c], 1);
    }
    cdl_pool_free(p);
    assert_true(passed >= 5);
}

static void test_quiesce_lets_recent_runs_be(void **state)
{
    (void)state;
    static late l[6];
    static counts none;
    cdl_pool *p = make(2);
    for (int i = 0; i < 6; i++) {
        l[i].sleep_us = 50000;
        l[i].caller = pthread_self();
        cdl_pool_run(p, &(cdl_phase){ late_run, late_commit, &l[i], LATE_CHUNKS }, 1);
        double begin = seconds();
        cdl_pool_quiesce(p, 1);
        assert_true(seconds() - begin < 0.04);
        cdl_pool_run(p, &(cdl_phase){ count_run, count_commit, &none, 1 }, 1);
        cdl_pool_quiesce(p, 1);
        assert_int_equal(l[i].inside, 0);
    }
    cdl_pool_free(p);
}

/* ---- New and free ---- */

static cuddle_status open_and_close(void *user)
{
    (void)user;
    static counts c;
    cdl_pool *p = NULL;
    cuddle_status st = cdl_pool_new(&p, 3, 100);
    if (st != CUDDLE_OK)
        return st;
    cdl_pool_run(p, &(cdl_phase){ count_run, NULL, &c, 7 }, 1);
    cdl_pool_free(p);
    return CUDDLE_OK;
}

static void test_new_without_memory(void **state)
{
    (void)state;
    assert_int_equal(torture(open_and_close, NULL, false, 1), 5);
    torture(open_and_close, NULL, true, 1);
}

static void test_run_allocates_nothing(void **state)
{
    (void)state;
    static counts c;
    cdl_pool *p = make(3);
    size_t before = cdl_mem_count();
    for (int i = 0; i < 10; i++)
        cdl_pool_run(p, &(cdl_phase){ count_run, count_commit, &c, CHUNKS }, 1);
    assert_int_equal(cdl_mem_count(), before);
    cdl_pool_free(p);
}

static void test_arguments_are_checked(void **state)
{
    (void)state;
    cdl_pool *p;
    assert_int_equal(cdl_pool_new(&p, 0, 0), CUDDLE_ERR_ARG);
    assert_int_equal(cdl_pool_new(&p, CDL_POOL_THREADS_MAX + 1, 0), CUDDLE_ERR_ARG);
    cdl_pool_free(NULL);
    p = make(2);
    cdl_pool_run(p, NULL, 0);
    cdl_pool_free(p);
    uint32_t n = cdl_pool_default_threads();
    assert_true(n >= 1 && n <= CDL_POOL_THREADS_MAX);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_idle_pool_sleeps(void **state)
{
    (void)state;
    static counts c;
    cdl_pool *p = make(4);
    for (int i = 0; i < 3; i++) {
        cdl_pool_run(p, &(cdl_phase){ count_run, i % 2 ? NULL : count_commit, &c, 64 }, 1);
        usleep(50000);
        double begin = cpu_seconds();
        usleep(100000);
        assert_true(cpu_seconds() - begin < 0.02);
    }
    cdl_pool_free(p);
}

/* A thread that published a phase may be descheduled until others have finished the whole run: it must not count
 * as inside for ever. More threads than processors make that happen often. */
static void test_quiesce_returns_when_others_finished_the_run(void **state)
{
    (void)state;
    static counts committed;
    enum { RUNS = 200000, THREADS = 3 };
    cdl_pool *p = make(THREADS);
    for (int i = 0; i < RUNS; i++) {
        memset(&committed, 0, sizeof committed);
        cdl_phase phases[] = {
            { count_run, count_commit, &committed, THREADS }, { count_run, count_commit, &committed, 1 },
            { count_run, count_commit, &committed, THREADS }, { count_run, count_commit, &committed, 1 },
        };
        cdl_pool_run(p, phases, 4);
        cdl_pool_quiesce(p, 0);
    }
    cdl_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunk_runs_once),
        cmocka_unit_test(test_steal_off_computes_once),
        cmocka_unit_test(test_phases_follow_each_other),
        cmocka_unit_test(test_late_chunk_is_computed_again),
        cmocka_unit_test(test_quiesce_lets_recent_runs_be),
        cmocka_unit_test(test_new_without_memory),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_idle_pool_sleeps),
        cmocka_unit_test(test_quiesce_returns_when_others_finished_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
