#!/usr/bin/env bash
# profile.sh - cuddle profile: ops and a model on the CPU, counters of the virtual GPU, all formats, wrong use.
set -uo pipefail
cd "$(dirname "$0")/../.."
cuddle=$PWD/build/cuddle
model=tests/golden/models/llama
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
failed=0

ok() { echo "ok - $1"; }
not_ok() { echo "not ok - $1: $(head -c 400 "$d/err")"; failed=1; }

# check NAME COMMAND...: exit code 0
check() {
    local name=$1
    shift
    if timeout 120 "$@" > "$d/out" 2> "$d/err"; then ok "$name"; else not_ok "$name"; fi
}

# holds NAME PYTHON: an expression over d, the JSON in $d/out
holds() {
    if python3 -c "import json,sys; d = json.load(open('$d/out')); sys.exit(not ($2))" 2> "$d/err"; then ok "$1"; else not_ok "$1"; fi
}

# bad NAME CODE WORDS COMMAND...: nothing on stdout, one line on stderr with the words
bad() {
    local name=$1 code=$2 words=$3 got
    shift 3
    timeout 60 "$@" > "$d/out" 2> "$d/err"
    got=$?
    if [ "$got" = "$code" ] && [ ! -s "$d/out" ] && [ "$(wc -l < "$d/err")" = 1 ] && grep -qF -- "$words" "$d/err"; then ok "$name"; else
        not_ok "$name (exit code $got)"; fi
}

# ---- The CPU ----
check "every op on the CPU" "$cuddle" profile --op all --seconds 0.001 -t 1 --cpu ref --type q8_0 -o json \
    --shapes rows=65,cols=64,out=96,heads=4,kv_heads=2,head_dim=16,context=40
holds "a row for each op" "len(d['ops']) == 14 == len({o['op'] for o in d['ops']}) and all(o['prompt'] for o in d['ops'])"
holds "hot times with samples" "all(o['hot']['median_s'] >= o['hot']['best_s'] > 0 and o['hot']['samples'] >= 5 for o in d['ops'])"
holds "bytes and operations of a product" \
    "[(o['bytes'], o['flops']) for o in d['ops'] if o['op'] == 'linear'][0] == (65*64*4 + 96*68 + 65*96*4, 2*65*64*96)"
holds "measured limits" "d['machine']['stream_bytes_s'] > 1e8 and d['machine']['f32_flop_s'] > 1e8 and not d['machine']['virtual']"
check "a table" "$cuddle" profile --op rmsnorm --seconds 0.001
if grep -q 'measured limits' "$d/out" && [ "$(grep -c '^rmsnorm' "$d/out")" = 2 ] && grep -q 'cold' "$d/out"; then ok "limits and two cases in it"; else not_ok "limits and two cases in it"; fi

check "a trace of ops" "$cuddle" profile --op rmsnorm --seconds 0.001 -o trace
holds "hot in a lane of its own, one after another" \
    "(lambda e: len(e) == 2 and e[1]['ts'] >= e[0]['ts'] + e[0]['dur'] - 0.01 and all(x['name'].startswith('rmsnorm') and x['args']['bytes'] > 0 for x in e))([x for x in d['traceEvents'] if x['ph'] == 'X' and x['tid'] == 2])"

# ---- A model ----
check "a model's nodes" "$cuddle" profile "$model" -p 20 -n 3 -o json
holds "two phases with the nodes of a step" \
    "[p['tokens'] for p in d['model']['phases']] == [20, 1] and all(len(p['nodes']) > 10 for p in d['model']['phases'])"
holds "shares add up to the nodes' time" \
    "all(abs(sum(n['seconds'] for n in p['nodes']) - p['nodes_s']) < 1e-9 and p['step_s'] > 0 for p in d['model']['phases'])"
holds "rows of the step" "{n['rows'] for n in d['model']['phases'][1]['nodes']} <= {0, 1} and 20 in {n['rows'] for n in d['model']['phases'][0]['nodes']}"
check "a trace" "$cuddle" profile "$model" -p 8 -n 2 -o trace
holds "its events follow each other on two threads" \
    "(lambda e: {x['tid'] for x in e} == {1, 2} and all(b['ts'] >= a['ts'] + a['dur'] - 0.01 for a, b in zip(e, e[1:]) if a['tid'] == b['tid']))([x for x in d['traceEvents'] if x['ph'] == 'X'])"
check "a page" "$cuddle" profile "$model" -p 8 -n 2 -o html
python3 - "$d/out" > "$d/json" 2> "$d/err" << 'PY' && ok "the page holds its data, and loads nothing" || not_ok "the page holds its data, and loads nothing"
import json, re, sys
page = open(sys.argv[1]).read()
data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
assert data["model"]["phases"] and not re.search(r'(src|href)=|https?:', page)
PY

