/* pre_tokenizers.h - the pre-tokenizers behind GGUF's tokenizer.ggml.pre. Tests: tests/unit/test_convert.c */
#ifndef CDL_PRE_TOKENIZERS_H
#define CDL_PRE_TOKENIZERS_H

#include "base/json.h"

typedef struct {
    const char *pre;           /* "llama-bpe"                              */
    const char *json;          /* the pre_tokenizer, as tokenizer.json has it */
    bool nfc;                  /* behind the NFC normalizer                */
    bool ignore_merges;        /* a word that is a token stays whole       */
} cdl_pre_tokenizer;

/* By its name, or NULL. */
const cdl_pre_tokenizer *cdl_pre_tokenizer_find(const char *pre);
/* The one that splits as this tokenizer.json does; *out NULL when none does. */
CUDDLE_CHECK cuddle_status cdl_pre_tokenizer_of(const cdl_pre_tokenizer **out, const cdl_json *tokenizer);

#endif
