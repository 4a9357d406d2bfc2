/* product.h - what the fast LINEAR and LINEAR_GLU kernels of all sets share: how a product is cut in
 * chunks, quantised activations, and the epilogue.
 *
 * Activations of a row are quantised in blocks of 32 columns to int8 with an f32 scale, by
 * themselves: a row's bits never depend on its neighbours. The phases of a call: quantise rows (left
 * out when all weights are dense, or f32 activations are wanted), then panels x rows, computed into
 * the thread's scratch and committed with bias and residual.
 * Read first: cpu.h, pack.h. */
#ifndef CDL_PRODUCT_H
#define CDL_PRODUCT_H

#include "cpu/cpu.h"
#include "cpu/pack.h"

enum { CDL_ACTIVATION_BLOCK = 32, CDL_PRODUCT_ROWS = 64 };

/* Of 32 quantised activations; halves are of 16. Sums are of the int8 values. */
typedef struct {
    float d;                   /* scale                                       */
    float s, s_low, s_high;    /* d x sum of all, of the first and second 16  */
    int32_t n, n_low, n_high;  /* minus the sums                              */
    int32_t zero;
} cdl_activation_block;

/* A product's rows of activations, quantised and plain. */
typedef struct {
    const int8_t *q;           /* [rows, cols]                                */
    const cdl_activation_block *b; /* [rows, cols / 32]                       */
    const float *x;            /* plain rows, x_stride apart                  */
    uint32_t x_stride, cols;
} cdl_activations;

/* 16 output columns of `rows` rows (at most CDL_PRODUCT_ROWS) into out, rows out_stride floats apart.
 * panel: one panel of a segment. */
typedef void (*cdl_panel_fn)(const uint8_t *panel, const cdl_activations *a, uint32_t rows, float *out, uint32_t out_stride);

/* What a set brings. */
typedef struct {
    cdl_panel_fn (*panel)(cdl_dtype t, bool f32_activations);
    void (*quantise)(const float *x, uint32_t cols, int8_t *q, cdl_activation_block *b);
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

extern const cdl_product_set cdl_product_avx512;

#endif
