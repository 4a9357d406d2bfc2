/* jinja_eval.c - runs expressions: names, attributes, items, operators, calls. */
#include "token/jinja_parts.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

/* ---- Arguments ---- */

const j_value *cdl_jinja_arg(const j_args *a, uint32_t i, const char *name)
{
    if (i < a->n_pos)
        return &a->pos[i];
    for (uint32_t k = 0; name && k < a->n_kw; k++)
        if (strcmp(a->kw_name[k], name) == 0)
            return &a->kw[k];
    return NULL;
}

cuddle_status cdl_jinja_check_args(j_run *r, const j_args *a, const char *what, uint32_t min,
        const char *const *names)
{
    uint32_t max = 0;
    while (names[max])
        max++;
    if (a->n_pos > max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s takes at most %u arguments, not %u", what, max, a->n_pos);
    for (uint32_t k = 0; k < a->n_kw; k++) {
        uint32_t i = 0;
        while (i < max && strcmp(names[i], a->kw_name[k]) != 0)
            i++;
        if (i == max || i < a->n_pos)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s got an unexpected argument '%s'", what, a->kw_name[k]);
    }
    for (uint32_t i = 0; i < min; i++)
        if (!cdl_jinja_arg(a, i, names[i]))
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s needs the argument '%s'", what, names[i]);
    return CUDDLE_OK;
}

static cuddle_status need(j_run *r, const j_value *v, const char *what, const char *wanted)
{
    if (v->type == J_UNDEFINED)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%.*s' is undefined", CDL_STR(v->as.s, v->n));
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s must be %s, not '%s'", what, wanted, cdl_jinja_type_name(v));
}

cuddle_status cdl_jinja_need_string(j_run *r, const j_value *v, const char *what)
{
    return v->type == J_STRING ? CUDDLE_OK : need(r, v, what, "a string");
}

cuddle_status cdl_jinja_need_int(j_run *r, const j_value *v, const char *what, int64_t *out)
{
    if (!j_is_whole(v))
        return need(r, v, what, "an integer");
    *out = j_whole(v);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_eval_args(j_run *r, const j_node *e, j_scope *s, j_args *out)
{
    *out = (j_args){ .n_pos = e->n_args, .n_kw = e->n_kw, .kw_name = e->kw };
    if (!e->n_args && !e->n_kw)
        return CUDDLE_OK;
    CDL_TRY(cdl_jinja_alloc(r, (size_t)e->n_args + e->n_kw, sizeof *out->pos, &out->pos));
    out->kw = out->pos + e->n_args;
    for (uint32_t i = 0; i < e->n_args + e->n_kw; i++)
        CDL_TRY(cdl_jinja_eval(r, e->args[i], s, &out->pos[i]));
    return CUDDLE_OK;
}

/* ---- Names ---- */

cuddle_status cdl_jinja_scope(j_run *r, j_scope *up, j_scope **out)
{
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof **out, out));
    (*out)->up = up;
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_set(j_run *r, j_scope *s, const char *name, const j_value *v)
{
    CDL_TRY(cdl_jinja_burn(r, 1 + s->n / 8));
    for (uint32_t i = 0; i < s->n; i++)
        if (s->names[i] == name) {
            s->values[i] = *v;
            return CUDDLE_OK;
        }
    if (s->n == s->cap) {
        uint32_t cap = s->cap * 2 + 4;
        const char **names;
        j_value *values;
        CDL_TRY(cdl_jinja_alloc(r, cap, sizeof *names, &names));
        CDL_TRY(cdl_jinja_alloc(r, cap, sizeof *values, &values));
        if (s->n) {
            memcpy(names, s->names, s->n * sizeof *names);
            memcpy(values, s->values, s->n * sizeof *values);
        }
        s->names = names;
        s->values = values;
        s->cap = cap;
    }
    s->names[s->n] = name;
    s->values[s->n++] = *v;
    return CUDDLE_OK;
}

static cuddle_status lookup(j_run *r, const char *name, const j_scope *s, j_value *out)
{
    for (; s; s = s->up) {
        CDL_TRY(cdl_jinja_burn(r, 1 + s->n / 8));
        for (uint32_t i = 0; i < s->n; i++)
            if (s->names[i] == name) {
                *out = s->values[i];
                return CUDDLE_OK;
            }
    }
    int f = cdl_jinja_function(name);
    *out = f < 0 ? j_undefined(name, strlen(name))
                 : (j_value){ .type = J_FUNCTION, .as.function = (uint32_t)f };
    return CUDDLE_OK;
}

/* ---- Attributes and items ---- */

static bool is_one_of(const char *const *names, const char *s, size_t n)
{
    for (; *names; names++)
        if (strlen(*names) == n && memcmp(*names, s, n) == 0)
            return true;
    return false;
}

bool cdl_jinja_has_method(const j_value *v, const char *name, size_t n)
{
    static const char *const of_dict[] = { "keys", "values", "items", "get", "copy", NULL };
    static const char *const of_list[] = { "index", "count", "copy", NULL };
    static const char *const of_loop[] = { "cycle", "changed", NULL };
    switch (v->type) {
    case J_STRING:
        return cdl_jinja_has_string_method(name, n);
    case J_DICT:
        return is_one_of(of_dict, name, n);
    case J_LIST:
        return is_one_of(of_list, name, n);
    case J_TUPLE:
    case J_RANGE:
        return is_one_of(of_list, name, n) && name[2] != 'p';
    case J_LOOP:
        return is_one_of(of_loop, name, n);
    default:
        return false;
    }
}

/* Methods that the sandbox hides, and with them keys of a dict in d.key. */
static bool changes_value(const j_value *v, const char *name, size_t n)
{
    static const char *const of_dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };
    static const char *const of_list[] = { "append", "clear", "pop", "reverse", "insert", "sort",
        "extend", "remove", NULL };
    return (v->type == J_DICT && is_one_of(of_dict, name, n)) || (v->type == J_LIST && is_one_of(of_list, name, n));
}

