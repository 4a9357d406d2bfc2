#include "model/decoder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- From config.json ---- */

cdl_act cdl_act_of(cdl_config *c, const char *name)
{
    static const struct { const char *name; cdl_act act; } known[] = {
        { "silu", CDL_ACT_SILU }, { "swish", CDL_ACT_SILU }, { "gelu", CDL_ACT_GELU },
        { "gelu_new", CDL_ACT_GELU_TANH }, { "gelu_pytorch_tanh", CDL_ACT_GELU_TANH },
        { "gelu_fast", CDL_ACT_GELU_TANH }, { "relu", CDL_ACT_RELU } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name))
            return known[i].act;
    cdl_config_fail(c, CUDDLE_ERR_UNSUPPORTED, "activation %.40s is not known", name);
    return CDL_ACT_SILU;
}

static const char *prefix_of(const cdl_config *c)
{
    static const char *const known[] = { "model.", "", "language_model.model.", "model.language_model." };
    char name[96];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        snprintf(name, sizeof name, "%sembed_tokens.weight", known[i]);
        if (cdl_checkpoint_find(c->checkpoint, name))
            return known[i];
    }
    return known[0];
}

static bool has_tensor(const cdl_config *c, const char *prefix, const char *rest)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, rest);
    return cdl_checkpoint_find(c->checkpoint, name) != NULL;
}

/* A flag of config.json; GGUF has none of them, there the tensor tells. */
static bool flag_or_tensor(cdl_config *c, const char *key, const char *prefix, const char *tensor)
{
    if (cdl_config_has(c, key))
        return cdl_config_bool(c, key, false);
    return cdl_config_gguf(c) && has_tensor(c, prefix, tensor);
}

static void read_sizes(cdl_decoder *d, cdl_config *c)
{
    d->hidden = cdl_config_u32(c, "hidden_size", -1, 1, 1 << 20);
    d->layers = cdl_config_u32(c, "num_hidden_layers", -1, 1, CDL_DECODER_LAYERS);
    d->heads = cdl_config_u32(c, "num_attention_heads", -1, 1, 1 << 14);
    d->kv_heads = cdl_config_u32(c, "num_key_value_heads", d->heads, 1, d->heads);
    d->head_dim = cdl_config_u32(c, "head_dim", d->hidden / d->heads, 1, 1 << 14);
    d->ffn = cdl_config_u32(c, "intermediate_size", -1, 1, 1 << 22);
    d->vocab = cdl_config_u32(c, "vocab_size", -1, 1, 1 << 26);
    d->context = cdl_config_u32(c, "max_position_embeddings", 2048, 1, 1 << 28);
    d->eps = (float)cdl_config_double(c, "rms_norm_eps", 1e-6);
    if (d->heads % d->kv_heads)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "num_attention_heads %u is no multiple of num_key_value_heads %u",
                d->heads, d->kv_heads);
}

/* layer_types: which layers see a window only. */
static void read_layer_types(cdl_decoder *d, cdl_config *c)
{
    const cdl_json *types = cdl_config_array(c, "layer_types", d->layers);
    if (!types)
        return;
    uint32_t window = cdl_config_u32(c, "sliding_window", 0, 0, UINT32_MAX);
    for (uint32_t i = 0; i < d->layers; i++) {
        const cdl_json *t = cdl_json_at(types, i);
        if (cdl_json_is(t, "sliding_attention"))
            d->window[i] = window;
        else if (!cdl_json_is(t, "full_attention"))
            cdl_config_fail(c, CUDDLE_ERR_UNSUPPORTED, "layer_types[%u] %.40s is not known", i,
                    cdl_json_string(t, "?"));
    }
}

void cdl_decoder_slide(cdl_decoder *d, cdl_config *c, uint32_t pattern)
{
    if (cdl_config_has(c, "layer_types"))
        return;
    uint32_t window = cdl_config_u32(c, "sliding_window", 0, 0, UINT32_MAX);
    for (uint32_t i = 0; i < d->layers; i++)
        d->window[i] = pattern && (i + 1) % pattern == 0 ? 0 : window;
}

