#!/usr/bin/env python3
"""style.py - what `make style` checks: layers, file and function sizes, line widths, names.

Layers: a file includes only from the layers to the left of its own (DESIGN: base < format, token, ... < tools).
Sizes: see LIMITS; an exception stands in EXCEPTIONS by name with its reason. Exit 1 when something is found.
"""
import re
import subprocess
import sys
from pathlib import Path

LAYERS = [{"base"}, {"format", "token", "data", "device", "hub"}, {"graph", "cpu"}, {"model"}, {"gen"},
          {"pipeline", "train"}, {"serve"}]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
LIMITS = {"file lines": 1000, "function lines": 60, "flat switch lines": 120, "columns": 120, "parameters": 8}
# path or path:function -> reason
EXCEPTIONS = {
    "tests/tools/cuda_stub.c:stub_launch": "the driver's own signature",
    "tools/emulator/driver.c:cuLaunchKernel": "the driver API's own signature",
    "tools/emulator/cublaslt/cublaslt.c:cublasLtMatmul": "the library's own signature",
    "tools/emulator/cublaslt/cublaslt.c:cublasLtMatmulAlgoGetHeuristic": "the library's own signature",
    "runtime/token/unicode_data.h": "generated tables (tools/gen_unicode.py)",
}


def files():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h", "*.inc", "*.cu", "*.cuh"],
                         capture_output=True, text=True, check=True).stdout.split()
    return [f for f in out if Path(f).exists() and not f.startswith("tests/golden/")]


def check_layers(path, text):
    part = Path(path).parts
    if part[0] != "runtime":
        return
    mine = LEVEL.get(part[1])
    if mine is None:
        yield f"{path}: runtime/{part[1]} is no layer of DESIGN section 2"
        return
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#include "([a-z]+)/', line)
        if m and m[1] in LEVEL and (LEVEL[m[1]] > mine or (LEVEL[m[1]] == mine == 1 and m[1] != part[1])):
            yield f"{path}:{number}: {part[1]} must not include {m[1]}"


def functions(text):
    """(name, first line, last line, parameters) of every function body, by braces in column 0."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line != "{" or i == 0:
            continue
        head = i - 1
        while head > 0 and not re.match(r"[A-Za-z_]", lines[head]):
            head -= 1
        m = re.search(r"(\w+)\s*\((.*)", " ".join(lines[head:i]))
        end = next((k for k in range(i, len(lines)) if lines[k] == "}"), len(lines) - 1)
        if m:
            depth, count = 0, 1
            for c in m[2]:
                depth += c == "("
                depth -= c == ")"
                if depth < 0:
                    break
                count += c == "," and depth == 0
            yield m[1], i, end, count


def check_sizes(path, text):
    lines = text.splitlines()
    if len(lines) > LIMITS["file lines"] and path not in EXCEPTIONS:
        yield f"{path}: {len(lines)} lines (limit {LIMITS['file lines']})"
    for name, first, last, parameters in functions(text):
        if f"{path}:{name}" in EXCEPTIONS:
            continue
        body = lines[first:last]
        flat = sum(1 for b in body if re.match(r"\s*case ", b)) > len(body) / 4
        limit = LIMITS["flat switch lines" if flat else "function lines"]
        if last - first - 1 > limit:
            yield f"{path}:{first}: {name} has {last - first - 1} lines (limit {limit})"
        if parameters > LIMITS["parameters"]:
            yield f"{path}:{first}: {name} has {parameters} parameters (limit {LIMITS['parameters']})"
    for number, line in enumerate(lines, 1):
        if path in EXCEPTIONS:
            break
        if len(line) > LIMITS["columns"] and "http" not in line:
            yield f"{path}:{number}: {len(line)} columns (limit {LIMITS['columns']})"
        if line.rstrip() != line:
            yield f"{path}:{number}: white space at the end"
        if "\t" in line:
            yield f"{path}:{number}: a tab"


def check_names(path, text):
    if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text):
        yield f"{path}: a mark of unfinished work"
    if path.startswith("runtime/") and re.search(r"\b(printf|exit|abort)\s*\(", text):
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"(?<![\w.>])(printf|exit|abort)\s*\(", line) and not line.lstrip().startswith(("*", "/*")):
                yield f"{path}:{number}: the library never prints, exits or aborts"
    if path.startswith("runtime/") and path != "runtime/base/env.c" and re.search(r"\bgetenv\s*\(", text):
        yield f"{path}: environment names are read in runtime/base/env.c only"
    if path.startswith("runtime/") and not path.startswith("runtime/base/mem.c"):
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"(?<![\w.>])(malloc|calloc|realloc|free)\s*\(", line):
                yield f"{path}:{number}: memory goes through base/mem.h"


def main():
    found = []
    for path in files():
        text = Path(path).read_text()
        for check in (check_layers, check_sizes, check_names):
            found += check(path, text)
    print("\n".join(found) or "style: nothing found", file=sys.stderr if found else sys.stdout)
    return bool(found)


sys.exit(main())
