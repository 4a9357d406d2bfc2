/* jinja_value.c - Python's values: made, compared, iterated, sliced, printed. */
#define _GNU_SOURCE /* memmem */
#include "token/jinja_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

/* ---- Errors, steps, memory ---- */

cuddle_status cdl_jinja_fail(const j_run *r, cuddle_status code, const char *fmt, ...)
{
    char what[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return cdl_status_fail(code, "%s, line %u: %s", r->t->name, r->line, what);
}

cuddle_status cdl_jinja_nomem(const j_run *r)
{
    if (r->arena.bytes_max && r->arena.bytes + (1u << 16) > r->arena.bytes_max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "the template's values take more than %zu MiB",
                r->arena.bytes_max >> 20);
    return cdl_status_nomem("a chat template's values");
}

cuddle_status cdl_jinja_burn(j_run *r, size_t n)
{
    if (n > r->steps) {
        r->steps = 0;
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "the template takes too many steps: does a loop run away?");
    }
    r->steps -= n;
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_alloc(j_run *r, size_t count, size_t size, void *out)
{
    size_t bytes;
    if (!cdl_mul(count, size, &bytes))
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a value is too large");
    CDL_TRY(cdl_jinja_burn(r, 1 + bytes / 64));
    void *p = count ? cdl_arena_zalloc(&r->arena, count, size) : cdl_arena_alloc(&r->arena, 1);
    memcpy(out, &p, sizeof p);
    if (p)
        return CUDDLE_OK;
    if (r->arena.bytes_max && bytes > r->arena.bytes_max - r->arena.bytes)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "the template's values take more than %zu MiB",
                r->arena.bytes_max >> 20);
    return cdl_jinja_nomem(r);
}

/* ---- Making ---- */

cuddle_status cdl_jinja_string(j_run *r, const char *s, size_t n, j_value *out)
{
    char *p;
    CDL_TRY(cdl_jinja_alloc(r, n + 1, 1, &p));
    if (n)
        memcpy(p, s, n);
    *out = j_text(p, n);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_take(j_run *r, cdl_buf *b, j_value *out)
{
    cuddle_status st = cdl_jinja_string(r, b->data, b->len, out);
    cdl_buf_free(b);
    return st;
}

cuddle_status cdl_jinja_write(j_run *r, j_writer write, const void *of, j_value *out)
{
    cdl_buf b = { .max = r->output_max };
    cuddle_status st = write(r, &b, of);
    if (st == CUDDLE_OK)
        st = cdl_jinja_take(r, &b, out);
    cdl_buf_free(&b);
    return st;
}

cuddle_status cdl_jinja_push(j_run *r, j_items *l, const j_value *v)
{
    if (l->n == l->cap) {
        j_value *grown;
        CDL_TRY(cdl_jinja_alloc(r, l->cap * 2 + 8, sizeof *grown, &grown));
        if (l->n)
            memcpy(grown, l->items, l->n * sizeof *grown);
        l->items = grown;
        l->cap = l->cap * 2 + 8;
    }
    l->items[l->n++] = *v;
    return cdl_jinja_burn(r, 1);
}

cuddle_status cdl_jinja_pushed(j_run *r, const j_items *l, j_type type, j_value *out)
{
    CDL_TRY(cdl_jinja_list(r, type, 0, out));
    if (l->n)
        out->as.list->items = l->items;
    out->as.list->n = l->n;
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_list(j_run *r, j_type type, size_t n, j_value *out)
{
    j_list *l;
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof *l, &l));
    CDL_TRY(cdl_jinja_alloc(r, n, sizeof *l->items, &l->items));
    l->n = n;
    *out = (j_value){ .type = (uint8_t)type, .as.list = l };
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_dict(j_run *r, size_t cap, j_value *out)
{
    j_dict *d;
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof *d, &d));
    CDL_TRY(cdl_jinja_alloc(r, cap, sizeof *d->items, &d->items));
    d->cap = cap;
    *out = (j_value){ .type = J_DICT, .as.dict = d };
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_from_json(j_run *r, const cdl_json *j, j_value *out)
{
    switch (j->type) {
    case CDL_JSON_NULL:
        *out = j_none();
        return CUDDLE_OK;
    case CDL_JSON_BOOL:
        *out = j_bool(j->as.b);
        return CUDDLE_OK;
    case CDL_JSON_INT:
        *out = j_int(j->as.i);
        return CUDDLE_OK;
    case CDL_JSON_DOUBLE:
        *out = j_float(j->as.d);
        return CUDDLE_OK;
    case CDL_JSON_STRING:
        *out = j_text(j->as.s, j->n); /* the caller's tree outlives the run */
        return CUDDLE_OK;
    case CDL_JSON_ARRAY:
        CDL_TRY(cdl_jinja_list(r, J_LIST, j->n, out));
        for (size_t i = 0; i < j->n; i++)
            CDL_TRY(cdl_jinja_from_json(r, &j->as.items[i], &out->as.list->items[i]));
        return CUDDLE_OK;
    case CDL_JSON_OBJECT:
        CDL_TRY(cdl_jinja_dict(r, j->n, out));
        for (size_t i = 0; i < j->n; i++) {
            const cdl_json *m = &j->as.items[i];
            j_entry *e = &out->as.dict->items[i];
            e->key = j_text(m->key, m->key_len);
            CDL_TRY(cdl_jinja_from_json(r, m, &e->value));
        }
        out->as.dict->n = j->n;
        return CUDDLE_OK;
    }
    return CUDDLE_OK;
}

