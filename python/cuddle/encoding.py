"""Encoding as the package `tokenizers` has it."""
import ctypes
from ctypes import byref, c_int32, c_size_t, c_void_p

from ._library import STRING_CALLS, CuddleError, EncodingView, check, lib, texts_read

_VIEW = {"ids": "ids", "type_ids": "types", "attention_mask": "attention", "special_tokens_mask": "special"}
_FIELDS = ("ids", "type_ids", "tokens", "word_ids", "offsets", "special_tokens_mask", "attention_mask", "sequence_ids")
_PADDING = {"special_tokens_mask": 1, "attention_mask": 0, "offsets": (0, 0), "word_ids": None, "sequence_ids": None}


class Memory:
    """An encoding of the library; freed with the last Encoding or array that looks into it."""

    def __init__(self):
        self.handle = c_void_p()
        check(lib.cuddle_encoding_new(byref(self.handle)))

    def __del__(self):
        if self.handle:
            lib.cuddle_encoding_free(self.handle)


class Texts:
    """A list of str as the library takes it: UTF-8, there as long as this and the list are."""

    def __init__(self):
        self.handle = c_void_p()
        check(lib.cuddle_texts_new(byref(self.handle)))

    def __del__(self):
        if self.handle:
            lib.cuddle_texts_free(self.handle)

    def read(self, texts):
        """Pointers to the texts, and to their lengths."""
        status = texts_read(self.handle, byref(STRING_CALLS), texts, bytes(map(str.isascii, texts)), len(texts))
        if status:
            for text in texts:
                text.encode()  # Python's own error where there is one
            check(status)
        pointers, lengths = c_void_p(), c_void_p()
        lib.cuddle_texts_look(self.handle, byref(pointers), byref(lengths))
        return pointers, lengths


class Ids:
    """The ids of many texts in the library's memory; freed with the last array that looks into it."""

    def __init__(self):
        self.handle = c_void_p()
        check(lib.cuddle_ids_new(byref(self.handle)))

    def __del__(self):
        if self.handle:
            lib.cuddle_ids_free(self.handle)

    def arrays(self, n):
        """Read-only numpy arrays: all ids, and offsets [n + 1]."""
        import numpy
        ids, offsets = c_void_p(), c_void_p()
        lib.cuddle_ids_look(self.handle, byref(ids), byref(offsets))
        ends = numpy.asarray(_Block(self, offsets, n + 1, numpy.dtype(numpy.uintp)))
        count = int(ends[n])
        return (numpy.asarray(_Block(self, ids, count, numpy.dtype(numpy.int32))) if count else numpy.empty(0, numpy.int32)), ends


class _Block:
    """Memory that an array looks into: the array keeps it, and so its owner, alive."""

    def __init__(self, owner, pointer, n, kind):
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (pointer.value, True), "shape": (n,), "typestr": kind.str}


