/* jinja_format.c - Python's two ways to format: "%s" % value and "{}".format(value). */
#include "token/jinja_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"

enum { PRECISION_MAX = 1000, NUMBER_MAX = 4096 };

typedef struct {
    int64_t width, precision;  /* precision: -1 when not given            */
    char align;                /* '<' '>' '^' '=', 0: the type's own      */
    char sign;                 /* '+', ' ' or 0                           */
    char group;                /* ',' or '_' between digits, or 0         */
    char type;                 /* the letter, 0 when not given            */
    bool alt;                  /* #                                       */
    j_value fill;              /* one character; type J_UNDEFINED: spaces */
} spec;

static const j_value zero_fill = { .type = J_STRING, .n = 1, .as.s = "0" };

static const j_value *fill_of(const spec *f)
{
    return f->fill.type == J_STRING ? &f->fill : NULL;
}

static cuddle_status bad_type(j_run *r, char type, const j_value *v)
{
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "format '%c' does not fit a value of type '%s'", type ? type : ' ',
            cdl_jinja_type_name(v));
}

static cuddle_status check_size(j_run *r, const spec *f)
{
    if (f->width > (int64_t)r->output_max || f->precision > PRECISION_MAX || (f->group && f->width > PRECISION_MAX))
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a format's width or precision is too large");
    return CUDDLE_OK;
}

/* ---- Numbers ---- */

/* The digits of a whole part with separators, at least `least` characters of it. */
static size_t group_digits(char *out, const char *digits, size_t n, char group, size_t every, int64_t least)
{
    size_t total = n, len = 0;
    while (total + (total - 1) / every < (size_t)(least > 0 ? least : 0))
        total++;
    for (size_t i = 0; i < total; i++) {
        if (i && (total - i) % every == 0)
            out[len++] = group;
        out[len++] = i < total - n ? '0' : digits[i - (total - n)];
    }
    return len;
}

/* sign and prefix ("-", "+0x"), then digits; the whole part of them has n_whole. */
static cuddle_status put_number(j_run *r, cdl_buf *b, const spec *f, const char *front, const char *digits,
        size_t n_whole)
{
    char text[NUMBER_MAX];
    size_t front_n = strlen(front), n = 0, rest = strlen(digits) - n_whole;
    bool zeros = f->align == '=' && f->fill.type == J_STRING && f->fill.n == 1 && *f->fill.as.s == '0';
    memcpy(text, front, front_n);
    n = front_n;
    if (f->group && n_whole) {
        size_t every = f->type && strchr("boxX", f->type) ? 4 : 3;
        int64_t least = zeros ? f->width - (int64_t)(front_n + rest) : 0;
        n += group_digits(text + n, digits, n_whole, f->group, every, least);
    } else {
        memcpy(text + n, digits, n_whole);
        n += n_whole;
    }
    memcpy(text + n, digits + n_whole, rest);
    n += rest;
    if (f->align != '=')
        return cdl_jinja_put_padded(r, b, text, n, f->width, f->align ? f->align : '>', fill_of(f));
    CDL_TRY(cdl_buf_append(b, text, front_n));
    return cdl_jinja_put_padded(r, b, text + front_n, n - front_n, f->width - (int64_t)front_n, '>', fill_of(f));
}

static const char *sign_of(const spec *f, bool negative)
{
    return negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
}

static cuddle_status put_whole(j_run *r, cdl_buf *b, const spec *f, int64_t v)
{
    unsigned base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'o' ? 8 : f->type == 'b' ? 2 : 10;
    const char *letters = f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    char front[8], digits[PRECISION_MAX + 80];
    size_t at = sizeof digits - 1, least = f->precision > 0 ? (size_t)f->precision : 1;
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    digits[at] = '\0';
    for (; left || sizeof digits - 1 - at < least; left /= base)
        digits[--at] = letters[left % base];
    bool prefix = f->alt && base != 10;
    snprintf(front, sizeof front, prefix ? "%s0%c" : "%s", sign_of(f, v < 0), f->type);
    return put_number(r, b, f, front, digits + at, strlen(digits + at));
}

