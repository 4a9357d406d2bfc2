"""cuddle - Hugging Face's tokenizers, natively: `from cuddle import Tokenizer`.

Names and results are those of the package `tokenizers`. The work is done by libcuddle (see _library.py
for where it is looked for); calls leave the GIL, so threads encode side by side.
"""
import sys as _sys

from . import parts as _parts
from . import trainers
from ._library import CuddleError, version
from .encoding import Encoding
from .parts import AddedToken, Regex, Token
from .tokenizer import DecodeStream, Tokenizer

models, normalizers, pre_tokenizers = _parts.models, _parts.normalizers, _parts.pre_tokenizers
processors, decoders = _parts.processors, _parts.decoders
decoders.DecodeStream = DecodeStream
for _name in ("models", "normalizers", "pre_tokenizers", "processors", "decoders"):
    _sys.modules[f"{__name__}.{_name}"] = getattr(_parts, _name)  # so that `from cuddle.models import BPE` works

__all__ = ["AddedToken", "CuddleError", "DecodeStream", "Encoding", "Regex", "Token", "Tokenizer", "decoders", "models", "normalizers",
           "pre_tokenizers", "processors", "trainers", "version"]
