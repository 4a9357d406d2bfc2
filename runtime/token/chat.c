/* chat.c - chat templates: the variables that transformers gives them, and where an answer goes on. */
#define _GNU_SOURCE /* memrchr, memmem */
#include "cuddle_chat.h"

#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "token/jinja.h"

enum { TOKENS = 7, VARS_MAX = 5 + TOKENS };

static const char *const token_names[TOKENS] = { "bos_token", "eos_token", "unk_token", "pad_token", "sep_token",
    "cls_token", "mask_token" };

struct cuddle_chat_template {
    cdl_jinja *jinja;
    cdl_jinja *tool_use;       /* for requests with tools, or NULL */
    char *source;
    cdl_arena arena;
    cdl_jinja_var tokens[TOKENS];
    size_t n_tokens;
};

/* ---- Open, close ---- */

static void set_text(cdl_json *v, const char *s)
{
    *v = (cdl_json){ .type = CDL_JSON_STRING, .n = strlen(s), .as.s = s };
}

static cuddle_status copy_tokens(cuddle_chat_template *t, const cuddle_chat_tokens *given)
{
    cuddle_chat_tokens k = { 0 };
    if (!given)
        return CUDDLE_OK;
    if (!given->size)
        return cdl_status_fail(CUDDLE_ERR_ARG, "chat template: tokens.size is 0; set it to sizeof tokens");
    memcpy(&k, given, given->size < sizeof k ? given->size : sizeof k);
    const char *const texts[TOKENS] = { k.bos_token, k.eos_token, k.unk_token, k.pad_token, k.sep_token, k.cls_token,
        k.mask_token };
    for (size_t i = 0; i < TOKENS; i++) {
        if (!texts[i])
            continue;
        const char *copy = cdl_arena_strdup(&t->arena, texts[i]);
        cdl_json *v = cdl_arena_zalloc(&t->arena, 1, sizeof *v);
        if (!copy || !v)
            return cdl_status_nomem("a chat template");
        set_text(v, copy);
        t->tokens[t->n_tokens++] = (cdl_jinja_var){ token_names[i], v };
    }
    return CUDDLE_OK;
}

static cuddle_status open_template(cuddle_chat_template *t, const char *source, size_t n,
        const cuddle_chat_tokens *tokens)
{
    t->source = cdl_mem_strndup(source, n);
    if (!t->source)
        return cdl_status_nomem("a chat template");
    CDL_TRY(copy_tokens(t, tokens));
    return cdl_jinja_parse(&t->jinja, source, n, "chat template");
}

cuddle_status cuddle_chat_template_open(cuddle_chat_template **out, const char *source, size_t n,
        const cuddle_chat_tokens *tokens)
{
    *out = NULL;
    cuddle_chat_template *t = cdl_mem_zalloc(1, sizeof *t);
    if (!t)
        return cdl_status_nomem("a chat template");
    cuddle_status st = open_template(t, source, n, tokens);
    if (st == CUDDLE_OK)
        *out = t;
    else
        cuddle_chat_template_close(t);
    return st;
}

void cuddle_chat_template_close(cuddle_chat_template *t)
{
    if (!t)
        return;
    cdl_jinja_free(t->jinja);
    cdl_jinja_free(t->tool_use);
    cdl_mem_free(t->source);
    cdl_arena_free(&t->arena);
    cdl_mem_free(t);
}

cuddle_status cuddle_chat_template_set_tool_use(cuddle_chat_template *t, const char *source, size_t n)
{
    cdl_jinja *parsed;
    CDL_TRY(cdl_jinja_parse(&parsed, source, n, "chat template tool_use"));
    cdl_jinja_free(t->tool_use);
    t->tool_use = parsed;
    return CUDDLE_OK;
}

const char *cuddle_chat_template_source(const cuddle_chat_template *t)
{
    return t->source;
}

/* ---- A request's variables ---- */

typedef struct {
    const cuddle_chat_request *q;
    cdl_arena arena;
    cdl_jinja_var *vars;
    size_t n;
    cdl_json *last;            /* the text of the last message, when it is to be continued */
} request;

static cuddle_status nomem(void)
{
    return cdl_status_nomem("a chat");
}

