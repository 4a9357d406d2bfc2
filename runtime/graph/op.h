/* op.h - what one op needs to run: its attributes, its tensors, the step's rows, the paged state.
 *
 * This is all that the kernels (cpu/, cuda/) see of a graph. Activations are f32 on the
 * CPU, row-major, one row a token. A row's result may depend on its own sequence
 * alone, never on which other rows share the step (DESIGN section 4): the first
 * rows_generated rows use the arithmetic of generated tokens, the others that of prompts.
 * Read first: ops.def.   Tests: tests/kernel/
 */
#ifndef CDL_OP_H
#define CDL_OP_H

#include "format/dtype.h"

typedef enum {
#define X(id, name, least, most, attrs, tolerance, split) CDL_OP_##id,
#include "graph/ops.def"
#undef X
    CDL_OP_COUNT
} cdl_op;

typedef enum { CDL_SPLIT_ROWS, CDL_SPLIT_COLUMNS, CDL_SPLIT_REDUCE } cdl_split;

typedef struct {
    const char *name;
    uint8_t least, most;   /* inputs                */
    uint16_t attrs_bytes;
    float tolerance;
    cdl_split split;
} cdl_op_info;
const cdl_op_info *cdl_op_get(cdl_op op);

static inline uint32_t cdl_ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* ---- Attributes ---- */

typedef enum {
    CDL_ACT_SILU,
    CDL_ACT_GELU,          /* exact: x * Phi(x), by erf                              */
    CDL_ACT_GELU_TANH,     /* gelu_new, gelu_pytorch_tanh                            */
    CDL_ACT_RELU,
    CDL_ACT_COUNT
} cdl_act;

typedef struct { uint8_t none; } cdl_no_attrs;
typedef struct { float scale; } cdl_embed_attrs;           /* rows are multiplied by it        */
typedef struct {
    float eps;
    float offset;          /* y = x / rms * (w + offset): gemma has 1, the others 0            */
} cdl_norm_attrs;
typedef struct { uint8_t has_bias, has_residual; } cdl_linear_attrs; /* inputs: x, w, [bias], [residual] */
typedef struct { cdl_act act; uint8_t has_bias; } cdl_glu_attrs;     /* inputs: x, gate, up, [gate bias, up bias] */
typedef struct {
    uint32_t head_dim;     /* D; x holds whole heads                                           */
    uint32_t rotary_dim;   /* the first rotary_dim of each head turn; the rest pass through    */
    bool interleaved;      /* pairs (2i, 2i+1); else (i, i + rotary_dim/2) as Hugging Face     */
    float scale;           /* cos and sin are multiplied by it (yarn, longrope): usually 1     */
    float scale_long;      /* the same for the long table                                      */
    uint32_t long_from;    /* with a long table: rows whose span.length is above it use it     */
} cdl_rope_attrs;
typedef struct { uint32_t layer; } cdl_state_attrs;        /* index into cdl_state.layers      */
typedef struct {
    uint32_t layer;
    uint32_t heads;        /* H; GQA: head h reads KV head h / (H / K)                         */
    float scale;           /* of the scores                                                    */
    float softcap;         /* scores become cap * tanh(score / cap); 0: none                   */
    uint32_t window;       /* a row sees its last `window` positions, itself included; 0: all  */
    bool bidirectional;    /* a row sees its whole span too (encoders)                         */
} cdl_attention_attrs;
typedef struct { cdl_act act; } cdl_act_attrs;
typedef struct { float cap; } cdl_softcap_attrs;
typedef struct { float factor; } cdl_scale_attrs;

/* ---- Tensors ---- */

struct cdl_pack; /* cpu/pack.h: a weight in the order the CPU's kernels want */

typedef struct {
    void *data;                  /* NULL when pack is set                                      */
    const struct cdl_pack *pack; /* of matrices that LINEAR, LINEAR_GLU and EMBED read         */
    cdl_dtype dtype;
    uint32_t rows, cols;         /* a vector is one row                                        */
    uint32_t stride;             /* elements from a row to the next; >= cols                   */
} cdl_view;

/* ---- The rows of a step ---- */

enum { CDL_STATE_GROUPS = 4, CDL_PAGE_TOKENS = 32 };

/* Rows of one sequence that are consecutive in the step and in the sequence. */
typedef struct {
    uint32_t row, n;       /* rows [row, row + n) of the step                                  */
    uint32_t first;        /* index in the sequence (= slot in its pages) of the first row     */
    uint32_t length;       /* tokens in the sequence after the whole feed that this is part of */
    const int32_t *pages[CDL_STATE_GROUPS]; /* page numbers, by slot / CDL_PAGE_TOKENS; -1: dropped
                                             * because no window reaches it any more           */
} cdl_span;

typedef struct {
    uint32_t rows;            /* T                                                             */
    uint32_t rows_generated;  /* the first ones; the others are prompt rows                    */
    uint32_t out_rows;        /* R: rows whose logits are wanted                               */
    const cdl_span *spans;    /* in row order; together they cover all rows                    */
    uint32_t n_spans;
    bool f32_activations;     /* products keep f32 activations (checking); else as fast as may */
} cdl_step;

/* ---- State: pages of keys and values ---- */

/* One layer's pages. The layout inside a page is the backend's own (cpu/state.h). */
typedef struct {
    uint8_t *base;         /* page p starts at base + p * page_bytes                           */
    size_t page_bytes;
    uint32_t group;        /* whose page table: cdl_span.pages[group]                          */
    cdl_dtype dtype;       /* F32 or F16                                                       */
    uint32_t kv_heads;     /* K                                                                */
    uint32_t key_dim, value_dim;
} cdl_state_layer;

typedef struct {
    const cdl_state_layer *layers;
    uint32_t n_layers;
    uint32_t table_pages;  /* of a sequence's page table, at most                               */
} cdl_state;

/* ---- One call of an op ---- */

enum { CDL_OP_INPUTS = 6 };

typedef struct {
    cdl_op op;
    const void *attrs;           /* the struct that ops.def names                              */
    cdl_view in[CDL_OP_INPUTS];  /* absent optional inputs: see the op's attributes            */
    uint32_t n_in;
    cdl_view out;                /* rows already those of this step                            */
    uint32_t rows_generated;     /* leading rows of out that are generated tokens              */
    const cdl_step *step;
    const cdl_state *state;
    void *workspace;             /* as many bytes as the kernel's workspace() asked for        */
    const char *name;            /* of the node, as Hugging Face names it; for errors, dumps   */
} cdl_call;

#endif
