/* bpe_ids.c - byte pair encoding when only ids are asked for, of the common models: every first symbol is
 * known by its byte or character, and merges are a list. What else there is goes through cdl_bpe_run. */
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/mem.h"
#include "base/utf8.h"
#include "token/bpe_merges.h"
#include "token/unicode.h"

enum {
    ASCII = 128, BYTE_TEXT = 6, SMALL = CDL_MERGE_FEW, CHARS = 0x10000, CUT_BITS = 16,
    CUT_BITS_MAX = 24, TOGETHER = 64, RANKS = 16 * TOGETHER
};

/* ---- Tables ---- */

static cuddle_status make_byte_ranks(cdl_token_model *m)
{
    int32_t *rank = cdl_mem_array(256 * 256, sizeof *rank);
    if (!rank)
        return cdl_status_nomem("the merges");
    for (uint32_t i = 0; i < 256 * 256; i++) {
        int32_t a = m->byte_id[i >> 8], b = m->byte_id[i & 255];
        rank[i] = a < 0 || b < 0 ? CDL_NO_MERGE : cdl_merge_find(m, (uint32_t)a, (uint32_t)b);
    }
    m->first_rank = rank;
    return CUDDLE_OK;
}

static cuddle_status make_char_ids(cdl_token_model *m)
{
    int32_t *id = cdl_mem_array(CHARS, sizeof *id);
    if (!id)
        return cdl_status_nomem("the characters of a vocabulary");
    memset(id, 0xff, CHARS * sizeof *id);
    for (uint32_t i = 0; i < m->vocab.ids; i++) {
        size_t n;
        uint32_t cp;
        const char *s = cdl_vocab_text(&m->vocab, i, &n);
        if (s && n && n <= 3 && cdl_utf8_get(s, n, &cp) == n)
            id[cp] = m->vocab.repeats ? cdl_vocab_find(&m->vocab, s, n) : (int32_t)i;
    }
    m->char_id = id;
    m->first_rank = cdl_mem_array(ASCII * ASCII, sizeof *m->first_rank);
    if (!m->first_rank)
        return cdl_status_nomem("the merges");
    for (uint32_t i = 0; i < ASCII * ASCII; i++) {
        int32_t a = id[i / ASCII], b = id[i % ASCII];
        m->first_rank[i] = a < 0 || b < 0 ? CDL_NO_MERGE : cdl_merge_find(m, (uint32_t)a, (uint32_t)b);
    }
    return CUDDLE_OK;
}

static bool is_byte(const char *s)
{
    return memcmp(s, "<0x", 3) == 0 && s[BYTE_TEXT - 1] == '>';
}

/* Whether some merge may be of, or give, a token that stands for a byte, "<0x..>": then it is what a token's text
 * begins or ends with, or a merge gives one of the ids between theirs. */
static bool bytes_join(const cdl_token_model *m)
{
    int32_t least = INT32_MAX, most = -1;
    for (int k = 0; k < 256; k++) {
        least = m->byte_id[k] < least ? m->byte_id[k] : least;
        most = m->byte_id[k] > most ? m->byte_id[k] : most;
    }
    for (uint32_t i = 0; i < m->n_merges; i++)
        if ((int32_t)m->joined[i] >= least && (int32_t)m->joined[i] <= most)
            return true;
    for (uint32_t i = 0; i < m->vocab.ids; i++) {
        size_t n = 0;
        const char *s = cdl_vocab_text(&m->vocab, i, &n);
        if (n > BYTE_TEXT && (is_byte(s) || is_byte(s + n - BYTE_TEXT)))
            return true;
    }
    return false;
}

/* ---- Where nothing joins: in front of a character beyond ASCII, or where a word of ASCII begins or ends ---- */

static inline bool is_word(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '0') < 10;
}

/* Whether a cut is looked for between the bytes; texts that are bytes have been cut into words. */
static inline bool may_cut(const cdl_token_model *m, uint8_t a, uint8_t b)
{
    return b >= 0xc0 || (b < 0x80 && !m->raw_bytes && is_word(a) != is_word(b));
}

/* left, right: the byte two before and the one behind the two that meet, or -1 where a token has none. The upper
 * bits of what this gives tell the place in the set. */
