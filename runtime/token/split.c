/* split.c - pre-tokenizers: pieces of text into smaller ones. */
#define _GNU_SOURCE
#include <string.h>

#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

/* ---- Where to cut ---- */

static cuddle_status add_cut(cdl_token_work *w, size_t begin, size_t end, bool match)
{
    if (w->n_cut == w->cap_cut)
        CDL_TRY(cdl_work_grow(&w->cut, &w->cap_cut, w->n_cut + 1, sizeof *w->cut));
    w->cut[w->n_cut++] = (cdl_cut){ (uint32_t)begin, (uint32_t)end, match };
    return CUDDLE_OK;
}

static cuddle_status cut_by_text(const cdl_pattern *pattern, cdl_token_work *w, const cdl_piece *p)
{
    size_t last = 0;
    for (size_t at = 0; pattern->n && at + pattern->n <= p->n; ) {
        const char *hit = pattern->n == 1 ? memchr(p->s + at, *pattern->text, p->n - at)
                                          : memmem(p->s + at, p->n - at, pattern->text, pattern->n);
        if (!hit)
            break;
        at = (size_t)(hit - p->s);
        if (last < at)
            CDL_TRY(add_cut(w, last, at, false));
        CDL_TRY(add_cut(w, at, at + pattern->n, true));
        last = at += pattern->n;
    }
    return last < p->n ? add_cut(w, last, p->n, false) : CUDDLE_OK;
}

static cuddle_status cut_by_scan(cdl_scan scan, cdl_token_work *w, const cdl_piece *p)
{
    uint32_t end[CDL_SCAN_ENDS];
    CDL_TRY(cdl_scan_read(&w->map, p->s, p->n));
    for (size_t at = 0; at < p->n; ) {
        size_t k = cdl_scan_ends(&w->map, scan, at, end, CDL_SCAN_ENDS);
        for (size_t i = 0; i < k; at = end[i++])
            CDL_TRY(add_cut(w, at, end[i], true));
    }
    return CUDDLE_OK;
}

static cuddle_status cut_by_run(const cdl_pattern *pattern, cdl_token_work *w, const cdl_piece *p)
{
    const char *s = p->s, *end = s + p->n, *last = s;
    for (const char *hit = s; (hit = memchr(hit, pattern->run_of, (size_t)(end - hit))); ) {
        const char *begin = hit;
        while (hit < end && *hit == pattern->run_of)
            hit++;
        if ((size_t)(hit - begin) < pattern->run_least)
            continue;
        if (last < begin)
            CDL_TRY(add_cut(w, (size_t)(last - s), (size_t)(begin - s), false));
        CDL_TRY(add_cut(w, (size_t)(begin - s), (size_t)(hit - s), true));
        last = hit;
    }
    return last < end ? add_cut(w, (size_t)(last - s), p->n, false) : CUDDLE_OK;
}

cuddle_status cdl_pattern_cut(const cdl_pattern *pattern, cdl_token_work *w, const cdl_piece *p)
{
    w->n_cut = 0;
    if (!p->n) /* nothing matches in an empty text, whatever the pattern */
        return CUDDLE_OK;
    if (pattern->scan)
        return cut_by_scan(pattern->scan, w, p);
    if (pattern->run_least)
        return cut_by_run(pattern, w, p);
    if (!pattern->regex)
        return cut_by_text(pattern, w, p);
    cdl_regex_walk walk = { 0 };
    size_t last = 0, begin, end;
    bool found;
    for (;;) {
        CDL_TRY(cdl_regex_next(pattern->regex, &walk, p->s, p->n, &begin, &end, &found));
        if (!found)
            break;
        if (last != begin)
            CDL_TRY(add_cut(w, last, begin, false));
        CDL_TRY(add_cut(w, begin, end, true));
        last = end;
    }
    return last < p->n ? add_cut(w, last, p->n, false) : CUDDLE_OK;
}

/* Each code point that the predicate holds for is a match of its own. */
typedef bool predicate(uint32_t cp, uint32_t arg);

static cuddle_status cut_by_char(predicate *is, uint32_t arg, cdl_token_work *w, const cdl_piece *p)
{
    w->n_cut = 0;
    size_t last = 0, k;
    uint32_t cp;
    for (size_t at = 0; at < p->n; at += k) {
        k = cdl_utf8_get(p->s + at, p->n - at, &cp);
        if (!is(cp, arg))
            continue;
        if (last < at)
            CDL_TRY(add_cut(w, last, at, false));
        CDL_TRY(add_cut(w, at, at + k, true));
        last = at + k;
    }
    return last < p->n ? add_cut(w, last, p->n, false) : CUDDLE_OK;
}

static bool is_char(uint32_t cp, uint32_t arg)
{
    return cp == arg;
}

static bool is_class(uint32_t cp, uint32_t arg)
{
    return cdl_unicode(cp) & arg;
}

