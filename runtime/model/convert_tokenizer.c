/* convert_tokenizer.c - a folder's tokenizer.json and chat template as GGUF's tokenizer.* metadata.
 *
 * GGUF knows two kinds that are needed here: "gpt2" (byte-level BPE, a named pre-tokenizer) and "llama"
 * (SentencePiece's BPE with scores and byte tokens). What they cannot say goes along as a whole, as
 * tokenizer.huggingface.json, which cuddle prefers. Source: ggml docs/gguf.md; llama.cpp's converter. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "model/chat_load.h"
#include "model/convert_parts.h"
#include "model/pre_tokenizers.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

typedef struct {
    const char *s;             /* NULL: the id is not used */
    size_t n;
    int32_t type;
    float score;
} token;

typedef struct {
    cdl_converter *cv;
    const cdl_json *json;      /* tokenizer.json                                     */
    token *tokens;             /* [vocab of the model]                               */
    uint32_t n;
    uint32_t *by_text;         /* hash table of ids + 1, 2 x n or more               */
    size_t table;
    const cdl_pre_tokenizer *pre; /* of the byte-level kind                          */
    bool pieces;               /* SentencePiece's kind                               */
    bool exact;                /* GGUF's own keys say all of it                      */
    cuddle_chat_tokens special;
} writer;

static const cdl_json *part(const writer *t, const char *key)
{
    return cdl_json_get(t->json, key);
}

static bool is_type(const cdl_json *v, const char *type)
{
    return cdl_json_is(cdl_json_get(v, "type"), type);
}

/* v, or one of its members when v is a Sequence. */
static const cdl_json *find_type(const cdl_json *v, const char *list, const char *type)
{
    const cdl_json *steps = cdl_json_get(v, list);
    for (size_t i = 0; i < cdl_json_len(steps); i++)
        if (is_type(cdl_json_at(steps, i), type))
            return cdl_json_at(steps, i);
    return is_type(v, type) ? v : NULL;
}

/* ---- The vocabulary ---- */

static size_t slot_of(const writer *t, const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 1099511628211u;
    size_t at = (size_t)(h ^ h >> 32) & (t->table - 1);
    while (t->by_text[at]) {
        const token *k = &t->tokens[t->by_text[at] - 1];
        if (k->n == n && memcmp(k->s, s, n) == 0)
            break;
        at = (at + 1) & (t->table - 1);
    }
    return at;
}

static int64_t id_of(const writer *t, const char *s, size_t n)
{
    return (int64_t)t->by_text[slot_of(t, s, n)] - 1;
}

static bool is_byte_token(const char *s, size_t n)
{
    return n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>';
}

static void set_token(writer *t, int64_t id, const char *s, size_t n, int32_t type)
{
    if (id < 0 || id >= t->n) {
        t->exact = false;      /* the model has no row for it */
        return;
    }
    t->tokens[id] = (token){ s, n, type, -1000 };
    size_t at = slot_of(t, s, n);
    if (!t->by_text[at])
        t->by_text[at] = (uint32_t)id + 1;
}

static void read_added(writer *t)
{
    const cdl_json *added = part(t, "added_tokens");
    for (size_t i = 0; i < cdl_json_len(added); i++) {
        const cdl_json *a = cdl_json_at(added, i), *content = cdl_json_get(a, "content");
        if (!cdl_json_string(content, NULL))
            continue;
        bool special = cdl_json_bool(cdl_json_get(a, "special"), false);
        set_token(t, cdl_json_int(cdl_json_get(a, "id"), -1), content->as.s, content->n,
                special ? TYPE_CONTROL : TYPE_USER_DEFINED);
        static const char *const flags[] = { "lstrip", "rstrip", "single_word" };
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            t->exact &= !cdl_json_bool(cdl_json_get(a, flags[k]), false);
    }
}

static cuddle_status read_vocab(writer *t)
{
    const cdl_json *model = part(t, "model"), *vocab = cdl_json_get(model, "vocab");
    const char *unk = cdl_json_string(cdl_json_get(model, "unk_token"), NULL);
    t->table = 16;
    while (t->table < 2 * (size_t)t->n)
        t->table *= 2;
    t->tokens = cdl_arena_zalloc(&t->cv->arena, t->n, sizeof *t->tokens);
    t->by_text = cdl_arena_zalloc(&t->cv->arena, t->table, sizeof *t->by_text);
    if (!t->tokens || !t->by_text)
        return cdl_status_nomem("the tokenizer");
    for (size_t i = 0; i < cdl_json_len(vocab); i++) {
        const cdl_json *v = cdl_json_at(vocab, i);
        if (!v->key)
            continue;
        bool byte = t->pieces && is_byte_token(v->key, v->key_len);
        bool unknown = t->pieces && unk && strcmp(unk, v->key) == 0;
        set_token(t, cdl_json_int(v, -1), v->key, v->key_len, byte ? TYPE_BYTE : unknown ? TYPE_UNKNOWN : TYPE_NORMAL);
    }
    read_added(t);
    return CUDDLE_OK;
}

