"""cuddle - Hugging Face's tokenizers, natively: `from cuddle import Tokenizer`.

Names and results are those of the package `tokenizers`. The work is done by libcuddle (see _library.py
for where it is looked for); calls leave the GIL, so threads encode side by side.
"""
from ._library import CuddleError, version
from .tokenizer import Encoding, Tokenizer

__all__ = ["CuddleError", "Encoding", "Tokenizer", "version"]
