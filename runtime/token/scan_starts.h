/* scan_starts.h - where the matches of known split patterns begin, 64 bytes of text at a time.
 *
 * A bit a byte says of what class its character is (scan.h); where matches begin follows from such words by logic
 * and by sums, whose carries run through characters of one class. What a match is depends on nothing in front of it,
 * so a walk may begin at any match, as if the text did. A block with something rare in it goes one match at a time.
 * For scan_starts*.c, which compile it by instruction set: IN_STARTS stands before each function, and put_bits is
 * cdl_bits_put or does the same. */
#include "token/bits.h"
#include "token/scan_map.h"

typedef struct {
    const cdl_scan_map *m;
    size_t b;                  /* the block at hand                                     */
    uint64_t keep, later;      /* its bytes from the first match on; those behind that  */
    bool hard;                 /* it goes one match at a time                           */
    /* words of the block before */
    uint64_t letter, number, other, all_other, blank, space, line, trail, cjk, free, mark, latin, number_start;
    uint64_t lower, soft_both, soft, both;
    bool char_open;            /* next_char: the last character ends in this block      */
    uint64_t set, clear;       /* contractions: what they do to the first bits of this  */
    size_t contraction_end;
} walk;

IN_STARTS uint64_t get(const walk *w, int of)
{
    return cdl_scan_bits(w->m->block[w->b], of) & w->keep;
}

IN_STARTS uint64_t get_next(const walk *w, int of)
{
    return cdl_scan_bits(w->m->block[w->b + 1], of);
}

/* The bytes behind those of now. */
IN_STARTS uint64_t behind(uint64_t now, uint64_t *before)
{
    uint64_t bits = now << 1 | *before >> 63;
    *before = now;
    return bits;
}

/* What stands by bytes, 1 to 3, behind. */
IN_STARTS uint64_t ahead(uint64_t now, uint64_t next, unsigned by)
{
    return now >> by | next << (64 - by);
}

/* What runs of a class have from the first seed in them on; seeds are of the class. */
IN_STARTS uint64_t flood(uint64_t of, uint64_t seeds, uint64_t *before)
{
    seeds |= of & *before >> 63;
    return *before = (of & ~(of + seeds)) | seeds;
}

/* The first bytes of the characters behind those that begin at the bits of first. */
IN_STARTS uint64_t next_char(walk *w, uint64_t first)
{
    uint64_t cont = w->m->block[w->b][CDL_AT_CONT], sum;
    bool carry = __builtin_add_overflow(first << 1 | w->char_open, cont, &sum);
    w->char_open = carry || first >> 63;
    return sum & ~cont;
}

/* ---- White space ---- */

/* Of bits where white space begins behind a line end: those whose run ends with no other line end. */
IN_STARTS uint64_t without_line_end(const walk *w, uint64_t begins)
{
    for (uint64_t rest = begins; rest; rest &= rest - 1) {
        size_t end = cdl_scan_skip(w->m, 64 * w->b + (size_t)__builtin_ctzll(rest), CDL_OF_WHITE);
        if (cdl_scan_is(w->m, end, CDL_AT_LINE))
            begins &= ~(rest & -rest);
    }
    return begins;
}

IN_STARTS uint64_t text_end(const walk *w, size_t b)
{
    return w->m->n / 64 == b ? (uint64_t)1 << w->m->n % 64 : 0;
}

/* Where the character behind one that begins here is white space, or of stop, or the end of the text. */
IN_STARTS uint64_t space_follows(const walk *w, uint64_t space, int stop)
{
    const uint64_t *k = w->m->block[w->b], *k1 = w->m->block[w->b + 1];
    uint64_t to = k[CDL_AT_SPACE] | cdl_scan_bits(k, stop) | text_end(w, w->b);
    uint64_t to1 = k1[CDL_AT_SPACE] | cdl_scan_bits(k1, stop) | text_end(w, w->b + 1);
    if (!(space & k[CDL_AT_HIGH]))
        return ahead(to, to1, 1);
    uint64_t two = ahead(k[CDL_AT_CONT], k1[CDL_AT_CONT], 1), three = two & ahead(k[CDL_AT_CONT], k1[CDL_AT_CONT], 2);
    return (ahead(to, to1, 1) & ~two) | (ahead(to, to1, 2) & two & ~three) | (ahead(to, to1, 3) & three);
}

