#!/usr/bin/env python3
"""Writes runtime/token/unicode_data.h: the character classes that Hugging Face tokenizers uses.

Its parts use different versions of Unicode (Oniguruma, Rust's regex, Rust's std, older crates), so
the classes are asked from the library itself, code point by code point. Needs: pip install tokenizers==0.23.3
    python3 tools/gen_unicode.py > runtime/token/unicode_data.h
"""
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CPS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def onig(pattern):
    pre = pre_tokenizers.Split(Regex(pattern), "removed")
    text = "".join(map(chr, CPS))
    kept = set()
    for piece, _ in pre.pre_tokenize_str(text):
        kept.update(map(ord, piece))
    return set(CPS) - kept


def removed_by(pre):
    text = "".join(map(chr, CPS))
    kept = set()
    for piece, _ in pre.pre_tokenize_str(text):
        kept.update(map(ord, piece))
    return set(CPS) - kept


def filtered_by(norm):
    return {c for c in CPS if norm.normalize_str(chr(c)) == ""}


def rust_word():
    """\\w of the Whitespace pre-tokenizer: glued to a letter."""
    pre = pre_tokenizers.Whitespace()
    return {c for c in CPS if len(pre.pre_tokenize_str("a" + chr(c))) == 1 and len(pre.pre_tokenize_str("a" + chr(c))[0][0]) == 2}


def numeric():
    pre = pre_tokenizers.Digits(individual_digits=True)
    return {c for c in CPS if len(pre.pre_tokenize_str("a" + chr(c))) == 2}


def bert_other():
    norm = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return {c for c in CPS if norm.normalize_str(chr(c)) == ""} - {0, 0xFFFD}


def nonspacing():
    norm = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    return {c for c in CPS if norm.normalize_str(chr(c)) == ""}


def mapped_to_y(key):
    """Precompiled with a map of one text: what it finds in a grapheme of up to five bytes stands for all of it."""
    units, at = [0] * 4096, 0                          # a double array
    for i, byte in enumerate(key.encode()):
        units[at] |= 0x80 << i << 10
        at ^= 0x80 << i ^ byte
        units[at] = byte
    units[at] |= 0x800 << 10 | 1 << 8                  # a leaf, which holds the offset 0
    units[at ^ 0x800] = 1 << 31
    return normalizers.Precompiled(struct.pack("<4097I", 4 * len(units), *units) + b"y\0")


def joined():
    """What is of one grapheme with the character before it."""
    norm = mapped_to_y("x")
    return {c for c in CPS if norm.normalize_str("x" + chr(c)) == "y"}


def apart():
    """What no mark joins: then the marks are a grapheme of their own."""
    norm = mapped_to_y("\u0301")
    return {c for c in CPS if norm.normalize_str(chr(c) + "\u0301\u0302")[1:] == "y"}


