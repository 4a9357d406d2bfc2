#!/usr/bin/env python3
"""The Python module against reference cases (CUDDLE_REFS, else tests/golden), and against the package
`tokenizers` where it is installed. TAP; needs the standard library only, numpy's part is skipped without it."""
import json
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "python"))
import cuddle  # noqa: E402
from cuddle import CuddleError, Tokenizer  # noqa: E402

REFS = os.path.join(os.environ.get("CUDDLE_REFS") or os.path.join(ROOT, "tests", "golden"), "tokenizers")
CORPUS = os.path.join(ROOT, "tests", "golden", "train", "corpus.txt")
FIELDS = {"ids": "ids", "tokens": "tokens", "offsets": "offsets", "type_ids": "type_ids", "word_ids": "word_ids",
          "attention_mask": "attention_mask", "special_mask": "special_tokens_mask"}
failures = []
opened = {}


def rows(kind):
    with open(os.path.join(REFS, kind + ".jsonl"), encoding="utf-8") as f:
        return [r for r in map(json.loads, f) if not r["tokenizer"].startswith("real:")]


def tokenizer(name):
    if name not in opened:
        opened[name] = Tokenizer.from_file(os.path.join(REFS, "files", name + ".json"))
    return opened[name]


def same(encoding, want):
    got = {k: getattr(encoding, v) for k, v in FIELDS.items() if k in want}
    got["offsets"] = [list(x) for x in got["offsets"]] if "offsets" in got else None
    return all(got[k] == want[k] for k in FIELDS if k in want)


def encode_row(t, r):
    try:
        return t.encode(r["text"], r.get("pair"), add_special_tokens=r["add_special_tokens"])
    except (CuddleError, UnicodeEncodeError):
        return None


def test_encode():
    bad, n = 0, 0
    for r in rows("cases"):
        t, n = tokenizer(r["tokenizer"]), n + 1
        e = encode_row(t, r)
        if e is None or "error" in r:
            bad += (e is not None) or "error" not in r
            continue
        ok = same(e, r) and len(e.overflowing) == r.get("n_overflowing", len(e.overflowing))
        if r.get("decoded") is not None:
            ok = ok and t.decode(e.ids, skip_special_tokens=False) == r["decoded"]
        bad += not ok
    assert n and not bad, f"{bad} of {n} cases differ"


def test_decode():
    cases = [r for r in rows("decode") if r.get("decoded") is not None]
    bad = sum(tokenizer(r["tokenizer"]).decode(r["ids"], skip_special_tokens=False) != r["decoded"] for r in cases)
    assert cases and not bad, f"{bad} of {len(cases)} differ"


def test_batch():
    n = 0
    for r in rows("batch"):
        if "encodings" not in r:
            continue
        t, n = tokenizer(r["tokenizer"]), n + 1
        got = t.encode_batch(r["inputs"], add_special_tokens=r["add_special_tokens"])
        fast = t.encode_batch_fast(r["inputs"], add_special_tokens=r["add_special_tokens"])
        assert len(got) == len(r["encodings"])
        assert all(same(e, w) for e, w in zip(got, r["encodings"])), r["tokenizer"]
        assert [e.ids for e in got] == [e.ids for e in fast], r["tokenizer"]
    assert n


def some():
    return tokenizer(rows("cases")[0]["tokenizer"])


def test_vocabulary():
    t = some()
    vocab = t.get_vocab()
    assert vocab and len(vocab) == t.get_vocab_size()
    assert all(t.token_to_id(k) == v for k, v in vocab.items())
    assert t.token_to_id("no such token, ever") is None and t.id_to_token(1 << 30) is None
    assert t.id_to_token(-1) is None


def test_errors():
    for make in (lambda: Tokenizer.from_file("/no/such.json"), lambda: Tokenizer.from_str("{"),
                 lambda: Tokenizer.from_pretrained("no/such"), lambda: some().encode_batch_fast(["ab"])[0].offsets):
        try:
            make()
        except CuddleError as e:
            assert str(e)
        else:
            raise AssertionError("no error")
    try:
        some().encode(7)
    except TypeError:
        return
    raise AssertionError("a number was taken for a text")


