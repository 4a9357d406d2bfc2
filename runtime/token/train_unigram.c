/* train_unigram.c - Unigram (Kudo 2018): from all frequent substrings down, by expectation and maximisation.
 *
 * The texts' words are sentences of characters, each with how often it stands. Pieces are places in them. Every
 * round counts how often each piece is expected in all cuts of all sentences (forward and backward sums), gives it
 * the score of that count, and drops those whose loss costs least until the vocabulary is small enough.
 * Each letter of the text knows the longest piece that begins there, and each piece the next shorter one that it
 * begins with: suffixes in order give both, and no trie is searched.
 * Threads: each cuts sentences of its own; what they find is added in the order of the sentences, so the result is
 * the same with any number of them.
 * Results: those of UnigramTrainer in the tokenizers package to the last bit, where that works on one thread through
 * the words in the same order. Its own order comes from a hash table that is seeded anew in every run, so the last
 * bits of its scores are never the same twice. Of characters with equal scores the smaller one comes first here.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/utf8.h"
#include "token/parts.h"
#include "token/train.h"
#include "token/train_lattice.h"
#include "token/train_suffix.h"

enum {
    CODE_POINTS = 0x110000, BLOCKS = 64, BLOCK_LETTERS = 1 << 11, LETTERS_MAX = 1 << 30,
    LONG = 1 << 13             /* letters of a sentence that is cut alone, since its lattice is large */
};

static const double UNK_PENALTY = 10, FREQUENCY_MIN = 0.5, REQUIRED_STEP = 1e-4;
static const char UNK_TEXT[] = "<UNK>"; /* of the unknown piece while training; never in the vocabulary */

typedef cdl_unigram_piece piece;

/* What a thread works at: sentences or pieces, and what it finds in them. */
typedef struct {
    cdl_lattice lattice;
    cdl_shares shares;
    size_t first, end;
    cuddle_status status;
} block;

typedef cuddle_status cut_fn(cdl_lattice *l, double count, cdl_shares *out);

typedef struct {
    cdl_learning *l;
    int32_t *text;             /* [n]: letters by their order in letter, 0 behind each sentence */
    uint32_t *letter;          /* [letters]: code points, rising; the first is the end of a sentence */
    uint32_t *first;           /* [sentences + 1]: places in text */
    size_t n, letters, sentences;
    uint32_t *longest;         /* [n]: the longest piece at each letter, 0: none */
    piece *p, *next;           /* [cap_p]; the first is the unknown piece */
    uint32_t *place;           /* [cap_p]: new numbers of pieces */
    size_t n_p, cap_p;
    cdl_unigram_pieces pieces; /* for the lattices */
    double score_min;
    double *expected, *freq;   /* [cap_p] */
    uint8_t *required;         /* [CODE_POINTS]: must be in the vocabulary */
    bool has_nul;
    size_t n_required;
    cdl_pool *pool;
    block *block;              /* [BLOCKS] */
    uint32_t blocks, parts;    /* of the step at hand; threads that add, a power of two */
    cut_fn *cut;
    double *sums;              /* [n_p] */
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
    u->has_nul = order[0];
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
    size_t to = 0, longest = 0;
    for (size_t i = 0; i < u->sentences; i++) {
        const cdl_counted *k = &l->words->v[i];
        uint32_t cp;
        u->first[i] = (uint32_t)to;
        for (size_t at = 0; at < k->n; u->text[to++] = order[cp])
            at += cdl_learning_char(l, l->words->text + k->at + at, k->n - at, &cp);
        longest = to - u->first[i] > longest ? to - u->first[i] : longest;
        u->text[to++] = 0;
    }
    u->first[u->sentences] = (uint32_t)to;
    return longest <= LETTERS_MAX / u->l->o.piece_chars_max ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_FULL,
            "a word of %zu characters is too long; cut the texts", longest);
}

