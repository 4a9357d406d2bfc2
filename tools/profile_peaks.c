/* profile_peaks.c - how fast this CPU reads memory, multiplies f32, bf16 and int8: the roofs of a profile.
 *
 * Runs are short and many, and the best counts: what the machine can do when nobody disturbs it. */
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/mem.h"
#include "profile.h"

enum { READ_CHUNK = 64 << 10, READ_AHEAD = 2048, READ_RUN = 16 << 20, READ_BYTES = 1 << 30, ROUNDS = 60, LOOPS = 30000,
       LANES = 10 };

typedef uint64_t wide __attribute__((vector_size(64)));

#ifdef __x86_64__
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void read_chunk(const void *arg, uint32_t chunk, void *scratch)
{
    const wide *p = (const wide *)((const uint8_t *)arg + (size_t)chunk * READ_CHUNK);
    wide a = { 0 }, b = { 0 };
    for (size_t i = 0; i < READ_CHUNK / 64; i += 2) {
        __builtin_prefetch((const uint8_t *)(p + i) + READ_AHEAD);
        __builtin_prefetch((const uint8_t *)(p + i + 1) + READ_AHEAD);
        a ^= p[i];
        b ^= p[i + 1];
    }
    *(volatile uint64_t *)scratch = (a ^ b)[0];
}

/* ---- Multiplying: LOOPS x LANES independent vectors ---- */

typedef struct {
    cdl_phase phase;
    double operations;         /* of a chunk */
} loop;

static void multiply_plain(const void *arg, uint32_t chunk, void *scratch)
{
    float a[LANES * 4], x = 0.999f + (float)chunk * 1e-9f;
    (void)arg;
    for (int i = 0; i < LANES * 4; i++)
        a[i] = (float)i;
    for (int k = 0; k < LOOPS; k++)
        for (int i = 0; i < LANES * 4; i++)
            a[i] = a[i] * x + 0.5f;
    for (int i = 0; i < LANES * 4; i++)
        *(volatile float *)scratch = a[i];
}

#ifdef __x86_64__
/* LANES sums, each of its own: `step` adds to a by x. KEEP: the loop must not be folded. */
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#define EACH_LANE _Pragma("GCC unroll 10") for (int i = 0; i < LANES; i++)
#define MULTIPLY(name, isa, vector, factor, x_value, step)                                              \
    __attribute__((target(isa))) static void name(const void *arg, uint32_t chunk, void *scratch)      \
    {                                                                                                   \
        vector sum[LANES];                                                                              \
        const factor x = x_value;                                                                       \
        (void)arg;                                                                                      \
        EACH_LANE sum[i] = (vector){ 0 };                                                               \
        for (int k = 0; k < LOOPS; k++)                                                                 \
            EACH_LANE {                                                                                 \
                vector a = sum[i];                                                                      \
                sum[i] = step;                                                                          \
                KEEP(sum[i]);                                                                           \
            }                                                                                           \
        EACH_LANE memcpy((vector *)scratch + i, &sum[i], sizeof sum[i]);                                \
    }

MULTIPLY(multiply_avx2, "avx2,fma", __m256, __m256, _mm256_set1_ps(0.999f + (float)chunk * 1e-9f),
        _mm256_fmadd_ps(a, x, _mm256_set1_ps(0.5f)))
MULTIPLY(multiply_avx512, "avx512f", __m512, __m512, _mm512_set1_ps(0.999f + (float)chunk * 1e-9f),
        _mm512_fmadd_ps(a, x, _mm512_set1_ps(0.5f)))
MULTIPLY(multiply_vnni, "avx512f,avx512vnni", __m512i, __m512i, _mm512_set1_epi32((int)chunk + 0x01020304),
        _mm512_dpbusd_epi32(a, x, x))
MULTIPLY(multiply_bf16, "avx512f,avx512bf16", __m512, __m512bh, (__m512bh)_mm512_set1_epi32(0x3f7f3f7f - (int)chunk),
        _mm512_dpbf16_ps(a, x, x))
#endif

static loop f32_loop(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return (loop){ { .run = multiply_avx512 }, 2.0 * 16 * LANES * LOOPS };
    if (__builtin_cpu_supports("fma"))
        return (loop){ { .run = multiply_avx2 }, 2.0 * 8 * LANES * LOOPS };
#endif
    return (loop){ { .run = multiply_plain }, 2.0 * 4 * LANES * LOOPS };
}

static loop int8_loop(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512vnni"))
        return (loop){ { .run = multiply_vnni }, 2.0 * 64 * LANES * LOOPS };
#endif
    return (loop){ { .run = NULL }, 0 };
}

static loop bf16_loop(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bf16"))
        return (loop){ { .run = multiply_bf16 }, 2.0 * 32 * LANES * LOOPS };
#endif
    return (loop){ { .run = NULL }, 0 };
}

static double rate(cdl_pool *pool, const cdl_phase *p, double work)
{
    double begin = cli_seconds();
    cdl_pool_run(pool, p, 1);
    return work / (cli_seconds() - begin);
}

static double loop_rate(cdl_pool *pool, loop l)
{
    double best = 0;
    l.phase.chunks = 4 * cdl_pool_threads(pool);
    for (int i = 0; i < ROUNDS && l.phase.run; i++) {
        double now = rate(pool, &l.phase, l.operations * l.phase.chunks);
        best = now > best ? now : best;
    }
    cdl_pool_quiesce(pool, 0);
    return best;
}

/* Round and round through more than caches hold; the first round throws out what they still have of making it, and
 * the upper quartile leaves out what some of them kept. */
static double read_rate(cdl_pool *pool, const uint8_t *data)
{
    enum { FIRST_ROUND = READ_BYTES / READ_RUN, RUNS = 2 * FIRST_ROUND };
    double seconds[RUNS];
    for (int i = 0; i < FIRST_ROUND + RUNS; i++) {
        cdl_phase read = { .run = read_chunk, .arg = data + (size_t)i * READ_RUN % READ_BYTES,
                           .chunks = READ_RUN / READ_CHUNK };
        double now = rate(pool, &read, READ_RUN);
        cdl_pool_quiesce(pool, 0);
        if (i >= FIRST_ROUND)
            seconds[i - FIRST_ROUND] = READ_RUN / now;
    }
    profile_time_of(seconds, RUNS);
    return READ_RUN / seconds[RUNS / 4];
}

cuddle_status profile_cpu_peaks(profile_machine *m, cdl_pool *pool)
{
    uint8_t *data = cdl_mem_pages(READ_BYTES);
    if (!data)
        return cdl_status_fail(CUDDLE_ERR_NOMEM, "out of memory for measuring its speed: %d bytes", READ_BYTES);
    for (size_t i = 0; i < READ_BYTES; i += 4096)
        data[i] = (uint8_t)i;
    m->stream = read_rate(pool, data);
    cdl_mem_pages_free(data, READ_BYTES);
    m->f32 = loop_rate(pool, f32_loop());
    m->half = loop_rate(pool, bf16_loop());
    m->int8 = loop_rate(pool, int8_loop());
    return CUDDLE_OK;
}
