/* sampling_config.h - sampling defaults from generation_config.json. Tests: tests/unit/test_sampler.c */
#ifndef CDL_SAMPLING_CONFIG_H
#define CDL_SAMPLING_CONFIG_H

#include "base/json.h"
#include "cuddle_sampler.h"

/* generation_config: an object or NULL. Fields that are missing, null or out of range get
 * transformers' defaults: do_sample false (mode GREEDY), temperature 1, top_k 50, the rest off. */
void cdl_sampling_from_config(cuddle_sampling *out, const cdl_json *generation_config);

#endif
