/* bits.h - the places of bits as a list. Tests: tests/unit/test_scan.c, test_tokenizer.c */
#ifndef CDL_TOKEN_BITS_H
#define CDL_TOKEN_BITS_H

#include <stddef.h>
#include <stdint.h>

/* Room behind the places so far that cdl_bits_put needs. */
enum { CDL_BITS_ROOM = 64 + 8 };

static inline size_t cdl_bits_count(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555ull;
    v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
    return ((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull >> 56;
}

/* Writes where the bits are, base added, and anything up to a multiple of eight; how many there are. */
static inline size_t cdl_bits_put(uint32_t *out, size_t base, uint64_t bits)
{
    const uint64_t none = (uint64_t)1 << 63;
    size_t n = cdl_bits_count(bits);
    for (size_t i = 0; i < n; i += 8)
        for (size_t j = i; j < i + 8; j++) {
            out[j] = (uint32_t)(base + (size_t)__builtin_ctzll(bits | none));
            bits &= bits - 1;
        }
    return n;
}

#endif
