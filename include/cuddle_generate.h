/* cuddle_generate.h - tokens out of a prompt: feed, sample, stop, in one call.
 *
 * A convenience over cuddle_sequence.h and cuddle_sampler.h for one sequence at a time.
 * Read first: cuddle_sequence.h, cuddle_sampler.h.   Tests: tests/unit/test_generate.c
 */
#ifndef CUDDLE_GENERATE_H
#define CUDDLE_GENERATE_H

#include "cuddle_sampler.h"
#include "cuddle_sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CUDDLE_FINISH_STOP,      /* a token that ends the text, or on_token said so  */
    CUDDLE_FINISH_LENGTH     /* tokens_max or the context is reached             */
} cuddle_finish;

/* One generated token. Borrowed during the call. */
typedef struct {
    int32_t token;
    size_t index;                  /* 0 is the first generated one              */
    float logprob;                 /* with logprobs > 0                         */
    const cuddle_logprob *top;     /* [logprobs]                                */
} cuddle_generated;

/* Zero the struct, set size = sizeof it; a zero field means the default. */
typedef struct {
    size_t size;
    const int32_t *prompt;         /* [n_prompt], appended to the sequence      */
    size_t n_prompt;
    size_t tokens_max;             /* default: as many as the context leaves    */
    const cuddle_sampling *sampling; /* default: greedy                         */
    uint32_t logprobs;             /* the k likeliest of each place; at most 64 */
    bool ignore_end;               /* goes on behind tokens that end the text   */
    /* Called for each token, in order, the one that ends the text left out. Returns false to stop. */
    bool (*on_token)(void *user, const cuddle_generated *g);
    void *user;
} cuddle_generate_opts;

typedef struct {
    size_t size;                   /* bytes, set by the caller                  */
    cuddle_finish finish;
    size_t prompt_tokens, tokens;  /* fed, and given to on_token                */
    int32_t end_token;             /* that ended the text, or -1                */
    double prefill_ms, decode_ms;  /* decode: from the first token to the last  */
} cuddle_generate_result;

/* The sequence must be able to hold the prompt (FULL otherwise). Tokens that were sampled but not
 * fed back (the last one) are not in the sequence afterwards. out may be NULL. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_generate(cuddle_sequence *s, const cuddle_generate_opts *opts,
        cuddle_generate_result *out);

#ifdef __cplusplus
}
#endif
#endif
