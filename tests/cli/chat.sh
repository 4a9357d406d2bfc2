#!/usr/bin/env bash
# chat.sh - `cuddle chat` as a user meets it: turns, commands, what is fed again, Ctrl-C, errors. TAP.
set -u
cd "$(dirname "$0")/../.."
cuddle=build/cuddle
model=models/SmolLM2-135M-Instruct-Q4_1.gguf
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
code=0

check() { # NAME COMMAND...: ok when the command succeeds
    local name=$1
    shift
    if "$@"; then echo "ok - chat: $name"; else
        echo "not ok - chat: $name"
        code=1
        sed 's/^/# /' "$dir"/out "$dir"/err 2> /dev/null | tail -n 20
    fi
}

talk() { timeout 120 $cuddle chat "$@" > "$dir/out" 2> "$dir/err"; }
noted() { grep -q "$1" "$dir/err"; }
lines() { [ "$(wc -l < "$dir/out")" = "$1" ]; }

printf 'Hi, my name is Bob.\nWhat is my name?\n/regen\n/save %s\n/clear\nHi, my name is Bob.\n' "$dir/saved" |
    talk $model --greedy -v -n 20
check "ends well at the end of the input" test $? = 0
check "answers every message" lines 4
check "feeds what is new only" noted 'kept 5[0-9] tokens; fed 1[0-9],'
check "/regen feeds one token" noted 'tokens; fed 1,'
check "/regen gives the greedy answer again" test "$(sed -n 2p "$dir/out")" = "$(sed -n 3p "$dir/out")"
check "/clear begins anew" test "$(sed -n 1p "$dir/out")" = "$(sed -n 4p "$dir/out")"
check "/save writes the messages" test "$(grep -c '"role": "user"' "$dir/saved")" = 2
check "/save writes the answers" test "$(grep -c '"role": "assistant"' "$dir/saved")" = 2

printf 'one \\\ntwo\n/save %s\n' "$dir/saved" | talk $model --greedy -n 4 -s 'Be "brief".'
check "a line that ends in a backslash goes on" grep -q '"user", "content": "one \\ntwo"' "$dir/saved"
check "--system is the first message" grep -q '"system", "content": "Be \\"brief\\"."' "$dir/saved"

printf '/nonsense\n\n/exit\nHi\n' | talk $model
check "an unknown command shows the commands" noted '/clear'
check "/exit ends" lines 0

printf 'Hi\n/clear\n' | talk $model -c 20
check "a conversation that does not fit says so" noted 'leaves no room in the context of 20'

mkfifo "$dir/in"
$cuddle chat $model --greedy < "$dir/in" > "$dir/out" 2> "$dir/err" &
pid=$!
exec 3> "$dir/in"
echo 'Tell me a very long story about a whale.' >&3
for _ in $(seq 300); do [ -s "$dir/out" ] && break; sleep 0.1; done
kill -INT $pid
echo '/save '"$dir/stopped" >&3
for _ in $(seq 100); do [ -s "$dir/stopped" ] && break; sleep 0.1; done
exec 3>&-
wait $pid
check "goes on after Ctrl-C stopped an answer" test $? = 0
check "keeps what came before Ctrl-C" grep -q '"assistant"' "$dir/stopped"

talk models/gemma-3-270m-Q4_K_M.gguf < /dev/null
check "a model without template fails" test $? = 1
check "and says what is missing" noted 'has no chat template'
talk $model --no-such-option < /dev/null
check "wrong use is told apart" test $? = 2
exit $code
