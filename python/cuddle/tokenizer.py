"""Tokenizer and Encoding as the package `tokenizers` has them."""
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_char_p, c_int32, c_size_t, c_void_p

from ._library import CuddleError, EncodeOpts, EncodingView, check, lib, text_at


class _Memory:
    """An encoding of the library; freed with the last Encoding or array that looks into it."""

    def __init__(self):
        self.handle = c_void_p()
        check(lib.cuddle_encoding_new(byref(self.handle)))

    def __del__(self):
        if self.handle:
            lib.cuddle_encoding_free(self.handle)


class Encoding:
    """The tokens of one text; lists are made when they are asked for."""

    def __init__(self, tokenizer, memory, handle):
        self._tokenizer, self._memory, self._handle = tokenizer, memory, handle
        self._view = EncodingView(size=ctypes.sizeof(EncodingView))
        lib.cuddle_encoding_look(handle, byref(self._view))

    def __len__(self):
        return self._view.n

    def __repr__(self):
        return (f"Encoding(num_tokens={len(self)}, attributes=[ids, type_ids, tokens, offsets, attention_mask, "
                "special_tokens_mask, overflowing])")

    def _list(self, name):
        pointer = getattr(self._view, name)
        if not pointer and len(self):
            raise CuddleError("encode_batch_fast keeps ids only; use encode_batch")
        return pointer[:len(self)]

    @property
    def ids(self):
        return self._list("ids")

    @property
    def ids_array(self):
        """The ids as a read-only numpy array of int32 on the library's own memory: nothing is copied."""
        import numpy
        n = len(self)
        if not n:
            return numpy.empty(0, numpy.int32)
        block = (c_int32 * n).from_address(ctypes.addressof(self._view.ids.contents))
        block.owner = self._memory  # an array keeps its buffer, and so the memory, alive
        array = numpy.frombuffer(block, numpy.int32)
        array.flags.writeable = False
        return array

    @property
    def tokens(self):
        out, n = [], c_size_t()
        for i in range(len(self)):
            s = lib.cuddle_encoding_token(self._handle, self._tokenizer._handle, i, byref(n))
            out.append(text_at(s, n.value))
        return out

    @property
    def offsets(self):
        if not self._view.offsets:
            return self._list("offsets")
        flat = self._view.offsets[:2 * len(self)]
        return list(zip(flat[::2], flat[1::2]))

    @property
    def type_ids(self):
        return self._list("types")

    @property
    def attention_mask(self):
        return self._list("attention")

    @property
    def special_tokens_mask(self):
        return self._list("special")

    @property
    def word_ids(self):
        return [None if w < 0 else w for w in self._list("words")]

    words = word_ids

    @property
    def overflowing(self):
        return [Encoding(self._tokenizer, self._memory, lib.cuddle_encoding_overflow(self._handle, i))
                for i in range(self._view.overflowing)]


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


class Tokenizer:
    """A tokenizer.json; read-only, usable from many threads."""

    def __init__(self, handle):
        self._handle = handle

    def __del__(self):
        if getattr(self, "_handle", None):
            lib.cuddle_tokenizer_close(self._handle)

    # ---- Opening ----

    @classmethod
    def from_file(cls, path):
        handle = c_void_p()
        check(lib.cuddle_tokenizer_open(byref(handle), os.fsencode(path)))
        return cls(handle)

    @classmethod
    def from_str(cls, json):
        return cls.from_buffer(_bytes(json, "a tokenizer.json"))

    @classmethod
    def from_buffer(cls, buffer):
        handle, data = c_void_p(), bytes(buffer)
        check(lib.cuddle_tokenizer_parse(byref(handle), data, len(data), b"tokenizer.json"))
        return cls(handle)

    @classmethod
    def from_pretrained(cls, identifier, revision="main"):
        """From a folder, or from the local Hugging Face cache; nothing is downloaded."""
        return cls.from_file(_snapshot(identifier, revision))

    # ---- Encoding ----

    def _encode(self, text, pair, add_special_tokens, fast=False, pad=True):
        data = _bytes(text)
        second = None if pair is None else _bytes(pair, "a pair")
        opts = EncodeOpts(ctypes.sizeof(EncodeOpts), c_char_p(second), len(second or b""), not add_special_tokens,
                          fast, False, not pad)
        memory = _Memory()
        check(lib.cuddle_tokenizer_encode(self._handle, memory.handle, data, len(data), byref(opts)))
        return memory

    def _look(self, memory):
        return Encoding(self, memory, memory.handle)

    def encode(self, sequence, pair=None, is_pretokenized=False, add_special_tokens=True):
        if is_pretokenized:
            raise NotImplementedError("is_pretokenized: give whole texts")
        return self._look(self._encode(sequence, pair, add_special_tokens))

    def _batch(self, inputs, is_pretokenized, add_special_tokens, fast):
        if is_pretokenized:
            raise NotImplementedError("is_pretokenized: give whole texts")

        def one(item):
            text, pair = item if isinstance(item, (tuple, list)) else (item, None)
            return self._encode(text, pair, add_special_tokens, fast, pad=False)

        inputs = list(inputs)
        workers = min(len(inputs), os.cpu_count() or 1)
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                memories = list(pool.map(one, inputs))
        else:
            memories = [one(x) for x in inputs]
        handles = (c_void_p * len(memories))(*(m.handle for m in memories))
        check(lib.cuddle_tokenizer_pad(self._handle, handles, len(memories)))
        return [self._look(m) for m in memories]

    def encode_batch(self, input, is_pretokenized=False, add_special_tokens=True):
        """Texts or (text, pair) tuples, over threads; padded to a common length as the file says."""
        return self._batch(input, is_pretokenized, add_special_tokens, False)

    def encode_batch_fast(self, input, is_pretokenized=False, add_special_tokens=True):
        """The same, ids only: no offsets, masks or words."""
        return self._batch(input, is_pretokenized, add_special_tokens, True)

    # ---- Decoding ----

    def decode(self, ids, skip_special_tokens=True):
        ids = list(ids)
        array, text, n = (c_int32 * len(ids))(*ids), c_void_p(), c_size_t()
        check(lib.cuddle_tokenizer_decode(self._handle, array, len(ids), skip_special_tokens, byref(text), byref(n)))
        try:
            return text_at(text.value, n.value)
        finally:
            lib.cuddle_tokenizer_text_free(text)

    def decode_batch(self, sequences, skip_special_tokens=True):
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

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
        if not with_added_tokens:
            raise NotImplementedError("the vocabulary comes with its added tokens only")
        tokens = ((self.id_to_token(i), i) for i in range(lib.cuddle_tokenizer_vocab(self._handle)))
        return {t: i for t, i in tokens if t is not None}

    def get_vocab_size(self, with_added_tokens=True):
        return len(self.get_vocab(with_added_tokens))
