#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

/* How a phase goes: its number, the epoch, is published with its functions on one cache line. The
 * chunks are cut into one contiguous range a thread. Whoever needs work claims the next chunk of its
 * own range, then of the others'. Every word that is counted up carries the epoch, so a thread
 * that was descheduled and acts on an old phase cannot disturb the present one, and nothing has to
 * be reset between phases. The thread that finishes the last chunk of the last range
 * leads: it publishes the next phase.
 */

enum {
    CACHE_LINE = 64,
    CHUNKS_MAX = 4096,      /* of one epoch; a larger phase runs as several                        */
    COUNT_BITS = 16,        /* of a word "epoch, count"; 48 bits of epoch last nine years at 1 MHz */
    SPIN = 3000,            /* pauses before a thread sleeps                                       */
    PATIENCE = 300,         /* pauses before a chunk may count as late                             */
    REDO_BITS = 3, REDO_MAX = 6, TAKEN = 7
};

typedef struct {
    uint64_t epoch;         /* even */
    uint64_t run_number;
    void (*run)(const void *arg, uint32_t chunk, void *scratch);
    void (*commit)(const void *arg, uint32_t chunk, const void *scratch);
    const void *arg;
    uint32_t first;         /* chunk of the phase that chunk 0 of the epoch is */
    uint32_t chunks;        /* 0: between runs                                 */
    uint32_t leader;        /* who published it                                */
} job;

/* A job where all threads see it. epoch is odd while the others change. */
typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t epoch;
    _Atomic uint64_t run_number;
    void (*_Atomic run)(const void *, uint32_t, void *);
    void (*_Atomic commit)(const void *, uint32_t, const void *);
    const void *_Atomic arg;
    _Atomic uint32_t first, chunks, leader;
    _Atomic uint32_t ranges_done;
    _Atomic uint32_t sleeping;      /* a thread sleeps or is about to */
} board;

typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t claimed; /* of the range, with the epoch                   */
    _Atomic uint64_t done;                         /* the same                                       */
    _Atomic uint64_t inside;                       /* run whose memory the thread may read; 0: none  */
    void *scratch;
    cdl_pool *pool;
    pthread_t thread;
    uint32_t id;
} worker;

struct cdl_pool {
    board now;
    _Alignas(CACHE_LINE) _Atomic uint32_t wake;    /* what sleepers wait on */
    _Atomic bool quit;
    /* The leader's, and before the first phase the caller's. */
    _Alignas(CACHE_LINE) const cdl_phase *phases;
    uint32_t n, next;
    uint32_t next_first;                           /* chunks of phases[next] that ran already */
    uint64_t run_number;
    uint32_t threads, started;
    worker *workers;
    _Alignas(CACHE_LINE) _Atomic uint64_t state[CHUNKS_MAX]; /* epoch, redos begun or TAKEN */
};

static _Atomic bool steal_off;

void cdl_pool_set_steal(bool on)
{
    atomic_store(&steal_off, !on);
}

/* ---- The machine ---- */

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* A clock of any unit, cheap enough to read for every chunk. */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* ---- Publishing and waiting ---- */

/* The field stores are releases so that who reads one of them sees the odd epoch before it. */
static void publish(cdl_pool *p, const job *j)
{
    board *b = &p->now;
    uint64_t old = atomic_load_explicit(&b->epoch, memory_order_relaxed);
    atomic_store_explicit(&b->epoch, old + 1, memory_order_relaxed);
    atomic_store_explicit(&b->run_number, j->run_number, memory_order_release);
    atomic_store_explicit(&b->run, j->run, memory_order_release);
    atomic_store_explicit(&b->commit, j->commit, memory_order_release);
    atomic_store_explicit(&b->arg, j->arg, memory_order_release);
    atomic_store_explicit(&b->first, j->first, memory_order_release);
    atomic_store_explicit(&b->chunks, j->chunks, memory_order_release);
    atomic_store_explicit(&b->leader, j->leader, memory_order_release);
    atomic_store_explicit(&b->ranges_done, 0, memory_order_relaxed);
    atomic_store(&b->epoch, old + 2);
    if (atomic_load(&b->sleeping) && atomic_exchange(&b->sleeping, 0)) {
        atomic_fetch_add(&p->wake, 1);
        futex(&p->wake, FUTEX_WAKE, INT_MAX);
    }
}

/* The present job; false while it changes. */
static bool read_board(cdl_pool *p, job *j)
{
    board *b = &p->now;
    j->epoch = atomic_load_explicit(&b->epoch, memory_order_acquire);
    j->run_number = atomic_load_explicit(&b->run_number, memory_order_acquire);
    j->run = atomic_load_explicit(&b->run, memory_order_acquire);
    j->commit = atomic_load_explicit(&b->commit, memory_order_acquire);
    j->arg = atomic_load_explicit(&b->arg, memory_order_acquire);
    j->first = atomic_load_explicit(&b->first, memory_order_acquire);
    j->chunks = atomic_load_explicit(&b->chunks, memory_order_acquire);
    j->leader = atomic_load_explicit(&b->leader, memory_order_acquire);
    return !(j->epoch & 1) && atomic_load_explicit(&b->epoch, memory_order_relaxed) == j->epoch;
}

