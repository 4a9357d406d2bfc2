/* kernels.h - the argument structs of every CUDA kernel, shared by the host's C and by CUDA.
 *
 * A kernel takes one struct by value and is named <op>_fwd[_<mechanism>]_kernel_<type>, where type is
 * that of the activations, bf16 or f16 (16 bits); products put the weight's type before it:
 * linear_fwd_decode_kernel_q4_k_bf16. Activations are row-major, strides in elements, rows and
 * strides 16-byte aligned. Vectors (norm weights, biases, frequencies) are f32. Sums are f32.
 * Grids and threads stand beside each struct. Pointers are the device's.
 * Read first: ../runtime/graph/ops.def, gemm/README.md, attn/README.md.  Tests: tests/cuda/ */
#ifndef CDL_KERNELS_H
#define CDL_KERNELS_H

#include <stdint.h>

#ifdef __CUDACC__
#define CDL_CUDA_BOTH static __host__ __device__ constexpr
#else
#define CDL_CUDA_BOTH static inline
#endif

enum {
    CDL_CUDA_ROW_THREADS = 256,       /* kernels of rows and elements                             */
    CDL_CUDA_DECODE_THREADS = 128,    /* attention_fwd_decode                                     */
    CDL_CUDA_LINEAR_THREADS = 256,    /* linear_fwd_decode                                        */
    CDL_CUDA_PAIR_THREADS = 128,      /* these of gate and up                                     */
    CDL_CUDA_PREFILL_THREADS = 256,   /* linear_fwd_prefill                                       */
    CDL_CUDA_PREFILL_SMALL_THREADS = 128, /* linear_fwd_prefill_small                             */
    CDL_CUDA_FLASH_THREADS = 128,     /* attention_fwd_prefill                                    */
    CDL_CUDA_SAMPLE_THREADS = 1024,   /* sample_fwd                                               */
    CDL_CUDA_LINEAR_ROWS = 16,        /* weight rows of a block of linear_fwd_decode, of a tile   */
    CDL_CUDA_LINEAR_FEW = 4,          /* tokens of a block of linear_fwd_decode, at most          */
    CDL_CUDA_MANY_KERNELS = 4,        /* linear_fwd_many8, 16, 32, 64: tokens of a block          */
    CDL_CUDA_MANY_PAIRS = 7,          /* of row tiles in a block there, at most                   */
    CDL_CUDA_MANY_STAGES = 4,         /* steps of 64 columns under way there                      */
    CDL_CUDA_MANY_COUNTERS = 2048,    /* blocks of a launch that shares chains, at most           */
    CDL_CUDA_BLOCK_SHARED = 99 << 10, /* shared memory that a block has on any GPU from sm_80 on  */
    CDL_CUDA_PREFILL_TILE = 128,      /* weight rows and tokens of a block of linear_fwd_prefill  */
    CDL_CUDA_PREFILL_SMALL = 64,      /* the same of linear_fwd_prefill_small                     */
    CDL_CUDA_PREFILL_SLOTS = 3,       /* K steps of 64 in flight there of each half of K          */
    CDL_CUDA_PAGE_TOKENS = 32,        /* = CDL_PAGE_TOKENS                                        */
    CDL_CUDA_SPLIT_TOKENS = 128,      /* slots of a split of attention_fwd_decode, x 2 until ..   */
    CDL_CUDA_SPLITS = 64,             /* .. a row has at most so many                             */
    CDL_CUDA_DECODE_HEADS = 8,        /* most heads of a block there                              */
    CDL_CUDA_FLASH_ROWS = 128,        /* query rows of a tile of attention_fwd_prefill            */
    CDL_CUDA_FLASH_KEYS = 64,         /* keys of a step there                                     */
    CDL_CUDA_PEAK_CHAINS = 8          /* sums under way in a warp of peak_fwd_mma                 */
};

/* Numbered as cdl_act of graph/op.h; NONE is the kernels' own. */
enum { CDL_CUDA_ACT_SILU, CDL_CUDA_ACT_GELU, CDL_CUDA_ACT_GELU_TANH, CDL_CUDA_ACT_RELU, CDL_CUDA_ACT_NONE };

