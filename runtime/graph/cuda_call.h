/* cuda_call.h - calls as launches: what run_cuda.c and the files cuda_*.c share.
 *
 * Read first: backend.h, ../../cuda/kernels.h, device/device.h. */
#ifndef CDL_CUDA_CALL_H
#define CDL_CUDA_CALL_H

#include "../../cuda/gemm/wgmma_blocks.h"
#include "../../cuda/kernels.h"
#include "cpu/pack.h"
#include "device/cublaslt.h"
#include "graph/backend.h"

/* One kernel of an image, found once. */
typedef struct {
    char name[64];
    cdl_function function;
} cdl_cuda_kernel;

enum { CDL_CUDA_KERNELS = 256 };

/* Products of generated rows: of few, and of many by the rows of a block. */
typedef struct {
    const cdl_cuda_kernel *decode, *many[CDL_CUDA_MANY_KERNELS];
} cdl_cuda_generated;

/* Weights of one type whose rows follow each other: one launch. */
typedef struct {
    const uint8_t *data;
    cdl_dtype dtype;                /* dense ones: the activations'                       */
    uint32_t rows, first_row;
    cdl_cuda_generated generated;
    const cdl_cuda_kernel *prefill_small;
    const cdl_cuda_kernel *prefill; /* NULL: the GPU is too small for it                  */
    const cdl_cuda_kernel *wgmma[CDL_WGMMA_BLOCKS]; /* on Hopper in place of these two     */
} cdl_cuda_weight;

/* What is known of a call before any step. */
typedef struct {
    const cdl_cuda_kernel *kernel, *second; /* of LINEAR_GLU: act_mul; of attention: decode, prefill */
    cdl_cuda_weight weight[CDL_PACK_SEGMENTS], up[CDL_PACK_SEGMENTS];
    uint32_t weights, ups;
    const cdl_cuda_kernel *fill;    /* of attention: see fill_q                            */
    cdl_cuda_generated mixed;       /* when weights are of several types, else NULL        */
    float softcap;                  /* of a product: of the call behind it                 */
    bool capped;                    /* a soft cap that the product before it does always   */
    /* Calls that go together, or NULL; done: by another call then. */
    bool done;
    const cdl_call *act;            /* of a product: what follows it                       */
    const cdl_call *gather;         /* of a GATHER: the next one                           */
    /* STATE_WRITE together with what makes q and k. */
    const cdl_call *rope_q, *rope_k, *norm_q, *norm_k, *attention;
    /* RMSNORM together with the sum before it, and with the norm of one of its terms before that. */
    const cdl_call *add, *first;
} cdl_cuda_node;

/* A step of generated rows alone as one launch: for that many rows, and sequences of that many splits. */
typedef struct {
    uint32_t rows, splits;
    cdl_capture graph;
    uint64_t launches;              /* in it */
} cdl_cuda_capture;

enum { CDL_CUDA_CAPTURES = 64 };

/* Where a step's rows stand: the same layout on the host (pinned) and on the device. */
typedef struct {
    int32_t *input[CDL_INPUT_COUNT];
    int32_t *slots, *tables, *ends; /* [rows]                                              */
    int32_t *tiles;                 /* [2 * tiles_max]                                     */
    uint8_t *use_long;              /* [rows]                                              */
    int32_t *pages;                 /* [CDL_STATE_GROUPS][spans * table_pages + 1], the last -1 */
} cdl_cuda_rows_block;

/* What picks need, in one block on the host (pinned) and one on the device; offsets of its parts. */
typedef struct {
    const cdl_cuda_kernel *kernel;
    uint8_t *host;
    cdl_cu_ptr gpu, edited;         /* edited logits: [spans, vocab]                       */
    size_t rows, bias, seen, banned, tokens;
} cdl_cuda_lists;

