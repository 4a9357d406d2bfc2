/* jinja_lex.c - a template's text to tokens, with Jinja's rules for white space around tags. */
#include "token/jinja_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

typedef struct {
    cdl_arena *arena;
    const char *name;
    const char *s;
    size_t n, at;
    uint32_t line;
    j_token *tokens;
    size_t count, cap;
    char open[J_DEPTH_MAX];    /* brackets that are open in a tag */
    uint32_t n_open;
    bool line_start;           /* the last match ended a line     */
} lexer;

static cuddle_status fail(const lexer *x, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s, line %u: %s", x->name, x->line, what);
}

static cuddle_status push(lexer *x, j_token t)
{
    if (x->count == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        j_token *grown = cdl_arena_zalloc(x->arena, cap, sizeof *grown);
        if (!grown)
            return cdl_status_nomem("a chat template");
        if (x->count)
            memcpy(grown, x->tokens, x->count * sizeof *grown);
        x->tokens = grown;
        x->cap = cap;
    }
    t.line = x->line;
    x->tokens[x->count++] = t;
    return CUDDLE_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

bool cdl_jinja_is_space(uint32_t cp)
{
    return cp < 0x80 ? is_blank((char)cp)
                     : cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a)
                               || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f
                               || cp == 0x3000;
}

static size_t skip_spaces(const lexer *x, size_t i)
{
    uint32_t cp;
    size_t k;
    while ((k = cdl_utf8_get(x->s + i, x->n - i, &cp)) && cdl_jinja_is_space(cp))
        i += k;
    return i;
}

/* The end of s[0, n) without white space behind it. */
static size_t trim_end(const char *s, size_t n)
{
    while (n) {
        size_t k = 1;
        while (k < n && k < 4 && ((unsigned char)s[n - k] & 0xc0) == 0x80)
            k++;
        uint32_t cp = 0;
        if (cdl_utf8_get(s + n - k, k, &cp) != k || !cdl_jinja_is_space(cp))
            break;
        n -= k;
    }
    return n;
}

static bool is_at(const lexer *x, size_t i, const char *what)
{
    size_t k = strlen(what);
    return x->n - i >= k && memcmp(x->s + i, what, k) == 0;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, size_t to)
{
    for (size_t i = x->at; i < to; i++)
        x->line += x->s[i] == '\n';
    x->line_start = to > x->at && x->s[to - 1] == '\n';
    x->at = to;
}

/* Text from `from` up to a tag at `tag` whose sign (-, + or another) follows its two characters. */
static cuddle_status push_data(lexer *x, size_t from, size_t tag, bool tag_strips)
{
    const char *s = x->s + from;
    size_t n = tag - from;
    char sign = tag + 2 < x->n ? x->s[tag + 2] : 0;
    if (sign == '-') {
        n = trim_end(s, n);
    } else if (sign != '+' && tag_strips) {
        size_t line = n;
        while (line > 0 && s[line - 1] != '\n')
            line--;
        if ((line > 0 || x->line_start) && trim_end(s + line, n - line) == 0)
            n = line;
    }
    return n ? push(x, (j_token){ .type = JT_DATA, .s = s, .n = n }) : CUDDLE_OK;
}

/* The sign behind the two characters of an opening tag. */
static size_t behind_open(const lexer *x, size_t tag)
{
    size_t i = tag + 2;
    return i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? i + 1 : i;
}

/* Whether a closing tag (two characters c, '}') with its sign is at i: *end is behind all that it eats. */
static bool is_close(const lexer *x, size_t i, char c, size_t *end)
{
    char sign = 0;
    if (i < x->n && (x->s[i] == '-' || (x->s[i] == '+' && c != '}')))
        sign = x->s[i++];
    if (x->n - i < 2 || x->s[i] != c || x->s[i + 1] != '}')
        return false;
    i += 2;
    if (sign == '-')
        i = skip_spaces(x, i);
    else if (sign != '+' && c != '}' && i < x->n && x->s[i] == '\n')
        i++;
    *end = i;
    return true;
}

