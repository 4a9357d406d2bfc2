/* gguf.c - GGUF 2 and 3: header, metadata, tensor list, data. Every read is bounded by the mapping.
 * Source: ggml docs/gguf.md. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/checkpoint_parts.h"

enum { ARRAY_SHORT = 64, NAME_MAX_BYTES = 255, SPLITS_MAX = 1000 };

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64, T_COUNT };

typedef struct {
    cdl_checkpoint *c;
    uint32_t file;
    const char *path;
    const uint8_t *at, *start, *end;
    cdl_buf json;              /* the metadata as text  */
    uint64_t alignment;
    uint64_t split_count;
    char arch[64];
} reader;

static cuddle_status bad(const reader *r, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s at byte %zu; the file is damaged or cut short, fetch it again",
            r->path, what, (size_t)(r->at - r->start));
}

/* ---- Values ---- */

static cuddle_status take(reader *r, size_t n, const uint8_t **out)
{
    if (n > (size_t)(r->end - r->at))
        return bad(r, "a value goes past the end");
    *out = r->at;
    r->at += n;
    return CUDDLE_OK;
}

static cuddle_status take_u32(reader *r, uint32_t *out)
{
    const uint8_t *p;
    CDL_TRY(take(r, 4, &p));
    memcpy(out, p, 4);
    return CUDDLE_OK;
}

static cuddle_status take_u64(reader *r, uint64_t *out)
{
    const uint8_t *p;
    CDL_TRY(take(r, 8, &p));
    memcpy(out, p, 8);
    return CUDDLE_OK;
}

static cuddle_status take_string(reader *r, const char **s, size_t *n)
{
    uint64_t len;
    const uint8_t *p;
    CDL_TRY(take_u64(r, &len));
    if (len > (size_t)(r->end - r->at))
        return bad(r, "a string goes past the end");
    CDL_TRY(take(r, (size_t)len, &p));
    *s = (const char *)p;
    *n = (size_t)len;
    return CUDDLE_OK;
}

