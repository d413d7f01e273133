"""kill -9 at any moment, of the run or of a worker: run again, and all is as if nothing had been."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from storm import begun, below, build, carried_out, done, tree, whole

DOCUMENTS = 4 * 60


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a run that nothing befell, and the hash of its files."""
    folder = build(tmp_path_factory.mktemp("world"))
    return folder, carried_out(folder, "calm", "--runner", "inline")


def killed_at(process, out: Path, moment: int, rng: random.Random, everyone: bool) -> bool:
    """Kill it a few milliseconds after so many tasks are done; False where it came to its end before."""
    while done(out) < moment and process.poll() is None:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.03))
    alive = process.poll() is None
    (os.killpg if everyone else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


@pytest.mark.parametrize(
    ("kills", "runs", "everyone"),
    [
        (3, 1, True),
        pytest.param(20, 5, True, marks=pytest.mark.slow),
        pytest.param(20, 5, False, marks=pytest.mark.slow),
    ],
    ids=["3", "20", "20 of the parent alone"],
)
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_been(world, kills, runs, everyone, request):
    folder, digest = world
    rng, tasks, hit = random.Random(f"{kills} {everyone}"), done(folder / "calm"), 0
    for run in range(runs):
        out = f"{request.node.callspec.id}-{run}"
        for moment in sorted(rng.sample(range(tasks), kills // runs)):
            process = begun(folder, out, "-j", "2")
            hit += killed_at(process, folder / out, moment, rng, everyone)
        assert carried_out(folder, out, "-j", "2") == digest  # a worker whose parent is gone may still write
        assert carried_out(folder, out, "--runner", "inline") == digest
        assert tree(folder / out) == tree(folder / "calm")
        whole(folder / out, DOCUMENTS)
    assert hit >= 0.9 * kills


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_goes_on_when_its_workers_are_killed(world, kills):
    folder, digest = world
    out, rng = f"workers-{kills}", random.Random(kills)
    process, hit = begun(folder, out, "-j", "2"), 0
    for moment in sorted(rng.sample(range(done(folder / "calm") - 20), kills)):
        while done(folder / out) < moment and process.poll() is None:
            time.sleep(0.002)
        workers = [pid for pid in below(process.pid) if "spawn_main" in words_of(pid)]
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            hit += 1
    said, problem = process.communicate(timeout=300)
    assert (process.returncode, said.split()[-1:]) == (0, [digest]), problem
    assert tree(folder / out) == tree(folder / "calm") and hit >= kills - 1
    whole(folder / out, DOCUMENTS)


def words_of(pid: int) -> str:
    """The command line of a process, "" if it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
