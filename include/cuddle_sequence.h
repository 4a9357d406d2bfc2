/* cuddle_sequence.h - one running sequence of tokens in an engine.
 *
 * Sequences of one engine may be fed from different threads: what waits at the same
 * time runs in the same steps. Prompt tokens and generated tokens have one arithmetic each;
 * within each, results are bit-equal however the tokens are cut or batched.
 * Read first: cuddle_engine.h.   Tests: tests/unit/test_engine.c
 */
#ifndef CUDDLE_SEQUENCE_H
#define CUDDLE_SEQUENCE_H

#include "cuddle_engine.h"
#include "cuddle_sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_sequence cuddle_sequence;

/* Errors: FULL (sequences_max are open). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sequence_open(cuddle_sequence **out, cuddle_engine *e);
/* Its pages go back to the engine. */
CUDDLE_API void cuddle_sequence_close(cuddle_sequence *s);

/* Tokens in the sequence. */
CUDDLE_API size_t cuddle_sequence_length(const cuddle_sequence *s);
/* Forgets all tokens from n on (n <= length). FULL when a shared page has to be copied and none is
 * free; ARG when a window has already dropped what would be needed. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sequence_truncate(cuddle_sequence *s, size_t n);

/* Appends n prompt tokens and computes the logits that follow the last of them.
 * tokens: host [n] int32, each 0 <= id < vocab;  n: 1 .. room left.
 * logits: host [vocab] float32, caller's memory, or NULL.
 * A prompt that starts like a living sequence's prompt reuses its pages.
 * Cost:   ceil(n / step_tokens) engine steps, shared with the other sequences.
 * Errors: ARG, FULL (no room; nothing was appended), DEVICE (engine is dead). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sequence_feed(cuddle_sequence *s,
        const int32_t *tokens, size_t n, float *logits);

/* Appends one generated token: the same with the arithmetic of generated rows. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_sequence_decode(cuddle_sequence *s, int32_t token, float *logits);

/* One piece of work for cuddle_engine_feed. Zero what is not used. */
typedef struct {
    cuddle_sequence *sequence;
    const int32_t *tokens;     /* [n]                                                         */
    size_t n;
    bool generated;            /* generated rows' arithmetic; else a prompt                   */
    bool all_logits;           /* logits is [n, vocab], a row a token                         */
    float *logits;             /* [vocab], or NULL                                            */
    const int32_t *positions;  /* [n] positions for RoPE; NULL: index in the sequence         */
    /* When given, the token that follows is picked at position = the sequence's length after the feed, as
     * cuddle_sampler_pick does, on the device where it can; it is not accepted. logits may be NULL then. */
    cuddle_sampler *sampler;
    int32_t token;             /* out                                                         */
    size_t reused;             /* out: prompt tokens whose pages were shared                  */
    cuddle_status status;      /* out                                                         */
    char error[512];           /* out: why, when status is not OK                             */
} cuddle_feed;

/* Runs n pieces of different sequences together. Returns the first status that is not OK; each
 * piece has its own. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_engine_feed(cuddle_engine *e, cuddle_feed *feeds, size_t n);

#ifdef __cplusplus
}
#endif
#endif
