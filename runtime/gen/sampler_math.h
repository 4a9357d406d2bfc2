/* sampler_math.h - the passes over a whole vocabulary that sampling is made of.
 *
 * Written with 16-byte vectors that every x86-64 and ARM compiler turns into its base
 * instruction set: the same bits on each machine, and fast enough beside a model's step.
 * NaN counts as -inf everywhere.   Tests: tests/unit/test_sampler.c
 */
#ifndef CDL_SAMPLER_MATH_H
#define CDL_SAMPLER_MATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CDL_LANES = 16, CDL_BLOCK = 256 };

/* Index of the largest (the first of equals) and its value; n when none is above -inf. */
size_t cdl_argmax(const float *x, size_t n, float *max);

/* Whether one of x[CDL_LANES] is >= least. */
bool cdl_any_from(const float *x, float least);

/* The k-th largest, 1 <= k <= n; heap: scratch [k]. -inf when fewer are above it. */
float cdl_kth_largest(const float *x, size_t n, size_t k, float *heap);

/* w[i] = e^((x[i] - max) * scale), 0 below e^-87; w may be x, or NULL. Gives the sum.
 * max: the largest of x; when it is +inf, weights are 1 there and 0 elsewhere. Error: 2 ulp. */
double cdl_weigh(float *w, const float *x, size_t n, float max, float scale);

/* The sum of w[CDL_BLOCK]. */
double cdl_sum_block(const float *w);

/* Uniform in [0, 1), 53 bits: Philox4x32-10 (Salmon et al. 2011), key = seed, counter = position. */
double cdl_random(uint64_t seed, uint64_t position);
void cdl_philox(uint32_t out[4], uint64_t key, uint64_t counter);

#endif
