/* load_lists.c - the vocabulary and the merges of a tokenizer.json: nearly all of its bytes.
 *
 * Entries of one list are written alike: what stands between their strings is the same, byte for byte. So after an
 * entry that the JSON reader took apart, those that follow are taken as long as the same bytes stand around plain
 * strings, and the reader goes on where they end. Texts are looked for many at a time. */
#define _GNU_SOURCE            /* memmem */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/mem.h"
#include "base/pool.h"
#include "token/bpe_merges.h"
#include "token/load.h"

enum { GAP_MAX = 64, MARGIN = 2 * GAP_MAX, BATCH = 64 };

/* ---- Entries like the one before ---- */

/* The text in front of an entry's first string, behind it, and behind its second. */
typedef struct {
    char s[GAP_MAX];
    uint32_t n;                /* 0: none, or it is too long */
} gap;

typedef struct {
    gap before, between, after;
    bool two;                  /* strings */
} shape;

static void learn(gap *g, const char *begin, const char *end)
{
    size_t n = (size_t)(end - begin);
    *g = (gap){ .n = n <= GAP_MAX ? (uint32_t)n : 0 };
    memcpy(g->s, begin, g->n);
}

/* The first of 16 bytes that ends a plain string: a quote, a backslash, a control character; or 16. */
static inline uint32_t find_end(const char *p)
{
#ifdef __SSE2__
    __m128i v = _mm_loadu_si128((const __m128i *)p), low = _mm_set1_epi8(0x1f);
    __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
    hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(v, low), v));
    return (uint32_t)__builtin_ctz((uint32_t)_mm_movemask_epi8(hit) | 1u << 16);
#else
    uint32_t n = 0;
    while (n < 16 && p[n] != '"' && p[n] != '\\' && (uint8_t)p[n] >= 0x20)
        n++;
    return n;
#endif
}

/* Whether a gap stands at p; GAP_MAX bytes can be read there. */
static inline bool stands(const gap *g, const char *p)
{
    uint32_t i = 0;
#ifdef __SSE2__
    for (; i < g->n; i += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(p + i)), b = _mm_loadu_si128((const __m128i *)(g->s + i));
        uint32_t differ = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
        if (differ << (g->n - i < 16 ? 32 - (g->n - i) : 16))
            return false;
    }
#else
    if (memcmp(g->s, p, g->n) != 0)
        return false;
#endif
    return g->n > 0;
}

/* A gap at *p and the string behind it, with MARGIN bytes behind that; *p moves to the string's end. */
static inline bool take_alike(const char **p, const char *end, const gap *g, cdl_vocab_string *out)
{
    if (end - *p < MARGIN || !stands(g, *p))
        return false;
    const char *s = *p + g->n, *at = s;
    for (uint32_t k = 16; end - at >= MARGIN + 16; at += k)
        if ((k = find_end(at)) < 16) {
            *p = at + k;
            *out = (cdl_vocab_string){ s, (size_t)(at + k - s) };
            return at[k] == '"';
        }
    return false;
}

/* ---- One entry by the reader ---- */

cuddle_status cdl_load_expect(cdl_json_reader *r, cdl_json_token want, const char *what)
{
    cdl_json_token got;
    CDL_TRY(cdl_json_next(r, &got));
    return got == want ? CUDDLE_OK : cdl_json_error(r, what);
}

/* The string just read, in b if it had to be unescaped; CDL_VOCAB_ROOM bytes can be read behind it. */
static cuddle_status take_string(cdl_json_reader *r, cdl_buf *b, cdl_vocab_string *out)
{
    *out = (cdl_vocab_string){ r->s, r->n };
    if (!r->escaped && r->end - (r->s + r->n) >= CDL_VOCAB_ROOM)
        return CUDDLE_OK;
    cdl_buf_clear(b);
    CDL_TRY(cdl_json_unescape(r, b));
    CDL_TRY(cdl_buf_reserve(b, CDL_VOCAB_ROOM));
    memset(b->data + b->len, 0, CDL_VOCAB_ROOM);
    *out = (cdl_vocab_string){ b->data, b->len };
    return CUDDLE_OK;
}

