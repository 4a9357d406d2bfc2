/* cmd_tokenize.c - `cuddle tokenize`: text to ids and back, one text or many rows of JSON. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli.h"
#include "cuddle_chat.h"
#include "cuddle_tokenizer.h"
#include "format/checkpoint.h"
#include "hub/hub.h"
#include "model/chat_load.h"
#include "model/tokenizer_load.h"
#include "token/stream_encode.h"

enum { STDIN_MAX = 1 << 30 };

static bool ids_mode, json_mode, jsonl_mode, chat_mode, decode_mode;
static const char *chat_template, *tools_json, *extra_json;
static bool no_special, skip_special, no_truncation, no_padding, generation_prompt = true;
static const char *pair_text, *format_name;
static cli_list files;

static const cli_option options[] = {
    { "ids", 0, CLI_FLAG, &ids_mode, NULL, "print only the ids, as --prompt-ids of run takes them", 0, 0 },
    { "json", 0, CLI_FLAG, &json_mode, NULL, "print one object: ids, tokens, offsets, masks, decoded, ...", 0, 0 },
    { "jsonl", 0, CLI_FLAG, &jsonl_mode, NULL, "one object a line from stdin, one object a line out", 0, 0 },
    { "chat", 0, CLI_FLAG, &chat_mode, NULL, "the text is a JSON array of messages; prints {text, ids}", 0, 0 },
    { "chat-template", 0, CLI_STRING, &chat_template, "FILE", "the chat template, instead of the model's own", 0, 0 },
    { "tools", 0, CLI_STRING, &tools_json, "JSON", "with --chat: an array of the tools' JSON schemas", 0, 0 },
    { "template-vars", 0, CLI_STRING, &extra_json, "JSON", "with --chat: an object of more variables", 0, 0 },
    { "decode", 'd', CLI_FLAG, &decode_mode, NULL, "the text is ids (1,2,3); prints their text", 0, 0 },
    { "format", 0, CLI_STRING, &format_name, "ids|jsonl|u16|u32|npy",
      "how the ids of stdin or --file are written: a line, [..] a line, little-endian numbers, NumPy's file", 0, 0 },
    { "file", 'f', CLI_LIST, &files, "FILE", "instead of stdin: a text to read, several times for several", 0, 0 },
    { "pair", 0, CLI_STRING, &pair_text, "TEXT", "a second text", 0, 0 },
    { "no-special-tokens", 0, CLI_FLAG, &no_special, NULL, "leave out what the tokenizer adds around a text", 0, 0 },
    { "skip-special-tokens", 0, CLI_FLAG, &skip_special, NULL, "with --decode: leave special tokens out", 0, 0 },
    { "no-truncation", 0, CLI_FLAG, &no_truncation, NULL, "ignore the file's truncation", 0, 0 },
    { "no-padding", 0, CLI_FLAG, &no_padding, NULL, "ignore the file's padding", 0, 0 },
    { "generation-prompt", 0, CLI_FLAG, &generation_prompt, NULL,
      "with --chat: end where the answer begins (default)", 0, 0 },
};

typedef struct {
    cuddle_tokenizer *tokenizer;
    cdl_checkpoint *checkpoint;  /* NULL for a tokenizer.json */
    cuddle_encoding *encoding;
    cdl_arena arena;             /* of one row */
    cdl_buf out;
    uint64_t written;            /* ids of --format */
} job;

/* ---- Writing ---- */

static cuddle_status put_ints(cdl_buf *b, const char *key, const int32_t *v, size_t n)
{
    CDL_TRY(cdl_buf_printf(b, "\"%s\":[", key));
    for (size_t i = 0; i < n; i++)
        CDL_TRY(cdl_buf_printf(b, i ? ",%d" : "%d", v[i]));
    return cdl_buf_puts(b, "],");
}

static cuddle_status put_flags(cdl_buf *b, const char *key, const uint8_t *v, size_t n)
{
    CDL_TRY(cdl_buf_printf(b, "\"%s\":[", key));
    for (size_t i = 0; i < n; i++)
        CDL_TRY(cdl_buf_printf(b, i ? ",%u" : "%u", v[i]));
    return cdl_buf_puts(b, "],");
}