static bool is_over(cdl_pool *p, uint64_t epoch)
{
    return atomic_load_explicit(&p->now.epoch, memory_order_acquire) != epoch;
}

/* Returns when the epoch is not `seen` any more: spins, then sleeps. */
static void wait_for_change(cdl_pool *p, uint64_t seen)
{
    for (uint32_t i = 0; i < SPIN; i++) {
        if (is_over(p, seen))
            return;
        pause_cpu();
    }
    for (;;) {
        atomic_store(&p->now.sleeping, 1);
        uint32_t w = atomic_load(&p->wake);
        if (atomic_load(&p->now.epoch) != seen)
            return;
        futex(&p->wake, FUTEX_WAIT, w);
    }
}

/* ---- Chunks ---- */

static uint32_t count_ranges(const cdl_pool *p, const job *j)
{
    return j->chunks < p->threads ? j->chunks : p->threads;
}

/* Chunks fit in 13 bits and ranges in 11: no product overflows. */
static uint32_t range_begin(uint32_t r, uint32_t ranges, uint32_t chunks)
{
    return r * chunks / ranges;
}

static uint32_t range_of(uint32_t c, uint32_t ranges, uint32_t chunks)
{
    return ((c + 1) * ranges - 1) / chunks;
}

static uint32_t count_of(uint64_t word, uint64_t epoch)
{
    return word >> COUNT_BITS == epoch ? (uint32_t)(word & ((1u << COUNT_BITS) - 1)) : 0;
}

/* Takes the range's next chunk. Fails for an old epoch: its ranges were all claimed. */
static bool claim(worker *r, uint64_t epoch, uint32_t size, uint32_t *index)
{
    uint64_t old = atomic_load_explicit(&r->claimed, memory_order_acquire);
    do {
        *index = count_of(old, epoch);
        if (old >> COUNT_BITS > epoch || *index >= size)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&r->claimed, &old, epoch << COUNT_BITS | (*index + 1),
            memory_order_acq_rel, memory_order_acquire));
    return true;
}

/* Counts a chunk of range r as done; true when it was the last of all. */
static bool finish(cdl_pool *p, worker *r, uint64_t epoch, uint32_t size, uint32_t ranges)
{
    uint64_t old = atomic_load_explicit(&r->done, memory_order_relaxed);
    uint32_t count;
    do
        count = count_of(old, epoch) + 1;
    while (!atomic_compare_exchange_weak_explicit(&r->done, &old, epoch << COUNT_BITS | count,
            memory_order_acq_rel, memory_order_relaxed));
    return count == size
        && atomic_fetch_add_explicit(&p->now.ranges_done, 1, memory_order_acq_rel) + 1 == ranges;
}

/* Wins the right to commit a chunk; false when another did, or the epoch is over. */
static bool take(_Atomic uint64_t *state, uint64_t epoch)
{
    uint64_t mine = epoch << REDO_BITS | TAKEN;
    uint64_t old = atomic_load_explicit(state, memory_order_acquire);
    while (old < mine)
        if (atomic_compare_exchange_weak_explicit(state, &old, mine, memory_order_acq_rel,
                    memory_order_acquire))
            return true;
    return false;
}

/* Computes chunk c of the epoch; true when this thread now leads. */
static bool compute(worker *w, const job *j, uint32_t c)
{
    cdl_pool *p = w->pool;
    j->run(j->arg, j->first + c, w->scratch);
    if (j->commit) {
        if (!take(&p->state[c], j->epoch))
            return false;
        j->commit(j->arg, j->first + c, w->scratch);
    }
    uint32_t ranges = count_ranges(p, j), r = range_of(c, ranges, j->chunks);
    uint32_t size = range_begin(r + 1, ranges, j->chunks) - range_begin(r, ranges, j->chunks);
    return finish(p, &p->workers[r], j->epoch, size, ranges);
}

/* ---- Late chunks ---- */

/* Waits until a chunk that is not done yet counts as late; false when the epoch is over. */
static bool be_patient(cdl_pool *p, uint64_t epoch, uint64_t at_least)
{
    uint64_t start = ticks();
    for (uint32_t i = 0; i < PATIENCE || ticks() - start < at_least; i++) {
        if (is_over(p, epoch))
            return false;
        pause_cpu();
    }
    return true;
}

