"""The mean of the last weights is the mean, is resumed, and is what the run ends in."""

import json

import pytest
import torch
from train.nursery import nursery

from puna import hub
from puna.errors import DataError
from puna.quant.source import open_weights
from puna.train.average import Average, AverageSettings, mean_of
from puna.train.recipe import read_recipe
from puna.train.start import carry_out, start


def averaged(settings, steps=10, last_stage=4):
    """The mean of a weight that is its step's number after each step."""
    weight = torch.zeros(2, 3)
    average = Average(AverageSettings(**settings), {"w": weight}, steps, last_stage)
    for step in range(steps):
        weight.fill_(step)
        average.take(step)
    assert float(weight[0, 0]) == steps - 1
    return average


@pytest.mark.parametrize(
    ("settings", "of"),
    [
        ({"last": 4}, [6, 7, 8, 9]),
        ({"last": "stage"}, [6, 7, 8, 9]),
        ({"last": 7, "every": 3}, [3, 6, 9]),
        ({"last": 1}, [9]),
    ],
)
def test_a_plain_mean_is_of_every_so_many_steps_and_of_the_last(settings, of):
    average = averaged(settings)
    assert average.count == len(of)
    torch.testing.assert_close(average.state()["mean.w"], torch.full((2, 3), sum(of) / len(of)))


def test_an_exponential_mean_forgets():
    wanted = 6.0
    for step in (7, 8, 9):
        wanted = 0.8 * wanted + 0.2 * step
    mean = averaged({"last": 4, "decay": 0.8}).state()["mean.w"]
    torch.testing.assert_close(mean, torch.full((2, 3), wanted))


def test_without_a_mean_nothing_is_held():
    average = averaged({})
    assert average.state() == {} and average.count == 0
    with average.as_weights():
        assert float(average.masters["w"][0, 0]) == 9


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_run_ends_in_the_mean_of_its_last_stage_wherever_it_was_stopped(tmp_path, dtype):
    path = nursery(tmp_path, f'dtype = "{dtype}"\nkeep = 9')
    average = {"average.last": "stage", "average.every": "2", "checkpoint_every": "2"}
    recipe = read_recipe(path, [part for pair in average.items() for part in pair])
    whole = start(recipe, tmp_path / "whole")
    list(carry_out(whole))
    judged = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    judged = [(record["step"], record["weights"]) for record in judged if record["event"] == "judged"]
    assert judged == [(6, "last"), (12, "last"), (18, "last"), (18, "mean")]
    for until in (13, 16, 18):
        list(carry_out(start(recipe, tmp_path / "cut"), until))
    name = "model/model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()

    checkpoints = [tmp_path / f"whole/checkpoints/step-{step:08}" for step in (14, 16, 18)]
    written = open_weights(hub.find(str(tmp_path / "whole/model")))
    means = dict(mean_of(checkpoints))
    assert means.keys() == whole.optimizer.masters.keys()
    for name, mean in means.items():
        torch.testing.assert_close(mean, whole.average.means[name])
        torch.testing.assert_close(written.read(name).float(), mean.bfloat16().float())
        assert not torch.equal(mean, whole.optimizer.masters[name])


def test_checkpoints_of_two_models_have_no_mean(tmp_path):
    path = nursery(tmp_path)
    for name, width in (("one", "64"), ("two", "32")):
        list(carry_out(start(read_recipe(path, ["--model.intermediate_size", width]), tmp_path / name), 3))
    paths = [tmp_path / name / "checkpoints/step-00000003" for name in ("one", "two")]
    with pytest.raises(DataError, match="another model"):
        next(mean_of(paths))
