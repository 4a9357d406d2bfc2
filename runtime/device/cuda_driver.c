#define _GNU_SOURCE
#include "device/cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"

/* CUDA 13.0, which driver r580 brought: older ones cannot read what this nvcc emits. */
enum { VERSION_LEAST = 13000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cdl_cu driver;
static char driver_path[512];
static void *library; /* stays open: threads of the driver may outlive any owner */

static cuddle_status find_functions(cdl_cu *cu, void *from, const char *path)
{
#define X(field, name, parameters)                                                                          \
    *(void **)&cu->field = dlsym(from, name);                                                               \
    if (!cu->field)                                                                                         \
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s has no %s: it is no CUDA driver, or one older than " \
                "r580; update the NVIDIA driver", path, name);
    CDL_CU_TABLE(X)
#undef X
    return CUDDLE_OK;
}

static cuddle_status start(cdl_cu *cu, const char *path)
{
    char why[256];
    if (cu->driver_version(&cu->version) != CDL_CU_OK)
        cu->version = 0;
    if (cu->version < VERSION_LEAST)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s speaks CUDA %d.%d; cuddle needs 13.0 or later: "
                "update the NVIDIA driver to r580 or later", path, cu->version / 1000, cu->version % 1000 / 10);
    int r = cu->init(0);
    if (r == CDL_CU_NO_DEVICE)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s is there, but finds no NVIDIA GPU; use --device cpu", path);
    if (r != CDL_CU_OK)
        return cdl_status_fail(CUDDLE_ERR_DEVICE,
                "%s does not start: %s; is the NVIDIA kernel module loaded (nvidia-smi)?",
                path, cdl_cu_explain(cu, r, why, sizeof why));
    return CUDDLE_OK;
}

static cuddle_status open_library(const char *path)
{
    void *from = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!from) {
        const char *why = dlerror();
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND,
                "no CUDA driver: tried %s (%s); install the NVIDIA driver r580 or later, "
                "or name its library in CUDDLE_CUDA_LIBRARY", path, why ? why : "unknown reason");
    }
    cdl_cu cu = { 0 };
    cuddle_status st = find_functions(&cu, from, path);
    if (st == CUDDLE_OK)
        st = start(&cu, path);
    if (st != CUDDLE_OK) {
        dlclose(from);
        return st;
    }
    snprintf(driver_path, sizeof driver_path, "%s", path);
    cu.path = driver_path;
    driver = cu;
    library = from;
    return CUDDLE_OK;
}

cuddle_status cdl_cu_open(const cdl_cu **out)
{
    *out = NULL;
    pthread_mutex_lock(&lock);
    const char *path = cdl_env_get(CDL_ENV_CUDDLE_CUDA_LIBRARY);
    cuddle_status st = library ? CUDDLE_OK : open_library(path ? path : "libcuda.so.1");
    pthread_mutex_unlock(&lock);
    if (st == CUDDLE_OK)
        *out = &driver;
    return st;
}

const char *cdl_cu_explain(const cdl_cu *cu, int result, char *buf, size_t n)
{
    const char *name = NULL, *text = NULL;
    if (cu->error_name(result, &name) != CDL_CU_OK || !name)
        name = "CUresult";
    if (cu->error_string(result, &text) != CDL_CU_OK || !text)
        text = "no description";
    snprintf(buf, n, "%s %d (%s)", name, result, text);
    return buf;
}
