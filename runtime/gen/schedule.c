/* schedule.c - feeds of all callers become steps. Whoever finds nobody leading leads: builds a step of
 * everything that waits (generated rows first, then prompts), runs it without the lock, hands out
 * the logits. A caller leads until its own feeds are done, then the next one does. */
#include <stdio.h>
#include <string.h>

#include "gen/engine.h"
#include "gen/sampler.h"

/* ---- Admission ---- */

static cuddle_status check_feed(const cuddle_engine *e, const cuddle_feed *f)
{
    const cuddle_sequence *s = f->sequence;
    if (!s || s->engine != e || !s->open)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the sequence is not open in this engine");
    if (s->feed)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the sequence is being fed by another thread");
    if (!f->n || !f->tokens)
        return cdl_status_fail(CUDDLE_ERR_ARG, "no tokens to feed");
    if (f->n > e->context_max - s->length)
        return cdl_status_fail(CUDDLE_ERR_FULL, "the prompt does not fit: %u tokens are there, %zu more were given, "
                "the context is %u; shorten it or open the engine with a larger context (--context)",
                s->length, f->n, e->context_max);
    for (size_t i = 0; i < f->n; i++)
        if (f->tokens[i] < 0 || (uint32_t)f->tokens[i] >= e->graph.vocab)
            return cdl_status_fail(CUDDLE_ERR_ARG, "token %d at %zu is outside the vocabulary of %u",
                    f->tokens[i], i, e->graph.vocab);
    for (size_t i = 0; f->positions && i < f->n; i++)
        if (f->positions[i] < 0 || (uint32_t)f->positions[i] >= e->graph.context)
            return cdl_status_fail(CUDDLE_ERR_ARG, "position %d at %zu is outside the model's %u",
                    f->positions[i], i, e->graph.context);
    return CUDDLE_OK;
}

static void finish(cuddle_sequence *s, cuddle_status st)
{
    cuddle_feed *f = s->feed;
    f->status = st;
    if (st != CUDDLE_OK && !f->error[0])
        snprintf(f->error, sizeof f->error, "%s", cuddle_errmsg());
    s->feed = NULL;
    cuddle_sequence **at = &s->engine->queue;
    while (*at && *at != s)
        at = &(*at)->next;
    if (*at)
        *at = s->next;
}

static cuddle_status admit(cuddle_engine *e, cuddle_feed *f)
{
    cuddle_sequence *s = f->sequence;
    f->reused = 0;
    CDL_TRY(check_feed(e, f));
    if (!s->length && !f->generated && !f->all_logits && !f->positions)
        f->reused = cdl_sequence_reuse(s, f);
    cuddle_status st = cdl_sequence_reserve(s, (uint32_t)(f->n - f->reused));
    if (st != CUDDLE_OK) {
        cdl_sequence_release_from(s, f->reused ? 0 : s->length);
        if (f->reused)
            s->length = s->shareable = 0;
        return st;
    }
    s->feed_done = (uint32_t)f->reused;
    s->feed_length = s->length + (uint32_t)(f->n - f->reused);
    s->feed = f;
    s->taken = s->taken_out = 0;
    s->pick = CUDDLE_OK;
    f->error[0] = 0;
    s->next = NULL;
    cuddle_sequence **tail = &e->queue;
    while (*tail)
        tail = &(*tail)->next;
    *tail = s;
    return CUDDLE_OK;
}

/* ---- A step ---- */

typedef struct {
    cdl_step step;
    int32_t *ids, *positions, *out_rows;
} building;

static bool wants_logits(const cuddle_feed *f)
{
    return f->logits || f->sampler;
}

/* Rows of s that fit in the step. */
static uint32_t rows_that_fit(const cuddle_engine *e, const cuddle_sequence *s, const building *b)
{
    const cuddle_feed *f = s->feed;
    uint32_t left = (uint32_t)f->n - s->feed_done, n = e->step_tokens - b->step.rows;
    uint32_t out_left = e->logits_rows - b->step.out_rows;
    if (n > left)
        n = left;
    if (f->logits && f->all_logits && n > out_left)
        n = out_left;
    if (wants_logits(f) && n == left && !out_left)
        n--;
    /* generated rows choose their RoPE table one by one: a span stays on one side of the border */
    uint32_t border = e->graph.rope_long_from;
    if (f->generated && border && s->length < border && s->length + n > border)
        n = border - s->length;
    return n;
}

