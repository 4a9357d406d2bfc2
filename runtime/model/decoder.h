/* decoder.h - the transformer decoder that most text models are, described by its differences.
 *
 * An architecture's file fills a cdl_decoder from config.json and calls
 * cdl_decoder_build. Tensor names are Hugging Face's: <prefix>layers.N.self_attn.q_proj.weight.
 * Read first: graph/graph.h, config.h, rope.h.   Read next: llama.c, gemma.c
 */
#ifndef CDL_DECODER_H
#define CDL_DECODER_H

#include "model/rope.h"

enum { CDL_DECODER_LAYERS = 1024, CDL_DECODER_ROPES = 2, CDL_ROPE_NONE = 255 };

typedef struct {
    uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, ffn;
    uint32_t context;           /* tokens the model was made for                              */
    float eps;
    float norm_offset;          /* gemma's norms multiply by 1 + w                            */
    cdl_act act;
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm;               /* RMSNorm over each head of q and k                          */
    bool sandwich;              /* norms behind attention and MLP too (gemma2, gemma3)        */
    bool fused;                 /* stored as qkv_proj and gate_up_proj (phi3)                 */
    bool tied;                  /* the head is the embedding                                  */
    float embed_scale;          /* 1 but for gemma                                            */
    float attn_scale;           /* default 1 / sqrt(head_dim)                                 */
    float attn_softcap, final_softcap; /* 0: none                                             */
    uint32_t window[CDL_DECODER_LAYERS];   /* tokens a layer sees; 0: all                     */
    uint8_t rope_of[CDL_DECODER_LAYERS];   /* which of rope, or CDL_ROPE_NONE                 */
    cdl_rope rope[CDL_DECODER_ROPES];
    const char *prefix;         /* of tensor names: "model.", found by cdl_decoder_read       */
} cdl_decoder;

/* By the name that transformers has for it; c fails (UNSUPPORTED) when it is not known. */
cdl_act cdl_act_of(cdl_config *c, const char *name);

/* Reads the fields that all share (sizes, eps, activation, biases, tied, windows by
 * layer_types); rope[0] by cdl_rope_of_config unless gemma3's two tables are there. Zeroed before. */
void cdl_decoder_read(cdl_decoder *d, cdl_graph *g, cdl_config *c);

/* Windows where config.json has no layer_types: layer i slides when (i + 1) % pattern != 0
 * (pattern 0: all slide; 1: none). */
void cdl_decoder_slide(cdl_decoder *d, cdl_config *c, uint32_t pattern);

void cdl_decoder_build(cdl_graph *g, const cdl_decoder *d);

#endif
