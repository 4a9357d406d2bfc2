/* gguf.c - GGUF 2 and 3: header, metadata, tensor list, data. Every read is bounded by the mapping.
 * Source: ggml docs/gguf.md. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/checkpoint_parts.h"

enum { ARRAY_SHORT = 64, NAME_MAX_BYTES = 255, SPLITS_MAX = 1000, METADATA_MAX = 16 << 20, KEY_BYTES = 96 };

typedef struct {
    cdl_checkpoint *c;
    uint32_t file;
    const char *path;
    const uint8_t *at, *start, *end;
    cdl_buf json;              /* the metadata as text                        */
    uint64_t alignment;
    uint64_t split_count, split_no;
    char arch[64];
    char where[KEY_BYTES];     /* "key general.name", "tensor 7": for errors  */
} reader;

static cuddle_status bad(const reader *r, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s: %s at byte %zu; the file is damaged or cut short, fetch it"
            " again",
            r->path, r->where, what, (size_t)(r->at - r->start));
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
    static const uint8_t bytes[CDL_GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < CDL_GGUF_TYPES ? bytes[type] : 0;
}

static cdl_dtype dtype_of(uint32_t type)
{
    switch (type) {
    case CDL_GGUF_I8: return CDL_DTYPE_I8;
    case CDL_GGUF_U16:
    case CDL_GGUF_I16: return CDL_DTYPE_I16;
    case CDL_GGUF_U32:
    case CDL_GGUF_I32: return CDL_DTYPE_I32;
    case CDL_GGUF_F32: return CDL_DTYPE_F32;
    case CDL_GGUF_BOOL: return CDL_DTYPE_BOOL;
    case CDL_GGUF_U64:
    case CDL_GGUF_I64: return CDL_DTYPE_I64;
    case CDL_GGUF_F64: return CDL_DTYPE_F64;
    default: return CDL_DTYPE_U8;
    }
}

