#include "base64.h"

static int digit(int c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
        : c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool cdl_base64_decode(const char *s, size_t n, uint8_t *out, size_t *n_out)
{
    uint32_t bits = 0;
    int have = 0;
    *n_out = 0;
    for (size_t i = 0; i < n && s[i] != '='; i++) {
        int d = digit(s[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*n_out)++] = (uint8_t)(bits >> have);
        }
    }
    return true;
}

void cdl_base64_encode(const uint8_t *s, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t v = (uint32_t)s[0] << 16 | (n > 1 ? (uint32_t)s[1] << 8 : 0) | (n > 2 ? s[2] : 0u);
    for (int i = 0; i < 4; i++)
        out[i] = (size_t)i > n ? '=' : digits[v >> (18 - 6 * i) & 63];
}
