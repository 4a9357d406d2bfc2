/* jinja_exec.c - runs statements: output, branches, loops, assignments, macros. */
#include "token/jinja_parts.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"

enum { STEPS = 20000000, OUTPUT_MAX = 16 << 20, MEMORY_MAX = 256 << 20 };

/* What body writes, as a string. */
static cuddle_status capture(j_run *r, const j_node *body, j_scope *s, j_value *out)
{
    cdl_buf b = { .max = r->output_max }, *before = r->out;
    r->out = &b;
    cuddle_status st = cdl_jinja_exec(r, body, s);
    r->out = before;
    if (st == CUDDLE_OK)
        st = cdl_jinja_take(r, &b, out);
    cdl_buf_free(&b);
    return st;
}

static cuddle_status exec_inner(j_run *r, const j_node *body, j_scope *up)
{
    j_scope *s;
    CDL_TRY(cdl_jinja_scope(r, up, &s));
    return cdl_jinja_exec(r, body, s);
}

static cuddle_status capture_inner(j_run *r, const j_node *body, j_scope *up, j_value *out)
{
    j_scope *s;
    CDL_TRY(cdl_jinja_scope(r, up, &s));
    return capture(r, body, s, out);
}

/* ---- Assignment ---- */

static cuddle_status set_attribute(j_run *r, const j_node *target, j_scope *s, const j_value *v)
{
    j_value ns;
    CDL_TRY(cdl_jinja_eval(r, target->a, s, &ns));
    if (ns.type != J_NAMESPACE)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "only a namespace has attributes that can be set, not a '%s'",
                cdl_jinja_type_name(&ns));
    j_value key = j_text(target->name, strlen(target->name));
    return cdl_jinja_put(r, ns.as.dict, &key, v);
}

static cuddle_status assign(j_run *r, const j_node *target, j_scope *s, const j_value *v)
{
    if (target->kind == E_NAME)
        return cdl_jinja_set(r, s, target->name, v);
    if (target->kind == E_ATTR)
        return set_attribute(r, target, s, v);
    if (v->type == J_UNDEFINED || v->type == J_LOOP)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "a '%s' cannot be unpacked", cdl_jinja_type_name(v));
    j_value list;
    CDL_TRY(cdl_jinja_iterate(r, v, &list));
    if (list.as.list->n != target->n)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%u names, but %zu values to unpack", target->n, list.as.list->n);
    CDL_TRY(cdl_jinja_enter(r));
    for (uint32_t i = 0; i < target->n; i++)
        CDL_TRY(assign(r, target->list[i], s, &list.as.list->items[i]));
    r->depth--;
    return CUDDLE_OK;
}

/* Through the filters of a block: e's innermost operand is the block's text. */
static cuddle_status apply_filters(j_run *r, const j_node *e, j_scope *s, j_value *v)
{
    j_args args;
    CDL_TRY(cdl_jinja_enter(r));
    if (e->a)
        CDL_TRY(apply_filters(r, e->a, s, v));
    CDL_TRY(cdl_jinja_eval_args(r, e, s, &args));
    r->line = e->line;
    j_value of = *v;
    r->depth--;
    return cdl_jinja_filter(r, e->name, &of, &args, v);
}

static cuddle_status exec_set_block(j_run *r, const j_node *n, j_scope *s)
{
    j_value text;
    CDL_TRY(capture_inner(r, n->body, s, &text));
    if (n->b)
        CDL_TRY(apply_filters(r, n->b, s, &text));
    return assign(r, n->a, s, &text);
}

static cuddle_status exec_filter(j_run *r, const j_node *n, j_scope *s)
{
    j_value text;
    CDL_TRY(capture_inner(r, n->body, s, &text));
    CDL_TRY(apply_filters(r, n->a, s, &text));
    return cdl_jinja_print(r, r->out, &text);
}

static cuddle_status exec_with(j_run *r, const j_node *n, j_scope *s)
{
    j_scope *inner;
    CDL_TRY(cdl_jinja_scope(r, s, &inner));
    for (uint32_t i = 0; i + 1 < n->n; i += 2) {
        j_value v;
        CDL_TRY(cdl_jinja_eval(r, n->list[i + 1], s, &v));
        CDL_TRY(assign(r, n->list[i], inner, &v));
    }
    return cdl_jinja_exec(r, n->body, inner);
}

