/* map.h - a file mapped read-only. Tests: tests/unit/test_map.c */
#ifndef CDL_MAP_H
#define CDL_MAP_H

#include "status.h"

typedef struct {
    const uint8_t *data; /* of an empty file: not NULL, and nothing there */
    size_t size;         /* bytes                                         */
} cdl_map;

/* Errors: NOTFOUND, IO (names the path and the system's reason; a folder is refused). */
CUDDLE_CHECK cuddle_status cdl_map_open(cdl_map *out, const char *path);
void cdl_map_close(cdl_map *m);

/* The bytes [offset, offset + n) will not be needed soon: their pages leave the
 * resident set, and come back from the file when touched. */
void cdl_map_drop(const cdl_map *m, size_t offset, size_t n);

/* The whole file into memory, NUL-terminated; free with cdl_mem_free. Refuses over max bytes (FULL). */
CUDDLE_CHECK cuddle_status cdl_map_read(char **out, size_t *len, const char *path, size_t max);

#endif
