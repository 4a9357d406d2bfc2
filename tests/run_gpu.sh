#!/usr/bin/env bash
# run_gpu.sh [PATTERN] - the tests of the CUDA kernels and of `--device cuda` on this machine's GPU, then what it measured.
#   PATTERN: only the programs whose path matches it, and no figures. Where compute-sanitizer is installed, tests of
#   kernels run again under memcheck and racecheck. All that the programs print is kept in build/test-gpu.log.
# CUDDLE_CUDA_LIBRARY names another driver (the virtual GPU, to try this script: it takes no times).
# Says "no GPU" and exits 0 where there is none. Ends with "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
pattern=${1:-}
if [ -z "${CUDDLE_CUDA_LIBRARY:-}" ] && ! ls /dev/nvidia[0-9]* > /dev/null 2>&1; then
    echo "no GPU"
    exit 0
fi
export CUDDLE_CUDA_LIBRARY=${CUDDLE_CUDA_LIBRARY:-libcuda.so.1} CMOCKA_MESSAGE_OUTPUT=TAP CUDDLE_DEVICE=cpu # GPUs where tests name them
all=build/test-gpu.log
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# What they look at only a virtual GPU has: its counters, memory of a chosen size.
virtual_only='test_counters|test_faults'
programs=$(find tests/cuda -name 'test_*.c' | sed 's/\.c$//' | grep -vE "$virtual_only" | grep -E "${pattern:-.}" | sort)

# The greatest error of a program, in % of its bound.
worst() { grep 'of the bound' "$log" | grep -oE '[0-9]+ %' | sort -n | tail -n 1 | sed 's/.*/   errors up to & of their bounds/'; }

# run NAME COMMAND...: counts TAP lines; a program that ends badly counts as a failure of its own
run() {
    local name=$1 code ok bad start=$SECONDS
    shift
    timeout 1800 "$@" > "$log" 2>&1
    code=$?
    { echo "== $name"; cat "$log"; } >> "$all"
    ok=$(grep -cE '^ok\b' "$log")
    bad=$(grep -cE '^not ok\b' "$log")
    [ "$bad" = 0 ] && { [ "$code" != 0 ] || [ "$ok" = 0 ]; } && bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    printf '%-52s %4d passed %3d failed %4d s%s\n' "$name" "$ok" "$bad" $((SECONDS - start)) "$(worst)"
    [ "$bad" = 0 ] || grep -vE '^ok\b' "$log" | tail -n 40 | sed 's/^/  /'
}

# figures COMMAND...: what it prints is a figure; shown and kept
figures() {
    { echo "== $*"; timeout 1800 "$@" 2>&1; } | tee -a "$all" || failed=$((failed + 1))
}

if ! nice -n 5 make --no-print-directory -j"$(nproc)" all cuda $(for p in $programs; do echo "build/$p"; done) > "$log" 2>&1; then
    tail -n 20 "$log"
    echo "not ok - build"
    exit 1
fi
: > "$all"
devices=$(build/cuddle info --devices)
echo "$devices" | tee -a "$all"
[[ $devices == *cuda:0* ]] || { echo "not ok - the driver shows no GPU"; exit 1; }
tools/models.sh || failed=$((failed + 1))
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

if [ -z "$pattern" ]; then
    figures build/cuddle profile --op all --device cuda
    for model in models/SmolLM2-135M-Instruct-Q4_1.gguf models/gemma-3-270m-Q4_K_M.gguf; do
        [[ $devices == *"virtual GPU"* ]] && continue
        figures build/cuddle profile "$model" --device cuda
        figures build/cuddle bench "$model" --device cuda
    done
fi
printf '%d passed, %d failed; all that was printed: %s\n' "$passed" "$failed" "$all"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
