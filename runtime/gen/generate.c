#include "cuddle_generate.h"

#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "gen/engine.h"

enum { LOGPROBS_MAX = 64 };

typedef struct {
    cuddle_sequence *s;
    const cuddle_generate_opts *o;
    cuddle_sampler *sampler;
    float *logits;
    size_t tokens_max;
    cuddle_logprob top[LOGPROBS_MAX];
} generation;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static cuddle_status pick(generation *g, size_t index, cuddle_generated *out)
{
    *out = (cuddle_generated){ .index = index, .top = g->top };
    CDL_TRY(cuddle_sampler_pick(g->sampler, g->logits, g->s->length, &out->token));
    CDL_TRY(cuddle_sampler_accept(g->sampler, out->token));
    if (!g->o->logprobs)
        return CUDDLE_OK;
    return cuddle_sampler_logprobs(g->sampler, g->logits, out->token, &out->logprob, g->top, g->o->logprobs);
}

static cuddle_status decode(generation *g, cuddle_generate_result *r)
{
    for (;;) {
        cuddle_generated token;
        CDL_TRY(pick(g, r->tokens, &token));
        if (!g->o->ignore_end && cuddle_model_is_end(g->s->engine->model, token.token)) {
            r->end_token = token.token;
            r->finish = CUDDLE_FINISH_STOP;
            return CUDDLE_OK;
        }
        r->tokens++;
        if (g->o->on_token && !g->o->on_token(g->o->user, &token)) {
            r->finish = CUDDLE_FINISH_STOP;
            return CUDDLE_OK;
        }
        if (r->tokens >= g->tokens_max || g->s->length >= g->s->engine->context_max) {
            r->finish = CUDDLE_FINISH_LENGTH;
            return CUDDLE_OK;
        }
        CDL_TRY(cuddle_sequence_decode(g->s, token.token, g->logits));
    }
}

static cuddle_status run(generation *g, cuddle_generate_result *r)
{
    const cuddle_engine *e = g->s->engine;
    CDL_TRY(cuddle_sampler_new(&g->sampler, e->graph.vocab, e->context_max + 1, g->o->sampling));
    g->logits = cdl_mem_array(e->graph.vocab, sizeof *g->logits);
    if (!g->logits)
        return cdl_status_nomem("the logits");
    double start = now_ms();
    CDL_TRY(cuddle_sequence_feed(g->s, g->o->prompt, g->o->n_prompt, g->logits));
    CDL_TRY(cuddle_sampler_prompt(g->sampler, g->o->prompt, g->o->n_prompt));
    r->prompt_tokens = g->o->n_prompt;
    r->prefill_ms = now_ms() - start;
    start = now_ms();
    cuddle_status st = decode(g, r);
    r->decode_ms = now_ms() - start;
    return st;
}

cuddle_status cuddle_generate(cuddle_sequence *s, const cuddle_generate_opts *opts, cuddle_generate_result *out)
{
    cuddle_generate_opts o = { 0 };
    memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    cuddle_generate_result r = { .size = sizeof r, .end_token = -1 };
    if (o.logprobs > LOGPROBS_MAX || o.logprobs > s->engine->graph.vocab)
        return cdl_status_fail(CUDDLE_ERR_ARG, "at most %d log probabilities a token", LOGPROBS_MAX);
    generation g = { .s = s, .o = &o, .tokens_max = o.tokens_max ? o.tokens_max : SIZE_MAX };
    cuddle_status st = run(&g, &r);
    cuddle_sampler_free(g.sampler);
    cdl_mem_free(g.logits);
    if (out) {
        size_t size = out->size && out->size < sizeof r ? out->size : sizeof r;
        memcpy(out, &r, size);
        out->size = size;
    }
    return st;
}