# ---- The virtual GPU ----
if [ -f build/emulator/libcuda.so.1 ]; then
    export CUDDLE_CUDA_LIBRARY=$PWD/build/emulator/libcuda.so.1
    check "every op on the virtual GPU" "$cuddle" profile --op all --device cuda --type q4_0 -o json \
        --shapes rows=1,cols=256,out=160,heads=4,kv_heads=2,head_dim=64,context=300 \
        --shapes rows=65,cols=256,out=160,heads=4,kv_heads=2,head_dim=64,context=300
    holds "counted, not timed" "d['machine']['virtual'] and len(d['ops']) == 28 and not any('hot' in o or 'cold' in o for o in d['ops'])"
    holds "registers, no spills, occupancy" \
        "all(k['registers'] > 0 and k['local_bytes'] == 0 and 0 < k['occupancy'] <= 1 for o in d['ops'] for k in o['launches'])"
    holds "generated rows request each weight once" \
        "all(1 <= p['requested_bytes'] / p['needed_bytes'] <= 1.1 for o in d['ops'] if o['op'] == 'linear' and not o['prompt'] for k in o['launches'] for p in k['operands'] if p['name'] == 'weight')"
    holds "every operand has a name" "not any('args +' in p['name'] for o in d['ops'] for k in o['launches'] for p in k['operands'])"
    holds "products use mma" "all(sum(k['mma'] for k in o['launches']) >= o['mma_minimum'] > 0 for o in d['ops'] if o['op'] in ('linear', 'linear_glu', 'attention'))"
    holds "four GPUs' bounds, by public figures" "all(len(o['estimate']) == 4 and all(e['bound_s'] > 0 and e['source'] for e in o['estimate']) for o in d['ops'])"
    check "a page of counters" "$cuddle" profile --op scale --device cuda --shapes rows=2,cols=64 -o html
    check "a trace of estimates" "$cuddle" profile --op rmsnorm --device cuda -o trace
    holds "a lane a GPU, called an estimate" \
        "(lambda e: len([x for x in e if x['ph'] == 'X' and x['args']['launches'] == 1 and x['dur'] > 0]) == 8 and all('estimate' in x['args']['name'] for x in e if x['name'] == 'thread_name'))(d['traceEvents'])"

    # A model: one prompt, one generated token
    check "a model's launches" "$cuddle" profile "$model" --device cuda -p 20 -n 3 -o json
    holds "a prompt and a token, counted" \
        "[p['tokens'] for p in d['model']['phases']] == [20, 1] and not any('step_s' in p or 'seconds' in p['nodes'][0] for p in d['model']['phases'])"
    holds "each launch is in one op and one kernel" \
        "all(0 < sum(o['launches'] for o in p['ops']) == sum(k['launches'] for k in p['kernels']) and sum(o['nodes'] for o in p['ops']) == len(p['nodes']) for p in d['model']['phases'])"
    holds "at most 8 launches a layer and 4 for a token" "sum(o['launches'] for o in d['model']['phases'][1]['ops']) <= 8 * 2 + 4"
    holds "weights are requested once for a token" \
        "[1 <= o['weights']['requested_bytes'] / o['weights']['needed_bytes'] < 2 for o in d['model']['phases'][1]['ops'] if o['op'] == 'linear'] == [True]"
    holds "operands of a model have names, kernels no spills" \
        "not any('args +' in o['name'] or k['local_bytes'] for p in d['model']['phases'] for k in p['kernels'] for o in k['operands'])"
    for other in qwen3 gpt2 gemma3_text; do
        check "launches of $other" "$cuddle" profile "tests/golden/models/$other" --device cuda -p 12 -n 1 -o json
        holds "all operands of $other have names" \
            "not any('args +' in o['name'] for p in d['model']['phases'] for k in p['kernels'] for o in k['operands'])"
    done
    check "a table of a model's launches" "$cuddle" profile "$model" --device cuda -p 0 -n 1
    if grep -q 'linear_fwd_decode_kernel' "$d/out" && grep -q 'weights of linear: requested' "$d/out" && ! grep -q 'prompt' "$d/out"; then ok "kernels and weights in it"; else not_ok "kernels and weights in it"; fi
    check "a trace of a model's estimates" "$cuddle" profile "$model" --device cuda -p 8 -n 1 -o trace
    holds "two phases of four GPUs" "len({x['tid'] for x in d['traceEvents'] if x['ph'] == 'X'}) == 8"
    check "a page of a model's launches" "$cuddle" profile "$model" --device cuda -p 8 -n 1 -o html
    bad "a GPU that is not there" 1 "cuda:7" "$cuddle" profile --op add --device cuda:7
    unset CUDDLE_CUDA_LIBRARY
fi

# ---- Wrong use ----
bad "neither a model nor an op" 2 "MODEL or --op" "$cuddle" profile
bad "both" 2 "MODEL or --op" "$cuddle" profile "$model" --op add
bad "an unknown op" 2 "--op mul" "$cuddle" profile --op mul
bad "an unknown type" 2 "--type q9" "$cuddle" profile --op linear --type q9
bad "an unknown size" 2 "depth=3" "$cuddle" profile --op linear --shapes depth=3
bad "a size of zero" 2 "may be 0" "$cuddle" profile --op linear --shapes cols=0
bad "columns that are no blocks" 2 "q4_k blocks" "$cuddle" profile --op linear --shapes cols=100
bad "heads that do not divide" 2 "kv_heads" "$cuddle" profile --op attention --shapes heads=5,kv_heads=2
bad "an operand beyond memory" 2 "elements" "$cuddle" profile --op linear --shapes cols=1048576,out=1048576
bad "an unknown format" 2 "--output pdf" "$cuddle" profile --op add -o pdf
bad "an unknown device" 1 "device tpu" "$cuddle" profile --op add --device tpu
bad "a model that is not there" 1 "nowhere" "$cuddle" profile nowhere/at-all
bad "a prompt beyond the context" 1 "context" "$cuddle" profile "$model" -p 60000
exit $failed
