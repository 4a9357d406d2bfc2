/* jinja_filters.c - filters of one value: texts, numbers, lists. */
#define _GNU_SOURCE /* memrchr */
#include "token/jinja_parts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

static const char *const no_names[] = { NULL };

static bool flag(const j_args *args, uint32_t i, const char *name)
{
    const j_value *v = cdl_jinja_arg(args, i, name);
    return v && cdl_jinja_truth(v);
}

/* An integer argument, or the fallback. */
static cuddle_status whole(j_run *r, const j_args *args, uint32_t i, const char *name, int64_t fallback, int64_t *out)
{
    const j_value *v = cdl_jinja_arg(args, i, name);
    *out = fallback;
    return v && v->type != J_NONE ? cdl_jinja_need_int(r, v, name, out) : CUDDLE_OK;
}

/* ---- Text ---- */

static cuddle_status recase(j_run *r, const j_value *v, const j_args *args, char how, j_value *out)
{
    j_value text;
    CDL_TRY(cdl_jinja_check_args(r, args, "a filter of letters", 0, no_names));
    CDL_TRY(cdl_jinja_str(r, v, &text));
    return cdl_jinja_case(r, &text, how, out);
}

static cuddle_status filter_upper(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return recase(r, v, args, 'u', out);
}

static cuddle_status filter_lower(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return recase(r, v, args, 'l', out);
}

static cuddle_status filter_capitalize(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return recase(r, v, args, 'c', out);
}

static cuddle_status filter_title(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return recase(r, v, args, 'j', out);
}

static cuddle_status filter_trim(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "chars", NULL };
    j_value text;
    CDL_TRY(cdl_jinja_check_args(r, args, "trim", 0, names));
    CDL_TRY(cdl_jinja_str(r, v, &text));
    return cdl_jinja_trim(r, &text, cdl_jinja_arg(args, 0, "chars"), J_LEFT | J_RIGHT, out);
}

static cuddle_status filter_string(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    CDL_TRY(cdl_jinja_check_args(r, args, "string", 0, no_names));
    return cdl_jinja_str(r, v, out);
}

static cuddle_status filter_replace(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "old", "new", "count", NULL };
    j_value s, from, to;
    int64_t count;
    CDL_TRY(cdl_jinja_check_args(r, args, "replace", 2, names));
    CDL_TRY(cdl_jinja_str(r, v, &s));
    CDL_TRY(cdl_jinja_str(r, cdl_jinja_arg(args, 0, "old"), &from));
    CDL_TRY(cdl_jinja_str(r, cdl_jinja_arg(args, 1, "new"), &to));
    CDL_TRY(whole(r, args, 2, "count", -1, &count));
    return cdl_jinja_replace(r, &s, &from, &to, count, out);
}

static cuddle_status filter_center(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "width", NULL };
    j_value text, width = j_int(80);
    int64_t n;
    CDL_TRY(cdl_jinja_check_args(r, args, "center", 0, names));
    CDL_TRY(cdl_jinja_str(r, v, &text));
    CDL_TRY(whole(r, args, 0, "width", 80, &n));
    width = j_int(n);
    const j_args given = { .pos = &width, .n_pos = 1 };
    return cdl_jinja_string_method(r, &text, "center", 6, &given, out);
}

static cuddle_status write_escaped(j_run *r, cdl_buf *b, const void *of)
{
    const j_value *s = of;
    for (size_t i = 0; i < s->n; i++) {
        char c = s->as.s[i];
        const char *text = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '\'' ? "&#39;"
                         : c == '"' ? "&#34;" : NULL;
        CDL_TRY(text ? cdl_buf_puts(b, text) : cdl_buf_putc(b, c));
    }
    return cdl_jinja_burn(r, s->n / 16);
}

static cuddle_status filter_escape(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value text;
    CDL_TRY(cdl_jinja_check_args(r, args, "escape", 0, no_names));
    CDL_TRY(cdl_jinja_str(r, v, &text));
    return cdl_jinja_write(r, write_escaped, &text, out);
}