/* ---- {"token": id, ...} ---- */

enum { TEXT_SHARE = 8 };       /* of the bytes of vocabulary and merges, about one in so many is a token's */

static cuddle_status add_token(const cdl_json_reader *r, cdl_vocab *v, const cdl_vocab_string *s, int64_t id)
{
    cuddle_status st = cdl_vocab_append(v, s->s, s->n, id);
    return st == CUDDLE_ERR_FORMAT ? cdl_status_wrap(st, "%s: model: vocab", r->name) : st;
}

/* Bytes of the id at p; 0: it is not as plain as ids are. */
static inline uint32_t take_id(const char *p, int64_t *id)
{
    uint32_t n = 0, v = 0;
    for (; n < 8 && (uint8_t)(p[n] - '0') < 10; n++)
        v = 10 * v + (uint8_t)(p[n] - '0');
    *id = v;
    bool ends = p[n] == ',' || p[n] == '}' || p[n] == '\n' || p[n] == ' ';
    return ends && n < 8 && (n == 1 || p[0] != '0') ? n : 0;
}

static cuddle_status take_members(cdl_json_reader *r, cdl_vocab *v, const shape *x)
{
    cdl_vocab_string s;
    for (const char *p = r->at; take_alike(&p, r->end, &x->before, &s) && stands(&x->between, p); r->at = p) {
        int64_t id;
        uint32_t n = take_id(p += x->between.n, &id);
        if (!n)
            break;
        CDL_TRY(add_token(r, v, &s, id));
        p += n;
    }
    return CUDDLE_OK;
}

static cuddle_status read_members(cdl_json_reader *r, cdl_vocab *v, cdl_buf *b)
{
    for (;;) {
        cdl_json_token token;
        cdl_vocab_string s;
        cdl_json id;
        shape x;
        const char *begin = r->at;
        CDL_TRY(cdl_json_next(r, &token));
        if (token == CDL_JSON_T_OBJECT_END)
            return cdl_vocab_index(v);
        const char *key = r->s, *key_end = key + r->n;
        CDL_TRY(take_string(r, b, &s));
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_NUMBER, "an id was expected"));
        CDL_TRY(cdl_json_number(r, &id));
        CDL_TRY(add_token(r, v, &s, cdl_json_int(&id, -1)));
        learn(&x.before, begin, key);
        learn(&x.between, key_end, r->s);
        CDL_TRY(take_members(r, v, &x));
    }
}

cuddle_status cdl_load_vocab_object(cdl_json_reader *r, cdl_vocab *v)
{
    cdl_buf b = { 0 };
    CDL_TRY(cdl_vocab_reserve_text(v, (size_t)(r->end - r->at) / TEXT_SHARE));
    cuddle_status st = read_members(r, v, &b);
    cdl_buf_free(&b);
    return st;
}

/* ---- [["piece", score], ...] ---- */

/* A number as serde_json reads it for Hugging Face: its digits as an integer, divided by a power of ten. That is
 * not always the nearest double, and of two cuts of a text with equal scores the last bit decides. */
static double read_score(const char *s, size_t n)
{
    uint64_t digits = 0;
    long exponent = 0, given = 0;
    bool minus = n && *s == '-', point = false, full = false;
    size_t i = minus;
    for (; i < n && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9')); i++) {
        unsigned digit = (unsigned)(s[i] - '0');
        if (s[i] == '.') {
            point = true;
            continue;
        }
        full = full || digits > UINT64_MAX / 10 || (digits == UINT64_MAX / 10 && digit > UINT64_MAX % 10);
        exponent += full ? !point : -(long)point;
        digits = full ? digits : 10 * digits + digit;
    }
    if (i < n) /* 'e'; the text is that of a JSON number, what stands behind it ends it */
        given = strtol(s + i + 1, NULL, 10);
    exponent += given < -10000 ? -10000 : given > 10000 ? 10000 : given;
    double value = (double)digits;
    for (; value && exponent < -308; exponent += 308)
        value /= 1e308;
    value = exponent >= 0 ? value * pow(10, (double)exponent) : value / pow(10, (double)-exponent);
    return minus ? -value : value;
}

