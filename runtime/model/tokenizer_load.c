#include "model/tokenizer_load.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "model/pre_tokenizers.h"
#include "token/load.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

typedef struct {
    const cdl_checkpoint *c;
    const char *name;          /* of the file */
    cuddle_tokenizer *t;
    cdl_gguf_array tokens, types, scores;
    cdl_arena arena;
} loading;

static cuddle_status wrong(const loading *l, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tokenizer.ggml.%s", l->name, what);
}

static const cdl_json *get(const loading *l, const char *key)
{
    char full[64];
    snprintf(full, sizeof full, "tokenizer.ggml.%s", key);
    return cdl_json_get(cdl_checkpoint_gguf(l->c), full);
}

static int32_t int_at(const cdl_gguf_array *a, uint64_t i)
{
    int32_t v;
    memcpy(&v, a->data + 4 * i, 4);
    return v;
}

static float float_at(const cdl_gguf_array *a, uint64_t i)
{
    float v;
    memcpy(&v, a->data + 4 * i, 4);
    return v;
}

static int32_t type_of(const loading *l, uint64_t i)
{
    return l->types.n ? int_at(&l->types, i) : TYPE_NORMAL;
}

static cuddle_status find_arrays(loading *l)
{
    if (!cdl_checkpoint_gguf_array(l->c, "tokenizer.ggml.tokens", &l->tokens) || !l->tokens.strings)
        return wrong(l, "tokens is missing or no list of strings");
    if (l->tokens.n > CDL_VOCAB_ID_MAX)
        return wrong(l, "tokens is too long");
    bool types = cdl_checkpoint_gguf_array(l->c, "tokenizer.ggml.token_type", &l->types);
    if (types && (l->types.strings || l->types.type != CDL_DTYPE_I32 || l->types.n != l->tokens.n))
        return wrong(l, "token_type must be int32, one for each token");
    bool scores = cdl_checkpoint_gguf_array(l->c, "tokenizer.ggml.scores", &l->scores);
    if (scores && (l->scores.strings || l->scores.type != CDL_DTYPE_F32 || l->scores.n != l->tokens.n))
        return wrong(l, "scores must be float32, one for each token");
    return CUDDLE_OK;
}

static bool only_spaces(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ')
            return false;
    return n > 0;
}

/* Runs of spaces are tokens of the model, written with U+2581, as in Hugging Face's conversion. */
static cuddle_status add_spaces(loading *l, size_t n, uint64_t id)
{
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++)
        st = cdl_buf_puts(&b, "\u2581");
    if (st == CUDDLE_OK)
        st = cdl_vocab_add(&l->t->model.vocab, b.data, b.len, (int64_t)id);
    cdl_buf_free(&b);
    return st;
}

static cuddle_status read_tokens(loading *l)
{
    const uint8_t *at = l->tokens.data;
    CDL_TRY(cdl_vocab_reserve(&l->t->model.vocab, l->tokens.n));
    for (uint64_t i = 0; i < l->tokens.n; i++) {
        size_t n;
        const char *s = cdl_gguf_array_string(&at, &n);
        int32_t type = type_of(l, i);
        if (cdl_utf8_valid(s, n) < n)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: tokenizer.ggml.tokens: token %llu is not UTF-8", l->name,
                    (unsigned long long)i);
        if (type == TYPE_USER_DEFINED && only_spaces(s, n)) {
            CDL_TRY(add_spaces(l, n, i));
            continue;
        }
        CDL_TRY(cdl_vocab_add(&l->t->model.vocab, s, n, (int64_t)i));
        bool added = type == TYPE_CONTROL || type == TYPE_USER_DEFINED;
        cdl_added a = { .id = (int32_t)i, .content = s, .n = (uint32_t)n, .special = type == TYPE_CONTROL };
        if (added && n)
            CDL_TRY(cdl_tokenizer_add(l->t, &a));
        if (type == TYPE_UNKNOWN && n) {
            a.special = true;
            CDL_TRY(cdl_tokenizer_add(l->t, &a));
        }
    }
    return CUDDLE_OK;
}

