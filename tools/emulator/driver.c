/* driver.c - the driver API of the virtual GPU: devices, contexts, memory, modules, launches. */
#include "driver.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(default)

pthread_mutex_t emu_lock;
static struct CUctx_st contexts[8];
static _Thread_local CUcontext current;
static int device_count;

__attribute__((constructor)) static void lock_open(void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&emu_lock, &a);
}

CUcontext emu_context_current(void) { return current; }
CUcontext emu_context_of(int device) { return &contexts[device]; }
void emu_mark_dead(emu_device *d, CUresult r) { contexts[d->index].dead = r; }

CUresult cuInit(unsigned flags)
{
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&emu_lock);
    device_count = emu_devices_open();
    for (int i = 0; i < device_count; i++)
        contexts[i].device = emu_device_get(i);
    pthread_mutex_unlock(&emu_lock);
    return device_count ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    *count = device_count;
    return device_count ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuDeviceGet(CUdevice *d, int ordinal)
{
    *d = ordinal;
    return ordinal >= 0 && ordinal < device_count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice d)
{
    if (d < 0 || d >= device_count || len < 1)
        return CUDA_ERROR_INVALID_DEVICE;
    const char *other = getenv("CUDDLE_VGPU_NAME");
    snprintf(name, (size_t)len, "%s", other ? other : "cuddle virtual GPU");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice d)
{
    emu_device *dev = emu_device_get(d);
    if (!dev)
        return CUDA_ERROR_INVALID_DEVICE;
    *bytes = dev->limit;
    return CUDA_SUCCESS;
}

static int capability(void)
{
    const char *text = getenv("CUDDLE_VGPU_CAPABILITY");
    int n = text ? atoi(text) : 80;
    return n < 80 ? 80 : n;
}

/* The most that a block may have: an A100's, an H100's. */
static int shared_bytes_max(void)
{
    return (capability() < 90 ? 163 : 227) << 10;
}

/* The figures of an A100, where it has a figure. */
CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute a, CUdevice d)
{
    if (d < 0 || d >= device_count)
        return CUDA_ERROR_INVALID_DEVICE;
    switch (a) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *out = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *out = 64; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *out = 0x7fffffff; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *out = 65535; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *out = 49152; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *out = shared_bytes_max(); break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *out = shared_bytes_max() + 1024; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *out = LANES; break;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *out = 65536; break;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *out = 1410000; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *out = 108; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *out = 1215000; break;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *out = 5120; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *out = 41943040; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *out = 2048; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *out = capability() / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *out = capability() % 10; break;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *out = 1; break;
    default: *out = 0; break;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice d)
{
    if (d < 0 || d >= device_count)
        return CUDA_ERROR_INVALID_DEVICE;
    pthread_mutex_lock(&emu_lock);
    contexts[d].retained++;
    *out = &contexts[d];
    pthread_mutex_unlock(&emu_lock);
    return CUDA_SUCCESS;
}

/* The last release clears a fault, as the reset of a primary context does. */
CUresult cuDevicePrimaryCtxRelease(CUdevice d)
{
    if (d < 0 || d >= device_count || !contexts[d].retained)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&emu_lock);
    emu_flush_all();
    if (!--contexts[d].retained)
        contexts[d].dead = CUDA_SUCCESS;
    pthread_mutex_unlock(&emu_lock);
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext c)
{
    current = c;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *c)
{
    *c = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *d)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *d = current->device->index;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
    ENTER();
    result = emu_flush_all();
    result = result ? result : ctx->dead;
    LEAVE();
}

CUresult cuDeviceCanAccessPeer(int *out, CUdevice d, CUdevice peer)
{
    *out = d != peer && d >= 0 && peer >= 0 && d < device_count && peer < device_count;
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags)
{
    ENTER();
    if (!peer || flags || peer == ctx)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (ctx->device->peer[peer->device->index])
        result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    else
        ctx->device->peer[peer->device->index] = true;
    LEAVE();
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
    ENTER();
    ctx->device->peer[peer->device->index] = false;
    LEAVE();
}

