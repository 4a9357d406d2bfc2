/* jinja_parts.h - what the files of the Jinja interpreter share. Read first: jinja.h. */
#ifndef CDL_JINJA_PARTS_H
#define CDL_JINJA_PARTS_H

#include "base/arena.h"
#include "base/buf.h"
#include "token/jinja.h"

/* ---- Values: Python's, immutable but for namespaces and iterators ---- */

typedef enum {
    J_UNDEFINED,   /* as.s, n: what is undefined, for errors             */
    J_NONE, J_BOOL, J_INT, J_FLOAT,
    J_STRING,      /* as.s, n bytes of UTF-8                             */
    J_LIST, J_TUPLE, J_RANGE,
    J_VIEW,        /* dict.keys(), values(), items(): flag is the letter */
    J_ITER,        /* a generator: true, no length, consumed once        */
    J_DICT, J_NAMESPACE,
    J_MACRO, J_FUNCTION, J_METHOD, J_LOOP
} j_type;

typedef struct j_list j_list;
typedef struct j_dict j_dict;
typedef struct j_node j_node;
typedef struct j_scope j_scope;
typedef struct j_value j_value;
typedef struct j_loop j_loop;
typedef struct j_method j_method;
typedef struct j_macro j_macro;
typedef struct j_run j_run;

struct j_value {
    uint8_t type, flag;
    size_t n;                  /* bytes of a string */
    union {
        bool b;
        int64_t i;
        double d;
        const char *s;
        j_list *list;          /* LIST, TUPLE, RANGE, VIEW, ITER */
        j_dict *dict;          /* DICT, NAMESPACE                */
        j_macro *macro;
        j_method *method;
        j_loop *loop;
        uint32_t function;     /* index in jinja_functions.c     */
    } as;
};

struct j_list {
    j_value *items;
    size_t n;
    size_t next;               /* of ITER: items before it are consumed */
};

typedef struct {
    j_value key, value;
} j_entry;

struct j_dict {
    j_entry *items;            /* in order of insertion */
    size_t n, cap;
};

struct j_method {
    j_value self;
    const char *name;
    size_t n;
};

struct j_macro {
    const j_node *node;        /* S_MACRO or S_CALL (a caller) */
    j_scope *scope;
};

/* Items pass the loop's "if" only when they are needed, as a generator's do: loop.last looks one
 * ahead, loop.length at all. */
struct j_loop {
    const j_list *source;
    size_t looked;             /* items of source that were looked at */
    j_value *items;            /* those that passed                   */
    size_t n, index;           /* items found; index from 0           */
    uint32_t depth;
    const j_node *node;        /* S_FOR                               */
    j_scope *scope, *test;     /* around it; of its "if"              */
    j_value changed;           /* last arguments of changed()         */
    bool has_changed;
};

/* Arguments of a call, evaluated. */
typedef struct {
    j_value *pos;
    uint32_t n_pos;
    j_value *kw;
    const char *const *kw_name;
    uint32_t n_kw;
} j_args;

static inline j_value j_none(void) { return (j_value){ .type = J_NONE }; }
static inline j_value j_bool(bool b) { return (j_value){ .type = J_BOOL, .as.b = b }; }
static inline j_value j_int(int64_t i) { return (j_value){ .type = J_INT, .as.i = i }; }
static inline j_value j_float(double d) { return (j_value){ .type = J_FLOAT, .as.d = d }; }
static inline j_value j_text(const char *s, size_t n)
{
    return (j_value){ .type = J_STRING, .n = n, .as.s = s };
}
/* what: a name for errors, living as long as the value. */
static inline j_value j_undefined(const char *what, size_t n)
{
    return (j_value){ .type = J_UNDEFINED, .n = n, .as.s = what };
}
static inline bool j_is_list(const j_value *v) { return v->type >= J_LIST && v->type <= J_ITER; }
static inline bool j_is_number(const j_value *v) { return v->type >= J_BOOL && v->type <= J_FLOAT; }
static inline bool j_is_whole(const j_value *v) { return v->type == J_BOOL || v->type == J_INT; }
static inline int64_t j_whole(const j_value *v) { return v->type == J_BOOL ? v->as.b : v->as.i; }
static inline double j_number(const j_value *v)
{
    return v->type == J_FLOAT ? v->as.d : (double)j_whole(v);
}

/* ---- The tree ---- */

