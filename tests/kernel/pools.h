/* pools.h - pools for a program's tests. Include after cmocka.h. */
#ifndef POOLS_H
#define POOLS_H

#include "kernel.h"

static cdl_pool *pools[2]; /* of 1 and 2 threads */

static inline int set_up(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        pools[i] = kernel_pool(kernel_set(0), i + 1);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    cdl_pool_free(pools[0]);
    cdl_pool_free(pools[1]);
    return 0;
}

#endif
