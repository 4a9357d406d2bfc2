#include "format/int4.h"

#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "format/checkpoint_parts.h"

enum { NAME_MAX_BYTES = 400, STEP_MAX = 128, STEP_DENSE = 64 };

static uint32_t word_at(const uint8_t *words, size_t i)
{
    const uint8_t *p = words + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- Rows ---- */

/* Where AWQ keeps the nibble of each of 8 neighbouring outputs. */
static uint32_t awq_shift(uint32_t row)
{
    static const uint8_t place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    return 4u * place[row % 8];
}

/* Columns [col, col + n) of a row. */
static void codes_at(uint8_t *q, const cdl_int4 *w, uint32_t row, uint32_t col, uint32_t n)
{
    const uint8_t *words = w->codes.data;
    if (w->awq) {
        uint32_t shift = awq_shift(row);
        for (uint32_t i = 0; i < n; i++)
            q[i] = word_at(words, (size_t)(col + i) * (w->rows / 8) + row / 8) >> shift & 15;
        return;
    }
    for (uint32_t i = 0; i < n; i += 8) {
        uint32_t word = word_at(words, (size_t)((col + i) / 8) * w->rows + row);
        for (uint32_t k = 0; k < 8; k++)
            q[i + k] = word >> 4 * k & 15;
    }
}

static uint32_t zero_at(const cdl_int4 *w, uint32_t row, uint32_t group)
{
    uint32_t v = word_at(w->zeros.data, (size_t)group * (w->rows / 8) + row / 8);
    return ((v >> (w->awq ? awq_shift(row) : 4 * (row % 8))) + w->zero_is) & 15;
}

static const uint8_t *scale_at(const cdl_int4 *w, uint32_t row, uint32_t group)
{
    return w->scales.data + 2 * ((size_t)group * w->rows + row);
}

static uint32_t group_of(const cdl_int4 *w, uint32_t col)
{
    return w->order.name ? word_at(w->order.data, col) : col / w->group;
}

static void put_dense(uint8_t *dst, const cdl_int4 *w, cdl_dtype t, uint32_t row, uint32_t col, uint32_t n)
{
    uint8_t q[STEP_DENSE];
    codes_at(q, w, row, col, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t group = group_of(w, col + i);
        uint16_t scale, half;
        memcpy(&scale, scale_at(w, row, group), 2);
        float v = (float)((int)q[i] - (int)zero_at(w, row, group)) * cdl_f32_from_f16(scale);
        half = cdl_f16_from_f32(v);
        if (t == CDL_DTYPE_F32)
            memcpy(dst + 4 * (size_t)i, &v, 4);
        else
            memcpy(dst + 2 * (size_t)i, &half, 2);
    }
}

static void put_q5_0(uint8_t *dst, const uint8_t *q, uint32_t zero)
{
    uint32_t high = 0;
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t lo = q[i] + 16 - zero, hi = q[i + 16] + 16 - zero;
        dst[6 + i] = (uint8_t)((lo & 15) | (hi & 15) << 4);
        high |= lo >> 4 << i | hi >> 4 << (i + 16);
    }
    for (int i = 0; i < 4; i++)
        dst[2 + i] = (uint8_t)(high >> 8 * i);
}

static void put_block(uint8_t *dst, const cdl_int4 *w, cdl_dtype t, uint32_t row, uint32_t col)
{
    uint8_t q[STEP_MAX];
    uint32_t n = cdl_dtype_get(t)->block, group = col / w->group, zero = zero_at(w, row, group);
    codes_at(q, w, row, col, n);
    memcpy(dst, scale_at(w, row, group), 2);
    if (t == CDL_DTYPE_Q5_0) {
        put_q5_0(dst, q, zero);
    } else if (t == CDL_DTYPE_Q4_0) {
        for (uint32_t i = 0; i < 16; i++)
            dst[2 + i] = (uint8_t)(q[i] | q[i + 16] << 4);
    } else {
        dst[2] = (uint8_t)zero;
        dst[3] = 0;
        for (uint32_t i = 0; i < n; i += 2)
            dst[4 + i / 2] = (uint8_t)(q[i] | q[i + 1] << 4);
    }
}

