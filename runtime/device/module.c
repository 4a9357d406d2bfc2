#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device/device_parts.h"

enum { WAITS_FROM = 90 }; /* the capability from which on wait_for_previous() of cuda/common.cuh is code */

/* The first line of the driver's log. */
static void cut_log(char *log)
{
    log[strcspn(log, "\r\n")] = '\0';
}

static cuddle_status load(cdl_device *d, uint32_t i)
{
    enum { ERROR_LOG = 5, ERROR_LOG_BYTES = 6 };
    uint8_t *code;
    size_t n;
    char log[512] = "", why[256];
    int options[] = { ERROR_LOG, ERROR_LOG_BYTES };
    void *values[] = { log, (void *)(sizeof log - 1) };
    const cdl_image *image = &cdl_images[i];
    CDL_TRY(cdl_image_unpack(&code, &n, image));
    int r = d->cu->module_load(&d->modules[i], code, 2, options, values);
    cdl_mem_free(code);
    if (r == CDL_CU_OK)
        return CUDDLE_OK;
    d->modules[i] = NULL;
    cut_log(log);
    bool refused = r == CDL_CU_INVALID_IMAGE || r == CDL_CU_NO_BINARY_FOR_GPU || r == CDL_CU_INVALID_PTX
        || r == CDL_CU_UNSUPPORTED_PTX_VERSION;
    if (refused)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "cuda:%u %s does not take the kernels %s (%s for %u.%u): %s %s",
                d->index, d->facts.name, image->name, image->is_ptx ? "PTX" : "cubin", image->capability / 10,
                image->capability % 10, cdl_cu_explain(d->cu, r, why, sizeof why), log);
    snprintf(why, sizeof why, "loading the kernels %s", image->name);
    return cdl_device_check(d, r, why);
}

/* Loads the module's best image; when the driver does not take a cubin (a virtual GPU reads PTX alone), its PTX. */
static cuddle_status load_best(uint32_t *out, cdl_device *d, const char *module)
{
    uint32_t capability = d->facts.major * 10 + d->facts.minor;
    bool known;
    int i = cdl_image_pick(cdl_images, module, capability, false, &known);
    if (i < 0)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                "this build has no kernels %s for cuda:%u %s (compute capability %u.%u)%s",
                module, d->index, d->facts.name, d->facts.major, d->facts.minor,
                        known ? "; build with its architecture" : "");
    int ptx = cdl_image_pick(cdl_images, module, capability, true, &known);
    if (!d->modules[i] && ptx >= 0 && ptx != i && d->modules[ptx])
        i = ptx;
    if (d->modules[i]) {
        *out = (uint32_t)i;
        return CUDDLE_OK;
    }
    cuddle_status st = load(d, (uint32_t)i);
    if (st == CUDDLE_ERR_UNSUPPORTED && ptx >= 0 && ptx != i) {
        i = ptx;
        st = load(d, (uint32_t)i);
    }
    *out = (uint32_t)i;
    return st;
}

cuddle_status cdl_device_function(cdl_function *out, cdl_device *d, const char *module, const char *name)
{
    char doing[160];
    uint32_t i;
    *out = (cdl_function){ 0 };
    CDL_TRY(cdl_device_enter(d));
    CDL_TRY(load_best(&i, d, module));
    snprintf(doing, sizeof doing, "finding kernel %.96s in %.40s", name, module);
    out->waits = cdl_images[i].capability >= WAITS_FROM;
    return cdl_device_check(d, d->cu->module_function(&out->handle, d->modules[i], name), doing);
}

cuddle_status cdl_device_allow_shared(cdl_device *d, const cdl_launch *l)
{
    if (l->shared_bytes > d->facts.shared_bytes)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "cuda:%u %s: kernel %s needs %u bytes of shared memory a block, "
                "the GPU has %u", d->index, d->facts.name, l->kernel, l->shared_bytes, d->facts.shared_bytes);
    CDL_TRY(cdl_device_enter(d));
    return cdl_device_check(d, d->cu->function_set(l->function.handle, CDL_CU_FUNCTION_DYNAMIC_SHARED_BYTES,
            (int)l->shared_bytes), l->kernel);
}