const char *cdl_jinja_type_name(const j_value *v)
{
    static const char *const names[] = { "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple",
        "range", "dict view", "generator", "dict", "Namespace", "Macro", "function", "method", "LoopContext" };
    return names[v->type];
}

/* ---- Truth, equality, order ---- */

bool cdl_jinja_truth(const j_value *v)
{
    switch (v->type) {
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v->as.b;
    case J_INT:
        return v->as.i != 0;
    case J_FLOAT:
        return v->as.d != 0;
    case J_STRING:
        return v->n != 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        return v->as.list->n != 0;
    case J_DICT:
        return v->as.dict->n != 0;
    default:
        return true;
    }
}

cuddle_status cdl_jinja_enter(j_run *r)
{
    CDL_TRY(cdl_jinja_burn(r, 1));
    if (++r->depth > J_DEPTH_MAX)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "nested deeper than %d levels", J_DEPTH_MAX);
    return CUDDLE_OK;
}

static cuddle_status equal_lists(j_run *r, const j_list *a, const j_list *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++)
        CDL_TRY(cdl_jinja_equal(r, &a->items[i], &b->items[i], out));
    return CUDDLE_OK;
}

static cuddle_status equal_dicts(j_run *r, const j_dict *a, const j_dict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        j_value *other;
        CDL_TRY(cdl_jinja_find(r, b, &a->items[i].key, &other));
        *out = other != NULL;
        if (other)
            CDL_TRY(cdl_jinja_equal(r, &a->items[i].value, other, out));
    }
    return CUDDLE_OK;
}

static bool equal_numbers(const j_value *a, const j_value *b)
{
    return j_is_whole(a) && j_is_whole(b) ? j_whole(a) == j_whole(b) : j_number(a) == j_number(b);
}

cuddle_status cdl_jinja_equal(j_run *r, const j_value *a, const j_value *b, bool *out)
{
    *out = false;
    if (j_is_number(a) && j_is_number(b)) {
        *out = equal_numbers(a, b);
        return CUDDLE_OK;
    }
    if (a->type != b->type)
        return CUDDLE_OK;
    cuddle_status st = CUDDLE_OK;
    CDL_TRY(cdl_jinja_enter(r));
    switch (a->type) {
    case J_UNDEFINED:
    case J_NONE:
        *out = true;
        break;
    case J_STRING:
        *out = a->n == b->n && memcmp(a->as.s, b->as.s, a->n) == 0;
        st = cdl_jinja_burn(r, *out ? a->n / 64 : 0);
        break;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        st = equal_lists(r, a->as.list, b->as.list, out);
        break;
    case J_DICT:
        st = equal_dicts(r, a->as.dict, b->as.dict, out);
        break;
    case J_METHOD:
        *out = a->as.method == b->as.method;
        break;
    default:
        *out = a->as.list == b->as.list;
        break;
    }
    r->depth--;
    return st;
}

