/* gguf_names.c - GGUF's names and Hugging Face's: tensors both ways, and the configuration from metadata.
 * Source: llama.cpp's gguf-py constants and the conversion it describes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format/checkpoint_parts.h"

enum { LAYERS_MAX = 1024 };

typedef struct {
    const char *gguf, *hf;
} pair;

/* ---- Tensors ---- */

static const pair llama_layer[] = {
    { "attn_norm", "input_layernorm" }, { "attn_q", "self_attn.q_proj" }, { "attn_k", "self_attn.k_proj" },
    { "attn_v", "self_attn.v_proj" }, { "attn_output", "self_attn.o_proj" }, { "attn_q_norm", "self_attn.q_norm" },
    { "attn_k_norm", "self_attn.k_norm" }, { "attn_qkv", "self_attn.qkv_proj" },
    { "ffn_gate", "mlp.gate_proj" }, { "ffn_up", "mlp.up_proj" }, { "ffn_down", "mlp.down_proj" },
    { "ffn_norm", "post_attention_layernorm" }, { NULL, NULL } };

/* gemma2 and gemma3 have a norm behind attention too, so ffn_norm is another one. */
static const pair gemma_layer[] = {
    { "ffn_norm", "pre_feedforward_layernorm" }, { "post_attention_norm", "post_attention_layernorm" },
    { "post_ffw_norm", "post_feedforward_layernorm" }, { NULL, NULL } };

static const pair phi3_layer[] = { { "ffn_up", "mlp.gate_up_proj" }, { NULL, NULL } };

static const pair gpt2_layer[] = {
    { "attn_norm", "ln_1" }, { "attn_qkv", "attn.c_attn" }, { "attn_output", "attn.c_proj" }, { "ffn_norm", "ln_2" },
    { "ffn_up", "mlp.c_fc" }, { "ffn_down", "mlp.c_proj" }, { NULL, NULL } };

static const pair llama_top[] = {
    { "token_embd", "model.embed_tokens" }, { "output_norm", "model.norm" }, { "output", "lm_head" }, { NULL, NULL } };

static const pair gpt2_top[] = {
    { "token_embd", "transformer.wte" }, { "position_embd", "transformer.wpe" }, { "output_norm", "transformer.ln_f" },
    { "output", "lm_head" }, { NULL, NULL } };

static const char *look_up(const pair *list, const char *name, size_t n)
{
    for (; list->gguf; list++)
        if (strlen(list->gguf) == n && !memcmp(list->gguf, name, n))
            return list->hf;
    return NULL;
}

static const char *look_back(const pair *list, const char *name, size_t n)
{
    for (; list->gguf; list++)
        if (strlen(list->hf) == n && !memcmp(list->hf, name, n))
            return list->gguf;
    return NULL;
}

/* An architecture's own names of a layer's tensors, before those that all share. */
static const pair *own_names(const char *arch)
{
    static const pair none[] = { { NULL, NULL } };
    if (!strcmp(arch, "gemma2") || !strcmp(arch, "gemma3"))
        return gemma_layer;
    return !strcmp(arch, "phi3") ? phi3_layer : none;
}

static const char *layer_name(const char *arch, const char *name, size_t n)
{
    if (!strcmp(arch, "gpt2"))
        return look_up(gpt2_layer, name, n);
    const char *own = look_up(own_names(arch), name, n);
    return own ? own : look_up(llama_layer, name, n);
}

static const char *layer_name_back(const char *arch, const char *name, size_t n)
{
    if (!strcmp(arch, "gpt2"))
        return look_back(gpt2_layer, name, n);
    const char *own = look_back(own_names(arch), name, n);
    return own ? own : look_back(llama_layer, name, n);
}

void cdl_gguf_tensor_name(char *out, const char *arch, const char *name)
{
    bool gpt2 = !strcmp(arch, "gpt2");
    const char *dot = strrchr(name, '.'), *hf = NULL; /* before .weight or .bias */
    unsigned layer;
    int used = 0;
    if (dot && sscanf(name, "blk.%5u.%n", &layer, &used) == 1 && used && name + used < dot) {
        hf = layer_name(arch, name + used, (size_t)(dot - name - used));
        if (hf)
            snprintf(out, 256, "%s.%u.%s%s", gpt2 ? "transformer.h" : "model.layers", layer, hf, dot);
    } else if (dot) {
        hf = look_up(gpt2 ? gpt2_top : llama_top, name, (size_t)(dot - name));
        if (hf)
            snprintf(out, 256, "%s%s", hf, dot);
    }
    if (!hf)
        snprintf(out, 256, "%s", name);
}

