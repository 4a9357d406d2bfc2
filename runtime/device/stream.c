#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "device/device_parts.h"

/* ---- Streams ---- */

cuddle_status cdl_stream_open(cdl_stream *out, cdl_device *d)
{
    const char *sync = cdl_env_get(CDL_ENV_CUDDLE_SYNC);
    *out = (cdl_stream){ .device = d, .sync = sync && strcmp(sync, "0") != 0 };
    CDL_TRY(cdl_device_enter(d));
    return cdl_device_check(d, d->cu->stream_create(&out->handle, CDL_CU_STREAM_NON_BLOCKING), "making a stream");
}

void cdl_stream_close(cdl_stream *s)
{
    if (s->handle && s->device->cu->context_set(s->device->context) == CDL_CU_OK)
        s->device->cu->stream_destroy(s->handle);
    s->handle = NULL;
}

/* A fault shows at the next wait. Only with CUDDLE_SYNC is the last launch known to be the culprit. */
static cuddle_status check_work(cdl_stream *s, int result)
{
    const cdl_launched *l = &s->last;
    char doing[256];
    if (!l->kernel)
        return cdl_device_check(s->device, result, "waiting for it");
    snprintf(doing, sizeof doing, "%s %.96s of node %.80s, output [%u, %u]%s", s->sync ? "kernel" : "a kernel up to",
            l->kernel, l->node, l->rows, l->cols, s->sync ? "" : " (CUDDLE_SYNC=1 tells which)");
    return cdl_device_check(s->device, result, doing);
}

cuddle_status cdl_stream_wait(cdl_stream *s)
{
    CDL_TRY(cdl_device_enter(s->device));
    return check_work(s, s->device->cu->stream_wait(s->handle));
}

cuddle_status cdl_stream_copy_up(cdl_stream *s, cdl_cu_ptr dst, const void *src, size_t n)
{
    CDL_TRY(cdl_device_enter(s->device));
    return n ? check_work(s, s->device->cu->copy_up(dst, src, n, s->handle)) : CUDDLE_OK;
}

cuddle_status cdl_stream_copy_down(cdl_stream *s, void *dst, cdl_cu_ptr src, size_t n)
{
    CDL_TRY(cdl_device_enter(s->device));
    return n ? check_work(s, s->device->cu->copy_down(dst, src, n, s->handle)) : CUDDLE_OK;
}

cuddle_status cdl_stream_copy_within(cdl_stream *s, cdl_cu_ptr dst, cdl_cu_ptr src, size_t n)
{
    CDL_TRY(cdl_device_enter(s->device));
    return n ? check_work(s, s->device->cu->copy_within(dst, src, n, s->handle)) : CUDDLE_OK;
}

cuddle_status cdl_stream_fill(cdl_stream *s, cdl_cu_ptr dst, uint8_t value, size_t n)
{
    CDL_TRY(cdl_device_enter(s->device));
    return n ? check_work(s, s->device->cu->set_bytes(dst, value, n, s->handle)) : CUDDLE_OK;
}

cuddle_status cdl_stream_launch(cdl_stream *s, const cdl_launch *l)
{
    const cdl_cu_launch_attribute early = { CDL_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, { 1 } };
    const cdl_cu_launch launch = { { l->grid[0], l->grid[1], l->grid[2] }, { l->threads, 1, 1 }, l->shared_bytes,
                                   s->handle, &early, l->function.waits && s->capturing };
    void *args[] = { (void *)l->args };
    if (!l->grid[0] || !l->grid[1] || !l->grid[2])
        return CUDDLE_OK;
    CDL_TRY(cdl_device_enter(s->device));
    s->last = (cdl_launched){ l->kernel, l->node, l->rows, l->cols };
    CDL_TRY(check_work(s, s->device->cu->launch(&launch, l->function.handle, args, NULL)));
    return s->sync ? cdl_stream_wait(s) : CUDDLE_OK;
}

/* ---- Events ---- */

cuddle_status cdl_event_open(cdl_event *out, cdl_device *d, bool timed)
{
    *out = (cdl_event){ .device = d };
    CDL_TRY(cdl_device_enter(d));
    return cdl_device_check(d, d->cu->event_create(&out->handle, timed ? 0 : CDL_CU_EVENT_DISABLE_TIMING),
            "making an event");
}

void cdl_event_close(cdl_event *e)
{
    if (e->handle && e->device->cu->context_set(e->device->context) == CDL_CU_OK)
        e->device->cu->event_destroy(e->handle);
    e->handle = NULL;
}

cuddle_status cdl_event_record(cdl_event *e, cdl_stream *s)
{
    CDL_TRY(cdl_device_enter(e->device));
    return check_work(s, e->device->cu->event_record(e->handle, s->handle));
}

cuddle_status cdl_event_wait(cdl_event *e)
{
    CDL_TRY(cdl_device_enter(e->device));
    return cdl_device_check(e->device, e->device->cu->event_wait(e->handle), "waiting for an event");
}

cuddle_status cdl_stream_wait_event(cdl_stream *s, cdl_event *e)
{
    CDL_TRY(cdl_device_enter(s->device));
    return check_work(s, s->device->cu->stream_wait_event(s->handle, e->handle, 0));
}

cuddle_status cdl_event_ms(float *out, cdl_event *from, cdl_event *to)
{
    CDL_TRY(cdl_device_enter(to->device));
    return cdl_device_check(to->device, to->device->cu->event_elapsed(out, from->handle, to->handle), "timing");
}

/* ---- Graphs ---- */

cuddle_status cdl_capture_begin(cdl_stream *s)
{
    CDL_TRY(cdl_device_enter(s->device));
    s->capturing = true;
    return check_work(s, s->device->cu->capture_begin(s->handle, CDL_CU_CAPTURE_THREAD_LOCAL));
}

cuddle_status cdl_capture_end(cdl_capture *out, cdl_stream *s)
{
    const cdl_cu *cu = s->device->cu;
    cdl_cu_graph graph = NULL;
    *out = (cdl_capture){ .last = s->last };
    s->capturing = false;
    CDL_TRY(cdl_device_enter(s->device));
    CDL_TRY(cdl_device_check(s->device, cu->capture_end(s->handle, &graph), "capturing a step"));
    int r = cu->graph_instantiate(&out->handle, graph, 0);
    cu->graph_destroy(graph);
    return cdl_device_check(s->device, r, "making a graph of a step");
}

cuddle_status cdl_capture_launch(const cdl_capture *c, cdl_stream *s)
{
    CDL_TRY(cdl_device_enter(s->device));
    s->last = c->last;
    return check_work(s, s->device->cu->graph_launch(c->handle, s->handle));
}

void cdl_capture_free(cdl_capture *c, cdl_device *d)
{
    if (c->handle && d->cu->context_set(d->context) == CDL_CU_OK)
        d->cu->graph_exec_destroy(c->handle);
    c->handle = NULL;
}
