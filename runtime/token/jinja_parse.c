/* jinja_parse.c - tokens to a tree, with Jinja's precedences. */
#include "token/jinja_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

typedef struct {
    cdl_jinja *t;
    const j_token *at;
    uint32_t depth;
    uint32_t loops;            /* for loops around this place, for break and continue */
    uint8_t uses;              /* special names seen in the macro being read          */
} parser;

/* ---- Names ---- */

static uint32_t hash(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 16777619u;
    return h;
}

/* The slot of a name: its own, or an empty one. */
static uint32_t slot_of(const j_names *set, const char *s, size_t n)
{
    uint32_t i = hash(s, n) & (set->cap - 1);
    while (set->slots[i] && (strncmp(set->slots[i], s, n) != 0 || set->slots[i][n]))
        i = (i + 1) & (set->cap - 1);
    return i;
}

const char *cdl_jinja_interned(const cdl_jinja *t, const char *name)
{
    return t->names.slots[slot_of(&t->names, name, strlen(name))];
}

static cuddle_status grow_names(cdl_jinja *t)
{
    j_names old = t->names;
    t->names.cap = old.cap ? old.cap * 2 : 64;
    t->names.slots = cdl_arena_zalloc(&t->arena, t->names.cap, sizeof *t->names.slots);
    if (!t->names.slots)
        return cdl_status_nomem("a chat template");
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.slots[i])
            t->names.slots[slot_of(&t->names, old.slots[i], strlen(old.slots[i]))] = old.slots[i];
    return CUDDLE_OK;
}

static cuddle_status intern(cdl_jinja *t, const char *s, size_t n, const char **out)
{
    if (t->names.n * 2 >= t->names.cap)
        CDL_TRY(grow_names(t));
    uint32_t i = slot_of(&t->names, s, n);
    if (!t->names.slots[i]) {
        t->names.slots[i] = cdl_arena_strndup(&t->arena, s, n);
        if (!t->names.slots[i])
            return cdl_status_nomem("a chat template");
        t->names.n++;
    }
    *out = t->names.slots[i];
    return CUDDLE_OK;
}

/* ---- Tokens and nodes ---- */

static cuddle_status fail(const parser *p, cuddle_status code, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return cdl_status_fail(code, "%s, line %u: %s", p->t->name, p->at->line, what);
}

static bool is_op(const parser *p, int op)
{
    return p->at->type == JT_OP && p->at->op == op;
}

static bool is_name(const parser *p, const char *name)
{
    return p->at->type == JT_NAME && p->at->n == strlen(name) && memcmp(p->at->s, name, p->at->n) == 0;
}

static bool skip_op(parser *p, int op)
{
    if (!is_op(p, op))
        return false;
    p->at++;
    return true;
}

static bool skip_name(parser *p, const char *name)
{
    if (!is_name(p, name))
        return false;
    p->at++;
    return true;
}

static cuddle_status expected(const parser *p, const char *what)
{
    const j_token *t = p->at;
    switch (t->type) {
    case JT_END:
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s but the template ends", what);
    case JT_NAME:
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s, not '%.*s'", what, CDL_STR(t->s, t->n));
    case JT_STRING:
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s, not a string", what);
    case JT_BLOCK_END:
    case JT_VARIABLE_END:
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s but the tag ends", what);
    case JT_OP:
        if (t->op >= ' ')
            return fail(p, CUDDLE_ERR_FORMAT, "expected %s, not '%c'", what, t->op);
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s, not an operator", what);
    default:
        return fail(p, CUDDLE_ERR_FORMAT, "expected %s", what);
    }
}

static cuddle_status need_op(parser *p, int op)
{
    const char text[] = { '\'', (char)op, '\'', 0 };
    return skip_op(p, op) ? CUDDLE_OK : expected(p, text);
}

static cuddle_status need_end(parser *p)
{
    if (p->at->type != JT_BLOCK_END)
        return expected(p, "the end of the tag");
    p->at++;
    return CUDDLE_OK;
}

