#include "token/scan_map.h"

#include <pthread.h>
#include <string.h>

#include "base/env.h"
#include "base/mem.h"
#include "token/unicode.h"

uint8_t cdl_scan_kind[CDL_SCAN_PLANE], cdl_scan_group[CDL_SCAN_PLANE / 512];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static cdl_scan_classify *classify = cdl_scan_classify_plain;

uint8_t cdl_scan_kind_of(uint32_t cp)
{
    static const struct {
        uint32_t mask;
        int bit;
    } parts[] = { { CDL_UC_UPPERISH, CDL_AT_UPPERISH }, { CDL_UC_LOWERISH, CDL_AT_LOWERISH }, { CDL_UC_M, CDL_AT_M },
                  { CDL_UC_N, CDL_AT_N }, { CDL_UC_P | CDL_UC_S, CDL_AT_PS }, { CDL_UC_SPACE, CDL_AT_SPACE } };
    uint32_t c = cdl_unicode(cp), kind = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        kind |= (c & parts[i].mask ? 1u : 0u) << parts[i].bit;
    kind |= (kind ? 0u : 1u) << CDL_AT_REST;
    kind |= (c & CDL_UC_NUMERIC && !(c & CDL_UC_N) ? 1u : 0u) << CDL_AT_PS;
    kind |= ((cp >= 0x3040 && cp <= 0x30ff) || (cp >= 0x4e00 && cp <= 0x9fa5) ? 1u : 0u) << CDL_AT_CJK;
    return (uint8_t)kind;
}

/* ---- Eight bytes at a time ---- */

/* Bit b of each of eight bytes. */
static inline uint64_t bits_of(uint64_t eight, unsigned b)
{
    return ((eight >> b) & 0x0101010101010101ull) * 0x0102040810204080ull >> 56;
}

static void mask_kinds(const uint8_t *kind, uint64_t *out)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, kind + 8 * i, 8);
        for (unsigned b = 0; b < CDL_SCAN_KINDS; b++)
            out[b] |= bits_of(eight, b) << 8 * i;
    }
}

static void mask_bytes(const uint8_t *s, size_t n, uint64_t *out)
{
    for (size_t i = 0; i < n; i++) {
        out[CDL_AT_LINE] |= (uint64_t)(s[i] == '\n' || s[i] == '\r') << i;
        out[CDL_AT_BLANK] |= (uint64_t)(s[i] == ' ') << i;
        out[CDL_AT_QUOTE] |= (uint64_t)(s[i] == '\'') << i;
        out[CDL_AT_SLASH] |= (uint64_t)(s[i] == '/') << i;
        out[CDL_AT_CONT] |= (uint64_t)((s[i] & 0xc0) == 0x80) << i;
        out[CDL_AT_HIGH] |= (uint64_t)(s[i] >= 0x80) << i;
    }
}

void cdl_scan_classify_plain(const char *text, size_t n, cdl_scan_block *block)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t kind[64 + 4] = { 0 }; /* and what the last character has in the next block */
    for (size_t at = 0; at < n; at += 64, block++) {
        size_t most = n - at < 64 ? n - at : 64;
        memset(*block, 0, sizeof *block);
        memcpy(kind, kind + 64, 4);
        memset(kind + 4, 0, sizeof kind - 4);
        for (size_t i = 0; i < most; i++) {
            uint8_t byte = s[at + i];
            if ((byte & 0xc0) == 0x80)
                continue;
            size_t bytes = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
            memset(kind + i, cdl_scan_kind_at(s + at + i, bytes), bytes);
        }
        mask_kinds(kind, *block);
        mask_bytes(s + at, most, *block);
    }
}

/* ---- A map ---- */

bool cdl_scan_may_avx512(void)
{
    const char *cpu = cdl_env_get(CDL_ENV_CUDDLE_CPU);
    return !cpu || (strncmp(cpu, "ref", 3) != 0 && strcmp(cpu, "avx2") != 0);
}

static void init(void)
{
    cdl_unicode_init();
    for (uint32_t cp = 0; cp < CDL_SCAN_PLANE; cp++)
        cdl_scan_kind[cp] = cdl_scan_kind_of(cp);
    for (uint32_t cp = 0; cp < CDL_SCAN_PLANE; cp += 512)
        if (memcmp(cdl_scan_kind + cp, cdl_scan_kind + cp + 1, 511) == 0)
            cdl_scan_group[cp / 512] = cdl_scan_kind[cp];
#ifdef __x86_64__
    const char *cpu = cdl_env_get(CDL_ENV_CUDDLE_CPU);
    if (cdl_scan_may_avx512() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi"))
        classify = cdl_scan_classify_avx512;
    else if ((!cpu || strncmp(cpu, "ref", 3) != 0) && __builtin_cpu_supports("avx2"))
        classify = cdl_scan_classify_avx2;
#endif
}

void cdl_scan_init(void)
{
    pthread_once(&once, init);
}

cuddle_status cdl_scan_read(cdl_scan_map *m, const char *s, size_t n)
{
    m->s = s;
    m->n = n;
    if (n + 128 > m->cap) {
        size_t cap = n + n / 2 + 4096;
        cdl_scan_init();
        cdl_scan_free(m);
        m->block = cdl_mem_array(cap / 64, sizeof *m->block);
        if (!m->block)
            return cdl_status_nomem("the characters of a text");
        m->cap = cap;
    }
    classify(s, n, m->block);
    memset(m->block[(n + 63) / 64], 0, sizeof *m->block);
    return CUDDLE_OK;
}

void cdl_scan_free(cdl_scan_map *m)
{
    cdl_mem_free(m->block);
    m->block = NULL;
    m->cap = 0;
}
