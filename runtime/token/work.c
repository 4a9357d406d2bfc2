/* work.c - the memory of one encode: lists of pieces, texts in the making. */
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/mem.h"
#include "base/utf8.h"
#include "token/unicode.h"
#include "token/words.h"

void cdl_work_free(cdl_token_work *w)
{
    cdl_arena_free(&w->arena);
    cdl_mem_free(w->piece);
    cdl_mem_free(w->next);
    cdl_mem_free(w->cut);
    cdl_mem_free(w->token);
    cdl_mem_free(w->edit);
    cdl_mem_free(w->edit_align);
    cdl_mem_free(w->scratch);
    cdl_scan_free(&w->map);
    cdl_words_free(w->words);
    *w = (cdl_token_work){ 0 };
}

enum { HUGE_PAGE = 2 << 20, LARGE = 2 * HUGE_PAGE, IN_FRONT = 64 }; /* bytes */

cuddle_status cdl_work_grow(void *p, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return CUDDLE_OK;
    size_t want = *cap < 64 ? 64 : *cap + *cap / 2;
    want = want < n ? n : want;
    void *old;
    memcpy(&old, p, sizeof old);
    size_t bytes;
    if (!cdl_mul(want, size, &bytes))
        return cdl_status_nomem("the tokens of a text");
    if (bytes > LARGE && bytes < SIZE_MAX / 2) { /* whole huge pages, which move as they are */
        bytes = ((bytes + IN_FRONT + HUGE_PAGE - 1) & ~((size_t)HUGE_PAGE - 1)) - IN_FRONT;
        want = bytes / size;
    }
    void *more = cdl_mem_huge(cdl_mem_realloc(old, bytes), bytes);
    if (!more)
        return cdl_status_nomem("the tokens of a text");
    memcpy(p, &more, sizeof more);
    *cap = want;
    return CUDDLE_OK;
}

/* A text grows by half in most tokenizers; ByteLevel behind NFKC makes 22 bytes of 3 of an Arabic ligature. */
enum { TEXT_ROOM = 1 << 20, TEXT_FACTOR = 16, ARENA_ROOM = 64 << 20, PARTS_MAX = 16,
       CHUNK = 2 << 20 };

void cdl_work_begin(cdl_token_work *w, size_t n, size_t parts)
{
    cdl_arena_reset(&w->arena);
    parts = 1 + (parts < PARTS_MAX ? parts : PARTS_MAX);
    w->text_max = TEXT_ROOM + TEXT_FACTOR * n;
    w->arena.bytes_max = w->arena.bytes + ARENA_ROOM + 2 * n * parts * (1 + sizeof(cdl_align));
}

static cuddle_status too_long(const cdl_token_work *w)
{
    return cdl_status_fail(CUDDLE_ERR_FULL, "normalizer, pre_tokenizer: over %zu bytes come of a short text; "
            "look at what they put into it", w->text_max);
}

cuddle_status cdl_work_check(const cdl_token_work *w, size_t n)
{
    return !w->text_max || n <= w->text_max ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_FULL,
            "model: over %zu tokens come of a short text; look at its prefix and suffix", w->text_max);
}

cuddle_status cdl_work_token(cdl_token_work *w, cdl_token t)
{
    if (w->n_token == w->cap_token) {
        CDL_TRY(cdl_work_check(w, w->n_token + 1));
        CDL_TRY(cdl_work_grow(&w->token, &w->cap_token, w->n_token + 1, sizeof *w->token));
    }
    w->token[w->n_token++] = t;
    return CUDDLE_OK;
}

cuddle_status cdl_work_slice(cdl_token_work *w, const cdl_piece *p, uint32_t begin, uint32_t end, int32_t id)
{
    if (begin >= end)
        return CUDDLE_OK;
    if (w->n_next == w->cap_next)
        CDL_TRY(cdl_work_grow(&w->next, &w->cap_next, w->n_next + 1, sizeof *w->next));
    uint32_t origin = p->align ? p->align[begin].begin : p->origin + begin;
    w->next[w->n_next++] = (cdl_piece){ p->s + begin, p->align ? p->align + begin : NULL, end - begin, origin, id };
    return CUDDLE_OK;
}

void cdl_work_turn(cdl_token_work *w)
{
    cdl_piece *v = w->piece;
    size_t cap = w->cap;
    w->piece = w->next;
    w->n = w->n_next;
    w->cap = w->cap_next;
    w->next = v;
    w->cap_next = cap;
    w->n_next = 0;
}

cuddle_status cdl_edit_put(cdl_token_work *w, const char *s, size_t n, cdl_align align)
{
    if (w->text_max && w->n_edit + n > w->text_max)
        return too_long(w);
    if (w->n_edit + n > w->cap_edit)
        CDL_TRY(cdl_work_grow(&w->edit, &w->cap_edit, w->n_edit + n, 1));
    if (w->offsets && w->n_edit + n > w->cap_align)
        CDL_TRY(cdl_work_grow(&w->edit_align, &w->cap_align, w->n_edit + n, sizeof *w->edit_align));
    if (!n)
        return CUDDLE_OK;
    memcpy(w->edit + w->n_edit, s, n);
    for (size_t i = 0; w->offsets && i < n; i++)
        w->edit_align[w->n_edit + i] = align;
    w->n_edit += n;
    return CUDDLE_OK;
}