/* ---- memory ---- */
CUresult cuMemGetInfo(size_t *free_bytes, size_t *total)
{
    ENTER();
    *total = ctx->device->limit;
    *free_bytes = ctx->device->limit - ctx->device->used;
    LEAVE();
}

CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes)
{
    ENTER();
    *p = bytes ? emu_alloc(ctx->device, bytes) : 0;
    result = !bytes ? CUDA_ERROR_INVALID_VALUE : *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    LEAVE();
}

CUresult cuMemFree(CUdeviceptr p)
{
    ENTER();
    result = emu_flush_all();
    emu_device *d = emu_device_of(p);
    if (p && (!d || !emu_free(d, p)))
        result = CUDA_ERROR_INVALID_VALUE;
    LEAVE();
}

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAllocHost(void **p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

CUresult cuMemFreeHost(void *p)
{
    pthread_mutex_lock(&emu_lock);
    CUresult r = emu_flush_all();
    free(p);
    pthread_mutex_unlock(&emu_lock);
    return r;
}

static CUresult copy(CUstream s, void *dst, const void *src, size_t n, bool down, bool wait)
{
    ENTER();
    bool dst_ok = down || emu_range_allocated((uint64_t)dst, n), up = !emu_device_of((uint64_t)src);
    if (n && (!dst_ok || ((down || !up) && !emu_range_allocated((uint64_t)src, n)))) {
        result = CUDA_ERROR_INVALID_VALUE;
        goto out;
    }
    if (n)
        result = emu_enqueue(s, &(work){.kind = WORK_COPY, .dst = dst, .src = src, .bytes = n});
    if (!result && wait)
        result = cuStreamSynchronize(s);
    LEAVE();
}

CUresult cuMemcpyHtoD(CUdeviceptr dst, const void *src, size_t n)
{
    return copy(NULL, (void *)dst, src, n, false, true);
}
CUresult cuMemcpyDtoH(void *dst, CUdeviceptr src, size_t n) { return copy(NULL, dst, (void *)src, n, true, true); }
CUresult cuMemcpyDtoD(CUdeviceptr dst, CUdeviceptr src, size_t n)
{
    return copy(NULL, (void *)dst, (void *)src, n, false, true);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream s)
{
    return copy(s, (void *)dst, src, n, false, false);
}
CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream s)
{
    return copy(s, dst, (void *)src, n, true, false);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s)
{
    return copy(s, (void *)dst, (void *)src, n, false, false);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t n, CUstream s)
{
    (void)to;
    (void)from;
    return copy(s, (void *)dst, (void *)src, n, false, false);
}

static CUresult fill(CUstream s, CUdeviceptr dst, uint32_t value, uint32_t width, size_t n)
{
    ENTER();
    if (n && (dst % width || !emu_range_allocated(dst, n * width)))
        result = CUDA_ERROR_INVALID_VALUE;
    else if (n)
        result = emu_enqueue(s, &(work){.kind = WORK_FILL, .dst = (void *)dst, .value = value, .width = width,
                                        .bytes = n});
    LEAVE();
}

CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, CUstream s) { return fill(s, p, v, 1, n); }
CUresult cuMemsetD16Async(CUdeviceptr p, unsigned short v, size_t n, CUstream s) { return fill(s, p, v, 2, n); }
CUresult cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, CUstream s) { return fill(s, p, v, 4, n); }
CUresult cuMemsetD8(CUdeviceptr p, unsigned char v, size_t n) { return fill(NULL, p, v, 1, n); }
CUresult cuMemsetD32(CUdeviceptr p, unsigned v, size_t n) { return fill(NULL, p, v, 4, n); }

