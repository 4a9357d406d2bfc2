#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "mem.h"
#include "utf8.h"

/* What the grammar allows next. */
enum state { S_VALUE, S_FIRST_ITEM, S_FIRST_KEY, S_KEY, S_COLON_DONE, S_AFTER, S_DONE };

cuddle_status cdl_json_error(const cdl_json_reader *r, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: not valid JSON at byte %zu: %s",
            r->name, (size_t)(r->at - r->text), what);
}

void cdl_json_reader_init(cdl_json_reader *r, const char *text, size_t len, const char *name)
{
    *r = (cdl_json_reader){ .text = text, .at = text, .end = text + len, .name = name, .state = S_VALUE };
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        r->at += 3;
}

static void skip_space(cdl_json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool inside_object(const cdl_json_reader *r)
{
    unsigned d = r->depth - 1u;
    return r->depth && (r->in_object[d / 64] >> (d % 64) & 1);
}

static cuddle_status push(cdl_json_reader *r, bool object)
{
    if (r->depth >= CDL_JSON_DEPTH)
        return cdl_json_error(r, "nested too deeply");
    unsigned d = r->depth++;
    uint64_t bit = UINT64_C(1) << (d % 64);
    r->in_object[d / 64] = object ? r->in_object[d / 64] | bit : r->in_object[d / 64] & ~bit;
    r->state = object ? S_FIRST_KEY : S_FIRST_ITEM;
    return CUDDLE_OK;
}

static void after_value(cdl_json_reader *r)
{
    r->state = r->depth ? S_AFTER : S_DONE;
}

/* at stands behind the opening quote. */
static cuddle_status read_string(cdl_json_reader *r)
{
    r->s = r->at;
    r->escaped = false;
    for (; r->at < r->end; r->at++) {
        unsigned char c = (unsigned char)*r->at;
        if (c == '"') {
            r->n = (size_t)(r->at++ - r->s);
            return CUDDLE_OK;
        }
        if (c < 0x20)
            return cdl_json_error(r, "control character in a string");
        if (c == '\\') {
            r->escaped = true;
            if (++r->at == r->end)
                break;
        }
    }
    return cdl_json_error(r, "string without an end (is the file cut off?)");
}

static bool word(cdl_json_reader *r, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, w, n))
        return false;
    r->s = r->at;
    r->n = n;
    r->at += n;
    return true;
}

static bool digit(const cdl_json_reader *r)
{
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static cuddle_status read_number(cdl_json_reader *r)
{
    if (word(r, "NaN") || word(r, "Infinity") || word(r, "-Infinity"))
        return CUDDLE_OK;
    r->s = r->at;
    if (*r->at == '-')
        r->at++;
    if (!digit(r))
        return cdl_json_error(r, "a value was expected");
    if (*r->at == '0') {
        r->at++;
    } else {
        while (digit(r))
            r->at++;
    }
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!digit(r))
            return cdl_json_error(r, "digits were expected");
        while (digit(r))
            r->at++;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!digit(r))
            return cdl_json_error(r, "digits were expected");
        while (digit(r))
            r->at++;
    }
    r->n = (size_t)(r->at - r->s);
    return CUDDLE_OK;
}

static cuddle_status read_value(cdl_json_reader *r, cdl_json_token *out)
{
    char c = *r->at;
    if (c == '{' || c == '[') {
        r->at++;
        *out = c == '{' ? CDL_JSON_T_OBJECT : CDL_JSON_T_ARRAY;
        return push(r, c == '{');
    }
    if (c == '"') {
        r->at++;
        *out = CDL_JSON_T_STRING;
        CDL_TRY(read_string(r));
    } else if (word(r, "true")) {
        *out = CDL_JSON_T_TRUE;
    } else if (word(r, "false")) {
        *out = CDL_JSON_T_FALSE;
    } else if (word(r, "null")) {
        *out = CDL_JSON_T_NULL;
    } else {
        *out = CDL_JSON_T_NUMBER;
        CDL_TRY(read_number(r));
    }
    after_value(r);
    return CUDDLE_OK;
}

static cuddle_status read_key(cdl_json_reader *r, cdl_json_token *out)
{
    if (*r->at != '"')
        return cdl_json_error(r, "a key was expected");
    r->at++;
    CDL_TRY(read_string(r));
    skip_space(r);
    if (r->at == r->end || *r->at != ':')
        return cdl_json_error(r, "':' was expected");
    r->at++;
    r->state = S_COLON_DONE;
    *out = CDL_JSON_T_KEY;
    return CUDDLE_OK;
}

