/* bpe_whole_avx512.c - keys of words without branches; a line of the table of whole tokens compared at once. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/bpe_whole.h"

void cdl_word_look_at_avx512(const cdl_token_model *m, cdl_word_look *v, const char *s, size_t n, size_t at,
        const uint32_t *end, size_t k)
{
    static cdl_whole nothing[2 * CDL_WHOLE_LINE];
    static const cdl_token_model none = { .whole = nothing, .whole_shift = 63 };
    const cdl_token_model *table = m->whole ? m : &none;
    (void)n;
    for (size_t i = 0; i < k; at = end[i++]) {
        uint32_t bytes = end[i] - (uint32_t)at;
        __m128i text = _mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(0x7fff, bytes), s + at);
        cdl_word_key key = { (uint64_t)_mm_cvtsi128_si64(text),
                (uint64_t)_mm_extract_epi64(text, 1) | (uint64_t)bytes << 56 };
        v[i].s = s + at;
        v[i].bytes = bytes;
        v[i].key = key;
        v[i].hash = cdl_word_hash(key);
        if (bytes > CDL_WORD_KEY_BYTES) {
            v[i].key = (cdl_word_key){ 0, UINT64_MAX };
            v[i].hash = bytes <= CDL_WORD_LOOK_BYTES ? cdl_word_hash_long(s + at, bytes) : 0;
        }
        _mm_prefetch((const char *)cdl_whole_line(table, v[i].hash), _MM_HINT_T0);
    }
}

uint32_t cdl_whole_find_avx512(const cdl_token_model *m, const cdl_word_look *v, uint32_t n, int32_t *id,
        uint32_t *others)
{
    const __m512i bits = _mm512_broadcast_i32x4(_mm_set_epi64x((int64_t)CDL_WHOLE_KEY, -1));
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        const cdl_whole *line = cdl_whole_line(m, v[i].hash);
        __m512i key = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)&v[i].key));
        __m512i differs = _mm512_xor_si512(_mm512_load_si512(line), key);
        uint32_t equal = _mm512_testn_epi64_mask(differs, bits); /* two halves an entry */
        equal = equal & equal << 1 & 0xaa;
        uint64_t high;
        memcpy(&high, (const char *)line + 8 * (__builtin_ctz(equal | 0x80)), 8);
        uint32_t none = -(uint32_t)!equal;
        __asm__("" : "+r"(none)); /* or the compiler makes a branch of it, which is guessed wrong too often */
        id[i] = (int32_t)((uint32_t)(high >> 32 & CDL_WHOLE_ID) | none);
        others[k] = i;
        k += !equal;
    }
    return k;
}
#endif
