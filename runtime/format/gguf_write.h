/* gguf_write.h - a GGUF 3 file: metadata first, then the tensors' list, then their bytes where the
 * items' data point to (base/outfile.h).
 *
 * Use: zero the writer, put metadata, create, fill the items, finish (or abandon). A put that fails
 * sticks: create reports it.   Tests: tests/unit/test_gguf.c */
#ifndef CDL_GGUF_WRITE_H
#define CDL_GGUF_WRITE_H

#include "base/buf.h"
#include "base/outfile.h"
#include "format/dtype.h"
#include "format/gguf.h"

enum { CDL_GGUF_DIMS = 4 };

typedef struct {
    const char *name;                /* GGUF's; borrowed                    */
    cdl_dtype dtype;
    uint32_t ndim;
    uint64_t dim[CDL_GGUF_DIMS];     /* outermost first, as everywhere here */
    size_t bytes;                    /* out                                 */
    uint8_t *data;                   /* out: where its bytes go, zeroed     */
} cdl_gguf_item;

typedef struct {
    cdl_buf meta;
    uint64_t pairs;
    cuddle_status status;
    cdl_outfile file;
} cdl_gguf_writer;

void cdl_gguf_put_u32(cdl_gguf_writer *w, const char *key, uint32_t v);
void cdl_gguf_put_f32(cdl_gguf_writer *w, const char *key, float v);
void cdl_gguf_put_bool(cdl_gguf_writer *w, const char *key, bool v);
void cdl_gguf_put_string(cdl_gguf_writer *w, const char *key, const char *s, size_t n);
/* A value as it stands in a file: n bytes behind its type. */
void cdl_gguf_put_raw(cdl_gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n);
/* count items of a fixed size in n bytes; of strings: items NULL, then count calls of item_string. */
void cdl_gguf_put_array(cdl_gguf_writer *w, const char *key, cdl_gguf_type type, uint64_t count,
        const void *items, size_t n);
void cdl_gguf_item_string(cdl_gguf_writer *w, const char *s, size_t n);

/* Errors: what a put met; IO (names the path); ARG (a tensor has no whole blocks or is too large); NOMEM. */
CUDDLE_CHECK cuddle_status cdl_gguf_create(cdl_gguf_writer *w, const char *path, cdl_gguf_item *items, size_t n);
CUDDLE_CHECK cuddle_status cdl_gguf_finish(cdl_gguf_writer *w);
/* Frees what is left, the unfinished file too. Fine after finish. */
void cdl_gguf_abandon(cdl_gguf_writer *w);

#endif
