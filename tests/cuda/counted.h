/* counted.h - what the CUDA driver makes, counted: counted_open (a group's setup) replaces the driver's table by
 * functions that count and pass on. */
#ifndef TEST_COUNTED_H
#define TEST_COUNTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "device/cuda_driver.h"

static cdl_cu counted_real;

#define COUNTED(X)                                                                                                   \
    X(mem_alloc, (cdl_cu_ptr *out, size_t bytes), (out, bytes))                                                       \
    X(host_alloc, (void **out, size_t bytes, unsigned flags), (out, bytes, flags))                                    \
    X(stream_create, (cdl_cu_stream *out, unsigned flags), (out, flags))                                              \
    X(event_create, (cdl_cu_event *out, unsigned flags), (out, flags))                                                \
    X(module_load, (cdl_cu_module *out, const void *image, unsigned n, int *options, void **values),                  \
            (out, image, n, options, values))                                                                         \
    X(graph_instantiate, (cdl_cu_graph_exec *out, cdl_cu_graph g, uint64_t flags), (out, g, flags))                   \
    X(capture_begin, (cdl_cu_stream s, int mode), (s, mode))                                                          \
    X(function_set, (cdl_cu_function f, int attribute, int value), (f, attribute, value))

static struct {
#define X(field, parameters, arguments) unsigned field;
    COUNTED(X)
#undef X
} counted;

#define X(field, parameters, arguments) \
    static int count_##field parameters \
    {                                   \
        counted.field++;                   \
        return counted_real.field arguments;    \
    }
COUNTED(X)
#undef X

static inline int counted_open(void **state)
{
    (void)state;
    const cdl_cu *cu;
    if (cdl_cu_open(&cu) != CUDDLE_OK) {
        fprintf(stderr, "%s\n", cuddle_errmsg());
        return -1;
    }
    counted_real = *cu;
#define X(field, parameters, arguments) ((cdl_cu *)cu)->field = count_##field;
    COUNTED(X)
#undef X
    return 0;
}

static inline void counted_begin(void)
{
    memset(&counted, 0, sizeof counted);
}

/* Nothing was made since counted_begin. */
static inline void counted_none(void)
{
#define X(field, parameters, arguments)                                  \
    if (counted.field)                                                   \
        fail_msg("%u calls of " #field " after the engine was open", counted.field);
    COUNTED(X)
#undef X
}

#endif
