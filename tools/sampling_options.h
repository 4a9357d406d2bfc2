/* sampling_options.h - the options of `run` and `chat` that say how the next token is chosen.
 *
 * A command lists SAMPLING_OPTIONS in its table, parses, opens the model, then calls
 * sampling_options_read. What was not given comes from the model's generation_config.json. */
#ifndef SAMPLING_OPTIONS_H
#define SAMPLING_OPTIONS_H

#include "cli.h"
#include "cuddle_model.h"

/* What was given; numbers that were not are NaN, whole numbers -1. */
typedef struct {
    bool greedy;
    double temperature, top_p, min_p, typical_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, no_repeat_ngram, seed;
    cli_list bias;             /* "ID=B" */
} sampling_options;

extern sampling_options sampling_given;

#define SAMPLING_OPTIONS                                                                            \
    { "sampling", 0, CLI_HEADING, NULL, NULL,                                                       \
      "sampling (defaults: the model's generation_config.json)", 0, 0 },                            \
    { "greedy", 0, CLI_FLAG, &sampling_given.greedy, NULL, "always the likeliest token", 0, 0 },    \
    { "temperature", 0, CLI_DOUBLE, &sampling_given.temperature, "T",                               \
      "divide logits by T; 0 is greedy", 0, 1e6 },                                                  \
    { "top-k", 0, CLI_INT, &sampling_given.top_k, "K", "of the K likeliest only; 0: of all", 0,     \
      INT32_MAX },                                                                                  \
    { "top-p", 0, CLI_DOUBLE, &sampling_given.top_p, "P",                                           \
      "of the likeliest that make up the share P", 1e-6, 1 },                                       \
    { "min-p", 0, CLI_DOUBLE, &sampling_given.min_p, "P",                                           \
      "only what has P times the largest probability", 0, 1 },                                      \
    { "typical-p", 0, CLI_DOUBLE, &sampling_given.typical_p, "P", "locally typical sampling",       \
      1e-6, 1 },                                                                                    \
    { "repetition-penalty", 0, CLI_DOUBLE, &sampling_given.repetition_penalty, "R",                 \
      "over 1: against tokens of prompt and answer", 1e-3, 1e3 },                                   \
    { "presence-penalty", 0, CLI_DOUBLE, &sampling_given.presence_penalty, "X",                     \
      "taken off logits of tokens generated before", -1e3, 1e3 },                                   \
    { "frequency-penalty", 0, CLI_DOUBLE, &sampling_given.frequency_penalty, "X",                   \
      "the same, times how often they were", -1e3, 1e3 },                                           \
    { "no-repeat-ngram", 0, CLI_INT, &sampling_given.no_repeat_ngram, "N",                          \
      "no N tokens in a row twice; 0: off", 0, 1 << 20 },                                           \
    { "logit-bias", 0, CLI_LIST, &sampling_given.bias, "ID=B",                                      \
      "add B to a token's logit, -inf bans it (repeatable)", 0, 0 },                                \
    { "seed", 0, CLI_INT, &sampling_given.seed, "S", "for the same answer again (default: random)", \
      0, 9007199254740992.0 }

/* The model's sampling with what was given on top; a seed that was not given is random. Choosing
 * a temperature, top-k, top-p, min-p or typical-p turns sampling on. out->bias lives as long as
 * the process. False, with a line on stderr: wrong use. */
bool sampling_options_read(cuddle_sampling *out, const cuddle_model *m);

#endif
