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
/* load_lists.c: the long lists of a model, behind the bracket that opens them. */
CUDDLE_CHECK cuddle_status cdl_load_vocab_object(cdl_json_reader *r, cdl_vocab *v);
CUDDLE_CHECK cuddle_status cdl_load_vocab_array(cdl_json_reader *r, cdl_token_model *m);
CUDDLE_CHECK cuddle_status cdl_load_merges(cdl_json_reader *r, cdl_token_model *m);
/* The next token, if it is of that kind; what: said otherwise. */
CUDDLE_CHECK cuddle_status cdl_load_expect(cdl_json_reader *r, cdl_json_token want, const char *what);
/* The normalizer, pre_tokenizer, ... of a tokenizer.json (NULL and null: none). */
CUDDLE_CHECK cuddle_status cdl_load_normalizer(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_pre_tokenizer(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_post_processor(cuddle_tokenizer *t, const cdl_json *v, const char *name);
CUDDLE_CHECK cuddle_status cdl_load_decoder(cuddle_tokenizer *t, const cdl_json *v, const char *name);

#endif
