/* batch.h - the threads of a batch, for encodings (batch.c) and for ids alone (batch_ids.c). */
#ifndef CDL_BATCH_H
#define CDL_BATCH_H

#include <stdatomic.h>

#include "base/pool.h"
#include "token/parts.h"

struct cuddle_encode_pool {
    cdl_pool *threads;
    uint32_t n;
    cuddle_encoding **own;     /* [n] */
};

/* An encoding that does the work of many. */
CUDDLE_CHECK cuddle_status cdl_batch_new_own(cuddle_encoding **out);
/* Before that, when ids are all that is asked for: what threads need of the system, so that none waits for it. */
CUDDLE_CHECK cuddle_status cdl_batch_reserve(cuddle_encode_pool *p, const cuddle_tokenizer *t);
/* Runs on each thread, and comes back when all are done. */
void cdl_batch_run(cuddle_encode_pool *p, void (*run)(const void *arg, uint32_t thread, void *scratch), void *arg);
/* Remembers the first of the inputs that failed. */
void cdl_batch_fail(_Atomic(size_t) *first, size_t i);

#endif