/* rmsnorm_fwd, layernorm_fwd: y = norm(x) * (w + offset) + b. grid: rows of dim elements; dim % 8 == 0.
 * rmsnorm: with residual, x + residual is normed, and is stored to sum when that is not null (may be x).
 * With next as well: sum = residual + norm(x) by w (may be x or residual), y = norm(sum) by next; heads is 1.
 * y may be x. b: null or f32 [dim], layernorm only. */
typedef struct {
    const void *x, *residual;
    void *y, *sum;
    const float *w, *b;
    uint32_t dim;
    uint32_t heads;              /* blocks a row of x: block i norms x + i / heads * stride + i % heads * dim */
    uint32_t x_stride, y_stride; /* of rows; residual and sum have x's */
    float eps, offset;
    const float *next;           /* [dim] or null                                                         */
} cdl_norm_args;

/* add, act, act_mul, softcap, scale: elementwise, n % 8 == 0 elements.
 * grid: ceil(n / 8 / ROW_THREADS). y may be x or z. factor: scale's factor, softcap's cap. */
typedef struct {
    const void *x, *z;
    void *y;
    uint64_t n;
    float factor;
    uint32_t act;
} cdl_map_args;

/* act_mul on a product whose rows hold gate and up beside each other. grid: (ceil(cols / 8 / ROW_THREADS), rows). */
typedef struct {
    const void *gate, *up;
    void *y;
    uint32_t cols, in_stride, y_stride;
    uint32_t act;
} cdl_act_mul_args;

/* gather: y[i] = x[rows[i]], of one or two matrices. grid: (rows out, matrices). cols % 8 == 0. */
typedef struct {
    const int32_t *rows;
    struct {
        const void *x;
        void *y;
        uint32_t cols, x_stride, y_stride;
    } of[2];
} cdl_gather_args;

/* embed_fwd_kernel_<weight>_<type>: y[i] = table[ids[i]] * scale, table in the layout of gemm/README.md.
 * grid: tokens; ROW_THREADS threads. An id outside [0, rows) gives zeros. */
typedef struct {
    const int32_t *ids;
    const void *table;
    void *y;
    uint32_t rows, cols, y_stride;
    float scale;
} cdl_embed_args;

/* The paged state of one layer, CUDA's layout (attn/README.md): page p at base + p * page_bytes holds for each
 * KV head keys, values transposed, and with 8-bit state scales. Kernels of 8-bit state are named with it before the
 * type: rope_state_fwd_kernel_i8_bf16, attention_fwd_decode_kernel_d64_f8_f16. */
typedef struct {
    void *base;
    uint64_t page_bytes;         /* cdl_cuda_page_bytes                                    */
    uint32_t kv_heads, key_dim, value_dim;
} cdl_cuda_pages;

enum { CDL_CUDA_STATE_SAME, CDL_CUDA_STATE_I8, CDL_CUDA_STATE_F8 }; /* the activations' 16 bits, int8, e4m3 */

static inline uint64_t cdl_cuda_page_bytes(uint32_t state, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim)
{
    uint64_t keys = state == CDL_CUDA_STATE_SAME ? 2 * (uint64_t)key_dim : ((uint64_t)key_dim + 15) / 16 * 16;
    uint64_t values = state == CDL_CUDA_STATE_SAME ? 2 * (uint64_t)value_dim : value_dim;
    return kv_heads * (keys + values + (state == CDL_CUDA_STATE_SAME ? 0 : 8)) * CDL_CUDA_PAGE_TOKENS;
}

/* Where the rows of a step stand in their sequences. */
typedef struct {
    const int32_t *slots;        /* [T] index in the sequence                              */
    const int32_t *tables;       /* [T] where in pages the row's sequence begins           */
    const int32_t *ends;         /* [T] slots of the sequence seen by a bidirectional row  */
    const int32_t *pages;        /* page numbers of the layer's group                      */
} cdl_cuda_rows;

/* rope_state_fwd: (norm of each head of q and k,) rotation of q and k, k and v into the pages.
 * grid: (rows, as many as have a warp for each head); ROW_THREADS threads. q is written to q_out (may be q). q, k, v
 * may be null: that part is skipped. */
