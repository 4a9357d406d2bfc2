#include "graph/run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/env.h"
#include "base/mem.h"
#include "graph/dump.h"

typedef struct {
    cdl_step step;
    cdl_span *spans;       /* [plan spans]  */
    cdl_call *calls;       /* [nodes]       */
} slot;

struct cdl_exec {
    cdl_exec_parts parts;
    slot ring[CDL_BACKEND_RING];
    uint32_t next;
    uint32_t out_rows;     /* of the last run */
    cdl_tap tap;
    void *tap_user;
    cdl_timer timer;
    void *timer_user;
    bool check_nan;
    FILE *trace;
    double trace_start_us;
    cdl_dump dump;
};

/* ---- Open and close ---- */

/* Inputs that a backend keeps elsewhere than in the workspace. */
static void move_inputs(const cdl_exec *e, const cdl_node *n, cdl_call *c)
{
    cdl_backend *b = e->parts.backend;
    for (uint32_t k = 0; k < n->n_in && b->input; k++) {
        const cdl_value *v = &e->parts.graph->values[n->in[k]];
        if (v->kind == CDL_VALUE_INPUT)
            b->input(b, v->input, &c->in[k].data);
    }
}

static cuddle_status make_slot(cdl_exec *e, slot *s)
{
    const cdl_graph *g = e->parts.graph;
    s->spans = cdl_mem_zalloc(e->parts.plan->bounds.spans, sizeof *s->spans);
    s->calls = cdl_mem_zalloc(g->n_nodes, sizeof *s->calls);
    if (!s->spans || !s->calls)
        return cdl_status_nomem("the calls of a step");
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        cdl_plan_call(e->parts.plan, g, e->parts.weights, i, e->parts.workspace, &s->calls[i]);
        s->calls[i].step = &s->step;
        s->calls[i].state = e->parts.state;
        move_inputs(e, &g->nodes[i], &s->calls[i]);
    }
    return CUDDLE_OK;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static cuddle_status open_trace(cdl_exec *e)
{
    const char *path = cdl_env_get(CDL_ENV_CUDDLE_TRACE);
    if (!path)
        return CUDDLE_OK;
    e->trace = fopen(path, "w");
    if (!e->trace)
        return cdl_status_fail(CUDDLE_ERR_IO, "CUDDLE_TRACE: cannot write %s: %s", path, strerror(errno));
    fputs("[\n", e->trace);
    e->trace_start_us = now_us();
    return CUDDLE_OK;
}

cuddle_status cdl_exec_new(cdl_exec **out, const cdl_exec_parts *parts)
{
    cdl_exec *e = cdl_mem_zalloc(1, sizeof *e);
    if (!e)
        return cdl_status_nomem("the executor");
    e->parts = *parts;
    const char *nan = cdl_env_get(CDL_ENV_CUDDLE_NAN);
    e->check_nan = nan && strcmp(nan, "0") != 0;
    cuddle_status st = open_trace(e);
    if (st == CUDDLE_OK)
        st = cdl_dump_open(&e->dump, parts->graph);
    for (int i = 0; i < CDL_BACKEND_RING && st == CUDDLE_OK; i++)
        st = make_slot(e, &e->ring[i]);
    if (st == CUDDLE_OK && parts->backend->prepare)
        st = parts->backend->prepare(parts->backend, e->ring[0].calls, parts->graph->n_nodes);
    if (st != CUDDLE_OK) {
        cdl_exec_free(e);
        return st;
    }
    *out = e;
    return CUDDLE_OK;
}

void cdl_exec_free(cdl_exec *e)
{
    if (!e)
        return;
    for (int i = 0; i < CDL_BACKEND_RING; i++) {
        cdl_mem_free(e->ring[i].spans);
        cdl_mem_free(e->ring[i].calls);
    }
    if (e->trace) {
        fputs("{}]\n", e->trace);
        fclose(e->trace);
    }
    cdl_dump_close(&e->dump);
    cdl_mem_free(e);
}

static cdl_view view_of(const cdl_exec *e, cdl_val v)
{
    return cdl_plan_view(e->parts.plan, e->parts.graph, e->parts.weights, v, e->parts.workspace);
}

int32_t *cdl_exec_input(cdl_exec *e, cdl_input which)
{
    const cdl_graph *g = e->parts.graph;
    cdl_backend *b = e->parts.backend;
    void *device;
    for (cdl_val v = 1; v < g->n_values; v++)
        if (g->values[v].kind == CDL_VALUE_INPUT && g->values[v].input == which)
            return b->input ? b->input(b, which, &device) : view_of(e, v).data;
    return NULL;
}

static cdl_view logits_of(const cdl_exec *e)
{
    cdl_view v = view_of(e, e->parts.graph->logits);
    v.rows = e->out_rows;
    return v;
}

cuddle_status cdl_exec_logits(cdl_exec *e, const float **out)
{
    cdl_backend *b = e->parts.backend;
    cdl_view v = logits_of(e);
    if (b->fetch)
        CDL_TRY(b->fetch(b, &v, &v));
    *out = v.data;
    return CUDDLE_OK;
}

cuddle_status cdl_exec_pick(cdl_exec *e, const cdl_pick *picks, int32_t *tokens, bool *done)
{
    cdl_backend *b = e->parts.backend;
    cdl_view v = logits_of(e);
    *done = false;
    return b->pick ? b->pick(b, &v, picks, tokens, done) : CUDDLE_OK;
}

void cdl_exec_set_tap(cdl_exec *e, cdl_tap tap, void *user)
{
    e->tap = tap;
    e->tap_user = user;
}

