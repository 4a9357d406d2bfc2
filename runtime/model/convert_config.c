/* convert_config.c - an architecture's metadata for GGUF, from config.json and from the graph that it made.
 *
 * What the graph does (windows, RoPE, scales) is taken from it, so that no rule of an architecture
 * stands here twice. Source: llama.cpp's gguf-py constants and converter, named by key. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/architecture.h"
#include "model/convert_parts.h"

/* What llama.cpp does by architecture without asking the file. */
static const struct {
    const char *type, *arch;   /* config.json's and GGUF's        */
    bool interleaved;          /* rotary pairs side by side       */
    cdl_act act;
    uint32_t period;           /* one of so many layers sees all; 0: none; 1: all do, whatever the window */
} known[] = {
    { "llama", "llama", true, CDL_ACT_SILU, 0 },
    { "mistral", "llama", true, CDL_ACT_SILU, 0 },
    { "smollm3", "smollm3", true, CDL_ACT_SILU, 1 },
    { "qwen2", "qwen2", false, CDL_ACT_SILU, 1 },
    { "qwen3", "qwen3", false, CDL_ACT_SILU, 1 },
    { "phi3", "phi3", false, CDL_ACT_SILU, 0 },
    { "gemma", "gemma", false, CDL_ACT_GELU_TANH, 0 },
    { "gemma2", "gemma2", false, CDL_ACT_GELU_TANH, 2 },
    { "gemma3_text", "gemma3", false, CDL_ACT_GELU_TANH, 6 },
    { "gemma3", "gemma3", false, CDL_ACT_GELU_TANH, 6 },
    { "gpt2", "gpt2", false, CDL_ACT_GELU_TANH, 0 },
};

/* ---- What the graph does ---- */

typedef struct {
    uint32_t layers, heads, no_rope;   /* no_rope: layers that do not turn q and k    */
    const cdl_attention_attrs *attention[1024];
    bool turns[1024];
    const cdl_node *rope, *local_rope; /* of a layer that sees all; of one with a window  */
    float eps;
    cdl_act act;
} shape;

static void look_at(shape *s, const cdl_graph *g)
{
    const cdl_node *rope = NULL;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const cdl_node *n = &g->nodes[i];
        if (n->op == CDL_OP_ROPE)
            rope = n;
        if (n->op == CDL_OP_RMSNORM || n->op == CDL_OP_LAYERNORM)
            s->eps = ((const cdl_norm_attrs *)n->attrs)->eps;
        if (n->op == CDL_OP_ACT || n->op == CDL_OP_ACT_MUL)
            s->act = ((const cdl_act_attrs *)n->attrs)->act;
        if (n->op != CDL_OP_ATTENTION || s->layers == 1024)
            continue;
        const cdl_attention_attrs *a = n->attrs;
        s->heads = a->heads;
        s->attention[s->layers] = a;
        s->turns[s->layers++] = rope != NULL;
        s->no_rope += !rope;
        if (rope)
            *(a->window ? &s->local_rope : &s->rope) = rope;
        rope = NULL;
    }
    if (!s->rope)
        s->rope = s->local_rope;
}

cuddle_status cdl_convert_find_arch(cdl_converter *cv)
{
    const char *type = cdl_architecture_name(cv->c);
    cv->config = cdl_config_of(cv->c);
    const cdl_json *text = cdl_json_get(cv->config.json, "text_config");
    if (!cdl_json_none(text))
        cv->config.json = text;
    for (uint32_t i = 0; i < cv->graph.n_nodes && !cv->rotary_dim; i++)
        if (cv->graph.nodes[i].op == CDL_OP_ROPE)
            cv->rotary_dim = ((const cdl_rope_attrs *)cv->graph.nodes[i].attrs)->rotary_dim;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].type, type) != 0)
            continue;
        cv->arch = known[i].arch;
        cv->interleaved = known[i].interleaved;
        return CUDDLE_OK;
    }
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: architecture %.40s cannot be converted; GGUF has no form for"
            " it that"
            " cuddle knows", cdl_checkpoint_folder(cv->c), type);
}

/* ---- Keys ---- */

typedef struct {
    char s[128];
} key;

/* "<arch>.<rest>" */
static key named(const cdl_converter *cv, const char *rest)
{
    key k;
    snprintf(k.s, sizeof k.s, "%s.%s", cv->arch, rest);
    return k;
}

static void put_u32(cdl_converter *cv, const char *name, uint32_t v)
{
    cdl_gguf_put_u32(&cv->w, named(cv, name).s, v);
}

