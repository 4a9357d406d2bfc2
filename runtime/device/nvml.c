#include "device/nvml.h"

#include <dlfcn.h>
#include <stdio.h>

typedef struct nvmlDevice_st *gpu;

/* Enumerations of nvml.h */
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2 };

#define FUNCTIONS(X)                                                     \
    X(init, "nvmlInit_v2", (void))                                       \
    X(shutdown, "nvmlShutdown", (void))                                  \
    X(driver, "nvmlSystemGetDriverVersion", (char *out, unsigned n))     \
    X(find, "nvmlDeviceGetHandleByPciBusId_v2", (const char *id, gpu *out)) \
    X(clock, "nvmlDeviceGetClockInfo", (gpu g, int which, unsigned *mhz)) \
    X(clock_max, "nvmlDeviceGetMaxClockInfo", (gpu g, int which, unsigned *mhz)) \
    X(power_limit, "nvmlDeviceGetEnforcedPowerLimit", (gpu g, unsigned *mw)) \
    X(ecc, "nvmlDeviceGetEccMode", (gpu g, unsigned *now, unsigned *later))

typedef struct {
#define X(field, name, parameters) int (*field) parameters;
    FUNCTIONS(X)
#undef X
} table;

static cuddle_status load(table *t, void *library, const char *path)
{
#define X(field, name, parameters)                                                                   \
    *(void **)&t->field = dlsym(library, name);                                                      \
    if (!t->field)                                                                                   \
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s has no %s", path, name);
    FUNCTIONS(X)
#undef X
    return CUDDLE_OK;
}

static uint32_t clock_of(int (*ask)(gpu, int, unsigned *), gpu g, int which)
{
    unsigned mhz = 0;
    return ask(g, which, &mhz) ? 0 : mhz;
}

static cuddle_status read_facts(cdl_nvml_facts *out, const table *t, const cdl_device_facts *f)
{
    char id[32];
    gpu g;
    unsigned now = 0, later;
    snprintf(id, sizeof id, "%08x:%02x:%02x.0", f->pci_domain, f->pci_bus, f->pci_device);
    if (t->find(id, &g))
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "NVML knows no GPU at %s", id);
    if (t->driver(out->driver, sizeof out->driver - 1))
        out->driver[0] = '\0';
    out->clock_mhz = clock_of(t->clock, g, CLOCK_SM);
    out->clock_max_mhz = clock_of(t->clock_max, g, CLOCK_SM);
    out->memory_clock_mhz = clock_of(t->clock, g, CLOCK_MEMORY);
    out->memory_clock_max_mhz = clock_of(t->clock_max, g, CLOCK_MEMORY);
    if (t->power_limit(g, &out->power_limit_mw))
        out->power_limit_mw = 0;
    out->ecc = t->ecc(g, &now, &later) ? -1 : now != 0;
    return CUDDLE_OK;
}

cuddle_status cdl_nvml_read(cdl_nvml_facts *out, const cdl_device_facts *f, const char *library)
{
    const char *path = library ? library : "libnvidia-ml.so.1";
    table t;
    *out = (cdl_nvml_facts){ .ecc = -1 };
    void *l = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "there is no %s", path);
    cuddle_status st = load(&t, l, path);
    int r = st == CUDDLE_OK ? t.init() : 0;
    if (r)
        st = cdl_status_fail(CUDDLE_ERR_DEVICE, "%s does not start: error %d", path, r);
    if (st == CUDDLE_OK) {
        st = read_facts(out, &t, f);
        t.shutdown();
    }
    dlclose(l);
    return st;
}
