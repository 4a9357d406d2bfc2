/* stream_encode.c - where a text may be cut so that nothing sees across, and the parts between. */
#include "token/stream_encode.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

enum { PART_MIN = 1 << 20, HELD_MAX = 1 << 28 };

static const char MARK[] = "\xe2\x96\x81";

struct cdl_stream_encode {
    const cuddle_tokenizer *t;
    cuddle_encoding *e;
    cdl_buf held;
    size_t part_min, want;     /* want: bytes at which a place to cut is looked for again */
    bool space, line;          /* the cuts "a| b" and "\n|b" that are allowed             */
    bool marks, changed;       /* spaces become U+2581; letters may change                */
    bool cut_space, cut_line;  /* a pre-tokenizer cuts there                              */
    bool begins;               /* a normalizer puts or strips something where texts begin */
    uint8_t no_space[256];     /* bytes a                                                 */
    uint8_t no_line[256];      /* first bytes of b                                        */
};

static void forbid(cdl_stream_encode *s)
{
    s->space = s->line = false;
}

/* ---- What a tokenizer allows ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Whether letters stay letters, and a blank a blank, in front of and behind which a grapheme ends anyway. */
static bool keeps_words(const cdl_norm *k)
{
    cdl_token_work w = { 0 };
    bool keeps = true;
    for (char c = 'A'; c <= 'z' && keeps; c = c == 'Z' ? 'a' : (char)(c + 1)) {
        char text[3] = { c, ' ', c };
        cdl_piece p = { .s = text, .n = 3, .id = -1 };
        keeps = cdl_norm_run(k, &w, &p, false) == CUDDLE_OK && p.n == 3 && is_letter(p.s[0]) && p.s[1] == ' '
            && is_letter(p.s[2]);
    }
    cdl_work_free(&w);
    return keeps;
}

static bool is_other(char c)
{
    return !is_letter(c) && c != ' ' && c != '\n';
}

/* A pattern that no text with a letter, a blank or a line end matches, or blanks that are many. */
static bool is_apart(const cdl_pattern *k)
{
    if (k->run_least)
        return k->run_of == ' ' ? k->run_least > 1 : is_other(k->run_of);
    bool apart = !k->scan && !k->regex && k->n;
    for (uint32_t i = 0; i < k->n; i++)
        apart &= is_other(k->text[i]);
    return apart;
}

static void plan_norm(cdl_stream_encode *s, const cdl_norm *k)
{
    switch (k->type) {
    case CDL_NORM_PREPEND:
        s->begins = true;
        return;
    case CDL_NORM_STRIP:
        s->begins = true;
        s->line = s->line && !k->right;
        return;
    case CDL_NORM_NMT: /* a line end becomes a space */
        s->line = false;
        return;
    case CDL_NORM_PRECOMPILED:
        s->line = false;
        s->changed = true;
        if (keeps_words(k))
            return;
        break;
    case CDL_NORM_BERT: case CDL_NORM_STRIP_ACCENTS: case CDL_NORM_LOWERCASE:
    case CDL_NORM_NFC: case CDL_NORM_NFD: case CDL_NORM_NFKC: case CDL_NORM_NFKD:
        s->changed = true;
        return;
    case CDL_NORM_REPLACE:
        if (!k->pattern.regex && !k->pattern.scan && k->pattern.n == 1 && k->pattern.text[0] == ' '
                && k->n_content == 3 && memcmp(k->content, MARK, 3) == 0) {
            s->marks = true;
            return;
        }
        if (is_apart(&k->pattern)) { /* what stands in front of a line end may be replaced by white space */
            s->line = s->line && k->pattern.run_least && k->pattern.run_of == ' ';
            return;
        }
        break;
    default:
        break;
    }
    forbid(s);
}

