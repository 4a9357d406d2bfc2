#!/usr/bin/env bash
# setup.sh [build|test|cuda] - installs what is missing; silent when nothing is.
#   build: the Debian packages that `make demo` needs (default)   test: what `make test` needs besides, nvcc with it
#   cuda: nvcc alone, where there is none: NVIDIA's wheels, pinned, into .cuda/ (253 MB, nothing outside it)
set -euo pipefail
cd "$(dirname "$0")/.."

# What proves that a package is there (a command, or a header), and the package.
build_needs=(gcc:gcc stdio.h:libc6-dev make:make python3:python3 pip:python3-pip oniguruma.h:libonig-dev utf8proc.h:libutf8proc-dev
    zstd.h:libzstd-dev zstd:zstd)
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

# nvcc with what it runs (cudafe++, cicc, ptxas) and the headers that kernels and the virtual GPU include.
wheels='
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
'

cuda() {
    command -v nvcc > /dev/null || [ -x /usr/local/cuda/bin/nvcc ] || [ -x .cuda/bin/nvcc ] && return
    [ "$(uname -m)" = x86_64 ] || { echo "setup: no nvcc for $(uname -m) here: install the CUDA toolkit 13.0" >&2; exit 1; }
    printf 'setup: bringing nvcc 13.0 into .cuda/\n' >&2
    local work
    work=$(mktemp -d ./.cuda.XXXXXX)
    trap "rm -rf '$work'" EXIT
    printf '%s' "$wheels" > "$work/wheels.txt"
    python3 -m pip download -q --no-deps --disable-pip-version-check --only-binary :all: --require-hashes -d "$work" -r "$work/wheels.txt" \
        || { echo "setup: nvcc's wheels cannot be downloaded; check the network, or install the CUDA toolkit 13.0" >&2; exit 1; }
    for wheel in "$work"/*.whl; do
        python3 -m zipfile -e "$wheel" "$work"
    done
    chmod +x "$work"/nvidia/cu13/bin/* "$work"/nvidia/cu13/nvvm/bin/*
    rm -rf .cuda
    mv "$work/nvidia/cu13" .cuda
}

[ "${1:-build}" != cuda ] || { cuda; exit 0; }
command -v apt-get > /dev/null || { command -v gcc > /dev/null && exit 0; echo "setup: not a Debian or Ubuntu machine: install gcc, make, Oniguruma, utf8proc, zstd by hand" >&2; exit 1; }
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
    cuda
fi
