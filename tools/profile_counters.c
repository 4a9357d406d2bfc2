/* profile_counters.c - a call on the virtual GPU: what its launches asked of memory, counted exactly, and what their
 * code takes of a real one (from the cubin for sm_80). */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cuda/kernels.h"
#include "base/json.h"
#include "base/mem.h"
#include "device/cubin.h"
#include "device/images.h"
#include "profile.h"

enum { WARPS_MAX = 64, LAUNCHES_MAX = 16, BYTES_OF_SECTOR = 32 };

/* ---- Which operand of the op a pointer of a kernel's arguments is ---- */

typedef enum { FIRST, SECOND, THIRD, RESULT, STATE, ROWS, BETWEEN } role;

static const struct {
    const char *kernel;
    size_t offset;
    const char *name;
    role role;
} pointers[] = {
#define P(kernel, args, field, role) { kernel, offsetof(args, field), #field, role },
    P("linear_fwd", cdl_linear_args, x, FIRST)
    P("linear_fwd", cdl_linear_args, weight, SECOND)
    P("linear_fwd", cdl_linear_args, up, THIRD)
    { "linear_fwd", offsetof(cdl_linear_args, segment[0].weight), "weight", SECOND },
    P("linear_fwd", cdl_linear_args, y, RESULT)
    P("embed_fwd", cdl_embed_args, ids, FIRST)
    P("embed_fwd", cdl_embed_args, table, SECOND)
    P("embed_fwd", cdl_embed_args, y, RESULT)
    { "gather_fwd", offsetof(cdl_gather_args, of[0].x), "x", FIRST },
    P("gather_fwd", cdl_gather_args, rows, SECOND)
    { "gather_fwd", offsetof(cdl_gather_args, of[0].y), "y", RESULT },
    P("rmsnorm_fwd", cdl_norm_args, x, FIRST)
    P("rmsnorm_fwd", cdl_norm_args, w, SECOND)
    P("rmsnorm_fwd", cdl_norm_args, y, RESULT)
    P("layernorm_fwd", cdl_norm_args, x, FIRST)
    P("layernorm_fwd", cdl_norm_args, w, SECOND)
    P("layernorm_fwd", cdl_norm_args, b, THIRD)
    P("layernorm_fwd", cdl_norm_args, y, RESULT)
    P("act_mul_fwd", cdl_act_mul_args, gate, RESULT) /* of the result's size, wherever it is used */
    P("act_mul_fwd", cdl_act_mul_args, up, RESULT)
    P("act_mul_fwd", cdl_act_mul_args, y, RESULT)
    P("rope_state_fwd", cdl_rope_state_args, q, FIRST)
    P("rope_state_fwd", cdl_rope_state_args, k, FIRST)
    P("rope_state_fwd", cdl_rope_state_args, v, SECOND)
    P("rope_state_fwd", cdl_rope_state_args, q_out, RESULT)
    P("rope_state_fwd", cdl_rope_state_args, positions, ROWS)
    P("rope_state_fwd", cdl_rope_state_args, inv_freq, THIRD)
    P("rope_state_fwd", cdl_rope_state_args, state.base, STATE)
    P("rope_state_fwd", cdl_rope_state_args, rows.slots, ROWS)
    P("rope_state_fwd", cdl_rope_state_args, rows.tables, ROWS)
    P("attention_fwd", cdl_attention_args, q, FIRST)
    P("attention_fwd", cdl_attention_args, y, RESULT)
    P("attention_fwd", cdl_attention_args, state.base, STATE)
    P("attention_fwd", cdl_attention_args, rows.slots, ROWS)
    P("attention_fwd", cdl_attention_args, rows.tables, ROWS)
    P("attention_fwd", cdl_attention_args, partial, BETWEEN)
    P("attention_fwd", cdl_attention_args, counters, BETWEEN)
    P("attention_fwd", cdl_attention_args, tile_rows, BETWEEN)
    P("attention_fwd", cdl_attention_args, rows.ends, ROWS)
    P("attention_fwd", cdl_attention_args, rows.pages, BETWEEN)
    P("rope_state_fwd", cdl_rope_state_args, rows.pages, BETWEEN)
#define MAP(kernel)                          \
    P(kernel, cdl_map_args, x, FIRST)        \
    P(kernel, cdl_map_args, z, SECOND)       \
    P(kernel, cdl_map_args, y, RESULT)
    MAP("add_fwd")
    MAP("act_fwd")
    MAP("softcap_fwd")
    MAP("scale_fwd")
#undef MAP
#undef P
};

static double needed(const profile_row *r, role which)
{
    switch (which) {
    case FIRST: case SECOND: case THIRD: return r->cost.in[which];
    case RESULT: return r->cost.out;
    case STATE: return r->cost.state_read + r->cost.state_written;
    case ROWS: return 4.0 * r->c.rows;
    case BETWEEN: break;
    }
    return 0;
}

