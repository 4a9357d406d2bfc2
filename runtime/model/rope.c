#include "model/rope.h"

#include <math.h>
#include <string.h>

enum { ROTARY_MAX = 1024 };

typedef struct {
    cdl_config *config;
    const cdl_json *params;
    double theta;
    uint32_t dim;             /* rotary_dim */
    double inv[ROTARY_MAX / 2], inv_long[ROTARY_MAX / 2];
    double scale, scale_long;
    uint32_t long_from;
} maker;

/* A number of the scaling's parameters; required when fallback is NaN. */
static double param(maker *m, const char *key, double fallback)
{
    const cdl_json *v = cdl_json_get(m->params, key);
    double d = cdl_json_none(v) ? fallback : cdl_json_double(v, NAN);
    if (!isfinite(d)) {
        cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "rope_scaling: %s is missing or no number", key);
        return 1;
    }
    return d;
}

static double positive(maker *m, const char *key, double fallback)
{
    double d = param(m, key, fallback);
    if (d > 0)
        return d;
    cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "rope_scaling: %s must be above 0", key);
    return 1;
}

/* Tokens the model was trained on before the scaling. */
static double original_context(maker *m)
{
    double limit = cdl_config_double(m->config, "max_position_embeddings", 2048);
    double outer = cdl_config_double(m->config, "original_max_position_embeddings", limit);
    return positive(m, "original_max_position_embeddings", outer);
}

static void linear(maker *m)
{
    double factor = positive(m, "factor", NAN);
    for (uint32_t i = 0; i < m->dim / 2; i++)
        m->inv[i] /= factor;
}

static void llama3(maker *m)
{
    double factor = positive(m, "factor", NAN), low = positive(m, "low_freq_factor", NAN);
    double high = positive(m, "high_freq_factor", NAN), old = original_context(m);
    for (uint32_t i = 0; i < m->dim / 2; i++) {
        double wavelength = 2 * M_PI / m->inv[i];
        if (wavelength > old / low) {
            m->inv[i] /= factor;
        } else if (wavelength >= old / high) {
            double smooth = (old / wavelength - low) / (high - low);
            m->inv[i] = (1 - smooth) * m->inv[i] / factor + smooth * m->inv[i];
        }
    }
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double yarn_correction(const maker *m, double rotations, double old)
{
    return m->dim * log(old / (rotations * 2 * M_PI)) / (2 * log(m->theta));
}

static void yarn(maker *m)
{
    double old = original_context(m);
    double limit = cdl_config_double(m->config, "max_position_embeddings", old);
    double factor = positive(m, "factor", limit / old);
    double mscale = param(m, "mscale", 0), mscale_all = param(m, "mscale_all_dim", 0);
    double attention = mscale != 0 && mscale_all != 0
        ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all) : yarn_mscale(factor, 1);
    m->scale = positive(m, "attention_factor", attention);
    double low = yarn_correction(m, positive(m, "beta_fast", 32), old);
    double high = yarn_correction(m, positive(m, "beta_slow", 1), old);
    if (cdl_json_bool(cdl_json_get(m->params, "truncate"), true)) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, m->dim - 1);
    if (low == high)
        high += 0.001;
    for (uint32_t i = 0; i < m->dim / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        m->inv[i] = m->inv[i] / factor * ramp + m->inv[i] * (1 - ramp);
    }
}

/* Divides inv by the list of factors `key`. */
static void divide_by(maker *m, const char *key, double *inv)
{
    const cdl_json *list = cdl_json_get(m->params, key);
    if (cdl_json_len(list) != m->dim / 2 || list->type != CDL_JSON_ARRAY) {
        cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "rope_scaling: %s must be an array of %u", key, m->dim / 2);
        return;
    }
    for (uint32_t i = 0; i < m->dim / 2; i++) {
        double f = cdl_json_double(cdl_json_at(list, i), NAN);
        if (!(f > 0) || !isfinite(f)) {
            cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "rope_scaling: %s[%u] must be above 0", key, i);
            return;
        }
        inv[i] /= f;
    }
}

static void longrope(maker *m)
{
    double old = original_context(m);
    double limit = cdl_config_double(m->config, "max_position_embeddings", old);
    double factor = positive(m, "factor", limit / old);
    double attention = factor <= 1 || old <= 1 ? 1 : sqrt(1 + log(factor) / log(old));
    m->scale = m->scale_long = positive(m, "attention_factor", attention);
    memcpy(m->inv_long, m->inv, sizeof m->inv);
    divide_by(m, "short_factor", m->inv);
    divide_by(m, "long_factor", m->inv_long);
    m->long_from = (uint32_t)fmin(old, UINT32_MAX);
}