typedef struct {
    const void *q, *k, *v;
    void *q_out;
    const float *q_norm, *k_norm;              /* [head_dim] or null                                  */
    const int32_t *positions;                  /* [T]                                                 */
    const float *inv_freq, *inv_freq_long;     /* [rotary_dim / 2]; null: no rotation; long may be null */
    const uint8_t *use_long;                   /* [T], with inv_freq_long                             */
    cdl_cuda_pages state;
    cdl_cuda_rows rows;
    uint32_t q_stride, k_stride, v_stride, q_out_stride;
    uint32_t heads, rotary_dim, interleaved;   /* heads of q; head_dim is state.key_dim               */
    float scale, scale_long, eps, offset;
    uint32_t head_dim, value_dim;              /* of the heads of q and k, of v, when the state's and q_out's are
                                                * filled up with zeros to a multiple of 8; 0: the same     */
} cdl_rope_state_args;

/* One of the weights of a product of one x: rows of y follow those of the weight before. */
typedef struct {
    const void *weight;
    uint32_t rows;
    uint32_t type;               /* cdl_dtype, read by linear_fwd_decode_kernel_mixed_<type>     */
} cdl_linear_segment;

enum { CDL_CUDA_LINEAR_SEGMENTS = 4 };

/* Stages of a decoding warp's ring of tiles of 16 rows. */
CDL_CUDA_BOTH uint32_t cdl_linear_stages(uint32_t tile_bytes)
{
    return tile_bytes > 2048 ? 3 : 4;
}

/* Shared memory of linear_fwd_decode: in each stage a tile, with up one of either weight, and x of the tokens. */
CDL_CUDA_BOTH uint32_t cdl_linear_decode_shared(uint32_t tile_bytes, uint32_t columns, uint32_t tokens, uint32_t up)
{
    return (up ? CDL_CUDA_PAIR_THREADS : CDL_CUDA_LINEAR_THREADS) / 32 * cdl_linear_stages(tile_bytes)
         * (tile_bytes * (up ? 2 : 1) + tokens * (2 * columns + 32));
}

/* Tokens of a block of linear_fwd_decode: as many as there is room for on any GPU. */
CDL_CUDA_BOTH uint32_t cdl_linear_few(uint32_t tile_bytes, uint32_t columns)
{
    uint32_t n = CDL_CUDA_LINEAR_FEW;
    while (n > 1 && (cdl_linear_decode_shared(tile_bytes, columns, n, 0) > CDL_CUDA_BLOCK_SHARED
                       || cdl_linear_decode_shared(tile_bytes, columns, n, 1) > CDL_CUDA_BLOCK_SHARED))
        n--;
    return n;
}

/* Chains that the sums of generated rows are made of: chain i has the tiles of K that are i modulo these. */
CDL_CUDA_BOTH uint32_t cdl_linear_chains(int up)
{
    return (up ? CDL_CUDA_PAIR_THREADS : CDL_CUDA_LINEAR_THREADS) / 32;
}

/* How a product of many generated rows is cut into blocks. */
typedef struct {
    uint32_t tokens;             /* of a block                                             */
    uint32_t pairs;              /* of row tiles in it, 1 .. MANY_PAIRS                    */
    uint32_t chains;             /* of them at once, a power of two                        */
    uint32_t splits;             /* blocks among which the chains are shared, the same     */
    uint32_t threads, shared;
} cdl_linear_many;

/* Warps of a block of linear_fwd_many<tokens>, at most; columns: of a tile of the weights, 0 for mixed ones. */
CDL_CUDA_BOTH uint32_t cdl_linear_many_warps(uint32_t tokens, uint32_t columns)
{
    return tokens == 64 || (tokens == 32 && !columns) ? 8 : tokens > 8 || !columns ? 16 : columns == 256 ? 28 : 24;
}

/* Tokens of a block for so many in all, and the number of the kernel that takes them. */
CDL_CUDA_BOTH uint32_t cdl_linear_many_tokens(uint32_t tokens)
{
    return tokens > 32 ? 64 : tokens > 16 ? 32 : tokens > 8 ? 16 : 8;
}