static void name_operand(profile_traffic *t, const profile_row *r, const char *kernel, size_t offset)
{
    snprintf(t->name, sizeof t->name, "args + %zu", offset);
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        if (pointers[i].offset != offset || strncmp(kernel, pointers[i].kernel, strlen(pointers[i].kernel)))
            continue;
        snprintf(t->name, sizeof t->name, "%s", pointers[i].name);
        t->needed = needed(r, pointers[i].role);
        return;
    }
}

/* ---- A line of JSON ---- */

static double number(const cdl_json *o, const char *key)
{
    return cdl_json_double(cdl_json_get(o, key), 0);
}

static void read_operands(profile_kernel *k, const profile_row *r, const cdl_json *list)
{
    for (size_t i = 0; i < cdl_json_len(list) && k->n_operands < sizeof k->operand / sizeof *k->operand; i++) {
        const cdl_json *o = cdl_json_at(list, i);
        profile_traffic t = { .requested = BYTES_OF_SECTOR * (number(o, "read_sectors") + number(o, "written_sectors")),
                              .unique = number(o, "unique_read") + number(o, "unique_written") };
        name_operand(&t, r, k->name, (size_t)number(o, "offset"));
        if (t.requested > 0)
            k->operand[k->n_operands++] = t;
    }
}

/* From the cubin that has the kernel. */
static bool find_code(cdl_cubin_kernel *out, const char *kernel)
{
    uint8_t *code;
    size_t n;
    bool found = false;
    for (const cdl_image *i = cdl_images; i->name && !found; i++) {
        if (i->is_ptx || i->capability != 80 || cdl_image_unpack(&code, &n, i) != CUDDLE_OK)
            continue;
        found = cdl_cubin_read(out, code, n, kernel) == CUDDLE_OK;
        cdl_mem_free(code);
    }
    return found;
}

/* A build without cubins leaves zeros. */
static void read_code(profile_kernel *k)
{
    cdl_cubin_kernel code;
    if (!find_code(&code, k->name))
        return;
    k->registers = code.registers;
    k->local_bytes = code.local_bytes;
    k->blocks = cdl_cubin_blocks_sm80(&code, k->threads, k->shared_bytes);
    k->occupancy = (double)k->blocks * ((k->threads + 31) / 32) / WARPS_MAX;
    k->shared_bytes += code.shared_bytes;
}

static void read_launch(profile_kernel *k, const profile_row *r, const cdl_json *o)
{
    *k = (profile_kernel){ .shared_bytes = (uint32_t)number(o, "dynamic_shared"),
        .warp_instructions = number(o, "warp_instructions"), .branches = number(o, "branches"),
        .divergent = number(o, "divergent_branches"), .wavefronts = number(o, "shared_wavefronts"),
        .wavefronts_ideal = number(o, "shared_ideal"), .mma = number(o, "mma") };
    snprintf(k->name, sizeof k->name, "%s", cdl_json_string(cdl_json_get(o, "kernel"), ""));
    for (int i = 0; i < 3; i++)
        k->grid[i] = (uint32_t)cdl_json_int(cdl_json_at(cdl_json_get(o, "grid"), (size_t)i), 0);
    k->threads = (uint32_t)cdl_json_int(cdl_json_at(cdl_json_get(o, "block"), 0), 0);
    read_operands(k, r, cdl_json_get(o, "operands"));
    read_code(k);
}

static cuddle_status read_lines(profile_row *out, FILE *f, cdl_arena *a)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    cuddle_status st = CUDDLE_OK;
    out->kernels = cdl_arena_zalloc(a, LAUNCHES_MAX, sizeof *out->kernels);
    if (!out->kernels)
        return cdl_status_nomem("the counters");
    while (st == CUDDLE_OK && out->n_kernels < LAUNCHES_MAX && (n = getline(&line, &cap, f)) > 0) {
        const cdl_json *o;
        st = cdl_json_parse(&o, a, line, (size_t)n, "the virtual GPU's counters");
        if (st == CUDDLE_OK)
            read_launch(&out->kernels[out->n_kernels++], out, o);
    }
    free(line);
    if (st == CUDDLE_OK && !out->n_kernels)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "the virtual GPU counted nothing");
    return st;
}

cuddle_status profile_count(profile_row *out, cdl_backend *b, const cdl_call *calls, cdl_arena *a)
{
    static const char variable[] = "CUDDLE_VGPU_COUNTERS";
    char path[] = "/tmp/cuddle-profile-XXXXXX";
    double seconds; /* of a CPU that plays a GPU: not shown */
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        if (fd >= 0)
            close(fd);
        return cdl_status_fail(CUDDLE_ERR_IO, "%s: %s", path, strerror(errno));
    }
    setenv(variable, path, 1);
    cuddle_status st = b->time(b, calls, 0, 1, &seconds);
    unsetenv(variable);
    if (st == CUDDLE_OK)
        st = read_lines(out, f, a);
    fclose(f);
    unlink(path);
    return st;
}