static int sign(double a, double b)
{
    return a < b ? -1 : a > b;
}

static cuddle_status order_lists(j_run *r, const j_list *a, const j_list *b, int *out)
{
    bool same = true;
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        CDL_TRY(cdl_jinja_equal(r, &a->items[i], &b->items[i], &same));
        if (!same)
            return cdl_jinja_order(r, &a->items[i], &b->items[i], out);
    }
    *out = sign((double)a->n, (double)b->n);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_order(j_run *r, const j_value *a, const j_value *b, int *out)
{
    if (j_is_whole(a) && j_is_whole(b)) {
        *out = j_whole(a) < j_whole(b) ? -1 : j_whole(a) > j_whole(b);
        return CUDDLE_OK;
    }
    if (j_is_number(a) && j_is_number(b)) {
        *out = sign(j_number(a), j_number(b));
        return CUDDLE_OK;
    }
    if (a->type == J_STRING && b->type == J_STRING) {
        size_t n = a->n < b->n ? a->n : b->n;
        int c = memcmp(a->as.s, b->as.s, n);
        *out = c ? c : sign((double)a->n, (double)b->n);
        return cdl_jinja_burn(r, n / 64);
    }
    if (a->type == b->type && (a->type == J_LIST || a->type == J_TUPLE)) {
        CDL_TRY(cdl_jinja_enter(r));
        cuddle_status st = order_lists(r, a->as.list, b->as.list, out);
        r->depth--;
        return st;
    }
    if (a->type == J_UNDEFINED || b->type == J_UNDEFINED) {
        const j_value *u = a->type == J_UNDEFINED ? a : b;
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%.*s' is undefined", CDL_STR(u->as.s, u->n));
    }
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%s' and '%s' cannot be ordered", cdl_jinja_type_name(a),
            cdl_jinja_type_name(b));
}

/* ---- Dicts, lists ---- */