static inline uint32_t cut_hash(int left, uint8_t a, uint8_t b, int right)
{
    uint64_t key = a | (uint64_t)b << 8 | (uint64_t)(left + 1) << 16 | (uint64_t)(right + 1) << 25;
    return (uint32_t)((key + 1) * 0x9e3779b97f4a7c15ull >> 32);
}

static inline bool cut_is(const cdl_token_model *m, int left, uint8_t a, uint8_t b, int right)
{
    uint32_t bit = cut_hash(left, a, b, right) >> m->cut_shift;
    return m->joins[bit >> 6] >> (bit & 63) & 1;
}

size_t cdl_bpe_bytes(const cdl_token_model *m, uint32_t i, char *room, const char **out)
{
    size_t n, k, bytes = 0;
    uint32_t cp;
    const char *s = cdl_vocab_text(&m->vocab, i, &n);
    *out = s;
    if (!s || !m->raw_bytes)
        return s ? n : 0;
    for (size_t at = 0; at < n; at += k) {
        k = cdl_utf8_get(s + at, n - at, &cp);
        int byte = k ? cdl_unicode_to_byte(cp) : -1;
        if (byte < 0)
            return 0; /* no merge of bytes gives it */
        room[bytes++] = (char)byte;
    }
    *out = room;
    return bytes;
}

#ifdef __SSE2__
/* Which of 16 bytes are letters or digits of ASCII. */
static inline uint32_t word_bits(__m128i v)
{
    const __m128i high = _mm_set1_epi8((char)0x80); /* unsigned bytes are compared as signed ones */
    __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
    letter = _mm_cmplt_epi8(_mm_xor_si128(letter, high), _mm_set1_epi8((char)(26 ^ 0x80)));
    digit = _mm_cmplt_epi8(_mm_xor_si128(digit, high), _mm_set1_epi8((char)(10 ^ 0x80)));
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(letter, digit));
}
#endif

/* The bytes of s [n], of up to 16, in front of which cuts are looked for; 16 can be read. */
static inline uint32_t cuts_within(const cdl_token_model *m, const uint8_t *s, size_t n)
{
    uint32_t cuts = 0;
#ifdef __SSE2__
    __m128i v = _mm_loadu_si128((const __m128i *)s);
    uint32_t words = word_bits(v), high = (uint32_t)_mm_movemask_epi8(v);
    cuts = (uint32_t)_mm_movemask_epi8(_mm_cmpgt_epi8(v, _mm_set1_epi8((char)0xbf))) & high;
    cuts |= m->raw_bytes ? 0 : (words ^ words << 1) & ~high;
    cuts &= (1u << n) - 2;
#else
    for (size_t j = 1; j < n; j++)
        cuts |= (uint32_t)may_cut(m, s[j - 1], s[j]) << j;
#endif
    return cuts;
}

static inline uint32_t hash_at(const uint8_t *s, size_t n, size_t j)
{
    return cut_hash(j > 1 ? s[j - 2] : -1, s[j - 1], s[j], j + 1 < n ? s[j + 1] : -1);
}

/* The places within tokens where cuts are looked for, as cut_hash gives them. hash: room for all_bytes. */
static size_t list_joins(const cdl_token_model *m, char *room, uint32_t *hash)
{
    const char *end = m->vocab.text + m->vocab.text_n;
    size_t marks = 0;
    for (uint32_t i = 0; i < m->vocab.ids; i++) {
        const char *text;
        size_t n = cdl_bpe_bytes(m, i, room, &text);
        const uint8_t *s = (const uint8_t *)text;
        bool few = n && n <= 16 && (text == room || text + 16 <= end);
        for (uint32_t cuts = few ? cuts_within(m, s, n) : 0; cuts; cuts &= cuts - 1)
            hash[marks++] = hash_at(s, n, (size_t)__builtin_ctz(cuts));
        for (size_t j = few ? n : 1; j < n; j++)
            if (may_cut(m, s[j - 1], s[j]))
                hash[marks++] = hash_at(s, n, j);
    }
    return marks;
}