static cuddle_status new_node(parser *p, j_kind kind, j_node **out)
{
    j_node *n = *out = cdl_arena_zalloc(&p->t->arena, 1, sizeof *n);
    if (!n)
        return cdl_status_nomem("a chat template");
    n->kind = kind;
    n->line = p->at->line;
    return CUDDLE_OK;
}

/* Appends to a growing array of pointers in the arena; sizes go up in powers of two. */
static cuddle_status append(parser *p, void *array, uint32_t n, const void *item)
{
    const void **items;
    memcpy(&items, array, sizeof items);
    if ((n & (n - 1)) == 0) {
        const void **grown = cdl_arena_zalloc(&p->t->arena, n ? (size_t)n * 2 : 1, sizeof *grown);
        if (!grown)
            return cdl_status_nomem("a chat template");
        if (n)
            memcpy(grown, items, n * sizeof *grown);
        memcpy(array, &grown, sizeof grown);
        items = grown;
    }
    items[n] = item;
    return CUDDLE_OK;
}

static cuddle_status add(parser *p, j_node *to, j_node *item)
{
    CDL_TRY(append(p, &to->list, to->n, item));
    to->n++;
    return CUDDLE_OK;
}

static cuddle_status enter(parser *p)
{
    if (++p->depth > J_DEPTH_MAX / 2)
        return fail(p, CUDDLE_ERR_FULL, "nested deeper than %d levels", J_DEPTH_MAX / 2);
    return CUDDLE_OK;
}

/* The name at this place, interned. */
static cuddle_status take_name(parser *p, const char *what, const char **out)
{
    if (p->at->type != JT_NAME)
        return expected(p, what);
    CDL_TRY(intern(p->t, p->at->s, p->at->n, out));
    p->at++;
    return CUDDLE_OK;
}

/* ---- Expressions ---- */

static cuddle_status parse_expr(parser *p, j_node **out);
static cuddle_status parse_or(parser *p, j_node **out);
static cuddle_status parse_unary(parser *p, bool filters, j_node **out);

/* Items up to `close`, into a list node. */
static cuddle_status parse_items(parser *p, int close, j_node *into)
{
    while (!skip_op(p, close)) {
        j_node *item;
        CDL_TRY(parse_expr(p, &item));
        CDL_TRY(add(p, into, item));
        if (into->kind == E_DICT) {
            CDL_TRY(need_op(p, ':'));
            CDL_TRY(parse_expr(p, &item));
            CDL_TRY(add(p, into, item));
        }
        if (!skip_op(p, ',') && !is_op(p, close))
            return expected(p, close == ']' ? "',' or ']'" : "',' or '}'");
    }
    return CUDDLE_OK;
}

/* One expression, or several with commas as a tuple. with_if: "a if b else c" may stand here. */
static cuddle_status parse_tuple(parser *p, bool with_if, j_node **out)
{
    j_node *first, *tuple;
    CDL_TRY(with_if ? parse_expr(p, &first) : parse_or(p, &first));
    *out = first;
    if (!is_op(p, ','))
        return CUDDLE_OK;
    CDL_TRY(new_node(p, E_TUPLE, &tuple));
    CDL_TRY(add(p, tuple, first));
    while (skip_op(p, ',')) {
        if (p->at->type == JT_BLOCK_END || p->at->type == JT_VARIABLE_END || is_op(p, ')') || is_op(p, ']'))
            break;
        CDL_TRY(with_if ? parse_expr(p, &first) : parse_or(p, &first));
        CDL_TRY(add(p, tuple, first));
    }
    *out = tuple;
    return CUDDLE_OK;
}

static cuddle_status parse_strings(parser *p, j_node *n)
{
    n->value = j_text(p->at->s, p->at->n);
    p->at++;
    while (p->at->type == JT_STRING) { /* "a" "b" is one string */
        size_t sum = n->value.n + p->at->n;
        char *both = cdl_arena_alloc(&p->t->arena, sum + 1);
        if (!both)
            return cdl_status_nomem("a chat template");
        memcpy(both, n->value.as.s, n->value.n);
        memcpy(both + n->value.n, p->at->s, p->at->n);
        n->value = j_text(both, sum);
        p->at++;
    }
    return CUDDLE_OK;
}

