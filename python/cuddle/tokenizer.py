"""Tokenizer as the package `tokenizers` has it."""
import asyncio
import ctypes
import itertools
import json
import os
import random
import threading
from ctypes import byref, c_bool, c_char_p, c_int32, c_size_t, c_void_p

from . import trainers
from ._library import Added, CuddleError, EncodeInput, EncodeOpts, Padding, Truncation, check, lib, text_at
from .encoding import Encoding, Ids, Memory, Texts
from .parts import AddedToken, Decoder, Model, Normalizer, PostProcessor, PreTokenizer, Token

_KINDS = {k.key: k for k in (Normalizer, PreTokenizer, PostProcessor, Decoder, Model)}
_STRATEGIES = {"longest_first": 0, "only_first": 1, "only_second": 2}
_STRATEGY_NAMES = {"LongestFirst": "longest_first", "OnlyFirst": "only_first", "OnlySecond": "only_second"}
_EMPTY = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
          "pre_tokenizer": None, "post_processor": None, "decoder": None}


def _bytes(text, what="a text"):
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}")
    return text.encode("utf-8")


def _snapshot(name, revision):
    """tokenizer.json of a model in the local Hugging Face cache, or of a folder."""
    if os.path.isdir(name):
        return os.path.join(name, "tokenizer.json")
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    folder = os.path.join(hub, "models--" + name.replace("/", "--"))
    ref = os.path.join(folder, "refs", revision)
    if os.path.exists(ref):
        with open(ref, encoding="utf-8") as f:
            revision = f.read().strip()
    path = os.path.join(folder, "snapshots", revision, "tokenizer.json")
    if not os.path.exists(path):
        raise CuddleError(f"{name} has no tokenizer.json in the local cache ({path}); nothing is downloaded here")
    return path


def _taken(text, n):
    """A text of the library, which is freed."""
    try:
        return text_at(text.value, n.value)
    finally:
        lib.cuddle_tokenizer_text_free(text)


def _converted(path):
    """The tokenizer.json that a file is or becomes."""
    text, n = c_void_p(), c_size_t()
    check(lib.cuddle_tokenizer_convert(os.fsencode(path), byref(text), byref(n)))
    try:
        return ctypes.string_at(text, n.value)
    finally:
        lib.cuddle_tokenizer_text_free(text)


class _Pool:
    """The library's threads, and memory for texts, for one batch at a time; who finds them taken works alone."""

    def __init__(self):
        self.handle, self.texts, self.lock = c_void_p(), Texts(), threading.Lock()

    def encode(self, call):
        """call(handle or None)"""
        if not self.lock.acquire(blocking=False):
            return call(None)
        try:
            if not self.handle:
                check(lib.cuddle_encode_pool_new(byref(self.handle), int(os.environ.get("CUDDLE_TOKENIZER_THREADS", "0"))))
            return call(self.handle)
        finally:
            self.lock.release()

    def encode_texts(self, texts, call):
        """call(handle or None, pointers to texts, their lengths, how many)"""
        read = lambda handle: (self.texts if handle else Texts()).read(texts)
        return self.encode(lambda handle: call(handle, *read(handle), len(texts)))


_pool = _Pool()


class _Input:
    """A text or words, as the library takes them; keeps the bytes alive."""

    def __init__(self, text, pretokenized, what="a text"):
        self.ends = None
        if not pretokenized:
            self.data = _bytes(text, what)
            return
        words = [_bytes(w, "a word") for w in text]
        self.data = b"".join(words)
        self.ends = (c_size_t * max(len(words), 1))(*itertools.accumulate(map(len, words)))
        self.n_ends = len(words)


def _make_input(item, pretokenized):
    """EncodeInput of a text, or of a text and its pair, and what must stay alive with it."""
    pair = None
    if isinstance(item, (tuple, list)) and (not pretokenized or (len(item) == 2 and not isinstance(item[0], str))):
        item, pair = item
    first = _Input(item, pretokenized)
    second = None if pair is None else _Input(pair, pretokenized, "a pair")
    made = EncodeInput(text=first.data, n=len(first.data), pair=second and second.data,
                       n_pair=len(second.data) if second else 0)
    if first.ends is not None:
        made.word_ends, made.n_words = first.ends, first.n_ends
    if second and second.ends is not None:
        made.pair_word_ends, made.n_pair_words = second.ends, second.n_ends
    return made, (first, second)