static size_t all_bytes(const cdl_vocab *v)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < v->ids; i++)
        bytes += v->entry[i].n;
    return bytes;
}

static cuddle_status make_joins(cdl_token_model *m)
{
    char *room = cdl_mem_array(m->vocab.longest + (size_t)16, 1);
    uint32_t *hash = cdl_mem_array(all_bytes(&m->vocab), sizeof *hash), bits = CUT_BITS;
    if (room && hash) {
        size_t marks = list_joins(m, room, hash);
        while (bits < CUT_BITS_MAX && (size_t)1 << bits < 16 * marks)
            bits++;
        m->cut_shift = 32 - bits;
        m->joins = cdl_mem_zalloc((size_t)1 << (bits - 6), sizeof *m->joins);
        for (size_t i = 0; m->joins && i < marks; i++) {
            uint32_t bit = hash[i] >> m->cut_shift;
            m->joins[bit >> 6] |= (uint64_t)1 << (bit & 63);
        }
    }
    cdl_mem_free(room);
    cdl_mem_free(hash);
    return m->joins ? CUDDLE_OK : cdl_status_nomem("a vocabulary");
}

/* Whether first symbols and the list of merges are all that there is. */
static bool is_common(const cdl_token_model *m)
{
    return m->type == CDL_MODEL_BPE && !m->join_rank && !m->n_prefix && !m->n_suffix;
}

cuddle_status cdl_bpe_plan(cdl_token_model *m)
{
    CDL_TRY(cdl_merge_put_waiting(m));
    if (!is_common(m) || !m->merges)
        return CUDDLE_OK;
    return m->raw_bytes ? make_byte_ranks(m) : make_char_ids(m);
}

cuddle_status cdl_bpe_plan_joins(cdl_token_model *m)
{
    bool bytes = true;
    for (int b = 0; b < 256; b++)
        bytes &= m->byte_id[b] >= 0;
    m->lacks_bytes = m->raw_bytes && !bytes;
    if (!is_common(m) || !m->n_merges)
        return CUDDLE_OK;
    bool known = m->raw_bytes || (m->byte_fallback && bytes && !bytes_join(m));
    m->windows = known || !m->byte_fallback;
    /* a part would be taken for a token that no merge makes */
    return known && !m->ignore_merges ? make_joins(m) : CUDDLE_OK;
}

/* Whether no token reaches across the place in front of b; any of these may be, so that they are asked together. */
static inline bool stays_apart(const cdl_token_model *m, int left, uint8_t a, uint8_t b, uint8_t right)
{
    int reaches = cut_is(m, -1, a, b, -1);
    reaches |= cut_is(m, -1, a, b, right);
    reaches |= cut_is(m, left, a, b, -1);
    reaches |= cut_is(m, left, a, b, right);
    return !reaches;
}

/* How far the next place may be: in bytes only where a character begins. */
static inline size_t step_of(const cdl_token_model *m, uint8_t byte)
{
    return m->raw_bytes ? 0x4322111111111111ull >> (byte >> 4) * 4 & 15 : 1;
}

size_t cdl_bpe_cut(const cdl_token_model *m, const char *text, size_t n, size_t at)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t i = at + step_of(m, s[at]); i + 1 < n; i += step_of(m, s[i])) {
        if (!may_cut(m, s[i - 1], s[i]))
            continue;
        int left = i > at + 1 ? s[i - 2] : -1;
        uint8_t a = s[i - 1], b = s[i], right = s[i + 1];
        if (m->lacks_bytes && (m->byte_id[a] < 0 || m->byte_id[b] < 0 || m->byte_id[right] < 0
                || (left >= 0 && m->byte_id[left] < 0)))
            continue; /* what is not there lets others meet */
        if (stays_apart(m, left, a, b, right))
            return i;
    }
    return n;
}

/* ---- Merging ---- */

static inline int32_t rank_of(const cdl_token_model *m, int32_t a, int32_t b)
{
    return cdl_merge_find(m, (uint32_t)a, (uint32_t)b);
}

/* All pairs of rank best, the first of which begins at at, from left to right as long as none of a lower rank
 * comes up. Gives how many symbols are left. */