static cuddle_status read_pieces(cdl_json_reader *r, cdl_token_model *m, cdl_buf *b)
{
    double *score = NULL;
    size_t cap = 0;
    for (uint32_t id = 0; ; id++) {
        cdl_json_token token;
        cdl_vocab_string s;
        cdl_json number;
        CDL_TRY(cdl_json_next(r, &token));
        if (token == CDL_JSON_T_ARRAY_END)
            return cdl_vocab_index(&m->vocab);
        if (token != CDL_JSON_T_ARRAY)
            return cdl_json_error(r, "a piece and its score were expected");
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_STRING, "a piece was expected"));
        CDL_TRY(take_string(r, b, &s));
        CDL_TRY(cdl_vocab_append(&m->vocab, s.s, s.n, id));
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_NUMBER, "a score was expected"));
        CDL_TRY(cdl_json_number(r, &number)); /* checks it */
        double value = read_score(r->s, r->n);
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_ARRAY_END, "a piece has only a score"));
        CDL_TRY(cdl_work_grow(&score, &cap, id + (size_t)1, sizeof *score));
        m->score = score;
        score[id] = value;
        m->score_min = id == 0 || score[id] < m->score_min ? score[id] : m->score_min;
    }
}

cuddle_status cdl_load_vocab_array(cdl_json_reader *r, cdl_token_model *m)
{
    cdl_buf b = { 0 };
    cuddle_status st = read_pieces(r, m, &b);
    cdl_buf_free(&b);
    return st;
}

/* ---- ["a b", ...] or [["a", "b"], ...] ---- */

/* A stretch of the list. A long list is read in some by as many threads: one counts if that in front of it ends where
 * it began, which makes it what reading on would have found. */
typedef struct {
    cdl_json_reader r;
    const char *begin, *stop;  /* an entry's end each; stop NULL: that of the list */
    const cdl_token_model *m;
    shape x;
    cdl_buf a, b;              /* unescaped strings */
    uint64_t *pair;            /* of the merges read so far, and what they become */
    uint32_t *joined;
    size_t n, cap_pair, cap_joined, before;
    bool shares;               /* pair and joined are parts of others' memory: no more than they hold is read ... */
    size_t share;              /* ... from here on */
    int32_t last;              /* what the last one became */
    uint32_t waiting;
    bool ended;                /* so did the list */
    cuddle_status st;
    cdl_vocab_string part[2 * BATCH];
    cdl_vocab_slot key[2 * BATCH];
} stretch;

enum { STRETCHES = 18, EACH = 4, LONG_LIST = 1 << 20, SEARCH = 1 << 16 }; /* EACH: of a thread; the others: bytes */

/* What a and b join to, mostly what the last two did or the token behind it. */
static int32_t find_joined(const stretch *l, const cdl_vocab_string *a, const cdl_vocab_string *b)
{
    const cdl_vocab *v = &l->m->vocab;
    cdl_vocab_string rest = *b;
    size_t cut = b->n >= l->m->n_prefix ? l->m->n_prefix : b->n;
    rest.s += cut;
    rest.n -= cut;
    for (int32_t guess = l->last; !v->repeats && guess < l->last + 2; guess++)
        if (cdl_vocab_joins(v, guess, a, &rest))
            return guess;
    return cdl_vocab_find_joined(v, a->s, a->n, rest.s, rest.n);
}

