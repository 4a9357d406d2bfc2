/* scan_map_avx512.c - 64 bytes at a time: two registers hold the kinds of all of ASCII. Beyond it, kinds are looked
 * up for all characters of a page of 64 at once, of which a text in one script has few. */
#ifdef __x86_64__
#include <immintrin.h>

#include "token/scan_map.h"

typedef struct {
    __m512i ascii[2], group[2];
    __m512i kind;              /* of the block before, and where its characters begin: */
    uint64_t lead, three, four; /* all beyond ASCII, those of three bytes or four, of four */
} state;

static inline uint64_t first_bits(size_t n)
{
    return n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
}

static inline __m512i load(const uint8_t *s, size_t n, size_t at)
{
    return at < n ? _mm512_maskz_loadu_epi8(first_bits(n - at), s + at) : _mm512_setzero_si512();
}

/* The kinds of characters of two or three bytes at the bits of todo; v, n1 and n2: bytes from theirs on, the next,
 * the one behind. */
static inline __m512i look_up(__m512i kind, uint64_t todo, uint64_t three, __m512i v, __m512i n1, __m512i n2,
        const uint8_t *s)
{
    __m512i last = _mm512_mask_mov_epi8(n1, three, n2);
    while (todo) {
        const uint8_t *c = s + __builtin_ctzll(todo);
        uint64_t same = _mm512_mask_cmpeq_epi8_mask(todo, v, _mm512_set1_epi8((char)c[0]));
        size_t page = c[0] & 0x1fu;
        if (c[0] >= 0xe0) {
            same = _mm512_mask_cmpeq_epi8_mask(same, n1, _mm512_set1_epi8((char)c[1]));
            page = (c[0] & 0xfu) << 6 | (c[1] & 0x3fu);
        }
        kind = _mm512_mask_permutexvar_epi8(kind, same, last, _mm512_loadu_si512(cdl_scan_kind + 64 * page));
        todo &= ~same;
    }
    return kind;
}

/* What a character's first byte has goes to the bytes by bytes behind it. */
static inline __m512i spread(__m512i before, __m512i kind, uint64_t lead, uint64_t lead_before, unsigned by)
{
    uint8_t from[64];
    for (unsigned i = 0; i < 64; i++)
        from[i] = (uint8_t)(64 + i - by);
    __m512i moved = _mm512_permutex2var_epi8(before, _mm512_loadu_si512(from), kind);
    return _mm512_mask_mov_epi8(kind, lead << by | lead_before >> (64 - by), moved);
}

/* The kinds of a block that has bytes beyond ASCII. */
static inline __m512i wide_kinds(state *w, __m512i v, __m512i kind, const uint8_t *s, size_t n, size_t at)
{
    uint64_t lead = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)0xc0));
    uint64_t three = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)0xe0));
    uint64_t four = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)0xf0)), todo = lead & ~four;
    __m512i n1 = load(s, n, at + 1), n2 = load(s, n, at + 2);
    if (three & ~four) {
        __m512i at_group = _mm512_or_si512(_mm512_and_si512(_mm512_slli_epi16(v, 3), _mm512_set1_epi8(0x78)),
                _mm512_and_si512(_mm512_srli_epi16(n1, 3), _mm512_set1_epi8(7)));
        __m512i group = _mm512_maskz_permutex2var_epi8(three & ~four, w->group[0], at_group, w->group[1]);
        uint64_t known = _mm512_test_epi8_mask(group, group);
        kind = _mm512_mask_mov_epi8(kind, known, group);
        todo &= ~known;
    }
    kind = look_up(kind, todo, three, v, n1, n2, s + at);
    for (uint64_t rest = four; rest; rest &= rest - 1) {
        uint8_t k = cdl_scan_kind_at(s + at + __builtin_ctzll(rest), 4);
        kind = _mm512_mask_set1_epi8(kind, rest & -rest, (char)k);
    }
    __m512i full = spread(w->kind, kind, lead, w->lead, 1);
    if (three | w->three)
        full = spread(w->kind, full, three, w->three, 2);
    if (four | w->four)
        full = spread(w->kind, full, four, w->four, 3);
    w->lead = lead;
    w->three = three;
    w->four = four;
    return full;
}

static inline void mask_block(__m512i v, __m512i kind, uint64_t valid, uint64_t *out)
{
    for (int i = 0; i < CDL_SCAN_KINDS; i++)
        out[i] = _mm512_mask_test_epi8_mask(valid, kind, _mm512_set1_epi8((char)(1 << i)));
    out[CDL_AT_LINE] = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\n'))
        | _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\r'));
    out[CDL_AT_BLANK] = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8(' '));
    out[CDL_AT_QUOTE] = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\''));
    out[CDL_AT_SLASH] = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('/'));
    out[CDL_AT_CONT] = _mm512_cmplt_epi8_mask(v, _mm512_set1_epi8((char)0xc0));
    out[CDL_AT_HIGH] = _mm512_movepi8_mask(v);
}

void cdl_scan_classify_avx512(const char *text, size_t n, cdl_scan_block *block)
{
    const uint8_t *s = (const uint8_t *)text;
    state w = { .ascii = { _mm512_loadu_si512(cdl_scan_kind), _mm512_loadu_si512(cdl_scan_kind + 64) },
                .group = { _mm512_loadu_si512(cdl_scan_group), _mm512_loadu_si512(cdl_scan_group + 64) } };
    for (size_t at = 0; at < n; at += 64, block++) {
        uint64_t valid = first_bits(n - at);
        __m512i v = _mm512_maskz_loadu_epi8(valid, s + at);
        __m512i kind = _mm512_permutex2var_epi8(w.ascii[0], v, w.ascii[1]);
        if (_mm512_movepi8_mask(v))
            kind = wide_kinds(&w, v, kind, s, n, at);
        else
            w.lead = w.three = w.four = 0;
        mask_block(v, kind, valid, *block);
        w.kind = kind;
    }
}
#endif
