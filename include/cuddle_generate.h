/* cuddle_generate.h - tokens and text out of a prompt: feed, sample, decode, stop, in one call.
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
    CUDDLE_FINISH_STOP,      /* a token that ends the text, or a stop string     */
    CUDDLE_FINISH_LENGTH,    /* tokens_max or the context is reached             */
    CUDDLE_FINISH_CANCELLED  /* on_token, on_text or progress said so            */
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
    /* Called with the text that a token adds, after on_token: whole characters, special tokens left
     * out, n > 0 bytes and no NUL. What may begin a stop string comes once it does not. Needs the
     * model's tokenizer. Returns false to stop. */
    bool (*on_text)(void *user, const char *text, size_t n);
    void *user;                    /* of both                                   */
    /* Strings (UTF-8) that end the text; from there on it is left out of on_text. The one that is
     * complete first counts. Need the model's tokenizer. */
    const char *const *stops;      /* [n_stops]                                 */
    size_t n_stops;
    cuddle_progress_fn progress;   /* while the prompt is fed; what was fed stays when it cancels */
    void *progress_user;
} cuddle_generate_opts;

typedef struct {
    size_t size;                   /* bytes, set by the caller                  */
    cuddle_finish finish;
    size_t prompt_tokens, tokens;  /* fed, and given to on_token                */
    int32_t end_token;             /* that ended the text, or -1                */
    int32_t stop;                  /* index of the stop string that did, or -1  */
    double prefill_ms, decode_ms;  /* decode: from the first token to the last  */
} cuddle_generate_result;

/* Tokens that are in the sequence already count as prompt for the penalties. Tokens that were
 * sampled but not fed back (the last one) are not in the sequence afterwards. out may be NULL; it
 * holds what was done when an error comes, too.
 * Errors: ARG, FULL (the prompt does not fit), NOTFOUND (no tokenizer), DEVICE, NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_generate(cuddle_sequence *s, const cuddle_generate_opts *opts,
        cuddle_generate_result *out);

#ifdef __cplusplus
}
#endif
#endif
