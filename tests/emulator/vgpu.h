/* vgpu.h - the virtual GPU for its own tests: the driver's functions by dlopen, kernels' PTX, mutations, one launch. */
#ifndef TEST_VGPU_H
#define TEST_VGPU_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cuda.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VGPU_KERNELS
#define VGPU_KERNELS "build/emulator/kernels.ptx"
#endif
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define FUNCTIONS(X) X(cuInit) X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease) X(cuCtxSetCurrent) \
    X(cuModuleLoadData) X(cuModuleGetFunction) X(cuModuleUnload) X(cuMemAlloc) X(cuMemFree) X(cuMemcpyHtoD) \
    X(cuMemcpyDtoH) X(cuMemcpyHtoDAsync) X(cuLaunchKernel) X(cuLaunchKernelEx) X(cuCtxSynchronize) X(cuStreamCreate) \
    X(cuStreamDestroy) X(cuStreamSynchronize) X(cuStreamWaitEvent) X(cuEventCreate) X(cuEventRecord) X(cuEventDestroy) \
    X(cuStreamBeginCapture) X(cuStreamEndCapture) X(cuGraphInstantiateWithFlags) X(cuGraphLaunch) X(cuGraphDestroy) \
    X(cuGraphExecDestroy) X(cuMemsetD32Async) X(cuCtxEnablePeerAccess) X(cuCtxDisablePeerAccess) X(cuMemcpyPeerAsync) \
    X(cuDeviceGetCount)
#define DECLARE(f) static __typeof__(&f) p_##f;
FUNCTIONS(DECLARE)

static char *ptx;
static CUcontext context;

static inline void check(CUresult r) { assert_int_equal(r, CUDA_SUCCESS); }

static inline int open_library(void **state)
{
    (void)state;
    setenv("CUDDLE_VGPU_CHECKS", "all", 0);
    setenv("CUDDLE_VGPU_DEVICES", "2", 0);
    void *lib = dlopen("build/emulator/libcuda.so.1", RTLD_NOW);
    assert_non_null(lib);
#define RESOLVE(f) p_##f = (__typeof__(&f))dlsym(lib, TEXT(f)); assert_non_null(p_##f);
    FUNCTIONS(RESOLVE)
    FILE *f = fopen(VGPU_KERNELS, "rb");
    assert_non_null(f);
    ptx = calloc(1, 1 << 20);
    assert_true(fread(ptx, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    check(p_cuInit(0));
    return 0;
}

static inline int context_open(void **state)
{
    (void)state;
    check(p_cuDevicePrimaryCtxRetain(&context, 0));
    check(p_cuCtxSetCurrent(context));
    return 0;
}

static inline int context_close(void **state)
{
    (void)state;
    check(p_cuDevicePrimaryCtxRelease(0));
    return 0;
}

static inline CUdeviceptr upload(const void *data, size_t n)
{
    CUdeviceptr p;
    check(p_cuMemAlloc(&p, n));
    if (data)
        check(p_cuMemcpyHtoD(p, data, n));
    return p;
}

/* A copy of the text in which the n-th `from` behind the kernel's name is `to`. */
static inline char *mutated(const char *kernel, const char *from, const char *to, int n)
{
    char name[64];
    snprintf(name, sizeof name, ".entry %s(", kernel);
    char *at = strstr(ptx, name), *text = malloc(strlen(ptx) + strlen(to) + 1);
    assert_non_null(at);
    for (int i = 0; i <= n; i++) {
        at = strstr(at + 1, from);
        assert_non_null(at);
    }
    sprintf(text, "%.*s%s%s", (int)(at - ptx), ptx, to, at + strlen(from));
    return text;
}

/* Runs the kernel of the text; the first error of load, launch and wait. */
static inline CUresult run(const char *text, const char *name, unsigned grid, unsigned block, void **args)
{
    CUmodule m;
    CUfunction f;
    CUresult r = p_cuModuleLoadData(&m, text);
    if (r)
        return r;
    check(p_cuModuleGetFunction(&f, m, name));
    r = p_cuLaunchKernel(f, grid, 1, 1, block, 1, 1, 0, NULL, args, NULL);
    if (!r)
        r = p_cuCtxSynchronize();
    p_cuModuleUnload(m);
    return r;
}

#endif
