#include "format/checkpoint_parts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "format/int4.h"

enum { CONFIG_MAX = 16 << 20, FILES_MAX = 10000 };

/* ---- Lists ---- */

cuddle_status cdl_checkpoint_map(cdl_checkpoint *c, const char *path, uint32_t *file)
{
    cdl_map *maps = cdl_mem_realloc(c->maps, (c->n_files + 1) * sizeof *maps);
    if (maps)
        c->maps = maps;
    const char **paths = maps ? cdl_mem_realloc(c->paths, (c->n_files + 1) * sizeof *paths) : NULL;
    if (paths)
        c->paths = paths;
    char *copy = paths ? cdl_arena_strdup(&c->arena, path) : NULL;
    if (!copy)
        return cdl_status_nomem("the list of files");
    CDL_TRY(cdl_map_open(&c->maps[c->n_files], path));
    c->paths[c->n_files] = copy;
    *file = c->n_files++;
    return CUDDLE_OK;
}

cuddle_status cdl_checkpoint_add(cdl_checkpoint *c, const cdl_tensor_entry *t, const char *name, size_t n)
{
    if (c->n == c->cap) {
        size_t want = c->cap ? c->cap * 2 : 256, bytes;
        cdl_tensor_entry *p = cdl_mul(want, sizeof *p, &bytes) ? cdl_mem_realloc(c->entries, bytes) : NULL;
        if (!p)
            return cdl_status_nomem("the list of tensors");
        c->entries = p;
        c->cap = want;
    }
    char *copy = cdl_arena_strndup(&c->arena, name, n);
    if (!copy)
        return cdl_status_nomem("the list of tensors");
    c->entries[c->n] = *t;
    c->entries[c->n++].name = copy;
    c->bytes += t->bytes;
    return CUDDLE_OK;
}

static size_t hash(const char *s)
{
    uint64_t h = 14695981039346656037u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static cuddle_status build_index(cdl_checkpoint *c)
{
    cdl_mem_free(c->index);
    c->index_size = 16;
    while (c->index_size < c->n * 2)
        c->index_size *= 2;
    c->index = cdl_mem_zalloc(c->index_size, sizeof *c->index);
    if (!c->index)
        return cdl_status_nomem("the list of tensors");
    for (size_t i = 0; i < c->n; i++) {
        size_t at = hash(c->entries[i].name) & (c->index_size - 1);
        for (; c->index[at]; at = (at + 1) & (c->index_size - 1))
            if (!strcmp(c->entries[c->index[at] - 1].name, c->entries[i].name))
                return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s is there twice",
                        c->paths[c->entries[i].file], c->entries[i].name);
        c->index[at] = (uint32_t)i + 1;
    }
    return CUDDLE_OK;
}

const cdl_tensor_entry *cdl_checkpoint_find(const cdl_checkpoint *c, const char *name)
{
    if (!c->index)
        return NULL;
    for (size_t at = hash(name) & (c->index_size - 1); c->index[at]; at = (at + 1) & (c->index_size - 1))
        if (!strcmp(c->entries[c->index[at] - 1].name, name))
            return &c->entries[c->index[at] - 1];
    return NULL;
}

static int by_place(const void *a, const void *b)
{
    const cdl_tensor_entry *x = *(cdl_tensor_entry *const *)a, *y = *(cdl_tensor_entry *const *)b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

cuddle_status cdl_checkpoint_by_place(cdl_checkpoint *c, size_t first, cdl_tensor_entry ***sorted)
{
    size_t n = c->n - first;
    *sorted = cdl_mem_array(n + 1, sizeof **sorted);
    if (!*sorted)
        return cdl_status_nomem("the list of tensors");
    for (size_t i = 0; i < n; i++)
        (*sorted)[i] = &c->entries[first + i];
    qsort(*sorted, n, sizeof **sorted, by_place);
    return CUDDLE_OK;
}

cuddle_status cdl_checkpoint_overlap(cdl_checkpoint *c, size_t first, cdl_tensor_entry **out)
{
    cdl_tensor_entry **sorted;
    CDL_TRY(cdl_checkpoint_by_place(c, first, &sorted));
    *out = NULL;
    for (size_t i = 1; i < c->n - first && !*out; i++)
        if (sorted[i - 1]->data + sorted[i - 1]->bytes > sorted[i]->data)
            *out = sorted[i];
    cdl_mem_free(sorted);
    return CUDDLE_OK;
}

/* ---- Finding the files ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

static const char *in_folder(cdl_checkpoint *c, const char *file)
{
    const char *s = cdl_arena_printf(&c->arena, "%s/%s", c->folder, file);
    return s ? s : "";
}

/* A shard's name must stay in the folder. */
static bool plain_name(const char *s, size_t n)
{
    return n && strlen(s) == n && !strchr(s, '/') && strcmp(s, ".") && strcmp(s, "..");
}

static bool mapped_already(const cdl_checkpoint *c, const char *path)
{
    for (uint32_t i = 0; i < c->n_files; i++)
        if (!strcmp(c->paths[i], path))
            return true;
    return false;
}

/* Each tensor of the index must be in the file that it names. */
static cuddle_status check_places(const cdl_checkpoint *c, const cdl_json *map, const char *path)
{
    for (size_t i = 0; i < map->n; i++) {
        const cdl_json *v = &map->as.items[i];
        const cdl_tensor_entry *t = cdl_checkpoint_find(c, v->key);
        const char *file = t ? strrchr(c->paths[t->file], '/') : NULL;
        if (!file || strcmp(file + 1, v->as.s) != 0)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tensor %.80s is not in %.80s; fetch both again", path,
                    v->key,
                    v->as.s);
    }
    return CUDDLE_OK;
}

