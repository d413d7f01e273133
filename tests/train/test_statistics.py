"""What is said of a step is what it did, measured by looking at it from outside; looking changes nothing."""

import json

import pytest
import torch
from train.nursery import nursery

from puna.train.recipe import read_recipe
from puna.train.spent import Spent
from puna.train.start import carry_out, start


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("statistics")
    path = nursery(folder, 'dtype = "fp32"')
    path.write_text(path.read_text().replace("micro = 2", "micro = 4"))
    return path, folder


def said(folder, event):
    return [
        r for r in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if r["event"] == event
    ]


def rms(tensor):
    return float(tensor.double().square().mean().sqrt())


def test_what_is_said_of_a_step_is_what_it_did(place, tmp_path):
    path, _ = place
    recipe = read_recipe(path, ["--statistics_every", "3"])
    list(carry_out(start(recipe, tmp_path / "run"), 3))
    list(carry_out(start(recipe, tmp_path / "run"), 4))
    assert [record["step"] for record in said(tmp_path / "run", "statistics")] == [0, 3]
    record = said(tmp_path / "run", "statistics")[1]

    run = start(recipe.model_copy(update={"statistics_every": 0}), tmp_path / "again")
    list(run.go(3))
    before = {name: weight.detach().clone() for name, weight in run.optimizer.masters.items()}
    [part] = run.batches(3)
    heard, model = {}, run.model.model
    watched = {
        "embed_tokens": model.embed_tokens,
        "0": model.layers["0"],
        "1": model.layers["1"],
        "norm": model.norm,
    }
    hooks = [module.register_forward_hook(lambda m, a, out, name=name: heard.update({name: out.detach()}))
             for name, module in watched.items()]  # fmt: skip
    (run.loss(run.model, part)[0] / part.weights.sum()).backward()
    for hook in hooks:
        hook.remove()
    run.optimizer.gather()
    gradients = {name: weight.grad.clone() for name, weight in run.optimizer.masters.items()}
    run.optimizer.update(recipe.rate(3))
    assert record["layers"].keys() == {"embed_tokens", "0", "1", "norm", "lm_head"}
    for label in watched:
        own = [name for name in before if label in name.split(".")[:3]]
        flat = {
            "weight": torch.cat([before[name].flatten() for name in own]),
            "gradient": torch.cat([gradients[name].flatten() for name in own]),
        }
        moved = torch.cat([(run.optimizer.masters[name] - before[name]).detach().flatten() for name in own])
        found = record["layers"][label]
        assert found["weight"] == pytest.approx(rms(flat["weight"]), rel=1e-4)
        assert found["gradient"] == pytest.approx(rms(flat["gradient"]), rel=1e-4)
        assert found["update"] == pytest.approx(rms(moved) / rms(flat["weight"]), rel=1e-3)
        assert found["activation"] == pytest.approx(rms(heard[label]), rel=1e-4)
        assert 0 < found["adam"] <= 1.5
    logits = heard["norm"] @ run.model.lm_head.weight.detach().T
    assert 0.5 * float(logits.abs().max()) < record["most_logit"] <= float(logits.abs().max()) * 1.0001
    assert record["ranks"]["seconds"]["slowest"] == 0 and record["ranks"]["probe_s"]["least"] > 0


def test_looking_changes_nothing(place, tmp_path):
    path, _ = place
    for name, every in (("blind", "0"), ("watched", "1")):
        list(carry_out(start(read_recipe(path, ["--statistics_every", every]), tmp_path / name), 5))
    seen = [
        [(r["loss"], r["gradient"]) for r in said(tmp_path / name, "step")] for name in ("blind", "watched")
    ]
    assert seen[0] == seen[1] and len(said(tmp_path / "watched", "statistics")) == 5


def test_the_time_of_a_run_is_accounted_for_over_its_starts(place, tmp_path):
    path, _ = place
    for until in (4, None):
        list(carry_out(start(read_recipe(path), tmp_path), until))
    spent = json.loads((tmp_path / "time.json").read_text())
    assert {"steps", "data", "checkpoints", "judging", "stopped", "other"} <= spent["seconds"].keys()
    assert sum(spent["seconds"].values()) == pytest.approx(spent["total"], rel=0.02)
    assert spent["goodput"] == pytest.approx(spent["seconds"]["steps"] / spent["total"], abs=0.01)


def test_a_run_that_stood_still_says_how_long():
    first = Spent()
    first.seconds["steps"] = 30.0
    kept = first.state()
    second = Spent()
    second.began, kept["until"], kept["first"] = 1100.0, 1060.0, 1000.0
    second.load(kept)
    assert second.seconds["stopped"] == 40.0 and second.seconds["steps"] == 30.0
