#!/usr/bin/env bash
# bad_input.sh - damaged, hostile and impossible inputs: exit code 1, nothing on stdout, and exactly one line on
# stderr that names the file, tensor, key or option.
set -uo pipefail
cd "$(dirname "$0")/../.."
cuddle=$PWD/build/cuddle
plain=$PWD/tests/golden/models/llama
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
good=$d/good
mkdir "$good"
cp "$plain/config.json" "$plain/model.safetensors" "$good/"
cat > "$good/tokenizer.json" <<'JSON'
{"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3},"merges":["a b"]}}
JSON
failed=0

# bad NAME WORDS COMMAND...: WORDS are separated by | and must all stand in the line
bad() {
    local name=$1 words=$2 code lines why=
    shift 2
    timeout 60 "$@" > "$d/out" 2> "$d/err" < /dev/null
    code=$?
    lines=$(wc -l < "$d/err")
    [ "$code" = 1 ] || why="exit code $code"
    [ ! -s "$d/out" ] || why="$why, stdout is not empty"
    [ "$lines" = 1 ] || why="$why, $lines lines on stderr"
    local IFS='|'
    for word in $words; do
        grep -qF -- "$word" "$d/err" || why="$why, '$word' is not named"
    done
    if [ -z "$why" ]; then
        echo "ok - $name"
    else
        echo "not ok - $name: ${why#, }: $(head -c 300 "$d/err")"
        failed=1
    fi
}

# poke FILE OFFSET BYTES: overwrites; BYTES as printf takes them
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
# at FILE TEXT: the offset behind the first TEXT
at() { echo $(($(grep -aboF -m1 -- "$2" "$1" | head -1 | cut -d: -f1) + ${#2})); }
# copy of the good folder
folder() { mkdir -p "$d/$1" && cp "$good/config.json" "$good/model.safetensors" "$good/tokenizer.json" "$d/$1/"; }

huge='\x00\x00\x00\x00\x00\x00\x00\x80' # 2^63

"$cuddle" convert "$good" "$d/good.gguf" --quantize q8_0 --quiet 2> "$d/err" || { echo "not ok - convert: $(cat "$d/err")"; exit 1; }
"$cuddle" info "$d/good.gguf" > /dev/null && echo "ok - the file that is damaged below is good" || failed=1

# ---- GGUF ----
size=$(stat -c %s "$d/good.gguf")
for part in 0 3 10 20 30 100 1000 $((size / 2)) $((size - 100)); do
    head -c "$part" "$d/good.gguf" > "$d/cut.gguf"
    bad "GGUF cut to $part bytes" "cut.gguf" "$cuddle" run "$d/cut.gguf" --prompt-ids 1,2 -n 1
done
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" 0 'X'
bad "GGUF without its mark" "bits.gguf|GGUF" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" 4 '\x09'
bad "GGUF of version 9" "bits.gguf|version 9" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" 8 "$huge"
bad "GGUF with 2^63 tensors" "bits.gguf|tensor" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" 16 "$huge"
bad "GGUF with 2^63 keys" "bits.gguf" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" 24 "$huge"
bad "GGUF with a key of 2^63 bytes" "bits.gguf|metadata key 0" "$cuddle" info "$d/bits.gguf"
tensor=$(at "$d/good.gguf" "output_norm.weight") # dimensions, then 8 bytes each, type, offset
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((tensor + 4)) "$huge"
bad "GGUF tensor of 2^63 columns" "bits.gguf|output_norm.weight" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((tensor + 12)) '\x63'
bad "GGUF tensor of an unknown type" "bits.gguf|output_norm.weight|type 99" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((tensor + 16)) '\x00\x00\x00\x40'
bad "GGUF tensor past the end" "bits.gguf|norm.weight|past the end" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((tensor + 16)) '\x01'
bad "GGUF tensor that is not aligned" "bits.gguf|output_norm.weight|aligned" "$cuddle" info "$d/bits.gguf"
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((tensor - 11)) 'X'
bad "GGUF without a tensor" "norm.weight" "$cuddle" run "$d/bits.gguf" --prompt-ids 1,2 -n 1
arch=$(at "$d/good.gguf" "general.architecture")
cp "$d/good.gguf" "$d/bits.gguf"; poke "$d/bits.gguf" $((arch + 12)) 'xlama'
bad "GGUF of an unknown architecture" "xlama" "$cuddle" run "$d/bits.gguf" --prompt-ids 1,2 -n 1

# ---- safetensors ----
folder st
size=$(stat -c %s "$good/model.safetensors")
for part in 0 5 8 100 $((size / 2)) $((size - 1)); do
    head -c "$part" "$good/model.safetensors" > "$d/st/model.safetensors"
    bad "safetensors cut to $part bytes" "model.safetensors" "$cuddle" run "$d/st" --prompt-ids 1,2 -n 1
done
folder st; poke "$d/st/model.safetensors" 0 "$huge"
bad "safetensors with a header of 2^63 bytes" "model.safetensors|header" "$cuddle" info "$d/st"
folder st; poke "$d/st/model.safetensors" 8 'x'
bad "safetensors with a header that is no JSON" "model.safetensors" "$cuddle" info "$d/st"
offset=$(at "$good/model.safetensors" '"data_offsets":[')
folder st; poke "$d/st/model.safetensors" "$offset" '9'
bad "safetensors with an offset past the end" "model.safetensors|tensor" "$cuddle" info "$d/st"
type=$(at "$good/model.safetensors" '"dtype":"')
folder st; poke "$d/st/model.safetensors" "$type" 'X'
bad "safetensors with an unknown type" "model.safetensors|X32" "$cuddle" info "$d/st"
name=$(at "$good/model.safetensors" '"model.norm')
folder st; poke "$d/st/model.safetensors" $((name - 1)) 'X'
bad "safetensors without a tensor" "model.norm.weight" "$cuddle" run "$d/st" --prompt-ids 1,2 -n 1
mkdir -p "$d/shards"
cp "$good/config.json" "$d/shards/"
echo '{"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}}' > "$d/shards/model.safetensors.index.json"
bad "an index whose shard is missing" "model-00001-of-00002.safetensors" "$cuddle" info "$d/shards"
echo '{"weight_map":{"model.norm.weight":"../secret"}}' > "$d/shards/model.safetensors.index.json"
bad "an index that leaves its folder" "model.safetensors.index.json|model.norm.weight" "$cuddle" info "$d/shards"

# ---- Configurations and tokenizers ----
folder cfg; echo '{"model_type":"llama","hidden_size":"big"}' > "$d/cfg/config.json"
bad "config.json of a wrong type" "config.json|hidden_size" "$cuddle" run "$d/cfg" --prompt-ids 1 -n 1
folder cfg; echo '{"model_type":"nosuch"}' > "$d/cfg/config.json"
bad "config.json of an unknown architecture" "nosuch" "$cuddle" run "$d/cfg" --prompt-ids 1 -n 1
folder cfg; head -c 60 "$good/config.json" > "$d/cfg/config.json"
bad "config.json cut short" "config.json" "$cuddle" run "$d/cfg" --prompt-ids 1 -n 1
folder cfg; sed 's/"vocab_size": *[0-9]*/"vocab_size": 77777/' "$good/config.json" > "$d/cfg/config.json"
bad "config.json that does not fit the weights" "embed_tokens.weight" "$cuddle" run "$d/cfg" --prompt-ids 1 -n 1
folder tok
head -c 120 "$good/tokenizer.json" > "$d/tok/tokenizer.json"
bad "tokenizer.json cut in half" "tokenizer.json" "$cuddle" run "$d/tok" "ab" -n 1
bad "a model without tokenizer" "tokenizer.json" "$cuddle" run "$plain" "hello" -n 1
folder tok
bad "a prompt that is no UTF-8" "UTF-8" "$cuddle" run "$d/tok" $'ab\xff\xfe' --raw -n 1

# ---- Impossible requests ----
ids=$(seq -s, 1 20 | sed 's/[0-9]*/1/g')
bad "a prompt longer than the context" "context" "$cuddle" run "$good" --prompt-ids "$ids" --context 8 -n 1
bad "a token outside the vocabulary" "99999" "$cuddle" run "$good" --prompt-ids 1,99999 -n 1
bad "--fast on the CPU" "--fast|--device cuda" "$cuddle" run "$good" --prompt-ids 1,2 -n 1 --fast
bad "--fast of an op on the CPU" "--fast|--device cuda" "$cuddle" profile --op linear --fast
bad "a missing file" "nothing.gguf" "$cuddle" run "$d/nothing.gguf" x
bad "a missing folder" "no/such/folder" "$cuddle" info "$d/no/such/folder"
HF_HUB_CACHE=$d/cache bad "a model that is not in the cache" "org/name|hf download" "$cuddle" run org/name x
bad "a file of another kind" "tokenizer.json" "$cuddle" info "$good/tokenizer.json"
bad "an unknown type to convert to" "--quantize|q9" "$cuddle" convert "$good" "$d/x.gguf" --quantize q9
bad "an output that is there" "good.gguf|--force" "$cuddle" convert "$good" "$d/good.gguf"
bad "an output folder that is missing" "no/such/x.gguf" "$cuddle" convert "$good" "$d/no/such/x.gguf" --quiet
echo "junk" > "$d/junk.safetensors"
bad "inputs of forward that are no safetensors" "junk.safetensors" "$cuddle" forward "$good" --in "$d/junk.safetensors" --out "$d/o.safetensors"
model=models/SmolLM2-135M-Instruct-Q4_1.gguf # 98 MB mapped, and about as much for the weights
bad "no memory" "memory" bash -c "ulimit -v 140000 && exec '$cuddle' run $model hello -n 1 --threads 1"
exit $failed
