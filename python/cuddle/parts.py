"""The parts of a tokenizer.json as objects: models, normalizers, pre_tokenizers, processors, decoders.

Each holds its JSON; a Tokenizer takes it as it is. Names and arguments are those of the package `tokenizers`.
"""
import json
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
    """One part; config is its JSON."""

    def __init__(self, config):
        self.config = config

    def __repr__(self):
        return f"{self.config['type']}({', '.join(f'{k}={v!r}' for k, v in self.config.items() if k != 'type')})"

    def __eq__(self, other):
        return isinstance(other, Part) and self.config == other.config

    __hash__ = None


def _pattern(p):
    return {"Regex": p.pattern} if isinstance(p, Regex) else {"String": p}


def _make(type_name, **defaults):
    """A class whose arguments, in their order, are the members of its JSON."""
    names = list(defaults)

    class Made(Part):
        def __init__(self, *args, **kwargs):
            members = dict(defaults, **dict(zip(names, args)), **kwargs)
            unknown = set(members) - set(defaults)
            if unknown or len(args) > len(names):
                raise TypeError(f"{type_name}() takes {', '.join(names) or 'no arguments'}")
            missing = [k for k, v in members.items() if v is ...]
            if missing:
                raise TypeError(f"{type_name}() needs {', '.join(missing)}")
            if "pattern" in members:
                members["pattern"] = _pattern(members["pattern"])
            super().__init__({"type": type_name, **members})

        def __getattr__(self, name):
            try:
                return self.__dict__["config"][name]
            except KeyError:
                raise AttributeError(name) from None

    Made.__name__ = Made.__qualname__ = type_name
    return Made


def _sequence(key):
    class Sequence(Part):
        def __init__(self, parts):
            super().__init__({"type": "Sequence", key: [p.config for p in parts]})

    return Sequence


normalizers = SimpleNamespace(
    BertNormalizer=_make("BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
    NFC=_make("NFC"), NFD=_make("NFD"), NFKC=_make("NFKC"), NFKD=_make("NFKD"), Lowercase=_make("Lowercase"),
    Nmt=_make("Nmt"), StripAccents=_make("StripAccents"), ByteLevel=_make("ByteLevel"), Prepend=_make("Prepend", prepend="▁"),
    Replace=_make("Replace", pattern=..., content=...), Sequence=_sequence("normalizers"))


class Strip(Part):
    def __init__(self, left=True, right=True):
        super().__init__({"type": "Strip", "strip_left": left, "strip_right": right})


class Precompiled(Part):
    def __init__(self, precompiled_charsmap):
        import base64
        super().__init__({"type": "Precompiled",
                          "precompiled_charsmap": base64.b64encode(bytes(precompiled_charsmap)).decode()})


normalizers.Strip, normalizers.Precompiled = Strip, Precompiled
_BEHAVIORS = {"removed": "Removed", "isolated": "Isolated", "merged_with_previous": "MergedWithPrevious",
              "merged_with_next": "MergedWithNext", "contiguous": "Contiguous"}


class Split(Part):
    def __init__(self, pattern, behavior, invert=False):
        super().__init__({"type": "Split", "pattern": _pattern(pattern), "behavior": _BEHAVIORS[behavior], "invert": invert})


class Punctuation(Part):
    def __init__(self, behavior="isolated"):
        super().__init__({"type": "Punctuation", "behavior": _BEHAVIORS[behavior]})


_ByteLevel = _make("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)


class ByteLevel(_ByteLevel):
    @staticmethod
    def alphabet():
        shown = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
        return [chr(b) for b in shown] + [chr(0x100 + i) for i in range(256 - len(shown))]


_Metaspace = _make("Metaspace", replacement="▁", prepend_scheme="always", split=True)
pre_tokenizers = SimpleNamespace(
    BertPreTokenizer=_make("BertPreTokenizer"), ByteLevel=ByteLevel, Metaspace=_Metaspace, Split=Split,
    CharDelimiterSplit=_make("CharDelimiterSplit", delimiter=...), Whitespace=_make("Whitespace"),
    WhitespaceSplit=_make("WhitespaceSplit"), Punctuation=Punctuation, Digits=_make("Digits", individual_digits=False),
    UnicodeScripts=_make("UnicodeScripts"), FixedLength=_make("FixedLength", length=5), Sequence=_sequence("pretokenizers"))

decoders = SimpleNamespace(
    ByteLevel=type("ByteLevel", (Part,), {"__init__": lambda self: Part.__init__(
        self, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})}),
    WordPiece=_make("WordPiece", prefix="##", cleanup=True), Metaspace=_Metaspace, BPEDecoder=_make("BPEDecoder", suffix="</w>"),
    CTC=_make("CTC", pad_token="<pad>", word_delimiter_token="|", cleanup=True), Fuse=_make("Fuse"),
    ByteFallback=_make("ByteFallback"), Replace=_make("Replace", pattern=..., content=...),
    Strip=_make("Strip", content=" ", start=0, stop=0), Sequence=_sequence("decoders"))


class TemplateProcessing(Part):
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
    TemplateProcessing=TemplateProcessing, ByteLevel=_ByteLevel,
    BertProcessing=_make("BertProcessing", sep=..., cls=...),
    RobertaProcessing=_make("RobertaProcessing", sep=..., cls=..., trim_offsets=True, add_prefix_space=True),
    Sequence=_sequence("processors"))


