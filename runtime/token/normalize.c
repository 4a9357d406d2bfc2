/* normalize.c - normalizers: a piece's text into another, each byte remembering where it came from. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

/* ---- Changes: characters with what they replace ---- */

/* change 0: takes a character's place; -n: and that of the n behind it; 1: is inserted. */
typedef struct {
    uint32_t cp;
    int32_t change;
    uint64_t key;              /* canonical combining class << 32 | place */
} change;

typedef struct {
    change *v;                 /* [n], the work's scratch */
    size_t n;
} changes;

static cuddle_status add(cdl_token_work *w, changes *c, uint32_t cp, int32_t how)
{
    size_t cap = w->cap_scratch / sizeof *c->v;
    if (c->n == cap) {
        CDL_TRY(cdl_work_grow(&w->scratch, &cap, c->n + 1, sizeof *c->v));
        w->cap_scratch = cap * sizeof *c->v;
    }
    c->v = w->scratch;
    c->v[c->n++] = (change){ .cp = cp, .change = how };
    return CUDDLE_OK;
}

static uint32_t char_bytes(const cdl_piece *p, uint32_t at)
{
    uint32_t cp;
    return at < p->n ? (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp) : 0;
}

/* skip: characters dropped at the beginning. */
static cuddle_status apply(cdl_token_work *w, cdl_piece *p, const changes *c, uint32_t skip)
{
    uint32_t at = 0;
    while (skip--)
        at += char_bytes(p, at);
    cdl_edit_begin(w);
    for (size_t i = 0; i < c->n; i++) {
        int32_t how = c->v[i].change;
        cdl_align a = how > 0 || at >= p->n ? cdl_align_before(p, at) : cdl_align_at(p, at);
        CDL_TRY(cdl_edit_put_cp(w, c->v[i].cp, a));
        for (int32_t k = how > 0 ? 1 : how; k <= 0; k++)
            at += char_bytes(p, at);
    }
    return cdl_edit_end(w, p);
}

enum { DROP = -1 };

/* Puts the code point that f gives in place of each; DROP: none. */
static cuddle_status map_chars(cdl_token_work *w, cdl_piece *p, int32_t (*f)(uint32_t cp))
{
    bool same = true;
    uint32_t cp, k;
    for (uint32_t at = 0; at < p->n && same; at += k) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        same = f(cp) == (int32_t)cp;
    }
    if (same)
        return CUDDLE_OK;
    cdl_edit_begin(w);
    for (uint32_t at = 0; at < p->n; at += k) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        int32_t to = f(cp);
        if (to != DROP)
            CDL_TRY(cdl_edit_put_cp(w, (uint32_t)to, cdl_align_at(p, at)));
    }
    return cdl_edit_end(w, p);
}

/* ---- Unicode's forms ---- */

static int compare_keys(const void *a, const void *b)
{
    const change *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* Marks from begin on in order of their class; those of one class keep their order. */
static void sort_marks(changes *c, size_t begin)
{
    bool sorted = true;
    for (size_t i = begin + 1; i < c->n; i++)
        sorted &= c->v[i - 1].key <= c->v[i].key;
    if (!sorted)
        qsort(c->v + begin, c->n - begin, sizeof *c->v, compare_keys);
}

static cuddle_status decompose(cdl_token_work *w, changes *c, const cdl_piece *p, bool compat)
{
    size_t marks = 0; /* where the marks behind the last starter begin */
    uint32_t cp, k, tmp[3];
    for (uint32_t at = 0; at < p->n; at += k) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        const uint32_t *out = tmp;
        uint32_t n = cdl_unicode_decompose(cp, compat, tmp, &out);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t ccc = cdl_unicode_ccc(out[i]);
            if (!ccc)
                sort_marks(c, marks);
            CDL_TRY(add(w, c, out[i], i > 0));
            c->v[c->n - 1].key = ccc << 32 | c->n;
            marks = ccc ? marks : c->n;
        }
    }
    sort_marks(c, marks);
    return CUDDLE_OK;
}