/* Matches of white space begin with its run, behind its last line end, and with its last character, which goes with
 * what follows: those are in *last. trail: what of it belongs to the match before. */
IN_STARTS uint64_t space_starts(walk *w, bool lines, uint64_t trail, int stop, uint64_t *last)
{
    uint64_t space = get(w, CDL_AT_SPACE), line = lines ? get(w, CDL_AT_LINE) : 0, own = space & ~trail;
    uint64_t white = space & ~line, fresh = white & behind(line, &w->line);
    *last = white & ~get(w, CDL_AT_CONT) & ~space_follows(w, space, stop);
    if (fresh)
        fresh = without_line_end(w, fresh);
    return (own & ~behind(own, &w->space)) | *last | fresh;
}

/* ---- Numbers ---- */

IN_STARTS uint64_t number_starts(walk *w, int most)
{
    uint64_t n = get(w, CDL_AT_N), before = w->number, run = behind(n, &w->number);
    if (most == 1)
        return n & ~w->m->block[w->b][CDL_AT_CONT];
    if (n & w->m->block[w->b][CDL_AT_HIGH]) {
        w->hard = true;
        return 0;
    }
    uint64_t fourth = n & run & (n << 2 | before >> 62) & (n << 3 | before >> 61);
    uint64_t starts = n & ~run, more = (starts << 3 | w->number_start >> 61) & fourth;
    for (; more; more = more << 3 & fourth)
        starts |= more;
    w->number_start = starts;
    return starts;
}

/* ---- Contractions ---- */

IN_STARTS void put(uint64_t *now, uint64_t *next, unsigned __int128 bits)
{
    *now |= (uint64_t)bits;
    *next |= (uint64_t)(bits >> 64);
}

/* Those that are matches of their own, where a ' begins one: no match begins behind the ', one does behind them. */
IN_STARTS uint64_t cut_contractions(walk *w, uint64_t starts, uint64_t letter, int of_letter, bool any_case)
{
    uint64_t quotes = starts & get(w, CDL_AT_QUOTE) & ahead(letter, get_next(w, of_letter), 1);
    uint64_t set = w->set, clear = w->clear;
    w->set = w->clear = 0;
    for (; quotes; quotes &= quotes - 1) {
        unsigned i = (unsigned)__builtin_ctzll(quotes);
        size_t at = 64 * w->b + i, end = cdl_scan_contraction(w->m, at, any_case);
        if (!end)
            continue;
        put(&clear, &w->clear, (unsigned __int128)1 << (i + 1));
        if (end < w->m->n)
            put(&set, &w->set, (unsigned __int128)1 << (end - 64 * w->b));
    }
    return (starts & ~clear) | set;
}

/* Those that end words: their bytes. */
IN_STARTS uint64_t end_contractions(walk *w, uint64_t quotes, uint64_t *set)
{
    uint64_t bytes = w->clear;
    *set = w->set;
    w->set = w->clear = 0;
    for (; quotes; quotes &= quotes - 1) {
        unsigned i = (unsigned)__builtin_ctzll(quotes);
        size_t at = 64 * w->b + i;
        size_t end = at == w->contraction_end ? 0 : cdl_scan_contraction(w->m, at, true);
        if (!end)
            continue;
        w->contraction_end = end;
        put(&bytes, &w->clear, (((unsigned __int128)1 << (end - at)) - 1) << i);
        if (end < w->m->n)
            put(set, &w->set, (unsigned __int128)1 << (end - 64 * w->b));
    }
    return bytes;
}

/* ---- The patterns ---- */

/* cut: each character of it is a match. */
IN_STARTS uint64_t gpt2_starts_of(walk *w, int of_other, int of_number, int cut)
{
    uint64_t letter = get(w, CDL_OF_L), number = get(w, of_number), other = get(w, of_other), last;
    uint64_t same = (letter & behind(letter, &w->letter)) | (number & behind(number, &w->number))
        | (other & behind(other, &w->other));
    uint64_t solid = (letter | number | other) & ~same & ~behind(get(w, CDL_AT_BLANK), &w->blank);
    uint64_t starts = solid | space_starts(w, false, 0, cut, &last) | (get(w, cut) & ~get(w, CDL_AT_CONT));
    return cut_contractions(w, starts, letter, CDL_OF_L, false);
}

