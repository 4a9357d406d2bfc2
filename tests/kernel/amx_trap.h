/* amx_trap.h - tiles on a CPU without AMX: the tile instructions raise SIGILL, and the handler does what
 * the manual says they do. So the very machine code that runs on hardware is what the tests run.
 *
 * Each thread has its own tiles. What the manual forbids (a bad configuration, shapes that do not fit, tiles
 * used before they are configured) ends the program with a line that says so, and memory is read
 * and written by plain C, which sanitizers watch. Knows ldtilecfg, tilerelease, tilezero,
 * tileloadd, tilestored and tdpbf16ps; anything else is a real illegal instruction.
 * Source: Intel SDM vol. 2 (TDPBF16PS: f32 multiply-adds of even and of odd columns apart, then
 * both added; denormals are zero, round to nearest even) and vol. 1 chapter 18. */
#ifndef AMX_TRAP_H
#define AMX_TRAP_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first: ucontext's registers"
#endif
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/half.h"

typedef union { uint8_t bytes[64]; uint32_t u[16]; float f[16]; } trap_row;

typedef struct {
    bool configured;
    uint8_t rows[8];
    uint16_t row_bytes[8];
    trap_row data[8][16];
} trap_tiles;

static _Thread_local trap_tiles trap_state;
static uint64_t trap_count; /* of instructions, all threads; not exact */

static inline void trap_demand(bool holds, const char *what)
{
    static const char head[] = "tiles: ";
    if (holds)
        return;
    if (write(2, head, sizeof head - 1) < 0 || write(2, what, strlen(what)) < 0 || write(2, "\n", 1) < 0)
        abort();
    abort();
}

/* ---- What the instructions do ---- */

static void trap_configure(const uint8_t *config)
{
    trap_tiles *t = &trap_state;
    memset(t, 0, sizeof *t);
    for (int i = 2; i < 16; i++)
        trap_demand(config[i] == 0, "reserved byte of the configuration");
    trap_demand(config[0] == 1 && config[1] == 0, "palette 1, start row 0 expected");
    for (int i = 0; i < 16; i++) {
        uint16_t bytes;
        memcpy(&bytes, config + 16 + 2 * i, 2);
        uint8_t rows = config[48 + i];
        trap_demand(bytes <= 64 && rows <= 16, "tile larger than 16 rows of 64 bytes");
        trap_demand((bytes == 0) == (rows == 0), "tile with rows or bytes only");
        trap_demand(i < 8 || bytes == 0, "tile number above 7");
        if (i < 8) {
            t->rows[i] = rows;
            t->row_bytes[i] = bytes;
        }
    }
    t->configured = true;
}

static void trap_load(int tile, const uint8_t *from, ptrdiff_t stride)
{
    trap_tiles *t = &trap_state;
    memset(t->data[tile], 0, sizeof t->data[tile]);
    for (int r = 0; r < t->rows[tile]; r++)
        memcpy(t->data[tile][r].bytes, from + r * stride, t->row_bytes[tile]);
}

static void trap_store(int tile, uint8_t *to, ptrdiff_t stride)
{
    trap_tiles *t = &trap_state;
    for (int r = 0; r < t->rows[tile]; r++)
        memcpy(to + r * stride, t->data[tile][r].bytes, t->row_bytes[tile]);
}

static inline float trap_flush(float x)
{
    uint32_t u = cdl_f32_bits(x);
    return cdl_f32_from_bits(u & 0x7f800000 ? u : u & 0x80000000);
}

static inline float trap_even(uint32_t pair)
{
    return trap_flush(cdl_f32_from_bits(pair << 16));
}

static inline float trap_odd(uint32_t pair)
{
    return trap_flush(cdl_f32_from_bits(pair & 0xffff0000));
}

/* A row of sums. A product of two bf16 is exact in f32 unless it leaves the range, so multiply and add
 * round as one. */
static void trap_dp_row(trap_row *sum, const trap_row *a, const trap_row *b, int pairs, int columns)
{
    float even[16] = { 0 }, odd[16] = { 0 };
    for (int k = 0; k < pairs; k++) {
        float x = trap_even(a->u[k]), y = trap_odd(a->u[k]);
        for (int n = 0; n < 16; n++) {
            even[n] = trap_flush(even[n] + x * trap_even(b[k].u[n]));
            odd[n] = trap_flush(odd[n] + y * trap_odd(b[k].u[n]));
        }
    }
    for (int n = 0; n < columns; n++)
        sum->f[n] = trap_flush(trap_flush(sum->f[n]) + trap_flush(even[n] + odd[n]));
}

