/* The lattice of Unigram's trainer against every way through small sentences, one by one. */
#include <math.h>
#include <stdlib.h>

#include "refs.h"
#include "torture.h"

#include "base/mem.h"
#include "token/train_lattice.h"

enum { LETTERS = 9, PIECES = 64, WAYS = 1 << (LETTERS - 1) };

/* A text of letters 0 and 1; its pieces are some of its substrings. */
typedef struct {
    uint8_t text[LETTERS];
    cdl_unigram_piece v[PIECES];
    uint32_t n, longest[LETTERS];
    cdl_unigram_pieces pieces;
} sample;

static bool stands(const sample *s, uint32_t i, uint32_t at)
{
    const cdl_unigram_piece *p = &s->v[i];
    return at + p->n <= LETTERS && memcmp(s->text + at, s->text + p->at, p->n) == 0;
}

/* The piece of n letters at a place, 0: none. */
static uint32_t find(const sample *s, uint32_t at, uint32_t n)
{
    for (uint32_t i = 1; i < s->n; i++)
        if (s->v[i].n == n && stands(s, i, at))
            return i;
    return 0;
}

/* Shorter pieces first, so that each finds those that it begins with. same: all scores are 0 or -1, for ties. */
static void make_sample(sample *s, unsigned seed, bool same)
{
    memset(s, 0, sizeof *s);
    srand(seed);
    for (uint32_t i = 0; i < LETTERS; i++)
        s->text[i] = rand() % 2;
    s->n = 1;
    for (uint32_t n = 1; n <= LETTERS; n++)
        for (uint32_t at = 0; at + n <= LETTERS; at++) {
            if (find(s, at, n) || rand() % 3 == 0)
                continue;
            cdl_unigram_piece *p = &s->v[s->n];
            *p = (cdl_unigram_piece){ at, n, s->longest[at], 1, same ? -(rand() % 2) : -rand() / (double)RAND_MAX * 9 };
            p->depth += s->v[p->shorter].depth;
            for (uint32_t k = 0; k < LETTERS; k++)
                if (stands(s, s->n, k))
                    s->longest[k] = s->n;
            s->n++;
        }
    s->pieces = (cdl_unigram_pieces){ s->v, s->longest, -19 };
}

/* Bit k of a way cuts behind letter k. Its score, NAN when it needs something that is no piece; counts of pieces. */
static double walk(const sample *s, uint32_t way, uint32_t *count)
{
    double score = 0;
    memset(count, 0, PIECES * sizeof *count);
    for (uint32_t at = 0, end; at < LETTERS; at = end) {
        for (end = at + 1; end < LETTERS && !(way >> (end - 1) & 1); )
            end++;
        uint32_t i = find(s, at, end - at);
        if (!i && end - at > 1)
            return NAN;
        count[i]++;
        score += i ? s->v[i].score : s->pieces.unk_score;
    }
    return score;
}

static void test_expectation_is_that_of_all_ways(void **state)
{
    (void)state;
    cdl_lattice l = { 0 };
    cdl_shares shares = { 0 };
    for (unsigned seed = 0; seed < 200; seed++) {
        sample s;
        uint32_t count[PIECES];
        double all = 0, want[PIECES] = { 0 }, got[PIECES] = { 0 };
        make_sample(&s, seed, false);
        for (uint32_t way = 0; way < WAYS; way++) {
            double p = exp(walk(&s, way, count));
            for (uint32_t i = 0; i < s.n && !isnan(p); i++)
                want[i] += 7 * p * count[i];
            all += isnan(p) ? 0 : p;
        }
        shares.n = 0;
        MUST(cdl_lattice_read(&l, &s.pieces, 0, LETTERS));
        MUST(cdl_lattice_expect(&l, 7, &shares));
        for (size_t i = 0; i < shares.n; i++)
            got[shares.v[i].piece] += shares.v[i].value;
        for (uint32_t i = 0; i < s.n; i++)
            assert_true(fabs(got[i] - want[i] / all) < 1e-9);
        double sums[PIECES] = { 0 };
        MUST(cdl_lattice_read(&l, &s.pieces, 0, LETTERS));
        MUST(cdl_lattice_expect(&l, 7, &(cdl_shares){ .sums = sums }));
        assert_memory_equal(sums, got, sizeof sums);
    }
    cdl_lattice_free(&l);
    cdl_mem_free(shares.v);
}

static double score_of(const sample *s, const cdl_shares *way)
{
    double score = 0;
    uint32_t n = 0;
    for (size_t i = 0; i < way->n; i++) {
        uint32_t p = way->v[i].piece;
        score += p ? s->v[p].score : s->pieces.unk_score;
        n += p ? s->v[p].n : 1;
    }
    assert_int_equal(n, LETTERS);
    return score;
}

static void check_best(const sample *s, cdl_lattice *l, cdl_shares *shares)
{
    uint32_t count[PIECES];
    double best = -INFINITY, others = -INFINITY, whole = NAN;
    for (uint32_t way = 0; way < WAYS; way++) {
        double score = walk(s, way, count);
        best = score > best ? score : best;
        whole = way ? whole : score;
        others = way && score > others ? score : others;
    }
    bool beaten;
    shares->n = 0;
    MUST(cdl_lattice_read(l, &s->pieces, 0, LETTERS));
    MUST(cdl_lattice_best(l, 1, shares));
    assert_true(fabs(score_of(s, shares) - best) < 1e-9);
    MUST(cdl_lattice_second(l, &beaten, shares));
    if (isnan(whole) || whole < others - 1e-9)
        assert_true(beaten);
    if (whole > others + 1e-9)
        assert_false(beaten);
    if (beaten)
        assert_int_equal(shares->n, 0);
    else
        assert_true(fabs(score_of(s, shares) - others) < 1e-9);
}

static void test_best_ways_are_those_of_all_ways(void **state)
{
    (void)state;
    cdl_lattice l = { 0 };
    cdl_shares shares = { 0 };
    sample s;
    for (unsigned seed = 0; seed < 400; seed++) {
        make_sample(&s, seed, seed % 2);
        check_best(&s, &l, &shares);
    }
    cdl_lattice_free(&l);
    cdl_mem_free(shares.v);
}

static void test_a_letter_has_one_way(void **state)
{
    (void)state;
    cdl_lattice l = { 0 };
    cdl_shares shares = { 0 };
    sample s;
    bool beaten = true;
    make_sample(&s, 1, false);
    MUST(cdl_lattice_read(&l, &s.pieces, 0, 1));
    MUST(cdl_lattice_second(&l, &beaten, &shares));
    assert_false(beaten);
    assert_int_equal(shares.n, 0);
    cdl_lattice_free(&l);
    cdl_mem_free(shares.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expectation_is_that_of_all_ways),
        cmocka_unit_test(test_best_ways_are_those_of_all_ways),
        cmocka_unit_test(test_a_letter_has_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
