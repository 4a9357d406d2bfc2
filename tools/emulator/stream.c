/* stream.c - streams, events and graphs of the virtual GPU.
 *
 * Work is put off until something waits for it: a host that reads too early, or a stream that forgets to wait
 * for another, gets what was there before. The legacy stream (NULL) waits for the blocking streams and they
 * for it, as the driver's does. Capture records the work in order; a launch of the graph runs the record.
 */
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC visibility push(default)

struct CUevent_st {
    CUstream stream;            /* where it was recorded last; NULL pointer is the legacy stream */
    uint64_t recorded, done;    /* tickets */
    double at_ms;
    struct CUgraph_st *capture;
    bool used;
};

struct CUgraph_st {
    work *first, **tail;
};

struct CUgraphExec_st {
    work *first;
};

struct CUstream_st {
    work *first, **tail;
    bool blocking, opened;
    CUgraph capture;
    emu_device *device;
    CUstream next;
};

static struct CUstream_st legacy;
static CUstream streams;        /* all but the legacy one */

static CUresult stream_run(CUstream s, const CUevent until, uint64_t ticket);

static CUstream stream_of(CUstream s)
{
    if (s && s != CU_STREAM_LEGACY && s != CU_STREAM_PER_THREAD)
        return s;
    if (!legacy.opened) {
        legacy.opened = true;
        legacy.tail = &legacy.first;
    }
    return &legacy;
}

static void list_add(work ***tail, work *w)
{
    w->next = NULL;
    **tail = w;
    *tail = &w->next;
}

