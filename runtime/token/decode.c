/* decode.c - ids to text: decoders, and the stream that never shows half a character. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

typedef struct {
    const char *s;
    size_t n;
} string;

typedef struct {
    cdl_arena arena;
    string *v;                 /* [n] */
    size_t n, cap;
    cdl_buf buf;               /* of the text in the making */
    cdl_token_work work;       /* for patterns */
} decoding;

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

static cuddle_status keep(decoding *d, string *out)
{
    out->n = d->buf.len;
    out->s = cdl_arena_strndup(&d->arena, d->buf.data ? d->buf.data : "", d->buf.len);
    cdl_buf_clear(&d->buf);
    return out->s ? CUDDLE_OK : cdl_status_nomem("the text");
}

static cuddle_status push(decoding *d, string t)
{
    CDL_TRY(cdl_work_grow(&d->v, &d->cap, d->n + 1, sizeof *d->v));
    d->v[d->n++] = t;
    return CUDDLE_OK;
}

/* What an empty text is replaced by stands around each character. */
static cuddle_status put_between(decoding *d, string *t, const char *to, size_t n_to)
{
    for (size_t i = 0; i < t->n; i++) {
        if ((t->s[i] & 0xc0) != 0x80)
            CDL_TRY(cdl_buf_append(&d->buf, to, n_to));
        CDL_TRY(cdl_buf_putc(&d->buf, t->s[i]));
    }
    CDL_TRY(cdl_buf_append(&d->buf, to, n_to));
    return keep(d, t);
}

/* All occurrences of a text. */
static cuddle_status replace_all(decoding *d, string *t, const char *from, size_t n_from, const char *to, size_t n_to)
{
    if (!n_from)
        return put_between(d, t, to, n_to);
    if (!memmem(t->s, t->n, from, n_from))
        return CUDDLE_OK;
    size_t at = 0;
    const char *hit;
    while ((hit = memmem(t->s + at, t->n - at, from, n_from))) {
        CDL_TRY(cdl_buf_append(&d->buf, t->s + at, (size_t)(hit - t->s) - at));
        CDL_TRY(cdl_buf_append(&d->buf, to, n_to));
        at = (size_t)(hit - t->s) + n_from;
    }
    CDL_TRY(cdl_buf_append(&d->buf, t->s + at, t->n - at));
    return keep(d, t);
}

/* Bytes as UTF-8; each longest beginning of a character that goes wrong becomes U+FFFD. */
static cuddle_status append_lossy(cdl_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; ) {
        size_t good = cdl_utf8_valid(s + i, n - i);
        CDL_TRY(cdl_buf_append(b, s + i, good));
        i += good;
        if (i == n)
            break;
        uint8_t lead = (uint8_t)s[i++], low = 0x80, high = 0xbf;
        int follow = lead < 0xc2 || lead > 0xf4 ? 0 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : low;
        high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : high;
        for (; follow && i < n && (uint8_t)s[i] >= low && (uint8_t)s[i] <= high; follow--, i++) {
            low = 0x80;
            high = 0xbf;
        }
        CDL_TRY(cdl_buf_puts(b, REPLACEMENT));
    }
    return CUDDLE_OK;
}

/* ---- The decoders ---- */

static cuddle_status decode_byte_level(decoding *d)
{
    cdl_buf bytes = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < d->n && st == CUDDLE_OK; i++) {
        const string *t = &d->v[i];
        size_t begin = bytes.len, k;
        uint32_t cp;
        int byte = 0;
        for (size_t at = 0; at < t->n && st == CUDDLE_OK && byte >= 0; at += k) {
            k = cdl_utf8_get(t->s + at, t->n - at, &cp);
            byte = k ? cdl_unicode_to_byte(cp) : -1;
            if (byte >= 0)
                st = cdl_buf_putc(&bytes, (char)byte);
        }
        if (byte < 0 && st == CUDDLE_OK) { /* not all are ByteLevel's characters: as it is */
            bytes.len = begin;
            st = cdl_buf_append(&bytes, t->s, t->n);
        }
    }
    if (st == CUDDLE_OK)
        st = append_lossy(&d->buf, bytes.data, bytes.len);
    cdl_buf_free(&bytes);
    if (st != CUDDLE_OK)
        return st;
    d->n = 0;
    string all;
    CDL_TRY(keep(d, &all));
    return push(d, all);
}

