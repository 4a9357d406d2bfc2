#!/usr/bin/env bash
# tokenizer_peers.sh [options of tokenizer_peers.py] - brings the peers into .venv-tokenizers and measures cuddle beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv-tokenizers/bin/python
if [ ! -x "$python" ]; then
    python3 -m venv .venv-tokenizers
    .venv-tokenizers/bin/pip install -q --disable-pip-version-check tokenizers==0.23.3 numpy >&2
    for peer in tiktoken tokie fastokens gigatoken transformers bpe-qwen; do # bpe-qwen imports transformers
        # who cannot be installed is named in the table
        .venv-tokenizers/bin/pip install -q --disable-pip-version-check "$peer" >&2 || echo "tokenizers: no $peer" >&2
    done
fi
exec "$python" bench/tokenizer_peers.py "$@"