# ---- Models ----

def _read_merges(path):
    with open(path, encoding="utf-8") as f:
        return [tuple(line.split(" ")) for line in f.read().splitlines() if line and not line.startswith("#version")]


class BPE(Part):
    def __init__(self, vocab=None, merges=None, dropout=None, unk_token=None, continuing_subword_prefix=None,
                 end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False):
        super().__init__({"type": "BPE", "dropout": dropout, "unk_token": unk_token,
                          "continuing_subword_prefix": continuing_subword_prefix, "end_of_word_suffix": end_of_word_suffix,
                          "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": ignore_merges,
                          "vocab": dict(vocab or {}), "merges": [list(m) for m in merges or []]})

    @staticmethod
    def read_file(vocab, merges):
        with open(vocab, encoding="utf-8") as f:
            return json.load(f), _read_merges(merges)

    @classmethod
    def from_file(cls, vocab, merges, **options):
        return cls(*cls.read_file(vocab, merges), **options)


class WordPiece(Part):
    def __init__(self, vocab=None, unk_token="[UNK]", max_input_chars_per_word=100, continuing_subword_prefix="##"):
        super().__init__({"type": "WordPiece", "unk_token": unk_token, "continuing_subword_prefix": continuing_subword_prefix,
                          "max_input_chars_per_word": max_input_chars_per_word, "vocab": dict(vocab or {})})

    @staticmethod
    def read_file(vocab):
        with open(vocab, encoding="utf-8") as f:
            return {line.rstrip("\r\n"): i for i, line in enumerate(f)}

    @classmethod
    def from_file(cls, vocab, **options):
        return cls(cls.read_file(vocab), **options)


class WordLevel(Part):
    def __init__(self, vocab=None, unk_token="<unk>"):
        super().__init__({"type": "WordLevel", "vocab": dict(vocab or {}), "unk_token": unk_token})

    @classmethod
    def from_file(cls, vocab, **options):
        with open(vocab, encoding="utf-8") as f:
            return cls(json.load(f), **options)


class Unigram(Part):
    def __init__(self, vocab=None, unk_id=None, byte_fallback=False):
        super().__init__({"type": "Unigram", "unk_id": unk_id, "vocab": [list(v) for v in vocab or []],
                          "byte_fallback": byte_fallback})


models = SimpleNamespace(BPE=BPE, WordPiece=WordPiece, WordLevel=WordLevel, Unigram=Unigram)
