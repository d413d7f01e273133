"""A run on many ranks is the run on one: started, stopped, killed, and gone on with on another layout."""

import ast
import os
import signal
import subprocess
import sys

import pytest
import torch
from parallel.pool import ranks
from train.nursery import nursery
from train.ranked import (
    LONG,
    STEPS,
    apart,
    begun,
    filled,
    newest,
    pid_of,
    reached,
    told_by,
    went,
    went_with_a_sick_part,
)

from puna.model.hf import write_folder
from puna.train.recipe import read_recipe
from puna.train.saved import SavedWeights

pytestmark = pytest.mark.ranks
CLOSE = 1e-10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The recipe, and the curve of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("nursery")
    recipe = nursery(folder)
    return recipe, went(recipe, folder / "alone")


def test_a_checkpoint_goes_on_on_any_layout_with_the_same_curve(place, tmp_path):
    recipe, whole = place
    many = [
        (2, ("--layout.shard", "2"), 7),
        (1, (), 13),
        (2, ("--layout.replicate", "2", "--micro", "1"), 19),
        (4, ("--layout.replicate", "2", "--layout.shard", "2"), 25),
        (4, ("--layout.shard", "2", "--layout.tensor", "2"), 31),
        (4, ("--layout.pipeline", "2", "--layout.context", "2", "--micro", "1"), None),
    ]
    at = 0
    for count, layout, until in many:
        job = (recipe, tmp_path / "run", layout, until)
        for curve in ranks(count)(went, *job) if count > 1 else [went(*job)]:
            assert apart(curve, whole[at:until]) < CLOSE
        at = until - until % 3 if until else 0  # the last checkpoint
    assert told_by(tmp_path / "run")[-1][0] == STEPS - 1


def test_what_one_rank_finds_damaged_none_loads(place, tmp_path):
    recipe, _ = place
    ranks(2)(went, recipe, tmp_path, (), 8)
    step = tmp_path / "checkpoints" / "step-00000006"
    file = step / "tensors" / "__1_0.distcp"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert ranks(2)(newest, recipe, tmp_path) == ["step-00000003"] * 2
    file.write_bytes(good[:-1])
    assert ranks(2)(newest, recipe, tmp_path) == ["step-00000003"] * 2
    file.write_bytes(good)
    assert ranks(2)(newest, recipe, tmp_path) == ["step-00000006"] * 2


def test_what_is_not_finite_on_one_rank_is_left_out_by_all(place, tmp_path):
    recipe, whole = place
    one, two = ranks(2)(went_with_a_sick_part, recipe, tmp_path, 1, 3)
    assert [skipped for *_, skipped in one] == [False, False, True, False, False, False]
    assert [step for step, *_ in one] == list(range(6)) and str(one) == str(two)
    assert one[1][1] == pytest.approx(whole[1][1], abs=CLOSE) and one[3][1] != whole[3][1]


def test_ranks_write_a_model_whole_and_each_reads_its_rows_of_it(place, tmp_path):
    recipe, _ = place
    ranks(2)(went, recipe, tmp_path, (), 4)
    saved = SavedWeights(tmp_path / "checkpoints" / "step-00000003", read_recipe(recipe, LONG).model)
    write_folder(saved, tmp_path / "model", "F32")
    for found in ranks(2)(filled, tmp_path / "model"):
        assert found and all(torch.equal(tensor, saved.read(name)) for name, tensor in found.items())


def test_a_rank_killed_is_started_again_and_a_signal_to_one_stops_all(place, tmp_path):
    recipe, whole = place
    folder = tmp_path / "run"
    process = begun(recipe, folder, "--ranks", "2", "--restarts", "1")
    reached(process, folder, 7)
    os.kill(pid_of(1, folder), signal.SIGKILL)
    reached(process, folder, 20)
    os.kill(pid_of(1, folder), signal.SIGTERM)
    said = process.communicate()
    assert process.returncode == 75, said
    told = told_by(folder)
    assert apart(told, whole[: len(told)]) < CLOSE
    assert "saved after step" in said[0] and "resumed" in said[1]
    assert apart(went(recipe, folder), whole[len(told) :]) < CLOSE, "nothing is done again after a signal"


@pytest.mark.slow
@pytest.mark.parametrize("time", range(10))
def test_torchrun_starts_killed_ranks_again_every_time(place, tmp_path, time):
    recipe, whole = place
    folder = tmp_path / "run"
    process = begun(
        recipe, folder, by_torchrun=("--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
    )
    for rank, step in ((time % 2, 5 + time), (1 - time % 2, 20 + time)):
        reached(process, folder, step)
        os.kill(pid_of(rank, folder), signal.SIGKILL)
    said = process.communicate()
    assert process.returncode == 0, said
    assert apart(told_by(folder), whole) < CLOSE


@pytest.mark.slow
def test_a_rank_that_hangs_is_killed_and_all_start_again(place, tmp_path):
    recipe, whole = place
    folder = tmp_path / "run"
    process = begun(recipe, folder, "--ranks", "2", "--restarts", "1", "--guard.hang_s", "20")
    reached(process, folder, 7)
    os.kill(pid_of(1, folder), signal.SIGSTOP)
    said = process.communicate()
    assert process.returncode == 0, said
    assert "rank 0: a step took longer than hang_s = 20 s" in said[1] and "all_reduce" in said[1]
    assert apart(told_by(folder), whole) < CLOSE


ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from train.ranked import begun, reached, told_by
recipe, disk = map(Path, sys.argv[1:])
def mount(size, *more): subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k,{more[0]}", "tmpfs", disk], check=True)
mount(1500, "mode=700")
process = begun(recipe, disk / "run", "--ranks", "2")
said = process.communicate()
assert process.returncode == 2 and "no checkpoint could be written: rank" in said[1] and "make room" in said[1], said
assert "No space left" in said[1], said
whole = [path.name for path in (disk / "run" / "checkpoints").glob("step-*")]
assert whole == ["step-00000003"], whole
mount(1 << 16, "remount")
process = begun(recipe, disk / "run", "--ranks", "2")
said = process.communicate()
assert process.returncode == 0 and "step-00000003" in said[1], said
print(told_by(disk / "run"))
"""


@pytest.mark.slow
def test_a_disk_full_for_one_rank_is_said_and_the_run_goes_on_where_there_is_room(place, tmp_path):
    recipe, whole = place
    if subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    ).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    command = ["unshare", "-rm", sys.executable, "-c", ON_A_SMALL_DISK, str(recipe), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert apart(ast.literal_eval(ended.stdout), whole) < CLOSE
