#include <string.h>

#include "cpu/ref/ref.h"

void cdl_ref_GATHER(const cdl_call *c)
{
    const int32_t *rows = c->in[1].data;
    for (uint32_t r = 0; r < c->out.rows; r++)
        memcpy(ref_row(&c->out, r), ref_row(&c->in[0], (uint32_t)rows[r]), c->out.cols * sizeof(float));
}
