/* safetensors.c - u64 header length, JSON header, data. Nothing may overlap, be missing or be left over.
 * Source: safetensors 0.8. */
#include <string.h>

#include "base/mem.h"
#include "format/checkpoint_parts.h"

enum { HEADER_MAX = 100 << 20 };

static cuddle_status bad(const cdl_checkpoint *c, uint32_t file, const char *tensor, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s: %s; the file is damaged, fetch it again",
            c->paths[file], tensor, what);
}

/* A non-negative integer of the header. */
static bool count_of(const cdl_json *v, uint64_t *out)
{
    if (!v || v->type != CDL_JSON_INT || v->as.i < 0)
        return false;
    *out = (uint64_t)v->as.i;
    return true;
}

static cuddle_status read_tensor(cdl_checkpoint *c, uint32_t file, const cdl_json *v, const uint8_t *data, size_t size)
{
    const cdl_json *dtype = cdl_json_get(v, "dtype"), *shape = cdl_json_get(v, "shape");
    const cdl_json *offsets = cdl_json_get(v, "data_offsets");
    cdl_tensor_entry t = { .file = file };
    if (!dtype || dtype->type != CDL_JSON_STRING || !shape || shape->type != CDL_JSON_ARRAY
            || !offsets || offsets->type != CDL_JSON_ARRAY || offsets->n != 2)
        return bad(c, file, v->key, "dtype, shape or data_offsets is missing");
    if (!cdl_dtype_from_safetensors(&t.dtype, dtype->as.s, dtype->n))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %.80s has the type %.20s, which cuddle does not"
                " know; convert it to F32, F16 or BF16",
                c->paths[file], v->key, dtype->as.s);
    if (shape->n > CDL_DIMS_MAX)
        return bad(c, file, v->key, "more than 8 dimensions");
    uint64_t begin, end;
    size_t bytes = cdl_dtype_get(t.dtype)->bytes;
    for (size_t d = 0; d < shape->n; d++) {
        uint64_t n;
        if (!count_of(cdl_json_at(shape, d), &n) || !cdl_mul(bytes, n, &bytes))
            return bad(c, file, v->key, "impossible shape");
        t.dim[t.ndim++] = (int64_t)n;
    }
    if (!count_of(cdl_json_at(offsets, 0), &begin) || !count_of(cdl_json_at(offsets, 1), &end)
            || begin > end || end > size)
        return bad(c, file, v->key, "data_offsets lie outside the file");
    if (end - begin != bytes)
        return bad(c, file, v->key, "data_offsets do not fit the shape");
    t.data = data + begin;
    t.bytes = bytes;
    return cdl_checkpoint_add(c, &t, v->key, v->key_len);
}

/* Together the tensors are the data, byte for byte. */
static cuddle_status check_cover(cdl_checkpoint *c, uint32_t file, size_t first, const uint8_t *data, size_t size)
{
    size_t n = c->n - first;
    cdl_tensor_entry **sorted;
    CDL_TRY(cdl_checkpoint_by_place(c, first, &sorted));
    const uint8_t *at = data;
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++) {
        if (sorted[i]->data != at)
            st = bad(c, file, sorted[i]->name, sorted[i]->data < at ? "overlaps another tensor" : "a hole before it");
        at = sorted[i]->data + sorted[i]->bytes;
    }
    if (st == CUDDLE_OK && at != data + size)
        st = cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %zu bytes behind the last tensor; the file is damaged, fetch it"
                " again",
                c->paths[file], (size_t)(data + size - at));
    cdl_mem_free(sorted);
    return st;
}

cuddle_status cdl_safetensors_read(cdl_checkpoint *c, uint32_t file)
{
    const cdl_map *m = &c->maps[file];
    uint64_t length = 0;
    if (m->size >= 8)
        memcpy(&length, m->data, 8);
    if (m->size < 8 || length > m->size - 8 || length > HEADER_MAX || !length)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: no safetensors file, or cut short: %zu bytes, header of %llu;"
                " fetch it again",
                c->paths[file], m->size, (unsigned long long)length);
    cdl_arena arena = { 0 };
    const cdl_json *header;
    cuddle_status st = cdl_json_parse(&header, &arena, (const char *)m->data + 8, length, c->paths[file]);
    if (st == CUDDLE_OK && header->type != CDL_JSON_OBJECT)
        st = cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: the header is no JSON object; fetch the file again",
                c->paths[file]);
    const uint8_t *data = m->data + 8 + length;
    size_t size = m->size - 8 - length, first = c->n;
    for (size_t i = 0; st == CUDDLE_OK && i < header->n; i++) {
        const cdl_json *v = cdl_json_at(header, i);
        if (strcmp(v->key, "__metadata__"))
            st = read_tensor(c, file, v, data, size);
    }
    if (st == CUDDLE_OK)
        st = check_cover(c, file, first, data, size);
    cdl_arena_free(&arena);
    return st;
}
