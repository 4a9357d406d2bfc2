#include "sampling_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"

sampling_options sampling_given = {
    .temperature = NAN, .top_p = NAN, .min_p = NAN, .typical_p = NAN,
    .repetition_penalty = NAN, .presence_penalty = NAN, .frequency_penalty = NAN,
    .top_k = -1, .no_repeat_ngram = -1, .seed = -1,
};

/* "ID=B": a token's id and a number. */
static bool read_bias(cuddle_logit_bias *out, const char *text)
{
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end == text || *end != '=' || errno || id < 0 || id > INT32_MAX)
        return false;
    const char *number = end + 1;
    out->token = (int32_t)id;
    out->bias = strtof(number, &end);
    return end != number && !*end && !isnan(out->bias);
}

static bool read_biases(cuddle_sampling *out)
{
    const cli_list *given = &sampling_given.bias;
    if (!given->n)
        return true;
    static cuddle_logit_bias *biases;
    cdl_mem_free(biases);
    biases = cdl_mem_array(given->n, sizeof *biases);
    if (!biases) {
        cli_fail("out of memory");
        return false;
    }
    for (size_t i = 0; i < given->n; i++)
        if (!read_bias(&biases[i], given->items[i])) {
            cli_fail("--logit-bias takes ID=B, like 1234=-5 or 1234=-inf, not '%s'", given->items[i]);
            return false;
        }
    out->bias = biases;
    out->n_bias = given->n;
    return true;
}

/* 32 bits, so that every program that reads JSON keeps it exactly. */
static uint64_t random_seed(void)
{
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        seed = (uint32_t)t.tv_nsec ^ (uint32_t)t.tv_sec;
    }
    return seed;
}

static bool put(float *field, double given)
{
    if (isnan(given))
        return false;
    *field = (float)given;
    return true;
}

bool sampling_options_read(cuddle_sampling *out, const cuddle_model *m)
{
    const sampling_options *g = &sampling_given;
    *out = (cuddle_sampling){ .size = sizeof *out };
    cuddle_model_sampling(m, out);
    bool samples = put(&out->top_p, g->top_p);
    samples |= put(&out->min_p, g->min_p);
    samples |= put(&out->typical_p, g->typical_p);
    if (g->top_k >= 0) {
        out->top_k = (uint32_t)g->top_k;
        samples = true;
    }
    if (g->temperature > 0)
        samples |= put(&out->temperature, g->temperature);
    if (samples)
        out->mode = CUDDLE_PICK_SAMPLE;
    if (g->greedy || g->temperature == 0)
        out->mode = CUDDLE_PICK_GREEDY;
    put(&out->repetition_penalty, g->repetition_penalty);
    put(&out->presence_penalty, g->presence_penalty);
    put(&out->frequency_penalty, g->frequency_penalty);
    if (g->no_repeat_ngram >= 0)
        out->no_repeat_ngram = (uint32_t)g->no_repeat_ngram;
    out->seed = g->seed >= 0 ? (uint64_t)g->seed : random_seed();
    return read_biases(out);
}
