#include "unicode.h"

#include <pthread.h>
#include <string.h>

#include "unicode_data.h"

enum { PAGE = 128, N_PAGES = 0x110000 / PAGE, CLASS_PAGES = 640, SCRIPT_PAGES = 512, CCC_PAGES = 128 };
#define COUNT(a) (sizeof(a) / sizeof *(a))

uint16_t cdl_unicode_page[N_PAGES];
uint8_t cdl_unicode_class[CLASS_PAGES][PAGE];
static uint16_t script_page[N_PAGES], ccc_page[N_PAGES];
static uint8_t script_class[SCRIPT_PAGES][PAGE], ccc_class[CCC_PAGES][PAGE];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Runs of (code point << 8 | value) into pages; a page equal to the one before shares it. */
static void expand(const uint32_t *run, size_t n, uint16_t *index, uint8_t (*pages)[PAGE], uint32_t room)
{
    uint32_t used = 0;
    size_t r = 0;
    for (uint32_t p = 0; p < N_PAGES; p++) {
        uint8_t *page = pages[used < room ? used : room - 1];
        for (uint32_t at = p * PAGE, i = 0; i < PAGE;) {
            while (r + 1 < n && (run[r + 1] >> 8) <= at + i)
                r++;
            uint32_t end = r + 1 < n ? (run[r + 1] >> 8) - at : PAGE;
            end = end < PAGE ? end : PAGE;
            memset(page + i, (int)(run[r] & 255), end - i);
            i = end;
        }
        if (used && !memcmp(pages[used - 1], page, PAGE))
            index[p] = (uint16_t)(used - 1);
        else
            index[p] = (uint16_t)used++;
    }
}

static void init_inert(void);

static void init(void)
{
    expand(uc_run, COUNT(uc_run), cdl_unicode_page, cdl_unicode_class, CLASS_PAGES);
    expand(script_run, COUNT(script_run), script_page, script_class, SCRIPT_PAGES);
    expand(ccc_run, COUNT(ccc_run), ccc_page, ccc_class, CCC_PAGES);
    init_inert();
}

void cdl_unicode_init(void)
{
    pthread_once(&once, init);
}

size_t cdl_unicode_ranges(uint32_t mask, uint32_t *out, size_t pairs)
{
    size_t n = 0;
    bool inside = false;
    for (size_t i = 0; i <= COUNT(uc_run); i++) {
        bool in = i < COUNT(uc_run) && cdl_unicode_mask[uc_run[i] & 255] & mask;
        uint32_t cp = i < COUNT(uc_run) ? uc_run[i] >> 8 : 0x110000;
        if (in && !inside && n < pairs)
            out[2 * n] = cp;
        if (!in && inside) {
            if (n < pairs)
                out[2 * n + 1] = cp - 1;
            n++;
        }
        inside = in;
    }
    return n;
}

uint32_t cdl_unicode_script(uint32_t cp)
{
    return script_class[script_page[cp / PAGE]][cp % PAGE];
}

uint32_t cdl_unicode_ccc(uint32_t cp)
{
    return cp < 0x300 ? 0 : ccc_class[ccc_page[cp / PAGE]][cp % PAGE];
}

