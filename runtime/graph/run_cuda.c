/* run_cuda.c - a GPU as a backend: its memory, the rows of a step, and the launches in order.
 *
 * A step is: inputs and rows up in one copy, page tables in one a group, the launches, the logits down. All on one
 * stream; the host waits only for what it fetches. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "graph/cuda_call.h"

static cuddle_status block_new(cdl_backend *b, uint8_t **out, size_t bytes, const char *what, const char *remedy)
{
    cdl_cuda *c = (cdl_cuda *)b;
    cdl_cu_ptr p;
    *out = NULL;
    CDL_TRY(cdl_device_alloc(&p, c->device, bytes, what, remedy));
    *out = (uint8_t *)p;
    return cdl_stream_fill(&c->stream, p, 0, bytes);
}

static void block_free(cdl_backend *b, uint8_t *p, size_t bytes)
{
    (void)bytes;
    cdl_device_free(((cdl_cuda *)b)->device, (cdl_cu_ptr)p);
}

/* A device that died says so in the next run. */
static void copy(cdl_backend *b, uint8_t *dst, const uint8_t *src, size_t n)
{
    if (cdl_stream_copy_within(&((cdl_cuda *)b)->stream, (cdl_cu_ptr)dst, (cdl_cu_ptr)src, n) != CUDDLE_OK)
        return;
}

static size_t page_bytes(cdl_dtype t, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim)
{
    return cdl_cuda_page_bytes(cdl_cuda_state_of(t), kv_heads, cdl_cuda_padded(key_dim), cdl_cuda_padded(value_dim));
}

/* ---- Weights ---- */

static cuddle_status stage(cdl_backend *b, uint8_t **out)
{
    cdl_cuda *c = (cdl_cuda *)b;
    if (!c->uploading) {
        CDL_TRY(cdl_stream_wait(&c->stream)); /* the block is zeroed before it is written */
        CDL_TRY(cdl_upload_open(&c->upload, c->device));
        c->uploading = true;
    }
    return cdl_upload_begin(&c->upload, out);
}

static cuddle_status send(cdl_backend *b, uint8_t *dst, size_t n)
{
    return cdl_upload_send(&((cdl_cuda *)b)->upload, (cdl_cu_ptr)dst, n);
}

static cuddle_status finish_upload(cdl_cuda *c)
{
    cuddle_status st = c->uploading ? cdl_upload_finish(&c->upload) : CUDDLE_OK;
    if (c->uploading)
        cdl_upload_close(&c->upload);
    c->uploading = false;
    return st;
}

/* ---- Rows of a step ---- */

/* The next n bytes of a block at *at, 16-byte aligned; NULL of none. */
static void *carve(uint8_t *block, size_t *at, size_t n)
{
    void *p = block ? block + *at : NULL;
    *at += (n + 15) / 16 * 16;
    return p;
}

static uint32_t tiles_max(const cdl_backend_sizes *s)
{
    return s->rows / CDL_CUDA_FLASH_ROWS + s->spans + 1;
}

/* Lays the block out; returns its bytes, and those before the pages. block may be NULL. */
static size_t lay_out(cdl_cuda_rows_block *r, uint8_t *block, const cdl_backend_sizes *s, size_t *before_pages)
{
    size_t at = 0, n = s->rows * sizeof(int32_t);
    for (int i = 0; i < CDL_INPUT_COUNT; i++)
        r->input[i] = carve(block, &at, n);
    r->slots = carve(block, &at, n);
    r->tables = carve(block, &at, n);
    r->ends = carve(block, &at, n);
    r->tiles = carve(block, &at, tiles_max(s) * 2 * sizeof(int32_t));
    r->use_long = carve(block, &at, s->rows);
    *before_pages = at;
    r->pages = carve(block, &at, CDL_STATE_GROUPS * ((size_t)s->spans * s->table_pages + 1) * sizeof(int32_t));
    return at;
}

