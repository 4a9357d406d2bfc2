/* profile_case.c - what each op is measured on: its sizes, its operands, and their names. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "profile.h"

/* Sizes of a model of 1.5B parameters. */
enum { ROWS_PROMPT = 512, COLS = 1536, OUT = 8960, HEADS = 12, KV_HEADS = 2, HEAD_DIM = 128, CONTEXT = 1024,
       VOCAB = 32768, NUMBER_MAX = 1 << 20, ELEMENTS_MAX = 1 << 30 };

bool profile_case_weighs(cdl_op op)
{
    return op == CDL_OP_LINEAR || op == CDL_OP_LINEAR_GLU || op == CDL_OP_EMBED;
}

static profile_case usual(cdl_op op, cdl_dtype type, bool prompt)
{
    profile_case c = { .op = op, .type = type, .rows = prompt ? ROWS_PROMPT : 1, .cols = COLS, .out = OUT,
                       .heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .context = CONTEXT,
                       .prompt = prompt };
    if (op == CDL_OP_EMBED)
        c.out = VOCAB;
    if (op == CDL_OP_GATHER)
        c.out = ROWS_PROMPT;
    if (op == CDL_OP_ACT || op == CDL_OP_ACT_MUL)
        c.cols = OUT;
    return c;
}

static const struct { const char *name; size_t at; } keys[] = {
    { "rows", offsetof(profile_case, rows) }, { "cols", offsetof(profile_case, cols) },
    { "out", offsetof(profile_case, out) }, { "heads", offsetof(profile_case, heads) },
    { "kv_heads", offsetof(profile_case, kv_heads) }, { "head_dim", offsetof(profile_case, head_dim) },
    { "context", offsetof(profile_case, context) }, { "window", offsetof(profile_case, window) },
};

/* "name=N" at *text up to a comma or the end. */
static bool read_size(profile_case *c, const char **text)
{
    const char *equals = strchr(*text, '='), *what = *text;
    for (size_t i = 0; equals && i < sizeof keys / sizeof *keys; i++) {
        size_t len = strlen(keys[i].name);
        if ((size_t)(equals - *text) != len || strncmp(*text, keys[i].name, len))
            continue;
        char *end;
        errno = 0;
        unsigned long v = strtoul(equals + 1, &end, 10);
        if (end == equals + 1 || (*end && *end != ',') || errno || v > NUMBER_MAX)
            break;
        *(uint32_t *)((char *)c + keys[i].at) = (uint32_t)v;
        *text = *end ? end + 1 : end;
        return true;
    }
    cli_fail("--shapes '%s': wanted NAME=N,... with rows, cols, out, heads, kv_heads, head_dim, context, window, "
             "each up to %d", what, NUMBER_MAX);
    return false;
}

static bool check(const profile_case *c, const char *text)
{
    if (!c->rows || !c->cols || !c->out || !c->heads || !c->kv_heads || !c->head_dim || !c->context) {
        cli_fail("--shapes '%s': no size but window may be 0", text);
    } else if (c->heads % c->kv_heads) {
        cli_fail("--shapes '%s': %u heads are no multiple of %u kv_heads", text, c->heads, c->kv_heads);
    } else if (c->head_dim % 8 || c->head_dim > 1024) {
        cli_fail("--shapes '%s': head_dim %u is no multiple of 8 up to 1024", text, c->head_dim);
    } else if (profile_case_weighs(c->op) && c->cols % cdl_dtype_get(c->type)->block) {
        cli_fail("--shapes '%s': %u columns are no whole %s blocks of %u", text, c->cols,
                cdl_dtype_get(c->type)->name, cdl_dtype_get(c->type)->block);
    } else if (!c->prompt && (uint64_t)c->rows * c->context * c->kv_heads * c->head_dim > ELEMENTS_MAX) {
        cli_fail("--shapes '%s': the state has over %d elements", text, ELEMENTS_MAX);
    } else if ((uint64_t)c->out * c->cols > ELEMENTS_MAX || (uint64_t)c->rows * c->cols > ELEMENTS_MAX
               || (uint64_t)c->rows * c->out > ELEMENTS_MAX
               || (uint64_t)(c->rows + c->context) * c->heads * c->head_dim > ELEMENTS_MAX) {
        cli_fail("--shapes '%s': an operand has over %d elements", text, ELEMENTS_MAX);
    } else {
        return true;
    }
    return false;
}

bool profile_case_read(profile_case *out, cdl_op op, cdl_dtype type, bool prompt, const char *text)
{
    *out = usual(op, type, prompt);
    for (const char *at = text; *at;)
        if (!read_size(out, &at))
            return false;
    if (prompt && out->context < out->rows)
        out->context = out->rows;
    return check(out, text);
}

