/* tiny.h - temporary folders, and tiny models of any architecture with random weights.
 * Include after cmocka.h (tests/torture.h includes it). */
#ifndef TINY_H
#define TINY_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/safetensors_write.h"
#include "model/architecture.h"

/* A new folder under /tmp; tiny_remove takes it away again. */
static inline char *tiny_folder(void)
{
    char *s = strdup("/tmp/cuddle-test-XXXXXX");
    if (!s || !mkdtemp(s))
        abort();
    return s;
}

/* "<folder>/<name>"; valid until the eighth next call. */
static inline const char *tiny_path(const char *folder, const char *name)
{
    static char ring[8][512];
    static unsigned next;
    char *out = ring[next++ % 8];
    snprintf(out, sizeof ring[0], "%s/%s", folder, name);
    return out;
}

static inline void tiny_write(const char *folder, const char *name, const void *data, size_t n)
{
    FILE *f = fopen(tiny_path(folder, name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        abort();
}

static inline void tiny_write_text(const char *folder, const char *name, const char *text)
{
    tiny_write(folder, name, text, strlen(text));
}

static inline unsigned tiny_count(const char *folder)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static inline void tiny_remove(char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlink(tiny_path(folder, e->d_name));
    if (d)
        closedir(d);
    rmdir(folder);
    free(folder);
}

/* Uniform in [-1, 1), from a seed of its own: the same on every machine. */
static inline float tiny_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static inline size_t tiny_items(const cdl_graph *g, cdl_safetensors_item *items)
{
    size_t n = 0;
    for (cdl_val v = 1; v < g->n_values; v++) {
        const cdl_value *value = &g->values[v];
        for (uint32_t i = 0; value->kind == CDL_VALUE_WEIGHT && i < value->n_segments; i++) {
            const cdl_segment *s = &value->segment[i];
            uint64_t rows = s->first + s->rows, cols = value->cols;
            size_t k = 0;
            while (k < n && strcmp(items[k].name, s->tensor))
                k++;
            cdl_safetensors_item t = { s->tensor, CDL_DTYPE_F32, 2, { rows, cols }, NULL };
            if (s->transposed)
                t = (cdl_safetensors_item){ s->tensor, CDL_DTYPE_F32, 2, { cols, rows }, NULL };
            if (!value->matrix)
                t = (cdl_safetensors_item){ s->tensor, CDL_DTYPE_F32, 1, { s->first + cols }, NULL };
            if (k < n && items[k].dim[0] > t.dim[0])
                continue;
            items[k] = t;
            n += k == n;
        }
    }
    return n;
}

/* A model of this config.json in a folder: config.json and model.safetensors, all that its graph uses. */
static inline cuddle_status tiny_model(const char *folder, const char *config)
{
    enum { ITEMS = 256 };
    cdl_safetensors_item items[ITEMS];
    cdl_safetensors_writer w = { 0 };
    cdl_checkpoint *c;
    cdl_graph g;
    uint32_t seed = 1;
    tiny_write_text(folder, "config.json", config);
    CDL_TRY(cdl_checkpoint_open(&c, folder, true));
    cuddle_status st = cdl_architecture_build(&g, c);
    if (st == CUDDLE_OK) {
        size_t n = tiny_items(&g, items);
        st = cdl_safetensors_create(&w, tiny_path(folder, "model.safetensors"), items, n);
        for (size_t i = 0; st == CUDDLE_OK && i < n; i++) {
            size_t elements = items[i].dim[0] * (items[i].ndim == 2 ? items[i].dim[1] : 1);
            bool norm = items[i].ndim == 1 && strstr(items[i].name, "weight");
            for (size_t k = 0; k < elements; k++)
                ((float *)items[i].data)[k] = norm ? 1 + 0.3f * tiny_random(&seed) : 0.3f * tiny_random(&seed);
        }
        if (st == CUDDLE_OK)
            st = cdl_safetensors_finish(&w);
        cdl_graph_free(&g);
    }
    cdl_checkpoint_close(c);
    return st;
}

#endif
