#include "cuddle_generate.h"

#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "gen/engine.h"
#include "gen/stop.h"

enum { LOGPROBS_MAX = 64 };

typedef struct {
    cuddle_sequence *s;
    const cuddle_generate_opts *o;
    cuddle_sampler *sampler;
    cuddle_decode_stream *stream; /* NULL: nobody wants text */
    cdl_stop stop;
    float *logits;                /* NULL: nobody wants log probabilities */
    int32_t next;                 /* the token that the last feed picked  */
    size_t tokens_max;
    bool cancelled;
    cuddle_logprob top[LOGPROBS_MAX];
} generation;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- Text ---- */

static void give(generation *g, const char *text, size_t n)
{
    if (n && !g->cancelled && g->o->on_text && !g->o->on_text(g->o->user, text, n))
        g->cancelled = true;
}

/* Text from the stream goes through the stop strings to the caller. */
static cuddle_status say(generation *g, const char *text, size_t n, cuddle_generate_result *r)
{
    if (!n)
        return CUDDLE_OK;
    if (g->o->n_stops)
        CDL_TRY(cdl_stop_put(&g->stop, text, n, &text, &n, &r->stop));
    give(g, text, n);
    return CUDDLE_OK;
}

static cuddle_status say_token(generation *g, int32_t token, cuddle_generate_result *r)
{
    const char *text;
    size_t n;
    CDL_TRY(cuddle_decode_stream_put(g->stream, token, &text, &n));
    return say(g, text, n, r);
}

/* What was held back, once no more tokens come. */
static cuddle_status say_rest(generation *g, cuddle_generate_result *r)
{
    const char *text;
    size_t n;
    CDL_TRY(cuddle_decode_stream_end(g->stream, &text, &n));
    CDL_TRY(say(g, text, n, r));
    if (r->stop >= 0 || !g->o->n_stops)
        return CUDDLE_OK;
    cdl_stop_end(&g->stop, &text, &n);
    give(g, text, n);
    return CUDDLE_OK;
}

static cuddle_status open_text(generation *g)
{
    const cuddle_generate_opts *o = g->o;
    g->stop = (cdl_stop){ .strings = o->stops, .n = o->n_stops };
    if (!o->on_text && !o->n_stops)
        return CUDDLE_OK;
    CDL_TRY(cdl_stop_check(&g->stop));
    const cuddle_tokenizer *t;
    CDL_TRY(cuddle_model_tokenizer(g->s->engine->model, &t));
    return cuddle_decode_stream_new(&g->stream, t, true);
}

/* ---- Tokens ---- */

/* Feeds tokens; the last ones pick what follows. */
static cuddle_status feed_tokens(generation *g, const int32_t *tokens, size_t n, bool generated, bool last)
{
    cuddle_feed f = { .sequence = g->s, .tokens = tokens, .n = n, .generated = generated,
                      .logits = last ? g->logits : NULL, .sampler = last ? g->sampler : NULL };
    CDL_TRY(cuddle_engine_feed(g->s->engine, &f, 1));
    g->next = f.token;
    return CUDDLE_OK;
}

static cuddle_status pick(generation *g, size_t index, cuddle_generated *out)
{
    *out = (cuddle_generated){ .token = g->next, .index = index, .top = g->top };
    CDL_TRY(cuddle_sampler_accept(g->sampler, out->token));
    if (!g->o->logprobs)
        return CUDDLE_OK;
    return cuddle_sampler_logprobs(g->sampler, g->logits, out->token, &out->logprob, g->top, g->o->logprobs);
}

/* Hands a token to the caller. *more: another one is wanted; else r->finish says why not. */
static cuddle_status take(generation *g, const cuddle_generated *token, cuddle_generate_result *r, bool *more)
{
    *more = false;
    if (!g->o->ignore_end && cuddle_model_is_end(g->s->engine->model, token->token)) {
        r->end_token = token->token;
        r->finish = CUDDLE_FINISH_STOP;
        return CUDDLE_OK;
    }
    r->tokens++;
    if (g->o->on_token && !g->o->on_token(g->o->user, token))
        g->cancelled = true;
    if (g->stream)
        CDL_TRY(say_token(g, token->token, r));
    if (r->stop >= 0)
        r->finish = CUDDLE_FINISH_STOP;
    else if (g->cancelled)
        r->finish = CUDDLE_FINISH_CANCELLED;
    else if (r->tokens >= g->tokens_max || g->s->length >= g->s->engine->context_max)
        r->finish = CUDDLE_FINISH_LENGTH;
    else
        *more = true;
    return CUDDLE_OK;
}

