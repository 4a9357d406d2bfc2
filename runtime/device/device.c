#include "device/device_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* ---- Errors ---- */

/* Errors after which the driver refuses everything in the context. */
static bool ends_context(int result)
{
    enum { ECC = 214, NVLINK = 220, FAULTS = 700, FAULTS_END = 720, RESOURCES = 701, UNKNOWN = 999 };
    if (result == RESOURCES || result == CDL_CU_PEER_ACCESS_ALREADY_ENABLED)
        return false;
    return result == ECC || result == NVLINK || result == UNKNOWN || (result >= FAULTS && result < FAULTS_END);
}

cuddle_status cdl_device_check(cdl_device *d, int result, const char *doing)
{
    char why[256];
    if (result == CDL_CU_OK)
        return CUDDLE_OK;
    if (d->dead)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "%s", d->why);
    cuddle_status st = cdl_status_fail(CUDDLE_ERR_DEVICE, "cuda:%u %s: %s: %s", d->index, d->facts.name, doing,
            cdl_cu_explain(d->cu, result, why, sizeof why));
    if (ends_context(result)) {
        d->dead = true;
        snprintf(d->why, sizeof d->why, "%s; the engine is dead, open another", cuddle_errmsg());
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "%s", d->why);
    }
    return st;
}

cuddle_status cdl_device_enter(cdl_device *d)
{
    if (d->dead)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "%s", d->why);
    return cdl_device_check(d, d->cu->context_set(d->context), "making it current");
}

/* ---- What is there ---- */

cuddle_status cdl_device_count(uint32_t *out)
{
    const cdl_cu *cu;
    int n = 0;
    char why[256];
    *out = 0;
    CDL_TRY(cdl_cu_open(&cu));
    int r = cu->device_count(&n);
    if (r != CDL_CU_OK)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "%s cannot count its GPUs: %s", cu->path,
                cdl_cu_explain(cu, r, why, sizeof why));
    *out = n > 0 ? (uint32_t)n : 0;
    return CUDDLE_OK;
}

static uint32_t attribute(const cdl_cu *cu, cdl_cu_device d, int which)
{
    int v = 0;
    return cu->device_attribute(&v, which, d) == CDL_CU_OK && v > 0 ? (uint32_t)v : 0;
}

static cuddle_status describe(cdl_device_facts *f, cdl_cu_device *d, const cdl_cu *cu, uint32_t index)
{
    uint32_t n;
    size_t bytes = 0;
    char why[256];
    *f = (cdl_device_facts){ 0 };
    CDL_TRY(cdl_device_count(&n));
    if (index >= n)
        return cdl_status_fail(CUDDLE_ERR_ARG, "there is no cuda:%u: the driver shows %u GPU%s (cuddle info --devices)",
                index, n, n == 1 ? "" : "s");
    int r = cu->device_get(d, (int)index);
    if (r == CDL_CU_OK)
        r = cu->device_name(f->name, sizeof f->name - 1, *d);
    if (r == CDL_CU_OK)
        r = cu->device_bytes(&bytes, *d);
    if (r != CDL_CU_OK)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "cuda:%u cannot be read: %s", index,
                cdl_cu_explain(cu, r, why, sizeof why));
    f->bytes = bytes;
    f->major = attribute(cu, *d, CDL_CU_ATTRIBUTE_CAPABILITY_MAJOR);
    f->minor = attribute(cu, *d, CDL_CU_ATTRIBUTE_CAPABILITY_MINOR);
    f->multiprocessors = attribute(cu, *d, CDL_CU_ATTRIBUTE_MULTIPROCESSORS);
    f->clock_mhz = attribute(cu, *d, CDL_CU_ATTRIBUTE_CLOCK_RATE) / 1000;
    f->memory_clock_mhz = attribute(cu, *d, CDL_CU_ATTRIBUTE_MEMORY_CLOCK_RATE) / 1000;
    f->memory_bus_bits = attribute(cu, *d, CDL_CU_ATTRIBUTE_MEMORY_BUS_WIDTH);
    f->l2_bytes = attribute(cu, *d, CDL_CU_ATTRIBUTE_L2_BYTES);
    f->shared_bytes = attribute(cu, *d, CDL_CU_ATTRIBUTE_SHARED_BYTES_OPTIN);
    f->pci_domain = attribute(cu, *d, CDL_CU_ATTRIBUTE_PCI_DOMAIN);
    f->pci_bus = attribute(cu, *d, CDL_CU_ATTRIBUTE_PCI_BUS);
    f->pci_device = attribute(cu, *d, CDL_CU_ATTRIBUTE_PCI_DEVICE);
    return CUDDLE_OK;
}

cuddle_status cdl_device_describe(cdl_device_facts *out, uint32_t index)
{
    const cdl_cu *cu;
    cdl_cu_device d;
    CDL_TRY(cdl_cu_open(&cu));
    return describe(out, &d, cu, index);
}

/* ---- Open and close ---- */

/* An engine needs its kernels: say now that this build has none for the GPU. */
static cuddle_status check_images(const cdl_device *d)
{
    bool known;
    uint32_t capability = d->facts.major * 10 + d->facts.minor;
    if (!cdl_images[0].name)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                "this build has no CUDA kernels (it was made without nvcc or with "
                "CUDA=0); build it again with the CUDA toolkit 13, or use --device cpu");
    if (cdl_image_pick(cdl_images, cdl_images[0].name, capability, false, &known) < 0)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "cuda:%u %s has compute capability %u.%u; this build's kernels "
                "need 8.0 or later", d->index, d->facts.name, d->facts.major, d->facts.minor);
    return CUDDLE_OK;
}

static cuddle_status open_device(cdl_device *d)
{
    CDL_TRY(cdl_cu_open(&d->cu));
    CDL_TRY(describe(&d->facts, &d->ordinal, d->cu, d->index));
    CDL_TRY(check_images(d));
    d->modules = cdl_mem_zalloc(cdl_image_count(), sizeof *d->modules);
    if (!d->modules)
        return cdl_status_nomem("the device");
    CDL_TRY(cdl_device_check(d, d->cu->primary_retain(&d->context, d->ordinal), "opening its context"));
    return cdl_device_enter(d);
}

cuddle_status cdl_device_open(cdl_device **out, uint32_t index)
{
    *out = NULL;
    cdl_device *d = cdl_mem_zalloc(1, sizeof *d);
    if (!d)
        return cdl_status_nomem("the device");
    d->index = index;
    cuddle_status st = open_device(d);
    if (st != CUDDLE_OK) {
        cdl_device_close(d);
        return st;
    }
    *out = d;
    return CUDDLE_OK;
}

void cdl_device_close(cdl_device *d)
{
    if (!d)
        return;
    if (d->context) {
        d->cu->context_set(d->context);
        for (uint32_t i = 0; d->modules && i < cdl_image_count(); i++)
            if (d->modules[i])
                d->cu->module_unload(d->modules[i]);
        d->cu->context_set(NULL);
        d->cu->primary_release(d->ordinal);
    }
    cdl_mem_free(d->modules);
    cdl_mem_free(d);
}

const cdl_device_facts *cdl_device_get_facts(const cdl_device *d)
{
    return &d->facts;
}
