#include "format/safetensors_write.h"

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

static bool item_bytes(const cdl_safetensors_item *t, size_t *out)
{
    *out = cdl_dtype_get(t->dtype)->bytes;
    for (uint32_t d = 0; d < t->ndim; d++)
        if (!cdl_mul(*out, t->dim[d], out))
            return false;
    return true;
}

/* {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...} */
static cuddle_status put_header(cdl_buf *b, const cdl_safetensors_item *items, size_t n, size_t *data_bytes)
{
    size_t at = 0;
    CDL_TRY(cdl_buf_putc(b, '{'));
    for (size_t i = 0; i < n; i++) {
        const cdl_safetensors_item *t = &items[i];
        size_t bytes;
        if (!item_bytes(t, &bytes) || bytes > SIZE_MAX / 2 - at)
            return cdl_status_fail(CUDDLE_ERR_FULL, "tensor %s is too large", t->name);
        if (i)
            CDL_TRY(cdl_buf_putc(b, ','));
        CDL_TRY(cdl_json_put_string(b, t->name, strlen(t->name)));
        CDL_TRY(cdl_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", cdl_dtype_get(t->dtype)->safetensors));
        for (uint32_t d = 0; d < t->ndim; d++)
            CDL_TRY(cdl_buf_printf(b, "%s%llu", d ? "," : "", (unsigned long long)t->dim[d]));
        CDL_TRY(cdl_buf_printf(b, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes));
        at += bytes;
    }
    CDL_TRY(cdl_buf_putc(b, '}'));
    while (b->len % 8)
        CDL_TRY(cdl_buf_putc(b, ' '));
    *data_bytes = at;
    return CUDDLE_OK;
}

static cuddle_status create(cdl_safetensors_writer *w, cdl_buf *header, const char *path,
        cdl_safetensors_item *items, size_t n)
{
    size_t data_bytes;
    CDL_TRY(put_header(header, items, n, &data_bytes));
    CDL_TRY(cdl_outfile_create(&w->file, path, 8 + header->len + data_bytes));
    uint64_t length = header->len;
    memcpy(w->file.data, &length, 8); /* little-endian, as every CPU that cuddle runs on */
    memcpy(w->file.data + 8, header->data, header->len);
    uint8_t *at = w->file.data + 8 + header->len;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 0;
        items[i].data = at;
        at += item_bytes(&items[i], &bytes) ? bytes : 0;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_safetensors_create(cdl_safetensors_writer *w, const char *path, cdl_safetensors_item *items, size_t n)
{
    *w = (cdl_safetensors_writer){ 0 };
    cdl_buf header = { 0 };
    cuddle_status st = create(w, &header, path, items, n);
    cdl_buf_free(&header);
    if (st != CUDDLE_OK)
        cdl_safetensors_abandon(w);
    return st;
}

cuddle_status cdl_safetensors_finish(cdl_safetensors_writer *w)
{
    return cdl_outfile_finish(&w->file);
}

void cdl_safetensors_abandon(cdl_safetensors_writer *w)
{
    cdl_outfile_abandon(&w->file);
}
