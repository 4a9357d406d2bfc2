#!/usr/bin/env python3
"""Writes what `check.py models` and `check.py real` judge: a set of reference data through the command.

  refs_run.py SET OUT [options]

  --cuddle PATH    the command (build/cuddle)
  --only A,B       of the models and real models these only
  --weights KIND   of each model that has it, the folder KIND (sharded, legacy) in place of its plain files
  --files FOLDER   where the real models are (models); --fast: the kernels that `run` uses, for them
  --teacher        judge every place of a real model's greedy text by teacher forcing, too

SET: a set of reference data (its README says what is in it). Uses Python's standard library only.
Prints a line for each model that failed, with the command's own words.
"""
import argparse
import array
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

FILES = {"smol": "SmolLM2-135M-Instruct-Q4_1.gguf", "gemma3": "gemma-3-270m-Q4_K_M.gguf"}
ROOM = {"I64": "q", "I32": "i", "U8": "B", "BOOL": "B", "F32": "f"}


def read_tensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items()}


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


def rows_of(tensor):
    dtype, shape, data = tensor
    flat = array.array(ROOM[dtype], data)
    return [list(flat[i:i + shape[-1]]) for i in range(0, len(flat), shape[-1])]


class Failed(Exception):
    pass


class Runner:
    def __init__(self, cuddle):
        self.cuddle = cuddle
        self.scratch = tempfile.TemporaryDirectory()

    def call(self, *args):
        done = subprocess.run([self.cuddle, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Failed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
        return done.stdout

    def forward(self, model, tensors, out, flags):
        inputs = os.path.join(self.scratch.name, "inputs.safetensors")
        write_tensors(inputs, tensors)
        self.call("forward", model, "--in", inputs, "--out", out, *flags)

    def greedy(self, model, ids, n, flags):
        out = self.call("run", model, "--prompt-ids", ",".join(map(str, ids)), "-n", str(n), "--greedy", "--json", *flags)
        return json.loads(out)["ids"]


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")


# ---- Tiny models ----

def unpadded(tensors, case):
    ids = rows_of(tensors[f"{case}.in.input_ids"])
    mask = tensors.get(f"{case}.in.attention_mask")
    masks = rows_of(mask) if mask else [[1] * len(r) for r in ids]
    return [[i for i, m in zip(r, k) if m] for r, k in zip(ids, masks)]


def run_model(runner, given, out, weights):
    meta = json.load(open(os.path.join(given, "io.json"), encoding="utf-8"))
    tensors = read_tensors(os.path.join(given, "io.safetensors"))
    model = os.path.join(given, weights) if weights else given
    os.makedirs(out, exist_ok=True)
    for case, e in meta["cases"].items():
        inputs = {k: tensors[f"{case}.in.{k}"] for k in e["inputs"]}
        runner.forward(model, inputs, os.path.join(out, case + ".safetensors"), [])
    rows = []
    for case, e in meta.get("greedy", {}).items():
        new = [runner.greedy(model, ids, len(want), ["--ignore-eos", "--f32-activations"])
               for ids, want in zip(unpadded(tensors, case), e["new_ids"])]
        rows.append({"case": case, "new_ids": new})
    write_lines(os.path.join(out, "greedy.jsonl"), rows)


# ---- Real models ----

def judge_teacher(runner, model, entry, flags):
    """(positions, different top-1, those of them that no near tie explains, logit error)"""
    ids = entry["prompt_ids"] + entry["new_ids"]
    path = os.path.join(runner.scratch.name, "teacher.safetensors")
    runner.forward(model, {"input_ids": ("I64", [1, len(ids)], array.array("q", ids).tobytes())}, path, flags)
    _, shape, data = read_tensors(path)["logits"]
    logits, vocab = array.array("f", data), shape[-1]
    squares, count, other = 0.0, 0, []
    for i, gap in enumerate(entry["gap"]):
        at = (len(entry["prompt_ids"]) - 1 + i) * vocab
        row = logits[at:at + vocab]
        top, want = entry["top5_ids"][i], entry["top5_logits"][i]
        errors = [row[t] - w for t, w in zip(top, want)]
        mean = sum(errors) / len(errors)   # a shift of all logits changes no probability
        squares += sum((e - mean) ** 2 for e in errors)
        count += len(errors)
        if row.index(max(row)) != entry["new_ids"][i]:
            other.append(gap)
    error = math.sqrt(squares / count)
    return len(entry["gap"]), len(other), sum(g > 3 * error for g in other), error


def run_chat(runner, given, out, model):
    rows = []
    chat = json.load(open(os.path.join(given, "chat.json"), encoding="utf-8"))
    supplied = []
    if "note" in chat:  # the model's file holds no template
        path = os.path.join(out, "chat_template.jinja")
        with open(path, "w", encoding="utf-8") as f:
            f.write(chat["chat_template"])
        supplied = ["--chat-template", path]
    for case in chat["cases"]:
        flags = [] if case["add_generation_prompt"] else ["--no-generation-prompt"]
        try:
            rows.append(json.loads(runner.call("tokenize", model, "--chat", json.dumps(case["messages"]), *flags, *supplied)))
        except Failed as why:
            rows.append({"error": str(why)})
    write_lines(os.path.join(out, "chat.jsonl"), rows)


def run_templates(runner, given, out, model):
    """Templates with messages, tools and variables of their own."""
    path, rows = os.path.join(out, "template.jinja"), []
    for case in json.load(open(os.path.join(given, "templates.json"), encoding="utf-8"))["cases"]:
        with open(path, "w", encoding="utf-8") as f:
            f.write(case["chat_template"])
        flags = [] if case["add_generation_prompt"] else ["--no-generation-prompt"]
        flags += ["--tools", json.dumps(case["tools"])] if case["tools"] else []
        try:
            rows.append(json.loads(runner.call("tokenize", model, "--chat", json.dumps(case["messages"]),
                                               "--chat-template", path, "--template-vars", json.dumps(case["vars"]),
                                               *flags)))
        except Failed as why:
            rows.append({"error": str(why)})
    write_lines(os.path.join(out, "templates.jsonl"), rows)


def run_real(runner, given, out, model, fast, teacher):
    meta = json.load(open(os.path.join(given, "real.json"), encoding="utf-8"))
    tensors = read_tensors(os.path.join(given, "logits.safetensors"))
    os.makedirs(out, exist_ok=True)
    for text in meta["texts"]:
        dtype, shape, data = tensors[text + ".input_ids"]
        runner.forward(model, {"input_ids": (dtype, [1, shape[-1]], data)}, os.path.join(out, text + ".safetensors"),
                       ["--fast"] if fast else [])
    flags = [] if fast else ["--f32-activations"]
    rows = [{"id": e["id"], "new_ids": runner.greedy(model, e["prompt_ids"], len(e["new_ids"]), flags)}
            for e in meta["greedy"]]
    write_lines(os.path.join(out, "greedy.jsonl"), rows)
    run_chat(runner, given, out, model)
    wrong = 0
    for e in meta["greedy"] if teacher else []:
        n, differ, bad, error = judge_teacher(runner, model, e, ["--fast"] if fast else [])
        wrong += bad
        print(f"{e['id']}: {n} places, {differ} with another top-1, {bad} of them no near tie; logit error {error:.4f}")
    if wrong:
        raise Failed(f"{wrong} places differ by teacher forcing")


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("set")
    p.add_argument("out")
    p.add_argument("--cuddle", default="build/cuddle")
    p.add_argument("--only", default="")
    p.add_argument("--weights", default="")
    p.add_argument("--files", default="models")
    p.add_argument("--fast", action="store_true")
    p.add_argument("--teacher", action="store_true")
    o = p.parse_args()
    runner, only, done, failed = Runner(o.cuddle), [x for x in o.only.split(",") if x], 0, 0
    for kind in ("models", "real"):
        for name in sorted(os.listdir(os.path.join(o.set, kind))):
            given, out = os.path.join(o.set, kind, name), os.path.join(o.out, kind, name)
            about = os.path.join(given, "io.json" if kind == "models" else "real.json")
            has = os.path.exists(about) and (not o.weights or os.path.isdir(os.path.join(given, o.weights)))
            if not has or (only and name not in only) or (kind == "real" and o.weights):
                continue
            try:
                if kind == "models":
                    run_model(runner, given, out, o.weights)
                else:
                    run_real(runner, given, out, os.path.join(o.files, FILES[name]), o.fast, o.teacher)
                done += 1
            except Failed as why:
                print(f"{name}: {why}")
                failed += 1
    if os.path.exists(os.path.join(o.set, "real", "templates.json")) and not o.only:
        run_templates(runner, os.path.join(o.set, "real"), os.path.join(o.out, "real"),
                      os.path.join(o.files, FILES["smol"]))
    print(f"{done} run, {failed} failed")
    sys.exit(0 if done and not failed else 1)


if __name__ == "__main__":
    main()
