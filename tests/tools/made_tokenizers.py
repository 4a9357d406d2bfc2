"""Forty tokenizers, trained on a text, that have every part of tokenizer.json among them."""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "python"), os.path.dirname(os.path.abspath(__file__))]
import cuddle  # noqa: E402
from fuzz_tokenizers import PATTERNS  # noqa: E402

SPECIALS = ["<unk>", "<s>", "</s>", "[CLS]", "[SEP]", "[PAD]"]


def part(kind, **members):
    return {"type": kind, **members}


def norms(*parts):
    return part("Sequence", normalizers=list(parts))


def pres(*parts):
    return part("Sequence", pretokenizers=list(parts))


def decs(*parts):
    return part("Sequence", decoders=list(parts))


def regex(s):
    return {"Regex": PATTERNS.get(s, s)}


def split(pattern, behavior="Isolated", invert=False):
    return part("Split", pattern=pattern if isinstance(pattern, dict) else {"String": pattern}, behavior=behavior, invert=invert)


def level(use_regex=True, add_prefix_space=False, trim_offsets=True):
    return part("ByteLevel", add_prefix_space=add_prefix_space, trim_offsets=trim_offsets, use_regex=use_regex)


def metaspace(scheme="always", cut=True):
    return part("Metaspace", replacement="▁", prepend_scheme=scheme, split=cut)


def bert(**members):
    return part("BertNormalizer", **{"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True,
                                     **members})


def template(single, pair, specials=("[CLS]", "[SEP]", "<s>", "</s>")):
    def items(text):
        out = []
        for word in text.split():
            name, _, kind = word.partition(":")
            out.append({"Sequence" if name in "AB" else "SpecialToken": {"id": name, "type_id": int(kind or 0)}})
        return out
    return part("TemplateProcessing", single=items(single), pair=items(pair),
                special_tokens={s: {"id": s, "ids": [SPECIALS.index(s)], "tokens": [s]} for s in specials})


def two(name):
    return [name, SPECIALS.index(name)]


BYTES, WORDS = {"type": "BPE", "byte_level": True}, {"type": "BPE", "unk_token": "<unk>"}
PIECES = dict(WORDS, byte_fallback=True, fuse_unk=True)
BERT_FRAME = template("[CLS] A [SEP]", "[CLS] A [SEP] B:1 [SEP]:1")
SPM_DECODER = decs(part("Replace", pattern={"String": "▁"}, content=" "), part("ByteFallback"), part("Fuse"),
                   part("Strip", content=" ", start=1, stop=0))
SPM_NORM = norms(part("Prepend", prepend="▁"), part("Replace", pattern={"String": " "}, content="▁"))
TOKENS = [dict(content="<|end|>", special=True, normalized=False), dict(content="<|im_start|>", special=True, lstrip=True),
          dict(content="[MASK]", special=True, lstrip=True, normalized=False), dict(content="the", single_word=True),
          dict(content="<pad>", special=False, rstrip=True, normalized=False), dict(content="Hello World"),
          dict(content="日本", normalized=False)]

