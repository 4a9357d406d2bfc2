/* repack.c - the layout of cuda/gemm/README.md, by the host. A row's block is taken apart into codes and scales in
 * plain order, and these are put where the tile wants them; reading back goes the other way, through the file's
 * block. */
#include <string.h>

#include "base/half.h"
#include "format/repack.h"

enum { CODES = 256, TILE_ROWS = 16, SUB_COLS = 64 };

/* How a type's groups are scaled; as enum scaling of cuda/gemm/weight.cuh. */
typedef enum { F16, F16_MIN, F16_ZERO, E8M0, I8_32, I8_16, U8_MIN_32, U4_MIN_16, NONE } scaling;

typedef struct {
    uint8_t planes;                /* bits 1, 2, 4, 8, 16 */
    uint8_t scaling;
    uint8_t main_bytes;            /* of a tile           */
    uint8_t scale_bytes;           /* of a sub-tile       */
    uint16_t cols;                 /* of a tile           */
} layout;

static bool layout_of(layout *out, cdl_dtype t)
{
    switch (t) {
    case CDL_DTYPE_F16: case CDL_DTYPE_BF16: *out = (layout){ 16, NONE, 0, 0, 64 }; return true;
    case CDL_DTYPE_Q4_0: case CDL_DTYPE_IQ4_NL: *out = (layout){ 4, F16, 0, 64, 64 }; return true;
    case CDL_DTYPE_Q4_1: *out = (layout){ 4, F16_MIN, 0, 128, 64 }; return true;
    case CDL_DTYPE_Q5_0: *out = (layout){ 5, F16, 0, 64, 64 }; return true;
    case CDL_DTYPE_Q5_1: *out = (layout){ 5, F16_MIN, 0, 128, 64 }; return true;
    case CDL_DTYPE_Q8_0: *out = (layout){ 8, F16, 0, 64, 64 }; return true;
    case CDL_DTYPE_MXFP4: *out = (layout){ 4, E8M0, 0, 32, 64 }; return true;
    case CDL_DTYPE_I4_G32: *out = (layout){ 4, F16_ZERO, 0, 128, 64 }; return true;
    case CDL_DTYPE_I4_G64: *out = (layout){ 4, F16_ZERO, 0, 64, 64 }; return true;
    case CDL_DTYPE_I4_G128: *out = (layout){ 4, F16_ZERO, 64, 0, 128 }; return true;
    case CDL_DTYPE_Q2_K: *out = (layout){ 2, U4_MIN_16, 64, 64, 256 }; return true;
    case CDL_DTYPE_Q3_K: *out = (layout){ 3, I8_16, 32, 64, 256 }; return true;
    case CDL_DTYPE_Q4_K: *out = (layout){ 4, U8_MIN_32, 64, 64, 256 }; return true;
    case CDL_DTYPE_Q5_K: *out = (layout){ 5, U8_MIN_32, 64, 64, 256 }; return true;
    case CDL_DTYPE_Q6_K: *out = (layout){ 6, I8_16, 32, 64, 256 }; return true;
    case CDL_DTYPE_IQ4_XS: *out = (layout){ 4, I8_32, 32, 32, 256 }; return true;
    default: return false;
    }
}

static size_t sub_bytes(const layout *l)
{
    return l->scale_bytes + (size_t)l->planes * 128;
}

static size_t tile_bytes(const layout *l)
{
    return l->main_bytes + l->cols / SUB_COLS * sub_bytes(l);
}

size_t cdl_repack_step_bytes(cdl_dtype t)
{
    layout l;
    return layout_of(&l, t) ? l.main_bytes + sub_bytes(&l) : 0;
}

uint32_t cdl_repack_tile_bytes(cdl_dtype t, uint32_t *cols)
{
    layout l;
    *cols = 0;
    if (!layout_of(&l, t))
        return 0;
    *cols = l.cols;
    return (uint32_t)tile_bytes(&l);
}

cuddle_status cdl_repack_bytes(size_t *out, cdl_dtype t, uint64_t rows, uint64_t cols)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    layout l;
    if (!layout_of(&l, t))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "no CUDA kernel reads %s weights; convert them to bf16 or f16",
                info->name);
    if (cols % info->block)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%llu columns are no whole number of %s blocks of %u",
                (unsigned long long)cols, info->name, info->block);
    uint64_t across = cols / l.cols + !!(cols % l.cols), down = rows / TILE_ROWS + !!(rows % TILE_ROWS), bytes;
    if (rows > UINT32_MAX || cols > UINT32_MAX || __builtin_mul_overflow(across, down, &bytes)
            || __builtin_mul_overflow(bytes, tile_bytes(&l), &bytes) || bytes > SIZE_MAX / 2)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a matrix of %llu x %llu is too large", (unsigned long long)rows,
                (unsigned long long)cols);
    *out = bytes;
    return CUDDLE_OK;
}

