/* cuddle_sampler.h - from logits to the next token.
 *
 * Stages in the order of transformers' generate:
 *   logit bias, repetition / presence / frequency penalty, no-repeat n-gram; and when it
 *   samples: temperature, top-k, top-p, min-p, typical-p, epsilon, eta, draw.
 * A draw depends on seed, position and the sequence's own logits only (Philox4x32-10, counter =
 * position), so the same tokens come out whatever else runs.
 * A sampler belongs to one sequence: use it from one thread at a time. Nothing allocates after new.
 * Read first: cuddle.h.   Tests: tests/unit/test_sampler.c
 */
#ifndef CUDDLE_SAMPLER_H
#define CUDDLE_SAMPLER_H

#include "cuddle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CUDDLE_PICK_DEFAULT = 0, /* sample when a temperature is set, else greedy          */
    CUDDLE_PICK_GREEDY,      /* the likeliest token; the stages from temperature on rest */
    CUDDLE_PICK_SAMPLE
} cuddle_pick_mode;

typedef struct {
    int32_t token;
    float bias;              /* added to its logit; -INFINITY bans the token           */
} cuddle_logit_bias;

/* Zero the struct, set size = sizeof it; a zero field means the default. */
typedef struct {
    size_t size;                 /* bytes; the struct may grow, never shrink                    */
    cuddle_pick_mode mode;
    float temperature;           /* > 0; default: 1 (for "temperature 0" set mode to GREEDY)    */
    uint32_t top_k;              /* keeps the k likeliest (and ties of the k-th); default: all  */
    float top_p;                 /* (0, 1]: keeps the likeliest that reach this sum; default: 1 */
    float min_p;                 /* [0, 1]: keeps p >= min_p x the largest p; default: off      */
    float typical_p;             /* (0, 1]: locally typical sampling; default: 1 (off)          */
    float epsilon_cutoff;        /* [0, 1): drops p < epsilon; default: off                     */
    float eta_cutoff;            /* [0, 1): drops p < min(eta, sqrt(eta) e^-entropy); default: off */
    float repetition_penalty;    /* > 0, prompt and generated tokens; default: 1 (off)          */
    float presence_penalty;      /* taken off each generated token's logit; default: 0          */
    float frequency_penalty;     /* the same times its count; default: 0                        */
    uint32_t no_repeat_ngram;    /* no n-gram of this length comes twice; default: off          */
    const cuddle_logit_bias *bias; /* [n_bias], copied by new; default: none                    */
    size_t n_bias;
    uint64_t seed;               /* default: 0                                                  */
} cuddle_sampling;

typedef struct cuddle_sampler cuddle_sampler;

/* vocab: logits per row, >= 1. context_max: most tokens that accept will get (room for the
 * n-grams; 0 is fine when no_repeat_ngram is off). options may be NULL: greedy.
 * Errors: ARG (names the field and its range), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sampler_new(cuddle_sampler **out, size_t vocab,
        size_t context_max, const cuddle_sampling *options);
CUDDLE_API void cuddle_sampler_free(cuddle_sampler *s);

/* Whether pick draws (then the seed matters) or takes the likeliest. */
CUDDLE_API bool cuddle_sampler_is_random(const cuddle_sampler *s);

/* The history that the penalties see: n prompt tokens, or tokens that were generated. Tokens
 * outside the vocabulary count for nothing. Errors: FULL (over context_max; nothing was added). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sampler_prompt(cuddle_sampler *s, const int32_t *tokens, size_t n);
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sampler_accept(cuddle_sampler *s, int32_t token);
/* Forgets the history. */
CUDDLE_API void cuddle_sampler_reset(cuddle_sampler *s);

/* Picks the token that follows. logits: host [vocab] f32, unchanged; NaN counts as -inf.
 * position: index that the token will have in its sequence. Does not accept it.
 * Ties go to the smaller id. When the stages drop every token, the likeliest of the
 * logits before them is taken.
 * Cost: one to four passes over the logits.   Errors: ARG (no logit is above -inf). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sampler_pick(cuddle_sampler *s, const float *logits,
        uint64_t position, int32_t *token);

typedef struct {
    int32_t token;
    float logprob;           /* natural logarithm of its probability by the raw logits */
} cuddle_logprob;

/* Log probabilities of token (out: *picked, may be NULL) and of the k likeliest (out: top[k],
 * likeliest first, ties by id; all that follow the last finite one are token -1).
 * Errors: ARG (token or k outside the vocabulary, no logit is above -inf). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sampler_logprobs(const cuddle_sampler *s, const float *logits,
        int32_t token, float *picked, cuddle_logprob *top, size_t k);

#ifdef __cplusplus
}
#endif
#endif
