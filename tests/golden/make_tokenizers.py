#!/usr/bin/env python3
"""Picks tests/golden/tokenizers from a reference set: a file of each kind of part, a few rows each.

    make_tokenizers.py SET      (SET/tokenizers: index.json, files/*.json, cases.jsonl, decode.jsonl, batch.jsonl)

The rows are answers of the library tokenizers; index.json keeps its version.
"""
import collections
import json
import os
import random
import sys

NAMES = """norm_bert norm_nmt norm_nfkc norm_strip norm_replace_re pre_scripts pre_meta_first pre_digits pre_fixed
pre_punct_merged_with_next pre_split_inv_removed pat_gpt2 pat_cl100k pat_qwen2 pat_o200k pat_deepseek_v3 pat_gemma
bpe_fuse_unk bpe_suffix bpe_byte_fallback bpe_bytelevel wordpiece_bert wordlevel dec_ctc dec_strip post_roberta
post_template_multi added_bytelevel added_wordpiece added_unigram trunc_longest_first_left trunc_only_second_right
pad_fixed pad_multiple""".split()
# file: rows of a tokenizer, as many that must fail, and the longest row
PICK = {"cases": (6, 1500), "decode": (2, 1200), "batch": (1, 6000)}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = os.path.join(sys.argv[1], "tokenizers")
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
    os.makedirs(os.path.join(target, "files"), exist_ok=True)
    for name in NAMES:
        with open(os.path.join(source, "files", name + ".json"), encoding="utf-8") as f:
            text = json.dumps(json.load(f), ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(target, "files", name + ".json"), "w", encoding="utf-8") as f:
            f.write(text + "\n")
    for kind, (most, longest) in PICK.items():
        with open(os.path.join(source, kind + ".jsonl"), encoding="utf-8") as f:
            lines = list(f)
        order, picked, count = list(range(len(lines))), [], collections.Counter()
        random.Random(7).shuffle(order)
        for i in order:
            row = json.loads(lines[i])
            key = (row["tokenizer"], "error" in row)
            if row["tokenizer"] in NAMES and count[key] < most and len(lines[i]) < longest:
                count[key] += 1
                picked.append(i)
        with open(os.path.join(target, kind + ".jsonl"), "w", encoding="utf-8") as f:
            f.writelines(lines[i] for i in sorted(picked))
    with open(os.path.join(source, "index.json"), encoding="utf-8") as f:
        version = json.load(f)["tokenizers_version"]
    with open(os.path.join(target, "index.json"), "w", encoding="utf-8") as f:
        json.dump({"tokenizers_version": version, "tokenizers": NAMES}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
