"""Makes tests/golden/dtype.safetensors: what ggml's own code gives for every block type.

    pip install gguf llama-cpp-python safetensors numpy; python3 tests/golden/make_dtype.py

T.bytes, T.values: random blocks and their values (gguf-py's dequantize).
x: weights as models have them; T.rms: relative RMS error of llama.cpp's quantiser on them.
"""
import ctypes
import glob
import os

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import save_file

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
READ_ONLY = {"IQ4_XS", "MXFP4"}
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}

lib = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))[0])
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

rng = np.random.default_rng(7)
x = (rng.standard_t(5, (8, 512)) * 0.02 + rng.standard_normal((8, 1)) * 0.01).astype(np.float32)
out = {"x": x}
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (4, size), dtype=np.uint8)
    for at in HALVES[name]:
        raw[:, at:at + 2] = rng.standard_normal(4).astype(np.float16).view(np.uint8).reshape(4, 2)
    if name == "MXFP4":
        raw[:, 0] = [0, 1, 120, 130]
    out[name.lower() + ".bytes"] = raw
    out[name.lower() + ".values"] = gguf.dequantize(raw, kind).astype(np.float32)
    if name not in READ_ONLY:
        q = np.zeros(x.size // block * size, np.uint8)
        assert lib.ggml_quantize_chunk(int(kind), x.ctypes.data, q.ctypes.data, 0, x.shape[0], x.shape[1], None) == q.size
        y = gguf.dequantize(q.reshape(-1, size), kind).reshape(x.shape)
        rms = np.sqrt(((y - x) ** 2).mean() / (x ** 2).mean())
        out[name.lower() + ".rms"] = np.array([rms], np.float32)
        print(name, rms)
save_file(out, os.path.join(os.path.dirname(__file__), "dtype.safetensors"),
          {"gguf": "0.19.0", "llama_cpp": llama_cpp.__version__, "numpy": np.__version__, "made_by": "tests/golden/make_dtype.py"})
