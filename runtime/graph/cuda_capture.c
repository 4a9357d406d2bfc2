/* cuda_capture.c - steps of generated rows as graphs, made while the engine opens.
 *
 * One for 1, 2, 4, .. rows and the most that there are, each for 4, 16 and 64 splits of attention: a step takes
 * the smallest that holds it. Rows that it lacks are token 0 at slot 0 of the spare page in front of the state's. */
#include <string.h>

#include "base/mem.h"
#include "graph/cuda_call.h"

/* A view as a step of n rows has it; what has another number of rows is a weight. */
static void set_rows(const cdl_cuda *c, cdl_view *v, uint32_t n)
{
    if (v->rows == c->sizes.rows || v->rows == c->sizes.out_rows)
        v->rows = n;
}

static cuddle_status launch_step(cdl_cuda *c, cdl_call *calls, const cdl_step *step)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        for (uint32_t k = 0; k < calls[i].n_in; k++)
            set_rows(c, &calls[i].in[k], step->rows);
        set_rows(c, &calls[i].out, step->rows);
        calls[i].rows_generated = step->rows;
        calls[i].step = step;
    }
    for (uint32_t i = 0; i < c->n_nodes; i++)
        CDL_TRY(cdl_cuda_launch(c, calls, i, true));
    return CUDDLE_OK;
}

static cuddle_status capture(cdl_cuda *c, const cdl_call *calls, cdl_call *copy, uint32_t rows, uint32_t splits)
{
    const cdl_step step = { .rows = rows, .rows_generated = rows, .out_rows = rows };
    cdl_cuda_capture *out = &c->captures[c->n_captures];
    uint64_t before = c->launches;
    memcpy(copy, calls, c->n_nodes * sizeof *copy);
    c->splits = splits;
    c->n_tiles = 0;
    CDL_TRY(cdl_capture_begin(&c->stream));
    cuddle_status st = launch_step(c, copy, &step);
    cuddle_status end = cdl_capture_end(&out->graph, &c->stream);
    CDL_TRY(st);
    CDL_TRY(end);
    out->rows = rows;
    out->splits = splits;
    out->launches = c->launches - before;
    c->launches = before;
    c->n_captures++;
    return CUDDLE_OK;
}

cuddle_status cdl_cuda_capture_all(cdl_cuda *c, const cdl_call *calls)
{
    uint32_t most = c->sizes.spans < c->sizes.out_rows ? c->sizes.spans : c->sizes.out_rows;
    uint32_t splits_most = cdl_cuda_splits(c->sizes.table_pages);
    cdl_call *copy = cdl_mem_array(c->n_nodes, sizeof *copy);
    cuddle_status st = copy ? CUDDLE_OK : cdl_status_nomem("the calls of a step");
    for (uint32_t rows = 1, last = 0; last < most && st == CUDDLE_OK; rows *= 2) {
        last = rows < most ? rows : most;
        for (uint32_t splits = 4, end = 0; end < splits_most && st == CUDDLE_OK; splits *= 4) {
            end = splits < splits_most ? splits : splits_most;
            if (c->n_captures < CDL_CUDA_CAPTURES)
                st = capture(c, calls, copy, last, end);
        }
    }
    cdl_mem_free(copy);
    return st;
}

void cdl_cuda_capture_free(cdl_cuda *c)
{
    for (uint32_t i = 0; i < c->n_captures; i++)
        cdl_capture_free(&c->captures[i].graph, c->device);
}

const cdl_cuda_capture *cdl_cuda_capture_find(const cdl_cuda *c, uint32_t n, uint32_t splits)
{
    for (uint32_t i = 0; i < c->n_captures; i++)
        if (c->captures[i].rows >= n && c->captures[i].splits >= splits)
            return &c->captures[i];
    return NULL;
}
