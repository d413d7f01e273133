"""Our native forward step against llama.cpp on the same GGUF and ids, in turns, as JSON.

    python -m bench.native MODEL... [--rounds 5] [--threads 2] [--depth 4096]

Decode: tokens a second, one sequence after 16 positions. Prefill: 512 positions at once. Eight: rows a second
of eight sequences that each read one token, 64 positions deep. Deep: decode after `depth` positions. A ratio
above 1 is in our favour. `bandwidth` is what all threads read of memory in the same minute.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from bench.machine import facts
from puna import hub
from puna.engine.native import PAGE, NativeRunner
from puna.engine.step import Step
from puna.hardware import cores
from puna.kernels import llama
from puna.quant.source import open_weights

PREFILLED, DECODED, TOGETHER = 512, 32, 8


class Ours:
    def __init__(self, path: str, threads: int, depth: int):
        self.weights = open_weights(hub.find(path))
        self.each = -(-(max(depth, PREFILLED) + 2 * DECODED) // PAGE)  # pages of a sequence
        self.runner = NativeRunner(self.weights, TOGETHER * self.each, threads)
        self.bytes = self.runner.model.bytes

    def read(self, sequences: list[list[int]], held: int) -> None:
        starts = np.cumsum([0, *map(len, sequences)]).tolist()
        pages = [list(range(n * self.each, (n + 1) * self.each)) for n in range(len(sequences))]
        wanted = [stop - 1 for stop in starts[1:]]
        self.runner.run(
            Step([id for ids in sequences for id in ids], starts, [held] * len(sequences), pages, wanted)
        )


class LlamaCpp:
    """Through its C interface: ids in, logits where they are asked for, as ours."""

    def __init__(self, path: str, threads: int, depth: int):
        import llama_cpp

        self.api = llama_cpp
        self.model = llama_cpp.Llama(str(hub.find(path).path), n_ctx=64, verbose=False)
        given = llama_cpp.llama_context_default_params()
        given.n_ctx = TOGETHER * (max(depth, PREFILLED) + 2 * DECODED)
        given.n_batch = given.n_ubatch = PREFILLED
        given.n_threads = given.n_threads_batch = threads
        given.n_seq_max = TOGETHER
        self.context = llama_cpp.llama_init_from_model(self.model._model.model, given)
        self.batch = llama_cpp.llama_batch_init(PREFILLED, 0, 1)

    def read(self, sequences: list[list[int]], held: int) -> None:
        if held == 0:
            self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)
        batch, row = self.batch, 0
        for number, ids in enumerate(sequences):
            for place, id in enumerate(ids):
                batch.token[row], batch.pos[row], batch.n_seq_id[row] = id, held + place, 1
                batch.seq_id[row][0], batch.logits[row] = number, place == len(ids) - 1
                row += 1
        batch.n_tokens = row
        assert self.api.llama_decode(self.context, batch) == 0


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rates(side: Ours | LlamaCpp, ids: list[int], depth: int) -> dict[str, float]:
    """Tokens a second of each kind of work."""
    found = {"prefill": PREFILLED / seconds(lambda: side.read([ids[:PREFILLED]], 0))}
    side.read([ids[:16]], 0)
    steps = [seconds(lambda n=n: side.read([[ids[n]]], 16 + n)) for n in range(DECODED)]
    found["decode"] = 1 / statistics.median(steps)
    side.read([ids[n : n + 64] for n in range(TOGETHER)], 0)
    steps = [
        seconds(lambda n=n: side.read([[ids[n + m]] for m in range(TOGETHER)], 64 + n))
        for n in range(DECODED)
    ]
    found["eight"] = TOGETHER / statistics.median(steps)
    if depth:
        for held in range(0, depth, PREFILLED):
            side.read([ids[held : held + min(PREFILLED, depth - held)]], held)
        steps = [seconds(lambda n=n: side.read([[ids[n]]], depth + n)) for n in range(DECODED // 2)]
        found["deep"] = 1 / statistics.median(steps)
    return found


def measure(model: str, rounds: int, threads: int, depth: int) -> dict[str, object]:
    ours, theirs = Ours(model, threads, depth), LlamaCpp(model, threads, depth)
    words = ours.weights.config.vocab_size
    ids = np.random.default_rng(0).integers(0, words, max(depth, PREFILLED)).tolist()
    told: tuple[list[dict[str, float]], ...] = ([], [])
    bandwidth = []
    for _ in range(rounds):
        for side, found in zip((ours, theirs), told, strict=True):
            found.append(rates(side, ids, depth))
        bandwidth.append(llama.native().bandwidth(threads))
        print(model, [{name: round(f, 1) for name, f in side[-1].items()} for side in told], file=sys.stderr)
    rows: dict[str, object] = {}
    for work in told[0][0]:
        seen = [[found[work] for found in side] for side in told]
        both = [{"best": max(some), "median": statistics.median(some)} for some in seen]
        rows[work] = {
            "puna": {kind: round(value, 1) for kind, value in both[0].items()},
            "llama_cpp": {kind: round(value, 1) for kind, value in both[1].items()},
            "ratio": {kind: round(both[0][kind] / both[1][kind], 2) for kind in both[0]},
        }
    share = statistics.median(f["decode"] * ours.bytes / b for f, b in zip(told[0], bandwidth, strict=True))
    return rows | {"bytes": ours.bytes, "bandwidth_gb_s": [round(b / 1e9, 1) for b in bandwidth],
                   "decode_share_of_bandwidth": round(share, 2)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--depth", type=int, default=0)
    given = parser.parse_args()
    machine = facts("llama-cpp-python")
    results = {model: measure(model, given.rounds, given.threads, given.depth) for model in given.models}
    print(json.dumps({"machine": machine, "threads": given.threads, "models": results}, indent=1))


if __name__ == "__main__":
    main()