typedef struct {
    cdl_backend base;
    char device_name[16], kernels_name[16];
    cdl_device *device;
    cdl_stream stream;
    cdl_cublaslt *cublaslt;         /* NULL: not asked for                                 */
    const cdl_cuda_kernel *finish;  /* of its products                                     */
    cdl_upload upload;
    bool uploading;
    cdl_backend_sizes sizes;
    cdl_cuda_kernel kernels[CDL_CUDA_KERNELS];
    uint32_t n_kernels;
    cdl_cuda_node *nodes;
    uint32_t n_nodes;
    /* The rows of the step. */
    cdl_cuda_rows_block host, gpu;
    uint8_t *host_block;
    cdl_event read;                 /* the device has read the host's block                */
    bool reading;
    cdl_cu_ptr gpu_block;
    cdl_cu_ptr filled_q;            /* heads that are no multiple of 8, filled up with zeros */
    cdl_cu_ptr counters;            /* of attention and products, 0 between launches       */
    size_t rows_bytes;              /* of the block without the pages                      */
    uint32_t group_pages;           /* of the block: of a group                            */
    uint32_t n_tiles, splits;       /* of this step                                        */
    uint8_t *result;                /* pinned: what fetch brings down                      */
    size_t result_bytes;
    float *watched;                 /* a node's output, for who looks at every node        */
    size_t watched_n;
    cdl_cuda_lists lists;
    cdl_cuda_capture captures[CDL_CUDA_CAPTURES];
    uint32_t n_captures;
    uint64_t launches, graph_launches; /* so far; those inside graphs count too           */
    cdl_event from, to;             /* of time; opened by the first                        */
} cdl_cuda;

/* ---- cuda_call.c ---- */

