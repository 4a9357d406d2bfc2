/* train_unigram.c - Unigram (Kudo 2018): from all frequent substrings down, by expectation and maximisation.
 *
 * The texts' words are sentences of characters, each with how often it stands. Pieces are places in them. Every
 * round counts how often each piece is expected in all cuts of all sentences (forward and backward sums), gives it
 * the score of that count, and drops those whose loss costs least until the vocabulary is small enough.
 * Results: those of UnigramTrainer in the tokenizers package, but for the last bits of sums, whose order depends there
 * on a hash table and on threads. Of pieces with equal scores the one with the smaller text comes first here.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/train.h"
#include "token/train_suffix.h"

enum { CODE_POINTS = 0x110000, NODE_SLOTS_FIRST = 1 << 12, TELL_STEP = 1 << 14 };

static const double UNK_PENALTY = 10, FREQUENCY_MIN = 0.5, REQUIRED_STEP = 1e-4;

typedef struct {
    uint32_t at, n;            /* letters of the text; n 0: the unknown piece */
    double score;              /* seeds: how often it stands, times its length */
} piece;

typedef struct {
    uint64_t key;              /* node and letter, or EMPTY */
    uint32_t node;
} edge;

#define EMPTY UINT64_MAX

typedef struct {
    uint32_t begin, end, piece; /* letters of a sentence */
} span;

typedef struct {
    cdl_learning *l;
    int32_t *text;             /* [n]: letters by their order in letter, 0 behind each sentence */
    uint32_t *letter;          /* [letters]: code points, rising; the first is the end of a sentence */
    uint32_t *first;           /* [sentences + 1]: places in text */
    size_t n, letters, sentences;
    piece *p, *next;           /* the first is the unknown piece */
    size_t n_p, cap_p, cap_next;
    double score_min;
    edge *edge;                /* a trie of the pieces */
    size_t slots, edges;
    uint32_t *at_node;         /* [nodes]: twice 1 + the piece that ends there, 0: none; and 1 if it goes on */
    size_t nodes, cap_nodes;
    span *span;                /* of the sentence at hand, by their begins */
    size_t n_span, cap_span;
    double *sum, *back;        /* [letters of the longest sentence + 1] */
    uint32_t *from;            /* Viterbi: 1 + the span that ends there on the best way, 0: none */
    size_t longest;
    double *expected, *freq;   /* [n_p] */
    uint8_t *required;         /* [CODE_POINTS]: must be in the vocabulary */
    size_t n_required;
} unigram;

/* ---- The texts ---- */

static cuddle_status number_letters(unigram *u, int32_t *order)
{
    const cdl_learning *l = u->l;
    memset(order, 0, CODE_POINTS * sizeof *order);
    for (size_t i = 0; i < l->words->n; i++) {
        const cdl_counted *k = &l->words->v[i];
        uint32_t cp;
        for (size_t at = 0; at < k->n; order[cp] = 1, u->n++)
            at += cdl_learning_char(l, l->words->text + k->at + at, k->n - at, &cp);
    }
    order[0] = 1;
    for (uint32_t cp = 0; cp < CODE_POINTS; cp++)
        u->letters += order[cp] != 0;
    u->letter = cdl_mem_array(u->letters, sizeof *u->letter);
    if (!u->letter)
        return cdl_status_nomem("the alphabet");
    size_t n = 0;
    for (uint32_t cp = 0; cp < CODE_POINTS; cp++)
        if (order[cp]) {
            order[cp] = (int32_t)n;
            u->letter[n++] = cp;
        }
    return CUDDLE_OK;
}

static cuddle_status write_sentences(unigram *u, const int32_t *order)
{
    const cdl_learning *l = u->l;
    u->sentences = l->words->n;
    u->n += u->sentences;
    if (u->n > INT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_FULL, "over 2 billion characters in different words; feed less text");
    u->text = cdl_mem_array(u->n, sizeof *u->text);
    u->first = cdl_mem_array(u->sentences + 1, sizeof *u->first);
    if (!u->text || !u->first)
        return cdl_status_nomem("the words of the texts");
    size_t to = 0;
    for (size_t i = 0; i < u->sentences; i++) {
        const cdl_counted *k = &l->words->v[i];
        uint32_t cp;
        u->first[i] = (uint32_t)to;
        for (size_t at = 0; at < k->n; u->text[to++] = order[cp])
            at += cdl_learning_char(l, l->words->text + k->at + at, k->n - at, &cp);
        u->longest = to - u->first[i] > u->longest ? to - u->first[i] : u->longest;
        u->text[to++] = 0;
    }
    u->first[u->sentences] = (uint32_t)to;
    u->sum = cdl_mem_array(u->longest + 1, sizeof *u->sum);
    u->back = cdl_mem_array(u->longest + 1, sizeof *u->back);
    u->from = cdl_mem_array(u->longest + 1, sizeof *u->from);
    return u->sum && u->back && u->from ? CUDDLE_OK : cdl_status_nomem("the words of the texts");
}

