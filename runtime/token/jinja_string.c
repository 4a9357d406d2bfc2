/* jinja_string.c - the methods of Python's strings that templates use. */
#define _GNU_SOURCE /* memmem */
#include "token/jinja_parts.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

/* ---- Code points ---- */

typedef struct {
    uint32_t cp;
    size_t bytes;
} letter;

/* The character at s[i]; bytes that are no UTF-8 count as one each. */
static letter letter_at(const char *s, size_t n, size_t i)
{
    letter l = { .cp = 0xfffd };
    l.bytes = cdl_utf8_get(s + i, n - i, &l.cp);
    if (!l.bytes)
        l.bytes = 1;
    return l;
}

/* The character that ends before s[n]. */
static letter letter_before(const char *s, size_t n)
{
    size_t k = 1;
    while (k < n && k < 4 && ((unsigned char)s[n - k] & 0xc0) == 0x80)
        k++;
    letter l = letter_at(s + n - k, k, 0);
    l.bytes = k;
    return l;
}

/* Bytes of the first `count` characters of s[0, n). */
static size_t bytes_of(const char *s, size_t n, size_t count)
{
    size_t i = 0;
    while (i < n && count--)
        do
            i++;
        while (i < n && ((unsigned char)s[i] & 0xc0) == 0x80);
    return i;
}

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

static bool is_upper(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT;
}

static bool is_lower(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xaa || cp == 0xba;
}

static bool is_cased(uint32_t cp)
{
    return is_upper(cp) || is_lower(cp);
}

static bool is_digit(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ND || cp == 0xb2 || cp == 0xb3 || cp == 0xb9
            || (cp >= 0x2070 && cp <= 0x2089 && category(cp) == UTF8PROC_CATEGORY_NO);
}