class Encoding:
    """The tokens of one text; lists are made when they are asked for."""

    def __init__(self, tokenizer=None, memory=None, handle=None):
        self._tokenizer, self._memory, self._handle, self._own = tokenizer, memory, handle, None
        if handle is None:
            self._own = {name: [] for name in _FIELDS}
            self._over = []
            return
        self._view = EncodingView()
        lib.cuddle_encoding_look(handle, byref(self._view))

    def __len__(self):
        return len(self._own["ids"]) if self._own else self._view.n

    def __repr__(self):
        return (f"Encoding(num_tokens={len(self)}, attributes=[ids, type_ids, tokens, offsets, attention_mask, "
                "special_tokens_mask, overflowing])")

    # ---- The arrays ----

    def _list(self, name):
        if self._own:
            return list(self._own[name])
        pointer = getattr(self._view, _VIEW[name])
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
        if not n or self._own:
            return numpy.array(self.ids, numpy.int32)
        block = (c_int32 * n).from_address(ctypes.addressof(self._view.ids.contents))
        block.owner = self._memory  # an array keeps its buffer, and so the memory, alive
        array = numpy.frombuffer(block, numpy.int32)
        array.flags.writeable = False
        return array

    @property
    def tokens(self):
        if self._own:
            return list(self._own["tokens"])
        text, ends = c_void_p(), (c_size_t * max(len(self), 1))()
        check(lib.cuddle_encoding_texts(self._handle, self._tokenizer._handle, byref(text), ends))
        ends = ends[:len(self)]
        try:
            data = ctypes.string_at(text, ends[-1] if ends else 0)
        finally:
            lib.cuddle_tokenizer_text_free(text)
        return [data[i:k].decode("utf-8", "replace") for i, k in zip([0, *ends], ends)]

    @property
    def offsets(self):
        if self._own:
            return list(self._own["offsets"])
        if not self._view.offsets:
            return self._list("type_ids")
        flat = self._view.offsets[:2 * len(self)]
        return list(zip(flat[::2], flat[1::2]))

    @property
    def type_ids(self):
        return self._list("type_ids")

    @property
    def attention_mask(self):
        return self._list("attention_mask")

    @property
    def special_tokens_mask(self):
        return self._list("special_tokens_mask")

    @property
    def word_ids(self):
        if self._own:
            return list(self._own["word_ids"])
        if not self._view.words:
            return self._list("type_ids")
        return [None if w < 0 else w for w in self._view.words[:len(self)]]

    words = word_ids

    @property
    def sequence_ids(self):
        if self._own:
            return list(self._own["sequence_ids"])
        if not self._view.sequences:
            return self._list("type_ids")
        return [None if s > 1 else s for s in self._view.sequences[:len(self)]]

    @property
    def n_sequences(self):
        return len({s for s in self.sequence_ids if s is not None}) or 1

    @property
    def overflowing(self):
        if self._own:
            return list(self._over)
        return [Encoding(self._tokenizer, self._memory, lib.cuddle_encoding_overflow(self._handle, i))
                for i in range(self._view.overflowing)]

    # ---- Where things are ----

    def _range(self, sequence):
        ids = self.sequence_ids
        at = [i for i, s in enumerate(ids) if s == sequence]
        return range(at[0], at[-1] + 1) if at else range(0)

    def token_to_sequence(self, token_index):
        ids = self.sequence_ids
        return ids[token_index] if 0 <= token_index < len(ids) else None

    def token_to_chars(self, token_index):
        return None if self.token_to_sequence(token_index) is None else self.offsets[token_index]

    def token_to_word(self, token_index):
        return None if self.token_to_sequence(token_index) is None else self.word_ids[token_index]

    def char_to_token(self, char_pos, sequence_index=0):
        offsets = self.offsets
        return next((i for i in self._range(sequence_index) if offsets[i][0] <= char_pos < offsets[i][1]), None)

    def char_to_word(self, char_pos, sequence_index=0):
        token = self.char_to_token(char_pos, sequence_index)
        return None if token is None else self.token_to_word(token)

    def word_to_tokens(self, word_index, sequence_index=0):
        words = self.word_ids
        at = [i for i in self._range(sequence_index) if words[i] == word_index]
        return (at[0], at[-1] + 1) if at else None

    def word_to_chars(self, word_index, sequence_index=0):
        tokens = self.word_to_tokens(word_index, sequence_index)
        if tokens is None:
            return None
        offsets = self.offsets
        return offsets[tokens[0]][0], offsets[tokens[1] - 1][1]

    # ---- Changes ----

    def _library_handle(self):
        if self._own:
            raise CuddleError("post_process takes encodings as encode gave them, not changed ones")
        return self._handle

    def _detach(self):
        """Lists of its own instead of the library's memory."""
        if self._own is None:
            over = self.overflowing
            self._own = {name: getattr(self, name) for name in _FIELDS}
            self._over = over

    def set_sequence_id(self, sequence_id):
        self._detach()
        self._own["sequence_ids"] = [sequence_id] * len(self)

    def pad(self, length, direction="right", pad_id=0, pad_type_id=0, pad_token="[PAD]"):
        for e in self.overflowing:
            e.pad(length, direction, pad_id, pad_type_id, pad_token)
        self._detach()
        missing = max(length - len(self), 0)
        filling = dict(_PADDING, ids=pad_id, type_ids=pad_type_id, tokens=pad_token)
        for name, values in self._own.items():
            more = [filling[name]] * missing
            self._own[name] = more + values if direction == "left" else values + more

    def truncate(self, max_length, stride=0, direction="right"):
        n = len(self)
        if max_length >= n:
            return
        if max_length and stride >= max_length:
            raise ValueError(f"stride {stride} must be below max_length {max_length}")
        self._detach()
        step = max_length - stride
        starts = range(0, n, step) if max_length else range(0)
        parts = [(i, min(i + max_length, n)) for i in starts if i == 0 or i + stride < n] or [(0, 0), (0, n)]
        if direction == "left":
            parts = [(n - end, n - begin) for begin, end in parts]
        whole, self._over = self._own, []
        for k, (begin, end) in enumerate(parts):
            own = {name: values[begin:end] for name, values in whole.items()}
            if k == 0:
                self._own = own
            else:
                e = Encoding()
                e._own = own
                self._over.append(e)

    @staticmethod
    def merge(encodings, growing_offsets=True):
        """One after the other; overflowing parts are left behind."""
        out, base = Encoding(), 0
        for e in encodings:
            for name in _FIELDS:
                values = getattr(e, name)
                if name == "offsets" and growing_offsets:
                    values = [(a + base, b + base) for a, b in values]
                out._own[name] += values
            base = out._own["offsets"][-1][1] if growing_offsets and len(out) else 0
        return out
