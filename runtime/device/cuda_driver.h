/* cuda_driver.h - the CUDA driver's functions that cuddle uses, opened when they are first needed.
 *
 * Declared here after cuda.h of CUDA 13.0, so that a build needs no toolkit. The names carry the
 * versions of that header's macros (cuMemAlloc_v2, ...). Only device/ calls them.
 * Tests: tests/unit/test_device.c
 */
#ifndef CDL_CUDA_DRIVER_H
#define CDL_CUDA_DRIVER_H

#include "base/status.h"

typedef int cdl_cu_device;
typedef uint64_t cdl_cu_ptr;             /* CUdeviceptr */
typedef struct CUctx_st *cdl_cu_context;
typedef struct CUmod_st *cdl_cu_module;
typedef struct CUfunc_st *cdl_cu_function;
typedef struct CUstream_st *cdl_cu_stream;
typedef struct CUevent_st *cdl_cu_event;
typedef struct CUgraph_st *cdl_cu_graph;
typedef struct CUgraphExec_st *cdl_cu_graph_exec;

/* CUlaunchAttribute, CUlaunchConfig */
typedef struct {
    int id;
    union {
        int programmatic_serialization;  /* of CDL_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION */
        uint64_t room[8];
    } value;
} cdl_cu_launch_attribute;

typedef struct {
    unsigned grid[3], block[3], shared_bytes;
    cdl_cu_stream stream;
    const cdl_cu_launch_attribute *attributes;
    unsigned n_attributes;
} cdl_cu_launch;

/* CUresult */
enum {
    CDL_CU_OK = 0,
    CDL_CU_INVALID_VALUE = 1,
    CDL_CU_OUT_OF_MEMORY = 2,
    CDL_CU_NO_DEVICE = 100,
    CDL_CU_INVALID_IMAGE = 200,
    CDL_CU_NO_BINARY_FOR_GPU = 209,
    CDL_CU_INVALID_PTX = 218,
    CDL_CU_UNSUPPORTED_PTX_VERSION = 222,
    CDL_CU_NOT_READY = 600,
    CDL_CU_PEER_ACCESS_ALREADY_ENABLED = 704
};

/* CUdevice_attribute, CUfunction_attribute, flags */
enum {
    CDL_CU_ATTRIBUTE_CLOCK_RATE = 13,               /* kHz  */
    CDL_CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CDL_CU_ATTRIBUTE_PCI_BUS = 33,
    CDL_CU_ATTRIBUTE_PCI_DEVICE = 34,
    CDL_CU_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,        /* kHz  */
    CDL_CU_ATTRIBUTE_MEMORY_BUS_WIDTH = 37,         /* bits */
    CDL_CU_ATTRIBUTE_L2_BYTES = 38,
    CDL_CU_ATTRIBUTE_PCI_DOMAIN = 50,
    CDL_CU_ATTRIBUTE_CAPABILITY_MAJOR = 75,
    CDL_CU_ATTRIBUTE_CAPABILITY_MINOR = 76,
    CDL_CU_ATTRIBUTE_SHARED_BYTES_OPTIN = 97,       /* of a block */
    CDL_CU_FUNCTION_DYNAMIC_SHARED_BYTES = 8,
    CDL_CU_STREAM_NON_BLOCKING = 1,
    CDL_CU_EVENT_DISABLE_TIMING = 2,
    CDL_CU_HOST_PORTABLE = 1,
    CDL_CU_CAPTURE_THREAD_LOCAL = 1,
    CDL_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6
};