static cuddle_status parse_name(parser *p, j_node *n)
{
    if (skip_name(p, "true") || skip_name(p, "True")) {
        n->value = j_bool(true);
    } else if (skip_name(p, "false") || skip_name(p, "False")) {
        n->value = j_bool(false);
    } else if (skip_name(p, "none") || skip_name(p, "None")) {
        n->value = j_none();
    } else {
        n->kind = E_NAME;
        CDL_TRY(take_name(p, "a name", &n->name));
        if (n->name == p->t->varargs)
            p->uses |= J_USES_VARARGS;
        if (n->name == p->t->kwargs)
            p->uses |= J_USES_KWARGS;
        if (n->name == p->t->caller)
            p->uses |= J_USES_CALLER;
    }
    return CUDDLE_OK;
}

static cuddle_status parse_primary(parser *p, j_node **out)
{
    j_node *n;
    CDL_TRY(new_node(p, E_CONST, &n));
    *out = n;
    switch (p->at->type) {
    case JT_NAME:
        return parse_name(p, n);
    case JT_STRING:
        return parse_strings(p, n);
    case JT_INT:
        n->value = j_int(p->at++->i);
        return CUDDLE_OK;
    case JT_FLOAT:
        n->value = j_float(p->at++->d);
        return CUDDLE_OK;
    default:
        break;
    }
    if (skip_op(p, '[')) {
        n->kind = E_LIST;
        return parse_items(p, ']', n);
    }
    if (skip_op(p, '{')) {
        n->kind = E_DICT;
        return parse_items(p, '}', n);
    }
    if (!skip_op(p, '('))
        return expected(p, "an expression");
    n->kind = E_TUPLE;
    if (skip_op(p, ')'))
        return CUDDLE_OK;
    CDL_TRY(parse_tuple(p, true, out));
    return need_op(p, ')');
}

/* Arguments behind '(' up to and with ')'. */
static cuddle_status parse_args(parser *p, j_node *n)
{
    j_node **named = NULL;
    while (!skip_op(p, ')')) {
        if (is_op(p, '*') || is_op(p, J_OP_POWER))
            return fail(p, CUDDLE_ERR_UNSUPPORTED, "*args and **kwargs in calls are not supported");
        bool by_name = p->at->type == JT_NAME && p->at[1].type == JT_OP && p->at[1].op == '=';
        j_node *value;
        const char *key;
        if (by_name) {
            CDL_TRY(take_name(p, "a name", &key));
            p->at++;
        } else if (n->n_kw) {
            return fail(p, CUDDLE_ERR_FORMAT, "a positional argument follows a named one");
        }
        CDL_TRY(parse_expr(p, &value));
        if (by_name) {
            CDL_TRY(append(p, &n->kw, n->n_kw, key));
            CDL_TRY(append(p, &named, n->n_kw++, value));
        } else {
            CDL_TRY(append(p, &n->args, n->n_args++, value));
        }
        if (!skip_op(p, ',') && !is_op(p, ')'))
            return expected(p, "',' or ')'");
    }
    for (uint32_t i = 0; i < n->n_kw; i++)
        CDL_TRY(append(p, &n->args, n->n_args + i, named[i]));
    return CUDDLE_OK;
}

static cuddle_status parse_subscript(parser *p, j_node *of, j_node **out)
{
    j_node *n, *part[3] = { NULL, NULL, NULL };
    CDL_TRY(new_node(p, E_ITEM, &n));
    n->a = of;
    *out = n;
    uint32_t parts = 0;
    if (!is_op(p, ':'))
        CDL_TRY(parse_tuple(p, true, &part[0]));
    while (parts < 2 && skip_op(p, ':')) {
        parts++;
        if (!is_op(p, ':') && !is_op(p, ']'))
            CDL_TRY(parse_expr(p, &part[parts]));
    }
    CDL_TRY(need_op(p, ']'));
    if (!parts) {
        n->b = part[0];
        return CUDDLE_OK;
    }
    n->kind = E_SLICE;
    for (int i = 0; i < 3; i++)
        CDL_TRY(add(p, n, part[i]));
    return CUDDLE_OK;
}