/* Characters that every text can be written with: of the texts, and those asked for. */
static cuddle_status mark_required(unigram *u)
{
    const char *s = u->l->o.initial_alphabet;
    uint32_t cp;
    u->required = cdl_mem_zalloc(CODE_POINTS, 1);
    if (!u->required)
        return cdl_status_nomem("the alphabet");
    for (size_t i = 1; i < u->letters; i++)
        u->required[u->letter[i]] = 1;
    for (size_t k, left = strlen(s); left; s += k, left -= k) {
        k = cdl_utf8_get(s, left, &cp);
        u->required[cp] = 1;
    }
    for (uint32_t c = 0; c < CODE_POINTS; c++)
        u->n_required += u->required[c];
    return u->n_required <= u->l->o.vocab_size ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_ARG,
            "a vocabulary of %u has no room for an alphabet of %zu; make it larger", u->l->o.vocab_size, u->n_required);
}

/* ---- Seeds ---- */

typedef struct {
    unigram *u;
    cuddle_status status;
} seeding;

static void add_seed(void *user, int32_t at, int32_t n, int32_t count)
{
    seeding *s = user;
    unigram *u = s->u;
    if (n < 2 || (uint32_t)n > u->l->o.piece_chars_max || s->status != CUDDLE_OK)
        return;
    for (int32_t i = 0; i < n; i++)
        if (!u->text[at + i])
            return;
    s->status = cdl_work_grow(&u->p, &u->cap_p, u->n_p + 1, sizeof *u->p);
    if (s->status == CUDDLE_OK)
        u->p[u->n_p++] = (piece){ (uint32_t)at, (uint32_t)n, (double)((uint32_t)count * (uint32_t)n) };
}

/* qsort has no room for what comparisons need. */
static _Thread_local const unigram *sorted;

static int compare_texts(const piece *x, const piece *y)
{
    const int32_t *a = sorted->text + x->at, *b = sorted->text + y->at;
    for (uint32_t i = 0; i < x->n && i < y->n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return (x->n > y->n) - (x->n < y->n);
}

/* The highest score first, of equal ones the larger text. */
static int by_seed_score(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : compare_texts(y, x);
}

/* Characters: how often they stand, in all words. */
static cuddle_status seed_letters(unigram *u)
{
    piece *one = cdl_mem_zalloc(u->letters, sizeof *one);
    if (!one)
        return cdl_status_nomem("the pieces");
    for (size_t i = 0; i < u->sentences; i++)
        for (uint32_t at = u->first[i]; at + 1 < u->first[i + 1]; at++) {
            piece *p = &one[u->text[at]];
            p->score += (double)u->l->words->v[i].count;
            *p = (piece){ at, 1, p->score };
        }
    cuddle_status st = cdl_work_grow(&u->p, &u->cap_p, u->letters + 1, sizeof *u->p);
    u->n_p = 1;
    for (size_t i = 1; i < u->letters && st == CUDDLE_OK; i++)
        u->p[u->n_p++] = one[i];
    if (st == CUDDLE_OK)
        u->p[0] = (piece){ .score = NAN };
    cdl_mem_free(one);
    return st;
}

static cuddle_status seed(unigram *u)
{
    CDL_TRY(seed_letters(u));
    sorted = u;
    qsort(u->p + 1, u->n_p - 1, sizeof *u->p, by_seed_score);
    size_t letters = u->n_p, most = u->l->o.seed_size;
    seeding s = { u, CUDDLE_OK };
    CDL_TRY(cdl_substrings(u->text, (int32_t)u->n, (int32_t)u->letters - 1, add_seed, &s));
    CDL_TRY(s.status);
    qsort(u->p + letters, u->n_p - letters, sizeof *u->p, by_seed_score);
    most = most > letters ? most : letters; /* at least one substring, as in the library */
    u->n_p = u->n_p > most + 1 ? most + 1 : u->n_p;
    double sum = 0;
    for (size_t i = 1; i < u->n_p; i++)
        sum += u->p[i].score;
    for (size_t i = 1; i < u->n_p; i++)
        u->p[i].score = log(u->p[i].score) - log(sum);
    return CUDDLE_OK;
}

/* ---- The trie ---- */

static size_t hash_edge(uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 24);
}