static cuddle_status put_tokens(job *j, const cuddle_encoding *e, const cuddle_encoding_view *v)
{
    CDL_TRY(cdl_buf_puts(&j->out, "\"tokens\":["));
    for (size_t i = 0; i < v->n; i++) {
        size_t n = 0;
        const char *s = cuddle_encoding_token(e, j->tokenizer, i, &n);
        if (i)
            CDL_TRY(cdl_buf_putc(&j->out, ','));
        CDL_TRY(cdl_json_put_string(&j->out, s ? s : "", n));
    }
    CDL_TRY(cdl_buf_puts(&j->out, "],\"offsets\":["));
    for (size_t i = 0; i < v->n; i++)
        CDL_TRY(cdl_buf_printf(&j->out, i ? ",[%u,%u]" : "[%u,%u]", v->offsets[2 * i], v->offsets[2 * i + 1]));
    return cdl_buf_puts(&j->out, "],");
}

static cuddle_status put_words(cdl_buf *b, const int32_t *v, size_t n)
{
    CDL_TRY(cdl_buf_puts(b, "\"word_ids\":["));
    for (size_t i = 0; i < n; i++)
        CDL_TRY(v[i] < 0 ? cdl_buf_puts(b, i ? ",null" : "null") : cdl_buf_printf(b, i ? ",%d" : "%d", v[i]));
    return cdl_buf_putc(b, ']');
}

static cuddle_status put_decoded(job *j, const int32_t *ids, size_t n)
{
    for (int skip = 0; skip < 2; skip++) {
        char *text;
        size_t len;
        CDL_TRY(cdl_buf_puts(&j->out, skip ? ",\"decoded_skip_special\":" : "\"decoded\":"));
        CDL_TRY(cuddle_tokenizer_decode(j->tokenizer, ids, n, skip, &text, &len));
        cuddle_status st = cdl_json_put_string(&j->out, text, len);
        cuddle_tokenizer_text_free(text);
        CDL_TRY(st);
    }
    return CUDDLE_OK;
}

/* The members of an encoding, without braces. */
static cuddle_status put_encoding(job *j, const cuddle_encoding *e)
{
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    CDL_TRY(put_ints(&j->out, "ids", v.ids, v.n));
    CDL_TRY(put_tokens(j, e, &v));
    CDL_TRY(put_flags(&j->out, "type_ids", v.types, v.n));
    CDL_TRY(put_flags(&j->out, "attention_mask", v.attention, v.n));
    CDL_TRY(put_flags(&j->out, "special_tokens_mask", v.special, v.n));
    return put_words(&j->out, v.words, v.n);
}

static cuddle_status put_overflowing(job *j, const cuddle_encoding *e)
{
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    CDL_TRY(cdl_buf_puts(&j->out, ",\"overflowing\":["));
    for (size_t i = 0; i < v.overflowing; i++) {
        CDL_TRY(cdl_buf_puts(&j->out, i ? ",{" : "{"));
        CDL_TRY(put_encoding(j, cuddle_encoding_overflow(e, i)));
        CDL_TRY(cdl_buf_putc(&j->out, '}'));
    }
    return cdl_buf_putc(&j->out, ']');
}

/* ---- One text ---- */

static cuddle_encode_opts encode_opts(void)
{
    return (cuddle_encode_opts){ .size = sizeof(cuddle_encode_opts), .no_special_tokens = no_special,
                                 .no_truncation = no_truncation, .no_padding = no_padding };
}

static cuddle_status put_text_object(job *j, const char *text, size_t n, const cuddle_encode_opts *o)
{
    CDL_TRY(cuddle_tokenizer_encode(j->tokenizer, j->encoding, text, n, o));
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(j->encoding, &v);
    CDL_TRY(cdl_buf_putc(&j->out, '{'));
    CDL_TRY(put_encoding(j, j->encoding));
    CDL_TRY(cdl_buf_putc(&j->out, ','));
    CDL_TRY(put_decoded(j, v.ids, v.n));
    CDL_TRY(put_overflowing(j, j->encoding));
    return cdl_buf_puts(&j->out, "}\n");
}

static cuddle_status put_id_list(job *j, const char *text, size_t n, cuddle_encode_opts o)
{
    o.ids_only = true;
    CDL_TRY(cuddle_tokenizer_encode(j->tokenizer, j->encoding, text, n, &o));
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(j->encoding, &v);
    for (size_t i = 0; i < v.n; i++)
        CDL_TRY(cdl_buf_printf(&j->out, i ? ",%d" : "%d", v.ids[i]));
    return cdl_buf_putc(&j->out, '\n');
}