/* Characters that every text can be written with: of the texts, and those asked for. */
static cuddle_status mark_required(unigram *u)
{
    const char *s = u->l->o.initial_alphabet;
    uint32_t cp;
    u->required = cdl_mem_zalloc(CODE_POINTS, 1);
    if (!u->required)
        return cdl_status_nomem("the alphabet");
    for (size_t i = !u->has_nul; i < u->letters; i++)
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

/* ---- Pieces ---- */

/* The longest piece that is left of those that piece i begins with. */
static uint32_t find_left(const unigram *u, uint32_t i)
{
    while (i && !u->place[i])
        i = u->p[i].shorter;
    return u->place[i];
}

/* Takes the pieces old [n], the first of them 0, as the new ones. */
static void take_pieces(unigram *u, const uint32_t *old, size_t n)
{
    memset(u->place, 0, u->n_p * sizeof *u->place);
    for (size_t i = 1; i < n; i++)
        u->place[old[i]] = (uint32_t)i;
    u->score_min = INFINITY;
    for (size_t i = 0; i < n; i++) {
        piece *p = &u->next[i];
        *p = u->p[old[i]];
        p->depth = i > 0;
        for (uint32_t k = p->shorter; k; k = u->p[k].shorter)
            p->depth += u->place[k] != 0;
        p->shorter = find_left(u, p->shorter);
        u->score_min = i && p->score < u->score_min ? p->score : u->score_min;
    }
    for (size_t i = 0; i < u->n; i++)
        u->longest[i] = find_left(u, u->longest[i]);
    piece *p = u->p;
    u->p = u->next;
    u->next = p;
    u->n_p = n;
    u->pieces = (cdl_unigram_pieces){ u->p, u->longest, u->score_min - UNK_PENALTY };
}

static cuddle_status alloc_pieces(unigram *u, size_t n)
{
    u->cap_p = n;
    u->p = cdl_mem_zalloc(n, sizeof *u->p);
    u->next = cdl_mem_array(n, sizeof *u->next);
    u->place = cdl_mem_array(n, sizeof *u->place);
    u->expected = cdl_mem_array(n, sizeof *u->expected);
    u->freq = cdl_mem_array(n, sizeof *u->freq);
    u->longest = cdl_mem_array(u->n, sizeof *u->longest);
    return u->p && u->next && u->place && u->expected && u->freq && u->longest ? CUDDLE_OK
        : cdl_status_nomem("the pieces");
}

/* ---- Seeds ---- */

typedef struct {
    double score;              /* how often it stands, times its length; of letters, in all words */
    uint32_t first, count;     /* ranks of the suffixes that begin with it; of letters, its number */
    uint32_t n;
} candidate;

typedef struct {
    const unigram *u;
    int32_t *sa;
    candidate *v;
    size_t n, cap;
    cuddle_status status;
} seeding;

static void add_seed(void *user, int32_t first, int32_t n, int32_t count)
{
    seeding *s = user;
    const unigram *u = s->u;
    if (n < 2 || (uint32_t)n > u->l->o.piece_chars_max || s->status != CUDDLE_OK)
        return;
    for (int32_t i = 0; i < n; i++)
        if (!u->text[s->sa[first] + i])
            return;
    s->status = cdl_work_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v);
    if (s->status == CUDDLE_OK)
        s->v[s->n++] = (candidate){ (double)((uint32_t)count * (uint32_t)n), (uint32_t)first, (uint32_t)count,
            (uint32_t)n };
}

/* The highest score first, of equal ones the larger text. */
static int by_seed_score(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? 1 : -1) : (x->n < y->n) - (x->n > y->n);
}

/* Characters: how often they stand, in all words. */
static cuddle_status seed_letters(const unigram *u, seeding *s)
{
    CDL_TRY(cdl_work_grow(&s->v, &s->cap, u->letters, sizeof *s->v));
    for (size_t i = 0; i < u->letters; i++)
        s->v[i] = (candidate){ .first = (uint32_t)i, .n = 1 };
    for (size_t i = 0; i < u->sentences; i++)
        for (uint32_t at = u->first[i]; at + 1 < u->first[i + 1]; at++)
            s->v[u->text[at]].score += (double)u->l->words->v[i].count;
    s->n = u->letters - 1;
    memmove(s->v, s->v + 1, s->n * sizeof *s->v);
    qsort(s->v, s->n, sizeof *s->v, by_seed_score);
    return CUDDLE_OK;
}

