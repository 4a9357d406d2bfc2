/* profile_counters.c - a call, or a model's step, on the virtual GPU: what its launches asked of memory, counted
 * exactly, and what their code takes of a real one (from the cubin for sm_80). */
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

enum { WARPS_MAX = 64, LAUNCHES_MAX = 16, KERNELS_MAX = 64, BYTES_OF_SECTOR = 32 };

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
    { "linear_fwd", offsetof(cdl_linear_args, segment[1].weight), "weight", SECOND },
    { "linear_fwd", offsetof(cdl_linear_args, segment[2].weight), "weight", SECOND },
    { "linear_fwd", offsetof(cdl_linear_args, segment[3].weight), "weight", SECOND },
    P("linear_fwd", cdl_linear_args, bias, BETWEEN)
    P("linear_fwd", cdl_linear_args, up_bias, BETWEEN)
    P("linear_fwd", cdl_linear_args, residual, RESULT)
    P("linear_fwd", cdl_linear_args, y, RESULT)
    P("embed_fwd", cdl_embed_args, ids, FIRST)
    P("embed_fwd", cdl_embed_args, table, SECOND)
    P("embed_fwd", cdl_embed_args, y, RESULT)
    { "gather_fwd", offsetof(cdl_gather_args, of[0].x), "x", FIRST },
    P("gather_fwd", cdl_gather_args, rows, SECOND)
    { "gather_fwd", offsetof(cdl_gather_args, of[0].y), "y", RESULT },
    { "gather_fwd", offsetof(cdl_gather_args, of[1].x), "x", FIRST },
    { "gather_fwd", offsetof(cdl_gather_args, of[1].y), "y", RESULT },
    P("rmsnorm_fwd", cdl_norm_args, x, FIRST)
    P("rmsnorm_fwd", cdl_norm_args, w, SECOND)
    P("rmsnorm_fwd", cdl_norm_args, residual, FIRST)
    P("rmsnorm_fwd", cdl_norm_args, sum, RESULT)
    P("rmsnorm_fwd", cdl_norm_args, next, SECOND)
    P("rmsnorm_fwd", cdl_norm_args, y, RESULT)
    P("layernorm_fwd", cdl_norm_args, x, FIRST)
    P("layernorm_fwd", cdl_norm_args, w, SECOND)
    P("layernorm_fwd", cdl_norm_args, residual, FIRST)
    P("layernorm_fwd", cdl_norm_args, sum, RESULT)
    P("layernorm_fwd", cdl_norm_args, next, SECOND)
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
    P("rope_state_fwd", cdl_rope_state_args, inv_freq_long, THIRD)
    P("rope_state_fwd", cdl_rope_state_args, use_long, BETWEEN)
    P("rope_state_fwd", cdl_rope_state_args, q_norm, BETWEEN)
    P("rope_state_fwd", cdl_rope_state_args, k_norm, BETWEEN)
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

/* r: whose operands they are; NULL leaves what is needed open. */
static void name_operand(profile_traffic *t, const profile_row *r, const char *kernel, size_t offset)
{
    snprintf(t->name, sizeof t->name, "args + %zu", offset);
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        if (pointers[i].offset != offset || strncmp(kernel, pointers[i].kernel, strlen(pointers[i].kernel)))
            continue;
        snprintf(t->name, sizeof t->name, "%s", pointers[i].name);
        t->needed = r ? needed(r, pointers[i].role) : 0;
        return;
    }
}

/* ---- A line of JSON ---- */

static double number(const cdl_json *o, const char *key)
{
    return cdl_json_double(cdl_json_get(o, key), 0);
}

enum { OPERANDS_MAX = sizeof((profile_kernel *)0)->operand / sizeof(profile_traffic) };