/* ---- A block taken apart ---- */

/* One block of a row: where its codes go, a byte each, and the scales as the layout keeps them. */
typedef struct {
    uint8_t *code;
    uint8_t main[4];       /* d, or d and dmin: f16; of i4_g128 f16 and zero              */
    uint8_t scale[16][4];  /* of a group: f16; f16 f16; f16 u16; i8; u8 u8; u4 | u4 << 4  */
} parts;

static uint32_t high_bits(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Nibbles as the types with blocks of 32 have them: the first 16 weights are the low ones. */
static void nibbles(uint8_t *code, const uint8_t *q)
{
    for (int i = 0; i < 16; i++) {
        code[i] = q[i] & 15;
        code[i + 16] = q[i] >> 4;
    }
}

static void add_fifth(uint8_t *code, uint32_t high)
{
    for (int i = 0; i < 32; i++)
        code[i] = (uint8_t)(code[i] | (high >> i & 1) << 4);
}

static void split_32(parts *p, cdl_dtype t, const uint8_t *b)
{
    size_t head = t == CDL_DTYPE_MXFP4 ? 1 : t == CDL_DTYPE_Q4_1 || t == CDL_DTYPE_Q5_1 ? 4 : 2;
    memcpy(p->scale[0], b, head);
    b += head;
    if (t == CDL_DTYPE_Q8_0) {
        memcpy(p->code, b, 32);
    } else if (t == CDL_DTYPE_Q5_0 || t == CDL_DTYPE_Q5_1) {
        nibbles(p->code, b + 4);
        add_fifth(p->code, high_bits(b));
    } else {
        nibbles(p->code, b);
    }
}

static void split_q2_k(parts *p, const uint8_t *b)
{
    memcpy(p->main, b + 80, 4);
    for (int i = 0; i < 16; i++)
        p->scale[i][0] = b[i];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            p->code[32 * k + i] = b[16 + k / 4 * 32 + i] >> k % 4 * 2 & 3;
}

static void split_q3_k(parts *p, const uint8_t *b)
{
    const uint8_t *s = b + 96;
    memcpy(p->main, b + 108, 2);
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
        p->scale[i][0] = (uint8_t)((low | high << 4) - 32);
    }
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) {
            int low = b[32 + k / 4 * 32 + i] >> k % 4 * 2 & 3, high = b[i] >> k & 1;
            p->code[32 * k + i] = (uint8_t)(low | high << 2);
        }
}