/* ---- Merges ---- */

/* The two sides of a merge: "a b" or ["a", "b"]. */
static bool merge_sides(const cdl_json *v, const char **a, size_t *na, const char **b, size_t *nb)
{
    if (v->type == CDL_JSON_STRING) {
        const char *space = v->n > 1 ? memchr(v->as.s + 1, ' ', v->n - 1) : NULL;
        if (!space)
            return false;
        *a = v->as.s;
        *na = (size_t)(space - v->as.s);
        *b = space + 1;
        *nb = v->n - *na - 1;
        return true;
    }
    const cdl_json *x = cdl_json_at(v, 0), *y = cdl_json_at(v, 1);
    if (v->type != CDL_JSON_ARRAY || v->n != 2 || x->type != CDL_JSON_STRING || y->type != CDL_JSON_STRING)
        return false;
    *a = x->as.s;
    *na = x->n;
    *b = y->as.s;
    *nb = y->n;
    return true;
}

static cuddle_status bad_merge(const writer *t, size_t i)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s/tokenizer.json: model.merges[%zu] is no pair of tokens",
            cdl_checkpoint_folder(t->cv->c), i);
}

static cuddle_status put_merges(writer *t)
{
    const cdl_json *merges = cdl_json_get(part(t, "model"), "merges");
    cdl_gguf_put_array(&t->cv->w, "tokenizer.ggml.merges", CDL_GGUF_STRING, cdl_json_len(merges), NULL, 0);
    cdl_buf pair = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < cdl_json_len(merges) && st == CUDDLE_OK; i++) {
        const char *a, *b;
        size_t na, nb;
        if (!merge_sides(cdl_json_at(merges, i), &a, &na, &b, &nb)) {
            st = bad_merge(t, i);
            break;
        }
        cdl_buf_clear(&pair);
        st = cdl_buf_printf(&pair, "%.*s %.*s", (int)na, a, (int)nb, b);
        if (st == CUDDLE_OK)
            cdl_gguf_item_string(&t->cv->w, pair.data, pair.len);
    }
    cdl_buf_free(&pair);
    return st;
}

/* SentencePiece joins the pair whose result has the highest score: minus the first merge that gives it. */
static cuddle_status score_pieces(writer *t)
{
    const cdl_json *merges = cdl_json_get(part(t, "model"), "merges");
    size_t n = cdl_json_len(merges);
    cdl_buf both = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->tokens[i].type == TYPE_NORMAL)
            t->tokens[i].score = -(float)n;
    for (size_t i = n; i-- > 0 && st == CUDDLE_OK;) {
        const char *a, *b;
        size_t na, nb;
        if (!merge_sides(cdl_json_at(merges, i), &a, &na, &b, &nb)) {
            st = bad_merge(t, i);
            break;
        }
        cdl_buf_clear(&both);
        st = cdl_buf_append(&both, a, na);
        if (st == CUDDLE_OK)
            st = cdl_buf_append(&both, b, nb);
        int64_t id = st == CUDDLE_OK ? id_of(t, both.data, both.len) : -1;
        if (id >= 0 && t->tokens[id].type == TYPE_NORMAL)
            t->tokens[id].score = -(float)i;
    }
    cdl_buf_free(&both);
    return st;
}

/* ---- Metadata ---- */

static void put_special(writer *t, const char *key, const char *s)
{
    int64_t id = s ? id_of(t, s, strlen(s)) : -1;
    if (id >= 0)
        cdl_gguf_put_u32(&t->cv->w, key, (uint32_t)id);
}

/* An id of generation_config.json or config.json, the first of a list. */
static int64_t config_id(const writer *t, const char *key)
{
    const cdl_json *files[2] = { cdl_checkpoint_generation_config(t->cv->c), cdl_checkpoint_config(t->cv->c) };
    for (int i = 0; i < 2; i++) {
        const cdl_json *v = cdl_json_get(files[i], key);
        int64_t id = cdl_json_int(v && v->type == CDL_JSON_ARRAY ? cdl_json_at(v, 0) : v, -1);
        if (id >= 0 && id < t->n)
            return id;
    }
    return -1;
}