static edge *find_edge(const unigram *u, uint64_t key)
{
    size_t at = hash_edge(key) & (u->slots - 1);
    while (u->edge[at].key != key && u->edge[at].key != EMPTY)
        at = (at + 1) & (u->slots - 1);
    return &u->edge[at];
}

static cuddle_status grow_edges(unigram *u)
{
    edge *old = u->edge;
    size_t n = u->slots;
    u->slots = n ? 2 * n : NODE_SLOTS_FIRST;
    u->edge = cdl_mem_array(u->slots, sizeof *u->edge);
    if (!u->edge) {
        u->edge = old;
        u->slots = n;
        return cdl_status_nomem("the pieces");
    }
    memset(u->edge, 0xff, u->slots * sizeof *u->edge);
    for (size_t i = 0; i < n; i++)
        if (old[i].key != EMPTY)
            *find_edge(u, old[i].key) = old[i];
    cdl_mem_free(old);
    return CUDDLE_OK;
}

static cuddle_status add_node(unigram *u, uint32_t *node)
{
    CDL_TRY(cdl_work_grow(&u->at_node, &u->cap_nodes, u->nodes + 1, sizeof *u->at_node));
    *node = (uint32_t)u->nodes;
    u->at_node[u->nodes++] = 0;
    return CUDDLE_OK;
}

static cuddle_status plant(unigram *u, uint32_t index)
{
    const piece *p = &u->p[index];
    uint32_t node = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t key = (uint64_t)node * u->letters + (uint32_t)u->text[p->at + i];
        if (2 * u->edges >= u->slots)
            CDL_TRY(grow_edges(u));
        edge *e = find_edge(u, key);
        if (e->key == EMPTY) {
            CDL_TRY(add_node(u, &e->node));
            u->at_node[node] |= 1;
            e->key = key;
            u->edges++;
        }
        node = e->node;
    }
    u->at_node[node] |= 2 * (index + 1);
    return CUDDLE_OK;
}

static cuddle_status make_trie(unigram *u)
{
    uint32_t root;
    u->nodes = u->edges = 0;
    if (u->edge)
        memset(u->edge, 0xff, u->slots * sizeof *u->edge);
    CDL_TRY(add_node(u, &root));
    u->score_min = INFINITY;
    for (size_t i = 1; i < u->n_p; i++) {
        CDL_TRY(plant(u, (uint32_t)i));
        u->score_min = u->p[i].score < u->score_min ? u->p[i].score : u->score_min;
    }
    return CUDDLE_OK;
}

/* All pieces in text[at, at + n); a character that is none is unknown. */
static cuddle_status find_spans(unigram *u, size_t at, uint32_t n)
{
    u->n_span = 0;
    for (uint32_t begin = 0; begin < n; begin++) {
        uint32_t node = 0, here = 1;
        bool single = false;
        if (u->n_span + u->l->o.piece_chars_max >= u->cap_span)
            CDL_TRY(cdl_work_grow(&u->span, &u->cap_span, u->n_span + u->l->o.piece_chars_max + 1, sizeof *u->span));
        for (uint32_t end = begin; end < n && here & 1; ) {
            const edge *e = find_edge(u, (uint64_t)node * u->letters + (uint32_t)u->text[at + end++]);
            if (e->key == EMPTY)
                break;
            node = e->node;
            here = u->at_node[node];
            if (here < 2)
                continue;
            u->span[u->n_span++] = (span){ begin, end, here / 2 - 1 };
            single |= end == begin + 1;
        }
        if (!single)
            u->span[u->n_span++] = (span){ begin, begin + 1, 0 };
    }
    return CUDDLE_OK;
}

static double score_of(const unigram *u, const span *s)
{
    return s->piece ? u->p[s->piece].score : u->score_min - UNK_PENALTY;
}

/* ---- Expectation ---- */

/* log(exp(a) + exp(b)) */
static double add_logs(double a, double b)
{
    double high = a > b ? a : b, low = a > b ? b : a;
    return high > low + 50 ? high : high + log1p(exp(low - high));
}

