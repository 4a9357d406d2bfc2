/* checkpoint.h - a model's files as one set of named, mapped, checked tensors and one config.
 *
 * Whatever the files are, tensors carry the names and the row-major shapes (outermost
 * first) that Hugging Face's modules use ("model.layers.0.self_attn.q_proj.weight"),
 * and the config is Hugging Face's config.json. For GGUF both are derived from its
 * metadata; then config holds "_gguf": true, because GGUF stores some weights
 * in another form:
 *   - llama: q_proj and k_proj rows are permuted for interleaved RoPE pairs
 *   - gemma family: norm weights already contain the + 1
 *   - gpt2: Conv1D weights are already [out, in]
 * GPTQ's and AWQ's tensors are listed as the weights they stand for (int4.h), [out, in] in every model.
 * Untrusted bytes: every count, offset and size is checked before a tensor is listed.
 * Read first: dtype.h.   Tests: tests/unit/test_checkpoint.c, tests/fuzz/fuzz_gguf.c, fuzz_safetensors.c
 */
#ifndef CDL_CHECKPOINT_H
#define CDL_CHECKPOINT_H

#include "base/json.h"
#include "format/dtype.h"

enum { CDL_DIMS_MAX = 8 };

typedef struct {
    const char *name;
    cdl_dtype dtype;
    uint32_t ndim;
    int64_t dim[CDL_DIMS_MAX]; /* outermost first; of a block type, the last is in weights  */
    const uint8_t *data;       /* into the mapping; maybe not aligned                       */
    size_t bytes;              /* in the file                                               */
    uint32_t file;             /* index of the file it is in                                */
    const struct cdl_int4 *int4; /* or NULL. Its rows are made by cdl_int4_rows, not in data  */
} cdl_tensor_entry;

typedef struct cdl_checkpoint cdl_checkpoint;

/* path: a folder (model.safetensors, or model.safetensors.index.json and its shards, or one
 * .gguf), a .safetensors file, an index.json, or a .gguf file (the first of a split works).
 * Weights are optional with config_only (for plan and info of what is not downloaded).
 * Errors: NOTFOUND, IO, FORMAT, UNSUPPORTED, NOMEM; each names the file and what to do. */
CUDDLE_CHECK cuddle_status cdl_checkpoint_open(cdl_checkpoint **out, const char *path, bool config_only);
void cdl_checkpoint_close(cdl_checkpoint *c);

size_t cdl_checkpoint_count(const cdl_checkpoint *c);
const cdl_tensor_entry *cdl_checkpoint_at(const cdl_checkpoint *c, size_t i);    /* file order   */
const cdl_tensor_entry *cdl_checkpoint_find(const cdl_checkpoint *c, const char *name); /* or NULL */
const char *cdl_checkpoint_file(const cdl_checkpoint *c, uint32_t file);         /* its path     */
uint64_t cdl_checkpoint_bytes(const cdl_checkpoint *c);                          /* all tensors  */

/* config.json (or made from GGUF metadata), an object; empty object when there is none. */
const cdl_json *cdl_checkpoint_config(const cdl_checkpoint *c);
/* generation_config.json (or made from GGUF's bos/eos ids), or NULL. */
const cdl_json *cdl_checkpoint_generation_config(const cdl_checkpoint *c);
/* The folder the files are in. */
const char *cdl_checkpoint_folder(const cdl_checkpoint *c);
/* GGUF's own metadata as a JSON object ("tokenizer.ggml.model": ...), or NULL. Arrays longer than
 * 64 items are null here: read them with cdl_checkpoint_gguf_array. */
const cdl_json *cdl_checkpoint_gguf(const cdl_checkpoint *c);

/* GGUF's metadata as they stand in the (first) file; type is a cdl_gguf_type (format/gguf.h). */
typedef struct {
    const char *key;
    uint32_t type;
    const uint8_t *value;     /* in the mapping, maybe not aligned                */
    size_t n;
} cdl_gguf_pair;
size_t cdl_checkpoint_gguf_count(const cdl_checkpoint *c);
const cdl_gguf_pair *cdl_checkpoint_gguf_at(const cdl_checkpoint *c, size_t i);

/* An array of GGUF metadata; false when there is none of that name.
 * Strings: visit with cdl_gguf_array_string. Numbers: data holds n items of type. */
typedef struct {
    bool strings;
    cdl_dtype type;           /* of numbers                                       */
    uint64_t n;
    const uint8_t *data;      /* first item, in the mapping, maybe not aligned    */
    const uint8_t *end;
} cdl_gguf_array;
bool cdl_checkpoint_gguf_array(const cdl_checkpoint *c, const char *key, cdl_gguf_array *out);
/* The string at *at (start with a->data), moving *at behind it; lengths were checked at open. */
static inline const char *cdl_gguf_array_string(const uint8_t **at, size_t *len)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)(*at)[i] << (8 * i);
    const char *s = (const char *)*at + 8;
    *len = (size_t)n;
    *at += 8 + n;
    return s;
}

/* The tensor's pages will not be needed soon (its bytes were repacked); all of them when it has int4. */
void cdl_checkpoint_drop(const cdl_checkpoint *c, const cdl_tensor_entry *t, size_t offset, size_t n);

#endif
