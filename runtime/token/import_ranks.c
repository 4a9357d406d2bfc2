/* import_ranks.c - tiktoken's "base64 rank" lines and tekken's JSON: byte-level BPE whose merges follow from ranks.
 *
 * Any two tokens that make a third are a merge, with the third's rank, as in transformers' conversion; a word that
 * is a token is that token. The patterns and special tokens of tiktoken's files are known by the number of ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/import.h"
#include "token/parts.h"
#include "token/unicode.h"

enum { TOKEN_BYTES_MAX = 1024 };

typedef struct {
    const char *text;
    uint32_t id;
} special;

static const struct {
    uint32_t ranks;
    cdl_scan scan;             /* whose pattern it has */
    special specials[6];
} known[] = {
    { 100256, CDL_SCAN_LLAMA3, { { "<|endoftext|>", 100257 }, { "<|fim_prefix|>", 100258 },
                        { "<|fim_middle|>", 100259 }, { "<|fim_suffix|>", 100260 },
                        { "<|endofprompt|>", 100276 } } },
    { 199998, CDL_SCAN_O200K, { { "<|endoftext|>", 199999 }, { "<|endofprompt|>", 200018 } } },
    { 50256, CDL_SCAN_GPT2, { { "<|endoftext|>", 50256 } } },
    { 50280, CDL_SCAN_GPT2, { { "<|endoftext|>", 50256 } } },
    { 151643, CDL_SCAN_QWEN2, { { "<|endoftext|>", 151643 }, { "<|im_start|>", 151644 }, { "<|im_end|>", 151645 } } },
    { 128000, CDL_SCAN_LLAMA3, { { "<|begin_of_text|>", 128000 }, { "<|end_of_text|>", 128001 },
                        { "<|start_header_id|>", 128006 }, { "<|end_header_id|>", 128007 },
                        { "<|eot_id|>", 128009 } } },
};

/* ---- Tokens of bytes ---- */

static cuddle_status put_bytes(cdl_buf *out, const char *s, size_t n)
{
    char shown[4 * TOKEN_BYTES_MAX];
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += cdl_utf8_put(shown + len, cdl_unicode_from_byte((uint8_t)s[i]));
    return cdl_json_put_string(out, shown, len);
}

typedef struct {
    uint32_t id, left, right;
} merge;

static int by_rank(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static cuddle_status find_merges(const cdl_vocab *v, merge **list, size_t *n, size_t *cap)
{
    for (uint32_t id = 0; id < v->ids; id++) {
        size_t len = 0;
        const char *s = cdl_vocab_text(v, id, &len);
        for (size_t i = 1; s && i < len; i++) {
            int32_t left = cdl_vocab_find(v, s, i), right = cdl_vocab_find(v, s + i, len - i);
            if (left < 0 || right < 0)
                continue;
            CDL_TRY(cdl_work_grow(list, cap, *n + 1, sizeof **list));
            (*list)[(*n)++] = (merge){ id, (uint32_t)left, (uint32_t)right };
        }
    }
    return CUDDLE_OK;
}

static cuddle_status put_merges(cdl_buf *out, const cdl_vocab *v, const merge *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t a = 0, b = 0;
        const char *left = cdl_vocab_text(v, list[i].left, &a), *right = cdl_vocab_text(v, list[i].right, &b);
        CDL_TRY(cdl_buf_puts(out, i ? ",\n[" : "\n["));
        CDL_TRY(put_bytes(out, left, a));
        CDL_TRY(cdl_buf_putc(out, ','));
        CDL_TRY(put_bytes(out, right, b));
        CDL_TRY(cdl_buf_putc(out, ']'));
    }
    return CUDDLE_OK;
}