static cuddle_status find_seeds(const unigram *u, seeding *s)
{
    CDL_TRY(seed_letters(u, s));
    size_t letters = s->n, most = u->l->o.seed_size;
    CDL_TRY(cdl_substrings(u->text, (int32_t)u->n, (int32_t)u->letters - 1, s->sa, add_seed, s));
    CDL_TRY(s->status);
    qsort(s->v + letters, s->n - letters, sizeof *s->v, by_seed_score);
    most = most > letters ? most : letters + 1; /* at least one substring, as in the library */
    s->n = s->n > most ? most : s->n;
    return CUDDLE_OK;
}

/* The pieces at each letter: a longer one lies within the suffixes of the shorter ones that it begins with.
 * of_length [piece_chars_max + 2]: where seeds of a length begin in order. */
static void place_seeds(unigram *u, const seeding *s, uint32_t *of_length)
{
    uint32_t *order = u->place, longest = u->l->o.piece_chars_max;
    for (size_t i = 0; i < s->n; i++)
        of_length[s->v[i].n + 1]++;
    for (uint32_t n = 1; n <= longest; n++)
        of_length[n + 1] += of_length[n];
    for (size_t i = 0; i < s->n; i++)
        order[of_length[s->v[i].n]++] = (uint32_t)i;
    for (size_t k = 0; k < s->n; k++) {
        const candidate *c = &s->v[order[k]];
        piece *p = &u->p[order[k] + 1];
        p->score = c->score;
        if (c->n == 1)
            continue;
        *p = (piece){ (uint32_t)s->sa[c->first], c->n, u->longest[s->sa[c->first]], 1, c->score };
        p->depth += u->p[p->shorter].depth;
        for (uint32_t r = c->first; r < c->first + c->count; r++)
            u->longest[s->sa[r]] = order[k] + 1;
    }
}

/* Letters come first: longer pieces hide them. */
static cuddle_status place_letters(unigram *u, const seeding *s)
{
    uint32_t *of_letter = cdl_mem_zalloc(u->letters, sizeof *of_letter);
    if (!of_letter)
        return cdl_status_nomem("the alphabet");
    for (size_t i = 0; i < s->n && s->v[i].n == 1; i++)
        of_letter[s->v[i].first] = (uint32_t)i + 1;
    for (size_t i = 0; i < u->n; i++) {
        u->longest[i] = of_letter[u->text[i]];
        u->p[u->longest[i]] = (piece){ .at = (uint32_t)i, .n = 1, .depth = 1 };
    }
    u->p[0] = (piece){ .score = NAN };
    cdl_mem_free(of_letter);
    return CUDDLE_OK;
}

static cuddle_status place_pieces(unigram *u, const seeding *s)
{
    size_t lengths = u->l->o.piece_chars_max + (size_t)2;
    CDL_TRY(alloc_pieces(u, s->n + 1));
    CDL_TRY(place_letters(u, s));
    uint32_t *of_length = cdl_mem_zalloc(lengths, sizeof *of_length);
    if (!of_length)
        return cdl_status_nomem("the pieces");
    place_seeds(u, s, of_length);
    cdl_mem_free(of_length);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += s->v[i].score;
    double log_sum = log(sum);
    u->score_min = INFINITY;
    for (size_t i = 1; i <= s->n; i++) {
        u->p[i].score = log(u->p[i].score) - log_sum;
        u->score_min = u->p[i].score < u->score_min ? u->p[i].score : u->score_min;
    }
    u->n_p = s->n + 1;
    u->pieces = (cdl_unigram_pieces){ u->p, u->longest, u->score_min - UNK_PENALTY };
    return CUDDLE_OK;
}

static cuddle_status seed(unigram *u)
{
    seeding s = { .u = u, .sa = cdl_mem_array(u->n + 1, sizeof *s.sa) };
    cuddle_status st = s.sa ? find_seeds(u, &s) : cdl_status_nomem("the suffixes of the texts");
    if (st == CUDDLE_OK)
        st = place_pieces(u, &s);
    cdl_mem_free(s.sa);
    cdl_mem_free(s.v);
    return st;
}

/* ---- Threads ---- */

/* A block's sentences. */
static void cut_sentences(const void *arg, uint32_t chunk, void *scratch)
{
    const unigram *u = arg;
    block *b = &u->block[chunk];
    (void)scratch;
    b->shares.n = 0;
    b->status = CUDDLE_OK;
    for (size_t i = b->first; i < b->end && b->status == CUDDLE_OK; i++) {
        b->status = cdl_lattice_read(&b->lattice, &u->pieces, u->first[i], u->first[i + 1] - u->first[i] - 1);
        if (b->status == CUDDLE_OK)
            b->status = u->cut(&b->lattice, (double)u->l->words->v[i].count, &b->shares);
    }
}