/* A line a token, for people. */
static cuddle_status put_table(job *j, const char *text, size_t n, const cuddle_encode_opts *o)
{
    CDL_TRY(cuddle_tokenizer_encode(j->tokenizer, j->encoding, text, n, o));
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(j->encoding, &v);
    for (size_t i = 0; i < v.n; i++) {
        size_t len = 0;
        const char *s = cuddle_encoding_token(j->encoding, j->tokenizer, i, &len);
        CDL_TRY(cdl_buf_printf(&j->out, "%8d  %5u..%-5u  ", v.ids[i], v.offsets[2 * i], v.offsets[2 * i + 1]));
        CDL_TRY(cdl_json_put_string(&j->out, s ? s : "", len));
        CDL_TRY(cdl_buf_putc(&j->out, '\n'));
    }
    return CUDDLE_OK;
}

static cuddle_status put_text(job *j, const char *text, size_t n)
{
    cuddle_encode_opts o = encode_opts();
    o.pair = pair_text;
    o.n_pair = pair_text ? strlen(pair_text) : 0;
    return json_mode ? put_text_object(j, text, n, &o) : ids_mode ? put_id_list(j, text, n, o)
            : put_table(j, text, n, &o);
}

/* ---- Ids to text ---- */

static cuddle_status add_id(int32_t **ids, size_t *n, long long id)
{
    if (id < 0 || id > INT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%lld is no token id", id);
    if ((*n & (*n - 1)) == 0) {
        int32_t *more = cdl_mem_realloc(*ids, (*n ? 2 * *n : 1) * sizeof **ids);
        if (!more)
            return cdl_status_nomem("ids");
        *ids = more;
    }
    (*ids)[(*n)++] = (int32_t)id;
    return CUDDLE_OK;
}

/* Numbers with anything of " ,[]" and line ends between. */
static cuddle_status read_ids(const char *s, int32_t **ids, size_t *n)
{
    for (s += strspn(s, " ,[]\t\r\n"); *s; s += strspn(s, " ,[]\t\r\n")) {
        char *end;
        long long id = strtoll(s, &end, 10);
        if (end == s)
            return cdl_status_fail(CUDDLE_ERR_ARG, "ids are numbers with commas between, not '%.20s'", s);
        CDL_TRY(add_id(ids, n, id));
        s = end;
    }
    return CUDDLE_OK;
}

static cuddle_status put_decoded_text(job *j, const char *text)
{
    int32_t *ids = NULL;
    size_t n = 0, len = 0;
    char *s = NULL;
    cuddle_status st = read_ids(text, &ids, &n);
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_decode(j->tokenizer, ids, n, skip_special, &s, &len);
    if (st == CUDDLE_OK)
        st = cdl_buf_append(&j->out, s, len);
    if (st == CUDDLE_OK)
        st = cdl_buf_putc(&j->out, '\n');
    cuddle_tokenizer_text_free(s);
    cdl_mem_free(ids);
    return st;
}

/* ---- Messages ---- */

static cuddle_status put_chat(job *j, const char *messages)
{
    cuddle_chat_template *t = NULL;
    char *text = NULL;
    size_t n = 0;
    if (!j->checkpoint)
        return cdl_status_fail(CUDDLE_ERR_ARG, "--chat needs a model, not only its tokenizer.json");
    cuddle_chat_request r = { .size = sizeof r, .messages_json = messages, .tools_json = tools_json,
                               .extra_json = extra_json, .add_generation_prompt = generation_prompt };
    cuddle_status st = cdl_chat_load(&t, j->checkpoint, chat_template);
    if (st == CUDDLE_OK)
        st = cuddle_chat_template_render(t, &r, &text, &n);
    cuddle_encode_opts o = encode_opts();
    o.no_special_tokens = o.ids_only = true; /* the template writes them */
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_encode(j->tokenizer, j->encoding, text, n, &o);
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(j->encoding, &v);
    if (st == CUDDLE_OK)
        st = cdl_buf_putc(&j->out, '{');
    if (st == CUDDLE_OK)
        st = put_ints(&j->out, "ids", v.ids, v.n);
    if (st == CUDDLE_OK)
        st = cdl_buf_puts(&j->out, "\"text\":");
    if (st == CUDDLE_OK)
        st = cdl_json_put_string(&j->out, text, n);
    if (st == CUDDLE_OK)
        st = cdl_buf_puts(&j->out, "}\n");
    cuddle_chat_text_free(text);
    cuddle_chat_template_close(t);
    return st;
}

/* ---- Rows of JSON ---- */

static cuddle_status wrong_row(const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_ARG, "a row of --jsonl: %s", what);
}

