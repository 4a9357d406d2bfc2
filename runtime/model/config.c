#include "model/config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

cdl_config cdl_config_of(const cdl_checkpoint *c)
{
    return (cdl_config){ .json = cdl_checkpoint_config(c), .checkpoint = c, .folder = cdl_checkpoint_folder(c) };
}

void cdl_config_fail(cdl_config *c, cuddle_status code, const char *fmt, ...)
{
    if (c->status != CUDDLE_OK)
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->status = cdl_status_fail(code, "%s: config.json: %s", c->folder, text);
}

static bool number(const cdl_json *v)
{
    return v && (v->type == CDL_JSON_INT || v->type == CDL_JSON_DOUBLE);
}

uint32_t cdl_config_u32(cdl_config *c, const char *key, int64_t fallback, uint32_t min, uint32_t max)
{
    const cdl_json *v = cdl_json_get(c->json, key);
    int64_t n = fallback;
    if (!cdl_json_none(v)) {
        n = cdl_json_int(v, -1);
        if (!number(v) || n < min || n > max) {
            cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s must be an integer from %u to %u", key, min, max);
            return min;
        }
    } else if (n < min || n > max) {
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s is missing", key);
        return min;
    }
    return (uint32_t)n;
}

double cdl_config_double(cdl_config *c, const char *key, double fallback)
{
    const cdl_json *v = cdl_json_get(c->json, key);
    if (cdl_json_none(v))
        return fallback;
    double d = cdl_json_double(v, NAN);
    if (!isfinite(d)) {
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s must be a number", key);
        return fallback;
    }
    return d;
}

bool cdl_config_bool(cdl_config *c, const char *key, bool fallback)
{
    const cdl_json *v = cdl_json_get(c->json, key);
    if (!cdl_json_none(v) && v->type != CDL_JSON_BOOL)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s must be true or false", key);
    return cdl_json_bool(v, fallback);
}

const char *cdl_config_string(cdl_config *c, const char *key, const char *fallback)
{
    const cdl_json *v = cdl_json_get(c->json, key);
    if (!cdl_json_none(v) && v->type != CDL_JSON_STRING)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s must be a string", key);
    return cdl_json_string(v, fallback);
}

bool cdl_config_has(const cdl_config *c, const char *key)
{
    return !cdl_json_none(cdl_json_get(c->json, key));
}

const cdl_json *cdl_config_array(cdl_config *c, const char *key, size_t n)
{
    const cdl_json *v = cdl_json_get(c->json, key);
    if (cdl_json_none(v))
        return NULL;
    if (v->type != CDL_JSON_ARRAY || (n && v->n != n)) {
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "%s must be an array of %zu", key, n);
        return NULL;
    }
    return v;
}

bool cdl_config_gguf(const cdl_config *c)
{
    return cdl_json_bool(cdl_json_get(c->json, "_gguf"), false);
}
