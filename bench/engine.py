"""Our engine against llama.cpp on the same GGUF, prompt and threads, in turns, as one line of JSON.

    python -m bench.engine [--model smollm2] [--rounds 5] [--threads 2]

Decode: tokens a second after the first one, greedy. Prefill: a prompt's tokens over the seconds to the first
token. A ratio above 1 is in our favour.
"""

import argparse
import json
import statistics
import time

from bench.machine import facts
from puna import hub
from puna.engine.load import open_chat
from puna.engine.request import Request, Sampling
from puna.hardware import cores

DECODED, PREFILLED = 64, 512
TEXT = "The high grassland lies between two ranges, and the animals that live there know no other place. "


class Ours:
    def __init__(self, model: str, threads: int):
        self.session = open_chat(model, threads=threads)

    def __call__(self, ids: list[int], count: int) -> tuple[float, float]:
        """(seconds to the first token, seconds of the others)."""
        request = Request(ids=tuple(ids), sampling=Sampling(temperature=0), max_tokens=count)
        start, marks = time.perf_counter(), []
        for event in self.session.engine.submit(request):
            marks += [time.perf_counter()] * len(event.ids)
        assert len(marks) == count
        return marks[0] - start, marks[-1] - marks[0]


class LlamaCpp:
    def __init__(self, path: str, threads: int):
        import llama_cpp

        self.model = llama_cpp.Llama(
            path,
            n_ctx=PREFILLED + DECODED,
            n_batch=PREFILLED,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def __call__(self, ids: list[int], count: int) -> tuple[float, float]:
        self.model.reset()
        start, marks = time.perf_counter(), []
        for _ in self.model.generate(ids, temp=0.0, repeat_penalty=1.0):
            marks.append(time.perf_counter())
            if len(marks) == count:
                return marks[0] - start, marks[-1] - marks[0]
        raise AssertionError("llama.cpp stopped early")


def measure(model: str, rounds: int, threads: int) -> dict[str, object]:
    ours, theirs = Ours(model, threads), LlamaCpp(str(hub.find(model).path), threads)
    ids = ours.session.tokenizer.encode(TEXT * 40)
    rates: dict[str, tuple[list[float], list[float]]] = {"decode": ([], []), "prefill": ([], [])}
    for turn in range(rounds):
        for side, run in enumerate((ours, theirs)):
            fresh = ids[turn + 1 : turn + 1 + PREFILLED]  # another beginning each time: nothing is remembered
            rates["prefill"][side].append(PREFILLED / run(fresh, 1)[0])
            rates["decode"][side].append((DECODED - 1) / run(ids[turn : turn + 16], DECODED)[1])
    ours.session.close()
    return {name: _compared(*both) for name, both in rates.items()}


def _compared(ours: list[float], theirs: list[float]) -> dict[str, object]:
    ours_best, theirs_best = ({"best": max(r), "median": statistics.median(r)} for r in (ours, theirs))
    ratio = {name: round(ours_best[name] / theirs_best[name], 3) for name in ours_best}
    rounded = [{name: round(value, 1) for name, value in side.items()} for side in (ours_best, theirs_best)]
    return {"puna_tokens_s": rounded[0], "llama_cpp_tokens_s": rounded[1], "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    chosen = parser.parse_args()
    about = {"bench": "engine", "model": chosen.model, "threads": chosen.threads}
    results = measure(chosen.model, chosen.rounds, chosen.threads)
    print(json.dumps(about | facts("torch", "llama-cpp-python") | results))


if __name__ == "__main__":
    main()