/* 'g' that always shows a digit behind the point: "{:.3}" of a float. */
static void write_general(char *out, size_t size, double d, int precision)
{
    precision = precision ? precision : 1;
    snprintf(out, size, "%.*e", precision - 1, d);
    int exponent = atoi(strchr(out, 'e') + 1);
    if (exponent < -4 || exponent >= precision - 1) {
        char *e = strchr(out, 'e'), *end = e;
        while (strchr(out, '.') && (end[-1] == '0' || end[-1] == '.') && *end != '.')
            end--;
        memmove(end, e, strlen(e) + 1);
        return;
    }
    snprintf(out, size, "%.*g", precision, d);
    if (!strchr(out, '.'))
        strcat(out, ".0");
}

/* The shortest text that reads back as d, as str() writes it. */
static cuddle_status write_shortest(char *out, size_t size, double d)
{
    cdl_buf b = { 0 };
    cuddle_status st = cdl_jinja_put_float(&b, d);
    snprintf(out, size, "%s", st == CUDDLE_OK ? b.data : "");
    cdl_buf_free(&b);
    return st;
}

static cuddle_status put_float(j_run *r, cdl_buf *b, const spec *f, double d)
{
    char text[NUMBER_MAX / 2], format[] = "%#.*f";
    bool percent = f->type == '%';
    double v = fabs(percent ? d * 100 : d);
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    char type = percent ? 'f' : f->type == 'n' ? 'g' : f->type;
    if (!isfinite(v)) {
        bool upper = type && strchr("EFG", type);
        snprintf(text, sizeof text, "%s", isnan(v) ? upper ? "NAN" : "nan" : upper ? "INF" : "inf");
    } else if (!type && f->precision < 0) {
        CDL_TRY(write_shortest(text, sizeof text, v));
    } else if (!type) {
        write_general(text, sizeof text - 3, v, precision);
    } else {
        format[4] = type;
        if (!f->alt)
            memmove(format + 1, format + 2, sizeof format - 2);
        snprintf(text, sizeof text - 1, format, precision, v);
    }
    if (percent)
        strcat(text, "%");
    CDL_TRY(cdl_jinja_burn(r, 4));
    return put_number(r, b, f, sign_of(f, signbit(d) && !isnan(d)), text, strspn(text, "0123456789"));
}

static cuddle_status put_text(j_run *r, cdl_buf *b, const spec *f, const j_value *text)
{
    j_value cut = *text;
    if (f->precision >= 0 && (size_t)f->precision < text->n) {
        const j_value part[3] = { j_none(), j_int(f->precision), j_none() };
        CDL_TRY(cdl_jinja_slice(r, text, part, &cut));
    }
    CDL_TRY(cdl_jinja_burn(r, cut.n / 64));
    return cdl_jinja_put_padded(r, b, cut.as.s, cut.n, f->width, f->align ? f->align : '<', fill_of(f));
}

static cuddle_status put_char(j_run *r, cdl_buf *b, const spec *f, const j_value *v)
{
    char utf8[4];
    int64_t cp = j_whole(v);
    if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "format 'c' needs a character's number");
    j_value text = j_text(utf8, cdl_utf8_put(utf8, (uint32_t)cp));
    return put_text(r, b, f, &text);
}

static cuddle_status write_repr(j_run *r, cdl_buf *b, const void *v)
{
    return cdl_jinja_repr(r, b, v);
}

/* str(), repr() or ascii() of a value. */
static cuddle_status convert(j_run *r, const j_value *v, char how, j_value *out)
{
    if (how == 's')
        return cdl_jinja_str(r, v, out);
    if (how == 'r')
        return cdl_jinja_write(r, write_repr, v, out);
    return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "the conversion '%c' is not supported", how);
}

/* Digits at *s as a number, moving behind them. */
static int64_t take_number(const char **s, const char *end)
{
    int64_t v = 0;
    for (; *s < end && **s >= '0' && **s <= '9'; (*s)++)
        v = v < INT32_MAX ? v * 10 + (**s - '0') : v;
    return v;
}

/* ---- text % values ---- */

typedef struct {
    const j_value *fmt;
    const j_args *args;
    uint32_t next;             /* of the positional ones */
    bool named;                /* %(name)s was used      */
} percents;

static cuddle_status next_value(j_run *r, percents *x, const j_value **out)
{
    if (x->next >= x->args->n_pos)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "not enough arguments for format string");
    *out = &x->args->pos[x->next++];
    return CUDDLE_OK;
}

