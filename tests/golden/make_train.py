#!/usr/bin/env python3
"""Makes tests/golden/train: a small corpus and what the trainers of the library tokenizers learn from it.

    make_train.py           writes NAME.json (vocab in id order, merges, version) beside corpus.txt
    make_train.py CUDDLE    trains with that command and checks vocabulary, merges and the ids of the corpus

Where results hang on the order of words (the ids of characters with a prefix or suffix, and so ties; Unigram's sums), that
is the order of a hash table in tokenizers, which differs from run to run. unigram_runs.json has two runs on one thread and
merge_runs.json one of each kind, with the words in the run's own order as the trainer's state shows it, so that each can be
repeated exactly.
"""
import json
import os

os.environ["RAYON_NUM_THREADS"] = "1"  # the sums of Unigram hang on the number of threads, too
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train")
CORPUS = os.path.join(HERE, "corpus.txt")
ARGS = {
    "byte_level": ["-n", "500", "-s", "<|end|>"],
    "byte_level_min": ["-n", "2000", "-s", "<|end|>", "--min-frequency", "3", "--max-token-length", "6"],
    "metaspace": ["--metaspace", "-n", "300", "-s", "<unk>", "-s", "<s>"],
    "whitespace": ["--whitespace", "-n", "250", "-s", "<unk>"],
    "wordlevel_bytes": ["-m", "wordlevel", "--byte-level", "-n", "150", "-s", "<unk>"],
    "wordlevel": ["-m", "wordlevel", "-n", "150", "-s", "<unk>", "--min-frequency", "2"],
    "unigram": ["-m", "unigram", "--whitespace", "-n", "80", "-s", "<s>", "--initial-alphabet", "日"],
}


def corpus():
    r = random.Random(5)
    stems = "low new wide slow run jump ba na banana aaa über naïve 東京 мир code_x = ( ) 12 345 \U0001f600".split()
    ends = ["", "er", "est", "ly", "ing", "s", "a", "aa", "!", ",", "."]
    return "".join(" ".join(r.choice(stems) + r.choice(ends) for _ in range(r.randint(1, 12))) + "\n"
                   for _ in range(120))


def made(name):
    options = {"show_progress": False}
    if name.startswith("byte_level"):
        t = Tokenizer(models.BPE())
        t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        options.update(special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=500)
        if name == "byte_level_min":
            options.update(min_frequency=3, max_token_length=6, vocab_size=2000)
    elif name.startswith("wordlevel"):
        t = Tokenizer(models.WordLevel(unk_token="<unk>"))
        by_bytes = name == "wordlevel_bytes"
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if by_bytes else pre_tokenizers.Whitespace()
        t.train([CORPUS], trainers.WordLevelTrainer(vocab_size=150, min_frequency=0 if by_bytes else 2,
                                                    special_tokens=["<unk>"], **options))
        return t
    elif name == "unigram":
        t = Tokenizer(models.Unigram())
        t.pre_tokenizer = pre_tokenizers.Whitespace()
        t.train([CORPUS], trainers.UnigramTrainer(vocab_size=80, special_tokens=["<s>"], unk_token="<unk>",
                                                  initial_alphabet=["日"], **options))
        return t
    else:
        t = Tokenizer(models.BPE(unk_token="<unk>"))
        meta = name == "metaspace"
        t.pre_tokenizer = pre_tokenizers.Metaspace() if meta else pre_tokenizers.Whitespace()
        options.update(special_tokens=["<unk>", "<s>"] if meta else ["<unk>"], vocab_size=300 if meta else 250)
    t.train([CORPUS], trainers.BpeTrainer(**options))
    return t


def words_of(trainer):
    """In the order in which the trainer has them."""
    def find(state):
        return state.get("words") or next(filter(None, (find(v) for v in state.values() if isinstance(v, dict))), None)
    return list(find(json.loads(trainer.__getstate__())).items())