/* Not of the driver: for stand-ins of libraries, whose work touches memory as a kernel would. */
CUresult cuddleVgpuTouch(CUdeviceptr p, size_t bytes, int write);
CUresult cuddleVgpuTouch(CUdeviceptr p, size_t bytes, int write)
{
    emu_device *d = emu_device_of(p);
    bool there = emu_range_allocated(p, bytes), known = there && (write || emu_is_written(p, bytes));
    if (known) {
        if (write)
            emu_mark_written(p, bytes);
        return CUDA_SUCCESS;
    }
    fprintf(stderr, "vgpu: a library %s %zu bytes at 0x%llx, %s\n", write ? "writes" : "reads", bytes,
            (unsigned long long)p, there ? "which nobody wrote" : "out of bounds");
    if (d)
        emu_mark_dead(d, CUDA_ERROR_ILLEGAL_ADDRESS);
    return CUDA_ERROR_ILLEGAL_ADDRESS;
}

/* ---- modules ---- */
static void log_write(unsigned n, CUjit_option *options, void **values, const char *text)
{
    char *log = NULL;
    size_t size = 0;
    for (unsigned i = 0; i < n; i++) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
            log = values[i];
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            size = (size_t)values[i];
    }
    if (log && size)
        snprintf(log, size, "%s", text);
}

CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned n, CUjit_option *options, void **values)
{
    char err[512];
    ENTER();
    if (!memcmp(image, "\177ELF", 4)) {
        result = CUDA_ERROR_NO_BINARY_FOR_GPU;
        goto out;
    }
    *out = (CUmodule)emu_module_new(ctx->device, image, err, sizeof err);
    if (!*out) {
        fprintf(stderr, "vgpu: %s\n", err);
        log_write(n, options, values, err);
        result = CUDA_ERROR_INVALID_PTX;
    }
    LEAVE();
}

CUresult cuModuleLoadData(CUmodule *out, const void *image) { return cuModuleLoadDataEx(out, image, 0, NULL, NULL); }

CUresult cuModuleUnload(CUmodule m)
{
    ENTER();
    result = emu_flush_all();
    emu_module_free((emu_module *)m);
    LEAVE();
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule m, const char *name)
{
    ENTER();
    *out = (CUfunction)emu_module_kernel((emu_module *)m, name);
    result = *out ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
    LEAVE();
}

CUresult cuModuleGetGlobal(CUdeviceptr *p, size_t *bytes, CUmodule m, const char *name)
{
    uint64_t at = 0;
    size_t n = 0;
    ENTER();
    result = emu_module_global((emu_module *)m, name, &at, &n) ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
    if (p)
        *p = at;
    if (bytes)
        *bytes = n;
    LEAVE();
}

CUresult cuFuncGetAttribute(int *out, CUfunction_attribute a, CUfunction f)
{
    const emu_kernel *k = (const emu_kernel *)f;
    switch (a) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *out = (int)k->threads_max; break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *out = (int)k->shared_bytes; break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *out = (int)k->local_bytes; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *out = k->dynamic_shared_max < 0 ? 49152 - (int)k->shared_bytes : k->dynamic_shared_max;
        break;
    default: *out = 0; break;
    }
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int value)
{
    emu_kernel *k = (emu_kernel *)f;
    if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return CUDA_SUCCESS;
    if (value < 0 || value + (int)k->shared_bytes > shared_bytes_max())
        return CUDA_ERROR_INVALID_VALUE;
    k->dynamic_shared_max = value;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, CUfunction f, int threads, size_t shared)
{
    const emu_kernel *k = (const emu_kernel *)f;
    if (threads < 1 || threads > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    int by_threads = 2048 / ((threads + 31) / 32 * 32);
    int by_shared = (shared_bytes_max() + 1024) / (int)(k->shared_bytes + shared + 1024);
    *out = by_threads < by_shared ? by_threads : by_shared;
    return CUDA_SUCCESS;
}

/* ---- launches ---- */
static CUresult launch_check(const emu_launch *l)
{
    const emu_kernel *k = l->kernel;
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    uint32_t limit = k->dynamic_shared_max < 0 ? 49152 - k->shared_bytes : (uint32_t)k->dynamic_shared_max;
    const char *what = NULL;
    if (!threads || threads > k->threads_max || l->block[2] > 64)
        what = "threads of a block";
    else if (!l->grid[0] || !l->grid[1] || !l->grid[2] || l->grid[0] > 0x7fffffff || l->grid[1] > 65535
             || l->grid[2] > 65535)
        what = "size of the grid";
    else if (k->shared_bytes > 49152 || l->dynamic_shared > limit)
        what = "shared memory";
    if (!what)
        return CUDA_SUCCESS;
    fprintf(stderr, "vgpu: %s: launch refused: %s (grid %u,%u,%u block %u,%u,%u, %u + %u bytes of shared memory)\n",
            k->name, what, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2],
            k->shared_bytes, l->dynamic_shared);
    return CUDA_ERROR_INVALID_VALUE;
}

