/* jinja_functions.c - functions that templates call, and methods of lists, dicts and loops. */
#include "token/jinja_parts.h"

#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/status.h"

enum { RANGE_MAX = 100000 }; /* as Jinja's sandbox */

static cuddle_status call_range(j_run *r, const j_args *args, j_value *out)
{
    static const char *const names[] = { "start", "stop", "step", NULL };
    int64_t part[3] = { 0, 0, 1 };
    CDL_TRY(cdl_jinja_check_args(r, args, "range()", 1, names));
    if (args->n_kw)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "range() takes no named arguments");
    for (uint32_t i = 0; i < args->n_pos; i++)
        CDL_TRY(cdl_jinja_need_int(r, &args->pos[i], "an argument of range()", &part[args->n_pos == 1 ? 1 : i]));
    if (part[2] == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "range()'s step must not be zero");
    __int128 span = part[2] < 0 ? (__int128)part[0] - part[1] : (__int128)part[1] - part[0];
    __int128 stride = part[2] < 0 ? -(__int128)part[2] : part[2];
    __int128 n = span > 0 ? (span + stride - 1) / stride : 0;
    if (n > RANGE_MAX)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "range() is longer than %d", RANGE_MAX);
    j_value list;
    CDL_TRY(cdl_jinja_list(r, J_RANGE, (size_t)n, &list));
    for (size_t i = 0; i < (size_t)n; i++)
        list.as.list->items[i] = j_int(part[0] + (int64_t)i * part[2]);
    *out = list;
    return CUDDLE_OK;
}

/* A dict, or a list of pairs, into a dict. */
static cuddle_status put_all(j_run *r, j_dict *d, const j_value *from)
{
    if (from->type == J_DICT) {
        for (size_t i = 0; i < from->as.dict->n; i++)
            CDL_TRY(cdl_jinja_put(r, d, &from->as.dict->items[i].key, &from->as.dict->items[i].value));
        return CUDDLE_OK;
    }
    j_value pairs, pair;
    CDL_TRY(cdl_jinja_iterate(r, from, &pairs));
    for (size_t i = 0; i < pairs.as.list->n; i++) {
        CDL_TRY(cdl_jinja_iterate(r, &pairs.as.list->items[i], &pair));
        if (pair.as.list->n != 2)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "dict() needs pairs of a key and a value");
        CDL_TRY(cdl_jinja_put(r, d, &pair.as.list->items[0], &pair.as.list->items[1]));
    }
    return CUDDLE_OK;
}

static cuddle_status call_dict(j_run *r, const j_args *args, j_value *out)
{
    j_value d;
    if (args->n_pos > 1)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "dict() and namespace() take one value, then named ones");
    CDL_TRY(cdl_jinja_dict(r, args->n_kw, &d));
    if (args->n_pos)
        CDL_TRY(put_all(r, d.as.dict, &args->pos[0]));
    for (uint32_t k = 0; k < args->n_kw; k++) {
        j_value key = j_text(args->kw_name[k], strlen(args->kw_name[k]));
        CDL_TRY(cdl_jinja_put(r, d.as.dict, &key, &args->kw[k]));
    }
    *out = d;
    return CUDDLE_OK;
}

static cuddle_status call_namespace(j_run *r, const j_args *args, j_value *out)
{
    CDL_TRY(call_dict(r, args, out));
    out->type = J_NAMESPACE;
    return CUDDLE_OK;
}

static cuddle_status call_raise(j_run *r, const j_args *args, j_value *out)
{
    static const char *const names[] = { "message", NULL };
    (void)out;
    CDL_TRY(cdl_jinja_check_args(r, args, "raise_exception()", 1, names));
    j_value text;
    CDL_TRY(cdl_jinja_str(r, cdl_jinja_arg(args, 0, "message"), &text));
    int n = text.n < 800 ? (int)text.n : 800;
    return cdl_status_fail(CUDDLE_ERR_ARG, "%s refuses these messages: %.*s", r->t->name, n, text.as.s);
}

/* strftime of one directive; Python leaves out zones of a time that has none. */
static cuddle_status put_time(j_run *r, cdl_buf *b, const struct tm *tm, const char *directive)
{
    char text[128];
    char last = directive[strlen(directive) - 1];
    if (last == 'z' || last == 'Z')
        return CUDDLE_OK;
    if (last == 'f')
        return cdl_buf_puts(b, "000000");
    CDL_TRY(cdl_jinja_burn(r, 4));
    size_t n = strftime(text, sizeof text, directive, tm);
    return cdl_buf_append(b, text, n);
}

static cuddle_status format_time(j_run *r, cdl_buf *b, const void *of)
{
    const j_value *format = of;
    time_t now = (time_t)r->now;
    struct tm tm;
    if (!localtime_r(&now, &tm))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "the clock is out of range");
    for (size_t i = 0; i < format->n; i++) {
        const char *s = format->as.s + i;
        if (*s != '%' || i + 1 == format->n || !s[1]) {
            CDL_TRY(cdl_buf_putc(b, *s));
            continue;
        }
        bool flag = strchr("-_0^#EO", s[1]) && i + 2 < format->n && s[2];
        char directive[4] = { '%', s[1], flag ? s[2] : 0, 0 };
        CDL_TRY(put_time(r, b, &tm, directive));
        i += flag ? 2 : 1;
    }
    return CUDDLE_OK;
}

