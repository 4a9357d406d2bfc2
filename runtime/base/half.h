/* half.h - f16, bf16 and f32, bit exact (round to nearest even). Portable; the fast
 * kernels use the CPU's own conversions. Tests: tests/unit/test_half.c */
#ifndef CDL_HALF_H
#define CDL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float cdl_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t cdl_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float cdl_f32_from_bf16(uint16_t h)
{
    return cdl_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t cdl_bf16_from_f32(float f)
{
    uint32_t u = cdl_f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float cdl_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag >= 0x7c00)
        return cdl_f32_from_bits(sign | 0x7f800000 | (mag & 0x3ff) << 13);
    if (mag >= 0x400)
        return cdl_f32_from_bits(sign | ((mag << 13) + 0x38000000));
    float f = (float)mag * 0x1p-24f; /* subnormal: exact */
    return sign ? -f : f;
}

static inline uint16_t cdl_f16_from_f32(float f)
{
    uint32_t u = cdl_f32_bits(f), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (mag >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00); /* rounds to infinity */
    if (mag >= 0x38800000)
        return (uint16_t)(sign | ((mag - 0x38000000 + 0xfff + (mag >> 13 & 1)) >> 13));
    /* Subnormal: adding 0.5 puts the result's bits at the end of the mantissa, rounded. */
    return (uint16_t)(sign | (cdl_f32_bits(cdl_f32_from_bits(mag) + 0.5f) - 0x3f000000));
}

#endif