/* The model, with the special tokens among its vocabulary so that they keep their ids; v's ids count from base. */
static cuddle_status put_model(cdl_buf *out, const cdl_vocab *v, uint32_t base, const cdl_buf *specials)
{
    merge *list = NULL;
    size_t n = 0, cap = 0;
    CDL_TRY(cdl_buf_puts(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
            "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
            "\"ignore_merges\":true,\"vocab\":{"));
    CDL_TRY(cdl_buf_append(out, specials->data ? specials->data : "", specials->len));
    bool first = !specials->len;
    for (uint32_t id = 0; id < v->ids; id++) {
        size_t len = 0;
        const char *s = cdl_vocab_text(v, id, &len);
        if (!s)
            continue;
        CDL_TRY(cdl_buf_puts(out, first ? "\n" : ",\n"));
        CDL_TRY(put_bytes(out, s, len));
        CDL_TRY(cdl_buf_printf(out, ":%u", id + base));
        first = false;
    }
    CDL_TRY(cdl_buf_puts(out, "},\"merges\":["));
    cuddle_status st = find_merges(v, &list, &n, &cap);
    if (st == CUDDLE_OK && n)
        qsort(list, n, sizeof *list, by_rank);
    if (st == CUDDLE_OK)
        st = put_merges(out, v, list, n);
    cdl_mem_free(list);
    return st == CUDDLE_OK ? cdl_buf_puts(out, "]}}\n") : st;
}

#define BYTES(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"

static cuddle_status put_cutting(cdl_buf *out, const char *pattern, size_t n)
{
    CDL_TRY(cdl_buf_puts(out, "],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
            "\"pattern\":{\"Regex\":"));
    CDL_TRY(cdl_json_put_string(out, pattern, n));
    return cdl_buf_puts(out, "},\"behavior\":\"Isolated\",\"invert\":false}," BYTES("false") "]},\"decoder\":"
            BYTES("true") ",");
}

static cuddle_status put_special(cdl_buf *out, cdl_buf *vocab, int64_t id, const char *s, size_t n)
{
    CDL_TRY(cdl_import_put_added(out, !vocab->len, id, s, n, true));
    CDL_TRY(cdl_buf_puts(vocab, vocab->len ? ",\n" : "\n"));
    CDL_TRY(cdl_json_put_string(vocab, s, n));
    return cdl_buf_printf(vocab, ":%lld", (long long)id);
}

/* A token's bytes, of base64. */
static cuddle_status add_token(cdl_vocab *v, const char *s, size_t n, int64_t rank, const char *name)
{
    uint8_t bytes[TOKEN_BYTES_MAX];
    size_t len;
    if (!n || n / 4 * 3 > TOKEN_BYTES_MAX - 3 || !cdl_base64_decode(s, n, bytes, &len) || !len)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: the token of rank %lld is no base64 of 1 to %d bytes", name,
                (long long)rank, TOKEN_BYTES_MAX - 3);
    return cdl_vocab_add(v, (const char *)bytes, len, rank);
}

/* ---- tiktoken ---- */

static cuddle_status read_lines(cdl_vocab *v, const char *data, size_t n, const char *name, uint32_t *ranks)
{
    const char *end = data + n;
    for (const char *s = data; s < end; ) {
        const char *line = memchr(s, '\n', (size_t)(end - s)), *stop = line ? line : end;
        const char *space = memchr(s, ' ', (size_t)(stop - s));
        char digits[16] = "";
        size_t len = space ? (size_t)(stop - space) - 1 : 0;
        if (stop == s || (stop == s + 1 && *s == '\r')) {
            s = stop + 1;
            continue;
        }
        if (!space || !len || len >= sizeof digits)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: line %u is no token and its rank", name, *ranks + 1);
        memcpy(digits, space + 1, len);
        char *rest;
        long rank = strtol(digits, &rest, 10);
        if (rest == digits || (*rest && *rest != '\r') || rank < 0)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: line %u has no rank", name, *ranks + 1);
        CDL_TRY(add_token(v, s, (size_t)(space - s), rank, name));
        ++*ranks;
        s = stop + 1;
    }
    return *ranks ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: there are no tokens", name);
}

static cuddle_status put_tiktoken(cdl_buf *out, cdl_buf *specials, const cdl_vocab *v, uint32_t ranks)
{
    cdl_scan scan = CDL_SCAN_LLAMA3;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (known[k].ranks != ranks)
            continue;
        scan = known[k].scan;
        for (const special *s = known[k].specials; s < known[k].specials + 6 && s->text; s++)
            CDL_TRY(put_special(out, specials, s->id, s->text, strlen(s->text)));
    }
    const char *pattern = cdl_scan_pattern(scan);
    CDL_TRY(put_cutting(out, pattern, strlen(pattern)));
    return put_model(out, v, 0, specials);
}