static cuddle_status filter_wordcount(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value text;
    int64_t n = 0;
    bool before = false;
    CDL_TRY(cdl_jinja_check_args(r, args, "wordcount", 0, no_names));
    CDL_TRY(cdl_jinja_str(r, v, &text));
    CDL_TRY(cdl_jinja_burn(r, text.n / 16));
    for (size_t i = 0; i < text.n;) {
        uint32_t cp = 0;
        size_t k = cdl_utf8_get(text.as.s + i, text.n - i, &cp);
        bool word = cdl_jinja_is_word(cp);
        n += word && !before;
        before = word;
        i += k ? k : 1;
    }
    *out = j_int(n);
    return CUDDLE_OK;
}

/* ---- Lines ---- */

typedef struct {
    j_items lines;
    j_value by;                /* text; n: of spaces when as.s is NULL */
    bool first, blank;
} indenting;

static cuddle_status put_indent(j_run *r, cdl_buf *b, const j_value *by)
{
    if (!by->as.s)
        return cdl_jinja_put_padded(r, b, "", 0, (int64_t)by->n, '<', NULL);
    CDL_TRY(cdl_jinja_burn(r, by->n / 64));
    return cdl_buf_append(b, by->as.s, by->n);
}

static cuddle_status write_indented(j_run *r, cdl_buf *b, const void *of)
{
    const indenting *x = of;
    for (size_t i = 0; i < x->lines.n; i++) {
        const j_value *line = &x->lines.items[i];
        CDL_TRY(cdl_jinja_burn(r, 1 + line->n / 64));
        if (i)
            CDL_TRY(cdl_buf_putc(b, '\n'));
        if (i ? x->blank || line->n : x->first)
            CDL_TRY(put_indent(r, b, &x->by));
        CDL_TRY(cdl_buf_append(b, line->as.s, line->n));
    }
    return CUDDLE_OK;
}

static cuddle_status filter_indent(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "width", "first", "blank", NULL };
    static const j_value newline = { .type = J_STRING, .n = 1, .as.s = "\n" };
    indenting x = { .first = flag(args, 1, "first"), .blank = flag(args, 2, "blank") };
    int64_t n = 4;
    j_value text;
    CDL_TRY(cdl_jinja_check_args(r, args, "indent", 0, names));
    CDL_TRY(cdl_jinja_need_string(r, v, "what indent indents"));
    const j_value *width = cdl_jinja_arg(args, 0, "width");
    if (width && width->type != J_STRING)
        CDL_TRY(cdl_jinja_need_int(r, width, "indent's width", &n));
    if (n > (int64_t)r->output_max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a width is larger than %zu", r->output_max);
    x.by = width && width->type == J_STRING ? *width : (j_value){ .type = J_STRING, .n = n > 0 ? (size_t)n : 0 };
    CDL_TRY(cdl_jinja_binary(r, '+', v, &newline, &text)); /* so that the last line ends as the others do */
    CDL_TRY(cdl_jinja_lines(r, &text, false, &x.lines));
    return cdl_jinja_write(r, write_indented, &x, out);
}

/* text[0, count) in code points. */
static cuddle_status head(j_run *r, const j_value *text, int64_t count, j_value *out)
{
    const j_value part[3] = { j_none(), j_int(count), j_none() };
    return cdl_jinja_slice(r, text, part, out);
}

static cuddle_status filter_truncate(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "length", "killwords", "end", "leeway", NULL };
    static const j_value dots = { .type = J_STRING, .n = 3, .as.s = "..." };
    int64_t length, leeway;
    size_t count;
    CDL_TRY(cdl_jinja_check_args(r, args, "truncate", 0, names));
    CDL_TRY(cdl_jinja_length(r, v, &count));
    const j_value *end = cdl_jinja_arg(args, 2, "end");
    end = end ? end : &dots;
    CDL_TRY(cdl_jinja_need_string(r, end, "truncate's end"));
    CDL_TRY(whole(r, args, 0, "length", 255, &length));
    CDL_TRY(whole(r, args, 3, "leeway", 5, &leeway));
    int64_t n_end = (int64_t)cdl_jinja_count(end->as.s, end->n), n = (int64_t)count;
    if (length < n_end || leeway < 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "truncate: length or leeway is too small");
    *out = *v;
    if (n <= leeway || n - leeway <= length)
        return CUDDLE_OK;
    j_value text;
    CDL_TRY(cdl_jinja_need_string(r, v, "what truncate cuts"));
    CDL_TRY(head(r, v, length - n_end, &text));
    const char *space = flag(args, 1, "killwords") ? NULL : memrchr(text.as.s, ' ', text.n);
    if (space)
        text.n = (size_t)(space - text.as.s);
    return cdl_jinja_binary(r, '+', &text, end, out);
}

