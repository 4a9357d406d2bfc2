/* pages.h - paged keys and values for tests of attention, and the rows of a step. */
#ifndef TEST_PAGES_H
#define TEST_PAGES_H

#include "cpu/state.h"
#include "device.h"

enum { SEQUENCES = 4, PAGES = 64, ROWS = 2048, T = CDL_CUDA_PAGE_TOKENS };

/* One layer's pages, the same values twice. */
typedef struct {
    cdl_dtype t;
    uint32_t state;              /* CDL_CUDA_STATE_... */
    uint32_t kv_heads, dim, value_dim;
    cdl_state_layer layer;       /* f32, the CPU's */
    uint8_t *bytes;              /* the device's   */
    size_t page_bytes, head_bytes, pitch;
} pages;

static inline pages pages_new(cdl_dtype t, uint32_t state, uint32_t kv_heads, uint32_t dim, uint32_t value_dim)
{
    pages p = { .t = t, .state = state, .kv_heads = kv_heads, .dim = dim, .value_dim = value_dim };
    p.page_bytes = cdl_cuda_page_bytes(state, kv_heads, dim, value_dim);
    p.head_bytes = p.page_bytes / kv_heads;
    p.pitch = state ? (dim + 15) / 16 * 16 : 2 * dim;
    size_t twin_bytes = (size_t)kv_heads * (dim + value_dim) * T * sizeof(float);
    p.layer = (cdl_state_layer){ .page_bytes = twin_bytes, .dtype = CDL_DTYPE_F32, .kv_heads = kv_heads,
        .key_dim = dim, .value_dim = value_dim, .base = calloc(PAGES, twin_bytes) };
    p.bytes = calloc(PAGES, p.page_bytes);
    return p;
}

static inline void pages_free(pages *p)
{
    free(p->layer.base);
    free(p->bytes);
}

static inline uint8_t *pages_head(const pages *p, int32_t page, uint32_t k)
{
    return p->bytes + (size_t)page * p->page_bytes + k * p->head_bytes;
}

static inline uint8_t *pages_key(const pages *p, int32_t page, uint32_t k, uint32_t slot, uint32_t d)
{
    return pages_head(p, page, k) + slot * p->pitch + d * (p->state ? 1 : 2);
}

static inline uint8_t *pages_value(const pages *p, int32_t page, uint32_t k, uint32_t slot, uint32_t d)
{
    return pages_head(p, page, k) + p->pitch * T + (d * T + slot) * (p->state ? 1 : 2);
}

static inline float *pages_scale(const pages *p, int32_t page, uint32_t k, uint32_t slot, bool values)
{
    return (float *)(void *)(pages_head(p, page, k) + p->head_bytes) - 2 * T + (values ? T : 0)
        + slot % 8 / 4 * 16 + slot / 8 * 4 + slot % 4;
}

/* What stands at an element, before its scale. */
static inline float pages_number(const pages *p, const uint8_t *at)
{
    if (p->state == CDL_CUDA_STATE_SAME)
        return type_value(p->t, (uint16_t)(at[0] | at[1] << 8));
    if (p->state == CDL_CUDA_STATE_I8)
        return (float)(int8_t)*at;
    float v;
    cdl_dtype_to_f32(&v, CDL_DTYPE_F8E4M3, at, 1);
    return v;
}

/* A random element of a token whose scale is given; its value. */
static inline float pages_put(const pages *p, uint8_t *at, float scale, kernel_random *random)
{
    float x = kernel_normal(random);
    if (p->state == CDL_CUDA_STATE_SAME) {
        uint16_t h = type_bits(p->t, x);
        memcpy(at, &h, 2);
        return type_value(p->t, h);
    }
    if (p->state == CDL_CUDA_STATE_I8)
        *at = (uint8_t)(int8_t)lrintf(fmaxf(-127, fminf(127, 40 * x)));
    else
        *at = (uint8_t)(kernel_next(random) % 0x7f | (x < 0 ? 0x80 : 0));
    return pages_number(p, at) * scale;
}

