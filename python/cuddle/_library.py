"""libcuddle through ctypes: the functions of cuddle_tokenizer.h that the module uses.

The library is the file CUDDLE_LIBRARY, else the one in this package, else build/libcuddle.so of the
source tree, else the system's.
"""
import ctypes
import os
from ctypes import POINTER, byref, c_bool, c_char_p, c_int32, c_size_t, c_uint8, c_uint32, c_void_p


class CuddleError(Exception):
    """A call that failed; the text is cuddle_errmsg()."""


class EncodeOpts(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("pair", c_char_p), ("n_pair", c_size_t), ("no_special_tokens", c_bool),
                ("ids_only", c_bool), ("no_truncation", c_bool), ("no_padding", c_bool)]


class EncodingView(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("n", c_size_t), ("ids", POINTER(c_int32)), ("offsets", POINTER(c_uint32)),
                ("words", POINTER(c_int32)), ("types", POINTER(c_uint8)), ("special", POINTER(c_uint8)),
                ("attention", POINTER(c_uint8)), ("overflowing", c_size_t)]


def _load():
    here = os.path.dirname(os.path.abspath(__file__))
    places = [os.path.join(here, "libcuddle.so"), os.path.join(here, "..", "..", "build", "libcuddle.so")]
    chosen = os.environ.get("CUDDLE_LIBRARY") or next((p for p in places if os.path.exists(p)), "libcuddle.so.0")
    try:
        return ctypes.CDLL(chosen)
    except OSError as e:
        raise ImportError(f"libcuddle cannot be loaded ({e}); run `make`, or set CUDDLE_LIBRARY to its file") from None


lib = _load()

_SIGNATURES = {  # name: (result, arguments)
    "errmsg": (c_char_p, []),
    "version": (c_char_p, []),
    "tokenizer_open": (c_int32, [POINTER(c_void_p), c_char_p]),
    "tokenizer_parse": (c_int32, [POINTER(c_void_p), c_char_p, c_size_t, c_char_p]),
    "tokenizer_close": (None, [c_void_p]),
    "tokenizer_vocab": (c_uint32, [c_void_p]),
    "tokenizer_token": (c_void_p, [c_void_p, c_int32, POINTER(c_size_t)]),
    "tokenizer_id": (c_int32, [c_void_p, c_char_p, c_size_t]),
    "tokenizer_is_special": (c_bool, [c_void_p, c_int32]),
    "encoding_new": (c_int32, [POINTER(c_void_p)]),
    "encoding_free": (None, [c_void_p]),
    "tokenizer_encode": (c_int32, [c_void_p, c_void_p, c_char_p, c_size_t, POINTER(EncodeOpts)]),
    "tokenizer_pad": (c_int32, [c_void_p, POINTER(c_void_p), c_size_t]),
    "encoding_look": (None, [c_void_p, POINTER(EncodingView)]),
    "encoding_token": (c_void_p, [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)]),
    "encoding_overflow": (c_void_p, [c_void_p, c_size_t]),
    "tokenizer_decode": (c_int32, [c_void_p, POINTER(c_int32), c_size_t, c_bool, POINTER(c_void_p),
                                   POINTER(c_size_t)]),
    "tokenizer_text_free": (None, [c_void_p]),
}
for _name, (_result, _arguments) in _SIGNATURES.items():
    _function = getattr(lib, "cuddle_" + _name)
    _function.restype, _function.argtypes = _result, _arguments


def check(status):
    if status != 0:
        raise CuddleError(lib.cuddle_errmsg().decode("utf-8", "replace"))


def text_at(pointer, n):
    return ctypes.string_at(pointer, n).decode("utf-8", "replace") if pointer else None


def version():
    return lib.cuddle_version().decode()


__all__ = ["CuddleError", "EncodeOpts", "EncodingView", "byref", "check", "lib", "text_at", "version"]
