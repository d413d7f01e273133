"""Benchmarks are found by a file that names them, or by their own names in a folder."""

import gzip
import json
from pathlib import Path

import pytest

from puna.data.benchmark_files import known_in, read_benchmarks
from puna.data.benchmark_runs import load_runs
from puna.errors import ConfigError, DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
QUESTION = (
    "A juggler can juggle sixteen balls, half of which are golf balls; how many of them are golf balls?"
)
PSALM = "as everyone knows who ever stood in a queue the other queue is always the faster one"


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_folder_is_searched_for_names_that_are_known(tmp_path):
    (tmp_path / "deep" / "GSM8K").mkdir(parents=True)
    (tmp_path / "deep" / "GSM8K" / "test.jsonl").write_text(lines({"question": QUESTION, "answer": "8"}))
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(
        gzip.compress(lines({"prompt": QUESTION, "canonical_solution": "x"}).encode())
    )
    (tmp_path / "gsm8k").write_text("no table")
    (tmp_path / "mbpp.txt").write_text("no table")
    assert [one.name for one in known_in(tmp_path)] == ["gsm8k", "humaneval"]
    runs = read_benchmarks(tmp_path).runs()
    assert runs.counts()["gsm8k"] == {"items": 1, "runs": runs.counts()["gsm8k"]["runs"], "without_runs": 0}
    (tmp_path / "gsm8k.jsonl").write_text(lines({"question": QUESTION, "answer": "8"}))
    with pytest.raises(DataError, match="gsm8k is there twice"):
        known_in(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no benchmark that is known"):
        known_in(tmp_path / "empty")


def test_a_file_names_benchmarks_and_texts_whose_runs_are_nobodys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text(lines({"q": QUESTION}, {"q": PSALM}, {"q": "short"}))
    (tmp_path / "psalm.txt").write_text(f"They say: {PSALM}. So be it.")
    said = '[[benchmarks]]\nname = "own"\npath = "q.jsonl"\nfields = [["q"]]\n'
    (tmp_path / "with.toml").write_text('common = ["psalm.txt"]\n' + said)
    (tmp_path / "without.toml").write_text(said)
    counts = {name: read_benchmarks(f"{name}.toml").runs().counts()["own"] for name in ("with", "without")}
    assert counts["without"]["items"] == 3 and counts["without"]["without_runs"] == 1
    assert counts["with"]["without_runs"] == 2 and counts["with"]["runs"] < counts["without"]["runs"]
    (tmp_path / "bad.toml").write_text(said + "word = 3\n")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_benchmarks("bad.toml")
    (tmp_path / "worse.toml").write_text("=")
    with pytest.raises(DataError, match="not TOML"):
        read_benchmarks("worse.toml")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real benchmarks beside the repository")
def test_the_real_ones_are_known_by_their_names(tmp_path):
    found = {one.name: one.path for one in known_in(SHARED)}
    assert found.keys() == {"arc_easy", "gsm8k", "ifeval", "mbpp", "mmlu", "piqa", "winogrande"}
    (tmp_path / "b.toml").write_text(f'[[benchmarks]]\nname = "mbpp"\npath = "{found["mbpp"]}"\n')
    runs = read_benchmarks(tmp_path / "b.toml").runs()
    runs.save(tmp_path / "runs")
    assert load_runs(tmp_path / "runs").counts() == runs.counts()
    assert runs.counts()["mbpp"]["items"] == 974 and runs.counts()["mbpp"]["without_runs"] < 10
