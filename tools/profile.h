/* profile.h - what the files of `cuddle profile` share.
 *
 * cmd_profile.c reads the options; profile_case.c says what an op is measured on, profile_op.c runs it,
 * profile_peaks.c finds the machine's limits, profile_counters.c reads what the virtual GPU counted,
 * profile_model.c looks at a model node by node; profile_out.c, profile_trace.c and profile_page.c print.
 */
#ifndef PROFILE_H
#define PROFILE_H

#include "base/arena.h"
#include "base/buf.h"
#include "cli.h"
#include "graph/backend.h"
#include "graph/cost.h"

/* ---- Cases: an op and its sizes (profile_case.c) ---- */

typedef struct {
    cdl_op op;
    cdl_dtype type;                  /* of the weights                                        */
    uint32_t rows, cols, out;        /* tokens; columns of x; rows of the weight, of a table  */
    uint32_t heads, kv_heads, head_dim;
    uint32_t context, window;        /* tokens in the state after the step; 0: no window      */
    bool prompt;                     /* rows of a prompt, not of generated tokens             */
} profile_case;

/* The op's usual sizes, then "rows=16,cols=1536" on top; an empty text changes nothing. False: a message was said. */
bool profile_case_read(profile_case *out, cdl_op op, cdl_dtype type, bool prompt, const char *text);
/* "16 x 1536 x 8960 q4_k". */
void profile_case_name(char *out, size_t n, const profile_case *c);
/* Whether the op reads packed weights. */
bool profile_case_weighs(cdl_op op);

typedef enum { PROFILE_ACTIVATION, PROFILE_VECTOR, PROFILE_MATRIX, PROFILE_INDEX, PROFILE_FREQUENCY } profile_kind;
typedef struct {
    profile_kind kind;
    uint32_t rows, cols;
} profile_operand;

enum { PROFILE_ATTRS_BYTES = 64 };

/* The call's inputs, output, attributes (into attrs, PROFILE_ATTRS_BYTES); the number of inputs. */
uint32_t profile_case_operands(const profile_case *c, profile_operand in[CDL_OP_INPUTS], profile_operand *out,
        void *attrs);

/* ---- The machine ---- */

typedef struct {
    char device[32], name[128], kernels[32], driver[64];
    char clocks[128];                /* of a GPU, its power limit: as the driver says        */
    uint32_t threads;
    bool is_gpu, is_virtual;
    uint64_t cache_bytes;
    double stream;                   /* bytes a second, measured; 0: not                     */
    double f32, int8, half;          /* operations a second of products in f32, int8, 16 bits */
} profile_machine;

/* The GPU behind a backend of cuda: its facts, what NVML says, and, unless it is virtual, its limits. */
cuddle_status profile_gpu_machine(profile_machine *m, cdl_backend *b);
/* The CPU's limits: reading memory, multiplying and adding; each on all threads, the best of several. */
cuddle_status profile_cpu_peaks(profile_machine *m, cdl_pool *pool);

/* GPUs that are estimated for: their public figures (profile_gpus.def). */
typedef struct {
    const char *name;
    double bytes_s, flops_s;         /* of memory; of dense 16-bit products with f32 sums    */
    const char *source;
} profile_gpu;
extern const profile_gpu profile_gpus[];
extern const uint32_t profile_n_gpus;
/* Seconds that the GPU needs at least, by its public figures: an estimate. */
double profile_gpu_bound(const profile_gpu *g, const cdl_cost *c);

/* ---- What was found ---- */

typedef struct {
    double median, spread, best;     /* seconds; spread: half the quartiles' distance / median */
    uint32_t samples;                /* 0: not measured                                        */
} profile_time;

/* Sorts s. */
profile_time profile_time_of(double *s, uint32_t n);

typedef struct {
    char name[24];
    double needed;                   /* bytes the op must touch, once; 0: an intermediate     */
    double requested, unique;        /* bytes of all sectors; of different ones               */
} profile_traffic;

/* A launch on the virtual GPU, or the sum of several of a kernel, and what its code takes of an sm_80. */
typedef struct {
    char name[96];
    uint32_t launches, grid[3], threads, shared_bytes, registers, local_bytes, blocks;
    double occupancy;                /* of the warps that a multiprocessor holds              */
    double warp_instructions, branches, divergent, wavefronts, wavefronts_ideal, mma;
    profile_traffic operand[16];
    uint32_t n_operands;
} profile_kernel;

