/* train_lattice.h - all ways to cut a sentence into pieces: what Unigram's trainer asks of them.
 *
 * Sums, the order in which they are added and the choice between equal ways are those of the lattice in the
 * tokenizers package, so that scores agree to the last bit. One lattice is one thread's and is used again; it takes 32
 * bytes for each piece in its longest sentence, its shares 16 where they are kept.
 * Tests: tests/unit/test_train_lattice.c, tests/unit/test_train.c
 */
#ifndef CDL_TRAIN_LATTICE_H
#define CDL_TRAIN_LATTICE_H

#include "base/status.h"

typedef struct {
    uint32_t at, n;            /* its letters: text[at, at + n)                                */
    uint32_t shorter;          /* the longest other piece that it begins with, 0: none         */
    uint32_t depth;            /* pieces that it begins with, itself included                  */
    double score;
} cdl_unigram_piece;

typedef struct {
    const cdl_unigram_piece *v; /* the first is the unknown one                                */
    const uint32_t *longest;    /* at each letter of the text: the longest piece there, 0: none */
    double unk_score;
} cdl_unigram_pieces;

/* A piece's place in the sentence, ordered by begin, then by length. */
typedef struct {
    uint32_t end, piece;
    uint32_t next;             /* 1 + the next that ends there, 0: none                        */
    uint32_t from;             /* 1 + the one before it on the best way, 0: the sentence's start */
    double score, way;         /* way: of the best way to its end                              */
} cdl_edge;

typedef struct {
    double sum, back;          /* log of the sum over all ways from the start, to the end      */
    uint32_t first;            /* edge that begins here                                        */
    uint32_t head, tail;       /* 1 + edges that end here, in order; 0: none                   */
} cdl_place;

typedef struct {
    double fx, gx;             /* of the whole way, of its part behind the edge                */
    uint32_t edge, next;       /* 1 + edge, 0: the start; the guess that stands behind it      */
} cdl_guess;

typedef struct {
    const cdl_unigram_piece *piece;
    cdl_edge *edge;
    cdl_place *place;          /* [n + 1] */
    cdl_guess *guess;
    uint32_t *heap;            /* of guesses */
    uint32_t n, n_edge, n_guess, n_heap;
    size_t cap_edge, cap_place, cap_guess, cap_heap;
} cdl_lattice;

/* A share of a sentence in what is counted for a piece. */
typedef struct {
    double value;
    uint32_t piece;
} cdl_share;

/* Zeroed ones are empty and valid. */
typedef struct {
    cdl_share *v;
    size_t n, cap;
    double *sums;              /* or NULL: [pieces], to which shares are added at once, and not kept */
} cdl_shares;

/* Finds all pieces in text[at, at + n); a character that is none is unknown. Errors: NOMEM; FULL, of about
 * 900 MB, whose message is this thread's. */
CUDDLE_CHECK cuddle_status cdl_lattice_read(cdl_lattice *l, const cdl_unigram_pieces *p, size_t at, uint32_t n);

/* Appends how often each edge's piece is expected in a sentence that stands count times. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_lattice_expect(cdl_lattice *l, double count, cdl_shares *out);

/* Appends count for each piece of the best way. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_lattice_best(cdl_lattice *l, double count, cdl_shares *out);

/* The pieces of the second best way when the best one is a single piece, in out; else out is empty, and *beaten tells
 * whether the best way has several pieces. Errors: NOMEM. */
CUDDLE_CHECK cuddle_status cdl_lattice_second(cdl_lattice *l, bool *beaten, cdl_shares *out);

void cdl_lattice_free(cdl_lattice *l);

#endif
