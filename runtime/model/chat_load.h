/* chat_load.h - finds a model's chat template. Tests: tests/unit/test_chat.c */
#ifndef CDL_CHAT_LOAD_H
#define CDL_CHAT_LOAD_H

#include "cuddle_chat.h"
#include "format/checkpoint.h"

/* From chat_template.jinja, chat_template.json, tokenizer_config.json (a string, or the one
 * named "default" of a list) in the model's folder, or GGUF's tokenizer.chat_template.
 * NOTFOUND when there is none. file: the template's text instead, with the model's special tokens; may be NULL. */
CUDDLE_CHECK cuddle_status cdl_chat_load(cuddle_chat_template **out, const cdl_checkpoint *c, const char *file);

/* A folder's template as text (NOTFOUND when there is none; the tokens are set all the same), and the texts
 * of bos_token and its like, in the arena. */
CUDDLE_CHECK cuddle_status cdl_chat_read_folder(cdl_buf *source, cuddle_chat_tokens *tokens, cdl_arena *arena,
        const cdl_checkpoint *c);

#endif