/* Runs of one kind: 1 words, 2 others that are no spaces, 0 spaces; spaces are no matches. */
static uint32_t kind_of(uint32_t cp)
{
    uint32_t c = cdl_unicode(cp);
    return c & CDL_UC_RUST_WORD ? 1 : c & CDL_UC_RUST_SPACE ? 0 : 2;
}

static cuddle_status cut_words(cdl_token_work *w, const cdl_piece *p)
{
    w->n_cut = 0;
    size_t begin = 0, k;
    uint32_t cp, kind = 3;
    for (size_t at = 0; at < p->n; at += k) {
        k = cdl_utf8_get(p->s + at, p->n - at, &cp);
        uint32_t now = kind_of(cp);
        if (kind != 3 && now != kind) {
            CDL_TRY(add_cut(w, begin, at, kind == 0));
            begin = at;
        }
        kind = now;
    }
    return begin < p->n ? add_cut(w, begin, p->n, kind == 0) : CUDDLE_OK;
}

/* ---- Cutting ---- */

/* Cuts in place: what a behaviour makes of matches and the rest; match then means: drop it. */
static void apply_behavior(cdl_token_work *w, cdl_behavior behavior)
{
    cdl_cut *c = w->cut;
    size_t n = 0;
    bool before = false;
    if (behavior == CDL_MERGED_WITH_NEXT) {
        for (size_t i = w->n_cut; i-- > 0; ) { /* from the end: a match joins what follows it */
            bool match = c[i].match;
            if (match && !before && n)
                c[w->n_cut - n].begin = c[i].begin;
            else
                c[w->n_cut - ++n] = (cdl_cut){ c[i].begin, c[i].end, false };
            before = match;
        }
        memmove(c, c + w->n_cut - n, n * sizeof *c);
        w->n_cut = n;
        return;
    }
    for (size_t i = 0; i < w->n_cut; i++) {
        bool match = c[i].match;
        bool join = behavior == CDL_CONTIGUOUS ? match == before
            : behavior == CDL_MERGED_WITH_PREVIOUS && match && !before;
        if (join && n)
            c[n - 1].end = c[i].end;
        else
            c[n++] = (cdl_cut){ c[i].begin, c[i].end, behavior == CDL_REMOVED && match };
        before = match;
    }
    w->n_cut = n;
}

static cuddle_status slice_cuts(cdl_token_work *w, const cdl_piece *p, cdl_behavior behavior)
{
    apply_behavior(w, behavior);
    for (size_t i = 0; i < w->n_cut; i++)
        if (!w->cut[i].match)
            CDL_TRY(cdl_work_slice(w, p, w->cut[i].begin, w->cut[i].end, -1));
    return CUDDLE_OK;
}

static cuddle_status split_pattern(const cdl_split *s, cdl_token_work *w, const cdl_piece *p)
{
    CDL_TRY(cdl_pattern_cut(&s->pattern, w, p));
    for (size_t i = 0; s->invert && i < w->n_cut; i++)
        w->cut[i].match = !w->cut[i].match;
    return slice_cuts(w, p, s->behavior);
}

/* White space is dropped, then punctuation stands alone. */
static cuddle_status split_bert(cdl_token_work *w, const cdl_piece *p)
{
    size_t begin = 0, k;
    uint32_t cp;
    for (size_t at = 0; at < p->n; at += k) {
        k = cdl_utf8_get(p->s + at, p->n - at, &cp);
        uint32_t c = cdl_unicode(cp);
        if (!(c & (CDL_UC_RUST_SPACE | CDL_UC_PUNCT)))
            continue;
        CDL_TRY(cdl_work_slice(w, p, (uint32_t)begin, (uint32_t)at, -1));
        if (!(c & CDL_UC_RUST_SPACE))
            CDL_TRY(cdl_work_slice(w, p, (uint32_t)at, (uint32_t)(at + k), -1));
        begin = at + k;
    }
    return cdl_work_slice(w, p, (uint32_t)begin, p->n, -1);
}

/* What is of any script (spaces, unassigned) goes on with the script before it; in front of the
 * first script it is dropped, as in Hugging Face. */
static cuddle_status split_scripts(cdl_token_work *w, const cdl_piece *p)
{
    size_t begin = p->n, k;
    uint32_t cp, last = 0;
    for (size_t at = 0; at < p->n; at += k) {
        k = cdl_utf8_get(p->s + at, p->n - at, &cp);
        uint32_t script = cdl_unicode_script(cp);
        if (!script || script == last)
            continue;
        CDL_TRY(cdl_work_slice(w, p, (uint32_t)begin, (uint32_t)at, -1));
        begin = at;
        last = script;
    }
    return cdl_work_slice(w, p, (uint32_t)begin, p->n, -1);
}

static cuddle_status split_fixed(const cdl_split *s, cdl_token_work *w, const cdl_piece *p)
{
    size_t begin = 0;
    uint32_t cp, chars = 0;
    for (size_t at = 0; at < p->n; ) {
        at += cdl_utf8_get(p->s + at, p->n - at, &cp);
        if (++chars == s->length) {
            CDL_TRY(cdl_work_slice(w, p, (uint32_t)begin, (uint32_t)at, -1));
            begin = at;
            chars = 0;
        }
    }
    return cdl_work_slice(w, p, (uint32_t)begin, p->n, -1);
}

