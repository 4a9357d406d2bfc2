/* outfile.h - a new file of known size, filled through a shared mapping, so that a result larger than
 * memory can be written where it is computed. It appears under its name when it is complete.
 * Tests: tests/unit/test_gguf.c, tests/unit/test_convert.c */
#ifndef CDL_OUTFILE_H
#define CDL_OUTFILE_H

#include "status.h"

typedef struct {
    char *path, *temporary;
    uint8_t *data;             /* the mapping, zeroed at first */
    size_t size;
} cdl_outfile;

/* size >= 1. Errors: IO (names the path), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_outfile_create(cdl_outfile *out, const char *path, size_t size);
/* The bytes [offset, offset + n) are final: their pages leave the resident set. */
void cdl_outfile_drop(const cdl_outfile *o, size_t offset, size_t n);
/* Complete: the file gets its name. */
CUDDLE_CHECK cuddle_status cdl_outfile_finish(cdl_outfile *o);
/* Drops an unfinished file; nothing after finish. */
void cdl_outfile_abandon(cdl_outfile *o);

#endif
