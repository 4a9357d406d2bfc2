/* tokenizer_load.h - finds a model's tokenizer. Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_TOKENIZER_LOAD_H
#define CDL_TOKENIZER_LOAD_H

#include "cuddle_tokenizer.h"
#include "format/checkpoint.h"

/* From tokenizer.json in the model's folder, or from GGUF's tokenizer.ggml.*.
 * NOTFOUND when there is none. */
CUDDLE_CHECK cuddle_status cdl_tokenizer_load(cuddle_tokenizer **out, const cdl_checkpoint *c);

#endif