CDL_CUDA_BOTH uint32_t cdl_linear_many_kernel(uint32_t tokens)
{
    return tokens > 32 ? 3 : tokens > 16 ? 2 : tokens > 8 ? 1 : 0;
}

/* Threads and shared memory of a plan; step_bytes: what a tile of 16 rows needs for 64 columns. In each stage x and
 * its sums of each chain, and two tiles of each warp; the rows' sums stand behind when there are several turns. */
static inline void cdl_linear_many_size(cdl_linear_many *m, uint32_t step_bytes, uint32_t chains)
{
    uint32_t warps = m->pairs * m->chains, sums = m->pairs * m->tokens * 128;
    uint32_t ring = CDL_CUDA_MANY_STAGES * (m->chains * m->tokens * 144 + warps * 2 * step_bytes);
    m->threads = warps * 32;
    m->shared = chains / m->splits > m->chains ? ring + sums : ring > sums ? ring : sums;
}

/* Shared memory of linear_fwd_prefill: x and weights of the steps in flight. tile: weight rows and tokens of a block;
 * step_bytes: of 16 weight rows, cdl_repack_step_bytes(). */
CDL_CUDA_BOTH uint32_t cdl_linear_prefill_shared(uint32_t tile, uint32_t step_bytes)
{
    return 2 * CDL_CUDA_PREFILL_SLOTS * (tile * 128 + tile / 16 * step_bytes);
}

/* linear_fwd_decode, linear_fwd_many, linear_fwd_prefill: y = x W^T (+ bias) (+ residual).
 * With up: act(x W^T + bias) * (x U^T + up_bias).
 * x [tokens, cols], weights packed (gemm/README.md), y [tokens, rows].
 * decode, many: generated rows, with the same bits; decode where all of them are one block's: cdl_linear_few.
 * With n_segments (there only, no up): W is these weights below each other, rows their sum, and a block takes 16
 * rows of one of them: grid.x is the sum of ceil(segment rows / 16). Weights of one type: its kernel; of several:
 * linear_fwd_decode_kernel_mixed_<type>, linear_fwd_many<tokens>_kernel_mixed_<type>, which take any.
 * grid of decode: ceil(rows / 16), LINEAR_THREADS or with up PAIR_THREADS; dynamic shared memory as above, mixed: that
 * of Q6_K. Of many<tokens>, by its plan: (ceil(rows / (32 pairs)), with up (16 pairs), of each segment; ceil(tokens /
 * the block's); splits); mixed: step_bytes is the largest of the segments.
 * prefill grid: (ceil(tokens / tile), ceil(rows / tile)), no up; tile is PREFILL_TILE, of linear_fwd_prefill_small
 * PREFILL_SMALL. Dynamic shared memory: cdl_linear_prefill_shared. */
typedef struct {
    const void *x, *weight, *up;
    const float *bias, *up_bias;
    const void *residual;
    void *y;
    uint32_t tokens, rows, cols;
    uint32_t x_stride, y_stride, residual_stride;
    uint32_t act;
    uint32_t y_f32;              /* y is f32 (logits)                                      */
    float softcap;               /* of the result; 0: none                                 */
    uint32_t n_segments;         /* 0: one weight, `weight`                                */
    cdl_linear_segment segment[CDL_CUDA_LINEAR_SEGMENTS];
    uint32_t pairs, splits;      /* many: see cdl_linear_many                              */
    float *partial;              /* when split: sums of each block's tokens, chain, pair: 128 bytes a token */
    uint32_t *counters;          /* when split: [grid.x * grid.y], zero before the first launch, after each */
} cdl_linear_args;

/* What a warp of attention_fwd_decode has under way of a page: at most 16384 bytes. bytes: of an element. */
CDL_CUDA_BOTH uint32_t cdl_cuda_decode_ring(uint32_t bucket, uint32_t bytes)
{
    return 2 * bucket * bytes * CDL_CUDA_PAGE_TOKENS / (bucket * bytes > 256 ? 2 : 1);
}

