#include "model/chat_load.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/status.h"

enum { TOKENS = 7 };

typedef struct {
    const cdl_checkpoint *c;
    cdl_arena arena;
    cuddle_chat_tokens tokens;
    cdl_chat_texts texts;
    char path[PATH_MAX];       /* of the file that was looked at last */
} loading;

/* Whether the model's folder has that file: l->path. */
static bool has_file(loading *l, const char *name)
{
    int n = snprintf(l->path, sizeof l->path, "%s/%s", cdl_checkpoint_folder(l->c), name);
    return n > 0 && (size_t)n < sizeof l->path && access(l->path, F_OK) == 0;
}

static const char **token_slot(cuddle_chat_tokens *t, int i)
{
    const char **const slots[TOKENS] = { &t->bos_token, &t->eos_token, &t->unk_token, &t->pad_token, &t->sep_token,
        &t->cls_token, &t->mask_token };
    return slots[i];
}

/* From l->texts. */
static cuddle_status open_template(loading *l, cuddle_chat_template **out, const char *where)
{
    const cdl_buf *source = &l->texts.source, *tool_use = &l->texts.tool_use;
    l->tokens.size = sizeof l->tokens;
    cuddle_status st = cuddle_chat_template_open(out, source->data, source->len, &l->tokens);
    if (st == CUDDLE_OK && tool_use->data) {
        st = cuddle_chat_template_set_tool_use(*out, tool_use->data, tool_use->len);
        if (st != CUDDLE_OK) {
            cuddle_chat_template_close(*out);
            *out = NULL;
        }
    }
    return st == CUDDLE_OK ? st : cdl_status_wrap(st, "%s", where);
}

void cdl_chat_texts_free(cdl_chat_texts *t)
{
    cdl_buf_free(&t->source);
    cdl_buf_free(&t->tool_use);
}

/* ---- From a folder ---- */

/* bos_token and its like: a string, or an object with the string in "content". */
static void read_tokens(loading *l, const cdl_json *config)
{
    static const char *const names[TOKENS] = { "bos_token", "eos_token", "unk_token", "pad_token", "sep_token",
        "cls_token", "mask_token" };
    for (int i = 0; i < TOKENS; i++) {
        const cdl_json *v = cdl_json_get(config, names[i]);
        const char *text = cdl_json_string(v, cdl_json_string(cdl_json_get(v, "content"), NULL));
        if (text)
            *token_slot(&l->tokens, i) = text;
    }
}

/* The template of that name in a list of { name, template }, or NULL. */
static const cdl_json *named(const cdl_json *list, const char *name)
{
    for (size_t i = 0; i < cdl_json_len(list); i++) {
        const cdl_json *one = cdl_json_at(list, i), *text = cdl_json_get(one, "template");
        if (cdl_json_is(cdl_json_get(one, "name"), name) && cdl_json_string(text, NULL))
            return text;
    }
    return NULL;
}

static cuddle_status append_text(cdl_buf *out, const cdl_json *text)
{
    return cdl_buf_append(out, text->as.s, text->n);
}

static cuddle_status append_file(cdl_buf *out, const char *path)
{
    cdl_map m;
    CDL_TRY(cdl_map_open(&m, path));
    cuddle_status st = cdl_buf_append(out, m.data, m.size);
    cdl_map_close(&m);
    return st;
}

/* chat_template: a string, or a list. *found: it was there. */
static cuddle_status find_member(loading *l, const cdl_json *config, bool *found)
{
    const cdl_json *v = cdl_json_get(config, "chat_template"), *source = v, *tool_use = NULL;
    if (v && v->type == CDL_JSON_ARRAY) {
        source = named(v, "default");
        tool_use = named(v, "tool_use");
    }
    *found = cdl_json_string(source, NULL);
    if (!*found)
        return CUDDLE_OK;
    CDL_TRY(append_text(&l->texts.source, source));
    return tool_use ? append_text(&l->texts.tool_use, tool_use) : CUDDLE_OK;
}

static cuddle_status read_jinja_files(loading *l)
{
    char path[PATH_MAX];
    CDL_TRY(append_file(&l->texts.source, l->path));
    memcpy(path, l->path, sizeof path); /* errors name the main one */
    bool more = has_file(l, "additional_chat_templates/tool_use.jinja");
    cuddle_status st = more ? append_file(&l->texts.tool_use, l->path) : CUDDLE_OK;
    memcpy(l->path, path, sizeof path);
    return st;
}

