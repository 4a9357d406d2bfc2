/* device.h - activations of 16 bits for tests of CUDA kernels: seeded values already rounded to the type, up and
 * down. */
#ifndef TEST_DEVICE_H
#define TEST_DEVICE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../cuda/kernels.h"
#include "../kernel/kernel.h"
#include "driver.h"

/* Half an ulp of the type, relative: what one rounding costs. */
static inline float type_error(cdl_dtype t)
{
    return t == CDL_DTYPE_BF16 ? 0x1p-8f : 0x1p-11f;
}

static inline uint16_t type_bits(cdl_dtype t, float v)
{
    return t == CDL_DTYPE_BF16 ? cdl_bf16_from_f32(v) : cdl_f16_from_f32(v);
}

static inline float type_value(cdl_dtype t, uint16_t v)
{
    return t == CDL_DTYPE_BF16 ? cdl_f32_from_bf16(v) : cdl_f32_from_f16(v);
}

/* n normal values that the type holds exactly. */
static inline float *type_floats(cdl_dtype t, size_t n, kernel_random *r)
{
    float *x = kernel_floats(n, r);
    for (size_t i = 0; i < n; i++)
        x[i] = type_value(t, type_bits(t, x[i]));
    return x;
}

/* n floats in the type, on the device. */
static inline device_ptr type_up(cdl_dtype t, const float *x, size_t n)
{
    uint16_t *h = malloc(n * 2);
    for (size_t i = 0; i < n; i++)
        h[i] = type_bits(t, x[i]);
    device_ptr p = driver_up(h, n * 2);
    free(h);
    return p;
}

static inline float *type_down(cdl_dtype t, device_ptr p, size_t n)
{
    uint16_t *h = malloc(n * 2);
    float *x = malloc(n * sizeof *x);
    driver_must(driver.copy_down(h, p, n * 2), "cuMemcpyDtoH");
    for (size_t i = 0; i < n; i++)
        x[i] = type_value(t, h[i]);
    free(h);
    return x;
}

/* Fails unless |got - want| <= relative * |want| + absolute everywhere; a NaN fails. */
static inline void type_close(const char *what, const float *got, const float *want, size_t n, float relative,
        float absolute)
{
    float worst = 0;
    for (size_t i = 0; i < n; i++) {
        float bound = relative * fabsf(want[i]) + absolute, error = fabsf(got[i] - want[i]);
        if (!(error <= bound))
            fail_msg("%s: element %zu of %zu is %g, not %g (bound %g)", what, i, n, (double)got[i], (double)want[i],
                    (double)bound);
        worst = fmaxf(worst, error / bound);
    }
    printf("  %s: %.0f %% of the bound\n", what, (double)worst * 100);
}

/* name_type */
static inline const char *type_kernel(char *buf, size_t n, const char *name, cdl_dtype t)
{
    snprintf(buf, n, "%s_%s", name, t == CDL_DTYPE_BF16 ? "bf16" : "f16");
    return buf;
}

static const cdl_dtype activation_types[] = { CDL_DTYPE_BF16, CDL_DTYPE_F16 };

#endif
