/* post.c - truncation, post-processors, padding.
 *
 * Truncation cuts a text into parts: the first stays, the others overflow. Every part is framed
 * (special tokens around it) the same way; with a pair each part of one meets each of the other. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/unicode.h"

typedef struct {
    uint32_t begin, end;
} part;

typedef struct {
    const cuddle_encoding *e;
    part *v;                   /* [n], in the work's arena */
    uint32_t n;
} parts;

enum { TOKEN_BYTES = 28 };    /* of the arrays */

/* ---- Special tokens ---- */

static uint32_t added_count(const cuddle_tokenizer *t, bool pair)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < t->n_post; k++) {
        const cdl_post *p = &t->post[k];
        if (p->type == CDL_POST_BERT)
            n += pair ? 3 : 2;
        if (p->type == CDL_POST_ROBERTA)
            n += pair ? 4 : 2;
        const cdl_template_item *item = pair ? p->pair : p->single;
        for (uint32_t i = 0; p->type == CDL_POST_TEMPLATE && i < (pair ? p->n_pair : p->n_single); i++)
            n += item[i].sequence < 0 ? item[i].n : 0;
    }
    return n;
}

/* What those take, in tokens: their texts count too. */
static size_t added_cost(const cuddle_tokenizer *t, bool pair)
{
    size_t n = 0;
    for (uint32_t k = 0; k < t->n_post; k++) {
        const cdl_post *p = &t->post[k];
        if (p->type == CDL_POST_BERT || p->type == CDL_POST_ROBERTA)
            n += 4 + (strlen(p->cls_text) + 3 * strlen(p->sep_text)) / TOKEN_BYTES;
        const cdl_template_item *item = pair ? p->pair : p->single;
        for (uint32_t i = 0; p->type == CDL_POST_TEMPLATE && i < (pair ? p->n_pair : p->n_single); i++)
            for (uint32_t m = 0; item[i].sequence < 0 && m < item[i].n; m++)
                n += 1 + strlen(item[i].texts[m]) / TOKEN_BYTES;
    }
    return n;
}

size_t cuddle_tokenizer_added_count(const cuddle_tokenizer *t, bool pair)
{
    return added_count(t, pair);
}

/* ---- Truncation ---- */

/* Parts that overlap and templates make many tokens of few. */
enum { TOKENS_ROOM = 1 << 22, TOKENS_FACTOR = 4, PART_COST = 64 /* tokens: the memory of an encoding */ };

static cuddle_status take_room(size_t *room, size_t n)
{
    if (n > *room)
        return cdl_status_fail(CUDDLE_ERR_FULL, "truncation, post_processor, padding: too many tokens come of a "
                "short text; look at stride, template and lengths");
    *room -= n;
    return CUDDLE_OK;
}

static cuddle_status cut_parts(const cuddle_tokenizer *t, cdl_arena *a, parts *p, size_t max)
{
    size_t n = p->e->n, stride = t->truncation.stride;
    if (max >= n)
        return CUDDLE_OK;
    if (max && stride >= max)
        return cdl_status_fail(CUDDLE_ERR_ARG,
                "truncation's stride %zu must be below the %zu tokens that a part may hold",
                stride, max);
    size_t step = max ? max - stride : n, count = max ? (n - max + step - 1) / step + 1 : 2;
    p->v = cdl_arena_alloc(a, count * sizeof *p->v);
    if (!p->v)
        return cdl_status_nomem("the parts of a truncated text");
    p->n = 0;
    if (!max) { /* nothing stays, all overflows */
        p->v[p->n++] = (part){ 0, 0 };
        p->v[p->n++] = (part){ 0, (uint32_t)n };
        return CUDDLE_OK;
    }
    for (size_t at = 0; ; at += step) {
        size_t end = at + max < n ? at + max : n;
        part x = { (uint32_t)at, (uint32_t)end };
        if (t->truncation.left)
            x = (part){ (uint32_t)(n - end), (uint32_t)(n - at) };
        p->v[p->n++] = x;
        if (end == n)
            return CUDDLE_OK;
    }
}

static cuddle_status truncate_longest(const cuddle_tokenizer *t, cdl_arena *a, parts *x, parts *y, size_t max)
{
    if (!y->e)
        return cut_parts(t, a, x, max);
    size_t n1 = x->e->n, n2 = y->e->n;
    bool swap = n1 > n2;
    if (swap) {
        n1 = y->e->n;
        n2 = x->e->n;
    }
    n2 = n1 > max ? n1 : n1 > max - n1 ? n1 : max - n1;
    if (n1 + n2 > max) {
        n1 = max / 2;
        n2 = n1 + max % 2;
    }
    CDL_TRY(cut_parts(t, a, x, swap ? n2 : n1));
    return cut_parts(t, a, y, swap ? n1 : n2);
}