uint32_t cdl_unicode_lower(uint32_t cp, uint32_t out[2])
{
    out[0] = cp;
    if (cp < 0x80) {
        out[0] += cp >= 'A' && cp <= 'Z' ? 32 : 0;
        return 1;
    }
    if (cp == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    size_t lo = 0, hi = COUNT(lower_run) / 4;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if ((uint32_t)lower_run[4 * mid] <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    const int32_t *r = lower_run + 4 * (lo - 1);
    if (cp <= (uint32_t)r[1] && (cp - (uint32_t)r[0]) % (uint32_t)r[2] == 0)
        out[0] = (uint32_t)((int32_t)cp + r[3]);
    return 1;
}

static const uint32_t *find(const uint32_t *keys, size_t n, uint32_t cp)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (keys[mid] < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && keys[lo] == cp ? keys + lo : NULL;
}

enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, V_COUNT = 21, T_COUNT = 28,
       N_COUNT = V_COUNT * T_COUNT, S_COUNT = 19 * N_COUNT };

uint32_t cdl_unicode_decompose(uint32_t cp, bool compat, uint32_t tmp[3], const uint32_t **out)
{
    tmp[0] = cp;
    *out = tmp;
    if (cp < 0xa0)
        return 1;
    if (cp >= S_BASE && cp < S_BASE + S_COUNT) {
        uint32_t s = cp - S_BASE;
        tmp[0] = L_BASE + s / N_COUNT;
        tmp[1] = V_BASE + s % N_COUNT / T_COUNT;
        tmp[2] = T_BASE + s % T_COUNT;
        return s % T_COUNT ? 3 : 2;
    }
    const uint32_t *k = compat ? find(nfkd_cp, COUNT(nfkd_cp), cp) : NULL;
    if (k) {
        uint32_t at = nfkd_at[k - nfkd_cp];
        *out = nfkd_text + (at >> 8);
        return at & 255;
    }
    k = find(nfd_cp, COUNT(nfd_cp), cp);
    if (!k)
        return 1;
    uint32_t at = nfd_at[k - nfd_cp];
    *out = nfd_text + (at >> 8);
    return at & 255;
}

uint32_t cdl_unicode_compose(uint32_t a, uint32_t b)
{
    if (a >= L_BASE && a < L_BASE + 19 && b >= V_BASE && b < V_BASE + V_COUNT)
        return S_BASE + (a - L_BASE) * N_COUNT + (b - V_BASE) * T_COUNT;
    if (a >= S_BASE && a < S_BASE + S_COUNT && b > T_BASE && b < T_BASE + T_COUNT)
        return (a - S_BASE) % T_COUNT ? 0 : a + (b - T_BASE);
    if (b < 0x300)
        return 0;
    size_t lo = 0, hi = COUNT(compose) / 3;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const uint32_t *c = compose + 3 * mid;
        if (c[0] == a && c[1] == b)
            return c[2];
        if (c[0] < a || (c[0] == a && c[1] < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

/* ---- Texts that a form leaves as they are ---- */

enum { INERT_END = 0x20000 };
static uint64_t inert[4][INERT_END / 64]; /* by form: compat * 2 + composed */

static void set_active(uint32_t first, uint32_t last, int form)
{
    for (uint32_t cp = first; cp <= last && cp < INERT_END; cp++)
        inert[form][cp / 64] &= ~((uint64_t)1 << cp % 64);
}

static bool comes_back(uint32_t cp)
{
    uint32_t tmp[3];
    const uint32_t *part;
    uint32_t n = cdl_unicode_decompose(cp, false, tmp, &part), c = part[0];
    for (uint32_t i = 1; i < n && c; i++)
        c = cdl_unicode_compose(c, part[i]);
    return c == cp && !cdl_unicode_ccc(part[0]);
}

static void init_inert(void)
{
    memset(inert, 0xff, sizeof inert);
    for (int form = 0; form < 4; form++) {
        bool composed = form & 1, compat = form & 2;
        for (size_t i = 0; i < COUNT(nfd_cp); i++)
            if (!composed || !comes_back(nfd_cp[i]))
                set_active(nfd_cp[i], nfd_cp[i], form);
        for (size_t i = 0; compat && i < COUNT(nfkd_cp); i++)
            set_active(nfkd_cp[i], nfkd_cp[i], form);
        for (size_t i = 0; composed && i < COUNT(compose); i += 3)
            set_active(compose[i + 1], compose[i + 1], form);
        if (composed)
            set_active(V_BASE, T_BASE + T_COUNT - 1, form);
        else
            set_active(S_BASE, S_BASE + S_COUNT - 1, form);
        for (size_t i = 0; i + 1 < COUNT(ccc_run); i++)
            if (ccc_run[i] & 255)
                set_active(ccc_run[i] >> 8, (ccc_run[i + 1] >> 8) - 1, form);
    }
}

bool cdl_unicode_has_form(const char *text, size_t n, bool compat, bool composed)
{
    const uint8_t *s = (const uint8_t *)text;
    const uint64_t *is = inert[2 * compat + composed];
    for (size_t i = 0; i < n; ) {
        uint64_t eight;
        uint32_t cp;
        if (n - i >= 8 && (memcpy(&eight, s + i, 8), !(eight & 0x8080808080808080ull))) {
            i += 8;
            continue;
        }
        size_t k = s[i] < 0x80 ? 1 : s[i] < 0xe0 ? 2 : s[i] < 0xf0 ? 3 : 4;
        cp = k == 1 ? s[i] : k == 2 ? (s[i] & 31u) << 6 | (s[i + 1] & 63u)
            : k == 3 ? (s[i] & 15u) << 12 | (s[i + 1] & 63u) << 6 | (s[i + 2] & 63u)
            : (s[i] & 7u) << 18 | (s[i + 1] & 63u) << 12 | (s[i + 2] & 63u) << 6 | (s[i + 3] & 63u);
        if (cp >= INERT_END || !(is[cp / 64] >> cp % 64 & 1))
            return false;
        i += k;
    }
    return true;
}

uint32_t cdl_unicode_from_byte(uint8_t b)
{
    if ((b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad))
        return b;
    if (b <= ' ')
        return 0x100u + b;
    return b == 0xad ? 0x143 : 0x121u + (b - 0x7fu);
}

int cdl_unicode_to_byte(uint32_t cp)
{
    if (cp < 0x100)
        return cdl_unicode_from_byte((uint8_t)cp) == cp ? (int)cp : -1;
    if (cp > 0x143)
        return -1;
    if (cp <= 0x120)
        return (int)(cp - 0x100);
    return cp == 0x143 ? 0xad : (int)(cp - 0x121 + 0x7f);
}