static bool is_numeric(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

static bool is_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool cdl_jinja_is_word(uint32_t cp)
{
    return cp == '_' || is_alpha(cp) || is_numeric(cp);
}

/* ---- Case ---- */

static cuddle_status put_cp(cdl_buf *b, uint32_t cp)
{
    char utf8[4];
    return cdl_buf_append(b, utf8, cdl_utf8_put(utf8, cp));
}

/* Letters whose capital is more than one. */
static const char *long_capital(uint32_t cp, bool title)
{
    static const char *const upper[] = { "FF", "FI", "FL", "FFI", "FFL", "ST", "ST" };
    static const char *const first[] = { "Ff", "Fi", "Fl", "Ffi", "Ffl", "St", "St" };
    if (cp == 0xdf)
        return title ? "Ss" : "SS";
    if (cp >= 0xfb00 && cp <= 0xfb06)
        return (title ? first : upper)[cp - 0xfb00];
    return NULL;
}

static cuddle_status put_upper(cdl_buf *b, uint32_t cp, bool title)
{
    const char *text = long_capital(cp, title);
    if (text)
        return cdl_buf_puts(b, text);
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    return put_cp(b, (uint32_t)(title ? utf8proc_totitle(c) : utf8proc_toupper(c)));
}

/* A sigma at the end of a word has a form of its own. */
static bool ends_word(const char *s, size_t n, size_t i)
{
    size_t next = i + 2; /* bytes of a sigma */
    return i > 0 && is_cased(letter_before(s, i).cp) && !(next < n && is_cased(letter_at(s, n, next).cp));
}

static cuddle_status put_lower(cdl_buf *b, const char *s, size_t n, size_t i, uint32_t cp)
{
    if (cp == 0x3a3 && ends_word(s, n, i))
        return put_cp(b, 0x3c2);
    if (cp == 0x130)
        return cdl_buf_puts(b, "i\xcc\x87");
    return put_cp(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

typedef struct {
    const j_value *s;
    char how;
} recase;

/* Whether the letter at the start, or behind prev, begins a word. */
static bool starts_word(char how, bool first, uint32_t prev)
{
    if (first)
        return how != 'l';
    if (how == 't')
        return !is_cased(prev);
    return how == 'j' && (cdl_jinja_is_space(prev) || (prev < 0x80 && prev && strchr("-({[<", (int)prev)));
}

static cuddle_status write_case(j_run *r, cdl_buf *b, const void *of)
{
    const recase *c = of;
    const char *s = c->s->as.s;
    size_t n = c->s->n;
    uint32_t prev = 0;
    size_t lower = 0; /* where text begins whose letters know each other: Jinja lowers a word without its first */
    CDL_TRY(cdl_jinja_burn(r, n / 16));
    for (size_t i = 0; i < n;) {
        letter l = letter_at(s, n, i);
        if (c->how == 'j' && starts_word('j', i == 0, prev))
            lower = i + l.bytes;
        bool up = c->how == 'u' || (c->how == 's' && is_lower(l.cp));
        if (l.cp == 0xfffd)
            CDL_TRY(cdl_buf_append(b, s + i, l.bytes));
        else if (up || (c->how == 's' && !is_upper(l.cp)))
            CDL_TRY(put_upper(b, l.cp, false));
        else if (c->how != 's' && starts_word(c->how, i == 0, prev))
            CDL_TRY(put_upper(b, l.cp, c->how != 'j'));
        else
            CDL_TRY(put_lower(b, s + lower, n - lower, i - lower, l.cp));
        prev = l.cp;
        i += l.bytes;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_case(j_run *r, const j_value *s, char how, j_value *out)
{
    recase c = { s, how };
    return cdl_jinja_write(r, write_case, &c, out);
}

/* ---- Trimming, replacing, padding ---- */

static bool is_in(uint32_t cp, const j_value *chars)
{
    if (!chars)
        return cdl_jinja_is_space(cp);
    char utf8[4];
    size_t k = cdl_utf8_put(utf8, cp);
    return memmem(chars->as.s, chars->n, utf8, k) != NULL;
}

cuddle_status cdl_jinja_trim(j_run *r, const j_value *s, const j_value *chars, int sides, j_value *out)
{
    size_t from = 0, to = s->n;
    if (chars && chars->type == J_NONE)
        chars = NULL;
    if (chars)
        CDL_TRY(cdl_jinja_need_string(r, chars, "the characters to strip"));
    size_t cost = chars ? 1 + chars->n / 16 : 0;
    while ((sides & J_LEFT) && from < to) {
        letter l = letter_at(s->as.s, to, from);
        if (!is_in(l.cp, chars))
            break;
        CDL_TRY(cdl_jinja_burn(r, cost));
        from += l.bytes;
    }
    while ((sides & J_RIGHT) && to > from) {
        letter l = letter_before(s->as.s, to);
        if (!is_in(l.cp, chars))
            break;
        CDL_TRY(cdl_jinja_burn(r, cost));
        to -= l.bytes;
    }
    *out = j_text(s->as.s + from, to - from);
    return cdl_jinja_burn(r, (s->n - out->n) / 64);
}

typedef struct {
    const j_value *s, *from, *to;
    int64_t count;
} replacement;

static cuddle_status write_replaced(j_run *r, cdl_buf *b, const void *of)
{
    const replacement *x = of;
    const char *s = x->s->as.s, *end = s + x->s->n;
    for (int64_t left = x->count; left != 0; left--) {
        const char *at = x->from->n ? memmem(s, (size_t)(end - s), x->from->as.s, x->from->n) : s;
        if (!at)
            break;
        CDL_TRY(cdl_jinja_burn(r, 1 + x->to->n / 64));
        CDL_TRY(cdl_buf_append(b, s, (size_t)(at - s)));
        CDL_TRY(cdl_buf_append(b, x->to->as.s, x->to->n));
        s = at + x->from->n;
        if (x->from->n)
            continue;
        if (s == end) /* an empty text is found around every character */
            break;
        size_t k = letter_at(s, (size_t)(end - s), 0).bytes;
        CDL_TRY(cdl_buf_append(b, s, k));
        s += k;
    }
    return cdl_buf_append(b, s, (size_t)(end - s));
}

cuddle_status cdl_jinja_replace(j_run *r, const j_value *s, const j_value *from, const j_value *to,
        int64_t count, j_value *out)
{
    replacement x = { s, from, to, count };
    CDL_TRY(cdl_jinja_burn(r, s->n / 64));
    return cdl_jinja_write(r, write_replaced, &x, out);
}

static cuddle_status put_fill(j_run *r, cdl_buf *b, const j_value *fill, int64_t times)
{
    for (int64_t i = 0; i < times; i++) {
        CDL_TRY(cdl_jinja_burn(r, i % 16 == 0));
        CDL_TRY(cdl_buf_append(b, fill ? fill->as.s : " ", fill ? fill->n : 1));
    }
    return CUDDLE_OK;
}

cuddle_status cdl_jinja_put_padded(j_run *r, cdl_buf *b, const char *s, size_t n, int64_t width, char align,
        const j_value *fill)
{
    int64_t room = width - (int64_t)cdl_jinja_count(s, n);
    room = room > 0 ? room : 0;
    int64_t left = align == '<' ? 0 : align == '>' ? room : room / 2;
    CDL_TRY(put_fill(r, b, fill, left));
    CDL_TRY(cdl_buf_append(b, s, n));
    return put_fill(r, b, fill, room - left);
}

typedef struct {
    const j_value *s, *fill;
    int64_t width;
    char align;
} padding;

static cuddle_status write_padded(j_run *r, cdl_buf *b, const void *of)
{
    const padding *p = of;
    const char *s = p->s->as.s;
    size_t n = p->s->n;
    if (p->align == '0') { /* zfill: behind the sign */
        size_t sign = n && (*s == '-' || *s == '+');
        CDL_TRY(cdl_buf_append(b, s, sign));
        return cdl_jinja_put_padded(r, b, s + sign, n - sign, p->width - (int64_t)sign, '>', p->fill);
    }
    int64_t room = p->width - (int64_t)cdl_jinja_count(s, n), left = room / 2 + (room & p->width & 1);
    if (p->align != '^' || room <= 0)
        return cdl_jinja_put_padded(r, b, s, n, p->width, p->align, p->fill);
    CDL_TRY(put_fill(r, b, p->fill, left)); /* str.center puts the odd one left at times */
    CDL_TRY(cdl_buf_append(b, s, n));
    return put_fill(r, b, p->fill, room - left);
}

/* ---- Splitting ---- */

static cuddle_status push_text(j_run *r, j_items *l, const char *s, size_t n)
{
    j_value v = j_text(s, n);
    return cdl_jinja_push(r, l, &v);
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= '\n' && cp <= '\r') || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

cuddle_status cdl_jinja_lines(j_run *r, const j_value *v, bool keep_ends, j_items *out)
{
    const char *s = v->as.s;
    size_t n = v->n, from = 0;
    CDL_TRY(cdl_jinja_burn(r, n / 64));
    for (size_t i = 0; i < n;) {
        letter l = letter_at(s, n, i);
        size_t end = i + l.bytes;
        if (!is_line_end(l.cp)) {
            i = end;
            continue;
        }
        if (l.cp == '\r' && end < n && s[end] == '\n')
            end++;
        CDL_TRY(push_text(r, out, s + from, (keep_ends ? end : i) - from));
        from = i = end;
    }
    return from < n ? push_text(r, out, s + from, n - from) : CUDDLE_OK;
}

static cuddle_status split_spaces(j_run *r, const char *s, size_t n, int64_t max, j_items *out)
{
    size_t i = 0;
    for (;;) {
        while (i < n && cdl_jinja_is_space(letter_at(s, n, i).cp))
            i += letter_at(s, n, i).bytes;
        if (i == n)
            return CUDDLE_OK;
        if (max-- == 0)
            break;
        size_t from = i;
        while (i < n && !cdl_jinja_is_space(letter_at(s, n, i).cp))
            i += letter_at(s, n, i).bytes;
        CDL_TRY(push_text(r, out, s + from, i - from));
    }
    return push_text(r, out, s + i, n - i);
}

static cuddle_status rsplit_spaces(j_run *r, const char *s, size_t n, int64_t max, j_items *out)
{
    for (;;) {
        while (n && cdl_jinja_is_space(letter_before(s, n).cp))
            n -= letter_before(s, n).bytes;
        if (!n)
            return CUDDLE_OK;
        if (max-- == 0)
            break;
        size_t to = n;
        while (n && !cdl_jinja_is_space(letter_before(s, n).cp))
            n -= letter_before(s, n).bytes;
        CDL_TRY(push_text(r, out, s + n, to - n));
    }
    return push_text(r, out, s, n);
}

static cuddle_status split_text(j_run *r, const char *s, size_t n, const j_value *sep, int64_t max, j_items *out)
{
    const char *end = s + n, *at;
    while (max-- != 0 && (at = memmem(s, (size_t)(end - s), sep->as.s, sep->n))) {
        CDL_TRY(push_text(r, out, s, (size_t)(at - s)));
        s = at + sep->n;
    }
    return push_text(r, out, s, (size_t)(end - s));
}

/* The last place of what in s[0, n), or NULL; its cost is taken on the way. */
static cuddle_status find_last(j_run *r, const char *s, size_t n, const char *what, size_t k, const char **out)
{
    enum { STRIDE = 1024 };
    *out = NULL;
    for (size_t i = n + 1; k <= n && i-- > k;) {
        if ((n - i) % STRIDE == 0)
            CDL_TRY(cdl_jinja_burn(r, 1 + (n - i ? STRIDE / 16 * (1 + k / 64) : k / 64)));
        if (memcmp(s + i - k, what, k) == 0) {
            *out = s + i - k;
            return CUDDLE_OK;
        }
    }
    return CUDDLE_OK;
}

static cuddle_status rsplit_text(j_run *r, const char *s, size_t n, const j_value *sep, int64_t max, j_items *out)
{
    const char *at;
    while (max-- != 0) {
        CDL_TRY(find_last(r, s, n, sep->as.s, sep->n, &at));
        if (!at)
            break;
        size_t from = (size_t)(at - s) + sep->n;
        CDL_TRY(push_text(r, out, s + from, n - from));
        n = (size_t)(at - s);
    }
    return push_text(r, out, s, n);
}

static cuddle_status split(j_run *r, const j_value *self, bool right, const j_args *args, j_value *out)
{
    static const char *const names[] = { "sep", "maxsplit", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "split()", 0, names));
    const j_value *sep = cdl_jinja_arg(args, 0, "sep"), *limit = cdl_jinja_arg(args, 1, "maxsplit");
    int64_t max = -1;
    j_items items = { 0 };
    if (limit)
        CDL_TRY(cdl_jinja_need_int(r, limit, "split()'s maxsplit", &max));
    CDL_TRY(cdl_jinja_burn(r, self->n / 16));
    if (!sep || sep->type == J_NONE) {
        CDL_TRY((right ? rsplit_spaces : split_spaces)(r, self->as.s, self->n, max, &items));
    } else {
        CDL_TRY(cdl_jinja_need_string(r, sep, "split()'s separator"));
        if (!sep->n)
            return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "split()'s separator is empty");
        CDL_TRY((right ? rsplit_text : split_text)(r, self->as.s, self->n, sep, max, &items));
    }
    for (size_t i = 0; right && i < items.n / 2; i++) {
        j_value v = items.items[i];
        items.items[i] = items.items[items.n - 1 - i];
        items.items[items.n - 1 - i] = v;
    }
    return cdl_jinja_pushed(r, &items, J_LIST, out);
}

static cuddle_status call_split(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return split(r, self, false, args, out);
}

static cuddle_status call_rsplit(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return split(r, self, true, args, out);
}

static cuddle_status call_splitlines(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    static const char *const names[] = { "keepends", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "splitlines()", 0, names));
    const j_value *keep = cdl_jinja_arg(args, 0, "keepends");
    j_items items = { 0 };
    CDL_TRY(cdl_jinja_lines(r, self, keep && cdl_jinja_truth(keep), &items));
    return cdl_jinja_pushed(r, &items, J_LIST, out);
}

static cuddle_status partition(j_run *r, const j_value *self, bool right, const j_args *args, j_value *out)
{
    static const char *const names[] = { "sep", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "partition()", 1, names));
    const j_value *sep = cdl_jinja_arg(args, 0, "sep");
    CDL_TRY(cdl_jinja_need_string(r, sep, "partition()'s separator"));
    if (!sep->n)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "partition()'s separator is empty");
    CDL_TRY(cdl_jinja_burn(r, self->n / 16));
    const char *s = self->as.s, *at = memmem(s, self->n, sep->as.s, sep->n);
    if (right)
        CDL_TRY(find_last(r, s, self->n, sep->as.s, sep->n, &at));
    size_t head = at ? (size_t)(at - s) : right ? 0 : self->n, tail = at ? head + sep->n : head;
    CDL_TRY(cdl_jinja_list(r, J_TUPLE, 3, out));
    out->as.list->items[0] = j_text(s, head);
    out->as.list->items[1] = j_text(at ? at : s, tail - head);
    out->as.list->items[2] = j_text(s + tail, self->n - tail);
    return CUDDLE_OK;
}

