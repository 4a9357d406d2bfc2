/* device.h - NVIDIA GPUs through the driver: memory, streams, events, modules, launches, graphs.
 *
 * A device is opened once an engine: its primary context and the kernels embedded in this build.
 * Memory is taken in a few planned blocks while the engine opens; nothing here allocates on the device
 * afterwards. Every call may come from any thread, one at a time for a device.
 * A fault on the device kills it: each later call gives DEVICE with the first fault's line; the process
 * lives on, and may open the device again once it was closed.
 * Read first: cuda_driver.h.   Tests: tests/unit/test_device.c
 */
#ifndef CDL_DEVICE_H
#define CDL_DEVICE_H

#include "device/cuda_driver.h"

typedef struct {
    char name[128];
    uint64_t bytes;              /* of its memory                  */
    uint32_t major, minor;       /* compute capability             */
    uint32_t multiprocessors;
    uint32_t clock_mhz, memory_clock_mhz, memory_bus_bits;
    uint64_t l2_bytes;
    uint32_t shared_bytes;       /* of a block, at most            */
    uint32_t pci_domain, pci_bus, pci_device;
} cdl_device_facts;

#define CDL_DEVICE_VIRTUAL "cuddle virtual GPU" /* the name that tools/emulator gives itself */

/* GPUs that the driver shows. Errors: those of cdl_cu_open. */
CUDDLE_CHECK cuddle_status cdl_device_count(uint32_t *out);
/* Facts of GPU index, without opening it. ARG when there is none. */
CUDDLE_CHECK cuddle_status cdl_device_describe(cdl_device_facts *out, uint32_t index);

typedef struct cdl_device cdl_device;

/* Errors: those of cdl_cu_open; ARG (no such GPU); UNSUPPORTED (this build has no kernels for it). */
CUDDLE_CHECK cuddle_status cdl_device_open(cdl_device **out, uint32_t index);
/* Everything taken from it must have been given back. */
void cdl_device_close(cdl_device *d);
const cdl_device_facts *cdl_device_get_facts(const cdl_device *d);

/* ---- Memory (memory.c) ---- */

/* A block on the device, 256-byte aligned, not zeroed. what and remedy complete the error line:
 * "<what> needs N bytes of device memory, M are free of T on <name>; <remedy>". NOMEM. */
CUDDLE_CHECK cuddle_status cdl_device_alloc(cdl_cu_ptr *out, cdl_device *d, size_t bytes,
        const char *what, const char *remedy);
void cdl_device_free(cdl_device *d, cdl_cu_ptr p);   /* 0 is fine */

/* Host memory that the device copies from and to without waiting. */
CUDDLE_CHECK cuddle_status cdl_device_pinned(void **out, cdl_device *d, size_t bytes);
void cdl_device_pinned_free(cdl_device *d, void *p); /* NULL is fine */

/* ---- Streams and events (stream.c) ---- */

/* What was launched, for the line of a fault. */
typedef struct {
    const char *kernel, *node;   /* its name, the graph's node; NULL: nothing yet        */
    uint32_t rows, cols;         /* of its output                                        */
} cdl_launched;

typedef struct {
    cdl_device *device;
    cdl_cu_stream handle;
    cdl_launched last;
    bool sync;                   /* CUDDLE_SYNC=1                                        */
    bool capturing;
} cdl_stream;

CUDDLE_CHECK cuddle_status cdl_stream_open(cdl_stream *out, cdl_device *d);
void cdl_stream_close(cdl_stream *s);
CUDDLE_CHECK cuddle_status cdl_stream_wait(cdl_stream *s);

/* Without waiting; src and dst on the host are pinned. */
CUDDLE_CHECK cuddle_status cdl_stream_copy_up(cdl_stream *s, cdl_cu_ptr dst, const void *src, size_t n);
CUDDLE_CHECK cuddle_status cdl_stream_copy_down(cdl_stream *s, void *dst, cdl_cu_ptr src, size_t n);
CUDDLE_CHECK cuddle_status cdl_stream_copy_within(cdl_stream *s, cdl_cu_ptr dst, cdl_cu_ptr src, size_t n);
CUDDLE_CHECK cuddle_status cdl_stream_fill(cdl_stream *s, cdl_cu_ptr dst, uint8_t value, size_t n);

typedef struct {
    cdl_device *device;
    cdl_cu_event handle;
} cdl_event;