/* ---- Those that change the text ---- */

static cuddle_status prepend(cdl_token_work *w, cdl_piece *p, uint32_t cp)
{
    if (!p->n)
        return CUDDLE_OK;
    cdl_edit_begin(w);
    CDL_TRY(cdl_edit_put_cp(w, cp, cdl_align_at(p, 0)));
    CDL_TRY(cdl_edit_copy(w, p, 0, p->n));
    return cdl_edit_end(w, p);
}

static cuddle_status split_byte_level(const cdl_split *s, cdl_token_work *w, cdl_piece p)
{
    size_t first = w->n_next;
    if (s->add_prefix_space && p.s[0] != ' ')
        CDL_TRY(prepend(w, &p, ' '));
    if (s->use_regex) {
        CDL_TRY(cdl_pattern_cut(&s->pattern, w, &p));
        CDL_TRY(slice_cuts(w, &p, CDL_ISOLATED));
    } else {
        CDL_TRY(cdl_work_slice(w, &p, 0, p.n, -1));
    }
    for (size_t i = first; i < w->n_next && !s->raw_bytes; i++)
        CDL_TRY(cdl_edit_bytes(w, &w->next[i]));
    return CUDDLE_OK;
}

/* Each mark, of 1 to 4 bytes, begins a piece. */
static cuddle_status slice_at_marks(cdl_token_work *w, const cdl_piece *p, const char *mark, uint32_t n)
{
    size_t begin = 0;
    for (size_t at = 0; at < p->n; at++) {
        const char *hit = p->s[at] == *mark ? p->s + at : memchr(p->s + at, *mark, p->n - at);
        at = hit ? (size_t)(hit - p->s) : p->n;
        uint32_t same = 1;
        while (hit && same < n && n <= p->n - at && hit[same] == mark[same])
            same++;
        if (hit && same < n)
            continue;
        CDL_TRY(cdl_work_slice(w, p, (uint32_t)begin, (uint32_t)at, -1));
        begin = at;
        at += n - 1;
    }
    return cdl_work_slice(w, p, (uint32_t)begin, p->n, -1);
}

static cuddle_status split_metaspace(const cdl_split *s, cdl_token_work *w, cdl_piece p)
{
    char mark[4];
    uint32_t n = (uint32_t)cdl_utf8_put(mark, s->cp), cp = 0;
    CDL_TRY(cdl_edit_replace(w, &p, ' ', mark, n));
    cdl_utf8_get(p.s, p.n, &cp);
    if (cp != s->cp && (s->prepend == CDL_PREPEND_ALWAYS || (s->prepend == CDL_PREPEND_FIRST && p.origin == 0)))
        CDL_TRY(prepend(w, &p, s->cp));
    return s->split ? slice_at_marks(w, &p, mark, n) : cdl_work_slice(w, &p, 0, p.n, -1);
}

static cuddle_status split_piece(const cdl_split *s, cdl_token_work *w, const cdl_piece *p)
{
    switch (s->type) {
    case CDL_SPLIT_BERT:
        return split_bert(w, p);
    case CDL_SPLIT_BYTE_LEVEL:
        return split_byte_level(s, w, *p);
    case CDL_SPLIT_METASPACE:
        return split_metaspace(s, w, *p);
    case CDL_SPLIT_PATTERN:
        return split_pattern(s, w, p);
    case CDL_SPLIT_SCRIPTS:
        return split_scripts(w, p);
    case CDL_SPLIT_FIXED:
        return split_fixed(s, w, p);
    case CDL_SPLIT_WHITESPACE:
        CDL_TRY(cut_words(w, p));
        return slice_cuts(w, p, CDL_REMOVED);
    case CDL_SPLIT_WHITESPACE_ONLY:
        CDL_TRY(cut_by_char(is_class, CDL_UC_RUST_SPACE, w, p));
        return slice_cuts(w, p, CDL_REMOVED);
    case CDL_SPLIT_CHAR:
        CDL_TRY(cut_by_char(is_char, s->cp, w, p));
        return slice_cuts(w, p, CDL_REMOVED);
    case CDL_SPLIT_PUNCTUATION:
        CDL_TRY(cut_by_char(is_class, CDL_UC_PUNCT, w, p));
        return slice_cuts(w, p, s->behavior);
    case CDL_SPLIT_DIGITS:
        CDL_TRY(cut_by_char(is_class, CDL_UC_NUMERIC, w, p));
        return slice_cuts(w, p, s->individual ? CDL_ISOLATED : CDL_CONTIGUOUS);
    }
    return CUDDLE_OK;
}

cuddle_status cdl_split_run(const cdl_split *step, cdl_token_work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const cdl_piece *p = &w->piece[i];
        CDL_TRY(p->id >= 0 ? cdl_work_slice(w, p, 0, p->n, p->id) : split_piece(step, w, p));
    }
    cdl_work_turn(w);
    return CUDDLE_OK;
}
