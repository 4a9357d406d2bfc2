/* jinja_select.c - filters over lists: those that take filters, tests and attributes, and those that order. */
#include "token/jinja_parts.h"

#include <string.h>

#include "base/status.h"

/* ---- Attributes: "a.b.0" ---- */

typedef struct {
    j_value *parts;
    size_t n;
    const j_value *fallback;   /* for what is undefined on the way; NULL or None: none */
    bool fold;                 /* texts in lower case                                  */
} path;

static bool is_digits(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= '0' && s[i] <= '9')
        i++;
    return n && i == n && n < 19;
}

static j_value part_of(const char *s, size_t n)
{
    int64_t v = 0;
    if (!is_digits(s, n))
        return j_text(s, n);
    for (size_t i = 0; i < n; i++)
        v = v * 10 + (s[i] - '0');
    return j_int(v);
}

/* attribute: a text with dots, an integer, or NULL / None for the item itself. */
static cuddle_status open_path(j_run *r, const j_value *attribute, path *out)
{
    j_items parts = { 0 };
    out->n = 0;
    if (!attribute || attribute->type == J_NONE)
        return CUDDLE_OK;
    if (attribute->type != J_STRING) {
        CDL_TRY(cdl_jinja_push(r, &parts, attribute));
    } else {
        const char *s = attribute->as.s, *end = s + attribute->n, *dot;
        do {
            dot = memchr(s, '.', (size_t)(end - s));
            j_value part = part_of(s, (size_t)((dot ? dot : end) - s));
            CDL_TRY(cdl_jinja_push(r, &parts, &part));
            s = dot ? dot + 1 : end;
        } while (dot);
    }
    out->parts = parts.items;
    out->n = parts.n;
    return CUDDLE_OK;
}

static cuddle_status follow(j_run *r, const path *p, const j_value *item, j_value *out)
{
    j_value v = *item, next;
    for (size_t i = 0; i < p->n; i++) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_item(r, &v, &p->parts[i], &next));
        v = next;
        if (v.type == J_UNDEFINED && p->fallback && p->fallback->type != J_NONE)
            v = *p->fallback;
    }
    *out = v;
    return p->fold && v.type == J_STRING ? cdl_jinja_case(r, &v, 'l', out) : CUDDLE_OK;
}

/* ---- Applying filters and tests ---- */

/* A name from a template's data, as a C string. */
static cuddle_status take_name(j_run *r, const j_value *v, const char *what, char name[32])
{
    CDL_TRY(cdl_jinja_need_string(r, v, what));
    if (v->n >= 32)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s '%.*s' is not known", what, CDL_STR(v->as.s, v->n));
    memcpy(name, v->as.s, v->n);
    name[v->n] = '\0';
    return CUDDLE_OK;
}

/* args without the first n positional ones. */
static j_args behind(const j_args *args, uint32_t n)
{
    j_args rest = *args;
    rest.pos = args->pos ? args->pos + n : NULL;
    rest.n_pos -= n;
    return rest;
}

static cuddle_status map_attribute(j_run *r, const j_list *l, const j_args *args, j_items *to)
{
    path p = { .fallback = cdl_jinja_arg(args, 1, "default") };
    for (uint32_t k = 0; k < args->n_kw; k++)
        if (strcmp(args->kw_name[k], "attribute") != 0 && strcmp(args->kw_name[k], "default") != 0)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "map: unexpected argument '%s'", args->kw_name[k]);
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 0, "attribute"), &p));
    for (size_t i = 0; i < l->n; i++) {
        j_value v;
        CDL_TRY(follow(r, &p, &l->items[i], &v));
        CDL_TRY(cdl_jinja_push(r, to, &v));
    }
    return CUDDLE_OK;
}

static cuddle_status map_filter(j_run *r, const j_list *l, const j_args *args, j_items *to)
{
    char name[32];
    if (!args->n_pos)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "map needs a filter's name or attribute=");
    j_args rest = behind(args, 1);
    CDL_TRY(take_name(r, &args->pos[0], "map's filter", name));
    for (size_t i = 0; i < l->n; i++) {
        j_value v;
        CDL_TRY(cdl_jinja_filter(r, name, &l->items[i], &rest, &v));
        CDL_TRY(cdl_jinja_push(r, to, &v));
    }
    return CUDDLE_OK;
}