static cuddle_status add_waiting(stretch *l)
{
    int32_t id[2 * BATCH];
    CDL_TRY(cdl_work_grow(&l->pair, &l->cap_pair, l->n + l->waiting, sizeof *l->pair));
    CDL_TRY(cdl_work_grow(&l->joined, &l->cap_joined, l->n + l->waiting, sizeof *l->joined));
    cdl_vocab_find_asked(&l->m->vocab, l->part, l->key, id, 2 * (size_t)l->waiting);
    for (uint32_t i = 0; i < l->waiting; i++) {
        const cdl_vocab_string *a = &l->part[2 * i], *b = a + 1;
        int32_t left = id[2 * i], right = id[2 * i + 1], joined = find_joined(l, a, b);
        if (left < 0 || right < 0 || joined < 0)
            return cdl_status_fail(CUDDLE_ERR_FORMAT,
                    "%s: model: merge %zu, '%.*s' '%.*s': %s is not in the vocabulary", l->r.name, l->before + l->n,
                    CDL_STR(a->s, a->n), CDL_STR(b->s, b->n),
                    left < 0 ? "the first" : right < 0 ? "the second" : "their join");
        l->joined[l->n] = (uint32_t)joined;
        l->pair[l->n++] = cdl_merge_pair((uint32_t)left, (uint32_t)right);
        l->last = joined;
    }
    l->waiting = 0;
    return CUDDLE_OK;
}

static bool cut_at_space(cdl_vocab_string *part)
{
    const char *s = part[0].s, *space = part[0].n ? memchr(s, ' ', part[0].n) : NULL;
    if (!space)
        return false;
    part[1] = (cdl_vocab_string){ space + 1, part[0].n - (size_t)(space - s) - 1 };
    part[0].n = (size_t)(space - s);
    return true;
}

/* One more waits, whose parts are there. */
static inline void wait_for(stretch *l)
{
    for (uint32_t i = 2 * l->waiting; i < 2 * l->waiting + 2; i++)
        l->key[i] = cdl_vocab_ask(&l->m->vocab, l->part[i].s, l->part[i].n);
    l->waiting++;
}

/* The next one, if it looks like the one before. */
static inline bool take_pair(stretch *l)
{
    const shape *x = &l->x;
    const char *p = l->r.at, *end = l->r.end;
    cdl_vocab_string *part = &l->part[2 * l->waiting];
    if (!take_alike(&p, end, &x->before, part) || (x->two && !take_alike(&p, end, &x->between, part + 1)))
        return false;
    if (!stands(&x->after, p) || (!x->two && !cut_at_space(part)))
        return false;
    l->r.at = p + x->after.n;
    wait_for(l);
    return true;
}

/* The one whose first token was just read, and which begins at begin with what parts it from the one before. */
static cuddle_status read_pair(stretch *l, cdl_json_token token, const char *begin)
{
    cdl_json_reader *r = &l->r;
    shape *x = &l->x;
    x->two = token == CDL_JSON_T_ARRAY;
    if (!x->two && token != CDL_JSON_T_STRING)
        return cdl_json_error(r, "a merge was expected");
    if (x->two)
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_STRING, "a token was expected"));
    learn(&x->before, begin, r->s);
    const char *behind = r->s + r->n;
    CDL_TRY(take_string(r, &l->a, &l->part[0]));
    if (x->two) {
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_STRING, "a token was expected"));
        learn(&x->between, behind, r->s);
        behind = r->s + r->n;
        CDL_TRY(take_string(r, &l->b, &l->part[1]));
        CDL_TRY(cdl_load_expect(r, CDL_JSON_T_ARRAY_END, "a merge has two tokens"));
    } else if (!cut_at_space(l->part)) {
        return cdl_json_error(r, "a merge must be two tokens with a space between");
    }
    learn(&x->after, behind, r->at);
    wait_for(l);
    return add_waiting(l);
}

