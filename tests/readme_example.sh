#!/usr/bin/env bash
# readme_example.sh - the first C example of README.md: compiled against include/ and build/libcuddle.a, and run.
set -uo pipefail
cd "$(dirname "$0")/.."
model=models/SmolLM2-135M-Instruct-Q4_1.gguf
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0

# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@" > "$scratch/log" 2>&1; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        sed 's/^/  /' "$scratch/log" | head -20
        status=1
    fi
}

sed -n '/^```c$/,/^```$/p' README.md 2> /dev/null | sed '1d;/^```$/,$d' > "$scratch/example.c"
[ -s "$scratch/example.c" ] || { echo "not ok - README has no C example"; exit 1; }

check "README's C example compiles without a warning" ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude \
    "$scratch/example.c" build/libcuddle.a -lonig -lutf8proc -lzstd -lm -lpthread -o "$scratch/example"
answers() { "$scratch/example" "$model" "Say hello." | grep -q '[^[:space:]]'; }
check "README's C example answers" answers
fails() { ! "$scratch/example" /no/such/model 2> "$scratch/error" && grep -q /no/such/model "$scratch/error"; }
check "README's C example says what is wrong" fails
exit $status