/* Adds what is expected of a sentence that stands count times. */
static void expect(unigram *u, uint32_t n, double count)
{
    for (uint32_t i = 0; i <= n; i++)
        u->sum[i] = u->back[i] = -INFINITY;
    u->sum[0] = u->back[n] = 0;
    for (size_t i = 0; i < u->n_span; i++) {
        const span *s = &u->span[i];
        u->sum[s->end] = add_logs(u->sum[s->end], u->sum[s->begin] + score_of(u, s));
    }
    for (size_t i = u->n_span; i-- > 0; ) {
        const span *s = &u->span[i];
        u->back[s->begin] = add_logs(u->back[s->begin], u->back[s->end] + score_of(u, s));
    }
    for (size_t i = 0; i < u->n_span; i++) {
        const span *s = &u->span[i];
        u->expected[s->piece] += count * exp(u->sum[s->begin] + score_of(u, s) + u->back[s->end] - u->sum[n]);
    }
}

static uint32_t sentence_length(const unigram *u, size_t i)
{
    return u->first[i + 1] - u->first[i] - 1;
}

static cuddle_status expect_all(unigram *u)
{
    memset(u->expected, 0, u->n_p * sizeof *u->expected);
    for (size_t i = 0; i < u->sentences; i++) {
        uint32_t n = sentence_length(u, i);
        CDL_TRY(find_spans(u, u->first[i], n));
        expect(u, n, (double)u->l->words->v[i].count);
        if (i % TELL_STEP == 0)
            CDL_TRY(cdl_learning_progress(u->l, "expecting", i, u->sentences));
    }
    return CUDDLE_OK;
}

static double digamma(double x)
{
    double result = 0;
    for (; x < 7; x++)
        result -= 1 / x;
    x -= 0.5;
    double r2 = 1 / x / x, r4 = r2 * r2;
    return result + log(x) + r2 / 24 - 7.0 / 960 * r4 + 31.0 / 8064 * r4 * r2 - 127.0 / 30720 * r4 * r4;
}

/* Scores from what was expected; pieces that are hardly expected go. A sparse prior: digamma instead of log. */
static void maximise(unigram *u)
{
    size_t n = 1;
    double sum = 0;
    for (size_t i = 1; i < u->n_p; i++) {
        if (u->expected[i] < FREQUENCY_MIN)
            continue;
        u->p[n] = u->p[i];
        u->p[n++].score = u->expected[i];
        sum += u->expected[i];
    }
    u->n_p = n;
    double log_sum = digamma(sum);
    for (size_t i = 1; i < n; i++)
        u->p[i].score = digamma(u->p[i].score) - log_sum;
}

/* ---- Pruning ---- */

/* The best way through the spans of n characters, without the one that takes them all if whole is false; its score,
 * its last span in from[n]. */
static double best_way(unigram *u, uint32_t n, bool whole)
{
    memset(u->from, 0, (n + (size_t)1) * sizeof *u->from);
    u->sum[0] = 0;
    for (size_t i = 0; i < u->n_span; i++) {
        const span *s = &u->span[i];
        if ((!whole && s->end - s->begin == n) || (s->begin && !u->from[s->begin]))
            continue;
        double score = u->sum[s->begin] + score_of(u, s);
        if (u->from[s->end] && score <= u->sum[s->end])
            continue;
        u->sum[s->end] = score;
        u->from[s->end] = (uint32_t)i + 1;
    }
    return u->from[n] || !n ? u->sum[n] : -INFINITY;
}

static const span *last_span(const unigram *u, uint32_t end)
{
    return &u->span[u->from[end] - 1];
}

static cuddle_status count_best_ways(unigram *u)
{
    memset(u->freq, 0, u->n_p * sizeof *u->freq);
    for (size_t i = 0; i < u->sentences; i++) {
        uint32_t n = sentence_length(u, i);
        CDL_TRY(find_spans(u, u->first[i], n));
        best_way(u, n, true);
        for (uint32_t end = n; end; end = last_span(u, end)->begin)
            u->freq[last_span(u, end)->piece] += (double)u->l->words->v[i].count;
    }
    return CUDDLE_OK;
}

typedef struct {
    double sum, words;         /* of freq, of the words' counts */
} totals;

typedef enum { DROP, KEEP, MAY_DROP } verdict;

