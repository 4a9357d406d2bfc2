/* test_opcodes.c - single instructions of the virtual GPU, as PTX written here: against the host's arithmetic, and the
 * same bits from every instruction set of the CPU.
 */
#include "vgpu.h"

/* A kernel of one warp: lane l has words 4l.. of in as %a %b %c %d, and leaves %r %s in words 2l.. of out. */
static CUresult run_text(const char *isa, const char *body, const uint32_t *in, uint32_t *out)
{
    static const char head[] = ".version 8.4\n.target sm_89\n.address_size 64\n"
        ".visible .entry one(.param .u64 p_in, .param .u64 p_out)\n{\n"
        ".reg .b32 %a, %b, %c, %d, %r, %s, %t;\n.reg .b64 %x, %y, %z, %pi, %po;\n.reg .pred %p, %q;\n"
        ".shared .align 16 .b8 buffer[1024];\n"
        "mov.u32 %t, %tid.x;\nld.param.u64 %pi, [p_in];\nld.param.u64 %po, [p_out];\n"
        "mul.wide.u32 %x, %t, 16;\nadd.s64 %pi, %pi, %x;\nmul.wide.u32 %x, %t, 8;\nadd.s64 %po, %po, %x;\n"
        "ld.global.v4.u32 {%a, %b, %c, %d}, [%pi];\nmov.u32 %r, 0;\nmov.u32 %s, 0;\n"
        "mov.b64 %x, {%a, %b};\nmov.b64 %y, {%c, %d};\n";
    static char text[8192];
    snprintf(text, sizeof text, "%s%s\nst.global.v2.u32 [%%po], {%%r, %%s};\nret;\n}\n", head, body);
    setenv("CUDDLE_VGPU_ISA", isa, 1);
    CUdeviceptr di = upload(in, 512), dout = upload(NULL, 256);
    CUresult r = run(text, "one", 1, 32, (void *[]){&di, &dout});
    if (!r)
        check(p_cuMemcpyDtoH(out, dout, 256));
    check(p_cuMemFree(di));
    check(p_cuMemFree(dout));
    return r;
}

static uint32_t next(uint64_t *s)
{
    *s = *s * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*s >> 32);
}

/* Random bits, small numbers, and what lies at the edges of f32, f16 and bf16. */
static void inputs(uint32_t in[128], uint64_t seed)
{
    static const uint32_t edges[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 1,
        0x00800000, 0x7f7fffff, 0x3c003c00, 0x80008000, 0x7c00fc00, 0x7e007e00, 0x00010001, 0x04000400, 0x7bff7bff,
        0x3f803f80, 0x7f807fc0, 0x00800001, 0x7fffffff, 0xffffffff, 31, 32, 33, 0x0001ffff, 0x33003300, 0x43004300};
    for (int i = 0; i < 128; i++) {
        uint32_t kind = next(&seed) % 8, x = next(&seed);
        float f = (float)(int)(x % 2001 - 1000) / 8;
        if (kind < 2)
            in[i] = edges[x % (sizeof edges / sizeof *edges)];
        else if (kind < 4)
            memcpy(&in[i], &f, 4);
        else if (kind < 5)
            in[i] = x % 70;
        else
            in[i] = x;
    }
}

