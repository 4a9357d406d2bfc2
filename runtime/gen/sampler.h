/* sampler.h - a sampler's choice as a device makes it. Public side: include/cuddle_sampler.h. */
#ifndef CDL_SAMPLER_H
#define CDL_SAMPLER_H

#include "cuddle_sampler.h"
#include "graph/backend.h"

/* What cuddle_sampler_pick would do at `position`; out borrows from s until it accepts a token. False: a stage
 * that only the host has. */
bool cdl_sampler_describe(cuddle_sampler *s, uint64_t position, cdl_pick *out);

#endif
