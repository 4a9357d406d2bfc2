/* decode.c - one PTX instruction's text to an emu_insn.
 *
 * Regular opcodes are rows of FORMS: mnemonic, modifiers that may stand, types, operation, operand classes.
 * The others have a function each in SPECIALS. What stands in neither is an error with its line and text.
 * Operands become references to virtual registers; slots.c gives them their places.
 */
#include "decode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 20, OPERAND_TEXTS_MAX = 16 };
typedef struct {
    char *part[PARTS_MAX];      /* the opcode, cut at its dots */
    int parts;
    char *operand[OPERAND_TEXTS_MAX];
    int operands;
    const char *name, *type;
    uint32_t pred;
    bool negate;
} statement;

static const char *const special_names[SPECIAL_COUNT] = {
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
    "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%lanemask_eq", "%lanemask_lt", "%lanemask_le",
    "%lanemask_gt", "%lanemask_ge", "%smid", "%nsmid", "%dynamic_smem_size",
};

void emu_decode_begin(emu_decoder *d)
{
    for (int i = 0; i < SPECIAL_COUNT; i++) {
        d->special_vreg[i] = emu_vreg_new(d, CLASS_32, 1);
        d->vreg[d->special_vreg[i]].pinned = true;
    }
    d->true_vreg = emu_vreg_new(d, CLASS_PRED, 1);
    d->vreg[d->true_vreg].pinned = true;
}

static void ref_add(emu_decoder *d, uint32_t field, uint32_t vreg, bool def)
{
    d->ref = emu_grow(d->ref, d->refs, &d->ref_cap, sizeof *d->ref);
    d->ref[d->refs++] = (emu_ref){d->kernel->count - 1, vreg, (uint16_t)field, def};
}

emu_insn *emu_emit(emu_decoder *d, int op, const char *name)
{
    emu_kernel *k = d->kernel;
    if (k->count == k->capacity) {
        k->capacity = k->capacity ? 2 * k->capacity : 256;
        k->code = realloc(k->code, k->capacity * sizeof *k->code);
        k->opcode = realloc(k->opcode, k->capacity * sizeof *k->opcode);
    }
    emu_insn *i = &k->code[k->count];
    *i = (emu_insn){.op = (uint16_t)op, .line = d->line};
    i->fn = emu_ops()[op];
    i->flow = op == OP_BRA || op == OP_RET || op == OP_BAR || op == OP_JOIN || op == OP_TRAP;
    k->opcode[k->count++] = strdup(name);
    if (!i->fn)
        emu_fail(d, "opcode '%s' has no implementation", name);
    ref_add(d, FIELD_PRED, d->true_vreg, false);
    return i;
}

/* The instruction of a statement, with its predicate and the flags that any opcode may have. */
static emu_insn *emit(emu_decoder *d, const statement *s, int op)
{
    emu_insn *i = emu_emit(d, op, s->name);
    d->ref[d->refs - 1].vreg = s->pred;
    i->negate = s->negate ? FULL : 0;
    for (int p = 1; p < s->parts; p++) {
        if (!strcmp(s->part[p], "ftz"))
            i->flags |= FLAG_FTZ;
        if (!strcmp(s->part[p], "sat"))
            i->flags |= FLAG_SAT;
    }
    return i;
}

static bool has(const statement *s, const char *part)
{
    for (int i = 1; i < s->parts; i++)
        if (!strcmp(s->part[i], part))
            return true;
    return false;
}

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

/* Every modifier between mnemonic and the last `tail` parts stands in the list. */
static bool modifiers(emu_decoder *d, const statement *s, const char *allowed, int tail)
{
    for (int i = 1; i < s->parts - tail; i++)
        if (!in_list(allowed, s->part[i]))
            emu_fail(d, "opcode '%s' is not supported ('.%s')", s->name, s->part[i]);
    return !d->failed;
}

static uint32_t constant(emu_decoder *d, uint64_t value, enum emu_class cls)
{
    emu_kernel *k = d->kernel;
    for (uint32_t i = 0; i < k->constant_count; i++)
        if (k->constant[i].value == value && k->constant[i].cls == cls)
            return d->constant_vreg[i];
    uint32_t n = k->constant_count++;
    k->constant = realloc(k->constant, k->constant_count * sizeof *k->constant);
    d->constant_vreg = realloc(d->constant_vreg, k->constant_count * sizeof *d->constant_vreg);
    k->constant[n] = (struct emu_constant){.cls = (uint8_t)cls, .value = value};
    d->constant_vreg[n] = emu_vreg_new(d, cls, 1);
    d->vreg[d->constant_vreg[n]].pinned = true;
    return d->constant_vreg[n];
}

static bool literal(const char *t, enum emu_class cls, uint64_t *value)
{
    char *end;
    if (t[0] == '0' && t[1] && strchr("fFdD", t[1])) {
        *value = strtoull(t + 2, &end, 16);
        if (strchr("dD", t[1]) && cls == CLASS_32)
            return false;
    } else if (*t == '-') {
        *value = (uint64_t)strtoll(t, &end, 0);
    } else {
        *value = strtoull(t, &end, 0);
    }
    if (cls != CLASS_64)
        *value = (uint32_t)*value;
    return end != t && (!*end || !strcmp(end, "U"));
}

static uint64_t symbol_value(const emu_symbol *s, bool generic)
{
    if (!generic)
        return s->value;
    return s->kind == SYM_PARAM ? PARAM_WINDOW + s->value : s->value;
}

/* The symbol of a register operand, or NULL; its virtual register in *vreg. */
static emu_symbol *reg_find(emu_decoder *d, const char *t, uint32_t *vreg)
{
    emu_symbol *s = emu_symbol_find(d, t);
    if (!s || s->kind != SYM_REG)
        return NULL;
    *vreg = s->first + (s->range ? (uint32_t)strtoul(t + strlen(s->name), NULL, 10) : 0);
    return s;
}