static cuddle_status call_partition(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return partition(r, self, false, args, out);
}

static cuddle_status call_rpartition(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return partition(r, self, true, args, out);
}

/* ---- Looking ---- */

/* The bytes of self that arguments `first` (start) and `first` + 1 (end) name; false: none. */
static cuddle_status range_of(j_run *r, const j_value *self, const j_args *args, uint32_t first, size_t *from,
        size_t *to, bool *any)
{
    CDL_TRY(cdl_jinja_burn(r, self->n / 64));
    int64_t n = (int64_t)cdl_jinja_count(self->as.s, self->n), at[2] = { 0, n };
    for (uint32_t i = 0; i < 2; i++) {
        const j_value *v = cdl_jinja_arg(args, first + i, NULL);
        if (!v || v->type == J_NONE)
            continue;
        CDL_TRY(cdl_jinja_need_int(r, v, "a position", &at[i]));
        at[i] = at[i] < -n ? 0 : at[i] < 0 ? at[i] + n : at[i];
    }
    at[1] = at[1] < n ? at[1] : n;
    *any = at[0] <= at[1];
    *from = *any ? bytes_of(self->as.s, self->n, (size_t)at[0]) : 0;
    *to = *any ? bytes_of(self->as.s, self->n, (size_t)at[1]) : 0;
    return CUDDLE_OK;
}