/* A part of the pieces takes its shares, in the order of the sentences. */
static void add_shares(const void *arg, uint32_t part, void *scratch)
{
    const unigram *u = arg;
    uint32_t mask = u->parts - 1;
    (void)scratch;
    for (uint32_t i = 0; i < u->blocks; i++) {
        const cdl_share *s = u->block[i].shares.v, *end = s + u->block[i].shares.n;
        for (; s < end; s++)
            if ((s->piece & mask) == part)
                u->sums[s->piece] += s->value;
    }
}

static cuddle_status run_phases(unigram *u, const cdl_phase *phases, uint32_t n)
{
    cdl_pool_run(u->pool, phases, n);
    cdl_pool_quiesce(u->pool, 0);
    for (uint32_t i = 0; i < u->blocks; i++)
        if (u->block[i].status != CUDDLE_OK) /* its message is the other thread's */
            return cdl_status_nomem("the pieces of a word");
    return CUDDLE_OK;
}

static bool is_long(const unigram *u, size_t i)
{
    return u->first[i + 1] - u->first[i] > LONG;
}

/* Adds what a long sentence's cuts give at once, and keeps nothing. */
static cuddle_status sum_long(unigram *u, size_t i)
{
    cdl_lattice lattice = { 0 };
    cdl_shares sums = { .sums = u->sums };
    cuddle_status st = cdl_lattice_read(&lattice, &u->pieces, u->first[i], u->first[i + 1] - u->first[i] - 1);
    if (st == CUDDLE_OK)
        st = u->cut(&lattice, (double)u->l->words->v[i].count, &sums);
    cdl_lattice_free(&lattice);
    return st;
}

/* Blocks of sentences from i on, up to a long one; gives the one behind them. */
static size_t make_blocks(unigram *u, size_t i)
{
    for (u->blocks = 0; u->blocks < BLOCKS && i < u->sentences && !is_long(u, i); u->blocks++) {
        block *b = &u->block[u->blocks];
        b->first = i;
        for (uint32_t at = u->first[i]; i < u->sentences && u->first[i] - at < BLOCK_LETTERS && !is_long(u, i); )
            i++;
        b->end = i;
    }
    return i;
}

/* sums [n_p]: of what the sentences' cuts give each piece. */
static cuddle_status sum_sentences(unigram *u, double *sums, cut_fn *cut, const char *what)
{
    u->cut = cut;
    u->sums = sums;
    memset(sums, 0, u->n_p * sizeof *sums);
    for (size_t i = 0; i < u->sentences; ) {
        if (is_long(u, i)) {
            CDL_TRY(sum_long(u, i++));
            CDL_TRY(cdl_learning_progress(u->l, what, i, u->sentences));
            continue;
        }
        i = make_blocks(u, i);
        const cdl_phase phases[] = {
            { .run = cut_sentences, .arg = u, .chunks = u->blocks },
            { .run = add_shares, .arg = u, .chunks = u->parts },
        };
        CDL_TRY(run_phases(u, phases, 2));
        CDL_TRY(cdl_learning_progress(u->l, what, i, u->sentences));
    }
    return CUDDLE_OK;
}

static cuddle_status start_threads(unigram *u)
{
    uint32_t n = u->l->o.threads ? u->l->o.threads : cdl_pool_default_threads();
    n = n < BLOCKS ? n : BLOCKS;
    for (u->parts = 1; 2 * u->parts <= n; )
        u->parts *= 2;
    u->block = cdl_mem_zalloc(BLOCKS, sizeof *u->block);
    return u->block ? cdl_pool_new(&u->pool, n, 0) : cdl_status_nomem("the threads of the trainer");
}

/* ---- Expectation ---- */

static double digamma(double x)
{
    double result = 0;
    for (; x < 7; x++)
        result -= 1 / x;
    x -= 0.5;
    double r = 1 / x, r2 = r * r, r4 = r2 * r2;
    return result + (log(x) + 1.0 / 24 * r2 - 7.0 / 960 * r4 + 31.0 / 8064 * r4 * r2 - 127.0 / 30720 * r4 * r4);
}