static void put_f32(cdl_converter *cv, const char *name, double v)
{
    cdl_gguf_put_f32(&cv->w, named(cv, name).s, (float)v);
}

static void put_text(cdl_converter *cv, const char *name, const char *s)
{
    cdl_gguf_put_string(&cv->w, name, s, strlen(s));
}

static void put_flags(cdl_converter *cv, const char *name, const uint8_t *flags, uint32_t n)
{
    cdl_gguf_put_array(&cv->w, named(cv, name).s, CDL_GGUF_BOOL, n, flags, n);
}

/* The folder's name, as general.name. */
static void put_name(cdl_converter *cv)
{
    const char *folder = cdl_checkpoint_folder(cv->c), *slash = strrchr(folder, '/');
    put_text(cv, "general.architecture", cv->arch);
    put_text(cv, "general.type", "model");
    put_text(cv, "general.name", slash && slash[1] ? slash + 1 : folder);
}

static void put_sizes(cdl_converter *cv, const shape *s)
{
    cdl_config *c = &cv->config;
    bool gpt2 = !strcmp(cv->arch, "gpt2");
    uint32_t hidden = cdl_config_u32(c, gpt2 ? "n_embd" : "hidden_size", -1, 1, UINT32_MAX);
    int64_t ffn_default = gpt2 ? (int64_t)4 * hidden : -1;
    put_u32(cv, "vocab_size", cv->graph.vocab);
    put_u32(cv, "context_length", cv->graph.context);
    put_u32(cv, "embedding_length", hidden);
    put_u32(cv, "block_count", s->layers);
    put_u32(cv, "feed_forward_length",
            cdl_config_u32(c, gpt2 ? "n_inner" : "intermediate_size", ffn_default, 1, UINT32_MAX));
    put_u32(cv, "attention.head_count", s->heads);
    put_f32(cv, gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", (double)s->eps);
    if (gpt2)
        return;
    put_u32(cv, "attention.head_count_kv", cv->graph.states[0].kv_heads);
    put_u32(cv, "attention.key_length", cv->graph.states[0].key_dim);
    put_u32(cv, "attention.value_length", cv->graph.states[0].value_dim);
}

/* ---- Windows and layers ---- */

static void put_windows(cdl_converter *cv, const shape *s, uint32_t period_known)
{
    uint8_t slides[1024];
    uint32_t window = 0, full = 0, period = 0;
    for (uint32_t i = 0; i < s->layers; i++) {
        slides[i] = s->attention[i]->window != 0;
        window = slides[i] ? s->attention[i]->window : window;
        full += !slides[i];
        period = !slides[i] && !period ? i + 1 : period;
    }
    if (!window) {
        if (!strcmp(cv->arch, "phi3"))
            put_u32(cv, "attention.sliding_window", 0); /* as llama.cpp's converter says it for phi-4 */
        return;
    }
    bool regular = true;
    for (uint32_t i = 0; i < s->layers; i++)
        regular &= slides[i] == (!period || (i + 1) % period != 0);
    put_u32(cv, "attention.sliding_window", window);
    bool as_known = regular && (period == period_known || (!period && s->layers < period_known));
    if (!as_known && full && regular)
        put_u32(cv, "attention.sliding_window_pattern", period);
    else if (!as_known && full)
        put_flags(cv, "attention.sliding_window_pattern", slides, s->layers);
    else if (!as_known && period_known)
        put_u32(cv, "attention.sliding_window_pattern", 0);
    if (period_known < 2)
        cdl_convert_note(cv, "llama.cpp does not know this architecture's sliding window of %u tokens; beyond it, it"
                " differs", window);
}

/* llama.cpp takes three of four layers of smollm3 to turn q and k. */
static void put_no_rope(cdl_converter *cv, const shape *s)
{
    uint8_t turns[1024];
    bool usual = true;
    for (uint32_t i = 0; i < s->layers; i++) {
        turns[i] = s->turns[i];
        usual &= turns[i] == ((i + 1) % 4 != 0);
    }
    if (strcmp(cv->arch, "smollm3") != 0 || usual)
        return;
    put_flags(cv, "no_rope_layers", turns, s->layers);
    cdl_convert_note(cv, "llama.cpp turns q and k in three of four layers; this model does otherwise, and only cuddle"
            " will");
}

/* The scale of the scores, where it is none that the architecture implies. */
static cuddle_status put_scale(cdl_converter *cv, const shape *s)
{
    double scale = (double)s->attention[0]->scale, usual = 1 / sqrt((double)cv->graph.states[0].key_dim);
    uint32_t large = !strcmp(cv->arch, "gemma2") ? 46 : !strcmp(cv->arch, "gemma3") ? 62 : 0;
    if (large && s->layers == large)
        usual = 1 / sqrt((double)(cdl_config_u32(&cv->config, "hidden_size", -1, 1, UINT32_MAX) / s->heads));
    bool same = true;
    for (uint32_t i = 0; i < s->layers; i++)
        same &= fabsf(s->attention[i]->scale - s->attention[0]->scale) <= 1e-6f * s->attention[0]->scale;
    if (same && fabs(scale - usual) <= 1e-6 * usual)
        return CUDDLE_OK;
    if (!same || !large)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: config.json: GGUF cannot say that %s scales its attention"
                " otherwise than usual", cdl_checkpoint_folder(cv->c), cv->arch);
    put_f32(cv, "attention.scale", scale);
    cdl_convert_note(cv, "llama.cpp does not know this model's query_pre_attn_scalar; only cuddle will use it");
    return CUDDLE_OK;
}

