#include "device/device_parts.h"

enum { ALIGN = 256 };

/* ---- Blocks ---- */

cuddle_status cdl_device_alloc(cdl_cu_ptr *out, cdl_device *d, size_t bytes, const char *what, const char *remedy)
{
    size_t available = 0, total = 0;
    *out = 0;
    CDL_TRY(cdl_device_enter(d));
    int r = d->cu->mem_alloc(out, bytes ? bytes : ALIGN);
    if (r != CDL_CU_OUT_OF_MEMORY)
        return cdl_device_check(d, r, what);
    if (d->cu->mem_info(&available, &total) != CDL_CU_OK)
        total = d->facts.bytes;
    return cdl_status_fail(CUDDLE_ERR_NOMEM, "cuda:%u %s is out of memory: %s needs %zu bytes, %zu of %zu are free; %s",
            d->index, d->facts.name, what, bytes, available, total, remedy);
}

void cdl_device_free(cdl_device *d, cdl_cu_ptr p)
{
    if (p && d->cu->context_set(d->context) == CDL_CU_OK)
        d->cu->mem_free(p);
}

cuddle_status cdl_device_pinned(void **out, cdl_device *d, size_t bytes)
{
    *out = NULL;
    CDL_TRY(cdl_device_enter(d));
    int r = d->cu->host_alloc(out, bytes ? bytes : ALIGN, CDL_CU_HOST_PORTABLE);
    if (r == CDL_CU_OUT_OF_MEMORY)
        return cdl_status_fail(CUDDLE_ERR_NOMEM, "out of memory: %zu bytes of host memory cannot be pinned for cuda:%u",
                bytes, d->index);
    return cdl_device_check(d, r, "pinning host memory");
}

void cdl_device_pinned_free(cdl_device *d, void *p)
{
    if (p && d->cu->context_set(d->context) == CDL_CU_OK)
        d->cu->host_free(p);
}

/* ---- Peers ---- */

cuddle_status cdl_device_enable_peer(bool *out, cdl_device *d, cdl_device *peer)
{
    int can = 0;
    *out = false;
    CDL_TRY(cdl_device_enter(d));
    CDL_TRY(cdl_device_check(d, d->cu->device_can_peer(&can, d->ordinal, peer->ordinal), "asking for peers"));
    if (!can)
        return CUDDLE_OK;
    int r = d->cu->context_peer(peer->context, 0);
    if (r != CDL_CU_PEER_ACCESS_ALREADY_ENABLED)
        CDL_TRY(cdl_device_check(d, r, "enabling a peer"));
    *out = true;
    return CUDDLE_OK;
}

cuddle_status cdl_stream_copy_peer(cdl_stream *s, cdl_cu_ptr dst, cdl_device *to, cdl_cu_ptr src,
        cdl_device *from, size_t n)
{
    CDL_TRY(cdl_device_enter(s->device));
    return cdl_device_check(s->device, s->device->cu->copy_peer(dst, to->context, src, from->context, n, s->handle),
            "copying between GPUs");
}