/* Joins marks with the starter before them, in place. */
static void compose(changes *c)
{
    size_t n = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of what stands between the starter and here; 0: nothing */
    for (size_t i = 0; i < c->n; i++) {
        change x = c->v[i];
        bool between = starter != SIZE_MAX && starter + 1 < n;
        uint32_t ccc = (uint32_t)(x.key >> 32);
        bool blocked = between && last >= ccc;
        uint32_t joined = starter == SIZE_MAX || blocked ? 0 : cdl_unicode_compose(c->v[starter].cp, x.cp);
        if (joined) {
            c->v[starter].cp = joined;
            c->v[starter].change += x.change - 1;
            continue;
        }
        if (ccc == 0)
            starter = n;
        last = ccc;
        c->v[n++] = x;
    }
    c->n = n;
}

static bool is_ascii(const cdl_piece *p)
{
    uint8_t any = 0;
    for (uint32_t i = 0; i < p->n; i++)
        any |= (uint8_t)p->s[i];
    return any < 0x80;
}

static cuddle_status unicode_form(cdl_token_work *w, cdl_piece *p, bool compat, bool composed)
{
    if (cdl_unicode_has_form(p->s, p->n, compat, composed))
        return CUDDLE_OK;
    changes c = { 0 };
    CDL_TRY(decompose(w, &c, p, compat));
    if (composed)
        compose(&c);
    return apply(w, p, &c, 0);
}

/* ---- The normalizers ---- */

int32_t cdl_norm_bert_clean(uint32_t cp)
{
    if (cp == '\t' || cp == '\n' || cp == '\r')
        return ' ';
    if (cp == 0 || cp == 0xfffd || cdl_unicode(cp) & CDL_UC_OTHER)
        return DROP;
    return cdl_unicode(cp) & CDL_UC_RUST_SPACE ? ' ' : (int32_t)cp;
}

static int32_t drop_nonspacing(uint32_t cp)
{
    return cdl_unicode(cp) & CDL_UC_NONSPACING ? DROP : (int32_t)cp;
}

static int32_t drop_combining(uint32_t cp)
{
    return cdl_unicode(cp) & CDL_UC_COMBINING ? DROP : (int32_t)cp;
}

static int32_t nmt(uint32_t cp)
{
    if ((cp >= 1 && cp <= 8) || cp == 0x0b || (cp >= 0x0e && cp <= 0x1f) || cp == 0x7f || cp == 0x8f || cp == 0x9f)
        return DROP;
    bool space = cp == 9 || cp == 0x0a || cp == 0x0c || cp == 0x0d || cp == 0x1680 || (cp >= 0x200b && cp <= 0x200f)
        || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xfeff || cp == 0xfffd;
    return space ? ' ' : (int32_t)cp;
}

bool cdl_norm_is_chinese(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf) || (cp >= 0x20000 && cp <= 0x2a6df)
        || (cp >= 0x2a700 && cp <= 0x2b73f) || (cp >= 0x2b740 && cp <= 0x2b81f) || (cp >= 0x2b920 && cp <= 0x2ceaf)
        || (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x2f800 && cp <= 0x2fa1f);
}

static cuddle_status pad_chinese(cdl_token_work *w, cdl_piece *p)
{
    if (is_ascii(p))
        return CUDDLE_OK;
    uint32_t cp, k;
    cdl_edit_begin(w);
    for (uint32_t at = 0; at < p->n; at += k) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        bool pad = cdl_norm_is_chinese(cp);
        cdl_align a = cdl_align_at(p, at);
        if (pad)
            CDL_TRY(cdl_edit_put(w, " ", 1, a));
        CDL_TRY(cdl_edit_copy(w, p, at, at + k));
        if (pad)
            CDL_TRY(cdl_edit_put(w, " ", 1, a));
    }
    return cdl_edit_end(w, p);
}

static cuddle_status lowercase(cdl_token_work *w, cdl_piece *p)
{
    uint32_t cp, k, low[2];
    cdl_edit_begin(w);
    for (uint32_t at = 0; at < p->n; at += k) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        uint32_t n = cdl_unicode_lower(cp, low);
        CDL_TRY(cdl_edit_put_cp(w, low[0], cdl_align_at(p, at)));
        if (n > 1)
            CDL_TRY(cdl_edit_put_cp(w, low[1], cdl_align_at(p, at)));
    }
    return cdl_edit_end(w, p);
}

static cuddle_status bert(const cdl_norm *step, cdl_token_work *w, cdl_piece *p)
{
    if (step->clean_text)
        CDL_TRY(map_chars(w, p, cdl_norm_bert_clean));
    if (step->chinese)
        CDL_TRY(pad_chinese(w, p));
    if (step->strip_accents) {
        CDL_TRY(unicode_form(w, p, false, false));
        CDL_TRY(map_chars(w, p, drop_nonspacing));
    }
    return step->lowercase ? lowercase(w, p) : CUDDLE_OK;
}

