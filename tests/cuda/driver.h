/* driver.h - a CUDA driver for tests of kernels: opens CUDDLE_CUDA_LIBRARY, build/emulator/libcuda.so.1 or the
 * machine's own, loads build/cuda/<module>.ptx, allocates, launches. A failure ends the program with its message. */
#ifndef TEST_DRIVER_H
#define TEST_DRIVER_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t device_ptr;

static struct {
    int (*init)(unsigned), (*device_get)(int *, int), (*primary_retain)(void **, int), (*context_set)(void *);
    int (*attribute)(int *, int, int);
    int (*module_load)(void **, const void *), (*module_function)(void **, void *, const char *);
    int (*mem_alloc)(device_ptr *, size_t), (*copy_up)(device_ptr, const void *, size_t),
        (*copy_down)(void *, device_ptr, size_t);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
        void **);
    int (*synchronize)(void), (*function_set)(void *, int, int), (*mem_free)(device_ptr);
} driver;

static inline void driver_must(int result, const char *what)
{
    if (!result)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, result);
    exit(1);
}

static inline void *driver_symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (!p) {
        fprintf(stderr, "the CUDA library has no %s\n", name);
        exit(1);
    }
    return p;
}

/* False, with a line on stderr, when there is no driver. */
static inline int driver_open(void)
{
    const char *named = getenv("CUDDLE_CUDA_LIBRARY");
    void *h = dlopen(named ? named : "build/emulator/libcuda.so.1", RTLD_NOW), *context;
    int device;
    if (!h && !named)
        h = dlopen("libcuda.so.1", RTLD_NOW);
    if (!h) {
        fprintf(stderr, "no CUDA driver: %s\n", dlerror());
        return 0;
    }
#define GET(field, name) *(void **)&driver.field = driver_symbol(h, name)
    GET(init, "cuInit"); GET(device_get, "cuDeviceGet"); GET(primary_retain, "cuDevicePrimaryCtxRetain");
    GET(context_set, "cuCtxSetCurrent"); GET(attribute, "cuDeviceGetAttribute"); GET(module_load, "cuModuleLoadData");
    GET(module_function, "cuModuleGetFunction");
    GET(mem_alloc, "cuMemAlloc_v2"); GET(copy_up, "cuMemcpyHtoD_v2"); GET(copy_down, "cuMemcpyDtoH_v2");
    GET(launch, "cuLaunchKernel"); GET(synchronize, "cuCtxSynchronize"); GET(function_set, "cuFuncSetAttribute");
    GET(mem_free, "cuMemFree_v2");
#undef GET
    driver_must(driver.init(0), "cuInit");
    driver_must(driver.device_get(&device, 0), "cuDeviceGet");
    driver_must(driver.primary_retain(&context, device), "cuDevicePrimaryCtxRetain");
    driver_must(driver.context_set(context), "cuCtxSetCurrent");
    return 1;
}

/* A module of build/cuda, loaded once. */
static inline void *driver_module(const char *name)
{
    static struct { char name[64]; void *module; } loaded[64];
    int i = 0;
    while (loaded[i].module && strcmp(loaded[i].name, name))
        i++;
    if (loaded[i].module)
        return loaded[i].module;
    char path[96];
    snprintf(path, sizeof path, "build/cuda/%s.ptx", name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s is missing: run make cuda\n", path);
        exit(1);
    }
    static char text[16 << 20];
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    driver_must(driver.module_load(&loaded[i].module, text), path);
    snprintf(loaded[i].name, sizeof loaded[i].name, "%s", name);
    return loaded[i].module;
}

static device_ptr driver_owned[64];
static unsigned driver_n_owned;

/* Device memory until driver_free_all; filled from src when that is not null. */
static inline device_ptr driver_up(const void *src, size_t bytes)
{
    device_ptr p;
    driver_must(driver.mem_alloc(&p, bytes), "cuMemAlloc");
    if (src)
        driver_must(driver.copy_up(p, src, bytes), "cuMemcpyHtoD");
    return driver_owned[driver_n_owned++] = p;
}

static inline void driver_free_all(void)
{
    while (driver_n_owned)
        driver_must(driver.mem_free(driver_owned[--driver_n_owned]), "cuMemFree");
}

/* ---- What was launched, for coverage.h ---- */

enum { DRIVER_SHAPES = 3 };

typedef struct {
    char kernel[96];
    unsigned grid[DRIVER_SHAPES][3], shapes; /* the first grids that differ */
} driver_record;

static driver_record driver_records[1024];

static inline driver_record *driver_record_of(const char *kernel)
{
    driver_record *r = driver_records;
    while (r->kernel[0] && strcmp(r->kernel, kernel))
        r++;
    snprintf(r->kernel, sizeof r->kernel, "%s", kernel);
    return r;
}

static inline void driver_record_launch(const char *kernel, const unsigned grid[3])
{
    driver_record *r = driver_record_of(kernel);
    for (unsigned i = 0; i < r->shapes; i++)
        if (!memcmp(r->grid[i], grid, sizeof r->grid[i]))
            return;
    if (r->shapes < DRIVER_SHAPES)
        memcpy(r->grid[r->shapes++], grid, sizeof *r->grid);
}

/* The most shared memory of a block. */
static inline unsigned driver_shared(void)
{
    enum { SHARED_OPTIN = 97 };
    int bytes;
    driver_must(driver.attribute(&bytes, SHARED_OPTIN, 0), "cuDeviceGetAttribute");
    return (unsigned)bytes;
}

/* Whether products by wgmma run: on 9.0 alone. The virtual GPU says 9.0 unless it was told otherwise. */
static inline bool driver_has_wgmma(void)
{
    enum { MAJOR = 75, MINOR = 76 };
    int major, minor;
    setenv("CUDDLE_VGPU_CAPABILITY", "90", 0);
    driver_must(driver.attribute(&major, MAJOR, 0), "cuDeviceGetAttribute");
    driver_must(driver.attribute(&minor, MINOR, 0), "cuDeviceGetAttribute");
    return major == 9 && minor == 0;
}

static inline void driver_launch(const char *module, const char *kernel, unsigned x, unsigned y, unsigned z,
        unsigned threads,
        unsigned shared, void *args)
{
    void *f, *params[] = { args };
    driver_must(driver.module_function(&f, driver_module(module), kernel), kernel);
    if (shared > 48 << 10)
        driver_must(driver.function_set(f, 8, (int)shared), "cuFuncSetAttribute");
    driver_record_launch(kernel, (unsigned[]){ x, y, z });
    driver_must(driver.launch(f, x, y, z, threads, 1, 1, shared, NULL, params, NULL), kernel);
    driver_must(driver.synchronize(), kernel);
}

#endif
