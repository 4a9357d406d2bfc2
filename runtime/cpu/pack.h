/* pack.h - weights in the order that the CPU's kernels read them, and back.
 *
 * A pack holds a matrix [rows, cols] as panels of 16 rows, interleaved so that one vector
 * load brings the same few columns of 16 rows ("r16", see reference notes in pack.c).
 * The same bytes serve the vector, VNNI and AMX kernels. It is lossless: every weight can be
 * read back exactly (cdl_pack_row). Segments with different types may follow each
 * other in one pack, each padded to whole panels with zero rows inside the pack only:
 * that is how q, k and v become one product.
 * Read first: graph/op.h.   Tests: tests/kernel/test_pack.c
 */
#ifndef CDL_PACK_H
#define CDL_PACK_H

#include "format/dtype.h"

enum { CDL_PACK_ROWS = 16, CDL_PACK_SEGMENTS = 4 };

typedef struct {
    cdl_dtype dtype;      /* F32, F16, BF16 or any block type                          */
    uint32_t rows;        /* real rows; panels = ceil(rows / 16)                       */
    uint32_t first_row;   /* row of the product's output that its first row gives      */
    uint32_t first_panel; /* of the pack                                               */
    size_t panel_bytes;
    const uint8_t *data;  /* 64-byte aligned; panel p at data + p * panel_bytes        */
} cdl_pack_segment;

typedef struct cdl_pack {
    uint32_t rows, cols;  /* rows of all segments together; cols the same for all      */
    uint32_t panels;
    uint32_t n;
    bool streamed;        /* the model's weights fit in no cache                       */
    cdl_pack_segment segment[CDL_PACK_SEGMENTS];
} cdl_pack;

/* Bytes of the packed form of [rows, cols] (a multiple of 64). UNSUPPORTED with the type's
 * name when no kernel takes it, or when cols is no whole number of blocks. */
CUDDLE_CHECK cuddle_status cdl_pack_bytes(size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols);

/* Packs panels [panel, panel + n) of a segment. src: the tensor's first row as the file has it,
 * row-major, row_bytes apart; may be unaligned. dst: the segment's first byte. Thread-safe for different panels. */
void cdl_pack_panels(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes,
        uint32_t rows, uint32_t cols, uint32_t panel, uint32_t n);

/* The same for a dense (F32, F16, BF16) tensor stored transposed, [cols, rows] (gpt2's Conv1D). */
void cdl_pack_panels_transposed(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t src_row_bytes,
        uint32_t rows, uint32_t cols, uint32_t panel, uint32_t n);

/* One row as f32 [cols], exactly the values that cdl_dtype_to_f32 gives. */
void cdl_pack_row(float *dst, const cdl_pack *p, uint32_t row);

#endif
