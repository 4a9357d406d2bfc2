/* bpe_windows.c - byte pair encoding of a long word, window by window.
 *
 * A text is a row of tokens that stay apart if each two neighbours do. Those within a window do. Where a window begins
 * behind a token that was kept, they do if it begins with the token that stood there; where two windows overlap, if
 * both have the same token at the same place, from which the second goes on. Where windows do not meet, larger ones
 * are tried. */
#include <string.h>

#include "token/bpe_merges.h"

enum {
    SMALL = CDL_MERGE_FEW, LARGE = 512, /* bytes of a window */
    MANY = 16, STRIDE = 40, KEEP = SMALL / 4 * 3,
    PAUSE = 32, PAUSE_MAX = 8192 /* single windows before many are tried again */
};

/* A place in the text that tokens reach up to. */
typedef struct {
    uint32_t at, out;          /* bytes, tokens */
    int32_t expected;          /* the token that stood here behind the last one, or -1 */
} place;

typedef struct {
    const cdl_token_model *m;
    const char *s;
    uint32_t n;
    int32_t *ids;
    place now, before;
    uint32_t least, size;      /* of single windows */
    uint32_t many, pause, next_pause;
    bool done;
} walk;

static bool begins_character(const walk *w, uint32_t at)
{
    return w->m->raw_bytes || (w->s[at] & 0xc0) != 0x80;
}

/* Where a window of so many bytes ends. */
static uint32_t window_end(const walk *w, uint32_t at, uint32_t size)
{
    uint32_t end = w->n - at > size ? at + size : w->n;
    while (end < w->n && !begins_character(w, end))
        end--;
    return end;
}

/* ---- One window ---- */

/* How many bytes of the text a token stands for. */
static uint32_t bytes_for(const cdl_token_model *m, int32_t id)
{
    size_t n = 0;
    const char *s = cdl_vocab_text(&m->vocab, id, &n);
    uint32_t bytes = 0;
    if (!m->raw_bytes) {
        for (int b = 0; m->byte_fallback && n == 6 && s[0] == '<' && b < 256; b++)
            if (m->byte_id[b] == id)
                return 1;
        return (uint32_t)n;
    }
    for (size_t i = 0; i < n; i++)
        bytes += (s[i] & 0xc0) != 0x80;
    return bytes;
}

/* The tokens of a window that are kept: up to three quarters of its bytes and not the last. Tokens of byte fallback
 * end within a character, where no window may begin. */
static uint32_t keep_tokens(const walk *w, const int32_t *id, uint32_t n, uint32_t window, uint32_t *bytes)
{
    uint32_t keep = 0;
    for (*bytes = 0; keep + 1 < n; keep++) {
        uint32_t more = bytes_for(w->m, id[keep]);
        if (*bytes + more > window / 4 * 3)
            break;
        *bytes += more;
    }
    while (keep && !begins_character(w, w->now.at + *bytes))
        *bytes -= bytes_for(w->m, id[--keep]);
    return keep;
}

/* A larger window, or the one before made larger when this one does not meet it; false: none helps. */
static bool enlarge(walk *w, bool meets)
{
    if ((w->size *= 2) > LARGE)
        return false;
    if (!meets) {
        w->least = w->size;
        w->now = w->before;
    }
    return true;
}

static bool take_one(walk *w)
{
    int32_t id[LARGE], rank[LARGE];
    uint32_t at = w->now.at, end = window_end(w, at, w->size), bytes = 0;
    uint32_t tokens = cdl_merge_text(w->m, w->s + at, end - at, id, rank);
    if (tokens == UINT32_MAX)
        return false;
    bool meets = w->now.expected < 0 || id[0] == w->now.expected;
    w->done = meets && end == w->n;
    uint32_t keep = w->done ? tokens : meets ? keep_tokens(w, id, tokens, end - at, &bytes) : 0;
    if (!keep)
        return enlarge(w, meets);
    memcpy(w->ids + w->now.out, id, keep * sizeof *id);
    w->before = w->now;
    w->now = (place){ at + bytes, w->now.out + keep, w->done ? -1 : id[keep] };
    w->size = keep < 4 ? w->size : w->size / 2; /* few long tokens: so may be the next */
    w->size = w->size < w->least ? w->least : w->size;
    return true;
}

/* ---- Many windows, side by side ---- */

typedef struct {
    uint32_t at, end;
    uint32_t n;                /* tokens; 0: not to be used */
    uint64_t first;            /* bytes, counted from at, that tokens begin with */
    int32_t id[SMALL];
} window;

/* The bytes that characters begin with. */
static uint64_t find_characters(const char *s, uint32_t n)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++)
        bits |= (uint64_t)((s[i] & 0xc0) != 0x80) << i;
    return bits;
}

/* The i-th bits that are set in from, for all i in places. */
static uint64_t select_bits(uint64_t from, uint64_t places)
{
    uint64_t bits = 0;
    if (!(from & (from + 1)))
        return places;
    for (; from && places; from &= from - 1, places >>= 1)
        bits |= places & 1 ? from & -from : 0;
    return bits;
}