static cuddle_status read_index(cdl_checkpoint *c, const char *path)
{
    const cdl_json *index;
    CDL_TRY(cdl_json_load(&index, &c->arena, path));
    const cdl_json *map = cdl_json_get(index, "weight_map");
    if (!map || map->type != CDL_JSON_OBJECT)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: there is no weight_map", path);
    for (size_t i = 0; i < map->n; i++) {
        const cdl_json *v = &map->as.items[i];
        if (v->type != CDL_JSON_STRING || !plain_name(v->as.s, v->n))
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: weight_map: %.80s names no file of the folder", path,
                    v->key);
        const char *shard = in_folder(c, v->as.s);
        uint32_t file;
        if (mapped_already(c, shard))
            continue;
        if (c->n_files == FILES_MAX)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: more than %d files", path, FILES_MAX);
        CDL_TRY(cdl_checkpoint_map(c, shard, &file));
        CDL_TRY(cdl_safetensors_read(c, file));
    }
    CDL_TRY(build_index(c));
    return check_places(c, map, path);
}

static cuddle_status read_single(cdl_checkpoint *c, const char *path)
{
    uint32_t file;
    CDL_TRY(cdl_checkpoint_map(c, path, &file));
    CDL_TRY(cdl_safetensors_read(c, file));
    return build_index(c);
}

static cuddle_status read_gguf(cdl_checkpoint *c, const char *path)
{
    CDL_TRY(cdl_gguf_read(c, path));
    CDL_TRY(build_index(c));
    cdl_buf config = { 0 }, generation = { 0 };
    cuddle_status st = cdl_gguf_config(c, &config, &generation);
    if (st == CUDDLE_OK)
        st = cdl_json_parse(&c->config, &c->arena, config.data, config.len, path);
    if (st == CUDDLE_OK)
        st = cdl_json_parse(&c->generation_config, &c->arena, generation.data, generation.len, path);
    cdl_buf_free(&config);
    cdl_buf_free(&generation);
    return st;
}

/* The folder's only .gguf, or the first of its one split; "" when there is none. */
static cuddle_status find_gguf(cdl_checkpoint *c, const char **out)
{
    DIR *d = opendir(c->folder);
    uint32_t n = 0;
    *out = "";
    for (struct dirent *e; d && (e = readdir(d));) {
        bool later_part = strstr(e->d_name, "-of-") && !strstr(e->d_name, "-00001-of-");
        if (!ends_with(e->d_name, ".gguf") || later_part || !strncmp(e->d_name, "mmproj", 6))
            continue;
        n++;
        *out = in_folder(c, e->d_name);
    }
    if (d)
        closedir(d);
    if (n > 1)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s: %u .gguf files; name the one to use", c->folder, n);
    return CUDDLE_OK;
}

static cuddle_status optional_json(cdl_checkpoint *c, const char *file, const cdl_json **out)
{
    const char *path = in_folder(c, file);
    if (!exists(path))
        return CUDDLE_OK;
    CDL_TRY(cdl_json_load(out, &c->arena, path));
    if ((*out)->type != CDL_JSON_OBJECT)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: no JSON object", path);
    return CUDDLE_OK;
}

static cuddle_status open_folder(cdl_checkpoint *c, bool config_only)
{
    const char *single = in_folder(c, "model.safetensors"), *gguf;
    const char *index = in_folder(c, "model.safetensors.index.json");
    if (!exists(single) && !exists(index)) {
        CDL_TRY(find_gguf(c, &gguf));
        if (*gguf)
            return read_gguf(c, gguf);
    }
    CDL_TRY(optional_json(c, "config.json", &c->config));
    CDL_TRY(optional_json(c, "generation_config.json", &c->generation_config));
    if (exists(index))
        return read_index(c, index);
    if (exists(single))
        return read_single(c, single);
    if (config_only)
        return CUDDLE_OK;
    return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s: no model.safetensors, model.safetensors.index.json or .gguf in"
            " this folder",
            c->folder);
}

