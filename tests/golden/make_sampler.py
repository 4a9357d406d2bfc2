#!/usr/bin/env python3
"""Writes sampler.json: distributions that transformers' own stages, in transformers' own order, make of logits.

  python3 tests/golden/make_sampler.py tests/golden/sampler.json

Made with torch 1.13.0 and transformers 4.46.3; f32 on the CPU. The presence and frequency penalties are not in
transformers: they follow OpenAI's definition, between its repetition penalty and its n-grams.
"""
import json
import random
import sys

import torch
import transformers
from transformers import GenerationConfig, PretrainedConfig
from transformers.generation.logits_process import LogitsProcessor, RepetitionPenaltyLogitsProcessor
from transformers.generation.utils import GenerationMixin

VOCAB = 48
PROMPT, GENERATED = [3, 7, 7, 11, 3, 7, 20, 5], [7, 20, 9, 3, 9, 7]


def rows():
    r = random.Random(1)
    normal = [round(r.gauss(0, 3), 3) for _ in range(VOCAB)]
    peaked = [round(r.gauss(0, 1), 3) for _ in range(VOCAB)]
    peaked[17] = 12.5
    whole = [float(round(r.gauss(0, 2))) for _ in range(VOCAB)]
    holes = [float("-inf") if r.random() < 0.4 else round(r.gauss(0, 2), 3) for _ in range(VOCAB)]
    return {"normal": normal, "peaked": peaked, "whole": whole, "holes": holes, "flat": [0.5] * VOCAB}


BIAS = {"7": -2.5, "12": 4.0, "17": float("-inf"), "40": 1.25}
CASES = [
    {},
    {"temperature": 0.3}, {"temperature": 2.5}, {"temperature": 0.05},
    {"top_k": 1}, {"top_k": 5}, {"top_k": 30}, {"top_k": 48},
    {"top_p": 0.05}, {"top_p": 0.5}, {"top_p": 0.9}, {"top_p": 0.999},
    {"min_p": 0.5}, {"min_p": 0.05},
    {"typical_p": 0.2}, {"typical_p": 0.7}, {"typical_p": 0.95},
    {"epsilon_cutoff": 0.02}, {"epsilon_cutoff": 0.3}, {"eta_cutoff": 0.02}, {"eta_cutoff": 0.3},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.8},
    {"presence_penalty": 1.5}, {"frequency_penalty": 0.7}, {"presence_penalty": -0.5, "frequency_penalty": 0.25},
    {"no_repeat_ngram": 1}, {"no_repeat_ngram": 2}, {"no_repeat_ngram": 3},
    {"bias": BIAS},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8}, {"temperature": 1.5, "top_k": 12, "top_p": 0.6, "min_p": 0.1},
    {"temperature": 0.6, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.8},
    {"top_k": 25, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02},
    {"temperature": 1.2, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "epsilon_cutoff": 0.005,
     "eta_cutoff": 0.005, "repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.3,
     "no_repeat_ngram": 2, "bias": BIAS},
]


class CountPenalty(LogitsProcessor):
    def __init__(self, presence, frequency):
        self.presence, self.frequency = presence, frequency

    def __call__(self, ids, scores):
        counts = torch.bincount(torch.tensor(GENERATED), minlength=VOCAB).float()
        return scores - self.presence * (counts > 0) - self.frequency * counts


class Model(GenerationMixin):
    config = PretrainedConfig(vocab_size=VOCAB)


def stages(case):
    g = {k: v for k, v in case.items() if k not in ("bias", "no_repeat_ngram", "presence_penalty", "frequency_penalty")}
    if "bias" in case:
        g["sequence_bias"] = {(int(k),): v for k, v in case["bias"].items()}
    config = GenerationConfig(do_sample=True, no_repeat_ngram_size=case.get("no_repeat_ngram", 0),
                              **{"top_k": 0, **g})
    config._eos_token_tensor = None
    made = list(Model()._get_logits_processor(generation_config=config, input_ids_seq_length=1, encoder_input_ids=None,
                prefix_allowed_tokens_fn=None, logits_processor=[], device="cpu", model_kwargs={}))
    if "presence_penalty" in case or "frequency_penalty" in case:
        after = [i for i, s in enumerate(made) if isinstance(s, RepetitionPenaltyLogitsProcessor)]
        bias = sum(type(s).__name__ == "SequenceBiasLogitsProcessor" for s in made)
        penalty = CountPenalty(case.get("presence_penalty", 0.0), case.get("frequency_penalty", 0.0))
        made.insert(after[0] + 1 if after else bias, penalty)
    return made


def distribution(case, logits):
    ids, scores = torch.tensor([PROMPT + GENERATED]), torch.tensor([logits])
    for stage in stages(case):
        scores = stage(ids, scores)
    p = torch.softmax(scores.double(), -1)[0]
    return [[i, float(f"{v:.9g}")] for i, v in enumerate(p.tolist()) if v > 0]


def main():
    all_rows, cases = rows(), []
    for row, logits in all_rows.items():
        for case in CASES:
            if row == "flat" and any(k in case for k in ("top_p", "typical_p")):
                continue   # which of equal tokens stays is not defined
            if row == "whole" and "top_p" in case:
                continue
            cases.append({"row": row, "options": case, "kept": distribution(case, logits)})
    out = {"made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
           "prompt": PROMPT, "generated": GENERATED, "rows": all_rows, "cases": cases}
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(json.dumps(out).replace('{"row"', '\n{"row"') + "\n")
    print(len(cases), "cases")


main()