CUDDLE_CHECK cuddle_status cdl_cuda_check(const cdl_backend *b, const cdl_call *largest);
/* UNSUPPORTED: "op .. (node): CUDA's kernels take <what>, not <value>". */
CUDDLE_CHECK cuddle_status cdl_cuda_refuse(const cdl_call *c, const char *what, uint32_t value);
size_t cdl_cuda_scratch_bytes(const cdl_backend *b, const cdl_call *largest);
/* Finds kernels, and which calls go together. */
CUDDLE_CHECK cuddle_status cdl_cuda_prepare(cdl_backend *b, const cdl_call *calls, uint32_t n);
/* The kernel of this printf-like name; its shared memory is allowed when it needs more than the usual. */
CUDDLE_CHECK cuddle_status cdl_cuda_find(const cdl_cuda_kernel **out, cdl_cuda *c, const char *module,
        uint32_t shared_bytes, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* "<op>_fwd_kernel_<type of the activations>" of the module `op`. */
CUDDLE_CHECK cuddle_status cdl_cuda_find_op(const cdl_cuda_kernel **out, cdl_cuda *c, const char *op);
/* Of the activations, as kernels are named. */
const char *cdl_cuda_type_name(const cdl_cuda *c);
/* Launches call i of calls [0, n_nodes); together: with those that go together, else alone. */
CUDDLE_CHECK cuddle_status cdl_cuda_launch(cdl_cuda *c, const cdl_call *calls, uint32_t i, bool together);

typedef struct {
    uint32_t x, y, z, threads, shared;
} cdl_cuda_grid;

/* One kernel; args: its struct. */
CUDDLE_CHECK cuddle_status cdl_cuda_start(cdl_cuda *c, const cdl_call *call, const cdl_cuda_kernel *k, cdl_cuda_grid g,
        const void *args);

static inline cdl_cuda_grid cdl_cuda_row_grid(uint32_t x, uint32_t y)
{
    return (cdl_cuda_grid){ x, y, 1, CDL_CUDA_ROW_THREADS, 0 };
}

static inline void *cdl_cuda_row_of(const cdl_view *v, uint32_t row, uint32_t col)
{
    return (uint8_t *)v->data + ((size_t)row * v->stride + col) * cdl_dtype_get(v->dtype)->bytes;
}

/* ---- cuda_join.c ---- */

/* Notes in the nodes around call i what goes together with it; for all i in order. UNSUPPORTED: a soft cap of f32
 * values that no product makes. */
CUDDLE_CHECK cuddle_status cdl_cuda_join(cdl_cuda *c, const cdl_call *calls, uint32_t i);

/* ---- cuda_linear.c: LINEAR, LINEAR_GLU, EMBED ---- */

CUDDLE_CHECK cuddle_status cdl_cuda_prepare_linear(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node);
CUDDLE_CHECK cuddle_status cdl_cuda_prepare_embed(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node);
CUDDLE_CHECK cuddle_status cdl_cuda_linear(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node,
        bool together);
CUDDLE_CHECK cuddle_status cdl_cuda_linear_glu(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node);
CUDDLE_CHECK cuddle_status cdl_cuda_embed(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node);

/* Of the scratch of a LINEAR_GLU: where its up is computed; of others 0. */
size_t cdl_cuda_up_bytes(const cdl_call *call);
/* Scratch of a product of generated rows with so many weight rows, 0 when these are too many to need it. */
size_t cdl_cuda_many_bytes(uint32_t rows);

/* ---- cuda_fast.c ---- */

/* Scratch of a call that needs `before` without what cuBLASLt wants. */
size_t cdl_cuda_fast_bytes(const cdl_cuda *c, const cdl_call *largest, size_t before);
/* Whether cuBLASLt does this product. */
bool cdl_cuda_is_fast(const cdl_cuda *c, const cdl_cuda_weight *w, const cdl_linear_args *a);
CUDDLE_CHECK cuddle_status cdl_cuda_fast(cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a);
/* The same when it is the first of its shape; y is overwritten. */
CUDDLE_CHECK cuddle_status cdl_cuda_fast_warm_up(cdl_cuda *c, const cdl_call *call, const cdl_linear_args *a);

/* ---- cuda_attention.c: ROPE, STATE_WRITE, ATTENTION ---- */

/* The elements of a head in the state. */
static inline uint32_t cdl_cuda_padded(uint32_t dim)
{
    return (dim + 7) / 8 * 8;
}

/* CDL_CUDA_STATE_.. of a state's type. */
uint32_t cdl_cuda_state_of(cdl_dtype t);
/* The most splits of attention of a row that sees up to so many pages. */
uint32_t cdl_cuda_splits(uint32_t pages);
/* Scratch of an ATTENTION. */
size_t cdl_cuda_attention_bytes(const cdl_call *largest);
CUDDLE_CHECK cuddle_status cdl_cuda_prepare_write(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node);
CUDDLE_CHECK cuddle_status cdl_cuda_prepare_attention(cdl_cuda *c, const cdl_call *call, cdl_cuda_node *node);
/* What all attention of a step shares, on the device. */
CUDDLE_CHECK cuddle_status cdl_cuda_attention_open(cdl_cuda *c, const cdl_call *calls, uint32_t n);
CUDDLE_CHECK cuddle_status cdl_cuda_rope(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node);
CUDDLE_CHECK cuddle_status cdl_cuda_state_write(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node,
        bool together);
/* turned: the call before has put q where it is filled up. */
CUDDLE_CHECK cuddle_status cdl_cuda_attention(cdl_cuda *c, const cdl_call *call, const cdl_cuda_node *node,
        bool turned);

/* ---- cuda_capture.c ---- */

/* Captures a step of generated rows for each number of rows and splits that may come; after prepare. */
CUDDLE_CHECK cuddle_status cdl_cuda_capture_all(cdl_cuda *c, const cdl_call *calls);
void cdl_cuda_capture_free(cdl_cuda *c);
/* The one that a step of n generated rows fits in, whose longest sequence needs `splits`; NULL: none. */
const cdl_cuda_capture *cdl_cuda_capture_find(const cdl_cuda *c, uint32_t n, uint32_t splits);

/* ---- cuda_pick.c ---- */

CUDDLE_CHECK cuddle_status cdl_cuda_pick_open(cdl_cuda *c);
void cdl_cuda_pick_close(cdl_cuda *c);
CUDDLE_CHECK cuddle_status cdl_cuda_pick(cdl_backend *b, const cdl_view *logits, const cdl_pick *picks, int32_t *tokens,
        bool *done);

/* ---- cuda_pack.c: weights into the layout of cuda/gemm/README.md; dense ones in the activations' type ---- */

cdl_dtype cdl_cuda_weight_type(const cdl_backend *b, cdl_dtype t);
CUDDLE_CHECK cuddle_status cdl_cuda_weight_bytes(const cdl_backend *b, size_t *out, cdl_dtype t, uint64_t rows,
        uint64_t cols);
void cdl_cuda_pack(const cdl_backend *b, uint8_t *dst, const cdl_matrix_source *m, uint32_t panel, uint32_t n);

#endif