static bool strips(const cdl_norm *step, uint32_t cp)
{
    return step->blanks ? cp == ' ' : (cdl_unicode(cp) & CDL_UC_RUST_SPACE) != 0;
}

static cuddle_status strip(const cdl_norm *step, cdl_token_work *w, cdl_piece *p, bool left)
{
    uint32_t begin = 0, end = p->n, cp, k;
    while (left && (k = (uint32_t)cdl_utf8_get(p->s + begin, p->n - begin, &cp)) && strips(step, cp))
        begin += k;
    while (step->right && end > begin) {
        uint32_t i = end - 1;
        while (i > begin && (p->s[i] & 0xc0) == 0x80)
            i--;
        if (!cdl_utf8_get(p->s + i, end - i, &cp) || !strips(step, cp))
            break;
        end = i;
    }
    if (begin == 0 && end == p->n)
        return CUDDLE_OK;
    cdl_edit_begin(w);
    CDL_TRY(cdl_edit_copy(w, p, begin, end));
    return cdl_edit_end(w, p);
}

static cuddle_status replace(const cdl_norm *step, cdl_token_work *w, cdl_piece *p)
{
    const cdl_pattern *x = &step->pattern;
    if (!x->scan && !x->regex && x->n == 1)
        return cdl_edit_replace(w, p, *x->text, step->content, step->n_content);
    CDL_TRY(cdl_pattern_cut(&step->pattern, w, p));
    if (w->n_cut == 0 || (w->n_cut == 1 && !w->cut[0].match))
        return CUDDLE_OK;
    cdl_edit_begin(w);
    for (size_t i = 0; i < w->n_cut; i++) {
        const cdl_cut *c = &w->cut[i];
        CDL_TRY(c->match ? cdl_edit_put(w, step->content, step->n_content, cdl_align_before(p, c->end))
                         : cdl_edit_copy(w, p, c->begin, c->end));
    }
    return cdl_edit_end(w, p);
}

static cuddle_status prepend(const cdl_norm *step, cdl_token_work *w, cdl_piece *p)
{
    if (!p->n)
        return CUDDLE_OK;
    cdl_edit_begin(w);
    CDL_TRY(cdl_edit_put(w, step->content, step->n_content, cdl_align_at(p, 0)));
    CDL_TRY(cdl_edit_copy(w, p, 0, p->n));
    return cdl_edit_end(w, p);
}

/* ---- SentencePiece's precompiled map: a double array from texts to offsets of texts ---- */

/* The shortest beginning of s[0, n) that the map holds gives the text that all of it becomes. */
static bool look_up(const cdl_norm *step, const char *s, uint32_t n, const char **out, uint32_t *n_out)
{
    uint32_t at = 0;
    for (uint32_t i = 0; ; i++) {
        uint32_t unit = step->trie[at];
        at ^= (unit >> 10) << ((unit & 1u << 9) >> 6);
        if (at >= step->n_trie)
            return false;
        if (i && unit >> 8 & 1) {
            uint32_t value = step->trie[at] & 0x7fffffffu;
            if (value >= step->n_normalized)
                return false;
            *out = step->normalized + value;
            *n_out = (uint32_t)strnlen(*out, step->n_normalized - value);
            return true;
        }
        if (i == n || !s[i])
            return false;
        at ^= (uint8_t)s[i];
        if (at >= step->n_trie || (step->trie[at] & (1u << 31 | 0xff)) != (uint8_t)s[i])
            return false;
    }
}

static bool is_plain(const cdl_norm *step, uint8_t c)
{
    return c < 128 && step->plain[c / 64] >> c % 64 & 1;
}

void cdl_norm_find_plain(cdl_norm *step)
{
    const char *to;
    uint32_t n_to;
    for (int i = 0; i < 128; i++) {
        char c = (char)i;
        if (!look_up(step, &c, 1, &to, &n_to))
            step->plain[i / 64] |= (uint64_t)1 << i % 64;
    }
}

