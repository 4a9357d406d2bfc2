#!/usr/bin/env python3
"""diff_mixed.py - cuddle against the library tokenizers on 20 MB of mixed text: `make diff-tokenizers`.

Every document goes through each tokenizer of both, alone or with a pair: ids, tokens, offsets, types, words, sequences,
masks, overflowing parts and decoded text must be equal. Tokenizers: --tokenizers DIR (*.json, *.json.xz), those of
tests/tools/made_tokenizers.py, and, where the package sentencepiece is there, what its models become.
Prints a table; exit status 1 when something differs.
"""
import argparse
import json
import lzma
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RUST_BACKTRACE="0")  # the library panics on some texts
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "python"), os.path.dirname(os.path.abspath(__file__))]
import cuddle  # noqa: E402
import made_tokenizers  # noqa: E402
import mixed_text  # noqa: E402
import tokenizers  # noqa: E402
from fuzz_tokenizers import FIELDS, attempt  # noqa: E402

WORK = ROOT / "build" / "diff-tokenizers"
ALL_FIELDS = (*FIELDS, "sequence_ids")


# ---- Tokenizers ----

def given(folder):
    for path in sorted(folder.glob("*.json*")) if folder else []:
        yield path.name.split(".")[0], lambda: (lzma.open if path.suffix == ".xz" else open)(path, "rb").read().decode()


def sentencepieces(texts):
    """Models of the package sentencepiece, with its normalizations, as our command reads them."""
    try:
        import sentencepiece
    except ImportError:
        print("no package sentencepiece: without its models", file=sys.stderr)
        return
    corpus = WORK / "sentencepiece.txt"
    corpus.write_text("\n".join(texts), encoding="utf-8")

    def train(name, kind, rule, bytes_too):
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=str(WORK / name), vocab_size=6000, model_type=kind, normalization_rule_name=rule,
            byte_fallback=bytes_too, character_coverage=0.999, minloglevel=2, num_threads=2, hard_vocab_limit=False)
        return cuddle.Tokenizer.from_file(str(WORK / name) + ".model").to_str()
    for kind, rule, bytes_too in (("unigram", "nmt_nfkc", False), ("unigram", "nmt_nfkc_cf", True), ("bpe", "nmt_nfkc", True),
                                  ("bpe", "nfkc", False)):
        name = f"spm-{kind}-{rule}"
        yield name, lambda: train(name, kind, rule, bytes_too)


def write_tokenizers(options, documents):
    """Files of all of them, as paths by name."""
    r = random.Random("training text")
    texts = [d for kind in ("English", "code", "12 languages") for d in r.sample(documents[kind], len(documents[kind]) // 4)]
    makers = [given(options.tokenizers), ((n, lambda: made_tokenizers.make(n, texts)) for n in made_tokenizers.RECIPES),
              sentencepieces(texts)]
    out = {}
    for maker in makers:
        for name, make in maker:
            if not options.only or name in options.only:
                out[name] = WORK / f"{name}.json"
                out[name].write_text(make(), encoding="utf-8")
    return out


# ---- Comparing ----

def fields(e, over=True):
    out = {k: getattr(e, k) for k in ALL_FIELDS}
    if over:
        out["overflowing"] = [fields(x, False) for x in e.overflowing]
    return out


def where(key, want, got, text):
    """The first place that differs, with the text around it."""
    if not isinstance(want, list) or not isinstance(got, list):
        return f"{key}: want {ascii(want)[:300]} got {ascii(got)[:300]}"
    i = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    return f"{key}[{i}] of {len(want)} / {len(got)}: want {ascii(want[max(i - 2, 0):i + 4])} got {ascii(got[max(i - 2, 0):i + 4])}"


def differs(hf, mine, text, pair, special, skip):
    """What differs, or None; and how many tokens there are."""
    want, wrong = attempt(hf.encode, text, pair, add_special_tokens=special)
    if want is None and wrong is None:
        return None, 0
    got, refused = attempt(mine.encode, text, pair, add_special_tokens=special)
    if (wrong is None) != (refused is None):
        return f"error: want {wrong} got {refused}", 0
    if wrong is not None:
        return None, 0
    a, b = fields(want), fields(got)
    for key in a:
        if a[key] != b[key]:
            at = next((i for i, (x, y) in enumerate(zip(a["offsets"], b["offsets"])) if x != y), 0)
            begin = a["offsets"][at][0] if a["offsets"] else 0
            return f"{where(key, a[key], b[key], text)}\n    near {ascii(text[max(begin - 40, 0):begin + 60])}", len(want)
    x, y = (attempt(t.decode, a["ids"], skip_special_tokens=skip) for t in (hf, mine))
    if x != (None, None) and x[0] != y[0]:
        i = len(os.path.commonprefix([x[0], y[0] or ""]))
        return f"decoded at {i}: want {ascii(x[0][i - 20:i + 40])} got {ascii((y[0] or str(y[1]))[i - 20:i + 40])}", len(want)
    return None, len(want)


def compare(job):
    name, path, show = job
    with open(WORK / "documents.json", encoding="utf-8") as f:
        documents = json.load(f)
    hf, mine = tokenizers.Tokenizer.from_file(str(path)), cuddle.Tokenizer.from_file(str(path))
    r = random.Random(name)
    size = tokens = differ = 0
    notes, begin = [], time.monotonic()
    for i, text in enumerate(documents):
        pair = r.choice(documents) if r.random() < 0.05 else None
        wrong, n = differs(hf, mine, text, pair, r.random() < 0.7, r.random() < 0.5)
        size += len(text.encode()) + len((pair or "").encode())
        tokens += n
        if wrong:
            differ += 1
            if len(notes) < show:
                notes.append(f"  {name}, document {i}: {wrong}")
    row = f"| {name} | {len(documents)} | {size / 1e6:.1f} | {tokens} | {differ} | {time.monotonic() - begin:.0f} |"
    return row, notes, differ


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tokenizers", type=Path, metavar="DIR")
    p.add_argument("--megabytes", type=float, default=20.5)
    p.add_argument("--only", action="append", help="a tokenizer's name; repeatable")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--show", type=int, default=3)
    options = p.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    kinds = mixed_text.documents(WORK, options.megabytes)
    documents = [d for v in kinds.values() for d in v]
    random.Random("order").shuffle(documents)
    (WORK / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    paths = write_tokenizers(options, kinds)
    print("texts: " + ", ".join(f"{kind} {sum(len(d.encode()) for d in v) / 1e6:.1f} MB" for kind, v in kinds.items()))
    print("| tokenizer | texts | MB | tokens | differ | s |\n|---|---|---|---|---|---|", flush=True)
    total = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for row, notes, differ in pool.imap_unordered(compare, [(n, str(path), options.show) for n, path in paths.items()]):
            print("\n".join([row, *notes]), flush=True)
            total += differ
    print(f"{'not ok' if total else 'ok'} - {len(paths)} tokenizers, {total} texts differ")
    sys.exit(bool(total))


if __name__ == "__main__":
    main()
