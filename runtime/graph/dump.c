#include "graph/dump.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "base/mem.h"

enum { PATH_BYTES = 4096 };

cuddle_status cdl_dump_open(cdl_dump *d, const cdl_graph *g)
{
    *d = (cdl_dump){ .folder = cdl_env_get(CDL_ENV_CUDDLE_DUMP) };
    if (!d->folder)
        return CUDDLE_OK;
    if (mkdir(d->folder, 0777) != 0 && errno != EEXIST)
        return cdl_status_fail(CUDDLE_ERR_IO, "CUDDLE_DUMP: cannot make the folder %s: %s", d->folder, strerror(errno));
    d->items = cdl_mem_zalloc(g->n_nodes, sizeof *d->items);
    return d->items ? CUDDLE_OK : cdl_status_nomem("CUDDLE_DUMP");
}

void cdl_dump_close(cdl_dump *d)
{
    cdl_safetensors_abandon(&d->file);
    cdl_mem_free(d->items);
}

cuddle_status cdl_dump_begin(cdl_dump *d, const cdl_graph *g, const cdl_call *calls)
{
    char path[PATH_BYTES];
    if (!d->folder)
        return CUDDLE_OK;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        d->items[i] = (cdl_safetensors_item){ .name = g->nodes[i].name, .dtype = CDL_DTYPE_F32, .ndim = 2,
                                              .dim = { calls[i].out.rows, calls[i].out.cols } };
    snprintf(path, sizeof path, "%s/step-%05u.safetensors", d->folder, d->step++);
    return cdl_safetensors_create(&d->file, path, d->items, g->n_nodes);
}

void cdl_dump_node(cdl_dump *d, uint32_t node, const cdl_view *out)
{
    if (!d->folder || !out->data)
        return;
    for (uint32_t r = 0; r < out->rows; r++)
        memcpy((float *)d->items[node].data + (size_t)r * out->cols, (const float *)out->data + (size_t)r * out->stride,
               out->cols * sizeof(float));
}

cuddle_status cdl_dump_end(cdl_dump *d)
{
    return d->folder ? cdl_safetensors_finish(&d->file) : CUDDLE_OK;
}
