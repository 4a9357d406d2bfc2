/* bpe_merge_avx512.c - merging many words at once: what one word waits for from memory, others use.
 *
 * The keys of a word's pairs, rank above and place below, fill one register or a few; their minimum is the
 * pair to join. A symbol stays where its first one was, so that nothing moves. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/bpe_merges.h"

enum { TOGETHER = 32, PLACE_BITS = 6, NO_RANK = (1 << 25) - 1, NO_KEY = NO_RANK << PLACE_BITS };

typedef struct {
    __m512i key[CDL_MERGE_FEW / 16];
    uint64_t alive, gone;      /* places of symbols; the one that the last step took away */
    uint64_t left, here;       /* the places in front of, and of, the joined symbol */
    const uint64_t *line[2];   /* of the merges that the joined symbol may have there */
    uint64_t pair[2];
    cdl_merge_word *word;
} state;

/* Of the model, where no store can change them. */
typedef struct {
    const uint64_t *merge;
    const uint32_t *joined;
    uint32_t shift;
} tables;

static const uint64_t nothing[CDL_MERGE_LINE] __attribute__((aligned(64))) = {
    UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX
};

static inline uint32_t least(const __m512i *key, int registers)
{
    __m512i v = key[0];
    for (int r = 1; r < registers; r++)
        v = _mm512_min_epu32(v, key[r]);
    __m256i half = _mm256_min_epu32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i k = _mm_min_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    k = _mm_min_epu32(k, _mm_shuffle_epi32(k, 0x4e));
    k = _mm_min_epu32(k, _mm_shuffle_epi32(k, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(k);
}

/* The keys of the pairs that begin at 16 places from first on, by their ranks. */
static inline __m512i keys_of(__m512i rank, int first)
{
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    rank = _mm512_slli_epi32(_mm512_min_epu32(rank, _mm512_set1_epi32(NO_RANK)), PLACE_BITS);
    return _mm512_or_si512(rank, _mm512_add_epi32(lanes, _mm512_set1_epi32(first)));
}

/* Those of up to 8 bytes: gathering costs by the lane. */
static inline bool start_few(const cdl_token_model *m, state *x)
{
    const cdl_merge_word *word = x->word;
    __mmask8 here = (__mmask8)x->alive, pairs = (__mmask8)(x->alive >> 1);
    __m256i a = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(here, word->s)), none = _mm256_set1_epi32(NO_RANK);
    __m256i b = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(pairs, word->s + 1));
    __m256i id = _mm256_mmask_i32gather_epi32(a, here, a, m->byte_id, 4);
    __m256i pair = _mm256_or_si256(_mm256_slli_epi32(a, 8), b);
    __m256i rank = _mm256_mmask_i32gather_epi32(none, pairs, pair, m->first_rank, 4);
    x->key[0] = keys_of(_mm512_inserti64x4(_mm512_set1_epi32(NO_RANK), rank, 0), 0);
    _mm256_mask_storeu_epi32(word->id, here, id);
    return !_mm256_movepi32_mask(id);
}

/* The symbols and keys of a word that is bytes; false: one of them is not known. */
static inline bool start_bytes(const cdl_token_model *m, state *x, int registers)
{
    const cdl_merge_word *word = x->word;
    __mmask16 unknown = 0;
    for (int r = 0; r < registers; r++) {
        __mmask16 here = (__mmask16)(x->alive >> 16 * r), pairs = (__mmask16)(x->alive >> 1 >> 16 * r);
        __m512i a = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(here, word->s + 16 * r));
        __m512i b = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(pairs, word->s + 16 * r + 1));
        __m512i id = _mm512_mask_i32gather_epi32(a, here, a, m->byte_id, 4), none = _mm512_set1_epi32(NO_RANK);
        __m512i pair = _mm512_or_si512(_mm512_slli_epi32(a, 8), b);
        x->key[r] = keys_of(_mm512_mask_i32gather_epi32(none, pairs, pair, m->first_rank, 4), 16 * r);
        unknown |= _mm512_movepi32_mask(id);
        _mm512_mask_storeu_epi32(word->id + 16 * r, here, id);
    }
    return !unknown;
}

static inline bool start(const cdl_token_model *m, state *x, cdl_merge_word *word, int registers)
{
    x->word = word;
    x->alive = UINT64_MAX >> (64 - word->n);
    if (word->s)
        return word->n <= 8 ? start_few(m, x) : start_bytes(m, x, registers);
    for (int r = 0; r < registers; r++) {
        __mmask16 pairs = (__mmask16)(x->alive >> 1 >> 16 * r);
        x->key[r] = keys_of(_mm512_mask_loadu_epi32(_mm512_set1_epi32(NO_RANK), pairs, word->rank + 16 * r), 16 * r);
    }
    return true;
}

/* The symbols that are left move together. */
static inline void finish(const state *x, int registers)
{
    int32_t *id = x->word->id;
    uint32_t n = 0;
    for (int r = 0; r < registers; r++) {
        __mmask16 alive = (__mmask16)(x->alive >> 16 * r);
        uint32_t k = (uint32_t)__builtin_popcount(alive);
        __m512i v = _mm512_maskz_compress_epi32(alive, _mm512_maskz_loadu_epi32(alive, id + 16 * r));
        _mm512_mask_storeu_epi32(id + n, (__mmask16)((1u << k) - 1), v);
        n += k;
    }
    x->word->n = n;
    x->word->first = x->alive;
}