static cuddle_status parse_attribute(parser *p, j_node *of, j_node **out)
{
    j_node *n;
    CDL_TRY(new_node(p, E_ATTR, &n));
    n->a = of;
    *out = n;
    if (p->at->type == JT_INT) {
        n->kind = E_ITEM;
        CDL_TRY(new_node(p, E_CONST, &n->b));
        n->b->value = j_int(p->at++->i);
        return CUDDLE_OK;
    }
    n->name_n = (uint32_t)p->at->n;
    return take_name(p, "an attribute's name", &n->name);
}

static cuddle_status parse_postfix(parser *p, j_node **n)
{
    for (;;) {
        j_node *call;
        if (skip_op(p, '.')) {
            CDL_TRY(parse_attribute(p, *n, n));
        } else if (skip_op(p, '[')) {
            CDL_TRY(parse_subscript(p, *n, n));
        } else if (is_op(p, '(')) {
            CDL_TRY(new_node(p, E_CALL, &call));
            p->at++;
            call->a = *n;
            *n = call;
            CDL_TRY(parse_args(p, call));
        } else {
            return CUDDLE_OK;
        }
    }
}

/* A name with dots, as filters and tests have. */
static cuddle_status parse_filter(parser *p, j_node *of, j_node **out)
{
    j_node *n;
    CDL_TRY(new_node(p, E_FILTER, &n));
    n->a = of;
    *out = n;
    CDL_TRY(take_name(p, "a filter's name", &n->name));
    return skip_op(p, '(') ? parse_args(p, n) : CUDDLE_OK;
}

