/* profile_trace.c - a profile as a Chrome trace, for chrome://tracing and Perfetto: a model's nodes, or ops, one after
 * another in lanes. A lane is a phase, or cold and hot operands; on the virtual GPU a GPU's bounds by public figures,
 * which are called estimates. */
#include <string.h>

#include "base/json.h"
#include "profile.h"

typedef struct {
    cdl_buf *b;
    uint32_t lane;             /* its number                   */
    double at;                 /* seconds: where its next goes */
} trace;

static cuddle_status put_name(cdl_buf *b, const char *name)
{
    CDL_TRY(cdl_buf_puts(b, "\"name\":"));
    return cdl_json_put_string(b, name, strlen(name));
}

static cuddle_status put_meta(cdl_buf *b, const char *what, uint32_t lane, const char *name)
{
    CDL_TRY(cdl_buf_printf(b, "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"args\":{", what, lane));
    CDL_TRY(put_name(b, name));
    return cdl_buf_puts(b, "}}");
}

static cuddle_status begin_lane(trace *t, const char *name)
{
    t->lane++;
    t->at = 0;
    CDL_TRY(cdl_buf_puts(t->b, ",\n"));
    return put_meta(t->b, "thread_name", t->lane, name);
}

static cuddle_status begin_estimates(trace *t, const profile_gpu *g, const char *of)
{
    char name[256];
    snprintf(name, sizeof name, "%s, estimate by public figures%s%s", g->name, *of ? ": " : "", of);
    return begin_lane(t, name);
}

/* Up to its arguments. */
static cuddle_status begin_event(trace *t, const char *name, cdl_op op, double seconds)
{
    CDL_TRY(cdl_buf_puts(t->b, ",\n{"));
    CDL_TRY(put_name(t->b, name));
    CDL_TRY(cdl_buf_printf(t->b, ",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u,\"ts\":%.4f,\"dur\":%.4f,"
            "\"args\":{", cdl_op_get(op)->name, t->lane, t->at * 1e6, seconds * 1e6));
    t->at += seconds;
    return CUDDLE_OK;
}

/* ---- Models ---- */

static cuddle_status put_node(trace *t, const profile_node *n, double seconds)
{
    CDL_TRY(begin_event(t, n->name, n->op, seconds));
    return cdl_buf_printf(t->b, "\"rows\":%u,\"cols\":%u,\"bytes\":%.0f,\"flops\":%.0f}}", n->rows, n->cols,
            cdl_cost_bytes(&n->cost), n->cost.flops);
}

static cuddle_status put_timed_phase(trace *t, const profile_phase *p)
{
    CDL_TRY(begin_lane(t, p->title));
    for (uint32_t i = 0; i < p->n; i++)
        CDL_TRY(put_node(t, &p->nodes[i], p->nodes[i].seconds));
    return CUDDLE_OK;
}

static cuddle_status put_estimated_phase(trace *t, const profile_phase *p)
{
    for (uint32_t g = 0; g < profile_n_gpus; g++) {
        CDL_TRY(begin_estimates(t, &profile_gpus[g], p->title));
        for (uint32_t i = 0; i < p->n; i++)
            CDL_TRY(put_node(t, &p->nodes[i], profile_gpu_bound(&profile_gpus[g], &p->nodes[i].cost)));
    }
    return CUDDLE_OK;
}

/* ---- Ops ---- */

static cuddle_status put_row(trace *t, const profile_row *r, double seconds)
{
    char name[192];
    bool weighs = profile_case_weighs(r->c.op);
    snprintf(name, sizeof name, "%s %s%s%s", cdl_op_get(r->c.op)->name, weighs ? cdl_dtype_get(r->c.type)->name : "",
            weighs ? " " : "", r->shape);
    CDL_TRY(begin_event(t, name, r->c.op, seconds));
    CDL_TRY(cdl_buf_printf(t->b, "\"bytes\":%.0f,\"flops\":%.0f", cdl_cost_bytes(&r->cost), r->cost.flops));
    double instructions = 0, requested = 0;
    for (uint32_t i = 0; i < r->n_kernels; i++) {
        instructions += r->kernels[i].warp_instructions;
        for (uint32_t k = 0; k < r->kernels[i].n_operands; k++)
            requested += r->kernels[i].operand[k].requested;
    }
    if (r->n_kernels)
        CDL_TRY(cdl_buf_printf(t->b, ",\"launches\":%u,\"warp_instructions\":%.0f,\"requested_bytes\":%.0f",
                r->n_kernels, instructions, requested));
    return cdl_buf_puts(t->b, "}}");
}

static cuddle_status put_timed_rows(trace *t, const profile_report *r, bool hot)
{
    CDL_TRY(begin_lane(t, hot ? "hot: the same operands again and again" : "cold: operands that no cache holds"));
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const profile_time *time = hot ? &r->rows[i].hot : &r->rows[i].cold;
        if (time->samples)
            CDL_TRY(put_row(t, &r->rows[i], time->median));
    }
    return CUDDLE_OK;
}

static cuddle_status put_estimated_rows(trace *t, const profile_report *r)
{
    for (uint32_t g = 0; g < profile_n_gpus; g++) {
        CDL_TRY(begin_estimates(t, &profile_gpus[g], ""));
        for (uint32_t i = 0; i < r->n_rows; i++)
            CDL_TRY(put_row(t, &r->rows[i], profile_gpu_bound(&profile_gpus[g], &r->rows[i].cost)));
    }
    return CUDDLE_OK;
}

cuddle_status profile_put_trace(cdl_buf *b, const profile_report *r)
{
    trace t = { .b = b };
    bool estimates = r->machine->is_virtual;
    CDL_TRY(cdl_buf_puts(b, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"));
    CDL_TRY(put_meta(b, "process_name", 0, r->model ? r->model->model : "ops"));
    for (uint32_t i = 0; r->model && i < r->model->n_phases; i++)
        CDL_TRY(estimates ? put_estimated_phase(&t, &r->model->phase[i]) : put_timed_phase(&t, &r->model->phase[i]));
    if (r->n_rows && estimates)
        CDL_TRY(put_estimated_rows(&t, r));
    for (int hot = 0; hot < 2 && r->n_rows && !estimates; hot++)
        CDL_TRY(put_timed_rows(&t, r, hot));
    return cdl_buf_puts(b, "\n]}\n");
}
