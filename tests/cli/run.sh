#!/usr/bin/env bash
# run.sh - the command as a user calls it: help, wrong use, `cuddle run` and how it ends.
set -uo pipefail
cd "$(dirname "$0")/../.."
cuddle=${CUDDLE:-build/cuddle}
model=models/SmolLM2-135M-Instruct-Q4_1.gguf
tiny=tests/golden/models/llama_gqa
question="Say hello, please."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

ok() { echo "ok - $1"; }
not_ok() {
    echo "not ok - $1"
    head -c 600 "$dir/out" "$dir/err" 2> /dev/null | sed 's/^/  /'
    status=1
}
# is NAME COMMAND...: the command must succeed
is() {
    local name=$1
    shift
    if "$@"; then ok "$name"; else not_ok "$name"; fi
}
# call WANTED-EXIT-CODE ARGUMENTS...: stdout and stderr to $dir/out and $dir/err; an error is one line
call() {
    local want=$1 code
    shift
    timeout 100 "$cuddle" "$@" > "$dir/out" 2> "$dir/err" < "${input:-/dev/null}"
    code=$?
    [ "$code" = "$want" ] || { echo "  exit code $code, wanted $want: $*"; return 1; }
    [ "$want" = 0 ] || [ "$(wc -l < "$dir/err")" = 1 ]
}
# says WANTED-EXIT-CODE TEXT ARGUMENTS...: stderr holds the text
says() {
    local want=$1 text=$2
    shift 2
    call "$want" "$@" && grep -qF -- "$text" "$dir/err"
}
# answer ARGUMENTS...: what `run` prints
answer() { timeout 100 "$cuddle" run "$@" 2> "$dir/err" < "${input:-/dev/null}"; }
# field FILE EXPRESSION: of the JSON object j
field() { python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); print(eval("(" + sys.argv[2] + ")"))' "$1" "$2"; }
holds() { [ "$(field "$1" "$2")" = True ]; }

# ---- Help and wrong use ----