def test_array():
    try:
        import numpy
    except ImportError:
        return "numpy is not installed"
    e = some().encode("hello world")
    ids, array = e.ids, e.ids_array
    assert array.dtype == numpy.int32 and array.tolist() == ids
    assert numpy.shares_memory(array, e.ids_array)
    del e
    junk = [some().encode("other text") for _ in range(50)]
    assert array.tolist() == ids and junk
    texts = ["hello world", "", "na\u00efve caf\u00e9 \U0001f44d"] * 30
    flat, offsets = some().encode_batch_flat(texts, add_special_tokens=False)
    rows = [some().encode(x, add_special_tokens=False).ids for x in texts]
    assert [flat[a:b].tolist() for a, b in zip(offsets, offsets[1:])] == rows
    flat, junk = flat[1:], [some().encode_batch_flat(["other text"] * 9) for _ in range(50)]
    assert flat.tolist() == sum(rows, [])[1:] and not flat.flags.writeable and junk
    for bad in (1, "\ud800"):
        try:
            some().encode_batch_flat([bad])
        except (TypeError, UnicodeEncodeError):
            continue
        raise AssertionError("no error")
    return None


def test_peer():
    try:
        import tokenizers
    except ImportError:
        return "tokenizers is not installed"
    texts = ["", "Hello, world!", "  caf\u00e9 \U0001f600\n\nx1 ", "\u4f60\u597d a  b"]
    for name in sorted({r["tokenizer"] for r in rows("cases")}):
        path = os.path.join(REFS, "files", name + ".json")
        try:
            peer = tokenizers.Tokenizer.from_file(path)
        except Exception:
            continue
        mine = tokenizer(name)
        vocab = peer.get_vocab()
        assert all(mine.token_to_id(k) == v for k, v in vocab.items()), name
        assert mine.get_vocab() == {peer.id_to_token(i): i for i in vocab.values()}, name
        assert mine.get_vocab_size() == peer.get_vocab_size(), name
        for text in texts:
            try:
                want = peer.encode(text)
            except BaseException:
                continue
            got = mine.encode(text)
            for field in FIELDS.values():
                assert getattr(got, field) == getattr(want, field), (name, text, field)
    return None


def view(e):
    return {k: getattr(e, k) for k in (*FIELDS.values(), "sequence_ids", "n_sequences")}


def small_bpe(m):
    """A tokenizer made and trained through the module m."""
    t = m.Tokenizer(m.models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = m.pre_tokenizers.Whitespace()
    t.normalizer = m.normalizers.Sequence([m.normalizers.NFD(), m.normalizers.StripAccents()])
    t.train([CORPUS], m.trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "[CLS]", "[SEP]", "[PAD]"],
                                            show_progress=False))
    t.post_processor = m.processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
                                                       special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return t


def pretokenized(m):
    t = small_bpe(m)
    return ([view(t.encode(["slow", "jumpest new"], ["banana"], is_pretokenized=True))]
            + [view(e) for e in t.encode_batch([["a", "b"], ["slow new"]], is_pretokenized=True)]
            + [view(e) for e in t.encode_batch([(["a", "b"], ["slow new"])], is_pretokenized=True)])


def places(m):
    e = small_bpe(m).encode("slow jumpest new", "banana")
    by_two = [[f(i, s) for i in range(17) for s in (0, 1)]
              for f in (e.char_to_token, e.char_to_word, e.word_to_tokens, e.word_to_chars)]
    return by_two, [[f(i) for i in range(len(e))] for f in (e.token_to_chars, e.token_to_word, e.token_to_sequence)]


def cutting(m):
    t = small_bpe(m)
    t.enable_truncation(6, stride=1)
    t.enable_padding(length=8, pad_id=3, pad_token="[PAD]", direction="left")
    e = t.encode("slow jumpest new banana")
    out = [view(e), [view(x) for x in e.overflowing], t.truncation, t.padding, t.num_special_tokens_to_add(False),
           t.num_special_tokens_to_add(True)]
    t.no_truncation()
    t.no_padding()
    return out + [t.truncation, t.padding, view(t.encode("slow jumpest new banana"))]


def padding_batches(m):
    t = small_bpe(m)
    t.enable_padding(pad_id=3, pad_to_multiple_of=4)
    return ([view(e) for e in t.encode_batch(["slow", ("new", "jump jump jump")])],
            [e.ids for e in t.encode_batch_fast(["slow", "a b c"])])


