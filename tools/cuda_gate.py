#!/usr/bin/env python3
"""cuda_gate.py LOG... - reads what `ptxas -v` said and fails when a kernel spills, has a stack, takes too much, or
when products by wgmma wait for each other, because their registers are touched while they run.

Prints one line in all; with V=1 in the environment one a kernel: registers, shared memory."""
import os
import re
import sys

REGISTERS_MAX = 255
SHARED_MAX = 48 << 10  # static; more needs the dynamic kind


def kernels(path):
    """(name, registers, spilled bytes, stack bytes, static shared bytes) of each kernel in a log."""
    name, spills, stack = None, 0, 0
    for line in open(path):
        if m := re.search(r"entry function '(\w+)'", line):
            name, spills, stack = m[1], 0, 0
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spills = int(m[1]), int(m[2]) + int(m[3])
        elif name and (m := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            yield name, int(m[1]), spills, stack, int(shared[1]) if shared else 0
            name = None


def main():
    bad, count, most = [], 0, 0
    for path in sys.argv[1:]:
        found = list(kernels(path))
        bad += [f"{path}: {line.strip()}" for line in open(path) if "wgmma.mma_async instructions are serialized" in line]
        if not found:
            bad.append(f"{path}: no kernel in it")
        for name, registers, spills, stack, shared in found:
            count, most = count + 1, max(most, registers)
            if os.environ.get("V"):
                print(f"  {name}: {registers} registers, {shared} bytes of shared memory")
            if spills or stack or registers > REGISTERS_MAX or shared > SHARED_MAX:
                bad.append(f"{path}: {name}: {registers} registers, {spills} bytes spilled, {stack} of stack, {shared} shared")
    print("\n".join(bad) if bad else f"  {count} CUDA kernels, no spills, at most {most} registers")
    return bool(bad)


sys.exit(main())
