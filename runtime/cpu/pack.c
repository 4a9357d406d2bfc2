/* pack.c - the r16 layout: a panel is 16 rows; block column by block column it holds each field of the
 * 16 rows' blocks, interleaved in units (2 bytes of a scale, 4 bytes of quants), so that a 64-byte
 * load brings the same four quants of 16 rows. The size is the file's own. Two kinds of bytes are
 * changed, reversibly, for the kernels' sake: int8 quants become unsigned (xor 0x80), and the
 * fifth bits of q5_0 and q5_1 are dealt to the bytes they belong to. */
#include "cpu/pack.h"

#include <string.h>

#include "base/mem.h"

enum { FIELDS_MAX = 5, BLOCK_BYTES_MAX = 256 };

typedef struct {
    uint8_t at, bytes, unit;   /* in the file's block */
} field;

static const field *fields_of(cdl_dtype t)
{
    static const field table[CDL_DTYPE_COUNT][FIELDS_MAX] = {
        [CDL_DTYPE_F32] = { { 0, 4, 4 } },
        [CDL_DTYPE_F16] = { { 0, 2, 2 } },
        [CDL_DTYPE_BF16] = { { 0, 2, 2 } },
        [CDL_DTYPE_Q4_0] = { { 0, 2, 2 }, { 2, 16, 4 } },
        [CDL_DTYPE_Q4_1] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 16, 4 } },
        [CDL_DTYPE_Q5_0] = { { 0, 2, 2 }, { 2, 4, 4 }, { 6, 16, 4 } },
        [CDL_DTYPE_Q5_1] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 4, 4 }, { 8, 16, 4 } },
        [CDL_DTYPE_Q8_0] = { { 0, 2, 2 }, { 2, 32, 4 } },
        [CDL_DTYPE_Q2_K] = { { 80, 2, 2 }, { 82, 2, 2 }, { 0, 16, 4 }, { 16, 64, 4 } },
        [CDL_DTYPE_Q3_K] = { { 108, 2, 2 }, { 96, 12, 4 }, { 0, 32, 4 }, { 32, 64, 4 } },
        [CDL_DTYPE_Q4_K] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 12, 4 }, { 16, 128, 4 } },
        [CDL_DTYPE_Q5_K] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 12, 4 }, { 16, 32, 4 }, { 48, 128, 4 } },
        [CDL_DTYPE_Q6_K] = { { 208, 2, 2 }, { 192, 16, 4 }, { 128, 64, 4 }, { 0, 128, 4 } },
        [CDL_DTYPE_IQ4_NL] = { { 0, 2, 2 }, { 2, 16, 4 } },
        [CDL_DTYPE_IQ4_XS] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 4, 4 }, { 8, 128, 4 } },
        [CDL_DTYPE_MXFP4] = { { 0, 1, 1 }, { 1, 16, 4 } },
    };
    return table[t][0].bytes ? table[t] : NULL;
}

cuddle_status cdl_pack_bytes(size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    size_t panel;
    if (!fields_of(t))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                "products with %s weights are not known; convert it to bf16 or a GGUF type", info->name);
    if (!cdl_dtype_row_bytes(&panel, t, cols))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%llu columns are no whole %s blocks of %u",
                (unsigned long long)cols, info->name, info->block);
    uint64_t panels = rows / CDL_PACK_ROWS + (rows % CDL_PACK_ROWS != 0);
    if (!cdl_mul(panel, CDL_PACK_ROWS, &panel) || !cdl_add(panel, 63, &panel) || !cdl_mul(panel / 64 * 64, panels, out))
        return cdl_status_nomem("the model's weights");
    return CUDDLE_OK;
}

/* ---- Reversible changes of a block's bytes ---- */

/* Bit i of the 32 fifth bits is weight i's. Dealt: byte j holds those of weights 4g + j, at bit g. */
static uint32_t deal_bits(uint32_t high)
{
    uint32_t out = 0;
    for (int i = 0; i < 32; i++)
        out |= (high >> i & 1) << (8 * (i % 4) + i / 4);
    return out;
}

static uint32_t collect_bits(uint32_t dealt)
{
    uint32_t out = 0;
    for (int i = 0; i < 32; i++)
        out |= (dealt >> (8 * (i % 4) + i / 4) & 1) << i;
    return out;
}

static void change_block(cdl_dtype t, uint8_t *b, bool forth)
{
    uint32_t high;
    if (t == CDL_DTYPE_Q8_0) {
        for (int i = 2; i < 34; i++)
            b[i] ^= 0x80;
    } else if (t == CDL_DTYPE_Q5_0 || t == CDL_DTYPE_Q5_1) {
        uint8_t *p = b + (t == CDL_DTYPE_Q5_0 ? 2 : 4);
        memcpy(&high, p, 4);
        high = forth ? deal_bits(high) : collect_bits(high);
        memcpy(p, &high, 4);
    }
}