def adding(m):
    t = small_bpe(m)
    n = t.add_tokens(["foo", m.AddedToken("bar", single_word=True), "foo"]), t.add_special_tokens(["<x>"])
    ids = t.encode("foo xbar bar<x>").ids
    return (n, ids, t.get_vocab_size(), t.get_vocab_size(False), t.decode(ids), t.decode(ids, skip_special_tokens=False),
            {k: str(v) for k, v in t.get_added_tokens_decoder().items()}, sorted(t.get_vocab().items()))


def changing(m):
    t = small_bpe(m)
    e = t.encode("slow jumpest")
    e.pad(9, pad_id=3, pad_type_id=1, pad_token="P", direction="left")
    f = t.encode("slow jumpest new banana")
    f.truncate(4, stride=1)
    return e.ids, e.offsets, e.attention_mask, e.tokens, f.ids, [x.ids for x in f.overflowing]


def saving(m):
    t = small_bpe(m)
    t.enable_truncation(5)
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "tokenizer.json")
        t.save(path)
        ids = m.Tokenizer.from_file(path).encode("slow new jump").ids
    s = json.loads(t.to_str())
    return [s[k] for k in ("truncation", "added_tokens", "normalizer", "post_processor", "pre_tokenizer")], ids


def other_trainers(m):
    word = m.Tokenizer(m.models.WordLevel(unk_token="<unk>"))
    word.pre_tokenizer = m.pre_tokenizers.Whitespace()
    word.train_from_iterator([["a b c", "a b"], "a"], m.trainers.WordLevelTrainer(special_tokens=["<unk>"],
                                                                                 show_progress=False))
    piece = m.Tokenizer(m.models.Unigram())
    piece.pre_tokenizer = m.pre_tokenizers.Whitespace()
    piece.train([CORPUS], m.trainers.UnigramTrainer(vocab_size=80, unk_token="<unk>", special_tokens=["<s>"],
                                                    show_progress=False))
    return word.get_vocab(), word.encode("a x c").ids, sorted(piece.get_vocab()), piece.encode("slow new").tokens


def trainer_options(m):
    """Every option of every trainer, and what a trained file holds."""
    out = []
    for kind, options in (("Bpe", {"limit_alphabet": 25, "max_token_length": 5, "initial_alphabet": ["Q", "\u00e9"],
                                   "continuing_subword_prefix": "", "progress_format": "silent"}),
                          ("WordPiece", {"limit_alphabet": 200, "initial_alphabet": ["Q"], "vocab_size": 60}),
                          ("WordLevel", {}),
                          ("Unigram", {"initial_alphabet": ["Q"], "shrinking_factor": 0.6, "unk_token": "<u>",
                                       "max_piece_length": 1, "n_sub_iterations": 1})):
        if "min_frequency" in dir(getattr(m.trainers, kind + "Trainer")()):
            options["min_frequency"] = 2
        trainer = getattr(m.trainers, kind + "Trainer")(show_progress=False, **{"vocab_size": 150, **options})
        trainer.special_tokens = ["<s>", m.AddedToken("<mask>", lstrip=True), m.AddedToken("<n>", normalized=True)]
        readable = set(options) - {"max_piece_length", "n_sub_iterations", "shrinking_factor", "unk_token"}
        out.append([sorted(v) if isinstance(v, list) else v for v in (getattr(trainer, name) for name in sorted(readable))])
        model = {"Bpe": "BPE"}.get(kind, kind)
        t = m.Tokenizer(m.models.Unigram(byte_fallback=True) if kind == "Unigram" else getattr(m.models, model)(unk_token="<s>"))
        t.pre_tokenizer = m.pre_tokenizers.Whitespace()
        t.train([CORPUS], trainer)
        config = json.loads(t.to_str())
        if kind == "Unigram":  # the characters' order is a hash table's, and so are the last bits
            config["model"]["vocab"] = sorted((p, round(s, 6)) for p, s in config["model"]["vocab"])
        if kind == "WordPiece":  # so are the ids of characters inside words
            config["model"]["vocab"] = sorted(config["model"]["vocab"])
        out.append(config["model"])
        out.append(config["added_tokens"])
        out.append(t.encode("a <mask>slow <n> new").tokens)
    return out