static cuddle_status cleanup(decoding *d, string *t)
{
    static const char *const rules[][2] = {
        { " .", "." }, { " ?", "?" }, { " !", "!" }, { " ,", "," }, { " ' ", "'" }, { " n't", "n't" }, { " 'm", "'m" },
        { " do not", " don't" }, { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" } };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        CDL_TRY(replace_all(d, t, rules[i][0], strlen(rules[i][0]), rules[i][1], strlen(rules[i][1])));
    return CUDDLE_OK;
}

static cuddle_status decode_wordpiece(decoding *d, const cdl_decode *k)
{
    for (size_t i = 0; i < d->n; i++) {
        string *t = &d->v[i];
        if (i && t->n >= k->n && memcmp(t->s, k->text, k->n) == 0) {
            *t = (string){ t->s + k->n, t->n - k->n };
        } else if (i) {
            CDL_TRY(cdl_buf_putc(&d->buf, ' '));
            CDL_TRY(cdl_buf_append(&d->buf, t->s, t->n));
            CDL_TRY(keep(d, t));
        }
        if (k->cleanup)
            CDL_TRY(cleanup(d, t));
    }
    return CUDDLE_OK;
}

static cuddle_status decode_metaspace(decoding *d, const cdl_decode *k)
{
    for (size_t i = 0; i < d->n; i++) {
        string *t = &d->v[i];
        uint32_t cp;
        for (size_t at = 0, n; at < t->n; at += n) {
            n = cdl_utf8_get(t->s + at, t->n - at, &cp);
            n = n ? n : 1;
            if (cp != k->cp)
                CDL_TRY(cdl_buf_append(&d->buf, t->s + at, n));
            else if (i || !k->prepend)
                CDL_TRY(cdl_buf_putc(&d->buf, ' '));
        }
        CDL_TRY(keep(d, t));
    }
    return CUDDLE_OK;
}

static cuddle_status decode_ctc(decoding *d, const cdl_decode *k)
{
    size_t n = 0;
    string last = { NULL, 0 };
    for (size_t i = 0; i < d->n; i++) {
        string t = d->v[i], before = last;
        last = t;
        if (before.s && before.n == t.n && memcmp(before.s, t.s, t.n) == 0)
            continue;
        CDL_TRY(replace_all(d, &t, k->text, k->n, "", 0));
        if (k->cleanup) {
            CDL_TRY(cleanup(d, &t));
            CDL_TRY(replace_all(d, &t, k->delimiter, k->n_delimiter, " ", 1));
        }
        if (t.n)
            d->v[n++] = t;
    }
    d->n = n;
    return CUDDLE_OK;
}

static cuddle_status decode_replace(decoding *d, const cdl_decode *k)
{
    for (size_t i = 0; i < d->n; i++) {
        string *t = &d->v[i];
        cdl_piece p = { .s = t->s, .n = (uint32_t)t->n, .id = -1 };
        CDL_TRY(cdl_pattern_cut(&k->pattern, &d->work, &p));
        for (size_t c = 0; c < d->work.n_cut; c++) {
            const cdl_cut *cut = &d->work.cut[c];
            CDL_TRY(cut->match ? cdl_buf_append(&d->buf, k->text, k->n)
                               : cdl_buf_append(&d->buf, t->s + cut->begin, cut->end - cut->begin));
        }
        CDL_TRY(keep(d, t));
    }
    return CUDDLE_OK;
}

static cuddle_status decode_fuse(decoding *d)
{
    for (size_t i = 0; i < d->n; i++)
        CDL_TRY(cdl_buf_append(&d->buf, d->v[i].s, d->v[i].n));
    d->n = 0;
    string all;
    CDL_TRY(keep(d, &all));
    return push(d, all);
}

static void decode_strip(decoding *d, const cdl_decode *k)
{
    char c[4];
    size_t n = cdl_utf8_put(c, k->cp);
    for (size_t i = 0; i < d->n; i++) {
        string *t = &d->v[i];
        for (uint32_t j = 0; j < k->start && t->n >= n && memcmp(t->s, c, n) == 0; j++)
            *t = (string){ t->s + n, t->n - n };
        for (uint32_t j = 0; j < k->stop && t->n >= n && memcmp(t->s + t->n - n, c, n) == 0; j++)
            t->n -= n;
    }
}

/* "<0xE2>" is the byte 0xe2. */
static int byte_of(const string *t)
{
    if (t->n != 6 || memcmp(t->s, "<0x", 3) != 0 || t->s[5] != '>')
        return -1;
    char digits[3] = { t->s[3], t->s[4], 0 }, *end;
    if (digits[0] == '+' || digits[0] == '-' || digits[0] == ' ')
        return digits[0] == '+' && strtol(digits + 1, &end, 16) >= 0 && end == digits + 2
                ? (int)strtol(digits + 1, NULL, 16) : -1;
    long v = strtol(digits, &end, 16);
    return end == digits + 2 ? (int)v : -1;
}

static cuddle_status decode_bytes(decoding *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; ) {
        int byte = byte_of(&d->v[i]);
        if (byte < 0) {
            d->v[n++] = d->v[i++];
            continue;
        }
        size_t run = 0;
        for (; i + run < d->n && (byte = byte_of(&d->v[i + run])) >= 0; run++)
            CDL_TRY(cdl_buf_putc(&d->buf, (char)byte));
        string t;
        CDL_TRY(keep(d, &t));
        bool valid = cdl_utf8_valid(t.s, t.n) == t.n;
        for (size_t j = 0; !valid && j < run; j++)
            d->v[n++] = (string){ REPLACEMENT, 3 };
        if (valid)
            d->v[n++] = t;
        i += run;
    }
    d->n = n;
    return CUDDLE_OK;
}

static cuddle_status decode_step(decoding *d, const cdl_decode *k)
{
    switch (k->type) {
    case CDL_DECODE_BPE:
        for (size_t i = 0; i < d->n; i++)
            CDL_TRY(replace_all(d, &d->v[i], k->text, k->n, " ", i + 1 < d->n));
        return CUDDLE_OK;
    case CDL_DECODE_BYTE_LEVEL:
        return decode_byte_level(d);
    case CDL_DECODE_WORDPIECE:
        return decode_wordpiece(d, k);
    case CDL_DECODE_METASPACE:
        return decode_metaspace(d, k);
    case CDL_DECODE_CTC:
        return decode_ctc(d, k);
    case CDL_DECODE_REPLACE:
        return decode_replace(d, k);
    case CDL_DECODE_FUSE:
        return decode_fuse(d);
    case CDL_DECODE_STRIP:
        decode_strip(d, k);
        return CUDDLE_OK;
    case CDL_DECODE_BYTE_FALLBACK:
        return decode_bytes(d);
    }
    return CUDDLE_OK;
}

/* Decoders shorten texts as a rule; a small file can make a text of any length of a few tokens. */
enum { TEXT_ROOM = 4 << 20, TEXT_FACTOR = 16, ARENA_ROOM = 64 << 20, STEPS_MAX = 16, TOKEN_BYTES = 32,
       CHUNK = 2 << 20 };

static void set_limits(const cuddle_tokenizer *t, decoding *d, size_t bytes)
{
    size_t steps = 1 + (t->n_decode < STEPS_MAX ? t->n_decode : STEPS_MAX);
    d->buf.max = TEXT_ROOM + TEXT_FACTOR * bytes;
    d->arena.bytes_max = d->arena.bytes + ARENA_ROOM + steps * (2 * bytes + TOKEN_BYTES * d->n);
}

static cuddle_status run_decoders(const cuddle_tokenizer *t, decoding *d)
{
    cuddle_status st = CUDDLE_OK;
    for (uint32_t k = 0; k < t->n_decode && st == CUDDLE_OK; k++)
        st = decode_step(d, &t->decode[k]);
    if (st == CUDDLE_ERR_FULL || (st == CUDDLE_ERR_NOMEM && d->arena.bytes + d->buf.len + CHUNK > d->arena.bytes_max))
        return cdl_status_fail(CUDDLE_ERR_FULL,
                "decoder: over %zu bytes come of a few tokens; look at what it puts into them", d->buf.max);
    return st;
}

/* What has been pushed, of so many bytes. */
static cuddle_status finish(const cuddle_tokenizer *t, decoding *d, size_t bytes, cdl_buf *out)
{
    set_limits(t, d, bytes);
    CDL_TRY(run_decoders(t, d));
    for (size_t i = 0; i < d->n; i++) {
        if (i && !t->decodes)
            CDL_TRY(cdl_buf_putc(out, ' '));
        CDL_TRY(cdl_buf_append(out, d->v[i].s, d->v[i].n));
    }
    return CUDDLE_OK;
}

static cuddle_status decode(const cuddle_tokenizer *t, decoding *d, const int32_t *ids, size_t n,
        bool skip_special, cdl_buf *out)
{
    size_t bytes = 0;
    cdl_arena_reset(&d->arena);
    d->n = 0;
    for (size_t i = 0; i < n; i++) {
        string x;
        x.s = skip_special && cuddle_tokenizer_is_special(t, ids[i]) ? NULL : cuddle_tokenizer_token(t, ids[i], &x.n);
        bytes += x.s ? x.n : 0;
        if (x.s)
            CDL_TRY(push(d, x));
    }
    return finish(t, d, bytes, out);
}

static void free_decoding(decoding *d)
{
    cdl_arena_free(&d->arena);
    cdl_mem_free(d->v);
    cdl_buf_free(&d->buf);
    cdl_work_free(&d->work);
}

/* The text, or nothing when st is an error. */
static cuddle_status give(decoding *d, cdl_buf *b, cuddle_status st, char **out, size_t *n_out)
{
    if (st == CUDDLE_OK)
        st = cdl_buf_append(b, "", 0);
    free_decoding(d);
    if (st != CUDDLE_OK)
        cdl_buf_free(b);
    *out = b->data;
    *n_out = b->len;
    return st;
}

cuddle_status cuddle_tokenizer_decode(const cuddle_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
        char **out, size_t *n_out)
{
    decoding d = { 0 };
    cdl_buf b = { 0 };
    return give(&d, &b, decode(t, &d, ids, n, skip_special, &b), out, n_out);
}

cuddle_status cuddle_tokenizer_decode_tokens(const cuddle_tokenizer *t, const char *const *tokens,
        const size_t *lengths, size_t n, char **out, size_t *n_out)
{
    decoding d = { 0 };
    cdl_buf b = { 0 };
    size_t bytes = 0;
    cuddle_status st = CUDDLE_OK;
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++) {
        bytes += lengths[i];
        st = cdl_utf8_valid(tokens[i], lengths[i]) == lengths[i] ? push(&d, (string){ tokens[i], lengths[i] })
            : cdl_status_fail(CUDDLE_ERR_ARG, "token %zu is not UTF-8", i);
    }
    if (st == CUDDLE_OK)
        st = finish(t, &d, bytes, &b);
    return give(&d, &b, st, out, n_out);
}

