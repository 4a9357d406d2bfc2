/* graph.h - a model as ops on symbolic rows: built once, planned once, run every step.
 *
 * Every value is a matrix of rows x cols. Rows are symbolic: T (rows of the step), R (rows
 * whose logits are wanted) or a constant. A model (model/<arch>.c) builds the plain graph;
 * fuse.c rewrites it; plan.c gives every value its place; run.c executes it. Building
 * never fails in the middle: the first error sticks and cdl_graph_status tells it.
 * Read first: op.h.   Tests: tests/unit/test_graph.c
 */
#ifndef CDL_GRAPH_H
#define CDL_GRAPH_H

#include "base/arena.h"
#include "base/buf.h"
#include "graph/op.h"

typedef uint32_t cdl_val; /* index of a value; 0 is none */

typedef enum { CDL_ROWS_CONST, CDL_ROWS_T, CDL_ROWS_R } cdl_rows;

typedef enum {
    CDL_VALUE_INPUT,    /* filled by the engine each step                         */
    CDL_VALUE_WEIGHT,   /* from the checkpoint                                    */
    CDL_VALUE_CONST,    /* computed by the model's builder                        */
    CDL_VALUE_NODE,     /* the output of a node                                   */
    CDL_VALUE_VIEW      /* columns of another value                               */
} cdl_value_kind;

typedef enum { CDL_INPUT_IDS, CDL_INPUT_POSITIONS, CDL_INPUT_OUT_ROWS, CDL_INPUT_COUNT } cdl_input;

/* Rows [first, first + rows) of a checkpoint tensor. */
typedef struct {
    const char *tensor;
    uint32_t first, rows;
    bool transposed;           /* stored [cols, rows]: gpt2's Conv1D                  */
    bool part;                 /* the tensor may have more rows than these            */
} cdl_segment;

/* How a weight is dealt over ranks. */
typedef enum { CDL_SHARD_NONE, CDL_SHARD_ROWS, CDL_SHARD_COLUMNS, CDL_SHARD_VOCAB } cdl_shard;

typedef struct {
    cdl_value_kind kind;
    cdl_rows sym;
    uint32_t rows, cols;       /* rows of a CONST sym                                 */
    cdl_dtype dtype;
    const char *name;
    bool matrix;               /* WEIGHT: packed for products; else an f32 vector     */
    cdl_shard shard;           /* WEIGHT                                              */
    cdl_segment segment[4];    /* WEIGHT                                              */
    uint32_t n_segments;
    const void *data;          /* CONST: in the graph's arena                         */
    cdl_input input;           /* INPUT                                               */
    uint32_t node;             /* NODE: who makes it                                  */
    cdl_val base;              /* VIEW: of this value                                 */
    uint32_t first_col;
} cdl_value;

typedef struct {
    cdl_op op;
    const void *attrs;
    cdl_val in[CDL_OP_INPUTS];
    uint32_t n_in;
    cdl_val out;
    const char *name;          /* as Hugging Face names the module                    */
} cdl_node;

/* What a layer keeps of a sequence. */
typedef struct {
    uint32_t kv_heads, key_dim, value_dim;
    uint32_t window;           /* 0: everything                                       */
} cdl_state_decl;

typedef struct cdl_graph {
    cdl_arena arena;
    cdl_value *values;         /* [0] is none                                         */
    cdl_node *nodes;
    cdl_state_decl *states;    /* by layer index                                      */
    uint32_t n_values, cap_values, n_nodes, cap_nodes, n_states, cap_states;
    uint32_t vocab;            /* cols of logits                                      */
    uint32_t context;          /* tokens the model was made for                       */
    uint32_t rope_long_from;   /* with a long RoPE table; 0: none                     */
    bool wide;                 /* activations exceed the range of f16                 */
    cdl_val logits;            /* [R, V]                                              */
    cuddle_status status;      /* the first error                                     */
    char error[256];
} cdl_graph;

/* ---- Building ---- */