/* Scores from what was expected; pieces that are hardly expected go. A sparse prior: digamma instead of log. */
static cuddle_status maximise(unigram *u)
{
    uint32_t *old = cdl_mem_array(u->n_p, sizeof *old);
    if (!old)
        return cdl_status_nomem("the pieces");
    size_t n = 1;
    double sum = 0;
    old[0] = 0;
    for (size_t i = 1; i < u->n_p; i++)
        if (u->expected[i] >= FREQUENCY_MIN) {
            old[n++] = (uint32_t)i;
            sum += u->expected[i];
        }
    double log_sum = digamma(sum);
    for (size_t i = 1; i < n; i++)
        u->p[old[i]].score = digamma(u->expected[old[i]]) - log_sum;
    take_pieces(u, old, n);
    cdl_mem_free(old);
    return CUDDLE_OK;
}

/* ---- Pruning ---- */

typedef struct {
    unigram *u;
    double sum, words;         /* of freq, of the words' counts */
    double *loss;              /* [n_p]: INFINITY: the piece stays, -INFINITY: it goes */
} judging;

/* What becomes of a piece, and how much likelihood it would cost to write it by others. */
static cuddle_status judge(const judging *j, block *b, size_t i)
{
    const unigram *u = j->u;
    const piece *p = &u->p[i];
    double f = u->freq[i];
    bool beaten;
    CDL_TRY(cdl_lattice_read(&b->lattice, &u->pieces, p->at, p->n));
    CDL_TRY(cdl_lattice_second(&b->lattice, &beaten, &b->shares));
    j->loss[i] = f || (!b->shares.n && !beaten) ? INFINITY : -INFINITY;
    if (!f || !b->shares.n)
        return CUDDLE_OK;
    /* the library takes the number of all pieces where that of the parts is meant */
    double log_sum = log(j->sum + f * (double)(u->n_p - 1)), log_parts = 0;
    for (size_t k = 0; k < b->shares.n; k++)
        log_parts += log(u->freq[b->shares.v[k].piece] + f) - log_sum;
    j->loss[i] = f / j->words * (log(f) - log(j->sum) - log_parts);
    return CUDDLE_OK;
}

static void judge_pieces(const void *arg, uint32_t chunk, void *scratch)
{
    const judging *j = arg;
    const unigram *u = j->u;
    block *b = &u->block[chunk];
    (void)scratch;
    b->status = CUDDLE_OK;
    for (size_t i = b->first; i < b->end && b->status == CUDDLE_OK; i++)
        b->status = judge(j, b, i);
}

static cuddle_status judge_all(unigram *u, double *loss)
{
    judging j = { .u = u, .loss = loss };
    for (size_t i = 0; i < u->n_p; i++)
        j.sum += u->freq[i];
    for (size_t i = 0; i < u->sentences; i++)
        j.words += (double)u->l->words->v[i].count;
    u->blocks = BLOCKS;
    for (size_t i = 0; i < BLOCKS; i++) {
        u->block[i].first = i ? u->block[i - 1].end : 1;
        u->block[i].end = i + 1 < BLOCKS ? 1 + (u->n_p - 1) * (i + 1) / BLOCKS : u->n_p;
    }
    loss[0] = INFINITY;
    return run_phases(u, &(cdl_phase){ .run = judge_pieces, .arg = &j, .chunks = BLOCKS }, 1);
}

typedef struct {
    double loss;
    uint32_t piece;
} loser;

static int by_loss(const void *a, const void *b)
{
    const loser *x = a, *y = b;
    return x->loss != y->loss ? (x->loss < y->loss ? 1 : -1) : (x->piece > y->piece) - (x->piece < y->piece);
}

/* Those that stay, then the losses that cost most; old, c: [n_p] */
static void take_best(unigram *u, const double *loss, size_t target, uint32_t *old, loser *c)
{
    size_t n = 0, n_c = 0;
    for (size_t i = 0; i < u->n_p; i++) {
        if (loss[i] == INFINITY)
            old[n++] = (uint32_t)i;
        else if (loss[i] != -INFINITY)
            c[n_c++] = (loser){ loss[i], (uint32_t)i };
    }
    qsort(c, n_c, sizeof *c, by_loss);
    for (size_t i = 0; i < n_c && n != target; i++)
        old[n++] = c[i].piece;
    take_pieces(u, old, n);
}