typedef enum {
    /* expressions */
    E_CONST,       /* value                                             */
    E_NAME,        /* name                                              */
    E_LIST, E_TUPLE,
    E_DICT,        /* list: key, value, key, value, ...                 */
    E_ATTR,        /* a.name                                            */
    E_ITEM,        /* a[b]                                              */
    E_SLICE,       /* a[list[0] : list[1] : list[2]], each may be NULL  */
    E_CALL,        /* a(args)                                           */
    E_FILTER,      /* a | name(args); a NULL: of a block                */
    E_TEST,        /* a is name(args); op 1: is not                     */
    E_NOT, E_NEG, E_POS,
    E_AND, E_OR,
    E_BINARY,      /* a op b: op is '+', '-', '*', '/', '%', J_OP_...   */
    E_CONCAT,      /* list, joined by ~                                 */
    E_COMPARE,     /* a, then list of E_BINARY with op and b            */
    E_IF,          /* a if b else c (c may be NULL)                     */
    /* statements */
    S_DATA,        /* value: text                                       */
    S_OUTPUT,      /* a                                                 */
    S_BODY,        /* list                                              */
    S_IF,          /* list: condition, body, ..., and else body (odd)   */
    S_FOR,         /* target a in b if c: body, else body; op 1: recursive */
    S_SET,         /* a = b                                             */
    S_SET_BLOCK,   /* a = body through filters b (may be NULL)          */
    S_MACRO,       /* name, list: parameter names, args: defaults; body */
    S_CALL,        /* call(list) a: body                                */
    S_FILTER,      /* body through filters a                            */
    S_WITH,        /* list: target, value, ...; body                    */
    S_SCOPE,       /* body in a scope of its own                        */
    S_BREAK, S_CONTINUE
} j_kind;

enum { J_OP_FLOOR = 1, J_OP_POWER, J_OP_EQ, J_OP_NE, J_OP_LE, J_OP_GE, J_OP_IN, J_OP_NOT_IN };

/* What a macro's body mentions. */
enum { J_USES_VARARGS = 1, J_USES_KWARGS = 2, J_USES_CALLER = 4 };

struct j_node {
    uint8_t kind, op, uses;
    uint32_t line;
    uint32_t n;                /* of list                                          */
    uint32_t n_args, n_kw;
    const char *name;          /* interned: equal names are equal pointers         */
    uint32_t name_n;
    j_node *a, *b, *c;
    j_node **list;
    j_node **args;             /* [n_args + n_kw]: by position, then by name; of a
                                * macro: the defaults of the last n_args parameters */
    const char **kw;           /* [n_kw]                                           */
    j_node *body, *other;
    j_value value;
};

/* A hash set of names, each once. */
typedef struct {
    const char **slots;
    uint32_t n, cap;           /* cap: a power of two */
} j_names;

struct cdl_jinja {
    cdl_arena arena;
    const char *name;
    j_node *body;
    j_names names;
    const char *loop, *caller, *varargs, *kwargs;  /* interned */
};

/* The interned name, or NULL when the template does not use it. */
const char *cdl_jinja_interned(const cdl_jinja *t, const char *name);

/* ---- Tokens ---- */

typedef enum {
    JT_END, JT_DATA, JT_BLOCK, JT_BLOCK_END, JT_VARIABLE, JT_VARIABLE_END,
    JT_NAME, JT_STRING, JT_INT, JT_FLOAT, JT_OP
} j_token_type;

typedef struct {
    uint8_t type;
    uint8_t op;                /* OP: the character, or J_OP_ of two                       */
    uint32_t line;
    const char *s;             /* DATA, NAME, STRING (decoded)                             */
    size_t n;
    int64_t i;
    double d;
} j_token;

/* All tokens of a source without \r; in the arena, ended by JT_END. */
CUDDLE_CHECK cuddle_status cdl_jinja_lex(cdl_arena *a, const char *name, const char *source, size_t n,
        j_token **out, size_t *n_out);

/* ---- A run ---- */

enum { J_DEPTH_MAX = 400 };    /* of calls of C while parsing and running */

struct j_run {
    const cdl_jinja *t;
    cdl_arena arena;           /* all values                        */
    cdl_buf *out;              /* where output goes                 */
    size_t output_max;
    uint64_t steps;            /* left                              */
    uint32_t depth, line;
    uint8_t signal;            /* S_BREAK or S_CONTINUE on its way  */
    int64_t now;
};

