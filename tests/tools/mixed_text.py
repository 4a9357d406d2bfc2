"""Mixed text for comparing tokenizers: English, code, 12 languages, and texts at random (control characters, any code
points, special tokens glued to words). The same documents on every run of one Python.
"""
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "bench"), os.path.dirname(os.path.abspath(__file__))]
import tokenizer_peers as peers  # noqa: E402
from diff_tokenizers import make_text, random_char  # noqa: E402

PACKAGES = ["Django==5.2", "wagtail==8.0.1", "weblate==5.14.3"]  # they bring translations
# Texts that stand in documents as they stand in words; tokenizers that know them take them out
SPECIALS = ["<s>", "</s>", "<|end|>", "<|im_start|>", "<|endoftext|>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "<unk>",
            "<start_of_turn>", "<pad>", "<eos>"]
CONTROLS = [chr(c) for c in range(32)] + ["\x7f", "\x85", "\u200b", "\u200d", "\ufeff", "\ufffd", "\u2028", "\u00ad"]


def translated(folder):
    """Each line of each language once, those of a language together."""
    lines = {}
    for package in PACKAGES:
        for language, texts in peers.translations(package, folder).items():
            lines.setdefault(language, []).extend(texts)
    return ["\n".join(peers.unique(lines[language])) for language in peers.LANGUAGES]


def sizes(r):
    return r.choice([20, 200, 1000, 4096, 4096, 4096, 16000])


def cut(r, text):
    """Documents of many lengths, some with control characters or special tokens in between."""
    at = 0
    while at < len(text):
        n = sizes(r)
        document = text[at:at + n]
        for _ in range(r.choice([0, 0, 1, 4])):
            i = r.randrange(len(document) + 1)
            document = document[:i] + r.choice([r.choice(SPECIALS), r.choice(CONTROLS), random_char(r)]) + document[i:]
        yield document
        at += n


def at_random(r, size):
    while size > 0:
        k = r.randrange(10)
        if k < 7:
            text = make_text(r, SPECIALS)
        elif k < 9:
            text = " ".join(make_text(r, SPECIALS) for _ in range(20))
        else:
            text = "".join(random_char(r) for _ in range(r.randint(1, 2000)))
        size -= len(text.encode())
        yield text


def documents(folder, megabytes):
    """{kind: documents}: two parts of English and languages as there are, code and random texts fill up the rest."""
    r = random.Random("mixed text")
    code, english = list(peers.sources()), list(peers.pydoc_data.topics.topics.values())
    for text in code:
        english += peers.docstrings(text)
    r.shuffle(code)
    out = {"English": "\n".join(peers.unique("\n".join(english).split("\n"))), "12 languages": "\n".join(translated(folder))}
    out = {kind: text[:int(len(text) * min(1, megabytes / 20))] for kind, text in out.items()}
    rest = int(megabytes * 1e6) - sum(len(t.encode()) for t in out.values())
    out["code"] = "\n".join(peers.unique("\n".join(code).split("\n")))[:max(rest * 2 // 3, 0)]
    out = {kind: list(cut(r, text)) for kind, text in out.items()}
    rest = int(megabytes * 1e6) - sum(len(d.encode()) for v in out.values() for d in v)
    out["at random"] = list(at_random(r, rest))
    return out