static void plan_pattern(cdl_stream_encode *s, const cdl_split *k)
{
    bool blank = !k->pattern.regex && !k->pattern.scan && k->pattern.n == 1 && k->pattern.text[0] == ' ';
    s->line = s->line && !s->changed; /* a line end may have become a space */
    if (k->pattern.scan && k->behavior == CDL_ISOLATED && !k->invert && !s->marks)
        s->cut_space = s->cut_line = true;
    else if (!(blank && s->marks)) /* nothing to match any more */
        forbid(s);
}

static void plan_split(cdl_stream_encode *s, const cdl_split *k)
{
    switch (k->type) {
    case CDL_SPLIT_PUNCTUATION: case CDL_SPLIT_DIGITS:
        return;
    case CDL_SPLIT_BERT: case CDL_SPLIT_WHITESPACE: case CDL_SPLIT_WHITESPACE_ONLY:
        s->cut_space = s->cut_line = true;
        break;
    case CDL_SPLIT_BYTE_LEVEL:
        s->line = s->line && !k->add_prefix_space;
        if (!k->use_regex)
            return;
        s->line = s->line && !s->changed; /* a line end may have become a space */
        s->cut_space = s->cut_line = true;
        break;
    case CDL_SPLIT_METASPACE:
        s->line = s->line && k->prepend == CDL_PREPEND_NEVER;
        s->cut_space = s->cut_space || k->split;
        s->marks = true;
        if (k->cp != 0x2581)
            forbid(s);
        return;
    case CDL_SPLIT_PATTERN:
        plan_pattern(s, k);
        return;
    default:
        forbid(s);
        return;
    }
    if (s->marks)
        forbid(s);
}

/* Neither side of a cut may meet the other within a token's text. */
static void plan_text(cdl_stream_encode *s, const char *text, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        uint8_t a = (uint8_t)text[i], b = (uint8_t)text[i + 1];
        if (b == ' ' || (n - i > 3 && memcmp(text + i + 1, MARK, 3) == 0))
            s->no_space[a] = 1;
        if (a == '\n')
            s->no_line[b] = 1;
    }
}

static void plan_added(cdl_stream_encode *s)
{
    const cdl_added_tokens *a = &s->t->added;
    for (uint32_t i = 0; i < a->n; i++) {
        const cdl_added *k = &a->v[i];
        if (k->single_word || k->lstrip || k->rstrip || (k->normalized && s->changed))
            forbid(s);
        if (s->begins && !k->normalized && is_letter(k->content[k->n - 1]))
            forbid(s); /* what follows it begins a text, and does not go on */
        plan_text(s, k->content, k->n);
    }
    for (uint32_t id = 0; id < a->shown.ids; id++) {
        size_t n;
        const char *text = cdl_vocab_text(&a->shown, id, &n);
        if (text)
            plan_text(s, text, n);
    }
}

/* Where no pre-tokenizer cuts, BPE joins across nothing that stands in no token. */
static void plan_model(cdl_stream_encode *s)
{
    const cdl_token_model *m = &s->t->model;
    bool plain = m->type == CDL_MODEL_BPE && !m->raw_bytes && !m->n_prefix && !m->n_suffix && !s->changed;
    s->space = s->space && (s->cut_space || (plain && s->marks && cdl_vocab_find(&m->vocab, MARK, 3) >= 0));
    s->line = s->line && (s->cut_line || (plain && cdl_vocab_find(&m->vocab, "\n", 1) >= 0));
    for (uint32_t id = 0; id < m->vocab.ids && !(s->cut_space && s->cut_line); id++) {
        size_t n;
        const char *text = cdl_vocab_text(&m->vocab, id, &n);
        if (text)
            plan_text(s, text, n);
    }
}

cuddle_status cdl_stream_encode_new(cdl_stream_encode **out, const cuddle_tokenizer *t, size_t part_min)
{
    cdl_stream_encode *s = cdl_mem_zalloc(1, sizeof *s);
    *out = s;
    if (!s)
        return cdl_status_nomem("a stream of text");
    s->t = t;
    s->space = s->line = true;
    s->want = s->part_min = part_min ? part_min : PART_MIN;
    cuddle_status st = cuddle_encoding_new(&s->e);
    if (st != CUDDLE_OK) {
        cdl_stream_encode_free(s);
        *out = NULL;
        return st;
    }
    for (uint32_t i = 0; i < t->n_norm; i++)
        plan_norm(s, &t->norm[i]);
    for (uint32_t i = 0; i < t->n_split; i++)
        plan_split(s, &t->split[i]);
    plan_added(s);
    plan_model(s);
    return CUDDLE_OK;
}