static cuddle_status close_level(cdl_json_reader *r, cdl_json_token *out)
{
    *out = inside_object(r) ? CDL_JSON_T_OBJECT_END : CDL_JSON_T_ARRAY_END;
    r->at++;
    r->depth--;
    after_value(r);
    return CUDDLE_OK;
}

cuddle_status cdl_json_next(cdl_json_reader *r, cdl_json_token *out)
{
    skip_space(r);
    if (r->state == S_DONE) {
        *out = CDL_JSON_T_END;
        return r->at == r->end ? CUDDLE_OK : cdl_json_error(r, "text after the end of the value");
    }
    if (r->at == r->end)
        return cdl_json_error(r, "the text ends too early (is the file cut off?)");
    char close = inside_object(r) ? '}' : ']';
    switch ((enum state)r->state) {
    case S_FIRST_KEY:
    case S_FIRST_ITEM:
        if (*r->at == close)
            return close_level(r, out);
        return r->state == S_FIRST_KEY ? read_key(r, out) : read_value(r, out);
    case S_AFTER:
        if (*r->at == close)
            return close_level(r, out);
        if (*r->at != ',')
            return cdl_json_error(r, "',' or an end was expected");
        r->at++;
        r->state = close == '}' ? S_KEY : S_VALUE;
        return cdl_json_next(r, out);
    case S_KEY:
        return read_key(r, out);
    default:
        return read_value(r, out);
    }
}

cuddle_status cdl_json_skip_from(cdl_json_reader *r, cdl_json_token first)
{
    if (first != CDL_JSON_T_ARRAY && first != CDL_JSON_T_OBJECT)
        return CUDDLE_OK;
    int level = 1;
    while (level > 0) {
        cdl_json_token t;
        CDL_TRY(cdl_json_next(r, &t));
        level += (t == CDL_JSON_T_ARRAY || t == CDL_JSON_T_OBJECT);
        level -= (t == CDL_JSON_T_ARRAY_END || t == CDL_JSON_T_OBJECT_END);
    }
    return CUDDLE_OK;
}

cuddle_status cdl_json_skip(cdl_json_reader *r)
{
    cdl_json_token t;
    CDL_TRY(cdl_json_next(r, &t));
    return cdl_json_skip_from(r, t);
}

static int hex4(const char *p, const char *end)
{
    int v = 0;
    for (int i = 0; i < 4; i++, p++) {
        if (p >= end)
            return -1;
        int c = *p | 0x20;
        int d = *p >= '0' && *p <= '9' ? *p - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* \uXXXX with its low surrogate; *p stands on the first hex digit and moves behind the last. */
static int32_t unicode_escape(const char **p, const char *end)
{
    int hi = hex4(*p, end);
    if (hi < 0)
        return -1;
    *p += 4;
    if (hi < 0xd800 || hi > 0xdfff)
        return hi;
    if (hi < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        int lo = hex4(*p + 2, end);
        if (lo >= 0xdc00 && lo <= 0xdfff) {
            *p += 6;
            return 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00);
        }
    }
    return 0xfffd;
}

cuddle_status cdl_json_unescape(const cdl_json_reader *r, cdl_buf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = r->s, *end = r->s + r->n;
    while (p < end) {
        const char *q = memchr(p, '\\', (size_t)(end - p));
        CDL_TRY(cdl_buf_append(b, p, (size_t)((q ? q : end) - p)));
        if (!q)
            break;
        p = q + 2;
        const char *hit = q[1] ? strchr(from, q[1]) : NULL;
        if (hit) {
            CDL_TRY(cdl_buf_putc(b, to[hit - from]));
            continue;
        }
        int32_t c = q[1] == 'u' ? unicode_escape(&p, end) : -1;
        if (c < 0)
            return cdl_json_error(r, "unknown escape in a string");
        char u[4];
        CDL_TRY(cdl_buf_append(b, u, cdl_utf8_put(u, (uint32_t)c)));
    }
    return cdl_buf_reserve(b, 0);
}

cuddle_status cdl_json_number(const cdl_json_reader *r, cdl_json *out)
{
    char text[64];
    char *copy = r->n < sizeof text ? text : cdl_mem_alloc(r->n + 1);
    if (!copy)
        return cdl_status_nomem("a JSON number");
    memcpy(copy, r->s, r->n);
    copy[r->n] = '\0';
    bool plain = !strpbrk(copy, ".eEIN");
    errno = 0;
    if (plain) {
        out->type = CDL_JSON_INT;
        out->as.i = strtoll(copy, NULL, 10);
    }
    if (!plain || errno == ERANGE) {
        out->type = CDL_JSON_DOUBLE;
        out->as.d = strtod(copy, NULL);
    }
    if (copy != text)
        cdl_mem_free(copy);
    return CUDDLE_OK;
}

/* ---- The tree ---- */

/* Children wait on one stack until their parent closes and copies them into the arena. */
typedef struct {
    cdl_json_reader r;
    cdl_arena *arena;
    cdl_buf stack, text;
} parser;

static cuddle_status keep_string(parser *p, const char **s, size_t *n)
{
    const char *from = p->r.s;
    *n = p->r.n;
    if (p->r.escaped) {
        cdl_buf_clear(&p->text);
        CDL_TRY(cdl_json_unescape(&p->r, &p->text));
        from = p->text.data;
        *n = p->text.len;
    }
    *s = cdl_arena_strndup(p->arena, from, *n);
    return *s ? CUDDLE_OK : cdl_status_nomem(p->r.name);
}

static int by_key(const void *a, const void *b)
{
    const cdl_json *x = *(const cdl_json *const *)a, *y = *(const cdl_json *const *)b;
    size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, n);
    return c ? c : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static cuddle_status twice(const parser *p, const cdl_json *v)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: key \"%.*s\" appears twice in one object", p->r.name,
            CDL_STR(v->key, v->key_len));
}

