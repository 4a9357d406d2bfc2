/* driver.h - what driver.c (devices, memory, modules) and stream.c (work, events, graphs) share. */
#ifndef EMU_DRIVER_H
#define EMU_DRIVER_H

#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include "emu.h"

#include <pthread.h>

struct CUctx_st {
    emu_device *device;
    CUresult dead;              /* a fault is for ever, as on hardware */
    int retained;
};

enum work_kind { WORK_LAUNCH, WORK_COPY, WORK_FILL, WORK_RECORD, WORK_WAIT, WORK_GRAPH, WORK_HOST };
typedef struct work {
    enum work_kind kind;
    emu_launch launch;
    void *dst;
    const void *src;
    size_t bytes;
    uint32_t value, width;
    CUevent event;
    uint64_t ticket;            /* of the event's record that is waited for */
    struct work *graph_first;   /* borrowed from the graph                  */
    CUhostFn host;
    void *host_data;
    struct work *next;
} work;

extern pthread_mutex_t emu_lock;
CUcontext emu_context_current(void);
CUcontext emu_context_of(int device);
/* Runs all work of every stream of every device, or of one stream. */
CUresult emu_flush_all(void);
CUresult emu_enqueue(CUstream s, const work *w);
void emu_mark_dead(emu_device *d, CUresult r);

#define ENTER() \
    CUcontext ctx = NULL; \
    pthread_mutex_lock(&emu_lock); \
    CUresult result = (ctx = emu_context_current()) ? ctx->dead : CUDA_ERROR_INVALID_CONTEXT; \
    if (result) \
        goto out
#define LEAVE() \
    out: \
    (void)ctx; \
    pthread_mutex_unlock(&emu_lock); \
    return result

#endif
