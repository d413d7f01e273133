"""Runs of the tiny recipe on several ranks: in the pool's processes, or as a user starts them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from parallel.parity import whole

from puna import hub
from puna.model.fill import fill
from puna.parallel.apply import build
from puna.parallel.layout import Layout
from puna.parallel.world import World
from puna.quant.source import open_weights
from puna.train.batches import Part
from puna.train.recipe import read_recipe
from puna.train.start import start

STAGE = "[{tokens = 5120, sequence = 32, batch = 4, weights = {a = 3.0, b = 1.0}}]"
LONG = ("--dtype", "fp64", "--model.tie_word_embeddings", "false", "--stage", STAGE)
STEPS = 40


def went(recipe, folder, layout=(), until=None):
    """Carry out some steps in the process, alone or as a rank of the pool; what they were."""
    run = start(read_recipe(Path(recipe), (*LONG, *layout)), folder)
    return [(step.step, step.loss, step.gradient) for step in run.go(until)]


def went_with_a_sick_part(recipe, folder, rank, at):
    """The same on two ranks, the loss of one part on one rank not a number."""
    run = start(read_recipe(Path(recipe), LONG), folder)
    true, calls = run.loss, []

    def sick(model, part: Part):
        calls.append(1)
        return true(model, part) * (float("nan") if len(calls) == at and run.world.rank == rank else 1.0)

    run.loss = sick
    return [(step.step, step.loss, bool(step.skipped)) for step in run.go(6)]


def newest(recipe, folder):
    """Which checkpoint the ranks hold to be the newest."""
    return start(read_recipe(Path(recipe), LONG), folder).checkpoints.newest().name


def filled(model):
    """A MODEL's tensors, put together again from the pieces that the ranks read of them."""
    weights = open_weights(hub.find(str(model)))
    [built] = build(weights.config, World(Layout(shard=2)), torch.float32)
    fill(built, weights)
    return {name: whole(tensor) for name, tensor in built.named_parameters()}


def told_by(folder):
    """The log's steps, without their times."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["gradient"]) for r in records if r["event"] == "step"]


def apart(one, other):
    """The largest difference of two curves of the same steps."""
    assert [step for step, *_ in one] == [step for step, *_ in other]
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x[1:], y[1:], strict=True))


def begun(recipe, folder, *more, by_torchrun=()):
    """`puna train` as a process."""
    torchrun = ["-m", "torch.distributed.run", *by_torchrun] if by_torchrun else []
    words = ["-m", "puna.cli.main", "train", str(recipe), "--out", str(folder), *LONG, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def reached(process, folder, step):
    """Wait until the run's log tells of a step."""
    log, until = folder / "log.jsonl", time.monotonic() + 120
    while f'"step": {step},' not in (log.read_text() if log.exists() else ""):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        assert time.monotonic() < until, "no step in two minutes"
        time.sleep(0.005)


def pid_of(rank, folder):
    """The process that is this rank of the run in a folder."""
    for place in Path("/proc").iterdir():
        try:
            ours = place.name.isdigit() and str(folder).encode() in (place / "cmdline").read_bytes()
            if ours and f"RANK={rank}".encode() in (place / "environ").read_bytes().split(b"\0"):
                return int(place.name)
        except OSError:  # gone meanwhile, or not ours
            continue
    raise AssertionError(f"no rank {rank}")