static cuddle_status truncate_texts(const cuddle_tokenizer *t, cdl_arena *a, parts *x, parts *y, bool framed)
{
    size_t max = t->truncation.max, added = framed ? added_count(t, y->e != NULL) : 0;
    if (max < added) /* Hugging Face's difference wraps around: nothing is cut */
        return CUDDLE_OK;
    max -= added;
    size_t total = x->e->n + (y->e ? y->e->n : 0);
    if (max == 0) {
        CDL_TRY(cut_parts(t, a, x, 0));
        return y->e ? cut_parts(t, a, y, 0) : CUDDLE_OK;
    }
    if (total <= max)
        return CUDDLE_OK;
    if (t->truncation.strategy == CDL_LONGEST_FIRST)
        return truncate_longest(t, a, x, y, max);
    parts *target = t->truncation.strategy == CDL_ONLY_FIRST ? x : y;
    if (!target->e)
        return cdl_status_fail(CUDDLE_ERR_ARG, "truncation OnlySecond needs a pair");
    if (target->e->n <= total - max)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the text to truncate is too short to give up %zu tokens", total - max);
    return cut_parts(t, a, target, target->e->n - (total - max));
}

/* ---- Framing ---- */

static bool is_space(uint32_t cp)
{
    return cp == 0x120 || cdl_unicode(cp) & CDL_UC_RUST_SPACE; /* U+0120 is ByteLevel's space */
}

static uint32_t leading_spaces(const char *s, size_t n)
{
    uint32_t cp, count = 0;
    for (size_t i = 0, k; i < n && (k = cdl_utf8_get(s + i, n - i, &cp)) && is_space(cp); i += k)
        count++;
    return count;
}

static uint32_t trailing_spaces(const char *s, size_t n)
{
    uint32_t cp, count = 0;
    while (n) {
        size_t i = n;
        while (i && (s[--i] & 0xc0) == 0x80)
            ;
        if (!cdl_utf8_get(s + i, n - i, &cp) || !is_space(cp))
            break;
        count++;
        n = i;
    }
    return count;
}

/* Takes the spaces that ByteLevel tokens carry out of the offsets of tokens [begin, n). */
static void trim_offsets(const cuddle_tokenizer *t, cuddle_encoding *e, size_t begin, bool add_prefix_space)
{
    for (size_t i = begin; i < e->n; i++) {
        size_t n;
        const char *s = cuddle_encoding_token(e, t, i, &n);
        uint32_t *o = e->offsets + 2 * i, lead = s ? leading_spaces(s, n) : 0, trail = s ? trailing_spaces(s, n) : 0;
        if (lead == 1 && add_prefix_space && (i == begin || o[0] == 0))
            lead = 0; /* it was put there */
        if (lead)
            o[0] = o[0] + lead < o[1] ? o[0] + lead : o[1];
        if (trail && o[1] >= trail)
            o[1] = o[1] - trail > o[0] ? o[1] - trail : o[0];
    }
}

typedef struct {
    const cuddle_tokenizer *t;
    cuddle_encoding *out;
    bool special;              /* add special tokens */
    size_t room;               /* tokens that may come yet                    */
    size_t cost;               /* what a part takes besides those of the text */
} framing;

static cuddle_status add_sequence(framing *f, const parts *p, uint32_t index, int type)
{
    size_t begin = f->out->n;
    CDL_TRY(take_room(&f->room, p->v[index].end - p->v[index].begin));
    CDL_TRY(cdl_encoding_append(f->out, p->e, p->v[index].begin, p->v[index].end));
    if (!f->out->full)
        return CUDDLE_OK;
    if (type >= 0)
        memset(f->out->types + begin, type, f->out->n - begin);
    for (uint32_t k = 0; k < f->t->n_post; k++)
        if (f->t->post[k].trim_offsets)
            trim_offsets(f->t, f->out, begin, f->t->post[k].add_prefix_space);
    return CUDDLE_OK;
}

static cuddle_status frame_template(framing *f, const cdl_post *p, const parts *x, uint32_t i, const parts *y,
        uint32_t j)
{
    const cdl_template_item *item = y->e ? p->pair : p->single;
    uint32_t n = y->e ? p->n_pair : p->n_single;
    for (uint32_t k = 0; k < n; k++, item++) {
        if (item->sequence == 0)
            CDL_TRY(add_sequence(f, x, i, i == 0 ? item->type : -1));
        if (item->sequence == 1 && y->e)
            CDL_TRY(add_sequence(f, y, j, j == 0 ? item->type : -1));
        for (uint32_t m = 0; item->sequence < 0 && f->special && m < item->n; m++)
            CDL_TRY(cdl_encoding_add(f->out, item->ids[m], item->texts[m], item->type, true));
    }
    return CUDDLE_OK;
}

