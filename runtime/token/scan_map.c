#include "token/scan_map.h"

#include <pthread.h>
#include <string.h>

#include "base/env.h"
#include "base/mem.h"
#include "token/unicode.h"

uint8_t cdl_scan_kind[CDL_SCAN_PLANE], cdl_scan_group[CDL_SCAN_PLANE / 512];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static cdl_scan_classify *classify = cdl_scan_classify_plain;
static cdl_scan_find_ends *find_ends = cdl_scan_ends_plain;

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

enum { BYTE_MASKS = CDL_AT_MASKS - CDL_SCAN_KINDS };
static uint8_t byte_kind[256]; /* bit i: mask CDL_SCAN_KINDS + i */

static void init_byte_kinds(void)
{
    static const char line[] = "\n\r";
    for (const char *s = line; *s; s++)
        byte_kind[(uint8_t)*s] |= 1 << (CDL_AT_LINE - CDL_SCAN_KINDS);
    byte_kind[' '] |= 1 << (CDL_AT_BLANK - CDL_SCAN_KINDS);
    byte_kind['\''] |= 1 << (CDL_AT_QUOTE - CDL_SCAN_KINDS);
    byte_kind['/'] |= 1 << (CDL_AT_SLASH - CDL_SCAN_KINDS);
    for (int i = 0x80; i < 0x100; i++)
        byte_kind[i] |= 1 << (CDL_AT_HIGH - CDL_SCAN_KINDS);
    for (int i = 0x80; i < 0xc0; i++)
        byte_kind[i] |= 1 << (CDL_AT_CONT - CDL_SCAN_KINDS);
}

/* Bit 8 i + b becomes bit 8 b + i. */
static inline uint64_t transpose(uint64_t x)
{
    uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aaull;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000ccccull;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0ull;
    return x ^ t ^ t << 28;
}

/* Bit b of 64 bytes into out[b]. */
static void put_masks(const uint8_t *bytes, int n, uint64_t *out)
{
    uint64_t mask[8] = { 0 };
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, bytes + 8 * i, 8);
        eight = transpose(eight);
        for (unsigned b = 0; b < 8; b++)
            mask[b] |= (eight >> 8 * b & 0xff) << 8 * i;
    }
    memcpy(out, mask, (size_t)n * sizeof *out);
}

/* The kinds of the characters that begin in s [most], of a text that goes on, behind those that are there. */
static void put_kinds(uint8_t *kind, const uint8_t *s, size_t most)
{
    for (size_t i = 0, bytes; i < most; i += bytes) {
        uint64_t eight = UINT64_MAX;
        if (most - i >= 8)
            memcpy(&eight, s + i, 8);
        bytes = eight & 0x8080808080808080ull ? 0 : 8;
        for (size_t k = 0; k < bytes; k++)
            kind[i + k] = cdl_scan_kind[s[i + k]];
        if (bytes)
            continue;
        bytes = s[i] < 0xc0 ? 1 : s[i] < 0xe0 ? 2 : s[i] < 0xf0 ? 3 : 4;
        if ((s[i] & 0xc0) != 0x80)
            memset(kind + i, cdl_scan_kind_at(s + i, bytes), bytes);
    }
}

void cdl_scan_classify_plain(const char *text, size_t n, cdl_scan_block *block)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t kind[64 + 4] = { 0 }, bytes[64]; /* kind: and what the last character has in the next block */
    for (size_t at = 0; at < n; at += 64, block++) {
        size_t most = n - at < 64 ? n - at : 64;
        memcpy(kind, kind + 64, 4);
        put_kinds(kind, s + at, most);
        for (size_t i = 0; i < most; i++)
            bytes[i] = byte_kind[s[at + i]];
        memset(kind + most, 0, most < 64 ? 64 - most : 0);
        memset(bytes + most, 0, 64 - most);
        put_masks(kind, CDL_SCAN_KINDS, *block);
        put_masks(bytes, BYTE_MASKS, *block + CDL_SCAN_KINDS);
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
    init_byte_kinds();
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
    if (cdl_scan_may_avx512() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2")
            && __builtin_cpu_supports("bmi"))
        find_ends = cdl_scan_ends_avx512;
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

size_t cdl_scan_ends(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    return find_ends(m, scan, at, end, most);
}

void cdl_scan_free(cdl_scan_map *m)
{
    cdl_mem_free(m->block);
    m->block = NULL;
    m->cap = 0;
}