/* {"ids": [..], "skip_special_tokens": true} */
static cuddle_status run_decode_row(job *j, const cdl_json *row)
{
    const cdl_json *list = cdl_json_get(row, "ids"), *skip = cdl_json_get(row, "skip_special_tokens");
    int32_t *ids = cdl_arena_zalloc(&j->arena, cdl_json_len(list) + 1, sizeof *ids);
    size_t n = cdl_json_len(list), len;
    if (list->type != CDL_JSON_ARRAY)
        return wrong_row("\"ids\" must be a list");
    if (!ids)
        return cdl_status_nomem("ids");
    for (size_t i = 0; i < n; i++) {
        int64_t id = cdl_json_int(cdl_json_at(list, i), -1);
        if (id < 0 || id > INT32_MAX)
            return wrong_row("\"ids\" holds something that is no token id");
        ids[i] = (int32_t)id;
    }
    CDL_TRY(cdl_buf_putc(&j->out, '{'));
    if (cdl_json_none(skip)) {
        CDL_TRY(put_decoded(j, ids, n));
        return cdl_buf_puts(&j->out, "}\n");
    }
    char *text;
    CDL_TRY(cuddle_tokenizer_decode(j->tokenizer, ids, n, cdl_json_bool(skip, false), &text, &len));
    cuddle_status st = cdl_buf_puts(&j->out, "\"decoded\":");
    if (st == CUDDLE_OK)
        st = cdl_json_put_string(&j->out, text, len);
    cuddle_tokenizer_text_free(text);
    CDL_TRY(st);
    return cdl_buf_puts(&j->out, "}\n");
}

static cuddle_status encode_input(job *j, const cdl_json *input, cuddle_encode_opts o, cuddle_encoding *e)
{
    const cdl_json *text = input, *second = NULL;
    if (input->type == CDL_JSON_ARRAY) {
        text = cdl_json_at(input, 0);
        second = cdl_json_at(input, 1);
    }
    if (!text || text->type != CDL_JSON_STRING || (second && second->type != CDL_JSON_STRING)
            || cdl_json_len(input) > 2)
        return wrong_row("\"inputs\" must be texts or lists of two texts");
    o.pair = second ? second->as.s : NULL;
    o.n_pair = second ? second->n : 0;
    o.no_padding = true;
    return cuddle_tokenizer_encode(j->tokenizer, e, text->as.s, text->n, &o);
}

static cuddle_status run_batch(job *j, const cdl_json *inputs, const cuddle_encode_opts *o, cuddle_encoding **e)
{
    size_t n = cdl_json_len(inputs);
    for (size_t i = 0; i < n; i++) {
        CDL_TRY(cuddle_encoding_new(&e[i]));
        CDL_TRY(encode_input(j, cdl_json_at(inputs, i), *o, e[i]));
    }
    if (!o->no_padding)
        CDL_TRY(cuddle_tokenizer_pad(j->tokenizer, e, n));
    CDL_TRY(cdl_buf_puts(&j->out, "{\"encodings\":["));
    for (size_t i = 0; i < n; i++) {
        CDL_TRY(cdl_buf_puts(&j->out, i ? ",{" : "{"));
        CDL_TRY(put_encoding(j, e[i]));
        CDL_TRY(put_overflowing(j, e[i]));
        CDL_TRY(cdl_buf_putc(&j->out, '}'));
    }
    return cdl_buf_puts(&j->out, "]}\n");
}

/* {"inputs": ["..", ["..", ".."], ..]}: padded to a common length. */
static cuddle_status run_batch_row(job *j, const cdl_json *inputs, const cuddle_encode_opts *o)
{
    size_t n = cdl_json_len(inputs);
    if (inputs->type != CDL_JSON_ARRAY)
        return wrong_row("\"inputs\" must be a list");
    cuddle_encoding **e = cdl_arena_zalloc(&j->arena, n + 1, sizeof *e);
    if (!e)
        return cdl_status_nomem("a batch");
    cuddle_status st = run_batch(j, inputs, o, e);
    for (size_t i = 0; i < n; i++)
        cuddle_encoding_free(e[i]);
    return st;
}

