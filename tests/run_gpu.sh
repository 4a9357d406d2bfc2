#!/usr/bin/env bash
# run_gpu.sh - the tests that need a GPU. There is no CUDA backend yet.
set -eu
if ! ls /dev/nvidia[0-9]* > /dev/null 2>&1; then
    echo "no GPU"
    exit 0
fi
echo "there is a GPU, but cuddle has no CUDA backend yet" >&2
exit 1
