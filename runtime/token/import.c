/* import.c - which kind of file it is; vocab.txt, and vocab.json with merges.txt. */
#include "token/import.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/utf8.h"

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static bool is_text(const char *s, size_t n, const char *text)
{
    return n == strlen(text) && memcmp(s, text, n) == 0;
}

/* "IQ== 0" */
static bool is_tiktoken(const char *s, size_t n)
{
    const char *line = memchr(s, '\n', n < 400 ? n : 400);
    size_t len = line ? (size_t)(line - s) : n < 400 ? n : 0, i = 0;
    while (i < len && (s[i] == '+' || s[i] == '/' || s[i] == '=' || (s[i] >= '0' && s[i] <= '9')
            || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= 'a' && s[i] <= 'z')))
        i++;
    if (!i || i % 4 || i + 1 >= len || s[i] != ' ')
        return false;
    while (++i < len && ((s[i] >= '0' && s[i] <= '9') || s[i] == '\r'))
        ;
    return i == len;
}

/* Whether the JSON has a "config" or a list of a "vocab" in front of what a tokenizer.json has. */
static bool is_tekken(const char *data, size_t n, const char *name)
{
    static const char *const others[] = { "version", "truncation", "padding", "added_tokens", "normalizer",
                                          "pre_tokenizer", "post_processor", "decoder", "model" };
    cdl_json_reader r;
    cdl_json_token token;
    cdl_json_reader_init(&r, data, n, name);
    if (cdl_json_next(&r, &token) != CUDDLE_OK || token != CDL_JSON_T_OBJECT)
        return false;
    while (cdl_json_next(&r, &token) == CUDDLE_OK && token == CDL_JSON_T_KEY) {
        bool config = is_text(r.s, r.n, "config"), vocab = is_text(r.s, r.n, "vocab");
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            if (is_text(r.s, r.n, others[i]))
                return false;
        if (cdl_json_next(&r, &token) != CUDDLE_OK)
            return false;
        if (config || vocab)
            return token == (config ? CDL_JSON_T_OBJECT : CDL_JSON_T_ARRAY);
        if (cdl_json_skip_from(&r, token) != CUDDLE_OK)
            return false;
    }
    return false;
}

cdl_import_type cdl_import_find(const char *data, size_t n, const char *name)
{
    const char *base = base_name(name);
    if (strcmp(base, "vocab.json") == 0)
        return CDL_IMPORT_VOCAB_JSON;
    if (ends_with(base, ".json"))
        return is_tekken(data, n, name) ? CDL_IMPORT_TEKKEN : CDL_IMPORT_NONE;
    if (is_tiktoken(data, n))
        return CDL_IMPORT_TIKTOKEN;
    if (ends_with(base, ".model") || (n && data[0] == '\n')) /* protobuf: a first field of bytes */
        return CDL_IMPORT_SENTENCEPIECE;
    return ends_with(base, ".txt") ? CDL_IMPORT_VOCAB_TXT : CDL_IMPORT_NONE;
}

cuddle_status cdl_import_put_added(cdl_buf *out, bool first, int64_t id, const char *s, size_t n, bool special)
{
    CDL_TRY(cdl_buf_printf(out, "%s\n{\"id\":%lld,\"content\":", first ? "" : ",", (long long)id));
    CDL_TRY(cdl_json_put_string(out, s, n));
    return cdl_buf_printf(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
            "\"special\":%s}", special ? "true" : "false");
}

/* ---- vocab.txt ---- */

typedef struct {
    const char *s, *end;
} lines;

static bool next_line(lines *l, const char **s, size_t *n)
{
    if (l->s >= l->end)
        return false;
    const char *line = memchr(l->s, '\n', (size_t)(l->end - l->s));
    *s = l->s;
    *n = (size_t)((line ? line : l->end) - l->s);
    l->s = line ? line + 1 : l->end;
    *n -= *n && (*s)[*n - 1] == '\r';
    return true;
}

/* [PAD], [UNK], [CLS], [SEP], [MASK]: their ids, -1 where they are not. */
enum { PAD, UNK, CLS, SEP, MASK, N_SPECIAL };
static const char *const special_names[N_SPECIAL] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

