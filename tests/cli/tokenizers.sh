#!/usr/bin/env bash
# tokenizers.sh - random tokenizers x random texts against the package tokenizers, for a minute. TAP.
#   TOKENIZERS_SECONDS: another time; TOKENIZERS_SEED: other ones (1)
cd "$(dirname "$0")/../.." || exit 1
folder=$(tests/packages.sh) || exit 1
# the library reports its own panics, which count for nothing here, on stderr
PYTHONPATH=$folder python3 tests/tools/fuzz_tokenizers.py --seconds "${TOKENIZERS_SECONDS:-60}" \
    --seed "${TOKENIZERS_SEED:-1}" --keep build/fuzz/found/tokenizers 2> build/tokenizers.log
code=$?
[ $code = 0 ] || grep -v -e panicked -e RUST_BACKTRACE build/tokenizers.log | tail -n 5
exit $code