enum { FEW_KEYS = 16 };

static cuddle_status refuse_duplicates(parser *p, const cdl_json *items, size_t n)
{
    for (size_t i = 1; n <= FEW_KEYS && i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (items[i].key_len == items[j].key_len && !memcmp(items[i].key, items[j].key, items[i].key_len))
                return twice(p, &items[i]);
    if (n <= FEW_KEYS)
        return CUDDLE_OK;
    const cdl_json **order = cdl_mem_array(n, sizeof *order);
    if (!order)
        return cdl_status_nomem(p->r.name);
    for (size_t i = 0; i < n; i++)
        order[i] = &items[i];
    qsort(order, n, sizeof *order, by_key);
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 1; i < n && st == CUDDLE_OK; i++)
        if (by_key(&order[i - 1], &order[i]) == 0)
            st = twice(p, order[i]);
    cdl_mem_free(order);
    return st;
}

static cuddle_status parse_value(parser *p, cdl_json_token first, cdl_json *out);

static cuddle_status parse_children(parser *p, cdl_json *out)
{
    size_t base = p->stack.len;
    bool object = out->type == CDL_JSON_OBJECT;
    for (;;) {
        cdl_json v = { 0 };
        cdl_json_token t;
        CDL_TRY(cdl_json_next(&p->r, &t));
        if (t == CDL_JSON_T_ARRAY_END || t == CDL_JSON_T_OBJECT_END)
            break;
        if (object) {
            size_t n;
            CDL_TRY(keep_string(p, &v.key, &n));
            if (n > UINT32_MAX)
                return cdl_json_error(&p->r, "key too long");
            v.key_len = (uint32_t)n;
            CDL_TRY(cdl_json_next(&p->r, &t));
        }
        CDL_TRY(parse_value(p, t, &v));
        CDL_TRY(cdl_buf_append(&p->stack, &v, sizeof v));
    }
    size_t bytes = p->stack.len - base;
    out->n = bytes / sizeof *out;
    cdl_json *items = cdl_arena_alloc(p->arena, bytes);
    if (!items)
        return cdl_status_nomem(p->r.name);
    if (bytes)
        memcpy(items, p->stack.data + base, bytes);
    p->stack.len = base;
    out->as.items = items;
    return object && out->n > 1 ? refuse_duplicates(p, items, out->n) : CUDDLE_OK;
}

static cuddle_status parse_value(parser *p, cdl_json_token first, cdl_json *out)
{
    switch (first) {
    case CDL_JSON_T_TRUE:
    case CDL_JSON_T_FALSE:
        out->type = CDL_JSON_BOOL;
        out->as.b = first == CDL_JSON_T_TRUE;
        return CUDDLE_OK;
    case CDL_JSON_T_NUMBER:
        return cdl_json_number(&p->r, out);
    case CDL_JSON_T_STRING:
        out->type = CDL_JSON_STRING;
        return keep_string(p, &out->as.s, &out->n);
    case CDL_JSON_T_ARRAY:
    case CDL_JSON_T_OBJECT:
        out->type = first == CDL_JSON_T_ARRAY ? CDL_JSON_ARRAY : CDL_JSON_OBJECT;
        return parse_children(p, out);
    default:
        out->type = CDL_JSON_NULL;
        return CUDDLE_OK;
    }
}

