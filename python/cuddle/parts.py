"""The parts of a tokenizer.json as objects: models, normalizers, pre_tokenizers, processors, decoders.

Each holds its JSON; a Tokenizer takes it as it is. Names and arguments are those of the package `tokenizers`.
"""
import json
import os
from types import SimpleNamespace


class Regex:
    def __init__(self, pattern):
        self.pattern = pattern


class AddedToken:
    """normalized None: unless it is special, which a token may become when it is added."""

    def __init__(self, content="", single_word=False, lstrip=False, rstrip=False, normalized=None, special=False):
        self.content, self.single_word, self.lstrip, self.rstrip = content, single_word, lstrip, rstrip
        self._normalized, self.special = normalized, special

    @property
    def normalized(self):
        return not self.special if self._normalized is None else self._normalized

    def config(self):
        """As in a tokenizer.json, but for its id."""
        return {k: getattr(self, k) for k in ("content", "single_word", "lstrip", "rstrip", "normalized", "special")}

    def as_special(self):
        return AddedToken(self.content, self.single_word, self.lstrip, self.rstrip, self._normalized, True)

    def __str__(self):
        return self.content

    def __repr__(self):
        return (f'AddedToken("{self.content}", rstrip={self.rstrip}, lstrip={self.lstrip}, '
                f"single_word={self.single_word}, normalized={self.normalized}, special={self.special})")

    def __eq__(self, other):
        return isinstance(other, AddedToken) and self.config() == other.config()

    def __hash__(self):
        return hash(self.content)


class Part:
    """One part; config is its JSON, whose members are its attributes."""

    key = None                 # where it stands in a tokenizer.json

    def __init_subclass__(cls):
        if Part in cls.__bases__:
            cls.kind, cls.classes = cls, {}
        else:
            cls.classes[cls.__name__] = cls

    def __init__(self, config):
        self.__dict__.update(config=config, _tokenizer=None, _made=None)

    @classmethod
    def _of(cls, config, tokenizer=None):
        """The object of a part's JSON; tokenizer: the one that it is a part of."""
        made = cls.classes[config["type"]]
        part = made.__new__(made)
        Part.__init__(part, config)
        part.__dict__["_tokenizer"] = tokenizer
        return part

    def __repr__(self):
        return f"{self.config['type']}({', '.join(f'{k}={v!r}' for k, v in self.config.items() if k != 'type')})"

    def __eq__(self, other):
        return isinstance(other, Part) and self.config == other.config

    __hash__ = None

    def __getattr__(self, name):
        config = self.__dict__.get("config", {})
        if name in config:
            return config[name]
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def __setattr__(self, name, value):
        if name not in self.config:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        self.config[name] = value
        self.__dict__["_made"] = None
        if self._tokenizer is not None:
            self._tokenizer._set_part(self.key, self)

    def __reduce__(self):
        return _restored, (type(self).kind, self.config)

    def _alone(self):
        """A tokenizer of this part and nothing else."""
        if self._made is None:
            from .tokenizer import Tokenizer
            model = {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""}
            parts = {"model": model, self.key: self.config}
            self.__dict__["_made"] = Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))
        return self._made


def _restored(kind, config):
    return kind._of(config)


class Normalizer(Part):
    key = "normalizer"

    def normalize_str(self, sequence):
        return self._alone()._normalize(sequence)


class PreTokenizer(Part):
    key = "pre_tokenizer"

    def pre_tokenize_str(self, sequence):
        """The pieces and their offsets."""
        return self._alone()._pre_tokenize(sequence)


class Decoder(Part):
    key = "decoder"

    def decode(self, tokens):
        return self._alone()._decode_tokens(tokens)


class PostProcessor(Part):
    key = "post_processor"

    def num_special_tokens_to_add(self, is_pair):
        return self._alone().num_special_tokens_to_add(is_pair)

    def process(self, encoding, pair=None, add_special_tokens=True):
        return self._alone().post_process(encoding, pair, add_special_tokens)


class Token:
    """What a model makes of a piece of text; offsets count its bytes."""

    def __init__(self, id, value, offsets):
        self.id, self.value, self.offsets = id, value, offsets

    def as_tuple(self):
        return self.id, self.value, self.offsets


class Model(Part):
    key = "model"

    def _alone(self):
        if self._made is None:
            from .tokenizer import Tokenizer
            self.__dict__["_made"] = Tokenizer(self)
        return self._made

    def tokenize(self, sequence):
        return self._alone()._tokenize(sequence)

    def token_to_id(self, token):
        return self._alone().token_to_id(token)

    def id_to_token(self, id):
        return self._alone().id_to_token(id)

    def get_trainer(self):
        from . import trainers
        return getattr(trainers, {"BPE": "Bpe"}.get(self.config["type"], self.config["type"]) + "Trainer")()

    def save(self, folder, prefix=None):
        """Its files, as older tools read them; gives their paths."""
        out = []
        for name, text in self._files().items():
            out.append(os.path.join(folder, f"{prefix}-{name}" if prefix else name))
            with open(out[-1], "w", encoding="utf-8") as f:
                f.write(text)
        return out

    def _files(self):
        vocab = self.config["vocab"]
        return {"vocab.json": json.dumps(dict(sorted(vocab.items(), key=lambda x: x[1])), ensure_ascii=False,
                                         separators=(",", ":"))}


