/* virtual.h - engines on a GPU for tests: the one that CUDDLE_CUDA_LIBRARY names, else the virtual one, with all of
 * its checks. A report of a check is an error of the step, so that MUST fails. */
#ifndef TEST_VIRTUAL_H
#define TEST_VIRTUAL_H

#include <math.h>

#include "../model/cases.h"

static inline bool virtual_is(void)
{
    return strstr(getenv("CUDDLE_CUDA_LIBRARY"), "emulator") != NULL;
}

/* Before anything opens the driver. */
static inline void virtual_use(void)
{
    setenv("CUDDLE_CUDA_LIBRARY", "build/emulator/libcuda.so.1", 0);
    setenv("CUDDLE_VGPU_CHECKS", "all", 0);
    if (virtual_is())
        setenv("CUDDLE_CUBLASLT_LIBRARY", "build/emulator/libcublasLt.so.13", 0);
}

/* The greatest difference of n logits; NaN if there is one. */
static inline double virtual_error(const float *x, const float *y, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)x[i] - (double)y[i]);
        most = e <= most ? most : e; /* a NaN sticks */
    }
    return most;
}

/* Options of an engine on the GPU, or of the plain twin in the same type. */
static inline cuddle_engine_opts virtual_options(const char *dtype)
{
    cuddle_engine_opts o = cases_options();
    o.device = "cuda";
    o.state_dtype = dtype;
    return o;
}

static inline cuddle_engine_opts twin_options(const char *dtype)
{
    cuddle_engine_opts o = cases_options();
    o.cpu = !strcmp(dtype, "f16") ? "ref-f16" : "ref-bf16";
    o.state_dtype = "f32";
    return o;
}

#endif