static const char *const alike[] = {
    "add.s32 %r, %a, %b;", "sub.s32 %r, %a, %b;", "mul.lo.s32 %r, %a, %b;", "mad.lo.s32 %r, %a, %b, %c;",
    "mul.hi.u32 %r, %a, %b;", "mul.hi.s32 %r, %a, %b;", "mul.wide.s32 %z, %a, %b; mov.b64 {%r, %s}, %z;",
    "mul.wide.u32 %z, %a, %b; mov.b64 {%r, %s}, %z;", "mad.wide.s32 %z, %a, %b, %y; mov.b64 {%r, %s}, %z;",
    "shl.b32 %r, %a, %b;", "shr.u32 %r, %a, %b;", "shr.s32 %r, %a, %b;", "min.s32 %r, %a, %b;",
    "max.u32 %r, %a, %b;", "abs.s32 %r, %a;", "neg.s32 %r, %a;", "not.b32 %r, %a;",
    "lop3.b32 %r, %a, %b, %c, 0xe8;", "lop3.b32 %r, %a, %b, %c, 0x1b;", "prmt.b32 %r, %a, %b, %c;",
    "prmt.b32 %r, %a, %b, 0x9d51;", "bfe.u32 %r, %a, %b, %c;", "bfe.s32 %r, %a, %b, %c;",
    "bfi.b32 %r, %a, %b, %c, %d;", "shf.l.wrap.b32 %r, %a, %b, %c;", "shf.r.clamp.b32 %r, %a, %b, %c;",
    "dp4a.s32.s32 %r, %a, %b, %c;", "dp4a.u32.s32 %r, %a, %b, %c;", "popc.b32 %r, %a; clz.b32 %s, %b;",
    "add.s64 %z, %x, %y; mov.b64 {%r, %s}, %z;", "mul.lo.s64 %z, %x, %y; mov.b64 {%r, %s}, %z;",
    "shl.b64 %z, %x, %c; mov.b64 {%r, %s}, %z;", "shr.s64 %z, %x, %c; mov.b64 {%r, %s}, %z;",
    "min.s64 %z, %x, %y; mov.b64 {%r, %s}, %z;", "setp.lt.s32 %p, %a, %b; selp.b32 %r, %c, %d, %p;",
    "setp.ge.u32 %p|%q, %a, %b; selp.b32 %r, 1, 2, %p; selp.b32 %s, 1, 2, %q;",
    "setp.lt.f32 %p, %a, %b; selp.b32 %r, 1, 2, %p;", "setp.neu.f32 %p, %a, %b; selp.b32 %r, 1, 2, %p;",
    "setp.num.f32 %p, %a, %b; selp.b32 %r, 1, 2, %p;", "setp.lt.s64 %p, %x, %y; selp.b64 %z, %x, %y, %p; "
    "mov.b64 {%r, %s}, %z;", "setp.lt.u32 %p, %a, %b; @%p add.s32 %r, %c, %d; @!%p ex2.approx.f32 %s, %c;",
    "add.f32 %r, %a, %b;", "sub.f32 %r, %a, %b;", "mul.f32 %r, %a, %b;", "fma.rn.f32 %r, %a, %b, %c;",
    "fma.rn.ftz.f32 %r, %a, %b, %c;", "add.sat.f32 %r, %a, %b;", "min.f32 %r, %a, %b;", "max.f32 %r, %a, %b;",
    "div.rn.f32 %r, %a, %b;", "rcp.rn.f32 %r, %a;", "sqrt.rn.f32 %r, %a;", "ex2.approx.f32 %r, %a;",
    "add.rn.f16x2 %r, %a, %b;", "sub.rn.f16x2 %r, %a, %b;", "mul.rn.f16x2 %r, %a, %b;",
    "fma.rn.f16x2 %r, %a, %b, %c;", "min.f16x2 %r, %a, %b;", "max.f16x2 %r, %a, %b;",
    "add.rn.bf16x2 %r, %a, %b;", "sub.rn.bf16x2 %r, %a, %b;", "mul.rn.bf16x2 %r, %a, %b;",
    "fma.rn.bf16x2 %r, %a, %b, %c;", "min.bf16x2 %r, %a, %b;", "max.bf16x2 %r, %a, %b;",
    "cvt.rn.f16x2.f32 %r, %a, %b;", "cvt.rn.bf16x2.f32 %r, %a, %b;", "cvt.rn.relu.bf16x2.f32 %r, %a, %b;",
    "cvt.rna.tf32.f32 %r, %a;", "cvt.rn.f32.s32 %r, %a; cvt.rn.f32.u32 %s, %a;",
    "cvt.rni.s32.f32 %r, %a; cvt.rzi.u32.f32 %s, %b;", "cvt.rmi.f32.f32 %r, %a; cvt.sat.f32.f32 %s, %b;",
    "{ .reg .b16 h; cvt.u16.u32 h, %a; cvt.s32.s16 %r, h; cvt.u32.u16 %s, h; }",
    "{ .reg .b16 h; cvt.rn.f16.f32 h, %a; cvt.f32.f16 %r, h; cvt.rn.bf16.f32 h, %b; cvt.f32.bf16 %s, h; }",
    "{ .reg .b16 h; cvt.sat.s8.s32 h, %a; cvt.s32.s8 %r, h; }",
    "{ .reg .b16 h, g; mov.b32 {h, g}, %a; mov.b32 %r, {g, h}; mul.lo.s16 h, h, g; cvt.u32.u16 %s, h; }",
    "shfl.sync.bfly.b32 %r|%p, %a, 5, 0x1f, -1; selp.b32 %s, 1, 2, %p;", "shfl.sync.up.b32 %r, %a, 3, 0, -1;",
    "shfl.sync.idx.b32 %r, %a, %b, 0x1f, -1;", "shfl.sync.down.b32 %r, %a, 7, 0x1c07, -1;",
    "setp.lt.s32 %p, %a, 0; vote.sync.ballot.b32 %r, %p, -1; vote.sync.any.pred %q, %p, -1; selp.b32 %s, 1, 2, %q;",
    "redux.sync.add.s32 %r, %a, -1; redux.sync.max.s32 %s, %b, -1;",
    "{ .reg .b16 h; cvt.rn.satfinite.e4m3x2.f32 h, %a, %b; cvt.u32.u16 %r, h; cvt.rn.f16x2.e4m3x2 %s, h; }",
    "{ .reg .b16 h; cvt.rn.satfinite.e5m2x2.f32 h, %a, %b; cvt.u32.u16 %r, h; cvt.rn.f16x2.e5m2x2 %s, h; }",
};

