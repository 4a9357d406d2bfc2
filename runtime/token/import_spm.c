/* import_spm.c - SentencePiece's .model (a protobuf, sentencepiece_model.proto): Unigram and BPE.
 *
 * The text is normalized as its charsmap says, extra spaces go or stay, spaces become U+2581 and one leads. BPE's
 * merges are any two pieces that make a third, by its score (transformers' conversion). No bos or eos is added. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/import.h"
#include "token/parts.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { MODEL_UNIGRAM = 1, MODEL_BPE };

#define MARK "\xe2\x96\x81"

typedef struct {
    const uint8_t *at, *end;
} bytes;

typedef struct {
    uint32_t number, wire;
    uint64_t value;            /* of a varint or fixed field */
    bytes body;                /* of one with a length       */
} field;

typedef struct {
    float score;
    uint8_t type;
} piece;

typedef struct {
    const char *name;
    cdl_vocab vocab;
    piece *piece;              /* [n], by id */
    size_t n, cap;
    bytes charsmap;
    int model;
    bool byte_fallback, prefix, shrink, escape, suffix;
    bool inner;                /* some piece has a mark behind its first character */
    int64_t unk;
} sentencepiece;

/* ---- Protobuf ---- */

static cuddle_status broken(const sentencepiece *p, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s; is this a SentencePiece model?", p->name, what);
}

static bool varint(bytes *b, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; b->at < b->end && shift < 64; shift += 7) {
        uint8_t byte = *b->at++;
        *v |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

static bool fixed(bytes *b, size_t n, uint64_t *v)
{
    *v = 0;
    if ((size_t)(b->end - b->at) < n)
        return false;
    memcpy(v, b->at, n);
    b->at += n;
    return true;
}

static bool take_field(bytes *b, field *f)
{
    uint64_t key, n;
    if (!varint(b, &key) || key >> 3 == 0 || key >> 3 > 1 << 29)
        return false;
    *f = (field){ .number = (uint32_t)(key >> 3), .wire = key & 7 };
    switch (f->wire) {
    case 0:
        return varint(b, &f->value);
    case 1:
        return fixed(b, 8, &f->value);
    case 5:
        return fixed(b, 4, &f->value);
    case 2:
        if (!varint(b, &n) || n > (uint64_t)(b->end - b->at))
            return false;
        f->body = (bytes){ b->at, b->at + n };
        b->at += n;
        return true;
    default:
        return false;
    }
}

/* False: there are no more fields, or they are broken (then b is not at its end, but nowhere). */
static bool next_field(bytes *b, field *f)
{
    if (b->at == b->end)
        return false;
    bool whole = take_field(b, f);
    b->at = whole ? b->at : NULL;
    return whole;
}

static bool at_end(const bytes *b)
{
    return b->at == b->end;
}

/* ---- Reading ---- */

static cuddle_status read_piece(sentencepiece *p, bytes b)
{
    field f = { 0 };
    bytes text = { NULL, NULL };
    piece k = { 0, NORMAL };
    bool whole = true;
    while (!at_end(&b) && (whole = next_field(&b, &f))) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == 2)
            text = f.body;
        if (f.number == 2 && f.wire == 5)
            memcpy(&k.score, &bits, 4);
        if (f.number == 3 && f.wire == 0)
            k.type = (uint8_t)f.value;
    }
    size_t n = (size_t)(text.end - text.at);
    const char *s = (const char *)text.at;
    if (!whole || !n || cdl_utf8_valid(s, n) < n || k.type < NORMAL || k.type > BYTE)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: pieces: piece %zu is malformed", p->name, p->n);
    if (isnan(k.score) || isinf(k.score))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: pieces: piece %zu has no finite score", p->name, p->n);
    if (k.type == UNKNOWN)
        p->unk = (int64_t)p->n;
    for (size_t i = 1; i + 3 <= n; i++)
        p->inner |= memcmp(s + i, MARK, 3) == 0;
    CDL_TRY(cdl_work_grow(&p->piece, &p->cap, p->n + 1, sizeof *p->piece));
    p->piece[p->n] = k;
    return cdl_vocab_add(&p->vocab, s, n, (int64_t)p->n++);
}

static cuddle_status read_trainer(sentencepiece *p, bytes b)
{
    field f;
    while (next_field(&b, &f)) {
        if (f.number == 3 && f.wire == 0)
            p->model = f.value > 4 ? -1 : (int)f.value;
        if (f.number == 24 && f.wire == 0)
            p->suffix = f.value != 0;
        if (f.number == 35 && f.wire == 0)
            p->byte_fallback = f.value != 0;
    }
    return at_end(&b) ? CUDDLE_OK : broken(p, "trainer_spec is malformed");
}