static cuddle_status put_bert_vocab(cdl_buf *out, lines l, long *special)
{
    const char *s;
    size_t n;
    long id = 0;
    for (int k = 0; k < N_SPECIAL; k++)
        special[k] = -1;
    for (; next_line(&l, &s, &n); id++) {
        CDL_TRY(cdl_buf_puts(out, id ? ",\n" : "\n"));
        CDL_TRY(cdl_json_put_string(out, s, n));
        CDL_TRY(cdl_buf_printf(out, ":%ld", id));
        for (int k = 0; k < N_SPECIAL; k++)
            special[k] = is_text(s, n, special_names[k]) ? id : special[k];
    }
    return CUDDLE_OK;
}

#define BERT_PARTS "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
    "\"strip_accents\":null,\"lowercase\":%s},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," \
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
#define PIECE(id, type) "{\"SpecialToken\":{\"id\":\"" id "\",\"type_id\":" type "}}"
#define TEXT(id, type) "{\"Sequence\":{\"id\":\"" id "\",\"type_id\":" type "}}"
#define BERT_TEMPLATE "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" PIECE("[CLS]", "0") "," \
    TEXT("A", "0") "," PIECE("[SEP]", "0") "],\"pair\":[" PIECE("[CLS]", "0") "," TEXT("A", "0") "," \
    PIECE("[SEP]", "0") "," TEXT("B", "1") "," PIECE("[SEP]", "1") "]," \
    "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[%ld],\"tokens\":[\"[CLS]\"]}," \
    "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[%ld],\"tokens\":[\"[SEP]\"]}}},"

/* Whether the folder's tokenizer_config.json has that key set to false. */
static bool config_says_no(const char *name, const char *key)
{
    char path[PATH_MAX];
    cdl_arena arena = { 0 };
    const cdl_json *v;
    int n = snprintf(path, sizeof path, "%.*stokenizer_config.json", (int)(base_name(name) - name), name);
    bool no = n > 0 && (size_t)n < sizeof path && cdl_json_load(&v, &arena, path) == CUDDLE_OK
        && !cdl_json_bool(cdl_json_get(v, key), true);
    cdl_arena_free(&arena);
    return no;
}