/* NaN payloads are not promised. */
static bool same(const char *body, uint32_t x, uint32_t y)
{
    float f, g;
    memcpy(&f, &x, 4);
    memcpy(&g, &y, 4);
    return x == y || (strstr(body, ".f32") && f != f && g != g);
}

static void test_instruction_sets_agree(void **state)
{
    static const char *const sets[] = {"avx2", "avx512"};
    (void)state;
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++)
        for (uint64_t seed = 1; seed < 12; seed++) {
            uint32_t in[128], want[64], got[64];
            inputs(in, seed * 977 + i);
            check(run_text("base", alike[i], in, want));
            for (int k = 0; k < 2; k++) {
                check(run_text(sets[k], alike[i], in, got));
                for (int n = 0; n < 64; n++)
                    if (!same(alike[i], want[n], got[n]))
                        fail_msg("%s %s, lane %d of %08x %08x %08x %08x: %08x, not %08x", sets[k], alike[i], n / 2,
                                 in[n / 2 * 4], in[n / 2 * 4 + 1], in[n / 2 * 4 + 2], in[n / 2 * 4 + 3], got[n],
                                 want[n]);
            }
        }
}

/* ---- mma: the layout of fragments from the PTX manual, values whose sums are exact in any order ---- */
typedef struct {
    const char *opcode;
    int bits, k;                /* of an element of A and B; depth */
    char kind;                  /* h half, b bf16, t tf32, s and u bytes, 4 e4m3, 5 e5m2 */
    bool half_sums;
} product;

static const product products[] = {
    {"m16n8k16.row.col.f32.f16.f16.f32", 16, 16, 'h', false}, {"m16n8k8.row.col.f32.f16.f16.f32", 16, 8, 'h', false},
    {"m16n8k16.row.col.f16.f16.f16.f16", 16, 16, 'h', true}, {"m16n8k8.row.col.f32.bf16.bf16.f32", 16, 8, 'b', false},
    {"m16n8k16.row.col.f32.bf16.bf16.f32", 16, 16, 'b', false},
    {"m16n8k4.row.col.f32.tf32.tf32.f32", 32, 4, 't', false}, {"m16n8k8.row.col.f32.tf32.tf32.f32", 32, 8, 't', false},
    {"m16n8k16.row.col.s32.s8.s8.s32", 8, 16, 's', false}, {"m16n8k32.row.col.s32.s8.s8.s32", 8, 32, 's', false},
    {"m16n8k32.row.col.s32.u8.u8.s32", 8, 32, 'u', false},
    {"m16n8k32.row.col.f32.e4m3.e4m3.f32", 8, 32, '4', false},
    {"m16n8k32.row.col.f32.e5m2.e5m2.f32", 8, 32, '5', false},
};