static cuddle_status loop_attribute(j_run *r, j_loop *l, const char *name, size_t n_name, j_value *out)
{
    static const char *const names[] = { "index", "index0", "revindex", "revindex0", "first", "last",
        "length", "previtem", "nextitem", "depth", "depth0" };
    enum { INDEX, INDEX0, REVINDEX, REVINDEX0, FIRST, LAST, LENGTH, PREV, NEXT, DEPTH, DEPTH0, COUNT };
    int which = 0;
    while (which < COUNT && (strlen(names[which]) != n_name || memcmp(names[which], name, n_name) != 0))
        which++;
    if (which == REVINDEX || which == REVINDEX0 || which == LENGTH)
        CDL_TRY(cdl_jinja_loop_find(r, l, SIZE_MAX));
    else if (which == LAST || which == NEXT)
        CDL_TRY(cdl_jinja_loop_find(r, l, l->index + 2));
    int64_t index = (int64_t)l->index, n = (int64_t)l->n;
    switch (which) {
    case INDEX: *out = j_int(index + 1); break;
    case INDEX0: *out = j_int(index); break;
    case REVINDEX: *out = j_int(n - index); break;
    case REVINDEX0: *out = j_int(n - index - 1); break;
    case FIRST: *out = j_bool(index == 0); break;
    case LAST: *out = j_bool(index + 1 == n); break;
    case LENGTH: *out = j_int(n); break;
    case PREV: *out = index ? l->items[index - 1] : j_undefined("there is no previous item", 25); break;
    case NEXT: *out = index + 1 < n ? l->items[index + 1] : j_undefined("there is no next item", 21); break;
    case DEPTH: *out = j_int(l->depth + 1); break;
    case DEPTH0: *out = j_int(l->depth); break;
    default: *out = j_undefined(name, n_name); break;
    }
    return CUDDLE_OK;
}