/* Whether `{% word %}` is at the tag: *end is behind it. */
static bool is_tag(const lexer *x, size_t tag, const char *word, bool trims, size_t *end)
{
    if (!is_at(x, tag, "{%"))
        return false;
    size_t i = skip_spaces(x, behind_open(x, tag));
    if (!is_at(x, i, word))
        return false;
    i = skip_spaces(x, i + strlen(word));
    if (!is_close(x, i, '%', end))
        return false;
    if (!trims && !is_at(x, i, "-"))
        *end = i + (is_at(x, i, "+") ? 3 : 2);
    return trims || !is_at(x, i, "+");
}

static cuddle_status lex_comment(lexer *x, size_t tag)
{
    for (size_t i = behind_open(x, tag), end; i < x->n; i++)
        if (is_close(x, i, '#', &end)) {
            advance(x, end);
            return CUDDLE_OK;
        }
    return fail(x, "a comment is never closed: add #}");
}

static cuddle_status lex_raw(lexer *x, size_t end)
{
    advance(x, end);
    for (size_t i = x->at; i < x->n; i++)
        if (is_tag(x, i, "endraw", true, &end)) {
            CDL_TRY(push_data(x, x->at, i, true));
            advance(x, end);
            return CUDDLE_OK;
        }
    return fail(x, "a raw block is never closed: add {% endraw %}");
}

/* ---- Inside tags ---- */

static bool is_word(uint32_t cp, bool first)
{
    if (cp >= 0x80)
        return !cdl_jinja_is_space(cp);
    return (cp | 32) - 'a' < 26u || cp == '_' || (!first && cp - '0' < 10u);
}

static cuddle_status lex_name(lexer *x)
{
    size_t i = x->at, k;
    uint32_t cp;
    while ((k = cdl_utf8_get(x->s + i, x->n - i, &cp)) && is_word(cp, false))
        i += k;
    j_token t = { .type = JT_NAME, .s = x->s + x->at, .n = i - x->at };
    CDL_TRY(push(x, t));
    advance(x, i);
    return CUDDLE_OK;
}

/* Digits of a base with single _ between them, from i on: *end. */
static size_t digits(const lexer *x, size_t i, int base)
{
    size_t last = i;
    while (i < x->n) {
        char c = x->s[i];
        int v = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (v < base)
            last = ++i;
        else if (c == '_' && i == last && i + 1 < x->n)
            i++;
        else
            break;
    }
    return last;
}

static cuddle_status lex_number(lexer *x)
{
    size_t start = x->at, i = start;
    int base = 10;
    if (x->s[i] == '0' && i + 1 < x->n && strchr("xXoObB", x->s[i + 1]) && x->s[i + 1]) {
        char c = x->s[i + 1] | 32;
        base = c == 'x' ? 16 : c == 'o' ? 8 : 2;
        i += 2;
    }
    size_t from = i;
    i = digits(x, i, base);
    bool is_float = false;
    if (base == 10) {
        size_t e = i;
        if (is_at(x, i, ".") && digits(x, i + 1, 10) > i + 1) {
            e = i = digits(x, i + 1, 10);
            is_float = true;
        }
        if (e < x->n && (x->s[e] | 32) == 'e') {
            e += e + 1 < x->n && (x->s[e + 1] == '+' || x->s[e + 1] == '-') ? 2 : 1;
            if (digits(x, e, 10) > e) {
                i = digits(x, e, 10);
                is_float = true;
            }
        }
    }
    char text[128];
    size_t n = 0;
    for (size_t j = from; j < i && n + 1 < sizeof text; j++)
        if (x->s[j] != '_')
            text[n++] = x->s[j];
    text[n] = 0;
    if (n == 0 || n + 1 == sizeof text)
        return fail(x, "a number is malformed");
    j_token t = { .type = is_float ? JT_FLOAT : JT_INT };
    errno = 0;
    if (is_float)
        t.d = strtod(text, NULL);
    else
        t.i = strtoll(text, NULL, base);
    if (!is_float && errno == ERANGE)
        return fail(x, "a number does not fit into 64 bits");
    CDL_TRY(push(x, t));
    advance(x, i);
    return CUDDLE_OK;
}

