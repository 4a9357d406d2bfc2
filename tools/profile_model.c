/* profile_model.c - where a model's steps spend their time: each node alone, medians of several steps.
 *
 * Whole steps are timed as well, with nobody watching: nodes that run one after another with a wait between them
 * take longer together than a step does. On the virtual GPU one whole step is counted, as it runs: nodes that share
 * a launch share it there, too. */
#include <string.h>

#include "base/mem.h"
#include "cuddle_sequence.h"
#include "gen/engine.h"
#include "profile.h"

enum { PROMPT_STEPS = 5, WARM_TOKENS = 4 };

typedef struct {
    cuddle_engine *e;
    cuddle_sequence *s;
    int32_t *tokens;           /* [prompt]                                   */
    float *logits;
    uint64_t random;
    profile_node *nodes;       /* filled by each step                        */
    double *seconds;           /* [steps][nodes]                             */
    uint32_t n, step;
    bool counted;              /* not timed                                  */
} machine;

static void describe_node(void *user, uint32_t node, const cdl_call *call, double seconds)
{
    machine *m = user;
    m->nodes[node] = (profile_node){ .name = m->e->graph.nodes[node].name, .op = call->op, .rows = call->out.rows,
                                     .cols = call->out.cols, .cost = cdl_cost_of(call), .seconds = seconds };
}

static void on_node(void *user, uint32_t node, const cdl_call *call, double seconds)
{
    machine *m = user;
    describe_node(m, node, call, seconds);
    m->seconds[(size_t)m->step * m->n + node] = seconds;
}

/* One step with random tokens. */
static cuddle_status feed(machine *m, uint32_t n, bool generated, double *seconds)
{
    for (uint32_t i = 0; i < n; i++) {
        m->random = m->random * 6364136223846793005u + 1442695040888963407u;
        m->tokens[i] = (int32_t)((m->random >> 33) % m->e->graph.vocab);
    }
    double begin = cli_seconds();
    CDL_TRY(generated ? cuddle_sequence_decode(m->s, m->tokens[0], m->logits)
                      : cuddle_sequence_feed(m->s, m->tokens, n, m->logits));
    *seconds = cli_seconds() - begin;
    return cli_interrupted() ? cdl_status_fail(CUDDLE_ERR_CANCELLED, "interrupted") : CUDDLE_OK;
}

/* A prompt begins anew; generated tokens follow the last one. */
static cuddle_status run_step(machine *m, const profile_phase *p, bool generated, double *seconds)
{
    if (!generated)
        CDL_TRY(cuddle_sequence_truncate(m->s, 0));
    return feed(m, p->tokens, generated, seconds);
}

static void take_medians(machine *m, profile_phase *p, double *column)
{
    double begin = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        for (uint32_t k = 0; k < p->steps; k++)
            column[k] = m->seconds[(size_t)k * m->n + i];
        p->nodes[i].seconds = profile_time_of(column, p->steps).median;
        p->nodes[i].begin = begin;
        begin += p->nodes[i].seconds;
    }
}

static cuddle_status run_phase(machine *m, profile_phase *p, bool generated, cdl_arena *a)
{
    double *whole = cdl_arena_zalloc(a, p->steps, sizeof *whole), seconds;
    p->n = m->n;
    p->nodes = m->nodes = cdl_arena_zalloc(a, m->n, sizeof *p->nodes);
    m->seconds = cdl_arena_zalloc(a, (size_t)p->steps * m->n, sizeof *m->seconds);
    if (!whole || !p->nodes || !m->seconds)
        return cdl_status_nomem("the times of all nodes");
    CDL_TRY(run_step(m, p, generated, &seconds));
    for (m->step = 0; m->step < p->steps; m->step++) {
        cdl_engine_set_timer(m->e, NULL, NULL);
        CDL_TRY(run_step(m, p, generated, &whole[m->step]));
        cdl_engine_set_timer(m->e, on_node, m);
        CDL_TRY(run_step(m, p, generated, &seconds));
    }
    cdl_engine_set_timer(m->e, NULL, NULL);
    p->whole = profile_time_of(whole, p->steps).median;
    take_medians(m, p, whole);
    return CUDDLE_OK;
}

typedef struct {
    machine *m;
    const profile_phase *p;
    bool generated;
} counted_step;

static cuddle_status run_counted_step(void *user)
{
    const counted_step *s = user;
    double seconds;
    return run_step(s->m, s->p, s->generated, &seconds);
}

