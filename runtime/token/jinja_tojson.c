/* jinja_tojson.c - the filter tojson as transformers has it: Python's json.dumps, no HTML escapes. */
#include "token/jinja_parts.h"

#include <math.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"

typedef struct {
    const j_value *v;
    bool ascii, sort, pretty;
    j_value indent;            /* text of one level */
    j_value item, key;         /* between items, behind keys */
    uint32_t level;
} dump;

static cuddle_status put_unit(cdl_buf *b, uint32_t cp)
{
    return cdl_buf_printf(b, "\\u%04x", cp);
}

static cuddle_status put_char(cdl_buf *b, uint32_t cp, const char *s, size_t n, bool ascii)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *hit = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (hit)
        return cdl_buf_printf(b, "\\%c", to[hit - from]);
    if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000))
        return put_unit(b, cp);
    if (!ascii || cp < 0x7f)
        return cdl_buf_append(b, s, n);
    CDL_TRY(put_unit(b, 0xd7c0 + (cp >> 10)));
    return put_unit(b, 0xdc00 + (cp & 0x3ff));
}

static cuddle_status put_string(j_run *r, cdl_buf *b, const char *s, size_t n, bool ascii)
{
    CDL_TRY(cdl_jinja_burn(r, 1 + n / 16));
    CDL_TRY(cdl_buf_putc(b, '"'));
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0xfffd;
        size_t k = cdl_utf8_get(s + i, n - i, &cp);
        CDL_TRY(put_char(b, cp, k ? s + i : "\xef\xbf\xbd", k ? k : 3, ascii));
        i += k ? k : 1;
    }
    return cdl_buf_putc(b, '"');
}

static cuddle_status put_float(cdl_buf *b, double d)
{
    if (isnan(d))
        return cdl_buf_puts(b, "NaN");
    if (isinf(d))
        return cdl_buf_puts(b, d < 0 ? "-Infinity" : "Infinity");
    return cdl_jinja_put_float(b, d);
}

static cuddle_status put_any(j_run *r, cdl_buf *b, dump *x, const j_value *v);

/* A line of its own for what comes, when lines are asked for. */
static cuddle_status break_line(j_run *r, cdl_buf *b, const dump *x)
{
    if (!x->pretty)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_putc(b, '\n'));
    for (uint32_t i = 0; i < x->level; i++) {
        CDL_TRY(cdl_jinja_burn(r, 1 + x->indent.n / 64));
        CDL_TRY(cdl_buf_append(b, x->indent.as.s, x->indent.n));
    }
    return CUDDLE_OK;
}

static cuddle_status put_list(j_run *r, cdl_buf *b, dump *x, const j_list *l)
{
    CDL_TRY(cdl_buf_putc(b, '['));
    x->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            CDL_TRY(cdl_buf_append(b, x->item.as.s, x->item.n));
        CDL_TRY(break_line(r, b, x));
        CDL_TRY(put_any(r, b, x, &l->items[i]));
    }
    x->level--;
    if (l->n)
        CDL_TRY(break_line(r, b, x));
    return cdl_buf_putc(b, ']');
}

/* Keys are strings in JSON: numbers, booleans and None are written as such. */
static cuddle_status put_key(j_run *r, cdl_buf *b, const dump *x, const j_value *k)
{
    if (k->type == J_STRING)
        return put_string(r, b, k->as.s, k->n, x->ascii);
    CDL_TRY(cdl_buf_putc(b, '"'));
    if (k->type == J_NONE)
        CDL_TRY(cdl_buf_puts(b, "null"));
    else if (k->type == J_BOOL)
        CDL_TRY(cdl_buf_puts(b, k->as.b ? "true" : "false"));
    else if (k->type == J_FLOAT)
        CDL_TRY(put_float(b, k->as.d));
    else if (k->type == J_INT)
        CDL_TRY(cdl_buf_printf(b, "%lld", (long long)k->as.i));
    else
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "tojson: keys must be strings or numbers, not '%s'",
                cdl_jinja_type_name(k));
    return cdl_buf_putc(b, '"');
}

static cuddle_status sorted(j_run *r, const j_dict *d, j_entry **out)
{
    CDL_TRY(cdl_jinja_alloc(r, d->n, sizeof **out, out));
    if (d->n)
        memcpy(*out, d->items, d->n * sizeof **out);
    return cdl_jinja_sort(r, *out, d->n, false);
}