static bool add_rows(cuddle_engine *e, cuddle_sequence *s, building *b)
{
    const cuddle_feed *f = s->feed;
    uint32_t n = rows_that_fit(e, s, b), row = b->step.rows;
    if (!n)
        return true;
    cuddle_status st = cdl_sequence_reserve_window(s, n);
    if (st != CUDDLE_OK) {
        finish(s, st);
        return false;
    }
    memcpy(b->ids + row, f->tokens + s->feed_done, n * sizeof *b->ids);
    memcpy(s->tokens + s->length, f->tokens + s->feed_done, n * sizeof *b->ids);
    for (uint32_t i = 0; b->positions && i < n; i++)
        b->positions[row + i] = f->positions ? f->positions[s->feed_done + i] : (int32_t)(s->length + i);
    bool last = s->feed_done + n == f->n;
    s->taken = n;
    s->taken_out = !wants_logits(f) ? 0 : f->logits && f->all_logits ? n : last;
    for (uint32_t i = n - s->taken_out; i < n; i++)
        b->out_rows[b->step.out_rows++] = (int32_t)(row + i);
    cdl_span *span = &e->spans[b->step.n_spans++];
    *span = (cdl_span){ .row = row, .n = n, .first = s->length,
                        .length = f->generated ? s->length + n : s->feed_length };
    for (uint32_t i = 0; i < e->n_groups; i++)
        span->pages[i] = s->pages[i];
    b->step.rows += n;
    return true;
}

static void build_step(cuddle_engine *e, building *b)
{
    *b = (building){ .step = { .spans = e->spans, .f32_activations = e->f32_activations },
                     .ids = cdl_exec_input(e->exec, CDL_INPUT_IDS),
                     .positions = cdl_exec_input(e->exec, CDL_INPUT_POSITIONS),
                     .out_rows = cdl_exec_input(e->exec, CDL_INPUT_OUT_ROWS) };
    for (int generated = 1; generated >= 0; generated--) {
        for (cuddle_sequence *s = e->queue, *next; s; s = next) {
            next = s->next;
            if (s->feed->generated != (bool)generated)
                continue;
            s->taken = 0;
            if (b->step.rows < e->step_tokens)
                add_rows(e, s, b);
        }
        if (generated)
            b->step.rows_generated = b->step.rows;
    }
}

/* Tokens that others may share are counted while they are prompt rows in order. */
static void count_shareable(cuddle_sequence *s)
{
    const cuddle_feed *f = s->feed;
    uint32_t border = s->engine->graph.rope_long_from;
    bool is_long = border && s->feed_length > border;
    if (f->generated || f->positions || s->shareable != s->length || (s->length && is_long != s->shareable_long))
        return;
    s->shareable += s->taken;
    s->shareable_long = is_long;
}

/* ---- What comes out ---- */

/* A token that could not be picked is its own feed's failure. */
static void set_pick(cuddle_sequence *s, cuddle_status st)
{
    s->pick = st;
    if (st != CUDDLE_OK)
        snprintf(s->feed->error, sizeof s->feed->error, "%s", cuddle_errmsg());
}

typedef void (*out_fn)(void *user, cuddle_sequence *s);

/* Calls fn for every sequence with logits, in their order: that in which build_step took the rows. */
static void each_out(const cuddle_engine *e, out_fn fn, void *user)
{
    for (int generated = 1; generated >= 0; generated--)
        for (cuddle_sequence *s = e->queue; s; s = s->next)
            if (s->feed->generated == (bool)generated && s->taken && s->taken_out)
                fn(user, s);
}

typedef struct {
    cuddle_engine *e;
    uint32_t rows, n;          /* with logits; of them done                */
    bool device;               /* all of them can be picked by the device  */
    const float *logits;
} outs;

static void describe_pick(void *user, cuddle_sequence *s)
{
    outs *o = user;
    const cuddle_feed *f = s->feed;
    o->device = o->device && f->sampler && !f->logits
        && cdl_sampler_describe(f->sampler, s->length + s->taken, &o->e->picks[o->n++]);
}

static void take_picked(void *user, cuddle_sequence *s)
{
    outs *o = user;
    s->feed->token = o->e->picked[o->n++];
    if (s->feed->token < 0)
        set_pick(s, cdl_status_fail(CUDDLE_ERR_ARG,
                "no logit is above -inf: the model's weights or input are broken"));
}

