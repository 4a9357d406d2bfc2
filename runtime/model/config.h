/* config.h - typed, checked reading of config.json's fields; the first error sticks.
 * Tests: tests/unit/test_model.c, tests/fuzz/fuzz_config.c */
#ifndef CDL_CONFIG_H
#define CDL_CONFIG_H

#include "format/checkpoint.h"

typedef struct {
    const cdl_json *json;
    const cdl_checkpoint *checkpoint;
    const char *folder;        /* for errors                                */
    cuddle_status status;      /* the first error; its line is set then     */
} cdl_config;

/* What config.json of a checkpoint says. */
cdl_config cdl_config_of(const cdl_checkpoint *c);

/* FORMAT: "<folder>/config.json: <what>". Kept unless an earlier error is there. */
void cdl_config_fail(cdl_config *c, cuddle_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* An integer in [min, max]. Without the key: fallback; when fallback is outside the range, an error. */
uint32_t cdl_config_u32(cdl_config *c, const char *key, int64_t fallback, uint32_t min, uint32_t max);
/* A finite number. */
double cdl_config_double(cdl_config *c, const char *key, double fallback);
bool cdl_config_bool(cdl_config *c, const char *key, bool fallback);
const char *cdl_config_string(cdl_config *c, const char *key, const char *fallback);
bool cdl_config_has(const cdl_config *c, const char *key); /* present and not null */
/* An array of exactly n items (or n = 0: any), or NULL when there is none. */
const cdl_json *cdl_config_array(cdl_config *c, const char *key, size_t n);
/* Made from GGUF metadata: some weights are stored in another form (format/checkpoint.h). */
bool cdl_config_gguf(const cdl_config *c);

#endif