def merge_runs():
    runs = []
    for kind, options in ((models.WordPiece, {}), (models.WordPiece, {"end_of_word_suffix": "</w>"}),
                          (models.BPE, {"continuing_subword_prefix": "@@", "end_of_word_suffix": "</w>"}),
                          (models.BPE, {"end_of_word_suffix": "</w>", "initial_alphabet": ["Q"]}),
                          (models.BPE, {"limit_alphabet": 3, "special_tokens": ["[UNK]", "w"]})):
        options = {"special_tokens": ["[UNK]"], "vocab_size": 130, "min_frequency": 2, **options}
        t = Tokenizer(kind(unk_token="[UNK]"))
        trainer = (trainers.BpeTrainer if kind is models.BPE else trainers.WordPieceTrainer)(show_progress=False, **options)
        texts = [w for line in corpus().splitlines()[:70] for w in line.split() if w.isascii()]
        t.train_from_iterator(texts, trainer)
        runs.append({"model": kind.__name__, **options, "words": words_of(trainer), **learned(t)})
    return {"runs": runs}


def unigram_runs():
    """Two runs: options, words in the order of the run with their counts, pieces."""
    r = random.Random(7)
    words = ["".join(r.choice("aab") for _ in range(r.randint(1, 9))) for _ in range(150)]
    words += ["".join(r.choice(["ti", "on", "re", "é", "s", "東京", "\U0001f600"]) for _ in range(r.randint(1, 6)))
              for _ in range(150)]
    texts = [r.choice(words) for _ in range(900)] + words
    options = {"vocab_size": 60, "max_piece_length": 9}
    runs = []
    for _ in range(2):
        t = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(special_tokens=["<s>"], unk_token="<unk>", show_progress=False, **options)
        t.train_from_iterator(texts, trainer)
        runs.append({"words": words_of(trainer), "pieces": json.loads(t.to_str())["model"]["vocab"]})
    return {"tokenizers": tokenizers.__version__, **options, "runs": runs}


def write(name, value):
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def learned(t):
    d = json.loads(t.to_str())["model"]
    if d["type"] == "Unigram":  # the order of equal scores is not the same
        return {"tokenizers": tokenizers.__version__, "pieces": sorted([p, round(s, 9)] for p, s in d["vocab"])}
    return {"tokenizers": tokenizers.__version__, "vocab": sorted(d["vocab"], key=d["vocab"].get),
            "merges": ["\t".join(m) for m in d.get("merges", [])]}


def same(ours, theirs):
    """Characters that are no piece have scores at the end, 0.0001 apart, in an order that hangs on a hash table."""
    if "pieces" not in ours:
        return ours == theirs
    return all(p == q and abs(s - t) < (0.01 if s < -7 else 1e-8)
               for (p, s), (q, t) in zip(ours["pieces"], theirs["pieces"], strict=True))


def main():
    os.makedirs(HERE, exist_ok=True)
    if len(sys.argv) < 2:
        write("unigram_runs", unigram_runs())
        write("merge_runs", merge_runs())
    with open(CORPUS, "w", encoding="utf-8") as f:
        f.write(corpus())
    for name, args in ARGS.items():
        theirs = made(name)
        if len(sys.argv) < 2:
            write(name, learned(theirs))
            continue
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "tokenizer.json")
            subprocess.run([sys.argv[1], "tokenizer", "train", *args, "-o", path, CORPUS], check=True)
            ours = Tokenizer.from_file(path)
            assert same(learned(ours), learned(theirs)), name
            with open(CORPUS, encoding="utf-8") as f:
                text = f.read()
            ids = subprocess.run([sys.argv[1], "tokenize", path, "--ids"], input=text.encode(), check=True,
                                 capture_output=True).stdout
            assert [int(i) for i in ids.split(b",")] == theirs.encode(text).ids, name
            print(name, "equal:", ", ".join(f"{len(v)} {k}" for k, v in learned(ours).items() if k != "tokenizers"))


if __name__ == "__main__":
    main()