cuddle_status cdl_json_take(const cdl_json **out, cdl_arena *a, cdl_json_reader *r)
{
    *out = NULL;
    parser p = { .arena = a, .r = *r };
    cdl_json *root = cdl_arena_zalloc(a, 1, sizeof *root);
    cuddle_status st = root ? CUDDLE_OK : cdl_status_nomem(r->name);
    cdl_json_token t;
    if (st == CUDDLE_OK)
        st = cdl_json_next(&p.r, &t);
    if (st == CUDDLE_OK)
        st = parse_value(&p, t, root);
    if (st == CUDDLE_OK)
        *out = root;
    *r = p.r;
    cdl_buf_free(&p.stack);
    cdl_buf_free(&p.text);
    return st;
}

cuddle_status cdl_json_parse(const cdl_json **out, cdl_arena *a, const char *text, size_t len, const char *name)
{
    cdl_json_reader r;
    cdl_json_token end;
    cdl_json_reader_init(&r, text, len, name);
    CDL_TRY(cdl_json_take(out, a, &r));
    cuddle_status st = cdl_json_next(&r, &end);
    *out = st == CUDDLE_OK ? *out : NULL;
    return st;
}

cuddle_status cdl_json_load(const cdl_json **out, cdl_arena *a, const char *path)
{
    *out = NULL;
    cdl_map m;
    CDL_TRY(cdl_map_open(&m, path));
    cuddle_status st = cdl_json_parse(out, a, (const char *)m.data, m.size, path);
    cdl_map_close(&m);
    return st;
}

const cdl_json *cdl_json_get(const cdl_json *v, const char *key)
{
    if (!v || v->type != CDL_JSON_OBJECT)
        return NULL;
    size_t n = strlen(key);
    for (size_t i = 0; i < v->n; i++)
        if (v->as.items[i].key_len == n && !memcmp(v->as.items[i].key, key, n))
            return &v->as.items[i];
    return NULL;
}

const cdl_json *cdl_json_at(const cdl_json *v, size_t i)
{
    return i < cdl_json_len(v) ? &v->as.items[i] : NULL;
}

size_t cdl_json_len(const cdl_json *v)
{
    return v && (v->type == CDL_JSON_ARRAY || v->type == CDL_JSON_OBJECT) ? v->n : 0;
}

const char *cdl_json_string(const cdl_json *v, const char *fallback)
{
    return v && v->type == CDL_JSON_STRING ? v->as.s : fallback;
}

int64_t cdl_json_int(const cdl_json *v, int64_t fallback)
{
    if (v && v->type == CDL_JSON_INT)
        return v->as.i;
    if (v && v->type == CDL_JSON_DOUBLE && fabs(v->as.d) < 9e15 && floor(v->as.d) == v->as.d)
        return (int64_t)v->as.d;
    return fallback;
}

double cdl_json_double(const cdl_json *v, double fallback)
{
    if (v && v->type == CDL_JSON_DOUBLE)
        return v->as.d;
    return v && v->type == CDL_JSON_INT ? (double)v->as.i : fallback;
}

bool cdl_json_bool(const cdl_json *v, bool fallback)
{
    return v && v->type == CDL_JSON_BOOL ? v->as.b : fallback;
}

bool cdl_json_is(const cdl_json *v, const char *s)
{
    return v && v->type == CDL_JSON_STRING && v->n == strlen(s) && !memcmp(v->as.s, s, v->n);
}

/* ---- Out ---- */

static cuddle_status put_escaped(cdl_buf *b, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *hit = c ? strchr(from, c) : NULL;
    return hit ? cdl_buf_printf(b, "\\%c", to[hit - from]) : cdl_buf_printf(b, "\\u%04x", c);
}

cuddle_status cdl_json_put_string(cdl_buf *b, const char *s, size_t n)
{
    CDL_TRY(cdl_buf_putc(b, '"'));
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
            CDL_TRY(put_escaped(b, c));
            i++;
            continue;
        }
        uint32_t cp;
        size_t k = cdl_utf8_get(s + i, n - i, &cp);
        if (k)
            CDL_TRY(cdl_buf_append(b, s + i, k));
        else
            CDL_TRY(cdl_buf_puts(b, "\xef\xbf\xbd"));
        i += k ? k : 1;
    }
    return cdl_buf_putc(b, '"');
}

cuddle_status cdl_json_put_double(cdl_buf *b, double d)
{
    if (!isfinite(d))
        return cdl_buf_puts(b, "null");
    if (d == 0 && signbit(d))
        return cdl_buf_puts(b, "-0.0"); /* "-0" would read back as the integer 0 */
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    return cdl_buf_puts(b, text);
}