void cuddle_tokenizer_text_free(char *text)
{
    cdl_mem_free(text);
}

/* ---- The stream ----
 *
 * A window of ids is decoded again with each new one: those shown last, for what decoders do at
 * joints, and those that wait. What may still change is held back: replacement characters at the
 * end (bytes of an unfinished character), and everything while the text shown is no beginning of
 * the text any more (ByteFallback takes back a whole run of bytes until it is valid again). */

enum { WAITING_MAX = 64 };    /* ids that may wait */

struct cuddle_decode_stream {
    const cuddle_tokenizer *t;
    bool skip_special;
    decoding d;
    int32_t *ids;              /* [n]: the window; the first `shown` are shown as far as they can be */
    size_t n, cap, shown;
    cdl_buf before;            /* the text of the window that is shown */
    cdl_buf text, out;
};

cuddle_status cuddle_decode_stream_new(cuddle_decode_stream **out, const cuddle_tokenizer *t, bool skip_special)
{
    *out = cdl_mem_zalloc(1, sizeof **out);
    if (!*out)
        return cdl_status_nomem("a decode stream");
    (*out)->t = t;
    (*out)->skip_special = skip_special;
    return CUDDLE_OK;
}

void cuddle_decode_stream_free(cuddle_decode_stream *s)
{
    if (!s)
        return;
    free_decoding(&s->d);
    cdl_mem_free(s->ids);
    cdl_buf_free(&s->before);
    cdl_buf_free(&s->text);
    cdl_buf_free(&s->out);
    cdl_mem_free(s);
}