void cdl_decoder_read(cdl_decoder *d, cdl_graph *g, cdl_config *c)
{
    read_sizes(d, c);
    d->prefix = prefix_of(c);
    d->act = cdl_act_of(c, cdl_config_string(c, "hidden_activation", cdl_config_string(c, "hidden_act", "silu")));
    d->embed_scale = 1;
    d->attn_scale = 1 / sqrtf((float)d->head_dim);
    d->qkv_bias = flag_or_tensor(c, "attention_bias", d->prefix, "layers.0.self_attn.q_proj.bias");
    d->o_bias = flag_or_tensor(c, "attention_bias", d->prefix, "layers.0.self_attn.o_proj.bias");
    d->mlp_bias = flag_or_tensor(c, "mlp_bias", d->prefix, "layers.0.mlp.up_proj.bias");
    d->tied = cdl_config_bool(c, "tie_word_embeddings", false);
    if (!d->tied && !cdl_config_has(c, "tie_word_embeddings"))
        d->tied = !has_tensor(c, "", "lm_head.weight");
    if (c->status != CUDDLE_OK)
        return;
    read_layer_types(d, c);
    const cdl_json *p = cdl_json_get(c->json, "rope_parameters");
    if (cdl_json_none(cdl_json_get(p, "full_attention")))
        d->rope[0] = cdl_rope_of_config(g, c, 10000, d->head_dim);
}

/* ---- The graph ---- */

typedef struct {
    cdl_graph *g;
    const cdl_decoder *d;
    char name[96];             /* "model.layers.3" */
} builder;

/* "<layer>.<rest>" in the graph's arena. */
static const char *in_layer(const builder *b, const char *rest, const char *suffix)
{
    return cdl_graph_name(b->g, "%s.%s%s", b->name, rest, suffix);
}

static cdl_val norm(const builder *b, cdl_val x, const char *module, uint32_t n)
{
    cdl_val w = cdl_graph_vector(b->g, in_layer(b, module, ".weight"), n);
    return cdl_graph_rmsnorm(b->g, x, w, b->d->eps, b->d->norm_offset, in_layer(b, module, ""));
}

typedef struct {
    const char *module;        /* the tensor's: "self_attn.q_proj" */
    const char *name;          /* the node's                       */
    uint32_t first, rows;
    bool part, bias;
} product;

static cdl_val project(const builder *b, cdl_val x, product p, cdl_shard shard)
{
    cdl_graph *g = b->g;
    cdl_segment s = { .tensor = in_layer(b, p.module, ".weight"), .first = p.first, .rows = p.rows, .part = p.part };
    cdl_val w = cdl_graph_matrix_part(g, s, g->values ? g->values[x].cols : 0, shard), bias = 0;
    if (p.bias && p.part)
        bias = cdl_graph_vector_part(g, in_layer(b, p.module, ".bias"), p.first, p.rows);
    else if (p.bias)
        bias = cdl_graph_vector(g, in_layer(b, p.module, ".bias"), p.rows);
    return cdl_graph_linear(g, x, w, bias, in_layer(b, p.name, ""));
}

static cdl_val turn(const builder *b, cdl_val x, uint32_t layer, const char *name)
{
    uint8_t which = b->d->rope_of[layer];
    if (which == CDL_ROPE_NONE)
        return x;
    const cdl_rope *r = &b->d->rope[which];
    return cdl_graph_rope(b->g, x, r->inv_freq, r->inv_freq_long, &r->attrs, in_layer(b, name, ""));
}

static cdl_val attention(const builder *b, cdl_val x, uint32_t layer)
{
    const cdl_decoder *d = b->d;
    uint32_t q_rows = d->heads * d->head_dim, k_rows = d->kv_heads * d->head_dim;
    product q = { "self_attn.q_proj", "self_attn.q_proj", 0, q_rows, false, d->qkv_bias };
    product k = { "self_attn.k_proj", "self_attn.k_proj", 0, k_rows, false, d->qkv_bias };
    product v = { "self_attn.v_proj", "self_attn.v_proj", 0, k_rows, false, d->qkv_bias };
    if (d->fused) {
        q.module = k.module = v.module = "self_attn.qkv_proj";
        q.part = k.part = v.part = true;
        k.first = q_rows;
        v.first = q_rows + k_rows;
    }
    cdl_val qv = project(b, x, q, CDL_SHARD_ROWS), kv = project(b, x, k, CDL_SHARD_ROWS);
    cdl_val vv = project(b, x, v, CDL_SHARD_ROWS);
    if (d->qk_norm) {
        qv = norm(b, qv, "self_attn.q_norm", d->head_dim);
        kv = norm(b, kv, "self_attn.k_norm", d->head_dim);
    }
    qv = turn(b, qv, layer, "self_attn.rotary_q");
    kv = turn(b, kv, layer, "self_attn.rotary_k");
    uint32_t state = cdl_graph_state(b->g, (cdl_state_decl){
        .kv_heads = d->kv_heads, .key_dim = d->head_dim, .value_dim = d->head_dim, .window = d->window[layer] });
    cdl_graph_state_write(b->g, kv, vv, state, in_layer(b, "self_attn.cache", ""));
    cdl_attention_attrs a = { .layer = state, .heads = d->heads, .scale = d->attn_scale,
                              .softcap = d->attn_softcap, .window = d->window[layer] };
    return cdl_graph_attention(b->g, qv, &a, in_layer(b, "self_attn.attention", ""));
}

