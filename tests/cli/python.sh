#!/usr/bin/env bash
# python.sh - the Python module of python/ against reference cases. TAP.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/tools/test_python.py
