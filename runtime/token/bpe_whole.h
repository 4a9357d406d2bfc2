/* bpe_whole.h - words that are one token each, found without merging: a table that an open tokenizer has.
 *
 * Of BPE on bytes a token is there when merging its bytes gives one token, or when the model takes whole tokens first;
 * of WordPiece and WordLevel, which do, always.
 * Read first: parts.h.   Tests: tests/unit/test_tokenizer.c */
#ifndef CDL_BPE_WHOLE_H
#define CDL_BPE_WHOLE_H

#include <string.h>

#include "token/parts.h"

enum {
    CDL_WHOLE_BYTES = 12, CDL_WHOLE_LINE = 4, CDL_WHOLE_ID = 0xffffff,
    CDL_WORD_KEY_BYTES = 15, CDL_WORD_LOOK_BYTES = 48 /* of words that are remembered */
};
#define CDL_WHOLE_KEY 0xff000000ffffffffull /* the bits of high that are the word's */

/* A word of up to CDL_WORD_KEY_BYTES: its bytes, zeros behind, and in the last byte how many they are. */
typedef struct {
    uint64_t low, high;
} cdl_word_key;

/* The key of the n bytes at s; room: 16 can be read there. */
static inline cdl_word_key cdl_word_key_of(const char *s, size_t n, bool room)
{
    char copy[16] = { 0 };
    cdl_word_key k;
    if (!room) {
        memcpy(copy, s, n);
        s = copy;
    }
    memcpy(&k, s, 16);
    uint64_t most = UINT64_MAX >> ((64 - 8 * n) & 63); /* of n % 8 bytes; all for 0 or 8 */
    k.low = n < 8 ? k.low & most : k.low;
    k.high = n <= 8 ? 0 : k.high & most;
    k.high |= (uint64_t)n << 56;
    return k;
}

static inline uint64_t cdl_word_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 x = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15ull) * (b ^ 0xd6e8feb86659fd93ull);
    return (uint64_t)x ^ (uint64_t)(x >> 64);
}

static inline uint64_t cdl_word_hash(cdl_word_key k)
{
    return cdl_word_mix(k.low, k.high);
}

/* Of 16 to CDL_WORD_LOOK_BYTES bytes. */
static inline uint64_t cdl_word_hash_long(const char *s, size_t n)
{
    uint64_t v[6];
    memcpy(v, s, 16);
    memcpy(v + 2, s + (n - 16) / 2, 16);
    memcpy(v + 4, s + n - 16, 16);
    uint64_t h = cdl_word_mix(v[0], v[1] + n) ^ cdl_word_mix(v[2] ^ 0x94d049bb133111ebull, v[3]);
    return cdl_word_mix(h, cdl_word_mix(v[4], v[5] ^ 0xe7037ed1a0b428dbull));
}

/* The line that a word may be in; the model has the table. */
static inline const cdl_whole *cdl_whole_line(const cdl_token_model *m, uint64_t hash)
{
    return m->whole + (hash >> m->whole_shift) * CDL_WHOLE_LINE;
}

/* A word; hash: of the key of a short one, else of all its bytes. */
typedef struct {
    cdl_word_key key;
    uint64_t hash;
    const char *s;
    uint32_t bytes;
} cdl_word_look;

/* What the k words of s [n] that begin at byte at and end at end are looked for by; asks the memory for their lines. */
typedef void cdl_word_look_at(const cdl_token_model *m, cdl_word_look *v, const char *s, size_t n, size_t at,
        const uint32_t *end, size_t k);
cdl_word_look_at cdl_word_look_at_plain;
cdl_word_look_at cdl_word_look_at_avx512; /* needs AVX512BW, VL, BMI2 */

/* The tokens that n words are, or -1; others: which of them are none, and how many. The model has the table. */
typedef uint32_t cdl_whole_find(const cdl_token_model *m, const cdl_word_look *v, uint32_t n, int32_t *id,
        uint32_t *others);
cdl_whole_find cdl_whole_find_plain;
cdl_whole_find cdl_whole_find_avx512; /* needs AVX512F, DQ */

#endif