static void put_end(writer *t, const char *key, const char *text, const char *config_key)
{
    int64_t id = text && t->by_text ? id_of(t, text, strlen(text)) : -1;
    if (id < 0)
        id = config_id(t, config_key);
    if (id >= 0)
        cdl_gguf_put_u32(&t->cv->w, key, (uint32_t)id);
}

/* Whether the post-processor puts a special token before (at 0) or behind the text. */
static bool frames(const writer *t, bool end)
{
    const cdl_json *p = find_type(part(t, "post_processor"), "processors", "TemplateProcessing");
    const cdl_json *single = cdl_json_get(p, "single");
    size_t n = cdl_json_len(single);
    return n && cdl_json_get(cdl_json_at(single, end ? n - 1 : 0), "SpecialToken");
}

/* SentencePiece's own tokens of the user hold spaces as they are. */
static cuddle_status put_user_token(writer *t, const token *k)
{
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < k->n && st == CUDDLE_OK; i++) {
        bool space = k->n - i >= 3 && memcmp(k->s + i, "\u2581", 3) == 0;
        st = cdl_buf_putc(&b, space ? ' ' : k->s[i]);
        i += space ? 2 : 0;
    }
    if (st == CUDDLE_OK)
        cdl_gguf_item_string(&t->cv->w, b.len ? b.data : "", b.len);
    cdl_buf_free(&b);
    return st;
}

static cuddle_status put_tokens(writer *t)
{
    cdl_gguf_writer *w = &t->cv->w;
    cdl_gguf_put_array(w, "tokenizer.ggml.tokens", CDL_GGUF_STRING, t->n, NULL, 0);
    for (uint32_t i = 0; i < t->n; i++) {
        char unused[32];
        int n = snprintf(unused, sizeof unused, "[PAD%u]", i);
        if (t->pieces && t->tokens[i].type == TYPE_USER_DEFINED) {
            CDL_TRY(put_user_token(t, &t->tokens[i]));
        } else if (t->tokens[i].s) {
            cdl_gguf_item_string(w, t->tokens[i].s, t->tokens[i].n);
        } else {
            cdl_gguf_item_string(w, unused, (size_t)n);
            t->tokens[i].type = TYPE_UNUSED;
        }
    }
    return CUDDLE_OK;
}

static cuddle_status put_columns(writer *t)
{
    int32_t *types = cdl_arena_zalloc(&t->cv->arena, t->n, sizeof *types);
    float *scores = cdl_arena_zalloc(&t->cv->arena, t->n, sizeof *scores);
    if (!types || !scores)
        return cdl_status_nomem("the tokenizer");
    for (uint32_t i = 0; i < t->n; i++) {
        types[i] = t->tokens[i].type;
        scores[i] = t->tokens[i].score;
    }
    cdl_gguf_put_array(&t->cv->w, "tokenizer.ggml.token_type", CDL_GGUF_I32, t->n, types, t->n * sizeof *types);
    if (t->pieces)
        cdl_gguf_put_array(&t->cv->w, "tokenizer.ggml.scores", CDL_GGUF_F32, t->n, scores, t->n * sizeof *scores);
    return CUDDLE_OK;
}

/* Byte-level or SentencePiece's kind, and whether GGUF can say all of it. */
static cuddle_status classify(writer *t)
{
    const cdl_json *model = part(t, "model"), *normalizer = part(t, "normalizer"), *pre = part(t, "pre_tokenizer");
    bool bpe = is_type(model, "BPE") || (cdl_json_none(cdl_json_get(model, "type")) && cdl_json_get(model, "merges"));
    t->exact = !*cdl_json_string(cdl_json_get(model, "continuing_subword_prefix"), "")
        && !*cdl_json_string(cdl_json_get(model, "end_of_word_suffix"), "");
    if (!bpe)
        return CUDDLE_OK;
    if (find_type(pre, "pretokenizers", "ByteLevel"))
        return cdl_pre_tokenizer_of(&t->pre, t->json);
    bool spaces = find_type(normalizer, "normalizers", "Replace") || find_type(pre, "pretokenizers", "Metaspace");
    t->pieces = spaces && cdl_json_bool(cdl_json_get(model, "byte_fallback"), false);
    return CUDDLE_OK;
}

