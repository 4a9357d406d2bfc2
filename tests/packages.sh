#!/usr/bin/env bash
# packages.sh - the Python packages that tests compare with, into build/python (for PYTHONPATH); prints that folder.
# They are unpacked there, not installed: no virtual environment, nothing of the system is changed.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(tokenizers==0.23.3 numpy)
folder=build/python
stamp="$folder/.stamp"
wanted="${packages[*]} $(python3 -c 'import sys; print(sys.version_info[:2])')"
if [ "$(cat "$stamp" 2> /dev/null)" != "$wanted" ]; then
    rm -rf "$folder"
    python3 -m pip install -q --no-deps --disable-pip-version-check --root-user-action=ignore --target "$folder" \
        "${packages[@]}" >&2 || { echo "packages: pip cannot get ${packages[*]}; check the network" >&2; exit 1; }
    printf '%s' "$wanted" > "$stamp"
fi
echo "$PWD/$folder"