static cuddle_status decode(generation *g, cuddle_generate_result *r)
{
    cuddle_generated token;
    bool more;
    CDL_TRY(pick(g, 0, &token));
    CDL_TRY(take(g, &token, r, &more));
    while (more) {
        CDL_TRY(feed_tokens(g, &token.token, 1, true, true));
        CDL_TRY(pick(g, r->tokens, &token));
        CDL_TRY(take(g, &token, r, &more));
    }
    if (!g->stream || r->stop >= 0)
        return CUDDLE_OK;
    CDL_TRY(say_rest(g, r));
    if (r->stop >= 0)
        r->finish = CUDDLE_FINISH_STOP;
    return CUDDLE_OK;
}

/* Tokens to feed at once: all, or a step when somebody watches and the cut changes no bits. */
static size_t slice_of(const generation *g)
{
    const cuddle_engine *e = g->s->engine;
    size_t n = g->o->n_prompt, border = e->graph.rope_long_from;
    bool whole = !g->o->progress || (border && g->s->length + n > border);
    return whole || n < e->step_tokens ? n : e->step_tokens;
}

static cuddle_status feed(generation *g, cuddle_generate_result *r)
{
    const cuddle_generate_opts *o = g->o;
    size_t slice = slice_of(g), room = g->s->engine->context_max - g->s->length;
    if (o->n_prompt > room) /* says what is wrong, and feeds nothing */
        return cuddle_sequence_feed(g->s, o->prompt, o->n_prompt, NULL);
    CDL_TRY(cuddle_sampler_prompt(g->sampler, g->s->tokens, g->s->length));
    CDL_TRY(cuddle_sampler_prompt(g->sampler, o->prompt, o->n_prompt));
    do {
        size_t left = o->n_prompt - r->prompt_tokens, n = left < slice ? left : slice;
        CDL_TRY(feed_tokens(g, o->prompt + r->prompt_tokens, n, false, n == left));
        r->prompt_tokens += n;
        if (o->progress && !o->progress(o->progress_user, "prompt", r->prompt_tokens, o->n_prompt))
            g->cancelled = true;
    } while (r->prompt_tokens < o->n_prompt && !g->cancelled);
    return CUDDLE_OK;
}

static cuddle_status run(generation *g, cuddle_generate_result *r)
{
    const cuddle_engine *e = g->s->engine;
    CDL_TRY(open_text(g));
    CDL_TRY(cuddle_sampler_new(&g->sampler, e->graph.vocab, e->context_max + 1, g->o->sampling));
    if (g->o->logprobs) {
        g->logits = cdl_mem_array(e->graph.vocab, sizeof *g->logits);
        if (!g->logits)
            return cdl_status_nomem("the logits");
    }
    double start = now_ms();
    CDL_TRY(feed(g, r));
    r->prefill_ms = now_ms() - start;
    if (g->cancelled) {
        r->finish = CUDDLE_FINISH_CANCELLED;
        return CUDDLE_OK;
    }
    start = now_ms();
    cuddle_status st = decode(g, r);
    r->decode_ms = now_ms() - start;
    return st;
}

cuddle_status cuddle_generate(cuddle_sequence *s, const cuddle_generate_opts *opts, cuddle_generate_result *out)
{
    cuddle_generate_opts o = { 0 };
    memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    cuddle_generate_result r = { .size = sizeof r, .end_token = -1, .stop = -1 };
    if (o.logprobs > LOGPROBS_MAX || o.logprobs > s->engine->graph.vocab)
        return cdl_status_fail(CUDDLE_ERR_ARG, "at most %d log probabilities a token", LOGPROBS_MAX);
    generation g = { .s = s, .o = &o, .tokens_max = o.tokens_max ? o.tokens_max : SIZE_MAX };
    cuddle_status st = run(&g, &r);
    cuddle_sampler_free(g.sampler);
    cuddle_decode_stream_free(g.stream);
    cdl_stop_free(&g.stop);
    cdl_mem_free(g.logits);
    if (out) {
        size_t size = out->size && out->size < sizeof r ? out->size : sizeof r;
        memcpy(out, &r, size);
        out->size = size;
    }
    return st;
}
