#!/usr/bin/env python3
"""Compares `cuddle tokenize --jsonl` with the library tokenizers on generated texts and ids.

  diff_tokenizers.py [options] FILE...     FILE: a tokenizer.json, or FILE=MODEL to run MODEL (a GGUF) against FILE

  --cuddle PATH   (build/cuddle)    --rows N  texts for each file (500)    --seed N (1)    --show N  differences shown (5)

Needs: pip install tokenizers==0.23.3. Exit status 1 when something differs.
"""
import argparse
import json
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer

WORDS = """the of and to in is that it was for on are as with his they at be this from have or by one had not but what
all were when we there can an your which their said if do will each about how up out them then she many some so these
would other into has more her two like him see time could no make than first been its who now people my made over did
don't I'll we've they're it's I'd I'm can't won't O'Neill rock'n'roll
internationalization antidisestablishmentarianism GitHub iPhone HTTPRequest snake_case kebab-case CamelCaseName
function return void const static struct unsigned int float double import numpy def class lambda yield async await
München naïve café Straße Ελλάδα Россия Україна Việt Nam Türkiye İstanbul ığdır ﬁnance ſomething Kelvin ÅNGSTRÖM
日本語 中文字符 한국어 한글 ひらがな カタカナ ｶﾀｶﾅ العربية עברית हिन्दी ไทย বাংলা தமிழ் ქართული ខ្មែរ မြန်မာ አማርኛ
""".split()
CODE = ["for (int i = 0; i < n; i++) {\n\tx[i] += 1;\n}\n", "def f(x):\n    return x ** 2  # square\n", "#include <stdio.h>\r\n",
        "SELECT * FROM t WHERE a >= 10 AND b != 'x''y';", "<div class=\"a b\">&nbsp;</div>", "{\"k\": [1, 2.5e-3, null]}",
        "https://example.com/a/b?c=d&e=f#g", "C:\\Users\\x\\y.txt", "$x = \\frac{a}{b}$", "a->b::c<d>&&e||!f", "0xDEADBEEF 1_000 3.14e-10"]
RANGES = [(0x20, 0x7e), (0, 0x1f), (0x7f, 0xff), (0x100, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x590, 0x6ff),
          (0x900, 0xdff), (0xe00, 0xfff), (0x1000, 0x109f), (0x1100, 0x11ff), (0x1ab0, 0x1aff), (0x1e00, 0x1fff), (0x2000, 0x206f),
          (0x2070, 0x218f), (0x2190, 0x27ff), (0x2e80, 0x30ff), (0x3100, 0x4dff), (0x4e00, 0x9fff), (0xa000, 0xabff),
          (0xac00, 0xd7ff), (0xe000, 0xf8ff), (0xf900, 0xfaff), (0xfb00, 0xfdff), (0xfe00, 0xfe6f), (0xff00, 0xffff),
          (0x10000, 0x10fff), (0x11000, 0x12fff), (0x16000, 0x18fff), (0x1b000, 0x1bfff), (0x1d000, 0x1dfff), (0x1e000, 0x1efff),
          (0x1f000, 0x1faff), (0x20000, 0x2ffff), (0x30000, 0x3ffff), (0xe0000, 0xe01ff), (0xf0000, 0x10ffff)]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\r", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\u0085", "\u1680",
          "\u202f", "\ufeff", " \n ", "\n \n", "\v", "\f", "\x1c", "\x1f", "\u180e", "\u2581", "\u2581\u2581"]