static uint32_t count_chars(const char *s, uint32_t n)
{
    uint32_t chars = 0;
    for (uint32_t i = 0; i < n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    return chars;
}

static cuddle_status put_mapped(cdl_token_work *w, changes *c, const char *to, uint32_t n, uint32_t old_chars)
{
    int32_t diff = (int32_t)count_chars(to, n) - (int32_t)old_chars;
    uint32_t cp, k;
    for (uint32_t i = 0; i < n; i += k) {
        k = (uint32_t)cdl_utf8_get(to + i, n - i, &cp);
        if (!k)
            return cdl_status_fail(CUDDLE_ERR_FORMAT,
                    "the tokenizer's precompiled_charsmap holds text that is not UTF-8");
        CDL_TRY(add(w, c, cp, 0));
    }
    for (int32_t i = 0; i < diff; i++)
        c->v[c->n - 1 - (size_t)i].change = 1;
    if (diff < 0 && c->n)
        c->v[c->n - 1].change += diff;
    return CUDDLE_OK;
}

static cuddle_status map_grapheme(const cdl_norm *step, cdl_token_work *w, changes *c, const char *s, uint32_t n)
{
    const char *to;
    uint32_t n_to, cp, k;
    if (n == 1 && is_plain(step, (uint8_t)*s))
        return add(w, c, (uint8_t)*s, 0);
    if (n < 6 && look_up(step, s, n, &to, &n_to))
        return put_mapped(w, c, to, n_to, count_chars(s, n));
    for (uint32_t i = 0; i < n; i += k) {
        k = (uint32_t)cdl_utf8_get(s + i, n - i, &cp);
        CDL_TRY(look_up(step, s + i, k, &to, &n_to) ? put_mapped(w, c, to, n_to, 1) : add(w, c, cp, 0));
    }
    return CUDDLE_OK;
}

/* utf8proc may know an older Unicode than the library, which the tables have. */
static bool ends_grapheme(uint32_t before, uint32_t cp, utf8proc_int32_t *state)
{
    bool ends = utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)cp, state);
    return cdl_unicode(cp) & CDL_UC_JOINED ? (cdl_unicode(before) & CDL_UC_APART) != 0 : ends;
}

static cuddle_status precompiled(const cdl_norm *step, cdl_token_work *w, cdl_piece *p)
{
    changes c = { 0 };
    uint32_t begin = 0, cp, before = 0, k, plain = 0;
    utf8proc_int32_t state = 0;
    while (plain < p->n && p->s[plain] != '\r' && is_plain(step, (uint8_t)p->s[plain]))
        plain++;
    if (plain == p->n)
        return CUDDLE_OK;
    for (uint32_t at = 0; at < p->n; at += k, before = cp) {
        k = (uint32_t)cdl_utf8_get(p->s + at, p->n - at, &cp);
        bool apart = (before | cp) < 128 && before != '\r'; /* of ASCII only CR LF is one */
        state = apart ? 0 : state;
        if (!at || !(apart || ends_grapheme(before, cp, &state)))
            continue;
        CDL_TRY(map_grapheme(step, w, &c, p->s + begin, at - begin));
        begin = at;
    }
    CDL_TRY(map_grapheme(step, w, &c, p->s + begin, p->n - begin));
    return apply(w, p, &c, 0);
}

cuddle_status cdl_norm_run(const cdl_norm *step, cdl_token_work *w, cdl_piece *p, bool continues)
{
    switch (step->type) {
    case CDL_NORM_BERT:
        return bert(step, w, p);
    case CDL_NORM_STRIP:
        return strip(step, w, p, step->left && !continues);
    case CDL_NORM_STRIP_ACCENTS:
        return map_chars(w, p, drop_combining);
    case CDL_NORM_NFC:
        return unicode_form(w, p, false, true);
    case CDL_NORM_NFD:
        return unicode_form(w, p, false, false);
    case CDL_NORM_NFKC:
        return unicode_form(w, p, true, true);
    case CDL_NORM_NFKD:
        return unicode_form(w, p, true, false);
    case CDL_NORM_LOWERCASE:
        return lowercase(w, p);
    case CDL_NORM_NMT:
        return map_chars(w, p, nmt);
    case CDL_NORM_PRECOMPILED:
        return precompiled(step, w, p);
    case CDL_NORM_REPLACE:
        return replace(step, w, p);
    case CDL_NORM_PREPEND:
        return continues ? CUDDLE_OK : prepend(step, w, p);
    case CDL_NORM_BYTE_LEVEL:
        return cdl_edit_bytes(w, p);
    }
    return CUDDLE_OK;
}