/* ---- Loops ---- */

static cuddle_status passes(j_run *r, j_loop *l, const j_value *item, bool *yes)
{
    j_value v;
    uint32_t line = r->line;
    l->test->n = 0;
    CDL_TRY(assign(r, l->node->a, l->test, item));
    CDL_TRY(cdl_jinja_eval(r, l->node->c, l->test, &v));
    r->line = line;
    *yes = cdl_jinja_truth(&v);
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_loop_find(j_run *r, j_loop *l, size_t n)
{
    while (l->n < n && l->looked < l->source->n) {
        const j_value *item = &l->source->items[l->looked++];
        bool yes;
        CDL_TRY(passes(r, l, item, &yes));
        if (yes)
            l->items[l->n++] = *item;
    }
    return CUDDLE_OK;
}

static cuddle_status open_loop(j_run *r, const j_node *n, j_scope *s, const j_value *list, uint32_t depth,
        j_loop **out)
{
    j_loop *l;
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof *l, &l));
    *l = (j_loop){ .source = list->as.list, .depth = depth, .node = n, .scope = s };
    if (n->c) {
        CDL_TRY(cdl_jinja_scope(r, s, &l->test));
        CDL_TRY(cdl_jinja_alloc(r, l->source->n, sizeof *l->items, &l->items));
    } else {
        l->items = l->source->items;
        l->looked = l->n = l->source->n;
    }
    *out = l;
    return CUDDLE_OK;
}

static cuddle_status exec_loop(j_run *r, const j_node *n, j_scope *s, const j_value *of, uint32_t depth)
{
    j_value list;
    j_loop *l;
    j_scope *inner;
    CDL_TRY(cdl_jinja_iterate(r, of, &list));
    CDL_TRY(open_loop(r, n, s, &list, depth, &l));
    CDL_TRY(cdl_jinja_scope(r, s, &inner));
    j_value loop = { .type = J_LOOP, .as.loop = l };
    bool done = false; /* Jinja's else runs when no turn came to its end: break and continue count as none */
    for (;; l->index++) {
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_loop_find(r, l, l->index + 1));
        if (l->index >= l->n)
            break;
        inner->n = 0;
        CDL_TRY(cdl_jinja_set(r, inner, r->t->loop, &loop));
        CDL_TRY(assign(r, n->a, inner, &l->items[l->index]));
        CDL_TRY(cdl_jinja_exec(r, n->body, inner));
        uint8_t signal = r->signal;
        r->signal = 0;
        done |= !signal;
        if (signal == S_BREAK)
            break;
    }
    return done || !n->other ? CUDDLE_OK : exec_inner(r, n->other, s);
}

cuddle_status cdl_jinja_call_loop(j_run *r, j_loop *l, const j_args *args, j_value *out)
{
    static const char *const names[] = { "iterable", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "loop()", 1, names));
    if (!l->node->op)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "loop() needs a loop that is marked recursive");
    cdl_buf b = { .max = r->output_max }, *before = r->out;
    r->out = &b;
    CDL_TRY(cdl_jinja_enter(r));
    cuddle_status st = exec_loop(r, l->node, l->scope, cdl_jinja_arg(args, 0, "iterable"), l->depth + 1);
    r->depth--;
    r->out = before;
    if (st == CUDDLE_OK)
        st = cdl_jinja_take(r, &b, out);
    cdl_buf_free(&b);
    return st;
}

static cuddle_status exec_for(j_run *r, const j_node *n, j_scope *s)
{
    j_value of;
    CDL_TRY(cdl_jinja_eval(r, n->b, s, &of));
    return exec_loop(r, n, s, &of, 0);
}

static cuddle_status exec_if(j_run *r, const j_node *n, j_scope *s)
{
    for (uint32_t i = 0; i + 1 < n->n; i += 2) {
        j_value v;
        CDL_TRY(cdl_jinja_eval(r, n->list[i], s, &v));
        if (cdl_jinja_truth(&v))
            return cdl_jinja_exec(r, n->list[i + 1], s);
    }
    return n->n % 2 ? cdl_jinja_exec(r, n->list[n->n - 1], s) : CUDDLE_OK;
}