/* X(field, exported name, parameters); all return CUresult. */
#define CDL_CU_TABLE(X)                                                                              \
    X(init,              "cuInit",                     (unsigned flags))                             \
    X(driver_version,    "cuDriverGetVersion",         (int *version))                               \
    X(error_name,        "cuGetErrorName",             (int error, const char **out))                \
    X(error_string,      "cuGetErrorString",           (int error, const char **out))                \
    X(device_count,      "cuDeviceGetCount",           (int *count))                                 \
    X(device_get,        "cuDeviceGet",                (cdl_cu_device *out, int ordinal))            \
    X(device_name,       "cuDeviceGetName",            (char *name, int len, cdl_cu_device d))       \
    X(device_bytes,      "cuDeviceTotalMem_v2",        (size_t *bytes, cdl_cu_device d))             \
    X(device_attribute,  "cuDeviceGetAttribute",       (int *out, int attribute, cdl_cu_device d))   \
    X(device_can_peer,   "cuDeviceCanAccessPeer",      (int *out, cdl_cu_device d, cdl_cu_device peer)) \
    X(primary_retain,    "cuDevicePrimaryCtxRetain",   (cdl_cu_context *out, cdl_cu_device d))       \
    X(primary_release,   "cuDevicePrimaryCtxRelease_v2", (cdl_cu_device d))                          \
    X(context_set,       "cuCtxSetCurrent",            (cdl_cu_context c))                           \
    X(context_peer,      "cuCtxEnablePeerAccess",      (cdl_cu_context peer, unsigned flags))        \
    X(mem_info,          "cuMemGetInfo_v2",            (size_t *free, size_t *total))                \
    X(mem_alloc,         "cuMemAlloc_v2",              (cdl_cu_ptr *out, size_t bytes))              \
    X(mem_free,          "cuMemFree_v2",               (cdl_cu_ptr p))                               \
    X(host_alloc,        "cuMemHostAlloc",             (void **out, size_t bytes, unsigned flags))   \
    X(host_free,         "cuMemFreeHost",              (void *p))                                    \
    X(copy_up,           "cuMemcpyHtoDAsync_v2",       (cdl_cu_ptr dst, const void *src, size_t n, cdl_cu_stream s)) \
    X(copy_down,         "cuMemcpyDtoHAsync_v2",       (void *dst, cdl_cu_ptr src, size_t n, cdl_cu_stream s)) \
    X(copy_within,       "cuMemcpyDtoDAsync_v2",       (cdl_cu_ptr dst, cdl_cu_ptr src, size_t n, cdl_cu_stream s)) \
    X(copy_peer,         "cuMemcpyPeerAsync",          (cdl_cu_ptr dst, cdl_cu_context to, cdl_cu_ptr src, \
                                                        cdl_cu_context from, size_t n, cdl_cu_stream s)) \
    X(set_bytes,         "cuMemsetD8Async",            (cdl_cu_ptr dst, unsigned char v, size_t n, cdl_cu_stream s)) \
    X(stream_create,     "cuStreamCreate",             (cdl_cu_stream *out, unsigned flags))         \
    X(stream_destroy,    "cuStreamDestroy_v2",         (cdl_cu_stream s))                            \
    X(stream_wait,       "cuStreamSynchronize",        (cdl_cu_stream s))                            \
    X(stream_wait_event, "cuStreamWaitEvent",          (cdl_cu_stream s, cdl_cu_event e, unsigned flags)) \
    X(event_create,      "cuEventCreate",              (cdl_cu_event *out, unsigned flags))          \
    X(event_destroy,     "cuEventDestroy_v2",          (cdl_cu_event e))                             \
    X(event_record,      "cuEventRecord",              (cdl_cu_event e, cdl_cu_stream s))            \
    X(event_wait,        "cuEventSynchronize",         (cdl_cu_event e))                             \
    X(event_elapsed,     "cuEventElapsedTime",         (float *ms, cdl_cu_event from, cdl_cu_event to)) \
    X(module_load,       "cuModuleLoadDataEx",         (cdl_cu_module *out, const void *image, unsigned n, \
                                                        int *options, void **values))                \
    X(module_unload,     "cuModuleUnload",             (cdl_cu_module m))                            \
    X(module_function,   "cuModuleGetFunction",        (cdl_cu_function *out, cdl_cu_module m, const char *name)) \
    X(function_set,      "cuFuncSetAttribute",         (cdl_cu_function f, int attribute, int value)) \
    X(launch,            "cuLaunchKernelEx",           (const cdl_cu_launch *l, cdl_cu_function f, void **args, \
                                                        void **extra))                               \
    X(capture_begin,     "cuStreamBeginCapture_v2",    (cdl_cu_stream s, int mode))                  \
    X(capture_end,       "cuStreamEndCapture",         (cdl_cu_stream s, cdl_cu_graph *out))         \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", (cdl_cu_graph_exec *out, cdl_cu_graph g, uint64_t flags)) \
    X(graph_launch,      "cuGraphLaunch",              (cdl_cu_graph_exec g, cdl_cu_stream s))       \
    X(graph_destroy,     "cuGraphDestroy",             (cdl_cu_graph g))                             \
    X(graph_exec_destroy, "cuGraphExecDestroy",        (cdl_cu_graph_exec g))

typedef struct {
#define X(field, name, parameters) int (*field) parameters;
    CDL_CU_TABLE(X)
#undef X
    int version;             /* of CUDA that the driver speaks: 13000 is 13.0   */
    const char *path;        /* of the library                                  */
} cdl_cu;

/* The opened driver; the same pointer every time. CUDDLE_CUDA_LIBRARY names another library than libcuda.so.1;
 * a failed try is not remembered. Thread-safe.
 * Errors: NOTFOUND (no library: what was tried and why), UNSUPPORTED (not a driver, older than r580), DEVICE. */
CUDDLE_CHECK cuddle_status cdl_cu_open(const cdl_cu **out);

/* "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)". buf holds n bytes; returns it. */
const char *cdl_cu_explain(const cdl_cu *cu, int result, char *buf, size_t n);

#endif
