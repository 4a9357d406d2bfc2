#include "format/gguf_write.h"

#include <string.h>

#include "base/mem.h"

static void put(cdl_gguf_writer *w, const void *p, size_t n)
{
    if (w->status == CUDDLE_OK)
        w->status = cdl_buf_append(&w->meta, p, n);
}

static void put_u32(cdl_gguf_writer *w, uint32_t v)
{
    put(w, &v, sizeof v); /* little-endian, as every CPU that cuddle runs on */
}

static void put_u64(cdl_gguf_writer *w, uint64_t v)
{
    put(w, &v, sizeof v);
}

void cdl_gguf_item_string(cdl_gguf_writer *w, const char *s, size_t n)
{
    put_u64(w, n);
    put(w, s, n);
}

static void put_key(cdl_gguf_writer *w, const char *key, uint32_t type)
{
    cdl_gguf_item_string(w, key, strlen(key));
    put_u32(w, type);
    w->pairs++;
}

void cdl_gguf_put_raw(cdl_gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n)
{
    put_key(w, key, type);
    put(w, value, n);
}

void cdl_gguf_put_u32(cdl_gguf_writer *w, const char *key, uint32_t v)
{
    cdl_gguf_put_raw(w, key, CDL_GGUF_U32, &v, sizeof v);
}

void cdl_gguf_put_f32(cdl_gguf_writer *w, const char *key, float v)
{
    cdl_gguf_put_raw(w, key, CDL_GGUF_F32, &v, sizeof v);
}

void cdl_gguf_put_bool(cdl_gguf_writer *w, const char *key, bool v)
{
    uint8_t byte = v;
    cdl_gguf_put_raw(w, key, CDL_GGUF_BOOL, &byte, 1);
}

void cdl_gguf_put_string(cdl_gguf_writer *w, const char *key, const char *s, size_t n)
{
    put_key(w, key, CDL_GGUF_STRING);
    cdl_gguf_item_string(w, s, n);
}

void cdl_gguf_put_array(cdl_gguf_writer *w, const char *key, cdl_gguf_type type, uint64_t count,
        const void *items, size_t n)
{
    put_key(w, key, CDL_GGUF_ARRAY);
    put_u32(w, type);
    put_u64(w, count);
    put(w, items, n);
}

/* ---- Tensors ---- */

static size_t aligned(size_t n)
{
    return (n + CDL_GGUF_ALIGNMENT - 1) / CDL_GGUF_ALIGNMENT * CDL_GGUF_ALIGNMENT;
}

static bool item_bytes(cdl_gguf_item *t)
{
    bool ok = t->ndim >= 1 && cdl_dtype_row_bytes(&t->bytes, t->dtype, t->dim[t->ndim - 1]);
    for (uint32_t d = 0; ok && d + 1 < t->ndim; d++)
        ok = cdl_mul(t->bytes, t->dim[d], &t->bytes);
    return ok && t->bytes < SIZE_MAX / 4;
}

/* The list of tensors; the bytes of all data in *data_bytes. */
static cuddle_status put_items(cdl_gguf_writer *w, cdl_gguf_item *items, size_t n, size_t *data_bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        cdl_gguf_item *t = &items[i];
        if (!item_bytes(t) || t->bytes > SIZE_MAX / 4 - at)
            return cdl_status_fail(CUDDLE_ERR_ARG, "tensor %.80s is too large, or its rows are no whole %s blocks",
                    t->name,
                    cdl_dtype_get(t->dtype)->name);
        cdl_gguf_item_string(w, t->name, strlen(t->name));
        put_u32(w, t->ndim);
        for (uint32_t d = t->ndim; d > 0; d--)
            put_u64(w, t->dim[d - 1]);
        put_u32(w, (uint32_t)cdl_dtype_get(t->dtype)->ggml);
        put_u64(w, at);
        at += aligned(t->bytes);
    }
    *data_bytes = at;
    return w->status;
}

static cuddle_status create(cdl_gguf_writer *w, const char *path, cdl_gguf_item *items, size_t n)
{
    size_t data_bytes;
    uint64_t pairs = w->pairs, tensors = n;
    uint32_t version = 3;
    CDL_TRY(put_items(w, items, n, &data_bytes));
    size_t header = 24 + w->meta.len, data = aligned(header);
    CDL_TRY(cdl_outfile_create(&w->file, path, data + data_bytes));
    uint8_t *p = w->file.data;
    memcpy(p, "GGUF", 4);
    memcpy(p + 4, &version, 4);
    memcpy(p + 8, &tensors, 8);
    memcpy(p + 16, &pairs, 8);
    memcpy(p + 24, w->meta.data, w->meta.len);
    p += data;
    for (size_t i = 0; i < n; i++) {
        items[i].data = p;
        p += aligned(items[i].bytes);
    }
    return CUDDLE_OK;
}

cuddle_status cdl_gguf_create(cdl_gguf_writer *w, const char *path, cdl_gguf_item *items, size_t n)
{
    cuddle_status st = w->status == CUDDLE_OK ? create(w, path, items, n) : w->status;
    cdl_buf_free(&w->meta);
    return st;
}

cuddle_status cdl_gguf_finish(cdl_gguf_writer *w)
{
    return cdl_outfile_finish(&w->file);
}

void cdl_gguf_abandon(cdl_gguf_writer *w)
{
    cdl_buf_free(&w->meta);
    cdl_outfile_abandon(&w->file);
}