helps() {
    local names name
    call 0 --help || return 1
    names=$(sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$dir/out")
    [ "$(wc -w <<< "$names")" -ge 6 ] || return 1
    for name in $names; do
        call 0 "$name" --help && grep -q '^usage: cuddle ' "$dir/out" && [ ! -s "$dir/err" ] || return 1
    done
}
is "every command has a help text" helps
is "the version is printed" call 0 --version
version_alone() { timeout 9 "$cuddle" > "$dir/out" 2> "$dir/err"; [ $? = 2 ] && grep -q '^commands:' "$dir/err"; }
is "no command is wrong use, and shows them" version_alone
is "an unknown command is wrong use" says 2 "see cuddle --help" ruin
is "an unknown option is wrong use, with a hint" says 2 "did you mean --temperature?" run "$model" hi --temprature 1
is "an unknown letter is wrong use" says 2 "-Z" run "$model" hi -Z
is "a missing argument is wrong use" says 2 "usage: cuddle run" run
is "one argument too many is wrong use" says 2 "one argument too many" run "$model" a b
is "an option without its value is wrong use" says 2 "--seed needs a value" run "$model" hi --seed
is "a value that is no number is wrong use" says 2 "--temperature takes a number" run "$model" hi --temperature warm
is "a value out of range is wrong use" says 2 "--top-p takes" run "$model" hi --top-p 2
is "a bias that is none is wrong use" says 2 "--logit-bias takes ID=B" run "$model" hi --logit-bias 12
is "ids that are none are wrong use" says 2 "--prompt-ids takes" run "$model" --prompt-ids 1,x
is "ids and a prompt are wrong use" says 2 "--prompt-ids stands in place" run "$model" hi --prompt-ids 1
is "a system message without the template is wrong use" says 2 "--system needs" run "$model" hi --raw --system x

# ---- What cannot be done ----

is "a missing model is named" says 1 "/no/such/model" run /no/such/model hi
is "an empty prompt is refused" says 1 "the prompt is empty" run "$model"
is "a prompt that is not UTF-8 is refused" says 1 "UTF-8" run "$model" $'\xff\xfe' --raw
is "a token outside the vocabulary is named" says 1 "49999" run "$model" --prompt-ids 1,49999
is "a prompt over the context names --context" says 1 "--context" run "$model" "$question" --context 8
is "a context over the model's limit names both" says 1 "8192" run "$model" hi --context 100000
is "an unknown device is named" says 1 "abacus" run "$model" hi --device abacus
is "an unknown instruction set is named" says 1 "sse9" run "$model" hi --cpu sse9
is "a bias for a token that is not there is named" says 1 "49999" run "$model" hi --logit-bias 49999=1
full() { timeout 100 "$cuddle" run "$model" hi -n 8 2> "$dir/err" > /dev/full; [ $? = 1 ] && grep -q stdout "$dir/err"; }
is "a full disk is an error" full

# ---- Answers ----

answer "$model" "$question" --greedy -n 24 > "$dir/plain"
is "greedy answers" grep -q '[^[:space:]]' "$dir/plain"
is "nothing but the answer comes out" [ ! -s "$dir/err" ]
is "greedy gives the same again" cmp -s "$dir/plain" <(answer "$model" "$question" --greedy -n 24)
is "one thread gives the same" cmp -s "$dir/plain" <(answer "$model" "$question" --greedy -n 24 --threads 1)
echo "$question" > "$dir/question"
is "stdin gives the same" cmp -s "$dir/plain" <(input=$dir/question answer "$model" --greedy -n 24)
is "- is stdin" cmp -s "$dir/plain" <(input=$dir/question answer "$model" - --greedy -n 24)
is "options may stand in front" cmp -s "$dir/plain" <(answer --greedy -n24 "$model" "$question")
is "temperature 0 is greedy" cmp -s "$dir/plain" <(answer "$model" "$question" --temperature 0 -n 24)
is "top-k 1 is greedy" cmp -s "$dir/plain" <(answer "$model" "$question" --top-k 1 -n 24)

answer "$model" "$question" --greedy -n 24 --json --logprobs 3 > "$dir/json"
is "--json is one object on one line" holds "$dir/json" "len(open('$dir/json').read().splitlines()) == 1"
is "its text is what is streamed" [ "$(field "$dir/json" 'j["text"]')" = "$(cat "$dir/plain")" ]
is "it tells how it ended" holds "$dir/json" 'j["finish_reason"] in ("stop", "length") and len(j["ids"]) <= 24'
is "it has a log probability a token, of the likeliest too" holds "$dir/json" \
    'len(j["logprobs"]) == len(j["ids"]) and all(p["id"] == i == p["top"][0]["id"] and len(p["top"]) == 3 and
     p["logprob"] == p["top"][0]["logprob"] <= 0 for p, i in zip(j["logprobs"], j["ids"]))'
is "it has timings" holds "$dir/json" 'min(j["timings"][k] for k in ("load_ms", "prefill_ms", "decode_ms",
    "prefill_tokens_per_second", "decode_tokens_per_second")) > 0'
ids=$(field "$dir/json" '",".join(map(str, j["prompt_ids"]))')
is "--prompt-ids gives the same" cmp -s "$dir/plain" <(answer "$model" --prompt-ids "$ids" --greedy -n 24)
is "--prompt-ids takes spaces" cmp -s "$dir/plain" <(answer "$model" --prompt-ids "${ids//,/ }" --greedy -n 24)

answer "$model" "$question" --greedy -n 2 --json --raw > "$dir/raw"
answer "$model" "$question" --greedy -n 2 --json --system "Be rude." > "$dir/system"
is "--raw leaves the template out" holds "$dir/raw" "len(j['prompt_ids']) < $(tr -cd , <<< "$ids" | wc -c) - 5"
is "--system changes the prompt" [ "$(field "$dir/system" 'j["prompt_ids"]')" != "[${ids//,/, }]" ]
is "-n ends by length" holds "$dir/raw" 'len(j["ids"]) == 2 and j["finish_reason"] == "length"'
lines() { [ "$(answer "$model" "$question" --greedy -n 5 --logprobs 2 | awk -F '\t' 'NF == 4' | wc -l)" = 5 ]; }
is "--logprobs prints a line a token" lines

# ---- Stop strings, end tokens, seeds ----

answer "$model" "Count: one two three" --raw --greedy -n 24 --ignore-eos --json > "$dir/long"
stop=$(field "$dir/long" 'j["text"][9:13]')
answer "$model" "Count: one two three" --raw --greedy -n 24 --ignore-eos --json --stop "not there" --stop "$stop" > "$dir/stopped"
is "--ignore-eos goes on" holds "$dir/long" 'len(j["ids"]) == 24'
is "a stop string ends the text before it" holds "$dir/stopped" \
    "j['finish_reason'] == 'stop' and j['stop'] == json.load(open('$dir/long'))['text'][9:13]
     and json.load(open('$dir/long'))['text'].startswith(j['text'] + j['stop'])"
