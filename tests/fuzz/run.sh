#!/usr/bin/env bash
# run.sh SECONDS [PATTERN] - every fuzz target for so long on a copy of its corpus; prints TAP, fails when one does.
#   FUZZ_SEED: the same inputs again (0, the default: others each time). An input may take 10 s and
#   1 GB, the sanitizers' own included. What a target finds that breaks it is kept under build/fuzz/found/.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
pattern=${2:-.}
scratch=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d) # in memory: targets write every input to a file
export TMPDIR=$scratch ASAN_OPTIONS=quarantine_size_mb=64${ASAN_OPTIONS:+:$ASAN_OPTIONS}
trap 'rm -rf "$scratch"' EXIT
failed=0
for target in build/fuzz/fuzz_*; do
    name=$(basename "$target")
    [ -x "$target" ] && [ -f "$target" ] && [[ $name =~ $pattern && $name != *.d ]] || continue
    mkdir -p "$scratch/$name" "build/fuzz/found/$name"
    corpus=tests/fuzz/corpus/${name#fuzz_}
    [ -d "$corpus" ] && cp -r "$corpus/." "$scratch/$name/"
    options=()
    [ -f "$corpus.dict" ] && options+=("-dict=$corpus.dict")
    if timeout $((seconds + 120)) "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -seed="${FUZZ_SEED:-0}" \
        -artifact_prefix="build/fuzz/found/$name/" -print_final_stats=1 "${options[@]}" "$scratch/$name" \
        > "$scratch/log" 2>&1; then
        echo "ok - $name ($(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log") inputs)"
    else
        echo "not ok - $name"
        grep -E 'ERROR|SUMMARY|runtime error|Test unit written' "$scratch/log" | sed 's/^/  /' | head -20
        failed=1
    fi
done
exit $failed
