#!/usr/bin/env python3
"""Decode speed alone and beside a busy process on one core, for cuddle and llama.cpp.

    bench/busy.py models/SmolLM2-135M-Instruct-Q4_1.gguf [--threads 2] [--rounds 5] [--json]

The two states take turns, so that a drift of the machine meets both. llama.cpp is measured
when the Python package llama_cpp can be imported. Prints tokens per second, median over
the rounds with the range, and the ratio busy / alone.
"""
import argparse
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time


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


def llama_worker(pipe, args):
    """Keeps a model open and measures when asked to, so that loading is not repeated."""
    import llama_cpp
    model = llama_cpp.Llama(args.model, n_ctx=args.tokens + 16, n_threads=args.threads,
                            n_threads_batch=args.threads, verbose=False)
    model.eval([1, 2])
    while pipe.recv():
        model.reset()
        model.eval([1])
        begin = time.perf_counter()
        for i in range(args.tokens):
            model.eval([100 + i])
        pipe.send(args.tokens / (time.perf_counter() - begin))


class Llama:
    def __init__(self, args):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=llama_worker, args=(theirs, args), daemon=True)
        self.process.start()

    def speed(self, _):
        self.pipe.send(True)
        return self.pipe.recv()

    def close(self):
        self.pipe.send(False)
        self.process.join()


def has_llama():
    try:
        import llama_cpp  # noqa: F401
        return True
    except ImportError:
        return False


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
    if has_llama():
        llama = Llama(args)
        results["llama.cpp"] = measure(llama.speed, args)
        llama.close()
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