static cuddle_status put_dict(j_run *r, cdl_buf *b, dump *x, const j_dict *d)
{
    j_entry *items = d->items;
    if (x->sort)
        CDL_TRY(sorted(r, d, &items));
    CDL_TRY(cdl_buf_putc(b, '{'));
    x->level++;
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            CDL_TRY(cdl_buf_append(b, x->item.as.s, x->item.n));
        CDL_TRY(break_line(r, b, x));
        CDL_TRY(put_key(r, b, x, &items[i].key));
        CDL_TRY(cdl_buf_append(b, x->key.as.s, x->key.n));
        CDL_TRY(put_any(r, b, x, &items[i].value));
    }
    x->level--;
    if (d->n)
        CDL_TRY(break_line(r, b, x));
    return cdl_buf_putc(b, '}');
}

static cuddle_status put_value(j_run *r, cdl_buf *b, dump *x, const j_value *v)
{
    switch (v->type) {
    case J_NONE:
        return cdl_buf_puts(b, "null");
    case J_BOOL:
        return cdl_buf_puts(b, v->as.b ? "true" : "false");
    case J_INT:
        return cdl_buf_printf(b, "%lld", (long long)v->as.i);
    case J_FLOAT:
        return put_float(b, v->as.d);
    case J_STRING:
        return put_string(r, b, v->as.s, v->n, x->ascii);
    case J_LIST:
    case J_TUPLE:
        return put_list(r, b, x, v->as.list);
    case J_DICT:
        return put_dict(r, b, x, v->as.dict);
    default:
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "tojson: a value of type '%s' has no JSON", cdl_jinja_type_name(v));
    }
}

static cuddle_status put_any(j_run *r, cdl_buf *b, dump *x, const j_value *v)
{
    CDL_TRY(cdl_jinja_enter(r));
    cuddle_status st = put_value(r, b, x, v);
    r->depth--;
    return st;
}

static cuddle_status write_json(j_run *r, cdl_buf *b, const void *of)
{
    dump x = *(const dump *)of;
    return put_any(r, b, &x, x.v);
}

/* indent: a number of spaces, or the text of one level. */
static cuddle_status set_indent(j_run *r, dump *x, const j_value *v)
{
    static const char spaces[] = "                                                                ";
    int64_t n;
    if (!v || v->type == J_NONE)
        return CUDDLE_OK;
    x->pretty = true;
    x->item = j_text(",", 1);
    x->indent = *v;
    if (v->type == J_STRING)
        return CUDDLE_OK;
    CDL_TRY(cdl_jinja_need_int(r, v, "tojson's indent", &n));
    n = n < 0 ? 0 : n;
    if (n > (int64_t)sizeof spaces - 1)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "tojson's indent is larger than %zu", sizeof spaces - 1);
    x->indent = j_text(spaces, (size_t)n);
    return CUDDLE_OK;
}

static cuddle_status set_separators(j_run *r, dump *x, const j_value *v)
{
    j_value list;
    if (!v || v->type == J_NONE)
        return CUDDLE_OK;
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    if (list.as.list->n != 2)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "tojson's separators must be two texts");
    x->item = list.as.list->items[0];
    x->key = list.as.list->items[1];
    CDL_TRY(cdl_jinja_need_string(r, &x->item, "a separator of tojson"));
    return cdl_jinja_need_string(r, &x->key, "a separator of tojson");
}

cuddle_status cdl_jinja_tojson(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "ensure_ascii", "indent", "separators", "sort_keys", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "tojson", 0, names));
    dump x = { .v = v, .item = j_text(", ", 2), .key = j_text(": ", 2) };
    const j_value *ascii = cdl_jinja_arg(args, 0, "ensure_ascii"), *sort = cdl_jinja_arg(args, 3, "sort_keys");
    x.ascii = ascii && cdl_jinja_truth(ascii);
    x.sort = sort && cdl_jinja_truth(sort);
    CDL_TRY(set_indent(r, &x, cdl_jinja_arg(args, 1, "indent")));
    CDL_TRY(set_separators(r, &x, cdl_jinja_arg(args, 2, "separators")));
    return cdl_jinja_write(r, write_json, &x, out);
}