static cuddle_status parse_json(request *x, const char *text, const char *name, cdl_json_type want, cdl_json **out)
{
    const cdl_json *v;
    cuddle_status st = cdl_json_parse(&v, &x->arena, text, strlen(text), name);
    if (st != CUDDLE_OK)
        return st == CUDDLE_ERR_NOMEM ? st : CUDDLE_ERR_ARG; /* the caller's text, with the parser's words */
    if (v->type != want)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s must be an %s", name, want == CDL_JSON_ARRAY ? "array" : "object");
    *out = (cdl_json *)(uintptr_t)v; /* our own arena's */
    return CUDDLE_OK;
}

static cuddle_status make_message(request *x, const cuddle_chat_message *m, size_t i, cdl_json *out)
{
    const char *const keys[2] = { "role", "content" }, *const texts[2] = { m->role, m->content };
    cdl_json *members = cdl_arena_zalloc(&x->arena, 2, sizeof *members);
    if (!members)
        return nomem();
    for (int k = 0; k < 2; k++) {
        if (!texts[k])
            return cdl_status_fail(CUDDLE_ERR_ARG, "message %zu has no %s", i, keys[k]);
        set_text(&members[k], texts[k]);
        if (cdl_utf8_valid(texts[k], members[k].n) != members[k].n)
            return cdl_status_fail(CUDDLE_ERR_ARG, "message %zu: its %s is not valid UTF-8", i, keys[k]);
        members[k].key = keys[k];
        members[k].key_len = (uint32_t)strlen(keys[k]);
    }
    *out = (cdl_json){ .type = CDL_JSON_OBJECT, .n = 2, .as.items = members };
    return CUDDLE_OK;
}

static cuddle_status make_messages(request *x, cdl_json **out)
{
    const cuddle_chat_request *q = x->q;
    if (q->messages_json && q->messages)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a chat has both messages and messages_json: give one");
    if (q->messages_json)
        return parse_json(x, q->messages_json, "messages_json", CDL_JSON_ARRAY, out);
    cdl_json *items = cdl_arena_zalloc(&x->arena, q->n_messages + 1, sizeof *items);
    if (!items)
        return nomem();
    for (size_t i = 0; i < q->n_messages; i++)
        CDL_TRY(make_message(x, &q->messages[i], i, &items[i]));
    items[q->n_messages] = (cdl_json){ .type = CDL_JSON_ARRAY, .n = q->n_messages, .as.items = items };
    *out = &items[q->n_messages];
    return CUDDLE_OK;
}

static void add(request *x, const char *name, const cdl_json *v)
{
    x->vars[x->n++] = (cdl_jinja_var){ name, v };
}

/* tools and documents: null when there are none, as transformers passes None. */
static cuddle_status add_array(request *x, const char *name, const char *text, const char *json_name)
{
    static const cdl_json null = { .type = CDL_JSON_NULL };
    cdl_json *v = NULL;
    if (text)
        CDL_TRY(parse_json(x, text, json_name, CDL_JSON_ARRAY, &v));
    add(x, name, v ? v : &null);
    return CUDDLE_OK;
}

/* Later variables replace earlier ones of the same name. */
static cuddle_status add_variables(request *x, const cuddle_chat_template *t, const cdl_json *messages)
{
    const cuddle_chat_request *q = x->q;
    cdl_json *extra = NULL, *prompt = cdl_arena_zalloc(&x->arena, 1, sizeof *prompt);
    if (q->extra_json)
        CDL_TRY(parse_json(x, q->extra_json, "extra_json", CDL_JSON_OBJECT, &extra));
    x->vars = cdl_arena_zalloc(&x->arena, VARS_MAX + cdl_json_len(extra), sizeof *x->vars);
    if (!prompt || !x->vars)
        return nomem();
    *prompt = (cdl_json){ .type = CDL_JSON_BOOL, .as.b = q->add_generation_prompt };
    for (size_t i = 0; i < t->n_tokens; i++)
        x->vars[x->n++] = t->tokens[i];
    for (size_t i = 0; i < cdl_json_len(extra); i++)
        add(x, extra->as.items[i].key, &extra->as.items[i]);
    add(x, "messages", messages);
    CDL_TRY(add_array(x, "tools", q->tools_json, "tools_json"));
    CDL_TRY(add_array(x, "documents", q->documents_json, "documents_json"));
    add(x, "add_generation_prompt", prompt);
    return CUDDLE_OK;
}

