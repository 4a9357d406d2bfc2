/* convert.h - any model that cuddle opens to one GGUF file, quantised, as llama.cpp's converter lays it out.
 *
 * From a Hugging Face folder: what its graph uses, under GGUF's names and in GGUF's form (llama's rotary
 * pairs interleaved, gemma's norms + 1, gpt2's products the usual way round), the architecture's
 * metadata, the tokenizer and the chat template. From GGUF: everything as it stands, other types.
 * Files in reading order: convert.c (tensors), convert_config.c, convert_tokenizer.c.
 * Tests: tests/unit/test_convert.c */
#ifndef CDL_CONVERT_H
#define CDL_CONVERT_H

#include "format/checkpoint.h"

typedef struct {
    const char *type;            /* "q4_k", "q4_k_m", "f16", ...: cdl_convert_types            */
    uint32_t threads;            /* 0: cdl_pool_default_threads                                */
    cuddle_progress_fn progress; /* or NULL                                                    */
    void *progress_user;
    void (*note)(void *user, const char *line); /* what a reader of the file should know; or NULL */
    void *note_user;
} cdl_convert_opts;

/* path appears when it is complete; one that is there is replaced.
 * Errors: ARG (type), UNSUPPORTED (GGUF has no such architecture or field), NOTFOUND (a tensor),
 * FORMAT, IO, CANCELLED, NOMEM. */
CUDDLE_CHECK cuddle_status cdl_convert(const cdl_checkpoint *c, const char *path, const cdl_convert_opts *opts);

/* The names of the types, comma-separated. */
const char *cdl_convert_types(void);

#endif