static void take_logits(void *user, cuddle_sequence *s)
{
    outs *o = user;
    cuddle_feed *f = s->feed;
    size_t vocab = o->e->graph.vocab;
    const float *last = o->logits + (s->taken_out - 1) * vocab;
    if (f->logits)
        memcpy(f->logits + (f->all_logits ? s->feed_done * vocab : 0), o->logits,
                s->taken_out * vocab * sizeof *last);
    o->logits += s->taken_out * vocab;
    if (f->sampler && s->feed_done + s->taken == f->n)
        set_pick(s, cuddle_sampler_pick(f->sampler, last, s->length + s->taken, &f->token));
}

/* Before the step: the device picks when every row's sampler lets it; else all logits come to the host. */
static void plan_outs(outs *o, cuddle_engine *e, const cdl_step *step)
{
    *o = (outs){ .e = e, .rows = step->out_rows, .device = e->backend->pick && step->out_rows <= e->sequences_max };
    if (o->device && o->rows)
        each_out(e, describe_pick, o);
    o->n = 0;
}

/* Runs the step and waits for what comes out; without the lock. */
static cuddle_status run_step(outs *o, const cdl_step *step)
{
    cuddle_engine *e = o->e;
    CDL_TRY(cdl_exec_run(e->exec, step));
    if (!o->rows)
        return CUDDLE_OK;
    if (o->device)
        CDL_TRY(cdl_exec_pick(e->exec, e->picks, e->picked, &o->device));
    return o->device ? CUDDLE_OK : cdl_exec_logits(e->exec, &o->logits);
}

static void advance(cuddle_engine *e, cuddle_status st)
{
    for (cuddle_sequence *s = e->queue, *next; s; s = next) {
        next = s->next;
        if (!s->taken)
            continue;
        if (st != CUDDLE_OK) {
            cdl_sequence_release_from(s, s->length);
            finish(s, st);
            continue;
        }
        count_shareable(s);
        s->length += s->taken;
        s->feed_done += s->taken;
        s->taken = 0;
        cdl_sequence_drop_passed(s);
        if (s->feed_done == s->feed->n)
            finish(s, s->pick);
    }
}

/* With the lock held, and nobody else leading. */
static void lead_step(cuddle_engine *e)
{
    building b;
    build_step(e, &b);
    if (!b.step.rows)
        return;
    outs o;
    plan_outs(&o, e, &b.step);
    /* New feeds append to the queue while the step runs; they have taken == 0. */
    e->leading = true;
    pthread_mutex_unlock(&e->lock);
    cuddle_status st = run_step(&o, &b.step);
    pthread_mutex_lock(&e->lock);
    if (st == CUDDLE_OK && o.rows)
        each_out(e, o.device ? take_picked : take_logits, &o);
    advance(e, st);
    e->leading = false;
    pthread_cond_broadcast(&e->changed);
}

static bool any_running(const cuddle_feed *feeds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (feeds[i].sequence && feeds[i].sequence->feed == &feeds[i])
            return true;
    return false;
}

cuddle_status cuddle_engine_feed(cuddle_engine *e, cuddle_feed *feeds, size_t n)
{
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < n; i++) {
        feeds[i].error[0] = 0;
        feeds[i].status = admit(e, &feeds[i]);
        if (feeds[i].status != CUDDLE_OK)
            snprintf(feeds[i].error, sizeof feeds[i].error, "%s", cuddle_errmsg());
    }
    while (any_running(feeds, n)) {
        if (e->leading)
            pthread_cond_wait(&e->changed, &e->lock);
        else
            lead_step(e);
    }
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < n; i++)
        if (feeds[i].status != CUDDLE_OK)
            return cdl_status_fail(feeds[i].status, "%s", feeds[i].error);
    return CUDDLE_OK;
}

cuddle_status cuddle_sequence_feed(cuddle_sequence *s, const int32_t *tokens, size_t n, float *logits)
{
    cuddle_feed f = { .sequence = s, .tokens = tokens, .n = n, .logits = logits };
    return cuddle_engine_feed(s->engine, &f, 1);
}

cuddle_status cuddle_sequence_decode(cuddle_sequence *s, int32_t token, float *logits)
{
    cuddle_feed f = { .sequence = s, .tokens = &token, .n = 1, .generated = true, .logits = logits };
    return cuddle_engine_feed(s->engine, &f, 1);
}