IN_STARTS uint64_t gpt2_starts(walk *w)
{
    return gpt2_starts_of(w, CDL_OF_OTHER, CDL_AT_N, CDL_OF_NOTHING);
}

IN_STARTS uint64_t digits_gpt2_starts(walk *w)
{
    return gpt2_starts_of(w, CDL_OF_OTHER_NOT_NUMERIC, CDL_OF_NOTHING, CDL_OF_NUMERIC);
}

/* Whatever is no letter, number or line end and stands alone in front of a word is its first character. */
IN_STARTS uint64_t words_starts(walk *w, int of_letter, int of_other, int numbers)
{
    uint64_t letter = get(w, of_letter), other = get(w, of_other), line = get(w, CDL_AT_LINE), last;
    uint64_t after_other = behind(other, &w->other);
    uint64_t first = other & ~after_other & ~behind(get(w, CDL_AT_BLANK), &w->blank);
    uint64_t trail = flood(line, line & after_other, &w->trail);
    uint64_t starts = space_starts(w, true, trail, CDL_OF_NOTHING, &last) | first | number_starts(w, numbers)
        | (letter & ~behind(letter, &w->letter) & ~next_char(w, first | last));
    return cut_contractions(w, starts, letter, of_letter, true);
}

IN_STARTS uint64_t llama3_starts(walk *w)
{
    return words_starts(w, CDL_OF_L, CDL_OF_OTHER, 3);
}

IN_STARTS uint64_t qwen2_starts(walk *w)
{
    return words_starts(w, CDL_OF_L, CDL_OF_OTHER, 1);
}

IN_STARTS uint64_t qwen3_5_starts(walk *w)
{
    return words_starts(w, CDL_OF_LM, CDL_OF_OTHER_NO_M, 1);
}

/* Within words: an upper case letter begins a match behind lower case, whatever of no case stands between. Upper case
 * up to the end of a word begins one behind what has no case, which LOWERISH+ then ends with. */
IN_STARTS uint64_t case_starts(walk *w, uint64_t contractions)
{
    uint64_t upperish = get(w, CDL_AT_UPPERISH), lowerish = get(w, CDL_AT_LOWERISH), both = upperish & lowerish;
    uint64_t upper = upperish & ~lowerish, lower = lowerish & ~upperish & ~contractions;
    uint64_t soft = lower | flood(both, both & behind(lower, &w->lower), &w->soft_both);
    uint64_t after_soft = behind(soft, &w->soft);
    uint64_t ending = upper & behind(both, &w->both) & ~after_soft;
    for (uint64_t rest = ending; rest; rest &= rest - 1) {
        size_t end = cdl_scan_skip(w->m, 64 * w->b + (size_t)__builtin_ctzll(rest), CDL_OF_UPPER);
        if (cdl_scan_is(w->m, end, CDL_OF_LM))
            ending &= ~(rest & -rest);
    }
    return (upper & after_soft) | ending;
}

/* A mark behind no letter is a word or not, by what stands before: that is hard. */
IN_STARTS uint64_t cases_starts(walk *w, int numbers, bool contractions)
{
    uint64_t word = get(w, CDL_OF_LM), after_word = behind(word, &w->letter), other = get(w, CDL_OF_OTHER_NO_M);
    uint64_t line = get(w, CDL_AT_LINE), set = 0, bytes = 0, last;
    if (get(w, CDL_AT_M) & ~after_word) {
        w->hard = true;
        return 0;
    }
    uint64_t trail = flood(get(w, CDL_OF_TRAIL), line & behind(other, &w->all_other), &w->trail);
    other &= ~trail;
    uint64_t first = other & ~behind(other, &w->other) & ~behind(get(w, CDL_AT_BLANK), &w->blank);
    if (contractions)
        bytes = end_contractions(w, get(w, CDL_AT_QUOTE) & after_word & ahead(word, get_next(w, CDL_OF_LM), 1), &set);
    uint64_t starts = space_starts(w, true, trail, CDL_OF_NOTHING, &last) | first | number_starts(w, numbers)
        | (word & ~after_word & ~next_char(w, first | last)) | case_starts(w, bytes);
    return (starts & ~bytes) | set;
}

