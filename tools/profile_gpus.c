/* profile_gpus.c - what public figures of GPUs say of an op: estimates, called so wherever they are shown. */
#include "profile.h"

const profile_gpu profile_gpus[] = {
#define X(name, gb_s, tflops, source) { name, (gb_s) * 1e9, (tflops) * 1e12, source },
#include "profile_gpus.def"
#undef X
};
const uint32_t profile_n_gpus = sizeof profile_gpus / sizeof *profile_gpus;

double profile_gpu_bound(const profile_gpu *g, const cdl_cost *c)
{
    double memory = cdl_cost_bytes(c) / g->bytes_s, work = c->flops / g->flops_s;
    return memory > work ? memory : work;
}

double profile_phase_bound(const profile_gpu *g, const profile_phase *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->n; i++)
        sum += profile_gpu_bound(g, &p->nodes[i].cost);
    return sum;
}