/* \xHH, \uHHHH, \UHHHHHHHH, \ooo, \n, ... at s (behind the backslash): bytes used; text to b. */
static cuddle_status unescape(lexer *x, const char *s, size_t n, cdl_buf *b, size_t *used)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *known = memchr(from, s[0], sizeof from - 1);
    *used = 1;
    if (s[0] == '\n')
        return CUDDLE_OK;
    if (known)
        return cdl_buf_putc(b, to[known - from]);
    size_t want = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    uint32_t cp = 0;
    size_t i = 1;
    if (want) {
        while (i <= want && i < n && strchr("0123456789abcdefABCDEF", s[i]) && s[i]) {
            char c = s[i++];
            cp = cp << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
        }
        if (i <= want)
            return fail(x, "an escape in a string is cut off");
    } else if (s[0] >= '0' && s[0] <= '7') {
        for (i = 0; i < 3 && i < n && s[i] >= '0' && s[i] <= '7'; i++)
            cp = cp << 3 | (uint32_t)(s[i] - '0');
    } else {
        CDL_TRY(cdl_buf_putc(b, '\\'));
        *used = 0;
        return CUDDLE_OK;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return fail(x, "an escape in a string is no character");
    char utf8[4];
    *used = i;
    return cdl_buf_append(b, utf8, cdl_utf8_put(utf8, cp));
}

static cuddle_status decode_string(lexer *x, size_t from, size_t to, j_token *t)
{
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    for (size_t i = from; i < to && st == CUDDLE_OK; i++) {
        if (x->s[i] != '\\') {
            st = cdl_buf_putc(&b, x->s[i]);
            continue;
        }
        size_t used = 0;
        st = unescape(x, x->s + i + 1, to - i - 1, &b, &used);
        i += used;
    }
    if (st == CUDDLE_OK) {
        t->s = cdl_arena_strndup(x->arena, b.data ? b.data : "", b.len);
        t->n = b.len;
        st = t->s ? CUDDLE_OK : cdl_status_nomem("a chat template");
    }
    cdl_buf_free(&b);
    return st;
}

static cuddle_status lex_string(lexer *x)
{
    char quote = x->s[x->at];
    size_t from = x->at + 1, i = from;
    bool escaped = false;
    while (i < x->n && x->s[i] != quote) {
        escaped |= x->s[i] == '\\';
        i += x->s[i] == '\\' ? 2 : 1;
    }
    if (i >= x->n)
        return fail(x, "a string is never closed");
    j_token t = { .type = JT_STRING, .s = x->s + from, .n = i - from };
    if (escaped)
        CDL_TRY(decode_string(x, from, i, &t));
    CDL_TRY(push(x, t));
    advance(x, i + 1);
    return CUDDLE_OK;
}

static cuddle_status balance(lexer *x, char c)
{
    static const char all[] = "()[]{}";
    const char *at = strchr(all, c);
    if (!at)
        return CUDDLE_OK;
    size_t i = (size_t)(at - all);
    if (i % 2 == 0) {
        if (x->n_open == sizeof x->open)
            return cdl_status_fail(CUDDLE_ERR_FULL, "%s, line %u: brackets nested deeper than %d", x->name,
                    x->line, J_DEPTH_MAX);
        x->open[x->n_open++] = all[i + 1];
        return CUDDLE_OK;
    }
    if (!x->n_open || x->open[x->n_open - 1] != c)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s, line %u: unexpected '%c'", x->name, x->line, c);
    x->n_open--;
    return CUDDLE_OK;
}

