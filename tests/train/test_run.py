"""A run trains, and killed anywhere it goes on to the bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from train.nursery import nursery

from puna import hub
from puna.data.loader import BLOCK
from puna.errors import ConfigError, DataError, PunaError
from puna.model import weights as model_weights
from puna.model.attend import causal
from puna.quant.source import open_weights
from puna.train.checkpoint import Checkpoints, damage
from puna.train.recipe import read_recipe
from puna.train.start import carry_out, start


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nursery")
    recipe = read_recipe(nursery(folder))
    told = list(carry_out(start(recipe, folder / "whole")))
    return folder, recipe, told


def told_by(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    costs = ("seconds", "data_s", "tokens_s", "memory", "time")
    return [{key: value for key, value in record.items() if key not in costs}
            for record in records if record["event"] != "begun"]  # fmt: skip


def test_the_loss_falls_and_a_model_is_written_that_opens(place):
    folder, recipe, told = place
    assert [step.step for step in told] == list(range(recipe.steps)) and recipe.steps == 18
    assert told[-1].loss < told[0].loss - 0.5
    judged = [record for record in told_by(folder / "whole") if record["event"] == "judged"]
    assert [record["step"] for record in judged] == [6, 12, 18]
    assert judged[-1]["bits_per_byte"].keys() == {"a", "b"}
    weights = open_weights(hub.find(str(folder / "whole" / "model")))
    model = model_weights.load(weights, torch.float32)
    run = start(recipe, folder / "whole")
    assert (
        list(carry_out(run)) == [] and run.models[0].lm_head.weight is run.models[0].model.embed_tokens.weight
    )
    tokens = torch.arange(12)[None]
    ours, read_back = (one.float()(tokens, tokens, causal) for one in (run.models[0], model))
    torch.testing.assert_close(read_back, ours, atol=1e-5, rtol=1e-5)  # both in the 16 bits that were written


def test_any_stop_and_another_start_give_the_same_steps_and_the_same_model(place, tmp_path):
    folder, recipe, _ = place
    for until in (1, 4, 11, None):
        list(carry_out(start(recipe, tmp_path), until))
    assert told_by(tmp_path) == told_by(folder / "whole")
    name = "model/model.safetensors"
    assert (tmp_path / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_parts_of_any_size_are_one_batch(place, tmp_path):
    _, recipe, told = place
    other = list(carry_out(start(recipe.model_copy(update={"micro": 4, "dtype": "fp32"}), tmp_path / "4"), 3))
    same = list(carry_out(start(recipe.model_copy(update={"micro": 1, "dtype": "fp32"}), tmp_path / "1"), 3))
    for one, two in zip(other, same, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-5) and one.gradient == pytest.approx(
            two.gradient, rel=1e-4
        )
        assert one.tokens == two.tokens
    assert other[0].loss == pytest.approx(told[0].loss, rel=1e-2)


def test_a_process_killed_at_random_goes_on_to_the_bit(place, tmp_path):
    folder, _, _ = place
    command = [
        sys.executable,
        "-m",
        "puna.cli.main",
        "train",
        str(folder / "recipe.toml"),
        "--out",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    for patience in (3, 6):
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        log, until = tmp_path / "run" / "log.jsonl", time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if log.exists() and log.read_text().count('"step"') > patience:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.005)
        process.communicate()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "again"
    again = subprocess.run([*command[:6], str(whole), *command[7:]], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert told_by(tmp_path / "run") == told_by(whole)


def test_a_torn_checkpoint_is_never_loaded_and_the_one_before_is(place, tmp_path):
    _, recipe, _ = place
    list(carry_out(start(recipe, tmp_path), 7))
    store = Checkpoints(tmp_path / "checkpoints")
    newest = store.newest()
    assert newest.name == "step-00000006"
    file = max((newest / "tensors").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert damage(newest) and store.newest().name == "step-00000003"
    (store.newest() / "checkpoint.json").unlink()
    assert store.newest() is None


def test_what_is_not_finite_is_left_out_and_too_much_of_it_ends_the_run(place, tmp_path):
    _, recipe, _ = place
    run = start(recipe, tmp_path)
    true, calls = run.loss, []

    def sick(model, part):
        calls.append(1)
        return true(model, part) * (float("nan") if len(calls) in (3, 4) else 1.0)

    run.loss = sick
    told = list(run.go(4))
    assert [bool(step.skipped) for step in told] == [False, True, False, False]
    run.loss = lambda model, part: true(model, part) * float("inf")
    few = recipe.model_copy(update={"health": recipe.health.model_copy(update={"most_skipped": 3})})
    other = start(few, tmp_path / "other")
    other.loss = run.loss
    with pytest.raises(DataError, match="3 steps in a row could not be learned from"):
        list(other.go())


def test_stages_go_on_where_the_data_of_the_ones_before_ended(place):
    folder, recipe, _ = place
    run = start(recipe, folder / "unused")
    [(first, loader), (second, long)] = run.batches.stages
    assert (first.steps, second.steps) == (12, 6)
    read_before = loader.counts(first.steps * first.batch)[1] * first.sequence
    assert 0 < read_before == long.shares[0].before
    assert long.sources(0, 1)[0][1] == -(-read_before // 64) * 64
    assert run.batches(12)[0].tokens.shape == (2, 64) and first.batch * first.steps < BLOCK


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--stage", "[]"), "stage"),
        (("--schedule.peek", "1"), "did you mean 'peak'|unknown setting"),
        (("--data.c", "nowhere"), "nowhere"),
        (("--tokenizer", "nowhere"), "nowhere"),
        (("--model.vocab_size", "100"), "262 token ids"),
        (("--model.max_position_embeddings", "40"), "sequences of 64 tokens"),
        (("--device", "banana"), "device"),
        (("--device", "cuda"), "torch sees none here"),
    ],
)
def test_mistakes_are_named(place, tmp_path, change, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder, _, _ = place
    with pytest.raises(PunaError, match=said):
        start(read_recipe(folder / "recipe.toml", change), tmp_path)


def test_another_recipe_does_not_go_on_in_the_same_folder(place, tmp_path):
    _, recipe, _ = place
    list(carry_out(start(recipe, tmp_path), 3))
    with pytest.raises(ConfigError, match="made by another recipe"):
        list(carry_out(start(recipe.model_copy(update={"seed": 1}), tmp_path), 6))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_training_goes_on_from_a_model_and_resumes_with_either_optimizer(place, tmp_path, kind):
    folder, recipe, told = place
    settings = recipe.optimizer.model_copy(update={"kind": kind})
    change = {"model": str(folder / "whole" / "model"), "optimizer": settings}
    longer = recipe.model_copy(update=change)
    whole = list(carry_out(start(longer, tmp_path / "whole"), 8))
    assert whole[0].loss < told[0].loss - 0.5, "it begins where the other ended"
    list(carry_out(start(longer, tmp_path / "cut"), 5))
    again = list(carry_out(start(longer, tmp_path / "cut"), 8))
    assert [(step.step, step.loss, step.gradient) for step in again] == [
        (step.step, step.loss, step.gradient) for step in whole[3:]
    ]


def test_other_shards_under_the_same_name_are_another_recipe(place, tmp_path):
    folder, recipe, _ = place
    list(carry_out(start(recipe, tmp_path), 3))
    swapped = recipe.model_copy(update={"data": {"a": folder / "b", "b": folder / "a"}})
    with pytest.raises(ConfigError, match="made by another recipe"):
        list(carry_out(start(swapped, tmp_path), 6))
