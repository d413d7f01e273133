"""Batches grow within a stage, token for token as told, and recipes that come with Puna are what they say."""

import pytest
import torch
from train.nursery import nursery

from puna.errors import ConfigError
from puna.model.config import HERD, parameters
from puna.parallel.layout import Layout
from puna.train.batches import Ahead, Batches
from puna.train.recipe import Stage, read_recipe
from puna.train.schedule import Schedule
from puna.train.start import carry_out, start


def stage(**said):
    return Stage.read({"tokens": 100_000, "sequence": 10, "batch": 64, "weights": {"a": 1}} | said, "stage")


def test_a_batch_grows_evenly_over_the_tokens_of_its_ramp():
    ramp = stage(batch_from=16, ramp=30_000)
    assert ramp.batches == ((63, 16), (31, 32), (21, 48), (109, 64))
    assert [sum(n * size * 10 for n, size in ramp.batches[:k]) for k in (1, 2, 3)] == [10_080, 20_000, 30_080]
    assert 0 <= ramp.tokens - ramp.sequences * 10 < 640


def test_no_sequence_is_read_twice_or_left_out_on_the_way():
    for ramp in (
        stage(),
        stage(batch_from=16, ramp=30_000),
        stage(batch_from=12, ramp=900),
        stage(batch_from=4, ramp=100_000),
    ):
        following = 0
        for step in range(ramp.steps + 3):  # three beyond its end: it goes on
            first, size = ramp.at(step)
            assert first == following and size % 4 == 0 and size <= 64
            following += size
            assert following == ramp.sequences or step != ramp.steps - 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"batch_from": 16}, "both of batch_from and ramp"),
        ({"ramp": 16}, "both of batch_from and ramp"),
        ({"batch_from": 16, "ramp": 200_000}, "in a stage of 100,000"),
        ({"batch_from": 64, "ramp": 1000}, "does not rise to 64"),
    ],
)
def test_a_ramp_that_cannot_be_is_refused(said, why):
    with pytest.raises(ConfigError, match=why):
        stage(**said)


def test_a_run_on_a_ramp_reads_what_was_counted_and_resumes_to_the_bit(tmp_path):
    path = nursery(tmp_path)
    path.write_text(path.read_text().replace("batch = 4\n", "batch = 8\nbatch_from = 2\nramp = 1024\n"))
    recipe = read_recipe(path)
    whole, cut = start(recipe, tmp_path / "whole"), tmp_path / "cut"
    told = list(carry_out(whole))
    assert recipe.stage[0].batches == ((6, 2), (3, 4), (2, 6), (1, 8)) and len(told) == 12 + 6
    rows = [sum(len(part.tokens) for part in whole.batches(n)) for n in range(12)]
    assert rows == [2] * 6 + [4] * 3 + [6] * 2 + [8]
    assert [loader.shares[-1].before for _, loader in whole.batches.stages][1] > 0
    for until in (7, 10, None):
        again = list(carry_out(start(recipe, cut), until))
    assert again[-1].loss == told[-1].loss and again[-1].gradient == told[-1].gradient
    assert (cut / "model/model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()


def test_lengths_need_not_divide_each_other(tmp_path):
    path = nursery(tmp_path)
    path.write_text(path.read_text().replace("sequence = 64", "sequence = 48"))
    batches = Batches(read_recipe(path), "cpu")
    assert batches.rows["a"].unit == 96 and batches(12)[0].tokens.shape == (2, 48)
    held = list(batches.held_out("a", 100))
    assert {part.tokens.shape[1] for part in held} == {48}
    assert sum(len(part.tokens) for part in held) == 2 * batches.rows["a"].held


def test_batches_made_ahead_are_the_same_batches(tmp_path):
    batches = Batches(read_recipe(nursery(tmp_path)), "cpu")
    ahead = Ahead(batches, 2)
    for number in (0, 1, 2, 9, 10, 3, 16):
        for ours, plain in zip(ahead(number), batches(number), strict=True):
            assert all(torch.equal(getattr(ours, name), getattr(plain, name)) for name in vars(plain))
    assert set(ahead._coming) == {17, 18}
    ahead.close()


def test_what_goes_wrong_with_a_batch_made_ahead_is_told_when_it_is_wanted():
    def some(number):
        if number == 2:
            raise OSError("the disk is gone")
        return [number]

    ahead = Ahead(some, 3)
    assert [ahead(0), ahead(1)] == [[0], [1]]
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(2)
    ahead.close()


def test_the_rate_falls_to_zero_over_the_last_stage():
    schedule = Schedule(peak=1.0, shape="wsd", decay=10, last=0.5, anneal="stage")
    rates = [schedule.rate(step, 100, 20) for step in range(100)]
    assert (
        rates[69] == 1 and rates[80] == pytest.approx(0.5 * 20 / 21) and rates[-1] == pytest.approx(0.5 / 21)
    )
    falls = [a - b for a, b in zip(rates[80:], [*rates[81:], 0.0], strict=True)]
    assert max(falls) == pytest.approx(min(falls)), "evenly, and the step after the last one would have zero"


def test_llama_3_405bs_recipe_is_the_papers():
    recipe = read_recipe("llama3-405b")
    assert recipe.model != HERD["3.1-405b"] == recipe.shape(recipe.model, recipe.steps)
    assert sum(stage.tokens for stage in recipe.stage) == 15_600_000_000_000
    a_step = [stage.sequence * stage.batch for stage in recipe.stage]
    assert [round(tokens / 2**20) for tokens in a_step[:3]] == [4, 8, 16]
    assert all(abs(tokens / 2**24 - 1) < 0.02 for tokens in a_step[2:])
    long = recipe.stage[3:-1]
    assert len(long) == 6 and sum(stage.tokens for stage in long) == 800_000_000_000
    assert long[0].sequence > 8192 and long[-1].sequence == recipe.model.max_position_embeddings
    assert 1_120_000 < recipe.steps < 1_200_000
    assert recipe.rate(7999) == 8e-5 and recipe.rate(recipe.ends[-2] - 1) > 8e-7
    assert recipe.schedule.rate(1_199_999, 1_200_000) == pytest.approx(8e-7, rel=1e-3)
    assert recipe.rate(recipe.steps - 1) < 1e-9
    for layout, some in (
        (Layout(tensor=8, pipeline=16, shard=64), recipe.stage[:2]),  # 8,192 GPUs
        (Layout(tensor=8, pipeline=16, shard=128), recipe.stage[2:3]),  # 16,384, as all that follow
        (Layout(tensor=8, context=16, pipeline=16, shard=8), recipe.stage[3:]),
    ):
        for stage in some:
            layout.check(recipe.model, stage.sequence, stage.batch, recipe.micro)


def test_the_nano_recipe_is_small():
    recipe = read_recipe("nano")
    assert 2e6 < parameters(recipe.model) < 1e7 and recipe.rate(recipe.steps - 1) < recipe.schedule.peak / 10