static cuddle_status parse_test(parser *p, j_node *of, j_node **out)
{
    j_node *n, *arg;
    CDL_TRY(new_node(p, E_TEST, &n));
    n->a = of;
    *out = n;
    n->op = skip_name(p, "not");
    CDL_TRY(take_name(p, "a test's name", &n->name));
    const j_token *t = p->at;
    if (skip_op(p, '('))
        return parse_args(p, n);
    bool starts = t->type == JT_STRING || t->type == JT_INT || t->type == JT_FLOAT || is_op(p, '[') || is_op(p, '{')
            || (t->type == JT_NAME && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and"));
    if (!starts)
        return CUDDLE_OK;
    if (is_name(p, "is"))
        return fail(p, CUDDLE_ERR_FORMAT, "tests cannot be chained with is");
    CDL_TRY(parse_primary(p, &arg));
    CDL_TRY(parse_postfix(p, &arg));
    CDL_TRY(append(p, &n->args, n->n_args++, arg));
    return CUDDLE_OK;
}

static cuddle_status parse_filters(parser *p, j_node **n)
{
    for (;;) {
        if (skip_op(p, '|'))
            CDL_TRY(parse_filter(p, *n, n));
        else if (skip_name(p, "is"))
            CDL_TRY(parse_test(p, *n, n));
        else if (is_op(p, '('))
            CDL_TRY(parse_postfix(p, n));
        else
            return CUDDLE_OK;
    }
}

static cuddle_status parse_unary(parser *p, bool filters, j_node **out)
{
    j_node *n;
    CDL_TRY(enter(p));
    if (is_op(p, '-') || is_op(p, '+')) {
        CDL_TRY(new_node(p, is_op(p, '-') ? E_NEG : E_POS, &n));
        p->at++;
        CDL_TRY(parse_unary(p, false, &n->a));
    } else {
        CDL_TRY(parse_primary(p, &n));
    }
    CDL_TRY(parse_postfix(p, &n));
    if (filters)
        CDL_TRY(parse_filters(p, &n));
    *out = n;
    p->depth--;
    return CUDDLE_OK;
}

static cuddle_status binary(parser *p, int op, j_node **a)
{
    j_node *n;
    CDL_TRY(new_node(p, E_BINARY, &n));
    n->op = (uint8_t)op;
    n->a = *a;
    *a = n;
    return CUDDLE_OK;
}

static cuddle_status parse_power(parser *p, j_node **out)
{
    CDL_TRY(parse_unary(p, true, out));
    while (skip_op(p, J_OP_POWER)) {
        CDL_TRY(binary(p, J_OP_POWER, out));
        CDL_TRY(parse_unary(p, true, &(*out)->b));
    }
    return CUDDLE_OK;
}

static cuddle_status parse_product(parser *p, j_node **out)
{
    CDL_TRY(parse_power(p, out));
    while (is_op(p, '*') || is_op(p, '/') || is_op(p, J_OP_FLOOR) || is_op(p, '%')) {
        CDL_TRY(binary(p, p->at++->op, out));
        CDL_TRY(parse_power(p, &(*out)->b));
    }
    return CUDDLE_OK;
}

static cuddle_status parse_concat(parser *p, j_node **out)
{
    j_node *n, *item;
    CDL_TRY(parse_product(p, out));
    if (!is_op(p, '~'))
        return CUDDLE_OK;
    CDL_TRY(new_node(p, E_CONCAT, &n));
    CDL_TRY(add(p, n, *out));
    while (skip_op(p, '~')) {
        CDL_TRY(parse_product(p, &item));
        CDL_TRY(add(p, n, item));
    }
    *out = n;
    return CUDDLE_OK;
}

static cuddle_status parse_sum(parser *p, j_node **out)
{
    CDL_TRY(parse_concat(p, out));
    while (is_op(p, '+') || is_op(p, '-')) {
        CDL_TRY(binary(p, p->at++->op, out));
        CDL_TRY(parse_concat(p, &(*out)->b));
    }
    return CUDDLE_OK;
}

/* The comparison here, 0 when there is none; moves behind it. */
static int take_comparison(parser *p)
{
    static const uint8_t ops[] = { J_OP_EQ, J_OP_NE, J_OP_LE, J_OP_GE, '<', '>' };
    for (size_t i = 0; i < sizeof ops; i++)
        if (skip_op(p, ops[i]))
            return ops[i];
    if (skip_name(p, "in"))
        return J_OP_IN;
    const j_token *t = &p->at[1];
    if (is_name(p, "not") && t->type == JT_NAME && t->n == 2 && memcmp(t->s, "in", 2) == 0) {
        p->at += 2;
        return J_OP_NOT_IN;
    }
    return 0;
}

static cuddle_status parse_compare(parser *p, j_node **out)
{
    j_node *n = NULL, *link;
    CDL_TRY(parse_sum(p, out));
    for (int op; (op = take_comparison(p)) != 0;) {
        if (!n) {
            CDL_TRY(new_node(p, E_COMPARE, &n));
            n->a = *out;
            *out = n;
        }
        CDL_TRY(new_node(p, E_BINARY, &link));
        link->op = (uint8_t)op;
        CDL_TRY(parse_sum(p, &link->b));
        CDL_TRY(add(p, n, link));
    }
    return CUDDLE_OK;
}

static cuddle_status parse_not(parser *p, j_node **out)
{
    if (!is_name(p, "not"))
        return parse_compare(p, out);
    j_node *n;
    CDL_TRY(enter(p));
    CDL_TRY(new_node(p, E_NOT, &n));
    p->at++;
    *out = n;
    CDL_TRY(parse_not(p, &n->a));
    p->depth--;
    return CUDDLE_OK;
}

/* a and b and c: one node with a list, so that long chains do not nest. */
static cuddle_status parse_chain(parser *p, j_kind kind, j_node **out)
{
    const char *word = kind == E_AND ? "and" : "or";
    j_node *n = NULL, *item;
    CDL_TRY(kind == E_AND ? parse_not(p, out) : parse_chain(p, E_AND, out));
    while (skip_name(p, word)) {
        if (!n) {
            CDL_TRY(new_node(p, kind, &n));
            CDL_TRY(add(p, n, *out));
            *out = n;
        }
        CDL_TRY(kind == E_AND ? parse_not(p, &item) : parse_chain(p, E_AND, &item));
        CDL_TRY(add(p, n, item));
    }
    return CUDDLE_OK;
}

static cuddle_status parse_or(parser *p, j_node **out)
{
    return parse_chain(p, E_OR, out);
}

static cuddle_status parse_expr(parser *p, j_node **out)
{
    CDL_TRY(enter(p));
    CDL_TRY(parse_or(p, out));
    while (is_name(p, "if")) {
        j_node *n;
        CDL_TRY(new_node(p, E_IF, &n));
        p->at++;
        n->a = *out;
        *out = n;
        CDL_TRY(parse_or(p, &n->b));
        if (skip_name(p, "else"))
            CDL_TRY(parse_expr(p, &n->c));
    }
    p->depth--;
    return CUDDLE_OK;
}

/* ---- Statements ---- */

static cuddle_status parse_body(parser *p, const char *const *ends, j_node **out);

/* Behind the tag's end: the body, then `{% end %}`. */
static cuddle_status parse_block(parser *p, const char *end, j_node **body)
{
    const char *const ends[] = { end, NULL };
    CDL_TRY(need_end(p));
    CDL_TRY(parse_body(p, ends, body));
    p->at++;
    return need_end(p);
}

/* A name, several with commas, or (of set) namespace.name. */
static cuddle_status parse_target(parser *p, bool attributes, j_node **out)
{
    j_node *n, *tuple;
    bool open = skip_op(p, '(');
    CDL_TRY(enter(p));
    if (is_op(p, '(')) {
        CDL_TRY(parse_target(p, false, &n));
    } else {
        CDL_TRY(new_node(p, E_NAME, &n));
        CDL_TRY(take_name(p, "a name", &n->name));
    }
    *out = n;
    if (attributes && skip_op(p, '.')) {
        CDL_TRY(new_node(p, E_ATTR, out));
        (*out)->a = n;
        CDL_TRY(take_name(p, "a name", &(*out)->name));
    } else if (is_op(p, ',')) {
        CDL_TRY(new_node(p, E_TUPLE, &tuple));
        CDL_TRY(add(p, tuple, n));
        while (skip_op(p, ',') && (p->at->type == JT_NAME || is_op(p, '('))) {
            if (is_op(p, '(')) {
                CDL_TRY(parse_target(p, false, &n));
            } else {
                CDL_TRY(new_node(p, E_NAME, &n));
                CDL_TRY(take_name(p, "a name", &n->name));
            }
            CDL_TRY(add(p, tuple, n));
        }
        *out = tuple;
    }
    p->depth--;
    return open ? need_op(p, ')') : CUDDLE_OK;
}

static cuddle_status parse_for(parser *p, j_node *n)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    CDL_TRY(parse_target(p, false, &n->a));
    if (!skip_name(p, "in"))
        return expected(p, "'in'");
    CDL_TRY(parse_tuple(p, false, &n->b));
    if (skip_name(p, "if"))
        CDL_TRY(parse_expr(p, &n->c));
    n->op = skip_name(p, "recursive");
    CDL_TRY(need_end(p));
    p->loops++;
    CDL_TRY(parse_body(p, ends, &n->body));
    p->loops--;
    if (is_name(p, "else")) {
        p->at++;
        return parse_block(p, "endfor", &n->other);
    }
    p->at++;
    return need_end(p);
}

