/* select.c - which kernels run: the best set that this CPU has, or the one asked for. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/cpu.h"
#include "cpu/kernels_list.h"

/* ---- The plain twins as kernels: one chunk, in order ---- */

#define TWIN(id, kind, statement)                                                                \
    static void run_##kind##_##id(const void *arg, uint32_t chunk, void *scratch)                \
    {                                                                                            \
        (void)chunk;                                                                             \
        (void)scratch;                                                                           \
        statement;                                                                               \
    }                                                                                            \
    static void emit_##kind##_##id(const cdl_call *call, uint32_t threads, cdl_phases *out)      \
    {                                                                                            \
        (void)threads;                                                                           \
        cdl_phases_add(out, (cdl_phase){ .run = run_##kind##_##id, .arg = call, .chunks = 1 });  \
    }
#define X(id, name, least, most, attrs, tolerance, split)                                        \
    TWIN(id, f32, cdl_ref_##id(arg))                                                             \
    TWIN(id, bf16, cdl_ref_rounded(arg, CDL_DTYPE_BF16, cdl_ref_##id))                           \
    TWIN(id, f16, cdl_ref_rounded(arg, CDL_DTYPE_F16, cdl_ref_##id))
#include "graph/ops.def"
#undef X

static size_t weight_row(const cdl_call *c)
{
    return 2 * (size_t)c->in[0].cols * sizeof(float);
}

#define WORKSPACE(id) (CDL_OP_##id == CDL_OP_LINEAR || CDL_OP_##id == CDL_OP_LINEAR_GLU ? weight_row : NULL)

enum { REF, REF_BF16, REF_F16, AVX2, AVX512, AMX, SETS };

static const cdl_cpu_kernel twins[AVX2][CDL_OP_COUNT] = {
#define X(id, name, least, most, attrs, tolerance, split) [REF][CDL_OP_##id] = { WORKSPACE(id), emit_f32_##id },
#include "graph/ops.def"
#undef X
#define X(id, name, least, most, attrs, tolerance, split) [REF_BF16][CDL_OP_##id] = { WORKSPACE(id), emit_bf16_##id },
#include "graph/ops.def"
#undef X
#define X(id, name, least, most, attrs, tolerance, split) [REF_F16][CDL_OP_##id] = { WORKSPACE(id), emit_f16_##id },
#include "graph/ops.def"
#undef X
};

/* ---- The fast ones ---- */

#define X(OP, set) extern const cdl_cpu_kernel cdl_##OP##_##set;
CDL_KERNELS_AVX2(X)
CDL_KERNELS_AVX512(X)
CDL_KERNELS_AMX(X)
#undef X

static cdl_cpu_set sets[SETS] = { { .name = "ref" }, { .name = "ref-bf16" }, { .name = "ref-f16" },
                                  { .name = "avx2" }, { .name = "avx512" }, { .name = "amx" } };
static bool there[SETS];

#ifdef __x86_64__
/* Tiles: the CPU has them, the system keeps their registers, and lets this process use them, which it must
 * be asked (Linux 5.16; the answer holds for all threads). */
static bool get_tiles(void)
{
    enum { OSXSAVE = 1 << 27, TILES = 1 << 24 | 1 << 22 /* amx-tile, amx-bf16 */ };
    enum { STATES = 1 << 17 | 1 << 18, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & TILES) != TILES)
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & STATES) == STATES && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

#ifdef __x86_64__
/* clang's __builtin_cpu_supports does not know it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static void detect(void)
{
    there[REF] = there[REF_BF16] = there[REF_F16] = true;
#ifdef __x86_64__
    __builtin_cpu_init();
    there[AVX2] = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
        && has_f16c();
    there[AVX512] = there[AVX2] && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
    there[AMX] = there[AVX512] && __builtin_cpu_supports("avx512bf16") && get_tiles();
#endif
}

static void fill(void)
{
    detect();
    for (int s = REF; s < AVX2; s++)
        memcpy(sets[s].kernel, twins[s], sizeof twins[s]);
    memcpy(sets[AVX2].kernel, sets[REF].kernel, sizeof twins[REF]);
#define X(OP, set) sets[AVX2].kernel[CDL_OP_##OP] = cdl_##OP##_##set;
    CDL_KERNELS_AVX2(X)
#undef X
    memcpy(sets[AVX512].kernel, sets[AVX2].kernel, sizeof twins[REF]);
#define X(OP, set) sets[AVX512].kernel[CDL_OP_##OP] = cdl_##OP##_##set;
    CDL_KERNELS_AVX512(X)
#undef X
    memcpy(sets[AMX].kernel, sets[AVX512].kernel, sizeof twins[REF]);
#define X(OP, set) sets[AMX].kernel[CDL_OP_##OP] = cdl_##OP##_##set;
    CDL_KERNELS_AMX(X)
#undef X
    for (int s = 0; s < SETS; s++)
        sets[s].scratch_bytes = CDL_CPU_SCRATCH_BYTES;
}

cuddle_status cdl_cpu_select(const cdl_cpu_set **out, const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    int best = REF;
    for (int s = REF; s < SETS; s++) {
        if (there[s] && (s == REF || s >= AVX2))
            best = s;
        if (!name || strcmp(name, sets[s].name))
            continue;
        if (!there[s])
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "this CPU has no %s; it has up to %s (CUDDLE_CPU, --cpu)",
                    name, sets[best].name);
        *out = &sets[s];
        return CUDDLE_OK;
    }
    if (name)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                "kernels %s are not known: ref, ref-bf16, ref-f16, avx2, avx512, amx", name);
    *out = &sets[best];
    return CUDDLE_OK;
}