static cuddle_status put_scalar(reader *r, uint32_t type)
{
    const uint8_t *p;
    union {
        uint16_t u16; int16_t i16; uint32_t u32; int32_t i32;
        uint64_t u64; int64_t i64; float f; double d;
    } v = { 0 };
    CDL_TRY(take(r, scalar_bytes(type), &p));
    memcpy(&v, p, scalar_bytes(type));
    switch (type) {
    case CDL_GGUF_U8: return cdl_buf_printf(&r->json, "%u", *p);
    case CDL_GGUF_I8: return cdl_buf_printf(&r->json, "%d", (int8_t)*p);
    case CDL_GGUF_U16: return cdl_buf_printf(&r->json, "%u", v.u16);
    case CDL_GGUF_I16: return cdl_buf_printf(&r->json, "%d", v.i16);
    case CDL_GGUF_U32: return cdl_buf_printf(&r->json, "%u", v.u32);
    case CDL_GGUF_I32: return cdl_buf_printf(&r->json, "%d", v.i32);
    case CDL_GGUF_F32: return cdl_json_put_double(&r->json, (double)v.f);
    case CDL_GGUF_BOOL: return cdl_buf_puts(&r->json, *p ? "true" : "false");
    case CDL_GGUF_U64: return cdl_buf_printf(&r->json, "%llu", (unsigned long long)v.u64);
    case CDL_GGUF_I64: return cdl_buf_printf(&r->json, "%lld", (long long)v.i64);
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
static cuddle_status skip_array(reader *r, uint32_t type, uint64_t n)
{
    size_t bytes;
    const uint8_t *p;
    if (type == CDL_GGUF_STRING) {
        for (uint64_t i = 0; i < n; i++) {
            const char *s;
            size_t len;
            CDL_TRY(take_string(r, &s, &len));
        }
        return CUDDLE_OK;
    }
    if (!cdl_mul(n, scalar_bytes(type), &bytes))
        return bad(r, "an array's length is impossible");
    return take(r, bytes, &p);
}

/* ---- Metadata ---- */

static cuddle_status put_array(reader *r)
{
    uint32_t type;
    uint64_t n;
    CDL_TRY(take_u32(r, &type));
    CDL_TRY(take_u64(r, &n));
    if (type >= CDL_GGUF_TYPES || type == CDL_GGUF_ARRAY)
        return bad(r, "an array of an unknown type");
    if (n > ARRAY_SHORT) {
        CDL_TRY(skip_array(r, type, n));
        return cdl_buf_puts(&r->json, "null");
    }
    CDL_TRY(cdl_buf_putc(&r->json, '['));
    for (uint64_t i = 0; i < n; i++) {
        if (i)
            CDL_TRY(cdl_buf_putc(&r->json, ','));
        CDL_TRY(type == CDL_GGUF_STRING ? put_string(r) : put_scalar(r, type));
    }
    return cdl_buf_putc(&r->json, ']');
}

static cuddle_status put_value(reader *r, uint32_t type)
{
    if (type == CDL_GGUF_STRING)
        return put_string(r);
    if (type == CDL_GGUF_ARRAY)
        return put_array(r);
    if (type < CDL_GGUF_TYPES)
        return put_scalar(r, type);
    return bad(r, "a value of an unknown type");
}

/* The first file's pairs as they stand there. */
static cuddle_status keep_pair(cdl_checkpoint *c, const char *key, size_t key_len, cdl_gguf_pair pair)
{
    if (c->n_pairs == c->cap_pairs) {
        size_t cap = c->cap_pairs ? 2 * c->cap_pairs : 64, bytes;
        cdl_gguf_pair *p = cdl_mul(cap, sizeof *p, &bytes) ? cdl_mem_realloc(c->pairs, bytes) : NULL;
        if (!p)
            return cdl_status_nomem("the metadata");
        c->pairs = p;
        c->cap_pairs = cap;
    }
    pair.key = cdl_arena_strndup(&c->arena, key, key_len);
    if (!pair.key)
        return cdl_status_nomem("the metadata");
    c->pairs[c->n_pairs++] = pair;
    return CUDDLE_OK;
}

static cuddle_status read_pair(reader *r, uint64_t i, bool first)
{
    const char *key;
    size_t key_len;
    cdl_gguf_pair pair = { 0 };
    snprintf(r->where, sizeof r->where, "metadata key %llu", (unsigned long long)i);
    CDL_TRY(take_string(r, &key, &key_len));
    snprintf(r->where, sizeof r->where, "key %.*s", CDL_STR(key, key_len));
    CDL_TRY(take_u32(r, &pair.type));
    if (i)
        CDL_TRY(cdl_buf_putc(&r->json, ','));
    CDL_TRY(cdl_json_put_string(&r->json, key, key_len));
    CDL_TRY(cdl_buf_putc(&r->json, ':'));
    pair.value = r->at;
    CDL_TRY(put_value(r, pair.type));
    pair.n = (size_t)(r->at - pair.value);
    return first ? keep_pair(r->c, key, key_len, pair) : CUDDLE_OK;
}

static cuddle_status read_metadata(reader *r, uint64_t n, bool first)
{
    cdl_buf_clear(&r->json);
    r->json.max = METADATA_MAX;
    CDL_TRY(cdl_buf_putc(&r->json, '{'));
    for (uint64_t i = 0; i < n; i++) {
        cuddle_status st = read_pair(r, i, first);
        if (st == CUDDLE_ERR_FULL)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: %s: the metadata are longer than %d MiB", r->path,
                    r->where,
                    METADATA_MAX >> 20);
        CDL_TRY(st);
    }
    r->json.max = 0;
    return cdl_buf_putc(&r->json, '}');
}

/* ---- Tensors ---- */

static cuddle_status bad_tensor(const reader *r, const char *name, size_t n, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.*s: %s; the file is damaged or cut short, fetch it again",
            r->path, CDL_STR(name, n), what);
}