/* ---- URLs ---- */

typedef struct {
    const j_value *v;
    j_value pairs;             /* of a query; type J_UNDEFINED: one text */
} quoting;

static cuddle_status put_quoted(j_run *r, cdl_buf *b, const j_value *v, bool query)
{
    j_value text;
    CDL_TRY(cdl_jinja_str(r, v, &text));
    CDL_TRY(cdl_jinja_burn(r, 1 + text.n / 16));
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.as.s[i];
        bool plain = c < 0x80 && (cdl_jinja_is_word(c) || (c && strchr(".-~", c)) || (c == '/' && !query));
        if (plain)
            CDL_TRY(cdl_buf_putc(b, (char)c));
        else if (c == ' ' && query)
            CDL_TRY(cdl_buf_putc(b, '+'));
        else
            CDL_TRY(cdl_buf_printf(b, "%%%02X", c));
    }
    return CUDDLE_OK;
}

static cuddle_status write_quoted(j_run *r, cdl_buf *b, const void *of)
{
    const quoting *q = of;
    if (q->pairs.type == J_UNDEFINED)
        return put_quoted(r, b, q->v, false);
    for (size_t i = 0; i < q->pairs.as.list->n; i++) {
        j_value pair;
        CDL_TRY(cdl_jinja_iterate(r, &q->pairs.as.list->items[i], &pair));
        if (pair.as.list->n != 2)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "urlencode needs pairs of a key and a value");
        if (i)
            CDL_TRY(cdl_buf_putc(b, '&'));
        CDL_TRY(put_quoted(r, b, &pair.as.list->items[0], true));
        CDL_TRY(cdl_buf_putc(b, '='));
        CDL_TRY(put_quoted(r, b, &pair.as.list->items[1], true));
    }
    return CUDDLE_OK;
}

static cuddle_status dict_items(j_run *r, const j_value *dict, j_value *out)
{
    const j_method items = { *dict, "items", 5 };
    const j_args none = { 0 };
    return cdl_jinja_call_method(r, &items, &none, out);
}

static cuddle_status filter_urlencode(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    quoting q = { .v = v };
    CDL_TRY(cdl_jinja_check_args(r, args, "urlencode", 0, no_names));
    if (v->type == J_DICT)
        CDL_TRY(dict_items(r, v, &q.pairs));
    else if (j_is_list(v))
        CDL_TRY(cdl_jinja_iterate(r, v, &q.pairs));
    return cdl_jinja_write(r, write_quoted, &q, out);
}

/* ---- Numbers ---- */

static cuddle_status filter_abs(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    CDL_TRY(cdl_jinja_check_args(r, args, "abs", 0, no_names));
    if (!j_is_number(v) || (j_is_whole(v) && j_whole(v) == INT64_MIN))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "abs: a '%s' has no magnitude", cdl_jinja_type_name(v));
    *out = v->type == J_FLOAT ? j_float(fabs(v->as.d)) : j_int(llabs(j_whole(v)));
    return CUDDLE_OK;
}

/* Python's text of a number without white space around it and _ between digits; false: malformed or too long. */
static bool clean_number(j_run *r, const j_value *v, char out[400])
{
    j_value text;
    size_t n = 0;
    if (cdl_jinja_trim(r, v, NULL, J_LEFT | J_RIGHT, &text) != CUDDLE_OK)
        return false;
    for (size_t i = 0; i < text.n && n < 399; i++) {
        char c = text.as.s[i];
        bool between = i && i + 1 < text.n && text.as.s[i - 1] != '_' && text.as.s[i + 1] != '_';
        if (!c || (c == '_' && !between))
            return false;
        if (c != '_')
            out[n++] = c;
    }
    out[n] = '\0';
    return n && n < 399;
}