/* An operand that is read, as a virtual register of the class. */
static uint32_t source(emu_decoder *d, const char *t, enum emu_class cls)
{
    uint32_t vreg;
    uint64_t value;
    for (int i = 0; *t == '%' && i < SPECIAL_COUNT; i++)
        if (!strcmp(t, special_names[i]) && cls == CLASS_32)
            return d->special_vreg[i];
    if (reg_find(d, t, &vreg)) {
        if (d->vreg[vreg].cls != cls)
            emu_fail(d, "operand '%s' has another size than its instruction", t);
        return vreg;
    }
    emu_symbol *s = emu_symbol_find(d, t);
    if (s)
        return constant(d, cls == CLASS_64 ? symbol_value(s, true) : (uint32_t)s->value, cls);
    if (!strcmp(t, "WARP_SZ"))
        return constant(d, LANES, cls);
    if (isdigit((unsigned char)*t) || *t == '-') {
        if (cls == CLASS_PRED) {
            emu_fail(d, "a number where a predicate is wanted: '%s'", t);
            return d->true_vreg;
        }
        if (literal(t, cls, &value))
            return constant(d, value, cls);
    }
    emu_fail(d, "operand '%s' is not known", t);
    return d->true_vreg;
}

static void read_op(emu_decoder *d, int field, const char *t, enum emu_class cls)
{
    ref_add(d, (uint32_t)field, source(d, t, cls), false);
}

/* An operand that is written; returns the register's bits. `_` is a register of nobody. */
static int write_op(emu_decoder *d, int field, const char *t, enum emu_class cls)
{
    uint32_t vreg;
    if (!strcmp(t, "_")) {
        ref_add(d, (uint32_t)field, emu_vreg_new(d, cls, 1), true);
        return cls == CLASS_64 ? 64 : 32;
    }
    emu_symbol *s = reg_find(d, t, &vreg);
    if (!s || d->vreg[vreg].cls != cls) {
        emu_fail(d, "'%s' is no register of the size that is written", t);
        return 32;
    }
    ref_add(d, (uint32_t)field, vreg, true);
    return s->bits;
}

static enum emu_class class_of(int bits)
{
    return bits == 1 ? CLASS_PRED : bits == 64 ? CLASS_64 : CLASS_32;
}

static enum emu_class class_char(char c) { return c == 'p' ? CLASS_PRED : c == '2' ? CLASS_64 : CLASS_32; }

/* ---- regular opcodes ---- */
typedef struct {
    const char *mnemonic, *modifiers, *types;
    int op;
    const char *classes;        /* destination, sources: p predicate, 1 up to 32 bits, 2 64 bits */
} form;