static cuddle_status decode_window(cuddle_decode_stream *s, cdl_buf *b)
{
    cdl_buf_clear(b);
    CDL_TRY(decode(s->t, &s->d, s->ids, s->n, s->skip_special, b));
    return cdl_buf_append(b, "", 0);
}

/* Bytes of the text that will not change. */
static size_t settled(const cdl_buf *text)
{
    size_t n = text->len;
    while (n >= 3 && memcmp(text->data + n - 3, REPLACEMENT, 3) == 0)
        n -= 3;
    return n;
}

static bool begins_with(const cdl_buf *text, const cdl_buf *before)
{
    return text->len >= before->len && (!before->len || memcmp(text->data, before->data, before->len) == 0);
}

static void drop_shown(cuddle_decode_stream *s)
{
    if (s->shown)
        memmove(s->ids, s->ids + s->shown, (s->n - s->shown) * sizeof *s->ids);
    s->n -= s->shown;
    s->shown = 0;
}

/* Puts what is new of the window's text into out; all: nothing is held back. */
static cuddle_status show(cuddle_decode_stream *s, bool all)
{
    cdl_buf_clear(&s->out);
    CDL_TRY(decode_window(s, &s->text));
    if (!begins_with(&s->text, &s->before)) {
        if (!all)
            return CUDDLE_OK;
        drop_shown(s);
        cdl_buf_clear(&s->before);
        CDL_TRY(decode_window(s, &s->text));
    }
    size_t end = all ? s->text.len : settled(&s->text), from = s->before.len;
    if (end <= from)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_append(&s->out, s->text.data + from, end - from));
    if (end < s->text.len)
        return cdl_buf_append(&s->before, s->text.data + from, end - from);
    drop_shown(s);
    s->shown = s->n;
    return decode_window(s, &s->before);
}

cuddle_status cuddle_decode_stream_put(cuddle_decode_stream *s, int32_t id, const char **text, size_t *n)
{
    CDL_TRY(cdl_work_grow(&s->ids, &s->cap, s->n + 1, sizeof *s->ids));
    s->ids[s->n++] = id;
    bool full = s->n - s->shown >= WAITING_MAX;
    CDL_TRY(show(s, full));
    if (full && s->n > s->shown) /* they add nothing */
        s->n = s->shown;
    *text = s->out.len ? s->out.data : "";
    *n = s->out.len;
    return CUDDLE_OK;
}

cuddle_status cuddle_decode_stream_end(cuddle_decode_stream *s, const char **text, size_t *n)
{
    CDL_TRY(show(s, true));
    *text = s->out.len ? s->out.data : "";
    *n = s->out.len;
    s->n = s->shown = 0;
    cdl_buf_clear(&s->before);
    return CUDDLE_OK;
}