static cuddle_status parse_if(parser *p, j_node *n)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    j_node *part;
    do {
        CDL_TRY(parse_tuple(p, false, &part));
        CDL_TRY(add(p, n, part));
        CDL_TRY(need_end(p));
        CDL_TRY(parse_body(p, ends, &part));
        CDL_TRY(add(p, n, part));
    } while (skip_name(p, "elif"));
    if (is_name(p, "else")) {
        p->at++;
        CDL_TRY(parse_block(p, "endif", &part));
        return add(p, n, part);
    }
    p->at++;
    return need_end(p);
}

static cuddle_status parse_set(parser *p, j_node *n)
{
    CDL_TRY(parse_target(p, true, &n->a));
    if (skip_op(p, '=')) {
        CDL_TRY(parse_tuple(p, true, &n->b));
        return need_end(p);
    }
    n->kind = S_SET_BLOCK;
    if (n->a->kind == E_TUPLE)
        return expected(p, "'='");
    while (skip_op(p, '|'))
        CDL_TRY(parse_filter(p, n->b, &n->b));
    return parse_block(p, "endset", &n->body);
}

/* (a, b=1): parameters into list, defaults of the last ones into args. */
static cuddle_status parse_parameters(parser *p, j_node *n)
{
    CDL_TRY(need_op(p, '('));
    while (!skip_op(p, ')')) {
        j_node *name, *value;
        CDL_TRY(new_node(p, E_NAME, &name));
        CDL_TRY(take_name(p, "a parameter's name", &name->name));
        CDL_TRY(add(p, n, name));
        if (skip_op(p, '=')) {
            CDL_TRY(parse_expr(p, &value));
            CDL_TRY(append(p, &n->args, n->n_args++, value));
        } else if (n->n_args) {
            return fail(p, CUDDLE_ERR_FORMAT, "a parameter without default follows one with a default");
        }
        if (!skip_op(p, ',') && !is_op(p, ')'))
            return expected(p, "',' or ')'");
    }
    return CUDDLE_OK;
}