static bool parse_float(const char *s, double *out)
{
    static const char *const words[] = { "inf", "infinity", "nan" };
    const char *p = s + (*s == '-' || *s == '+');
    for (int i = 0; i < 3; i++)
        if (strcasecmp(p, words[i]) == 0) {
            *out = strtod(s, NULL);
            return true;
        }
    if (!*p || p[strspn(p, "0123456789.eE+-")]) /* C takes hexadecimal ones too */
        return false;
    char *end;
    *out = strtod(s, &end);
    return !*end && end != s;
}

enum { BASE_MAX = 36 };

/* Python's int(text, base): 1 parsed, 0 malformed, -1 too large. */
static int parse_int(const char *s, int base, int64_t *out)
{
    bool minus = *s == '-';
    s += minus || *s == '+';
    if (s[0] == '0' && s[1]) {
        int c = s[1] | 32, prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) {
            base = prefix;
            s += 2;
        } else if (base == 0 && s[strspn(s, "0")]) {
            return 0; /* 012 */
        }
    }
    base = base ? base : 10;
    int64_t v = 0;
    bool any = false, over = false;
    for (; *s; s++, any = true) {
        int c = *s | 32, digit = *s >= '0' && *s <= '9' ? *s - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : BASE_MAX;
        if (digit >= base)
            return 0;
        over |= __builtin_mul_overflow(v, base, &v) || __builtin_sub_overflow(v, digit, &v);
    }
    if (!any || over || (!minus && v == INT64_MIN))
        return any ? -1 : 0;
    *out = minus ? v : -v;
    return 1;
}

static cuddle_status too_large(j_run *r)
{
    return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a number does not fit into 64 bits");
}

static cuddle_status float_to_int(j_run *r, double d, const j_value *fallback, j_value *out)
{
    *out = *fallback;
    if (isnan(d) || isinf(d))
        return CUDDLE_OK;
    if (!(fabs(d) < 0x1p63))
        return too_large(r);
    *out = j_int((int64_t)d);
    return CUDDLE_OK;
}

static cuddle_status text_to_int(j_run *r, const j_value *v, int64_t base, const j_value *fallback, j_value *out)
{
    char text[400];
    int64_t i;
    double d;
    *out = *fallback;
    if (!clean_number(r, v, text))
        return CUDDLE_OK;
    int got = base == 0 || (base >= 2 && base <= BASE_MAX) ? parse_int(text, (int)base, &i) : 0;
    if (got < 0)
        return too_large(r);
    if (got)
        *out = j_int(i);
    else if (parse_float(text, &d))
        return float_to_int(r, d, fallback, out);
    return CUDDLE_OK;
}

static cuddle_status is_undefined(j_run *r, const j_value *v)
{
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%.*s' is undefined", CDL_STR(v->as.s, v->n));
}

static cuddle_status filter_int(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "default", "base", NULL };
    const j_value zero = j_int(0), *fallback = cdl_jinja_arg(args, 0, "default");
    int64_t base;
    CDL_TRY(cdl_jinja_check_args(r, args, "int", 0, names));
    CDL_TRY(whole(r, args, 1, "base", 10, &base));
    fallback = fallback ? fallback : &zero;
    if (v->type == J_UNDEFINED)
        return is_undefined(r, v);
    if (v->type == J_STRING)
        return text_to_int(r, v, base, fallback, out);
    if (v->type == J_FLOAT && isinf(v->as.d))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "int: infinity is no integer");
    if (v->type == J_FLOAT)
        return float_to_int(r, v->as.d, fallback, out);
    *out = j_is_whole(v) ? j_int(j_whole(v)) : *fallback;
    return CUDDLE_OK;
}

static cuddle_status filter_float(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "default", NULL };
    const j_value *fallback = cdl_jinja_arg(args, 0, "default");
    char text[400];
    double d;
    CDL_TRY(cdl_jinja_check_args(r, args, "float", 0, names));
    if (v->type == J_UNDEFINED)
        return is_undefined(r, v);
    *out = fallback ? *fallback : j_float(0);
    if (j_is_number(v))
        *out = j_float(j_number(v));
    else if (v->type == J_STRING && clean_number(r, v, text) && parse_float(text, &d))
        *out = j_float(d);
    return CUDDLE_OK;
}

