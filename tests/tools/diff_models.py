#!/usr/bin/env python3
"""Random small models of every architecture that cuddle runs, against transformers.

  diff_models.py [options]

  --seed N, --count N   which models and how many (1, 40); --only TYPE,...; --one N: that one, as its line names it
  --cuddle PATH         the command (build/cuddle); --keep FOLDER: where models that differ are left

Each model's logits in five cases (pads left and right among them), from its folder and, where it is stored in 16 bits,
from GGUF after `cuddle convert`. A model passes within 5e-5 + 5e-5 x the largest logit, or 20 x the way the reference's own
logits go when its weights are nudged by 1e-7. Needs torch, transformers and safetensors. Prints a line for each model that differs or is refused, then a count.
"""
import argparse
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file



class Differs(Exception):
    pass


ACTS = ["silu", "gelu", "gelu_pytorch_tanh", "relu", "gelu_new"]


def rope(r, kinds=("default", "linear", "dynamic", "yarn", "llama3"), nested=False):
    kind = r.choice(kinds)
    p = {"rope_type": kind, "rope_theta": r.choice([1e4, 5e5, 1e6, 1234.5])}
    if kind in ("linear", "dynamic"):
        p["factor"] = r.choice([1.0, 2.0, 3.5, 8.0])
    if kind == "yarn":
        p.update(factor=r.choice([2.0, 4.0, 7.0]), original_max_position_embeddings=r.choice([16, 32]))
        for key, values in {"attention_factor": [0.7, 1.3], "beta_fast": [16, 40.0], "beta_slow": [0.5, 2],
                            "mscale": [0.7, 1.0], "mscale_all_dim": [0.5, 1.0], "truncate": [nested]}.items():
            if r.random() < 0.3:
                p[key] = r.choice(values)
    if kind == "llama3":
        p.update(factor=r.choice([4.0, 8.0, 32.0]), low_freq_factor=1.0, high_freq_factor=r.choice([4.0, 2.0]),
                 original_max_position_embeddings=r.choice([8, 16, 64]))
    return p


def heads(r):
    kv = r.choice([1, 2, 3, 4])
    return kv * r.choice([1, 2, 3, 5]), kv


def common(r):
    n, kv = heads(r)
    dim = r.choice([4, 8, 12, 16, 20, 32, 48])
    return dict(vocab_size=r.choice([97, 128, 200]), hidden_size=n * r.choice([1, 4, 8, 11, 16]), num_attention_heads=n,
                num_key_value_heads=kv, head_dim=dim, num_hidden_layers=r.choice([1, 2, 3, 5]),
                intermediate_size=r.choice([24, 56, 64, 100]), max_position_embeddings=r.choice([128, 256]),
                rms_norm_eps=r.choice([1e-5, 1e-6, 1e-3]), tie_word_embeddings=r.random() < 0.5,
                bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=r.choice([0.02, 0.1, 0.3]))


def square(r, c):
    """for configurations without head_dim"""
    c.pop("head_dim")
    c["hidden_size"] = c["num_attention_heads"] * r.choice([4, 8, 12, 16])
    return c["hidden_size"] // c["num_attention_heads"]


def sliding(r, c, key="sliding_window"):
    c[key] = r.choice([None, 1, 4, 8, 300])
    return c


def layers(r, c):
    return [r.choice(["sliding_attention", "full_attention"]) for _ in range(c["num_hidden_layers"])]


def llama(r):
    c = common(r)
    c.update(attention_bias=r.random() < 0.4, mlp_bias=r.random() < 0.4, hidden_act=r.choice(ACTS))
    c["rope_parameters"] = rope(r)
    return transformers.LlamaConfig(**c)


def mistral(r):
    c = sliding(r, common(r))
    c["hidden_act"] = r.choice(ACTS)
    c["rope_parameters"] = rope(r)
    return transformers.MistralConfig(**c)


def qwen(r, c):
    if r.random() < 0.6:
        c.update(use_sliding_window=True, sliding_window=r.choice([3, 8]), max_window_layers=r.choice([0, 1, 28]))
        if r.random() < 0.5:
            c["layer_types"] = layers(r, c)
    c["rope_parameters"] = rope(r)
    return c


def qwen2(r):
    c = common(r)
    square(r, c)
    return transformers.Qwen2Config(**qwen(r, c))


def qwen3(r):
    c = common(r)
    c["attention_bias"] = r.random() < 0.4
    return transformers.Qwen3Config(**qwen(r, c))