#define RND "rn approx full ftz sat"
static const form FORMS[] = {
    {"add", "", "s32 u32", OP_ADD_32, "111"}, {"sub", "", "s32 u32", OP_SUB_32, "111"},
    {"add", "", "s64 u64", OP_ADD_64, "222"}, {"sub", "", "s64 u64", OP_SUB_64, "222"},
    {"add", "", "s16 u16", OP_ADD_16, "111"}, {"sub", "", "s16 u16", OP_SUB_16, "111"},
    {"mul", "lo", "s32 u32", OP_MUL_32, "111"}, {"mul", "lo", "s64 u64", OP_MUL_64, "222"},
    {"mul", "lo", "s16 u16", OP_MUL_16, "111"}, {"mad", "lo", "s16 u16", OP_MAD_16, "1111"},
    {"mul", "hi", "u32", OP_MULHI_U32, "111"}, {"mul", "hi", "s32", OP_MULHI_S32, "111"},
    {"mad", "hi", "u32", OP_MADHI_U32, "1111"}, {"mad", "hi", "s32", OP_MADHI_S32, "1111"},
    {"mul", "hi", "u64", OP_MULHI_U64, "222"}, {"mul", "hi", "s64", OP_MULHI_S64, "222"},
    {"mul", "wide", "s32", OP_MULW_S32, "211"}, {"mul", "wide", "u32", OP_MULW_U32, "211"},
    {"mul", "wide", "s16", OP_MULW_S16, "111"}, {"mul", "wide", "u16", OP_MULW_U16, "111"},
    {"mad", "wide", "s32", OP_MADW_S32, "2112"}, {"mad", "wide", "u32", OP_MADW_U32, "2112"},
    {"mad", "lo", "s32 u32", OP_MAD_32, "1111"}, {"mad", "lo", "s64 u64", OP_MAD_64, "2222"},
    {"div", "", "s32", OP_DIV_S32, "111"}, {"div", "", "u32", OP_DIV_U32, "111"},
    {"rem", "", "s32", OP_REM_S32, "111"}, {"rem", "", "u32", OP_REM_U32, "111"},
    {"div", "", "s64", OP_DIV_S64, "222"}, {"div", "", "u64", OP_DIV_U64, "222"},
    {"rem", "", "s64", OP_REM_S64, "222"}, {"rem", "", "u64", OP_REM_U64, "222"},
    {"div", "", "s16 u16", OP_DIV_S16, "111"}, {"rem", "", "s16 u16", OP_REM_S16, "111"},
    {"min", "", "s32", OP_MIN_S32, "111"}, {"max", "", "s32", OP_MAX_S32, "111"},
    {"min", "", "u32 u16", OP_MIN_U32, "111"}, {"max", "", "u32 u16", OP_MAX_U32, "111"},
    {"min", "", "s16", OP_MIN_S16, "111"}, {"max", "", "s16", OP_MAX_S16, "111"},
    {"min", "", "s64", OP_MIN_S64, "222"}, {"max", "", "s64", OP_MAX_S64, "222"},
    {"min", "", "u64", OP_MIN_U64, "222"}, {"max", "", "u64", OP_MAX_U64, "222"},
    {"and", "", "b32 b16", OP_AND_32, "111"}, {"or", "", "b32 b16", OP_OR_32, "111"},
    {"xor", "", "b32 b16", OP_XOR_32, "111"}, {"not", "", "b32", OP_NOT_32, "11"},
    {"not", "", "b16", OP_NOT_16, "11"},
    {"and", "", "b64", OP_AND_64, "222"}, {"or", "", "b64", OP_OR_64, "222"}, {"xor", "", "b64", OP_XOR_64, "222"},
    {"not", "", "b64", OP_NOT_64, "22"}, {"and", "", "pred", OP_AND_P, "ppp"}, {"or", "", "pred", OP_OR_P, "ppp"},
    {"xor", "", "pred", OP_XOR_P, "ppp"}, {"not", "", "pred", OP_NOT_P, "pp"},
    {"shl", "", "b32", OP_SHL_32, "111"}, {"shr", "", "u32 b32", OP_SHR_U32, "111"},
    {"shr", "", "s32", OP_SHR_S32, "111"}, {"shl", "", "b16", OP_SHL_16, "111"},
    {"shr", "", "u16 b16", OP_SHR_U16, "111"}, {"shr", "", "s16", OP_SHR_S16, "111"},
    {"shl", "", "b64", OP_SHL_64, "221"}, {"shr", "", "u64 b64", OP_SHR_U64, "221"},
    {"shr", "", "s64", OP_SHR_S64, "221"}, {"neg", "", "s32", OP_NEG_32, "11"}, {"neg", "", "s16", OP_NEG_16, "11"},
    {"neg", "", "s64", OP_NEG_64, "22"}, {"abs", "", "s32", OP_ABS_32, "11"}, {"abs", "", "s64", OP_ABS_64, "22"},
    {"add", RND, "f32", OP_FADD, "111"}, {"sub", RND, "f32", OP_FSUB, "111"}, {"mul", RND, "f32", OP_FMUL, "111"},
    {"fma", RND, "f32", OP_FFMA, "1111"}, {"mad", RND, "f32", OP_FFMA, "1111"}, {"div", RND, "f32", OP_FDIV, "111"},
    {"min", "ftz", "f32", OP_FMIN, "111"}, {"max", "ftz", "f32", OP_FMAX, "111"}, {"neg", "ftz", "f32", OP_FNEG, "11"},
    {"abs", "ftz", "f32", OP_FABS, "11"}, {"rcp", RND, "f32", OP_FRCP, "11"}, {"sqrt", RND, "f32", OP_FSQRT, "11"},
    {"rsqrt", RND, "f32", OP_FRSQRT, "11"}, {"ex2", RND, "f32", OP_FEX2, "11"}, {"lg2", RND, "f32", OP_FLG2, "11"},
    {"sin", RND, "f32", OP_FSIN, "11"}, {"cos", RND, "f32", OP_FCOS, "11"}, {"tanh", RND, "f32", OP_FTANH, "11"},
    {"copysign", "", "f32", OP_FCOPYSIGN, "111"},
    {"add", "rn", "f64", OP_DADD, "222"}, {"sub", "rn", "f64", OP_DSUB, "222"}, {"mul", "rn", "f64", OP_DMUL, "222"},
    {"fma", "rn", "f64", OP_DFMA, "2222"}, {"div", "rn", "f64", OP_DDIV, "222"}, {"neg", "", "f64", OP_DNEG, "22"},
    {"abs", "", "f64", OP_DABS, "22"}, {"min", "", "f64", OP_DMIN, "222"}, {"max", "", "f64", OP_DMAX, "222"},
    {"sqrt", "rn", "f64", OP_DSQRT, "22"}, {"rcp", "rn", "f64", OP_DRCP, "22"},
    {"add", "rn ftz", "f16x2", OP_HADD2, "111"}, {"sub", "rn ftz", "f16x2", OP_HSUB2, "111"},
    {"mul", "rn ftz", "f16x2", OP_HMUL2, "111"}, {"fma", "rn ftz", "f16x2", OP_HFMA2, "1111"},
    {"min", "ftz", "f16x2", OP_HMIN2, "111"}, {"max", "ftz", "f16x2", OP_HMAX2, "111"},
    {"add", "rn ftz", "f16", OP_HADD, "111"}, {"sub", "rn ftz", "f16", OP_HSUB, "111"},
    {"mul", "rn ftz", "f16", OP_HMUL, "111"}, {"fma", "rn ftz", "f16", OP_HFMA, "1111"},
    {"min", "ftz", "f16", OP_HMIN, "111"}, {"max", "ftz", "f16", OP_HMAX, "111"},
    {"neg", "ftz", "f16x2 bf16x2", OP_HNEG2, "11"}, {"abs", "ftz", "f16x2 bf16x2", OP_HABS2, "11"},
    {"neg", "ftz", "f16 bf16", OP_HNEG, "11"}, {"abs", "ftz", "f16 bf16", OP_HABS, "11"},
    {"ex2", "approx ftz", "f16", OP_HEX2, "11"}, {"tanh", "approx", "f16", OP_HTANH, "11"},
    {"add", "rn", "bf16x2", OP_BADD2, "111"}, {"sub", "rn", "bf16x2", OP_BSUB2, "111"},
    {"mul", "rn", "bf16x2", OP_BMUL2, "111"}, {"fma", "rn", "bf16x2", OP_BFMA2, "1111"},
    {"min", "", "bf16x2", OP_BMIN2, "111"}, {"max", "", "bf16x2", OP_BMAX2, "111"},
    {"add", "rn", "bf16", OP_BADD, "111"}, {"sub", "rn", "bf16", OP_BSUB, "111"}, {"mul", "rn", "bf16", OP_BMUL, "111"},
    {"fma", "rn", "bf16", OP_BFMA, "1111"}, {"min", "", "bf16", OP_BMIN, "111"}, {"max", "", "bf16", OP_BMAX, "111"},
    {"brev", "", "b32", OP_BREV, "11"}, {"brev", "", "b64", OP_BREV_64, "22"}, {"popc", "", "b32", OP_POPC, "11"},
    {"popc", "", "b64", OP_POPC_64, "12"}, {"clz", "", "b32", OP_CLZ, "11"}, {"clz", "", "b64", OP_CLZ_64, "12"},
    {"prmt", "", "b32", OP_PRMT, "1111"},
    {"bfe", "", "u32", OP_BFE_U32, "1111"}, {"bfe", "", "s32", OP_BFE_S32, "1111"},
    {"bfe", "", "u64", OP_BFE_U64, "2211"}, {"bfe", "", "s64", OP_BFE_S64, "2211"},
    {"bfi", "", "b32", OP_BFI, "11111"}, {"bfi", "", "b64", OP_BFI_64, "22211"},
    {"selp", "", "b32 s32 u32 f32 b16 s16 u16", OP_SELP_32, "111p"},
    {"selp", "", "b64 s64 u64 f64", OP_SELP_64, "222p"},
};