static cuddle_status load_json(loading *l, const char *text,
        cuddle_status (*load)(cuddle_tokenizer *t, const cdl_json *v, const char *name))
{
    const cdl_json *v;
    CDL_TRY(cdl_json_parse(&v, &l->arena, text, strlen(text), l->name));
    return load(l->t, v, l->name);
}

/* ---- Byte-level BPE ---- */

static cuddle_status read_merges(loading *l)
{
    cdl_gguf_array merges;
    cdl_token_model *m = &l->t->model;
    if (!cdl_checkpoint_gguf_array(l->c, "tokenizer.ggml.merges", &merges) || !merges.strings)
        return wrong(l, "merges is missing or no list of strings");
    CDL_TRY(cdl_bpe_reserve_merges(m, merges.n));
    const uint8_t *at = merges.data;
    for (uint64_t i = 0; i < merges.n; i++) {
        size_t n;
        const char *s = cdl_gguf_array_string(&at, &n), *space = n ? memchr(s + 1, ' ', n - 1) : NULL;
        size_t na = space ? (size_t)(space - s) : 0, nb = space ? n - na - 1 : 0;
        int32_t a = cdl_vocab_find(&m->vocab, s, na), b = space ? cdl_vocab_find(&m->vocab, space + 1, nb) : -1;
        int32_t both = a < 0 || b < 0 ? -1 : cdl_vocab_find_joined(&m->vocab, s, na, space + 1, nb);
        if (both < 0)
            return cdl_status_fail(CUDDLE_ERR_FORMAT,
                    "%s: tokenizer.ggml.merges: '%.*s' does not join two tokens to a third",
                    l->name, CDL_STR(s, n));
        CDL_TRY(cdl_bpe_add_merge(m, (uint32_t)a, (uint32_t)b, (uint32_t)both));
    }
    return CUDDLE_OK;
}

static cuddle_status load_byte_level(loading *l)
{
    const char *pre = cdl_json_string(get(l, "pre"), "default");
    CDL_TRY(read_merges(l));
    CDL_TRY(load_json(l, "{\"type\":\"ByteLevel\"}", cdl_load_decoder));
    const cdl_pre_tokenizer *p = cdl_pre_tokenizer_find(pre);
    if (p) {
        l->t->model.ignore_merges = p->ignore_merges;
        if (p->nfc)
            CDL_TRY(load_json(l, "{\"type\":\"NFC\"}", cdl_load_normalizer));
        return load_json(l, p->json, cdl_load_pre_tokenizer);
    }
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
            "%s: tokenizer.ggml.pre '%.60s' is not known; use the model's folder with its"
            " tokenizer.json instead", l->name, pre);
}

/* ---- SentencePiece-style BPE ---- */

static int compare_scores(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x < *y) - (*x > *y); /* the highest first */
}

static float score_of(const loading *l, uint64_t i)
{
    float s = float_at(&l->scores, i);
    return isnan(s) ? 0 : s;
}

static bool is_ordinary(const loading *l, uint64_t i)
{
    return type_of(l, i) == TYPE_NORMAL || type_of(l, i) == TYPE_UNUSED;
}

/* The distinct scores of ordinary tokens, the highest first. */
static size_t sort_scores(const loading *l, float *sorted)
{
    size_t n = 0, distinct = 0;
    bool falling = true; /* most files have them in order */
    for (size_t i = 0; i < l->tokens.n; i++) {
        if (!is_ordinary(l, i))
            continue;
        sorted[n] = score_of(l, i);
        falling &= !n || sorted[n - 1] >= sorted[n];
        n++;
    }
    if (!falling)
        qsort(sorted, n, sizeof *sorted, compare_scores);
    for (size_t i = 0; i < n; i++)
        if (!i || sorted[i] != sorted[distinct - 1])
            sorted[distinct++] = sorted[i];
    return distinct;
}