static cuddle_status need_one(j_run *r, const j_args *args, const char *what)
{
    static const char *const names[] = { "value", "start", "end", NULL };
    if (args->n_kw)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "%s takes no named arguments", what);
    return cdl_jinja_check_args(r, args, what, 1, names);
}

static cuddle_status find(j_run *r, const j_value *self, const j_args *args, bool last, bool must, j_value *out)
{
    size_t from, to;
    bool any;
    CDL_TRY(need_one(r, args, "find()"));
    const j_value *what = &args->pos[0];
    CDL_TRY(cdl_jinja_need_string(r, what, "what find() looks for"));
    CDL_TRY(range_of(r, self, args, 1, &from, &to, &any));
    CDL_TRY(cdl_jinja_burn(r, (to - from) / 16));
    const char *s = self->as.s + from, *at = NULL;
    if (any && !what->n)
        at = last ? self->as.s + to : s;
    else if (any && last)
        CDL_TRY(find_last(r, s, to - from, what->as.s, what->n, &at));
    else if (any)
        at = memmem(s, to - from, what->as.s, what->n);
    if (!at && must)
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "index(): the text is not found");
    *out = j_int(at ? (int64_t)cdl_jinja_count(self->as.s, (size_t)(at - self->as.s)) : -1);
    return CUDDLE_OK;
}

