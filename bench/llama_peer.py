"""llama.cpp as a peer to measure beside cuddle: a process of its own that keeps a model open.

Uses the Python package llama_cpp, but its C functions directly, so that Python's share is small.
"""
import multiprocessing
import time


def available():
    try:
        import llama_cpp  # noqa: F401
        return True
    except ImportError:
        return False


def _worker(pipe, model, threads, context):
    import llama_cpp as c
    llm = c.Llama(model, n_ctx=context, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads,
                  verbose=False)

    def step(tokens):
        array = (c.llama_token * len(tokens))(*tokens)
        if c.llama_decode(llm.ctx, c.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        c.llama_get_logits_ith(llm.ctx, -1)

    def measure(prompt, gen):
        """Seconds of a prompt of so many tokens, or of so many generated ones."""
        c.llama_memory_clear(c.llama_get_memory(llm.ctx), True)
        begin = time.perf_counter()
        if prompt:
            for first in range(0, prompt, 512):
                step([100 + i for i in range(first, min(first + 512, prompt))])
        for i in range(gen):
            step([100 + i])
        return time.perf_counter() - begin

    measure(8, 0)
    pipe.send(c.llama_print_system_info().decode().strip())
    while (work := pipe.recv()) is not None:
        pipe.send(measure(*work))


class Llama:
    """with Llama(model, threads) as peer: peer.speed(512, 0) -> tokens per second"""

    def __init__(self, model, threads, context=2048):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_worker, args=(theirs, model, threads, context), daemon=True)
        self.process.start()
        self.info = self.pipe.recv()

    def speed(self, prompt, gen):
        self.pipe.send((prompt, gen))
        return (prompt + gen) / self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
