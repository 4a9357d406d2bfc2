/* base64.h - base64 (RFC 4648, '+' and '/'). Tests: tests/unit/test_import.c */
#ifndef CDL_BASE64_H
#define CDL_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* Bytes of s [n] into out (at least 3 * n / 4 of room), *n_out of them; '=' ends it. False: something else is in it. */
bool cdl_base64_decode(const char *s, size_t n, uint8_t *out, size_t *n_out);
/* The 4 characters of up to 3 bytes. */
void cdl_base64_encode(const uint8_t *s, size_t n, char *out);

#endif
