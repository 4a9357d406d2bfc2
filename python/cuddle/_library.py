"""libcuddle through ctypes: the functions of cuddle_tokenizer.h and cuddle_tokenizer_train.h that the module uses.

The library is the file CUDDLE_LIBRARY, else the one in this package, else build/libcuddle.so of the
source tree, else the system's.
"""
import ctypes
import os
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p


class CuddleError(Exception):
    """A call that failed; the text is cuddle_errmsg()."""


class Struct(ctypes.Structure):
    """One whose first member is its size."""

    def __init__(self, **members):
        super().__init__(size=ctypes.sizeof(type(self)), **members)


class EncodeOpts(Struct):
    _fields_ = [("size", c_size_t), ("pair", c_char_p), ("n_pair", c_size_t), ("no_special_tokens", c_bool),
                ("ids_only", c_bool), ("no_truncation", c_bool), ("no_padding", c_bool), ("byte_offsets", c_bool), ("valid_utf8", c_bool),
                ("word_ends", POINTER(c_size_t)), ("n_words", c_size_t), ("pair_word_ends", POINTER(c_size_t)),
                ("n_pair_words", c_size_t), ("seed", c_uint64)]


class EncodeInput(ctypes.Structure):
    _fields_ = [("text", c_char_p), ("pair", c_char_p), ("n", c_size_t), ("n_pair", c_size_t),
                ("word_ends", POINTER(c_size_t)), ("pair_word_ends", POINTER(c_size_t)), ("n_words", c_size_t),
                ("n_pair_words", c_size_t)]


class EncodingView(Struct):
    _fields_ = [("size", c_size_t), ("n", c_size_t), ("ids", POINTER(c_int32)), ("offsets", POINTER(c_uint32)),
                ("words", POINTER(c_int32)), ("types", POINTER(c_uint8)), ("special", POINTER(c_uint8)),
                ("attention", POINTER(c_uint8)), ("overflowing", c_size_t), ("sequences", POINTER(c_uint8))]


class StringCalls(Struct):
    """Python's own functions, by which the library reads a list of str."""
    _fields_ = [("size", c_size_t)] + [(name, c_void_p) for name in ("item", "utf8", "length", "copy")]


STRING_CALLS = StringCalls(**{name: ctypes.cast(f, c_void_p).value for name, f in (
    ("item", ctypes.pythonapi.PyList_GetItem), ("utf8", ctypes.pythonapi.PyUnicode_AsUTF8AndSize),
    ("length", ctypes.pythonapi.PyUnicode_GetLength), ("copy", ctypes.pythonapi.PyUnicode_AsUCS4))})


class Truncation(Struct):
    _fields_ = [("size", c_size_t), ("max_length", c_size_t), ("stride", c_size_t), ("strategy", c_int32),
                ("left", c_bool)]


class Padding(Struct):
    _fields_ = [("size", c_size_t), ("length", c_size_t), ("multiple_of", c_size_t), ("token", c_char_p), ("id", c_int32),
                ("type", c_uint8), ("fixed", c_bool), ("left", c_bool)]


class Added(ctypes.Structure):
    _fields_ = [("content", c_char_p), ("n", c_size_t), ("single_word", c_bool), ("lstrip", c_bool), ("rstrip", c_bool),
                ("normalized", c_bool), ("special", c_bool)]


class TrainOpts(Struct):
    _fields_ = [("size", c_size_t), ("model", c_int32), ("cut", c_int32), ("vocab_size", c_uint32),
                ("min_frequency", c_uint64), ("limit_alphabet", c_uint32), ("token_chars_max", c_uint32),
                ("special_tokens", POINTER(c_char_p)), ("n_special", c_size_t), ("unk_token", c_char_p),
                ("continuing_prefix", c_char_p), ("normalizer", c_char_p), ("pre_tokenizer", c_char_p),
                ("decoder", c_char_p), ("progress", c_void_p), ("user", c_void_p), ("initial_alphabet", c_char_p),
                ("no_byte_alphabet", c_bool), ("unk_apart", c_bool), ("end_suffix", c_char_p),
                ("shrinking_factor", c_double), ("em_steps", c_uint32), ("piece_chars_max", c_uint32),
                ("seed_size", c_uint32), ("threads", c_uint32)]