static uint32_t half_of(float x)
{
    int e;
    if (x == 0)
        return 0;
    float f = frexpf(fabsf(x), &e);
    return (x < 0 ? 0x8000u : 0) | (uint32_t)(e + 14) << 10 | (uint32_t)((f * 2 - 1) * 1024);
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

/* Small whole numbers, which each type holds. */
static uint32_t element(char kind, int v)
{
    switch (kind) {
    case 'h': return half_of((float)v);
    case 'b': return bits_of((float)v) >> 16;
    case 't': return bits_of((float)v);
    case '5': return half_of((float)v) >> 8;
    case '4': return v ? (half_of((float)v) >> 8 & 0x80) | ((half_of((float)v) & 0x7fff) - (8u << 10)) >> 7 : 0;
    default: return (uint32_t)v & 0xff;
    }
}

static void registers_text(char *to, const char *name, int n)
{
    to += sprintf(to, "{");
    for (int i = 0; i < n; i++)
        to += sprintf(to, "%s%%%s%d", i ? ", " : "", name, i);
    sprintf(to, "}");
}

/* The kernel: A, B and C of each lane lie in order in p_in, D goes to p_out. */
static void product_text(char *text, const product *p, int na, int nb, int nc)
{
    char d[64], a[64], b[64], c[64];
    registers_text(d, "d", nc);
    registers_text(a, "a", na);
    registers_text(b, "b", nb);
    registers_text(c, "c", nc);
    text += sprintf(text, ".version 8.4\n.target sm_89\n.address_size 64\n"
                    ".visible .entry one(.param .u64 p_in, .param .u64 p_out)\n{\n.reg .b32 %%a<4>, %%b<2>, %%c<4>, "
                    "%%d<4>, %%t;\n.reg .b64 %%i, %%o, %%x;\nmov.u32 %%t, %%tid.x;\nld.param.u64 %%i, [p_in];\n"
                    "ld.param.u64 %%o, [p_out];\nmul.wide.u32 %%x, %%t, %d;\nadd.s64 %%i, %%i, %%x;\n"
                    "mul.wide.u32 %%x, %%t, %d;\nadd.s64 %%o, %%o, %%x;\n", 4 * (na + nb + nc), 4 * nc);
    for (int r = 0; r < na + nb + nc; r++)
        text += sprintf(text, "ld.global.u32 %%%c%d, [%%i+%d];\n", r < na ? 'a' : r < na + nb ? 'b' : 'c',
                        r < na ? r : r < na + nb ? r - na : r - na - nb, 4 * r);
    text += sprintf(text, "mma.sync.aligned.%s %s, %s, %s, %s;\n", p->opcode, d, a, b, c);
    for (int r = 0; r < nc; r++)
        text += sprintf(text, "st.global.u32 [%%o+%d], %%d%d;\n", 4 * r, r);
    sprintf(text, "ret;\n}\n");
}

static int value_a(const product *p, int row, int k)
{
    int v = (row * 7 + k * 3) % 9 - 4;
    return p->kind == 'u' ? v + 200 : p->kind == 's' ? v * 25 : v;
}

static int value_b(const product *p, int k, int column)
{
    int v = (k * 5 + column * 11) % 7 - 3;
    return p->kind == 'u' ? v + 9 : v;
}

static void product_case(const product *p, const char *isa)
{
    int each = 32 / p->bits, nb = p->k / (4 * each), na = 2 * nb, nc = p->half_sums ? 2 : 4, all = na + nb + nc;
    static char text[8192];
    uint32_t in[32 * 10] = {0}, out[128];
    bool whole = p->kind == 's' || p->kind == 'u';
    for (int l = 0; l < 32; l++) {
        int group = l / 4, t = l % 4;
        for (int e = 0; e < each; e++) {
            for (int r = 0; r < na; r++)
                in[l * all + r] |= element(p->kind, value_a(p, group + 8 * (r & 1), t * each + (r >> 1) * 4 * each + e))
                    << (p->bits & 31) * e;
            for (int r = 0; r < nb; r++)
                in[l * all + na + r] |= element(p->kind, value_b(p, t * each + r * 4 * each + e, group))
                    << (p->bits & 31) * e;
        }
        for (int r = 0; r < nc; r++)
            in[l * all + na + nb + r] = whole ? (uint32_t)(l - r) : p->half_sums ? half_of(3) | half_of(-5) << 16
                : bits_of((float)(l - r));
    }
    product_text(text, p, na, nb, nc);
    setenv("CUDDLE_VGPU_ISA", isa, 1);
    CUdeviceptr di = upload(in, (size_t)all * 128), dout = upload(NULL, (size_t)nc * 128);
    check(run(text, "one", 1, 32, (void *[]){&di, &dout}));
    check(p_cuMemcpyDtoH(out, dout, (size_t)nc * 128));
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int row = l / 4 + 8 * (i >> 1), column = l % 4 * 2 + (i & 1);
            int want = p->half_sums ? (i & 1 ? -5 : 3) : l - i;
            for (int k = 0; k < p->k; k++)
                want += value_a(p, row, k) * value_b(p, k, column);
            uint32_t bits = whole ? (uint32_t)want : bits_of((float)want), got = out[l * nc + i];
            if (p->half_sums) {
                bits = half_of((float)want);
                got = out[l * nc + i / 2] >> 16 * (i & 1) & 0xffff;
            }
            if (got != bits)
                fail_msg("%s on %s: row %d column %d is %08x, not %08x", p->opcode, isa, row, column, got, bits);
        }
}

