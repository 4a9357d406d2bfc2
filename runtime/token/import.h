/* import.h - tokenizers in older files, as the text of a tokenizer.json: vocab.json with merges.txt, vocab.txt,
 * SentencePiece's .model, tiktoken's and tekken's. What transformers makes of them is what they become.
 * Tests: tests/unit/test_import.c, tests/fuzz/fuzz_import.c */
#ifndef CDL_TOKEN_IMPORT_H
#define CDL_TOKEN_IMPORT_H

#include "base/buf.h"
#include "base/json.h"

/* Whether the n bytes are one of them by their content, or by the file's name; else they are a tokenizer.json. */
typedef enum { CDL_IMPORT_NONE, CDL_IMPORT_VOCAB_TXT, CDL_IMPORT_SENTENCEPIECE, CDL_IMPORT_TIKTOKEN, CDL_IMPORT_TEKKEN,
               CDL_IMPORT_VOCAB_JSON } cdl_import_type;
cdl_import_type cdl_import_find(const char *data, size_t n, const char *name);

/* The file, of that type, as a tokenizer.json. name starts the errors. VOCAB_JSON reads merges.txt beside it.
 * Errors: FORMAT, UNSUPPORTED, NOTFOUND, NOMEM. */
CUDDLE_CHECK cuddle_status cdl_import(cdl_buf *out, cdl_import_type type, const char *data, size_t n, const char *name);

/* import_spm.c, import_ranks.c */
CUDDLE_CHECK cuddle_status cdl_import_sentencepiece(cdl_buf *out, const uint8_t *data, size_t n, const char *name);
CUDDLE_CHECK cuddle_status cdl_import_tiktoken(cdl_buf *out, const char *data, size_t n, const char *name);
CUDDLE_CHECK cuddle_status cdl_import_tekken(cdl_buf *out, const char *data, size_t n, const char *name);

/* {"id":..,"content":..,...}, special. */
CUDDLE_CHECK cuddle_status cdl_import_put_added(cdl_buf *out, bool first, int64_t id, const char *s, size_t n,
        bool special);

#endif
