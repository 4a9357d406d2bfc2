#!/usr/bin/env bash
# setup.sh [build|test] - installs the Debian packages that are missing; silent when nothing is.
#   build: what `make demo` needs (default)   test: what `make test` needs besides
set -euo pipefail

# What proves that a package is there (a command, or a header), and the package.
build_needs=(gcc:gcc stdio.h:libc6-dev make:make python3:python3 pip:python3-pip oniguruma.h:libonig-dev utf8proc.h:libutf8proc-dev)
test_needs=(cmocka.h:libcmocka-dev clang:clang git:git pkg-config:pkg-config)

has() {
    case $1 in
    *.h) [ -f "/usr/include/$1" ] || [ -f "/usr/local/include/$1" ] ;;
    pip) python3 -m pip --version > /dev/null 2>&1 ;;
    *) command -v "$1" > /dev/null 2>&1 ;;
    esac
}

install() {
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2> /dev/null && ! { [ -t 0 ] && command -v sudo > /dev/null; }; then
            printf 'setup: please run this as root, then try again:\n  apt-get install -y %s\n' "$*" >&2
            exit 1
        fi
        sudo=(sudo)
    fi
    printf 'setup: installing %s\n' "$*" >&2
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    "${sudo[@]}" apt-get install -y --no-install-recommends "$@" > "$log" 2>&1 \
        || { "${sudo[@]}" apt-get update > "$log" 2>&1 && "${sudo[@]}" apt-get install -y --no-install-recommends "$@" > "$log" 2>&1; } \
        || { tail -n 5 "$log" >&2; printf 'setup: apt-get install %s failed\n' "$*" >&2; exit 1; }
    rm -f "$log"
}

command -v apt-get > /dev/null || { command -v gcc > /dev/null && exit 0; echo "setup: not a Debian or Ubuntu machine: install gcc, make, Oniguruma, utf8proc by hand" >&2; exit 1; }
needs=("${build_needs[@]}")
[ "${1:-build}" = test ] && needs+=("${test_needs[@]}")
missing=()
for need in "${needs[@]}"; do
    has "${need%%:*}" || missing+=("${need##*:}")
done
[ ${#missing[@]} = 0 ] || install "${missing[@]}"

# The fuzzers' runtime is a package of clang's version.
if [ "${1:-build}" = test ]; then
    runtime=$(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a")
    version=$(clang -dumpversion | cut -d. -f1)
    [ -f "$runtime" ] || install "libclang-rt-$version-dev"
fi
