"""A run is seen as it is: from its own records, while it goes on, with others beside it."""

import json
from html.parser import HTMLParser

import pytest
from cli.terminal import Terminal
from train.nursery import nursery

from puna.cli.main import main
from puna.plan.counts import training_flops
from puna.train.curves import Line, chart
from puna.train.history import read_history, summary
from puna.train.page import page
from puna.train.recipe import read_recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs that differ in a setting, one stopped on the way."""
    folder = tmp_path_factory.mktemp("seeing")
    recipe = str(nursery(folder, "tensorboard = true\nsample_every = 9"))
    for name, more in (
        ("one", ("--sample", "the lake")),
        ("two", ("--schedule.peak", "3e-2", "--steps", "8")),
    ):
        assert main(["train", recipe, "--out", str(folder / name), "--threads", "1", "--quiet", *more]) == 0
    return folder


@pytest.fixture
def puna(capsys):
    """The command, here: (exit code, what it said, what it complained of)."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


class Elements(HTMLParser):
    """Every element of a page with its attributes; what is open is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        if name not in ("meta", "wbr", "input"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def of(self, name):
        return [attributes for found, attributes in self.found if found == name]


def test_a_pipe_sees_lines_a_program_records_and_who_asks_for_quiet_nothing(place, tmp_path, puna):
    words = ["train", place / "recipe.toml", "--threads", "1", "--tensorboard", "false", "--out"]
    code, said, _ = puna(*words, tmp_path / "a", "--every", "6", "--peak")
    said = said.splitlines()
    assert (
        code == 0
        and said[0].startswith("tiny: 26,976 parameters, 18 steps; MFU is of ")
        and "measured" in said[0]
    )
    steps = [line for line in said if line.startswith("step ")]
    assert [int(line.split()[1]) for line in steps] == [0, 6, 12] and all("MFU" in line for line in steps)
    assert said[-1] == str(tmp_path / "a" / "model")
    told = list(map(json.loads, puna(*words, tmp_path / "b", "--json")[1].splitlines()))
    kept = list(map(json.loads, (tmp_path / "b" / "log.jsonl").read_text().splitlines()))
    assert [one for one in told if one["event"] in ("begun", "step", "judged")] == kept
    assert puna(*words, tmp_path / "c", "--steps", "2", "--quiet") == (0, "", "")


def test_a_terminal_sees_one_line_that_lives(place, tmp_path):
    words = ["train", str(place / "recipe.toml"), "--threads", "1", "--out", str(tmp_path / "run")]
    with Terminal(*words, home=tmp_path) as terminal:
        terminal.wait_for("26,976 parameters", 60)
        shown = terminal.wait_for(
            r"step 18 of 18[\s\S]*loss[\s\S]*bits/byte.*held out.*tokens/s[\s\S]*GiB", 60
        )
        assert "held out after 12 steps" in shown and "\x1b[" in shown
        terminal.wait_for("run/model")
        assert terminal.end() == 0


def test_a_record_tells_what_a_step_cost_and_samples_follow_from_the_weights(place, puna):
    run = read_history(place / "one")
    assert len(run.steps) == 18
    for step in run.steps:
        assert step["tokens_s"] == step["tokens"] / step["seconds"] and step["memory"] > 10**8
    assert run.steps[-1]["all_tokens"] == sum(step["tokens"] for step in run.steps)
    told = [(one["step"], one["prompt"]) for one in run.told("sample")]
    assert told == [(9, "the lake"), (18, "the lake")]
    text = run.told("sample")[-1]["text"]
    assert puna("train", "sample", place / "one", "the lake") == (0, f"after 18 steps: the lake|{text}\n", "")
    draws = [puna("train", "sample", place / "one", "--temperature", "2", "--seed", seed) for seed in "112"]
    assert draws[0] == draws[1] != draws[2]
    code, _, problem = puna("train", "sample", place / "vocabulary")
    assert code == 2 and "no log of a run here" in problem


def test_one_page_shows_several_runs_and_is_whole_in_itself(place, tmp_path, puna):
    out, png = tmp_path / "both.html", tmp_path / "both.png"
    runs = [str(place / "one"), str(place / "two")]
    code, said, _ = puna("train", "report", *runs, "--out", out, "--png", png)
    assert code == 0 and "schedule.peak: 0.01  0.03" in said and "not finished" in said and str(out) in said
    text = out.read_text()
    found = Elements(text)
    assert found.open == [] and not found.of("script") and "default-src &#x27;none&#x27;" in text
    assert not any(
        "src" in attributes or "http" in attributes.get("href", "") for _, attributes in found.found
    )
    assert len(found.of("svg")) == 2 * 6, "six figures, by steps and by tokens"
    assert all(one["aria-label"].count(",") >= 1 for one in found.of("svg"))
    assert "the lake" in text and "schedule.peak" in text
    assert png.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(puna("train", "report", *runs, "--out", out, "--json")[1])["runs"]
    assert [(row["steps"], row["state"]) for row in rows] == [(18, "finished"), (8, "not finished")]
    bits = dict(read_history(place / "one").bits()["a"])
    assert rows[0]["best_bits_per_byte"]["a"] == bits[rows[0]["best_step"]["a"]] == min(bits.values())


def test_a_run_is_read_while_it_is_written_with_what_was_cut_short_and_what_nobody_knows(place, tmp_path):
    kept = (place / "one" / "log.jsonl").read_text().splitlines(keepends=True)
    step = next(line for line in kept if '"step": 3' in line and '"event": "step"' in line)
    sick = json.loads(step) | {"skipped": "loss nan", "loss": float("nan")}
    layers = {"0": {"gradient": 0.5, "weight": 2.0}, "<script>": {"gradient": 0.7}}
    strange = [
        {
            "event": "statistics",
            "step": 3,
            "most_logit": 9.5,
            "layers": layers,
            "ranks": {"seconds": {"most": 1}},
        },
        {"event": "new", "x": {}},
    ]
    lines = [*kept[:9], json.dumps(sick), *map(json.dumps, strange), '{"event": "step", "st']
    (tmp_path / "log.jsonl").write_text("\n".join(line.strip() for line in lines))
    run = read_history(tmp_path)
    assert summary(run)["skipped"] == 1 and summary(run)["state"] == "not finished"
    text = page([run], refresh_s=5)
    kinds = ("Most logit", "Gradient", "Weight", "Ranks seconds")
    assert "left out: 3" in text and all(f"<figcaption>{kind}" in text for kind in kinds)
    assert "&lt;script&gt;" in text and not Elements(text).of("script")
    (tmp_path / "time.json").write_text('{"goodput": 0.93}')
    assert summary(run)["goodput"] == 0.93
    assert Elements(text).of("meta")[-1] == {"http-equiv": "refresh", "content": "5"}
    (tmp_path / "log.jsonl").write_text('{"event": "be')
    assert summary(read_history(tmp_path))["steps"] == 0 and page([read_history(tmp_path)])


def test_tensorboard_reads_what_the_log_says(place, tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    assert main(["train", "report", str(place / "one"), "--tensorboard", str(tmp_path)]) == 0
    run = read_history(place / "one")
    for folder in (place / "one" / "tensorboard", tmp_path / "one"):
        values = {}
        for file in folder.iterdir():
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    values.setdefault(value.tag, {})[event.step] = value
        losses = {step: value.tensor.float_val[0] for step, value in values["loss"].items()}
        assert losses == pytest.approx({step["step"]: step["loss"] for step in run.steps})
        assert set(values["bits_per_byte/a"]) == {6, 12, 18}
        text = values["sample/the lake"][18].tensor.string_val[0].decode()
        assert text == "the lake" + run.told("sample")[-1]["text"]


def test_a_profile_traces_the_steps_that_were_asked_for(place, tmp_path, puna):
    words = [
        "train",
        place / "recipe.toml",
        "--out",
        tmp_path,
        "--threads",
        "1",
        "--tensorboard",
        "false",
        "--steps",
    ]
    code, said, _ = puna(*words, "5", "--profile", "2:3")
    assert code == 0 and "steps 2 to 3 are traced" in said
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("Optimizer.step#AdamW.step") == 2
    assert "_Chunked" in (tmp_path / "profile" / "table.txt").read_text()
    code, _, problem = puna(*words, "6", "--profile", "3:2")
    assert code == 2 and "FIRST:LAST" in problem


def test_the_cost_of_a_token_is_the_matrices_and_the_causal_half_of_attention(place):
    config = read_recipe(place / "recipe.toml").model
    D, K, F, V, L, T = 32, 16, 64, 262, 2, 32
    by_hand = 6 * (L * (2 * D * D + 2 * D * K + 3 * D * F) + V * D) + 3 * L * 2 * 2 * D * T / 2
    assert training_flops(config, T) == by_hand


def test_a_curve_stays_in_its_picture_and_what_is_not_finite_is_left_out():
    points = [(n, 1e9 if n == 7 else float("nan") if n % 5 == 0 else 2.0) for n in range(1000)]
    drawn = chart([Line("a", points), Line("nothing", [])])
    numbers = [
        float(one)
        for path in Elements(drawn).of("path")
        for one in path["d"].strip("Mz").replace("L", " ").split()
    ]
    assert numbers and min(numbers) >= 0 and max(numbers[0::2]) <= 640 and max(numbers[1::2]) <= 260
    assert chart([Line("nothing", [(1, float("inf"))])]) is None