/* How many of sorted are above s; near is tried first. */
static size_t count_above(const float *sorted, size_t n, float s, size_t near)
{
    size_t low = 0, high = n;
    for (int tries = 0; tries < 2 && near < n; tries++, near++)
        if (sorted[near] == s)
            return near;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sorted[middle] > s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A token's rank: user-defined ones come first, in their order, then by score. */
static cuddle_status rank_scores(loading *l)
{
    size_t n = l->tokens.n, first = 0, above = 0;
    uint64_t *rank = cdl_mem_array(l->t->model.vocab.ids, sizeof *rank);
    float *sorted = cdl_mem_array(n, sizeof *sorted);
    l->t->model.join_rank = rank;
    if (!rank || !sorted) {
        cdl_mem_free(sorted);
        return cdl_status_nomem("the tokenizer");
    }
    size_t distinct = sort_scores(l, sorted);
    for (size_t i = 0; i < n; i++)
        if (type_of(l, i) == TYPE_USER_DEFINED)
            rank[i] = first++;
    for (size_t i = 0; i < n; i++) {
        float s = score_of(l, i);
        if (type_of(l, i) == TYPE_USER_DEFINED)
            continue;
        above = count_above(sorted, distinct, s, above);
        bool among = above < distinct && sorted[above] == s;
        rank[i] = first + 2 * above + among; /* those between two of sorted rank between them */
    }
    cdl_mem_free(sorted);
    return CUDDLE_OK;
}

#define MARK "\u2581"
#define SPACE_TO_MARK "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}"
#define MARK_TO_SPACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},\"content\":\" \"}"
#define MARK_FIRST "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"prepend_scheme\":\"first\",\"split\":false}"
#define PIECES_TO_TEXT(more) "{\"type\":\"Sequence\",\"decoders\":[" MARK_TO_SPACE \
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}" more "]}"

static cuddle_status load_pieces(loading *l)
{
    cdl_token_model *m = &l->t->model;
    if (!l->scores.n)
        return wrong(l, "scores is missing");
    CDL_TRY(rank_scores(l));
    m->byte_fallback = m->fuse_unk = true;
    int64_t unk = cdl_json_int(get(l, "unknown_token_id"), 0);
    size_t n = 0;
    m->unk_text = cdl_vocab_text(&m->vocab, unk, &n);
    m->n_unk_text = (uint32_t)n;
    bool prefix = cdl_json_bool(get(l, "add_space_prefix"), true);
    CDL_TRY(load_json(l, SPACE_TO_MARK, cdl_load_normalizer));
    if (prefix)
        CDL_TRY(load_json(l, MARK_FIRST, cdl_load_pre_tokenizer));
    return load_json(l, prefix ? PIECES_TO_TEXT(",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}")
                               : PIECES_TO_TEXT(""), cdl_load_decoder);
}

/* ---- Both ---- */

static cuddle_status put_special(loading *l, cdl_buf *b, const char *side, const char *flag, bool fallback, int64_t *id)
{
    *id = -1;
    if (!cdl_json_bool(get(l, flag), fallback))
        return CUDDLE_OK;
    *id = cdl_json_int(get(l, side), -1);
    size_t n;
    const char *s = cdl_vocab_text(&l->t->model.vocab, *id, &n);
    if (!s) {
        *id = -1;
        return CUDDLE_OK;
    }
    const char *comma = b->data[b->len - 1] == '{' ? "" : ",";
    CDL_TRY(cdl_buf_printf(b, "%s\"%s\":{\"ids\":[%lld],\"tokens\":[", comma, side, (long long)*id));
    CDL_TRY(cdl_json_put_string(b, s, n));
    return cdl_buf_puts(b, "]}");
}