/* ---- RoPE ---- */

static const cdl_json *rope_params(const cdl_converter *cv)
{
    const cdl_json *p = cdl_json_get(cv->config.json, "rope_parameters"), *full = cdl_json_get(p, "full_attention");
    if (!cdl_json_none(full))
        return full;
    return cdl_json_none(p) ? cdl_json_get(cv->config.json, "rope_scaling") : p;
}

/* Base of a table: its first frequencies follow from it, whatever scales the later ones. */
static double theta_of(cdl_converter *cv, const cdl_json *params, const char *key_name, double fallback)
{
    const cdl_json *v = cdl_json_get(params, "rope_theta");
    return cdl_json_none(v) ? cdl_config_double(&cv->config, key_name, fallback) : cdl_json_double(v, fallback);
}

/* theta^(-2i/d) over the table's frequencies, as an item. */
static cuddle_status add_factors(cdl_converter *cv, const char *name, const cdl_value *table, double theta)
{
    uint32_t n = table->cols;
    const float *inv = table->data;
    float *factors = cdl_arena_alloc(&cv->arena, n * sizeof *factors);
    if (!factors)
        return cdl_status_nomem("RoPE's factors");
    for (uint32_t i = 0; i < n; i++)
        factors[i] = (float)(pow(theta, -(double)i / n) / (double)inv[i]);
    cdl_gguf_item item = { .dtype = CDL_DTYPE_F32, .ndim = 1, .dim = { n } };
    return cdl_convert_add(cv, name, &item, &(cdl_convert_source){ .values = factors, .form = CDL_CONVERT_VALUES });
}

static double original_context(const cdl_converter *cv, const cdl_json *params)
{
    double outer = cdl_json_double(cdl_json_get(cv->config.json, "original_max_position_embeddings"),
            cv->graph.context);
    return cdl_json_double(cdl_json_get(params, "original_max_position_embeddings"), outer);
}

static cuddle_status put_yarn(cdl_converter *cv, const cdl_json *params, const cdl_rope_attrs *a)
{
    static const char *const betas[2][2] = { { "beta_fast", "rope.scaling.yarn_beta_fast" },
                                             { "beta_slow", "rope.scaling.yarn_beta_slow" } };
    double old = original_context(cv, params);
    double factor = cdl_json_double(cdl_json_get(params, "factor"), cv->graph.context / old);
    double usual = factor > 1 ? 1 + 0.1 * log(factor) : 1;
    if (!cdl_json_bool(cdl_json_get(params, "truncate"), true))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: config.json: rope_scaling: GGUF cannot say truncate ="
                " false",
                cdl_checkpoint_folder(cv->c));
    put_text(cv, named(cv, "rope.scaling.type").s, "yarn");
    put_f32(cv, "rope.scaling.factor", factor);
    put_u32(cv, "rope.scaling.original_context_length", (uint32_t)old);
    if (fabs((double)a->scale - usual) > 1e-6 * usual)
        put_f32(cv, "rope.scaling.yarn_attn_factor", (double)a->scale / usual);
    for (int i = 0; i < 2; i++)
        if (!cdl_json_none(cdl_json_get(params, betas[i][0])))
            put_f32(cv, betas[i][1], cdl_json_double(cdl_json_get(params, betas[i][0]), 1));
    return CUDDLE_OK;
}