void cdl_exec_set_timer(cdl_exec *e, cdl_timer timer, void *user)
{
    e->timer = timer;
    e->timer_user = user;
}

void cdl_exec_each_call(const cdl_exec *e, cdl_timer each, void *user)
{
    const slot *last = &e->ring[(e->next + CDL_BACKEND_RING - 1) % CDL_BACKEND_RING];
    for (uint32_t i = 0; i < e->parts.graph->n_nodes; i++)
        each(user, i, &last->calls[i], 0);
}

/* ---- A step ---- */

static uint32_t rows_now(const cdl_graph *g, cdl_val v, const cdl_step *s)
{
    cdl_rows sym = g->values[v].sym;
    return sym == CDL_ROWS_T ? s->rows : sym == CDL_ROWS_R ? s->out_rows : g->values[v].rows;
}

/* Sets the rows of this step in every call. Rows with logits come in the step's row order, so the
 * generated ones lead there too. */
static void set_rows(cdl_exec *e, slot *s, uint32_t out_generated)
{
    const cdl_graph *g = e->parts.graph;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_node *n = &g->nodes[i];
        cdl_call *c = &s->calls[i];
        for (uint32_t k = 0; k < n->n_in; k++)
            c->in[k].rows = rows_now(g, n->in[k], &s->step);
        c->out.rows = rows_now(g, n->out, &s->step);
        c->rows_generated = g->values[n->out].sym == CDL_ROWS_R ? out_generated : s->step.rows_generated;
    }
}

static cuddle_status check_finite(const cdl_node *n, const cdl_view *v)
{
    for (uint32_t r = 0; r < v->rows; r++) {
        const float *x = (const float *)v->data + (size_t)r * v->stride;
        for (uint32_t c = 0; c < v->cols; c++)
            if (!isfinite(x[c]))
                return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s (%s): row %u, column %u is %f; a weight may be damaged",
                        n->name, cdl_op_get(n->op)->name, r, c, (double)x[c]);
    }
    return CUDDLE_OK;
}

static void trace_node(const cdl_exec *e, const cdl_call *c, double begin_us)
{
    fprintf(e->trace, "{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,"
            "\"args\":{\"rows\":%u,\"cols\":%u}},\n", c->name, cdl_op_get(c->op)->name,
            begin_us - e->trace_start_us, now_us() - begin_us, c->out.rows, c->out.cols);
}

/* Whether something wants to see each node's output. */
static bool wants_outputs(const cdl_exec *e)
{
    return e->tap || e->check_nan || e->dump.folder;
}

/* Whether nodes run one by one. */
static bool is_watched(const cdl_exec *e)
{
    return wants_outputs(e) || e->trace || e->timer;
}

/* By the device's clock where it has one; else until no late thread is left. */
static cuddle_status run_timed(cdl_exec *e, const slot *s, uint32_t node)
{
    cdl_backend *b = e->parts.backend;
    double seconds;
    if (b->time) {
        CDL_TRY(b->time(b, s->calls, node, 1, &seconds));
    } else {
        double begin = now_us();
        CDL_TRY(b->run(b, (uint32_t)(s - e->ring), s->calls, node, 1));
        b->settle(b, 0);
        seconds = (now_us() - begin) * 1e-6;
    }
    e->timer(e->timer_user, node, &s->calls[node], seconds);
    return CUDDLE_OK;
}

static cuddle_status run_one_by_one(cdl_exec *e, const slot *s)
{
    cdl_backend *b = e->parts.backend;
    CDL_TRY(cdl_dump_begin(&e->dump, e->parts.graph, s->calls));
    for (uint32_t i = 0; i < e->parts.graph->n_nodes; i++) {
        const cdl_node *n = &e->parts.graph->nodes[i];
        const cdl_call *c = &s->calls[i];
        double begin = e->trace ? now_us() : 0;
        CDL_TRY(e->timer ? run_timed(e, s, i) : b->run(b, (uint32_t)(s - e->ring), s->calls, i, 1));
        if (e->trace) {
            b->settle(b, 0); /* what a device was told is done */
            trace_node(e, c, begin);
        }
        cdl_view out = c->out;
        if (b->fetch && wants_outputs(e))
            CDL_TRY(b->fetch(b, &c->out, &out));
        if (e->check_nan)
            CDL_TRY(check_finite(n, &out));
        cdl_dump_node(&e->dump, i, &out);
        if (e->tap)
            CDL_TRY(e->tap(e->tap_user, n, &out));
    }
    return cdl_dump_end(&e->dump);
}

cuddle_status cdl_exec_run(cdl_exec *e, const cdl_step *step)
{
    const cdl_graph *g = e->parts.graph;
    cdl_backend *b = e->parts.backend;
    uint32_t at = e->next;
    slot *s = &e->ring[at];
    e->next = (at + 1) % CDL_BACKEND_RING;
    b->settle(b, is_watched(e) ? 0 : CDL_BACKEND_RING - 1);
    cdl_span *spans = s->spans;
    memcpy(spans, step->spans, step->n_spans * sizeof *spans);
    s->step = *step;
    s->step.spans = spans;
    uint32_t out_generated = 0;
    const int32_t *out_rows = cdl_exec_input(e, CDL_INPUT_OUT_ROWS);
    while (out_generated < step->out_rows && (uint32_t)out_rows[out_generated] < step->rows_generated)
        out_generated++;
    set_rows(e, s, out_generated);
    e->out_rows = step->out_rows;
    if (is_watched(e))
        return run_one_by_one(e, s);
    return b->run(b, at, s->calls, 0, g->n_nodes);
}