cuddle_status cdl_import_tiktoken(cdl_buf *out, const char *data, size_t n, const char *name)
{
    cdl_vocab v = { 0 };
    cdl_buf specials = { 0 };
    uint32_t ranks = 0;
    cuddle_status st = read_lines(&v, data, n, name, &ranks);
    if (st == CUDDLE_OK)
        st = cdl_buf_puts(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    if (st == CUDDLE_OK)
        st = put_tiktoken(out, &specials, &v, ranks);
    cdl_vocab_free(&v);
    cdl_buf_free(&specials);
    return st;
}

/* ---- tekken ---- */

static cuddle_status read_tekken(cdl_vocab *v, const cdl_json *file, uint32_t most, const char *name)
{
    const cdl_json *list = cdl_json_get(file, "vocab");
    if (!list || list->type != CDL_JSON_ARRAY)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: \"vocab\" must be a list", name);
    for (size_t i = 0; i < list->n; i++) {
        const cdl_json *bytes = cdl_json_get(cdl_json_at(list, i), "token_bytes");
        int64_t rank = cdl_json_int(cdl_json_get(cdl_json_at(list, i), "rank"), -1);
        if (!bytes || bytes->type != CDL_JSON_STRING || rank < 0)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: vocab: entry %zu has no \"token_bytes\" or no \"rank\"",
                    name, i);
        if (rank < most)
            CDL_TRY(add_token(v, bytes->as.s, bytes->n, rank, name));
    }
    return CUDDLE_OK;
}

/* Special tokens lead: those that are named, the others as <SPECIAL_i>. */
static cuddle_status put_tekken_specials(cdl_buf *out, cdl_buf *vocab, const cdl_json *file, uint32_t n)
{
    const cdl_json *list = cdl_json_get(file, "special_tokens");
    for (uint32_t id = 0; id < n; id++) {
        char text[32];
        const char *s = text;
        size_t len = (size_t)snprintf(text, sizeof text, "<SPECIAL_%u>", id);
        for (size_t i = 0; i < cdl_json_len(list); i++) {
            const cdl_json *k = cdl_json_at(list, i), *named = cdl_json_get(k, "token_str");
            bool mine = cdl_json_int(cdl_json_get(k, "rank"), -1) == id;
            if (mine && named && named->type == CDL_JSON_STRING && named->n) {
                s = named->as.s;
                len = named->n;
            }
        }
        CDL_TRY(put_special(out, vocab, id, s, len));
    }
    return CUDDLE_OK;
}

static cuddle_status put_tekken(cdl_buf *out, cdl_vocab *v, cdl_buf *specials, const cdl_json *file, const char *name)
{
    const cdl_json *config = cdl_json_get(file, "config"), *pattern = cdl_json_get(config, "pattern");
    int64_t size = cdl_json_int(cdl_json_get(config, "default_vocab_size"), -1);
    int64_t lead = cdl_json_int(cdl_json_get(config, "default_num_special_tokens"), -1);
    if (!pattern || pattern->type != CDL_JSON_STRING || size < 1 || size > CDL_VOCAB_ID_MAX || lead < 0 || lead >= size
            || lead > 1 << 16)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: config: \"pattern\", \"default_vocab_size\" or "
                "\"default_num_special_tokens\" is missing or out of range", name);
    CDL_TRY(read_tekken(v, file, (uint32_t)(size - lead), name));
    CDL_TRY(cdl_buf_puts(out, "{\"version\":\"1.0\",\"added_tokens\":["));
    CDL_TRY(put_tekken_specials(out, specials, file, (uint32_t)lead));
    CDL_TRY(put_cutting(out, pattern->as.s, pattern->n));
    return put_model(out, v, (uint32_t)lead, specials);
}

cuddle_status cdl_import_tekken(cdl_buf *out, const char *data, size_t n, const char *name)
{
    cdl_arena arena = { 0 };
    cdl_vocab v = { 0 };
    cdl_buf specials = { 0 };
    const cdl_json *file;
    cuddle_status st = cdl_json_parse(&file, &arena, data, n, name);
    if (st == CUDDLE_OK)
        st = put_tekken(out, &v, &specials, file, name);
    cdl_buf_free(&specials);
    cdl_vocab_free(&v);
    cdl_arena_free(&arena);
    return st;
}