static cuddle_status put_longrope(cdl_converter *cv, const cdl_json *params, const shape *s, double theta)
{
    const cdl_rope_attrs *a = s->rope->attrs;
    if (strcmp(cv->arch, "phi3") != 0)
        cdl_convert_note(cv, "llama.cpp reads longrope's factors for few architectures; %s may not be among them",
                cv->arch);
    put_u32(cv, "rope.scaling.original_context_length", (uint32_t)original_context(cv, params));
    put_f32(cv, "rope.scaling.attn_factor", (double)a->scale);
    CDL_TRY(add_factors(cv, "rope_factors_long.weight", &cv->graph.values[s->rope->in[3]], theta));
    return add_factors(cv, "rope_factors_short.weight", &cv->graph.values[s->rope->in[2]], theta);
}

/* gemma3's local table: GGUF has its base, and its reader scales the global one alone. */
static cuddle_status put_local_rope(cdl_converter *cv, const char *type)
{
    const cdl_json *p = cdl_json_get(cv->config.json, "rope_parameters"), *local = cdl_json_get(p, "sliding_attention");
    const char *local_type = cdl_json_string(cdl_json_get(local, "rope_type"), "default");
    if (strcmp(local_type, "default") != 0)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: config.json: rope_parameters: GGUF cannot say %s for"
                " gemma3's sliding layers", cdl_checkpoint_folder(cv->c), local_type);
    if (!strcmp(type, "llama3"))
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: config.json: rope_parameters: GGUF cannot say llama3 for"
                " gemma3's full layers", cdl_checkpoint_folder(cv->c));
    put_f32(cv, "rope.freq_base_swa", theta_of(cv, local, "rope_local_base_freq", 10000));
    return CUDDLE_OK;
}

static cuddle_status put_rope(cdl_converter *cv, const shape *s)
{
    const cdl_json *params = rope_params(cv);
    const cdl_rope_attrs *a = s->rope->attrs;
    bool gemma3 = !strcmp(cv->arch, "gemma3");
    double theta = theta_of(cv, params, "rope_theta", gemma3 ? 1000000 : 10000);
    const char *old_type = cdl_json_string(cdl_json_get(params, "type"), "default");
    const char *type = cdl_json_string(cdl_json_get(params, "rope_type"), old_type);
    put_u32(cv, "rope.dimension_count", a->rotary_dim);
    put_f32(cv, "rope.freq_base", theta);
    if (gemma3)
        CDL_TRY(put_local_rope(cv, type));
    if (!strcmp(type, "linear")) {
        put_text(cv, named(cv, "rope.scaling.type").s, "linear");
        put_f32(cv, "rope.scaling.factor", cdl_json_double(cdl_json_get(params, "factor"), 1));
    } else if (!strcmp(type, "yarn")) {
        return put_yarn(cv, params, a);
    } else if (!strcmp(type, "llama3")) {
        return add_factors(cv, "rope_freqs.weight", &cv->graph.values[s->rope->in[2]], theta);
    } else if (a->long_from) {
        return put_longrope(cv, params, s, theta);
    }
    return CUDDLE_OK;
}

/* ---- */

static void put_softcaps(cdl_converter *cv, const shape *s)
{
    if (s->attention[0]->softcap > 0)
        put_f32(cv, "attn_logit_softcapping", (double)s->attention[0]->softcap);
    for (uint32_t i = 0; i < cv->graph.n_nodes; i++)
        if (cv->graph.nodes[i].op == CDL_OP_SOFTCAP)
            put_f32(cv, "final_logit_softcapping", (double)((const cdl_softcap_attrs *)cv->graph.nodes[i].attrs)->cap);
}

cuddle_status cdl_convert_put_config(cdl_converter *cv)
{
    const char *type = cdl_architecture_name(cv->c);
    size_t k = 0;
    while (strcmp(known[k].type, type) != 0)
        k++;
    shape s = { 0 };
    look_at(&s, &cv->graph);
    if (s.act != known[k].act)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: config.json: GGUF cannot say that %s has another"
                " activation than usual",
                cdl_checkpoint_folder(cv->c), type);
    put_name(cv);
    put_sizes(cv, &s);
    put_windows(cv, &s, known[k].period);
    put_no_rope(cv, &s);
    CDL_TRY(put_scale(cv, &s));
    put_softcaps(cv, &s);
    if (s.rope)
        CDL_TRY(put_rope(cv, &s));
    return cv->config.status != CUDDLE_OK ? cv->config.status : cv->w.status;
}