# name: model, and what is not null of the rest
RECIPES = {
    "gpt2": dict(model=BYTES, pre_tokenizer=level(), decoder=level(), post_processor=level()),
    "gpt2-prefix": dict(model=BYTES, pre_tokenizer=level(add_prefix_space=True), decoder=level(),
                        post_processor=level(trim_offsets=False)),
    "roberta": dict(model=BYTES, pre_tokenizer=level(add_prefix_space=True), decoder=level(), tokens=TOKENS,
                    post_processor=part("RobertaProcessing", sep=two("</s>"), cls=two("<s>"), trim_offsets=True,
                                        add_prefix_space=True)),
    "llama3": dict(model=dict(BYTES, ignore_merges=True), decoder=level(), tokens=TOKENS,
                   pre_tokenizer=pres(split(regex("cl100k")), level(False)),
                   post_processor=part("Sequence", processors=[level(), template("<s> A", "<s> A <s>:1 B:1")])),
    "qwen2": dict(model=BYTES, normalizer=part("NFC"), decoder=level(), pre_tokenizer=pres(split(regex("qwen2")), level(False))),
    "o200k": dict(model=BYTES, decoder=level(), pre_tokenizer=pres(split(regex("o200k")), level(False)), tokens=TOKENS),
    "mistral": dict(model=BYTES, decoder=level(), pre_tokenizer=pres(split(regex("tekken")), level(False))),
    "deepseek3": dict(model=BYTES, decoder=level(), pre_tokenizer=pres(split(regex("digits3")), split(regex("cjk")),
                                                                       split(regex("deepseek")), level(False))),
    "starcoder": dict(model=BYTES, decoder=level(), pre_tokenizer=pres(part("Digits", individual_digits=True), level())),
    "byte-level-norm": dict(model=dict(WORDS, bytes_alphabet=True), normalizer=norms(part("NFKC"), part("ByteLevel")),
                            decoder=level()),
    "byte-level-words": dict(model=BYTES, decoder=level(), pre_tokenizer=pres(part("WhitespaceSplit"), level(False))),
    "llama2": dict(model=PIECES, normalizer=SPM_NORM, decoder=SPM_DECODER, post_processor=template("<s> A", "<s> A <s>:1 B:1"),
                   tokens=TOKENS, train_pre=metaspace()),
    "gemma": dict(model=PIECES, normalizer=part("Replace", pattern={"String": " "}, content="▁"), decoder=SPM_DECODER,
                  pre_tokenizer=split(" ", "MergedWithPrevious"), post_processor=template("<s> A", "<s> A <s>:1 B:1"),
                  train_pre=metaspace()),
    "metaspace-first": dict(model=PIECES, pre_tokenizer=metaspace("first", False), decoder=metaspace("first"), tokens=TOKENS,
                            train_pre=metaspace()),
    "metaspace-never": dict(model=WORDS, pre_tokenizer=metaspace("never"), decoder=metaspace("never")),
    "suffix": dict(model=dict(WORDS, end_of_word_suffix="</w>"), normalizer=bert(), pre_tokenizer=part("Whitespace"),
                   decoder=part("BPEDecoder", suffix="</w>")),
    "clip": dict(model=dict(BYTES, end_of_word_suffix="</w>"), decoder=level(), post_processor=part(
        "RobertaProcessing", sep=two("</s>"), cls=two("<s>"), trim_offsets=False, add_prefix_space=False),
        normalizer=norms(part("NFC"), part("Replace", pattern=regex("spaces"), content=" "), part("Lowercase")),
        pre_tokenizer=pres(split(regex(r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "Removed", True), level(False))),
    "prefix": dict(model=dict(WORDS, continuing_subword_prefix="##"), pre_tokenizer=part("BertPreTokenizer"),
                   decoder=part("WordPiece", prefix="##", cleanup=True)),
    "fuse-unknown": dict(model=dict(WORDS, fuse_unk=True, limit_alphabet=60), pre_tokenizer=part("Punctuation", behavior="Isolated")),
    "no-unknown": dict(model={"type": "BPE", "limit_alphabet": 200}, pre_tokenizer=part("Whitespace")),
    "whole-text": dict(model=dict(WORDS, fuse_unk=True), train_pre=part("Whitespace")),
    "bert": dict(model={"type": "WordPiece"}, normalizer=bert(), pre_tokenizer=part("BertPreTokenizer"), tokens=TOKENS,
                 decoder=part("WordPiece", prefix="##", cleanup=True), post_processor=BERT_FRAME),
    "bert-cased": dict(model={"type": "WordPiece"}, normalizer=bert(lowercase=False), pre_tokenizer=part("BertPreTokenizer"),
                       decoder=part("WordPiece", prefix="##", cleanup=False),
                       post_processor=part("BertProcessing", sep=two("[SEP]"), cls=two("[CLS]"))),
    "bert-plain": dict(model={"type": "WordPiece", "max_input_chars_per_word": 12}, pre_tokenizer=part("Whitespace"),
                       normalizer=bert(clean_text=False, handle_chinese_chars=False, strip_accents=False)),
    "word-level": dict(model={"type": "WordLevel"}, pre_tokenizer=part("Whitespace"), normalizer=part("Lowercase"), tokens=TOKENS),
    "word-level-scripts": dict(model={"type": "WordLevel"}, pre_tokenizer=pres(part("UnicodeScripts"), part("Digits",
                                                                                                individual_digits=False))),
    "fixed-length": dict(model={"type": "WordLevel"}, pre_tokenizer=part("FixedLength", length=3)),
    "delimiter": dict(model=WORDS, pre_tokenizer=part("CharDelimiterSplit", delimiter=" "), normalizer=part("NFD")),
    "t5": dict(model={"type": "Unigram"}, pre_tokenizer=metaspace(), decoder=metaspace(), tokens=TOKENS,
               post_processor=template("A </s>", "A </s> B </s>"), normalizer=part("NFKC")),
    "albert": dict(model={"type": "Unigram"}, pre_tokenizer=metaspace(), decoder=metaspace(), post_processor=BERT_FRAME,
                   normalizer=norms(part("Replace", pattern={"String": "``"}, content='"'), part("NFKD"), part("StripAccents"),
                                    part("Lowercase"), part("Replace", pattern=regex(" {2,}"), content=" "))),
    "unigram-bytes": dict(model={"type": "Unigram", "byte_fallback": True}, pre_tokenizer=metaspace("first"),
                          decoder=decs(part("ByteFallback"), metaspace("first"))),
    "unigram-text": dict(model={"type": "Unigram"}, normalizer=SPM_NORM, decoder=SPM_DECODER, train_pre=metaspace()),
    "nmt": dict(model={"type": "Unigram"}, normalizer=norms(part("Nmt"), part("NFKC"), part("Strip", strip_left=True,
                                                                                          strip_right=True)),
                pre_tokenizer=metaspace(), decoder=metaspace()),
    "strip": dict(model=WORDS, normalizer=norms(part("Strip", strip_left=False, strip_right=True), part("StripAccents")),
                  pre_tokenizer=pres(part("WhitespaceSplit"), part("Punctuation", behavior="Contiguous"))),
    "ctc": dict(model={"type": "WordLevel", "characters": True}, pre_tokenizer=pres(split(" ", "Isolated"), split(regex("."))),
                decoder=part("CTC", pad_token="[PAD]", word_delimiter_token="|", cleanup=True), normalizer=norms(
                    part("Lowercase"), part("Replace", pattern={"String": " "}, content="|"))),
    "punctuation": dict(model=WORDS, pre_tokenizer=pres(part("Punctuation", behavior="MergedWithPrevious"), part("WhitespaceSplit")),
                        decoder=part("Fuse")),
    "punctuation-next": dict(model=WORDS, pre_tokenizer=pres(part("Punctuation", behavior="MergedWithNext"), part("Whitespace")),
                             decoder=part("Strip", content=" ", start=1, stop=1)),
    "split-removed": dict(model=WORDS, pre_tokenizer=pres(split(" ", "Removed"), split(",", "MergedWithNext"))),
    "split-inverted": dict(model=WORDS, pre_tokenizer=pres(split(regex("words"), "MergedWithNext", True),
                                                           split(regex("upper"), "Contiguous"))),
    "split-look": dict(model=WORDS, pre_tokenizer=pres(part("Punctuation", behavior="Removed"), split(regex("look")),
                                                       split(regex("han"), "Contiguous", True), part("Whitespace"))),
    "truncated": dict(model=BYTES, pre_tokenizer=level(), decoder=level(), post_processor=template("<s> A </s>", "<s> A </s> B:1 </s>:1"),
                      truncation=dict(direction="Left", max_length=200, strategy="LongestFirst", stride=20),
                      padding=dict(strategy={"Fixed": 64}, direction="Left", pad_to_multiple_of=8, pad_id=5, pad_type_id=0,
                                   pad_token="[PAD]")),
    "truncated-second": dict(model={"type": "WordPiece"}, normalizer=bert(), pre_tokenizer=part("BertPreTokenizer"),
                             post_processor=BERT_FRAME, truncation=dict(direction="Right", max_length=96, strategy="OnlyFirst",
                                                                        stride=7)),
}


# ---- Training ----

def plain(recipe):
    model = {k: v for k, v in recipe["model"].items() if k not in ("byte_level", "bytes_alphabet", "limit_alphabet", "characters")}
    config = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": recipe.get("normalizer"),
              "pre_tokenizer": recipe.get("train_pre", recipe.get("pre_tokenizer")), "post_processor": None, "decoder": None}
    kind = model["type"]
    model["vocab"] = [["<unk>", 0.0]] if kind == "Unigram" else {"<unk>": 0}
    if kind == "BPE":
        model["merges"] = []
    if kind == "Unigram":
        model["unk_id"] = 0
    if kind in ("WordPiece", "WordLevel"):
        model["unk_token"] = "<unk>"
    if kind == "WordPiece":
        model.setdefault("max_input_chars_per_word", 100)
    return dict(config, model=model)


