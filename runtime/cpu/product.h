/* product.h - what the fast LINEAR and LINEAR_GLU kernels of all sets share: how a product is cut in
 * chunks, quantised activations, and the epilogue.
 *
 * Activations of a row are quantised in blocks of 32 columns to two int8, 256 high + low, with an f32 scale,
 * by themselves: a row's bits never depend on its neighbours. One int8 is not enough: a column that stands
 * out makes its block so coarse that SmolLM2 answers wrongly (KL 2e-3 to f32; two give 1e-6), and where
 * weights stream from memory the second costs nothing. The phases of a call: quantise rows (left
 * out when all weights are dense, or f32 activations are wanted), then panels x rows, computed into
 * the thread's scratch and committed with bias and residual.
 * Read first: cpu.h, pack.h. */
#ifndef CDL_PRODUCT_H
#define CDL_PRODUCT_H

#include "cpu/cpu.h"
#include "cpu/pack.h"

enum {
    CDL_ACTIVATION_BLOCK = 32, CDL_ACTIVATION_BYTES = 2 * CDL_ACTIVATION_BLOCK,
    CDL_GROUP_ROWS = 16, CDL_PRODUCT_ROWS = 64
};

/* Quantised activations lie in groups of 16 rows (the last has what is left), block column by block column,
 * so that a kernel walks through one stretch of memory: of R rows [R][2][32] int8 (high, low), then these
 * fields [R] each. Halves are of 16 columns; sums are of 256 high + low. */
enum {
    CDL_GROUP_D,                                      /* f: scale                                    */
    CDL_GROUP_S, CDL_GROUP_S_LOW, CDL_GROUP_S_HIGH,   /* f: scale x sum of all, of the halves        */
    CDL_GROUP_N, CDL_GROUP_N_LOW, CDL_GROUP_N_HIGH,   /* n: the sums                                 */
    CDL_GROUP_FIELDS
};
typedef union {
    float f;
    int32_t n;
} cdl_group_field;

/* Bytes of a block column of a group. */
static inline uint32_t cdl_group_bytes(uint32_t rows)
{
    return rows * (CDL_ACTIVATION_BYTES + CDL_GROUP_FIELDS * (uint32_t)sizeof(cdl_group_field));
}

/* Field k of row r in a block column stands at [k * rows + r]. */
static inline cdl_group_field *cdl_group_fields(const uint8_t *group, uint32_t rows)
{
    return (cdl_group_field *)(group + rows * CDL_ACTIVATION_BYTES);
}

/* Bytes of the groups of `rows` rows. */
static inline size_t cdl_groups_bytes(uint32_t rows, uint32_t cols)
{
    return (size_t)cdl_group_bytes(rows) * (cols / CDL_ACTIVATION_BLOCK);
}

/* A product's rows of activations, quantised and plain, from the first row of a group on. */
typedef struct {
    const uint8_t *groups;
    const float *x;            /* x_stride apart                              */
    uint32_t x_stride, cols;
    bool streamed;             /* the weights they meet are (cdl_pack)        */
} cdl_activations;

/* 16 output columns of `rows` rows (at most CDL_PRODUCT_ROWS; whole groups, or to the call's end) into out,
 * rows out_stride floats apart. panel: one panel of a segment. */
typedef void (*cdl_panel_fn)(const uint8_t *panel, const cdl_activations *a, uint32_t rows, float *out,
        uint32_t out_stride);

/* What a set brings. */
typedef struct {
    cdl_panel_fn (*panel)(cdl_dtype t, bool f32_activations);
    void (*quantise)(const float *x, uint32_t stride, uint32_t rows, uint32_t cols, uint8_t *group);
    void (*act_mul)(cdl_act act, float *gate, const float *up, uint32_t n);
} cdl_product_set;

size_t cdl_product_workspace(const cdl_call *largest);
void cdl_product_emit(const cdl_call *c, cdl_phases *out,
        void (*quantise)(const void *, uint32_t, void *), void (*run)(const void *, uint32_t, void *));
/* The bodies of a set's phase functions. */
void cdl_product_quantise(const cdl_call *c, uint32_t chunk, const cdl_product_set *set);
void cdl_product_run(const cdl_call *c, uint32_t chunk, float *scratch, const cdl_product_set *set);
void cdl_product_commit(const void *call, uint32_t chunk, const void *scratch);
/* For a set that puts phases of its own between them: the chunks of the two phases. */
uint32_t cdl_product_quantise_chunks(const cdl_call *c);
uint32_t cdl_product_run_chunks(const cdl_call *c);

extern const cdl_product_set cdl_product_avx2, cdl_product_avx512;

#endif
