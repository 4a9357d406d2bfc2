/* batch.c - encodings of many texts over threads.
 *
 * Each thread has one encoding, whose memory for the work, common words included, it lends to the encoding at hand:
 * encodings keep their results only. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "token/batch.h"
#include "token/words.h"

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

cuddle_status cdl_batch_new_own(cuddle_encoding **out)
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
        st = cdl_batch_new_own(&p->own[i]);
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

void cdl_batch_fail(_Atomic(size_t) *first, size_t i)
{
    size_t bad = atomic_load(first);
    while (i < bad && !atomic_compare_exchange_weak(first, &bad, i))
        ;
}

cuddle_status cdl_batch_reserve(cuddle_encode_pool *p, const cuddle_tokenizer *t)
{
    for (uint32_t i = 0; i < p->n; i++)
        CDL_TRY(cdl_words_reserve(t, &p->own[i]->work));
    return CUDDLE_OK;
}

void cdl_batch_run(cuddle_encode_pool *p, void (*run)(const void *arg, uint32_t thread, void *scratch), void *arg)
{
    cdl_phase phase = { .run = run, .arg = arg, .chunks = p->n };
    cdl_pool_run(p->threads, &phase, 1);
    cdl_pool_quiesce(p->threads, 0);
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
            cdl_batch_fail(&b->bad, i);
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
        CDL_TRY(o.ids_only ? cdl_batch_reserve(pool, t) : CUDDLE_OK);
        cdl_batch_run(pool, run_thread, &b);
        size_t bad = b.bad;
        if (bad < n) { /* once more here, for its message */
            cuddle_status st = encode_input(&b, bad, &pool->own[0]->work);
            return st == CUDDLE_OK ? cdl_status_nomem("a batch") : cdl_status_wrap(st, "text %zu", bad);
        }
    }
    return o.no_padding ? CUDDLE_OK : cuddle_tokenizer_pad(t, e, n);
}
