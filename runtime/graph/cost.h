/* cost.h - what a call of an op cannot do without: bytes of each operand, once, and arithmetic.
 *
 * The rooflines, GB/s and TFLOP/s of `cuddle profile` come from here, for every backend. Bytes are those
 * that the operands have where they lie: activations in the view's type, weights in their own, state
 * in the pages'; of tables and pages only what the step's rows touch.
 * Read first: op.h.   Tests: tests/unit/test_cost.c
 */
#ifndef CDL_COST_H
#define CDL_COST_H

#include "graph/op.h"

typedef struct {
    double in[CDL_OP_INPUTS];    /* bytes read of each input                                             */
    double state_read, state_written;
    double out;                  /* bytes written                                                        */
    double flops;                /* a multiplication and an addition are two; elementwise ops: 1 an element */
    /* 16 x 8 x 16 products of matrices that the flops of linear and attention fill: exact masks, rows padded to
     * 16 in attention of generated tokens (the heads of a group), else to 8. 0: not made of them. */
    double tiles;
} cdl_cost;

/* c: with the rows of a step, as it runs. */
cdl_cost cdl_cost_of(const cdl_call *c);
/* All bytes of it. */
double cdl_cost_bytes(const cdl_cost *c);

#endif