static uint32_t merge_all(const cdl_token_model *m, int32_t *id, int32_t *rank, uint32_t n, int32_t best, uint32_t at)
{
    bool go = true;
    uint32_t to = at;
    for (uint32_t from = at; from < n; to++) {
        if (!go || from + 1 == n || rank[from] != best) {
            id[to] = id[from];
            rank[to] = rank[from++];
            continue;
        }
        id[to] = (int32_t)m->joined[best];
        from += 2;
        rank[to] = from < n ? rank_of(m, id[to], id[from]) : CDL_NO_MERGE;
        if (to)
            rank[to - 1] = rank_of(m, id[to - 1], id[to]);
        go = rank[to] >= best && (!to || rank[to - 1] >= best);
    }
    return to;
}

/* rank [n]: of the pair that begins there. Gives how many symbols are left. */
static uint32_t merge(const cdl_token_model *m, int32_t *id, int32_t *rank, uint32_t n)
{
    while (n > 1) {
        int32_t best = CDL_NO_MERGE, equal = 0;
        uint32_t at = 0;
        for (uint32_t i = 0; i + 1 < n; i++)
            best = rank[i] < best ? rank[i] : best;
        if (best == CDL_NO_MERGE)
            break;
        for (uint32_t i = 0; i + 1 < n; i++)
            equal += rank[i] == best;
        while (rank[at] != best)
            at++;
        if (equal > 1) {
            n = merge_all(m, id, rank, n, best, at);
            continue;
        }
        id[at] = (int32_t)m->joined[best];
        n--;
        for (uint32_t i = at + 1; i < n; i++) {
            id[i] = id[i + 1];
            rank[i] = rank[i + 1];
        }
        if (at + 1 < n)
            rank[at] = rank_of(m, id[at], id[at + 1]);
        if (at)
            rank[at - 1] = rank_of(m, id[at - 1], id[at]);
    }
    return n;
}

/* The first symbols; UINT32_MAX: one of them is not known. */
static uint32_t start_bytes(const cdl_token_model *m, const uint8_t *s, uint32_t n, int32_t *id, int32_t *rank)
{
    int32_t all = 0;
    for (uint32_t i = 0; i < n; i++)
        all |= id[i] = m->byte_id[s[i]];
    if (all < 0)
        return UINT32_MAX;
    for (uint32_t i = 0; i + 1 < n; i++)
        rank[i] = m->first_rank[s[i] << 8 | s[i + 1]];
    return n;
}