static bool is_taken(_Atomic uint64_t *state, uint64_t epoch)
{
    return atomic_load_explicit(state, memory_order_acquire) >= (epoch << REDO_BITS | TAKEN);
}

/* Marks an untaken chunk as being computed once more. Each further time needs more patience, so
 * that of many threads only a few do the same work. */
static bool begin_redo(_Atomic uint64_t *state, uint64_t epoch, uint32_t rounds)
{
    uint64_t old = atomic_load_explicit(state, memory_order_acquire);
    uint64_t next;
    do {
        uint64_t redos = old >> REDO_BITS == epoch ? old & ((1 << REDO_BITS) - 1) : 0;
        if (old >> REDO_BITS > epoch || redos == TAKEN || redos >= rounds)
            return false;
        next = epoch << REDO_BITS | (redos < REDO_MAX ? redos + 1 : REDO_MAX);
    } while (!atomic_compare_exchange_weak_explicit(state, &old, next, memory_order_acq_rel,
            memory_order_acquire));
    return true;
}

/* Nothing is left to claim: computes again what descheduled threads hold, until every chunk is
 * taken. True: this thread now leads. */
static bool rescue(worker *w, const job *j, uint64_t chunk_ticks)
{
    cdl_pool *p = w->pool;
    bool lead = false, open = true;
    uint32_t first = range_begin(w->id % count_ranges(p, j), count_ranges(p, j), j->chunks);
    for (uint32_t rounds = 1; open && !lead && be_patient(p, j->epoch, 2 * chunk_ticks); rounds++) {
        open = false;
        for (uint32_t k = 0; k < j->chunks && !lead; k++) {
            uint32_t c = (first + k) % j->chunks;
            if (is_taken(&p->state[c], j->epoch))
                continue;
            open = true;
            atomic_store_explicit(&w->inside, j->run_number, memory_order_relaxed);
            lead = begin_redo(&p->state[c], j->epoch, rounds) && compute(w, j, c);
            atomic_store_explicit(&w->inside, 0, memory_order_release);
        }
    }
    return lead;
}

/* ---- Phases ---- */

/* Computes what can be claimed; true when this thread finished the epoch. Gives the fastest chunk. */
static bool eat(worker *w, const job *j, uint64_t *fastest)
{
    cdl_pool *p = w->pool;
    uint32_t ranges = count_ranges(p, j);
    for (uint32_t k = 0; k < ranges; k++) {
        uint32_t r = (w->id + k) % ranges;
        uint32_t begin = range_begin(r, ranges, j->chunks);
        uint32_t size = range_begin(r + 1, ranges, j->chunks) - begin;
        uint32_t index;
        uint64_t then = ticks();
        while (claim(&p->workers[r], j->epoch, size, &index)) {
            if (compute(w, j, begin + index))
                return true;
            uint64_t now = ticks();
            *fastest = now - then < *fastest ? now - then : *fastest;
            then = now;
        }
    }
    return false;
}

/* Does what there is to do in an epoch; true when this thread finished it and leads. A single chunk
 * is the leader's. The word `inside` is set before a claim, and who completes the epoch in
 * this thread's stead has seen the claim: so cdl_pool_quiesce sees it too. */
static bool work(worker *w, const job *j)
{
    uint64_t fastest = UINT64_MAX;
    bool lead = false;
    atomic_store_explicit(&w->inside, j->run_number, memory_order_relaxed);
    if (j->chunks > 1)
        lead = eat(w, j, &fastest);
    else if (w->id == j->leader)
        lead = compute(w, j, 0);
    atomic_store_explicit(&w->inside, 0, memory_order_release);
    if (lead || !j->commit || atomic_load_explicit(&steal_off, memory_order_relaxed))
        return lead;
    return rescue(w, j, fastest == UINT64_MAX ? 0 : fastest);
}

static void run_alone(worker *w, const cdl_phase *ph)
{
    for (uint32_t c = 0; c < ph->chunks; c++) {
        ph->run(ph->arg, c, w->scratch);
        if (ph->commit)
            ph->commit(ph->arg, c, w->scratch);
    }
}

/* Publishes the phase's next epoch. `inside` is set before, for who rescues a single chunk. */
static void publish_phase(worker *w, const cdl_phase *ph)
{
    cdl_pool *p = w->pool;
    uint32_t left = ph->chunks - p->next_first;
    job j = { 0, p->run_number, ph->run, ph->commit, ph->arg, p->next_first,
        left < CHUNKS_MAX ? left : CHUNKS_MAX, w->id };
    p->next_first += j.chunks;
    if (p->next_first == ph->chunks) {
        p->next_first = 0;
        p->next++;
    }
    atomic_store_explicit(&w->inside, p->run_number, memory_order_relaxed);
    publish(p, &j);
}