static bool params_copy(emu_launch *l, void **args, void **extra)
{
    const emu_kernel *k = l->kernel;
    l->params = calloc(1, k->param_bytes + 16);
    for (uint32_t p = 0; l->params && args && p < k->param_count; p++)
        memcpy(l->params + k->param[p].offset, args[p], k->param[p].size);
    for (; l->params && extra && *extra != CU_LAUNCH_PARAM_END; extra += 2)
        if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
            memcpy(l->params, extra[1], k->param_bytes);
    return l->params != NULL;
}

/* The one attribute that is known: the launch may begin early. */
static bool attributes_read(bool *early, const CUlaunchConfig *c)
{
    for (unsigned i = 0; i < c->numAttrs; i++) {
        if (c->attrs[i].id != CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
            return false;
        *early = c->attrs[i].value.programmaticStreamSerializationAllowed;
    }
    return true;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **args, void **extra)
{
    ENTER();
    work w = {.kind = WORK_LAUNCH};
    emu_launch *l = &w.launch;
    *l = (emu_launch){.kernel = (emu_kernel *)f, .device = ctx->device, .grid = {c->gridDimX, c->gridDimY, c->gridDimZ},
                      .block = {c->blockDimX, c->blockDimY, c->blockDimZ}, .dynamic_shared = c->sharedMemBytes};
    if (!f || !attributes_read(&l->early, c) || launch_check(l)) {
        result = CUDA_ERROR_INVALID_VALUE;
        goto out;
    }
    result = params_copy(l, args, extra) ? emu_enqueue(c->hStream, &w) : CUDA_ERROR_OUT_OF_MEMORY;
    LEAVE();
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream s, void **args, void **extra)
{
    CUlaunchConfig c = {.gridDimX = gx, .gridDimY = gy, .gridDimZ = gz, .blockDimX = bx, .blockDimY = by,
                        .blockDimZ = bz, .sharedMemBytes = shared, .hStream = s};
    return cuLaunchKernelEx(&c, f, args, extra);
}

/* ---- names ---- */
static const struct {
    CUresult code;
    const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is enabled"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_ERROR_ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {CUDA_ERROR_LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
};

static CUresult error_text(CUresult e, const char **out, bool name)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (errors[i].code == e) {
            *out = name ? errors[i].name : errors[i].text;
            return CUDA_SUCCESS;
        }
    }
    *out = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult e, const char **out) { return error_text(e, out, true); }
CUresult cuGetErrorString(CUresult e, const char **out) { return error_text(e, out, false); }

/* The newest version of the name that this library has. */
CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status)
{
    Dl_info self;
    char name[256];
    (void)version;
    (void)flags;
    *pfn = NULL;
    void *lib = dladdr((void *)cuInit, &self) ? dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
    for (int v = 3; lib && !*pfn && v > 0; v--) {
        snprintf(name, sizeof name, v > 1 ? "%s_v%d" : "%s", symbol, v);
        *pfn = dlsym(lib, name);
    }
    if (lib)
        dlclose(lib);
    if (status)
        *status = *pfn ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *pfn ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
#pragma GCC visibility pop
