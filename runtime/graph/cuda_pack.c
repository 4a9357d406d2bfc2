#include <string.h>

#include "base/half.h"
#include "format/repack.h"
#include "graph/cuda_call.h"

enum { PART = 64 }; /* columns that are converted at once */

static bool is_dense(cdl_dtype t)
{
    return cdl_dtype_get(t)->block == 1;
}

cdl_dtype cdl_cuda_weight_type(const cdl_backend *b, cdl_dtype t)
{
    return is_dense(t) ? b->activation : t;
}

cuddle_status cdl_cuda_weight_bytes(const cdl_backend *b, size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols)
{
    return cdl_repack_bytes(out, cdl_cuda_weight_type(b, t), rows, cols);
}

static uint16_t rounded(cdl_dtype t, float v)
{
    return t == CDL_DTYPE_BF16 ? cdl_bf16_from_f32(v) : cdl_f16_from_f32(v);
}

/* Columns [col, col + n) of a row, in the type of the activations. */
static void read_part(const cdl_matrix_source *m, cdl_dtype to, uint32_t row, uint32_t col, uint32_t n, uint16_t *out)
{
    size_t element = cdl_dtype_get(m->dtype)->bytes;
    float value[PART];
    if (!m->transposed)
        cdl_dtype_to_f32(value, m->dtype, m->data + row * m->row_bytes + col * element, n);
    for (uint32_t i = 0; i < n && m->transposed; i++)
        cdl_dtype_to_f32(value + i, m->dtype, m->data + (col + i) * m->row_bytes + row * element, 1);
    for (uint32_t i = 0; i < n; i++)
        out[i] = rounded(to, value[i]);
}

/* Transposed, or of another type than the activations. */
static void pack_dense(uint8_t *dst, const cdl_matrix_source *m, cdl_dtype to, uint32_t panel, uint32_t n)
{
    uint32_t pitch = cdl_repack_pitch(m->cols), first = panel * CDL_PACK_ROWS, end = first + n * CDL_PACK_ROWS;
    uint16_t *out = (uint16_t *)dst + (size_t)first * pitch;
    memset(out, 0, (size_t)n * CDL_PACK_ROWS * pitch * sizeof *out);
    for (uint32_t row = first; row < end && row < m->rows; row++, out += pitch)
        for (uint32_t col = 0; col < m->cols; col += PART) {
            uint32_t left = m->cols - col;
            read_part(m, to, row, col, left < PART ? left : PART, out + col);
        }
}

void cdl_cuda_pack(const cdl_backend *b, uint8_t *dst, const cdl_matrix_source *m, uint32_t panel, uint32_t n)
{
    if (m->transposed || m->dtype != cdl_cuda_weight_type(b, m->dtype))
        pack_dense(dst, m, b->activation, panel, n);
    else
        cdl_repack_tiles(dst, m->dtype, m->data, m->row_bytes, m->rows, m->cols, panel, n);
}