static const form *form_find(const statement *s)
{
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        const form *f = &FORMS[i];
        bool fits = !strcmp(f->mnemonic, s->part[0]) && in_list(f->types, s->type)
            && (int)strlen(f->classes) == s->operands;
        for (int p = 1; fits && p < s->parts - 1; p++)
            fits = in_list(f->modifiers, s->part[p]);
        if (fits)
            return f;
    }
    return NULL;
}

static bool regular(emu_decoder *d, const statement *s)
{
    const form *f = form_find(s);
    if (!f)
        return false;
    emit(d, s, f->op);
    for (int i = 1; i < s->operands; i++)
        read_op(d, i, s->operand[i], class_char(f->classes[i]));
    write_op(d, 0, s->operand[0], class_char(f->classes[0]));
    return true;
}

/* ---- the others ---- */
static bool operands_want(emu_decoder *d, const statement *s, int least, int most)
{
    if (s->operands < least || s->operands > most)
        emu_fail(d, "'%s' with %d operands", s->name, s->operands);
    return !d->failed;
}

static void decode_bra(emu_decoder *d, const statement *s)
{
    if (!operands_want(d, s, 1, 1) || !modifiers(d, s, "uni", 0))
        return;
    emit(d, s, OP_BRA);
    d->fixup = emu_grow(d->fixup, d->fixups, &d->fixup_cap, sizeof *d->fixup);
    d->fixup[d->fixups++] = (emu_label){strdup(s->operand[0]), d->kernel->count - 1};
}

static void decode_ret(emu_decoder *d, const statement *s) { emit(d, s, OP_RET); }

static void decode_trap(emu_decoder *d, const statement *s) { emit(d, s, OP_TRAP); }

/* Accesses are performed at once and in order; the race check wants to know of fences. */
static void decode_fence(emu_decoder *d, const statement *s)
{
    if (has(s, "proxy")) {
        if (modifiers(d, s, "proxy async shared::cta", 0))
            emit(d, s, OP_PROXY_FENCE);
        return;
    }
    emit(d, s, has(s, "cta") ? OP_NOP : OP_FENCE);
}

static void decode_grid(emu_decoder *d, const statement *s) { emit(d, s, has(s, "wait") ? OP_GRID_WAIT : OP_NOP); }

/* Hints. */
static void decode_nop(emu_decoder *d, const statement *s) { emit(d, s, OP_NOP); }

/* bar.sync a{, count}, bar.arrive a, count, barrier{.cta}.sync{.aligned}, bar.warp.sync mask */
static void decode_bar(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "sync arrive aligned warp cta", 0) || !operands_want(d, s, 1, 2))
        return;
    if (has(s, "warp")) {
        emit(d, s, OP_VOTE)->sub = 4;
        read_op(d, 2, s->operand[0], CLASS_32);
        return;
    }
    emu_insn *i = emit(d, s, OP_BAR);
    i->sub = has(s, "arrive");
    i->has_pred_dst = s->operands > 1;
    i->n = !strcmp(s->part[0], "bar") || has(s, "aligned");
    read_op(d, 1, s->operand[0], CLASS_32);
    if (s->operands > 1)
        read_op(d, 2, s->operand[1], CLASS_32);
}

/* {a, b} or a: the texts of a vector's elements */
static int vector(emu_decoder *d, char *t, char **out, int max)
{
    if (*t != '{') {
        out[0] = t;
        return 1;
    }
    char *close = strrchr(t, '}');
    if (close)
        *close = 0;
    int n = emu_split(t + 1, out, max);
    if (!close || n < 1)
        emu_fail(d, "a vector '%s' that is not closed or too long", t);
    return n;
}

static void decode_pack(emu_decoder *d, const statement *s, int bits)
{
    bool unpack = *s->operand[0] == '{';
    char *v[4];
    int n = vector(d, s->operand[unpack ? 0 : 1], v, 4);
    if (n != 2 && n != 4)
        emu_fail(d, "'%s' of %d elements", s->name, n);
    if (d->failed)
        return;
    bool wide = bits == 64;
    emu_insn *i = emit(d, s, unpack ? (wide ? OP_UNPACK_64 : OP_UNPACK) : (wide ? OP_PACK_64 : OP_PACK));
    i->n = (uint8_t)n;
    i->size = (uint8_t)(bits / n);
    if (unpack)
        read_op(d, 1, s->operand[1], class_of(bits));
    for (int q = 0; q < n; q++) {
        if (unpack)
            write_op(d, 4 + q, v[q], CLASS_32);
        else
            read_op(d, 4 + q, v[q], CLASS_32);
    }
    if (!unpack)
        write_op(d, 0, s->operand[0], class_of(bits));
}

static void decode_mov_pred(emu_decoder *d, const statement *s)
{
    emu_insn *i = emit(d, s, OP_MOV_P);
    const char *t = s->operand[1];
    if (isdigit((unsigned char)*t) || *t == '-') {
        i->flags |= atoi(t) ? 0 : FLAG_NEG;
        ref_add(d, 1, d->true_vreg, false);
    } else {
        read_op(d, 1, t, CLASS_PRED);
    }
    write_op(d, 0, s->operand[0], CLASS_PRED);
}

