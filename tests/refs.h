/* refs.h - reference data for tests: the folder CUDDLE_REFS, else the cases kept in tests/golden. */
#ifndef REFS_H
#define REFS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cuddle_sequence.h"
#include "format/checkpoint.h"

static inline const char *refs_folder(void)
{
    const char *s = getenv("CUDDLE_REFS");
    return s && *s ? s : "tests/golden";
}

/* "<refs>/<fmt...>"; valid until the fourth next call. */
static inline const char *refs_path(const char *fmt, const char *a, const char *b)
{
    static char ring[4][1024];
    static unsigned next;
    char *out = ring[next++ % 4];
    int n = snprintf(out, sizeof ring[0], "%s/", refs_folder());
    snprintf(out + n, sizeof ring[0] - (size_t)n, fmt, a, b);
    return out;
}

/* Ends the test program with the library's message when a call that must work fails. */
#define MUST(x)                                                                         \
    do {                                                                                \
        if ((x) != CUDDLE_OK) {                                                         \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, cuddle_errmsg()); \
            fail();                                                                     \
        }                                                                               \
    } while (0)

/* A tensor of integers as int32, [rows, cols]. */
typedef struct {
    int32_t *v;
    uint32_t rows, cols;
} refs_ints;

static inline refs_ints refs_read_ints(const cdl_checkpoint *c, const char *name)
{
    refs_ints r = { 0 };
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, name);
    if (!t)
        return r;
    r.rows = t->ndim > 1 ? (uint32_t)t->dim[0] : 1;
    r.cols = (uint32_t)t->dim[t->ndim - 1];
    r.v = malloc(sizeof *r.v * r.rows * r.cols + 1);
    for (uint32_t i = 0; i < r.rows * r.cols; i++) {
        int64_t wide = 0;
        int32_t narrow = 0;
        if (t->dtype == CDL_DTYPE_I64) {
            memcpy(&wide, t->data + 8 * (size_t)i, 8);
            narrow = (int32_t)wide;
        } else if (t->dtype == CDL_DTYPE_I32) {
            memcpy(&narrow, t->data + 4 * (size_t)i, 4);
        } else {
            narrow = t->data[i];
        }
        r.v[i] = narrow;
    }
    return r;
}

static inline float *refs_read_floats(const cdl_checkpoint *c, const char *name, size_t *n)
{
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, name);
    if (!t || t->dtype != CDL_DTYPE_F32)
        return NULL;
    *n = t->bytes / 4;
    float *out = malloc(t->bytes + 1);
    memcpy(out, t->data, t->bytes);
    return out;
}

static inline uint32_t refs_argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

#endif