static cuddle_status new_method(j_run *r, const j_value *v, const char *name, size_t n, j_value *out)
{
    j_method *m;
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof *m, &m));
    *m = (j_method){ *v, name, n };
    *out = (j_value){ .type = J_METHOD, .as.method = m };
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_attribute(j_run *r, const j_value *v, const char *name, size_t n, bool *found, j_value *out)
{
    *found = true;
    *out = j_undefined(name, n);
    if (cdl_jinja_has_method(v, name, n))
        return new_method(r, v, name, n, out);
    if (changes_value(v, name, n)) {
        *out = j_undefined("a method that changes its value", 31);
        return CUDDLE_OK;
    }
    if (v->type == J_LOOP)
        return loop_attribute(r, v->as.loop, name, n, out);
    if (v->type == J_NAMESPACE && n && name[0] != '_') {
        j_value *item;
        CDL_TRY(cdl_jinja_find_text(r, v->as.dict, name, n, &item));
        *found = item != NULL;
        if (item)
            *out = *item;
        return CUDDLE_OK;
    }
    if (v->type == J_MACRO && n == 4 && memcmp(name, "name", 4) == 0) {
        *out = j_text(v->as.macro->node->name, strlen(v->as.macro->node->name));
        return CUDDLE_OK;
    }
    if (v->type == J_TUPLE && v->flag == 'g' && is_one_of((const char *const[]){ "grouper", "list", NULL }, name, n)) {
        *out = v->as.list->items[name[0] == 'l'];
        return CUDDLE_OK;
    }
    *found = false;
    return CUDDLE_OK;
}

static cuddle_status undefined(j_run *r, const j_value *v)
{
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%.*s' is undefined", CDL_STR(v->as.s, v->n));
}

cuddle_status cdl_jinja_get(j_run *r, const j_value *v, const char *name, size_t n, j_value *out)
{
    bool found;
    if (v->type == J_UNDEFINED)
        return undefined(r, v);
    CDL_TRY(cdl_jinja_attribute(r, v, name, n, &found, out));
    if (found || v->type != J_DICT)
        return CUDDLE_OK;
    j_value *item;
    CDL_TRY(cdl_jinja_find_text(r, v->as.dict, name, n, &item));
    if (item)
        *out = *item;
    return CUDDLE_OK;
}

static cuddle_status char_at(j_run *r, const j_value *v, int64_t i, j_value *out)
{
    CDL_TRY(cdl_jinja_burn(r, v->n / 64));
    int64_t n = (int64_t)cdl_jinja_count(v->as.s, v->n);
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return CUDDLE_OK;
    size_t at = 0, end;
    for (; at < v->n; at++)
        if (((unsigned char)v->as.s[at] & 0xc0) != 0x80 && i-- == 0)
            break;
    for (end = at + 1; end < v->n && ((unsigned char)v->as.s[end] & 0xc0) == 0x80;)
        end++;
    *out = j_text(v->as.s + at, end - at);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_item(j_run *r, const j_value *v, const j_value *key, j_value *out)
{
    if (v->type == J_UNDEFINED)
        return undefined(r, v);
    *out = j_undefined("an item that does not exist", 27);
    if (key->type == J_STRING)
        *out = j_undefined(key->as.s, key->n);
    if (v->type == J_DICT && key->type != J_LIST && key->type != J_DICT) {
        j_value *item;
        CDL_TRY(cdl_jinja_find(r, v->as.dict, key, &item));
        if (item) {
            *out = *item;
            return CUDDLE_OK;
        }
    }
    if (j_is_whole(key) && v->type == J_STRING)
        return char_at(r, v, j_whole(key), out);
    if (j_is_whole(key) && (v->type == J_LIST || v->type == J_TUPLE || v->type == J_RANGE)) {
        int64_t n = (int64_t)v->as.list->n, i = j_whole(key);
        i += i < 0 ? n : 0;
        if (i >= 0 && i < n)
            *out = v->as.list->items[i];
        return CUDDLE_OK;
    }
    if (key->type != J_STRING)
        return CUDDLE_OK;
    bool found;
    return cdl_jinja_attribute(r, v, key->as.s, key->n, &found, out);
}

static cuddle_status eval_slice(j_run *r, const j_node *e, j_scope *s, const j_value *v, j_value *out)
{
    j_value part[3] = { j_none(), j_none(), j_none() };
    for (int i = 0; i < 3; i++)
        if (e->list[i])
            CDL_TRY(cdl_jinja_eval(r, e->list[i], s, &part[i]));
    return v->type == J_UNDEFINED ? undefined(r, v) : cdl_jinja_slice(r, v, part, out);
}

/* ---- Operators ---- */

static const char *op_text(int op)
{
    static const char *const names[] = { [J_OP_FLOOR] = "//", [J_OP_POWER] = "**" };
    switch (op) {
    case '+': return "+";
    case '-': return "-";
    case '*': return "*";
    case '/': return "/";
    case '%': return "%";
    default: return names[op];
    }
}

static cuddle_status no_operator(j_run *r, int op, const j_value *a, const j_value *b)
{
    if (a->type == J_UNDEFINED || b->type == J_UNDEFINED)
        return undefined(r, a->type == J_UNDEFINED ? a : b);
    return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%s' %s '%s' is not possible", cdl_jinja_type_name(a), op_text(op),
            cdl_jinja_type_name(b));
}