static void test_matrix_products(void **state)
{
    static const char *const sets[] = {"base", "avx2", "avx512"};
    (void)state;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        for (int k = 0; k < 3; k++)
            product_case(&products[i], sets[k]);
}

/* Zero columns, infinities, NaN and -0 must come out as without the short cuts that the fast paths take. */
static void test_products_of_zeros_and_infinities_agree(void **state)
{
    static const uint32_t edges[] = {0, 0x80008000, 0x7f807f80, 0x7c007c00, 0x7fc07fc0, 0xff803f80, 0x3c003c00};
    static char text[8192];
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        const product *p = &products[seed % 2 ? 0 : 4];
        uint32_t in[320], out[2][128];
        uint64_t s = seed;
        for (int i = 0; i < 320; i++) {
            uint32_t x = next(&s) & 0xbfffbfff;
            bool b = i % 10 == 4 || i % 10 == 5, zero = b && (next(&s) % 8 || (seed & 4 && i / 10 / 4 > 0));
            in[i] = zero ? 0 : next(&s) % 40 ? (i % 10 > 5 ? (next(&s) % 5 ? x : 0x80000000) : x) : edges[x % 7];
        }
        product_text(text, p, 4, 2, 4);
        for (int k = 0; k < 2; k++) {
            setenv("CUDDLE_VGPU_ISA", k ? "avx512" : "base", 1);
            CUdeviceptr di = upload(in, sizeof in), dout = upload(NULL, sizeof out[k]);
            check(run(text, "one", 1, 32, (void *[]){&di, &dout}));
            check(p_cuMemcpyDtoH(out[k], dout, sizeof out[k]));
        }
        for (int i = 0; i < 128; i++)
            if (!same(".f32", out[0][i], out[1][i]))
                fail_msg("seed %d, word %d: %08x, not %08x", (int)seed, i, out[1][i], out[0][i]);
    }
}

/* Lane l keeps words 4l.. in shared memory as row l of 16 bytes; matrix q is rows 8q.. as the addresses say. */
static void test_ldmatrix(void **state)
{
    static const char *const sets[] = {"base", "avx2", "avx512"};
    (void)state;
    for (int form = 0; form < 18; form++) {
        int n = 1 << form % 3;
        bool trans = form / 3 & 1;
        for (int q = 0; q < n; q++) {
            char body[1024];
            snprintf(body, sizeof body, "{ .reg .b32 at, v<4>; mov.u32 at, buffer; mad.lo.s32 at, %%t, 16, at;\n"
                     "st.shared.v4.u32 [at], {%%a, %%b, %%c, %%d};\nbar.sync 0;\nmov.u32 at, buffer;\n"
                     "mad.lo.s32 %%s, %%t, 13, 5; and.b32 %%s, %%s, 31; mad.lo.s32 at, %%s, 16, at;\n"
                     "ldmatrix.sync.aligned.m8n8.x%d%s.shared.b16 {%s}, [at];\nmov.b32 %%r, v%d; }", n,
                     trans ? ".trans" : "", n == 1 ? "v0" : n == 2 ? "v0, v1" : "v0, v1, v2, v3", q);
            uint32_t in[128], out[64];
            uint64_t seed = 3;
            for (int i = 0; i < 128; i++)
                in[i] = next(&seed);
            check(run_text(sets[form / 6], body, in, out));
            for (int l = 0; l < 32; l++) {
                uint32_t want = 0;
                for (int e = 0; e < 2; e++) {
                    int row = trans ? l % 4 * 2 + e : l / 4, column = trans ? l / 4 : l % 4 * 2 + e;
                    int from = ((8 * q + row) * 13 + 5) & 31;
                    want |= (in[from * 4 + column / 2] >> 16 * (column & 1) & 0xffff) << 16 * e;
                }
                assert_int_equal(out[2 * l], want);
            }
        }
    }
}

