/* tokenizer.c - a text's way through the parts (parts.h), and the vocabulary. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/words.h"

/* ---- Vocabulary ---- */

uint32_t cuddle_tokenizer_vocab(const cuddle_tokenizer *t)
{
    return t->model.vocab.ids > t->added.vocab.ids ? t->model.vocab.ids : t->added.vocab.ids;
}

const char *cuddle_tokenizer_token(const cuddle_tokenizer *t, int32_t id, size_t *n)
{
    const char *s = cdl_vocab_text(&t->added.shown, id, n);
    return s ? s : cdl_vocab_text(&t->model.vocab, id, n);
}

int32_t cuddle_tokenizer_id(const cuddle_tokenizer *t, const char *token, size_t n)
{
    int32_t id = cdl_vocab_find(&t->added.vocab, token, n);
    return id >= 0 ? id : cdl_vocab_find(&t->model.vocab, token, n);
}

bool cuddle_tokenizer_in_model(const cuddle_tokenizer *t, int32_t id)
{
    size_t n;
    return cdl_vocab_text(&t->model.vocab, id, &n) != NULL;
}

bool cuddle_tokenizer_is_special(const cuddle_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->added.vocab.ids && t->added.special[id];
}

/* ---- Encoding ---- */

cuddle_status cdl_token_model_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n)
{
    switch (m->type) {
    case CDL_MODEL_BPE:
        return cdl_bpe_run(m, w, s, n);
    case CDL_MODEL_WORDPIECE:
        return cdl_wordpiece_run(m, w, s, n);
    case CDL_MODEL_WORDLEVEL:
        return cdl_wordlevel_run(m, w, s, n);
    case CDL_MODEL_UNIGRAM:
        return cdl_unigram_run(m, w, s, n);
    }
    return CUDDLE_OK;
}

/* Code points of the original before a byte; asked in mostly rising order. */
typedef struct {
    const char *s;
    size_t n, byte, chars;
    bool bytes;                /* offsets stay bytes */
} char_counter;

static uint32_t chars_before(char_counter *c, size_t byte)
{
    if (c->bytes)
        return (uint32_t)byte;
    if (byte < c->byte) {
        while (c->byte > byte) {
            c->byte--;
            c->chars -= (c->s[c->byte] & 0xc0) != 0x80;
        }
        return (uint32_t)c->chars;
    }
    for (; c->byte < byte && c->byte < c->n; c->byte++)
        c->chars += (c->s[c->byte] & 0xc0) != 0x80;
    return (uint32_t)c->chars;
}

/* Byte fallback of a prefix or a suffix takes more bytes than the piece has: then Hugging Face takes bytes of the
 * piece for bytes of the text, and leaves them bytes where the text has ended. */
static void find_beyond(const cdl_token *k, char_counter *c, uint32_t *out)
{
    bool past = k->begin >= c->n || c->bytes;
    out[0] = past ? k->begin : chars_before(c, k->begin + (size_t)1) - 1;
    out[1] = past ? k->end : k->end < c->n ? chars_before(c, k->end + (size_t)1) - 1
        : k->end == c->n ? chars_before(c, k->end) : out[0] + 2;
}

static void find_offsets(const cdl_piece *p, const cdl_token *k, char_counter *c, uint32_t *out)
{
    bool empty = k->begin >= k->end;
    if (!empty && k->end > p->n) {
        find_beyond(k, c, out);
        return;
    }
    out[0] = chars_before(c, empty ? p->origin + k->begin : p->align[k->begin].begin);
    out[1] = chars_before(c, empty ? p->origin + k->end : p->align[k->end - 1].end);
}

/* A token of the model shows the model's text, even where an added token has its id and another text. */
static cuddle_status put_value(const cuddle_tokenizer *t, cuddle_encoding *e, size_t i, const cdl_token *k)
{
    size_t n = k->n_value;
    const char *s = k->value;
    e->value[i] = 0;
    if (!s && k->id >= 0 && (uint32_t)k->id < t->added.shown.ids)
        s = cdl_vocab_text(&t->model.vocab, k->id, &n);
    return s ? cdl_encoding_value(e, i, s, n) : CUDDLE_OK;
}