static cuddle_status named_value(j_run *r, percents *x, const char *name, size_t n, const j_value **out)
{
    const j_args *a = x->args;
    j_value *found = NULL;
    x->named = true;
    if (a->n_pos == 1 && a->pos[0].type == J_DICT)
        CDL_TRY(cdl_jinja_find_text(r, a->pos[0].as.dict, name, n, &found));
    for (uint32_t k = 0; k < a->n_kw && !found; k++)
        if (strlen(a->kw_name[k]) == n && memcmp(a->kw_name[k], name, n) == 0)
            found = &a->kw[k];
    *out = found;
    if (found)
        return CUDDLE_OK;
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "the format needs a value named '%.*s'", CDL_STR(name, n));
}

/* A number or * at *s. */
static cuddle_status take_size(j_run *r, percents *x, const char **s, const char *end, int64_t *out)
{
    const j_value *v;
    if (*s == end || **s != '*') {
        *out = take_number(s, end);
        return CUDDLE_OK;
    }
    (*s)++;
    CDL_TRY(next_value(r, x, &v));
    return cdl_jinja_need_int(r, v, "a format's *", out);
}

/* Flags, width and precision behind the % (and the name). */
static cuddle_status take_percent_spec(j_run *r, percents *x, const char **s, const char *end, spec *f)
{
    bool zero = false;
    *f = (spec){ .precision = -1 };
    for (; *s < end && **s && strchr("#0- +", **s); (*s)++) {
        f->alt |= **s == '#';
        zero |= **s == '0';
        f->align = **s == '-' ? '<' : f->align;
        if (**s == '+' || (**s == ' ' && !f->sign))
            f->sign = **s;
    }
    CDL_TRY(take_size(r, x, s, end, &f->width));
    if (f->width < 0) {
        f->align = '<';
        f->width = f->width < -INT32_MAX ? INT32_MAX : -f->width;
    }
    if (*s < end && **s == '.') {
        (*s)++;
        CDL_TRY(take_size(r, x, s, end, &f->precision));
        f->precision = f->precision < 0 ? 0 : f->precision;
    }
    while (*s < end && (**s == 'h' || **s == 'l' || **s == 'L'))
        (*s)++;
    if (*s == end)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "incomplete format");
    f->type = *(*s)++;
    if (zero && !f->align && f->type && strchr("diuoxXeEfFgG", f->type)) {
        f->align = '=';
        f->fill = zero_fill;
    }
    return check_size(r, f);
}

static cuddle_status put_percent(j_run *r, cdl_buf *b, const spec *given, const j_value *v)
{
    spec f = *given;
    j_value text;
    if (f.type && strchr("diu", f.type)) {
        f.type = 'd';
        if (v->type == J_FLOAT && fabs(v->as.d) < 0x1p63)
            return put_whole(r, b, &f, (int64_t)v->as.d);
    }
    if (f.type && strchr("doxX", f.type))
        return j_is_whole(v) ? put_whole(r, b, &f, j_whole(v)) : bad_type(r, f.type, v);
    if (f.type && strchr("eEfFgG", f.type))
        return j_is_number(v) ? put_float(r, b, &f, j_number(v)) : bad_type(r, f.type, v);
    f.align = f.align ? f.align : '>';
    if (f.type == 'c') {
        f.precision = -1;
        if (v->type == J_STRING && cdl_jinja_count(v->as.s, v->n) == 1)
            return put_text(r, b, &f, v);
        return j_is_whole(v) ? put_char(r, b, &f, v) : bad_type(r, 'c', v);
    }
    if (f.type != 's' && f.type != 'r' && f.type != 'a')
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "unsupported format character '%c'", f.type);
    CDL_TRY(convert(r, v, f.type, &text));
    return put_text(r, b, &f, &text);
}

/* What stands behind a % at *s. */
static cuddle_status format_one(j_run *r, cdl_buf *b, percents *x, const char **s, const char *end)
{
    const j_value *v = NULL;
    spec f;
    if (*s < end && **s == '(') {
        const char *name = ++*s;
        int depth = 1;
        for (; *s < end && depth; (*s)++)
            depth += **s == '(' ? 1 : **s == ')' ? -1 : 0;
        if (depth)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "incomplete format key");
        CDL_TRY(named_value(r, x, name, (size_t)(*s - 1 - name), &v));
    }
    CDL_TRY(take_percent_spec(r, x, s, end, &f));
    if (f.type == '%')
        return cdl_buf_putc(b, '%');
    if (!v)
        CDL_TRY(next_value(r, x, &v));
    return put_percent(r, b, &f, v);
}