static size_t scalar_bytes(uint32_t type)
{
    static const uint8_t bytes[T_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < T_COUNT ? bytes[type] : 0;
}

static cdl_dtype dtype_of(uint32_t type)
{
    switch (type) {
    case T_I8: return CDL_DTYPE_I8;
    case T_U16:
    case T_I16: return CDL_DTYPE_I16;
    case T_U32:
    case T_I32: return CDL_DTYPE_I32;
    case T_F32: return CDL_DTYPE_F32;
    case T_BOOL: return CDL_DTYPE_BOOL;
    case T_U64:
    case T_I64: return CDL_DTYPE_I64;
    case T_F64: return CDL_DTYPE_F64;
    default: return CDL_DTYPE_U8;
    }
}

static cuddle_status put_scalar(reader *r, uint32_t type)
{
    const uint8_t *p;
    union { uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; uint64_t u64; int64_t i64; float f; double d; } v = { 0 };
    CDL_TRY(take(r, scalar_bytes(type), &p));
    memcpy(&v, p, scalar_bytes(type));
    switch (type) {
    case T_U8: return cdl_buf_printf(&r->json, "%u", *p);
    case T_I8: return cdl_buf_printf(&r->json, "%d", (int8_t)*p);
    case T_U16: return cdl_buf_printf(&r->json, "%u", v.u16);
    case T_I16: return cdl_buf_printf(&r->json, "%d", v.i16);
    case T_U32: return cdl_buf_printf(&r->json, "%u", v.u32);
    case T_I32: return cdl_buf_printf(&r->json, "%d", v.i32);
    case T_F32: return cdl_json_put_double(&r->json, (double)v.f);
    case T_BOOL: return cdl_buf_puts(&r->json, *p ? "true" : "false");
    case T_U64: return cdl_buf_printf(&r->json, "%llu", (unsigned long long)v.u64);
    case T_I64: return cdl_buf_printf(&r->json, "%lld", (long long)v.i64);
    default: return cdl_json_put_double(&r->json, v.d);
    }
}

static cuddle_status put_string(reader *r)
{
    const char *s;
    size_t n;
    CDL_TRY(take_string(r, &s, &n));
    return cdl_json_put_string(&r->json, s, n);
}

/* A long array stays where it is; its bounds are checked now, once. */
static cuddle_status keep_array(reader *r, const char *key, size_t key_len, uint32_t type, uint64_t n)
{
    cdl_checkpoint *c = r->c;
    cdl_gguf_entry e = { .array = { .strings = type == T_STRING, .n = n, .data = r->at, .type = dtype_of(type) } };
    if (type == T_STRING) {
        for (uint64_t i = 0; i < n; i++) {
            const char *s;
            size_t len;
            CDL_TRY(take_string(r, &s, &len));
        }
    } else {
        size_t bytes;
        const uint8_t *p;
        if (!cdl_mul(n, scalar_bytes(type), &bytes))
            return bad(r, "an array's length is impossible");
        CDL_TRY(take(r, bytes, &p));
    }
    e.array.end = r->at;
    e.key = cdl_arena_strndup(&c->arena, key, key_len);
    cdl_gguf_entry *p = cdl_mem_realloc(c->arrays, (c->n_arrays + 1) * sizeof *p);
    if (p)
        c->arrays = p;
    if (!e.key || !p)
        return cdl_status_nomem("the metadata");
    c->arrays[c->n_arrays++] = e;
    return CUDDLE_OK;
}

/* ---- Metadata ---- */

static cuddle_status put_array(reader *r, const char *key, size_t key_len)
{
    uint32_t type;
    uint64_t n;
    CDL_TRY(take_u32(r, &type));
    CDL_TRY(take_u64(r, &n));
    if (type >= T_COUNT || type == T_ARRAY)
        return bad(r, "an array of an unknown type");
    if (n > ARRAY_SHORT) {
        CDL_TRY(keep_array(r, key, key_len, type, n));
        return cdl_buf_puts(&r->json, "null");
    }
    CDL_TRY(cdl_buf_putc(&r->json, '['));
    for (uint64_t i = 0; i < n; i++) {
        if (i)
            CDL_TRY(cdl_buf_putc(&r->json, ','));
        CDL_TRY(type == T_STRING ? put_string(r) : put_scalar(r, type));
    }
    return cdl_buf_putc(&r->json, ']');
}

static cuddle_status read_metadata(reader *r, uint64_t n)
{
    CDL_TRY(cdl_buf_putc(&r->json, '{'));
    for (uint64_t i = 0; i < n; i++) {
        const char *key;
        size_t key_len;
        uint32_t type;
        CDL_TRY(take_string(r, &key, &key_len));
        CDL_TRY(take_u32(r, &type));
        if (i)
            CDL_TRY(cdl_buf_putc(&r->json, ','));
        CDL_TRY(cdl_json_put_string(&r->json, key, key_len));
        CDL_TRY(cdl_buf_putc(&r->json, ':'));
        if (type == T_STRING)
            CDL_TRY(put_string(r));
        else if (type == T_ARRAY)
            CDL_TRY(put_array(r, key, key_len));
        else if (type < T_COUNT)
            CDL_TRY(put_scalar(r, type));
        else
            return bad(r, "a metadata value of an unknown type");
    }
    return cdl_buf_putc(&r->json, '}');
}

/* ---- Tensors ---- */

static cuddle_status bad_tensor(const reader *r, const char *name, size_t n, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.*s: %s; the file is damaged or cut short, fetch it again",
            r->path, CDL_STR(name, n), what);
}

/* One line of the list; data is set to the offset for now. */
static cuddle_status read_tensor(reader *r)
{
    const char *name;
    size_t len;
    uint32_t dims, type;
    uint64_t offset, d[CDL_DIMS_MAX], elements = 1;
    CDL_TRY(take_string(r, &name, &len));
    CDL_TRY(take_u32(r, &dims));
    if (!len || len > NAME_MAX_BYTES || memchr(name, 0, len))
        return bad(r, "a tensor without a proper name");
    if (!dims || dims > CDL_DIMS_MAX)
        return bad_tensor(r, name, len, "impossible number of dimensions");
    for (uint32_t i = 0; i < dims; i++) {
        CDL_TRY(take_u64(r, &d[i]));
        if (!d[i] || d[i] > INT64_MAX || __builtin_mul_overflow(elements, d[i], &elements))
            return bad_tensor(r, name, len, "impossible shape");
    }
    CDL_TRY(take_u32(r, &type));
    CDL_TRY(take_u64(r, &offset));
    cdl_tensor_entry t = { .file = r->file, .ndim = dims };
    if (!cdl_dtype_from_ggml(&t.dtype, type))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %.*s has the unknown type %u; convert it to another one",
                r->path, CDL_STR(name, len), type);
    size_t row;
    if (!cdl_dtype_row_bytes(&row, t.dtype, d[0]) || !cdl_mul(row, elements / d[0], &t.bytes))
        return bad_tensor(r, name, len, "its rows are no whole blocks");
    for (uint32_t i = 0; i < dims; i++)
        t.dim[i] = (int64_t)d[dims - 1 - i];
    if (offset % r->alignment)
        return bad_tensor(r, name, len, "its data are not aligned");
    t.data = (const uint8_t *)(uintptr_t)offset;
    char plain[NAME_MAX_BYTES + 1], hf[256];
    memcpy(plain, name, len);
    plain[len] = 0;
    cdl_gguf_tensor_name(hf, r->arch, plain);
    return cdl_checkpoint_add(r->c, &t, hf, strlen(hf));
}