static cuddle_status put_token(const cuddle_tokenizer *t, cuddle_encoding *e, const cdl_piece *p, const cdl_token *k,
        int32_t word, uint8_t type, char_counter *c)
{
    size_t i = e->n;
    CDL_TRY(cdl_encoding_reserve(e, i + 1));
    e->ids[i] = k->id;
    e->n++;
    e->words[i] = word;
    find_offsets(p, k, c, e->offsets + 2 * i);
    e->types[i] = type;
    e->special[i] = 0;
    e->attention[i] = 1;
    e->sequence[i] = type;
    return put_value(t, e, i, k);
}

static cuddle_status first_piece(cdl_token_work *w, const char *s, size_t n)
{
    cdl_align *align = w->offsets ? cdl_arena_alloc(&w->arena, n * sizeof *align) : NULL;
    if (w->offsets && !align)
        return cdl_status_nomem("the origins of a text");
    for (size_t i = 0, k; align && i < n; i += k) {
        uint32_t cp;
        k = cdl_utf8_get(s + i, n - i, &cp);
        for (size_t j = 0; j < k; j++)
            align[i + j] = (cdl_align){ (uint32_t)i, (uint32_t)(i + k) };
    }
    w->n_next = 0;
    cdl_piece whole = { s, align, (uint32_t)n, 0, -1 };
    CDL_TRY(cdl_work_slice(w, &whole, 0, (uint32_t)n, -1));
    cdl_work_turn(w);
    return CUDDLE_OK;
}

/* Normalizes what is still text; nothing stays of pieces that become empty. */
static cuddle_status normalize(const cuddle_tokenizer *t, cdl_token_work *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        cdl_piece p = w->piece[i];
        for (uint32_t k = 0; k < t->n_norm && p.id < 0; k++)
            CDL_TRY(cdl_norm_run(&t->norm[k], w, &p, w->continues && i == 0));
        if (p.n && p.id < 0 && p.align)
            p.origin = p.align[0].begin;
        if (p.n)
            w->piece[n++] = p;
    }
    w->n = n;
    return CUDDLE_OK;
}

static cuddle_status cut(const cuddle_tokenizer *t, cdl_token_work *w, uint32_t n_split)
{
    CDL_TRY(cdl_added_split(&t->added, &t->added.raw, w));
    CDL_TRY(normalize(t, w));
    CDL_TRY(cdl_added_split(&t->added, &t->added.normalized, w));
    for (uint32_t k = 0; k < n_split; k++)
        CDL_TRY(cdl_split_run(&t->split[k], w));
    return CUDDLE_OK;
}

static bool needs_origins(const cuddle_tokenizer *t, const char *s, size_t n)
{
    bool alnum = n && ((s[0] >= 'a' && s[0] <= 'z') || (s[0] >= 'A' && s[0] <= 'Z') || (s[0] >= '0' && s[0] <= '9'));
    return t->origins == CDL_ORIGINS_ALWAYS || (t->origins == CDL_ORIGINS_UNLESS_ALNUM && !alnum);
}

/* The short way of a text that has not been touched, if its tokenizer has one. */
static cuddle_status encode_ids(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, bool *done)
{
    cdl_token_work *w = &e->work;
    size_t before = e->n;
    CDL_TRY(cdl_words_prepare(t, w));
    if (!t->bert || t->added.normalized.n || w->offsets)
        return CUDDLE_OK;
    CDL_TRY(first_piece(w, s, n));
    CDL_TRY(cdl_added_split(&t->added, &t->added.raw, w));
    *done = true;
    for (size_t i = 0; *done && i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        CDL_TRY(p->id >= 0 ? cdl_encoding_add(e, p->id, NULL, 0, true) : cdl_words_encode_bert(t, e, p->s, p->n, done));
    }
    e->n = *done ? e->n : before;
    return CUDDLE_OK;
}

