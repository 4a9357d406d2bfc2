#!/usr/bin/env bash
# wheel.sh - the wheel of python/ builds, and works where nothing of the source tree is. TAP.
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if ! python3 -m pip wheel -q --no-deps --disable-pip-version-check -w "$dir" ./python > "$dir/log" 2>&1; then
    echo "not ok - pip wheel python/"
    tail -n 5 "$dir/log" | sed 's/^/  /'
    exit 1
fi
rm -rf python/build python/*.egg-info
echo "ok - pip wheel python/"
python3 -m zipfile -e "$dir"/cuddle_runtime-*.whl "$dir/site"
tokenizer=$PWD/$(find tests/golden/tokenizers/files -name 'bpe_bytelevel.json')
cd "$dir" || exit 1
if PYTHONPATH=$dir/site python3 -c "
import cuddle, os, sys
assert os.path.dirname(cuddle.__file__).startswith('$dir')
t = cuddle.Tokenizer.from_file('$tokenizer')
e = t.encode('hello world')
assert e.ids and t.decode(e.ids) == 'hello world', (e.ids, t.decode(e.ids))
mapped = open('/proc/self/maps').read()
assert '$dir/site/cuddle/libcuddle.so' in mapped and '$dir/site/cuddle/libonig' in mapped
assert '$dir/site/cuddle/libzstd' in mapped"; then
    echo "ok - the wheel works alone"
else
    echo "not ok - the wheel works alone"
    exit 1
fi