def streaming(m):
    t = m.Tokenizer(m.models.BPE())
    t.pre_tokenizer, t.decoder = m.pre_tokenizers.ByteLevel(add_prefix_space=False), m.decoders.ByteLevel()
    t.train([CORPUS], m.trainers.BpeTrainer(vocab_size=300, initial_alphabet=m.pre_tokenizers.ByteLevel.alphabet(),
                                            show_progress=False))
    s, ids = m.decoders.DecodeStream(skip_special_tokens=False), t.encode("na\u00efve \u6771\u4eac x").ids
    return [s.step(t, i) for i in ids], t.decode_batch([ids, ids[:2]])


PART_TEXTS = ["", " ", "Hey friend!  caf\u00e9 12,5", "\u00c0\ufb01n\n\u4f60\u597d", "a_b-c  \u2581d", "\U0001f468\u200d\U0001f469 x"]


def parts_alone(m):
    n, p, d = m.normalizers, m.pre_tokenizers, m.decoders
    norms = [n.NFKD(), n.Lowercase(), n.BertNormalizer(), n.Strip(), n.StripAccents(), n.Prepend("_"), n.ByteLevel(), n.Nmt(),
             n.Replace(m.Regex("[a-e]+"), "<>"), n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase()])]
    pres = [p.Whitespace(), p.WhitespaceSplit(), p.ByteLevel(), p.Metaspace(), p.BertPreTokenizer(), p.Digits(True),
            p.Punctuation("contiguous"), p.Split(m.Regex("\\w+|[^\\w\\s]+"), "isolated"), p.CharDelimiterSplit("e"),
            p.UnicodeScripts(), p.Split("e", "merged_with_next", invert=True), p.FixedLength(3),
            p.Sequence([p.Whitespace(), p.Punctuation()])]
    tokens = [["He", "##llo", ",", "w</w>", "\u2581x", "\u0120y"], [], ["<0xE2>", "<0x82>", "<0xAC>", "<pad>", "a", "a", "|"]]
    decs = [d.WordPiece(), d.ByteLevel(), d.Metaspace(), d.BPEDecoder(), d.CTC(), d.Fuse(), d.ByteFallback(), d.Strip("H", 1, 0),
            d.Replace("\u2581", " "), d.Sequence([d.ByteFallback(), d.Fuse()])]
    return ([[x.normalize_str(t) for t in PART_TEXTS] for x in norms], [[x.pre_tokenize_str(t) for t in PART_TEXTS] for x in pres],
            [[x.decode(t) for t in tokens] for x in decs])


def processing(m):
    def look(e):  # the library takes a text's sequence for the pair's when both were encoded alone
        return {k: v for k, v in view(e).items() if k not in ("sequence_ids", "n_sequences")}

    t = small_bpe(m)
    plain = t.encode("slow jumpest", add_special_tokens=False), t.encode("new banana", add_special_tokens=False)
    out = [look(t.post_process(plain[0])), look(t.post_process(*plain)), look(t.post_process(*plain, add_special_tokens=False))]
    for x in (m.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1)), m.processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1)),
              m.processors.ByteLevel(trim_offsets=True), t.post_processor):
        out += [look(x.process(plain[0])), look(x.process(*plain)), x.num_special_tokens_to_add(False),
                x.num_special_tokens_to_add(True)]
    t.enable_truncation(5)
    t.enable_padding(length=9)
    return out, look(t.post_process(*plain))


def model_calls(m):
    t = small_bpe(m)
    model = t.model
    out = [[x.as_tuple() for x in model.tokenize("jumpest")], model.token_to_id("[CLS]"), model.id_to_token(5), model.unk_token,
           model.fuse_unk, model.dropout]
    with tempfile.TemporaryDirectory() as d:
        for x in (model, m.models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}), m.models.WordLevel({"<unk>": 0, "b": 1}, unk_token="<unk>")):
            files = x.save(d, "x")
            out.append([(os.path.basename(f), open(f, encoding="utf-8").read()) for f in files])
    return out, t.encode("slow").ids