void cdl_int4_rows(uint8_t *dst, const cdl_int4 *w, cdl_dtype t, uint32_t first, uint32_t n)
{
    const cdl_dtype_info *info = cdl_dtype_get(t);
    size_t row_bytes = (size_t)w->cols / info->block * info->bytes;
    bool dense = info->block == 1;
    uint32_t step = dense ? STEP_DENSE : info->block;
    for (uint32_t col = 0; col < w->cols; col += step) { /* the file's order: neighbouring rows share lines */
        uint8_t *to = dst + (size_t)col / info->block * info->bytes;
        for (uint32_t r = 0; r < n; r++, to += row_bytes) {
            if (dense)
                put_dense(to, w, t, first + r, col, w->cols - col < step ? w->cols - col : step);
            else
                put_block(to, w, t, first + r, col);
        }
    }
}

cdl_dtype cdl_int4_plain(const cdl_int4 *w)
{
    return w->dtype == CDL_DTYPE_F16 ? CDL_DTYPE_F16 : w->even ? CDL_DTYPE_Q4_0 : CDL_DTYPE_Q5_0;
}

bool cdl_int4_holds(const cdl_int4 *w, cdl_dtype t)
{
    return t == w->dtype || t == cdl_int4_plain(w) || (t == CDL_DTYPE_Q5_0 && w->dtype != CDL_DTYPE_F16);
}

/* ---- The checkpoint's list ---- */

/* The tensor `part` of the module whose codes are e; NULL when there is none. */
static const cdl_tensor_entry *part_of(const cdl_checkpoint *c, const cdl_tensor_entry *e, const char *part)
{
    char name[NAME_MAX_BYTES];
    size_t n = strlen(e->name) - strlen("qweight"), part_bytes = strlen(part) + 1;
    if (n + part_bytes > sizeof name)
        return NULL;
    memcpy(name, e->name, n);
    memcpy(name + n, part, part_bytes);
    return cdl_checkpoint_find(c, name);
}

static cuddle_status refuse(const cdl_checkpoint *c, const cdl_tensor_entry *e, const char *why)
{
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: tensor %.200s: %s", cdl_checkpoint_file(c, e->file), e->name,
            why);
}

static bool is_matrix(const cdl_tensor_entry *e, cdl_dtype t, int64_t rows, int64_t cols)
{
    return e && e->ndim == 2 && e->dtype == t && e->dim[0] == rows && e->dim[1] == cols;
}

/* Keeps the groups' order where it is not that of the columns. */
static cuddle_status read_order(cdl_int4 *w, const cdl_checkpoint *c, const cdl_tensor_entry *order, uint32_t groups)
{
    if (!order)
        return CUDDLE_OK;
    if (order->ndim != 1 || order->dtype != CDL_DTYPE_I32 || order->dim[0] != w->cols)
        return refuse(c, order, "it must be one i32 a column; fetch the file again");
    for (uint32_t i = 0; i < w->cols; i++) {
        uint32_t group = word_at(order->data, i);
        if (group >= groups)
            return refuse(c, order, "a column's group is not there; fetch the file again");
        if (group != i / w->group)
            w->order = *order;
    }
    return CUDDLE_OK;
}

static bool is_even(const cdl_int4 *w, uint32_t groups)
{
    uint32_t want = 0x88888888u - 0x11111111u * w->zero_is;
    for (size_t i = 0; i < (size_t)groups * (w->rows / 8); i++)
        if (word_at(w->zeros.data, i) != want)
            return false;
    return true;
}

static cdl_dtype type_of(const cdl_int4 *w)
{
    return w->order.name || w->group % 32 ? CDL_DTYPE_F16 : w->group % 128 == 0 ? CDL_DTYPE_I4_G128
        : w->group % 64 == 0 ? CDL_DTYPE_I4_G64 : CDL_DTYPE_I4_G32;
}