/* Ids alone where no word may be remembered. */
static cuddle_status put_ids(const cuddle_tokenizer *t, cuddle_encoding *e)
{
    cdl_token_work *w = &e->work;
    for (size_t i = 0; i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        w->n_token = 0;
        CDL_TRY(p->id >= 0 ? cdl_work_token(w, (cdl_token){ .id = p->id })
                           : cdl_token_model_run(&t->model, w, p->s, p->n));
        CDL_TRY(cdl_work_check(w, e->n + w->n_token));
        CDL_TRY(cdl_encoding_reserve(e, e->n + w->n_token));
        for (size_t k = 0; k < w->n_token; k++)
            e->ids[e->n++] = w->token[k].id;
    }
    return CUDDLE_OK;
}

/* word: the number of all tokens, or -1: that of their piece. */
static cuddle_status encode_text(const cuddle_tokenizer *t, cuddle_encoding *e, const char *s, size_t n, uint8_t type,
        int32_t word)
{
    cdl_token_work *w = &e->work;
    cdl_work_begin(w, n, t->n_norm + t->n_split);
    w->offsets = e->full || needs_origins(t, s, n);
    bool done = false, words = !e->full && !(t->model.dropout > 0);
    if (words)
        CDL_TRY(encode_ids(t, e, s, n, &done));
    if (done)
        return CUDDLE_OK;
    CDL_TRY(first_piece(w, s, n));
    CDL_TRY(cut(t, w, words ? t->n_listed : t->n_split));
    if (!e->full)
        return words ? cdl_words_encode(t, e) : put_ids(t, e);
    char_counter c = { .s = s, .n = n, .bytes = e->bytes };
    for (size_t i = 0; i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        int32_t number = word < 0 ? (int32_t)i : word;
        if (p->id >= 0) {
            cdl_token k = { p->id, 0, p->n, p->s, p->n };
            CDL_TRY(put_token(t, e, p, &k, number, type, &c));
            continue;
        }
        if (!p->n)
            continue;
        CDL_TRY(cdl_token_model_run(&t->model, w, p->s, p->n));
        CDL_TRY(cdl_work_check(w, e->n + w->n_token));
        for (size_t j = 0; j < w->n_token; j++)
            CDL_TRY(put_token(t, e, p, &w->token[j], number, type, &c));
    }
    return CUDDLE_OK;
}

static cuddle_status check_text(const char *s, size_t n, bool valid)
{
    if (n > INT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a text of %zu bytes is over 2 GiB; cut it", n);
    size_t bad = valid ? n : cdl_utf8_valid(s, n);
    if (bad < n)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the text is not UTF-8: byte 0x%02x at offset %zu",
                (uint8_t)s[bad], bad);
    return CUDDLE_OK;
}

typedef struct {
    const char *s;
    size_t n;
    const size_t *ends;        /* [n_ends] of its words; NULL: it is one text */
    size_t n_ends;
    uint8_t type;
} input;

static cuddle_status encode_one(const cuddle_tokenizer *t, cuddle_encoding *e, const input *in,
        const cuddle_encode_opts *o)
{
    cdl_encoding_clear(e);
    e->full = !o->ids_only;
    e->bytes = o->byte_offsets;
    e->work.random = o->seed * 2 + in->type;
    CDL_TRY(cdl_encoding_reserve(e, 1));
    if (!in->ends) {
        CDL_TRY(check_text(in->s, in->n, o->valid_utf8));
        return encode_text(t, e, in->s, in->n, in->type, -1);
    }
    for (size_t i = 0, begin = 0; i < in->n_ends; begin = in->ends[i++]) {
        if (in->ends[i] < begin || in->ends[i] > in->n)
            return cdl_status_fail(CUDDLE_ERR_ARG, "word %zu ends before it begins, or behind the text", i);
        CDL_TRY(check_text(in->s + begin, in->ends[i] - begin, false));
        CDL_TRY(encode_text(t, e, in->s + begin, in->ends[i] - begin, in->type, (int32_t)i));
    }
    return CUDDLE_OK;
}

