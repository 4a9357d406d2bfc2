/* chat_load.h - finds a model's chat template. Tests: tests/unit/test_chat.c */
#ifndef CDL_CHAT_LOAD_H
#define CDL_CHAT_LOAD_H

#include "cuddle_chat.h"
#include "format/checkpoint.h"

#define CDL_CHAT_GGUF_KEY "tokenizer.chat_template"
#define CDL_CHAT_GGUF_TOOL_USE_KEY CDL_CHAT_GGUF_KEY ".tool_use"

typedef struct {
    cdl_buf source;
    cdl_buf tool_use;          /* for requests with tools; data NULL: there is none */
} cdl_chat_texts;

void cdl_chat_texts_free(cdl_chat_texts *t);

/* From chat_template.jinja (with additional_chat_templates/tool_use.jinja), chat_template.json,
 * tokenizer_config.json (a string, or those named "default" and "tool_use" of a list) in the model's
 * folder, or GGUF's keys. NOTFOUND when there is none.
 * file: the template's text instead, with the model's special tokens; may be NULL. */
CUDDLE_CHECK cuddle_status cdl_chat_load(cuddle_chat_template **out, const cdl_checkpoint *c, const char *file);

/* A folder's templates as text (NOTFOUND when there is none; the tokens are set all the same), and the texts
 * of bos_token and its like, in the arena. texts: free them whatever the status is. */
CUDDLE_CHECK cuddle_status cdl_chat_read_folder(cdl_chat_texts *texts, cuddle_chat_tokens *tokens, cdl_arena *arena,
        const cdl_checkpoint *c);

#endif