/* [CLS] A [SEP] B [SEP]; RoBERTa: <s> A </s> </s> B </s>, all of type 0. */
static cuddle_status frame_bert(framing *f, const cdl_post *p, const parts *x, uint32_t i, const parts *y, uint32_t j)
{
    bool roberta = p->type == CDL_POST_ROBERTA;
    if (f->special)
        CDL_TRY(cdl_encoding_add(f->out, p->cls, p->cls_text, 0, true));
    CDL_TRY(add_sequence(f, x, i, roberta ? 0 : -1));
    if (f->special)
        CDL_TRY(cdl_encoding_add(f->out, p->sep, p->sep_text, 0, true));
    if (!y->e)
        return CUDDLE_OK;
    if (f->special && roberta)
        CDL_TRY(cdl_encoding_add(f->out, p->sep, p->sep_text, 0, true));
    CDL_TRY(add_sequence(f, y, j, roberta && (f->special || j == 0) ? 0 : -1));
    return f->special ? cdl_encoding_add(f->out, p->sep, p->sep_text, roberta ? 0 : 1, true) : CUDDLE_OK;
}

static cuddle_status frame(framing *f, const parts *x, uint32_t i, const parts *y, uint32_t j)
{
    cdl_encoding_clear(f->out);
    CDL_TRY(take_room(&f->room, f->cost));
    CDL_TRY(cdl_encoding_reserve(f->out, 1));
    for (uint32_t k = 0; k < f->t->n_post; k++) {
        const cdl_post *p = &f->t->post[k];
        if (p->type == CDL_POST_TEMPLATE)
            return frame_template(f, p, x, i, y, j);
        if (p->type != CDL_POST_BYTE_LEVEL)
            return frame_bert(f, p, x, i, y, j);
    }
    CDL_TRY(add_sequence(f, x, i, -1));
    return y->e ? add_sequence(f, y, j, -1) : CUDDLE_OK;
}

/* ---- Padding ---- */

static cuddle_status pad(const cuddle_tokenizer *t, cuddle_encoding *e, size_t length)
{
    size_t n = e->n, missing = length > n ? length - n : 0;
    for (size_t i = 0; i < missing; i++)
        CDL_TRY(cdl_encoding_add(e, t->padding.id, i ? NULL : t->padding.text, t->padding.type, false));
    uint32_t value = e->full && missing ? e->value[n] : 0; /* one text for all of them */
    for (size_t i = n; i < length && e->full; i++)
        e->value[i] = value;
    if (!t->padding.left || !missing || !n)
        return CUDDLE_OK;
    /* move the text to the end and spread padding in front */
    memmove(e->ids + missing, e->ids, n * sizeof *e->ids);
    for (size_t i = 0; i < missing; i++)
        e->ids[i] = t->padding.id;
    if (!e->full)
        return CUDDLE_OK;
    memmove(e->words + missing, e->words, n * sizeof *e->words);
    memmove(e->offsets + 2 * missing, e->offsets, 2 * n * sizeof *e->offsets);
    memmove(e->types + missing, e->types, n);
    memmove(e->special + missing, e->special, n);
    memmove(e->attention + missing, e->attention, n);
    memmove(e->sequence + missing, e->sequence, n);
    memmove(e->value + missing, e->value, n * sizeof *e->value);
    memset(e->words, 0xff, missing * sizeof *e->words);
    memset(e->offsets, 0, 2 * missing * sizeof *e->offsets);
    memset(e->types, t->padding.type, missing);
    memset(e->special, 1, missing);
    memset(e->attention, 0, missing);
    memset(e->sequence, 2, missing);
    for (size_t i = 0; i < missing; i++)
        e->value[i] = value;
    return CUDDLE_OK;
}

static size_t padded(const cuddle_tokenizer *t, size_t longest)
{
    size_t n = t->padding.longest ? longest : t->padding.fixed, m = t->padding.multiple;
    return m && n % m ? n + m - n % m : n;
}

cuddle_status cuddle_tokenizer_pad(const cuddle_tokenizer *t, cuddle_encoding *const *e, size_t n)
{
    size_t longest = 0;
    if (!t->padding.on)
        return CUDDLE_OK;
    for (size_t i = 0; i < n; i++)
        longest = e[i]->n > longest ? e[i]->n : longest;
    longest = padded(t, longest);
    for (size_t i = 0; i < n; i++) {
        size_t room = TOKENS_ROOM + TOKENS_FACTOR * e[i]->n * (1 + e[i]->n_over);
        CDL_TRY(take_room(&room, longest * e[i]->n_over));
        CDL_TRY(pad(t, e[i], longest));
        for (size_t k = 0; k < e[i]->n_over; k++)
            CDL_TRY(pad(t, e[i]->over[k], longest));
    }
    return CUDDLE_OK;
}