static cuddle_status start(cdl_backend *b, const cdl_backend_sizes *sizes)
{
    cdl_cuda *c = (cdl_cuda *)b;
    c->sizes = *sizes;
    c->group_pages = sizes->spans * sizes->table_pages + 1;
    c->result_bytes = (size_t)sizes->out_rows * sizes->vocab * sizeof(float);
    CDL_TRY(finish_upload(c));
    CDL_TRY(cdl_event_open(&c->read, c->device, false));
    size_t bytes = lay_out(&c->host, NULL, sizes, &c->rows_bytes);
    CDL_TRY(cdl_device_pinned((void **)&c->host_block, c->device, bytes));
    CDL_TRY(cdl_device_alloc(&c->gpu_block, c->device, bytes, "the rows of a step", "use fewer sequences"));
    lay_out(&c->host, c->host_block, sizes, &c->rows_bytes);
    lay_out(&c->gpu, (uint8_t *)c->gpu_block, sizes, &c->rows_bytes);
    memset(c->host_block, 0, bytes);
    memset(c->host.pages, 0xff, (size_t)CDL_STATE_GROUPS * c->group_pages * sizeof *c->host.pages);
    CDL_TRY(cdl_stream_copy_up(&c->stream, c->gpu_block, c->host_block, bytes));
    return c->result_bytes ? cdl_device_pinned((void **)&c->result, c->device, c->result_bytes) : CUDDLE_OK;
}

/* Until the last step's copy is done, its rows must stay as they are. */
static cuddle_status wait_for_reader(cdl_cuda *c)
{
    if (!c->reading)
        return CUDDLE_OK;
    c->reading = false;
    return cdl_event_wait(&c->read);
}

static int32_t *input(cdl_backend *b, cdl_input which, void **device)
{
    cdl_cuda *c = (cdl_cuda *)b;
    cuddle_status st = wait_for_reader(c);
    (void)st; /* the next run says why */
    *device = c->gpu.input[which];
    return c->host.input[which];
}

static void add_tiles(cdl_cuda *c, uint32_t row, uint32_t end)
{
    for (; row < end; row += CDL_CUDA_FLASH_ROWS) {
        uint32_t n = end - row < CDL_CUDA_FLASH_ROWS ? end - row : CDL_CUDA_FLASH_ROWS;
        c->host.tiles[2 * c->n_tiles] = (int32_t)row;
        c->host.tiles[2 * c->n_tiles++ + 1] = (int32_t)n;
    }
}

/* Of attention, for a row at a slot. */
static uint32_t splits_of(uint32_t slot)
{
    return cdl_cuda_splits(slot / CDL_CUDA_PAGE_TOKENS + 1);
}

/* Rows of one span, whose pages begin at `table`. */
static void add_span(cdl_cuda *c, const cdl_step *step, const cdl_span *s, uint32_t table)
{
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t row = s->row + i, slot = s->first + i;
        c->host.slots[row] = (int32_t)slot;
        c->host.tables[row] = (int32_t)table;
        c->host.ends[row] = (int32_t)(s->first + s->n);
        c->host.use_long[row] = c->sizes.long_from && s->length > c->sizes.long_from;
        if (row < step->rows_generated && splits_of(slot) > c->splits)
            c->splits = splits_of(slot);
    }
    uint32_t prompt = s->row > step->rows_generated ? s->row : step->rows_generated;
    add_tiles(c, prompt, s->row + s->n);
}

/* Rows that fill a graph: see cuda_capture.c. */
static void add_spare_rows(cdl_cuda *c, uint32_t first, uint32_t end)
{
    for (uint32_t row = first; row < end; row++) {
        c->host.input[CDL_INPUT_IDS][row] = c->host.input[CDL_INPUT_POSITIONS][row] = 0;
        c->host.input[CDL_INPUT_OUT_ROWS][row] = (int32_t)row;
        c->host.slots[row] = c->host.use_long[row] = 0;
        c->host.tables[row] = (int32_t)c->group_pages - 1;
        c->host.ends[row] = 1;
    }
}

static cuddle_status upload_rows(cdl_cuda *c, const cdl_step *step, uint32_t spare)
{
    uint32_t table = 0;
    CDL_TRY(wait_for_reader(c));
    c->n_tiles = c->splits = 0;
    for (uint32_t i = 0; i < step->n_spans; i++) {
        const cdl_span *s = &step->spans[i];
        uint32_t pages = cdl_ceil_div(s->first + s->n, CDL_PAGE_TOKENS);
        add_span(c, step, s, table);
        for (uint32_t g = 0; g < CDL_STATE_GROUPS && s->pages[g]; g++)
            memcpy(c->host.pages + g * c->group_pages + table, s->pages[g], pages * sizeof *c->host.pages);
        table += pages;
    }
    add_spare_rows(c, step->rows, step->rows + spare);
    CDL_TRY(cdl_stream_copy_up(&c->stream, c->gpu_block, c->host_block, c->rows_bytes));
    for (uint32_t g = 0; g < CDL_STATE_GROUPS && step->n_spans && step->spans[0].pages[g]; g++)
        CDL_TRY(cdl_stream_copy_up(&c->stream, (cdl_cu_ptr)(c->gpu.pages + g * c->group_pages),
                c->host.pages + g * c->group_pages, table * sizeof *c->host.pages));
    c->reading = true;
    return cdl_event_record(&c->read, &c->stream);
}