/* The character at s, which is valid. */
static inline size_t get_char(const char *s, uint32_t *cp)
{
    const uint8_t *u = (const uint8_t *)s;
    *cp = u[0];
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xe0) {
        *cp = (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
        return 2;
    }
    *cp = (u[0] & 0xfu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
    if (u[0] < 0xf0)
        return 3;
    *cp = (u[0] & 7u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
    return 4;
}

enum { ASKED = -1 };           /* a rank that the memory was asked for */

static inline int32_t ask_rank(const cdl_token_model *m, int32_t a, int32_t b)
{
    __builtin_prefetch(&m->merge[cdl_merge_slot(m, cdl_merge_pair((uint32_t)a, (uint32_t)b))]);
    return ASKED;
}

uint32_t cdl_merge_start_chars(const cdl_token_model *m, const char *s, uint32_t n, int32_t *id, int32_t *rank)
{
    uint32_t symbols = 0, cp, before = ASCII; /* before: the character before, or that there is none of ASCII */
    for (size_t i = 0, k; i < n; i += k) {
        k = get_char(s + i, &cp);
        int32_t c = cp < CHARS ? m->char_id[cp] : cdl_vocab_find(&m->vocab, s + i, k);
        if (c >= 0) {
            if (symbols)
                rank[symbols - 1] = before < ASCII && cp < ASCII ? m->first_rank[before * ASCII + cp]
                    : ask_rank(m, id[symbols - 1], c);
            id[symbols++] = c;
            before = cp;
            continue;
        }
        before = ASCII;
        for (size_t j = 0; j < k; j++) {
            if (!m->byte_fallback || (id[symbols] = m->byte_id[(uint8_t)s[i + j]]) < 0)
                return UINT32_MAX;
            if (symbols)
                rank[symbols - 1] = ask_rank(m, id[symbols - 1], id[symbols]);
            symbols++;
        }
    }
    for (uint32_t i = 0; i + 1 < symbols; i++)
        if (rank[i] == ASKED)
            rank[i] = rank_of(m, id[i], id[i + 1]);
    return symbols;
}

uint32_t cdl_merge_text(const cdl_token_model *m, const char *s, uint32_t n, int32_t *id, int32_t *rank)
{
    uint32_t symbols = m->raw_bytes ? start_bytes(m, (const uint8_t *)s, n, id, rank)
        : cdl_merge_start_chars(m, s, n, id, rank);
    return symbols == UINT32_MAX ? symbols : merge(m, id, rank, symbols);
}

/* Whether first symbols and the list of merges give the ids of a word of n bytes. */
static bool has_tables(const cdl_token_model *m, uint32_t n)
{
    bool whole = m->ignore_merges && n <= m->vocab.longest; /* it may be a token that no merge makes */
    return !whole && (m->first_rank || m->char_id);
}

cuddle_status cdl_bpe_ids(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n, int32_t *ids,
        uint32_t *n_ids)
{
    int32_t rank[SMALL];
    *n_ids = UINT32_MAX;
    if (has_tables(m, n))
        *n_ids = n <= SMALL ? cdl_merge_text(m, s, n, ids, rank)
            : m->windows ? cdl_bpe_windows(m, s, n, ids) : UINT32_MAX;
    if (*n_ids != UINT32_MAX)
        return CUDDLE_OK;
    CDL_TRY(cdl_bpe_run(m, w, s, n));
    *n_ids = (uint32_t)w->n_token;
    for (size_t i = 0; i < w->n_token; i++)
        ids[i] = w->token[i].id;
    return CUDDLE_OK;
}

/* ---- Many words ---- */

void cdl_merge_words_plain(const cdl_token_model *m, cdl_merge_word *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cdl_merge_word *x = &word[i];
        if (x->s)
            x->n = start_bytes(m, x->s, x->n, x->id, x->rank);
        if (x->n != UINT32_MAX)
            x->n = merge(m, x->id, x->rank, x->n);
    }
}

cdl_merge_words *cdl_merge_pick(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return cdl_merge_words_avx512;
#endif
    return cdl_merge_words_plain;
}

/* The next words of v [k] whose symbols find room for their ranks, merged; gives how many. */
static size_t merge_some(const cdl_token_model *m, cdl_bpe_word *v, size_t k)
{
    int32_t rank[RANKS];
    cdl_merge_word word[TOGETHER];
    uint32_t used = 0, words = 0, taken = 0;
    for (; taken < k && taken < TOGETHER && used + SMALL <= RANKS; taken++) {
        cdl_bpe_word *x = &v[taken];
        cdl_merge_word *y = &word[words];
        *y = (cdl_merge_word){ (const uint8_t *)x->s, x->ids, rank + used, x->n, 0 };
        x->n_ids = 0;
        if (x->n <= SMALL && !m->raw_bytes) {
            y->s = NULL;
            y->n = cdl_merge_start_chars(m, x->s, x->n, y->id, y->rank);
        }
        if (y->n > SMALL)
            x->n_ids = UINT32_MAX;
        else
            words++;
        used += x->n_ids ? 0 : y->n;
    }
    cdl_merge_pick()(m, word, words);
    for (uint32_t i = 0, j = 0; i < taken; i++)
        v[i].n_ids = v[i].n_ids ? v[i].n_ids : word[j++].n;
    return taken;
}

cuddle_status cdl_bpe_words(const cdl_token_model *m, cdl_token_work *w, cdl_bpe_word *v, size_t k)
{
    bool fast = has_tables(m, 0);
    for (size_t at = 0, some; at < k; at += some) {
        some = fast ? merge_some(m, v + at, k - at) : 1;
        for (size_t i = at; i < at + some; i++)
            if (!fast || v[i].n_ids == UINT32_MAX)
                CDL_TRY(cdl_bpe_ids(m, w, v[i].s, v[i].n, v[i].ids, &v[i].n_ids));
    }
    return CUDDLE_OK;
}
