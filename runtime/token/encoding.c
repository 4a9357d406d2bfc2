/* encoding.c - the arrays that an encode fills. */
#include <string.h>

#include "base/mem.h"
#include "token/parts.h"

cuddle_status cuddle_encoding_new(cuddle_encoding **out)
{
    *out = cdl_mem_zalloc(1, sizeof **out);
    return *out ? CUDDLE_OK : cdl_status_nomem("an encoding");
}

void cuddle_encoding_free(cuddle_encoding *e)
{
    if (!e)
        return;
    cdl_work_free(&e->work);
    cdl_mem_free(e->ids);
    cdl_mem_free(e->words);
    cdl_mem_free(e->offsets);
    cdl_mem_free(e->types);
    cdl_mem_free(e->special);
    cdl_mem_free(e->attention);
    cdl_mem_free(e->value);
    cdl_mem_free(e->sequence);
    cdl_buf_free(&e->values);
    cuddle_encoding_free(e->pair);
    cuddle_encoding_free(e->frame);
    for (size_t i = 0; i < e->cap_over; i++)
        cuddle_encoding_free(e->over[i]);
    cdl_mem_free(e->over);
    cdl_mem_free(e);
}

void cdl_encoding_clear(cuddle_encoding *e)
{
    e->n = 0;
    e->n_over = 0;
    cdl_buf_clear(&e->values);
}

static cuddle_status grow(void *p, size_t n, size_t size)
{
    size_t cap = 0;
    return cdl_work_grow(p, &cap, n, size);
}

/* ids alone grow without full; the others catch up when it is set. */
cuddle_status cdl_encoding_reserve(cuddle_encoding *e, size_t n)
{
    bool behind = e->full && !e->sequence;
    if (n <= e->cap && !behind)
        return CUDDLE_OK;
    size_t cap = e->cap + e->cap / 2;
    cap = cap < n ? n : cap;
    cap = cap < 64 ? 64 : cap;
    CDL_TRY(grow(&e->ids, cap, sizeof *e->ids));
    if (e->full || e->sequence) {
        CDL_TRY(grow(&e->words, cap, sizeof *e->words));
        CDL_TRY(grow(&e->offsets, cap, 2 * sizeof *e->offsets));
        CDL_TRY(grow(&e->types, cap, 1));
        CDL_TRY(grow(&e->special, cap, 1));
        CDL_TRY(grow(&e->attention, cap, 1));
        CDL_TRY(grow(&e->value, cap, sizeof *e->value));
        CDL_TRY(grow(&e->sequence, cap, 1));
    }
    e->cap = cap;
    return CUDDLE_OK;
}

/* A text is kept as its length and its bytes. */
cuddle_status cdl_encoding_value(cuddle_encoding *e, size_t i, const char *s, size_t n)
{
    uint32_t length = (uint32_t)n;
    if (e->values.len + n >= UINT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_FULL, "the texts of a text's tokens take over 4 GiB");
    e->value[i] = (uint32_t)e->values.len + 1;
    CDL_TRY(cdl_buf_append(&e->values, &length, sizeof length));
    return cdl_buf_append(&e->values, s, n);
}

static const char *value_at(const cuddle_encoding *e, uint32_t value, size_t *n)
{
    uint32_t length;
    const char *s = e->values.data + value - 1;
    memcpy(&length, s, sizeof length);
    *n = length;
    return s + sizeof length;
}

cuddle_status cdl_encoding_append(cuddle_encoding *e, const cuddle_encoding *from, size_t begin, size_t end)
{
    size_t n = end - begin, at = e->n;
    if (!n)
        return CUDDLE_OK;
    CDL_TRY(cdl_encoding_reserve(e, at + n));
    memcpy(e->ids + at, from->ids + begin, n * sizeof *e->ids);
    e->n = at + n;
    if (!e->full)
        return CUDDLE_OK;
    memcpy(e->words + at, from->words + begin, n * sizeof *e->words);
    memcpy(e->offsets + 2 * at, from->offsets + 2 * begin, 2 * n * sizeof *e->offsets);
    memcpy(e->types + at, from->types + begin, n);
    memcpy(e->special + at, from->special + begin, n);
    memcpy(e->attention + at, from->attention + begin, n);
    memcpy(e->sequence + at, from->sequence + begin, n);
    for (size_t i = 0; i < n; i++) {
        size_t length;
        e->value[at + i] = 0;
        if (!from->value[begin + i])
            continue;
        const char *s = value_at(from, from->value[begin + i], &length);
        CDL_TRY(cdl_encoding_value(e, at + i, s, length));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_encoding_add(cuddle_encoding *e, int32_t id, const char *text, uint8_t type, bool attention)
{
    size_t i = e->n;
    CDL_TRY(cdl_encoding_reserve(e, i + 1));
    e->ids[i] = id;
    e->n++;
    if (!e->full)
        return CUDDLE_OK;
    e->words[i] = -1;
    e->offsets[2 * i] = e->offsets[2 * i + 1] = 0;
    e->types[i] = type;
    e->special[i] = 1;
    e->attention[i] = attention;
    e->sequence[i] = 2;
    e->value[i] = 0;
    return text ? cdl_encoding_value(e, i, text, strlen(text)) : CUDDLE_OK;
}

void cuddle_encoding_look(const cuddle_encoding *e, cuddle_encoding_view *out)
{
    cuddle_encoding_view v = { .size = sizeof v, .n = e->n, .ids = e->ids };
    if (e->full) {
        v.offsets = e->offsets;
        v.words = e->words;
        v.types = e->types;
        v.special = e->special;
        v.attention = e->attention;
        v.overflowing = e->n_over;
        v.sequences = e->sequence;
    }
    size_t size = out->size && out->size < sizeof v ? out->size : sizeof v;
    memcpy(out, &v, size);
    out->size = size;
}

const char *cuddle_encoding_token(const cuddle_encoding *e, const cuddle_tokenizer *t, size_t i, size_t *n)
{
    if (e->full && e->value[i])
        return value_at(e, e->value[i], n);
    return cuddle_tokenizer_token(t, e->ids[i], n);
}

cuddle_status cuddle_encoding_texts(const cuddle_encoding *e, const cuddle_tokenizer *t, char **out, size_t *ends)
{
    cdl_buf b = { 0 };
    cuddle_status st = cdl_buf_reserve(&b, 8 * e->n);
    for (size_t i = 0; i < e->n && st == CUDDLE_OK; i++) {
        size_t n = 0;
        const char *s = cuddle_encoding_token(e, t, i, &n);
        st = cdl_buf_append(&b, s ? s : "", s ? n : 0);
        ends[i] = b.len;
    }
    if (st != CUDDLE_OK)
        cdl_buf_free(&b);
    *out = b.data;
    return st;
}

const cuddle_encoding *cuddle_encoding_overflow(const cuddle_encoding *e, size_t i)
{
    return e->over[i];
}
