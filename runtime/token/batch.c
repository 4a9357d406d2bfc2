/* batch.c - many texts over threads.
 *
 * Each thread has one memory for the work of encoding, common words included, which it lends to the
 * encoding at hand: encodings keep their results only. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "token/parts.h"

struct cuddle_encode_pool {
    cdl_pool *threads;
    uint32_t n;
    cdl_token_work *work;      /* [n] */
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

cuddle_status cuddle_encode_pool_new(cuddle_encode_pool **out, uint32_t threads)
{
    cuddle_encode_pool *p = cdl_mem_zalloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return cdl_status_nomem("the threads of a batch");
    p->n = threads ? threads : cdl_pool_default_threads();
    p->n = p->n < CDL_POOL_THREADS_MAX ? p->n : CDL_POOL_THREADS_MAX;
    p->work = cdl_mem_zalloc(p->n, sizeof *p->work);
    cuddle_status st = p->work ? cdl_pool_new(&p->threads, p->n, 0)
                               : cdl_status_nomem("the threads of a batch");
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
    for (uint32_t i = 0; p->work && i < p->n; i++)
        cdl_work_free(&p->work[i]);
    cdl_mem_free(p->work);
    cdl_mem_free(p);
}

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
    cdl_token_work *w = &b->pool->work[chunk];
    (void)scratch;
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < b->n; ) {
        if (encode_input(b, i, w) == CUDDLE_OK)
            continue;
        size_t bad = atomic_load(&b->bad);
        while (i < bad && !atomic_compare_exchange_weak(&b->bad, &bad, i))
            ;
    }
}

static cuddle_status run_alone(batch *b)
{
    cdl_token_work w = { 0 };
    cuddle_status st = CUDDLE_OK;
    size_t i = 0;
    while (i < b->n && (st = encode_input(b, i, &w)) == CUDDLE_OK)
        i++;
    cdl_work_free(&w);
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
            cuddle_status st = encode_input(&b, bad, &pool->work[0]);
            return st == CUDDLE_OK ? cdl_status_nomem("a batch") : cdl_status_wrap(st, "text %zu", bad);
        }
    }
    return o.no_padding ? CUDDLE_OK : cuddle_tokenizer_pad(t, e, n);
}