/* q4_k, and q5_k with its fifth bits at b + 16. */
static void split_q45_k(parts *p, const uint8_t *b, bool five)
{
    const uint8_t *s = b + 4, *high = b + 16, *q = b + (five ? 48 : 16);
    memcpy(p->main, b, 4);
    for (int j = 0; j < 8; j++) {
        p->scale[j][0] = j < 4 ? s[j] & 63 : (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        p->scale[j][1] = j < 4 ? s[j + 4] & 63 : (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            p->code[32 * k + i] = q[k / 2 * 32 + i] >> k % 2 * 4 & 15;
    for (int k = 0; k < (five ? 8 : 0); k++)
        for (int i = 0; i < 32; i++)
            p->code[32 * k + i] = (uint8_t)(p->code[32 * k + i] | (high[i] >> k & 1) << 4);
}

static void split_q6_k(parts *p, const uint8_t *b)
{
    memcpy(p->main, b + 208, 2);
    for (int i = 0; i < 16; i++)
        p->scale[i][0] = b[192 + i];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) {
            int low = b[64 * (k / 4) + 32 * (k % 2) + i] >> k % 4 / 2 * 4 & 15;
            int high = b[128 + 32 * (k / 4) + i] >> k % 4 * 2 & 3;
            p->code[32 * k + i] = (uint8_t)(low | high << 4);
        }
}

static void split_iq4_xs(parts *p, const uint8_t *b)
{
    uint32_t high = (uint32_t)b[2] | (uint32_t)b[3] << 8;
    memcpy(p->main, b, 2);
    for (int j = 0; j < 8; j++) {
        uint32_t scale = (b[4 + j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
        p->scale[j][0] = (uint8_t)(scale - 32);
        nibbles(p->code + 32 * j, b + 8 + 16 * j);
    }
}

static void split_int4(parts *p, const uint8_t *b, int n)
{
    memcpy(n == 128 ? p->main : p->scale[0], b, 4);
    for (int i = 0; i < n; i++)
        p->code[i] = b[4 + i / 2] >> 4 * (i % 2) & 15;
}

static void split(parts *p, cdl_dtype t, const uint8_t *b)
{
    switch (t) {
    case CDL_DTYPE_Q2_K: split_q2_k(p, b); break;
    case CDL_DTYPE_Q3_K: split_q3_k(p, b); break;
    case CDL_DTYPE_Q4_K: split_q45_k(p, b, false); break;
    case CDL_DTYPE_Q5_K: split_q45_k(p, b, true); break;
    case CDL_DTYPE_Q6_K: split_q6_k(p, b); break;
    case CDL_DTYPE_IQ4_XS: split_iq4_xs(p, b); break;
    case CDL_DTYPE_I4_G32: case CDL_DTYPE_I4_G64: case CDL_DTYPE_I4_G128:
        split_int4(p, b, cdl_dtype_get(t)->block);
        break;
    default: split_32(p, t, b); break;
    }
}

/* ---- Where things stand in a tile ---- */

typedef struct {
    uint32_t g, half, lane, s, e, pair;
} place;

static place place_of(uint32_t row, uint32_t col)
{
    place p = { .g = row % 8, .half = row / 8 % 2, .s = col / 16 % 4, .e = col % 4 };
    p.lane = 4 * p.g + col / 4 % 4;
    p.pair = p.e / 2 * 2 + p.half;
    return p;
}

/* A code's byte and bit in one plane of a sub-tile. */
static size_t plane_bit(uint32_t plane, const place *p)
{
    uint32_t low = p->e % 2 * 16;
    switch (plane) {
    case 8: return (p->s / 2 * 512 + p->lane * 16 + p->s % 2 * 8 + p->half * 4 + p->e) * 8;
    case 4: return (p->lane * 16 + p->s * 4) * 8 + 4 * p->pair + low;
    case 2: return (p->lane * 8 + p->s / 2 * 4) * 8 + 8 * (p->s % 2) + 2 * p->pair + low;
    default: return p->lane * 4 * 8 + 4 * p->s + p->pair + low;
    }
}

static uint32_t get_code(const uint8_t *planes, uint32_t bits, const place *p)
{
    uint32_t code = 0, shift = 0;
    for (uint32_t plane = 8; plane; plane /= 2) {
        if (!(bits & plane))
            continue;
        size_t at = plane_bit(plane, p);
        code |= (planes[at / 8] >> at % 8 & ((1u << plane) - 1)) << shift;
        shift += plane;
        planes += plane * 128;
    }
    return code;
}

/* Columns of a group, and bytes of its scale. */
static uint32_t group_cols(const layout *l)
{
    if (l->scaling == F16_ZERO)
        return l->scale_bytes == 64 ? 64 : 32; /* those of 128 have none in a sub-tile */
    return l->scaling == I8_16 || l->scaling == U4_MIN_16 ? 16 : 32;
}

static uint32_t group_bytes(const layout *l)
{
    static const uint8_t bytes[] = { [F16] = 2, [F16_MIN] = 4, [F16_ZERO] = 4, [E8M0] = 1, [I8_32] = 1,
        [I8_16] = 1, [U8_MIN_32] = 2, [U4_MIN_16] = 1 };
    return l->scale_bytes ? bytes[l->scaling] : 0;
}

/* The scale of the group at col of a sub-tile. */
static size_t scale_at(const layout *l, const place *p, uint32_t col)
{
    uint32_t groups = SUB_COLS / group_cols(l);
    return ((p->g * 2 + p->half) * groups + col % SUB_COLS / group_cols(l)) * group_bytes(l);
}

static size_t main_at(const layout *l, const place *p)
{
    return (p->g * 2u + p->half) * (l->main_bytes / TILE_ROWS);
}

/* ---- Rows in, rows out ---- */

/* The scales of a block whose first weight is at (row, col) of the matrix. */
static void put_scales(uint8_t *tile, const layout *l, const parts *b, uint32_t n, uint32_t row, uint32_t col)
{
    place p = place_of(row, col);
    memcpy(tile + main_at(l, &p), b->main, l->main_bytes / TILE_ROWS);
    for (uint32_t i = 0; i < n && l->scale_bytes; i += group_cols(l)) {
        uint32_t at = (col + i) % l->cols;
        uint8_t *sub = tile + l->main_bytes + at / SUB_COLS * sub_bytes(l);
        memcpy(sub + scale_at(l, &p, at), b->scale[i / group_cols(l)], group_bytes(l));
    }
}

/* Four codes of neighbours, a byte each, to where plane_bit puts them in a word: the second and third change places. */
static uint32_t spread(uint32_t codes, uint32_t plane)
{
    uint32_t mask = (1u << plane) - 1, c = codes;
    return (c & mask) | (c >> 8 & mask) << 16 | (c >> 16 & mask) << 2 * plane | (c >> 24 & mask) << (16 + 2 * plane);
}

static uint32_t word_at(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* One plane of a sub-tile; shift: the bits of a code that other planes have. */
static void put_plane(uint8_t *to, uint32_t plane, const uint8_t (*code)[CODES], uint32_t shift)
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t out[4] = { 0 }, g = lane / 4, j = lane % 4;
        for (uint32_t s = 0; s < 4; s++) {
            uint32_t top = word_at(&code[g][16 * s + 4 * j]) >> shift;
            uint32_t low = word_at(&code[g + 8][16 * s + 4 * j]) >> shift;
            uint32_t at = plane == 4 ? s : plane == 2 ? s / 2 : 0, by = plane == 2 ? 8 * (s % 2) : 4 * s;
            out[at] |= (spread(top, plane) | spread(low, plane) << plane) << (plane == 4 ? 0 : by);
        }
        memcpy(to + lane * plane * 4, out, plane * 4);
    }
}

/* Whole bytes stay as they are. */
static void put_bytes(uint8_t *to, const uint8_t (*code)[CODES])
{
    for (uint32_t row = 0; row < TILE_ROWS; row++)
        for (uint32_t s = 0; s < 4; s++)
            for (uint32_t j = 0; j < 4; j++) {
                uint32_t lane = 4 * (row % 8) + j;
                memcpy(to + s / 2 * 512 + lane * 16 + s % 2 * 8 + row / 8 * 4, &code[row][16 * s + 4 * j], 4);
            }
}

/* The planes of a sub-tile, the widest first. */
static void put_planes(uint8_t *to, uint32_t bits, const uint8_t (*code)[CODES])
{
    uint32_t shift = 0;
    if (bits & 8) {
        put_bytes(to, code);
        return;
    }
#define PLANE(n)                           \
    if (bits & n) {                        \
        put_plane(to, n, code, shift);     \
        to += n * 128;                     \
        shift += n;                        \
    }
    PLANE(4) PLANE(2) PLANE(1)
#undef PLANE
}

typedef struct {
    const uint8_t *data;           /* row-major, row_bytes apart */
    size_t row_bytes;
    uint32_t rows, cols;
    cdl_dtype type;
} source;

/* The tile at (row, col), zeroed before: what of it lies in the matrix. */
static void put_tile(uint8_t *tile, const layout *l, const source *m, uint32_t row, uint32_t col)
{
    const cdl_dtype_info *info = cdl_dtype_get(m->type);
    uint8_t code[TILE_ROWS][CODES];
    uint32_t rows = m->rows - row < TILE_ROWS ? m->rows - row : TILE_ROWS;
    uint32_t last = m->cols - col < l->cols ? m->cols : col + l->cols;
    if (rows < TILE_ROWS || last - col < l->cols)
        memset(code, 0, sizeof code);
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *from = m->data + (row + r) * m->row_bytes + col / info->block * info->bytes;
        for (uint32_t at = col; at < last; at += info->block, from += info->bytes) {
            parts b = { .code = code[r] + (at - col) };
            split(&b, m->type, from);
            put_scales(tile, l, &b, info->block, row + r, at);
        }
    }
    uint8_t *sub = tile + l->main_bytes;
    for (uint32_t at = 0; at < l->cols; at += SUB_COLS, sub += sub_bytes(l))
        put_planes(sub + l->scale_bytes, l->planes, (const uint8_t (*)[CODES])&code[0][at]);
}

/* Rows [row, end) of dense weights; what lies between them is zeroed already. */
static void put_rows(uint8_t *dst, const uint8_t *src, size_t row_bytes, uint32_t cols, uint32_t row, uint32_t end)
{
    for (size_t pitch = cdl_repack_pitch(cols) * sizeof(uint16_t); row < end; row++)
        memcpy(dst + row * pitch, src + row * row_bytes, cols * sizeof(uint16_t));
}

void cdl_repack_tiles(uint8_t *dst, cdl_dtype t, const uint8_t *src, size_t row_bytes, uint32_t rows, uint32_t cols,
        uint32_t tile, uint32_t n)
{
    layout l;
    if (!layout_of(&l, t))
        return;
    size_t tile_row_bytes = (size_t)(cols / l.cols + !!(cols % l.cols)) * tile_bytes(&l);
    memset(dst + tile * tile_row_bytes, 0, n * tile_row_bytes);
    uint32_t end = (tile + n) * TILE_ROWS < rows ? (tile + n) * TILE_ROWS : rows;
    if (l.scaling == NONE) {
        put_rows(dst, src, row_bytes, cols, tile * TILE_ROWS, end);
        return;
    }
    const source m = { src, row_bytes, rows, cols, t };
    uint8_t *to = dst + tile * tile_row_bytes;
    for (uint32_t row = tile * TILE_ROWS; row < end; row += TILE_ROWS)
        for (uint32_t col = 0; col < cols; col += l.cols, to += tile_bytes(&l))
            put_tile(to, &l, &m, row, col);
}

/* What a code stands for before it is scaled. */
static float number(cdl_dtype t, uint32_t code)
{
    static const int8_t iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
    static const int8_t mxfp4[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    switch (t) {
    case CDL_DTYPE_Q4_0: return (float)code - 8;
    case CDL_DTYPE_Q5_0: return (float)code - 16;
    case CDL_DTYPE_Q8_0: return (float)(int8_t)code;
    case CDL_DTYPE_Q3_K: return (float)code - 4;
    case CDL_DTYPE_Q6_K: return (float)code - 32;
    case CDL_DTYPE_IQ4_NL: case CDL_DTYPE_IQ4_XS: return (float)iq4[code & 15];
    case CDL_DTYPE_MXFP4: return (float)mxfp4[code & 15];
    default: return (float)code;
    }
}

static float half_at(const uint8_t *p)
{
    return cdl_f32_from_f16((uint16_t)(p[0] | p[1] << 8));
}

/* number * scale + min, as the type's own reference rounds it. */
static float scaled(const layout *l, float number, const uint8_t *scale, const uint8_t *main)
{
    switch (l->scaling) {
    case F16: return number * half_at(scale);
    case F16_MIN: return number * half_at(scale) + half_at(scale + 2);
    case F16_ZERO: scale = l->main_bytes ? main : scale; return (number - (float)scale[2]) * half_at(scale);
    case E8M0: return number * cdl_f32_from_bits(*scale < 2 ? 0x00200000u << *scale : (uint32_t)(*scale - 1) << 23);
    case U8_MIN_32: return half_at(main) * (float)scale[0] * number - half_at(main + 2) * (float)scale[1];
    case U4_MIN_16: return half_at(main) * (float)(*scale & 15) * number - half_at(main + 2) * (float)(*scale >> 4);
    default: return half_at(main) * (float)(int8_t)*scale * number;
    }
}

void cdl_repack_row(float *dst, cdl_dtype t, const uint8_t *packed, uint32_t cols, uint32_t row)
{
    layout l;
    if (!layout_of(&l, t))
        return;
    if (l.scaling == NONE) {
        cdl_dtype_to_f32(dst, t, packed + (size_t)row * cdl_repack_pitch(cols) * sizeof(uint16_t), cols);
        return;
    }
    size_t tile_row_bytes = (size_t)(cols / l.cols + !!(cols % l.cols)) * tile_bytes(&l);
    const uint8_t *tile_row = packed + row / TILE_ROWS * tile_row_bytes;
    for (uint32_t col = 0; col < cols; col++) {
        const uint8_t *tile = tile_row + col / l.cols * tile_bytes(&l);
        uint32_t at = col % l.cols;
        const uint8_t *sub = tile + l.main_bytes + at / SUB_COLS * sub_bytes(&l);
        place p = place_of(row, at);
        uint32_t code = get_code(sub + l.scale_bytes, l.planes, &p);
        dst[col] = scaled(&l, number(t, code), sub + scale_at(&l, &p, at), tile + main_at(&l, &p));
    }
}