cuddle_status cdl_jinja_find(j_run *r, const j_dict *d, const j_value *key, j_value **out)
{
    *out = NULL;
    if (key->type == J_STRING)
        return cdl_jinja_find_text(r, d, key->as.s, key->n, out);
    if (key->type == J_LIST || key->type == J_DICT)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "unhashable type: '%s'", cdl_jinja_type_name(key));
    for (size_t i = 0; i < d->n; i++) {
        bool same;
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_equal(r, &d->items[i].key, key, &same));
        if (same) {
            *out = &d->items[i].value;
            return CUDDLE_OK;
        }
    }
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_find_text(j_run *r, const j_dict *d, const char *key, size_t n, j_value **out)
{
    *out = NULL;
    CDL_TRY(cdl_jinja_burn(r, 1 + n / 64 + d->n / 8));
    for (size_t i = 0; i < d->n && !*out; i++) {
        const j_value *k = &d->items[i].key;
        if (k->type == J_STRING && k->n == n && memcmp(k->as.s, key, n) == 0)
            *out = &d->items[i].value;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_put(j_run *r, j_dict *d, const j_value *key, const j_value *value)
{
    j_value *old;
    CDL_TRY(cdl_jinja_find(r, d, key, &old));
    if (old) {
        *old = *value;
        return CUDDLE_OK;
    }
    if (d->n == d->cap) {
        j_entry *grown;
        CDL_TRY(cdl_jinja_alloc(r, d->cap * 2 + 4, sizeof *grown, &grown));
        if (d->n)
            memcpy(grown, d->items, d->n * sizeof *grown);
        d->items = grown;
        d->cap = d->cap * 2 + 4;
    }
    d->items[d->n++] = (j_entry){ *key, *value };
    return CUDDLE_OK;
}

size_t cdl_jinja_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

/* Bytes of the character at s[0, n), which starts one. */
static size_t char_bytes(const char *s, size_t n)
{
    size_t k = 1;
    while (k < n && ((unsigned char)s[k] & 0xc0) == 0x80)
        k++;
    return k;
}

static cuddle_status split_chars(j_run *r, const j_value *v, j_value *out)
{
    size_t at = 0, n = 0;
    CDL_TRY(cdl_jinja_list(r, J_LIST, cdl_jinja_count(v->as.s, v->n), out));
    while (at < v->n && n < out->as.list->n) {
        size_t k = char_bytes(v->as.s + at, v->n - at);
        out->as.list->items[n++] = j_text(v->as.s + at, k);
        at += k;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_iterate(j_run *r, const j_value *v, j_value *out)
{
    j_list *l = v->as.list;
    switch (v->type) {
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        *out = *v;
        return CUDDLE_OK;
    case J_ITER:
        CDL_TRY(cdl_jinja_list(r, J_LIST, 0, out));
        out->as.list->items = l->items + l->next;
        out->as.list->n = l->n - l->next;
        l->next = l->n;
        return CUDDLE_OK;
    case J_UNDEFINED:
        return cdl_jinja_list(r, J_LIST, 0, out);
    case J_STRING:
        return split_chars(r, v, out);
    case J_DICT:
        CDL_TRY(cdl_jinja_list(r, J_LIST, v->as.dict->n, out));
        for (size_t i = 0; i < v->as.dict->n; i++)
            out->as.list->items[i] = v->as.dict->items[i].key;
        return CUDDLE_OK;
    case J_LOOP: {
        j_loop *loop = v->as.loop;
        CDL_TRY(cdl_jinja_loop_find(r, loop, SIZE_MAX));
        CDL_TRY(cdl_jinja_list(r, J_LIST, 0, out));
        out->as.list->items = loop->items + loop->index + 1;
        out->as.list->n = loop->index + 1 < loop->n ? loop->n - loop->index - 1 : 0;
        return CUDDLE_OK;
    }
    default:
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%s' object is not iterable", cdl_jinja_type_name(v));
    }
}

cuddle_status cdl_jinja_length(j_run *r, const j_value *v, size_t *out)
{
    switch (v->type) {
    case J_UNDEFINED:
        *out = 0;
        return CUDDLE_OK;
    case J_STRING:
        CDL_TRY(cdl_jinja_burn(r, v->n / 64));
        *out = cdl_jinja_count(v->as.s, v->n);
        return CUDDLE_OK;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        *out = v->as.list->n;
        return CUDDLE_OK;
    case J_DICT:
        *out = v->as.dict->n;
        return CUDDLE_OK;
    case J_LOOP:
        CDL_TRY(cdl_jinja_loop_find(r, v->as.loop, SIZE_MAX));
        *out = v->as.loop->n;
        return CUDDLE_OK;
    default:
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "object of type '%s' has no len()", cdl_jinja_type_name(v));
    }
}

cuddle_status cdl_jinja_in(j_run *r, const j_value *item, const j_value *of, bool *out)
{
    *out = false;
    if (of->type == J_STRING) {
        if (item->type != J_STRING)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'in <string>' requires string as left operand, not %s",
                    cdl_jinja_type_name(item));
        CDL_TRY(cdl_jinja_burn(r, of->n / 64));
        *out = item->n == 0 || memmem(of->as.s, of->n, item->as.s, item->n) != NULL;
        return CUDDLE_OK;
    }
    if (of->type == J_DICT) {
        j_value *found;
        CDL_TRY(cdl_jinja_find(r, of->as.dict, item, &found));
        *out = found != NULL;
        return CUDDLE_OK;
    }
    j_value list;
    CDL_TRY(cdl_jinja_iterate(r, of, &list));
    for (size_t i = 0; i < list.as.list->n && !*out; i++) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_equal(r, &list.as.list->items[i], item, out));
    }
    return CUDDLE_OK;
}

/* ---- Slices ---- */