/* Goes on with the next phase. False when the run is over. */
static bool lead(worker *w)
{
    cdl_pool *p = w->pool;
    for (; p->next < p->n; p->next++) {
        const cdl_phase *ph = &p->phases[p->next];
        if (ph->chunks > 1 || (ph->chunks && ph->commit)) {
            publish_phase(w, ph);
            return true;
        }
        run_alone(w, ph);
    }
    return false;
}

static void *work_always(void *arg)
{
    worker *w = arg;
    cdl_pool *p = w->pool;
    for (uint64_t seen = 0;;) {
        wait_for_change(p, seen);
        if (atomic_load_explicit(&p->quit, memory_order_acquire))
            return NULL;
        job j;
        if (!read_board(p, &j)) {
            pause_cpu();
            continue;
        }
        seen = j.epoch;
        if (!j.chunks) /* others may have finished what this thread published last */
            atomic_store_explicit(&w->inside, 0, memory_order_release);
        else if (work(w, &j) && !lead(w))
            publish(p, &(job){ 0 });
    }
}

void cdl_pool_run(cdl_pool *p, const cdl_phase *phases, uint32_t n)
{
    worker *w = &p->workers[0];
    p->run_number++;
    if (p->threads == 1) {
        for (uint32_t i = 0; i < n; i++)
            run_alone(w, &phases[i]);
        return;
    }
    p->phases = phases;
    p->n = n;
    p->next = 0;
    p->next_first = 0;
    if (!lead(w))
        return;
    for (;;) {
        job j;
        if (!read_board(p, &j)) {
            pause_cpu();
            continue;
        }
        if (!j.chunks)
            return;
        if (work(w, &j)) {
            if (!lead(w))
                return;
        } else {
            wait_for_change(p, j.epoch);
        }
    }
}

void cdl_pool_quiesce(cdl_pool *p, uint32_t recent)
{
    for (uint32_t t = 1; t < p->threads; t++) {
        for (uint32_t i = 0;; i++) {
            uint64_t in = atomic_load_explicit(&p->workers[t].inside, memory_order_acquire);
            if (!in || in + recent > p->run_number)
                break;
            if (i < SPIN)
                pause_cpu();
            else
                nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
        }
    }
}

/* ---- New and free ---- */

static cuddle_status start(cdl_pool *p, worker *w)
{
    /* Signals are the caller's, but for those that a thread's own instructions raise: to block them
     * is undefined, and hides the fault from debuggers' and sanitizers' handlers. */
    static const int faults[] = { SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP };
    sigset_t all, old;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&w->thread, NULL, work_always, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error)
        return cdl_status_fail(CUDDLE_ERR_IO, "cannot start thread %u of %u: %s; ask for fewer threads",
                w->id + 1, p->threads, strerror(error));
    char name[16];
    snprintf(name, sizeof name, "cuddle-%u", w->id);
    pthread_setname_np(w->thread, name);
    p->started++;
    return CUDDLE_OK;
}

cuddle_status cdl_pool_new(cdl_pool **out, uint32_t threads, size_t scratch_bytes)
{
    *out = NULL;
    if (threads < 1 || threads > CDL_POOL_THREADS_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%u threads: wanted 1 to %d", threads, CDL_POOL_THREADS_MAX);
    cdl_pool *p = cdl_mem_aligned(CACHE_LINE, sizeof *p);
    if (!p)
        return cdl_status_nomem("the threads");
    memset(p, 0, sizeof *p);
    p->threads = threads;
    cuddle_status st = CUDDLE_OK;
    p->workers = cdl_mem_aligned(CACHE_LINE, threads * sizeof *p->workers);
    if (p->workers)
        memset(p->workers, 0, threads * sizeof *p->workers);
    for (uint32_t t = 0; p->workers && t < threads; t++) {
        worker *w = &p->workers[t];
        w->pool = p;
        w->id = t;
        w->scratch = cdl_mem_aligned(CACHE_LINE, scratch_bytes);
        if (!w->scratch)
            st = CUDDLE_ERR_NOMEM;
    }
    if (!p->workers || st != CUDDLE_OK)
        st = cdl_status_nomem("the threads' scratch");
    for (uint32_t t = 1; t < threads && st == CUDDLE_OK; t++)
        st = start(p, &p->workers[t]);
    if (st != CUDDLE_OK) {
        cdl_pool_free(p);
        return st;
    }
    *out = p;
    return CUDDLE_OK;
}

void cdl_pool_free(cdl_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->quit, true);
    publish(p, &(job){ 0 });
    for (uint32_t t = 1; t <= p->started; t++)
        pthread_join(p->workers[t].thread, NULL);
    for (uint32_t t = 0; p->workers && t < p->threads; t++)
        cdl_mem_free(p->workers[t].scratch);
    cdl_mem_free(p->workers);
    cdl_mem_free(p);
}

uint32_t cdl_pool_threads(const cdl_pool *p)
{
    return p->threads;
}
