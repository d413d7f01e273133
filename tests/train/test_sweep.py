"""A sweep spends what it says, finds the law that is there, and says what will be before it is."""

import json
import math

import pytest
from train.nursery import nursery
from train.test_seeing import Elements

from puna.cli.main import main
from puna.errors import ConfigError, DataError
from puna.model.transformer import Llama
from puna.plan.scaling import fit
from puna.train import sweep as room
from puna.train.ladder import base, ladder, multiplied, nearest, recipe_of, rung, shape
from puna.train.recipe import read_recipe
from puna.train.sweep import Done
from puna.train.sweep_page import write_page

STAGE = "[{tokens=1, sequence=32, batch=1, weights={a=1.0}}]"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return nursery(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def recipe(place):
    return read_recipe(place, ("--stage", STAGE))


def lawful(recipe, budgets, sizes=5, noise=0.0):
    """Runs of a made-up world: loss = 1 + (C / 1e7)^-0.1 at the best size, which grows as 0.2 C^0.5."""
    runs = []
    for dice, one in enumerate(ladder(recipe, budgets, sizes), 1):
        off = math.log(one.parameters / (0.2 * math.sqrt(one.flops)))
        loss = (one.flops / 1e7) ** -0.1 * 4 + 0.05 * off**2 + noise * math.sin(9.0 * dice)
        config = one.model
        runs.append(Done(one.name, one.budget, config.hidden_size, config.num_hidden_layers, one.parameters,
                         one.tokens, one.flops, loss, 1.0))  # fmt: skip
    return runs


def test_every_run_of_a_ladder_costs_its_budget_and_differs_in_size_alone(recipe):
    rungs = ladder(recipe, (1e11, 4e11), 5)
    assert [one.budget for one in rungs] == [1e11] * 5 + [4e11] * 5
    for one in rungs:
        assert one.flops == pytest.approx(one.budget, rel=1 / 60) and one.steps * 32 == one.tokens
        given, c = recipe_of(recipe, one), one.model
        assert given.steps == one.steps and given.stage[0].sequence == 32
        rate = given.schedule.peak * math.sqrt(c.hidden_size)
        assert rate == pytest.approx(recipe.schedule.peak * math.sqrt(base(recipe).hidden_size))
        assert c.num_hidden_layers == max(1, round(c.hidden_size / 32)) and c.vocab_size == 262
        weights = dict(Llama(c).named_parameters())
        matrices = sum(weight.numel() for name, weight in weights.items() if weight.ndim == 2)
        assert one.parameters == multiplied(c) == matrices, "the head is tied, so it is counted once"
    sizes = [one.parameters for one in rungs[:5]]
    assert sizes == sorted(set(sizes)) and nearest(base(recipe), sizes[2]) == rungs[2].model
    with pytest.raises(ConfigError, match="are 3 steps of 32 tokens"):
        rung(recipe, 7e7, shape(base(recipe), 64))


def test_a_law_that_is_there_is_found_and_a_larger_run_foretold(recipe, tmp_path):
    budgets = (1e11, 2e11, 4e11, 8e11)
    runs = lawful(recipe, budgets, noise=1e-3)
    found = fit([one.point for one in runs])
    assert found.parameters.exponent == pytest.approx(0.5, abs=0.02)
    assert found.parameters.low < 0.5 < found.parameters.high
    said = room.predict(recipe, runs, 3.2e12, tmp_path)
    true = (3.2e12 / 1e7) ** -0.1 * 4 + 0.05 * math.log(said.parameters / (0.2 * math.sqrt(3.2e12))) ** 2
    assert said.low < true < said.high and said.high - said.low < 0.05 and said.runs == 20
    assert room.predict(recipe, lawful(recipe, budgets, noise=9e-3), 3.2e12, tmp_path) == said, "it stays"
    room.write_sweep(tmp_path, runs, found)
    assert json.loads((tmp_path / "sweep.json").read_text())["fit"]["parameters"]["exponent"] > 0
    told = {"run": vars(runs[0]), "reached": 1.7, "predicted": said.loss, "off": 0.01, "inside": False}
    write_page(tmp_path, runs, found, said, told)
    page = Elements((tmp_path / "sweep.html").read_text())
    assert page.open == [] and len(page.of("svg")) == 5 and len(page.of("tr")) == 21
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "check.json").write_text("{}")
    with pytest.raises(DataError, match="was checked already"):
        room.predict(recipe, runs, 6.4e12, tmp_path)


