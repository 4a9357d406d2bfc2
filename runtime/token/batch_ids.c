/* batch_ids.c - ids of many texts and nothing else, one behind the other, over threads.
 *
 * Threads take blocks of texts in order and make their ids in memory of their own. Where the ids of a block go is known
 * once all blocks in front of it are made; then the thread that made it, which has it in its cache, puts them there. */
#include <string.h>

#include "base/mem.h"
#include "token/batch.h"

typedef struct {
    int32_t *v;
    size_t n, cap;             /* cap over LIST_SMALL: in pages of its own, which need few faults when they are huge */
} id_list;

enum { LIST_SMALL = 128 << 10, LIST_STEP = 512 << 10, BLOCK_BYTES = 32 << 10, BLOCK_TEXTS = 256 };

/* Texts next to each other. */
typedef struct {
    size_t first, end;
    size_t n, from, to;        /* ids; where they are in the thread's list, and in all  */
    size_t behind;             /* the one that the same thread made next                */
    uint32_t thread;
    bool put;
    _Atomic(bool) made;
} block;

struct cuddle_ids {
    cuddle_encoding *own;      /* of the caller's thread, without a pool                */
    id_list all, *part;        /* part [n_part]: of each thread, what has no place yet  */
    uint32_t n_part;
    block *block;
    size_t *offset;            /* [n + 1]; of a block that is not put: within it        */
    size_t n, block_cap, offset_cap;
};

typedef struct {
    const cuddle_tokenizer *t;
    cuddle_encode_pool *pool;
    cuddle_ids *ids;
    const char *const *texts;
    const size_t *lengths;
    const cuddle_encode_opts *o;
    size_t bytes, blocks;
    _Atomic(size_t) next, bad;
    atomic_flag placing;       /* a thread gives places to blocks, and has:             */
    size_t known_ids;          /* the next place                                        */
    _Atomic(size_t) known;     /* how many blocks' places are known                     */
    atomic_flag asking;        /* a thread asks the system for the pages behind:        */
    _Atomic(size_t) there;     /* how many ids there are pages for                      */
} ids_batch;

static void free_list(id_list *l)
{
    if (l->cap > LIST_SMALL)
        cdl_mem_pages_free(l->v, l->cap * sizeof *l->v);
    else
        cdl_mem_free(l->v);
}

static cuddle_status reserve_list(id_list *l, size_t n)
{
    if (n <= l->cap)
        return CUDDLE_OK;
    id_list more = { .n = l->n, .cap = n > 2 * l->cap ? n : 2 * l->cap };
    more.cap = more.cap > LIST_SMALL ? (more.cap + LIST_STEP - 1) / LIST_STEP * LIST_STEP : more.cap;
    more.v = more.cap > LIST_SMALL ? cdl_mem_pages(more.cap * sizeof *more.v) : cdl_mem_array(more.cap, sizeof *more.v);
    if (!more.v)
        return cdl_status_nomem("the ids of texts");
    if (l->n)
        memcpy(more.v, l->v, l->n * sizeof *l->v);
    free_list(l);
    *l = more;
    return CUDDLE_OK;
}

/* Room for the ids of so many bytes: seldom more, and pages that are not needed are not touched. Most often they are
 * one for four bytes, and end little behind that. */
static cuddle_status reserve_ids(id_list *l, size_t bytes)
{
    size_t cap = l->cap, end = (bytes / 4 + LIST_STEP / 2) / LIST_STEP * LIST_STEP;
    CDL_TRY(reserve_list(l, bytes / 4 * 3));
    end = end ? end : LIST_STEP;
    if (l->cap > cap && l->cap > LIST_SMALL && end + LIST_STEP <= l->cap)
        cdl_mem_small(l->v + end, LIST_STEP * sizeof *l->v);
    return CUDDLE_OK;
}

cuddle_status cuddle_ids_new(cuddle_ids **out)
{
    cuddle_ids *x = cdl_mem_zalloc(1, sizeof *x);
    *out = NULL;
    if (!x)
        return cdl_status_nomem("the ids of texts");
    cuddle_status st = cdl_batch_new_own(&x->own);
    if (st == CUDDLE_OK)
        *out = x;
    else
        cuddle_ids_free(x);
    return st;
}

