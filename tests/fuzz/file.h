/* file.h - a fuzzer's input as a file under TMPDIR, which run.sh sets to a folder that it removes. */
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* One folder a process. */
static inline const char *fuzz_folder(void)
{
    static char folder[256];
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/cuddle-fuzz-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(folder))
            abort();
    }
    return folder;
}

/* Its path; valid until the next call. */
static inline const char *fuzz_file(const char *name, const void *data, size_t n)
{
    static char path[320];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        abort();
    return path;
}

#endif