/* places: those on that side of the new symbol; none: no pair is there. A branch would be guessed wrong too often. */
static inline void ask(const tables *m, state *x, int side, int32_t a, int32_t b, uint64_t places)
{
    uint64_t none = -(uint64_t)(places == 0), pair = cdl_merge_pair((uint32_t)a, (uint32_t)b);
    uintptr_t line = (uintptr_t)(m->merge + (pair * CDL_MERGE_HASH >> m->shift) * CDL_MERGE_LINE);
    __asm__("" : "+r"(none)); /* or the compiler makes a branch of it */
    line ^= (line ^ (uintptr_t)nothing) & none;
    x->pair[side] = pair;
    x->line[side] = (const uint64_t *)line;
    __builtin_prefetch(x->line[side]);
}

/* Joins the best pair, and asks the memory for the merges of the new symbol with its neighbours. */
static inline void join(const tables *m, state *x, uint32_t best)
{
    uint32_t at = best & ((1 << PLACE_BITS) - 1);
    int32_t *id = x->word->id;
    x->here = (uint64_t)1 << at;
    uint64_t behind = x->alive & -x->here << 1, left = x->alive & (x->here - 1);
    x->gone = behind & -behind;
    x->alive ^= x->gone;
    behind ^= x->gone;
    uint32_t before = 63 - (uint32_t)__builtin_clzll(left | 1);
    uint64_t next = x->here & -(uint64_t)(behind == 0);
    __asm__("" : "+r"(next));
    x->left = (uint64_t)(left != 0) << before;
    id[at] = (int32_t)m->joined[best >> PLACE_BITS];
    ask(m, x, 0, id[before], id[at], left);
    ask(m, x, 1, id[at], id[__builtin_ctzll(behind | next)], behind);
}

static inline __mmask8 compare(__m512i line, uint64_t pair)
{
    return _mm512_cmpeq_epi64_mask(_mm512_srli_epi64(line, CDL_MERGE_RANK_BITS), _mm512_set1_epi64((int64_t)pair));
}

/* The key of a pair that was asked for, in all lanes. */
static inline __m512i key_of(const cdl_token_model *m, const state *x, int side, uint32_t place)
{
    const uint64_t *line = x->line[side];
    __m512i v = _mm512_load_si512(line);
    __mmask8 hit = compare(v, x->pair[side]);
    while (__builtin_expect(!(hit | _mm512_cmpeq_epi64_mask(v, _mm512_set1_epi64(-1))), 0)) { /* a full line */
        line = m->merge + (((size_t)(line - m->merge) + CDL_MERGE_LINE) & (m->merges - 1));
        v = _mm512_load_si512(line);
        hit = compare(v, x->pair[side]);
    }
    v = _mm512_and_si512(v, _mm512_set1_epi64(CDL_MERGES_MAX));
    v = _mm512_mask_compress_epi64(_mm512_set1_epi64(NO_RANK), hit, v);
    __m128i key = _mm_slli_epi32(_mm512_castsi512_si128(v), PLACE_BITS);
    return _mm512_broadcastd_epi32(_mm_or_si128(key, _mm_cvtsi32_si128((int)place)));
}

static inline void update(const cdl_token_model *m, state *x, int registers)
{
    uint32_t at = (uint32_t)__builtin_ctzll(x->here), before = (uint32_t)__builtin_ctzll(x->left | x->here);
    __m512i left = key_of(m, x, 0, before), right = key_of(m, x, 1, at);
    for (int r = 0; r < registers; r++) {
        __m512i v = _mm512_mask_mov_epi32(x->key[r], (__mmask16)(x->gone >> 16 * r), _mm512_set1_epi32(-1));
        v = _mm512_mask_mov_epi32(v, (__mmask16)(x->here >> 16 * r), right);
        x->key[r] = _mm512_mask_mov_epi32(v, (__mmask16)(x->left >> 16 * r), left);
    }
}

__attribute__((always_inline))
static inline void merge(const cdl_token_model *m, cdl_merge_word *const *word, uint32_t n, int registers)
{
    state x[TOGETHER], *active[TOGETHER];
    const tables t = { m->merge, m->joined, m->merge_shift };
    uint32_t known = 0;
    for (uint32_t i = 0; i < n; i++) {
        active[known] = &x[known];
        if (start(m, &x[known], word[i], registers))
            known++;
        else
            word[i]->n = UINT32_MAX;
    }
    for (n = known; n; ) {
        uint32_t best[TOGETHER], k = 0;
        for (uint32_t i = 0; i < n; i++) {
            best[k] = least(active[i]->key, registers);
            active[k] = active[i];
            k += best[k] < NO_KEY;
        }
        n = k;
        for (uint32_t i = 0; i < n; i++)
            join(&t, active[i], best[i]);
        for (uint32_t i = 0; i < n; i++)
            update(m, active[i], registers);
    }
    for (uint32_t i = 0; i < known; i++)
        finish(&x[i], registers);
}

static void merge_some(const cdl_token_model *m, cdl_merge_word *const *word, uint32_t n, int registers)
{
    if (registers == 1)
        merge(m, word, n, 1);
    else if (registers == 2)
        merge(m, word, n, 2);
    else
        merge(m, word, n, 4);
}

void cdl_merge_words_avx512(const cdl_token_model *m, cdl_merge_word *word, size_t n)
{
    static const int registers[3] = { 1, 2, 4 };
    cdl_merge_word *same[3][TOGETHER]; /* words of up to 16, 32, 64 symbols */
    uint32_t k[3] = { 0 };
    for (size_t i = 0; i < n; i++) {
        int c = (word[i].n > 16) + (word[i].n > 32);
        same[c][k[c]++] = &word[i];
        if (k[c] == TOGETHER) {
            merge_some(m, same[c], TOGETHER, registers[c]);
            k[c] = 0;
        }
    }
    for (int c = 0; c < 3; c++)
        merge_some(m, same[c], k[c], registers[c]);
}
#endif