/* ---- All of it ---- */

static cuddle_status add_over(cuddle_encoding *e, cuddle_encoding **out)
{
    if (e->n_over == e->cap_over) {
        size_t cap = e->cap_over;
        CDL_TRY(cdl_work_grow(&e->over, &cap, e->n_over + 1, sizeof *e->over));
        memset(e->over + e->cap_over, 0, (cap - e->cap_over) * sizeof *e->over);
        e->cap_over = cap;
    }
    if (!e->over[e->n_over])
        CDL_TRY(cuddle_encoding_new(&e->over[e->n_over]));
    *out = e->over[e->n_over++];
    (*out)->full = e->full;
    return CUDDLE_OK;
}

/* The tokens of two encodings change places; scratch and overflow stay. */
static void swap_tokens(cuddle_encoding *a, cuddle_encoding *b)
{
    cuddle_encoding x = *a, y = *b;
    *a = y;
    a->work = x.work;
    a->pair = x.pair;
    a->frame = x.frame;
    a->over = x.over;
    a->n_over = x.n_over;
    a->cap_over = x.cap_over;
    *b = x;
    b->work = y.work;
    b->pair = y.pair;
    b->frame = y.frame;
    b->over = y.over;
    b->n_over = y.n_over;
    b->cap_over = y.cap_over;
}

/* Whether the template has the pair before the text. */
static bool pair_leads(const cuddle_tokenizer *t)
{
    for (uint32_t k = 0; k < t->n_post; k++)
        for (uint32_t i = 0; t->post[k].type == CDL_POST_TEMPLATE && i < t->post[k].n_pair; i++)
            if (t->post[k].pair[i].sequence >= 0)
                return t->post[k].pair[i].sequence == 1;
    return false;
}

static cuddle_status frame_over(framing *f, cuddle_encoding *e, const parts *x, uint32_t i, const parts *y, uint32_t j)
{
    CDL_TRY(add_over(e, &f->out));
    return frame(f, x, i, y, j);
}

static cuddle_status frame_all(const cuddle_tokenizer *t, cuddle_encoding *e, const parts *x, const parts *y,
        bool special)
{
    if (!e->frame)
        CDL_TRY(cuddle_encoding_new(&e->frame));
    e->frame->full = e->full;
    size_t tokens = x->e->n + (y->e ? y->e->n : 0);
    framing f = { t, e->frame, special, TOKENS_ROOM + TOKENS_FACTOR * tokens, PART_COST };
    f.cost += special ? added_cost(t, y->e != NULL) : 0;
    bool swap = y->e && pair_leads(t);
    uint32_t ny = y->e ? y->n : 1, n1 = swap ? ny : x->n, n2 = swap ? x->n : ny;
    for (uint32_t i = 1; i < n1; i++)
        for (uint32_t j = 0; j < n2; j++)
            CDL_TRY(frame_over(&f, e, x, swap ? j : i, y, swap ? i : j));
    for (uint32_t j = 1; j < n2; j++)
        CDL_TRY(frame_over(&f, e, x, swap ? j : 0, y, swap ? 0 : j));
    f.out = e->frame;
    CDL_TRY(frame(&f, x, 0, y, 0));
    swap_tokens(e, e->frame);
    return CUDDLE_OK;
}

/* Whether framing a lone text leaves its ids as they are. */
static bool keeps_ids(const cuddle_tokenizer *t, bool special)
{
    if (special && added_count(t, false))
        return false;
    for (uint32_t k = 0; k < t->n_post; k++) {
        const cdl_post *p = &t->post[k];
        uint32_t texts = 0;
        for (uint32_t i = 0; p->type == CDL_POST_TEMPLATE && i < p->n_single; i++)
            texts += p->single[i].sequence == 0;
        if (p->type == CDL_POST_TEMPLATE && texts != 1)
            return false;
    }
    return true;
}

cuddle_status cdl_post_run(const cuddle_tokenizer *t, cuddle_encoding *e, cuddle_encoding *pair,
        const cuddle_encode_opts *o)
{
    part whole_x = { 0, (uint32_t)e->n }, whole_y = { 0, pair ? (uint32_t)pair->n : 0 };
    parts x = { e, &whole_x, 1 }, y = { pair, &whole_y, 1 };
    if (t->truncation.on && !o->no_truncation)
        CDL_TRY(truncate_texts(t, &e->work.arena, &x, &y, !o->no_special_tokens));
    bool same = !pair && x.n == 1 && (t->n_post == 0 || (!e->full && keeps_ids(t, !o->no_special_tokens)));
    if (!same)
        CDL_TRY(frame_all(t, e, &x, &y, !o->no_special_tokens));
    return o->no_padding ? CUDDLE_OK : cuddle_tokenizer_pad(t, &e, 1);
}
