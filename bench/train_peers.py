#!/usr/bin/env python3
"""train_peers.py FILE... - `cuddle tokenizer train` beside the trainers of the package tokenizers, in one run.

    train_peers.py [--runs N] [--models bpe,wordpiece,unigram] [--vocab-size N] FILE...

Both take turns with all processors, each training a process of its own; a process's time is its whole life for cuddle and
that of the call `train` for tokenizers. Differences: merges in other places; pieces of Unigram that only one has.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CUDDLE = str(Path(__file__).resolve().parent.parent / "build" / "cuddle")
ARGS = {"bpe": ["-s", "<|end|>"], "wordpiece": ["--lowercase", "-s", "[UNK]", "-s", "[CLS]"], "unigram": ["-s", "<unk>"]}


def train_peer(model, vocab_size, out, files):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    options = {"vocab_size": vocab_size, "show_progress": False}
    if model == "bpe":
        t, special = Tokenizer(models.BPE()), ["<|end|>"]
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif model == "wordpiece":
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]", "[CLS]"], **options)
    else:
        t = Tokenizer(models.Unigram())
        t.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(special_tokens=["<unk>"], unk_token="<unk>", **options)
    start = time.perf_counter()
    t.train(files, trainer)
    print(time.perf_counter() - start)
    t.save(out)


def run(command):
    """Seconds, what it wrote, MB."""
    start = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"train_peers: {command[:4]} failed")
    return time.perf_counter() - start, out, usage.ru_maxrss / 1024


def differences(ours, theirs):
    a, b = (json.loads(Path(f).read_text(encoding="utf-8"))["model"] for f in (ours, theirs))
    if a["type"] == "Unigram":
        return len({p for p, _ in a["vocab"]} - {p for p, _ in b["vocab"]})
    if a["type"] == "WordPiece":
        return len(set(a["vocab"]) - set(b["vocab"]))
    return sum(x != y for x, y in zip(a["merges"], b["merges"])) + abs(len(a["merges"]) - len(b["merges"]))


def compare(model, o, folder):
    ours, theirs = (os.path.join(folder, f"{model}-{who}.json") for who in ("ours", "theirs"))
    mine, peer, mb = [], [], (0, 0)
    for _ in range(o.runs):
        seconds, _, mb_ours = run([CUDDLE, "tokenizer", "train", "-m", model, "-n", str(o.vocab_size), *ARGS[model], "-o", ours,
                                   *o.files])
        mine.append(seconds)
        _, out, mb_peer = run([sys.executable, __file__, "--peer", theirs, "--models", model, "--vocab-size", str(o.vocab_size),
                               *o.files])
        peer.append(float(out))
        mb = (max(mb[0], mb_ours), max(mb[1], mb_peer))
    a, b = statistics.median(mine), statistics.median(peer)
    size = sum(os.path.getsize(f) for f in o.files) / 1e6
    print(f"| {model} | {size:.0f} MB | {o.vocab_size} | {a:.2f} | {b:.2f} | {b / a:.1f} | {mb[0]:.0f} | {mb[1]:.0f} | "
          f"{differences(ours, theirs)} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--models", default="bpe,wordpiece,unigram")
    p.add_argument("--vocab-size", type=int, default=8000)
    p.add_argument("--peer", help=argparse.SUPPRESS)
    p.add_argument("files", nargs="+")
    o = p.parse_args()
    if o.peer:
        train_peer(o.models, o.vocab_size, o.peer, o.files)
        return
    print("| model | text | tokens | cuddle s | tokenizers s | ratio | cuddle MB | tokenizers MB | differ |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in o.models.split(","):
            compare(model, o, folder)


main()
