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

static cuddle_status open_template(loading *l, cuddle_chat_template **out, const char *source, size_t n,
        const char *where)
{
    l->tokens.size = sizeof l->tokens;
    cuddle_status st = cuddle_chat_template_open(out, source, n, &l->tokens);
    return st == CUDDLE_OK ? st : cdl_status_wrap(st, "%s", where);
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

/* chat_template: a string, or a list of { name, template }. */
static const cdl_json *template_of(const cdl_json *config)
{
    const cdl_json *v = cdl_json_get(config, "chat_template");
    if (v && v->type == CDL_JSON_STRING)
        return v;
    for (size_t i = 0; i < cdl_json_len(v); i++) {
        const cdl_json *one = cdl_json_at(v, i);
        if (cdl_json_is(cdl_json_get(one, "name"), "default") && cdl_json_string(cdl_json_get(one, "template"), NULL))
            return cdl_json_get(one, "template");
    }
    return NULL;
}

static cuddle_status append_file(cdl_buf *out, const char *path)
{
    cdl_map m;
    CDL_TRY(cdl_map_open(&m, path));
    cuddle_status st = cdl_buf_append(out, m.data, m.size);
    cdl_map_close(&m);
    return st;
}

/* The template's text and, in l->path, the file it is from. config: tokenizer_config.json or NULL. */
static cuddle_status find_source(loading *l, const cdl_json *config, cdl_buf *out)
{
    const cdl_json *v = NULL;
    if (has_file(l, "chat_template.jinja"))
        return append_file(out, l->path);
    if (has_file(l, "chat_template.json")) {
        CDL_TRY(cdl_json_load(&v, &l->arena, l->path));
        v = template_of(v);
    }
    if (!v) {
        v = template_of(config);
        (void)has_file(l, "tokenizer_config.json");
    }
    if (v)
        return cdl_buf_append(out, v->as.s, v->n);
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

static cuddle_status read_folder(loading *l, cdl_buf *source)
{
    const cdl_json *config;
    CDL_TRY(read_folder_tokens(l, &config));
    return find_source(l, config, source);
}

static cuddle_status load_folder(loading *l, cuddle_chat_template **out)
{
    cdl_buf source = { 0 };
    cuddle_status st = read_folder(l, &source);
    if (st == CUDDLE_OK)
        st = open_template(l, out, source.data, source.len, l->path);
    cdl_buf_free(&source);
    return st;
}

cuddle_status cdl_chat_read_folder(cdl_buf *source, cuddle_chat_tokens *tokens, cdl_arena *arena,
        const cdl_checkpoint *c)
{
    loading l = { .c = c, .arena = *arena };
    cuddle_status st = read_folder(&l, source);
    *arena = l.arena;
    *tokens = l.tokens;
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
    const cdl_json *v = cdl_json_get(cdl_checkpoint_gguf(l->c), "tokenizer.chat_template");
    if (!cdl_json_string(v, NULL))
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND,
                "%s has no chat template (tokenizer.chat_template): is it a base model?", name);
    CDL_TRY(read_gguf_tokens(l));
    return open_template(l, out, v->as.s, v->n, name);
}

/* ---- From a file that the caller names ---- */

static cuddle_status load_file(loading *l, cuddle_chat_template **out, const char *file)
{
    const cdl_json *config;
    cdl_buf source = { 0 };
    cuddle_status st = cdl_checkpoint_gguf(l->c) ? read_gguf_tokens(l) : read_folder_tokens(l, &config);
    if (st == CUDDLE_OK)
        st = append_file(&source, file);
    if (st == CUDDLE_OK)
        st = open_template(l, out, source.data, source.len, file);
    cdl_buf_free(&source);
    return st;
}

cuddle_status cdl_chat_load(cuddle_chat_template **out, const cdl_checkpoint *c, const char *file)
{
    *out = NULL;
    loading l = { .c = c };
    cuddle_status st = file ? load_file(&l, out, file)
        : cdl_checkpoint_gguf(c) ? load_gguf(&l, out) : load_folder(&l, out);
    cdl_arena_free(&l.arena);
    return st;
}
