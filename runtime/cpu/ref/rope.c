#include <math.h>
#include <string.h>

#include "cpu/ref/ref.h"
#include "cpu/state.h"

/* One head: the first rotary_dim elements turn in pairs, the others pass. */
static void turn(const cdl_rope_attrs *a, const float *x, float *y, const float *inv, int32_t position, double scale)
{
    uint32_t half = a->rotary_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = (double)((float)position * inv[i]); /* f32 product, as Hugging Face */
        double c = cos(angle) * scale, s = sin(angle) * scale;
        uint32_t p = a->interleaved ? 2 * i : i, q = a->interleaved ? 2 * i + 1 : i + half;
        double u = (double)x[p], v = (double)x[q];
        y[p] = (float)(u * c - v * s);
        y[q] = (float)(u * s + v * c);
    }
    if (x != y)
        memcpy(y + a->rotary_dim, x + a->rotary_dim, (a->head_dim - a->rotary_dim) * sizeof *y);
}

void cdl_ref_ROPE(const cdl_call *c)
{
    const cdl_rope_attrs *a = c->attrs;
    const int32_t *positions = c->in[1].data;
    const float *inv = c->in[2].data, *inv_long = ref_vector(c, 3);
    for (uint32_t r = 0; r < c->out.rows; r++) {
        bool is_long = inv_long && cdl_span_of(c->step, r)->length > a->long_from;
        for (uint32_t h = 0; h < c->out.cols; h += a->head_dim)
            turn(a, ref_row(&c->in[0], r) + h, ref_row(&c->out, r) + h, is_long ? inv_long : inv, positions[r],
                 (double)(is_long ? a->scale_long : a->scale));
    }
}
