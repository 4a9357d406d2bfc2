#include "utf8.h"

size_t cdl_utf8_blocks(const char *s, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        size_t i = cdl_utf8_blocks_avx2(s, n);
        for (size_t back = 1; back < 4 && back <= i; back++) /* the last character may be cut off */
            if (((uint8_t)s[i - back] & 0xc0) != 0x80)
                return (uint8_t)s[i - back] < 0x80 ? i : i - back;
        return i;
    }
#endif
    return 0;
}

size_t cdl_utf8_write(char *out, const uint32_t *cp, size_t n)
{
    size_t at = 0, i = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2"))
        at = cdl_utf8_write_avx512(out, cp, n, &i);
#endif
    for (; i < n; i++) {
        if (cp[i] > 0x10ffff || (cp[i] & 0xfffff800) == 0xd800)
            return SIZE_MAX;
        at += cdl_utf8_put(out + at, cp[i]);
    }
    return at;
}
