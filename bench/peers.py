#!/usr/bin/env python3
"""peers.py - cuddle beside llama.cpp in one run: `make bench-peers` calls it with the package in place.

The two take turns, round by round, so that a drift of the machine meets both; medians and ranges are
printed, and what counts is the ratio. Besides: a 1 GB model against the machine's read bandwidth,
decode beside a busy process, and the time from a process's start to its first token.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import busy
import llama_peer

os.environ.setdefault("CUDDLE_DEVICE", "cpu")
SMOL = "models/SmolLM2-135M-Instruct-Q4_1.gguf"
GEMMA = "models/gemma-3-270m-Q4_K_M.gguf"
LARGE = "models/bench-1gb-Q4_K.gguf"


def cuddle_speed(model, prompt, gen, args, cpu=None):
    env = dict(os.environ, **({"CUDDLE_CPU": cpu} if cpu else {}))
    out = subprocess.run([args.cuddle, "bench", model, "-p", str(prompt), "-n", str(gen), "-r", "1", "-t",
                          str(args.threads), "-o", "json"], check=True, capture_output=True, text=True, env=env)
    return json.loads(out.stdout)[0]["avg_ts"]


def take_turns(runs, rounds):
    """runs: {name: function}; {name: [values]}"""
    values = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            values[name].append(run())
    return values


def has_set(name, args):
    out = subprocess.run([args.cuddle, "plan", SMOL, "--cpu", name], capture_output=True, text=True)
    return out.returncode == 0


def row(what, ours, theirs, goal):
    o, t = statistics.median(ours), statistics.median(theirs)
    print(f"| {what} | {o:.1f} ({min(ours):.1f} - {max(ours):.1f}) | {t:.1f} ({min(theirs):.1f} - {max(theirs):.1f}) |"
          f" {o / t:.2f} | {goal} |", flush=True)


def compare(model, args, goals):
    """goals: [(name of the row, prompt, gen, set or None, goal)]"""
    with llama_peer.Llama(model, args.threads) as llama:
        for what, prompt, gen, cpu, goal in goals:
            if cpu and not has_set(cpu, args):
                print(f"| {what} | not run: no {cpu} here | | | {goal} |")
                continue
            v = take_turns({"ours": lambda: cuddle_speed(model, prompt, gen, args, cpu),
                            "theirs": lambda: llama.speed(prompt, gen)}, args.rounds)
            row(what, v["ours"], v["theirs"], goal)


def read_bandwidth(args):
    """GB/s of a streaming read over 1 GiB, by bench/op.c."""
    out = subprocess.run([args.op, "--set", "none", "--threads", str(args.threads)], check=True, capture_output=True,
                         text=True)
    return float(out.stdout.split("stream ")[1].split()[0])


def large(args):
    if not Path(LARGE).exists():
        subprocess.run(["bench/large_model.py", LARGE], check=True)
    plan = json.loads(subprocess.run([args.cuddle, "plan", LARGE, "--json"], check=True, capture_output=True,
                                     text=True).stdout)
    size = plan["weights_bytes"]  # the tied head reads all of the embedding
    with llama_peer.Llama(LARGE, args.threads) as llama:
        v = take_turns({"ours": lambda: cuddle_speed(LARGE, 0, 32, args), "theirs": lambda: llama.speed(0, 32),
                        "read": lambda: read_bandwidth(args)}, args.rounds)
    row(f"decode, {plan['weights_bytes'] / 1e9:.2f} GB model", v["ours"], v["theirs"], "1.5 x")
    share = [o * size / 1e9 / r for o, r in zip(v["ours"], v["read"])]
    print(f"\n1 GB model: {statistics.median(v['ours']) * size / 1e9:.1f} GB/s of weights, streaming read "
          f"{statistics.median(v['read']):.1f} GB/s: {100 * statistics.median(share):.0f} % (goal 85 %)")


def first_token(args):
    """Milliseconds from exec to the first byte of the answer, page cache warm."""
    times = []
    for _ in range(args.rounds + 1):
        begin = time.perf_counter()
        p = subprocess.Popen([args.cuddle, "run", SMOL, "Hi", "--greedy", "-n", "4"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        p.stdout.read(1)
        times.append(1000 * (time.perf_counter() - begin))
        p.communicate()
    times = times[1:]
    print(f"start to first token, SmolLM2: {statistics.median(times):.0f} ms ({min(times):.0f} - {max(times):.0f}),"
          " goal 300 ms")


def beside_a_busy_process(args):
    a = argparse.Namespace(cuddle=args.cuddle, model=SMOL, threads=args.threads, tokens=256, rounds=args.rounds,
                           cpu=max(os.sched_getaffinity(0)))
    ours = busy.measure(busy.cuddle_speed, a)
    with llama_peer.Llama(SMOL, args.threads) as llama:
        theirs = busy.measure(lambda x: llama.speed(0, x.tokens), a)
    print(f"decode beside a busy process / alone: cuddle {ours['ratio']:.2f} (goal 0.5), llama.cpp {theirs['ratio']:.2f}")


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{model}, {len(os.sched_getaffinity(0))} processors, {platform.system()} {platform.release()}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cuddle", default="build/cuddle")
    p.add_argument("--op", default="build/bench/op")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", choices=["smol", "gemma", "large", "busy", "start"], action="append",
                   help="one part of it; repeatable")
    args = p.parse_args()
    only = args.only or ["smol", "gemma", "large", "busy", "start"]

    print(f"{datetime.date.today()}, {machine()}, {args.threads} threads, median (range) of {args.rounds}\n")
    print("| tokens per second | cuddle | llama.cpp | ratio | goal |\n|---|---|---|---|---|")
    if "smol" in only:
        compare(SMOL, args, [("decode, SmolLM2 Q4_1", 0, 128, None, "3 x, aim 4.2 x"),
                             ("prefill 512, SmolLM2, AMX", 512, 0, "amx", "12 x, aim 25 x"),
                             ("prefill 512, SmolLM2, AVX-512", 512, 0, "avx512", "4 x"),
                             ("prefill 512, SmolLM2, AVX2", 512, 0, "avx2", "-")])
    if "gemma" in only:
        compare(GEMMA, args, [("decode, Gemma 3 270M Q4_K_M", 0, 128, None, "2.5 x"),
                              ("prefill 512, Gemma 3 270M", 512, 0, None, "6 x")])
    if "large" in only:
        large(args)
    if "busy" in only:
        beside_a_busy_process(args)
    if "start" in only:
        first_token(args)


if __name__ == "__main__":
    main()
