"""A bad step is left out and said; a run that is lost goes back, past what spoilt it, to the bit each time."""

import json
from dataclasses import dataclass

import pytest
from train.nursery import nursery

from puna.errors import DataError
from puna.train.batches import Batches, Part
from puna.train.health import Health, HealthSettings
from puna.train.recipe import read_recipe
from puna.train.start import carry_out, start

REWINDS = ["--health.least", "4", "--health.most_rise", "2", "--health.rewind_after", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("health")
    return nursery(folder, "keep = 9"), folder


@dataclass(frozen=True)
class Bad(Part):
    """Some sequences that spoil the loss."""


class Spoilt(Batches):
    numbers = ()

    def __call__(self, number):
        parts = super().__call__(number)
        return [Bad(**vars(part)) for part in parts] if number in self.numbers else parts


def run_with(recipe, folder, numbers, factor=float("nan"), times=1_000):
    """A run in which the loss of some batches is multiplied, the first so many times that a part is read."""
    run = start(recipe, folder)
    true, left = run.loss, [times]
    run.batches = Spoilt(recipe, "cpu")
    run.batches.numbers = numbers

    def loss(model, part):
        bad = isinstance(part, Bad) and left[0] > 0
        left[0] -= bad
        return true(model, part) * (factor if bad else 1.0)

    run.loss = loss
    return run


def weights(folder):
    return (folder / "model/model.safetensors").read_bytes()


def records(folder, *kinds):
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in found if record["event"] in kinds]


def test_a_batch_of_not_a_number_is_left_out_and_the_run_ends_well(place, tmp_path):
    path, _ = place
    told = list(carry_out(run_with(read_recipe(path), tmp_path, (5, 6))))
    assert [step.step for step in told if step.skipped] == [5, 6] and "loss nan" in told[5].skipped
    assert told[-1].loss < told[0].loss - 0.5 and weights(tmp_path)


def test_going_back_is_never_having_seen_what_was_left_out(place, tmp_path):
    path, _ = place
    recipe = read_recipe(path, REWINDS)
    told = list(carry_out(run_with(recipe, tmp_path / "back", (8, 9), 3.0)))
    assert [step.step for step in told] == list(range(18)) and not any(step.skipped for step in told)
    [back] = records(tmp_path / "back", "rewound")
    assert back["left_out"] == [6, 9] and back["checkpoint"].endswith("step-00000006")
    list(carry_out(run_with(recipe, tmp_path / "without", (6, 7, 8, 9))))
    assert weights(tmp_path / "back") == weights(tmp_path / "without")
    for until in (9, 10, 11, None):
        list(carry_out(run_with(recipe, tmp_path / "cut", (8, 9), 3.0), until))
    assert weights(tmp_path / "cut") == weights(tmp_path / "back")
    seen = [
        [(r["event"], r["step"]) for r in records(tmp_path / name, "step", "rewound")]
        for name in ("back", "cut")
    ]
    assert seen[0] == seen[1]


def test_without_a_checkpoint_from_before_it_is_said_and_the_run_goes_on(place, tmp_path):
    path, _ = place
    recipe = read_recipe(path, [*REWINDS, "--checkpoint_every", "100"])
    told = list(carry_out(run_with(recipe, tmp_path, (8, 9), 3.0)))
    assert len(told) == 18 and records(tmp_path, "risen")[0]["step"] == 9


def test_a_batch_tried_again_tells_a_machine_from_the_data(place, tmp_path):
    path, _ = place
    recipe = read_recipe(path, ["--health.repeat_bad", "true"])
    list(carry_out(start(recipe, tmp_path / "well")))
    told = list(carry_out(run_with(recipe, tmp_path / "machine", (5,), times=1)))
    assert not told[5].skipped and "loss nan" in told[5].repeated
    assert weights(tmp_path / "machine") == weights(tmp_path / "well")
    told = list(carry_out(run_with(recipe, tmp_path / "data", (5,))))
    assert told[5].skipped and "loss nan" in told[5].repeated
    assert weights(tmp_path / "data") != weights(tmp_path / "well")


def test_what_is_usual_is_learned_from_steps_that_were():
    health = Health(HealthSettings(least=4, rewind_after=3))
    told = [health.judge(loss, 1.0) for loss in (5.0, 4.9, 5.1, 5.0, 4.8)]
    assert told == [""] * 5 and "gradient 11" in health.judge(4.9, 11.0)
    for loss in (9.0, 9.0, 5.0, 9.0, 9.0):
        assert not health.judge(loss, 1.0) and not health.is_lost
    assert not health.judge(9.0, 1.0) and health.is_lost
    again = Health(HealthSettings(least=4, rewind_after=3))
    again.load(json.loads(json.dumps(health.state())))
    assert again.state() == health.state() and again.is_lost
    health.new_level()
    for loss in (9.0, 9.1, 9.0, 8.9, 9.0, 9.1):
        health.judge(loss, 1.0)
    assert not health.is_lost, "a stage of other data has another loss"


def test_going_back_again_and_again_ends_the_run():
    health = Health(HealthSettings(least=4, rewind_after=1, most_rewinds=2, window=10))
    before = health.state()
    health.rewound(before)
    health.rewound(before)
    for _ in range(10):
        health.judge(5.0, 1.0)
    health.rewound(before)
    health.rewound(before)
    with pytest.raises(DataError, match="3 times in 10 steps"):
        health.rewound(before)