static cuddle_status run_row(job *j, const char *line, size_t n)
{
    const cdl_json *row;
    CDL_TRY(cdl_json_parse(&row, &j->arena, line, n, "a row of --jsonl"));
    const cdl_json *text = cdl_json_get(row, "text"), *pair = cdl_json_get(row, "pair");
    const cdl_json *inputs = cdl_json_get(row, "inputs");
    cuddle_encode_opts o = encode_opts();
    o.no_special_tokens = !cdl_json_bool(cdl_json_get(row, "add_special_tokens"), !no_special);
    if (inputs)
        return run_batch_row(j, inputs, &o);
    if (!text && cdl_json_get(row, "ids"))
        return run_decode_row(j, row);
    if (!text || text->type != CDL_JSON_STRING)
        return wrong_row("\"text\" must be a string (or give \"inputs\" or \"ids\")");
    if (!cdl_json_none(pair) && pair->type != CDL_JSON_STRING)
        return wrong_row("\"pair\" must be a string");
    o.pair = cdl_json_none(pair) ? NULL : pair->as.s;
    o.n_pair = cdl_json_none(pair) ? 0 : pair->n;
    return put_text_object(j, text->as.s, text->n, &o);
}

static cuddle_status flush(job *j)
{
    if (j->out.len)
        fwrite(j->out.data, 1, j->out.len, stdout);
    cdl_buf_clear(&j->out);
    return fflush(stdout) != 0 ? cdl_status_fail(CUDDLE_ERR_IO, "stdout cannot be written") : CUDDLE_OK;
}

/* A row that fails gives {"error": ".."} and the next one follows. */
static cuddle_status run_rows(job *j)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    cuddle_status st = CUDDLE_OK;
    while (st == CUDDLE_OK && !cli_interrupted() && (n = getline(&line, &cap, stdin)) >= 0) {
        cdl_arena_reset(&j->arena);
        st = run_row(j, line, (size_t)n);
        if (st != CUDDLE_OK && st != CUDDLE_ERR_NOMEM) {
            const char *message = cuddle_errmsg();
            cdl_buf_clear(&j->out);
            st = cdl_buf_puts(&j->out, "{\"error\":");
            if (st == CUDDLE_OK)
                st = cdl_json_put_string(&j->out, message, strlen(message));
            if (st == CUDDLE_OK)
                st = cdl_buf_puts(&j->out, "}\n");
        }
        if (st == CUDDLE_OK)
            st = flush(j);
    }
    free(line);
    return st;
}

/* ---- Ids of a text of any size ---- */

typedef enum { AS_IDS, AS_JSONL, AS_U16, AS_U32, AS_NPY, NO_FORMAT } id_format;

static id_format find_format(const char *name)
{
    static const char *const names[] = { "ids", "jsonl", "u16", "u32", "npy" };
    id_format f = AS_IDS;
    while (f < NO_FORMAT && strcmp(name, names[f]) != 0)
        f++;
    return f;
}

/* The head of a .npy file; the number of ids comes last, padded to the same length whatever it is. */
static cuddle_status put_npy_head(job *j, uint64_t n)
{
    enum { HEAD = 118 };
    char head[HEAD + 1];
    int len = snprintf(head, sizeof head, "{'descr': '<i4', 'fortran_order': False, 'shape': (%llu,), }",
            (unsigned long long)n);
    memset(head + len, ' ', HEAD - (size_t)len);
    head[HEAD - 1] = '\n';
    CDL_TRY(cdl_buf_append(&j->out, "\x93NUMPY\1\0\x76\0", 10));
    return cdl_buf_append(&j->out, head, HEAD);
}

static cuddle_status write_ids(job *j, id_format f, const int32_t *ids, size_t n, bool *first)
{
    j->written += n;
    for (size_t i = 0; i < n; i++, *first = false) {
        uint32_t id = (uint32_t)ids[i];
        char bytes[4] = { (char)id, (char)(id >> 8), (char)(id >> 16), (char)(id >> 24) };
        CDL_TRY(f >= AS_U16 ? cdl_buf_append(&j->out, bytes, f == AS_U16 ? 2 : 4)
                : cdl_buf_printf(&j->out, *first ? "%u" : ",%u", id));
    }
    return flush(j);
}