def smollm3(r):
    c = common(r)
    square(r, c)
    c.update(attention_bias=r.random() < 0.3, mlp_bias=r.random() < 0.3, no_rope_layer_interval=r.choice([2, 3, 4]))
    if r.random() < 0.4:
        c["no_rope_layers"] = [r.choice([0, 1]) for _ in range(c["num_hidden_layers"])]
    if r.random() < 0.4:
        c.update(use_sliding_window=True, sliding_window=r.choice([3, 8]))
    c["rope_parameters"] = rope(r)
    return transformers.SmolLM3Config(**c)


def gemma(r):
    c = common(r)
    c["hidden_act"] = r.choice(["gelu_pytorch_tanh", "gelu", "silu"])
    c["rope_parameters"] = rope(r)
    return transformers.GemmaConfig(**c)


def gemma2(r):
    c = common(r)
    c.update(query_pre_attn_scalar=r.choice([16, 8, 24, 256]), sliding_window=r.choice([1, 4, 8]), attention_bias=r.random() < 0.3,
             attn_logit_softcapping=r.choice([None, 5.0, 50.0]), final_logit_softcapping=r.choice([None, 3.0, 30.0]),
             hidden_activation=r.choice(["gelu_pytorch_tanh", "gelu"]))
    if r.random() < 0.4:
        c["layer_types"] = layers(r, c)
    c["rope_parameters"] = rope(r)
    return transformers.Gemma2Config(**c)


def gemma3(r):
    c = common(r)
    c.update(query_pre_attn_scalar=r.choice([16, 8, 24, 256]), sliding_window=r.choice([1, 4, 8]), attention_bias=r.random() < 0.3,
             attn_logit_softcapping=r.choice([None, None, 50.0]), final_logit_softcapping=r.choice([None, 3.0, 30.0]))
    c["num_hidden_layers"] = r.choice([2, 3, 7])
    c["layer_types"] = layers(r, c) if r.random() < 0.5 else None
    c["rope_parameters"] = {"full_attention": rope(r, ("default", "linear", "yarn", "llama3"), True),
                            "sliding_attention": rope(r, ("default", "linear"), True)}
    return transformers.Gemma3TextConfig(**c)


def phi3(r):
    c = common(r)
    dim = square(r, c)
    part = r.choice([1.0, 1.0, 0.5]) if dim % 4 == 0 else 1.0
    n = int(dim * part) // 2
    sliding(r, c)
    if r.random() < 0.6:
        original = r.choice([16, 32])
        c["original_max_position_embeddings"] = original
        p = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": original,
             "short_factor": [1 + 0.1 * i for i in range(n)], "long_factor": [1.5 + 0.7 * i for i in range(n)]}
        c["max_position_embeddings"] = r.choice([64, 128])
        p["factor"] = c["max_position_embeddings"] / original
    else:
        p = {"rope_type": "default", "rope_theta": r.choice([1e4, 5e5])}
    p["partial_rotary_factor"] = part
    c["rope_parameters"] = p
    c["hidden_act"] = r.choice(["silu", "gelu"])
    return transformers.Phi3Config(**c)


def gpt2(r):
    n = r.choice([1, 2, 4, 6])
    return transformers.GPT2Config(
        vocab_size=r.choice([97, 136]), n_embd=n * r.choice([4, 8, 12, 20]), n_head=n, n_layer=r.choice([1, 2, 4]),
        n_inner=r.choice([None, 40, 128]), n_positions=r.choice([96, 128]), layer_norm_epsilon=r.choice([1e-5, 1e-3]),
        activation_function=r.choice(["gelu_new", "gelu", "relu", "silu", "gelu_pytorch_tanh"]),
        scale_attn_by_inverse_layer_idx=r.random() < 0.4, scale_attn_weights=r.random() < 0.8,
        reorder_and_upcast_attn=r.random() < 0.3, tie_word_embeddings=r.random() < 0.7, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, initializer_range=r.choice([0.02, 0.2]))


MAKERS = dict(llama=llama, mistral=mistral, qwen2=qwen2, qwen3=qwen3, smollm3=smollm3, gemma=gemma, gemma2=gemma2,
              gemma3_text=gemma3, phi3=phi3, gpt2=gpt2)


def old_names(r, config):
    """config.json as files of before transformers 5 have it"""
    p = config.get("rope_parameters")
    if not p or "full_attention" in p or config["model_type"] == "phi3" and r.random() < 0.5:
        return
    p = dict(config.pop("rope_parameters"))
    config["rope_theta"] = p.pop("rope_theta")
    if "partial_rotary_factor" in p:
        config["partial_rotary_factor"] = p.pop("partial_rotary_factor")
    kind = p.pop("rope_type")
    if config["model_type"] == "phi3":
        p.pop("original_max_position_embeddings", None)
        p.pop("factor", None)
    config["rope_scaling"] = None if kind == "default" else {r.choice(["type", "rope_type"]): kind, **p}
    config["torch_dtype"] = config.pop("dtype", "float32")