void cuddle_ids_free(cuddle_ids *x)
{
    if (!x)
        return;
    cuddle_encoding_free(x->own);
    for (uint32_t i = 0; i < x->n_part; i++)
        free_list(&x->part[i]);
    cdl_mem_free(x->part);
    free_list(&x->all);
    cdl_mem_free(x->block);
    cdl_mem_free(x->offset);
    cdl_mem_free(x);
}

void cuddle_ids_look(const cuddle_ids *x, const int32_t **ids, const size_t **offsets)
{
    *ids = x->all.v;
    *offsets = x->offset;
}

/* Appends the ids of text i. */
static cuddle_status append_text(const ids_batch *b, size_t i, cuddle_encoding *e, id_list *to)
{
    cuddle_encode_opts o = *b->o;
    o.seed += i;
    CDL_TRY(cuddle_tokenizer_encode(b->t, e, b->texts[i], b->lengths[i], &o));
    CDL_TRY(reserve_list(to, to->n + e->n));
    if (e->n)
        memcpy(to->v + to->n, e->ids, e->n * sizeof *e->ids);
    to->n += e->n;
    return CUDDLE_OK;
}

static cuddle_status ids_alone(ids_batch *b)
{
    cuddle_ids *x = b->ids;
    for (size_t i = 0; i < x->n; i++) {
        cuddle_status st = append_text(b, i, b->pool ? b->pool->own[0] : x->own, &x->all);
        if (st != CUDDLE_OK)
            return cdl_status_wrap(st, "text %zu", i);
        x->offset[i + 1] = x->all.n;
    }
    return CUDDLE_OK;
}

/* ---- Blocks ---- */

static cuddle_status cut_blocks(ids_batch *b)
{
    cuddle_ids *x = b->ids;
    for (size_t i = 0; i < x->n; b->blocks++) {
        CDL_TRY(cdl_work_grow(&x->block, &x->block_cap, b->blocks + 1, sizeof *x->block));
        size_t first = i, bytes = 0;
        do
            bytes += b->lengths[i++];
        while (i < x->n && i - first < BLOCK_TEXTS && bytes + b->lengths[i] <= BLOCK_BYTES);
        x->block[b->blocks] = (block){ .first = first, .end = i };
    }
    return CUDDLE_OK;
}

static void make_block(ids_batch *b, block *k, uint32_t thread)
{
    cuddle_ids *x = b->ids;
    id_list *to = &x->part[thread];
    k->thread = thread;
    k->from = to->n;
    for (size_t i = k->first; i < k->end; i++) {
        if (append_text(b, i, b->pool->own[thread], to) != CUDDLE_OK)
            cdl_batch_fail(&b->bad, i);
        x->offset[i + 1] = to->n - k->from;
    }
    k->n = to->n - k->from;
}

/* Tells that a block is made; how many blocks' places are known. Nobody waits: who comes while another gives places
 * leaves it to that one, which looks again when it is done. */
static size_t tell_made(ids_batch *b, block *made)
{
    block *all = b->ids->block;
    size_t known = 0;
    atomic_store(&made->made, true);
    while (!atomic_flag_test_and_set(&b->placing)) {
        for (known = atomic_load(&b->known); known < b->blocks && atomic_load(&all[known].made); known++) {
            all[known].to = b->known_ids;
            b->known_ids += all[known].n;
        }
        atomic_store(&b->known, known);
        atomic_flag_clear(&b->placing);
        if (known == b->blocks || !atomic_load(&all[known].made))
            break;
    }
    return atomic_load(&b->known);
}

/* Whether the first n ids have pages. The system clears a page for each thread that asks for it: one does, and others
 * put their ids there later. */
static bool has_pages(ids_batch *b, size_t n)
{
    const id_list *l = &b->ids->all;
    size_t there = atomic_load(&b->there);
    if (n > l->cap || (n > there && atomic_flag_test_and_set(&b->asking)))
        return false;
    if (n <= there)
        return true;
    for (there = atomic_load(&b->there); there < n; there += LIST_STEP)
        l->v[there] = 0;
    atomic_store(&b->there, there);
    atomic_flag_clear(&b->asking);
    return true;
}

