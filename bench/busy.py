#!/usr/bin/env python3
"""Decode speed alone and beside a busy process on one core, for cuddle and llama.cpp.

    bench/busy.py models/SmolLM2-135M-Instruct-Q4_1.gguf [--threads 2] [--rounds 5] [--json]

The two states take turns, so that a drift of the machine meets both. llama.cpp is measured
when the Python package llama_cpp can be imported. Prints tokens per second, median over
the rounds with the range, and the ratio busy / alone.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import llama_peer


def spin(cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


class Busy:
    """A process that spins on one processor while the block runs."""

    def __init__(self, cpu):
        self.cpu = cpu

    def __enter__(self):
        self.pid = os.fork()
        if self.pid == 0:
            spin(self.cpu)
        time.sleep(0.2)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Nothing:
    def __enter__(self):
        time.sleep(0.2)

    def __exit__(self, *_):
        pass


def cuddle_speed(args):
    out = subprocess.run([args.cuddle, "bench", args.model, "-p", "0", "-n", str(args.tokens), "-r", "1",
                          "-t", str(args.threads), "-o", "json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)[0]["avg_ts"]


def measure(speed, args):
    alone, beside = [], []
    speed(args)
    for _ in range(args.rounds):
        with Nothing():
            alone.append(speed(args))
        with Busy(args.cpu):
            beside.append(speed(args))
    return {"alone": alone, "busy": beside, "ratio": statistics.median(beside) / statistics.median(alone)}


def describe(values):
    return f"{statistics.median(values):8.1f} ({min(values):.1f} - {max(values):.1f})"


os.environ.setdefault("CUDDLE_DEVICE", "cpu")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--cuddle", default="build/cuddle")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=256)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="where the busy process runs")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()

    results = {"cuddle": measure(cuddle_speed, args)}
    if llama_peer.available():
        with llama_peer.Llama(args.model, args.threads) as llama:
            results["llama.cpp"] = measure(lambda a: llama.speed(0, a.tokens), args)
    else:
        print("busy.py: no Python package llama_cpp here: cuddle only", file=sys.stderr)
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    print(f"decode, {args.threads} threads, tokens/s: median (range) of {args.rounds}")
    for name, r in results.items():
        print(f"{name:10} alone {describe(r['alone'])}   busy {describe(r['busy'])}   ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