def trainer(recipe, vocab):
    model, trainers = recipe["model"], cuddle.trainers
    more = {k: model[k] for k in ("limit_alphabet", "continuing_subword_prefix", "end_of_word_suffix") if k in model}
    if model.get("byte_level") or model.get("bytes_alphabet"):
        more["initial_alphabet"] = cuddle.pre_tokenizers.ByteLevel.alphabet()
    if model["type"] == "Unigram":
        return trainers.UnigramTrainer(vocab_size=vocab, special_tokens=SPECIALS, unk_token="<unk>")
    kinds = {"BPE": trainers.BpeTrainer, "WordPiece": trainers.WordPieceTrainer, "WordLevel": trainers.WordLevelTrainer}
    return kinds[model["type"]](vocab_size=vocab, special_tokens=SPECIALS, **more)


def add_bytes(model):
    """The 256 tokens of byte fallback, behind the others."""
    names = [f"<0x{b:02X}>" for b in range(256)]
    if model["type"] == "Unigram":
        model["vocab"] += [[n, -20.0] for n in names]
    else:
        model["vocab"].update({n: len(model["vocab"]) + i for i, n in enumerate(names)})


def make(name, texts, vocab=6000):
    """The tokenizer.json of a recipe."""
    recipe = RECIPES[name]
    t = cuddle.Tokenizer.from_str(json.dumps(plain(recipe)))
    if recipe["model"].get("characters"):
        texts = [" ".join(x) for x in texts[:200]]
    t.train_from_iterator(texts, trainer(recipe, vocab))
    config = json.loads(t.to_str())
    if config["model"].get("byte_fallback"):
        add_bytes(config["model"])
    size = len(config["model"]["vocab"])
    for i, token in enumerate(recipe.get("tokens", ())):
        config["added_tokens"].append({"id": size + i, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
                                       "special": False, **token})
    config.update({k: recipe.get(k) for k in ("pre_tokenizer", "post_processor", "decoder", "truncation", "padding")})
    return json.dumps(config, ensure_ascii=False)
