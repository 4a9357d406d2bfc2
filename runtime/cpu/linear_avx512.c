/* linear_avx512.c - products with AVX-512 VNNI: one vpdpbusd with a broadcast of 4 activation bytes feeds 16 rows
 * of weights. See linear.inc. */
#include "cpu/vec_avx512.h"

#include "cpu/decode_avx512.h"

#define SET avx512
#define SIGNED_BYTES 0

INLINE vi dot(vi n, const block *w, const int8_t *q, const int first, const int count, const int bits)
{
    (void)bits;
#pragma GCC unroll 8
    for (int g = first; g < first + count; g++) {
        int32_t four;
        __builtin_memcpy(&four, q + 4 * g, 4);
        n = _mm512_dpbusd_epi32(n, w->w[g], _mm512_set1_epi32(four));
    }
    return n;
}

#include "cpu/linear.inc"
