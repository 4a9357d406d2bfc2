#define _GNU_SOURCE
#include "outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem.h"

static cuddle_status map_file(cdl_outfile *o)
{
    int fd = open(o->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        int err = errno;
        o->temporary[0] = '\0'; /* nothing to remove */
        return cdl_status_fail(CUDDLE_ERR_IO, "cannot write %s: %s", o->path, strerror(err));
    }
    cuddle_status st = CUDDLE_OK;
    int err = posix_fallocate(fd, 0, (off_t)o->size); /* a full disk is told here, not by a signal later */
    if (err) {
        st = cdl_status_fail(CUDDLE_ERR_IO, "cannot write %zu bytes to %s: %s", o->size, o->path, strerror(err));
    } else {
        void *p = mmap(NULL, o->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            st = cdl_status_fail(CUDDLE_ERR_IO, "cannot map %s: %s", o->path, strerror(errno));
        else
            o->data = p;
    }
    close(fd);
    return st;
}

cuddle_status cdl_outfile_create(cdl_outfile *o, const char *path, size_t size)
{
    *o = (cdl_outfile){ .size = size };
    size_t room = strlen(path) + 16;
    o->path = cdl_mem_strdup(path);
    o->temporary = cdl_mem_alloc(room);
    cuddle_status st = CUDDLE_OK;
    if (!o->path || !o->temporary) {
        cdl_mem_free(o->temporary); /* its name is not there yet */
        o->temporary = NULL;
        st = cdl_status_nomem("the output file");
    } else {
        snprintf(o->temporary, room, "%s.%d.part", path, (int)getpid() % 1000000);
        st = map_file(o);
    }
    if (st != CUDDLE_OK)
        cdl_outfile_abandon(o);
    return st;
}

void cdl_outfile_drop(const cdl_outfile *o, size_t offset, size_t n)
{
    size_t page = 4096, first = (offset + page - 1) & ~(page - 1), last = (offset + n) & ~(page - 1);
    if (first < last)
        madvise(o->data + first, last - first, MADV_DONTNEED); /* shared: the file keeps them */
}

static void release(cdl_outfile *o)
{
    if (o->data)
        munmap(o->data, o->size);
    cdl_mem_free(o->path);
    cdl_mem_free(o->temporary);
    *o = (cdl_outfile){ 0 };
}

cuddle_status cdl_outfile_finish(cdl_outfile *o)
{
    cuddle_status st = CUDDLE_OK;
    if (rename(o->temporary, o->path)) {
        st = cdl_status_fail(CUDDLE_ERR_IO, "cannot rename %s to %s: %s", o->temporary, o->path, strerror(errno));
        unlink(o->temporary);
    }
    release(o);
    return st;
}

void cdl_outfile_abandon(cdl_outfile *o)
{
    if (o->temporary && o->temporary[0])
        unlink(o->temporary);
    release(o);
}
