#!/usr/bin/env bash
# peers.sh [options of peers.py] - brings llama.cpp into .venv and measures cuddle beside it.
# llama.cpp is built from its Python package, with AVX-512 on and AMX off (its AMX code crashes with gcc 12).
# LLAMA_PYTHON: a Python that has the package llama_cpp already.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${LLAMA_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import llama_cpp' 2> /dev/null; then
    [ "$python" = .venv/bin/python ] || { echo "peers: $python has no package llama_cpp" >&2; exit 1; }
    echo "peers: building llama.cpp (about ten minutes)" >&2
    python3 -m venv .venv
    flags="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
    if grep -q avx512_vnni /proc/cpuinfo; then
        flags+=" -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON"
        grep -q avx512_bf16 /proc/cpuinfo && flags+=" -DGGML_AVX512_BF16=ON"
    fi
    CMAKE_ARGS=$flags .venv/bin/pip install -q --no-cache-dir llama-cpp-python==0.3.36 > /dev/null
fi
exec "$python" bench/peers.py "$@"