void cdl_graph_free(cdl_graph *g);
/* The first error that happened, with its line set for this thread; else OK. */
CUDDLE_CHECK cuddle_status cdl_graph_status(const cdl_graph *g);
void cdl_graph_fail(cdl_graph *g, cuddle_status code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* printf into the graph's arena: names of tensors and nodes. Never NULL ("" after a failure). */
const char *cdl_graph_name(cdl_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

cdl_val cdl_graph_input(cdl_graph *g, cdl_input which);
/* A whole tensor as matrix [rows, cols] for products. */
cdl_val cdl_graph_matrix(cdl_graph *g, const char *tensor, uint32_t rows, uint32_t cols, cdl_shard shard);
/* Rows [first, first + rows) of a larger tensor; or one stored [cols, rows]. */
cdl_val cdl_graph_matrix_part(cdl_graph *g, cdl_segment segment, uint32_t cols, cdl_shard shard);
cdl_val cdl_graph_vector(cdl_graph *g, const char *tensor, uint32_t n);
/* Elements [first, first + n) of a longer vector. */
cdl_val cdl_graph_vector_part(cdl_graph *g, const char *tensor, uint32_t first, uint32_t n);
cdl_val cdl_graph_const(cdl_graph *g, const char *name, const float *data, uint32_t n); /* copied */
cdl_val cdl_graph_view(cdl_graph *g, cdl_val base, uint32_t first_col, uint32_t cols);
uint32_t cdl_graph_state(cdl_graph *g, cdl_state_decl decl);  /* its layer index */

/* Appends a node; attrs are copied; rows and cols follow from the op's shape rule (shape.c). */
cdl_val cdl_graph_op(cdl_graph *g, cdl_op op, const void *attrs, const cdl_val *in, uint32_t n_in, const char *name);

/* ---- Typed builders: one per op ---- */
cdl_val cdl_graph_embed(cdl_graph *g, cdl_val ids, cdl_val table, float scale, const char *name);
cdl_val cdl_graph_gather(cdl_graph *g, cdl_val x, cdl_val rows, const char *name);
cdl_val cdl_graph_rmsnorm(cdl_graph *g, cdl_val x, cdl_val w, float eps, float offset, const char *name);
cdl_val cdl_graph_layernorm(cdl_graph *g, cdl_val x, cdl_val w, cdl_val b, float eps, const char *name);
cdl_val cdl_graph_linear(cdl_graph *g, cdl_val x, cdl_val w, cdl_val bias_or_0, const char *name);
cdl_val cdl_graph_rope(cdl_graph *g, cdl_val x, cdl_val inv_freq, cdl_val long_or_0, const cdl_rope_attrs *a,
        const char *name);
void    cdl_graph_state_write(cdl_graph *g, cdl_val k, cdl_val v, uint32_t layer, const char *name);
cdl_val cdl_graph_attention(cdl_graph *g, cdl_val q, const cdl_attention_attrs *a, const char *name);
cdl_val cdl_graph_add(cdl_graph *g, cdl_val x, cdl_val y, const char *name);
cdl_val cdl_graph_act(cdl_graph *g, cdl_val x, cdl_act act, const char *name);
cdl_val cdl_graph_act_mul(cdl_graph *g, cdl_val gate, cdl_val up, cdl_act act, const char *name);
cdl_val cdl_graph_softcap(cdl_graph *g, cdl_val x, float cap, const char *name);
cdl_val cdl_graph_scale(cdl_graph *g, cdl_val x, float factor, const char *name);

/* ---- Shapes (shape.c) ---- */
/* Rows and cols of the node's output, or an error that names the node. */
CUDDLE_CHECK cuddle_status cdl_shape_infer(const cdl_graph *g, const cdl_node *n, cdl_rows *sym, uint32_t *rows,
        uint32_t *cols);

/* ---- Fusion (fuse.c) ---- */
/* Rewrites g: "qkv" (products of one input become one), "glu" (gate, up and their activation become
 * one), "residual" (a sum after a product moves into it). off: names to leave out, comma-separated,
 * "all", or NULL. */
CUDDLE_CHECK cuddle_status cdl_graph_fuse(cdl_graph *g, const char *off);

/* A line a node: for `cuddle plan --graph` and bisection. */
CUDDLE_CHECK cuddle_status cdl_graph_dump(const cdl_graph *g, cdl_buf *out);

#endif
