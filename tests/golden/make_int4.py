#!/usr/bin/env python3
"""Makes tests/golden/int4: a tiny llama quantised as AutoGPTQ and AutoAWQ store it, and the logits of its dequantised
weights, computed in float64. Needs numpy.

    make_int4.py            writes NAME/{config.json,model.safetensors,io.json,io.safetensors}
                            after this file's llama has given Hugging Face's logits for models/llama_gqa

Layouts: AutoGPTQ's qlinear_cuda.py (058fd80), AutoAWQ's gemm.py (030fe2a).
"""
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
from refs_run import read_tensors, write_tensors  # noqa: E402

TYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64, "U8": np.uint8, "BOOL": np.uint8}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 48,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": False, "torch_dtype": "float16"}
# NAME: method, columns of a group (None: a row), zeros that differ, act-order, more of quantization_config
MODELS = {
    "gptq": ("gptq", 32, True, False, {}),
    "gptq_sym": ("gptq", None, False, False, {"checkpoint_format": "gptq"}),
    "gptq_v2": ("gptq", 64, True, False, {"checkpoint_format": "gptq_v2"}),
    "gptq_act_order": ("gptq", 32, True, True, {}),
    "awq": ("awq", 64, True, False, {"version": "gemm", "zero_point": True}),
}


def load(path):
    return {k: np.frombuffer(d, TYPES[t]).reshape(s) for k, (t, s, d) in read_tensors(path).items()}


def save(path, tensors):
    names = {np.dtype(v): k for k, v in TYPES.items() if k != "BOOL"}
    write_tensors(path, {k: (names[v.dtype], list(v.shape), np.ascontiguousarray(v).tobytes())
                         for k, v in tensors.items()})


# ---- The model ----

def norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def turned(x, theta):
    d = x.shape[-1]
    angle = np.arange(x.shape[0])[:, None] * theta ** -(np.arange(0, d, 2) / d)
    cos, sin = (np.concatenate([f(angle)] * 2, 1)[:, None] for f in (np.cos, np.sin))
    return x * cos + np.concatenate([-x[..., d // 2:], x[..., :d // 2]], -1) * sin


def attention(q, k, v):
    group, t = q.shape[1] // k.shape[1], q.shape[0]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
    s[:, np.arange(t)[:, None] < np.arange(t)] = -np.inf
    p = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(t, -1)


def logits_of(config, w, ids):
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    eps, d, t = config["rms_norm_eps"], config["head_dim"], len(ids)
    x = w["model.embed_tokens.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        y = norm(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = ((y @ w[f"{p}self_attn.{c}_proj.weight"].T).reshape(t, -1, d) for c in "qkv")
        x = x + attention(turned(q, theta), turned(k, theta), v) @ w[p + "self_attn.o_proj.weight"].T
        y = norm(x, w[p + "post_attention_layernorm.weight"], eps)
        gate, up = y @ w[p + "mlp.gate_proj.weight"].T, y @ w[p + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"], eps) @ w["lm_head.weight"].T


def check_against_hugging_face():
    folder = os.path.join(HERE, "models", "llama_gqa")
    config = json.load(open(os.path.join(folder, "config.json")))
    w = {k: v.astype(np.float64) for k, v in load(os.path.join(folder, "model.safetensors")).items()}
    io = load(os.path.join(folder, "io.safetensors"))
    for case in "short", "long":
        error = np.abs(logits_of(config, w, io[case + ".in.input_ids"][0]) - io[case + ".out.logits"][0]).max()
        assert error < 1e-4, (case, error)


# ---- Quantising ----

def groups_of(w, g_idx, groups, zeros):
    """scale (f16) and zero of each group of each row: [groups, rows]"""
    scale, zero = np.zeros((groups, w.shape[0]), np.float16), np.full((groups, w.shape[0]), 8)
    for g in range(groups):
        part = w[:, g_idx == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if zeros:
            scale[g] = (high - low) / 15
            zero[g] = np.clip(np.rint(-low / scale[g]), 1, 15)
        else:
            scale[g] = np.maximum(-low, high) / 7.5
    return scale, zero


def packed(x, order):
    """[n, 8 * m] of 4 bits to i32 [n, m], nibble i of a word from column order[i]"""
    x = x.reshape(x.shape[0], -1, 8)[:, :, order].astype(np.uint32)
    return (x << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32).view(np.int32)


def quantise(name, w, method, group, zeros, act_order, config, r):
    """The module's tensors, and the weights they stand for."""
    rows, cols = w.shape
    group = group or cols
    g_idx = np.arange(cols) // group
    if act_order:
        g_idx[r.permutation(cols)] = np.arange(cols) // group
    scale, zero = groups_of(w, g_idx, cols // group, zeros)
    s, z = scale.astype(np.float64)[g_idx].T, zero[g_idx].T
    code = np.clip(np.rint(w / s) + z, 0, 15).astype(np.int64)
    value = (code - z) * s
    if method == "awq":
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        tensors = {"qweight": packed(code.T, order), "qzeros": packed(zero, order), "scales": scale}
    else:
        plain = list(range(8))
        stored = zero if config.get("checkpoint_format") == "gptq_v2" else zero - 1
        tensors = {"qweight": np.ascontiguousarray(packed(code, plain).T), "qzeros": packed(stored, plain),
                   "scales": scale, "g_idx": g_idx.astype(np.int32)}
    if act_order:  # held as f16
        value = value.astype(np.float16).astype(np.float64)
    return {f"{name}.{k}": v for k, v in tensors.items()}, value


def plain_weights(r):
    c, h, f, v, d = (CONFIG[k] for k in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size",
                                         "head_dim"))
    kv, p = CONFIG["num_key_value_heads"], "model.layers.0."
    shapes = {"model.embed_tokens": (v, c), "lm_head": (v, c), p + "self_attn.q_proj": (h * d, c),
              p + "self_attn.k_proj": (kv * d, c), p + "self_attn.v_proj": (kv * d, c),
              p + "self_attn.o_proj": (c, h * d), p + "mlp.gate_proj": (f, c), p + "mlp.up_proj": (f, c),
              p + "mlp.down_proj": (c, f)}
    w = {k + ".weight": r.normal(0, 0.15, s) for k, s in shapes.items()}
    for k in "model.norm", p + "input_layernorm", p + "post_attention_layernorm":
        w[k + ".weight"] = 1 + r.normal(0, 0.2, c)
    return w


def make(name, method, group, zeros, act_order, more):
    r = np.random.default_rng(4)
    config = {"quant_method": method, "bits": 4, "group_size": group or -1, "desc_act": act_order, **more}
    tensors, w = {}, plain_weights(r)
    for k, v in list(w.items()):
        if "_proj" in k:
            parts, w[k] = quantise(k.removesuffix(".weight"), v, method, group, zeros, act_order, config, r)
            tensors.update(parts)
        else:
            tensors[k] = v.astype(np.float16)
            w[k] = tensors[k].astype(np.float64)
    io, cases = {}, {"short": 5, "long": 40}
    for case, n in cases.items():
        ids = r.integers(0, CONFIG["vocab_size"], n)
        io[case + ".in.input_ids"] = ids[None]
        io[case + ".out.logits"] = logits_of(CONFIG, w, ids)[None].astype(np.float32)
    folder = os.path.join(HERE, "int4", name)
    os.makedirs(folder, exist_ok=True)
    save(os.path.join(folder, "model.safetensors"), tensors)
    save(os.path.join(folder, "io.safetensors"), io)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({**CONFIG, "quantization_config": config}, f, indent=1)
    with open(os.path.join(folder, "io.json"), "w") as f:
        json.dump({"made_by": "make_int4.py", "numpy": np.__version__, "cases": {k: {} for k in cases}}, f, indent=1)


if __name__ == "__main__":
    check_against_hugging_face()
    for model, how in MODELS.items():
        make(model, *how)