/* The body of a macro or call block, which may not break a loop around it. */
static cuddle_status parse_macro_body(parser *p, const char *end, j_node *n)
{
    uint32_t loops = p->loops;
    uint8_t uses = p->uses;
    p->loops = 0;
    p->uses = 0;
    CDL_TRY(parse_block(p, end, &n->body));
    n->uses = p->uses;
    p->loops = loops;
    p->uses = uses;
    return CUDDLE_OK;
}

static cuddle_status parse_macro(parser *p, j_node *n)
{
    CDL_TRY(take_name(p, "the macro's name", &n->name));
    CDL_TRY(parse_parameters(p, n));
    return parse_macro_body(p, "endmacro", n);
}

static cuddle_status parse_call(parser *p, j_node *n)
{
    n->name = p->t->caller;
    if (is_op(p, '('))
        CDL_TRY(parse_parameters(p, n));
    CDL_TRY(parse_expr(p, &n->a));
    if (n->a->kind != E_CALL)
        return fail(p, CUDDLE_ERR_FORMAT, "{%% call %%} needs a call of a macro");
    return parse_macro_body(p, "endcall", n);
}

static cuddle_status parse_filter_block(parser *p, j_node *n)
{
    CDL_TRY(parse_filter(p, NULL, &n->a));
    while (skip_op(p, '|'))
        CDL_TRY(parse_filter(p, n->a, &n->a));
    return parse_block(p, "endfilter", &n->body);
}

static cuddle_status parse_with(parser *p, j_node *n)
{
    while (p->at->type != JT_BLOCK_END) {
        j_node *part;
        if (n->n && !skip_op(p, ','))
            return expected(p, "','");
        CDL_TRY(parse_target(p, false, &part));
        CDL_TRY(add(p, n, part));
        CDL_TRY(need_op(p, '='));
        CDL_TRY(parse_expr(p, &part));
        CDL_TRY(add(p, n, part));
    }
    return parse_block(p, "endwith", &n->body);
}

static cuddle_status parse_generation(parser *p, j_node *n)
{
    return parse_block(p, "endgeneration", &n->body);
}

static cuddle_status parse_jump(parser *p, j_node *n)
{
    if (!p->loops)
        return fail(p, CUDDLE_ERR_FORMAT, "%s outside of a loop", n->kind == S_BREAK ? "break" : "continue");
    return need_end(p);
}

static cuddle_status parse_statement(parser *p, j_node **out)
{
    static const struct {
        const char *tag;
        j_kind kind;
        cuddle_status (*parse)(parser *p, j_node *n);
    } tags[] = {
        { "if", S_IF, parse_if }, { "for", S_FOR, parse_for }, { "set", S_SET, parse_set },
        { "macro", S_MACRO, parse_macro }, { "call", S_CALL, parse_call },
        { "filter", S_FILTER, parse_filter_block }, { "with", S_WITH, parse_with },
        { "generation", S_SCOPE, parse_generation }, { "break", S_BREAK, parse_jump },
        { "continue", S_CONTINUE, parse_jump },
    };
    if (p->at->type != JT_NAME)
        return expected(p, "a tag's name");
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (is_name(p, tags[i].tag)) {
            CDL_TRY(new_node(p, tags[i].kind, out));
            p->at++;
            return tags[i].parse(p, *out);
        }
    if (p->at->n > 3 && memcmp(p->at->s, "end", 3) == 0)
        return fail(p, CUDDLE_ERR_FORMAT, "'%.*s' closes nothing", CDL_STR(p->at->s, p->at->n));
    return fail(p, CUDDLE_ERR_UNSUPPORTED, "unknown tag '%.*s'", CDL_STR(p->at->s, p->at->n));
}