/* On the virtual GPU: one step, counted. */
static cuddle_status count_phase(machine *m, profile_phase *p, bool generated, cdl_arena *a)
{
    counted_step step = { m, p, generated };
    p->steps = 1;
    p->n = m->n;
    p->nodes = m->nodes = cdl_arena_zalloc(a, m->n, sizeof *p->nodes);
    if (!p->nodes)
        return cdl_status_nomem("the model's nodes");
    CDL_TRY(profile_count_step(p, run_counted_step, &step, a));
    cdl_engine_each_call(m->e, describe_node, m);
    return CUDDLE_OK;
}

static cuddle_status look_at(machine *m, profile_phase *p, bool generated, cdl_arena *a)
{
    if (!p->title)
        return cdl_status_nomem("a title");
    return m->counted ? count_phase(m, p, generated, a) : run_phase(m, p, generated, a);
}

static cuddle_status run_phases(machine *m, profile_model *out, uint32_t prompt, uint32_t generated, cdl_arena *a)
{
    if (prompt) {
        profile_phase *p = &out->phase[out->n_phases++];
        *p = (profile_phase){ .title = cdl_arena_printf(a, "a prompt of %u tokens", prompt), .tokens = prompt,
                              .steps = PROMPT_STEPS };
        CDL_TRY(look_at(m, p, false, a));
    }
    if (generated) {
        profile_phase *p = &out->phase[out->n_phases++];
        *p = (profile_phase){ .title = cdl_arena_printf(a, "a generated token after %u", prompt), .tokens = 1,
                              .steps = generated };
        if (!prompt) {
            double seconds;
            CDL_TRY(feed(m, WARM_TOKENS, false, &seconds));
        }
        CDL_TRY(look_at(m, p, true, a));
    }
    return CUDDLE_OK;
}

static cuddle_status run_engine(profile_model *out, profile_machine *pm, cuddle_model *model, machine *m,
        const uint32_t tokens[2], const profile_opts *o, cdl_arena *a)
{
    uint32_t context = tokens[0] + 2 * tokens[1] + WARM_TOKENS + 1;
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(model, &facts);
    if (context > facts.context_max)
        return cdl_status_fail(CUDDLE_ERR_ARG, "--prompt and --generate need %u tokens, and the model's context has %u",
                context, facts.context_max);
    cuddle_engine_opts opts = { .size = sizeof opts, .device = o->device, .fast = o->fast, .cpu = o->cpu,
        .threads = o->threads, .context_max = context, .step_tokens = tokens[0] ? tokens[0] : WARM_TOKENS,
        .progress = cli_progress };
    cuddle_status st = cuddle_engine_open(&m->e, model, &opts);
    cli_progress_end();
    CDL_TRY(st);
    cuddle_engine_plan plan = { .size = sizeof plan };
    cuddle_engine_describe(m->e, &plan);
    pm->threads = plan.threads;
    m->n = m->e->graph.n_nodes;
    m->tokens = cdl_arena_zalloc(a, opts.step_tokens, sizeof *m->tokens);
    m->logits = cdl_arena_zalloc(a, m->e->graph.vocab, sizeof *m->logits);
    if (!m->tokens || !m->logits)
        return cdl_status_nomem("the tokens");
    CDL_TRY(cuddle_sequence_open(&m->s, m->e));
    CDL_TRY(run_phases(m, out, tokens[0], tokens[1], a));
    for (uint32_t i = 0; i < out->n_phases; i++) /* the engine's names go with it */
        for (uint32_t k = 0; k < out->phase[i].n; k++)
            if (!(out->phase[i].nodes[k].name = cdl_arena_strdup(a, out->phase[i].nodes[k].name)))
                return cdl_status_nomem("the names of all nodes");
    return CUDDLE_OK;
}

cuddle_status profile_model_run(profile_model *out, profile_machine *pm, const char *path, uint32_t prompt,
        uint32_t generated, const profile_opts *o, cdl_arena *a)
{
    machine m = { .random = 1, .counted = pm->is_virtual };
    cuddle_model *model;
    const uint32_t tokens[2] = { prompt, generated };
    *out = (profile_model){ .model = path };
    CDL_TRY(cuddle_model_open(&model, path));
    cuddle_status st = run_engine(out, pm, model, &m, tokens, o, a);
    if (m.s)
        cuddle_sequence_close(m.s);
    cuddle_engine_close(m.e);
    cuddle_model_close(model);
    return st;
}
