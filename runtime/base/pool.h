/* pool.h - threads that run phases of chunks without barriers.
 *
 * A phase is work cut into chunks that may run in any order on any thread; the next phase
 * starts when all its chunks are done. Two kinds:
 *   - commit == NULL: run writes its results itself; each chunk runs exactly once.
 *   - commit != NULL: run computes into the thread's scratch and reads only memory that
 *     stays mapped; whoever finishes a chunk first commits it (one CAS, then commit copies
 *     scratch out). A chunk whose owner was descheduled is computed again by
 *     another thread and the late result is dropped, so a busy machine does not stall a phase.
 * A phase of one chunk runs on the thread that leads at that moment (with commit, another
 * takes over when that one lags behind). The leader migrates: whoever completes a phase goes
 * on with the next. A thread takes the chunks of its own contiguous share first, from the front.
 * Waiting: a few thousand pauses, then futex. Between runs the threads sleep.
 * Tests: tests/unit/test_pool.c (tsan). Cost: bench/pool.c
 */
#ifndef CDL_POOL_H
#define CDL_POOL_H

#include "status.h"

typedef struct {
    void (*run)(const void *arg, uint32_t chunk, void *scratch);
    void (*commit)(const void *arg, uint32_t chunk, const void *scratch);
    const void *arg;       /* must stay valid until cdl_pool_run returns */
    uint32_t chunks;       /* 0: the phase is skipped                    */
} cdl_phase;

typedef struct cdl_pool cdl_pool;
enum { CDL_POOL_THREADS_MAX = 1024 };

/* threads >= 1 counts the caller's own; scratch_bytes (64-byte aligned) for each thread. */
CUDDLE_CHECK cuddle_status cdl_pool_new(cdl_pool **out, uint32_t threads, size_t scratch_bytes);
void cdl_pool_free(cdl_pool *p);
uint32_t cdl_pool_threads(const cdl_pool *p);

/* Runs the phases in order; the caller works too. One run at a time on a pool. Allocates
 * nothing. A late owner may still read phase memory of this run after it returns: the buffers
 * that run() reads must live as long as the pool, or until cdl_pool_quiesce.
 * (arg structs of this run included; only their results are dropped.) */
void cdl_pool_run(cdl_pool *p, const cdl_phase *phases, uint32_t n);

/* Waits until no thread is inside a phase of any run but the last `recent` ones. A caller that keeps
 * the phases and arguments of its last k runs in a ring calls it with k - 1 before it writes the
 * oldest again; 0 waits for all late threads. */
void cdl_pool_quiesce(cdl_pool *p, uint32_t recent);

/* Off: no chunk is computed twice (all pools of the process; the default is on). Reads by a late
 * owner of buffers that later phases write are meant and harmless, since its results are
 * dropped, but ThreadSanitizer reports them: its tests switch this off. */
void cdl_pool_set_steal(bool on);

/* Processors this process may use, at least 1: those of its affinity mask, of two
 * hyperthreads of a core only one (they share the vector units), at most its cgroup's CPU quota,
 * rounded. In base/processors.c. */
uint32_t cdl_pool_default_threads(void);

#endif