void cdl_stream_encode_free(cdl_stream_encode *s)
{
    if (!s)
        return;
    cuddle_encoding_free(s->e);
    cdl_buf_free(&s->held);
    cdl_mem_free(s);
}

/* ---- Cutting ---- */

/* Whether the character in front of byte i is there and no white space. */
static bool solid_before(const char *p, size_t i)
{
    size_t from = i;
    uint32_t cp;
    while (from && i - from < 4 && (p[--from] & 0xc0) == 0x80)
        ;
    return from < i && cdl_utf8_get(p + from, i - from, &cp)
        && !(cdl_unicode(cp) & (CDL_UC_SPACE | CDL_UC_RUST_SPACE | CDL_UC_OTHER));
}

/* Whether the text may be cut in front of byte i; 0 < i < n. */
static bool may_cut(const cdl_stream_encode *s, size_t i)
{
    const char *p = s->held.data;
    size_t n = s->held.len;
    uint32_t cp;
    if (p[i] == ' ')
        return s->space && i + 1 < n && is_letter(p[i - 1]) && is_letter(p[i + 1]) && !s->no_space[(uint8_t)p[i - 1]];
    /* a line end behind white space would be one piece with it at the end of a text */
    return s->line && i > 1 && p[i - 1] == '\n' && solid_before(p, i - 1) && !s->no_line[(uint8_t)p[i]]
        && cdl_utf8_get(p + i, n - i, &cp) && cdl_unicode(cp) & CDL_UC_L;
}

static cuddle_status encode(const cdl_stream_encode *s, cuddle_encoding *e, const char *p, size_t n)
{
    cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = true, .ids_only = true, .no_truncation = true,
                             .no_padding = true };
    return cuddle_tokenizer_encode(s->t, e, p, n, &o);
}

/* The last place to cut, or 0. */
static size_t find_cut(const cdl_stream_encode *s)
{
    size_t i = s->held.len;
    while (i > 1 && (--i, !may_cut(s, i)))
        ;
    return s->held.len > 1 && i > 0 && may_cut(s, i) ? i : 0;
}

static cuddle_status check_utf8(const cdl_stream_encode *s, size_t n)
{
    size_t bad = cdl_utf8_valid(s->held.data, n);
    return bad == n ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_ARG, "the text is not UTF-8: byte 0x%02x",
            (uint8_t)s->held.data[bad]);
}

cuddle_status cdl_stream_encode_put(cdl_stream_encode *s, const char *text, size_t n_text, bool last,
        const int32_t **ids, size_t *n)
{
    *n = 0;
    CDL_TRY(cdl_buf_append(&s->held, text, n_text));
    if (s->held.len < s->want && !last)
        return CUDDLE_OK;
    size_t at = last ? s->held.len : find_cut(s);
    if (!at && !last) {
        if (s->held.len >= HELD_MAX)
            return cdl_status_fail(CUDDLE_ERR_FULL,
                    "%d MiB of text without a place where this tokenizer surely cuts; give smaller files",
                    HELD_MAX >> 20);
        s->want = 2 * s->held.len;
        return CUDDLE_OK;
    }
    CDL_TRY(check_utf8(s, at));
    CDL_TRY(encode(s, s->e, s->held.data ? s->held.data : "", at));
    s->e->work.continues = s->e->work.continues || at;
    if (at)
        memmove(s->held.data, s->held.data + at, s->held.len - at);
    s->held.len -= at;
    s->want = s->held.len + s->part_min;
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(s->e, &v);
    *ids = v.ids;
    *n = v.n;
    return CUDDLE_OK;
}