/* ---- Continuing the last message ----
 * As transformers does it: a mark behind the message's text shows where the template puts its end. */

static const char mark[] = "CONTINUE_FINAL_MESSAGE_TAG "; /* its space shows whether the template trims */
enum { MARK = sizeof mark - 1 };

static cdl_json *member(const cdl_json *object, const char *key)
{
    return (cdl_json *)(uintptr_t)cdl_json_get(object, key);
}

/* The message's text: content, or the last text of its parts. */
static cdl_json *text_of(const cdl_json *message)
{
    cdl_json *content = member(message, "content"), *found = NULL;
    if (content && content->type == CDL_JSON_STRING)
        return content;
    for (size_t i = 0; content && content->type == CDL_JSON_ARRAY && i < content->n; i++) {
        cdl_json *text = member(&content->as.items[i], "text");
        if (text && text->type == CDL_JSON_STRING)
            found = text;
    }
    return found;
}

static cuddle_status mark_last(request *x, const cdl_json *messages)
{
    cdl_json *text = messages->n ? text_of(&messages->as.items[messages->n - 1]) : NULL;
    if (x->q->add_generation_prompt)
        return cdl_status_fail(CUDDLE_ERR_ARG, "add_generation_prompt and continue_final_message exclude each other");
    if (!text)
        return cdl_status_fail(CUDDLE_ERR_ARG, "continue_final_message: the last message has no text to continue");
    char *s = cdl_arena_alloc(&x->arena, text->n + MARK + 1);
    if (!s)
        return nomem();
    memcpy(s, text->as.s, text->n);
    memcpy(s + text->n, mark, MARK + 1);
    text->as.s = s;
    text->n += MARK;
    return CUDDLE_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static cuddle_status cut_at_mark(cdl_buf *b)
{
    char *at = NULL, *from = b->data;
    for (char *p; from && (p = memmem(from, b->len - (size_t)(from - b->data), mark, MARK - 1)); from = p + 1)
        at = p;
    if (!at)
        return cdl_status_fail(CUDDLE_ERR_ARG, "continue_final_message: the template does not show the last message");
    size_t n = (size_t)(at - b->data);
    bool kept = b->len - n >= MARK && at[MARK - 1] == mark[MARK - 1];
    while (!kept && n && is_space(b->data[n - 1]))
        n--;
    b->len = n;
    b->data[n] = '\0';
    return CUDDLE_OK;
}

/* ---- Rendering ---- */

static cuddle_status render(const cuddle_chat_template *t, request *x, cdl_buf *out)
{
    cdl_json *messages;
    CDL_TRY(make_messages(x, &messages));
    if (x->q->continue_final_message)
        CDL_TRY(mark_last(x, messages));
    CDL_TRY(add_variables(x, t, messages));
    int64_t now = x->q->now ? x->q->now : (int64_t)time(NULL);
    CDL_TRY(cdl_buf_reserve(out, 1)); /* an empty text is one too */
    out->data[0] = '\0';
    const cdl_jinja *jinja = x->q->tools_json && t->tool_use ? t->tool_use : t->jinja;
    CDL_TRY(cdl_jinja_render(jinja, x->vars, x->n, now, NULL, out));
    return x->q->continue_final_message ? cut_at_mark(out) : CUDDLE_OK;
}

cuddle_status cuddle_chat_template_render(const cuddle_chat_template *t, const cuddle_chat_request *given, char **out,
        size_t *n)
{
    cuddle_chat_request q = { 0 };
    cdl_buf b = { 0 };
    *out = NULL;
    *n = 0;
    if (!given->size)
        return cdl_status_fail(CUDDLE_ERR_ARG, "chat template: request.size is 0; set it to sizeof request");
    memcpy(&q, given, given->size < sizeof q ? given->size : sizeof q);
    request x = { .q = &q };
    cuddle_status st = render(t, &x, &b);
    cdl_arena_free(&x.arena);
    if (st != CUDDLE_OK) {
        cdl_buf_free(&b);
        return st;
    }
    *out = b.data;
    *n = b.len;
    return CUDDLE_OK;
}

void cuddle_chat_text_free(char *text)
{
    cdl_mem_free(text);
}