/* l->texts and, in l->path, the file they are from. config: tokenizer_config.json or NULL. */
static cuddle_status find_texts(loading *l, const cdl_json *config)
{
    const cdl_json *v;
    bool found = false;
    if (has_file(l, "chat_template.jinja"))
        return read_jinja_files(l);
    if (has_file(l, "chat_template.json")) {
        CDL_TRY(cdl_json_load(&v, &l->arena, l->path));
        CDL_TRY(find_member(l, v, &found));
    }
    if (!found) {
        (void)has_file(l, "tokenizer_config.json");
        CDL_TRY(find_member(l, config, &found));
    }
    if (found)
        return CUDDLE_OK;
    return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s has no chat template (chat_template.jinja, or chat_template in"
            " tokenizer_config.json): is it a base model?", cdl_checkpoint_folder(l->c));
}

/* Special tokens from the folder's files; *config: tokenizer_config.json, or NULL. */
static cuddle_status read_folder_tokens(loading *l, const cdl_json **config)
{
    const cdl_json *v;
    *config = NULL;
    if (has_file(l, "special_tokens_map.json")) {
        CDL_TRY(cdl_json_load(&v, &l->arena, l->path));
        read_tokens(l, v);
    }
    if (has_file(l, "tokenizer_config.json")) {
        CDL_TRY(cdl_json_load(config, &l->arena, l->path));
        read_tokens(l, *config);
    }
    return CUDDLE_OK;
}

static cuddle_status read_folder(loading *l)
{
    const cdl_json *config;
    CDL_TRY(read_folder_tokens(l, &config));
    return find_texts(l, config);
}

static cuddle_status load_folder(loading *l, cuddle_chat_template **out)
{
    CDL_TRY(read_folder(l));
    return open_template(l, out, l->path);
}

cuddle_status cdl_chat_read_folder(cdl_chat_texts *texts, cuddle_chat_tokens *tokens, cdl_arena *arena,
        const cdl_checkpoint *c)
{
    loading l = { .c = c, .arena = *arena };
    cuddle_status st = read_folder(&l);
    *arena = l.arena;
    *tokens = l.tokens;
    *texts = l.texts;
    return st;
}

/* ---- From GGUF ---- */

static cuddle_status read_gguf_tokens(loading *l)
{
    static const char *const names[TOKENS] = { "bos", "eos", "unknown", "padding", "seperator", "cls", "mask" };
    const char **slots[TOKENS];
    int64_t ids[TOKENS];
    cdl_gguf_array a;
    if (!cdl_checkpoint_gguf_array(l->c, "tokenizer.ggml.tokens", &a) || !a.strings)
        return CUDDLE_OK;
    for (int i = 0; i < TOKENS; i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        ids[i] = cdl_json_int(cdl_json_get(cdl_checkpoint_gguf(l->c), key), -1);
        slots[i] = token_slot(&l->tokens, i);
    }
    const uint8_t *at = a.data;
    for (uint64_t id = 0; id < a.n; id++) {
        size_t n;
        const char *s = cdl_gguf_array_string(&at, &n);
        for (int i = 0; i < TOKENS; i++)
            if (ids[i] == (int64_t)id && !(*slots[i] = cdl_arena_strndup(&l->arena, s, n)))
                return cdl_status_nomem("a chat template");
    }
    return CUDDLE_OK;
}

static cuddle_status load_gguf(loading *l, cuddle_chat_template **out)
{
    const char *name = cdl_checkpoint_file(l->c, 0);
    const cdl_json *v = cdl_json_get(cdl_checkpoint_gguf(l->c), CDL_CHAT_GGUF_KEY);
    const cdl_json *tool_use = cdl_json_get(cdl_checkpoint_gguf(l->c), CDL_CHAT_GGUF_TOOL_USE_KEY);
    if (!cdl_json_string(v, NULL))
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND,
                "%s has no chat template (" CDL_CHAT_GGUF_KEY "): is it a base model?", name);
    CDL_TRY(read_gguf_tokens(l));
    CDL_TRY(append_text(&l->texts.source, v));
    if (cdl_json_string(tool_use, NULL))
        CDL_TRY(append_text(&l->texts.tool_use, tool_use));
    return open_template(l, out, name);
}

/* ---- From a file that the caller names ---- */

static cuddle_status load_file(loading *l, cuddle_chat_template **out, const char *file)
{
    const cdl_json *config;
    CDL_TRY(cdl_checkpoint_gguf(l->c) ? read_gguf_tokens(l) : read_folder_tokens(l, &config));
    CDL_TRY(append_file(&l->texts.source, file));
    return open_template(l, out, file);
}

cuddle_status cdl_chat_load(cuddle_chat_template **out, const cdl_checkpoint *c, const char *file)
{
    *out = NULL;
    loading l = { .c = c };
    cuddle_status st = file ? load_file(&l, out, file)
        : cdl_checkpoint_gguf(c) ? load_gguf(&l, out) : load_folder(&l, out);
    cdl_chat_texts_free(&l.texts);
    cdl_arena_free(&l.arena);
    return st;
}