static cuddle_status filter_map(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    j_items to = { 0 };
    j_value list;
    if (cdl_jinja_truth(v)) {
        CDL_TRY(cdl_jinja_iterate(r, v, &list));
        bool attribute = !args->n_pos && cdl_jinja_arg(args, 0, "attribute");
        CDL_TRY(attribute ? map_attribute(r, list.as.list, args, &to) : map_filter(r, list.as.list, args, &to));
    }
    return cdl_jinja_pushed(r, &to, J_ITER, out);
}

typedef struct {
    path attribute;
    char test[32];             /* "": truth */
    j_args args;
} choice;

static cuddle_status open_choice(j_run *r, const j_args *args, bool attribute, choice *c)
{
    *c = (choice){ .args = behind(args, 0) };
    if (attribute && !args->n_pos)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "selectattr and rejectattr need an attribute's name");
    if (attribute) {
        CDL_TRY(open_path(r, &args->pos[0], &c->attribute));
        c->args = behind(args, 1);
    }
    if (!c->args.n_pos)
        return CUDDLE_OK;
    CDL_TRY(take_name(r, &c->args.pos[0], "a test", c->test));
    c->args = behind(&c->args, 1);
    return CUDDLE_OK;
}

static cuddle_status passes(j_run *r, const choice *c, const j_value *item, bool *yes)
{
    j_value v;
    CDL_TRY(follow(r, &c->attribute, item, &v));
    if (c->test[0])
        return cdl_jinja_test(r, c->test, &v, &c->args, yes);
    *yes = cdl_jinja_truth(&v);
    return CUDDLE_OK;
}

static cuddle_status choose(j_run *r, const j_value *v, const j_args *args, bool attribute, bool want, j_value *out)
{
    j_items to = { 0 };
    j_value list;
    choice c;
    if (cdl_jinja_truth(v)) {
        CDL_TRY(open_choice(r, args, attribute, &c));
        CDL_TRY(cdl_jinja_iterate(r, v, &list));
        for (size_t i = 0; i < list.as.list->n; i++) {
            bool yes;
            CDL_TRY(passes(r, &c, &list.as.list->items[i], &yes));
            if (yes == want)
                CDL_TRY(cdl_jinja_push(r, &to, &list.as.list->items[i]));
        }
    }
    return cdl_jinja_pushed(r, &to, J_ITER, out);
}

static cuddle_status filter_select(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return choose(r, v, args, false, true, out);
}

static cuddle_status filter_reject(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return choose(r, v, args, false, false, out);
}

static cuddle_status filter_selectattr(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return choose(r, v, args, true, true, out);
}

static cuddle_status filter_rejectattr(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return choose(r, v, args, true, false, out);
}

/* ---- Ordering ---- */