static cuddle_status call_find(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return find(r, self, args, false, false, out);
}

static cuddle_status call_rfind(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return find(r, self, args, true, false, out);
}

static cuddle_status call_index(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return find(r, self, args, false, true, out);
}

static cuddle_status call_rindex(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return find(r, self, args, true, true, out);
}

static cuddle_status call_count(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    size_t from, to;
    bool any;
    CDL_TRY(need_one(r, args, "count()"));
    const j_value *what = &args->pos[0];
    CDL_TRY(cdl_jinja_need_string(r, what, "what count() looks for"));
    CDL_TRY(range_of(r, self, args, 1, &from, &to, &any));
    const char *s = self->as.s + from, *end = self->as.s + to, *at;
    int64_t n = 0;
    if (any && !what->n)
        n = (int64_t)cdl_jinja_count(s, (size_t)(end - s)) + 1;
    else if (any)
        for (; (at = memmem(s, (size_t)(end - s), what->as.s, what->n)); s = at + what->n)
            n++;
    *out = j_int(n);
    return cdl_jinja_burn(r, (to - from) / 16);
}

static cuddle_status has_affix(j_run *r, const j_value *self, const j_args *args, bool at_end, j_value *out)
{
    size_t from, to;
    bool any, yes = false;
    CDL_TRY(need_one(r, args, "startswith()"));
    CDL_TRY(range_of(r, self, args, 1, &from, &to, &any));
    const j_value *what = &args->pos[0];
    size_t count = what->type == J_TUPLE ? what->as.list->n : 1;
    for (size_t i = 0; i < count; i++) {
        const j_value *one = what->type == J_TUPLE ? &what->as.list->items[i] : what;
        CDL_TRY(cdl_jinja_need_string(r, one, "what startswith() looks for"));
        CDL_TRY(cdl_jinja_burn(r, 1 + one->n / 64));
        if (any && one->n <= to - from)
            yes = yes || memcmp(self->as.s + (at_end ? to - one->n : from), one->as.s, one->n) == 0;
    }
    *out = j_bool(yes);
    return CUDDLE_OK;
}