CLASSES = [
    ("L", lambda: onig(r"\p{L}")), ("N", lambda: onig(r"\p{N}")), ("M", lambda: onig(r"\p{M}")),
    ("P", lambda: onig(r"\p{P}")), ("S", lambda: onig(r"\p{S}")), ("SPACE", lambda: onig(r"\s")),
    ("UPPERISH", lambda: onig(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]")),
    ("LOWERISH", lambda: onig(r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")),
    ("HAN", lambda: onig(r"\p{Han}")),
    ("WORD", lambda: onig(r"\w")), ("ND", lambda: onig(r"\p{Nd}")),
    ("LU", lambda: onig(r"\p{Lu}")), ("LL", lambda: onig(r"\p{Ll}")), ("LT", lambda: onig(r"\p{Lt}")),
    ("LM", lambda: onig(r"\p{Lm}")), ("LO", lambda: onig(r"\p{Lo}")),
    ("RUST_WORD", rust_word), ("RUST_SPACE", lambda: removed_by(pre_tokenizers.WhitespaceSplit())),
    ("NUMERIC", numeric), ("PUNCT", lambda: removed_by(pre_tokenizers.Punctuation("removed"))),
    ("OTHER", bert_other), ("NONSPACING", nonspacing),
    ("COMBINING", lambda: filtered_by(normalizers.StripAccents())), ("JOINED", joined),
    ("APART", apart),
]


def scripts():
    pre = pre_tokenizers.UnicodeScripts()

    def differ(a, b):
        return len(pre.pre_tokenize_str(chr(a) + chr(b))) > 1

    any_ = {c for c in CPS if not pre.pre_tokenize_str(chr(c))}
    reps, ids, last = [], {}, None
    for c in CPS:
        if c in any_:
            ids[c] = 0
            continue
        if last is not None and not differ(last, c):
            ids[c] = ids[last]
        else:
            hit = next((i for i, r in enumerate(reps) if not differ(r, c)), None)
            if hit is None:
                reps.append(c)
                hit = len(reps) - 1
            ids[c] = hit + 1
        last = c
    return ids


def lower():
    norm = normalizers.Lowercase()
    return {c: norm.normalize_str(chr(c)) for c in CPS if norm.normalize_str(chr(c)) != chr(c)}


def ccc_known():
    """combining classes of the library's own, older, tables: 0 or Unicode's."""
    nfd = normalizers.NFD()
    out = {}
    for c in CPS:
        k = unicodedata.combining(chr(c))
        if not k:
            continue
        low, high = "\u0334", "\u0345"   # classes 1 and 240
        if k > 1:
            known = nfd.normalize_str("a" + chr(c) + low) == "a" + low + chr(c)
        else:
            known = nfd.normalize_str("a" + high + chr(c)) == "a" + chr(c) + high
        if nfd.normalize_str(chr(c)) != chr(c):
            known = True
        if known:
            out[c] = k
    return out


def decompositions(norm):
    return {c: norm.normalize_str(chr(c)) for c in CPS if norm.normalize_str(chr(c)) != chr(c) and not 0xAC00 <= c < 0xD7A4}


def compositions(nfd):
    nfc = normalizers.NFC()
    out = {}
    for c in nfd:
        d = unicodedata.decomposition(chr(c)).split()
        if len(d) == 2 and d[0][0] != "<":
            pair = chr(int(d[0], 16)) + chr(int(d[1], 16))
            if nfc.normalize_str(pair) == chr(c):
                out[(ord(pair[0]), ord(pair[1]))] = c
    return out


def runs(values):
    """(first code point, value) wherever the value changes."""
    out, last = [], None
    for c in range(0x110000):
        v = values.get(c, 0)
        if v != last:
            out.append((c, v))
            last = v
    return out


def array(ctype, name, items):
    print(f"{'' if name.startswith('cdl_') else 'static '}const {ctype} {name}[{len(items)}] = {{")
    line = ""
    for x in items:
        word = f"{x},"
        if len(line) + len(word) > 110:
            print(line)
            line = ""
        line += word
    print(line)
    print("};\n")


def pack_strings(name, table):
    """sorted code points, and their texts: offset << 8 | length into one array."""
    keys, pool, where, index = sorted(table), [], {}, []
    for k in keys:
        s = tuple(map(ord, table[k]))
        if s not in where:
            where[s] = len(pool)
            pool.extend(s)
        index.append(where[s] << 8 | len(s))
    array("uint32_t", name + "_cp", keys)
    array("uint32_t", name + "_at", index)
    array("uint32_t", name + "_text", pool)


def main():
    masks = {c: 0 for c in CPS}
    print("/* unicode_data.h - generated by tools/gen_unicode.py; do not edit.")
    print(f" * Source: answers of tokenizers {tokenizers.__version__} for every code point (Unicode itself: {unicodedata.unidata_version}). */")
    print("#ifndef CDL_UNICODE_DATA_H\n#define CDL_UNICODE_DATA_H\n\n#include <stdint.h>\n")
    for bit, (name, get) in enumerate(CLASSES):
        s = get()
        print(f"#define CDL_UC_{name} 0x{1 << bit:x}u  /* {len(s)} code points */")
        for c in s:
            masks[c] |= 1 << bit
        print(name, len(s), file=sys.stderr)
    distinct = sorted(set(masks.values()))
    ids = {m: i for i, m in enumerate(distinct)}
    print()
    array("uint32_t", "cdl_unicode_mask", distinct)
    print("/* code point << 8 | index into cdl_unicode_mask, wherever it changes */")
    array("uint32_t", "uc_run", [c << 8 | v for c, v in runs({c: ids[m] for c, m in masks.items()})])
    print("/* code point << 8 | script of the UnicodeScripts pre-tokenizer (0: any) */")
    array("uint32_t", "script_run", [c << 8 | v for c, v in runs(scripts())])
    print("/* code point << 8 | canonical combining class */")
    array("uint32_t", "ccc_run", [c << 8 | v for c, v in runs(ccc_known())])
    low = lower()
    multi = {c: s for c, s in low.items() if len(s) > 1}
    print("/* lowercase: first, last, step, difference; U+0130 alone becomes two code points */")
    assert list(multi) == [0x130], multi
    single, flat = {c: ord(s) - c for c, s in low.items() if len(s) == 1}, []
    todo = sorted(single)
    i = 0
    while i < len(todo):
        best = i
        for step in (1, 2):
            j = i
            while j + 1 < len(todo) and todo[j + 1] - todo[j] == step and single[todo[j + 1]] == single[todo[i]]:
                j += 1
            if j > best:
                best, best_step = j, step
        flat += [todo[i], todo[best], best_step if best > i else 1, single[todo[i]]]
        i = best + 1
    array("int32_t", "lower_run", flat)
    nfd, nfkd = decompositions(normalizers.NFD()), decompositions(normalizers.NFKD())
    print("/* full canonical decompositions (Hangul is computed) */")
    pack_strings("nfd", nfd)
    print("/* full compatibility decompositions where they differ from the canonical one */")
    pack_strings("nfkd", {c: s for c, s in nfkd.items() if nfd.get(c) != s})
    comp = compositions(nfd)
    print("/* compositions: first, second, composed; sorted */")
    array("uint32_t", "compose", [x for (a, b), c in sorted(comp.items()) for x in (a, b, c)])
    print("#endif")


if __name__ == "__main__":
    main()