/* To the nearest; ties go to the even one, as printf rounds the exact value. */
static double round_float(double d, int64_t digits)
{
    char text[400];
    if (!isfinite(d) || digits > 330)
        return d;
    if (digits < -310)
        return copysign(0, d);
    if (digits >= 0) {
        char longer[800];
        snprintf(longer, sizeof longer, "%.*f", (int)digits, d);
        return strtod(longer, NULL);
    }
    int exponent = d == 0 ? 0 : (int)floor(log10(fabs(d)));
    if (exponent + digits < -1)
        return copysign(0, d);
    if (exponent + digits < 0) { /* 0 or one unit: the digit in front decides */
        double unit = pow(10, (double)-digits);
        return copysign(fabs(d) > unit / 2 ? unit : 0, d);
    }
    snprintf(text, sizeof text, "%.*e", (int)(exponent + digits), d);
    return strtod(text, NULL);
}

static cuddle_status round_whole(j_run *r, int64_t v, int64_t digits, j_value *out)
{
    int64_t unit = 1;
    for (int64_t i = 0; i < -digits; i++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = j_int(0);
            return CUDDLE_OK;
        }
    int64_t rest = v % unit, base = v - rest, half = llabs(rest) * 2 - unit;
    bool up = half > 0 || (half == 0 && unit > 1 && base / unit % 2 != 0);
    if (up && __builtin_add_overflow(base, v < 0 ? -unit : unit, &base))
        return too_large(r);
    *out = j_int(base);
    return CUDDLE_OK;
}

static bool is_text(const j_value *v, const char *text)
{
    return v->type == J_STRING && v->n == strlen(text) && memcmp(v->as.s, text, v->n) == 0;
}

static cuddle_status filter_round(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "precision", "method", NULL };
    const j_value *method = cdl_jinja_arg(args, 1, "method");
    int64_t digits;
    CDL_TRY(cdl_jinja_check_args(r, args, "round", 0, names));
    CDL_TRY(whole(r, args, 0, "precision", 0, &digits));
    if (v->type == J_UNDEFINED)
        return is_undefined(r, v);
    if (!j_is_number(v))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "round: a '%s' is no number", cdl_jinja_type_name(v));
    bool ceiling = method && is_text(method, "ceil"), down = method && is_text(method, "floor");
    if (method && !ceiling && !down && !is_text(method, "common"))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "round: method must be common, ceil or floor");
    if (!ceiling && !down && v->type != J_FLOAT)
        return round_whole(r, j_whole(v), digits, out);
    double unit = pow(10, (double)digits), d = j_number(v);
    if (ceiling || down)
        *out = j_float((ceiling ? ceil(d * unit) : floor(d * unit)) / unit);
    else
        *out = j_float(round_float(d, digits));
    return CUDDLE_OK;
}

static cuddle_status write_size(j_run *r, cdl_buf *b, const void *of)
{
    static const char prefixes[] = "kMGTPEZY";
    const double *x = of, base = x[1];
    double bytes = x[0], unit = base;
    (void)r;
    if (bytes == 1)
        return cdl_buf_puts(b, "1 Byte");
    if (bytes < base)
        return cdl_buf_printf(b, "%.0f Bytes", trunc(bytes));
    size_t i = 0;
    while (i + 2 < sizeof prefixes && bytes >= unit * base) {
        unit *= base;
        i++;
    }
    char prefix = base == 1024 && i == 0 ? 'K' : prefixes[i];
    return cdl_buf_printf(b, "%.1f %c%sB", bytes / unit, prefix, base == 1024 ? "i" : "");
}

static cuddle_status filter_filesizeformat(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "binary", NULL };
    j_value missing = j_none();
    const j_args given = { .pos = &missing, .n_pos = 1 };
    j_value bytes;
    CDL_TRY(cdl_jinja_check_args(r, args, "filesizeformat", 0, names));
    CDL_TRY(filter_float(r, v, &given, &bytes));
    if (bytes.type != J_FLOAT)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "filesizeformat needs a number, not a '%s'",
                cdl_jinja_type_name(v));
    const double x[2] = { bytes.as.d, flag(args, 0, "binary") ? 1024 : 1000 };
    return cdl_jinja_write(r, write_size, x, out);
}

