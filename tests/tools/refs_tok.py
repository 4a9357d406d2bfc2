#!/usr/bin/env python3
"""Writes what `check.py tok SET OUT` judges: the rows of SET/tokenizers through `cuddle tokenize --jsonl`.

  refs_tok.py SET OUT REAL [--cuddle build/cuddle]

SET: a set of reference data (its README says what is in it). REAL: a folder with smollm2.json, gemma3.json,
minilm.json and whisper.json (or .json.xz). Uses Python's standard library only.
"""
import json
import lzma
import os
import subprocess
import sys
import tempfile

KEEP_OVERFLOWING = 3


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def find_tokenizer(name, given, real, scratch):
    """The file and the options that the reference was made with."""
    if not name.startswith("real:"):
        return os.path.join(given, "tokenizers", "files", name + ".json"), []
    stem = name[5:].removesuffix("_default")
    path = os.path.join(real, stem + ".json")
    if not os.path.exists(path):
        path = os.path.join(scratch, stem + ".json")
        if not os.path.exists(path):
            with lzma.open(os.path.join(real, stem + ".json.xz")) as packed, open(path, "wb") as plain:
                plain.write(packed.read())
    return path, ["--no-truncation", "--no-padding"] if name == "real:minilm" else []


def request(kind, row):
    if kind == "decode":
        return {"ids": row["ids"]}
    if kind == "batch":
        return {"inputs": row["inputs"], "add_special_tokens": row["add_special_tokens"]}
    return {"text": row["text"], "pair": row["pair"], "add_special_tokens": row["add_special_tokens"]}


def rename(x):
    """The names of the reference rows."""
    if "special_tokens_mask" in x:
        x["special_mask"] = x.pop("special_tokens_mask")
    if "overflowing" in x:
        x["n_overflowing"] = len(x["overflowing"])
        x["overflowing"] = [rename(y) for y in x["overflowing"][:KEEP_OVERFLOWING]]
        for y in x["overflowing"]:
            y.pop("word_ids")
    for y in x.get("encodings", []):
        rename(y)
    return x


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    given, out, real = sys.argv[1:4]
    cuddle = sys.argv[sys.argv.index("--cuddle") + 1] if "--cuddle" in sys.argv else "build/cuddle"
    os.makedirs(os.path.join(out, "tokenizers"), exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("cases", "decode", "batch"):
            rows = rows_of(os.path.join(given, "tokenizers", kind + ".jsonl"))
            by_tokenizer = {}
            for i, row in enumerate(rows):
                by_tokenizer.setdefault(row["tokenizer"], []).append(i)
            results = [None] * len(rows)
            for name, where in by_tokenizer.items():
                path, options = find_tokenizer(name, given, real, scratch)
                stdin = "".join(json.dumps(request(kind, rows[i])) + "\n" for i in where)
                run = subprocess.run([cuddle, "tokenize", path, "--jsonl", *options], input=stdin.encode(),
                                     stdout=subprocess.PIPE)
                lines = run.stdout.decode().split("\n")[:-1] if run.returncode == 0 else []
                if len(lines) != len(where):
                    print(f"{kind} {name}: exit {run.returncode}, {len(lines)} of {len(where)} rows", file=sys.stderr)
                for i, line in zip(where, lines):
                    results[i] = rename(json.loads(line))
            with open(os.path.join(out, "tokenizers", kind + ".jsonl"), "w", encoding="utf-8") as f:
                for row in results:
                    f.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