static cuddle_status read_parts(cdl_int4 *w, const cdl_checkpoint *c, const cdl_tensor_entry *e)
{
    const cdl_tensor_entry *zeros = part_of(c, e, "qzeros"), *scales = part_of(c, e, "scales");
    if (e->ndim != 2 || e->dtype != CDL_DTYPE_I32 || e->dim[0] < 1 || e->dim[1] < 1 || e->dim[0] > INT32_MAX / 8
            || e->dim[1] > INT32_MAX / 8)
        return refuse(c, e, "codes must be an i32 matrix; fetch the file again");
    w->rows = (uint32_t)e->dim[1] * (w->awq ? 8 : 1);
    w->cols = (uint32_t)e->dim[0] * (w->awq ? 1 : 8);
    int64_t groups = scales && scales->ndim == 2 ? scales->dim[0] : 0;
    if (groups < 1 || w->cols % groups)
        return refuse(c, e, "its scales are missing, or their groups do not divide its columns; fetch the files again");
    if (w->rows % 8 || !is_matrix(scales, CDL_DTYPE_F16, groups, w->rows)
            || !is_matrix(zeros, CDL_DTYPE_I32, groups, w->rows / 8))
        return refuse(c, e, "its scales must be f16 and its qzeros i32 of 4 bits, one a group and row; take a model"
                " quantised so");
    w->group = (uint32_t)(w->cols / groups);
    w->codes = *e;
    w->zeros = *zeros;
    w->scales = *scales;
    w->even = is_even(w, (uint32_t)groups);
    CDL_TRY(read_order(w, c, part_of(c, e, "g_idx"), (uint32_t)groups));
    w->dtype = type_of(w);
    return CUDDLE_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* Marks the module's other tensors: they are in the weight's entry. */
static void take_parts(const cdl_checkpoint *c, cdl_tensor_entry *e, bool *taken)
{
    static const char *const parts[] = { "qzeros", "scales", "g_idx" };
    size_t bytes = e->bytes;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const cdl_tensor_entry *part = part_of(c, e, parts[i]);
        if (!part)
            continue;
        taken[part - c->entries] = true;
        bytes += part->bytes;
    }
    e->bytes = bytes;
}

/* Becomes the entry of the weight. */
static cuddle_status replace(cdl_checkpoint *c, cdl_tensor_entry *e, const cdl_int4 *like, bool *taken)
{
    cdl_int4 *w = cdl_arena_alloc(&c->arena, sizeof *w);
    char *name = cdl_arena_printf(&c->arena, "%.*sweight", (int)(strlen(e->name) - strlen("qweight")), e->name);
    if (!w || !name)
        return cdl_status_nomem("the list of tensors");
    *w = *like;
    CDL_TRY(read_parts(w, c, e));
    take_parts(c, e, taken);
    e->name = name;
    e->dtype = w->dtype;
    e->dim[0] = w->rows;
    e->dim[1] = w->cols;
    e->int4 = w;
    return CUDDLE_OK;
}

static cuddle_status replace_all(cdl_checkpoint *c, const cdl_int4 *like, bool *taken)
{
    for (size_t i = 0; i < c->n; i++)
        if (!taken[i] && ends_with(c->entries[i].name, ".qweight"))
            CDL_TRY(replace(c, &c->entries[i], like, taken));
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        if (!taken[i])
            c->entries[n++] = c->entries[i];
    c->n = n;
    return CUDDLE_OK;
}

static cuddle_status refuse_config(const cdl_checkpoint *c, const char *why)
{
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: quantization_config: %s", cdl_checkpoint_folder(c), why);
}

cuddle_status cdl_int4_list(cdl_checkpoint *c, const cdl_json *q, const char *method)
{
    method = cdl_json_string(cdl_json_get(q, "quant_method"), method);
    bool awq = !strcmp(method, "awq");
    if (!awq && strcmp(method, "gptq"))
        return CUDDLE_OK;
    if (cdl_json_int(cdl_json_get(q, awq && !cdl_json_get(q, "bits") ? "w_bit" : "bits"), 4) != 4)
        return refuse_config(c, "only 4 bits are known; take a model quantised so");
    const cdl_json *version = cdl_json_get(q, "version"), *format = cdl_json_get(q, "checkpoint_format");
    bool gemm = cdl_json_none(version) || cdl_json_is(version, "gemm") || cdl_json_is(version, "GEMM");
    if (awq && !gemm)
        return refuse_config(c, "only AWQ's gemm version is known; take a model quantised so");
    bool second = cdl_json_is(format, "gptq_v2");
    if (!awq && !second && !cdl_json_none(format) && !cdl_json_is(format, "gptq"))
        return refuse_config(c, "of GPTQ's formats only gptq and gptq_v2 are known; take a model saved so");
    cdl_int4 like = { .awq = awq, .zero_is = !awq && !second };
    bool *taken = cdl_mem_zalloc(c->n + 1, sizeof *taken);
    cuddle_status st = taken ? replace_all(c, &like, taken) : cdl_status_nomem("the list of tensors");
    cdl_mem_free(taken);
    return st;
}