/* ---- Macros ---- */

static bool is_parameter(const j_node *m, const char *name)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (strcmp(m->list[i]->name, name) == 0)
            return true;
    return false;
}

static cuddle_status set_parameters(j_run *r, const j_node *m, const j_args *args, j_scope *s)
{
    for (uint32_t i = 0; i < m->n; i++) {
        const char *name = m->list[i]->name;
        const j_value *given = cdl_jinja_arg(args, i, name);
        uint32_t first = m->n - m->n_args; /* with a default */
        j_value v = j_undefined(name, strlen(name));
        if (given)
            v = *given;
        else if (i >= first)
            CDL_TRY(cdl_jinja_eval(r, m->args[i - first], s, &v));
        CDL_TRY(cdl_jinja_set(r, s, name, &v));
    }
    return CUDDLE_OK;
}

static cuddle_status set_varargs(j_run *r, const j_node *m, const j_args *args, j_scope *s)
{
    uint32_t n = args->n_pos > m->n ? args->n_pos - m->n : 0;
    if (n && !(m->uses & J_USES_VARARGS))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "macro '%s' takes at most %u arguments, not %u", m->name, m->n,
                args->n_pos);
    if (!(m->uses & J_USES_VARARGS))
        return CUDDLE_OK;
    j_value rest;
    CDL_TRY(cdl_jinja_list(r, J_TUPLE, n, &rest));
    for (uint32_t i = 0; i < n; i++)
        rest.as.list->items[i] = args->pos[m->n + i];
    return cdl_jinja_set(r, s, r->t->varargs, &rest);
}

/* The named arguments that are no parameters: caller, and what kwargs takes. */
static cuddle_status set_kwargs(j_run *r, const j_node *m, const j_args *args, j_scope *s)
{
    j_value caller = j_undefined("caller", 6), rest;
    CDL_TRY(cdl_jinja_dict(r, 0, &rest));
    for (uint32_t k = 0; k < args->n_kw; k++) {
        const char *name = args->kw_name[k];
        j_value key = j_text(name, strlen(name));
        if (is_parameter(m, name))
            continue;
        if ((m->uses & J_USES_CALLER) && strcmp(name, "caller") == 0)
            caller = args->kw[k];
        else if (m->uses & J_USES_KWARGS)
            CDL_TRY(cdl_jinja_put(r, rest.as.dict, &key, &args->kw[k]));
        else
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "macro '%s' has no parameter '%s'", m->name, name);
    }
    if (m->uses & J_USES_KWARGS)
        CDL_TRY(cdl_jinja_set(r, s, r->t->kwargs, &rest));
    if ((m->uses & J_USES_CALLER) && !is_parameter(m, "caller"))
        CDL_TRY(cdl_jinja_set(r, s, r->t->caller, &caller));
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_call_macro(j_run *r, const j_macro *m, const j_args *args, j_value *out)
{
    j_scope *s;
    CDL_TRY(cdl_jinja_enter(r));
    CDL_TRY(cdl_jinja_scope(r, m->scope, &s));
    CDL_TRY(set_varargs(r, m->node, args, s));
    if (args->n_kw || m->node->uses)
        CDL_TRY(set_kwargs(r, m->node, args, s));
    CDL_TRY(set_parameters(r, m->node, args, s));
    CDL_TRY(capture(r, m->node->body, s, out));
    r->depth--;
    return CUDDLE_OK;
}

static cuddle_status new_macro(j_run *r, const j_node *n, j_scope *s, j_value *out)
{
    j_macro *m;
    CDL_TRY(cdl_jinja_alloc(r, 1, sizeof *m, &m));
    *m = (j_macro){ n, s };
    *out = (j_value){ .type = J_MACRO, .as.macro = m };
    return CUDDLE_OK;
}

static cuddle_status exec_macro(j_run *r, const j_node *n, j_scope *s)
{
    j_value m;
    CDL_TRY(new_macro(r, n, s, &m));
    return cdl_jinja_set(r, s, n->name, &m);
}

