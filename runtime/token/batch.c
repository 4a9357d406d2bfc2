/* batch.c - many texts over threads.
 *
 * Each thread has one encoding, whose memory for the work, common words included, it lends to the encoding at hand:
 * encodings keep their results only. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "token/parts.h"

struct cuddle_encode_pool {
    cdl_pool *threads;
    uint32_t n;
    cuddle_encoding **own;     /* [n] */
};

typedef struct {
    const cuddle_tokenizer *t;
    cuddle_encode_pool *pool;
    cuddle_encoding *const *e;
    const cuddle_encode_input *in;
    const cuddle_encode_opts *o;
    size_t n;
    _Atomic(size_t) next, bad;  /* the first input that failed so far, or n */
} batch;

/* ---- The pool ---- */

static cuddle_status new_own(cuddle_encoding **out)
{
    CDL_TRY(cuddle_encoding_new(out));
    (*out)->work.many = true;
    return CUDDLE_OK;
}

cuddle_status cuddle_encode_pool_new(cuddle_encode_pool **out, uint32_t threads)
{
    cuddle_encode_pool *p = cdl_mem_zalloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return cdl_status_nomem("the threads of a batch");
    p->n = threads ? threads : cdl_pool_default_threads();
    p->n = p->n < CDL_POOL_THREADS_MAX ? p->n : CDL_POOL_THREADS_MAX;
    p->own = cdl_mem_zalloc(p->n, sizeof *p->own);
    cuddle_status st = p->own ? cdl_pool_new(&p->threads, p->n, 0) : cdl_status_nomem("the threads of a batch");
    for (uint32_t i = 0; i < p->n && st == CUDDLE_OK; i++)
        st = new_own(&p->own[i]);
    if (st == CUDDLE_OK)
        *out = p;
    else
        cuddle_encode_pool_free(p);
    return st;
}

void cuddle_encode_pool_free(cuddle_encode_pool *p)
{
    if (!p)
        return;
    cdl_pool_free(p->threads);
    for (uint32_t i = 0; p->own && i < p->n; i++)
        cuddle_encoding_free(p->own[i]);
    cdl_mem_free(p->own);
    cdl_mem_free(p);
}

/* Remembers the first of the inputs that failed. */
static void fail(_Atomic(size_t) *first, size_t i)
{
    size_t bad = atomic_load(first);
    while (i < bad && !atomic_compare_exchange_weak(first, &bad, i))
        ;
}

/* ---- Encodings ---- */

static cuddle_status encode_input(const batch *b, size_t i, cdl_token_work *w)
{
    const cuddle_encode_input *in = &b->in[i];
    cuddle_encoding *e = b->e[i];
    cuddle_encode_opts o = *b->o;
    o.pair = in->pair;
    o.n_pair = in->n_pair;
    o.word_ends = in->word_ends;
    o.n_words = in->n_words;
    o.pair_word_ends = in->pair_word_ends;
    o.n_pair_words = in->n_pair_words;
    o.no_padding = true;
    o.seed += i;
    cdl_token_work own = e->work;
    e->work = *w;
    cuddle_status st = cuddle_tokenizer_encode(b->t, e, in->text, in->n, &o);
    *w = e->work;
    e->work = own;
    return st;
}

/* Inputs as they come until there are none. */
static void run_thread(const void *arg, uint32_t chunk, void *scratch)
{
    batch *b = (batch *)arg;
    (void)scratch;
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < b->n; )
        if (encode_input(b, i, &b->pool->own[chunk]->work) != CUDDLE_OK)
            fail(&b->bad, i);
}

static cuddle_status run_alone(batch *b)
{
    cdl_token_work own = { 0 }, *w = b->pool ? &b->pool->own[0]->work : &own;
    cuddle_status st = CUDDLE_OK;
    size_t i = 0;
    while (i < b->n && (st = encode_input(b, i, w)) == CUDDLE_OK)
        i++;
    cdl_work_free(&own);
    return st == CUDDLE_OK ? st : cdl_status_wrap(st, "text %zu", i);
}

cuddle_status cuddle_tokenizer_encode_batch(const cuddle_tokenizer *t, cuddle_encode_pool *pool,
        cuddle_encoding *const *e, const cuddle_encode_input *in, size_t n, const cuddle_encode_opts *opts)
{
    cuddle_encode_opts o = { 0 };
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    o.size = sizeof o;
    batch b = { .t = t, .pool = pool, .e = e, .in = in, .o = &o, .n = n, .bad = n };
    if (!pool || pool->n == 1 || n == 1) {
        CDL_TRY(run_alone(&b));
    } else {
        cdl_phase phase = { .run = run_thread, .arg = &b, .chunks = pool->n };
        cdl_pool_run(pool->threads, &phase, 1);
        cdl_pool_quiesce(pool->threads, 0);
        size_t bad = b.bad;
        if (bad < n) { /* once more here, for its message */
            cuddle_status st = encode_input(&b, bad, &pool->own[0]->work);
            return st == CUDDLE_OK ? cdl_status_nomem("a batch") : cdl_status_wrap(st, "text %zu", bad);
        }
    }
    return o.no_padding ? CUDDLE_OK : cuddle_tokenizer_pad(t, e, n);
}

/* ---- Ids alone ---- */

/* Where a text's ids are, in those of the thread that made them. */
typedef struct {
    uint32_t thread;
    size_t at, n;
} place;