/* "NAME, line N: ..." */
cuddle_status cdl_jinja_fail(const j_run *r, cuddle_status code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
cuddle_status cdl_jinja_nomem(const j_run *r);
/* Takes steps for n units of work. */
CUDDLE_CHECK cuddle_status cdl_jinja_burn(j_run *r, size_t n);
/* One call of C deeper (r->depth-- comes back): FULL beyond J_DEPTH_MAX. */
CUDDLE_CHECK cuddle_status cdl_jinja_enter(j_run *r);
/* Memory of the run, its steps taken; zeroed when it is an array. */
CUDDLE_CHECK cuddle_status cdl_jinja_alloc(j_run *r, size_t count, size_t size, void *out);

/* jinja_value.c */
const char *cdl_jinja_type_name(const j_value *v);
bool cdl_jinja_truth(const j_value *v);
CUDDLE_CHECK cuddle_status cdl_jinja_from_json(j_run *r, const cdl_json *j, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_string(j_run *r, const char *s, size_t n, j_value *out); /* copies */
CUDDLE_CHECK cuddle_status cdl_jinja_list(j_run *r, j_type type, size_t n, j_value *out);     /* zeroed */
CUDDLE_CHECK cuddle_status cdl_jinja_dict(j_run *r, size_t cap, j_value *out);
/* Without copies of its buffers: text of b moves into the run's memory. */
CUDDLE_CHECK cuddle_status cdl_jinja_take(j_run *r, cdl_buf *b, j_value *out);
/* What write appends, as a string. */
typedef cuddle_status (*j_writer)(j_run *r, cdl_buf *b, const void *of);
CUDDLE_CHECK cuddle_status cdl_jinja_write(j_run *r, j_writer write, const void *of, j_value *out);
/* A list whose length is not known before. A zeroed one is empty. */
typedef struct {
    j_value *items;
    size_t n, cap;
} j_items;
CUDDLE_CHECK cuddle_status cdl_jinja_push(j_run *r, j_items *l, const j_value *v);
CUDDLE_CHECK cuddle_status cdl_jinja_pushed(j_run *r, const j_items *l, j_type type, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_equal(j_run *r, const j_value *a, const j_value *b, bool *out);
/* < 0, 0, > 0; an error for types that have no order. */
CUDDLE_CHECK cuddle_status cdl_jinja_order(j_run *r, const j_value *a, const j_value *b, int *out);
CUDDLE_CHECK cuddle_status cdl_jinja_in(j_run *r, const j_value *item, const j_value *of, bool *out);
CUDDLE_CHECK cuddle_status cdl_jinja_find(j_run *r, const j_dict *d, const j_value *key, j_value **out);
CUDDLE_CHECK cuddle_status cdl_jinja_find_text(j_run *r, const j_dict *d, const char *key, size_t n,
        j_value **out);
CUDDLE_CHECK cuddle_status cdl_jinja_put(j_run *r, j_dict *d, const j_value *key, const j_value *value);
/* What a for loop sees: the items of anything iterable, as a list; generators are consumed. */
CUDDLE_CHECK cuddle_status cdl_jinja_iterate(j_run *r, const j_value *v, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_length(j_run *r, const j_value *v, size_t *out);
/* str(v) and repr(v), appended. */
CUDDLE_CHECK cuddle_status cdl_jinja_print(j_run *r, cdl_buf *b, const j_value *v);
CUDDLE_CHECK cuddle_status cdl_jinja_repr(j_run *r, cdl_buf *b, const j_value *v);
/* v itself when it is a string, else str(v). */
CUDDLE_CHECK cuddle_status cdl_jinja_str(j_run *r, const j_value *v, j_value *out);
/* Python's repr of a float. */
CUDDLE_CHECK cuddle_status cdl_jinja_put_float(cdl_buf *b, double d);
CUDDLE_CHECK cuddle_status cdl_jinja_slice(j_run *r, const j_value *v, const j_value part[3], j_value *out);

/* jinja_eval.c */
CUDDLE_CHECK cuddle_status cdl_jinja_eval(j_run *r, const j_node *e, j_scope *s, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_item(j_run *r, const j_value *v, const j_value *key, j_value *out);
/* What getattr finds; *found tells whether it did. */
CUDDLE_CHECK cuddle_status cdl_jinja_attribute(j_run *r, const j_value *v, const char *name, size_t n,
        bool *found, j_value *out);
/* v.name: the attribute, else the item of that name. */
CUDDLE_CHECK cuddle_status cdl_jinja_get(j_run *r, const j_value *v, const char *name, size_t n, j_value *out);
/* op: J_OP_..., '<' or '>'. */
CUDDLE_CHECK cuddle_status cdl_jinja_compare(j_run *r, int op, const j_value *a, const j_value *b, bool *out);
CUDDLE_CHECK cuddle_status cdl_jinja_binary(j_run *r, int op, const j_value *a, const j_value *b, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_eval_args(j_run *r, const j_node *e, j_scope *s, j_args *out);
CUDDLE_CHECK cuddle_status cdl_jinja_call(j_run *r, const j_value *f, const j_args *args, j_value *out);
/* Names in scopes. */
struct j_scope {
    j_scope *up;
    const char **names;        /* interned */
    j_value *values;
    uint32_t n, cap;
};
CUDDLE_CHECK cuddle_status cdl_jinja_scope(j_run *r, j_scope *up, j_scope **out);
CUDDLE_CHECK cuddle_status cdl_jinja_set(j_run *r, j_scope *s, const char *name, const j_value *v);

/* A method by name; false when values of that type have none. */
bool cdl_jinja_has_method(const j_value *v, const char *name, size_t n);

/* jinja_functions.c */
/* The function of that name, or -1. */
int cdl_jinja_function(const char *name);
CUDDLE_CHECK cuddle_status cdl_jinja_call_function(j_run *r, uint32_t f, const j_args *args, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_call_method(j_run *r, const j_method *m, const j_args *args,
        j_value *out);

/* jinja_exec.c */
CUDDLE_CHECK cuddle_status cdl_jinja_exec(j_run *r, const j_node *n, j_scope *s);
CUDDLE_CHECK cuddle_status cdl_jinja_call_macro(j_run *r, const j_macro *m, const j_args *args, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_call_loop(j_run *r, j_loop *l, const j_args *args, j_value *out);
/* Finds items until there are n or the loop has no more. */
CUDDLE_CHECK cuddle_status cdl_jinja_loop_find(j_run *r, j_loop *l, size_t n);

/* Arguments of filters, methods and functions, by position or name; NULL when not given. */
const j_value *cdl_jinja_arg(const j_args *a, uint32_t i, const char *name);
/* At most n positional ones, and no names but these (NULL-terminated). */
CUDDLE_CHECK cuddle_status cdl_jinja_check_args(j_run *r, const j_args *a, const char *what, uint32_t min,
        const char *const *names);
CUDDLE_CHECK cuddle_status cdl_jinja_need_string(j_run *r, const j_value *v, const char *what);
CUDDLE_CHECK cuddle_status cdl_jinja_need_int(j_run *r, const j_value *v, const char *what, int64_t *out);

/* jinja_string.c */
enum { J_LEFT = 1, J_RIGHT = 2 };
bool cdl_jinja_has_string_method(const char *name, size_t n);
CUDDLE_CHECK cuddle_status cdl_jinja_string_method(j_run *r, const j_value *self, const char *name, size_t n,
        const j_args *args, j_value *out);
/* chars: NULL or none for white space. */
CUDDLE_CHECK cuddle_status cdl_jinja_trim(j_run *r, const j_value *s, const j_value *chars, int sides,
        j_value *out);
/* count < 0: all. */
CUDDLE_CHECK cuddle_status cdl_jinja_replace(j_run *r, const j_value *s, const j_value *from,
        const j_value *to, int64_t count, j_value *out);
/* how: u(pper) l(ower) c(apitalize) t(itle), s(wapcase), j: title as Jinja's filter has it. */
CUDDLE_CHECK cuddle_status cdl_jinja_case(j_run *r, const j_value *s, char how, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_lines(j_run *r, const j_value *s, bool keep_ends, j_items *out);
/* align: '<', '>' or '^'; width in code points. */
CUDDLE_CHECK cuddle_status cdl_jinja_put_padded(j_run *r, cdl_buf *b, const char *s, size_t n, int64_t width,
        char align, const j_value *fill);
bool cdl_jinja_is_space(uint32_t cp);
bool cdl_jinja_is_word(uint32_t cp);                          /* letters, digits, _ */
size_t cdl_jinja_count(const char *s, size_t n);              /* code points */

/* jinja_format.c */
CUDDLE_CHECK cuddle_status cdl_jinja_format(j_run *r, const j_value *fmt, const j_args *args, j_value *out);
CUDDLE_CHECK cuddle_status cdl_jinja_format_braces(j_run *r, const j_value *fmt, const j_args *args,
        j_value *out);

/* jinja_filters.c, jinja_select.c, jinja_tests.c, jinja_tojson.c */
CUDDLE_CHECK cuddle_status cdl_jinja_filter(j_run *r, const char *name, const j_value *v, const j_args *args,
        j_value *out);
bool cdl_jinja_has_filter(const char *name);
typedef struct {
    const char *name;
    cuddle_status (*run)(j_run *r, const j_value *v, const j_args *args, j_value *out);
} j_filter;
extern const j_filter cdl_jinja_select_filters[];             /* ended by a NULL name */
/* By key, stable in both directions. */
CUDDLE_CHECK cuddle_status cdl_jinja_sort(j_run *r, j_entry *a, size_t n, bool reverse);
CUDDLE_CHECK cuddle_status cdl_jinja_test(j_run *r, const char *name, const j_value *v, const j_args *args,
        bool *out);
bool cdl_jinja_has_test(const char *name);
CUDDLE_CHECK cuddle_status cdl_jinja_tojson(j_run *r, const j_value *v, const j_args *args, j_value *out);

#endif