/* One bound as Python clips it into [low, high]. */
static cuddle_status bound(j_run *r, const j_value *v, int64_t n, int64_t low, int64_t high, int64_t *out)
{
    if (v->type == J_NONE)
        return CUDDLE_OK;
    CDL_TRY(cdl_jinja_need_int(r, v, "a slice", out));
    if (*out < 0)
        *out = *out < -n ? low : *out + n;
    if (*out < low)
        *out = low;
    if (*out > high)
        *out = high;
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_slice(j_run *r, const j_value *v, const j_value part[3], j_value *out)
{
    j_value chars = *v;
    if (v->type == J_STRING)
        CDL_TRY(split_chars(r, v, &chars));
    else if (v->type != J_LIST && v->type != J_TUPLE && v->type != J_RANGE)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a '%s' has no slices", cdl_jinja_type_name(v));
    int64_t step = 1, n = (int64_t)chars.as.list->n;
    if (part[2].type != J_NONE)
        CDL_TRY(cdl_jinja_need_int(r, &part[2], "a slice's step", &step));
    if (step == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "slice step cannot be zero");
    bool back = step < 0;
    int64_t low = back ? -1 : 0, high = back ? n - 1 : n, start = back ? high : low, stop = back ? low : high;
    CDL_TRY(bound(r, &part[0], n, low, high, &start));
    CDL_TRY(bound(r, &part[1], n, low, high, &stop));
    /* 128 bits: start - stop + step - 1 of hostile steps */
    __int128 span = back ? (__int128)start - stop : (__int128)stop - start;
    __int128 stride = back ? -(__int128)step : step;
    size_t count = span > 0 ? (size_t)((span + stride - 1) / stride) : 0;
    j_value list;
    CDL_TRY(cdl_jinja_list(r, v->type == J_STRING ? J_LIST : (j_type)v->type, count, &list));
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        list.as.list->items[i] = chars.as.list->items[(size_t)(start + (int64_t)i * step)];
        bytes += list.as.list->items[i].n;
    }
    *out = list;
    if (v->type != J_STRING)
        return CUDDLE_OK;
    char *text;
    CDL_TRY(cdl_jinja_alloc(r, bytes + 1, 1, &text));
    *out = j_text(text, bytes);
    for (size_t i = 0; i < count; i++) {
        const j_value *c = &list.as.list->items[i];
        memcpy(text, c->as.s, c->n);
        text += c->n;
    }
    return CUDDLE_OK;
}

/* ---- Printing ---- */

cuddle_status cdl_jinja_put_float(cdl_buf *b, double d)
{
    char digits[40], text[64];
    if (isnan(d) || isinf(d))
        return cdl_buf_puts(b, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
    int precision = 1;
    do
        snprintf(digits, sizeof digits, "%.*e", precision - 1, d);
    while (precision++ < 17 && strtod(digits, NULL) != d);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - 2 - exponent;
        snprintf(text, sizeof text, "%.*f", decimals > 1 ? decimals : 1, d);
        return cdl_buf_puts(b, text);
    }
    return cdl_buf_puts(b, digits); /* C writes the exponent as Python does: e+16, e-05 */
}

/* Code points that repr shows as they are. */
static bool is_printable(uint32_t cp)
{
    if (cp < 0x20 || cp == 0x7f || (cp >= 0x80 && cp <= 0xa0) || cp == 0xad)
        return false;
    if (cp < 0x1680)
        return !(cp >= 0x600 && cp <= 0x605) && cp != 0x61c && cp != 0x6dd && cp != 0x70f;
    return !(cp == 0x1680 || cp == 0x180e || (cp >= 0x2000 && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202f)
            || (cp >= 0x205f && cp <= 0x206f) || cp == 0x3000 || (cp >= 0xe000 && cp <= 0xf8ff) || cp == 0xfeff
            || (cp >= 0xfff0 && cp <= 0xfffb) || (cp & 0xfffe) == 0xfffe || cp >= 0xe0000);
}

static cuddle_status repr_string(cdl_buf *b, const char *s, size_t n)
{
    char quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';
    CDL_TRY(cdl_buf_putc(b, quote));
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t k = cdl_utf8_get(s + i, n - i, &cp);
        if (cp == (uint32_t)quote || cp == '\\')
            CDL_TRY(cdl_buf_printf(b, "\\%c", (char)cp));
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            CDL_TRY(cdl_buf_puts(b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t"));
        else if (k && is_printable(cp))
            CDL_TRY(cdl_buf_append(b, s + i, k));
        else
            CDL_TRY(cdl_buf_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp));
        i += k ? k : 1;
    }
    return cdl_buf_putc(b, quote);
}

