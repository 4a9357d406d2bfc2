/* cuda_stub.c - a CUDA driver that does nothing but fail as told; tests/unit/test_device.c builds it.
 *
 * STUB_VERSION (default 13000), STUB_GPUS (1), STUB_FREE (bytes, 1 MiB), STUB_FAULT (what a wait
 * returns once a kernel was launched), STUB_IMAGE (what loading a module returns). Memory is the host's. */
#include <stdlib.h>
#include <string.h>

#include "device/cuda_driver.h"

#define X(field, name, parameters) int stub_##field parameters __asm__(name);
CDL_CU_TABLE(X)
#undef X

static size_t used;
static int launched;

static long setting(const char *name, long fallback)
{
    const char *v = getenv(name);
    return v && *v ? atol(v) : fallback;
}

int stub_init(unsigned flags) { (void)flags; return setting("STUB_GPUS", 1) ? 0 : CDL_CU_NO_DEVICE; }
int stub_driver_version(int *v) { *v = (int)setting("STUB_VERSION", 13000); return 0; }
int stub_error_name(int e, const char **out)
{
    *out = e == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
    return 0;
}
int stub_error_string(int e, const char **out) { (void)e; *out = "as told"; return 0; }
int stub_device_count(int *n) { *n = (int)setting("STUB_GPUS", 1); return 0; }
int stub_device_get(cdl_cu_device *out, int i) { *out = i; return 0; }
int stub_device_name(char *name, int n, cdl_cu_device d) { (void)d; strncpy(name, "Stub", (size_t)n); return 0; }
int stub_device_bytes(size_t *n, cdl_cu_device d) { (void)d; *n = 2 << 20; return 0; }
int stub_device_attribute(int *out, int which, cdl_cu_device d)
{
    (void)d;
    *out = which == CDL_CU_ATTRIBUTE_CAPABILITY_MAJOR ? (int)setting("STUB_MAJOR", 8)
        : which == CDL_CU_ATTRIBUTE_CAPABILITY_MINOR ? 6 : 65536;
    return 0;
}
int stub_device_can_peer(int *out, cdl_cu_device d, cdl_cu_device p) { *out = d != p; return 0; }
int stub_primary_retain(cdl_cu_context *out, cdl_cu_device d) { *out = (cdl_cu_context)(uintptr_t)(d + 1); return 0; }
int stub_primary_release(cdl_cu_device d) { (void)d; launched = 0; return 0; }
int stub_context_set(cdl_cu_context c) { (void)c; return 0; }
int stub_context_peer(cdl_cu_context c, unsigned f) { (void)c; (void)f; return 0; }
int stub_mem_info(size_t *left, size_t *total)
{
    *total = 2 << 20;
    *left = (size_t)setting("STUB_FREE", 1 << 20) - used;
    return 0;
}
int stub_mem_alloc(cdl_cu_ptr *out, size_t n)
{
    if (used + n > (size_t)setting("STUB_FREE", 1 << 20))
        return CDL_CU_OUT_OF_MEMORY;
    size_t *p = malloc(n + 16);
    *p = n;
    used += n;
    *out = (cdl_cu_ptr)(uintptr_t)(p + 2);
    return 0;
}
int stub_mem_free(cdl_cu_ptr p)
{
    size_t *block = (size_t *)(uintptr_t)p - 2;
    used -= *block;
    free(block);
    return 0;
}
int stub_host_alloc(void **out, size_t n, unsigned f)
{
    (void)f;
    *out = malloc(n);
    return *out ? 0 : CDL_CU_OUT_OF_MEMORY;
}
int stub_host_free(void *p) { free(p); return 0; }
int stub_copy_up(cdl_cu_ptr d, const void *s, size_t n, cdl_cu_stream t)
{
    (void)t;
    memcpy((void *)(uintptr_t)d, s, n);
    return 0;
}
int stub_copy_down(void *d, cdl_cu_ptr s, size_t n, cdl_cu_stream t)
{
    (void)t;
    memcpy(d, (void *)(uintptr_t)s, n);
    return 0;
}
int stub_copy_within(cdl_cu_ptr d, cdl_cu_ptr s, size_t n, cdl_cu_stream t)
{
    return stub_copy_up(d, (void *)(uintptr_t)s, n, t);
}
int stub_copy_peer(cdl_cu_ptr d, cdl_cu_context to, cdl_cu_ptr s, cdl_cu_context from, size_t n, cdl_cu_stream t)
{
    (void)to;
    (void)from;
    return stub_copy_within(d, s, n, t);
}
int stub_set_bytes(cdl_cu_ptr d, unsigned char v, size_t n, cdl_cu_stream t)
{
    (void)t;
    memset((void *)(uintptr_t)d, v, n);
    return 0;
}
int stub_stream_create(cdl_cu_stream *out, unsigned f) { (void)f; *out = malloc(1); return 0; }
int stub_stream_destroy(cdl_cu_stream s) { free(s); return 0; }
int stub_stream_wait(cdl_cu_stream s) { (void)s; return launched ? (int)setting("STUB_FAULT", 0) : 0; }
int stub_stream_wait_event(cdl_cu_stream s, cdl_cu_event e, unsigned f) { (void)s; (void)e; (void)f; return 0; }
int stub_event_create(cdl_cu_event *out, unsigned f) { (void)f; *out = malloc(1); return 0; }
int stub_event_destroy(cdl_cu_event e) { free(e); return 0; }
int stub_event_record(cdl_cu_event e, cdl_cu_stream s) { (void)e; (void)s; return 0; }
int stub_event_wait(cdl_cu_event e) { (void)e; return 0; }
int stub_event_elapsed(float *ms, cdl_cu_event a, cdl_cu_event b) { (void)a; (void)b; *ms = 1; return 0; }
int stub_module_load(cdl_cu_module *out, const void *image, unsigned n, int *options, void **values)
{
    (void)image;
    (void)n;
    (void)options;
    (void)values;
    *out = (cdl_cu_module)&used;
    return (int)setting("STUB_IMAGE", 0);
}
int stub_module_unload(cdl_cu_module m) { (void)m; return 0; }
int stub_module_function(cdl_cu_function *out, cdl_cu_module m, const char *n)
{
    (void)m;
    (void)n;
    *out = (cdl_cu_function)&used;
    return 0;
}
int stub_function_set(cdl_cu_function f, int a, int v) { (void)f; (void)a; (void)v; return 0; }
int stub_launch(const cdl_cu_launch *l, cdl_cu_function f, void **args, void **extra)
{
    (void)l, (void)f, (void)args, (void)extra;
    launched = 1;
    return 0;
}
int stub_capture_begin(cdl_cu_stream s, int mode) { (void)s; (void)mode; return 0; }
int stub_capture_end(cdl_cu_stream s, cdl_cu_graph *out) { (void)s; *out = malloc(1); return 0; }
int stub_graph_instantiate(cdl_cu_graph_exec *out, cdl_cu_graph g, uint64_t f)
{
    (void)g;
    (void)f;
    *out = malloc(1);
    return 0;
}
int stub_graph_launch(cdl_cu_graph_exec g, cdl_cu_stream s) { (void)g; (void)s; launched = 1; return 0; }
int stub_graph_destroy(cdl_cu_graph g) { free(g); return 0; }
int stub_graph_exec_destroy(cdl_cu_graph_exec g) { free(g); return 0; }
