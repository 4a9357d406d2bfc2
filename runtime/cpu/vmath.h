/* vmath.h - exp, tanh, erf, sine and cosine, activations on a vector of floats. Include after a vec_*.h.
 * Errors: exp below 2e-7 relative; tanh, erf, sin, cos below 3e-7 absolute (tests/kernel/test_rows.c). */
#ifndef CDL_VMATH_H
#define CDL_VMATH_H

#include "graph/op.h"

/* 2^n * p(f) with n = round(x log2 e) and |f| <= ln 2 / 2; below -104: 0, above 89: inf. */
VEC vf vf_exp(vf x)
{
    x = vf_min(vf_max(x, vf_set(-104.0f)), vf_set(89.0f));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    vf f = vf_fnma(n, vf_set(-2.12194440e-4f), vf_fnma(n, vf_set(0.693359375f), x));
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, f, vf_set(1.3981999507e-3f));
    p = vf_fma(p, f, vf_set(8.3334519073e-3f));
    p = vf_fma(p, f, vf_set(4.1665795894e-2f));
    p = vf_fma(p, f, vf_set(1.6666665459e-1f));
    p = vf_fma(p, f, vf_set(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(f, f), vf_add(f, vf_set(1.0f)));
    return vf_scale(p, n);
}

/* (1 - e) / (1 + e) with e = exp(-2|x|); a series where that would cancel. */
VEC vf vf_tanh(vf x)
{
    vf a = vf_abs(x), e = vf_exp(vf_mul(a, vf_set(-2.0f))), one = vf_set(1.0f);
    vf y = vf_div(vf_sub(one, e), vf_add(one, e));
    vf z = vf_mul(x, x), s = vf_set(-5.70498872745e-3f);
    s = vf_fma(s, z, vf_set(2.06390887954e-2f));
    s = vf_fma(s, z, vf_set(-5.37397155531e-2f));
    s = vf_fma(s, z, vf_set(1.33314422036e-1f));
    s = vf_fma(s, z, vf_set(-3.33332819422e-1f));
    s = vf_fma(vf_mul(s, z), a, a);
    return vf_xor_sign(vf_select(vf_less(a, vf_set(0.625f)), s, y), x);
}

/* 1 - erfc by the Chebyshev fit of Numerical Recipes (erfcc), and the Taylor series where 1 - ... would
 * cancel. */
VEC vf vf_erf(vf x)
{
    vf a = vf_abs(x), one = vf_set(1.0f);
    vf z = vf_mul(a, a);
    vf s = vf_set(1.2055332e-4f);
    s = vf_fma(s, z, vf_set(-8.5483270e-4f));
    s = vf_fma(s, z, vf_set(5.2239776e-3f));
    s = vf_fma(s, z, vf_set(-2.6866171e-2f));
    s = vf_fma(s, z, vf_set(1.1283792e-1f));
    s = vf_fma(s, z, vf_set(-3.7612639e-1f));
    s = vf_mul(vf_fma(s, z, vf_set(1.1283792f)), a);
    vf t = vf_div(one, vf_fma(vf_set(0.5f), a, one));
    vf p = vf_set(0.17087277f);
    p = vf_fma(p, t, vf_set(-0.82215223f));
    p = vf_fma(p, t, vf_set(1.48851587f));
    p = vf_fma(p, t, vf_set(-1.13520398f));
    p = vf_fma(p, t, vf_set(0.27886807f));
    p = vf_fma(p, t, vf_set(-0.18628806f));
    p = vf_fma(p, t, vf_set(0.09678418f));
    p = vf_fma(p, t, vf_set(0.37409196f));
    p = vf_fma(p, t, vf_set(1.00002368f));
    p = vf_sub(vf_mul(p, t), vf_add(z, vf_set(1.26551223f)));
    vf y = vf_sub(one, vf_mul(t, vf_exp(p)));
    return vf_xor_sign(vf_select(vf_less(a, vf_set(0.6f)), s, y), x);
}

/* Sine and cosine of angles up to 10^7: pi/2 is taken off in three parts, then the Cephes polynomials. */
VEC void vf_sin_cos(vf x, vf *sine, vf *cosine)
{
    vf n = vf_round(vf_mul(x, vf_set(0.636619772f)));
    vf r = vf_fnma(n, vf_set(0x1.921fb6p+0f), x);
    r = vf_fnma(n, vf_set(-0x1.777a5cp-25f), r);
    r = vf_fnma(n, vf_set(-0x1.ee59dap-50f), r);
    vf z = vf_mul(r, r);
    vf s = vf_fma(vf_set(-1.9515295891e-4f), z, vf_set(8.3321608736e-3f));
    s = vf_fma(s, z, vf_set(-1.6666654611e-1f));
    s = vf_fma(vf_mul(s, z), r, r);
    vf c = vf_fma(vf_set(2.443315711809948e-5f), z, vf_set(-1.388731625493765e-3f));
    c = vf_fma(c, z, vf_set(4.166664568298827e-2f));
    c = vf_fma(vf_mul(c, z), z, vf_fnma(z, vf_set(0.5f), vf_set(1.0f)));
    vf_mask odd = vf_odd(n);
    *sine = vf_xor_sign(vf_select(odd, c, s), vf_odd_sign(n, 1));
    *cosine = vf_xor_sign(vf_select(odd, s, c), vf_odd_sign(vf_add(n, vf_set(1.0f)), 1));
}

VEC vf vf_act(cdl_act act, vf x)
{
    const vf one = vf_set(1.0f), half = vf_set(0.5f);
    switch (act) {
    case CDL_ACT_SILU:
        return vf_div(x, vf_add(one, vf_exp(vf_sub(vf_set(0.0f), x))));
    case CDL_ACT_GELU:
        return vf_mul(vf_mul(half, x), vf_add(one, vf_erf(vf_mul(x, vf_set(0.707106781f)))));
    case CDL_ACT_GELU_TANH: {
        vf cube = vf_mul(vf_mul(x, x), x);
        vf u = vf_mul(vf_set(0.797884561f), vf_fma(vf_set(0.044715f), cube, x));
        return vf_mul(vf_mul(half, x), vf_add(one, vf_tanh(u)));
    }
    default:
        return vf_max(x, vf_set(0.0f));
    }
}

#endif