static cuddle_status exec_call(j_run *r, const j_node *n, j_scope *s)
{
    j_value f, text;
    j_args given, args;
    CDL_TRY(cdl_jinja_eval(r, n->a->a, s, &f));
    CDL_TRY(cdl_jinja_eval_args(r, n->a, s, &given));
    args = given;
    const char **names;
    CDL_TRY(cdl_jinja_alloc(r, (size_t)given.n_kw + 1, sizeof *names, &names));
    CDL_TRY(cdl_jinja_alloc(r, (size_t)given.n_kw + 1, sizeof *args.kw, &args.kw));
    for (uint32_t k = 0; k < given.n_kw; k++) {
        names[k] = given.kw_name[k];
        args.kw[k] = given.kw[k];
    }
    names[args.n_kw] = r->t->caller;
    CDL_TRY(new_macro(r, n, s, &args.kw[args.n_kw++]));
    args.kw_name = names;
    r->line = n->line;
    CDL_TRY(cdl_jinja_call(r, &f, &args, &text));
    return cdl_jinja_print(r, r->out, &text);
}

/* ---- All ---- */

static cuddle_status exec_body(j_run *r, const j_node *n, j_scope *s)
{
    for (uint32_t i = 0; i < n->n && !r->signal; i++)
        CDL_TRY(cdl_jinja_exec(r, n->list[i], s));
    return CUDDLE_OK;
}

static cuddle_status exec(j_run *r, const j_node *n, j_scope *s)
{
    j_value v;
    switch (n->kind) {
    case S_DATA:
        return cdl_jinja_print(r, r->out, &n->value);
    case S_OUTPUT:
        CDL_TRY(cdl_jinja_eval(r, n->a, s, &v));
        return cdl_jinja_print(r, r->out, &v);
    case S_BODY:
        return exec_body(r, n, s);
    case S_IF:
        return exec_if(r, n, s);
    case S_FOR:
        return exec_for(r, n, s);
    case S_SET:
        CDL_TRY(cdl_jinja_eval(r, n->b, s, &v));
        return assign(r, n->a, s, &v);
    case S_SET_BLOCK:
        return exec_set_block(r, n, s);
    case S_MACRO:
        return exec_macro(r, n, s);
    case S_CALL:
        return exec_call(r, n, s);
    case S_FILTER:
        return exec_filter(r, n, s);
    case S_WITH:
        return exec_with(r, n, s);
    case S_SCOPE:
        return exec_inner(r, n->body, s);
    default: /* S_BREAK, S_CONTINUE */
        r->signal = n->kind;
        return CUDDLE_OK;
    }
}

cuddle_status cdl_jinja_exec(j_run *r, const j_node *n, j_scope *s)
{
    CDL_TRY(cdl_jinja_enter(r));
    r->line = n->line;
    cuddle_status st = exec(r, n, s);
    r->depth--;
    return st;
}

static cuddle_status run(j_run *r, const cdl_jinja_var *vars, size_t n_vars)
{
    j_scope *root;
    r->line = 1;
    CDL_TRY(cdl_jinja_scope(r, NULL, &root));
    for (size_t i = 0; i < n_vars; i++) {
        const char *name = cdl_jinja_interned(r->t, vars[i].name);
        j_value v;
        if (!name) /* the template does not use it */
            continue;
        CDL_TRY(cdl_jinja_from_json(r, vars[i].value, &v));
        CDL_TRY(cdl_jinja_set(r, root, name, &v));
    }
    return exec_inner(r, r->t->body, root);
}

cuddle_status cdl_jinja_render(const cdl_jinja *t, const cdl_jinja_var *vars, size_t n_vars, int64_t now,
        const cdl_jinja_limits *limits, cdl_buf *out)
{
    cdl_jinja_limits l = limits ? *limits : (cdl_jinja_limits){ 0 };
    j_run r = {
        .t = t,
        .arena.bytes_max = l.memory_max ? l.memory_max : MEMORY_MAX,
        .out = out,
        .output_max = l.output_max ? l.output_max : OUTPUT_MAX,
        .steps = l.steps ? l.steps : STEPS,
        .now = now,
    };
    size_t max = out->max;
    if (!cdl_add(out->len, r.output_max, &out->max))
        out->max = SIZE_MAX;
    cuddle_status st = run(&r, vars, n_vars);
    out->max = max;
    cdl_arena_free(&r.arena);
    return st;
}