static cuddle_status lex_operator(lexer *x)
{
    static const struct {
        char text[3];
        uint8_t op;
    } pairs[] = { { "//", J_OP_FLOOR }, { "**", J_OP_POWER }, { "==", J_OP_EQ }, { "!=", J_OP_NE },
        { "<=", J_OP_LE }, { ">=", J_OP_GE } };
    j_token t = { .type = JT_OP };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (is_at(x, x->at, pairs[i].text)) {
            t.op = pairs[i].op;
            CDL_TRY(push(x, t));
            advance(x, x->at + 2);
            return CUDDLE_OK;
        }
    char c = x->s[x->at];
    if (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s, line %u: unexpected character '%c'", x->name, x->line, c);
    CDL_TRY(balance(x, c));
    t.op = (uint8_t)c;
    CDL_TRY(push(x, t));
    advance(x, x->at + 1);
    return CUDDLE_OK;
}

/* The inside of a tag that closes with c and '}', up to and with its end. */
static cuddle_status lex_tag(lexer *x, size_t tag, char c)
{
    bool block = c == '%';
    CDL_TRY(push(x, (j_token){ .type = block ? JT_BLOCK : JT_VARIABLE }));
    uint32_t line = x->line;
    advance(x, behind_open(x, tag));
    x->n_open = 0;
    for (;;) {
        advance(x, skip_spaces(x, x->at));
        size_t end;
        if (!x->n_open && is_close(x, x->at, c, &end)) {
            CDL_TRY(push(x, (j_token){ .type = block ? JT_BLOCK_END : JT_VARIABLE_END }));
            advance(x, end);
            return CUDDLE_OK;
        }
        uint32_t cp = 0;
        if (x->at == x->n) {
            x->line = line;
            return fail(x, block ? "a tag is never closed: add %}" : "a tag is never closed: add }}");
        }
        cdl_utf8_get(x->s + x->at, x->n - x->at, &cp);
        if (cp == '"' || cp == '\'')
            CDL_TRY(lex_string(x));
        else if (cp - '0' < 10u)
            CDL_TRY(lex_number(x));
        else if (is_word(cp, true))
            CDL_TRY(lex_name(x));
        else
            CDL_TRY(lex_operator(x));
    }
}

/* The next opening tag from i on, or n. */
static size_t find_tag(const lexer *x, size_t i)
{
    while (i < x->n) {
        const char *p = memchr(x->s + i, '{', x->n - i);
        if (!p)
            return x->n;
        i = (size_t)(p - x->s);
        if (i + 1 < x->n && (p[1] == '%' || p[1] == '#' || p[1] == '{'))
            return i;
        i++;
    }
    return x->n;
}

cuddle_status cdl_jinja_lex(cdl_arena *a, const char *name, const char *source, size_t n, j_token **out,
        size_t *n_out)
{
    lexer x = { .arena = a, .name = name, .s = source, .n = n, .line = 1, .line_start = true };
    while (x.at < n) {
        size_t from = x.at, tag = find_tag(&x, from), end;
        if (tag == n) {
            CDL_TRY(push(&x, (j_token){ .type = JT_DATA, .s = source + from, .n = n - from }));
            advance(&x, n);
            break;
        }
        char c = source[tag + 1];
        CDL_TRY(push_data(&x, from, tag, c != '{'));
        for (size_t i = from; i < tag; i++)
            x.line += source[i] == '\n';
        x.at = tag;
        if (is_tag(&x, tag, "raw", false, &end))
            CDL_TRY(lex_raw(&x, end));
        else if (c == '#')
            CDL_TRY(lex_comment(&x, tag));
        else
            CDL_TRY(lex_tag(&x, tag, c == '{' ? '}' : '%'));
    }
    CDL_TRY(push(&x, (j_token){ .type = JT_END }));
    *out = x.tokens;
    *n_out = x.count;
    return CUDDLE_OK;
}