static cdl_val mlp(const builder *b, cdl_val x)
{
    const cdl_decoder *d = b->d;
    product gate = { "mlp.gate_proj", "mlp.gate_proj", 0, d->ffn, false, d->mlp_bias };
    product up = { "mlp.up_proj", "mlp.up_proj", 0, d->ffn, false, d->mlp_bias };
    if (d->fused) {
        gate.module = up.module = "mlp.gate_up_proj";
        gate.part = up.part = true;
        up.first = d->ffn;
    }
    cdl_val g = project(b, x, gate, CDL_SHARD_ROWS), u = project(b, x, up, CDL_SHARD_ROWS);
    cdl_val h = cdl_graph_act_mul(b->g, g, u, d->act, in_layer(b, "mlp.act_fn", ""));
    return project(b, h, (product){ "mlp.down_proj", "mlp.down_proj", 0, d->hidden, false, d->mlp_bias },
            CDL_SHARD_COLUMNS);
}

static cdl_val layer(builder *b, cdl_val h, uint32_t i)
{
    const cdl_decoder *d = b->d;
    snprintf(b->name, sizeof b->name, "%slayers.%u", d->prefix, i);
    cdl_val a = attention(b, norm(b, h, "input_layernorm", d->hidden), i);
    if (i == d->layers - 1) { /* what follows is wanted for the rows with logits alone */
        cdl_val rows = cdl_graph_input(b->g, CDL_INPUT_OUT_ROWS);
        a = cdl_graph_gather(b->g, a, rows, in_layer(b, "self_attn.out_rows", ""));
        h = cdl_graph_gather(b->g, h, rows, in_layer(b, "out_rows", ""));
    }
    a = project(b, a, (product){ "self_attn.o_proj", "self_attn.o_proj", 0, d->hidden, false, d->o_bias },
            CDL_SHARD_COLUMNS);
    if (d->sandwich)
        a = norm(b, a, "post_attention_layernorm", d->hidden);
    h = cdl_graph_add(b->g, h, a, in_layer(b, "attention_residual", ""));
    cdl_val m = mlp(b, norm(b, h, d->sandwich ? "pre_feedforward_layernorm" : "post_attention_layernorm", d->hidden));
    if (d->sandwich)
        m = norm(b, m, "post_feedforward_layernorm", d->hidden);
    return cdl_graph_add(b->g, h, m, b->name[0] ? cdl_graph_name(b->g, "%s", b->name) : "");
}

void cdl_decoder_build(cdl_graph *g, const cdl_decoder *d)
{
    builder b = { .g = g, .d = d };
    const char *embed = cdl_graph_name(g, "%sembed_tokens", d->prefix);
    cdl_val table = cdl_graph_matrix(g, cdl_graph_name(g, "%s.weight", embed), d->vocab, d->hidden, CDL_SHARD_VOCAB);
    cdl_val h = cdl_graph_embed(g, cdl_graph_input(g, CDL_INPUT_IDS), table, d->embed_scale, embed);
    for (uint32_t i = 0; i < d->layers; i++)
        h = layer(&b, h, i);
    const char *last = cdl_graph_name(g, "%snorm", d->prefix);
    h = cdl_graph_rmsnorm(g, h, cdl_graph_vector(g, cdl_graph_name(g, "%s.weight", last), d->hidden),
            d->eps, d->norm_offset, last);
    cdl_val head = d->tied ? table : cdl_graph_matrix(g, "lm_head.weight", d->vocab, d->hidden, CDL_SHARD_VOCAB);
    h = cdl_graph_linear(g, h, head, 0, "lm_head");
    if (d->final_softcap > 0)
        h = cdl_graph_softcap(g, h, d->final_softcap, "logits");
    g->logits = h;
    g->vocab = d->vocab;
    g->context = d->context;
}