static cuddle_status call_strftime(j_run *r, const j_args *args, j_value *out)
{
    static const char *const names[] = { "format", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "strftime_now()", 1, names));
    const j_value *format = cdl_jinja_arg(args, 0, "format");
    CDL_TRY(cdl_jinja_need_string(r, format, "strftime_now()'s format"));
    return cdl_jinja_write(r, format_time, format, out);
}

static const struct {
    const char *name;
    cuddle_status (*call)(j_run *r, const j_args *args, j_value *out);
} functions[] = {
    { "range", call_range },
    { "namespace", call_namespace },
    { "dict", call_dict },
    { "raise_exception", call_raise },
    { "strftime_now", call_strftime },
};

int cdl_jinja_function(const char *name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0)
            return (int)i;
    return -1;
}

cuddle_status cdl_jinja_call_function(j_run *r, uint32_t f, const j_args *args, j_value *out)
{
    return functions[f].call(r, args, out);
}

/* ---- Methods ---- */

static bool is(const j_method *m, const char *name)
{
    return m->n == strlen(name) && memcmp(m->name, name, m->n) == 0;
}

static cuddle_status no_arguments(j_run *r, const j_args *args, const char *what)
{
    static const char *const none[] = { NULL };
    return cdl_jinja_check_args(r, args, what, 0, none);
}

/* keys(), values(), items(). */
static cuddle_status dict_view(j_run *r, const j_dict *d, char what, j_value *out)
{
    j_value view;
    CDL_TRY(cdl_jinja_list(r, J_VIEW, d->n, &view));
    for (size_t i = 0; i < d->n; i++) {
        j_value *item = &view.as.list->items[i];
        if (what != 'i') {
            *item = what == 'k' ? d->items[i].key : d->items[i].value;
            continue;
        }
        CDL_TRY(cdl_jinja_list(r, J_TUPLE, 2, item));
        item->as.list->items[0] = d->items[i].key;
        item->as.list->items[1] = d->items[i].value;
    }
    view.flag = (uint8_t)what;
    *out = view;
    return CUDDLE_OK;
}

static cuddle_status dict_method(j_run *r, const j_method *m, const j_args *args, j_value *out)
{
    static const char *const names[] = { "key", "default", NULL };
    const j_dict *d = m->self.as.dict;
    if (!is(m, "get")) {
        CDL_TRY(no_arguments(r, args, "a method of a dict"));
        *out = m->self; /* copy(): nothing can change it */
        return is(m, "copy") ? CUDDLE_OK : dict_view(r, d, m->name[0], out);
    }
    j_value *found;
    CDL_TRY(cdl_jinja_check_args(r, args, "get()", 1, names));
    CDL_TRY(cdl_jinja_find(r, d, cdl_jinja_arg(args, 0, "key"), &found));
    const j_value *fallback = cdl_jinja_arg(args, 1, "default");
    *out = found ? *found : fallback ? *fallback : j_none();
    return CUDDLE_OK;
}

static cuddle_status list_method(j_run *r, const j_method *m, const j_args *args, j_value *out)
{
    static const char *const names[] = { "value", NULL };
    const j_list *l = m->self.as.list;
    *out = m->self;
    if (is(m, "copy"))
        return no_arguments(r, args, "copy()");
    CDL_TRY(cdl_jinja_check_args(r, args, "a method of a list", 1, names));
    int64_t count = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool same;
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_equal(r, &l->items[i], cdl_jinja_arg(args, 0, "value"), &same));
        count += same;
        if (same && is(m, "index")) {
            *out = j_int((int64_t)i);
            return CUDDLE_OK;
        }
    }
    if (is(m, "index"))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "index(): the value is not in the list");
    *out = j_int(count);
    return CUDDLE_OK;
}

static cuddle_status loop_method(j_run *r, const j_method *m, const j_args *args, j_value *out)
{
    j_loop *l = m->self.as.loop;
    if (args->n_kw)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "methods of loop take no named arguments");
    if (is(m, "cycle")) {
        if (!args->n_pos)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "loop.cycle() needs items to cycle through");
        *out = args->pos[l->index % args->n_pos];
        return CUDDLE_OK;
    }
    j_value now;
    bool same = false;
    CDL_TRY(cdl_jinja_list(r, J_TUPLE, args->n_pos, &now));
    for (uint32_t i = 0; i < args->n_pos; i++)
        now.as.list->items[i] = args->pos[i];
    if (l->has_changed)
        CDL_TRY(cdl_jinja_equal(r, &l->changed, &now, &same));
    l->changed = now;
    l->has_changed = true;
    *out = j_bool(!same);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_call_method(j_run *r, const j_method *m, const j_args *args, j_value *out)
{
    switch (m->self.type) {
    case J_STRING:
        return cdl_jinja_string_method(r, &m->self, m->name, m->n, args, out);
    case J_DICT:
        return dict_method(r, m, args, out);
    case J_LOOP:
        return loop_method(r, m, args, out);
    default:
        return list_method(r, m, args, out);
    }
}