static void decode_mov(emu_decoder *d, const statement *s)
{
    int bits = emu_type_bits(s->type);
    if (!operands_want(d, s, 2, 2) || !modifiers(d, s, "", 1))
        return;
    if (*s->operand[0] == '{' || *s->operand[1] == '{') {
        decode_pack(d, s, bits);
    } else if (bits == 1) {
        decode_mov_pred(d, s);
    } else if (!strncmp(s->operand[1], "%clock", 6) || !strncmp(s->operand[1], "%globaltimer", 12)) {
        emit(d, s, OP_CLOCK)->wide_data = bits == 64;
        write_op(d, 0, s->operand[0], class_of(bits));
    } else {
        emit(d, s, bits == 64 ? OP_MOV_64 : OP_MOV_32);
        read_op(d, 1, s->operand[1], class_of(bits));
        write_op(d, 0, s->operand[0], class_of(bits));
    }
}

/* cvta{.to}.space: generic addresses of shared and local memory lie in windows of their own. */
static void decode_cvta(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "to global shared local const param", 1) || !operands_want(d, s, 2, 2))
        return;
    bool windowed = has(s, "shared") || has(s, "local");
    uint64_t base = has(s, "shared") ? SHARED_WINDOW : LOCAL_WINDOW;
    emit(d, s, windowed ? OP_ADD_64 : OP_MOV_64);
    read_op(d, 1, s->operand[1], CLASS_64);
    if (windowed)
        ref_add(d, 2, constant(d, has(s, "to") ? 0 - base : base, CLASS_64), false);
    write_op(d, 0, s->operand[0], CLASS_64);
}

static int compare_code(const char *name)
{
    static const char *const names[] = {"eq", "ne", "lt", "le", "gt", "ge"};
    static const char *const unsigned_names[] = {"", "", "lo", "ls", "hi", "hs"};
    static const char *const unordered[] = {"equ", "neu", "ltu", "leu", "gtu", "geu"};
    for (int i = 0; i < 6; i++) {
        if (!strcmp(name, names[i]) || !strcmp(name, unsigned_names[i]))
            return i;
        if (!strcmp(name, unordered[i]))
            return i + CMP_UNORDERED;
    }
    return !strcmp(name, "num") ? CMP_NUM : !strcmp(name, "nan") ? CMP_NAN : -1;
}

static int setp_op(const char *t)
{
    int bits = emu_type_bits(t);
    if (!strcmp(t, "f16") || !strcmp(t, "bf16"))
        return *t == 'f' ? OP_SETP_F16 : OP_SETP_BF16;
    if (*t == 'f')
        return bits == 64 ? OP_SETP_F64 : OP_SETP_F32;
    if (bits == 16)
        return OP_SETP_S16;
    if (bits == 64)
        return *t == 's' ? OP_SETP_S64 : OP_SETP_U64;
    return *t == 's' ? OP_SETP_S32 : OP_SETP_U32;
}

/* setp.cmp{.boolop}.type p{|q}, a, b{, {!}c} */
static void decode_setp(emu_decoder *d, const statement *s)
{
    int cmp = s->parts > 2 ? compare_code(s->part[1]) : -1;
    if (cmp < 0 || !operands_want(d, s, 3, 4)) {
        emu_fail(d, "comparison '%s' is not supported", s->name);
        return;
    }
    emu_insn *i = emit(d, s, setp_op(s->type));
    enum emu_class cls = class_of(emu_type_bits(s->type));
    i->sub = (uint8_t)cmp;
    i->is_signed = *s->type == 's';
    i->count = has(s, "and") ? 1 : has(s, "or") ? 2 : has(s, "xor") ? 3 : 0;
    char *q = strchr(s->operand[0], '|'), *c = s->operands > 3 ? s->operand[3] : NULL;
    i->has_pred_dst = q != NULL;
    if (c && *c == '!') {
        i->flags |= FLAG_NEG;
        c = emu_trim(c + 1);
    }
    if (q)
        *q = 0;
    if ((c != NULL) != (i->count != 0))
        emu_fail(d, "comparison '%s' is not supported", s->name);
    read_op(d, 1, s->operand[1], cls);
    read_op(d, 2, s->operand[2], cls);
    if (c)
        read_op(d, 3, c, CLASS_PRED);
    write_op(d, 0, emu_trim(s->operand[0]), CLASS_PRED);
    if (q)
        write_op(d, 4, emu_trim(q + 1), CLASS_PRED);
}

static int rounding(const statement *s)
{
    return has(s, "rzi") ? 3 : has(s, "rmi") ? 1 : has(s, "rpi") ? 2 : 0;
}

static int cvt_from_float(const char *dt, int db, int sb)
{
    if (*dt != 'f')
        return sb == 64 ? OP_CVT_D_I : sb == 16 ? OP_CVT_H_I : db == 64 ? OP_CVT_F_I64 : OP_CVT_F_S32;
    if (sb == 64)
        return db == 64 ? OP_CVT_D_D : db == 32 ? OP_CVT_D_F : -1;
    if (db == 64)
        return sb == 32 ? OP_CVT_F_D : -1;
    if (sb == 16)
        return db == 32 ? OP_CVT_H_F : -1;
    return db == 16 ? OP_CVT_F_H : OP_CVT_F_F;
}

/* Operation of cvt.dt.st, or -1. Names read from, to: CVT_H_F is f16 to f32. */
static int cvt_op(const char *dt, const char *st)
{
    int db = emu_type_bits(dt), sb = emu_type_bits(st);
    if (!strcmp(dt, "tf32"))
        return OP_CVT_TF32;
    if (!strcmp(dt, "bf16"))
        return !strcmp(st, "f32") ? OP_CVT_F_B : -1;
    if (!strcmp(st, "bf16"))
        return !strcmp(dt, "f32") ? OP_CVT_B_F : -1;
    if (!strcmp(dt, "f16x2") || !strcmp(dt, "bf16x2"))
        return !strcmp(st, "f32") ? (*dt == 'f' ? OP_CVT_H2 : OP_CVT_B2) : !strncmp(st, "e4m3", 4)
            || !strncmp(st, "e5m2", 4) ? OP_CVT_E_H2 : -1;
    if (!strncmp(dt, "e4m3", 4) || !strncmp(dt, "e5m2", 4))
        return !strcmp(st, "f32") ? OP_CVT_E_F : !strcmp(st, "f16x2") ? OP_CVT_H2_E : -1;
    if (*st == 'f')
        return cvt_from_float(dt, db, sb);
    if (*dt == 'f')
        return db == 64 ? OP_CVT_I_D : OP_CVT_I_F;
    if (db == 64)
        return sb == 64 ? OP_MOV_64 : *st == 's' ? OP_CVT_64_S32 : OP_CVT_64_U32;
    return sb == 64 ? OP_CVT_32_64 : OP_CVT_INT;
}