/* The name without what composite files put before it, and without "model." or "transformer.". */
static const char *without_prefix(const char *hf)
{
    static const char *const prefixes[] = { "model.language_model.", "language_model.model.", "language_model.",
            "model.",
        "transformer." };
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(hf, prefixes[i], strlen(prefixes[i])))
            return hf + strlen(prefixes[i]);
    return hf;
}

bool cdl_gguf_name_of(char *out, const char *arch, const char *hf)
{
    bool gpt2 = !strcmp(arch, "gpt2");
    const char *name = without_prefix(hf), *dot = strrchr(name, '.'), *gguf;
    unsigned layer;
    int used = 0;
    if (!dot)
        return false;
    if (sscanf(name, gpt2 ? "h.%5u.%n" : "layers.%5u.%n", &layer, &used) == 1 && used && name + used < dot) {
        gguf = layer_name_back(arch, name + used, (size_t)(dot - name - used));
        if (gguf)
            snprintf(out, 256, "blk.%u.%s%s", layer, gguf, dot);
    } else {
        char full[256];
        bool head = !strncmp(name, "lm_head.", 8);
        snprintf(full, sizeof full, "%s%s", head ? "" : gpt2 ? "transformer." : "model.", name);
        gguf = look_back(gpt2 ? gpt2_top : llama_top, full, strlen(full) - strlen(dot));
        if (gguf)
            snprintf(out, 256, "%s%s", gguf, dot);
    }
    return gguf != NULL;
}

/* ---- Configuration ---- */

typedef struct {
    const cdl_checkpoint *c;
    const cdl_json *meta;
    const char *arch;
    cdl_buf *out;
} writer;

/* Metadata "<arch>.<key>". */
static const cdl_json *get(const writer *w, const char *key)
{
    char name[160];
    snprintf(name, sizeof name, "%.60s.%s", w->arch, key);
    return cdl_json_get(w->meta, name);
}

static cuddle_status put_value(const writer *w, const char *name, const cdl_json *v)
{
    if (!v || (v->type != CDL_JSON_INT && v->type != CDL_JSON_DOUBLE && v->type != CDL_JSON_BOOL))
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_printf(w->out, ",\"%s\":", name));
    if (v->type == CDL_JSON_BOOL)
        return cdl_buf_puts(w->out, v->as.b ? "true" : "false");
    if (v->type == CDL_JSON_INT)
        return cdl_buf_printf(w->out, "%lld", (long long)v->as.i);
    return cdl_json_put_double(w->out, v->as.d);
}

/* Item i of a list of numbers. */
static double number_at(const cdl_gguf_array *a, uint64_t i)
{
    float v;
    cdl_dtype_to_f32(&v, a->type, a->data + i * cdl_dtype_get(a->type)->bytes, 1);
    return (double)v;
}

static bool get_list(const writer *w, const char *key, cdl_gguf_array *out)
{
    char name[160];
    snprintf(name, sizeof name, "%.60s.%s", w->arch, key);
    return cdl_checkpoint_gguf_array(w->c, name, out) && !out->strings && out->n;
}

/* A list (one value a layer) counts when all are the same. */
static cuddle_status put_key(const writer *w, const pair *p)
{
    cdl_gguf_array a;
    if (!get_list(w, p->gguf, &a))
        return put_value(w, p->hf, get(w, p->gguf));
    for (uint64_t i = 1; i < a.n; i++)
        if (number_at(&a, i) != number_at(&a, 0))
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: %s.%s differs between layers; cuddle does not run"
                    " such models yet",
                    w->c->paths[0], w->arch, p->gguf);
    CDL_TRY(cdl_buf_printf(w->out, ",\"%s\":", p->hf));
    return cdl_json_put_double(w->out, number_at(&a, 0));
}

/* Which layers see a window only: a list, or one layer of so many that does not. */
static cuddle_status put_layer_types(const writer *w)
{
    cdl_gguf_array a = { 0 };
    bool list = get_list(w, "attention.sliding_window_pattern", &a);
    int64_t layers = cdl_json_int(get(w, "block_count"), 0);
    int64_t window = cdl_json_int(get(w, "attention.sliding_window"), 0);
    int64_t period = cdl_json_int(get(w, "attention.sliding_window_pattern"), -1);
    if (window <= 0 || (!list && period < 0) || layers < 1 || layers > LAYERS_MAX)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_puts(w->out, ",\"layer_types\":["));
    int64_t n = list && (int64_t)a.n < layers ? (int64_t)a.n : layers;
    for (int64_t i = 0; i < n; i++) {
        bool slides = list ? number_at(&a, (uint64_t)i) != 0 : !period || (i + 1) % period != 0;
        CDL_TRY(cdl_buf_printf(w->out, "%s\"%s\"", i ? "," : "", slides ? "sliding_attention" : "full_attention"));
    }
    return cdl_buf_putc(w->out, ']');
}

