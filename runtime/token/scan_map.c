#include "token/scan_map.h"

#include <string.h>

#include "base/mem.h"

/* Bit b of each of eight bytes. */
static inline uint64_t bits_of(uint64_t eight, unsigned b)
{
    return ((eight >> b) & 0x0101010101010101ull) * 0x0102040810204080ull >> 56;
}

static void mask_block(const char *s, const uint8_t *kind, size_t bytes, uint64_t *out)
{
    uint64_t all[8] = { 0 };
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, kind + 8 * i, 8);
        for (unsigned b = 0; b < 8; b++)
            all[b] |= bits_of(eight, b) << 8 * i;
    }
    uint64_t valid = bytes < 64 ? ((uint64_t)1 << bytes) - 1 : UINT64_MAX, line = 0, blank = 0;
    for (size_t i = 0; i < bytes; i++) {
        line |= (uint64_t)(s[i] == '\n' || s[i] == '\r') << i;
        blank |= (uint64_t)(s[i] == ' ') << i;
    }
    out[CDL_AT_L] = all[0] & valid;
    out[CDL_AT_N] = all[1] & valid;
    out[CDL_AT_SPACE] = all[5] & valid;
    out[CDL_AT_OTHER] = ~(all[0] | all[1] | all[5]) & valid;
    out[CDL_AT_LINE] = line;
    out[CDL_AT_BLANK] = blank;
    out[CDL_AT_UPPERISH] = all[6] & valid;
    out[CDL_AT_LOWERISH] = all[7] & valid;
}

uint8_t cdl_scan_classify_plain(const char *s, size_t n, uint8_t *kind, cdl_scan_block *block)
{
    uint8_t all = 0;
    for (size_t at = 0; at < n; at += 64, block++) {
        size_t bytes = n - at < 64 ? n - at : 64;
        uint64_t lead = 0;
        bool ascii = true;
        for (size_t i = 0; i < bytes; i++) {
            uint8_t byte = (uint8_t)s[at + i];
            kind[at + i] = (uint8_t)cdl_unicode(byte & 0x7f);
            ascii &= byte < 0x80;
            lead |= (uint64_t)(byte >= 0xc0) << i;
        }
        if (!ascii)
            all |= cdl_scan_fix(s, n, at, lead, kind);
        mask_block(s + at, kind + at, bytes, *block);
    }
    return all;
}

static cdl_scan_classify *pick(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi"))
        return cdl_scan_classify_avx512;
#endif
    return cdl_scan_classify_plain;
}

cuddle_status cdl_scan_read(cdl_scan_map *m, const char *s, size_t n)
{
    m->s = s;
    m->n = n;
    if (n + 128 > m->cap) {
        size_t cap = n + n / 2 + 4096;
        cdl_scan_free(m);
        m->kind = cdl_mem_array(cap, 1);
        m->block = cdl_mem_array(cap / 64, sizeof *m->block);
        if (!m->kind || !m->block)
            return cdl_status_nomem("the characters of a text");
        m->cap = cap;
    }
    m->wide = pick()(s, n, m->kind, m->block);
    memset(m->block[(n + 63) / 64], 0, sizeof *m->block);
    return CUDDLE_OK;
}

void cdl_scan_free(cdl_scan_map *m)
{
    cdl_mem_free(m->kind);
    cdl_mem_free(m->block);
    m->kind = NULL;
    m->block = NULL;
    m->cap = 0;
}