/* ---- Lists and dicts ---- */

static cuddle_status filter_length(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    size_t n;
    CDL_TRY(cdl_jinja_check_args(r, args, "length", 0, no_names));
    CDL_TRY(cdl_jinja_length(r, v, &n));
    *out = j_int((int64_t)n);
    return CUDDLE_OK;
}

static cuddle_status filter_first(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value list;
    CDL_TRY(cdl_jinja_check_args(r, args, "first", 0, no_names));
    *out = j_undefined("the first item of an empty sequence", 35);
    if (v->type == J_ITER) { /* the rest of a generator stays */
        j_list *l = v->as.list;
        if (l->next < l->n)
            *out = l->items[l->next++];
        return CUDDLE_OK;
    }
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    if (list.as.list->n)
        *out = list.as.list->items[0];
    return CUDDLE_OK;
}

static cuddle_status filter_last(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value list;
    CDL_TRY(cdl_jinja_check_args(r, args, "last", 0, no_names));
    if (v->type == J_ITER || v->type == J_LOOP)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "last: a '%s' cannot be reversed: use list before it",
                cdl_jinja_type_name(v));
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    size_t n = list.as.list->n;
    *out = n ? list.as.list->items[n - 1] : j_undefined("the last item of an empty sequence", 34);
    return CUDDLE_OK;
}

static cuddle_status copy_list(j_run *r, const j_value *v, bool reverse, j_type type, j_value *out)
{
    j_value from, to;
    CDL_TRY(cdl_jinja_iterate(r, v, &from));
    size_t n = from.as.list->n;
    CDL_TRY(cdl_jinja_list(r, type, n, &to));
    for (size_t i = 0; i < n; i++)
        to.as.list->items[i] = from.as.list->items[reverse ? n - 1 - i : i];
    *out = to;
    return CUDDLE_OK;
}

static cuddle_status filter_list(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    CDL_TRY(cdl_jinja_check_args(r, args, "list", 0, no_names));
    return copy_list(r, v, false, J_LIST, out);
}

static cuddle_status filter_reverse(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    const j_value back[3] = { j_none(), j_none(), j_int(-1) };
    CDL_TRY(cdl_jinja_check_args(r, args, "reverse", 0, no_names));
    if (v->type == J_STRING)
        return cdl_jinja_slice(r, v, back, out);
    return copy_list(r, v, true, v->type == J_ITER ? J_LIST : J_ITER, out);
}

static cuddle_status filter_items(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value view;
    CDL_TRY(cdl_jinja_check_args(r, args, "items", 0, no_names));
    if (v->type == J_UNDEFINED)
        return cdl_jinja_list(r, J_ITER, 0, out);
    if (v->type != J_DICT)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "items needs a dict, not '%s'", cdl_jinja_type_name(v));
    CDL_TRY(dict_items(r, v, &view));
    return copy_list(r, &view, false, J_ITER, out);
}

static cuddle_status filter_batch(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "linecount", "fill_with", NULL };
    j_items rows = { 0 }, row = { 0 };
    j_value list, made;
    int64_t count;
    CDL_TRY(cdl_jinja_check_args(r, args, "batch", 1, names));
    CDL_TRY(whole(r, args, 0, "linecount", 0, &count));
    const j_value *fill = cdl_jinja_arg(args, 1, "fill_with");
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    for (size_t i = 0; i < list.as.list->n; i++) {
        if ((int64_t)row.n == count) {
            CDL_TRY(cdl_jinja_pushed(r, &row, J_LIST, &made));
            CDL_TRY(cdl_jinja_push(r, &rows, &made));
            row = (j_items){ 0 };
        }
        CDL_TRY(cdl_jinja_push(r, &row, &list.as.list->items[i]));
    }
    while (row.n && fill && fill->type != J_NONE && (int64_t)row.n < count)
        CDL_TRY(cdl_jinja_push(r, &row, fill));
    if (row.n) {
        CDL_TRY(cdl_jinja_pushed(r, &row, J_LIST, &made));
        CDL_TRY(cdl_jinja_push(r, &rows, &made));
    }
    return cdl_jinja_pushed(r, &rows, J_ITER, out);
}