IN_STARTS uint64_t o200k_starts(walk *w)
{
    return cases_starts(w, 3, true);
}

IN_STARTS uint64_t tekken_starts(walk *w)
{
    return cases_starts(w, 1, false);
}

/* Nothing goes on where CJK begins or ends. Of ASCII, one sign in front of letters of ASCII is their first; a run of
 * what nothing matches is hard. */
IN_STARTS uint64_t deepseek3_starts(walk *w)
{
    uint64_t cjk = get(w, CDL_AT_CJK), edge = cjk ^ behind(cjk, &w->cjk);
    uint64_t word = get(w, CDL_OF_LM), free = get(w, CDL_AT_REST), sign = get(w, CDL_AT_PS) & ~free;
    uint64_t line = get(w, CDL_AT_LINE), latin = get(w, CDL_OF_LATIN), cont = w->m->block[w->b][CDL_AT_CONT], last;
    uint64_t after_free = behind(free, &w->free), after_sign = behind(sign, &w->other), before = w->latin;
    if (free & ~cont & after_free) {
        w->hard = true;
        return 0;
    }
    uint64_t trail = flood(line, line & after_sign & ~edge, &w->trail);
    uint64_t first = sign & (edge | (~after_sign & ~behind(get(w, CDL_AT_BLANK), &w->blank)));
    uint64_t space = space_starts(w, true, trail, CDL_OF_CUT, &last);
    uint64_t glued = latin & behind(first & ~w->m->block[w->b][CDL_AT_HIGH], &w->mark);
    uint64_t run = flood(latin, glued, &w->latin);
    uint64_t joined = (next_char(w, last | (free & ~cont)) & ~edge) | glued;
    return space | first | number_starts(w, 3) | (free & ~after_free)
        | (word & (edge | (~behind(word, &w->letter) & ~joined))) | (word & ~latin & (run << 1 | before >> 63));
}

/* ---- Walking ---- */

typedef uint64_t find_starts(walk *w);

IN_STARTS walk walk_from(const cdl_scan_map *m, size_t at)
{
    uint64_t keep = UINT64_MAX << at % 64;
    return (walk){ .m = m, .b = at / 64, .keep = keep, .later = keep << 1 };
}

IN_STARTS size_t put_ends(const cdl_scan_map *m, cdl_scan scan, find_starts *find,
        size_t at, uint32_t *end, size_t most)
{
    size_t k = 0;
    walk w = walk_from(m, at);
    while (64 * w.b < m->n && k + CDL_BITS_ROOM <= most) {
        uint64_t starts = find(&w) & w.later;
        if (w.hard) {
            while (k < most && at < m->n && at < 64 * (w.b + 1))
                end[k++] = (uint32_t)(at = cdl_scan_next(m, scan, at));
            w = walk_from(m, at);
            continue;
        }
        k += put_bits(end + k, 64 * w.b, starts);
        at = k ? end[k - 1] : at;
        w.b++;
        w.keep = w.later = UINT64_MAX;
    }
    if (64 * w.b >= m->n && at < m->n)
        end[k++] = (uint32_t)m->n;
    return k;
}

IN_STARTS size_t find_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    size_t k = 0;
    if (most < CDL_SCAN_ENDS) {
        for (; k < most && at < m->n; k++)
            end[k] = (uint32_t)(at = cdl_scan_next(m, scan, at));
        return k;
    }
    switch (scan) {
    case CDL_SCAN_LLAMA3:
        return put_ends(m, scan, llama3_starts, at, end, most);
    case CDL_SCAN_QWEN2:
        return put_ends(m, scan, qwen2_starts, at, end, most);
    case CDL_SCAN_QWEN3_5:
        return put_ends(m, scan, qwen3_5_starts, at, end, most);
    case CDL_SCAN_O200K:
        return put_ends(m, scan, o200k_starts, at, end, most);
    case CDL_SCAN_TEKKEN:
        return put_ends(m, scan, tekken_starts, at, end, most);
    case CDL_SCAN_DEEPSEEK3:
        return put_ends(m, scan, deepseek3_starts, at, end, most);
    case CDL_SCAN_DIGITS_GPT2:
        return put_ends(m, scan, digits_gpt2_starts, at, end, most);
    default:
        return put_ends(m, scan, gpt2_starts, at, end, most);
    }
}