/* As BertTokenizer: lower case unless tokenizer_config.json beside it says do_lower_case: false. */
static cuddle_status import_vocab_txt(cdl_buf *out, const char *data, size_t n, const char *name)
{
    long special[N_SPECIAL];
    cdl_buf vocab = { 0 };
    cuddle_status st = put_bert_vocab(&vocab, (lines){ data, data + n }, special);
    if (st == CUDDLE_OK && special[UNK] < 0)
        st = cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: there is no line [UNK]; is this BERT's vocab.txt?", name);
    if (st == CUDDLE_OK)
        st = cdl_buf_puts(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    bool first = true;
    for (int k = 0; k < N_SPECIAL && st == CUDDLE_OK; k++)
        if (special[k] >= 0) {
            st = cdl_import_put_added(out, first, special[k], special_names[k], strlen(special_names[k]), true);
            first = false;
        }
    if (st == CUDDLE_OK)
        st = cdl_buf_printf(out, "]," BERT_PARTS, config_says_no(name, "do_lower_case") ? "false" : "true");
    if (st == CUDDLE_OK && special[CLS] >= 0 && special[SEP] >= 0)
        st = cdl_buf_printf(out, BERT_TEMPLATE, special[CLS], special[SEP]);
    if (st == CUDDLE_OK)
        st = cdl_buf_puts(out, "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{");
    if (st == CUDDLE_OK)
        st = cdl_buf_append(out, vocab.data ? vocab.data : "", vocab.len);
    cdl_buf_free(&vocab);
    return st == CUDDLE_OK ? cdl_buf_puts(out, "}}}\n") : st;
}

/* ---- vocab.json and merges.txt ---- */

static cuddle_status put_merges(cdl_buf *out, const char *data, size_t n, const char *name)
{
    lines l = { data, data + n };
    const char *s;
    size_t len;
    bool first = true;
    for (size_t line = 1; next_line(&l, &s, &len); line++) {
        const char *space = len ? memchr(s, ' ', len) : NULL;
        if (!len || (line == 1 && len > 8 && memcmp(s, "#version", 8) == 0))
            continue;
        if (!space)
            return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: line %zu is no pair of tokens", name, line);
        CDL_TRY(cdl_buf_puts(out, first ? "\n[" : ",\n["));
        CDL_TRY(cdl_json_put_string(out, s, (size_t)(space - s)));
        CDL_TRY(cdl_buf_putc(out, ','));
        CDL_TRY(cdl_json_put_string(out, space + 1, len - (size_t)(space - s) - 1));
        CDL_TRY(cdl_buf_putc(out, ']'));
        first = false;
    }
    return CUDDLE_OK;
}

/* Tokens that open and close like <|endoftext|> or <s> are special in every such vocabulary. */
static cuddle_status put_special(cdl_buf *out, const char *data, size_t n, const char *name)
{
    cdl_arena arena = { 0 };
    const cdl_json *vocab;
    bool first = true;
    cuddle_status st = cdl_json_parse(&vocab, &arena, data, n, name);
    if (st == CUDDLE_OK && vocab->type != CDL_JSON_OBJECT)
        st = cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: a vocab.json is an object of ids", name);
    static const char *const special[] = { "<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "<s>",
                                           "<pad>", "</s>", "<unk>", "<mask>" };
    for (size_t k = 0; k < sizeof special / sizeof *special && st == CUDDLE_OK; k++) {
        const cdl_json *id = cdl_json_get(vocab, special[k]);
        if (cdl_json_int(id, -1) < 0)
            continue;
        st = cdl_import_put_added(out, first, cdl_json_int(id, -1), special[k], strlen(special[k]), true);
        first = false;
    }
    cdl_arena_free(&arena);
    return st;
}

#define BYTE_LEVEL(prefix, trim) "{\"type\":\"ByteLevel\",\"add_prefix_space\":" prefix ",\"trim_offsets\":" trim \
    ",\"use_regex\":true}"

/* As GPT2Tokenizer: byte-level BPE. */
static cuddle_status import_vocab_json(cdl_buf *out, const char *data, size_t n, const char *name)
{
    char path[PATH_MAX];
    cdl_map m;
    int len = snprintf(path, sizeof path, "%.*smerges.txt", (int)(base_name(name) - name), name);
    if (len < 0 || (size_t)len >= sizeof path)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s: the path is too long", name);
    CDL_TRY(cdl_buf_puts(out, "{\"version\":\"1.0\",\"added_tokens\":["));
    CDL_TRY(put_special(out, data, n, name));
    CDL_TRY(cdl_buf_puts(out, "],\"pre_tokenizer\":" BYTE_LEVEL("false", "true") ",\"post_processor\":"
            BYTE_LEVEL("true", "false") ",\"decoder\":" BYTE_LEVEL("true", "true")
            ",\"model\":{\"type\":\"BPE\",\"vocab\":"));
    CDL_TRY(cdl_buf_append(out, data, n));
    CDL_TRY(cdl_buf_puts(out, ",\"merges\":["));
    CDL_TRY(cdl_map_open(&m, path));
    size_t bad = cdl_utf8_valid((const char *)m.data, m.size);
    cuddle_status st = bad == m.size ? put_merges(out, (const char *)m.data, m.size, path)
        : cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: byte %zu is not UTF-8", path, bad);
    cdl_map_close(&m);
    return st == CUDDLE_OK ? cdl_buf_puts(out, "]}}\n") : st;
}

cuddle_status cdl_import(cdl_buf *out, cdl_import_type type, const char *data, size_t n, const char *name)
{
    size_t bad = type == CDL_IMPORT_SENTENCEPIECE ? n : cdl_utf8_valid(data, n);
    if (bad < n)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: byte %zu is not UTF-8; is the file damaged?", name, bad);
    switch (type) {
    case CDL_IMPORT_VOCAB_TXT:
        return import_vocab_txt(out, data, n, name);
    case CDL_IMPORT_VOCAB_JSON:
        return import_vocab_json(out, data, n, name);
    case CDL_IMPORT_SENTENCEPIECE:
        return cdl_import_sentencepiece(out, (const uint8_t *)data, n, name);
    case CDL_IMPORT_TIKTOKEN:
        return cdl_import_tiktoken(out, data, n, name);
    case CDL_IMPORT_TEKKEN:
        return cdl_import_tekken(out, data, n, name);
    case CDL_IMPORT_NONE:
        break;
    }
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: not a known kind of tokenizer file", name);
}