def test_a_run_of_a_sweep_is_done_once_and_belongs_to_its_recipe(recipe, tmp_path):
    one = rung(recipe, 1.6e8, shape(base(recipe), 32))
    [first] = room.carry(recipe, [one], tmp_path)
    log = tmp_path / "runs" / one.name / "log.jsonl"
    before = log.stat().st_mtime_ns
    assert list(room.carry(recipe, [one], tmp_path)) == [first] and log.stat().st_mtime_ns == before
    judged = [json.loads(line) for line in log.read_text().splitlines()][-1]
    assert judged["event"] == "judged" and judged["loss"]["a"] == first.loss < math.log(262)
    other = recipe.model_copy(update={"seed": 1})
    with pytest.raises(DataError, match="made by another recipe"):
        list(room.carry(other, [one], tmp_path))


def test_what_a_sweep_will_run_is_told_before(place, tmp_path, capsys):
    words = ["train", "sweep", str(place), "--stage", STAGE, "--out", str(tmp_path / "s"), "--budgets"]
    assert main([*words, "1e11,2e11", "--sizes", "3", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1 + 6 + 1 and "FLOPs in all" in said and not (tmp_path / "s").exists()
    for wrong, problem in ((("1e11,x",), "--budgets 1e11,x"), (("1e11",), "5 sizes of 1 budgets"),
                           (("1e11,2e11", "--check"), "--check without a prediction")):  # fmt: skip
        assert main([*words, *wrong]) == 2 and problem in capsys.readouterr().err


def test_a_sweep_that_was_carried_out_is_read_fitted_foretold_and_checked(place, recipe, tmp_path, capsys):
    budgets, larger = (1e11, 2e11, 4e11), 1.6e12
    there = lawful(recipe, budgets, noise=1e-3)
    best = fit([one.point for one in there]).parameters.at(larger)
    rungs = [*ladder(recipe, budgets, 5), rung(recipe, larger, nearest(base(recipe), best))]
    for one in rungs:  # what runs leave behind when they are done
        loss = next((run.loss for run in there if run.name == one.name), 1.2)
        run = tmp_path / "runs" / one.name
        (run / "model").mkdir(parents=True)
        (run / "model" / "config.json").write_text("{}")
        (run / "recipe.json").write_text(recipe_of(recipe, one).model_dump_json())
        judged = {
            "event": "judged",
            "step": one.steps,
            "loss": {"a": loss, "b": 9.0},
            "bits_per_byte": {"a": loss},
        }
        (run / "log.jsonl").write_text(json.dumps(judged))
    words = [
        "train",
        "sweep",
        str(place),
        "--stage",
        STAGE,
        "--out",
        str(tmp_path),
        "--budgets",
        "1e11,2e11,4e11",
    ]
    assert main([*words, "--predict", "1.6e12"]) == 0
    said, foretold = capsys.readouterr().out, (tmp_path / "prediction.json").read_text()
    assert said.count(" of 15: ") == 15 and "best parameters = " in said and "reached" not in said
    assert main([*words, "--predict", "1.6e12", "--check"]) == 0
    told = json.loads((tmp_path / "check.json").read_text())
    assert (tmp_path / "prediction.json").read_text() == foretold and told["reached"] == 1.2
    assert told["off"] == 1.2 / told["predicted"] - 1 and f"{told['off']:+.2%} off" in capsys.readouterr().out