GLUE = ["'s", "'S", "'ſ", "'t", "'re", "'RE", "'Ve", "'ll", "'LL", "'d", "'m", "''", "'", "’s", "0", "12", "345", "6789", "½", "Ⅷ",
        "²", "١٢٣", "१२", "!", "?!", "...", "—", "/", "\\", "_", "#", "é", "e\u0301", "\u0301", "\u0308\u0323", "\u200d", "👍🏽",
        "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "\ufffd", "\x00", "\x1b[0m", "ß", "ẞ", "İ", "ı", "Ǆ", "ǅ", "ﬁ", "ﷺ", "각", "\u1100\u1161\u11a8", "\U0001d11e"]


def random_char(r):
    low, high = r.choice(RANGES)
    while True:
        c = r.randint(low, high)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def assigned_char(r):
    while True:
        c = random_char(r)
        if unicodedata.category(c) not in ("Cn", "Co"):
            return c


def part(r, specials):
    k = r.randrange(16)
    if k < 5:
        return r.choice(WORDS)
    if k == 5:
        return r.choice(CODE)
    if k < 9:
        return r.choice(SPACES)
    if k < 11:
        return r.choice(GLUE)
    if k == 11:
        return "".join(random_char(r) for _ in range(r.randint(1, 8)))
    if k == 12:
        return "".join(assigned_char(r) for _ in range(r.randint(1, 12)))
    if k == 13 and specials:
        s = r.choice(specials)
        return r.choice([s, s, s, s.upper(), s.lower(), s[:-1], s + s])
    if k == 14:
        return r.choice(WORDS + SPACES + GLUE) * r.randint(2, 40)
    low, high = r.choice(RANGES)
    return "".join(chr(c) for c in (r.randint(low, high) for _ in range(r.randint(1, 30))) if not 0xD800 <= c <= 0xDFFF)


def make_text(r, specials):
    n = r.choice([0, 1, 1, 2, 3, 5, 8, 13, 30])
    glue = r.choice(["", "", " ", r.choice(SPACES)])
    return glue.join(part(r, specials) for _ in range(n))


def expected(t, row):
    if "ids" in row:
        try:
            return {"decoded": t.decode(row["ids"], skip_special_tokens=False),
                    "decoded_skip_special": t.decode(row["ids"], skip_special_tokens=True)}
        except BaseException:  # the library itself panics on some ids
            return None
    try:
        e = t.encode(row["text"], row["pair"], add_special_tokens=row["add_special_tokens"])
    except Exception as error:
        return {"error": str(error)}
    except BaseException:
        return None
    try:
        decoded = t.decode(e.ids, skip_special_tokens=False)
    except BaseException:
        decoded = None
    return {"ids": e.ids, "tokens": e.tokens, "offsets": [list(x) for x in e.offsets], "type_ids": e.type_ids,
            "special_tokens_mask": e.special_tokens_mask, "attention_mask": e.attention_mask, "word_ids": e.word_ids,
            "decoded": decoded, "overflowing": [x.ids for x in e.overflowing]}


def differs(want, got, keys=None):
    if want is None:
        return None
    if "error" in want:
        return None if "error" in got else "error"
    if "error" in got:
        return "error"
    for key, value in want.items():
        mine = got.get(key)
        if value is None or (keys and key not in keys):
            continue
        if key == "overflowing":
            mine = [x["ids"] for x in mine]
        if mine != value:
            return key
    return None


def compare(name, options):
    path, _, model = name.partition("=")
    t = Tokenizer.from_file(path)
    r = random.Random(f"{options.seed} {path.split('/')[-1]}")
    specials = [x.content for x in t.get_added_tokens_decoder().values()]
    specials = r.sample(specials, min(len(specials), 50))
    rows = []
    for _ in range(options.rows):
        if r.random() < 0.1:
            rows.append({"ids": [r.randrange(t.get_vocab_size() + 3) for _ in range(r.randint(0, 40))]})
        else:
            pair = make_text(r, specials) if r.random() < 0.15 else None
            rows.append({"text": make_text(r, specials), "pair": pair, "add_special_tokens": r.random() < 0.7})
    run = subprocess.run([options.cuddle, "tokenize", model or path, "--jsonl"],
                         input="".join(json.dumps(x) + "\n" for x in rows).encode(), stdout=subprocess.PIPE)
    lines = run.stdout.decode().split("\n")[:-1]
    bad = 0
    if run.returncode or len(lines) != len(rows):
        print(f"{name}: exit {run.returncode} after {len(lines)} of {len(rows)} rows")
        bad = 1
    for row, line in zip(rows, lines):
        want, got = expected(t, row), json.loads(line)
        key = differs(want, got, ("ids", "decoded") if model else None)
        if not key:
            continue
        bad += 1
        if bad <= options.show:
            print(f"{name}: {key}\n  row  {ascii(row)[:1200]}\n  want {ascii(want.get(key, want))[:1200]}\n"
                  f"  got  {ascii(got.get(key, got))[:1200]}")
    print(f"{name}: {len(rows) - bad} of {len(rows)} equal")
    return bad


def main():
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+")
    p.add_argument("--cuddle", default="build/cuddle")
    p.add_argument("--rows", type=int, default=500)
    p.add_argument("--seed", default="1")
    p.add_argument("--show", type=int, default=5)
    options = p.parse_args()
    sys.exit(1 if sum(compare(f, options) for f in options.files) else 0)


if __name__ == "__main__":
    main()