static void trap_dp_bf16(int sum, int a, int b)
{
    trap_tiles *t = &trap_state;
    trap_demand(sum != a && sum != b && a != b, "tdpbf16ps with a tile used twice");
    trap_demand(t->row_bytes[sum] % 4 == 0 && t->row_bytes[a] % 4 == 0 && t->row_bytes[b] % 4 == 0,
            "tdpbf16ps: odd bytes");
    trap_demand(t->row_bytes[a] / 4 == t->rows[b] && t->rows[sum] == t->rows[a] && t->row_bytes[sum] == t->row_bytes[b],
            "tdpbf16ps: shapes do not fit");
    for (int m = 0; m < t->rows[sum]; m++)
        trap_dp_row(&t->data[sum][m], &t->data[a][m], t->data[b], t->row_bytes[a] / 4, t->row_bytes[sum] / 4);
}

/* ---- Which instruction it is ---- */

typedef struct {
    uint8_t opcode, prefix, mod, reg, rm, third; /* prefix: 0 none, 1 66, 2 F3, 3 F2 */
    uintptr_t base;
    ptrdiff_t index;
    int length;
} trap_instruction;

static int64_t trap_register(const ucontext_t *u, int n)
{
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    return u->uc_mcontext.gregs[order[n]];
}

/* The address of a memory operand: base with displacement, and index times scale apart, which for
 * tiles is the stride. */
static void trap_address(trap_instruction *in, const uint8_t *p, const ucontext_t *u, bool x, bool b)
{
    const uint8_t *at = p + 5;
    int base = in->rm;
    if (in->rm == 4) {
        uint8_t sib = *at++;
        int index = (sib >> 3 & 7) + 8 * x;
        base = sib & 7;
        if (index != 4)
            in->index = (ptrdiff_t)(trap_register(u, index) * (1 << (sib >> 6)));
    }
    int32_t displacement = 0;
    bool no_base = in->mod == 0 && base == 5;
    if (in->mod == 1)
        displacement = (int8_t)*at++;
    else if (in->mod == 2 || no_base) {
        memcpy(&displacement, at, 4);
        at += 4;
    }
    in->length = (int)(at - p);
    if (!no_base)
        in->base = (uintptr_t)trap_register(u, base + 8 * b);
    else if (in->rm == 5)
        in->base = (uintptr_t)p + (uintptr_t)in->length; /* relative to the next instruction */
    in->base += (uintptr_t)(intptr_t)displacement;
}

/* VEX.128.0F38.W0; false for anything else. */
static bool trap_decode(trap_instruction *in, const ucontext_t *u)
{
    const uint8_t *p = (const uint8_t *)u->uc_mcontext.gregs[REG_RIP];
    *in = (trap_instruction){ 0 };
    if (p[0] != 0xC4 || (p[1] & 0x1F) != 2 || (p[2] & 0x84) != 0 || !(p[1] & 0x80))
        return false;
    in->prefix = p[2] & 3;
    in->third = ~p[2] >> 3 & 15;
    in->opcode = p[3];
    in->mod = p[4] >> 6;
    in->reg = p[4] >> 3 & 7;
    in->rm = p[4] & 7;
    in->length = 5;
    if (in->mod != 3)
        trap_address(in, p, u, !(p[1] & 0x40), !(p[1] & 0x20));
    return true;
}

static bool trap_run(const trap_instruction *in)
{
    enum { CONFIG = 0x49, MOVE = 0x4B, DP = 0x5C, F3 = 2, F2 = 3 };
    bool memory = in->mod != 3;
    if (in->opcode == CONFIG && in->prefix == 0 && memory) {
        trap_configure((const uint8_t *)in->base);
        return true;
    }
    if (in->opcode == CONFIG && in->prefix == 0) {
        memset(&trap_state, 0, sizeof trap_state);
        return true;
    }
    if (in->opcode != CONFIG && in->opcode != MOVE && in->opcode != DP)
        return false;
    trap_demand(trap_state.configured, "used before they were configured");
    if (in->opcode == CONFIG && in->prefix == F2 && !memory)
        memset(trap_state.data[in->reg], 0, sizeof trap_state.data[0]);
    else if (in->opcode == MOVE && in->prefix == F2 && memory && in->rm == 4)
        trap_load(in->reg, (const uint8_t *)in->base, in->index);
    else if (in->opcode == MOVE && in->prefix == F3 && memory && in->rm == 4)
        trap_store(in->reg, (uint8_t *)in->base, in->index);
    else if (in->opcode == DP && in->prefix == F3 && !memory)
        trap_dp_bf16(in->reg, in->rm, in->third);
    else
        return false;
    return true;
}

static void trap_handle(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    trap_instruction in;
    (void)info;
    if (!trap_decode(&in, u) || !trap_run(&in)) {
        signal(sig, SIG_DFL); /* the instruction runs again and ends the program */
        return;
    }
    trap_count++;
    u->uc_mcontext.gregs[REG_RIP] += in.length;
}

static inline void trap_install(void)
{
    struct sigaction a = { .sa_sigaction = trap_handle, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigemptyset(&a.sa_mask);
    sigaction(SIGILL, &a, NULL);
}

#endif