static void read_operands(profile_kernel *k, const profile_row *r, const cdl_json *list)
{
    for (size_t i = 0; i < cdl_json_len(list) && k->n_operands < OPERANDS_MAX; i++) {
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

/* All but what its code takes. */
static void read_launch(profile_kernel *k, const profile_row *r, const cdl_json *o)
{
    *k = (profile_kernel){ .launches = 1, .shared_bytes = (uint32_t)number(o, "dynamic_shared"),
        .warp_instructions = number(o, "warp_instructions"), .branches = number(o, "branches"),
        .divergent = number(o, "divergent_branches"), .wavefronts = number(o, "shared_wavefronts"),
        .wavefronts_ideal = number(o, "shared_ideal"), .mma = number(o, "mma") };
    snprintf(k->name, sizeof k->name, "%s", cdl_json_string(cdl_json_get(o, "kernel"), ""));
    for (int i = 0; i < 3; i++)
        k->grid[i] = (uint32_t)cdl_json_int(cdl_json_at(cdl_json_get(o, "grid"), (size_t)i), 0);
    k->threads = (uint32_t)cdl_json_int(cdl_json_at(cdl_json_get(o, "block"), 0), 0);
    read_operands(k, r, cdl_json_get(o, "operands"));
}

/* ---- Running with the counters on ---- */

/* *out: a line of JSON for each launch. */
static cuddle_status run_counted(FILE **out, profile_step step, void *user)
{
    static const char variable[] = "CUDDLE_VGPU_COUNTERS";
    char path[] = "/tmp/cuddle-profile-XXXXXX";
    int fd = mkstemp(path);
    *out = fd < 0 ? NULL : fdopen(fd, "r");
    if (!*out) {
        if (fd >= 0)
            close(fd);
        return cdl_status_fail(CUDDLE_ERR_IO, "%s: %s", path, strerror(errno));
    }
    setenv(variable, path, 1);
    cuddle_status st = step(user);
    unsetenv(variable);
    unlink(path);
    return st;
}

typedef cuddle_status (*take_launch)(void *to, const cdl_json *launch);

static cuddle_status take_lines(FILE *f, take_launch take, void *to)
{
    char *line = NULL;
    size_t cap = 0, lines = 0;
    ssize_t n;
    cuddle_status st = CUDDLE_OK;
    for (; st == CUDDLE_OK && (n = getline(&line, &cap, f)) > 0; lines++) {
        cdl_arena a = { 0 };
        const cdl_json *o;
        st = cdl_json_parse(&o, &a, line, (size_t)n, "the virtual GPU's counters");
        if (st == CUDDLE_OK)
            st = take(to, o);
        cdl_arena_free(&a);
    }
    free(line);
    if (st == CUDDLE_OK && !lines)
        return cdl_status_fail(CUDDLE_ERR_DEVICE, "the virtual GPU counted nothing");
    return st;
}

static cuddle_status count(profile_step step, void *user, take_launch take, void *to)
{
    FILE *f;
    cuddle_status st = run_counted(&f, step, user);
    if (st == CUDDLE_OK)
        st = take_lines(f, take, to);
    if (f)
        fclose(f);
    return st;
}

/* ---- A call ---- */

typedef struct {
    cdl_backend *b;
    const cdl_call *calls;
} one_call;

static cuddle_status run_call(void *user)
{
    const one_call *c = user;
    double seconds; /* of a CPU that plays a GPU: not shown */
    return c->b->time(c->b, c->calls, 0, 1, &seconds);
}

static cuddle_status take_of_call(void *to, const cdl_json *launch)
{
    profile_row *r = to;
    if (r->n_kernels == LAUNCHES_MAX)
        return CUDDLE_OK;
    profile_kernel *k = &r->kernels[r->n_kernels++];
    read_launch(k, r, launch);
    read_code(k);
    return CUDDLE_OK;
}

cuddle_status profile_count(profile_row *out, cdl_backend *b, const cdl_call *calls, cdl_arena *a)
{
    one_call c = { b, calls };
    out->kernels = cdl_arena_zalloc(a, LAUNCHES_MAX, sizeof *out->kernels);
    return out->kernels ? count(run_call, &c, take_of_call, out) : cdl_status_nomem("the counters");
}

/* ---- A model's step ---- */

static void add_traffic(profile_kernel *k, const profile_traffic *t)
{
    uint32_t i = 0;
    while (i < k->n_operands && strcmp(k->operand[i].name, t->name))
        i++;
    if (i == OPERANDS_MAX)
        return;
    if (i == k->n_operands)
        k->operand[k->n_operands++] = (profile_traffic){ 0 };
    memcpy(k->operand[i].name, t->name, sizeof t->name);
    k->operand[i].requested += t->requested;
    k->operand[i].unique += t->unique;
}

static void add_counters(profile_kernel *sum, const profile_kernel *k)
{
    sum->launches += k->launches;
    sum->warp_instructions += k->warp_instructions;
    sum->branches += k->branches;
    sum->divergent += k->divergent;
    sum->wavefronts += k->wavefronts;
    sum->wavefronts_ideal += k->wavefronts_ideal;
    sum->mma += k->mma;
    for (uint32_t i = 0; i < k->n_operands; i++)
        add_traffic(sum, &k->operand[i]);
}

static cuddle_status take_of_step(void *to, const cdl_json *launch)
{
    profile_phase *p = to;
    profile_kernel k;
    uint32_t i = 0;
    read_launch(&k, NULL, launch);
    while (i < p->n_kernels && strcmp(p->kernels[i].name, k.name))
        i++;
    if (i == KERNELS_MAX)
        return cdl_status_fail(CUDDLE_ERR_FULL, "a step of more than %d kernels", KERNELS_MAX);
    if (i == p->n_kernels) {
        profile_kernel *first = &p->kernels[p->n_kernels++];
        memcpy(first->name, k.name, sizeof k.name);
        first->threads = k.threads;
        first->shared_bytes = k.shared_bytes;
        read_code(first);
    }
    add_counters(&p->kernels[i], &k);
    return CUDDLE_OK;
}

cuddle_status profile_count_step(profile_phase *p, profile_step step, void *user, cdl_arena *a)
{
    p->kernels = cdl_arena_zalloc(a, KERNELS_MAX, sizeof *p->kernels);
    return p->kernels ? count(step, user, take_of_step, p) : cdl_status_nomem("the counters");
}

/* ---- By family ---- */

static profile_family *family(profile_family *all, uint32_t *n, const char *name, size_t len)
{
    for (uint32_t i = 0; i < *n; i++)
        if (strlen(all[i].name) == len && !strncmp(all[i].name, name, len))
            return &all[i];
    if (*n == PROFILE_FAMILIES_MAX || len >= sizeof all->name)
        return NULL;
    profile_family *f = &all[(*n)++];
    *f = (profile_family){ .weights.name = "weights", .state.name = "keys and values" };
    memcpy(f->name, name, len);
    return f;
}

/* Which kernels do an op where it is not left to another's. */
static const char *family_of(cdl_op op)
{
    return op == CDL_OP_LINEAR_GLU ? "linear" : op == CDL_OP_ROPE || op == CDL_OP_STATE_WRITE ? "rope_state"
        : cdl_op_get(op)->name;
}

static void add_node(profile_family *f, const profile_node *n)
{
    f->nodes++;
    f->bytes += cdl_cost_bytes(&n->cost);
    f->flops += n->cost.flops;
    f->tiles += n->cost.tiles;
    f->state.needed += n->cost.state_read + n->cost.state_written;
    if (n->op == CDL_OP_LINEAR || n->op == CDL_OP_LINEAR_GLU)
        f->weights.needed += n->cost.in[1] + (n->op == CDL_OP_LINEAR_GLU ? n->cost.in[2] : 0);
}

static void add_kernel(profile_family *f, const profile_kernel *k)
{
    f->launches += k->launches;
    add_counters(&f->sum, k);
    for (uint32_t i = 0; i < k->n_operands; i++) {
        const profile_traffic *t = &k->operand[i];
        f->requested += t->requested;
        f->unique += t->unique;
        if (!strcmp(t->name, "weight") || !strcmp(t->name, "up"))
            f->weights.requested += t->requested;
        if (!strcmp(t->name, "state.base"))
            f->state.requested += t->requested;
    }
}

uint32_t profile_families(const profile_phase *p, profile_family out[PROFILE_FAMILIES_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const char *name = family_of(p->nodes[i].op);
        profile_family *f = family(out, &n, name, strlen(name));
        if (f)
            add_node(f, &p->nodes[i]);
    }
    for (uint32_t i = 0; i < p->n_kernels; i++) {
        const char *name = p->kernels[i].name, *end = strstr(name, "_fwd");
        profile_family *f = family(out, &n, name, end ? (size_t)(end - name) : strlen(name));
        if (f)
            add_kernel(f, &p->kernels[i]);
    }
    return n;
}
