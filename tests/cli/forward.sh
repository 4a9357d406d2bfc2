#!/usr/bin/env bash
# forward.sh - `cuddle forward` and `cuddle perplexity`: what they write, and what they refuse in one line.
cd "$(dirname "$0")/../.." && PYTHONDONTWRITEBYTECODE=1 exec python3 - <<'END'
import array
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, "tests/tools")
from refs_run import read_tensors, write_tensors

CUDDLE, MODEL = os.environ.get("CUDDLE", "build/cuddle"), "tests/golden/models/llama_gqa"
TEXT = "models/SmolLM2-135M-Instruct-Q4_1.gguf"
scratch = tempfile.TemporaryDirectory()
IN, OUT = os.path.join(scratch.name, "in.safetensors"), os.path.join(scratch.name, "out.safetensors")
failed = 0


def report(name, good, why=""):
    global failed
    failed += not good
    print(("ok - " if good else "not ok - ") + name + ("" if good else f"\n  {why}"))


def call(*args):
    return subprocess.run([CUDDLE, *args], capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


def ids(*v, shape=None):
    return ("I64", shape or [1, len(v)], array.array("q", v).tobytes())


def forward(tensors, *flags):
    write_tensors(IN, tensors)
    return call("forward", MODEL, "--in", IN, "--out", OUT, *flags)


def logits(tensors, *flags):
    done = forward(tensors, *flags)
    if done.returncode != 0:
        raise SystemExit("not ok - forward\n" + done.stderr)
    return {k: (v[1], array.array("f", v[2])) for k, v in read_tensors(OUT).items()}


def refuses(name, text, tensors, *flags):
    done = forward(tensors, *flags)
    report(name, done.returncode == 1 and text in done.stderr and done.stderr.count("\n") == 1, done.stderr)


shape, alone = logits({"input_ids": ids(5, 6, 7)})["logits"]
V = shape[2]
report("logits are [B, T, V]", shape == [1, 3, 136] and len(alone) == 3 * 136)
report("one axis will do, and int32", logits({"input_ids": ("I32", [3], array.array("i", [5, 6, 7]).tobytes())})
       ["logits"][1] == alone)
padded = logits({"input_ids": ids(0, 0, 5, 6, 7, 5, 6, 7, 0, 0, shape=[2, 5]),
                 "attention_mask": ids(0, 0, 1, 1, 1, 1, 1, 1, 0, 0, shape=[2, 5]),
                 "position_ids": ids(1, 1, 0, 1, 2, 0, 1, 2, 1, 1, shape=[2, 5])})["logits"][1]
report("padding left and right changes nothing", padded[2 * V:5 * V] == alone and padded[5 * V:8 * V] == alone)
report("padded places are zero", not any(padded[:2 * V]) and not any(padded[8 * V:]))
nodes = logits({"input_ids": ids(5, 6, 7)}, "--all")
report("--all writes every node", "model.layers.1.mlp.down_proj" in nodes and len(nodes) > 30)
report("--all gives the same logits", max(abs(a - b) for a, b in zip(nodes["logits"][1], alone)) < 1e-5)

def quantised(*flags):
    """The tiny model in AWQ's 4-bit groups: the worst distance to its dequantised weights' logits."""
    folder = "tests/golden/int4/awq"
    want = read_tensors(folder + "/io.safetensors")
    write_tensors(IN, {"input_ids": want["short.in.input_ids"]})
    done = call("forward", folder, "--in", IN, "--out", OUT, *flags)
    if done.returncode != 0:
        raise SystemExit("not ok - forward of AWQ\n" + done.stderr)
    got = array.array("f", read_tensors(OUT)["logits"][2])
    return max(abs(a - b) for a, b in zip(got, array.array("f", want["short.out.logits"][2]), strict=True))


report("AWQ's logits are those of its dequantised weights", quantised() < 1e-4)
types = json.loads(call("info", "tests/golden/int4/awq", "--json").stdout)["types"]
report("info lists AWQ's weights as groups", types["i4_g64"]["tensors"] == 7 and sorted(types) == ["f16", "i4_g64"], types)
done = call("convert", "tests/golden/int4/awq", os.path.join(scratch.name, "awq.gguf"), "-q", "q4_0")
report("convert says what keeps them", done.returncode == 0 and "-q q5_0 keeps them" in done.stderr, done.stderr)

refuses("input_ids must be there", "input_ids", {"attention_mask": ids(1, 1)})
refuses("input_ids are integers", "int64", {"input_ids": ("F32", [1, 2], bytes(8))})
refuses("an id outside the vocabulary is named", "136", {"input_ids": ids(1, 136)})
refuses("a negative id is refused", "input_ids", {"input_ids": ids(1, -1)})
refuses("a mask with a hole is refused", "hole", {"input_ids": ids(1, 2, 3), "attention_mask": ids(1, 0, 1)})
refuses("shapes must agree", "attention_mask", {"input_ids": ids(1, 2, 3), "attention_mask": ids(1, 1)})
refuses("three axes are refused", "[B, T]", {"input_ids": ids(1, 2, shape=[1, 1, 2])})
refuses("no tokens are refused", "input_ids", {"input_ids": ids(shape=[1, 0])})
refuses("more tokens than the model's limit are refused", "128", {"input_ids": ids(*[1] * 129)})
refuses("a position over the limit is refused", "500", {"input_ids": ids(1, 2), "position_ids": ids(0, 500)})
refuses("an unknown input is named", "pixel_values", {"input_ids": ids(1), "pixel_values": ("F32", [1], bytes(4))})
with open(IN, "r+b") as f:
    f.truncate(40)
done = call("forward", MODEL, "--in", IN, "--out", OUT)
report("a cut file is refused", done.returncode == 1 and IN in done.stderr and done.stderr.count("\n") == 1, done.stderr)
write_tensors(IN, {"input_ids": ids(1)})
done = call("forward", MODEL, "--in", IN, "--out", "/no/such/folder/x.safetensors")
report("a folder that is not there is named", done.returncode == 1 and "/no/such/folder" in done.stderr, done.stderr)
report("--in and --out are needed", call("forward", MODEL, "--in", IN).returncode == 2)


def surprise(row, target):
    top = max(row)
    return math.log(sum(math.exp(x - top) for x in row)) + top - row[target]


# Perplexity, recomputed from forward's logits: the second half of each chunk counts.
words = os.path.join(scratch.name, "text.txt")
with open(words, "w") as f:
    f.write("The quick brown fox jumps over the lazy dog, and then it sleeps in the sun until noon. " * 2)
tokens = [int(x) for x in call("tokenize", TEXT, open(words).read(), "--ids").stdout.replace(",", " ").split()]
sums = []
for at in range(0, len(tokens) - 15, 16):
    write_tensors(IN, {"input_ids": ids(*tokens[at:at + 16])})
    call("forward", TEXT, "--in", IN, "--out", OUT)
    flat = array.array("f", read_tensors(OUT)["logits"][2])
    n = len(flat) // 16
    sums += [surprise(flat[i * n:(i + 1) * n], tokens[at + i + 1]) for i in range(8, 15)]
got = json.loads(call("perplexity", TEXT, words, "-c", "16", "--f32-activations", "--json").stdout)
want = math.exp(sum(sums) / len(sums))
report("perplexity is exp of the mean surprise", got["tokens"] == len(sums) and abs(got["perplexity"] / want - 1) < 1e-4,
       f"{got} instead of {want}")
done = call("perplexity", TEXT, "/no/such/text")
report("perplexity names a missing text", done.returncode == 1 and "/no/such/text" in done.stderr, done.stderr)
report("a stride over the context is wrong use", call("perplexity", TEXT, words, "-c", "8", "--stride", "9").returncode == 2)
sys.exit(1 if failed else 0)
END
