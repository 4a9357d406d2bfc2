#include "model/sampling_config.h"

#include <math.h>
#include <string.h>

/* A number of the config within (low, high], else 0 (the default). */
static float number(const cdl_json *config, const char *key, double low, double high)
{
    double v = cdl_json_double(cdl_json_get(config, key), 0);
    return v > low && v <= high ? (float)v : 0;
}

static uint32_t count(const cdl_json *config, const char *key, uint32_t fallback)
{
    int64_t v = cdl_json_int(cdl_json_get(config, key), -1);
    return v >= 0 && v <= INT32_MAX ? (uint32_t)v : fallback;
}

void cdl_sampling_from_config(cuddle_sampling *out, const cdl_json *config)
{
    enum { TOP_K = 50 }; /* transformers' default */
    const double big = 1e6;
    bool sample = cdl_json_bool(cdl_json_get(config, "do_sample"), false);
    cuddle_sampling s = {
        .size = sizeof s,
        .mode = sample ? CUDDLE_PICK_SAMPLE : CUDDLE_PICK_GREEDY,
        .temperature = number(config, "temperature", 0, big),
        .top_k = count(config, "top_k", TOP_K),
        .top_p = number(config, "top_p", 0, 1),
        .min_p = number(config, "min_p", 0, 1),
        .typical_p = number(config, "typical_p", 0, 1),
        .epsilon_cutoff = number(config, "epsilon_cutoff", 0, 0.999999),
        .eta_cutoff = number(config, "eta_cutoff", 0, 0.999999),
        .repetition_penalty = number(config, "repetition_penalty", 0, big),
        .no_repeat_ngram = count(config, "no_repeat_ngram_size", 0),
    };
    if (sample && cdl_json_double(cdl_json_get(config, "temperature"), 1) == 0)
        s.mode = CUDDLE_PICK_GREEDY;
    if (s.temperature == 0)
        s.temperature = 1;
    *out = s;
}