static CUresult fault_code(enum emu_fault f)
{
    static const CUresult codes[FAULT_COUNT] = {
        [FAULT_NONE] = CUDA_SUCCESS, [FAULT_ADDRESS] = CUDA_ERROR_ILLEGAL_ADDRESS,
        [FAULT_MISALIGNED] = CUDA_ERROR_MISALIGNED_ADDRESS, [FAULT_UNINITIALISED] = CUDA_ERROR_ILLEGAL_ADDRESS,
        [FAULT_RACE] = CUDA_ERROR_LAUNCH_FAILED, [FAULT_BARRIER] = CUDA_ERROR_ILLEGAL_INSTRUCTION,
        [FAULT_SYNC] = CUDA_ERROR_ILLEGAL_INSTRUCTION, [FAULT_DEADLOCK] = CUDA_ERROR_LAUNCH_TIMEOUT,
        [FAULT_TRAP] = CUDA_ERROR_LAUNCH_FAILED,
    };
    return codes[f];
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void fill_run(const work *w)
{
    uint8_t *to = w->dst;
    if (w->width == 1)
        memset(to, (int)w->value, w->bytes);
    else
        for (size_t n = 0; n < w->bytes; n++)
            memcpy(to + n * w->width, &w->value, w->width);
    emu_mark_written((uint64_t)w->dst, w->bytes * w->width);
}

static CUresult launch_run(const work *w)
{
    emu_launch l = w->launch;
    CUresult dead = emu_context_of(l.device->index)->dead;
    if (dead)
        return dead;
    l.number = l.device->launches++;
    emu_launch_run(&l);
    CUresult r = fault_code(l.fault);
    if (r)
        emu_mark_dead(l.device, r);
    return r;
}

static CUresult work_run(const work *w)
{
    CUresult r = CUDA_SUCCESS;
    switch (w->kind) {
    case WORK_LAUNCH: return launch_run(w);
    case WORK_FILL: fill_run(w); return r;
    case WORK_HOST: w->host(w->host_data); return r;
    case WORK_COPY:
        memmove(w->dst, w->src, w->bytes);
        emu_mark_written((uint64_t)w->dst, w->bytes);
        return r;
    case WORK_RECORD:
        w->event->done = w->ticket;
        w->event->at_ms = now_ms();
        return r;
    case WORK_WAIT:
        return w->event->done < w->ticket ? stream_run(w->event->stream, w->event, w->ticket) : r;
    case WORK_GRAPH:
        emu_forget_kernels();
        for (const work *g = w->graph_first; g && !r; g = g->next)
            r = work_run(g);
        return r;
    }
    return r;
}

/* Runs a stream's work in order, up to the record of an event where one is given. */
static CUresult stream_run(CUstream s, const CUevent until, uint64_t ticket)
{
    CUresult r = CUDA_SUCCESS;
    while (s->first && !(until && until->done >= ticket)) {
        work *w = s->first;
        s->first = w->next;
        if (!s->first)
            s->tail = &s->first;
        CUresult one = work_run(w);
        r = r ? r : one;
        free(w->kind == WORK_LAUNCH ? w->launch.params : NULL);
        free(w);
    }
    return r;
}

CUresult emu_flush_all(void)
{
    CUresult r = stream_run(stream_of(NULL), NULL, 0);
    for (CUstream s = streams; s; s = s->next) {
        CUresult one = stream_run(s, NULL, 0);
        r = r ? r : one;
    }
    return r;
}

/* What the legacy stream's rules make run before new work of s. */
static CUresult legacy_order(CUstream s)
{
    CUresult r = CUDA_SUCCESS;
    if (s != &legacy)
        return s->blocking ? stream_run(stream_of(NULL), NULL, 0) : r;
    for (CUstream other = streams; other && !r; other = other->next)
        if (other->blocking && !other->capture)
            r = stream_run(other, NULL, 0);
    return r;
}

CUresult emu_enqueue(CUstream stream, const work *w)
{
    CUstream s = stream_of(stream);
    work *copy = malloc(sizeof *copy);
    if (!copy)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *copy = *w;
    if (s->capture) {
        list_add(&s->capture->tail, copy);
        return CUDA_SUCCESS;
    }
    CUresult r = legacy_order(s);
    list_add(&s->tail, copy);
    return r;
}

CUresult cuStreamCreate(CUstream *out, unsigned flags)
{
    ENTER();
    CUstream s = *out = calloc(1, sizeof *s);
    if (!s) {
        result = CUDA_ERROR_OUT_OF_MEMORY;
        goto out;
    }
    s->tail = &s->first;
    s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    s->device = ctx->device;
    s->next = streams;
    streams = s;
    LEAVE();
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority)
{
    (void)priority;
    return cuStreamCreate(out, flags);
}

CUresult cuStreamDestroy(CUstream s)
{
    pthread_mutex_lock(&emu_lock);
    CUresult r = stream_run(s, NULL, 0);
    for (CUstream *at = &streams; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    free(s);
    pthread_mutex_unlock(&emu_lock);
    return r;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    ENTER();
    CUstream s = stream_of(stream);
    if (s->capture)
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    else
        result = stream_run(s, NULL, 0);
    result = result ? result : ctx->dead;
    LEAVE();
}

CUresult cuStreamQuery(CUstream s)
{
    ENTER();
    result = stream_of(s)->first ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
    LEAVE();
}

CUresult cuLaunchHostFunc(CUstream s, CUhostFn fn, void *data)
{
    ENTER();
    result = emu_enqueue(s, &(work){.kind = WORK_HOST, .host = fn, .host_data = data});
    LEAVE();
}

/* ---- events ---- */
CUresult cuEventCreate(CUevent *out, unsigned flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuEventDestroy(CUevent e)
{
    ENTER();
    result = e->used ? emu_flush_all() : CUDA_SUCCESS;
    free(e);
    LEAVE();
}

CUresult cuEventRecord(CUevent e, CUstream stream)
{
    ENTER();
    CUstream s = stream_of(stream);
    e->stream = s;
    e->used = true;
    e->capture = s->capture;
    if (!s->capture)
        result = emu_enqueue(s, &(work){.kind = WORK_RECORD, .event = e, .ticket = ++e->recorded});
    LEAVE();
}

/* In a capture the waiting stream joins it: the record is one list in order, which is a valid order. */
CUresult cuStreamWaitEvent(CUstream stream, CUevent e, unsigned flags)
{
    (void)flags;
    ENTER();
    CUstream s = stream_of(stream);
    if (e->capture)
        s->capture = e->capture;
    else if (e->recorded)
        result = emu_enqueue(s, &(work){.kind = WORK_WAIT, .event = e, .ticket = e->recorded});
    LEAVE();
}

CUresult cuEventSynchronize(CUevent e)
{
    ENTER();
    if (e->recorded)
        result = stream_run(e->stream, e, e->recorded);
    LEAVE();
}

CUresult cuEventQuery(CUevent e)
{
    ENTER();
    result = e->done < e->recorded ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
    LEAVE();
}

/* Of the emulation, not of a GPU. */
CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
    if (!from->recorded || !to->recorded)
        return CUDA_ERROR_INVALID_HANDLE;
    if (from->done < from->recorded || to->done < to->recorded)
        return CUDA_ERROR_NOT_READY;
    *ms = (float)(to->at_ms - from->at_ms);
    return CUDA_SUCCESS;
}
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to) { return cuEventElapsedTime_v2(ms, from, to); }

/* ---- graphs ---- */
static CUgraph graph_new(void)
{
    CUgraph g = calloc(1, sizeof *g);
    if (g)
        g->tail = &g->first;
    return g;
}

static void works_free(work *w)
{
    while (w) {
        work *next = w->next;
        free(w->kind == WORK_LAUNCH ? w->launch.params : NULL);
        free(w);
        w = next;
    }
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode)
{
    (void)mode;
    ENTER();
    CUstream s = stream_of(stream);
    if (s == &legacy || s->capture)
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    else if (!(s->capture = graph_new()))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    LEAVE();
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *out)
{
    ENTER();
    CUgraph g = *out = stream_of(stream)->capture;
    if (!g)
        result = CUDA_ERROR_INVALID_VALUE;
    for (CUstream s = streams; g && s; s = s->next)
        if (s->capture == g)
            s->capture = NULL;
    LEAVE();
}

CUresult cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *out)
{
    *out = stream_of(s)->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph g, unsigned long long flags)
{
    (void)flags;
    CUgraphExec x = *out = calloc(1, sizeof *x);
    work **tail = x ? &x->first : NULL;
    for (const work *w = g->first; x && w; w = w->next) {
        work *copy = malloc(sizeof *copy);
        if (!copy)
            return CUDA_ERROR_OUT_OF_MEMORY;
        *copy = *w;
        if (w->kind == WORK_LAUNCH) {
            uint32_t n = w->launch.kernel->param_bytes + 16;
            copy->launch.params = malloc(n);
            if (!copy->launch.params) {
                free(copy);
                return CUDA_ERROR_OUT_OF_MEMORY;
            }
            memcpy(copy->launch.params, w->launch.params, n);
        }
        list_add(&tail, copy);
    }
    return x ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphLaunch(CUgraphExec x, CUstream s)
{
    ENTER();
    result = emu_enqueue(s, &(work){.kind = WORK_GRAPH, .graph_first = x->first});
    LEAVE();
}

CUresult cuGraphDestroy(CUgraph g)
{
    works_free(g->first);
    free(g);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec x)
{
    ENTER();
    result = emu_flush_all();
    works_free(x->first);
    free(x);
    LEAVE();
}
#pragma GCC visibility pop