static cuddle_status too_large(j_run *r)
{
    return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a number does not fit into 64 bits");
}

static cuddle_status power(j_run *r, int64_t base, int64_t exponent, j_value *out)
{
    int64_t v = 1;
    if (exponent < 0 && base == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "division by zero");
    if (exponent < 0) {
        *out = j_float(pow((double)base, (double)exponent));
        return CUDDLE_OK;
    }
    while (exponent) {
        if ((exponent & 1) && __builtin_mul_overflow(v, base, &v))
            return too_large(r);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return too_large(r);
    }
    *out = j_int(v);
    return CUDDLE_OK;
}

static cuddle_status whole_binary(j_run *r, int op, int64_t a, int64_t b, j_value *out)
{
    int64_t v = 0;
    bool over = false;
    if ((op == '/' || op == '%' || op == J_OP_FLOOR) && b == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "division by zero");
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &v);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &v);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &v);
        break;
    case '/':
        *out = j_float((double)a / (double)b);
        return CUDDLE_OK;
    case J_OP_FLOOR:
        over = a == INT64_MIN && b == -1;
        v = over ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case '%':
        v = b == -1 ? 0 : a % b;
        v += v != 0 && (v < 0) != (b < 0) ? b : 0;
        break;
    default:
        return power(r, a, b, out);
    }
    *out = j_int(v);
    return over ? too_large(r) : CUDDLE_OK;
}

static cuddle_status float_binary(j_run *r, int op, double a, double b, j_value *out)
{
    double v = 0, rest;
    if ((op == '/' || op == '%' || op == J_OP_FLOOR) && b == 0)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "division by zero");
    switch (op) {
    case '+': v = a + b; break;
    case '-': v = a - b; break;
    case '*': v = a * b; break;
    case '/': v = a / b; break;
    case '%':
    case J_OP_FLOOR:
        rest = fmod(a, b);
        rest += rest != 0 && (rest < 0) != (b < 0) ? b : 0;
        v = op == '%' ? (rest == 0 ? copysign(0, b) : rest) : rint((a - rest) / b);
        break;
    default:
        if (a == 0 && b < 0)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "division by zero");
        if (a < 0 && isfinite(b) && b != floor(b))
            return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "complex numbers are not supported");
        v = pow(a, b);
        if (isinf(v) && isfinite(a) && isfinite(b))
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a number is too large");
        break;
    }
    *out = j_float(v);
    return CUDDLE_OK;
}