/* Up to a tag whose name is in ends (NULL: the template's end); stands on that name. */
static cuddle_status parse_body(parser *p, const char *const *ends, j_node **out)
{
    j_node *body, *n;
    CDL_TRY(enter(p));
    CDL_TRY(new_node(p, S_BODY, &body));
    *out = body;
    for (;;) {
        const j_token *t = p->at;
        if (t->type == JT_DATA) {
            CDL_TRY(new_node(p, S_DATA, &n));
            n->value = j_text(t->s, t->n);
            p->at++;
        } else if (t->type == JT_VARIABLE) {
            CDL_TRY(new_node(p, S_OUTPUT, &n));
            p->at++;
            CDL_TRY(parse_tuple(p, true, &n->a));
            if (p->at->type != JT_VARIABLE_END)
                return expected(p, "the end of the tag");
            p->at++;
        } else if (t->type == JT_BLOCK) {
            p->at++;
            for (const char *const *e = ends; e && *e; e++)
                if (is_name(p, *e)) {
                    p->depth--;
                    return CUDDLE_OK;
                }
            CDL_TRY(parse_statement(p, &n));
        } else if (ends) {
            const char *last = *ends;
            for (const char *const *e = ends; *e; e++)
                last = *e;
            return fail(p, CUDDLE_ERR_FORMAT, "the template ends before {%% %s %%}", last);
        } else {
            p->depth--;
            return CUDDLE_OK;
        }
        CDL_TRY(add(p, body, n));
    }
}

/* ---- The door ---- */

/* A copy without \r and without the one newline at the end, as Jinja reads it. */
static char *normalise(cdl_arena *a, const char *s, size_t n, size_t *out_n)
{
    char *out = cdl_arena_alloc(a, n + 1);
    size_t k = 0;
    for (size_t i = 0; out && i < n; i++) {
        if (s[i] == '\r' && i + 1 < n && s[i + 1] == '\n')
            continue;
        out[k++] = s[i] == '\r' ? '\n' : s[i];
    }
    if (out && k && out[k - 1] == '\n')
        k--;
    if (out)
        out[k] = 0;
    *out_n = k;
    return out;
}

static cuddle_status parse(cdl_jinja *t, const char *source, size_t n)
{
    size_t bad = cdl_utf8_valid(source, n), tokens;
    if (bad < n)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: invalid UTF-8 at byte %zu", t->name, bad);
    char *s = normalise(&t->arena, source, n, &n);
    if (!s)
        return cdl_status_nomem("a chat template");
    CDL_TRY(intern(t, "loop", 4, &t->loop));
    CDL_TRY(intern(t, "caller", 6, &t->caller));
    CDL_TRY(intern(t, "varargs", 7, &t->varargs));
    CDL_TRY(intern(t, "kwargs", 6, &t->kwargs));
    j_token *first;
    CDL_TRY(cdl_jinja_lex(&t->arena, t->name, s, n, &first, &tokens));
    parser p = { .t = t, .at = first };
    return parse_body(&p, NULL, &t->body);
}

cuddle_status cdl_jinja_parse(cdl_jinja **out, const char *source, size_t n, const char *name)
{
    *out = NULL;
    cdl_jinja *t = cdl_mem_zalloc(1, sizeof *t);
    if (!t)
        return cdl_status_nomem("a chat template");
    t->name = cdl_arena_strdup(&t->arena, name);
    cuddle_status st = t->name ? parse(t, source, n) : cdl_status_nomem("a chat template");
    if (st != CUDDLE_OK) {
        cdl_jinja_free(t);
        return st;
    }
    *out = t;
    return CUDDLE_OK;
}

void cdl_jinja_free(cdl_jinja *t)
{
    if (!t)
        return;
    cdl_arena_free(&t->arena);
    cdl_mem_free(t);
}