/* smollm3: which layers turn q and k, where it is not the usual three of four (a key of cuddle's own). */
static cuddle_status put_no_rope_layers(const writer *w)
{
    cdl_gguf_array a;
    if (!get_list(w, "no_rope_layers", &a) || a.n > LAYERS_MAX)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_puts(w->out, ",\"no_rope_layers\":["));
    for (uint64_t i = 0; i < a.n; i++)
        CDL_TRY(cdl_buf_printf(w->out, "%s%d", i ? "," : "", number_at(&a, i) != 0));
    return cdl_buf_putc(w->out, ']');
}

static const pair llama_keys[] = {
    { "embedding_length", "hidden_size" }, { "block_count", "num_hidden_layers" },
    { "feed_forward_length", "intermediate_size" }, { "attention.head_count", "num_attention_heads" },
    { "attention.head_count_kv", "num_key_value_heads" }, { "attention.key_length", "head_dim" },
    { "attention.layer_norm_rms_epsilon", "rms_norm_eps" }, { "context_length", "max_position_embeddings" },
    { "rope.freq_base", "rope_theta" }, { "rope.freq_base_swa", "rope_local_base_freq" },
    { "rope.scaling.original_context_length", "original_max_position_embeddings" },
    { "attention.sliding_window", "sliding_window" }, { "attn_logit_softcapping", "attn_logit_softcapping" },
    { "final_logit_softcapping", "final_logit_softcapping" }, { NULL, NULL } };

static const pair gpt2_keys[] = {
    { "embedding_length", "n_embd" }, { "block_count", "n_layer" }, { "feed_forward_length", "n_inner" },
    { "attention.head_count", "n_head" }, { "attention.layer_norm_epsilon", "layer_norm_epsilon" },
    { "context_length", "n_positions" }, { NULL, NULL } };

/* llama.cpp multiplies the usual factor of yarn, 1 + ln(factor) / 10, by its keys; transformers' key holds all. */
static double attention_factor(const writer *w, bool yarn)
{
    double own = cdl_json_double(get(w, "rope.scaling.yarn_attn_factor"), 1);
    own *= cdl_json_double(get(w, "rope.scaling.attn_factor"), 1);
    double factor = cdl_json_double(get(w, "rope.scaling.factor"), 1);
    return yarn && factor > 1 ? own * (1 + 0.1 * log(factor)) : own;
}

/* rope_scaling, when GGUF names one. (Factors in tensors are read where they are used.) */
static cuddle_status put_rope_scaling(const writer *w)
{
    const char *type = cdl_json_string(get(w, "rope.scaling.type"), "none");
    bool yarn = !strcmp(type, "yarn"), linear = !strcmp(type, "linear");
    bool attention = get(w, "rope.scaling.yarn_attn_factor") || get(w, "rope.scaling.attn_factor");
    if (!yarn && !linear && !attention)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_printf(w->out, ",\"rope_scaling\":{\"rope_type\":\"%s\"", yarn || linear ? type : "default"));
    CDL_TRY(put_value(w, "factor", get(w, "rope.scaling.factor")));
    CDL_TRY(put_value(w, "original_max_position_embeddings", get(w, "rope.scaling.original_context_length")));
    CDL_TRY(put_value(w, "beta_fast", get(w, "rope.scaling.yarn_beta_fast")));
    CDL_TRY(put_value(w, "beta_slow", get(w, "rope.scaling.yarn_beta_slow")));
    if (attention) {
        CDL_TRY(cdl_buf_puts(w->out, ",\"attention_factor\":"));
        CDL_TRY(cdl_json_put_double(w->out, attention_factor(w, yarn)));
    }
    return cdl_buf_putc(w->out, '}');
}

/* Rotary dimensions below the head's. */
static cuddle_status put_partial_rotary(const writer *w)
{
    int64_t rotary = cdl_json_int(get(w, "rope.dimension_count"), 0);
    int64_t head = cdl_json_int(get(w, "attention.key_length"), 0);
    int64_t hidden = cdl_json_int(get(w, "embedding_length"), 0);
    int64_t heads = cdl_json_int(get(w, "attention.head_count"), 0);
    if (!head && heads > 0)
        head = hidden / heads;
    if (rotary <= 0 || head <= 0 || rotary >= head)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_puts(w->out, ",\"partial_rotary_factor\":"));
    return cdl_json_put_double(w->out, (double)rotary / (double)head);
}