static void decode_cvt(emu_decoder *d, const statement *s)
{
    const char *dt = s->parts > 2 ? s->part[s->parts - 2] : "", *st = s->type;
    int op = cvt_op(dt, st), db = emu_type_bits(dt), sb = emu_type_bits(st);
    bool e8 = dt[0] == 'e' || st[0] == 'e', two = s->operands == 3;
    if (op < 0 || !modifiers(d, s, "rn rna rni rzi rmi rpi ftz sat relu satfinite", 2)
        || !operands_want(d, s, 2, 3)) {
        emu_fail(d, "conversion '%s' is not supported", s->name);
        return;
    }
    if (e8)
        db = sb = 32;
    emu_insn *i = emit(d, s, op);
    i->sub = (uint8_t)rounding(s);
    i->count = has(s, "relu");
    i->is_signed = *st == 's';
    i->is_float = dt[0] == 's';
    i->size = (uint8_t)db;
    i->space = (uint8_t)sb;
    i->wide_data = strstr(s->name, "e5m2") != NULL;
    read_op(d, 1, s->operand[1], class_of(sb));
    if (two)
        read_op(d, 2, s->operand[2], class_of(sb));
    i = &d->kernel->code[d->kernel->count - 1];
    i->extra = (uint32_t)write_op(d, 0, s->operand[0], class_of(db == 19 ? 32 : db));
}

/* [reg+imm] | [symbol+imm] | [imm] into operand `field`; returns the offset. */
static int64_t address(emu_decoder *d, char *t, int field, uint8_t *wide, enum emu_space space)
{
    char *close = strchr(t, ']');
    if (*t != '[' || !close) {
        emu_fail(d, "'%s' is no address", t);
        return 0;
    }
    *close = 0;
    char *name = emu_trim(t + 1), *plus = strchr(name + 1, '+');
    int64_t offset = 0;
    if (plus) {
        *plus = 0;
        offset = strtoll(plus + 1, NULL, 0);
        name = emu_trim(name);
    }
    uint32_t vreg;
    if (reg_find(d, name, &vreg)) {
        *wide = d->vreg[vreg].cls == CLASS_64;
        ref_add(d, (uint32_t)field, vreg, false);
        return offset;
    }
    emu_symbol *s = emu_symbol_find(d, name);
    if (s)
        offset += (int64_t)symbol_value(s, space == SPACE_GENERIC);
    else if (isdigit((unsigned char)*name))
        offset += strtoll(name, NULL, 0);
    else
        emu_fail(d, "address '%s' is not known", name);
    *wide = 1;
    ref_add(d, (uint32_t)field, constant(d, 0, CLASS_64), false);
    return offset;
}

static enum emu_space space_of(const statement *s)
{
    for (int i = 1; i < s->parts; i++) {
        const char *p = s->part[i];
        if (!strcmp(p, "global") || !strcmp(p, "const"))
            return SPACE_GLOBAL;
        if (!strncmp(p, "shared", 6))
            return SPACE_SHARED;
        if (!strcmp(p, "local"))
            return SPACE_LOCAL;
        if (!strncmp(p, "param", 5))
            return SPACE_PARAM;
    }
    return SPACE_GENERIC;
}

static uint8_t strong_flags(const statement *s)
{
    bool release = has(s, "release") || has(s, "acq_rel");
    bool strong = release || has(s, "volatile") || has(s, "relaxed") || has(s, "acquire");
    return (uint8_t)((strong ? FLAG_STRONG : 0) | (release ? FLAG_RELEASE : 0));
}

/* ld and st; the data's registers may be wider than the type */
static void decode_ld_st(emu_decoder *d, const statement *s)
{
    bool store = s->part[0][0] == 's';
    char *v[4];
    if (!operands_want(d, s, 2, 2) || !modifiers(d, s, "global const shared shared::cta local param param::entry nc "
            "v2 v4 "
            "volatile weak relaxed acquire release gpu cta sys ca cg cs lu cv wb wt L1::no_allocate L1::evict_last "
            "L1::evict_first L1::evict_normal L2::128B L2::256B L2::64B", 1))
        return;
    int n = vector(d, s->operand[store ? 1 : 0], v, 4);
    int bits = emu_type_bits(s->type);
    emu_insn *i = emit(d, s, store ? OP_ST : OP_LD);
    i->space = (uint8_t)space_of(s);
    i->n = (uint8_t)n;
    i->size = (uint8_t)(bits / 8);
    i->is_signed = *s->type == 's';
    i->flags |= strong_flags(s);
    uint8_t wide = 0;
    int64_t offset = address(d, s->operand[store ? 0 : 1], 1, &wide, i->space);
    i = &d->kernel->code[d->kernel->count - 1];
    i->imm = offset;
    i->wide_address = wide;
    for (int q = 0; q < n && !d->failed; q++) {
        uint32_t vreg;
        emu_symbol *r = reg_find(d, v[q], &vreg);
        enum emu_class cls = r ? r->cls : class_of(bits);
        i->wide_data = cls == CLASS_64;
        if (store)
            read_op(d, 4 + q, v[q], cls);
        else
            i->count = (uint8_t)write_op(d, 4 + q, v[q], cls);
    }
}

