/* pool.c - threads that share the CTAs of a launch.
 *
 * The caller works too and never waits for a thread that has not begun, so that a busy machine, or a fork that left the
 * threads behind, only makes it slower. CUDDLE_VGPU_THREADS: how many, default the machine's, at most 16.
 */
#include "emu.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS_MAX = 16 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t posted, left;
    pthread_t thread[THREADS_MAX];
    unsigned count, wanted, inside;
    void (*work)(void *);
    void *data;
    uint64_t turn;
    pid_t pid;
    bool stop;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .posted = PTHREAD_COND_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

unsigned emu_pool_threads(void)
{
    const char *text = getenv("CUDDLE_VGPU_THREADS");
    cpu_set_t set;
    int n = text ? atoi(text) : sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

static void *worker(void *unused)
{
    uint64_t seen = 0;
    pthread_mutex_lock(&pool.lock);
    while (!pool.stop) {
        if (!pool.wanted || pool.turn == seen) {
            pthread_cond_wait(&pool.posted, &pool.lock);
            continue;
        }
        seen = pool.turn;
        pool.wanted--;
        pool.inside++;
        pthread_mutex_unlock(&pool.lock);
        pool.work(pool.data);
        pthread_mutex_lock(&pool.lock);
        if (!--pool.inside)
            pthread_cond_signal(&pool.left);
    }
    pthread_mutex_unlock(&pool.lock);
    return unused;
}

/* Runs work(data) here and on up to n - 1 other threads at once; returns when all that began have ended. */
void emu_pool_run(void (*work)(void *), void *data, unsigned n)
{
    pthread_mutex_lock(&pool.lock);
    if (pool.pid != getpid()) {
        pool.pid = getpid();
        pool.count = pool.inside = 0;
    }
    while (pool.count + 1 < n && !pthread_create(&pool.thread[pool.count], NULL, worker, NULL))
        pool.count++;
    pool.work = work;
    pool.data = data;
    pool.turn++;
    pool.wanted = n - 1;
    pthread_cond_broadcast(&pool.posted);
    pthread_mutex_unlock(&pool.lock);
    work(data);
    pthread_mutex_lock(&pool.lock);
    pool.wanted = 0;
    while (pool.inside)
        pthread_cond_wait(&pool.left, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

__attribute__((destructor)) static void pool_close(void)
{
    if (pool.pid != getpid())
        return;
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    pthread_cond_broadcast(&pool.posted);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned n = 0; n < pool.count; n++)
        pthread_join(pool.thread[n], NULL);
}