static cuddle_status filter_slice(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "slices", "fill_with", NULL };
    j_items columns = { 0 };
    j_value list, made;
    int64_t slices;
    CDL_TRY(cdl_jinja_check_args(r, args, "slice", 1, names));
    CDL_TRY(whole(r, args, 0, "slices", 0, &slices));
    const j_value *fill = cdl_jinja_arg(args, 1, "fill_with");
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    if (slices == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "division by zero");
    int64_t n = (int64_t)list.as.list->n, at = 0;
    for (int64_t s = 0; s < slices; s++) {
        j_items column = { 0 };
        int64_t end = at + n / slices + (s < n % slices);
        while (at < end)
            CDL_TRY(cdl_jinja_push(r, &column, &list.as.list->items[at++]));
        if (fill && fill->type != J_NONE && s >= n % slices)
            CDL_TRY(cdl_jinja_push(r, &column, fill));
        CDL_TRY(cdl_jinja_pushed(r, &column, J_LIST, &made));
        CDL_TRY(cdl_jinja_push(r, &columns, &made));
    }
    return cdl_jinja_pushed(r, &columns, J_ITER, out);
}

/* ---- The rest ---- */

static cuddle_status filter_default(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "default_value", "boolean", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "default", 0, names));
    const j_value *fallback = cdl_jinja_arg(args, 0, "default_value");
    *out = *v;
    if (v->type == J_UNDEFINED || (flag(args, 1, "boolean") && !cdl_jinja_truth(v)))
        *out = fallback ? *fallback : j_text("", 0);
    return CUDDLE_OK;
}

static cuddle_status filter_attr(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "name", NULL };
    bool found;
    CDL_TRY(cdl_jinja_check_args(r, args, "attr", 1, names));
    const j_value *name = cdl_jinja_arg(args, 0, "name");
    CDL_TRY(cdl_jinja_need_string(r, name, "attr's name"));
    if (v->type == J_UNDEFINED)
        return is_undefined(r, v);
    return cdl_jinja_attribute(r, v, name->as.s, name->n, &found, out);
}

static cuddle_status filter_format(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_value text;
    if (args->n_pos && args->n_kw)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "format takes values by position or by name, not both");
    CDL_TRY(cdl_jinja_str(r, v, &text));
    return cdl_jinja_format(r, &text, args, out);
}

static const j_filter filters[] = {
    { "abs", filter_abs }, { "attr", filter_attr }, { "batch", filter_batch }, { "capitalize", filter_capitalize },
    { "center", filter_center }, { "count", filter_length }, { "d", filter_default }, { "default", filter_default },
    { "e", filter_escape }, { "escape", filter_escape }, { "filesizeformat", filter_filesizeformat },
    { "first", filter_first }, { "float", filter_float }, { "forceescape", filter_escape },
    { "format", filter_format }, { "indent", filter_indent }, { "int", filter_int }, { "items", filter_items },
    { "last", filter_last }, { "length", filter_length }, { "list", filter_list }, { "lower", filter_lower },
    { "replace", filter_replace }, { "reverse", filter_reverse }, { "round", filter_round }, { "safe", filter_string },
    { "slice", filter_slice }, { "string", filter_string }, { "title", filter_title }, { "tojson", cdl_jinja_tojson },
    { "trim", filter_trim }, { "truncate", filter_truncate }, { "upper", filter_upper },
    { "urlencode", filter_urlencode }, { "wordcount", filter_wordcount }, { NULL, NULL },
};

static const j_filter *find_filter(const char *name)
{
    const j_filter *const tables[2] = { filters, cdl_jinja_select_filters };
    for (int t = 0; t < 2; t++)
        for (const j_filter *f = tables[t]; f->name; f++)
            if (strcmp(f->name, name) == 0)
                return f;
    return NULL;
}

bool cdl_jinja_has_filter(const char *name)
{
    return find_filter(name) != NULL;
}

cuddle_status cdl_jinja_filter(j_run *r, const char *name, const j_value *v, const j_args *args, j_value *out)
{
    const j_filter *f = find_filter(name);
    if (!f)
        return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "the filter '%.60s' is not known", name);
    CDL_TRY(cdl_jinja_enter(r));
    cuddle_status st = f->run(r, v, args, out);
    r->depth--;
    return st;
}