#define SPECIAL(name, type) "{\"SpecialToken\":{\"id\":\"" name "_token_id\",\"type_id\":" type "}}"

/* Beginning and end of text, as a TemplateProcessing. */
static cuddle_status frame(loading *l, bool begins, cdl_buf *b)
{
    int64_t bos, eos;
    CDL_TRY(cdl_buf_puts(b, "{\"type\":\"TemplateProcessing\",\"special_tokens\":{"));
    CDL_TRY(put_special(l, b, "bos_token_id", "add_bos_token", begins, &bos));
    CDL_TRY(put_special(l, b, "eos_token_id", "add_eos_token", false, &eos));
    if (bos < 0 && eos < 0)
        return CUDDLE_OK;
    const char *begin[2] = { bos >= 0 ? SPECIAL("bos", "0") "," : "", bos >= 0 ? SPECIAL("bos", "1") "," : "" };
    const char *end[2] = { eos >= 0 ? "," SPECIAL("eos", "0") : "", eos >= 0 ? "," SPECIAL("eos", "1") : "" };
    static const char *const sequence[2] = { "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}",
            "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}" };
    CDL_TRY(cdl_buf_printf(b, "},\"single\":[%s%s%s],", begin[0], sequence[0], end[0]));
    CDL_TRY(cdl_buf_printf(b, "\"pair\":[%s%s%s,%s%s%s]}", begin[0], sequence[0], end[0], begin[1], sequence[1],
            end[1]));
    return load_json(l, b->data, cdl_load_post_processor);
}

static cuddle_status load_gguf(loading *l)
{
    const char *model = cdl_json_string(get(l, "model"), NULL);
    if (!model || strcmp(model, "none") == 0)
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s has no tokenizer (tokenizer.ggml.model)", l->name);
    bool byte_level = strcmp(model, "gpt2") == 0;
    if (!byte_level && strcmp(model, "llama") != 0)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                "%s: tokenizer.ggml.model '%.60s' is not known; use the model's folder"
                " with its tokenizer.json instead", l->name, model);
    CDL_TRY(find_arrays(l));
    CDL_TRY(read_tokens(l));
    CDL_TRY(byte_level ? load_byte_level(l) : load_pieces(l));
    bool begins = !byte_level || strcmp(cdl_json_string(get(l, "pre"), ""), "llama-bpe") == 0;
    cdl_buf b = { 0 };
    cuddle_status st = frame(l, begins, &b);
    cdl_buf_free(&b);
    return st == CUDDLE_OK ? cdl_tokenizer_finish(l->t, l->name) : st;
}

static cuddle_status open_folder(cuddle_tokenizer **out, const char *folder)
{
    static const char *const names[] = { "tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model",
                                         "sentencepiece.bpe.model", "qwen.tiktoken", "vocab.json", "vocab.txt" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0)
            return cuddle_tokenizer_open(out, path);
    }
    return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s has no tokenizer.json, nor an older kind of tokenizer file",
            folder);
}

cuddle_status cdl_tokenizer_load(cuddle_tokenizer **out, const cdl_checkpoint *c)
{
    *out = NULL;
    if (!cdl_checkpoint_gguf(c))
        return open_folder(out, cdl_checkpoint_folder(c));
    const cdl_json *whole = cdl_json_get(cdl_checkpoint_gguf(c), "tokenizer.huggingface.json");
    if (cdl_json_string(whole, NULL))
        return cuddle_tokenizer_parse(out, whole->as.s, whole->n, cdl_checkpoint_file(c, 0));
    loading l = { .c = c, .name = cdl_checkpoint_file(c, 0) };
    CDL_TRY(cdl_tokenizer_new(&l.t));
    cuddle_status st = load_gguf(&l);
    cdl_arena_free(&l.arena);
    if (st == CUDDLE_OK)
        *out = l.t;
    else
        cuddle_tokenizer_close(l.t);
    return st;
}