static cuddle_status read_entry(stretch *l)
{
    cdl_json_token token;
    const char *begin = l->r.at;
    CDL_TRY(cdl_json_next(&l->r, &token));
    l->ended = token == CDL_JSON_T_ARRAY_END;
    return l->ended ? CUDDLE_OK : read_pair(l, token, begin);
}

static bool goes_on(const stretch *l)
{
    return !l->ended && l->r.at != l->stop && (!l->shares || l->n + l->waiting < l->cap_pair);
}

static cuddle_status read_stretch(stretch *l)
{
    while (goes_on(l)) {
        CDL_TRY(read_entry(l));
        while (goes_on(l) && take_pair(l))
            if (l->waiting == BATCH)
                CDL_TRY(add_waiting(l));
        CDL_TRY(add_waiting(l));
    }
    return CUDDLE_OK;
}

static void run_stretch(const void *arg, uint32_t chunk, void *scratch)
{
    stretch *l = &(*(stretch *const *)arg)[chunk];
    (void)scratch;
    l->st = read_stretch(l);
}

static void begin_stretch(stretch *l, const stretch *from, const char *at, size_t before)
{
    *l = (stretch){ .r = from->r, .m = from->m, .begin = at, .before = before };
    l->r.at = at;
}

static void free_stretch(stretch *l)
{
    cdl_buf_free(&l->a);
    cdl_buf_free(&l->b);
    if (!l->shares) {
        cdl_mem_free(l->pair);
        cdl_mem_free(l->joined);
    }
    *l = (stretch){ 0 };
}

/* A long list's stretches; what those write that share. */
typedef struct {
    stretch s[STRETCHES];
    uint64_t *pair;
    uint32_t *joined;
    size_t cap_pair, cap_joined;
} stretches;

/* Cuts what stands behind the entry that l has just read into up to n stretches of about one size. */
static uint32_t cut_list(const stretch *l, stretch *s, uint32_t n)
{
    char between[2 * GAP_MAX];
    const shape *x = &l->x;
    size_t size = (size_t)(l->r.end - l->r.at) / n;
    uint32_t cuts = 0, k = x->after.n;
    memcpy(between, x->after.s, k);
    memcpy(between + k, x->before.s, x->before.n);
    begin_stretch(&s[cuts++], l, l->r.at, 0);
    for (uint32_t i = 1; k && x->before.n && i < n; i++) {
        const char *hit = memmem(l->r.at + i * size, size < SEARCH ? size : SEARCH, between, k + x->before.n);
        if (!hit)
            break;
        s[cuts - 1].stop = hit + k;
        begin_stretch(&s[cuts++], l, hit + k, 0);
    }
    return cuts;
}

/* Gives each of s [n], which were cut behind l, a share of memory for as many entries like l's as it may have. */
static cuddle_status share(stretches *all, const stretch *l, stretch *s, uint32_t n)
{
    const shape *x = &l->x;
    size_t least = x->after.n + x->before.n + (x->two ? x->between.n : 0) + 2;
    size_t at = l->n, most = at + (size_t)(l->r.end - l->r.at) / least;
    all->pair = cdl_mem_lines(most * sizeof *all->pair);
    all->joined = cdl_mem_lines(most * sizeof *all->joined);
    if (!all->pair || !all->joined)
        return cdl_status_nomem("the merges");
    all->cap_pair = all->cap_joined = most;
    for (uint32_t i = 0; i < n; i++) {
        size_t bytes = (size_t)((s[i].stop ? s[i].stop : l->r.end) - s[i].begin);
        s[i].shares = true;
        s[i].share = at;
        s[i].pair = all->pair + at;
        s[i].joined = all->joined + at;
        s[i].cap_pair = s[i].cap_joined = bytes / least;
        at += bytes / least;
    }
    return CUDDLE_OK;
}

