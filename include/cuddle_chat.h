/* cuddle_chat.h - chat templates: from a list of messages to the text a model was trained on.
 *
 * A template is Jinja as transformers runs it: trim_blocks, lstrip_blocks, break / continue,
 * raise_exception, strftime_now, tojson without HTML escapes, sandboxed. It comes from a model's
 * files, so it is untrusted: steps, depth, memory and output are bounded.
 * Read-only after open and usable from many threads.
 * Read first: cuddle.h.   Tests: tests/unit/test_chat.c, test_jinja.c, tests/fuzz/fuzz_jinja.c
 */
#ifndef CUDDLE_CHAT_H
#define CUDDLE_CHAT_H

#include "cuddle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_chat_template cuddle_chat_template;

/* What templates see as bos_token, ...; NULL: not defined. */
typedef struct {
    size_t size;               /* bytes, set by the caller */
    const char *bos_token, *eos_token, *unk_token, *pad_token;
    const char *sep_token, *cls_token, *mask_token;
} cuddle_chat_tokens;

/* source: n bytes of UTF-8; copied. tokens: copied, may be NULL.
 * Errors: FORMAT (says the line), UNSUPPORTED (a tag that cuddle does not know), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_chat_template_open(cuddle_chat_template **out,
        const char *source, size_t n, const cuddle_chat_tokens *tokens);
/* The template for requests with tools_json, as transformers takes the one named "tool_use" of a list.
 * n bytes of UTF-8; copied. Errors as open's; the template is as before then. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_chat_template_set_tool_use(cuddle_chat_template *t,
        const char *source, size_t n);
CUDDLE_API void cuddle_chat_template_close(cuddle_chat_template *t);
/* The template's text, NUL-terminated; borrowed until close. */
CUDDLE_API const char *cuddle_chat_template_source(const cuddle_chat_template *t);

typedef struct {
    const char *role;          /* "system", "user", "assistant", "tool" */
    const char *content;
} cuddle_chat_message;

/* Zero the struct, set size = sizeof it. Either messages or messages_json. JSON texts are
 * NUL-terminated and may be NULL. */
typedef struct {
    size_t size;
    const cuddle_chat_message *messages;  /* [n_messages]                                            */
    size_t n_messages;
    const char *messages_json;            /* an array of objects: role, content, tool_calls, ...     */
    const char *tools_json;               /* an array of JSON schemas                                */
    const char *documents_json;           /* an array of objects                                     */
    const char *extra_json;               /* an object of more variables: {"enable_thinking": false} */
    bool add_generation_prompt;           /* ends with what opens the assistant's answer             */
    bool continue_final_message;          /* ends inside the last message, to be continued           */
    int64_t now;                          /* seconds since 1970 for strftime_now; default: the clock */
} cuddle_chat_request;

/* The text for the model, n bytes and a NUL; free it with cuddle_chat_text_free.
 * Errors: ARG (bad JSON, or the template refused the messages: its own words), FORMAT (the
 * template is wrong), UNSUPPORTED, FULL (over a limit), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_chat_template_render(const cuddle_chat_template *t,
        const cuddle_chat_request *request, char **out, size_t *n);
CUDDLE_API void cuddle_chat_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