static cuddle_status join_strings(j_run *r, const j_value *a, const j_value *b, j_value *out)
{
    size_t n;
    char *text;
    if (!cdl_add(a->n, b->n, &n) || n > r->output_max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a text is longer than %zu bytes", r->output_max);
    CDL_TRY(cdl_jinja_alloc(r, n + 1, 1, &text));
    if (a->n)
        memcpy(text, a->as.s, a->n);
    if (b->n)
        memcpy(text + a->n, b->as.s, b->n);
    *out = j_text(text, n);
    return CUDDLE_OK;
}

static cuddle_status join_lists(j_run *r, const j_value *a, const j_value *b, j_value *out)
{
    const j_list *x = a->as.list, *y = b->as.list;
    j_value list;
    CDL_TRY(cdl_jinja_list(r, (j_type)a->type, x->n + y->n, &list));
    for (size_t i = 0; i < x->n; i++)
        list.as.list->items[i] = x->items[i];
    for (size_t i = 0; i < y->n; i++)
        list.as.list->items[x->n + i] = y->items[i];
    *out = list;
    return CUDDLE_OK;
}

static cuddle_status repeat(j_run *r, const j_value *v, int64_t times, j_value *out)
{
    size_t count = times > 0 ? (size_t)times : 0, each = v->type == J_STRING ? v->n : v->as.list->n, n;
    if (!cdl_mul(each, count, &n) || n > r->output_max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a value repeated %zu times is too large", count);
    j_value made;
    if (v->type != J_STRING) {
        CDL_TRY(cdl_jinja_list(r, (j_type)v->type, n, &made));
        for (size_t i = 0; i < n; i++)
            made.as.list->items[i] = v->as.list->items[i % each];
    } else {
        char *text;
        CDL_TRY(cdl_jinja_alloc(r, n + 1, 1, &text));
        for (size_t i = 0; i < n; i += each)
            memcpy(text + i, v->as.s, each);
        made = j_text(text, n);
    }
    *out = made;
    return CUDDLE_OK;
}

/* text % value: a tuple gives several arguments, anything else one. */
static cuddle_status percent(j_run *r, const j_value *a, const j_value *b, j_value *out)
{
    j_value one = *b;
    j_args args = { .pos = &one, .n_pos = 1 };
    if (b->type == J_TUPLE)
        args = (j_args){ .pos = b->as.list->items, .n_pos = (uint32_t)b->as.list->n };
    return cdl_jinja_format(r, a, &args, out);
}

static bool can_repeat(const j_value *v)
{
    return v->type == J_STRING || v->type == J_LIST || v->type == J_TUPLE;
}

cuddle_status cdl_jinja_binary(j_run *r, int op, const j_value *a, const j_value *b, j_value *out)
{
    if (j_is_whole(a) && j_is_whole(b))
        return whole_binary(r, op, j_whole(a), j_whole(b), out);
    if (j_is_number(a) && j_is_number(b))
        return float_binary(r, op, j_number(a), j_number(b), out);
    if (op == '+' && a->type == b->type && a->type == J_STRING)
        return join_strings(r, a, b, out);
    if (op == '+' && a->type == b->type && can_repeat(a))
        return join_lists(r, a, b, out);
    if (op == '*' && can_repeat(a) && j_is_whole(b))
        return repeat(r, a, j_whole(b), out);
    if (op == '*' && can_repeat(b) && j_is_whole(a))
        return repeat(r, b, j_whole(a), out);
    if (op == '%' && a->type == J_STRING)
        return percent(r, a, b, out);
    return no_operator(r, op, a, b);
}

static bool is_nan(const j_value *v)
{
    return v->type == J_FLOAT && isnan(v->as.d);
}

cuddle_status cdl_jinja_compare(j_run *r, int op, const j_value *a, const j_value *b, bool *out)
{
    int order = 0;
    switch (op) {
    case J_OP_EQ:
        return cdl_jinja_equal(r, a, b, out);
    case J_OP_NE:
        CDL_TRY(cdl_jinja_equal(r, a, b, out));
        *out = !*out;
        return CUDDLE_OK;
    case J_OP_IN:
        return cdl_jinja_in(r, a, b, out);
    case J_OP_NOT_IN:
        CDL_TRY(cdl_jinja_in(r, a, b, out));
        *out = !*out;
        return CUDDLE_OK;
    default:
        CDL_TRY(cdl_jinja_order(r, a, b, &order));
        *out = op == '<' ? order < 0 : op == '>' ? order > 0 : op == J_OP_LE ? order <= 0 : order >= 0;
        *out = *out && !is_nan(a) && !is_nan(b);
        return CUDDLE_OK;
    }
}

static cuddle_status eval_compare(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value a, b;
    bool yes = true;
    CDL_TRY(cdl_jinja_eval(r, e->a, s, &a));
    for (uint32_t i = 0; i < e->n && yes; i++) {
        CDL_TRY(cdl_jinja_eval(r, e->list[i]->b, s, &b));
        CDL_TRY(cdl_jinja_compare(r, e->list[i]->op, &a, &b, &yes));
        a = b;
    }
    *out = j_bool(yes);
    return CUDDLE_OK;
}

static cuddle_status eval_chain(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    for (uint32_t i = 0; i < e->n; i++) {
        CDL_TRY(cdl_jinja_eval(r, e->list[i], s, out));
        if (cdl_jinja_truth(out) != (e->kind == E_AND))
            break;
    }
    return CUDDLE_OK;
}

typedef struct {
    const j_node *e;
    j_scope *s;
} place;

static cuddle_status write_concat(j_run *r, cdl_buf *b, const void *of)
{
    const place *p = of;
    for (uint32_t i = 0; i < p->e->n; i++) {
        j_value v;
        CDL_TRY(cdl_jinja_eval(r, p->e->list[i], p->s, &v));
        CDL_TRY(cdl_jinja_print(r, b, &v));
    }
    return CUDDLE_OK;
}

static cuddle_status eval_concat(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    return cdl_jinja_write(r, write_concat, &(place){ e, s }, out);
}

static cuddle_status eval_sign(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value v;
    CDL_TRY(cdl_jinja_eval(r, e->a, s, &v));
    if (v.type == J_UNDEFINED)
        return undefined(r, &v);
    if (!j_is_number(&v))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "'%s' has no sign", cdl_jinja_type_name(&v));
    if (v.type == J_FLOAT)
        *out = j_float(e->kind == E_NEG ? -v.as.d : v.as.d);
    else
        return whole_binary(r, e->kind == E_NEG ? '-' : '+', 0, j_whole(&v), out);
    return CUDDLE_OK;
}

/* ---- Values in brackets ---- */

static cuddle_status eval_list(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value list;
    CDL_TRY(cdl_jinja_list(r, e->kind == E_LIST ? J_LIST : J_TUPLE, e->n, &list));
    for (uint32_t i = 0; i < e->n; i++)
        CDL_TRY(cdl_jinja_eval(r, e->list[i], s, &list.as.list->items[i]));
    *out = list;
    return CUDDLE_OK;
}

static cuddle_status eval_dict(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value dict;
    CDL_TRY(cdl_jinja_dict(r, e->n / 2, &dict));
    for (uint32_t i = 0; i + 1 < e->n; i += 2) {
        j_value key, value;
        CDL_TRY(cdl_jinja_eval(r, e->list[i], s, &key));
        CDL_TRY(cdl_jinja_eval(r, e->list[i + 1], s, &value));
        CDL_TRY(cdl_jinja_put(r, dict.as.dict, &key, &value));
    }
    *out = dict;
    return CUDDLE_OK;
}

/* ---- Calls ---- */

cuddle_status cdl_jinja_call(j_run *r, const j_value *f, const j_args *args, j_value *out)
{
    switch (f->type) {
    case J_MACRO:
        return cdl_jinja_call_macro(r, f->as.macro, args, out);
    case J_FUNCTION:
        return cdl_jinja_call_function(r, f->as.function, args, out);
    case J_METHOD:
        return cdl_jinja_call_method(r, f->as.method, args, out);
    case J_LOOP:
        return cdl_jinja_call_loop(r, f->as.loop, args, out);
    case J_UNDEFINED:
        return undefined(r, f);
    default:
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a '%s' cannot be called", cdl_jinja_type_name(f));
    }
}

static cuddle_status eval_call(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value f;
    j_args args;
    CDL_TRY(cdl_jinja_eval(r, e->a, s, &f));
    CDL_TRY(cdl_jinja_eval_args(r, e, s, &args));
    r->line = e->line;
    return cdl_jinja_call(r, &f, &args, out);
}

static cuddle_status eval_test(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value v;
    j_args args;
    bool yes;
    CDL_TRY(cdl_jinja_eval(r, e->a, s, &v));
    CDL_TRY(cdl_jinja_eval_args(r, e, s, &args));
    r->line = e->line;
    CDL_TRY(cdl_jinja_test(r, e->name, &v, &args, &yes));
    *out = j_bool(yes != e->op);
    return CUDDLE_OK;
}

static cuddle_status eval_operand(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value a, b;
    j_args args;
    CDL_TRY(cdl_jinja_eval(r, e->a, s, &a));
    switch (e->kind) {
    case E_ATTR:
        return cdl_jinja_get(r, &a, e->name, strlen(e->name), out);
    case E_ITEM:
        CDL_TRY(cdl_jinja_eval(r, e->b, s, &b));
        return cdl_jinja_item(r, &a, &b, out);
    case E_SLICE:
        return eval_slice(r, e, s, &a, out);
    case E_FILTER:
        CDL_TRY(cdl_jinja_eval_args(r, e, s, &args));
        r->line = e->line;
        return cdl_jinja_filter(r, e->name, &a, &args, out);
    case E_NOT:
        *out = j_bool(!cdl_jinja_truth(&a));
        return CUDDLE_OK;
    default:
        CDL_TRY(cdl_jinja_eval(r, e->b, s, &b));
        r->line = e->line;
        return cdl_jinja_binary(r, e->op, &a, &b, out);
    }
}

static cuddle_status eval_if(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    j_value condition;
    CDL_TRY(cdl_jinja_eval(r, e->b, s, &condition));
    if (cdl_jinja_truth(&condition))
        return cdl_jinja_eval(r, e->a, s, out);
    if (e->c)
        return cdl_jinja_eval(r, e->c, s, out);
    *out = j_undefined("an if-expression without else", 29);
    return CUDDLE_OK;
}

static cuddle_status eval(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    switch (e->kind) {
    case E_CONST:
        *out = e->value;
        return CUDDLE_OK;
    case E_NAME:
        return lookup(r, e->name, s, out);
    case E_LIST:
    case E_TUPLE:
        return eval_list(r, e, s, out);
    case E_DICT:
        return eval_dict(r, e, s, out);
    case E_CALL:
        return eval_call(r, e, s, out);
    case E_TEST:
        return eval_test(r, e, s, out);
    case E_NEG:
    case E_POS:
        return eval_sign(r, e, s, out);
    case E_AND:
    case E_OR:
        return eval_chain(r, e, s, out);
    case E_CONCAT:
        return eval_concat(r, e, s, out);
    case E_COMPARE:
        return eval_compare(r, e, s, out);
    case E_IF:
        return eval_if(r, e, s, out);
    default:
        return eval_operand(r, e, s, out);
    }
}

cuddle_status cdl_jinja_eval(j_run *r, const j_node *e, j_scope *s, j_value *out)
{
    CDL_TRY(cdl_jinja_enter(r));
    r->line = e->line;
    cuddle_status st = eval(r, e, s, out);
    r->depth--;
    return st;
}
