/* rows.h - a step of several spans for tests of ops that read rows of sequences: positions, pages, calls. */
#ifndef ROWS_H
#define ROWS_H

#include <math.h>

#include "kernel.h"

enum { ROWS_SPANS_MAX = 8, ROWS_PAGES_MAX = 64 };

/* Spans follow each other; each has pages of its own, in a scrambled order. */
typedef struct {
    cdl_step step;
    cdl_span spans[ROWS_SPANS_MAX];
    int32_t pages[ROWS_SPANS_MAX][ROWS_PAGES_MAX];
    int32_t n_pages;
} rows_step;

/* Appends n rows of a sequence that had `first` tokens before; at most ROWS_PAGES_MAX pages in all. */
static inline void rows_add_span(rows_step *s, uint32_t first, uint32_t n)
{
    uint32_t i = s->step.n_spans++;
    for (uint32_t p = 0; p < ROWS_PAGES_MAX && p * CDL_PAGE_TOKENS < first + n; p++)
        s->pages[i][p] = (int32_t)((p * 7 + 3) % ROWS_PAGES_MAX) * ROWS_SPANS_MAX + (int32_t)i;
    s->spans[i] = (cdl_span){ .row = s->step.rows, .n = n, .first = first, .length = first + n };
    for (int g = 0; g < CDL_STATE_GROUPS; g++)
        s->spans[i].pages[g] = s->pages[i];
    s->step.rows += n;
    s->step.spans = s->spans;
    s->n_pages = ROWS_PAGES_MAX * ROWS_SPANS_MAX;
}

static inline float rows_top(const float *x, size_t n)
{
    float top = 0;
    for (size_t i = 0; i < n; i++)
        top = fmaxf(top, fabsf(x[i]));
    return top;
}

/* Largest |a - b|; infinite when one is not finite. */
static inline float rows_error(const float *a, const float *b, size_t n)
{
    float worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = isfinite(a[i]) && isfinite(b[i]) ? fmaxf(worst, fabsf(a[i] - b[i])) : INFINITY;
    return worst;
}

#endif