def make(r, kind, folder):
    config = MAKERS[kind](r)
    config._attn_implementation = "eager"
    torch.manual_seed(r.randrange(1 << 30))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.2)
    dtype = r.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])
    model = model.to(dtype)
    model.save_pretrained(folder)
    if r.random() < 0.4:
        path = os.path.join(folder, "config.json")
        config = json.load(open(path))
        old_names(r, config)
        json.dump(config, open(path, "w"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.stored_dtype = dtype
    return model


def inputs(r, model, case):
    vocab = model.config.vocab_size
    long = min(90, model.config.max_position_embeddings - 2)
    n = {"short": 5, "one": 1, "long": long, "pad_left": 12, "pad_right": 12}[case]
    b = 1 if case in ("one", "long", "short") else 3
    ids = torch.tensor([[r.randrange(3, vocab) for _ in range(n)] for _ in range(b)])
    given = {"input_ids": ids}
    if case.startswith("pad"):
        mask = torch.ones_like(ids)
        for i, k in enumerate((0, 3, 7)):
            if k and case == "pad_left":
                mask[i, :k] = 0
            elif k:
                mask[i, n - k:] = 0
        given["input_ids"] = torch.where(mask == 1, ids, 0)
        given["attention_mask"] = mask
        if case == "pad_left":
            given["position_ids"] = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    return given


def logits(cuddle, model, scratch):
    done = subprocess.run([cuddle, "forward", model, "--in", scratch + "/in.safetensors", "--out", scratch + "/out.safetensors"],
                          capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Differs(done.stderr.strip()[-200:])
    return load_file(scratch + "/out.safetensors")["logits"]


def noise(model, given, ref, keep):
    """how far the reference itself goes when its weights are nudged by 1e-7"""
    nudged = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in nudged.parameters():
            p.mul_(1 + 1e-7 * torch.randn_like(p))
        return (ref - nudged(**given).logits)[keep].abs().max().item()


def compare(model, folder, r, cuddle, scratch):
    gguf = scratch + "/model.gguf"
    dtype = {torch.bfloat16: "bf16", torch.float16: "f16"}.get(model.stored_dtype)
    if dtype:
        done = subprocess.run([cuddle, "convert", folder, gguf, "--quantize", dtype], capture_output=True, text=True)
        if done.returncode and "GGUF cannot" not in done.stderr:
            raise Differs(f"convert: {done.stderr.strip()[-200:]}")
    for case in ("short", "one", "long", "pad_left", "pad_right"):
        given = inputs(r, model, case)
        with torch.no_grad():
            ref = model(**given).logits.float()
        save_file({k: v.contiguous() for k, v in given.items()}, scratch + "/in.safetensors")
        keep = given.get("attention_mask", torch.ones_like(given["input_ids"])).bool()
        bound = 5e-5 + 5e-5 * ref[keep].abs().max().item()
        out = logits(cuddle, folder, scratch).reshape(ref.shape)
        error = (out - ref)[keep].abs().max().item()
        if not error <= bound and not error <= 20 * noise(model, given, ref, keep):
            raise Differs(f"{case}: error {error:.3g}, bound {bound:.3g}")
        if os.path.exists(gguf):
            error = (logits(cuddle, gguf, scratch).reshape(ref.shape) - out)[keep].abs().max().item()
            if not error <= bound:
                raise Differs(f"{case}: converted: error {error:.3g}, bound {bound:.3g}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=40)
    p.add_argument("--only", default=",".join(MAKERS))
    p.add_argument("--cuddle", default="build/cuddle")
    p.add_argument("--keep")
    p.add_argument("--one", type=int)
    a = p.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    bad, count = 0, 1 if a.one else a.count
    kinds = a.only.split(",")
    for seed in [a.one] if a.one else range(a.seed * 100000, a.seed * 100000 + a.count):
        i = seed % 100000
        r = random.Random(seed)
        kind = kinds[i % len(kinds)]
        with tempfile.TemporaryDirectory() as scratch:
            folder = scratch + "/model"
            try:
                model = make(r, kind, folder)
            except Exception as e:  # transformers refuses some
                print(f"{seed} {kind}: not made: {str(e)[:300]!r}")
                continue
            try:
                compare(model, folder, r, a.cuddle, scratch)
            except Differs as wrong:
                bad += 1
                print(f"{seed} {kind}: {wrong}")
                if a.keep:
                    shutil.copytree(folder, f"{a.keep}/{kind}-{seed}", dirs_exist_ok=True)
    print(f"{count - bad} agree, {bad} differ")
    return bad != 0


sys.exit(main())
