/* safetensors_write.h - a safetensors file made in place: the names and shapes first, then the tensors
 * where the items' data point to (base/outfile.h). Tests: tests/unit/test_safetensors.c */
#ifndef CDL_SAFETENSORS_WRITE_H
#define CDL_SAFETENSORS_WRITE_H

#include "base/outfile.h"
#include "format/dtype.h"

enum { CDL_SAFETENSORS_DIMS = 4 };

typedef struct {
    const char *name;
    cdl_dtype dtype;
    uint32_t ndim;
    uint64_t dim[CDL_SAFETENSORS_DIMS]; /* outermost first                    */
    void *data;                         /* out: where its elements go, zeroed */
} cdl_safetensors_item;

typedef struct {
    cdl_outfile file;
} cdl_safetensors_writer;

/* Errors: IO (names the path), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_safetensors_create(cdl_safetensors_writer *out, const char *path,
        cdl_safetensors_item *items, size_t n);
/* Complete: the file gets its name. */
CUDDLE_CHECK cuddle_status cdl_safetensors_finish(cdl_safetensors_writer *w);
/* Drops an unfinished file; nothing after finish. */
void cdl_safetensors_abandon(cdl_safetensors_writer *w);

#endif