/* Merge sort: stable, and no worse on hostile input. */
static cuddle_status sort(j_run *r, j_entry *a, j_entry *spare, size_t n, bool reverse)
{
    if (n < 2)
        return CUDDLE_OK;
    size_t half = n / 2, i = 0, j = half;
    CDL_TRY(sort(r, a, spare, half, reverse));
    CDL_TRY(sort(r, a + half, spare, n - half, reverse));
    CDL_TRY(cdl_jinja_burn(r, n));
    for (size_t k = 0; k < n; k++) {
        int order = 0;
        if (i < half && j < n)
            CDL_TRY(cdl_jinja_order(r, &a[j].key, &a[i].key, &order));
        bool left = i < half && (j == n || (reverse ? order <= 0 : order >= 0));
        spare[k] = left ? a[i++] : a[j++];
    }
    memcpy(a, spare, n * sizeof *a);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_sort(j_run *r, j_entry *a, size_t n, bool reverse)
{
    j_entry *spare;
    CDL_TRY(cdl_jinja_alloc(r, n, sizeof *spare, &spare));
    return sort(r, a, spare, n, reverse);
}

static bool flag(const j_args *args, uint32_t i, const char *name)
{
    const j_value *v = cdl_jinja_arg(args, i, name);
    return v && cdl_jinja_truth(v);
}

/* Each item with its key. */
static cuddle_status keyed(j_run *r, const j_value *v, const path *p, j_entry **out, size_t *n)
{
    j_value list;
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    *n = list.as.list->n;
    CDL_TRY(cdl_jinja_alloc(r, *n, sizeof **out, out));
    for (size_t i = 0; i < *n; i++) {
        (*out)[i].value = list.as.list->items[i];
        CDL_TRY(follow(r, p, &(*out)[i].value, &(*out)[i].key));
    }
    return CUDDLE_OK;
}

static cuddle_status values_of(j_run *r, const j_entry *e, size_t n, j_value *out)
{
    j_value list;
    CDL_TRY(cdl_jinja_list(r, J_LIST, n, &list));
    for (size_t i = 0; i < n; i++)
        list.as.list->items[i] = e[i].value;
    *out = list;
    return CUDDLE_OK;
}

/* Keys become lists, one item for each of the attributes "a,b". */
static cuddle_status add_keys(j_run *r, const j_value *attribute, bool fold, j_entry *e, size_t n)
{
    const char *s = attribute->as.s, *end = s + attribute->n, *comma;
    j_items *keys;
    CDL_TRY(cdl_jinja_alloc(r, n, sizeof *keys, &keys));
    do {
        comma = memchr(s, ',', (size_t)(end - s));
        j_value one = j_text(s, (size_t)((comma ? comma : end) - s)), key;
        path p = { .fold = fold };
        CDL_TRY(open_path(r, &one, &p));
        for (size_t i = 0; i < n; i++) {
            CDL_TRY(follow(r, &p, &e[i].value, &key));
            CDL_TRY(cdl_jinja_push(r, &keys[i], &key));
        }
        s = comma ? comma + 1 : end;
    } while (comma);
    for (size_t i = 0; i < n; i++)
        CDL_TRY(cdl_jinja_pushed(r, &keys[i], J_LIST, &e[i].key));
    return CUDDLE_OK;
}

static cuddle_status filter_sort(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "reverse", "case_sensitive", "attribute", NULL };
    j_entry *e;
    size_t n;
    CDL_TRY(cdl_jinja_check_args(r, args, "sort", 0, names));
    const j_value *attribute = cdl_jinja_arg(args, 2, "attribute");
    bool many = attribute && attribute->type == J_STRING, fold = !flag(args, 1, "case_sensitive");
    path p = { .fold = fold };
    CDL_TRY(open_path(r, many ? NULL : attribute, &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    if (many)
        CDL_TRY(add_keys(r, attribute, fold, e, n));
    CDL_TRY(cdl_jinja_sort(r, e, n, flag(args, 0, "reverse")));
    return values_of(r, e, n, out);
}

static cuddle_status filter_dictsort(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "case_sensitive", "by", "reverse", NULL };
    j_entry *e;
    CDL_TRY(cdl_jinja_check_args(r, args, "dictsort", 0, names));
    const j_value *by = cdl_jinja_arg(args, 1, "by");
    bool by_value = by && by->type == J_STRING && by->n == 5 && memcmp(by->as.s, "value", 5) == 0;
    if (by && !by_value && !(by->type == J_STRING && by->n == 3 && memcmp(by->as.s, "key", 3) == 0))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "dictsort sorts by 'key' or 'value'");
    if (v->type != J_DICT)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "dictsort needs a dict, not '%s'", cdl_jinja_type_name(v));
    const j_dict *d = v->as.dict;
    path p = { .fold = !flag(args, 0, "case_sensitive") };
    CDL_TRY(cdl_jinja_alloc(r, d->n, sizeof *e, &e));
    for (size_t i = 0; i < d->n; i++) {
        CDL_TRY(cdl_jinja_list(r, J_TUPLE, 2, &e[i].value));
        e[i].value.as.list->items[0] = d->items[i].key;
        e[i].value.as.list->items[1] = d->items[i].value;
        CDL_TRY(follow(r, &p, &e[i].value.as.list->items[by_value], &e[i].key));
    }
    CDL_TRY(cdl_jinja_sort(r, e, d->n, flag(args, 2, "reverse")));
    return values_of(r, e, d->n, out);
}

static cuddle_status filter_unique(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "case_sensitive", "attribute", NULL };
    j_value seen, none = j_none();
    j_items to = { 0 };
    j_entry *e;
    size_t n;
    CDL_TRY(cdl_jinja_check_args(r, args, "unique", 0, names));
    path p = { .fold = !flag(args, 0, "case_sensitive") };
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 1, "attribute"), &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    CDL_TRY(cdl_jinja_dict(r, 0, &seen));
    for (size_t i = 0; i < n; i++) {
        size_t before = seen.as.dict->n;
        CDL_TRY(cdl_jinja_put(r, seen.as.dict, &e[i].key, &none));
        if (seen.as.dict->n > before)
            CDL_TRY(cdl_jinja_push(r, &to, &e[i].value));
    }
    return cdl_jinja_pushed(r, &to, J_ITER, out);
}

