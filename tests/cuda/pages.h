/* pages.h - paged keys and values for tests of attention, and the rows of a step. */
#ifndef TEST_PAGES_H
#define TEST_PAGES_H

#include "cpu/state.h"
#include "device.h"

enum { SEQUENCES = 4, PAGES = 64, ROWS = 2048, T = CDL_CUDA_PAGE_TOKENS };

/* One layer's pages, the same values twice. */
typedef struct {
    cdl_dtype t;
    uint32_t kv_heads, dim, value_dim;
    cdl_state_layer layer;       /* f32, the CPU's */
    uint16_t *bits;              /* the device's   */
    size_t page_elements;
} pages;

static inline pages pages_new(cdl_dtype t, uint32_t kv_heads, uint32_t dim, uint32_t value_dim)
{
    pages p = { .t = t, .kv_heads = kv_heads, .dim = dim, .value_dim = value_dim };
    p.page_elements = (size_t)kv_heads * (dim + value_dim) * T;
    p.layer = (cdl_state_layer){ .page_bytes = p.page_elements * 4, .dtype = CDL_DTYPE_F32, .kv_heads = kv_heads,
            .key_dim = dim,
        .value_dim = value_dim, .base = calloc(PAGES, p.page_elements * 4) };
    p.bits = calloc(PAGES, p.page_elements * 2);
    return p;
}

static inline void pages_free(pages *p)
{
    free(p->layer.base);
    free(p->bits);
}

static inline uint16_t *device_key(const pages *p, int32_t page, uint32_t k, uint32_t slot, uint32_t d)
{
    return p->bits + (size_t)page * p->page_elements + (size_t)k * (p->dim + p->value_dim) * T + slot * p->dim + d;
}

static inline uint16_t *device_value(const pages *p, int32_t page, uint32_t k, uint32_t slot, uint32_t d)
{
    return device_key(p, page, k, 0, 0) + p->dim * T + d * T + slot;
}

/* A token's keys and values, random. */
static inline void pages_fill(pages *p, int32_t page, uint32_t slot, kernel_random *random)
{
    for (uint32_t k = 0; k < p->kv_heads; k++) {
        for (uint32_t d = 0; d < p->dim; d++) {
            uint16_t h = type_bits(p->t, kernel_normal(random));
            *device_key(p, page, k, slot, d) = h;
            cdl_state_set(&p->layer, cdl_state_keys(&p->layer, page, k), d * T + slot, type_value(p->t, h));
        }
        for (uint32_t d = 0; d < p->value_dim; d++) {
            uint16_t h = type_bits(p->t, kernel_normal(random));
            *device_value(p, page, k, slot, d) = h;
            cdl_state_set(&p->layer, cdl_state_values(&p->layer, page, k), slot * p->value_dim + d,
                    type_value(p->t, h));
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
    return (cdl_cuda_pages){ .base = (void *)driver_up(p->bits, PAGES * p->page_elements * 2),
            .page_bytes = p->page_elements * 2,
        .kv_heads = p->kv_heads, .key_dim = p->dim, .value_dim = p->value_dim };
}

#endif
