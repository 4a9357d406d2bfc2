"""Trainers as the package `tokenizers` has them; the work is cuddle_tokenizer_train.h's."""
import ctypes
import json
import os
import signal
import sys
import threading
from ctypes import byref, c_bool, c_char_p, c_size_t, c_uint64, c_void_p

from ._library import TrainOpts, check, lib
from .parts import AddedToken

_MODELS = {"BPE": 0, "WordPiece": 1, "Unigram": 2, "WordLevel": 3}


_Progress = ctypes.CFUNCTYPE(c_bool, c_void_p, c_char_p, c_uint64, c_uint64)


class _Teller:
    """Tells how far a training is, as the trainer's show_progress and progress_format have it. `with` it, Ctrl-C ends a
    call of the library: a handler of its own notes it, since an exception would not leave the callback."""

    def __init__(self, trainer):
        self.format = getattr(trainer, "progress_format", "indicatif")
        self.shows = self.format == "json" or (self.format == "indicatif" and trainer.show_progress and sys.stderr.isatty())
        self.shown = self.interrupted = self.handles = False
        self.call = _Progress(self.tell)

    def tell(self, _user, what, done, total):
        if self.shows and self.format == "json":
            print(json.dumps({"stage": what.decode(), "current": done, "total": total}), file=sys.stderr)
        elif self.shows:
            print(f"\r{what.decode():<20} {100 * done // max(total, 1):>3} %", end="", file=sys.stderr, flush=True)
            self.shown = True
        return not self.interrupted

    def note(self, *_):
        self.interrupted = True

    def __enter__(self):
        self.handles = (threading.current_thread() is threading.main_thread()
                        and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        if self.handles:
            signal.signal(signal.SIGINT, self.note)

    def __exit__(self, *_):
        if self.handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.shown:
            print("\r" + " " * 26 + "\r", end="", file=sys.stderr, flush=True)
        if self.interrupted:
            raise KeyboardInterrupt


def _tokens(given):
    return [t if isinstance(t, AddedToken) else AddedToken(t, special=True) for t in given]


class _Trainer:
    model = None
    names = {}     # argument: (member of TrainOpts or None, default)

    def __init__(self, **options):
        unknown = set(options) - set(self.names) - {"special_tokens", "show_progress"}
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {', '.join(sorted(unknown))}")
        self.special_tokens = options.get("special_tokens", [])
        self.show_progress = options.get("show_progress", True)
        for name, (_, default) in self.names.items():
            setattr(self, name, options.get(name, default))

    @property
    def special_tokens(self):
        return self._special_tokens

    @special_tokens.setter
    def special_tokens(self, given):
        self._special_tokens = _tokens(given)

    def options(self, config):
        """The library's, for the tokenizer with this tokenizer.json."""
        if config["model"]["type"] != self.model:
            raise TypeError(f"{type(self).__name__} trains {self.model}, not {config['model']['type']}")
        o = TrainOpts(model=_MODELS[self.model], no_byte_alphabet=True, unk_apart=self.model != "Unigram",
                      unk_token=(config["model"].get("unk_token") or "").encode())
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            setattr(o, part, json.dumps(config.get(part)).encode())
        for name, (member, _) in self.names.items():
            value = getattr(self, name)
            if member and value is not None:
                setattr(o, member, value.encode() if isinstance(value, str) else value)
        texts = [t.content.encode() for t in self.special_tokens]
        o.special_tokens = (c_char_p * len(texts))(*texts)
        o.n_special = len(texts)
        o.initial_alphabet = "".join(c[0] for c in getattr(self, "initial_alphabet", [])).encode()
        return o

    def train(self, config, feed):
        """The trained tokenizer.json, as a dict; feed(trainer, teller) gives it the texts."""
        handle, text, n = c_void_p(), c_void_p(), c_size_t()
        options, teller = self.options(config), _Teller(self)
        options.progress = ctypes.cast(teller.call, c_void_p)
        check(lib.cuddle_trainer_new(byref(handle), byref(options)))
        try:
            feed(handle, teller)
            with teller:
                check(lib.cuddle_trainer_train(handle, byref(text), byref(n)))
            learned = json.loads(ctypes.string_at(text, n.value))
        finally:
            lib.cuddle_trainer_free(handle)
        for name in ("continuing_subword_prefix", "end_of_word_suffix"):  # "" is not the same as none
            if getattr(self, name, None) == "" and name in learned["model"]:
                learned["model"][name] = ""
        return learned


_MERGING = {"vocab_size": ("vocab_size", 30000), "min_frequency": ("min_frequency", 0), "limit_alphabet": ("limit_alphabet", None),
            "initial_alphabet": (None, []), "end_of_word_suffix": ("end_suffix", None)}


class BpeTrainer(_Trainer):
    model = "BPE"
    names = dict(_MERGING, continuing_subword_prefix=("continuing_prefix", None), max_token_length=("token_chars_max", None),
                 progress_format=(None, "indicatif"))


class WordPieceTrainer(_Trainer):
    model = "WordPiece"
    names = dict(_MERGING, continuing_subword_prefix=("continuing_prefix", "##"))


class WordLevelTrainer(_Trainer):
    model = "WordLevel"
    names = {"vocab_size": ("vocab_size", 30000), "min_frequency": ("min_frequency", 0)}


class UnigramTrainer(_Trainer):
    model = "Unigram"
    names = {"vocab_size": ("vocab_size", 8000), "initial_alphabet": (None, []), "shrinking_factor": ("shrinking_factor", 0.75),
             "unk_token": ("unk_token", None), "max_piece_length": ("piece_chars_max", 16), "n_sub_iterations": ("em_steps", 2),
             "seed_size": ("seed_size", 1000000)}


def feed_files(files):
    def feed(handle, teller):
        for path in files:
            with teller:
                check(lib.cuddle_trainer_feed_file(handle, os.fsencode(path)))
    return feed


def feed_iterator(iterator):
    def feed(handle, _):
        for item in iterator:
            for text in [item] if isinstance(item, str) else item:
                data = text.encode("utf-8")
                check(lib.cuddle_trainer_feed(handle, data, len(data)))
    return feed