/* What the tokenizer adds around a text: before it, or behind it. */
static cuddle_status write_special(job *j, id_format f, bool behind, bool *first)
{
    cuddle_encode_opts o = { .size = sizeof o, .no_truncation = true, .no_padding = true };
    if (no_special)
        return CUDDLE_OK;
    CDL_TRY(cuddle_tokenizer_encode(j->tokenizer, j->encoding, "a", 1, &o));
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(j->encoding, &v);
    size_t begin = 0, end = v.n;
    while (begin < v.n && v.special[begin])
        begin++;
    while (end > begin && v.special[end - 1])
        end--;
    return behind ? write_ids(j, f, v.ids + end, v.n - end, first) : write_ids(j, f, v.ids, begin, first);
}

static cuddle_status write_text(job *j, id_format f, FILE *in, cdl_stream_encode *s, uint64_t size)
{
    static char block[1 << 18];
    bool first = true, last = false;
    CDL_TRY(write_special(j, f, false, &first));
    for (uint64_t done = 0; !last; ) {
        const int32_t *ids = NULL;
        size_t n = 0, got = fread(block, 1, sizeof block, in);
        last = got < sizeof block;
        if (ferror(in))
            return cdl_status_fail(CUDDLE_ERR_IO, "the text cannot be read");
        CDL_TRY(cdl_stream_encode_put(s, block, got, last, &ids, &n));
        CDL_TRY(write_ids(j, f, ids, n, &first));
        done += got;
        if (!cli_progress(NULL, "tokenizing", done, size < done ? done : size))
            return cdl_status_fail(CUDDLE_ERR_IO, "interrupted");
    }
    return write_special(j, f, true, &first);
}

/* One text: a file, or stdin when name is NULL. */
static cuddle_status stream_text(job *j, id_format f, const char *name)
{
    FILE *in = name ? fopen(name, "rb") : stdin;
    if (!in)
        return cdl_status_fail(CUDDLE_ERR_IO, "%s cannot be opened", name);
    struct stat about;
    uint64_t size = fstat(fileno(in), &about) == 0 && S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    cdl_stream_encode *s = NULL;
    cuddle_status st = f == AS_JSONL ? cdl_buf_putc(&j->out, '[') : CUDDLE_OK;
    if (st == CUDDLE_OK)
        st = cdl_stream_encode_new(&s, j->tokenizer, 0);
    if (st == CUDDLE_OK)
        st = write_text(j, f, in, s, size);
    if (st == CUDDLE_OK && f < AS_U16)
        st = cdl_buf_puts(&j->out, f == AS_JSONL ? "]\n" : "\n");
    if (st == CUDDLE_OK)
        st = flush(j);
    cdl_stream_encode_free(s);
    if (name)
        fclose(in);
    return st;
}

static cuddle_status run_stream(job *j)
{
    id_format f = format_name ? find_format(format_name) : AS_IDS;
    if (f == AS_U16 && cuddle_tokenizer_vocab(j->tokenizer) > 65536)
        return cdl_status_fail(CUDDLE_ERR_ARG, "u16 holds ids below 65536, and this vocabulary has %u; use u32",
                cuddle_tokenizer_vocab(j->tokenizer));
    if (f == AS_NPY) {
        if (fseek(stdout, 0, SEEK_CUR) != 0)
            return cdl_status_fail(CUDDLE_ERR_ARG,
                    "npy has the number of ids at its begin: write it to a file (> FILE)");
        CDL_TRY(put_npy_head(j, 0));
    }
    if (!files.n)
        CDL_TRY(stream_text(j, f, NULL));
    for (size_t i = 0; i < files.n; i++)
        CDL_TRY(stream_text(j, f, files.items[i]));
    if (f != AS_NPY)
        return CUDDLE_OK;
    if (fseek(stdout, 0, SEEK_SET) != 0)
        return cdl_status_fail(CUDDLE_ERR_IO, "stdout cannot be written");
    CDL_TRY(put_npy_head(j, j->written));
    return flush(j);
}

/* ---- */

static bool is_tokenizer_file(const char *path)
{
    static const char *const ends[] = { ".json", ".txt", ".model", ".tiktoken" };
    size_t n = strlen(path), k;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > (k = strlen(ends[i])) && strcmp(path + n - k, ends[i]) == 0)
            return true;
    return false;
}

