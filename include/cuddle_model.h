/* cuddle_model.h - a model's files: configuration, weights (mapped), tokenizer, chat template.
 *
 * A model is what is on disk; an engine (cuddle_engine.h) makes it run. Read-only after
 * open and usable from many threads. Read first: cuddle.h.   Tests: tests/unit/test_engine.c
 */
#ifndef CUDDLE_MODEL_H
#define CUDDLE_MODEL_H

#include "cuddle.h"
#include "cuddle_sampler.h"
#include "cuddle_tokenizer.h"
#include "cuddle_chat.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_model cuddle_model;

/* name: a folder (config.json and *.safetensors, or one *.gguf), a .gguf or .safetensors file, or
 * org/name[@revision] in the Hugging Face cache. Maps the files, checks them, reads no weights.
 * Errors: NOTFOUND (says how to get the model), IO, FORMAT, UNSUPPORTED (architecture, type), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_model_open(cuddle_model **out, const char *name);
CUDDLE_API void cuddle_model_close(cuddle_model *m);

typedef struct {
    size_t size;               /* bytes, set by the caller                                   */
    const char *architecture;  /* "llama"                                                    */
    const char *path;          /* the file or folder                                         */
    uint64_t parameters;       /* weights                                                    */
    uint64_t bytes;            /* of all tensors in the files                                */
    uint32_t vocab, hidden, layers, heads, kv_heads, head_dim;
    uint32_t context_max;      /* tokens the model was made for                              */
} cuddle_model_facts;

CUDDLE_API void cuddle_model_describe(const cuddle_model *m, cuddle_model_facts *out);

/* The model's own; loaded at the first call; borrowed until close. NOTFOUND when it has none. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_model_tokenizer(cuddle_model *m, const cuddle_tokenizer **out);
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_model_chat_template(cuddle_model *m, const cuddle_chat_template **out);
/* Takes the template in a file (Jinja's text) instead of the model's own, with the model's special tokens. Before the
 * first cuddle_model_chat_template. Errors: ARG (too late), NOTFOUND, IO, FORMAT, UNSUPPORTED, NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_model_use_chat_template(cuddle_model *m, const char *path);

/* Sampling defaults of generation_config.json. */
CUDDLE_API void cuddle_model_sampling(const cuddle_model *m, cuddle_sampling *out);

/* Whether a token ends a text (eos_token_id of generation_config.json or config.json; a list is fine). */
CUDDLE_API bool cuddle_model_is_end(const cuddle_model *m, int32_t token);

#ifdef __cplusplus
}
#endif
#endif