def _pattern(p):
    return {"Regex": p.pattern} if isinstance(p, Regex) else {"String": p}


def _make(kind, type_name, **defaults):
    """A class whose arguments, in their order, are the members of its JSON."""
    names = list(defaults)

    def init(self, *args, **kwargs):
        members = dict(defaults, **dict(zip(names, args)), **kwargs)
        unknown = set(members) - set(defaults)
        if unknown or len(args) > len(names):
            raise TypeError(f"{type_name}() takes {', '.join(names) or 'no arguments'}")
        missing = [k for k, v in members.items() if v is ...]
        if missing:
            raise TypeError(f"{type_name}() needs {', '.join(missing)}")
        if "pattern" in members:
            members["pattern"] = _pattern(members["pattern"])
        kind.__init__(self, {"type": type_name, **members})

    return type(type_name, (kind,), {"__init__": init})


def _sequence(kind, key):
    return type("Sequence", (kind,), {
        "__init__": lambda self, parts: kind.__init__(self, {"type": "Sequence", key: [p.config for p in parts]}),
        "__len__": lambda self: len(self.config[key]),
        "__getitem__": lambda self, i: kind._of(self.config[key][i])})


normalizers = SimpleNamespace(
    BertNormalizer=_make(Normalizer, "BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
    NFC=_make(Normalizer, "NFC"), NFD=_make(Normalizer, "NFD"), NFKC=_make(Normalizer, "NFKC"), NFKD=_make(Normalizer, "NFKD"), Lowercase=_make(Normalizer, "Lowercase"),
    Nmt=_make(Normalizer, "Nmt"), StripAccents=_make(Normalizer, "StripAccents"), ByteLevel=_make(Normalizer, "ByteLevel"), Prepend=_make(Normalizer, "Prepend", prepend="▁"),
    Replace=_make(Normalizer, "Replace", pattern=..., content=...), Sequence=_sequence(Normalizer, "normalizers"),
    Normalizer=Normalizer)


class Strip(Normalizer):
    def __init__(self, left=True, right=True):
        super().__init__({"type": "Strip", "strip_left": left, "strip_right": right})

    left, right = property(lambda self: self.strip_left), property(lambda self: self.strip_right)


class Precompiled(Normalizer):
    def __init__(self, precompiled_charsmap):
        import base64
        super().__init__({"type": "Precompiled",
                          "precompiled_charsmap": base64.b64encode(bytes(precompiled_charsmap)).decode()})


normalizers.Strip, normalizers.Precompiled = Strip, Precompiled
_BEHAVIORS = {"removed": "Removed", "isolated": "Isolated", "merged_with_previous": "MergedWithPrevious",
              "merged_with_next": "MergedWithNext", "contiguous": "Contiguous"}


def _behavior(part):
    return part.config["behavior"].lower()  # as the package shows it


class Split(PreTokenizer):
    def __init__(self, pattern, behavior, invert=False):
        super().__init__({"type": "Split", "pattern": _pattern(pattern), "behavior": _BEHAVIORS[behavior], "invert": invert})

    behavior = property(_behavior)


class Punctuation(PreTokenizer):
    def __init__(self, behavior="isolated"):
        super().__init__({"type": "Punctuation", "behavior": _BEHAVIORS[behavior]})

    behavior = property(_behavior)


_ByteLevel = _make(PreTokenizer, "ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)


class ByteLevel(_ByteLevel):
    @staticmethod
    def alphabet():
        shown = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
        return [chr(b) for b in shown] + [chr(0x100 + i) for i in range(256 - len(shown))]


_METASPACE = dict(replacement="▁", prepend_scheme="always", split=True)
pre_tokenizers = SimpleNamespace(
    BertPreTokenizer=_make(PreTokenizer, "BertPreTokenizer"), ByteLevel=ByteLevel, Split=Split, Punctuation=Punctuation,
    Metaspace=_make(PreTokenizer, "Metaspace", **_METASPACE),
    CharDelimiterSplit=_make(PreTokenizer, "CharDelimiterSplit", delimiter=...), Whitespace=_make(PreTokenizer, "Whitespace"),
    WhitespaceSplit=_make(PreTokenizer, "WhitespaceSplit"),
    Digits=_make(PreTokenizer, "Digits", individual_digits=False), UnicodeScripts=_make(PreTokenizer, "UnicodeScripts"),
    FixedLength=_make(PreTokenizer, "FixedLength", length=5), Sequence=_sequence(PreTokenizer, "pretokenizers"),
    PreTokenizer=PreTokenizer)

decoders = SimpleNamespace(
    ByteLevel=type("ByteLevel", (Decoder,), {"__init__": lambda self: Part.__init__(
        self, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})}),
    WordPiece=_make(Decoder, "WordPiece", prefix="##", cleanup=True), Metaspace=_make(Decoder, "Metaspace", **_METASPACE),
    BPEDecoder=_make(Decoder, "BPEDecoder", suffix="</w>"), Fuse=_make(Decoder, "Fuse"),
    CTC=_make(Decoder, "CTC", pad_token="<pad>", word_delimiter_token="|", cleanup=True),
    ByteFallback=_make(Decoder, "ByteFallback"), Replace=_make(Decoder, "Replace", pattern=..., content=...),
    Strip=_make(Decoder, "Strip", content=" ", start=0, stop=0), Sequence=_sequence(Decoder, "decoders"), Decoder=Decoder)


class TemplateProcessing(PostProcessor):
    """Templates as "[CLS] $A [SEP] $B:1 [SEP]:1", or lists of such words."""

    def __init__(self, single="$0", pair="$A:0 $B:1", special_tokens=()):
        specials = {}
        for s in special_tokens:
            if isinstance(s, dict):
                specials[s["id"]] = dict(s)
            else:
                token, number = s if isinstance(s[0], str) else s[::-1]
                specials[token] = {"id": token, "ids": [number], "tokens": [token]}
        super().__init__({"type": "TemplateProcessing", "single": self._template(single), "pair": self._template(pair),
                          "special_tokens": specials})

    @staticmethod
    def _template(template):
        out = []
        for word in template.split() if isinstance(template, str) else template:
            name, _, number = word.rpartition(":")
            if not name or not number.isdigit():
                name, number = word, "0"
            if not name.startswith("$"):
                out.append({"SpecialToken": {"id": name, "type_id": int(number)}})
            elif name[1:].isdigit():
                out.append({"Sequence": {"id": "A", "type_id": int(name[1:])}})
            else:
                out.append({"Sequence": {"id": name[1:].upper() or "A", "type_id": int(number)}})
        return out


processors = SimpleNamespace(
    TemplateProcessing=TemplateProcessing,
    ByteLevel=_make(PostProcessor, "ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
    BertProcessing=_make(PostProcessor, "BertProcessing", sep=..., cls=...),
    RobertaProcessing=_make(PostProcessor, "RobertaProcessing", sep=..., cls=..., trim_offsets=True, add_prefix_space=True),
    Sequence=_sequence(PostProcessor, "processors"), PostProcessor=PostProcessor)


# ---- Models ----

def _read_merges(path):
    with open(path, encoding="utf-8") as f:
        return [tuple(line.split(" ")) for line in f.read().splitlines() if line and not line.startswith("#version")]


class BPE(Model):
    def __init__(self, vocab=None, merges=None, dropout=None, unk_token=None, continuing_subword_prefix=None,
                 end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False):
        super().__init__({"type": "BPE", "dropout": dropout, "unk_token": unk_token,
                          "continuing_subword_prefix": continuing_subword_prefix, "end_of_word_suffix": end_of_word_suffix,
                          "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": ignore_merges,
                          "vocab": dict(vocab or {}), "merges": [list(m) for m in merges or []]})

    def _files(self):
        merges = [m if isinstance(m, str) else " ".join(m) for m in self.config["merges"]]
        return {**super()._files(), "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n"}

    @staticmethod
    def read_file(vocab, merges):
        with open(vocab, encoding="utf-8") as f:
            return json.load(f), _read_merges(merges)

    @classmethod
    def from_file(cls, vocab, merges, **options):
        return cls(*cls.read_file(vocab, merges), **options)


class WordPiece(Model):
    def __init__(self, vocab=None, unk_token="[UNK]", max_input_chars_per_word=100, continuing_subword_prefix="##"):
        super().__init__({"type": "WordPiece", "unk_token": unk_token, "continuing_subword_prefix": continuing_subword_prefix,
                          "max_input_chars_per_word": max_input_chars_per_word, "vocab": dict(vocab or {})})

    def _files(self):
        vocab = self.config["vocab"]
        return {"vocab.txt": "".join(t + "\n" for t in sorted(vocab, key=vocab.get))}

    @staticmethod
    def read_file(vocab):
        with open(vocab, encoding="utf-8") as f:
            return {line.rstrip("\r\n"): i for i, line in enumerate(f)}

    @classmethod
    def from_file(cls, vocab, **options):
        return cls(cls.read_file(vocab), **options)


class WordLevel(Model):
    def __init__(self, vocab=None, unk_token="<unk>"):
        super().__init__({"type": "WordLevel", "vocab": dict(vocab or {}), "unk_token": unk_token})

    @staticmethod
    def read_file(vocab):
        with open(vocab, encoding="utf-8") as f:
            return json.load(f)

    @classmethod
    def from_file(cls, vocab, **options):
        return cls(cls.read_file(vocab), **options)


class Unigram(Model):
    def __init__(self, vocab=None, unk_id=None, byte_fallback=False):
        super().__init__({"type": "Unigram", "unk_id": unk_id, "vocab": [list(v) for v in vocab or []],
                          "byte_fallback": byte_fallback})

    def _files(self):
        return {"unigram.json": json.dumps(self.config, ensure_ascii=False, indent=2)}


models = SimpleNamespace(BPE=BPE, WordPiece=WordPiece, WordLevel=WordLevel, Unigram=Unigram, Model=Model)