static cuddle_status call_startswith(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return has_affix(r, self, args, false, out);
}

static cuddle_status call_endswith(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return has_affix(r, self, args, true, out);
}

/* ---- The rest ---- */

static cuddle_status strip(j_run *r, const j_value *self, const j_args *args, int sides, j_value *out)
{
    static const char *const names[] = { "chars", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "strip()", 0, names));
    return cdl_jinja_trim(r, self, cdl_jinja_arg(args, 0, "chars"), sides, out);
}

static cuddle_status call_strip(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return strip(r, self, args, J_LEFT | J_RIGHT, out);
}

static cuddle_status call_lstrip(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return strip(r, self, args, J_LEFT, out);
}

static cuddle_status call_rstrip(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return strip(r, self, args, J_RIGHT, out);
}

static cuddle_status call_replace(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    static const char *const names[] = { "old", "new", "count", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "replace()", 2, names));
    const j_value *from = cdl_jinja_arg(args, 0, "old"), *to = cdl_jinja_arg(args, 1, "new");
    const j_value *limit = cdl_jinja_arg(args, 2, "count");
    int64_t count = -1;
    CDL_TRY(cdl_jinja_need_string(r, from, "what replace() looks for"));
    CDL_TRY(cdl_jinja_need_string(r, to, "what replace() puts in"));
    if (limit)
        CDL_TRY(cdl_jinja_need_int(r, limit, "replace()'s count", &count));
    return cdl_jinja_replace(r, self, from, to, count, out);
}

static cuddle_status remove_affix(j_run *r, const j_value *self, const j_args *args, bool at_end, j_value *out)
{
    static const char *const names[] = { "affix", NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "removeprefix()", 1, names));
    const j_value *what = cdl_jinja_arg(args, 0, "affix");
    CDL_TRY(cdl_jinja_need_string(r, what, "what removeprefix() removes"));
    *out = *self;
    if (what->n > self->n || memcmp(self->as.s + (at_end ? self->n - what->n : 0), what->as.s, what->n) != 0)
        return CUDDLE_OK;
    *out = j_text(self->as.s + (at_end ? 0 : what->n), self->n - what->n);
    return cdl_jinja_burn(r, what->n / 64);
}