static void scale_by_type(maker *m)
{
    const char *type = cdl_json_string(cdl_json_get(m->params, "rope_type"),
            cdl_json_string(cdl_json_get(m->params, "type"), "default"));
    if (!strcmp(type, "linear"))
        linear(m);
    else if (!strcmp(type, "llama3"))
        llama3(m);
    else if (!strcmp(type, "yarn"))
        yarn(m);
    else if (!strcmp(type, "longrope") || !strcmp(type, "su"))
        longrope(m);
    else if (strcmp(type, "default") && strcmp(type, "dynamic") && strcmp(type, "none"))
        cdl_config_fail(m->config, CUDDLE_ERR_UNSUPPORTED,
                "rope_scaling: type %.40s is not known (default, linear, llama3, yarn, longrope, dynamic)", type);
}

/* GGUF keeps the factors as tensors; config.json (derived from it) has no lists. */
static bool divide_by_tensor(maker *m, const char *name, double *inv)
{
    const cdl_tensor_entry *t = cdl_checkpoint_find(m->config->checkpoint, name);
    if (!t)
        return false;
    float f[ROTARY_MAX / 2];
    if (t->ndim != 1 || t->dim[0] != m->dim / 2 || t->dtype != CDL_DTYPE_F32) {
        cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "tensor %s must be %u f32 values", name, m->dim / 2);
        return true;
    }
    cdl_dtype_to_f32(f, t->dtype, t->data, m->dim / 2);
    for (uint32_t i = 0; i < m->dim / 2; i++) {
        if (!(f[i] > 0) || !isfinite(f[i])) {
            cdl_config_fail(m->config, CUDDLE_ERR_FORMAT, "tensor %s: item %u must be above 0", name, i);
            return true;
        }
        inv[i] /= (double)f[i];
    }
    return true;
}

/* True when GGUF's tensors said how to scale. */
static bool scale_by_tensors(maker *m)
{
    if (!cdl_config_gguf(m->config))
        return false;
    if (divide_by_tensor(m, "rope_freqs.weight", m->inv))
        return true;
    memcpy(m->inv_long, m->inv, sizeof m->inv);
    if (!divide_by_tensor(m, "rope_factors_long.weight", m->inv_long))
        return false;
    divide_by_tensor(m, "rope_factors_short.weight", m->inv);
    double old = original_context(m), limit = cdl_config_double(m->config, "max_position_embeddings", old);
    double attention = limit <= old || old <= 1 ? 1 : sqrt(1 + log(limit / old) / log(old));
    m->scale = m->scale_long = positive(m, "attention_factor", attention);
    m->long_from = (uint32_t)fmin(old, UINT32_MAX);
    return true;
}

static cdl_val constant(cdl_graph *g, const char *name, const double *inv, uint32_t n)
{
    float f[ROTARY_MAX / 2];
    for (uint32_t i = 0; i < n; i++)
        f[i] = (float)inv[i];
    return cdl_graph_const(g, name, f, n);
}

cdl_rope cdl_rope_make(cdl_graph *g, cdl_config *c, const cdl_json *params, double theta, uint32_t head_dim)
{
    maker m = { .config = c, .params = params, .scale = 1, .scale_long = 1 };
    m.theta = positive(&m, "rope_theta", theta);
    double partial = param(&m, "partial_rotary_factor", cdl_config_double(c, "partial_rotary_factor", 1));
    double dim = floor(head_dim * partial);
    if (!(dim >= 2 && dim <= head_dim && dim <= ROTARY_MAX) || (uint32_t)dim % 2) {
        cdl_config_fail(c, CUDDLE_ERR_UNSUPPORTED, "rotary dimension %g of head_dim %u must be even and at most %d",
                dim, head_dim, ROTARY_MAX);
        return (cdl_rope){ 0 };
    }
    m.dim = (uint32_t)dim;
    for (uint32_t i = 0; i < m.dim / 2; i++)
        m.inv[i] = pow(m.theta, -2.0 * i / m.dim);
    if (!scale_by_tensors(&m) && !cdl_json_none(params))
        scale_by_type(&m);
    if (c->status != CUDDLE_OK)
        return (cdl_rope){ 0 };
    cdl_rope r = { .attrs = { .head_dim = head_dim, .rotary_dim = m.dim, .scale = (float)m.scale,
                              .scale_long = (float)m.scale_long, .long_from = m.long_from } };
    r.inv_freq = constant(g, "rope.inv_freq", m.inv, m.dim / 2);
    if (m.long_from) {
        r.inv_freq_long = constant(g, "rope.inv_freq_long", m.inv_long, m.dim / 2);
        g->rope_long_from = m.long_from;
    }
    return r;
}

cdl_rope cdl_rope_of_config(cdl_graph *g, cdl_config *c, double default_theta, uint32_t head_dim)
{
    const cdl_json *params = cdl_json_get(c->json, "rope_parameters");
    if (cdl_json_none(params))
        params = cdl_json_get(c->json, "rope_scaling");
    return cdl_rope_make(g, c, params, cdl_config_double(c, "rope_theta", default_theta), head_dim);
}