static bool adds_space(const writer *t)
{
    const cdl_json *metaspace = find_type(part(t, "pre_tokenizer"), "pretokenizers", "Metaspace");
    bool never = cdl_json_is(cdl_json_get(metaspace, "prepend_scheme"), "never");
    return find_type(part(t, "normalizer"), "normalizers", "Prepend") || (metaspace && !never);
}

static cuddle_status put_kind(writer *t)
{
    cdl_gguf_writer *w = &t->cv->w;
    cdl_gguf_put_string(w, "tokenizer.ggml.model", t->pieces ? "llama" : "gpt2", t->pieces ? 5 : 4);
    const char *pre = t->pieces ? "default" : t->pre->pre;
    cdl_gguf_put_string(w, "tokenizer.ggml.pre", pre, strlen(pre));
    if (t->pieces)
        CDL_TRY(score_pieces(t));
    CDL_TRY(put_tokens(t));
    CDL_TRY(put_columns(t));
    if (!t->pieces)
        CDL_TRY(put_merges(t));
    else
        cdl_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", adds_space(t));
    put_special(t, "tokenizer.ggml.unknown_token_id",
            cdl_json_string(cdl_json_get(part(t, "model"), "unk_token"), t->special.unk_token));
    put_special(t, "tokenizer.ggml.padding_token_id", t->special.pad_token);
    cdl_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", frames(t, false));
    cdl_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", frames(t, true));
    return CUDDLE_OK;
}

static cuddle_status put_tokenizer(writer *t, const cdl_map *file, const char *path)
{
    CDL_TRY(cdl_json_parse(&t->json, &t->cv->arena, (const char *)file->data, file->size, path));
    CDL_TRY(classify(t));
    if (t->pieces || t->pre) {
        CDL_TRY(read_vocab(t));
        CDL_TRY(put_kind(t));
    } else {
        t->exact = false;
        cdl_gguf_put_string(&t->cv->w, "tokenizer.ggml.model", "none", 4);
    }
    if (t->exact)
        return CUDDLE_OK;
    cdl_gguf_put_string(&t->cv->w, "tokenizer.huggingface.json", (const char *)file->data, file->size);
    if (t->pieces || t->pre)
        cdl_convert_note(t->cv, "GGUF cannot say all of this tokenizer; cuddle reads its tokenizer.json from the"
                " file, llama.cpp"
                " may split some texts in another way");
    else
        cdl_convert_note(t->cv, "GGUF cannot say this tokenizer; cuddle reads its tokenizer.json from the file,"
                " llama.cpp"
                " has token ids only");
    return CUDDLE_OK;
}

static cuddle_status put_file(writer *t)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/tokenizer.json", cdl_checkpoint_folder(t->cv->c));
    if (n < 0 || (size_t)n >= sizeof path || access(path, F_OK) != 0) {
        cdl_gguf_put_string(&t->cv->w, "tokenizer.ggml.model", "none", 4);
        cdl_convert_note(t->cv, "%s has no tokenizer.json: the file takes token ids only",
                cdl_checkpoint_folder(t->cv->c));
        return CUDDLE_OK;
    }
    cdl_map file;
    CDL_TRY(cdl_map_open(&file, path));
    cuddle_status st = put_tokenizer(t, &file, path);
    cdl_map_close(&file);
    return st;
}

cuddle_status cdl_convert_put_tokenizer(cdl_converter *cv)
{
    writer t = { .cv = cv, .n = cv->graph.vocab };
    cdl_chat_texts chat = { 0 };
    cuddle_status found = cdl_chat_read_folder(&chat, &t.special, &cv->arena, cv->c);
    cuddle_status st = found == CUDDLE_ERR_NOTFOUND ? CUDDLE_OK : found;
    if (st == CUDDLE_OK)
        st = put_file(&t);
    if (st == CUDDLE_OK) {
        put_end(&t, "tokenizer.ggml.bos_token_id", t.special.bos_token, "bos_token_id");
        put_end(&t, "tokenizer.ggml.eos_token_id", t.special.eos_token, "eos_token_id");
        if (found == CUDDLE_OK)
            cdl_gguf_put_string(&cv->w, CDL_CHAT_GGUF_KEY, chat.source.data, chat.source.len);
        if (chat.tool_use.data)
            cdl_gguf_put_string(&cv->w, CDL_CHAT_GGUF_TOOL_USE_KEY, chat.tool_use.data, chat.tool_use.len);
    }
    cdl_chat_texts_free(&chat);
    return st != CUDDLE_OK ? st : cv->w.status;
}