/* ---- fp8: every code up, and the nearest code down ---- */
static double value_of_e8(int code, bool e5m2)
{
    int bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7, e = (code & 127) >> bits, f = code & ((1 << bits) - 1);
    double v = e ? ldexp(1 + ldexp(f, -bits), e - bias) : ldexp(f, 1 - bias - bits);
    if (e5m2 ? e == 31 : (code & 127) == 127)
        v = e5m2 && !f ? INFINITY : NAN;
    return code & 128 ? -v : v;
}

static int nearest_e8(double x, bool e5m2)
{
    int best = 0, last = e5m2 ? 0x7b : 0x7e;
    if (x != x)
        return 0x7f;
    for (int c = 1; c <= last && !isinf(x); c++) {
        double old = fabs(fabs(x) - value_of_e8(best, e5m2)), new = fabs(fabs(x) - value_of_e8(c, e5m2));
        if (new < old || (new == old && !(c & 1)))
            best = c;
    }
    return (isinf(x) ? last : best) | (signbit(x) ? 128 : 0);
}

static void test_fp8(void **state)
{
    (void)state;
    for (int e5m2 = 0; e5m2 < 2; e5m2++) {
        const char *type = e5m2 ? "e5m2" : "e4m3";
        char up[256], down[256];
        snprintf(up, sizeof up, "{ .reg .b16 h, lo, hi; cvt.u16.u32 h, %%a; cvt.rn.f16x2.%sx2 %%t, h; "
                 "mov.b32 {lo, hi}, %%t; cvt.f32.f16 %%r, lo; cvt.f32.f16 %%s, hi; }", type);
        snprintf(down, sizeof down, "{ .reg .b16 h; cvt.rn.satfinite.%sx2.f32 h, %%a, %%b; cvt.u32.u16 %%r, h; }",
                 type);
        for (int base = 0; base < 256; base += 64) {
            uint32_t in[128] = {0}, out[64];
            for (int l = 0; l < 32; l++)
                in[4 * l] = (uint32_t)(base + 2 * l) | (uint32_t)(base + 2 * l + 1) << 8;
            check(run_text("avx512", up, in, out));
            for (int c = 0; c < 64; c++) {
                double want = value_of_e8(base + c, e5m2);
                assert_true(out[c] == bits_of((float)want) || (want != want && (out[c] & 0x7fffffff) > 0x7f800000));
            }
        }
        for (uint64_t seed = 1; seed < 40; seed++) {
            uint32_t in[128], out[64];
            uint64_t s = seed;
            for (int i = 0; i < 128; i++) {
                int c = (int)(next(&s) % 255);
                double v = value_of_e8(c & 0x7e, e5m2), w = value_of_e8((c & 0x7e) + 1, e5m2);
                double mix = next(&s) % 3 ? (v + w) / 2 : v * (1 + ldexp((double)(next(&s) % 1000), -12));
                in[i] = bits_of((float)(c & 128 ? -mix : mix));
            }
            check(run_text("avx512", down, in, out));
            for (int l = 0; l < 32; l++) {
                float hi, lo;
                memcpy(&hi, &in[4 * l], 4);
                memcpy(&lo, &in[4 * l + 1], 4);
                int want = nearest_e8((double)lo, e5m2) | nearest_e8((double)hi, e5m2) << 8;
                if (out[2 * l] != (uint32_t)want)
                    fail_msg("%s of %a and %a: %04x, not %04x", type, (double)lo, (double)hi, out[2 * l], want);
            }
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, context_open, context_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_instruction_sets_agree), T(test_matrix_products), T(test_products_of_zeros_and_infinities_agree),
        T(test_ldmatrix), T(test_fp8),
    };
    return cmocka_run_group_tests(tests, open_library, NULL);
}