static void decode_ldmatrix(emu_decoder *d, const statement *s)
{
    char *v[4];
    if (!operands_want(d, s, 2, 2) || !modifiers(d, s, "sync aligned m8n8 x1 x2 x4 trans shared shared::cta", 1))
        return;
    int n = vector(d, s->operand[0], v, 4);
    emit(d, s, OP_LDMATRIX);
    uint8_t wide = 0;
    int64_t offset = address(d, s->operand[1], 1, &wide, space_of(s));
    emu_insn *i = &d->kernel->code[d->kernel->count - 1];
    i->imm = offset;
    i->wide_address = wide;
    i->space = (uint8_t)space_of(s);
    i->n = (uint8_t)n;
    i->size = 16;
    i->sub = has(s, "trans");
    if (n != (has(s, "x4") ? 4 : has(s, "x2") ? 2 : 1))
        emu_fail(d, "'%s' with %d registers", s->name, n);
    for (int q = 0; q < n; q++)
        write_op(d, 4 + q, v[q], CLASS_32);
}

static void decode_cp_async(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "async ca cg shared shared::cta global L2::64B L2::128B L2::256B", 0)
        || !operands_want(d, s, 3, 4))
        return;
    emit(d, s, OP_COPY_ASYNC);
    uint8_t wide = 0, ignored = 0;
    int64_t offset = address(d, s->operand[0], 1, &wide, SPACE_SHARED);
    int64_t from = address(d, s->operand[1], 2, &ignored, SPACE_GLOBAL);
    emu_insn *i = &d->kernel->code[d->kernel->count - 1];
    i->imm = offset;
    i->wide_address = wide;
    i->extra = (uint32_t)from;
    i->n = (uint8_t)atoi(s->operand[2]);
    i->sub = s->operands > 3;
    if (i->n != 4 && i->n != 8 && i->n != 16)
        emu_fail(d, "'%s' of '%s' bytes", s->name, s->operand[2]);
    if (s->operands > 3)
        read_op(d, 3, s->operand[3], CLASS_32);
}

static void decode_cp(emu_decoder *d, const statement *s)
{
    if (!has(s, "async") || has(s, "bulk") || has(s, "mbarrier")) {
        emu_fail(d, "opcode '%s' is not supported", s->name);
    } else if (has(s, "commit_group")) {
        emit(d, s, OP_COPY_COMMIT);
    } else if (has(s, "wait_group") || has(s, "wait_all")) {
        emit(d, s, OP_COPY_WAIT)->imm = has(s, "wait_all") ? -1 : s->operands ? strtol(s->operand[0], NULL, 0) : 0;
    } else {
        decode_cp_async(d, s);
    }
}

#include "decode_mma.inc"

static void decode_shfl(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "sync up down bfly idx", 1) || !operands_want(d, s, 5, 5))
        return;
    emu_insn *i = emit(d, s, OP_SHFL);
    char *q = strchr(s->operand[0], '|');
    i->sub = has(s, "up") ? 1 : has(s, "down") ? 2 : has(s, "bfly") ? 3 : 0;
    i->has_pred_dst = q != NULL;
    if (q)
        *q = 0;
    for (int p = 1; p < 5; p++)
        read_op(d, p, s->operand[p], CLASS_32);
    write_op(d, 0, emu_trim(s->operand[0]), CLASS_32);
    if (q)
        write_op(d, 5, emu_trim(q + 1), CLASS_PRED);
}

static void decode_vote(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "sync ballot any all uni", 1) || !operands_want(d, s, 3, 3))
        return;
    emu_insn *i = emit(d, s, OP_VOTE);
    i->sub = has(s, "ballot") ? 0 : has(s, "any") ? 1 : has(s, "all") ? 2 : 3;
    enum emu_class cls = i->sub ? CLASS_PRED : CLASS_32;
    const char *t = s->operand[1];
    if (*t == '!') {
        i->flags |= FLAG_NEG;
        t++;
    }
    if (isdigit((unsigned char)*t) || *t == '-') {
        i->flags ^= atoi(t) ? 0 : FLAG_NEG;
        ref_add(d, 1, d->true_vreg, false);
    } else {
        read_op(d, 1, t, CLASS_PRED);
    }
    read_op(d, 2, s->operand[2], CLASS_32);
    write_op(d, 0, s->operand[0], cls);
}

static int atom_code(const statement *s)
{
    static const char *const names[] = {"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"};
    for (int i = 0; i < 10; i++)
        if (has(s, names[i]))
            return i;
    return -1;
}

/* redux.sync.op.type d, a, membermask */
static void decode_redux(emu_decoder *d, const statement *s)
{
    if (!modifiers(d, s, "sync add min max and or xor", 1) || !operands_want(d, s, 3, 3))
        return;
    emu_insn *i = emit(d, s, OP_REDUX);
    i->sub = (uint8_t)atom_code(s);
    i->is_signed = *s->type == 's';
    read_op(d, 1, s->operand[1], CLASS_32);
    read_op(d, 2, s->operand[2], CLASS_32);
    write_op(d, 0, s->operand[0], CLASS_32);
}

static void decode_atom(emu_decoder *d, const statement *s)
{
    bool reduce = s->part[0][0] == 'r';
    int at = reduce ? 0 : 1, bits = emu_type_bits(s->type), code = atom_code(s);
    if (code < 0 || !operands_want(d, s, at + 2, at + 3) || !modifiers(d, s, "global shared shared::cta "
            "relaxed acquire release acq_rel gpu cta sys noftz add min max and or xor exch cas inc dec", 1)) {
        emu_fail(d, "opcode '%s' is not supported", s->name);
        return;
    }
    enum emu_class cls = class_of(bits);
    emu_insn *i = emit(d, s, OP_ATOM);
    i->space = (uint8_t)space_of(s);
    i->sub = (uint8_t)code;
    i->size = (uint8_t)(bits / 8);
    i->n = reduce;
    i->is_signed = *s->type == 's';
    i->is_float = strchr(s->type, 'f') != NULL;
    i->flags |= strong_flags(s);
    i->count = !strcmp(s->type, "f16x2") ? 1 : !strcmp(s->type, "bf16x2") ? 2 : 0;
    i->wide_data = cls == CLASS_64;
    if (i->size < 4 || (i->is_float && code != ATOM_ADD))
        emu_fail(d, "opcode '%s' is not supported", s->name);
    uint8_t wide = 0;
    int64_t offset = address(d, s->operand[at], 1, &wide, i->space);
    i = &d->kernel->code[d->kernel->count - 1];
    i->imm = offset;
    i->wide_address = wide;
    read_op(d, 2, s->operand[at + 1], cls);
    if (s->operands > at + 2)
        read_op(d, 3, s->operand[at + 2], cls);
    if (!reduce)
        write_op(d, 0, s->operand[0], cls);
}

