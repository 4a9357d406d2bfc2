/* jinja_tests.c - the tests of "is": types, comparisons, membership. */
#include "token/jinja_parts.h"

#include <string.h>

#include "base/status.h"

typedef cuddle_status (*test_fn)(j_run *r, const j_value *v, const j_value *arg, bool *out);

/* ---- Of types: a bit for each ---- */

#define T(type) (1u << (type))

enum {
    NUMBERS = T(J_BOOL) | T(J_INT) | T(J_FLOAT),
    /* Undefined iterates over nothing, has a length of 0 and can be called (which fails), as Python's has. */
    SEQUENCES = T(J_UNDEFINED) | T(J_STRING) | T(J_LIST) | T(J_TUPLE) | T(J_RANGE) | T(J_DICT),
    ITERABLES = SEQUENCES | T(J_VIEW) | T(J_ITER) | T(J_LOOP),
    CALLABLES = T(J_UNDEFINED) | T(J_MACRO) | T(J_FUNCTION) | T(J_METHOD) | T(J_LOOP),
};

static const struct {
    const char *name;
    uint32_t types;
} type_tests[] = {
    { "defined", ~T(J_UNDEFINED) }, { "undefined", T(J_UNDEFINED) }, { "none", T(J_NONE) }, { "boolean", T(J_BOOL) },
    { "integer", T(J_INT) }, { "float", T(J_FLOAT) }, { "number", NUMBERS }, { "string", T(J_STRING) },
    { "mapping", T(J_DICT) }, { "sequence", SEQUENCES }, { "iterable", ITERABLES }, { "callable", CALLABLES },
    { "escaped", 0 },
};

/* ---- Of values ---- */

static cuddle_status is_true(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    (void)r, (void)arg;
    *out = v->type == J_BOOL && v->as.b;
    return CUDDLE_OK;
}

static cuddle_status is_false(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    (void)r, (void)arg;
    *out = v->type == J_BOOL && !v->as.b;
    return CUDDLE_OK;
}

/* v % by == rest */
static cuddle_status leaves(j_run *r, const j_value *v, const j_value *by, int64_t rest, bool *out)
{
    j_value left, want = j_int(rest);
    CDL_TRY(cdl_jinja_binary(r, '%', v, by, &left));
    return cdl_jinja_equal(r, &left, &want, out);
}

static cuddle_status is_odd(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    j_value two = j_int(2);
    (void)arg;
    return leaves(r, v, &two, 1, out);
}

static cuddle_status is_even(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    j_value two = j_int(2);
    (void)arg;
    return leaves(r, v, &two, 0, out);
}

static cuddle_status is_divisible(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    return leaves(r, v, arg, 0, out);
}

static cuddle_status has_case(j_run *r, const j_value *v, const char *method, bool *out)
{
    j_value text, yes;
    const j_args none = { 0 };
    CDL_TRY(cdl_jinja_str(r, v, &text));
    CDL_TRY(cdl_jinja_string_method(r, &text, method, strlen(method), &none, &yes));
    *out = yes.as.b;
    return CUDDLE_OK;
}

static cuddle_status is_lower(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    (void)arg;
    return has_case(r, v, "islower", out);
}

static cuddle_status is_upper(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    (void)arg;
    return has_case(r, v, "isupper", out);
}

/* Python's "is": the same object; equal numbers and texts count as one. */
static cuddle_status is_same(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    *out = false;
    if (v->type != arg->type)
        return CUDDLE_OK;
    if (v->type <= J_STRING)
        return cdl_jinja_equal(r, v, arg, out);
    *out = v->as.list == arg->as.list;
    return CUDDLE_OK;
}

static cuddle_status is_in(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    return cdl_jinja_in(r, v, arg, out);
}

/* The text as a C string, or "" when it cannot be a name. */
static const char *name_of(const j_value *v, char buffer[32])
{
    buffer[0] = '\0';
    if (v->type == J_STRING && v->n < 32) {
        memcpy(buffer, v->as.s, v->n);
        buffer[v->n] = '\0';
    }
    return buffer;
}

static cuddle_status is_filter(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    char name[32];
    (void)r, (void)arg;
    *out = cdl_jinja_has_filter(name_of(v, name));
    return CUDDLE_OK;
}

static cuddle_status is_test(j_run *r, const j_value *v, const j_value *arg, bool *out)
{
    char name[32];
    (void)r, (void)arg;
    *out = cdl_jinja_has_test(name_of(v, name));
    return CUDDLE_OK;
}

static const struct {
    const char *name;
    test_fn run;
    bool arg;
} value_tests[] = {
    { "true", is_true, false }, { "false", is_false, false }, { "odd", is_odd, false }, { "even", is_even, false },
    { "divisibleby", is_divisible, true }, { "lower", is_lower, false }, { "upper", is_upper, false },
    { "sameas", is_same, true }, { "in", is_in, true }, { "filter", is_filter, false }, { "test", is_test, false },
};

static const struct {
    const char *name;
    int op;
} comparisons[] = {
    { "eq", J_OP_EQ }, { "equalto", J_OP_EQ }, { "==", J_OP_EQ }, { "ne", J_OP_NE }, { "!=", J_OP_NE },
    { "lt", '<' }, { "lessthan", '<' }, { "<", '<' }, { "le", J_OP_LE }, { "<=", J_OP_LE },
    { "gt", '>' }, { "greaterthan", '>' }, { ">", '>' }, { "ge", J_OP_GE }, { ">=", J_OP_GE },
};

/* ---- All ---- */

/* Which test: an index into type_tests, then value_tests, then comparisons; TESTS: none. */
enum {
    OF_TYPES = sizeof type_tests / sizeof *type_tests,
    OF_VALUES = OF_TYPES + sizeof value_tests / sizeof *value_tests,
    TESTS = OF_VALUES + sizeof comparisons / sizeof *comparisons
};

static const char *test_name(size_t i)
{
    return i < OF_TYPES ? type_tests[i].name : i < OF_VALUES ? value_tests[i - OF_TYPES].name
                                                             : comparisons[i - OF_VALUES].name;
}

static size_t find_test(const char *name)
{
    size_t i = 0;
    while (i < TESTS && strcmp(test_name(i), name) != 0)
        i++;
    return i;
}

bool cdl_jinja_has_test(const char *name)
{
    return find_test(name) < TESTS;
}

cuddle_status cdl_jinja_test(j_run *r, const char *name, const j_value *v, const j_args *args, bool *out)
{
    static const char *const none[] = { NULL }, *const other[] = { "other", NULL };
    size_t i = find_test(name);
    if (i == TESTS)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "there is no test named '%.60s'", name);
    bool needs = i >= OF_VALUES || (i >= OF_TYPES && value_tests[i - OF_TYPES].arg);
    CDL_TRY(cdl_jinja_check_args(r, args, name, needs, needs ? other : none));
    CDL_TRY(cdl_jinja_burn(r, 1));
    const j_value *arg = cdl_jinja_arg(args, 0, "other");
    if (i >= OF_VALUES)
        return cdl_jinja_compare(r, comparisons[i - OF_VALUES].op, v, arg, out);
    if (i >= OF_TYPES)
        return value_tests[i - OF_TYPES].run(r, v, arg, out);
    *out = type_tests[i].types >> v->type & 1;
    return CUDDLE_OK;
}