typedef struct {
    int32_t *v;
    size_t n, cap;             /* cap over LIST_SMALL: in pages of its own, which need few faults when they are huge */
} id_list;

enum { LIST_SMALL = 128 << 10, LIST_STEP = 512 << 10 };

struct cuddle_ids {
    cuddle_encoding *own;      /* of the caller's thread, without a pool */
    id_list all, *part;        /* part [n_part]: of each thread          */
    uint32_t n_part;
    place *place;              /* [n]                                    */
    size_t *offset;            /* [n + 1]                                */
    size_t n, place_cap, offset_cap;
};

typedef struct {
    const cuddle_tokenizer *t;
    cuddle_encode_pool *pool;
    cuddle_ids *ids;
    const char *const *texts;
    const size_t *lengths;
    const cuddle_encode_opts *o;
    size_t bytes;
    _Atomic(size_t) next, bad;
} ids_batch;

enum { TEXTS_AT_ONCE = 8 };

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

cuddle_status cuddle_ids_new(cuddle_ids **out)
{
    cuddle_ids *x = cdl_mem_zalloc(1, sizeof *x);
    *out = NULL;
    if (!x)
        return cdl_status_nomem("the ids of texts");
    cuddle_status st = new_own(&x->own);
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
    cdl_mem_free(x->place);
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

static void encode_some(const void *arg, uint32_t chunk, void *scratch)
{
    ids_batch *b = (ids_batch *)arg;
    cuddle_ids *x = b->ids;
    id_list *to = &x->part[chunk];
    (void)scratch;
    for (size_t i; (i = atomic_fetch_add(&b->next, TEXTS_AT_ONCE)) < x->n; )
        for (size_t end = i + TEXTS_AT_ONCE < x->n ? i + TEXTS_AT_ONCE : x->n; i < end; i++) {
            size_t at = to->n;
            if (append_text(b, i, b->pool->own[chunk], to) != CUDDLE_OK)
                fail(&b->bad, i);
            x->place[i] = (place){ chunk, at, to->n - at };
        }
}

static void gather_some(const void *arg, uint32_t chunk, void *scratch)
{
    ids_batch *b = (ids_batch *)arg;
    cuddle_ids *x = b->ids;
    (void)chunk;
    (void)scratch;
    for (size_t i; (i = atomic_fetch_add(&b->next, TEXTS_AT_ONCE)) < x->n; )
        for (size_t end = i + TEXTS_AT_ONCE < x->n ? i + TEXTS_AT_ONCE : x->n; i < end; i++)
            if (x->place[i].n)
                memcpy(x->all.v + x->offset[i], x->part[x->place[i].thread].v + x->place[i].at,
                        x->place[i].n * sizeof *x->all.v);
}

/* Room for the ids of so many bytes: seldom more, and pages that are not needed are not touched. */
static cuddle_status reserve_ids(id_list *l, size_t bytes)
{
    return reserve_list(l, bytes / 4 * 3);
}

static cuddle_status ids_alone(ids_batch *b)
{
    cuddle_ids *x = b->ids;
    CDL_TRY(reserve_ids(&x->all, b->bytes));
    for (size_t i = 0; i < x->n; i++) {
        cuddle_status st = append_text(b, i, b->pool ? b->pool->own[0] : x->own, &x->all);
        if (st != CUDDLE_OK)
            return cdl_status_wrap(st, "text %zu", i);
        x->offset[i + 1] = x->all.n;
    }
    return CUDDLE_OK;
}

static cuddle_status reserve_parts(cuddle_ids *x, uint32_t threads, size_t bytes)
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
        CDL_TRY(reserve_ids(&x->part[i], bytes / threads + bytes / 8));
    }
    return cdl_work_grow(&x->place, &x->place_cap, x->n, sizeof *x->place);
}

static void run(ids_batch *b, void (*work)(const void *arg, uint32_t chunk, void *scratch))
{
    cdl_phase phase = { .run = work, .arg = b, .chunks = b->pool->n };
    b->next = 0;
    cdl_pool_run(b->pool->threads, &phase, 1);
    cdl_pool_quiesce(b->pool->threads, 0);
}

static cuddle_status ids_together(ids_batch *b)
{
    cuddle_ids *x = b->ids;
    CDL_TRY(reserve_parts(x, b->pool->n, b->bytes));
    run(b, encode_some);
    size_t bad = b->bad;
    if (bad < x->n) { /* once more here, for its message */
        cuddle_status st = append_text(b, bad, b->pool->own[0], &x->all);
        return st == CUDDLE_OK ? cdl_status_nomem("a batch") : cdl_status_wrap(st, "text %zu", bad);
    }
    for (size_t i = 0; i < x->n; i++)
        x->offset[i + 1] = x->offset[i] + x->place[i].n;
    CDL_TRY(reserve_list(&x->all, x->offset[x->n]));
    run(b, gather_some);
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
    ids_batch b = { .t = t, .pool = pool, .ids = out, .texts = texts, .lengths = lengths, .o = &o, .bad = n };
    out->all.n = 0;
    out->n = n;
    CDL_TRY(cdl_work_grow(&out->offset, &out->offset_cap, n + 1, sizeof *out->offset));
    out->offset[0] = 0;
    for (size_t i = 0; i < n; i++)
        b.bytes += lengths[i];
    return !pool || pool->n == 1 || n <= TEXTS_AT_ONCE ? ids_alone(&b) : ids_together(&b);
}
