#!/usr/bin/env bash
# python.sh - the Python module of python/ against reference cases and the package tokenizers. TAP.
cd "$(dirname "$0")/../.." || exit 1
folder=$(tests/packages.sh) || exit 1
PYTHONPATH=$folder exec python3 tests/tools/test_python.py
