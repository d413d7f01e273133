"""A run on many ranks is the run on one: started, stopped, killed, and gone on with on another layout."""

import os
import signal

import pytest
import torch
from parallel.pool import ranks
from train.nursery import nursery
from train.ranked import (
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
        (4, ("--layout.shard", "4"), None),
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
    saved = SavedWeights(tmp_path / "checkpoints" / "step-00000003", read_recipe(recipe).model)
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