cuddle_status cuddle_tokenizer_encode(const cuddle_tokenizer *t, cuddle_encoding *e, const char *text, size_t n,
        const cuddle_encode_opts *opts)
{
    cuddle_encode_opts o = { 0 };
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    input one = { text, n, o.word_ends, o.n_words, 0 }, two = { o.pair, o.n_pair, o.pair_word_ends, o.n_pair_words, 1 };
    CDL_TRY(encode_one(t, e, &one, &o));
    if (o.pair && !e->pair)
        CDL_TRY(cuddle_encoding_new(&e->pair));
    if (o.pair)
        CDL_TRY(encode_one(t, e->pair, &two, &o));
    return cdl_post_run(t, e, o.pair ? e->pair : NULL, &o);
}

/* ---- Parts alone ---- */

cuddle_status cuddle_tokenizer_normalize(const cuddle_tokenizer *t, const char *text, size_t n, char **out,
        size_t *n_out)
{
    cdl_token_work w = { 0 };
    cdl_buf b = { 0 };
    cdl_piece p = { .s = text, .n = (uint32_t)n, .id = -1 };
    *out = NULL;
    *n_out = 0;
    CDL_TRY(check_text(text, n, false));
    cdl_work_begin(&w, n, t->n_norm);
    cuddle_status st = CUDDLE_OK;
    for (uint32_t k = 0; k < t->n_norm && st == CUDDLE_OK; k++)
        st = cdl_norm_run(&t->norm[k], &w, &p, false);
    if (st == CUDDLE_OK)
        st = cdl_buf_append(&b, p.s, p.n);
    cdl_work_free(&w);
    if (st != CUDDLE_OK)
        return st;
    *out = b.data;
    *n_out = b.len;
    return CUDDLE_OK;
}

cuddle_status cuddle_tokenizer_pre_tokenize(const cuddle_tokenizer *t, cuddle_encoding *e, const char *text, size_t n)
{
    cdl_token_work *w = &e->work;
    char_counter c = { .s = text, .n = n };
    cdl_encoding_clear(e);
    e->full = true;
    e->bytes = false;
    CDL_TRY(cdl_encoding_reserve(e, 1));
    CDL_TRY(check_text(text, n, false));
    cdl_work_begin(w, n, t->n_split);
    w->offsets = true;
    CDL_TRY(first_piece(w, text, n));
    for (uint32_t k = 0; k < t->n_split; k++) {
        cdl_split step = t->split[k];
        step.raw_bytes = false; /* a text is to be shown */
        CDL_TRY(cdl_split_run(&step, w));
    }
    for (size_t i = 0; i < w->n; i++) {
        cdl_token k = { -1, 0, w->piece[i].n, w->piece[i].s, w->piece[i].n };
        CDL_TRY(put_token(t, e, &w->piece[i], &k, (int32_t)i, 0, &c));
    }
    return CUDDLE_OK;
}

static cuddle_status copy_tokens(cuddle_encoding *to, const cuddle_encoding *from, uint8_t sequence)
{
    cdl_encoding_clear(to);
    to->full = from->full;
    CDL_TRY(cdl_encoding_reserve(to, 1));
    CDL_TRY(cdl_encoding_append(to, from, 0, from->n));
    if (to->full) {
        memset(to->sequence, sequence, to->n);
        memset(to->types, sequence, to->n);
    }
    return CUDDLE_OK;
}

cuddle_status cuddle_tokenizer_post_process(const cuddle_tokenizer *t, cuddle_encoding *e, const cuddle_encoding *text,
        const cuddle_encoding *pair, const cuddle_encode_opts *opts)
{
    cuddle_encode_opts o = { 0 };
    if (opts)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    if (e == text || e == pair || (pair && pair->full != text->full))
        return cdl_status_fail(CUDDLE_ERR_ARG,
                "post_process: three encodings, all with or all without offsets, are needed");
    CDL_TRY(copy_tokens(e, text, 0));
    if (pair && !e->pair)
        CDL_TRY(cuddle_encoding_new(&e->pair));
    if (pair)
        CDL_TRY(copy_tokens(e->pair, pair, 1));
    cdl_work_begin(&e->work, text->n, 1);
    return cdl_post_run(t, e, pair ? e->pair : NULL, &o);
}
