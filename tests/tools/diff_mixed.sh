#!/usr/bin/env bash
# diff_mixed.sh [options of diff_mixed.py] - brings the packages it compares with into .venv-tokenizers and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv-tokenizers/bin/python
[ -x "$python" ] || python3 -m venv .venv-tokenizers
"$python" -c 'import sentencepiece, tokenizers' 2> /dev/null \
    || "$python" -m pip install -q --disable-pip-version-check tokenizers==0.23.3 numpy sentencepiece >&2
# the library reports its own panics, which count for nothing here, on stderr
exec "$python" tests/tools/diff_mixed.py "$@" 2> build/diff-tokenizers.log