static cuddle_status open_job(job *j, const char *name)
{
    CDL_TRY(cuddle_encoding_new(&j->encoding));
    if (is_tokenizer_file(name))
        return cuddle_tokenizer_open(&j->tokenizer, name);
    char *path = NULL;
    cuddle_status st = cdl_hub_resolve(&path, name);
    if (st == CUDDLE_OK)
        st = cdl_checkpoint_open(&j->checkpoint, path, true);
    if (st == CUDDLE_OK)
        st = cdl_tokenizer_load(&j->tokenizer, j->checkpoint);
    cdl_mem_free(path);
    return st;
}

static void close_job(job *j)
{
    cuddle_tokenizer_close(j->tokenizer);
    cdl_checkpoint_close(j->checkpoint);
    cuddle_encoding_free(j->encoding);
    cdl_arena_free(&j->arena);
    cdl_buf_free(&j->out);
}

static int run_one(job *j, const char *text, size_t n)
{
    cuddle_status st = chat_mode ? put_chat(j, text) : decode_mode ? put_decoded_text(j, text) : put_text(j, text, n);
    if (st == CUDDLE_OK)
        st = flush(j);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}

static int run_stdin(job *j)
{
    size_t n;
    char *text = cli_read_stdin(&n, STDIN_MAX);
    int code = text ? run_one(j, text, n) : CLI_FAILED;
    free(text);
    return code;
}

static int run(char **args);
const cli_command cmd_tokenize = {
    "tokenize", "turn text into token ids, and back", "MODEL [TEXT] [options]",
    "MODEL is a model, a tokenizer.json, vocab.json, vocab.txt, .model, .tiktoken or tekken.json.\n"
    "Without TEXT, ids of what comes from stdin or a --file: a text of any size in constant memory, its ids\n"
    "those of the whole.\n\n"
    "Rows of --jsonl:\n"
    "  {\"text\": \"..\", \"pair\": \"..\", \"add_special_tokens\": true}   gives ids, tokens, offsets (code points),\n"
    "      type_ids, attention_mask, special_tokens_mask, word_ids, decoded, decoded_skip_special, overflowing\n"
    "  {\"inputs\": [\"..\", [\"..\", \"..\"]]}                           gives encodings, padded as the file says\n"
    "  {\"ids\": [1, 2], \"skip_special_tokens\": true}            gives decoded\n"
    "  What cannot be done gives {\"error\": \"..\"}.\n\n"
    "  cuddle tokenize MODEL \"Hello, world!\"\n"
    "  cuddle tokenize MODEL < corpus > ids\n"
    "  cuddle tokenize MODEL --format npy --file corpus > ids.npy\n"
    "  cuddle tokenize MODEL --decode 19556,28,905,17\n"
    "  echo '[{\"role\":\"user\",\"content\":\"Hi\"}]' | cuddle tokenize MODEL --chat\n",
    options, sizeof options / sizeof *options, 1, 2, run };

static int run(char **args)
{
    if (ids_mode + json_mode + jsonl_mode + chat_mode + decode_mode > 1) {
        cli_fail("--ids, --json, --jsonl, --chat and --decode exclude each other");
        return CLI_USAGE;
    }
    bool one = args[1] || pair_text || ids_mode + json_mode + jsonl_mode + chat_mode + decode_mode;
    if (format_name && (find_format(format_name) == NO_FORMAT || one)) {
        cli_fail("--format is ids, jsonl, u16, u32 or npy, of stdin or of --file");
        return CLI_USAGE;
    }
    if (files.n && one) {
        cli_fail("--file is a text to stream; leave out TEXT and the other ways to read");
        return CLI_USAGE;
    }
    cli_catch_interrupt();
    job j = { 0 };
    int code;
    if (open_job(&j, args[0]) != CUDDLE_OK)
        code = cli_fail_status();
    else if (!one) {
        code = run_stream(&j) == CUDDLE_OK ? CLI_OK : cli_fail_status();
        cli_progress_end();
    } else if (jsonl_mode)
        code = run_rows(&j) == CUDDLE_OK ? CLI_OK : cli_fail_status();
    else
        code = args[1] ? run_one(&j, args[1], strlen(args[1])) : run_stdin(&j);
    close_job(&j);
    return code;
}