static cuddle_status read_normalizer(sentencepiece *p, bytes b)
{
    field f;
    while (next_field(&b, &f)) {
        if (f.number == 2 && f.wire == 2)
            p->charsmap = f.body;
        if (f.number == 3 && f.wire == 0)
            p->prefix = f.value != 0;
        if (f.number == 4 && f.wire == 0)
            p->shrink = f.value != 0;
        if (f.number == 5 && f.wire == 0)
            p->escape = f.value != 0;
    }
    return at_end(&b) ? CUDDLE_OK : broken(p, "normalizer_spec is malformed");
}

static cuddle_status read_model(sentencepiece *p, bytes b)
{
    field f;
    while (next_field(&b, &f)) {
        if (f.number == 1 && f.wire == 2)
            CDL_TRY(read_piece(p, f.body));
        if (f.number == 2 && f.wire == 2)
            CDL_TRY(read_trainer(p, f.body));
        if (f.number == 3 && f.wire == 2)
            CDL_TRY(read_normalizer(p, f.body));
    }
    if (!at_end(&b))
        return broken(p, "the file is cut off or malformed");
    if (!p->n)
        return broken(p, "there are no pieces");
    if (p->model != MODEL_UNIGRAM && p->model != MODEL_BPE)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: trainer_spec: model_type %d is neither unigram nor bpe",
                p->name, p->model);
    if (p->suffix || !p->escape)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: spaces as suffixes, or not escaped, are not supported",
                p->name);
    return CUDDLE_OK;
}

/* ---- Writing ---- */

static cuddle_status put_charsmap(cdl_buf *out, bytes b)
{
    CDL_TRY(cdl_buf_puts(out, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\""));
    for (; b.at < b.end; b.at += b.end - b.at < 3 ? b.end - b.at : 3) {
        char four[4];
        cdl_base64_encode(b.at, b.end - b.at < 3 ? (size_t)(b.end - b.at) : 3, four);
        CDL_TRY(cdl_buf_append(out, four, 4));
    }
    return cdl_buf_puts(out, "\"},");
}

#define REPLACE(kind, from, to) "{\"type\":\"Replace\",\"pattern\":{\"" kind "\":\"" from "\"},\"content\":\"" to "\"}"