void profile_case_name(char *out, size_t n, const profile_case *c)
{
    const char *kind = c->prompt ? "prompt" : "generated";
    switch (c->op) {
    case CDL_OP_LINEAR: case CDL_OP_LINEAR_GLU:
        snprintf(out, n, "%u x %u x %u %s", c->rows, c->cols, c->out, kind);
        break;
    case CDL_OP_EMBED: case CDL_OP_GATHER: snprintf(out, n, "%u of %u x %u", c->rows, c->out, c->cols); break;
    case CDL_OP_ATTENTION:
        snprintf(out, n, "%u at %u, %u/%u heads of %u %s", c->rows, c->context, c->heads, c->kv_heads, c->head_dim,
                kind);
        break;
    case CDL_OP_ROPE: snprintf(out, n, "%u x %u heads of %u", c->rows, c->heads, c->head_dim); break;
    case CDL_OP_STATE_WRITE: snprintf(out, n, "%u x %u heads of %u", c->rows, c->kv_heads, c->head_dim); break;
    default: snprintf(out, n, "%u x %u", c->rows, c->cols); break;
    }
}

/* ---- Operands ---- */

static profile_operand operand(profile_kind kind, uint32_t rows, uint32_t cols)
{
    return (profile_operand){ kind, rows, cols };
}

static uint32_t products(const profile_case *c, profile_operand in[], profile_operand *out, void *attrs)
{
    in[0] = operand(PROFILE_ACTIVATION, c->rows, c->cols);
    in[1] = in[2] = operand(PROFILE_MATRIX, c->out, c->cols);
    *out = operand(PROFILE_ACTIVATION, c->rows, c->out);
    if (c->op == CDL_OP_LINEAR_GLU)
        *(cdl_glu_attrs *)attrs = (cdl_glu_attrs){ .act = CDL_ACT_SILU };
    return c->op == CDL_OP_LINEAR_GLU ? 3 : 2;
}

static uint32_t state_ops(const profile_case *c, profile_operand in[], profile_operand *out, void *attrs)
{
    *out = operand(PROFILE_ACTIVATION, c->rows, c->heads * c->head_dim);
    if (c->op == CDL_OP_ATTENTION) {
        *(cdl_attention_attrs *)attrs = (cdl_attention_attrs){ .heads = c->heads, .window = c->window,
            .scale = 1.0f / (float)c->head_dim };
        in[0] = *out;
        return 1;
    }
    *out = operand(PROFILE_ACTIVATION, c->rows, 0);
    in[0] = in[1] = operand(PROFILE_ACTIVATION, c->rows, c->kv_heads * c->head_dim);
    return 2;
}

static uint32_t rope(const profile_case *c, profile_operand in[], profile_operand *out, void *attrs)
{
    *(cdl_rope_attrs *)attrs = (cdl_rope_attrs){ .head_dim = c->head_dim, .rotary_dim = c->head_dim, .scale = 1,
                                                 .scale_long = 1 };
    in[0] = *out = operand(PROFILE_ACTIVATION, c->rows, c->heads * c->head_dim);
    in[1] = operand(PROFILE_INDEX, 1, c->rows);
    in[2] = operand(PROFILE_FREQUENCY, 1, c->head_dim / 2);
    return 3;
}

uint32_t profile_case_operands(const profile_case *c, profile_operand in[CDL_OP_INPUTS], profile_operand *out,
        void *attrs)
{
    profile_operand x = operand(PROFILE_ACTIVATION, c->rows, c->cols), vector = operand(PROFILE_VECTOR, 1, c->cols);
    memset(attrs, 0, PROFILE_ATTRS_BYTES);
    in[0] = in[1] = *out = x;
    switch (c->op) {
    case CDL_OP_EMBED:
        *(cdl_embed_attrs *)attrs = (cdl_embed_attrs){ 1 };
        in[0] = operand(PROFILE_INDEX, 1, c->rows);
        in[1] = operand(PROFILE_MATRIX, c->out, c->cols);
        return 2;
    case CDL_OP_GATHER:
        in[0] = operand(PROFILE_ACTIVATION, c->out, c->cols);
        in[1] = operand(PROFILE_INDEX, 1, c->rows);
        return 2;
    case CDL_OP_RMSNORM: case CDL_OP_LAYERNORM:
        *(cdl_norm_attrs *)attrs = (cdl_norm_attrs){ .eps = 1e-6f };
        in[1] = in[2] = vector;
        return c->op == CDL_OP_LAYERNORM ? 3 : 2;
    case CDL_OP_LINEAR: case CDL_OP_LINEAR_GLU: return products(c, in, out, attrs);
    case CDL_OP_ROPE: return rope(c, in, out, attrs);
    case CDL_OP_STATE_WRITE: case CDL_OP_ATTENTION: return state_ops(c, in, out, attrs);
    case CDL_OP_ADD: case CDL_OP_ACT_MUL: return 2;
    case CDL_OP_SOFTCAP: *(cdl_softcap_attrs *)attrs = (cdl_softcap_attrs){ 30 }; return 1;
    case CDL_OP_SCALE: *(cdl_scale_attrs *)attrs = (cdl_scale_attrs){ 0.5f }; return 1;
    case CDL_OP_ACT: case CDL_OP_COUNT: return 1;
    }
    return 0;
}
