#!/usr/bin/env bash
# run.sh [PATTERN] - builds and runs every test that needs no GPU; ends with "N passed, N failed".
#   PATTERN: only the programs whose path matches it (a regular expression), without sanitizers and fuzzers.
# Programs print TAP ("ok ...", "not ok ..."); one that ends badly counts as a failure of its own.
# Reference data: CUDDLE_REFS, else the cases in tests/golden.
set -uo pipefail
cd "$(dirname "$0")/.."
pattern=${1:-}
jobs=$(nproc)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
export CMOCKA_MESSAGE_OUTPUT=TAP CUDDLE_DEVICE=cpu # GPUs where tests name them

finish() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

# build WHAT...: a failed build is a failed test
build() {
    nice -n 5 make --no-print-directory -j"$jobs" "$@" > "$log" 2>&1 && return 0
    grep -E 'error|warning|Error|undefined' "$log" | head -20
    printf 'not ok - build: make %s\n' "$*"
    failed=$((failed + 1))
    return 1
}

# run NAME COMMAND...: counts the lines of a program
run() {
    local name=$1 code ok bad start=$SECONDS
    shift
    timeout 900 "$@" > "$log" 2>&1
    code=$?
    ok=$(grep -cE '^ok\b' "$log")
    bad=$(grep -cE '^not ok\b' "$log")
    [ "$code" != 0 ] && [ "$bad" = 0 ] && bad=1
    if [ "$code" = 0 ] && [ $((ok + bad)) = 0 ]; then bad=1; fi
    passed=$((passed + ok)) failed=$((failed + bad))
    printf '%-52s %4d passed %3d failed %4d s\n' "$name" "$ok" "$bad" $((SECONDS - start))
    if [ "$bad" != 0 ]; then
        printf '  exit code %d\n' "$code"
        grep -vE '^ok\b' "$log" | tail -n 40 | sed 's/^/  /'
    fi
}

# suite PREFIX: programs under tests/ as built in a configuration
suite() {
    local prefix=$1 name
    shift
    for name in "$@"; do
        run "$prefix$name" "$prefix$name"
    done
}

sources() { find "$@" -name 'test_*.c' | sed 's/\.c$//' | grep -E "${pattern:-.}" | sort; }

tools/models.sh || { echo "not ok - models"; failed=1; finish; }
build test-build || finish
suite build/ $(sources tests/unit tests/kernel tests/model)
virtual=$(sources tests/emulator tests/cuda)
early='test_models|test_pick' # once more as a Hopper, whose launches begin early: the order of a model's kernels
if [ -n "$virtual" ] && [ -z "$(make -s nvcc)" ]; then
    echo "not ok - no nvcc, which the CUDA kernels' tests need: tools/setup.sh cuda brings one into .cuda/"
    failed=$((failed + 1))
elif [ -n "$virtual" ]; then
    build cuda-gate emulator $(sources tests/emulator | sed 's|^|build/|') \
        && export CUDDLE_CUDA_LIBRARY=build/emulator/libcuda.so.1 CUDDLE_VGPU_CHECKS=all && suite build/ $virtual \
        && CUDDLE_VGPU_CAPABILITY=90 suite build/ $(sources tests/cuda | grep -E "$early")
    unset CUDDLE_CUDA_LIBRARY CUDDLE_VGPU_CHECKS
fi
for script in tests/cli/*.sh tests/readme_example.sh; do
    [ -f "$script" ] && [[ $script =~ ${pattern:-.} ]] && run "$script" "$script"
done
[ -z "$pattern" ] || finish

run "make style" sh -c 'make --no-print-directory style && echo "ok - style"'

# Everything that reads untrusted bytes or manages memory, once more under the sanitizers.
sanitized=$(sources tests/unit)
build SAN=address,undefined $(for t in $sanitized; do echo "build/san-address-undefined/$t"; done) \
    && suite build/san-address-undefined/ $sanitized
threaded="tests/unit/test_pool tests/unit/test_engine_threads"
build SAN=thread $(for t in $threaded; do echo "build/san-thread/$t"; done) && suite build/san-thread/ $threaded

build fuzz-build && run "fuzz, ${FUZZ_SECONDS:-5} s each" env FUZZ_SEED=1 tests/fuzz/run.sh "${FUZZ_SECONDS:-5}"
finish
