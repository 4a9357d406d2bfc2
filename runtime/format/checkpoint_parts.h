/* checkpoint_parts.h - what checkpoint.c, safetensors.c, gguf.c and gguf_names.c share. */
#ifndef CDL_CHECKPOINT_PARTS_H
#define CDL_CHECKPOINT_PARTS_H

#include "base/arena.h"
#include "base/map.h"
#include "format/checkpoint.h"
#include "format/gguf.h"

struct cdl_checkpoint {
    cdl_arena arena;
    char *folder;
    cdl_map *maps;             /* one a file              */
    const char **paths;
    uint32_t n_files;
    cdl_tensor_entry *entries;
    size_t n, cap;
    uint32_t *index;           /* hash table: entry + 1   */
    size_t index_size;         /* a power of two          */
    uint64_t bytes;
    const cdl_json *config, *generation_config;
    const cdl_json *gguf;      /* metadata without long arrays, or NULL */
    cdl_gguf_pair *pairs;      /* all metadata of the first file        */
    size_t n_pairs, cap_pairs;
};

/* Maps one more file; its number in *file. */
CUDDLE_CHECK cuddle_status cdl_checkpoint_map(cdl_checkpoint *c, const char *path, uint32_t *file);
/* Appends an entry (name copied). */
CUDDLE_CHECK cuddle_status cdl_checkpoint_add(cdl_checkpoint *c, const cdl_tensor_entry *t, const char *name, size_t n);

/* Entries from first on by place in their file; *sorted: free with cdl_mem_free. */
CUDDLE_CHECK cuddle_status cdl_checkpoint_by_place(cdl_checkpoint *c, size_t first, cdl_tensor_entry ***sorted);
/* The first entry that begins before another's end, or NULL. */
CUDDLE_CHECK cuddle_status cdl_checkpoint_overlap(cdl_checkpoint *c, size_t first, cdl_tensor_entry **out);

/* safetensors.c: lists the tensors of mapped file `file`. */
CUDDLE_CHECK cuddle_status cdl_safetensors_read(cdl_checkpoint *c, uint32_t file);

/* gguf.c: maps path and, when it is the first of a split, the others; lists their tensors; metadata. */
CUDDLE_CHECK cuddle_status cdl_gguf_read(cdl_checkpoint *c, const char *path);

/* gguf_names.c: config.json and generation_config.json as JSON text from metadata; vocab: rows of the embedding. */
CUDDLE_CHECK cuddle_status cdl_gguf_config(const cdl_checkpoint *c, cdl_buf *config, cdl_buf *generation);

#endif