static cuddle_status open_file(cdl_checkpoint *c, const char *path)
{
    if (ends_with(path, ".gguf"))
        return read_gguf(c, path);
    CDL_TRY(optional_json(c, "config.json", &c->config));
    CDL_TRY(optional_json(c, "generation_config.json", &c->generation_config));
    if (ends_with(path, ".index.json"))
        return read_index(c, path);
    if (ends_with(path, ".safetensors"))
        return read_single(c, path);
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: no .safetensors, .index.json or .gguf file", path);
}

static cuddle_status open_any(cdl_checkpoint *c, const char *path, bool config_only)
{
    static const cdl_json empty = { .type = CDL_JSON_OBJECT };
    struct stat st;
    if (stat(path, &st))
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s: no such file or folder", path);
    bool folder = S_ISDIR(st.st_mode);
    const char *slash = strrchr(path, '/');
    size_t n = strlen(path);
    while (folder && n > 1 && path[n - 1] == '/')
        n--;
    c->folder = folder ? cdl_arena_strndup(&c->arena, path, n)
        : slash ? cdl_arena_strndup(&c->arena, path, (size_t)(slash - path) + (slash == path))
                : cdl_arena_strdup(&c->arena, ".");
    if (!c->folder)
        return cdl_status_nomem("the model's path");
    c->config = &empty;
    return folder ? open_folder(c, config_only) : open_file(c, path);
}

/* config.json says how tensors are quantised; older repositories have a file of its own for that. */
static cuddle_status read_quantised(cdl_checkpoint *c)
{
    const cdl_json *q = cdl_json_get(c->config, "quantization_config");
    const char *method = "";
    if (!q) {
        method = "gptq";
        CDL_TRY(optional_json(c, "quantize_config.json", &q));
    }
    if (!q) {
        method = "awq";
        CDL_TRY(optional_json(c, "quant_config.json", &q));
    }
    if (!q)
        return CUDDLE_OK;
    CDL_TRY(cdl_int4_list(c, q, method));
    return build_index(c); /* names have changed */
}

cuddle_status cdl_checkpoint_open(cdl_checkpoint **out, const char *path, bool config_only)
{
    *out = NULL;
    cdl_checkpoint *c = cdl_mem_zalloc(1, sizeof *c);
    if (!c)
        return cdl_status_nomem("the model's files");
    cuddle_status st = open_any(c, path, config_only);
    if (st == CUDDLE_OK && c->n && !c->gguf)
        st = read_quantised(c);
    if (st != CUDDLE_OK) {
        cdl_checkpoint_close(c);
        return st;
    }
    *out = c;
    return CUDDLE_OK;
}

void cdl_checkpoint_close(cdl_checkpoint *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n_files; i++)
        cdl_map_close(&c->maps[i]);
    cdl_mem_free(c->maps);
    cdl_mem_free(c->paths);
    cdl_mem_free(c->entries);
    cdl_mem_free(c->index);
    cdl_mem_free(c->pairs);
    cdl_arena_free(&c->arena);
    cdl_mem_free(c);
}

/* ---- Facts ---- */

size_t cdl_checkpoint_count(const cdl_checkpoint *c)
{
    return c->n;
}

const cdl_tensor_entry *cdl_checkpoint_at(const cdl_checkpoint *c, size_t i)
{
    return &c->entries[i];
}

const char *cdl_checkpoint_file(const cdl_checkpoint *c, uint32_t file)
{
    return c->paths[file];
}

uint64_t cdl_checkpoint_bytes(const cdl_checkpoint *c)
{
    return c->bytes;
}

const cdl_json *cdl_checkpoint_config(const cdl_checkpoint *c)
{
    return c->config;
}

const cdl_json *cdl_checkpoint_generation_config(const cdl_checkpoint *c)
{
    return c->generation_config;
}

const char *cdl_checkpoint_folder(const cdl_checkpoint *c)
{
    return c->folder;
}

const cdl_json *cdl_checkpoint_gguf(const cdl_checkpoint *c)
{
    return c->gguf;
}

size_t cdl_checkpoint_gguf_count(const cdl_checkpoint *c)
{
    return c->n_pairs;
}

const cdl_gguf_pair *cdl_checkpoint_gguf_at(const cdl_checkpoint *c, size_t i)
{
    return &c->pairs[i];
}

void cdl_checkpoint_drop(const cdl_checkpoint *c, const cdl_tensor_entry *t, size_t offset, size_t n)
{
    const cdl_map *m = &c->maps[t->file];
    if (!t->int4) {
        cdl_map_drop(m, (size_t)(t->data - m->data) + offset, n);
        return;
    }
    const cdl_tensor_entry *const parts[] = { &t->int4->codes, &t->int4->zeros, &t->int4->scales };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        cdl_checkpoint_drop(c, parts[i], 0, parts[i]->bytes);
}