static bool changes(cdl_dtype t)
{
    return t == CDL_DTYPE_Q8_0 || t == CDL_DTYPE_Q5_0 || t == CDL_DTYPE_Q5_1;
}

/* ---- Forth ---- */

/* One block column: 16 blocks (or fewer and zeros) into fields. */
static void pack_column(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes, uint32_t rows)
{
    const field *f = fields_of(t);
    uint8_t blocks[CDL_PACK_ROWS][BLOCK_BYTES_MAX];
    size_t bytes = cdl_dtype_get(t)->bytes;
    for (uint32_t r = 0; r < CDL_PACK_ROWS; r++) {
        if (r < rows)
            memcpy(blocks[r], src + r * row_bytes, bytes);
        else
            memset(blocks[r], 0, bytes);
        if (changes(t))
            change_block(t, blocks[r], true);
    }
    for (int i = 0; i < FIELDS_MAX && f[i].bytes; i++) {
        const field *k = &f[i];
        for (uint32_t u = 0; u < k->bytes; u += k->unit) {
            if (k->unit == 4)
                for (uint32_t r = 0; r < CDL_PACK_ROWS; r++)
                    memcpy(dst + 4 * r, blocks[r] + k->at + u, 4);
            else
                for (uint32_t r = 0; r < CDL_PACK_ROWS; r++)
                    memcpy(dst + (size_t)k->unit * r, blocks[r] + k->at + u, k->unit);
            dst += (size_t)CDL_PACK_ROWS * k->unit;
        }
    }
}

static size_t panel_bytes_of(cdl_dtype t, uint32_t cols)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    return ((size_t)cols / info->block * info->bytes * CDL_PACK_ROWS + 63) / 64 * 64;
}

void cdl_pack_panels(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes,
        uint32_t rows, uint32_t cols, uint32_t panel, uint32_t n)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    size_t panel_bytes = panel_bytes_of(t, cols);
    for (uint32_t p = panel; p < panel + n; p++) {
        uint32_t first = p * CDL_PACK_ROWS, left = rows - first;
        uint8_t *to = dst + p * panel_bytes;
        for (uint32_t b = 0; b < cols / info->block; b++, to += (size_t)info->bytes * CDL_PACK_ROWS)
            pack_column(to, t, src + first * row_bytes + (size_t)b * info->bytes, row_bytes,
                    left < CDL_PACK_ROWS ? left : CDL_PACK_ROWS);
    }
}

void cdl_pack_panels_transposed(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t src_row_bytes,
        uint32_t rows, uint32_t cols, uint32_t panel, uint32_t n)
{
    size_t element = cdl_dtype_get(t)->bytes, panel_bytes = panel_bytes_of(t, cols);
    for (uint32_t p = panel; p < panel + n; p++) {
        uint32_t first = p * CDL_PACK_ROWS, take = rows - first < CDL_PACK_ROWS ? rows - first : CDL_PACK_ROWS;
        uint8_t *to = dst + p * panel_bytes;
        for (uint32_t c = 0; c < cols; c++, to += CDL_PACK_ROWS * element) {
            memcpy(to, src + c * src_row_bytes + first * element, take * element);
            memset(to + take * element, 0, (CDL_PACK_ROWS - take) * element);
        }
    }
}

/* ---- Back ---- */

static void unpack_block(uint8_t *block, cdl_dtype t, const uint8_t *column, uint32_t row)
{
    const field *f = fields_of(t);
    for (int i = 0; i < FIELDS_MAX && f[i].bytes; i++) {
        for (uint32_t u = 0; u < f[i].bytes; u += f[i].unit) {
            memcpy(block + f[i].at + u, column + (size_t)row * f[i].unit, f[i].unit);
            column += (size_t)CDL_PACK_ROWS * f[i].unit;
        }
    }
    change_block(t, block, false);
}

void cdl_pack_row(float *dst, const cdl_pack *p, uint32_t row)
{
    uint32_t i = 0;
    while (i + 1 < p->n && row >= p->segment[i + 1].first_row)
        i++;
    const cdl_pack_segment *s = &p->segment[i];
    const cdl_dtype_info *info = cdl_dtype_get(s->dtype);
    uint32_t at = row - s->first_row;
    const uint8_t *column = s->data + at / CDL_PACK_ROWS * s->panel_bytes;
    uint8_t block[BLOCK_BYTES_MAX];
    for (uint32_t c = 0; c < p->cols; c += info->block, column += (size_t)info->bytes * CDL_PACK_ROWS) {
        unpack_block(block, s->dtype, column, at % CDL_PACK_ROWS);
        cdl_dtype_to_f32(dst + c, s->dtype, block, info->block);
    }
}