static cuddle_status prune(unigram *u, size_t wanted)
{
    size_t target = (size_t)((double)u->n_p * u->l->o.shrinking_factor);
    target = target > wanted ? target : wanted;
    CDL_TRY(sum_sentences(u, u->freq, cdl_lattice_best, "pruning"));
    CDL_TRY(judge_all(u, u->expected));
    uint32_t *old = cdl_mem_array(u->n_p, sizeof *old);
    loser *c = cdl_mem_array(u->n_p, sizeof *c);
    if (old && c)
        take_best(u, u->expected, target, old, c);
    bool done = old && c;
    cdl_mem_free(old);
    cdl_mem_free(c);
    return done ? CUDDLE_OK : cdl_status_nomem("the pieces");
}

/* ---- All of it ---- */

static cuddle_status shrink(unigram *u)
{
    size_t wanted = (size_t)u->l->o.vocab_size * 11 / 10;
    for (;;) {
        for (uint32_t i = 0; i < u->l->o.em_steps; i++) {
            CDL_TRY(sum_sentences(u, u->expected, cdl_lattice_expect, "expecting"));
            CDL_TRY(maximise(u));
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

static bool is_unknown(const unigram *u, const piece *p)
{
    bool same = p->n == sizeof UNK_TEXT - 1;
    for (uint32_t i = 0; same && i < p->n; i++)
        same = u->letter[u->text[p->at + i]] == (uint8_t)UNK_TEXT[i];
    return same;
}

/* Required characters, then pieces in their order until the vocabulary is full; the highest score first. As in the
 * library, all pieces are taken if the characters alone fill it. */
static size_t choose(const unigram *u, uint32_t *single, chosen *c)
{
    const cdl_learning *l = u->l;
    size_t n = choose_required(u, single, c), most = l->o.vocab_size - l->vocab.ids;
    for (size_t i = 1, full = n >= most ? SIZE_MAX : most; i < u->n_p && n < full; i++) {
        const piece *p = &u->p[i];
        if (p->n == 1 ? !u->required[u->letter[u->text[p->at]]] : !is_unknown(u, p)) {
            c[n] = (chosen){ p, 0, p->score, n };
            n++;
        }
    }
    qsort(c, n, sizeof *c, by_score);
    return n;
}

static cuddle_status write_vocabulary(unigram *u)
{
    cdl_learning *l = u->l;
    chosen *c = cdl_mem_array(u->n_required + u->n_p, sizeof *c);
    uint32_t *single = cdl_mem_array(u->letters, sizeof *single);
    cuddle_status st = c && single ? CUDDLE_OK : cdl_status_nomem("the pieces");
    if (st == CUDDLE_OK)
        st = cdl_work_grow(&l->score, &l->cap_score, l->vocab.ids + (size_t)1, sizeof *l->score);
    for (uint32_t i = 0; st == CUDDLE_OK && i < l->vocab.ids; i++)
        l->score[i] = 0;
    size_t n = st == CUDDLE_OK ? choose(u, single, c) : 0;
    for (size_t i = 0; i < n && st == CUDDLE_OK; i++)
        st = add_chosen(u, &c[i]);
    cdl_mem_free(c);
    cdl_mem_free(single);
    return st;
}

static void free_all(unigram *u)
{
    cdl_pool_free(u->pool);
    for (size_t i = 0; u->block && i < BLOCKS; i++) {
        cdl_lattice_free(&u->block[i].lattice);
        cdl_mem_free(u->block[i].shares.v);
    }
    cdl_mem_free(u->block);
    cdl_mem_free(u->text);
    cdl_mem_free(u->letter);
    cdl_mem_free(u->first);
    cdl_mem_free(u->longest);
    cdl_mem_free(u->p);
    cdl_mem_free(u->next);
    cdl_mem_free(u->place);
    cdl_mem_free(u->expected);
    cdl_mem_free(u->freq);
    cdl_mem_free(u->required);
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
        st = start_threads(&u);
    if (st == CUDDLE_OK)
        st = shrink(&u);
    if (st == CUDDLE_OK)
        st = write_vocabulary(&u);
    free_all(&u);
    return st;
}
