/* train_lattice.c - sums over all ways through a sentence, the best way, the two best ways. */
#include "token/train_lattice.h"

#include <math.h>

#include "base/mem.h"
#include "token/parts.h"

enum { ARITY = 4, NO_GUESS = 0, END_GUESS = 1, EDGES_MAX = 26 << 20 };

static const double LOG_NEGLIGIBLE = 50;

/* The edges that begin at a letter, the shortest first. */
static void add_edges(cdl_lattice *l, const cdl_unigram_pieces *p, uint32_t begin, uint32_t longest)
{
    const cdl_unigram_piece *v = p->v;
    uint32_t depth = longest ? v[longest].depth : 0;
    cdl_edge *e = l->edge + l->n_edge;
    for (uint32_t k = depth, i = longest; k--; i = v[i].shorter)
        e[k] = (cdl_edge){ .end = begin + v[i].n, .piece = i, .score = v[i].score };
    l->n_edge += depth;
    if (!depth || e->end > begin + 1) {
        e[depth] = (cdl_edge){ .end = begin + 1, .score = p->unk_score };
        l->n_edge++;
    }
}

static uint32_t begin_of(const cdl_lattice *l, const cdl_edge *e)
{
    return e->end - (e->piece ? l->piece[e->piece].n : 1);
}

cuddle_status cdl_lattice_read(cdl_lattice *l, const cdl_unigram_pieces *p, size_t at, uint32_t n)
{
    l->piece = p->v;
    l->n = n;
    l->n_edge = 0;
    CDL_TRY(cdl_work_grow(&l->place, &l->cap_place, n + (size_t)1, sizeof *l->place));
    for (uint32_t begin = 0; begin < n; begin++) {
        uint32_t longest = p->longest[at + begin];
        while (longest && p->v[longest].n > n - begin)
            longest = p->v[longest].shorter;
        size_t room = l->n_edge + (longest ? p->v[longest].depth : 0) + (size_t)1;
        if (room > EDGES_MAX)
            return cdl_status_fail(CUDDLE_ERR_FULL, "a word of %u characters has over %d pieces in it; cut the texts, "
                    "or make pieces shorter", n, EDGES_MAX);
        CDL_TRY(cdl_work_grow(&l->edge, &l->cap_edge, room, sizeof *l->edge));
        l->place[begin] = (cdl_place){ .sum = -INFINITY, .back = -INFINITY, .first = l->n_edge };
        add_edges(l, p, begin, longest);
    }
    l->place[n] = (cdl_place){ .sum = -INFINITY, .first = l->n_edge };
    l->place[0].sum = n ? 0 : -INFINITY;
    return CUDDLE_OK;
}

/* ---- Expectation ---- */

/* log(exp(a) + exp(b)) */
static double add_logs(double a, double b)
{
    double high = a > b ? a : b, low = a > b ? b : a;
    return high > low + LOG_NEGLIGIBLE ? high : high + log(exp(low - high) + 1);
}

/* Both directions at a time: neither waits for the other's logarithms. */
static void sum_ways(cdl_lattice *l)
{
    cdl_place *place = l->place;
    for (uint32_t k = 0; k < l->n; k++) {
        uint32_t begin = l->n - 1 - k, i = place[k].first, j = place[begin].first;
        double back = -INFINITY, sum = place[k].sum;
        for (; i < place[k + 1].first || j < place[begin + 1].first; i++, j++) {
            const cdl_edge *e = &l->edge[i], *f = &l->edge[j];
            if (i < place[k + 1].first)
                place[e->end].sum = add_logs(place[e->end].sum, e->score + sum);
            if (j < place[begin + 1].first)
                back = add_logs(back, f->score + place[f->end].back);
        }
        place[begin].back = back;
    }
}

static cuddle_status make_room(cdl_shares *out, size_t n)
{
    return out->sums ? CUDDLE_OK : cdl_work_grow(&out->v, &out->cap, out->n + n, sizeof *out->v);
}

static inline void put_share(cdl_shares *out, double value, uint32_t piece)
{
    if (out->sums)
        out->sums[piece] += value;
    else
        out->v[out->n++] = (cdl_share){ value, piece };
}

cuddle_status cdl_lattice_expect(cdl_lattice *l, double count, cdl_shares *out)
{
    CDL_TRY(make_room(out, l->n_edge));
    sum_ways(l);
    double all = l->place[l->n].sum;
    for (uint32_t k = 0; k < l->n; k++)
        for (uint32_t i = l->place[k].first; i < l->place[k + 1].first; i++) {
            const cdl_edge *e = &l->edge[i];
            double way = l->place[k].sum + e->score + l->place[e->end].back - all;
            put_share(out, count * exp(way), e->piece);
        }
    return CUDDLE_OK;
}

/* ---- The best way ---- */

/* 1 + the edge with which the best way to an edge of this score comes to a place, of equal ones the first; way: its
 * score. */
static uint32_t best_before(const cdl_lattice *l, const cdl_place *at, double score, double *way)
{
    uint32_t best = at->head;
    *way = l->edge[best - 1].way + score;
    for (uint32_t i = l->edge[best - 1].next; i; i = l->edge[i - 1].next) {
        double w = l->edge[i - 1].way + score;
        if (w > *way) {
            *way = w;
            best = i;
        }
    }
    return best;
}