def attributes(m):
    t = small_bpe(m)
    t.pre_tokenizer = m.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.normalizer = m.normalizers.Prepend("x")
    before = t.pre_tokenizer.add_prefix_space, t.pre_tokenizer.trim_offsets, t.normalizer.prepend
    t.pre_tokenizer.add_prefix_space = True
    t.normalizer.prepend = "y"
    split = m.pre_tokenizers.Punctuation("merged_with_next").behavior, m.pre_tokenizers.Metaspace().prepend_scheme
    kinds = [type(x).__name__ for x in (t.pre_tokenizer, t.normalizer, t.post_processor, t.model)]
    return before, t.pre_tokenizer.add_prefix_space, t.normalizer.normalize_str("a"), t.encode("slow").offsets, split, kinds


def special_text(m):
    t = small_bpe(m)
    out = [t.encode("slow[SEP]new").ids, t.encode_special_tokens]
    t.encode_special_tokens = True
    t.add_tokens(["foo"])
    return out, t.encode("slow[SEP]new foo").ids, t.encode_special_tokens


def test_dropout():
    try:
        import tokenizers
    except ImportError:
        return "tokenizers is not installed"
    means = []
    for m in (tokenizers, cuddle):
        t = small_bpe(m)
        t.model.dropout = 0.3
        means.append(sum(len(t.encode("slow jumpest new banana").ids) for _ in range(4000)) / 4000)
    assert abs(means[0] - means[1]) < 0.25, means  # 0.056 a standard deviation
    t.set_dropout_seed(5)
    first = [t.encode("slow jumpest new banana").ids for _ in range(20)]
    t.set_dropout_seed(5)
    assert first == [t.encode("slow jumpest new banana").ids for _ in range(20)] and len({tuple(x) for x in first}) > 1
    return None


def trained(model, pre, options):
    t = cuddle.Tokenizer(getattr(cuddle.models, model)(**({} if model == "Unigram" else {"unk_token": "<u>"})))
    t.pre_tokenizer = getattr(cuddle.pre_tokenizers, pre)()
    kind = getattr(cuddle.trainers, model.replace("BPE", "Bpe") + "Trainer")
    t.train([CORPUS], kind(vocab_size=290, special_tokens=["<u>", cuddle.AddedToken("<m>", lstrip=True)], show_progress=False,
                           **options))
    return t


def test_trained_files():
    """What cuddle trained, the library loads and encodes alike."""
    try:
        import tokenizers
    except ImportError:
        return "tokenizers is not installed"
    with open(CORPUS, encoding="utf-8") as f:
        texts = [line for line in f] + ["", "slow<m> new \u4f60 \0", "<u>  naive"]
    for model, pre, options in (("BPE", "ByteLevel", {}), ("BPE", "Metaspace", {"max_token_length": 6}),
                                ("BPE", "Whitespace", {"end_of_word_suffix": "</w>", "continuing_subword_prefix": "@@"}),
                                ("WordPiece", "BertPreTokenizer", {"min_frequency": 2}),
                                ("WordPiece", "Whitespace", {"continuing_subword_prefix": "__"}),
                                ("WordLevel", "Whitespace", {}), ("WordLevel", "ByteLevel", {}),
                                ("Unigram", "Metaspace", {"unk_token": "<u>"}), ("Unigram", "ByteLevel", {"unk_token": "<u>"})):
        t = trained(model, pre, options)
        peer = tokenizers.Tokenizer.from_str(t.to_str())
        assert peer.get_vocab() == t.get_vocab(), (model, pre)
        for text in texts:
            want, got = peer.encode(text), t.encode(text)
            for field in FIELDS.values():
                assert getattr(got, field) == getattr(want, field), (model, pre, text, field)
    return None


def test_same_calls():
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError:
        return "tokenizers is not installed"
    for f in (pretokenized, places, cutting, padding_batches, adding, changing, saving, other_trainers, trainer_options,
              streaming, parts_alone, processing, model_calls, attributes, special_text):
        want, got = f(tokenizers), f(cuddle)
        assert want == got, f"{f.__name__}\n# want {want}\n# got  {got}"
    return None


for function in (test_encode, test_decode, test_batch, test_vocabulary, test_errors, test_array, test_peer, test_dropout,
                 test_trained_files, test_same_calls):
    label = "python: " + function.__name__[5:]
    try:
        skip = function()
        print(f"ok - {label}" + (f" # SKIP {skip}" if skip else ""))
    except Exception as e:
        failures.append(label)
        print(f"not ok - {label}\n# {type(e).__name__}: {e}")
sys.exit(bool(failures))