answer "$model" "$question" -n 24 --json --temperature 2 --top-k 0 > "$dir/first"
seed=$(field "$dir/first" 'j["seed"]')
answer "$model" "$question" -n 24 --json --temperature 2 --top-k 0 --seed "$seed" > "$dir/again"
answer "$model" "$question" -n 24 --json --temperature 2 --top-k 0 --seed $((seed + 1)) > "$dir/other"
is "the seed that was printed gives the same" [ "$(field "$dir/first" 'j["ids"]')" = "$(field "$dir/again" 'j["ids"]')" ]
is "another seed gives another answer" [ "$(field "$dir/first" 'j["ids"]')" != "$(field "$dir/other" 'j["ids"]')" ]
first=$(field "$dir/long" 'j["ids"][0]')
answer "$model" "Count: one two three" --raw --greedy -n 4 --json --logit-bias "$first=-inf" > "$dir/banned"
is "a banned token does not come" holds "$dir/banned" "$first not in j['ids']"
answer "$model" "a a a a a a" --raw --greedy -n 12 --ignore-eos --json --no-repeat-ngram 1 > "$dir/once"
is "no token comes twice with --no-repeat-ngram 1" holds "$dir/once" 'len(set(j["ids"])) == 12'
answer "$model" "Write: 日本語 émoji 🤗" --greedy -n 40 --ignore-eos --temperature 3 --seed 1 > "$dir/utf8"
is "what comes out is UTF-8" iconv -f UTF-8 -t UTF-32 "$dir/utf8" -o /dev/null

# ---- A model without tokenizer ----

is "a model without a tokenizer gives ids" says 0 "no tokenizer" run "$tiny" --prompt-ids 5,6,7 -n 4 --greedy --ignore-eos
is "four of them" [ "$(wc -w < "$dir/out")" = 4 ]

# ---- Ends ----

# interrupt ARGUMENTS...: Ctrl-C once something was written (or, with --json, after a moment)
interrupt() {
    timeout -s KILL 60 "$cuddle" run "$model" "Tell a story." --ignore-eos --greedy "$@" > "$dir/out" 2> "$dir/err" < /dev/null &
    local pid=$! child i
    for i in $(seq 100); do
        sleep 0.1
        child=$(cat "/proc/$pid/task/$pid/children" 2> /dev/null)
        [ -n "$child" ] || continue # timeout has not started it yet
        [ "$i" -gt 20 ] && break
        [ -s "$dir/out" ] && break
    done
    kill -INT $child
    wait "$pid"
}
is "Ctrl-C ends with 0" interrupt
is "what was generated stays, with a line's end" [ -s "$dir/out" -a -z "$(tail -c 1 "$dir/out")" ]
is "Ctrl-C ends with 0 and JSON" interrupt --json
is "the object says so" holds "$dir/out" 'j["finish_reason"] == "interrupted" and len(j["ids"]) > 0 and len(j["text"]) > 0'
pipe() {
    local codes
    timeout 60 "$cuddle" run "$model" "Tell a story." --ignore-eos --greedy 2> "$dir/err" < /dev/null | head -c 20 > "$dir/out"
    codes=("${PIPESTATUS[@]}")
    [ "${codes[0]}" != 124 ] && [ "$(wc -c < "$dir/out")" = 20 ] && [ "$(wc -l < "$dir/err")" -le 1 ]
}
is "a reader that goes away ends it" pipe

# ---- A chat template from a file ----

printf '%s' '{{ bos_token }}[{{ messages[0].content }}]' > "$dir/template.jinja"
messages='[{"role":"user","content":"Hi"}]'
own_template() {
    call 0 tokenize "$model" --chat "$messages" --chat-template "$dir/template.jinja" \
        && holds "$dir/out" 'j["text"] == "<|im_start|>[Hi]"'
}
is "--chat-template replaces the model's template" own_template
is "a chat template that is not there is named" says 1 "$dir/none.jinja" run "$model" Hi --chat-template "$dir/none.jinja"
exit $status