/* Reads what stands behind the first in stretches, as many as there are threads; *n: how many of all count. */
static cuddle_status read_together(stretches *all, uint32_t *n)
{
    cdl_pool *pool;
    stretch *s = all->s, *first = &s[1];
    uint32_t threads = cdl_pool_default_threads(), most = (STRETCHES - 2) / EACH;
    threads = threads < most ? threads : most;
    uint32_t cuts = threads > 1 ? cut_list(&s[0], first, threads * EACH) : 0;
    if (cuts < 2)
        return CUDDLE_OK;
    CDL_TRY(share(all, &s[0], first, cuts));
    CDL_TRY(cdl_pool_new(&pool, threads, 0));
    cdl_phase phase = { .run = run_stretch, .arg = &first, .chunks = cuts };
    cdl_pool_run(pool, &phase, 1);
    cdl_pool_free(pool);
    while (*n <= cuts && s[*n].st == CUDDLE_OK && s[*n - 1].r.at == s[*n].begin && !s[*n - 1].ended)
        ++*n;
    return CUDDLE_OK;
}

/* *n: how many stretches there are in the end. */
static cuddle_status read_stretches(stretches *all, uint32_t *n)
{
    stretch *s = all->s;
    *n = 1;
    for (int i = 0; i < 2 && !s[0].ended; i++) /* the second tells what stands between two */
        CDL_TRY(read_entry(&s[0]));
    if (!s[0].ended && s[0].r.end - s[0].r.at > LONG_LIST)
        CDL_TRY(read_together(all, n));
    if (s[*n - 1].ended)
        return CUDDLE_OK;
    size_t before = 0;
    for (uint32_t i = 0; i < *n; i++)
        before += s[i].n;
    free_stretch(&s[*n]);
    begin_stretch(&s[*n], &s[*n - 1], s[*n - 1].r.at, before);
    ++*n;
    return read_stretch(&s[*n - 1]);
}

/* Puts what the first n stretches read behind one another, into what is shared. */
static cuddle_status join_stretches(stretches *all, uint32_t n, size_t *merges)
{
    size_t at = 0;
    *merges = 0;
    for (uint32_t i = 0; i < n; i++)
        *merges += all->s[i].n;
    CDL_TRY(cdl_work_grow(&all->pair, &all->cap_pair, *merges, sizeof *all->pair));
    CDL_TRY(cdl_work_grow(&all->joined, &all->cap_joined, *merges, sizeof *all->joined));
    for (uint32_t i = 0; i < n; at += all->s[i++].n) {
        const stretch *l = &all->s[i];
        if (!l->n)
            continue;
        const uint64_t *pair = l->shares ? all->pair + l->share : l->pair;
        const uint32_t *joined = l->shares ? all->joined + l->share : l->joined;
        memmove(all->pair + at, pair, l->n * sizeof *pair);
        memmove(all->joined + at, joined, l->n * sizeof *joined);
    }
    return CUDDLE_OK;
}

cuddle_status cdl_load_merges(cdl_json_reader *r, cdl_token_model *m)
{
    uint32_t n;
    CDL_TRY(cdl_vocab_reserve(&m->vocab, 1)); /* it may be empty */
    stretches *all = cdl_mem_zalloc(1, sizeof *all);
    if (!all)
        return cdl_status_nomem("the merges");
    all->s[0].r = *r;
    all->s[0].m = m;
    cuddle_status st = read_stretches(all, &n);
    size_t merges = 0;
    if (st == CUDDLE_OK)
        st = join_stretches(all, n, &merges);
    *r = all->s[n - 1].r;
    for (uint32_t i = 0; i < STRETCHES; i++)
        free_stretch(&all->s[i]);
    if (st == CUDDLE_OK) {
        st = cdl_bpe_take_merges(m, all->pair, all->joined, merges);
    } else {
        cdl_mem_free(all->pair);
        cdl_mem_free(all->joined);
    }
    cdl_mem_free(all);
    return st;
}