/* One line of the list; data is set to the offset for now. */
static cuddle_status read_tensor(reader *r, uint64_t number)
{
    const char *name;
    size_t len;
    uint32_t dims, type;
    uint64_t offset, d[CDL_DIMS_MAX], elements = 1;
    snprintf(r->where, sizeof r->where, "tensor %llu", (unsigned long long)number);
    CDL_TRY(take_string(r, &name, &len));
    snprintf(r->where, sizeof r->where, "tensor %.*s", CDL_STR(name, len));
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
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %.*s has the unknown type %u; convert it to"
                " another one",
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
    cdl_tensor_entry *overlap;
    CDL_TRY(cdl_checkpoint_overlap(r->c, first, &overlap));
    return overlap ? bad_tensor(r, overlap->name, strlen(overlap->name), "its data overlap another tensor's")
            : CUDDLE_OK;
}

/* ---- Files ---- */

static cuddle_status read_header(reader *r, uint64_t *tensors, uint64_t *pairs)
{
    const uint8_t *magic;
    uint32_t version;
    if (r->end - r->at < 24)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: no GGUF file, or cut short: %zu bytes", r->path,
                (size_t)(r->end - r->at));
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
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: general.alignment %lld is no power of two", r->path,
                (long long)alignment);
    r->alignment = (uint64_t)alignment;
    int64_t split = cdl_json_int(cdl_json_get(meta, "split.count"), 0);
    r->split_count = split > 0 ? (uint64_t)split : 0;
    r->split_no = (uint64_t)cdl_json_int(cdl_json_get(meta, "split.no"), 0);
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
    CDL_TRY(read_metadata(r, pairs, first));
    const cdl_json *meta;
    CDL_TRY(cdl_json_parse(&meta, &r->c->arena, r->json.data, r->json.len, r->path));
    if (first)
        r->c->gguf = meta;
    CDL_TRY(read_basics(r, meta));
    size_t first_tensor = r->c->n;
    for (uint64_t i = 0; i < tensors; i++)
        CDL_TRY(read_tensor(r, i));
    return place_tensors(r, first_tensor);
}

static cuddle_status read_split(reader *r, uint64_t i, uint64_t n)
{
    CDL_TRY(read_file(r, false));
    if (r->split_count == n && r->split_no == i)
        return CUDDLE_OK;
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: split.no %llu of split.count %llu, where %llu of %llu is wanted;"
            " fetch it again", r->path, (unsigned long long)r->split_no, (unsigned long long)r->split_count,
            (unsigned long long)i, (unsigned long long)n);
}

/* name-00001-of-00003.gguf: the others have the other numbers. */
static cuddle_status read_splits(reader *r)
{
    const char *first = r->path;
    char end[48];
    uint64_t n = r->split_count;
    int tail = snprintf(end, sizeof end, "-00001-of-%05llu.gguf", (unsigned long long)n);
    size_t len = strlen(first), stem = len - (size_t)tail;
    if (n > SPLITS_MAX || len <= (size_t)tail || strcmp(first + stem, end) != 0 || r->split_no != 0)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s: is part of a split of %llu; name the first part, ...%s", first,
                (unsigned long long)n, end);
    for (uint64_t i = 1; i < n; i++) {
        r->path = cdl_arena_printf(&r->c->arena, "%.*s-%05u-of-%05u.gguf", (int)stem, first, (unsigned)i + 1,
                (unsigned)n);
        if (!r->path)
            return cdl_status_nomem("the list of files");
        CDL_TRY(read_split(r, i, n));
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

/* ---- Arrays ---- */

bool cdl_checkpoint_gguf_array(const cdl_checkpoint *c, const char *key, cdl_gguf_array *out)
{
    for (size_t i = 0; i < c->n_pairs; i++) {
        const cdl_gguf_pair *p = &c->pairs[i];
        if (p->type != CDL_GGUF_ARRAY || strcmp(p->key, key) != 0)
            continue;
        uint32_t type;
        memcpy(&type, p->value, 4);
        memcpy(&out->n, p->value + 4, 8);
        out->strings = type == CDL_GGUF_STRING;
        out->type = dtype_of(type);
        out->data = p->value + 12;
        out->end = p->value + p->n;
        return true;
    }
    return false;
}