static cuddle_status extreme(j_run *r, const j_value *v, const j_args *args, int sign, j_value *out)
{
    static const char *const names[] = { "case_sensitive", "attribute", NULL };
    j_entry *e;
    size_t n, best = 0;
    CDL_TRY(cdl_jinja_check_args(r, args, "min and max", 0, names));
    path p = { .fold = !flag(args, 0, "case_sensitive") };
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 1, "attribute"), &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    for (size_t i = 1; i < n; i++) {
        int order;
        CDL_TRY(cdl_jinja_order(r, &e[i].key, &e[best].key, &order));
        if (sign < 0 ? order < 0 : order > 0)
            best = i;
    }
    *out = n ? e[best].value : j_undefined("an item of an empty sequence", 28);
    return CUDDLE_OK;
}

static cuddle_status filter_min(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return extreme(r, v, args, -1, out);
}

static cuddle_status filter_max(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    return extreme(r, v, args, 1, out);
}

static cuddle_status push_group(j_run *r, const path *p, const j_entry *e, size_t n, j_items *to)
{
    j_value group;
    CDL_TRY(cdl_jinja_list(r, J_TUPLE, 2, &group));
    group.flag = 'g'; /* has attributes grouper and list */
    CDL_TRY(follow(r, p, &e[0].value, &group.as.list->items[0]));
    CDL_TRY(values_of(r, e, n, &group.as.list->items[1]));
    return cdl_jinja_push(r, to, &group);
}

static cuddle_status filter_groupby(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "attribute", "default", "case_sensitive", NULL };
    j_items to = { 0 };
    j_entry *e;
    size_t n, end;
    CDL_TRY(cdl_jinja_check_args(r, args, "groupby", 1, names));
    path p = { .fallback = cdl_jinja_arg(args, 1, "default"), .fold = !flag(args, 2, "case_sensitive") };
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 0, "attribute"), &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    CDL_TRY(cdl_jinja_sort(r, e, n, false));
    p.fold = false;
    for (size_t i = 0; i < n; i = end) {
        bool same = true;
        for (end = i + 1; end < n && same; end += same)
            CDL_TRY(cdl_jinja_equal(r, &e[i].key, &e[end].key, &same));
        CDL_TRY(push_group(r, &p, e + i, end - i, &to));
    }
    return cdl_jinja_pushed(r, &to, J_LIST, out);
}

/* ---- Folding ---- */

static cuddle_status filter_sum(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "attribute", "start", NULL };
    j_entry *e;
    size_t n;
    path p = { 0 };
    CDL_TRY(cdl_jinja_check_args(r, args, "sum", 0, names));
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 0, "attribute"), &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    const j_value *start = cdl_jinja_arg(args, 1, "start");
    j_value sum = start ? *start : j_int(0), next;
    if (sum.type == J_STRING)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "sum does not add texts: use join");
    for (size_t i = 0; i < n; i++) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_binary(r, '+', &sum, &e[i].key, &next));
        sum = next;
    }
    *out = sum;
    return CUDDLE_OK;
}

typedef struct {
    const j_entry *e;
    size_t n;
    const j_value *between;
} joining;

static cuddle_status write_joined(j_run *r, cdl_buf *b, const void *of)
{
    const joining *x = of;
    for (size_t i = 0; i < x->n; i++) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        if (i && x->between)
            CDL_TRY(cdl_jinja_print(r, b, x->between));
        CDL_TRY(cdl_jinja_print(r, b, &x->e[i].key));
    }
    return CUDDLE_OK;
}

static cuddle_status filter_join(j_run *r, const j_value *v, const j_args *args, j_value *out)
{
    static const char *const names[] = { "d", "attribute", NULL };
    j_entry *e;
    size_t n;
    path p = { 0 };
    CDL_TRY(cdl_jinja_check_args(r, args, "join", 0, names));
    CDL_TRY(open_path(r, cdl_jinja_arg(args, 1, "attribute"), &p));
    CDL_TRY(keyed(r, v, &p, &e, &n));
    joining x = { e, n, cdl_jinja_arg(args, 0, "d") };
    return cdl_jinja_write(r, write_joined, &x, out);
}

const j_filter cdl_jinja_select_filters[] = {
    { "map", filter_map }, { "select", filter_select }, { "reject", filter_reject },
    { "selectattr", filter_selectattr }, { "rejectattr", filter_rejectattr }, { "sort", filter_sort },
    { "dictsort", filter_dictsort }, { "unique", filter_unique }, { "min", filter_min }, { "max", filter_max },
    { "groupby", filter_groupby }, { "sum", filter_sum }, { "join", filter_join }, { NULL, NULL },
};