static cuddle_status call_removeprefix(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return remove_affix(r, self, args, false, out);
}

static cuddle_status call_removesuffix(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return remove_affix(r, self, args, true, out);
}

typedef struct {
    const j_value *between;
    const j_list *list;
} joining;

static cuddle_status write_joined(j_run *r, cdl_buf *b, const void *of)
{
    const joining *x = of;
    for (size_t i = 0; i < x->list->n; i++) {
        CDL_TRY(cdl_jinja_need_string(r, &x->list->items[i], "what join() joins"));
        if (i)
            CDL_TRY(cdl_jinja_print(r, b, x->between));
        CDL_TRY(cdl_jinja_burn(r, 1));
        CDL_TRY(cdl_jinja_print(r, b, &x->list->items[i]));
    }
    return CUDDLE_OK;
}

static cuddle_status call_join(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    static const char *const names[] = { "iterable", NULL };
    j_value list;
    CDL_TRY(cdl_jinja_check_args(r, args, "join()", 1, names));
    CDL_TRY(cdl_jinja_iterate(r, cdl_jinja_arg(args, 0, "iterable"), &list));
    joining x = { self, list.as.list };
    return cdl_jinja_write(r, write_joined, &x, out);
}

static cuddle_status pad(j_run *r, const j_value *self, const j_args *args, char align, j_value *out)
{
    static const char *const names[] = { "width", "fillchar", NULL };
    static const j_value zero = { .type = J_STRING, .n = 1, .as.s = "0" };
    padding p = { .s = self, .align = align };
    CDL_TRY(cdl_jinja_check_args(r, args, "padding", 1, names));
    CDL_TRY(cdl_jinja_need_int(r, cdl_jinja_arg(args, 0, "width"), "a width", &p.width));
    if (p.width > (int64_t)r->output_max)
        return cdl_jinja_fail(r, CUDDLE_ERR_FULL, "a width is larger than %zu", r->output_max);
    p.width = p.width < 0 ? 0 : p.width;
    p.fill = align == '0' ? &zero : cdl_jinja_arg(args, 1, "fillchar");
    if (p.fill && (p.fill->type != J_STRING || cdl_jinja_count(p.fill->as.s, p.fill->n) != 1))
        return cdl_jinja_fail(r, CUDDLE_ERR_FORMAT, "the character to fill with must be one character");
    return cdl_jinja_write(r, write_padded, &p, out);
}

static cuddle_status call_center(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return pad(r, self, args, '^', out);
}

static cuddle_status call_ljust(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return pad(r, self, args, '<', out);
}

static cuddle_status call_rjust(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return pad(r, self, args, '>', out);
}

static cuddle_status call_zfill(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return pad(r, self, args, '0', out);
}

static cuddle_status recased(j_run *r, const j_value *self, const j_args *args, char how, j_value *out)
{
    static const char *const none[] = { NULL };
    CDL_TRY(cdl_jinja_check_args(r, args, "a method of a string", 0, none));
    return cdl_jinja_case(r, self, how, out);
}

static cuddle_status call_upper(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return recased(r, self, args, 'u', out);
}

static cuddle_status call_lower(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return recased(r, self, args, 'l', out);
}

static cuddle_status call_capitalize(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return recased(r, self, args, 'c', out);
}

static cuddle_status call_title(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return recased(r, self, args, 't', out);
}

static cuddle_status call_swapcase(j_run *r, const j_value *self, const j_args *args, j_value *out)
{
    return recased(r, self, args, 's', out);
}

/* Whether the letters are all of a kind: what isalpha() and its like say. */
static bool all_are(const j_value *self, bool (*is)(uint32_t cp))
{
    for (size_t i = 0; i < self->n;) {
        letter l = letter_at(self->as.s, self->n, i);
        if (!is(l.cp))
            return false;
        i += l.bytes;
    }
    return self->n > 0;
}