/* Its shared memory: the rings, then a maximum and a sum of each warp's heads, then a word. */
CDL_CUDA_BOTH uint32_t cdl_cuda_decode_shared(uint32_t bucket, uint32_t bytes)
{
    return CDL_CUDA_DECODE_THREADS / 32 * (cdl_cuda_decode_ring(bucket, bytes) + CDL_CUDA_DECODE_HEADS * 8) + 16;
}

/* Query rows of a block of attention_fwd_prefill. */
CDL_CUDA_BOTH uint32_t cdl_cuda_flash_rows(uint32_t bucket)
{
    return bucket > 128 ? CDL_CUDA_FLASH_ROWS / 2 : CDL_CUDA_FLASH_ROWS;
}

/* Its shared memory: queries, keys and values, the block's work, and of 8-bit state the scales and what keys of 96 are
 * apart. */
CDL_CUDA_BOTH uint32_t cdl_cuda_flash_shared(uint32_t bucket, uint32_t bytes)
{
    return (cdl_cuda_flash_rows(bucket) * 2 + 2 * CDL_CUDA_FLASH_KEYS * bytes) * bucket + (bytes == 1 ? 1088 : 64);
}

/* attention_fwd_decode: grid (rows, kv_heads * ceil(group / DECODE_HEADS), splits), splits: those of every row at
 * least. Dynamic shared memory: cdl_cuda_decode_shared. The last block of a row's heads adds the splits.
 * attention_fwd_prefill: grid (tiles * (FLASH_ROWS / cdl_cuda_flash_rows), heads); tile i is rows [tile_rows[2i],
 * + tile_rows[2i + 1]), 1 .. FLASH_ROWS of one sequence. Dynamic shared memory: cdl_cuda_flash_shared.
 * Named attention_fwd_<mechanism>_kernel_d<bucket>[_<state>]_<type>: bucket 64, 96, 128, 192, 256 >= key_dim and
 * value_dim, each a multiple of 8. */
typedef struct {
    const void *q;
    void *y;
    cdl_cuda_pages state;
    cdl_cuda_rows rows;
    const int32_t *tile_rows;
    float *partial;              /* [grid.x][heads][splits][value_dim], then max, sum of each */
    uint32_t q_stride, y_stride;
    uint32_t heads, splits;
    uint32_t window;             /* 0: all                                                 */
    uint32_t bidirectional;
    uint32_t first_row;          /* block x works on row first_row + x                     */
    float scale, softcap;
    uint32_t *counters;          /* [rows * grid.y], zero before the first launch and after each; prefill: null */
    uint32_t y_dim;              /* of y's heads, when the state's values are filled up; 0: the same */
} cdl_attention_args;

/* What sample_fwd adds to a logit; each token once in a row's list. */
typedef struct {
    int32_t token;
    float bias;
} cdl_sample_bias;

/* A token of the row's prompt or generation, once, and how often it was generated. */
typedef struct {
    int32_t token;
    uint32_t count;
} cdl_sample_seen;

/* How a row's token is chosen; fields as in cuddle_sampler.h. The lists' tokens are below vocab. */
typedef struct {
    uint64_t seed, position;
    uint64_t top_p;              /* x 2^40; 2^40: off                                      */
    float inv_temperature, min_p;
    float repetition, presence, frequency;
    uint32_t top_k;              /* 0: all                                                 */
    uint32_t greedy;
    uint32_t first_bias, n_bias, first_seen, n_seen, first_banned, n_banned;
} cdl_sample_row;

/* sample_fwd_kernel_f32: tokens[row] from logits [rows, stride]. grid: rows; SAMPLE_THREADS threads.
 * edited: [rows, stride], of rows with lists. */
typedef struct {
    const float *logits;
    float *edited;
    const cdl_sample_row *rows;
    const cdl_sample_bias *bias;
    const cdl_sample_seen *seen;
    const int32_t *banned;
    int32_t *tokens;
    uint32_t vocab, stride;
} cdl_sample_args;

/* peak_fwd_read_kernel: reads n pieces of 16 bytes, any grid; peak_fwd_mma_kernel: loops * PEAK_CHAINS products a warp.
 * ROW_THREADS threads. out: written only when data is not zero; may be data. */
typedef struct {
    const void *data;
    void *out;
    uint64_t n;
    uint32_t loops;
} cdl_peak_args;

#endif