cuddle_status cdl_edit_put_cp(cdl_token_work *w, uint32_t cp, cdl_align align)
{
    char utf8[4];
    return cdl_edit_put(w, utf8, cdl_utf8_put(utf8, cp), align);
}

cuddle_status cdl_edit_copy(cdl_token_work *w, const cdl_piece *p, uint32_t begin, uint32_t end)
{
    size_t at = w->n_edit;
    CDL_TRY(cdl_edit_put(w, p->s + begin, end - begin, (cdl_align){ 0, 0 }));
    if (p->align)
        memcpy(w->edit_align + at, p->align + begin, (end - begin) * sizeof *p->align);
    return CUDDLE_OK;
}

cuddle_status cdl_edit_end(cdl_token_work *w, cdl_piece *p)
{
    if (w->n_edit > UINT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_FULL, "a normalized text takes over 4 GiB");
    char *s = cdl_arena_alloc(&w->arena, w->n_edit);
    cdl_align *align = w->offsets ? cdl_arena_alloc(&w->arena, w->n_edit * sizeof *align) : NULL;
    if (!s || (w->offsets && !align))
        return w->arena.bytes_max && w->arena.bytes + w->n_edit * sizeof *align + CHUNK > w->arena.bytes_max
            ? too_long(w) : cdl_status_nomem("a normalized text");
    if (w->n_edit)
        memcpy(s, w->edit, w->n_edit);
    if (align && w->n_edit)
        memcpy(align, w->edit_align, w->n_edit * sizeof *align);
    p->s = s;
    p->align = align;
    p->n = (uint32_t)w->n_edit;
    return CUDDLE_OK;
}

enum { SHORT = 8 };            /* bytes of a text that is put by one store */

/* s [n] with each byte c as a short text; room for SHORT more than it becomes. */
static void replace_bytes(char *out, const char *s, size_t n, char c, const char *text, uint32_t n_text)
{
    size_t at = 0;
#ifdef __SSE2__
    const __m128i sought = _mm_set1_epi8(c);
    while (n - at >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(s + at));
        uint32_t hits = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, sought)) | 1u << 16;
        uint32_t k = (uint32_t)__builtin_ctz(hits);
        _mm_storeu_si128((__m128i *)out, v);
        out += k;
        at += k;
        if (k == 16)
            continue;
        memcpy(out, text, SHORT);
        out += n_text;
        at++;
    }
#endif
    for (; at < n; at++) {
        if (s[at] != c) {
            *out++ = s[at];
            continue;
        }
        memcpy(out, text, n_text);
        out += n_text;
    }
}

/* The same, as the piece's text, if nobody asks for origins; else, and where that fails, it stays. */
static bool replace_short(cdl_token_work *w, cdl_piece *p, char c, const char *text, uint32_t n)
{
    char padded[SHORT] = { 0 };
    size_t hits = 0;
    for (uint32_t i = 0; i < p->n; i++)
        hits += p->s[i] == c;
    size_t size = p->n + hits * n - hits;
    bool fits = size <= UINT32_MAX && (!w->text_max || size <= w->text_max);
    char *out = !w->offsets && n <= SHORT && fits ? cdl_arena_alloc(&w->arena, size + 16) : NULL;
    if (!out)
        return false;
    memcpy(padded, text, n);
    replace_bytes(out, p->s, p->n, c, padded, n);
    p->s = out;
    p->n = (uint32_t)size;
    return true;
}

cuddle_status cdl_edit_replace(cdl_token_work *w, cdl_piece *p, char c, const char *text, uint32_t n)
{
    const char *hit = p->n ? memchr(p->s, c, p->n) : NULL;
    if (!hit || replace_short(w, p, c, text, n))
        return CUDDLE_OK;
    uint32_t last = 0;
    cdl_edit_begin(w);
    for (uint32_t at; hit; hit = last < p->n ? memchr(p->s + last, c, p->n - last) : NULL) {
        at = (uint32_t)(hit - p->s);
        if (last < at)
            CDL_TRY(cdl_edit_copy(w, p, last, at));
        CDL_TRY(cdl_edit_put(w, text, n, cdl_align_at(p, at)));
        last = at + 1;
    }
    if (last < p->n)
        CDL_TRY(cdl_edit_copy(w, p, last, p->n));
    return cdl_edit_end(w, p);
}

cuddle_status cdl_edit_bytes(cdl_token_work *w, cdl_piece *p)
{
    cdl_edit_begin(w);
    for (uint32_t i = 0; i < p->n; i++)
        CDL_TRY(cdl_edit_put_cp(w, cdl_unicode_from_byte((uint8_t)p->s[i]), cdl_align_at(p, i)));
    return cdl_edit_end(w, p);
}