/* What becomes of a piece, and how much likelihood it would cost to write it by others. */
static cuddle_status judge(unigram *u, uint32_t i, const totals *t, verdict *v, double *loss)
{
    const piece *p = &u->p[i];
    CDL_TRY(find_spans(u, p->at, p->n));
    double other = best_way(u, p->n, false), f = u->freq[i];
    bool alone = other == -INFINITY, beaten = !alone && other > p->score;
    *v = f == 0 && beaten ? DROP : alone || beaten ? KEEP : f == 0 ? DROP : MAY_DROP;
    if (*v != MAY_DROP)
        return CUDDLE_OK;
    uint32_t parts = 0;
    for (uint32_t end = p->n; end; end = last_span(u, end)->begin)
        parts++;
    double log_sum = log(t->sum + f * (parts - 1)), log_other = 0;
    for (uint32_t end = p->n; end; end = last_span(u, end)->begin)
        log_other += log(u->freq[last_span(u, end)->piece] + f) - log_sum;
    *loss = f / t->words * (log(f) - log(t->sum) - log_other);
    return CUDDLE_OK;
}

typedef struct {
    double loss;
    uint32_t piece;
} candidate;

static int by_loss(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->loss != y->loss ? (x->loss < y->loss ? 1 : -1) : (x->piece > y->piece) - (x->piece < y->piece);
}

static cuddle_status judge_all(unigram *u, candidate *c, size_t *n_c, size_t *n)
{
    totals t = { 0, 0 };
    for (size_t i = 0; i < u->n_p; i++)
        t.sum += u->freq[i];
    for (size_t i = 0; i < u->sentences; i++)
        t.words += (double)u->l->words->v[i].count;
    u->next[(*n)++] = u->p[0];
    for (size_t i = 1; i < u->n_p; i++) {
        verdict v;
        double loss = 0;
        CDL_TRY(judge(u, (uint32_t)i, &t, &v, &loss));
        if (v == KEEP)
            u->next[(*n)++] = u->p[i];
        if (v == MAY_DROP)
            c[(*n_c)++] = (candidate){ loss, (uint32_t)i };
    }
    return CUDDLE_OK;
}

static cuddle_status prune(unigram *u, size_t wanted)
{
    size_t n = 0, n_c = 0, target = (size_t)((double)u->n_p * u->l->o.shrinking_factor);
    target = target > wanted ? target : wanted;
    CDL_TRY(count_best_ways(u));
    CDL_TRY(cdl_work_grow(&u->next, &u->cap_next, u->n_p, sizeof *u->next));
    candidate *c = cdl_mem_array(u->n_p, sizeof *c);
    cuddle_status st = c ? judge_all(u, c, &n_c, &n) : cdl_status_nomem("the pieces");
    if (st == CUDDLE_OK)
        qsort(c, n_c, sizeof *c, by_loss);
    for (size_t i = 0; st == CUDDLE_OK && i < n_c && n != target; i++)
        u->next[n++] = u->p[c[i].piece];
    cdl_mem_free(c);
    CDL_TRY(st);
    piece *p = u->p;
    size_t cap = u->cap_p;
    u->p = u->next;
    u->cap_p = u->cap_next;
    u->next = p;
    u->cap_next = cap;
    u->n_p = n;
    return make_trie(u);
}

/* ---- All of it ---- */

static cuddle_status shrink(unigram *u)
{
    size_t wanted = (size_t)u->l->o.vocab_size * 11 / 10;
    CDL_TRY(make_trie(u));
    u->expected = cdl_mem_array(u->n_p, sizeof *u->expected);
    u->freq = cdl_mem_array(u->n_p, sizeof *u->freq);
    if (!u->expected || !u->freq)
        return cdl_status_nomem("the pieces");
    for (;;) {
        for (uint32_t i = 0; i < u->l->o.em_steps; i++) {
            CDL_TRY(expect_all(u));
            maximise(u);
            CDL_TRY(make_trie(u));
        }
        if (u->n_p <= wanted)
            return CUDDLE_OK;
        size_t before = u->n_p;
        CDL_TRY(prune(u, wanted));
        if (u->n_p >= before)
            return cdl_status_fail(CUDDLE_ERR_ARG, "none of the last %zu pieces can be spared; ask for a "
                    "larger vocabulary or a smaller shrinking factor", before);
    }
}

typedef struct {
    const piece *piece;        /* or NULL: a character that is no piece */
    uint32_t cp;
    double score;
    size_t order;
} chosen;

static int by_score(const void *a, const void *b)
{
    const chosen *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->order > y->order) - (x->order < y->order);
}