typedef struct {
    profile_case c;
    char shape[96];
    cdl_cost cost;
    profile_time cold, hot;
    profile_kernel *kernels;
    uint32_t n_kernels;
} profile_row;

/* What the op's arithmetic can reach at most, operations a second, and its name. */
double profile_peak(const profile_machine *m, const profile_row *r, const char **name);
/* The limit that binds a call: seconds at least, and which it is. */
double profile_bound(const profile_machine *m, const profile_row *r, const char **limit);

/* ---- Running (profile_op.c) ---- */

typedef struct {
    const char *device, *cpu;        /* "cpu", "cuda:0"; kernels of the CPU or NULL            */
    uint32_t threads;
    double seconds;                  /* of one measurement, at most                            */
    bool fast;                       /* cuda: cuBLASLt for what it does                        */
} profile_opts;

/* Describes the device and measures its limits. */
cuddle_status profile_machine_open(profile_machine *out, const profile_opts *o);
/* "cpu", "cuda" or "cuda:N". */
cuddle_status profile_backend_open(cdl_backend **out, const profile_opts *o);
cuddle_status profile_case_run(profile_row *out, const profile_machine *m, const profile_case *c,
        const profile_opts *o, cdl_arena *a);

/* Runs calls[0] once on the virtual GPU; its launches with what was counted (profile_counters.c). */
cuddle_status profile_count(profile_row *out, cdl_backend *b, const cdl_call *calls, cdl_arena *a);

/* What runs between the counters' beginning and end; waits for the device. */
typedef cuddle_status (*profile_step)(void *user);

/* ---- Models (profile_model.c) ---- */

typedef struct {
    const char *name;                /* of the node                                            */
    cdl_op op;
    uint32_t rows, cols;
    cdl_cost cost;
    double begin, seconds;           /* of the step that is shown                              */
} profile_node;

typedef struct {
    const char *title;               /* "prompt of 512", "a generated token"                   */
    uint32_t tokens, steps;
    double whole;                    /* seconds of such a step, median, nothing watched        */
    profile_node *nodes;             /* medians of `steps` steps; on the virtual GPU untimed   */
    uint32_t n;
    profile_kernel *kernels;         /* of the virtual GPU: a step's launches, by kernel       */
    uint32_t n_kernels;
} profile_phase;

/* The nodes whose ops one family of kernels does, and its launches. */
typedef struct {
    char name[24];                   /* "linear", "rope_state", ...                            */
    uint32_t nodes, launches;
    double bytes, flops, tiles;      /* that the nodes cannot do without                       */
    profile_kernel sum;
    double requested, unique;        /* bytes of all operands                                  */
    profile_traffic weights, state;  /* packed weights; keys and values                        */
} profile_family;

enum { PROFILE_FAMILIES_MAX = 24 };

typedef struct {
    const char *model;
    profile_phase phase[2];
    uint32_t n_phases;
} profile_model;

cuddle_status profile_model_run(profile_model *out, profile_machine *m, const char *path, uint32_t prompt,
        uint32_t generated, const profile_opts *o, cdl_arena *a);
/* Seconds of all nodes. */
double profile_phase_seconds(const profile_phase *p);
/* Runs a step with the virtual GPU's counters on, and adds its launches up by kernel (profile_counters.c). */
cuddle_status profile_count_step(profile_phase *p, profile_step step, void *user, cdl_arena *a);
/* The phase's families; their number. */
uint32_t profile_families(const profile_phase *p, profile_family out[PROFILE_FAMILIES_MAX]);
/* Seconds that the GPU needs at least for all nodes one after another: an estimate. */
double profile_phase_bound(const profile_gpu *g, const profile_phase *p);

/* ---- Printing: all of it, or what there is of rows and model (profile_out.c, _trace.c, _page.c) ---- */

typedef struct {
    const profile_machine *machine;
    const profile_row *rows;
    uint32_t n_rows;
    const profile_model *model;
} profile_report;

void profile_print_table(const profile_report *r);
cuddle_status profile_put_json(cdl_buf *b, const profile_report *r);
cuddle_status profile_put_trace(cdl_buf *b, const profile_report *r);
cuddle_status profile_put_page(cdl_buf *b, const profile_report *r);

#endif