/* ---- A step ---- */

/* Launches have read their arguments when they return; 0 waits for the work itself. */
static void settle(cdl_backend *b, uint32_t steps)
{
    if (!steps && cdl_stream_wait(&((cdl_cuda *)b)->stream) != CUDDLE_OK)
        return; /* the next run says why */
}

/* The graph that does the whole step; NULL when it has prompt rows, or rows without logits. */
static const cdl_cuda_capture *graph_of(const cdl_cuda *c, const cdl_step *s)
{
    uint32_t splits = 1;
    if (s->rows != s->rows_generated || s->rows != s->out_rows || s->rows != s->n_spans)
        return NULL;
    for (uint32_t i = 0; i < s->n_spans; i++)
        if (splits_of(s->spans[i].first) > splits)
            splits = splits_of(s->spans[i].first);
    return cdl_cuda_capture_find(c, s->rows, splits);
}

static cuddle_status run(cdl_backend *b, uint32_t slot, const cdl_call *calls, uint32_t first, uint32_t n)
{
    cdl_cuda *c = (cdl_cuda *)b;
    const cdl_step *step = calls[0].step;
    bool together = n == c->n_nodes;
    const cdl_cuda_capture *graph = together ? graph_of(c, step) : NULL;
    (void)slot;
    if (first == 0)
        CDL_TRY(upload_rows(c, step, graph ? graph->rows - step->rows : 0));
    if (graph) {
        c->launches += graph->launches;
        c->graph_launches++;
        return cdl_capture_launch(&graph->graph, &c->stream);
    }
    for (uint32_t i = first; i < first + n; i++)
        CDL_TRY(cdl_cuda_launch(c, calls, i, together));
    return CUDDLE_OK;
}

/* n elements from column col of a row on, into `result`. */
static cuddle_status fetch_part(cdl_cuda *c, const cdl_view *v, uint32_t row, uint32_t col, size_t n)
{
    size_t element = cdl_dtype_get(v->dtype)->bytes;
    const uint8_t *from = (const uint8_t *)v->data + ((size_t)row * v->stride + col) * element;
    CDL_TRY(cdl_stream_copy_down(&c->stream, c->result, (cdl_cu_ptr)from, n * element));
    return cdl_stream_wait(&c->stream);
}

static cuddle_status open_clock(cdl_cuda *c)
{
    if (!c->from.handle)
        CDL_TRY(cdl_event_open(&c->from, c->device, true));
    return c->to.handle ? CUDDLE_OK : cdl_event_open(&c->to, c->device, true);
}

/* The rows of a step travel before the first event. */
static cuddle_status time_calls(cdl_backend *b, const cdl_call *calls, uint32_t first, uint32_t n, double *seconds)
{
    cdl_cuda *c = (cdl_cuda *)b;
    float ms;
    CDL_TRY(open_clock(c));
    if (first == 0)
        CDL_TRY(upload_rows(c, calls[0].step, 0));
    CDL_TRY(cdl_event_record(&c->from, &c->stream));
    for (uint32_t i = first; i < first + n; i++)
        CDL_TRY(cdl_cuda_launch(c, calls, i, n == c->n_nodes));
    CDL_TRY(cdl_event_record(&c->to, &c->stream));
    CDL_TRY(cdl_stream_wait(&c->stream));
    CDL_TRY(cdl_event_ms(&ms, &c->from, &c->to));
    *seconds = (double)ms * 1e-3;
    return CUDDLE_OK;
}