static cuddle_status add_chosen(const unigram *u, const chosen *c)
{
    cdl_learning *l = u->l;
    cdl_buf text = { 0 };
    cuddle_status st = CUDDLE_OK;
    uint32_t n = c->piece ? c->piece->n : 1;
    for (uint32_t i = 0; i < n && st == CUDDLE_OK; i++) {
        char utf8[4];
        uint32_t cp = c->piece ? u->letter[u->text[c->piece->at + i]] : c->cp;
        st = cdl_buf_append(&text, utf8, cdl_utf8_put(utf8, cp));
    }
    if (st == CUDDLE_OK && cdl_vocab_find(&l->vocab, text.data, text.len) < 0)
        st = cdl_vocab_add(&l->vocab, text.data, text.len, l->vocab.ids);
    if (st == CUDDLE_OK)
        st = cdl_work_grow(&l->score, &l->cap_score, l->vocab.ids, sizeof *l->score);
    if (st == CUDDLE_OK)
        l->score[l->vocab.ids - 1] = c->score;
    cdl_buf_free(&text);
    return st;
}

/* single: the pieces of one character by their letter, 0: none. */
static size_t choose_required(const unigram *u, uint32_t *single, chosen *c)
{
    size_t n = 0;
    double low = 0;
    memset(single, 0, u->letters * sizeof *single);
    for (size_t i = 1; i < u->n_p; i++)
        if (u->p[i].n == 1)
            single[u->text[u->p[i].at]] = (uint32_t)i;
    for (uint32_t cp = 0, letter = 1; cp < CODE_POINTS; cp++) {
        bool known = letter < u->letters && u->letter[letter] == cp;
        const piece *p = known && single[letter] ? &u->p[single[letter]] : NULL;
        letter += known;
        if (!u->required[cp])
            continue;
        c[n] = (chosen){ p, cp, p ? p->score : u->score_min + low, n };
        low += p ? 0 : REQUIRED_STEP;
        n++;
    }
    return n;
}

/* Required characters, then pieces in their order until the vocabulary is full; the highest score first. */
static size_t choose(const unigram *u, chosen *c)
{
    const cdl_learning *l = u->l;
    size_t n = choose_required(u, u->from, c), most = l->o.vocab_size - l->vocab.ids;
    most = most > n ? most : n + 1; /* the library asks after it has taken one */
    for (size_t i = 1; i < u->n_p && n < most; i++)
        if (u->p[i].n > 1 || !u->required[u->letter[u->text[u->p[i].at]]]) {
            c[n] = (chosen){ &u->p[i], 0, u->p[i].score, n };
            n++;
        }
    qsort(c, n, sizeof *c, by_score);
    return n;
}

static cuddle_status write_vocabulary(unigram *u)
{
    cdl_learning *l = u->l;
    chosen *c = cdl_mem_array(u->n_required + u->n_p, sizeof *c);
    cdl_mem_free(u->from);
    u->from = cdl_mem_array(u->letters, sizeof *u->from);
    cuddle_status st = c && u->from ? CUDDLE_OK : cdl_status_nomem("the pieces");
    if (st == CUDDLE_OK)
        st = cdl_work_grow(&l->score, &l->cap_score, l->vocab.ids + (size_t)1, sizeof *l->score);
    for (uint32_t i = 0; st == CUDDLE_OK && i < l->vocab.ids; i++)
        l->score[i] = 0;
    size_t n = st == CUDDLE_OK ? choose(u, c) : 0;
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++)
        st = add_chosen(u, &c[i]);
    cdl_mem_free(c);
    return st;
}

cuddle_status cdl_learn_unigram(cdl_learning *l)
{
    unigram u = { .l = l };
    int32_t *order = cdl_mem_array(CODE_POINTS, sizeof *order);
    cuddle_status st = order ? number_letters(&u, order) : cdl_status_nomem("the alphabet");
    if (st == CUDDLE_OK)
        st = write_sentences(&u, order);
    cdl_mem_free(order);
    if (st == CUDDLE_OK)
        st = mark_required(&u);
    if (st == CUDDLE_OK)
        st = seed(&u);
    if (st == CUDDLE_OK)
        st = shrink(&u);
    if (st == CUDDLE_OK)
        st = write_vocabulary(&u);
    cdl_mem_free(u.text);
    cdl_mem_free(u.letter);
    cdl_mem_free(u.first);
    cdl_mem_free(u.p);
    cdl_mem_free(u.next);
    cdl_mem_free(u.edge);
    cdl_mem_free(u.at_node);
    cdl_mem_free(u.span);
    cdl_mem_free(u.sum);
    cdl_mem_free(u.back);
    cdl_mem_free(u.from);
    cdl_mem_free(u.expected);
    cdl_mem_free(u.freq);
    cdl_mem_free(u.required);
    return st;
}
