#!/usr/bin/env bash
# run_gpu.sh [PATTERN] - the tests of the CUDA kernels and of `--device cuda` on this machine's GPU, then what it measured.
#   PATTERN: only the programs whose path matches it. Where compute-sanitizer is installed, tests of kernels run again
#   under memcheck and racecheck. CUDDLE_CUDA_LIBRARY names another driver (the virtual GPU, to try this script).
# Says "no GPU" and exits 0 where there is none. Ends with "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
pattern=${1:-}
if [ -z "${CUDDLE_CUDA_LIBRARY:-}" ] && ! ls /dev/nvidia[0-9]* > /dev/null 2>&1; then
    echo "no GPU"
    exit 0
fi
export CUDDLE_CUDA_LIBRARY=${CUDDLE_CUDA_LIBRARY:-libcuda.so.1} CMOCKA_MESSAGE_OUTPUT=TAP
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# What they look at only a virtual GPU has: its counters, memory of a chosen size.
virtual_only='test_counters|test_faults'
programs=$(find tests/cuda -name 'test_*.c' | sed 's/\.c$//' | grep -vE "$virtual_only" | grep -E "${pattern:-.}" | sort)

# run NAME COMMAND...: counts TAP lines; a program that ends badly counts as a failure of its own
run() {
    local name=$1 code ok bad start=$SECONDS
    shift
    timeout 1800 "$@" > "$log" 2>&1
    code=$?
    ok=$(grep -cE '^ok\b' "$log")
    bad=$(grep -cE '^not ok\b' "$log")
    [ "$bad" = 0 ] && { [ "$code" != 0 ] || [ "$ok" = 0 ]; } && bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    printf '%-52s %4d passed %3d failed %4d s\n' "$name" "$ok" "$bad" $((SECONDS - start))
    [ "$bad" = 0 ] || grep -vE '^ok\b' "$log" | tail -n 40 | sed 's/^/  /'
}

if ! nice -n 5 make --no-print-directory -j"$(nproc)" all cuda $(for p in $programs; do echo "build/$p"; done) > "$log" 2>&1; then
    tail -n 20 "$log"
    echo "not ok - build"
    exit 1
fi
build/cuddle info --devices
for p in $programs; do
    run "build/$p" "build/$p"
done
if command -v compute-sanitizer > /dev/null; then
    for p in $(printf '%s\n' $programs | grep -E 'kernels|linear|attention|sample'); do
        for tool in memcheck racecheck; do
            run "build/$p, $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "build/$p"
        done
    done
else
    echo "compute-sanitizer is not installed: no memcheck, no racecheck"
fi

# Figures: ops, then a model's nodes and speed.
model=models/SmolLM2-135M-Instruct-Q4_1.gguf
build/cuddle profile --op all --device cuda || failed=$((failed + 1))
if [ -f "$model" ] && [ "$CUDDLE_CUDA_LIBRARY" = libcuda.so.1 ]; then
    build/cuddle profile "$model" --device cuda && build/cuddle bench "$model" --device cuda || failed=$((failed + 1))
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