def _load():
    here = os.path.dirname(os.path.abspath(__file__))
    places = [os.path.join(here, "libcuddle.so"), os.path.join(here, "..", "..", "build", "libcuddle.so")]
    chosen = os.environ.get("CUDDLE_LIBRARY") or next((p for p in places if os.path.exists(p)), "libcuddle.so.0")
    try:
        for name in ("libonig.so.5", "libutf8proc.so.2", "libutf8proc.so.3", "libzstd.so.1"):  # a wheel brings them
            if os.path.exists(os.path.join(here, name)):
                ctypes.CDLL(os.path.join(here, name), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(chosen)
    except OSError as e:
        raise ImportError(f"libcuddle cannot be loaded ({e}); run `make`, or set CUDDLE_LIBRARY to its file") from None


lib = _load()

_SIGNATURES = {  # name: (result, arguments)
    "errmsg": (c_char_p, []),
    "version": (c_char_p, []),
    "tokenizer_open": (c_int32, [POINTER(c_void_p), c_char_p]),
    "tokenizer_parse": (c_int32, [POINTER(c_void_p), c_char_p, c_size_t, c_char_p]),
    "tokenizer_convert": (c_int32, [c_char_p, POINTER(c_void_p), POINTER(c_size_t)]),
    "tokenizer_close": (None, [c_void_p]),
    "tokenizer_vocab": (c_uint32, [c_void_p]),
    "tokenizer_token": (c_void_p, [c_void_p, c_int32, POINTER(c_size_t)]),
    "tokenizer_id": (c_int32, [c_void_p, c_char_p, c_size_t]),
    "tokenizer_is_special": (c_bool, [c_void_p, c_int32]),
    "tokenizer_in_model": (c_bool, [c_void_p, c_int32]),
    "tokenizer_added_count": (c_size_t, [c_void_p, c_bool]),
    "tokenizer_set_truncation": (c_int32, [c_void_p, POINTER(Truncation)]),
    "tokenizer_set_padding": (c_int32, [c_void_p, POINTER(Padding)]),
    "tokenizer_add_tokens": (c_int32, [c_void_p, POINTER(Added), c_size_t, POINTER(c_size_t)]),
    "tokenizer_set_encode_special": (None, [c_void_p, c_bool]),
    "tokenizer_normalize": (c_int32, [c_void_p, c_char_p, c_size_t, POINTER(c_void_p), POINTER(c_size_t)]),
    "tokenizer_pre_tokenize": (c_int32, [c_void_p, c_void_p, c_char_p, c_size_t]),
    "tokenizer_decode_tokens": (c_int32, [c_void_p, POINTER(c_char_p), POINTER(c_size_t), c_size_t, POINTER(c_void_p),
                                          POINTER(c_size_t)]),
    "tokenizer_post_process": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p, POINTER(EncodeOpts)]),
    "encoding_new": (c_int32, [POINTER(c_void_p)]),
    "encoding_free": (None, [c_void_p]),
    "tokenizer_encode": (c_int32, [c_void_p, c_void_p, c_char_p, c_size_t, POINTER(EncodeOpts)]),
    "encode_pool_new": (c_int32, [POINTER(c_void_p), c_uint32]),
    "encode_pool_free": (None, [c_void_p]),
    "tokenizer_encode_batch": (c_int32, [c_void_p, c_void_p, POINTER(c_void_p), POINTER(EncodeInput), c_size_t,
                                         POINTER(EncodeOpts)]),
    "texts_new": (c_int32, [POINTER(c_void_p)]),
    "texts_look": (None, [c_void_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "ids_new": (c_int32, [POINTER(c_void_p)]),
    "ids_free": (None, [c_void_p]),
    "ids_look": (None, [c_void_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "tokenizer_encode_ids": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t,
                                       POINTER(EncodeOpts)]),
    "encoding_look": (None, [c_void_p, POINTER(EncodingView)]),
    "encoding_texts": (c_int32, [c_void_p, c_void_p, POINTER(c_void_p), POINTER(c_size_t)]),
    "encoding_overflow": (c_void_p, [c_void_p, c_size_t]),
    "tokenizer_decode": (c_int32, [c_void_p, POINTER(c_int32), c_size_t, c_bool, POINTER(c_void_p),
                                   POINTER(c_size_t)]),
    "tokenizer_text_free": (None, [c_void_p]),
    "decode_stream_new": (c_int32, [POINTER(c_void_p), c_void_p, c_bool]),
    "decode_stream_free": (None, [c_void_p]),
    "decode_stream_put": (c_int32, [c_void_p, c_int32, POINTER(c_void_p), POINTER(c_size_t)]),
    "trainer_new": (c_int32, [POINTER(c_void_p), POINTER(TrainOpts)]),
    "trainer_free": (None, [c_void_p]),
    "trainer_feed": (c_int32, [c_void_p, c_char_p, c_size_t]),
    "trainer_feed_file": (c_int32, [c_void_p, c_char_p]),
    "trainer_train": (c_int32, [c_void_p, POINTER(c_void_p), POINTER(c_size_t)]),
}
for _name, (_result, _arguments) in _SIGNATURES.items():
    _function = getattr(lib, "cuddle_" + _name)
    _function.restype, _function.argtypes = _result, _arguments

# Calls Python back: the interpreter's lock stays.
texts_read = ctypes.PyDLL(lib._name).cuddle_texts_read
texts_read.restype, texts_read.argtypes = c_int32, [c_void_p, POINTER(StringCalls), ctypes.py_object, c_char_p, c_size_t]


def check(status):
    if status != 0:
        raise CuddleError(lib.cuddle_errmsg().decode("utf-8", "replace"))


def text_at(pointer, n):
    return ctypes.string_at(pointer, n).decode("utf-8", "replace") if pointer else None


def version():
    return lib.cuddle_version().decode()