static void put_block(cuddle_ids *x, block *k)
{
    if (k->n)
        memcpy(x->all.v + k->to, x->part[k->thread].v + k->from, k->n * sizeof *x->all.v);
    for (size_t i = k->first; i < k->end; i++)
        x->offset[i + 1] += k->to;
    k->put = true;
}

static void encode_some(const void *arg, uint32_t thread, void *scratch)
{
    ids_batch *b = (ids_batch *)arg;
    cuddle_ids *x = b->ids;
    block *all = x->block;
    size_t oldest = SIZE_MAX, newest = SIZE_MAX; /* of those that are made and not put */
    (void)scratch;
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < b->blocks; ) {
        make_block(b, &all[i], thread);
        all[i].behind = SIZE_MAX;
        if (oldest == SIZE_MAX)
            oldest = i;
        else
            all[newest].behind = i;
        newest = i;
        size_t known = tell_made(b, &all[i]);
        for (; oldest < known && has_pages(b, all[oldest].to + all[oldest].n); oldest = all[oldest].behind)
            put_block(x, &all[oldest]);
        if (oldest == SIZE_MAX)
            x->part[thread].n = 0;
    }
}

static cuddle_status reserve_parts(cuddle_ids *x, uint32_t threads)
{
    if (x->n_part < threads) {
        id_list *part = cdl_mem_realloc(x->part, threads * sizeof *part);
        if (!part)
            return cdl_status_nomem("the ids of texts");
        memset(part + x->n_part, 0, (threads - x->n_part) * sizeof *part);
        x->part = part;
        x->n_part = threads;
    }
    for (uint32_t i = 0; i < x->n_part; i++) {
        x->part[i].n = 0;
        CDL_TRY(reserve_ids(&x->part[i], BLOCK_BYTES));
    }
    return CUDDLE_OK;
}

static cuddle_status ids_together(ids_batch *b)
{
    cuddle_ids *x = b->ids;
    CDL_TRY(cut_blocks(b));
    CDL_TRY(reserve_parts(x, b->pool->n));
    CDL_TRY(cdl_batch_reserve(b->pool, b->t));
    cdl_batch_run(b->pool, encode_some, b);
    size_t bad = b->bad, cap = x->all.cap;
    if (bad < x->n) { /* once more here, for its message */
        cuddle_status st = append_text(b, bad, b->pool->own[0], &x->all);
        return st == CUDDLE_OK ? cdl_status_nomem("a batch") : cdl_status_wrap(st, "text %zu", bad);
    }
    x->all.n = b->known_ids < cap ? b->known_ids : cap;
    CDL_TRY(reserve_list(&x->all, b->known_ids));
    x->all.n = b->known_ids;
    for (size_t i = 0; i < b->blocks; i++) /* those that waited for others, or for more room */
        if (!x->block[i].put)
            put_block(x, &x->block[i]);
    return CUDDLE_OK;
}

cuddle_status cuddle_tokenizer_encode_ids(const cuddle_tokenizer *t, cuddle_encode_pool *pool, cuddle_ids *out,
        const char *const *texts, const size_t *lengths, size_t n, const cuddle_encode_opts *opts)
{
    cuddle_encode_opts o = { 0 };
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    if (o.pair || o.word_ends)
        return cdl_status_fail(CUDDLE_ERR_ARG,
                "ids of many texts: pairs and words go to cuddle_tokenizer_encode_batch");
    o.size = sizeof o;
    o.ids_only = o.no_padding = true;
    ids_batch b = { .t = t, .pool = pool, .ids = out, .texts = texts, .lengths = lengths, .o = &o, .bad = n,
        .placing = ATOMIC_FLAG_INIT, .asking = ATOMIC_FLAG_INIT };
    out->all.n = 0;
    out->n = n;
    CDL_TRY(cdl_work_grow(&out->offset, &out->offset_cap, n + 1, sizeof *out->offset));
    out->offset[0] = 0;
    for (size_t i = 0; i < n; i++)
        b.bytes += lengths[i];
    CDL_TRY(reserve_ids(&out->all, b.bytes));
    return !pool || pool->n == 1 || b.bytes <= BLOCK_BYTES || n == 1 ? ids_alone(&b) : ids_together(&b);
}