static cuddle_status place_tensors(reader *r, size_t first)
{
    size_t header = (size_t)(r->at - r->start), size = (size_t)(r->end - r->start);
    size_t data = (header + r->alignment - 1) / r->alignment * r->alignment;
    for (size_t i = first; i < r->c->n; i++) {
        cdl_tensor_entry *t = &r->c->entries[i];
        size_t offset = (size_t)(uintptr_t)t->data, begin, end;
        if (!cdl_add(data, offset, &begin) || !cdl_add(begin, t->bytes, &end) || end > size)
            return bad_tensor(r, t->name, strlen(t->name), "its data go past the end");
        t->data = r->start + begin;
    }
    return CUDDLE_OK;
}

/* ---- Files ---- */

static cuddle_status read_header(reader *r, uint64_t *tensors, uint64_t *pairs)
{
    const uint8_t *magic;
    uint32_t version;
    if (r->end - r->at < 24)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: no GGUF file, or cut short: %zu bytes", r->path, (size_t)(r->end - r->at));
    CDL_TRY(take(r, 4, &magic));
    if (memcmp(magic, "GGUF", 4))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: no GGUF file (it does not start with GGUF)", r->path);
    CDL_TRY(take_u32(r, &version));
    if (version != 2 && version != 3)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: GGUF version %u; 2 and 3 are known%s", r->path, version,
                version & 0xffff ? "" : " (a big-endian file?)");
    CDL_TRY(take_u64(r, tensors));
    return take_u64(r, pairs);
}

/* What the reader itself needs of the metadata. */
static cuddle_status read_basics(reader *r, const cdl_json *meta)
{
    int64_t alignment = cdl_json_int(cdl_json_get(meta, "general.alignment"), 32);
    if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: general.alignment %lld is no power of two", r->path, (long long)alignment);
    r->alignment = (uint64_t)alignment;
    int64_t split = cdl_json_int(cdl_json_get(meta, "split.count"), 0);
    r->split_count = split > 0 ? (uint64_t)split : 0;
    const char *arch = cdl_json_string(cdl_json_get(meta, "general.architecture"), NULL);
    if (arch)
        snprintf(r->arch, sizeof r->arch, "%s", arch);
    return CUDDLE_OK;
}

static cuddle_status read_file(reader *r, bool first)
{
    CDL_TRY(cdl_checkpoint_map(r->c, r->path, &r->file));
    const cdl_map *m = &r->c->maps[r->file];
    r->at = r->start = m->data;
    r->end = m->data + m->size;
    uint64_t tensors, pairs;
    CDL_TRY(read_header(r, &tensors, &pairs));
    cdl_buf_clear(&r->json);
    CDL_TRY(read_metadata(r, pairs));
    const cdl_json *meta;
    CDL_TRY(cdl_json_parse(&meta, &r->c->arena, r->json.data, r->json.len, r->path));
    if (first)
        r->c->gguf = meta;
    CDL_TRY(read_basics(r, meta));
    size_t first_tensor = r->c->n;
    for (uint64_t i = 0; i < tensors; i++)
        CDL_TRY(read_tensor(r));
    return place_tensors(r, first_tensor);
}

/* name-00001-of-00003.gguf: the others have the other numbers. */
static cuddle_status read_splits(reader *r)
{
    const char *first = r->path, *mark = strstr(first, "-00001-of-");
    if (!mark || r->split_count > SPLITS_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s: is part of a split of %llu; name the first part (...-00001-of-%05llu.gguf)",
                first, (unsigned long long)r->split_count, (unsigned long long)r->split_count);
    uint64_t n = r->split_count;
    for (uint64_t i = 2; i <= n; i++) {
        r->path = cdl_arena_printf(&r->c->arena, "%.*s-%05u-of-%05u.gguf", (int)(mark - first), first, (unsigned)i, (unsigned)n);
        if (!r->path)
            return cdl_status_nomem("the list of files");
        CDL_TRY(read_file(r, false));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_gguf_read(cdl_checkpoint *c, const char *path)
{
    reader r = { .c = c, .path = path };
    cuddle_status st = read_file(&r, true);
    if (st == CUDDLE_OK && r.split_count > 1)
        st = read_splits(&r);
    cdl_buf_free(&r.json);
    return st;
}
