/* gpt2.c - LayerNorm with biases, learned positions, products stored transposed (Conv1D).
 * Source: transformers modeling_gpt2.py. GGUF holds the products the usual way round. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/architecture.h"
#include "model/decoder.h"

typedef struct {
    cdl_graph *g;
    uint32_t hidden, layers, heads, ffn;
    float eps, attn_scale;
    cdl_act act;
    bool transposed;
    bool scale_by_layer;       /* attention's scale is divided by the layer's number, from 1 */
    const char *prefix;        /* "transformer." or "" */
} gpt2;

static cdl_val norm(const gpt2 *m, cdl_val x, const char *module)
{
    cdl_graph *g = m->g;
    return cdl_graph_layernorm(g, x, cdl_graph_vector(g, cdl_graph_name(g, "%s.weight", module), m->hidden),
            cdl_graph_vector(g, cdl_graph_name(g, "%s.bias", module), m->hidden), m->eps, module);
}

static cdl_val conv1d(const gpt2 *m, cdl_val x, uint32_t rows, uint32_t cols, const char *module)
{
    cdl_graph *g = m->g;
    cdl_segment s = { .tensor = cdl_graph_name(g, "%s.weight", module), .rows = rows, .transposed = m->transposed };
    cdl_val w = cdl_graph_matrix_part(g, s, cols, CDL_SHARD_ROWS);
    return cdl_graph_linear(g, x, w, cdl_graph_vector(g, cdl_graph_name(g, "%s.bias", module), rows), module);
}

static cdl_val layer(const gpt2 *m, cdl_val h, uint32_t i)
{
    cdl_graph *g = m->g;
    const char *p = cdl_graph_name(g, "%sh.%u", m->prefix, i);
    uint32_t head_dim = m->hidden / m->heads;
    cdl_val x = norm(m, h, cdl_graph_name(g, "%s.ln_1", p));
    cdl_val qkv = conv1d(m, x, 3 * m->hidden, m->hidden, cdl_graph_name(g, "%s.attn.c_attn", p));
    uint32_t state = cdl_graph_state(g, (cdl_state_decl){ m->heads, head_dim, head_dim, 0 });
    cdl_graph_state_write(g, cdl_graph_view(g, qkv, m->hidden, m->hidden),
            cdl_graph_view(g, qkv, 2 * m->hidden, m->hidden), state, cdl_graph_name(g, "%s.attn.cache", p));
    cdl_attention_attrs a = { .layer = state, .heads = m->heads,
                              .scale = m->scale_by_layer ? m->attn_scale / (float)(i + 1) : m->attn_scale };
    x = cdl_graph_attention(g, cdl_graph_view(g, qkv, 0, m->hidden), &a, cdl_graph_name(g, "%s.attn.attention", p));
    if (i == m->layers - 1) { /* what follows is wanted for the rows with logits alone */
        cdl_val rows = cdl_graph_input(g, CDL_INPUT_OUT_ROWS);
        x = cdl_graph_gather(g, x, rows, cdl_graph_name(g, "%s.attn.out_rows", p));
        h = cdl_graph_gather(g, h, rows, cdl_graph_name(g, "%s.out_rows", p));
    }
    x = conv1d(m, x, m->hidden, m->hidden, cdl_graph_name(g, "%s.attn.c_proj", p));
    h = cdl_graph_add(g, h, x, cdl_graph_name(g, "%s.attention_residual", p));
    x = norm(m, h, cdl_graph_name(g, "%s.ln_2", p));
    x = conv1d(m, x, m->ffn, m->hidden, cdl_graph_name(g, "%s.mlp.c_fc", p));
    x = cdl_graph_act(g, x, m->act, cdl_graph_name(g, "%s.mlp.act", p));
    x = conv1d(m, x, m->hidden, m->ffn, cdl_graph_name(g, "%s.mlp.c_proj", p));
    return cdl_graph_add(g, h, x, p);
}

static void read_config(gpt2 *m, cdl_config *c)
{
    m->hidden = cdl_config_u32(c, "n_embd", -1, 1, 1 << 20);
    m->layers = cdl_config_u32(c, "n_layer", -1, 1, 1 << 10);
    m->heads = cdl_config_u32(c, "n_head", -1, 1, 1 << 14);
    m->ffn = cdl_config_u32(c, "n_inner", (int64_t)4 * m->hidden, 1, 1 << 22);
    m->eps = (float)cdl_config_double(c, "layer_norm_epsilon", 1e-5);
    m->act = cdl_act_of(c, cdl_config_string(c, "activation_function", "gelu_new"));
    m->transposed = !cdl_config_gguf(c);
    m->prefix = cdl_checkpoint_find(c->checkpoint, "transformer.wte.weight") ? "transformer." : "";
    if (m->hidden % m->heads)
        cdl_config_fail(c, CUDDLE_ERR_FORMAT, "n_embd %u is no multiple of n_head %u", m->hidden, m->heads);
    m->attn_scale = cdl_config_bool(c, "scale_attn_weights", true)
        ? 1 / sqrtf((float)(m->hidden / m->heads)) : 1;
    m->scale_by_layer = cdl_config_bool(c, "scale_attn_by_inverse_layer_idx", false);
    if (cdl_config_bool(c, "add_cross_attention", false))
        cdl_config_fail(c, CUDDLE_ERR_UNSUPPORTED, "add_cross_attention is not known");
}

void cdl_build_gpt2(cdl_graph *g, cdl_config *c)
{
    gpt2 m = { .g = g };
    read_config(&m, c);
    uint32_t vocab = cdl_config_u32(c, "vocab_size", -1, 1, 1 << 26);
    uint32_t context = cdl_config_u32(c, "n_positions", 1024, 1, 1 << 24);
    if (c->status != CUDDLE_OK)
        return;
    const char *wte = cdl_graph_name(g, "%swte", m.prefix), *wpe = cdl_graph_name(g, "%swpe", m.prefix);
    cdl_val table = cdl_graph_matrix(g, cdl_graph_name(g, "%s.weight", wte), vocab, m.hidden, CDL_SHARD_VOCAB);
    cdl_val places = cdl_graph_matrix(g, cdl_graph_name(g, "%s.weight", wpe), context, m.hidden, CDL_SHARD_NONE);
    cdl_val h = cdl_graph_embed(g, cdl_graph_input(g, CDL_INPUT_IDS), table, 1, wte);
    cdl_val p = cdl_graph_embed(g, cdl_graph_input(g, CDL_INPUT_POSITIONS), places, 1, wpe);
    h = cdl_graph_add(g, h, p, cdl_graph_name(g, "%sdrop", m.prefix));
    for (uint32_t i = 0; i < m.layers; i++)
        h = layer(&m, h, i);
    h = norm(&m, h, cdl_graph_name(g, "%sln_f", m.prefix));
    bool tied = cdl_config_bool(c, "tie_word_embeddings", true);
    cdl_val head = tied ? table : cdl_graph_matrix(g, "lm_head.weight", vocab, m.hidden, CDL_SHARD_VOCAB);
    g->logits = cdl_graph_linear(g, h, head, 0, "lm_head");
    g->vocab = vocab;
    g->context = context;
}
