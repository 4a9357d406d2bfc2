/* sampler_reference.h - the stages of sampling written down once more: f64, whole vocabulary, no thought
 * for speed. Checked against transformers by tests/golden/sampler.json, then an oracle for the rest. */
#ifndef SAMPLER_REFERENCE_H
#define SAMPLER_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cuddle_sampler.h"

enum { REFERENCE_VOCAB = 4096 };

typedef struct {
    const int32_t *prompt, *generated;
    size_t n_prompt, n_generated;
} reference_history;

typedef struct {
    size_t vocab;
    double x[REFERENCE_VOCAB], p[REFERENCE_VOCAB];
    bool close;                /* a token is so near a limit that rounding decides */
} reference;

static const double *reference_keys;

static int reference_order(const void *a, const void *b)
{
    int i = *(const int *)a, j = *(const int *)b;
    double x = reference_keys[i], y = reference_keys[j];
    return x > y ? -1 : x < y ? 1 : i - j;
}

/* Indices by falling key, ties by rising index. */
static inline void reference_sort(int *order, const double *key, size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (int)i;
    reference_keys = key;
    qsort(order, n, sizeof *order, reference_order);
}

static inline void reference_softmax(reference *r)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < r->vocab; i++)
        max = fmax(max, r->x[i]);
    for (size_t i = 0; i < r->vocab; i++)
        sum += r->p[i] = max > -INFINITY ? exp(r->x[i] - max) : 0;
    for (size_t i = 0; i < r->vocab; i++)
        r->p[i] = sum > 0 ? r->p[i] / sum : 0;
}

static inline int32_t reference_at(const reference_history *h, size_t i)
{
    return i < h->n_prompt ? h->prompt[i] : h->generated[i - h->n_prompt];
}

static inline void reference_penalties(reference *r, const cuddle_sampling *o, const reference_history *h)
{
    double repetition = o->repetition_penalty ? o->repetition_penalty : 1;
    for (size_t t = 0; t < r->vocab; t++) {
        int in_all = 0, in_generated = 0;
        for (size_t i = 0; i < h->n_prompt + h->n_generated; i++) {
            in_all += reference_at(h, i) == (int32_t)t;
            in_generated += i >= h->n_prompt && reference_at(h, i) == (int32_t)t;
        }
        if (in_all)
            r->x[t] = r->x[t] < 0 ? r->x[t] * repetition : r->x[t] / repetition;
        if (in_generated)
            r->x[t] -= o->presence_penalty;
        r->x[t] -= (double)o->frequency_penalty * in_generated;
    }
}

static inline void reference_ngrams(reference *r, size_t n, const reference_history *h)
{
    size_t all = h->n_prompt + h->n_generated;
    for (size_t begin = 0; n && all + 1 >= n && begin + n <= all; begin++) {
        bool same = true;
        for (size_t i = 0; i + 1 < n; i++)
            same &= reference_at(h, begin + i) == reference_at(h, all - (n - 1) + i);
        if (same)
            r->x[reference_at(h, begin + n - 1)] = -INFINITY;
    }
}

/* Drops what has p < least; the likeliest stay. */
static inline void reference_drop(reference *r, double least)
{
    double max = 0;
    for (size_t i = 0; i < r->vocab; i++)
        max = fmax(max, r->p[i]);
    for (size_t i = 0; i < r->vocab; i++) {
        r->close |= r->p[i] > 0 && fabs(r->p[i] - least) < 1e-5 * least;
        if (r->p[i] < least && r->p[i] < max)
            r->x[i] = -INFINITY;
    }
    reference_softmax(r);
}

/* Keeps the first in order until they hold the share want; with ties whatever has the key of the last. */
static inline void reference_keep(reference *r, const double *key, double want, bool ties)
{
    static int order[REFERENCE_VOCAB];
    reference_sort(order, key, r->vocab);
    double sum = 0;
    size_t n = 0;
    while (n < r->vocab && (n == 0 || sum < want)) {
        r->close |= n && fabs(sum - want) < 1e-6;
        sum += r->p[order[n++]];
    }
    r->close |= fabs(sum - want) < 1e-6;
    for (size_t i = n; i < r->vocab; i++)
        if (!ties || key[order[i]] < key[order[n - 1]])
            r->x[order[i]] = -INFINITY;
    reference_softmax(r);
}

static inline double reference_entropy(const reference *r)
{
    double h = 0;
    for (size_t i = 0; i < r->vocab; i++)
        h -= r->p[i] > 0 ? r->p[i] * log(r->p[i]) : 0;
    return h;
}

static inline void reference_typical(reference *r, double mass)
{
    static double key[REFERENCE_VOCAB];
    double h = reference_entropy(r);
    for (size_t i = 0; i < r->vocab; i++)
        key[i] = r->p[i] > 0 ? -fabs(-log(r->p[i]) - h) : -INFINITY;
    reference_keep(r, key, mass, true);
}

static inline void reference_top_k(reference *r, size_t k)
{
    static int order[REFERENCE_VOCAB];
    if (!k || k >= r->vocab)
        return;
    reference_sort(order, r->x, r->vocab);
    double kth = r->x[order[k - 1]];
    for (size_t i = 0; i < r->vocab; i++)
        if (r->x[i] < kth)
            r->x[i] = -INFINITY;
    reference_softmax(r);
}

/* r->p: the distribution that a draw follows. */
static inline void reference_run(reference *r, const float *logits, size_t vocab, const cuddle_sampling *o,
        const reference_history *h)
{
    r->vocab = vocab;
    r->close = false;
    for (size_t i = 0; i < vocab; i++)
        r->x[i] = isnan(logits[i]) ? -INFINITY : (double)logits[i];
    for (size_t i = 0; i < o->n_bias; i++)
        r->x[o->bias[i].token] += (double)o->bias[i].bias;
    reference_penalties(r, o, h);
    reference_ngrams(r, o->no_repeat_ngram, h);
    for (size_t i = 0; i < vocab && o->temperature; i++)
        r->x[i] /= (double)o->temperature;
    reference_softmax(r);
    reference_top_k(r, o->top_k);
    if (o->top_p > 0 && o->top_p < 1)
        reference_keep(r, r->p, o->top_p, false);
    if (o->min_p > 0) {
        double max = 0;
        for (size_t i = 0; i < vocab; i++)
            max = fmax(max, r->p[i]);
        reference_drop(r, o->min_p * max);
    }
    if (o->typical_p > 0 && o->typical_p < 1)
        reference_typical(r, o->typical_p);
    if (o->epsilon_cutoff > 0)
        reference_drop(r, o->epsilon_cutoff);
    if (o->eta_cutoff > 0)
        reference_drop(r, fmin(o->eta_cutoff, sqrt(o->eta_cutoff) * exp(-reference_entropy(r))));
}

/* Whether token is what a draw of u in [0, 1) takes, but for rounding at the borders. */
static inline bool reference_allows(const reference *r, double u, int32_t token)
{
    const double slack = 2e-5;
    double before = 0;
    for (int32_t i = 0; i < token; i++)
        before += r->p[i];
    return r->p[token] > 0 && u > before - slack && u < before + r->p[token] + slack;
}

#endif