/* false: a symbol is not known. */
static bool merge_many(const walk *w, window *v, uint32_t k)
{
    int32_t rank[MANY][SMALL];
    cdl_merge_word word[MANY];
    uint64_t symbols[MANY];
    for (uint32_t i = 0; i < k; i++) {
        const char *s = w->s + v[i].at;
        uint32_t n = v[i].end - v[i].at;
        word[i] = (cdl_merge_word){ (const uint8_t *)s, v[i].id, rank[i], n, 0 };
        symbols[i] = UINT64_MAX;
        v[i].n = n;
        if (w->m->raw_bytes)
            continue;
        word[i].s = NULL;
        word[i].n = cdl_merge_start_chars(w->m, s, n, v[i].id, rank[i]);
        if (word[i].n == UINT32_MAX)
            return false;
        symbols[i] = find_characters(s, n);
        v[i].n = (uint32_t)__builtin_popcountll(symbols[i]) == word[i].n; /* not so where bytes are symbols */
    }
    cdl_merge_pick()(w->m, word, k);
    for (uint32_t i = 0; i < k; i++) {
        if (word[i].n == UINT32_MAX)
            return false;
        v[i].n = v[i].n ? word[i].n : 0;
        v[i].first = select_bits(symbols[i], word[i].first);
    }
    return true;
}

static uint32_t count_below(uint64_t bits, uint32_t at)
{
    return (uint32_t)__builtin_popcountll(bits & (((uint64_t)1 << at) - 1));
}

/* A token of both windows, from that of number *from of the first on: its number there and in the second. */
static bool find_common(const window *a, const window *b, uint32_t from, uint32_t *in_a, uint32_t *in_b)
{
    uint32_t later = b->at - a->at;
    if (!b->n || later >= SMALL)
        return false;
    for (uint64_t both = a->first >> later & b->first; both; both &= both - 1) {
        uint32_t at = (uint32_t)__builtin_ctzll(both);
        *in_a = count_below(a->first, at + later);
        *in_b = count_below(b->first, at);
        if (*in_a >= from && a->id[*in_a] == b->id[*in_b])
            return true;
    }
    return false;
}

static void put_ids(walk *w, const window *v, uint32_t from, uint32_t to)
{
    memcpy(w->ids + w->now.out, v->id + from, (to - from) * sizeof *w->ids);
    w->now.out += to - from;
}

/* Puts the tokens of a window from one on, but the last ones unless the text ends with them. */
static bool put_last(walk *w, const window *v, uint32_t from)
{
    w->done = v->end == w->n;
    if (w->done) {
        put_ids(w, v, from, v->n);
        return true;
    }
    uint64_t ends = v->first & (((uint64_t)1 << (KEEP + 1)) - 1);
    uint32_t at = 63 - (uint32_t)__builtin_clzll(ends), number = count_below(v->first, at);
    for (; number > from && !begins_character(w, v->at + at); number--) {
        ends ^= (uint64_t)1 << at;
        at = 63 - (uint32_t)__builtin_clzll(ends);
    }
    if (number <= from)
        return false;
    put_ids(w, v, from, number);
    w->now.at = v->at + at;
    w->now.expected = v->id[number];
    return true;
}

/* false: the text has a symbol that is not known. Where windows do not meet, the next ones are single. */
static bool take_many(walk *w)
{
    window v[MANY];
    uint32_t k = 0, used = 1, from = 0, in_a, in_b;
    const place begin = w->now;
    for (uint32_t at = begin.at; k < w->many && (!k || v[k - 1].end < w->n); at += STRIDE) {
        v[k].at = k ? window_end(w, begin.at, at - begin.at) : at;
        v[k].end = window_end(w, v[k].at, SMALL);
        k++;
    }
    if (!merge_many(w, v, k))
        return false;
    bool meets = v[0].n && (begin.expected < 0 || v[0].id[0] == begin.expected);
    for (; meets && used < k && find_common(&v[used - 1], &v[used], from, &in_a, &in_b); used++) {
        put_ids(w, &v[used - 1], from, in_a);
        from = in_b;
    }
    bool ends = meets && put_last(w, &v[used - 1], from);
    w->many = used < k ? used + 1 : 2 * k < MANY ? 2 * k : MANY;
    if (used < 3 && !w->done) {
        w->pause = w->next_pause;
        w->next_pause = w->pause < PAUSE_MAX ? 2 * w->pause : PAUSE_MAX;
    } else {
        w->next_pause = PAUSE;
    }
    w->now = ends ? w->now : begin;
    w->before = ends ? begin : w->before;
    return true;
}

uint32_t cdl_bpe_windows(const cdl_token_model *m, const char *s, uint32_t n, int32_t *ids)
{
    walk w = { .m = m, .s = s, .n = n, .ids = ids, .least = SMALL, .size = SMALL, .many = MANY, .next_pause = PAUSE };
    w.now.expected = w.before.expected = -1;
    bool alone = cdl_merge_pick() == cdl_merge_words_plain;
    while (!w.done) {
        bool one = alone || w.pause || w.size > SMALL;
        w.pause -= w.pause > 0;
        if (!(one ? take_one(&w) : take_many(&w)))
            return UINT32_MAX;
    }
    return w.now.out;
}
