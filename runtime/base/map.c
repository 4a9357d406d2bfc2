#define _GNU_SOURCE
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

static cuddle_status system_error(const char *what, const char *path)
{
    cuddle_status code = errno == ENOENT ? CUDDLE_ERR_NOTFOUND : CUDDLE_ERR_IO;
    return cdl_status_fail(code, "%s: cannot %s: %s", path, what, strerror(errno));
}

static cuddle_status open_file(int *fd, size_t *size, const char *path)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return system_error("open", path);
    struct stat sb;
    if (fstat(*fd, &sb) == 0 && S_ISREG(sb.st_mode)) {
        *size = (size_t)sb.st_size;
        return CUDDLE_OK;
    }
    close(*fd);
    return cdl_status_fail(CUDDLE_ERR_IO, "%s: not a regular file", path);
}

cuddle_status cdl_map_open(cdl_map *out, const char *path)
{
    *out = (cdl_map){ 0 };
    int fd;
    size_t size;
    CDL_TRY(open_file(&fd, &size, path));
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int saved = errno;
    close(fd);
    errno = saved;
    if (p == MAP_FAILED)
        return system_error("map", path);
    static const uint8_t nothing;
    *out = (cdl_map){ .data = size ? p : &nothing, .size = size };
    return CUDDLE_OK;
}

void cdl_map_close(cdl_map *m)
{
    if (m->size)
        munmap((void *)m->data, m->size);
    *m = (cdl_map){ 0 };
}

void cdl_map_drop(const cdl_map *m, size_t offset, size_t n)
{
    size_t page = 4096, first = (offset + page - 1) & ~(page - 1);
    size_t last = offset + n >= m->size ? m->size : (offset + n) & ~(page - 1);
    if (m->data && first < last)
        madvise((char *)m->data + first, last - first, MADV_DONTNEED);
}

cuddle_status cdl_map_read(char **out, size_t *len, const char *path, size_t max)
{
    *out = NULL;
    *len = 0;
    int fd;
    size_t size;
    CDL_TRY(open_file(&fd, &size, path));
    cuddle_status st = CUDDLE_OK;
    char *p = NULL;
    if (size > max) {
        st = cdl_status_fail(CUDDLE_ERR_FULL, "%s: %zu bytes, over the limit of %zu", path, size, max);
        goto out;
    }
    p = cdl_mem_alloc(size + 1);
    if (!p) {
        st = cdl_status_nomem(path);
        goto out;
    }
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, p + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = system_error("read", path);
            goto out;
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    p[done] = '\0';
    *out = p;
    *len = done;
    p = NULL;
out:
    cdl_mem_free(p);
    close(fd);
    return st;
}