/* The 27B gemmas scale queries by hidden_size / heads; GGUF does not say so. */
static cuddle_status put_query_scalar(const writer *w)
{
    double scale = cdl_json_double(get(w, "attention.scale"), 0);
    if (scale > 0) {
        CDL_TRY(cdl_buf_puts(w->out, ",\"query_pre_attn_scalar\":"));
        return cdl_json_put_double(w->out, 1 / (scale * scale));
    }
    int64_t layers = cdl_json_int(get(w, "block_count"), 0), heads = cdl_json_int(get(w, "attention.head_count"), 0);
    bool large = (!strcmp(w->arch, "gemma2") && layers == 46) || (!strcmp(w->arch, "gemma3") && layers == 62);
    if (!large || heads <= 0)
        return CUDDLE_OK;
    return cdl_buf_printf(w->out, ",\"query_pre_attn_scalar\":%lld",
            (long long)(cdl_json_int(get(w, "embedding_length"), 0) / heads));
}

/* GGUF has one name for llama and mistral, which is llama with a window. */
static const char *model_type(const writer *w)
{
    if (!strcmp(w->arch, "gemma3"))
        return "gemma3_text";
    bool slides = cdl_json_int(get(w, "attention.sliding_window"), 0) > 0;
    return !strcmp(w->arch, "llama") && slides ? "mistral" : w->arch;
}

static cuddle_status put_config(const writer *w)
{
    bool gpt2 = !strcmp(w->arch, "gpt2");
    CDL_TRY(cdl_buf_puts(w->out, "{\"_gguf\":true,\"model_type\":"));
    const char *type = model_type(w);
    CDL_TRY(cdl_json_put_string(w->out, type, strlen(type)));
    for (const pair *p = gpt2 ? gpt2_keys : llama_keys; p->gguf; p++)
        CDL_TRY(put_key(w, p));
    const cdl_tensor_entry *e = cdl_checkpoint_find(w->c,
            gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight");
    if (e && e->ndim == 2)
        CDL_TRY(cdl_buf_printf(w->out, ",\"vocab_size\":%lld", (long long)e->dim[0]));
    CDL_TRY(cdl_buf_printf(w->out, ",\"tie_word_embeddings\":%s",
            cdl_checkpoint_find(w->c, "lm_head.weight") ? "false" : "true"));
    if (!gpt2) {
        CDL_TRY(put_rope_scaling(w));
        CDL_TRY(put_partial_rotary(w));
        CDL_TRY(put_query_scalar(w));
        CDL_TRY(put_layer_types(w));
        CDL_TRY(put_no_rope_layers(w));
    }
    return cdl_buf_putc(w->out, '}');
}

/* Tokens that end a turn though the metadata names another end: chat models need both. */
static bool is_end_text(const char *s, size_t n)
{
    static const char *const ends[] = { "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end|>",
            "<|eom_id|>" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strlen(ends[i]) == n && !memcmp(ends[i], s, n))
            return true;
    return false;
}

static cuddle_status put_generation(const writer *w)
{
    const cdl_json *bos = cdl_json_get(w->meta, "tokenizer.ggml.bos_token_id");
    int64_t eos = cdl_json_int(cdl_json_get(w->meta, "tokenizer.ggml.eos_token_id"), -1);
    CDL_TRY(cdl_buf_puts(w->out, "{\"_from\":\"gguf\""));
    CDL_TRY(put_value(w, "bos_token_id", bos));
    CDL_TRY(cdl_buf_printf(w->out, ",\"eos_token_id\":["));
    const char *comma = "";
    if (eos >= 0) {
        CDL_TRY(cdl_buf_printf(w->out, "%lld", (long long)eos));
        comma = ",";
    }
    cdl_gguf_array tokens;
    if (cdl_checkpoint_gguf_array(w->c, "tokenizer.ggml.tokens", &tokens) && tokens.strings) {
        const uint8_t *at = tokens.data;
        for (uint64_t i = 0; i < tokens.n; i++) {
            size_t n;
            const char *s = cdl_gguf_array_string(&at, &n);
            if (n < 5 || *s != '<' || (int64_t)i == eos || !is_end_text(s, n))
                continue;
            CDL_TRY(cdl_buf_printf(w->out, "%s%llu", comma, (unsigned long long)i));
            comma = ",";
        }
    }
    return cdl_buf_puts(w->out, "]}");
}

cuddle_status cdl_gguf_config(const cdl_checkpoint *c, cdl_buf *config, cdl_buf *generation)
{
    writer w = { .c = c, .meta = c->gguf, .out = config };
    w.arch = cdl_json_string(cdl_json_get(c->gguf, "general.architecture"), "");
    CDL_TRY(put_config(&w));
    w.out = generation;
    return put_generation(&w);
}
