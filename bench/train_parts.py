"""The parts of a step, each against what it stands in for, in turns, as JSON.

    python -m bench.train_parts [--rounds 7] [--threads 2]

loss: peak bytes and time of the chunked loss over the plain one (N = 2048, 32K words). packed: attention of
packed documents over a boolean mask's. loop: a step of the loop over the bare operations. checkpoint: how
long a step stands still for one. start: seconds from the command to its first step.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.machine import facts
from bench.train import BATCH, SHAPES, batch, model_of
from puna.model.attend import documents, segments
from puna.train.batches import next_token_loss
from puna.train.checkpoint import Checkpoints
from puna.train.health import Health, HealthSettings
from puna.train.held import Held
from puna.train.loss import chunked_cross_entropy, cross_entropy
from puna.train.optimizer import Optimizer, OptimizerSettings
from puna.train.step import Position, in_turn, steps

ROOT = Path(__file__).parents[1]


def loss(rounds: int) -> dict:
    N, D, V = 2048, 384, 32_768
    dice = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(rows, D, generator=dice).bfloat16().requires_grad_() for rows in (N, V))
    targets, weights = torch.randint(0, V, (N,), generator=dice), torch.ones(N)

    def once(twin) -> None:
        twin(hidden, head, targets, weights)[0].backward()
        hidden.grad = head.grad = None

    peaks = {}
    for name, twin in (("plain", cross_entropy), ("chunked", chunked_cross_entropy)):
        with Held() as held:
            once(twin)
        peaks[name] = held.peak
    times = in_turns(rounds, plain=lambda: once(cross_entropy), chunked=lambda: once(chunked_cross_entropy))
    return {"peak_bytes": peaks, "peak_ratio": round(peaks["chunked"] / peaks["plain"], 3), "seconds": times}


def packed(rounds: int, dtype: torch.dtype, count: int) -> dict:
    T, H, K, Dh = 2048, 6, 2, 64
    dice = torch.Generator().manual_seed(count)
    cuts = torch.sort(torch.randperm(T - 1, generator=dice)[: count - 1] + 1).values
    owner = torch.bucketize(torch.arange(T), cuts, right=True)[None]
    q, k, v = (torch.randn(1, T, n, Dh, generator=dice).to(dtype).requires_grad_() for n in (H, K, K))

    def once(make) -> None:
        make(owner)(0, q, k, v).sum().backward()
        q.grad = k.grad = v.grad = None

    times = in_turns(rounds, mask=lambda: once(documents), segments=lambda: once(segments))
    return {"documents": count, "seconds": times, "ratio": over(times, "mask", "segments")}


def loop(rounds: int) -> dict:
    """The same steps, by the loop and by hand."""
    model = model_of("19m")
    optimizer = Optimizer([model], OptimizerSettings(), torch.bfloat16)
    accumulate, health, position = in_turn(model, next_token_loss), Health(HealthSettings()), Position()
    told = steps(accumulate, optimizer, lambda n: batch(n, "19m"), lambda _: 1e-3, health, position, 10_000)

    def by_hand() -> None:
        (part,) = batch(0, "19m")
        found = next_token_loss(model, part)
        (found[0] / part.weights.sum()).backward()
        optimizer.gather()
        optimizer.update(1e-3)

    times = in_turns(rounds * 2, loop=lambda: next(told), by_hand=by_hand)
    return {
        "seconds": times,
        "overhead": {kind: round(1 / r - 1, 4) for kind, r in over(times, "by_hand", "loop").items()},
    }


def checkpoint(rounds: int) -> dict:
    model = model_of("19m")
    optimizer = Optimizer([model], OptimizerSettings(), torch.bfloat16)
    optimizer.prepare()
    with tempfile.TemporaryDirectory() as folder:
        kept, stalls = Checkpoints(Path(folder)), []
        for step in range(1, rounds + 1):
            start = time.perf_counter()
            kept.save(step, optimizer.state(), {})
            stalls.append(time.perf_counter() - start)
            kept.settle()
    return {"stall_s": {"best": round(min(stalls), 4), "median": round(statistics.median(stalls), 4)}}


def start(rounds: int) -> dict:
    """From `puna train` to its first step: 18.9 million parameters, the shape of bench.train."""
    sys.path.insert(0, str(ROOT / "tests"))
    from train.nursery import nursery

    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        recipe, shape = nursery(Path(folder)), {**SHAPES["19m"], "vocab_size": 8192}
        words = [word for name, value in shape.items() for word in (f"--model.{name}", str(value))]
        command = [
            sys.executable,
            "-m",
            "puna.cli.main",
            "train",
            str(recipe),
            *words,
            "--steps",
            "1",
            "--json",
        ]
        for number in range(rounds):
            begun = time.perf_counter()
            done = subprocess.Popen(
                [*command, "--out", f"{folder}/{number}"], stdout=subprocess.PIPE, text=True
            )
            first = next(line for line in done.stdout if json.loads(line)["event"] == "step")
            seconds.append(time.perf_counter() - begun)
            assert first
            done.communicate()
    return {"seconds": {"best": round(min(seconds), 2), "median": round(statistics.median(seconds), 2)}}


def in_turns(rounds: int, **sides) -> dict[str, dict[str, float]]:
    """Best and median seconds of each side, A B A B, one round before that does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            begun = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begun)
    return {name: {"best": min(s[1:]), "median": statistics.median(s[1:])} for name, s in times.items()}


def over(times: dict[str, dict[str, float]], theirs: str, ours: str) -> dict[str, float]:
    return {kind: round(times[theirs][kind] / times[ours][kind], 3) for kind in ("best", "median")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = {"machine": facts("torch"), "batch": BATCH["19m"], "loss": loss(asked.rounds)}
    found["packed"] = {
        f"{name} {count}": packed(asked.rounds, dtype, count)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)) for count in (5, 21)
    }  # fmt: skip
    found |= {"loop": loop(asked.rounds), "checkpoint": checkpoint(asked.rounds), "start": start(3)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
