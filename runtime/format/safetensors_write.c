#include "format/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static cuddle_status map_file(cdl_safetensors_writer *w)
{
    int fd = open(w->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return cdl_status_fail(CUDDLE_ERR_IO, "cannot write %s: %s", w->temporary, strerror(errno));
    cuddle_status st = CUDDLE_OK;
    int err = posix_fallocate(fd, 0, (off_t)w->size); /* a full disk is told here, not by a signal later */
    if (err)
        st = cdl_status_fail(CUDDLE_ERR_IO, "cannot write %zu bytes to %s: %s", w->size, w->temporary, strerror(err));
    else {
        void *p = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            st = cdl_status_fail(CUDDLE_ERR_IO, "cannot map %s: %s", w->temporary, strerror(errno));
        else
            w->map = p;
    }
    close(fd);
    return st;
}

static cuddle_status create(cdl_safetensors_writer *w, cdl_buf *header, const char *path,
        cdl_safetensors_item *items, size_t n)
{
    size_t data_bytes;
    CDL_TRY(put_header(header, items, n, &data_bytes));
    w->path = cdl_mem_strdup(path);
    w->temporary = cdl_mem_alloc(strlen(path) + 16);
    if (!w->path || !w->temporary)
        return cdl_status_nomem("the output file");
    sprintf(w->temporary, "%s.%d.part", path, (int)getpid() % 1000000);
    w->size = 8 + header->len + data_bytes;
    CDL_TRY(map_file(w));
    uint64_t length = header->len;
    memcpy(w->map, &length, 8); /* little-endian, as every CPU that cuddle runs on */
    memcpy(w->map + 8, header->data, header->len);
    uint8_t *at = w->map + 8 + header->len;
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

static void release(cdl_safetensors_writer *w)
{
    if (w->map)
        munmap(w->map, w->size);
    cdl_mem_free(w->path);
    cdl_mem_free(w->temporary);
    *w = (cdl_safetensors_writer){ 0 };
}

cuddle_status cdl_safetensors_finish(cdl_safetensors_writer *w)
{
    cuddle_status st = CUDDLE_OK;
    if (rename(w->temporary, w->path)) {
        st = cdl_status_fail(CUDDLE_ERR_IO, "cannot rename %s to %s: %s", w->temporary, w->path, strerror(errno));
        unlink(w->temporary);
    }
    release(w);
    return st;
}

void cdl_safetensors_abandon(cdl_safetensors_writer *w)
{
    if (w->temporary)
        unlink(w->temporary);
    release(w);
}