static cuddle_status write_percents(j_run *r, cdl_buf *b, const void *of)
{
    percents x = *(const percents *)of;
    const char *s = x.fmt->as.s, *end = s + x.fmt->n;
    CDL_TRY(cdl_jinja_burn(r, x.fmt->n / 16));
    while (s < end) {
        if (*s != '%') {
            CDL_TRY(cdl_buf_putc(b, *s++));
            continue;
        }
        s++;
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(format_one(r, b, &x, &s, end));
    }
    const j_args *a = x.args;
    uint8_t type = a->n_pos == 1 ? a->pos[0].type : J_NONE;
    bool mapping = type == J_DICT || type == J_LIST || type == J_RANGE || type == J_UNDEFINED; /* has __getitem__ */
    if (x.next < a->n_pos && !x.named && !mapping)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "not all arguments converted during string formatting");
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_format(j_run *r, const j_value *fmt, const j_args *args, j_value *out)
{
    percents x = { .fmt = fmt, .args = args };
    return cdl_jinja_write(r, write_percents, &x, out);
}

/* ---- text.format(values) ---- */

typedef struct {
    const j_value *fmt;
    const j_args *args;
    int64_t next;              /* of {}; -1: {0} was used */
} braces;

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static cuddle_status parse_spec(j_run *r, const char *s, size_t n, spec *f)
{
    const char *end = s + n;
    uint32_t cp;
    size_t k = cdl_utf8_get(s, n, &cp);
    *f = (spec){ .precision = -1 };
    if (k && k < n && is_align(s[k])) {
        f->fill = j_text(s, k);
        f->align = s[k];
        s += k + 1;
    } else if (s < end && is_align(*s)) {
        f->align = *s++;
    }
    if (s < end && *s && strchr("+- ", *s))
        f->sign = *s++;
    if (s < end && *s == '#')
        f->alt = *s++;
    if (s < end && *s == '0') {
        s++;
        if (f->fill.type == J_UNDEFINED)
            f->fill = zero_fill;
        f->align = f->align ? f->align : '0'; /* '=' for numbers, none for texts */
    }
    f->width = take_number(&s, end);
    if (s < end && (*s == ',' || *s == '_'))
        f->group = *s++;
    if (s < end && *s == '.') {
        const char *digits = ++s;
        f->precision = take_number(&s, end);
        if (s == digits)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format lacks its precision");
    }
    if (s < end)
        f->type = *s++;
    if (s < end)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "invalid format specifier");
    return check_size(r, f);
}

static cuddle_status put_formatted(j_run *r, cdl_buf *b, spec *f, const j_value *v)
{
    bool whole = j_is_whole(v), real = v->type == J_FLOAT;
    if (v->type == J_STRING) {
        f->align = f->align == '0' ? '<' : f->align;
        if ((f->type && f->type != 's') || f->align == '=' || f->sign || f->alt || f->group)
            return bad_type(r, f->type, v);
        return put_text(r, b, f, v);
    }
    f->align = f->align == '0' ? '=' : f->align;
    if (whole && (!f->type || strchr("bdoxXn", f->type))) {
        if (f->precision >= 0)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a precision does not fit an integer's format");
        return put_whole(r, b, f, j_whole(v));
    }
    if (whole && f->type == 'c') {
        f->align = f->align ? f->align : '<';
        return f->sign || f->precision >= 0 ? bad_type(r, 'c', v) : put_char(r, b, f, v);
    }
    if ((whole || real) && (!f->type || strchr("eEfFgGn%", f->type)))
        return put_float(r, b, f, j_number(v));
    return bad_type(r, f->type, v);
}

/* Which argument a field's first name means. */
static cuddle_status first_value(j_run *r, braces *x, const char *s, size_t n, j_value *out)
{
    const char *at = s;
    int64_t i = n ? take_number(&at, s + n) : x->next;
    bool number = at == s + n;
    if (number) {
        if (n ? x->next > 0 : x->next < 0)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format has both {} and {0}");
        x->next = n ? -1 : x->next + 1;
        if (i >= x->args->n_pos)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "the format has no argument %lld", (long long)i);
        *out = x->args->pos[i];
        return CUDDLE_OK;
    }
    for (uint32_t k = 0; k < x->args->n_kw; k++)
        if (strlen(x->args->kw_name[k]) == n && memcmp(x->args->kw_name[k], s, n) == 0) {
            *out = x->args->kw[k];
            return CUDDLE_OK;
        }
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "the format has no argument '%.*s'", CDL_STR(s, n));
}