static void decode_lop3(emu_decoder *d, const statement *s)
{
    if (!operands_want(d, s, 5, 5) || !modifiers(d, s, "", 1))
        return;
    emit(d, s, OP_LOP3)->extra = (uint32_t)strtoul(s->operand[4], NULL, 0);
    for (int p = 1; p < 4; p++)
        read_op(d, p, s->operand[p], CLASS_32);
    write_op(d, 0, s->operand[0], CLASS_32);
}

static void decode_bfind(emu_decoder *d, const statement *s)
{
    if (!operands_want(d, s, 2, 2) || !modifiers(d, s, "shiftamt", 1))
        return;
    bool wide = emu_type_bits(s->type) == 64;
    emu_insn *i = emit(d, s, wide ? OP_BFIND_64 : OP_BFIND);
    i->sub = has(s, "shiftamt");
    i->is_signed = *s->type == 's';
    read_op(d, 1, s->operand[1], wide ? CLASS_64 : CLASS_32);
    write_op(d, 0, s->operand[0], CLASS_32);
}

static void decode_shf(emu_decoder *d, const statement *s)
{
    if (!operands_want(d, s, 4, 4) || !modifiers(d, s, "l r wrap clamp", 1))
        return;
    emit(d, s, has(s, "l") ? OP_SHF_L : OP_SHF_R)->sub = has(s, "wrap");
    for (int p = 1; p < 4; p++)
        read_op(d, p, s->operand[p], CLASS_32);
    write_op(d, 0, s->operand[0], CLASS_32);
}

static void decode_dp4a(emu_decoder *d, const statement *s)
{
    if (!operands_want(d, s, 4, 4) || s->parts != 3)
        return;
    emu_insn *i = emit(d, s, OP_DP4A);
    i->is_signed = s->part[1][0] == 's';
    i->sub = s->part[2][0] == 's';
    for (int p = 1; p < 4; p++)
        read_op(d, p, s->operand[p], CLASS_32);
    write_op(d, 0, s->operand[0], CLASS_32);
}

static void decode_activemask(emu_decoder *d, const statement *s)
{
    if (operands_want(d, s, 1, 1)) {
        emit(d, s, OP_ACTIVEMASK);
        write_op(d, 0, s->operand[0], CLASS_32);
    }
}

static const struct {
    const char *mnemonic;
    void (*decode)(emu_decoder *, const statement *);
} SPECIALS[] = {
    {"bra", decode_bra}, {"ret", decode_ret}, {"exit", decode_ret}, {"trap", decode_trap}, {"bar", decode_bar},
    {"barrier", decode_bar}, {"membar", decode_fence}, {"fence", decode_fence}, {"prefetch", decode_nop},
    {"griddepcontrol", decode_grid},
    {"prefetchu", decode_nop}, {"nanosleep", decode_nop}, {"discard", decode_nop}, {"mov", decode_mov},
    {"cvta", decode_cvta}, {"setp", decode_setp}, {"cvt", decode_cvt}, {"ld", decode_ld_st}, {"ldu", decode_ld_st},
    {"st", decode_ld_st}, {"ldmatrix", decode_ldmatrix}, {"cp", decode_cp}, {"mma", decode_mma},
    {"wgmma", decode_wgmma},
    {"shfl", decode_shfl}, {"vote", decode_vote}, {"redux", decode_redux}, {"atom", decode_atom},
    {"red", decode_atom}, {"lop3", decode_lop3}, {"bfind", decode_bfind}, {"shf", decode_shf},
    {"dp4a", decode_dp4a}, {"activemask", decode_activemask},
};

/* Cuts `opcode.with.parts`; a `::` inside a part stays. */
static void parts_split(statement *s, char *opcode)
{
    s->part[s->parts++] = opcode;
    for (; *opcode && s->parts < PARTS_MAX; opcode++) {
        if (*opcode == '.') {
            *opcode = 0;
            s->part[s->parts++] = opcode + 1;
        }
    }
    s->type = s->part[s->parts - 1];
}

static char *predicate(emu_decoder *d, statement *s, char *text)
{
    s->pred = d->true_vreg;
    if (*text != '@')
        return text;
    text++;
    s->negate = *text == '!';
    text += s->negate;
    char *end = text + strcspn(text, " \t\n");
    if (!*end) {
        emu_fail(d, "a predicate without an instruction");
        return end;
    }
    *end = 0;
    s->pred = source(d, text, CLASS_PRED);
    return emu_trim(end + 1);
}

void emu_decode_statement(emu_decoder *d, char *text)
{
    statement s = {0};
    text = predicate(d, &s, emu_trim(text));
    if (d->failed)
        return;
    size_t n = strcspn(text, " \t\n");
    char *opcode = strndup(text, n), *name = strndup(text, n);
    s.name = name;
    parts_split(&s, opcode);
    s.operands = emu_split(text + n, s.operand, OPERAND_TEXTS_MAX);
    bool done = regular(d, &s);
    for (size_t i = 0; !done && i < sizeof SPECIALS / sizeof *SPECIALS; i++) {
        if (!strcmp(SPECIALS[i].mnemonic, s.part[0])) {
            SPECIALS[i].decode(d, &s);
            done = true;
        }
    }
    if (!done)
        emu_fail(d, "opcode '%s' is not supported", name);
    free(opcode);
    free(name);
}