class Tokenizer:
    """A tokenizer.json; usable from many threads while nobody changes it."""

    def __init__(self, model):
        self._handle, self._encode_special = c_void_p(), False
        self._load(dict(_EMPTY, model=model.config))

    @classmethod
    def _open(cls, handle, source):
        """source: the path or the bytes of the JSON, which is read only when somebody asks for it."""
        t = cls.__new__(cls)
        t._handle, t._source, t._known, t._encode_special = handle, source, None, False
        t._changed = {}
        return t

    def _load(self, config):
        handle, data = c_void_p(), json.dumps(config, ensure_ascii=False).encode("utf-8", "surrogatepass")
        check(lib.cuddle_tokenizer_parse(byref(handle), data, len(data), b"tokenizer.json"))
        self._close()
        self._handle, self._source, self._known = handle, None, config
        lib.cuddle_tokenizer_set_encode_special(handle, self._encode_special)

    def _close(self):
        if getattr(self, "_handle", None):
            lib.cuddle_tokenizer_close(self._handle)

    __del__ = _close

    @property
    def _config(self):
        if self._known is None:
            data = self._source
            if not isinstance(data, bytes):
                data = _converted(data)
            self._known = dict(_EMPTY, **json.loads(data)) | self._changed
            self._source = None
        return self._known

    def _note(self, name, value):
        """Keeps a change of the configuration, which is not read for it."""
        (self._changed if self._known is None else self._known)[name] = value

    # ---- Opening and saving ----

    @classmethod
    def from_file(cls, path):
        handle = c_void_p()
        check(lib.cuddle_tokenizer_open(byref(handle), os.fsencode(path)))
        return cls._open(handle, os.path.abspath(os.fspath(path)))

    @classmethod
    def from_str(cls, json):
        return cls.from_buffer(_bytes(json, "a tokenizer.json"))

    @classmethod
    def from_buffer(cls, buffer):
        handle, data = c_void_p(), bytes(buffer)
        check(lib.cuddle_tokenizer_parse(byref(handle), data, len(data), b"tokenizer.json"))
        return cls._open(handle, data)

    @classmethod
    def from_pretrained(cls, identifier, revision="main", token=None):
        """From a folder, or from the local Hugging Face cache; nothing is downloaded."""
        return cls.from_file(_snapshot(identifier, revision))

    def to_str(self, pretty=False):
        return json.dumps(self._config, ensure_ascii=False, **({"indent": 2} if pretty else {"separators": (",", ":")}))

    def save(self, path, pretty=True):
        text = self.to_str(pretty)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    # ---- Parts ----

    def _get_part(self, name):
        config = self._config[name]
        return None if config is None else _KINDS[name]._of(config, self)

    def _set_part(self, name, part):
        self._load(dict(self._config, **{name: None if part is None else part.config}))

    normalizer = property(lambda self: self._get_part("normalizer"), lambda self, p: self._set_part("normalizer", p))
    pre_tokenizer = property(lambda self: self._get_part("pre_tokenizer"), lambda self, p: self._set_part("pre_tokenizer", p))
    post_processor = property(lambda self: self._get_part("post_processor"),
                              lambda self, p: self._set_part("post_processor", p))
    decoder = property(lambda self: self._get_part("decoder"), lambda self, p: self._set_part("decoder", p))
    model = property(lambda self: self._get_part("model"), lambda self, p: self._set_part("model", p))

    # ---- Truncation and padding ----

    def enable_truncation(self, max_length, stride=0, strategy="longest_first", direction="right"):
        if stride and stride >= max_length:
            raise ValueError(f"stride {stride} must be below max_length {max_length}")
        o = Truncation(max_length=max_length, stride=stride, strategy=_STRATEGIES[strategy], left=direction == "left")
        check(lib.cuddle_tokenizer_set_truncation(self._handle, byref(o)))
        name = next(k for k, v in _STRATEGY_NAMES.items() if v == strategy)
        self._note("truncation", {"direction": direction.capitalize(), "max_length": max_length, "strategy": name,
                                  "stride": stride})

    def no_truncation(self):
        check(lib.cuddle_tokenizer_set_truncation(self._handle, None))
        self._note("truncation", None)

    @property
    def truncation(self):
        c = self._config["truncation"]
        return c and {"max_length": c["max_length"], "stride": c.get("stride", 0),
                      "strategy": _STRATEGY_NAMES[c.get("strategy", "LongestFirst")],
                      "direction": c.get("direction", "Right").lower()}

    def enable_padding(self, direction="right", pad_id=0, pad_type_id=0, pad_token="[PAD]", length=None,
                       pad_to_multiple_of=None):
        o = Padding(length=length or 0, fixed=length is not None, multiple_of=pad_to_multiple_of or 0, id=pad_id,
                    type=pad_type_id, token=pad_token.encode(), left=direction == "left")
        check(lib.cuddle_tokenizer_set_padding(self._handle, byref(o)))
        self._note("padding", {"strategy": "BatchLongest" if length is None else {"Fixed": length},
                               "direction": direction.capitalize(), "pad_to_multiple_of": pad_to_multiple_of,
                               "pad_id": pad_id, "pad_type_id": pad_type_id, "pad_token": pad_token})

    def no_padding(self):
        check(lib.cuddle_tokenizer_set_padding(self._handle, None))
        self._note("padding", None)

    @property
    def padding(self):
        c = self._config["padding"]
        if not c:
            return None
        fixed = c["strategy"]["Fixed"] if isinstance(c["strategy"], dict) else None
        return {"length": fixed, "direction": c["direction"].lower(),
                **{k: c.get(k) for k in ("pad_to_multiple_of", "pad_id", "pad_token", "pad_type_id")}}

    @property
    def encode_special_tokens(self):
        """Whether special tokens that stand in a text are text like any other."""
        return self._encode_special

    @encode_special_tokens.setter
    def encode_special_tokens(self, on):
        self._encode_special = bool(on)
        lib.cuddle_tokenizer_set_encode_special(self._handle, self._encode_special)

    def num_special_tokens_to_add(self, is_pair=False):
        return lib.cuddle_tokenizer_added_count(self._handle, is_pair)

    # ---- Encoding ----

    _seeds = itertools.count(random.getrandbits(63), 1 << 32)

    def _seed(self):
        """Of BPE's dropout: another with each call."""
        return next(self._seeds) & (1 << 64) - 1

    def set_dropout_seed(self, seed):
        """From here on the calls of this tokenizer give the same tokens in each run of a program."""
        self._seeds = itertools.count(seed << 32, 1 << 32)

    def encode(self, sequence, pair=None, is_pretokenized=False, add_special_tokens=True):
        made, alive = _make_input(sequence if pair is None else (sequence, pair), is_pretokenized)
        opts = EncodeOpts(seed=self._seed(), pair=alive[1] and alive[1].data, n_pair=made.n_pair,
                          no_special_tokens=not add_special_tokens, word_ends=made.word_ends, n_words=made.n_words, pair_word_ends=made.pair_word_ends,
                          n_pair_words=made.n_pair_words)
        memory = Memory()
        check(lib.cuddle_tokenizer_encode(self._handle, memory.handle, alive[0].data, made.n, byref(opts)))
        return Encoding(self, memory, memory.handle)

    def _batch(self, inputs, is_pretokenized, add_special_tokens, fast):
        made = [_make_input(x, is_pretokenized) for x in inputs]
        memories = [Memory() for _ in made]
        array = (EncodeInput * len(made))(*(m for m, _ in made))
        handles = (c_void_p * len(made))(*(m.handle for m in memories))
        opts = EncodeOpts(seed=self._seed(), no_special_tokens=not add_special_tokens, ids_only=fast)
        check(_pool.encode(lambda pool: lib.cuddle_tokenizer_encode_batch(self._handle, pool, handles, array, len(made),
                                                                          byref(opts))))
        return [Encoding(self, m, m.handle) for m in memories]

    def encode_batch(self, input, is_pretokenized=False, add_special_tokens=True):
        """Texts or (text, pair) tuples, over threads; padded to a common length as the file says."""
        return self._batch(input, is_pretokenized, add_special_tokens, False)

    def encode_batch_fast(self, input, is_pretokenized=False, add_special_tokens=True):
        """The same, ids only: no offsets, masks or words."""
        return self._batch(input, is_pretokenized, add_special_tokens, True)

    def encode_batch_flat(self, input, add_special_tokens=True):
        """Texts to ids alone, over threads, without padding: the fastest way. Two numpy arrays on the library's memory,
        all ids and where each text's begin: those of text i are ids[offsets[i]:offsets[i + 1]]."""
        out, texts = Ids(), list(input)
        opts = EncodeOpts(seed=self._seed(), no_special_tokens=not add_special_tokens, valid_utf8=True)
        check(_pool.encode_texts(texts, lambda pool, *of: lib.cuddle_tokenizer_encode_ids(self._handle, pool, out.handle,
                                                                                          *of, byref(opts))))
        return out.arrays(len(texts))

    async def async_encode(self, *args, **kwargs):
        return await asyncio.to_thread(self.encode, *args, **kwargs)

    async def async_encode_batch(self, *args, **kwargs):
        return await asyncio.to_thread(self.encode_batch, *args, **kwargs)

    async def async_encode_batch_fast(self, *args, **kwargs):
        return await asyncio.to_thread(self.encode_batch_fast, *args, **kwargs)

    async def async_decode_batch(self, *args, **kwargs):
        return await asyncio.to_thread(self.decode_batch, *args, **kwargs)

    # ---- Decoding ----

    def decode(self, ids, skip_special_tokens=True):
        ids = list(ids)
        array, text, n = (c_int32 * len(ids))(*ids), c_void_p(), c_size_t()
        check(lib.cuddle_tokenizer_decode(self._handle, array, len(ids), skip_special_tokens, byref(text), byref(n)))
        return _taken(text, n)

    def decode_batch(self, sequences, skip_special_tokens=True):
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    # ---- Parts alone ----

    def _normalize(self, sequence):
        data, text, n = _bytes(sequence), c_void_p(), c_size_t()
        check(lib.cuddle_tokenizer_normalize(self._handle, data, len(data), byref(text), byref(n)))
        return _taken(text, n)

    def _pre_tokenize(self, sequence):
        data, memory = _bytes(sequence), Memory()
        check(lib.cuddle_tokenizer_pre_tokenize(self._handle, memory.handle, data, len(data)))
        e = Encoding(self, memory, memory.handle)
        return list(zip(e.tokens, e.offsets))

    def _decode_tokens(self, tokens):
        data, text, n = [_bytes(t, "a token") for t in tokens], c_void_p(), c_size_t()
        check(lib.cuddle_tokenizer_decode_tokens(self._handle, (c_char_p * len(data))(*data),
                                                 (c_size_t * len(data))(*map(len, data)), len(data), byref(text), byref(n)))
        return _taken(text, n)

    def _tokenize(self, sequence):
        """The model's tokens."""
        data, memory, opts = _bytes(sequence), Memory(), EncodeOpts(seed=self._seed(), byte_offsets=True)
        check(lib.cuddle_tokenizer_encode(self._handle, memory.handle, data, len(data), byref(opts)))
        e = Encoding(self, memory, memory.handle)
        return [Token(*x) for x in zip(e.ids, e.tokens, e.offsets)]

    def post_process(self, encoding, pair=None, add_special_tokens=True):
        """Truncation, special tokens and padding of encodings that have none yet."""
        handles = [None if e is None else e._library_handle() for e in (encoding, pair)]
        memory, opts = Memory(), EncodeOpts(no_special_tokens=not add_special_tokens)
        check(lib.cuddle_tokenizer_post_process(self._handle, memory.handle, *handles, byref(opts)))
        return Encoding(encoding._tokenizer, memory, memory.handle)

    # ---- Vocabulary ----

    def token_to_id(self, token):
        data = _bytes(token, "a token")
        found = lib.cuddle_tokenizer_id(self._handle, data, len(data))
        return None if found < 0 else found

    def id_to_token(self, id):
        if not 0 <= id < 1 << 31:
            return None
        n = c_size_t()
        return text_at(lib.cuddle_tokenizer_token(self._handle, id, byref(n)), n.value)

    def get_vocab(self, with_added_tokens=True):
        ids = range(lib.cuddle_tokenizer_vocab(self._handle))
        if not with_added_tokens:
            ids = (i for i in ids if lib.cuddle_tokenizer_in_model(self._handle, i))
        tokens = ((self.id_to_token(i), i) for i in ids)
        return {t: i for t, i in tokens if t is not None}

    def get_vocab_size(self, with_added_tokens=True):
        return len(self.get_vocab(with_added_tokens))

    def _add(self, tokens, special):
        made = [t if isinstance(t, AddedToken) else AddedToken(t, special=special) for t in tokens]
        if special:
            made = [t.as_special() for t in made]
        data = [t.content.encode("utf-8") for t in made]
        array = (Added * len(made))(*(Added(d, len(d), t.single_word, t.lstrip, t.rstrip, t.normalized, t.special)
                                      for d, t in zip(data, made)))
        added = c_size_t()
        config = self._config
        check(lib.cuddle_tokenizer_add_tokens(self._handle, array, len(made), byref(added)))
        known = {t["content"]: t for t in config["added_tokens"]}
        known.update({t.content: dict(t.config(), id=self.token_to_id(t.content)) for t in made if t.content})
        config["added_tokens"] = sorted(known.values(), key=lambda t: t["id"])
        return added.value

    def add_tokens(self, tokens):
        """Texts or AddedTokens; gives how many were new."""
        return self._add(tokens, False)

    def add_special_tokens(self, tokens):
        return self._add(tokens, True)

    def get_added_tokens_decoder(self):
        names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        return {self.token_to_id(t["content"]): AddedToken(**{k: t[k] for k in names if k in t})
                for t in self._config["added_tokens"]}

    # ---- Training ----

    def _train(self, trainer, feed):
        config = self._config
        if trainer is None:
            kinds = {"BPE": trainers.BpeTrainer, "WordPiece": trainers.WordPieceTrainer,
                     "WordLevel": trainers.WordLevelTrainer, "Unigram": trainers.UnigramTrainer}
            trainer = kinds[config["model"]["type"]]()
        learned = trainer.train(config, feed)["model"]
        keep = {"BPE": ("vocab", "merges", "continuing_subword_prefix", "end_of_word_suffix"),
                "Unigram": ("vocab", "unk_id", "byte_fallback"), "WordPiece": ("vocab", "continuing_subword_prefix"),
                "WordLevel": ("vocab",)}[learned["type"]]
        self._load(dict(config, model=dict(config["model"], **{k: learned[k] for k in keep})))
        self._add(trainer.special_tokens, True)

    def train(self, files, trainer=None):
        """From files of UTF-8, each line a text."""
        self._train(trainer, trainers.feed_files([files] if isinstance(files, (str, os.PathLike)) else files))

    def train_from_iterator(self, iterator, trainer=None, length=None):
        """From texts, or lists of them."""
        self._train(trainer, trainers.feed_iterator(iterator))


class DecodeStream:
    """Text from ids that come one by one: never half a character."""

    def __init__(self, ids=None, skip_special_tokens=False):
        self._skip, self._tokenizer, self._handle, self._first = skip_special_tokens, None, c_void_p(), list(ids or [])

    def __del__(self):
        if self._handle:
            lib.cuddle_decode_stream_free(self._handle)

    def step(self, tokenizer, id):
        if self._tokenizer is None:
            check(lib.cuddle_decode_stream_new(byref(self._handle), tokenizer._handle, c_bool(self._skip)))
            self._tokenizer = tokenizer
            for known in self._first:
                self._put(known)
        return self._put(id) or None

    def _put(self, id):
        text, n = c_void_p(), c_size_t()
        for one in id if isinstance(id, (list, tuple)) else [id]:
            check(lib.cuddle_decode_stream_put(self._handle, one, byref(text), byref(n)))
        return text_at(text.value, n.value)