/* timed: cdl_event_ms can be asked. */
CUDDLE_CHECK cuddle_status cdl_event_open(cdl_event *out, cdl_device *d, bool timed);
void cdl_event_close(cdl_event *e);
CUDDLE_CHECK cuddle_status cdl_event_record(cdl_event *e, cdl_stream *s);
CUDDLE_CHECK cuddle_status cdl_event_wait(cdl_event *e);                         /* the host waits   */
CUDDLE_CHECK cuddle_status cdl_stream_wait_event(cdl_stream *s, cdl_event *e);   /* the stream waits */
CUDDLE_CHECK cuddle_status cdl_event_ms(float *out, cdl_event *from, cdl_event *to);

/* ---- Kernels (module.c) ---- */

/* A kernel that was loaded. waits: its code waits for the launch in front of it (cuda/common.cuh), so in a captured
 * step it begins before that has ended. Prompts' kernels do not: blocks that wait crowd some multiprocessors, and 512
 * tokens took 20 % longer. */
typedef struct {
    cdl_cu_function handle;
    bool waits;
} cdl_function;

/* The kernel `name` of the image `module` (a file of cuda/ without its suffix: "linear_8bit"),
 * loaded when first asked for: before the engine is open. UNSUPPORTED when no image fits this GPU. */
CUDDLE_CHECK cuddle_status cdl_device_function(cdl_function *out, cdl_device *d, const char *module,
        const char *name);

typedef struct {
    cdl_function function;
    const char *kernel, *node;   /* for errors: the kernel's name, the graph's node */
    uint32_t rows, cols;         /* of the output, for errors                       */
    uint32_t grid[3];
    uint32_t threads;
    uint32_t shared_bytes;       /* dynamic                                         */
    const void *args;            /* the kernel's one struct                         */
} cdl_launch;

/* args is read before it returns. With CUDDLE_SYNC=1 it waits for the kernel. A grid with a zero does nothing. */
CUDDLE_CHECK cuddle_status cdl_stream_launch(cdl_stream *s, const cdl_launch *l);
/* Lets a kernel take more than 48 KiB of dynamic shared memory; once, before its first launch. */
CUDDLE_CHECK cuddle_status cdl_device_allow_shared(cdl_device *d, const cdl_launch *l);

/* ---- Graphs: what a stream was told, as one launch (stream.c) ---- */

typedef struct {
    cdl_cu_graph_exec handle;
    cdl_launched last;
} cdl_capture;

CUDDLE_CHECK cuddle_status cdl_capture_begin(cdl_stream *s);
/* After a failure between begin and end: out is empty, the stream is usable again. */
CUDDLE_CHECK cuddle_status cdl_capture_end(cdl_capture *out, cdl_stream *s);
CUDDLE_CHECK cuddle_status cdl_capture_launch(const cdl_capture *c, cdl_stream *s);
void cdl_capture_free(cdl_capture *c, cdl_device *d);

/* ---- Uploads (upload.c): through a ring of pinned buffers, reading the next while the last ones travel ---- */

enum { CDL_UPLOAD_BYTES = 4 << 20, CDL_UPLOAD_BUFFERS = 3 };

typedef struct {
    cdl_stream stream;
    struct {
        uint8_t *data;
        cdl_event sent;
        bool busy;
    } buffer[CDL_UPLOAD_BUFFERS];
    uint32_t next;
} cdl_upload;

CUDDLE_CHECK cuddle_status cdl_upload_open(cdl_upload *out, cdl_device *d);
void cdl_upload_close(cdl_upload *u);
/* A buffer of CDL_UPLOAD_BYTES to fill; waits until its last contents are on the device. */
CUDDLE_CHECK cuddle_status cdl_upload_begin(cdl_upload *u, uint8_t **out);
/* Sends the first n bytes of the buffer that begin gave. */
CUDDLE_CHECK cuddle_status cdl_upload_send(cdl_upload *u, cdl_cu_ptr dst, size_t n);
/* Both, from any memory: a mapped file. */
CUDDLE_CHECK cuddle_status cdl_upload_copy(cdl_upload *u, cdl_cu_ptr dst, const void *src, size_t n);
/* Waits until all is there. */
CUDDLE_CHECK cuddle_status cdl_upload_finish(cdl_upload *u);

/* ---- Peers (memory.c) ---- */

/* Lets d read and write memory of `peer` directly; *out says whether the hardware can. */
CUDDLE_CHECK cuddle_status cdl_device_enable_peer(bool *out, cdl_device *d, cdl_device *peer);
/* Between devices, whether or not they are peers. */
CUDDLE_CHECK cuddle_status cdl_stream_copy_peer(cdl_stream *s, cdl_cu_ptr dst, cdl_device *to,
        cdl_cu_ptr src, cdl_device *from, size_t n);

#endif
