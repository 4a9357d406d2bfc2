#include <string.h>

#include "device/device_parts.h"

cuddle_status cdl_upload_open(cdl_upload *u, cdl_device *d)
{
    *u = (cdl_upload){ 0 };
    cuddle_status st = cdl_stream_open(&u->stream, d);
    for (int i = 0; i < CDL_UPLOAD_BUFFERS && st == CUDDLE_OK; i++) {
        st = cdl_device_pinned((void **)&u->buffer[i].data, d, CDL_UPLOAD_BYTES);
        if (st == CUDDLE_OK)
            st = cdl_event_open(&u->buffer[i].sent, d, false);
    }
    if (st != CUDDLE_OK)
        cdl_upload_close(u);
    return st;
}

void cdl_upload_close(cdl_upload *u)
{
    cdl_device *d = u->stream.device;
    if (!d)
        return;
    if (u->stream.handle && !d->dead && d->cu->context_set(d->context) == CDL_CU_OK)
        d->cu->stream_wait(u->stream.handle); /* it may still read the buffers */
    for (int i = 0; i < CDL_UPLOAD_BUFFERS; i++) {
        cdl_device_pinned_free(d, u->buffer[i].data);
        cdl_event_close(&u->buffer[i].sent);
    }
    cdl_stream_close(&u->stream);
    *u = (cdl_upload){ 0 };
}

cuddle_status cdl_upload_begin(cdl_upload *u, uint8_t **out)
{
    if (u->buffer[u->next].busy)
        CDL_TRY(cdl_event_wait(&u->buffer[u->next].sent));
    u->buffer[u->next].busy = false;
    *out = u->buffer[u->next].data;
    return CUDDLE_OK;
}

cuddle_status cdl_upload_send(cdl_upload *u, cdl_cu_ptr dst, size_t n)
{
    CDL_TRY(cdl_stream_copy_up(&u->stream, dst, u->buffer[u->next].data, n));
    CDL_TRY(cdl_event_record(&u->buffer[u->next].sent, &u->stream));
    u->buffer[u->next].busy = true;
    u->next = (u->next + 1) % CDL_UPLOAD_BUFFERS;
    return CUDDLE_OK;
}

cuddle_status cdl_upload_copy(cdl_upload *u, cdl_cu_ptr dst, const void *src, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t part = n - done < CDL_UPLOAD_BYTES ? n - done : CDL_UPLOAD_BYTES;
        uint8_t *buffer;
        CDL_TRY(cdl_upload_begin(u, &buffer));
        memcpy(buffer, (const uint8_t *)src + done, part);
        CDL_TRY(cdl_upload_send(u, dst + done, part));
        done += part;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_upload_finish(cdl_upload *u)
{
    return cdl_stream_wait(&u->stream);
}