/* Any node's output, a piece of a row at a time. */
static cuddle_status fetch_watched(cdl_cuda *c, const cdl_view *v, cdl_view *out)
{
    size_t n = (size_t)v->rows * v->cols, most = c->result_bytes / cdl_dtype_get(v->dtype)->bytes;
    if (n > c->watched_n) {
        cdl_mem_free(c->watched);
        c->watched = cdl_mem_array(n, sizeof *c->watched);
        c->watched_n = c->watched ? n : 0;
        if (!c->watched)
            return cdl_status_nomem("a node's output");
    }
    for (uint32_t r = 0; r < v->rows; r++) {
        for (uint32_t col = 0; col < v->cols; col += (uint32_t)most) {
            uint32_t k = v->cols - col < most ? v->cols - col : (uint32_t)most;
            CDL_TRY(fetch_part(c, v, r, col, k));
            cdl_dtype_to_f32(c->watched + (size_t)r * v->cols + col, v->dtype, c->result, k);
        }
    }
    *out = (cdl_view){ .data = c->watched, .dtype = CDL_DTYPE_F32, .rows = v->rows, .cols = v->cols,
                       .stride = v->cols };
    return CUDDLE_OK;
}

static cuddle_status fetch(cdl_backend *b, const cdl_view *v, cdl_view *out)
{
    cdl_cuda *c = (cdl_cuda *)b;
    size_t bytes = (size_t)v->rows * v->cols * sizeof(float);
    if (v->dtype != CDL_DTYPE_F32 || v->stride != v->cols || bytes > c->result_bytes)
        return fetch_watched(c, v, out);
    CDL_TRY(cdl_stream_copy_down(&c->stream, c->result, (cdl_cu_ptr)v->data, bytes));
    *out = *v;
    out->data = c->result;
    return cdl_stream_wait(&c->stream);
}

/* ---- Open and close ---- */

/* With CUDDLE_SYNC every kernel is waited for, which a graph's cannot be. */
static cuddle_status prepare(cdl_backend *b, const cdl_call *calls, uint32_t n)
{
    cdl_cuda *c = (cdl_cuda *)b;
    CDL_TRY(cdl_cuda_prepare(b, calls, n));
    CDL_TRY(cdl_cuda_pick_open(c));
    return c->stream.sync ? CUDDLE_OK : cdl_cuda_capture_all(c, calls);
}

static void release(cdl_backend *b)
{
    cdl_cuda *c = (cdl_cuda *)b;
    if (c->uploading)
        cdl_upload_close(&c->upload);
    cdl_cuda_capture_free(c);
    cdl_cuda_pick_close(c);
    cdl_device_pinned_free(c->device, c->host_block);
    cdl_device_pinned_free(c->device, c->result);
    cdl_event_close(&c->read);
    cdl_device_free(c->device, c->gpu_block);
    cdl_device_free(c->device, c->counters);
    cdl_event_close(&c->from);
    cdl_event_close(&c->to);
    cdl_device_free(c->device, c->filled_q);
    cdl_cublaslt_close(c->cublaslt);
    cdl_stream_close(&c->stream);
    cdl_device_close(c->device);
    cdl_mem_free(c->nodes);
    cdl_mem_free(c->watched);
    cdl_mem_free(c);
}

cuddle_status cdl_backend_cuda(cdl_backend **out, uint32_t index, cdl_dtype activation, bool fast)
{
    cdl_cuda *c = cdl_mem_zalloc(1, sizeof *c);
    if (!c)
        return cdl_status_nomem("the GPU's backend");
    cuddle_status st = cdl_device_open(&c->device, index);
    if (st == CUDDLE_OK)
        st = cdl_stream_open(&c->stream, c->device);
    if (st == CUDDLE_OK && fast)
        st = cdl_cublaslt_open(&c->cublaslt, c->device);
    if (st != CUDDLE_OK) {
        cdl_stream_close(&c->stream);
        cdl_device_close(c->device);
        cdl_mem_free(c);
        return st;
    }
    const cdl_device_facts *f = cdl_device_get_facts(c->device);
    snprintf(c->device_name, sizeof c->device_name, "cuda:%u", index);
    snprintf(c->kernels_name, sizeof c->kernels_name, "sm_%u%u", f->major, f->minor);
    c->base = (cdl_backend){
        .device = c->device_name, .kernels = c->kernels_name, .activation = activation,
        .int4_groups = true, .thread_scratch_bytes = 64,
        .weight_bytes = cdl_cuda_weight_bytes, .page_bytes = page_bytes,
        .scratch_bytes = cdl_cuda_scratch_bytes, .check = cdl_cuda_check, .pack = cdl_cuda_pack,
        .stage = stage, .send = send, .block_new = block_new,
        .block_free = block_free, .copy = copy, .start = start, .prepare = prepare, .input = input,
        .settle = settle, .run = run, .time = time_calls, .fetch = fetch, .pick = cdl_cuda_pick, .free = release };
    *out = &c->base;
    return CUDDLE_OK;
}
