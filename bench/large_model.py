#!/usr/bin/env python3
"""large_model.py OUT.gguf [SIZE] - a llama with random Q4_K weights, to measure reading weights from memory.

SIZE: 1b (default: 1 GB) or 8b (Llama 3 8B's layers: 4 GB). The tokenizer comes from SmolLM2's file ($SOURCE names
another; its first 4 MB are enough), so that every runtime loads it. Its text means nothing.
"""
import os
import struct
import sys

SOURCE = os.environ.get("SOURCE", "models/SmolLM2-135M-Instruct-Q4_1.gguf")
SIZES = {"1b": (2048, 8192, 28, 32, 8), "8b": (4096, 14336, 32, 32, 8)}
HIDDEN, FFN, LAYERS, HEADS, KV_HEADS = SIZES[sys.argv[2] if len(sys.argv) > 2 else "1b"]
F32, Q4_K, Q6_K = 0, 12, 14
ALIGN = 32
SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_string(f):
    return f.read(struct.unpack("<Q", f.read(8))[0])


def skip_value(f, kind):
    if kind == 8:
        read_string(f)
    elif kind == 9:
        inner, n = struct.unpack("<IQ", f.read(12))
        for _ in range(n):
            skip_value(f, inner)
    else:
        f.read(struct.calcsize(SCALAR[kind]))


def metadata(path):
    """(key, bytes of type and value) of each entry, and the vocabulary's size."""
    with open(path, "rb") as f:
        _, _, _, count = struct.unpack("<4sIQQ", f.read(24))
        entries = []
        for _ in range(count):
            key, start = read_string(f), f.tell()
            kind, = struct.unpack("<I", f.read(4))
            skip_value(f, kind)
            end = f.tell()
            f.seek(start)
            entries.append((key.decode(), f.read(end - start)))
        return entries


def u32(value):
    return struct.pack("<II", 4, value)


def tensors(vocab):
    yield "token_embd.weight", (HIDDEN, vocab), Q6_K
    yield "output_norm.weight", (HIDDEN,), F32
    for i in range(LAYERS):
        yield f"blk.{i}.attn_norm.weight", (HIDDEN,), F32
        yield f"blk.{i}.ffn_norm.weight", (HIDDEN,), F32
        for name, shape in (("attn_q", (HIDDEN, HIDDEN)), ("attn_k", (HIDDEN, HIDDEN // HEADS * KV_HEADS)),
                            ("attn_v", (HIDDEN, HIDDEN // HEADS * KV_HEADS)), ("attn_output", (HIDDEN, HIDDEN)),
                            ("ffn_gate", (HIDDEN, FFN)), ("ffn_up", (HIDDEN, FFN)), ("ffn_down", (FFN, HIDDEN))):
            yield f"blk.{i}.{name}.weight", shape, Q4_K


def pattern(kind):
    """4096 well-formed blocks with small weights."""
    if kind == F32:
        return struct.pack("<f", 1.0) * 4096
    d, dmin = struct.pack("<e", 2e-4), struct.pack("<e", 1e-3)
    if kind == Q4_K:
        return b"".join(d + dmin + os.urandom(140) for _ in range(4096))
    return b"".join(os.urandom(208) + struct.pack("<e", 2e-5) for _ in range(4096))


def size_of(shape, kind):
    n = 1
    for s in shape:
        n *= s
    return {F32: n * 4, Q4_K: n // 256 * 144, Q6_K: n // 256 * 210}[kind]


def main():
    out = sys.argv[1]
    entries = metadata(SOURCE)
    vocab = next(struct.unpack("<Q", v[8:16])[0] for k, v in entries if k == "tokenizer.ggml.tokens")
    ours = {"llama.embedding_length": u32(HIDDEN), "llama.feed_forward_length": u32(FFN),
            "llama.block_count": u32(LAYERS), "llama.attention.head_count": u32(HEADS),
            "llama.attention.head_count_kv": u32(KV_HEADS), "llama.rope.dimension_count": u32(HIDDEN // HEADS),
            "llama.attention.key_length": u32(HIDDEN // HEADS), "llama.attention.value_length": u32(HIDDEN // HEADS)}
    entries = [(k, ours.get(k, v)) for k, v in entries]
    listed = list(tensors(vocab))
    with open(out + ".tmp", "wb") as f:
        f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(listed), len(entries)))
        for key, value in entries:
            f.write(struct.pack("<Q", len(key)) + key.encode() + value)
        offset = 0
        for name, shape, kind in listed:
            f.write(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape)))
            f.write(struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset))
            offset += (size_of(shape, kind) + ALIGN - 1) // ALIGN * ALIGN
        f.write(b"\0" * (-f.tell() % ALIGN))
        patterns = {kind: pattern(kind) for kind in (F32, Q4_K, Q6_K)}
        for _, shape, kind in listed:
            size, block = size_of(shape, kind), patterns[kind]
            f.write(block * (size // len(block)) + block[:size % len(block)] + b"\0" * (-size % ALIGN))
    os.replace(out + ".tmp", out)


if __name__ == "__main__":
    main()