/* name.attribute[item] */
static cuddle_status field_value(j_run *r, braces *x, const char *s, size_t n, j_value *out)
{
    const char *end = s + n, *at = s, *from;
    while (at < end && *at != '.' && *at != '[')
        at++;
    j_value v;
    CDL_TRY(first_value(r, x, s, (size_t)(at - s), &v));
    while (at < end) {
        bool item = *at++ == '[';
        from = at;
        while (at < end && (item ? *at != ']' : *at != '.' && *at != '['))
            at++;
        if ((item && at == end) || at == from)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format's field is malformed");
        const char *digits = from;
        int64_t i = take_number(&digits, at);
        j_value key = item && digits == at ? j_int(i) : j_text(from, (size_t)(at - from));
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(item ? cdl_jinja_item(r, &v, &key, out) : cdl_jinja_get(r, &v, key.as.s, key.n, out));
        v = *out;
        at += item;
        if (item && at < end && *at != '.' && *at != '[')
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format's field is malformed");
    }
    *out = v;
    return CUDDLE_OK;
}

static cuddle_status write_braces(j_run *r, cdl_buf *b, braces *x, const char *s, const char *end, int depth);

typedef struct {
    braces *x;
    const char *s, *end;
} nested;

static cuddle_status write_nested(j_run *r, cdl_buf *b, const void *of)
{
    const nested *x = of;
    return write_braces(r, b, x->x, x->s, x->end, 1);
}

/* The field s[0, n) without its braces: name!conversion:spec */
static cuddle_status put_field(j_run *r, cdl_buf *b, braces *x, const char *s, size_t n, int depth)
{
    const char *end = s + n, *at = s;
    j_value v, text;
    spec f;
    for (bool item = false; at < end && (item || (*at != '!' && *at != ':')); at++)
        item = *at == '[' || (item && *at != ']');
    CDL_TRY(field_value(r, x, s, (size_t)(at - s), &v));
    if (at < end && *at == '!') {
        if (end - at < 2 || (end - at > 2 && at[2] != ':'))
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format's conversion is malformed");
        CDL_TRY(convert(r, &v, at[1], &text));
        v = text;
        at += 2;
    }
    if (at == end || at + 1 == end)
        return cdl_jinja_print(r, b, &v);
    if (depth)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a format's fields nest too deeply");
    CDL_TRY(cdl_jinja_write(r, write_nested, &(nested){ x, at + 1, end }, &text));
    CDL_TRY(parse_spec(r, text.as.s, text.n, &f));
    return put_formatted(r, b, &f, &v);
}

static cuddle_status write_braces(j_run *r, cdl_buf *b, braces *x, const char *s, const char *end, int depth)
{
    while (s < end) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        if ((*s != '{' && *s != '}') || (s + 1 < end && s[1] == *s)) {
            bool twice = *s == '{' || *s == '}';
            CDL_TRY(cdl_buf_putc(b, *s));
            s += 1 + twice;
            continue;
        }
        if (*s == '}')
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a single '}' in a format");
        const char *from = ++s;
        for (int open = 1; s < end; s++) {
            open += *s == '{' ? 1 : *s == '}' ? -1 : 0;
            if (!open)
                break;
        }
        if (s == end)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a '{' in a format is never closed");
        CDL_TRY(put_field(r, b, x, from, (size_t)(s - from), depth));
        s++;
    }
    return CUDDLE_OK;
}

static cuddle_status write_format(j_run *r, cdl_buf *b, const void *of)
{
    braces x = *(const braces *)of;
    return write_braces(r, b, &x, x.fmt->as.s, x.fmt->as.s + x.fmt->n, 0);
}

cuddle_status cdl_jinja_format_braces(j_run *r, const j_value *fmt, const j_args *args, j_value *out)
{
    braces x = { .fmt = fmt, .args = args };
    return cdl_jinja_write(r, write_format, &x, out);
}
