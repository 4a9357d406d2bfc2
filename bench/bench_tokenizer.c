/* bench_tokenizer.c - speed of encode (ids only) on one thread, and of opening (which may use more).
 *   build/bench/bench_tokenizer MODEL_OR_tokenizer.json [TEXT_FILE [BYTES_OF_A_DOCUMENT]]   (default 4096) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/map.h"
#include "base/utf8.h"
#include "cuddle_tokenizer.h"
#include "format/checkpoint.h"
#include "model/tokenizer_load.h"

enum { ROUNDS = 7 };

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(const char *what, double *v, const char *unit)
{
    qsort(v, ROUNDS, sizeof *v, compare);
    printf("%-10s median %8.2f %s  (%.2f .. %.2f of %d)\n", what, v[ROUNDS / 2], unit, v[0], v[ROUNDS - 1], ROUNDS);
}

static cuddle_status open_one(cuddle_tokenizer **t, cdl_checkpoint **c, const char *path)
{
    *c = NULL;
    if (strstr(path, ".json"))
        return cuddle_tokenizer_open(t, path);
    CDL_TRY(cdl_checkpoint_open(c, path, true));
    return cdl_tokenizer_load(t, *c);
}

/* Characters stay whole. The encoding is a new one each time, so that no text was seen before. */
static cuddle_status encode_all(const cuddle_tokenizer *t, const cdl_map *m, size_t size, size_t *tokens)
{
    cuddle_encoding *e;
    CDL_TRY(cuddle_encoding_new(&e));
    cuddle_encode_opts o = { .size = sizeof o, .ids_only = true, .no_padding = true, .no_truncation = true };
    cuddle_encoding_view v = { .size = sizeof v };
    const char *s = (const char *)m->data;
    *tokens = 0;
    for (size_t at = 0, end; at < m->size; at = end) {
        end = at + size < m->size ? at + size : m->size;
        while (end < m->size && (s[end] & 0xc0) == 0x80)
            end++;
        CDL_TRY(cuddle_tokenizer_encode(t, e, s + at, end - at, &o));
        cuddle_encoding_look(e, &v);
        *tokens += v.n;
    }
    cuddle_encoding_free(e);
    return CUDDLE_OK;
}

static cuddle_status bench_open(const char *path)
{
    double wall[ROUNDS], cpu[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        cuddle_tokenizer *t;
        cdl_checkpoint *c;
        double start = now(CLOCK_MONOTONIC), start_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        CDL_TRY(open_one(&t, &c, path));
        wall[i] = 1e3 * (now(CLOCK_MONOTONIC) - start);
        cpu[i] = 1e3 * (now(CLOCK_PROCESS_CPUTIME_ID) - start_cpu);
        cuddle_tokenizer_close(t);
        cdl_checkpoint_close(c);
    }
    printf("%s\n", path);
    report("open", wall, "ms");
    report("open", cpu, "ms of CPU");
    return CUDDLE_OK;
}

static cuddle_status bench(const char *path, const char *file, size_t size)
{
    double wall[ROUNDS], cpu[ROUNDS];
    cuddle_tokenizer *t = NULL;
    cdl_checkpoint *c = NULL;
    cdl_map m;
    size_t tokens = 0;
    CDL_TRY(cdl_map_open(&m, file));
    CDL_TRY(open_one(&t, &c, path));
    for (int i = 0; i < ROUNDS; i++) {
        double start = now(CLOCK_MONOTONIC), start_cpu = now(CLOCK_THREAD_CPUTIME_ID);
        CDL_TRY(encode_all(t, &m, size, &tokens));
        wall[i] = 1e-6 * (double)m.size / (now(CLOCK_MONOTONIC) - start);
        cpu[i] = 1e-6 * (double)m.size / (now(CLOCK_THREAD_CPUTIME_ID) - start_cpu);
    }
    printf("%s: %zu bytes, %zu tokens\n", file, m.size, tokens);
    report("encode", wall, "MB/s");
    report("encode", cpu, "MB/s of CPU");
    cuddle_tokenizer_close(t);
    cdl_checkpoint_close(c);
    cdl_map_close(&m);
    return CUDDLE_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_tokenizer MODEL_OR_tokenizer.json [TEXT_FILE [BYTES_OF_A_DOCUMENT]]\n");
        return 2;
    }
    long size = argc > 3 ? atol(argv[3]) : 4096;
    if (size > 0 && bench_open(argv[1]) == CUDDLE_OK
            && (argc < 3 || bench(argv[1], argv[2], (size_t)size) == CUDDLE_OK))
        return 0;
    fprintf(stderr, "%s\n", cuddle_errmsg());
    return 1;
}