static cuddle_status repr_items(j_run *r, cdl_buf *b, const j_value *v, const char *open, const char *close)
{
    const j_list *l = v->as.list;
    CDL_TRY(cdl_buf_puts(b, open));
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            CDL_TRY(cdl_buf_puts(b, ", "));
        CDL_TRY(cdl_jinja_repr(r, b, &l->items[i]));
    }
    return cdl_buf_puts(b, close);
}

static cuddle_status repr_dict(j_run *r, cdl_buf *b, const j_dict *d)
{
    CDL_TRY(cdl_buf_putc(b, '{'));
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            CDL_TRY(cdl_buf_puts(b, ", "));
        CDL_TRY(cdl_jinja_repr(r, b, &d->items[i].key));
        CDL_TRY(cdl_buf_puts(b, ": "));
        CDL_TRY(cdl_jinja_repr(r, b, &d->items[i].value));
    }
    return cdl_buf_putc(b, '}');
}

static cuddle_status repr_range(cdl_buf *b, const j_list *l)
{
    /* The items say what range() gave; an empty one is shown as Python shows range(0). */
    int64_t from = l->n ? l->items[0].as.i : 0, step = l->n > 1 ? l->items[1].as.i - from : 1;
    int64_t to = l->n ? l->items[l->n - 1].as.i + (step < 0 ? -1 : 1) : 0;
    CDL_TRY(cdl_buf_printf(b, "range(%lld, %lld", (long long)from, (long long)to));
    if (step != 1)
        CDL_TRY(cdl_buf_printf(b, ", %lld", (long long)step));
    return cdl_buf_putc(b, ')');
}

static cuddle_status repr_any(j_run *r, cdl_buf *b, const j_value *v)
{
    switch (v->type) {
    case J_UNDEFINED:
        return cdl_buf_puts(b, "Undefined");
    case J_NONE:
        return cdl_buf_puts(b, "None");
    case J_BOOL:
        return cdl_buf_puts(b, v->as.b ? "True" : "False");
    case J_INT:
        return cdl_buf_printf(b, "%lld", (long long)v->as.i);
    case J_FLOAT:
        return cdl_jinja_put_float(b, v->as.d);
    case J_STRING:
        return repr_string(b, v->as.s, v->n);
    case J_LIST:
        return repr_items(r, b, v, "[", "]");
    case J_TUPLE:
        return repr_items(r, b, v, "(", v->as.list->n == 1 ? ",)" : ")");
    case J_RANGE:
        return repr_range(b, v->as.list);
    case J_VIEW:
        return repr_items(r, b, v,
                v->flag == 'k' ? "dict_keys([" : v->flag == 'v' ? "dict_values([" : "dict_items([", "])");
    case J_DICT:
        return repr_dict(r, b, v->as.dict);
    case J_NAMESPACE:
        CDL_TRY(cdl_buf_puts(b, "<Namespace "));
        CDL_TRY(repr_dict(r, b, v->as.dict));
        return cdl_buf_putc(b, '>');
    default:
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a %s cannot be printed", cdl_jinja_type_name(v));
    }
}

cuddle_status cdl_jinja_repr(j_run *r, cdl_buf *b, const j_value *v)
{
    CDL_TRY(cdl_jinja_enter(r));
    CDL_TRY(cdl_jinja_burn(r, v->type == J_STRING ? v->n / 64 : 0));
    cuddle_status st = repr_any(r, b, v);
    r->depth--;
    return st;
}

cuddle_status cdl_jinja_print(j_run *r, cdl_buf *b, const j_value *v)
{
    if (v->type == J_UNDEFINED)
        return CUDDLE_OK;
    if (v->type != J_STRING)
        return cdl_jinja_repr(r, b, v);
    CDL_TRY(cdl_jinja_burn(r, v->n / 64));
    return cdl_buf_append(b, v->as.s, v->n);
}

static cuddle_status print_any(j_run *r, cdl_buf *b, const void *v)
{
    return cdl_jinja_print(r, b, v);
}

cuddle_status cdl_jinja_str(j_run *r, const j_value *v, j_value *out)
{
    *out = *v;
    if (v->type == J_STRING)
        return CUDDLE_OK;
    return cdl_jinja_write(r, print_any, v, out);
}