static cuddle_status put_parts(cdl_buf *out, const sentencepiece *p)
{
    CDL_TRY(cdl_buf_puts(out, "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["));
    if (p->charsmap.at < p->charsmap.end)
        CDL_TRY(put_charsmap(out, p->charsmap));
    if (p->shrink)
        CDL_TRY(cdl_buf_puts(out, REPLACE("Regex", "\\\\A +| +\\\\z", "") "," REPLACE("Regex", " {2,}", " ") ","));
    if (p->prefix)
        CDL_TRY(cdl_buf_puts(out, "{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"},"));
    CDL_TRY(cdl_buf_puts(out, REPLACE("String", " ", MARK) "]},\"pre_tokenizer\":"));
    CDL_TRY(cdl_buf_puts(out, p->inner ? "null" : "{\"type\":\"Metaspace\",\"replacement\":\"" MARK
            "\",\"prepend_scheme\":\"never\",\"split\":true}"));
    CDL_TRY(cdl_buf_puts(out, ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" REPLACE("String", MARK, " ")
            ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"));
    if (p->prefix)
        CDL_TRY(cdl_buf_puts(out, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}"));
    return cdl_buf_puts(out, "]},\"model\":{");
}

static cuddle_status put_added(cdl_buf *out, const sentencepiece *p)
{
    bool first = true;
    CDL_TRY(cdl_buf_puts(out, "{\"version\":\"1.0\",\"added_tokens\":["));
    for (size_t i = 0; i < p->n; i++) {
        size_t n = 0;
        const char *s = cdl_vocab_text(&p->vocab, (int64_t)i, &n);
        uint8_t type = p->piece[i].type;
        bool user = type == USER_DEFINED && !memmem(s, n, MARK, 3);
        if (type != UNKNOWN && type != CONTROL && !user)
            continue;
        CDL_TRY(cdl_import_put_added(out, first, (int64_t)i, s, n, !user));
        first = false;
    }
    return CUDDLE_OK;
}

static cuddle_status put_unigram(cdl_buf *out, const sentencepiece *p)
{
    CDL_TRY(cdl_buf_puts(out, "\"type\":\"Unigram\",\"unk_id\":"));
    CDL_TRY(p->unk < 0 ? cdl_buf_puts(out, "null") : cdl_buf_printf(out, "%lld", (long long)p->unk));
    CDL_TRY(cdl_buf_printf(out, ",\"byte_fallback\":%s,\"vocab\":[", p->byte_fallback ? "true" : "false"));
    for (size_t i = 0; i < p->n; i++) {
        size_t n = 0;
        const char *s = cdl_vocab_text(&p->vocab, (int64_t)i, &n);
        CDL_TRY(cdl_buf_puts(out, i ? ",\n[" : "\n["));
        CDL_TRY(cdl_json_put_string(out, s, n));
        CDL_TRY(cdl_buf_printf(out, ",%.17g]", (double)p->piece[i].score));
    }
    return cdl_buf_puts(out, "]}}\n");
}

typedef struct {
    float score;
    uint32_t left, right, chars_left, chars_right;
} merge;

static int compare(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

/* The highest score first, then the longer left, the longer right, the smaller ids. */
static int by_score(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    int order = x->score != y->score ? (x->score < y->score ? 1 : -1) : compare(y->chars_left, x->chars_left);
    order = order ? order : compare(y->chars_right, x->chars_right);
    order = order ? order : compare(x->left, y->left);
    return order ? order : compare(x->right, y->right);
}

static uint32_t count_chars(const char *s, size_t n)
{
    uint32_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    return chars;
}

static cuddle_status find_merges(const sentencepiece *p, merge **list, size_t *n, size_t *cap)
{
    for (size_t id = 0; id < p->n; id++) {
        size_t len = 0;
        const char *s = cdl_vocab_text(&p->vocab, (int64_t)id, &len);
        uint8_t type = p->piece[id].type;
        for (size_t i = 1; i < len && (type == NORMAL || type == USER_DEFINED || type == UNUSED); i++) {
            int32_t left = (s[i] & 0xc0) == 0x80 ? -1 : cdl_vocab_find(&p->vocab, s, i);
            int32_t right = left < 0 ? -1 : cdl_vocab_find(&p->vocab, s + i, len - i);
            if (right < 0)
                continue;
            CDL_TRY(cdl_work_grow(list, cap, *n + 1, sizeof **list));
            (*list)[(*n)++] = (merge){ p->piece[id].score, (uint32_t)left, (uint32_t)right, count_chars(s, i),
                                       count_chars(s + i, len - i) };
        }
    }
    return CUDDLE_OK;
}

static cuddle_status put_merge(cdl_buf *out, const sentencepiece *p, const merge *m, bool first)
{
    size_t a = 0, b = 0;
    const char *left = cdl_vocab_text(&p->vocab, m->left, &a), *right = cdl_vocab_text(&p->vocab, m->right, &b);
    CDL_TRY(cdl_buf_puts(out, first ? "\n[" : ",\n["));
    CDL_TRY(cdl_json_put_string(out, left, a));
    CDL_TRY(cdl_buf_putc(out, ','));
    CDL_TRY(cdl_json_put_string(out, right, b));
    return cdl_buf_putc(out, ']');
}

static cuddle_status put_bpe(cdl_buf *out, const sentencepiece *p)
{
    size_t n = 0, cap = 0;
    merge *list = NULL;
    const char *unk = p->unk < 0 ? NULL : cdl_vocab_text(&p->vocab, p->unk, &n);
    CDL_TRY(cdl_buf_puts(out, "\"type\":\"BPE\",\"dropout\":null,\"continuing_subword_prefix\":null,"
            "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"ignore_merges\":false,\"unk_token\":"));
    CDL_TRY(unk ? cdl_json_put_string(out, unk, n) : cdl_buf_puts(out, "null"));
    CDL_TRY(cdl_buf_printf(out, ",\"byte_fallback\":%s,\"vocab\":{", p->byte_fallback ? "true" : "false"));
    for (size_t i = 0; i < p->n; i++) {
        const char *s = cdl_vocab_text(&p->vocab, (int64_t)i, &n);
        CDL_TRY(cdl_buf_puts(out, i ? ",\n" : "\n"));
        CDL_TRY(cdl_json_put_string(out, s, n));
        CDL_TRY(cdl_buf_printf(out, ":%zu", i));
    }
    CDL_TRY(cdl_buf_puts(out, "},\"merges\":["));
    n = 0;
    cuddle_status st = find_merges(p, &list, &n, &cap);
    if (st == CUDDLE_OK && n)
        qsort(list, n, sizeof *list, by_score);
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++)
        st = put_merge(out, p, &list[i], i == 0);
    cdl_mem_free(list);
    return st == CUDDLE_OK ? cdl_buf_puts(out, "]}}\n") : st;
}

cuddle_status cdl_import_sentencepiece(cdl_buf *out, const uint8_t *data, size_t n, const char *name)
{
    sentencepiece p = { .name = name, .model = MODEL_UNIGRAM, .prefix = true, .shrink = true, .escape = true,
                        .unk = -1 };
    cuddle_status st = read_model(&p, (bytes){ data, data + n });
    if (st == CUDDLE_OK)
        st = put_added(out, &p);
    if (st == CUDDLE_OK)
        st = put_parts(out, &p);
    if (st == CUDDLE_OK)
        st = p.model == MODEL_UNIGRAM ? put_unigram(out, &p) : put_bpe(out, &p);
    cdl_vocab_free(&p.vocab);
    cdl_mem_free(p.piece);
    return st;
}