/* Like all_are, but only letters with case count. */
static bool cased_are(const j_value *self, bool (*is)(uint32_t cp))
{
    bool any = false;
    for (size_t i = 0; i < self->n;) {
        letter l = letter_at(self->as.s, self->n, i);
        if (is_cased(l.cp) && !is(l.cp))
            return false;
        any |= is_cased(l.cp);
        i += l.bytes;
    }
    return any;
}

static bool is_title(const j_value *self)
{
    bool any = false;
    uint32_t prev = 0;
    for (size_t i = 0; i < self->n;) {
        letter l = letter_at(self->as.s, self->n, i);
        if (is_cased(l.cp) && is_upper(l.cp) == is_cased(prev))
            return false;
        any |= is_cased(l.cp);
        prev = l.cp;
        i += l.bytes;
    }
    return any;
}

static bool is_alnum(uint32_t cp) { return is_alpha(cp) || is_numeric(cp); }
static bool is_ascii(uint32_t cp) { return cp < 0x80; }
static bool is_decimal(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_ND; }

static const struct {
    const char *name;
    cuddle_status (*call)(j_run *r, const j_value *self, const j_args *args, j_value *out);
    bool (*all)(uint32_t cp);
} methods[] = {
    { "strip", call_strip, NULL }, { "lstrip", call_lstrip, NULL }, { "rstrip", call_rstrip, NULL },
    { "split", call_split, NULL }, { "rsplit", call_rsplit, NULL }, { "splitlines", call_splitlines, NULL },
    { "startswith", call_startswith, NULL }, { "endswith", call_endswith, NULL }, { "replace", call_replace, NULL },
    { "upper", call_upper, NULL }, { "lower", call_lower, NULL }, { "title", call_title, NULL },
    { "capitalize", call_capitalize, NULL }, { "swapcase", call_swapcase, NULL }, { "casefold", call_lower, NULL },
    { "find", call_find, NULL }, { "rfind", call_rfind, NULL }, { "index", call_index, NULL },
    { "rindex", call_rindex, NULL }, { "count", call_count, NULL }, { "join", call_join, NULL },
    { "partition", call_partition, NULL }, { "rpartition", call_rpartition, NULL },
    { "removeprefix", call_removeprefix, NULL }, { "removesuffix", call_removesuffix, NULL },
    { "center", call_center, NULL }, { "ljust", call_ljust, NULL }, { "rjust", call_rjust, NULL },
    { "zfill", call_zfill, NULL }, { "format", cdl_jinja_format_braces, NULL },
    { "isalpha", NULL, is_alpha }, { "isalnum", NULL, is_alnum }, { "isdigit", NULL, is_digit },
    { "isdecimal", NULL, is_decimal }, { "isnumeric", NULL, is_numeric }, { "isspace", NULL, cdl_jinja_is_space },
    { "isascii", NULL, is_ascii }, { "islower", NULL, is_lower }, { "isupper", NULL, is_upper },
    { "istitle", NULL, is_cased },
};

enum { METHODS = sizeof methods / sizeof *methods };

static size_t method_of(const char *name, size_t n)
{
    size_t i = 0;
    while (i < METHODS && (strlen(methods[i].name) != n || memcmp(methods[i].name, name, n) != 0))
        i++;
    return i;
}

bool cdl_jinja_has_string_method(const char *name, size_t n)
{
    return method_of(name, n) < METHODS;
}

cuddle_status cdl_jinja_string_method(j_run *r, const j_value *self, const char *name, size_t n,
        const j_args *args, j_value *out)
{
    static const char *const none[] = { NULL };
    size_t i = method_of(name, n);
    if (methods[i].call)
        return methods[i].call(r, self, args, out);
    CDL_TRY(cdl_jinja_check_args(r, args, methods[i].name, 0, none));
    CDL_TRY(cdl_jinja_burn(r, self->n / 16));
    if (methods[i].all == is_cased)
        *out = j_bool(is_title(self));
    else if (methods[i].all == is_lower || methods[i].all == is_upper)
        *out = j_bool(cased_are(self, methods[i].all));
    else
        *out = j_bool(all_are(self, methods[i].all) || (methods[i].all == is_ascii && !self->n));
    return CUDDLE_OK;
}
