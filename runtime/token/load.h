/* load.h - what both ways of making a tokenizer (tokenizer.json, GGUF) use. */
#ifndef CDL_TOKEN_LOAD_H
#define CDL_TOKEN_LOAD_H

#include "base/json.h"
#include "token/import.h"
#include "token/parts.h"

CUDDLE_CHECK cuddle_status cdl_tokenizer_new(cuddle_tokenizer **out);
/* Adds a token to the added ones; content is copied. */
CUDDLE_CHECK cuddle_status cdl_tokenizer_add(cuddle_tokenizer *t, const cdl_added *token);
/* Gives added tokens their ids and makes what finds them; part of finish, to be called again when one is added. */
CUDDLE_CHECK cuddle_status cdl_tokenizer_number_added(cuddle_tokenizer *t);
/* To be called last: byte ids, the tries of added tokens, whether pieces may stay bytes. */
CUDDLE_CHECK cuddle_status cdl_tokenizer_finish(cuddle_tokenizer *t, const char *name);
/* A tokenizer of another kind of file (import.h). */
CUDDLE_CHECK cuddle_status cdl_tokenizer_import(cuddle_tokenizer **out, cdl_import_type type, const char *data,
        size_t n, const char *name);
/* The normalizer, pre_tokenizer, ... of a tokenizer.json (NULL and null: none). */
CUDDLE_CHECK cuddle_status cdl_load_normalizer(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_pre_tokenizer(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_post_processor(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_decoder(cuddle_tokenizer *t, const cdl_json *v, const char *name);

#endif