/* A token's keys and values, random. */
static inline void pages_fill(pages *p, int32_t page, uint32_t slot, kernel_random *random)
{
    float most = p->state == CDL_CUDA_STATE_I8 ? 127 : 448;
    for (uint32_t k = 0; k < p->kv_heads; k++)
        for (int values = 0; values < 2; values++) {
            float scale = kernel_uniform(random, 0.5f, 4) / most;
            if (p->state)
                *pages_scale(p, page, k, slot, values) = scale;
            float *twin = values ? cdl_state_values(&p->layer, page, k) : cdl_state_keys(&p->layer, page, k);
            for (uint32_t d = 0; d < (values ? p->value_dim : p->dim); d++) {
                uint8_t *at = values ? pages_value(p, page, k, slot, d) : pages_key(p, page, k, slot, d);
                cdl_state_set(&p->layer, twin, values ? slot * p->value_dim + d : d * T + slot,
                    pages_put(p, at, scale, random));
            }
        }
}

/* The rows of a step: sequence i has n[i] rows from slot first[i] on. */
typedef struct {
    uint32_t n_spans, rows;
    cdl_span spans[SEQUENCES];
    int32_t table[SEQUENCES][PAGES], slots[ROWS], tables[ROWS], ends[ROWS], tiles[ROWS / 8], n_tiles;
} step;

static inline void step_add(step *s, uint32_t first, uint32_t n)
{
    uint32_t i = s->n_spans++;
    for (uint32_t p = 0; p < PAGES; p++)
        s->table[i][p] = (int32_t)((p * SEQUENCES + i) * 7 % PAGES); /* no page twice below 16 a sequence */
    s->spans[i] = (cdl_span){ .row = s->rows, .n = n, .first = first, .length = first + n, .pages = { s->table[i] } };
    for (uint32_t r = 0; r < n; r++) {
        if (r % CDL_CUDA_FLASH_ROWS == 0) {
            s->tiles[2 * s->n_tiles] = (int32_t)(s->rows + r);
            s->tiles[2 * s->n_tiles++ + 1] = n - r < CDL_CUDA_FLASH_ROWS ? (int32_t)(n - r) : CDL_CUDA_FLASH_ROWS;
        }
        s->slots[s->rows + r] = (int32_t)(first + r);
        s->tables[s->rows + r] = (int32_t)(i * PAGES);
        s->ends[s->rows + r] = (int32_t)(first + n);
    }
    s->rows += n;
}

static inline cdl_cuda_rows step_up(const step *s)
{
    return (cdl_cuda_rows){ .slots = (void *)driver_up(s->slots, s->rows * 4),
            .tables = (void *)driver_up(s->tables, s->rows * 4),
        .ends = (void *)driver_up(s->ends, s->rows * 4), .pages = (void *)driver_up(s->table, sizeof s->table) };
}

static inline cdl_cuda_pages pages_up(const pages *p)
{
    return (cdl_cuda_pages){ .base = (void *)driver_up(p->bytes, PAGES * p->page_bytes), .page_bytes = p->page_bytes,
        .kv_heads = p->kv_heads, .key_dim = p->dim, .value_dim = p->value_dim };
}

/* Names of the modules and kernels of a state: "", "_i8", "_f8". */
static inline const char *pages_suffix(uint32_t state)
{
    return state == CDL_CUDA_STATE_I8 ? "_i8" : state == CDL_CUDA_STATE_F8 ? "_f8" : "";
}

/* Blocks of generated rows that a row's heads are dealt to. */
static inline uint32_t attention_groups(uint32_t heads, uint32_t kv_heads)
{
    return kv_heads * ((heads / kv_heads + CDL_CUDA_DECODE_HEADS - 1) / CDL_CUDA_DECODE_HEADS);
}

/* attention_fwd_<mechanism> on a step: rows or tiles x heads x splits. */
static inline void attention_launch(cdl_dtype t, uint32_t state, uint32_t bucket, bool prompt,
        const unsigned grid[3], const cdl_attention_args *a)
{
    char module[32], base[64], name[80];
    snprintf(module, sizeof module, "attn_d%u%s", bucket, state ? "_8" : "");
    snprintf(base, sizeof base, "attention_fwd_%s_kernel_d%u%s", prompt ? "prefill" : "decode", bucket,
        pages_suffix(state));
    unsigned parts = prompt ? CDL_CUDA_FLASH_ROWS / cdl_cuda_flash_rows(bucket) : 1;
    driver_launch(module, type_kernel(name, sizeof name, base, t), grid[0] * parts, grid[1], grid[2],
        prompt ? CDL_CUDA_FLASH_THREADS : CDL_CUDA_DECODE_THREADS,
        !prompt ? cdl_cuda_decode_shared(bucket, state ? 1 : 2) : cdl_cuda_flash_shared(bucket, state ? 1 : 2),
        (void *)a);
}

#endif