static void find_best(cdl_lattice *l)
{
    for (uint32_t i = 0; i <= l->n; i++)
        l->place[i].head = l->place[i].tail = 0;
    for (uint32_t i = 0, begin = 0; i < l->n_edge; i++) {
        cdl_edge *e = &l->edge[i];
        begin += i == l->place[begin + 1].first; /* at least one begins at each */
        e->next = e->from = 0;
        e->way = e->score;
        if (begin)
            e->from = best_before(l, &l->place[begin], e->score, &e->way);
        cdl_place *end = &l->place[e->end];
        if (end->tail)
            l->edge[end->tail - 1].next = i + 1;
        else
            end->head = i + 1;
        end->tail = i + 1;
    }
}

cuddle_status cdl_lattice_best(cdl_lattice *l, double count, cdl_shares *out)
{
    double way;
    CDL_TRY(make_room(out, l->n));
    find_best(l);
    uint32_t i = l->n ? best_before(l, &l->place[l->n], 0, &way) : 0;
    for (; i; i = l->edge[i - 1].from)
        put_share(out, count, l->edge[i - 1].piece);
    return CUDDLE_OK;
}

/* ---- The two best ways ---- */

/* The heap has four children a node and takes equal guesses as the library's heap does: which of two equally good
 * ways is the second best one hangs on it. */
static bool less(const cdl_lattice *l, uint32_t a, uint32_t b)
{
    return l->guess[a].fx < l->guess[b].fx;
}

static void rise(cdl_lattice *l, uint32_t at, uint32_t guess)
{
    for (uint32_t parent; at; at = parent) {
        parent = (at - 1) / ARITY;
        if (less(l, guess, l->heap[parent]))
            break;
        l->heap[at] = l->heap[parent];
    }
    l->heap[at] = guess;
}

static uint32_t larger(const cdl_lattice *l, uint32_t a, uint32_t b)
{
    return less(l, l->heap[a], l->heap[b]) ? b : a;
}

static uint32_t largest_child(const cdl_lattice *l, uint32_t first)
{
    if (first + ARITY <= l->n_heap)
        return larger(l, larger(l, first, first + 1), larger(l, first + 2, first + 3));
    uint32_t best = first;
    for (uint32_t i = first + 1; i < l->n_heap; i++)
        best = larger(l, best, i);
    return best;
}

static uint32_t pop(cdl_lattice *l)
{
    uint32_t top = l->heap[0], last = l->heap[--l->n_heap], at = 0;
    if (!l->n_heap)
        return top;
    for (uint32_t child; (child = ARITY * at + 1) < l->n_heap; at = child) {
        child = largest_child(l, child);
        l->heap[at] = l->heap[child];
    }
    rise(l, at, last);
    return top;
}

static cuddle_status push(cdl_lattice *l, cdl_guess g)
{
    CDL_TRY(cdl_work_grow(&l->guess, &l->cap_guess, l->n_guess + (size_t)1, sizeof *l->guess));
    CDL_TRY(cdl_work_grow(&l->heap, &l->cap_heap, l->n_heap + (size_t)1, sizeof *l->heap));
    l->guess[l->n_guess] = g;
    rise(l, l->n_heap++, l->n_guess++);
    return CUDDLE_OK;
}

/* The ways that lead to a guess. */
static cuddle_status expand(cdl_lattice *l, uint32_t guess)
{
    cdl_guess g = l->guess[guess];
    uint32_t at = guess == END_GUESS ? l->n : begin_of(l, &l->edge[g.edge - 1]);
    if (!at)
        return push(l, (cdl_guess){ g.gx, g.gx, 0, guess });
    for (uint32_t i = l->place[at].head; i; i = l->edge[i - 1].next)
        CDL_TRY(push(l, (cdl_guess){ l->edge[i - 1].way + g.gx, l->edge[i - 1].score + g.gx, i, guess }));
    return CUDDLE_OK;
}

/* The next best way's first guess, or NO_GUESS. */
static cuddle_status next_way(cdl_lattice *l, uint32_t *first)
{
    while (l->n_heap) {
        uint32_t top = pop(l);
        *first = l->guess[top].next;
        if (top != END_GUESS && !l->guess[top].edge)
            return CUDDLE_OK;
        CDL_TRY(expand(l, top));
    }
    *first = NO_GUESS;
    return CUDDLE_OK;
}

cuddle_status cdl_lattice_second(cdl_lattice *l, bool *beaten, cdl_shares *out)
{
    uint32_t way;
    out->n = 0;
    l->n_heap = 0;
    l->n_guess = END_GUESS;
    find_best(l);
    CDL_TRY(push(l, (cdl_guess){ 0 }));
    CDL_TRY(next_way(l, &way));
    *beaten = way != NO_GUESS && l->guess[way].next != END_GUESS;
    if (*beaten)
        return CUDDLE_OK;
    CDL_TRY(next_way(l, &way));
    for (; way > END_GUESS; way = l->guess[way].next) {
        CDL_TRY(cdl_work_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v));
        out->v[out->n++] = (cdl_share){ 0, l->edge[l->guess[way].edge - 1].piece };
    }
    return CUDDLE_OK;
}

void cdl_lattice_free(cdl_lattice *l)
{
    cdl_mem_free(l->edge);
    cdl_mem_free(l->place);
    cdl_mem_free(l->guess);
    cdl_mem_free(l->heap);
    *l = (cdl_lattice){ 0 };
}
