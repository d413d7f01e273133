"""Every engine in one table: real processes on a tiny model, and rows for engines that are absent or fail."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from drawn import Drawn

from bench.engines import WORKS, Failed, Far
from puna.model.config import ModelConfig
from puna.quant.gguf import write_gguf
from puna.tokenizer.ggml import to_gguf
from puna.tokenizer.learn import train
from puna.tokenizer.splits import GPT2

ROOT = Path(__file__).parents[2]
CONFIG = ModelConfig(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=264,
    max_position_embeddings=2048,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of 264 tokens in Q8_0, its vocabulary with it."""
    pytest.importorskip("rustbpe")
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    words = train(["the llama and the puma in the puna"], CONFIG.vocab_size, GPT2, "chatml")
    write_gguf(Drawn(CONFIG), path, lambda name, shape: "Q8_0", to_gguf(words), "tiny")
    return path


def engines(model, *words):
    quick = ["--rounds", "1", "--threads", "1", "--openings", "1", "--build", str(model.parent / "made")]
    done = subprocess.run(
        [sys.executable, "-m", "bench.engines", str(model), *quick, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {row["engine"]: row for row in json.loads(done.stdout)["engines"]}, done.stderr


def test_all_engines_here_are_measured_and_the_others_are_rows_that_say_why(tiny):
    pytest.importorskip("transformers")
    broken = tiny.parent / "python"
    broken.write_text("#!/bin/sh\necho out of order >&2; exit 3\n")
    broken.chmod(0o755)
    names = ["puna", "llama.cpp", "transformers", "ctranslate2", "vllm"]
    rows, told = engines(tiny, "--only", *names, "--python", f"vllm={broken}")
    assert list(rows) == ["puna", "llama.cpp", "ctranslate2", "transformers", "vllm"]
    assert rows["vllm"]["error"] == "out of order" and "out of order" in told
    here = {"puna", "transformers"} | ({"llama.cpp"} if find_spec("llama_cpp") else set())
    for name in here:
        row = rows[name]
        assert len(row["opened_s"]) == 1 and row["opened_s"][0] > 0 and row["peak_mb"] > 20
        assert list(row["work"]) == [work.name for work in WORKS]
        for figures in row["work"].values():
            assert figures["best"] >= figures["median"] > 0
            assert ("ratio" in figures) == (name != "puna")
        assert row["work"]["read 512"]["first_token_ms"]["median"] > 0
    assert rows["puna"]["weights"] == "Q8_0 of the file" and rows["transformers"]["weights"] == "bfloat16"
    for name in {"llama.cpp", "ctranslate2"} - here:
        if not find_spec("ctranslate2" if name == "ctranslate2" else "llama_cpp"):
            assert "pip install" in rows[name]["absent"] and rows[name]["version"] is None
    assert all(name in told for name in rows)


ECHO = """
import itertools, json, sys, time
for line in itertools.chain(["{}"], sys.stdin):
    asked = json.loads(line)
    if asked.get("do") == "die": sys.exit("gone")
    if asked.get("do") == "sleep": time.sleep(60)
    told = {"error": "no room"} if asked.get("do") == "fail" else {"answer": time.perf_counter() - asked.get("at", 0)}
    print(json.dumps(told), flush=True)
"""


@pytest.fixture
def far(tmp_path):
    far = Far([sys.executable, "-c", ECHO], os.environ, tmp_path / "log")
    yield far
    far.close()


def test_an_engine_stands_still_while_nobody_asks_it(far):
    def state():
        return Path(f"/proc/{far.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    deadline = time.monotonic() + 5
    while state() != "T":  # a signal takes its time
        assert time.monotonic() < deadline
    assert 0 < far.ask(do="tell", at=time.perf_counter()) < 5


def test_an_error_is_told_and_the_next_question_answered_and_an_end_is_told_for_ever(far):
    with pytest.raises(Failed, match="no room"):
        far.ask(do="fail")
    assert far.ask(do="tell") > 0
    for _ in range(2):
        with pytest.raises(Failed, match="it ended with code 1"):
            far.ask(do="die")
    assert far.log.read_text() == "gone\n"


def test_one_that_is_killed_says_by_what(far):
    os.kill(far.process.pid, signal.SIGKILL)
    far.process.wait()
    with pytest.raises(Failed, match="SIGKILL"):
        far.ask(do="tell")


def test_one_that_never_answers_is_ended(far, monkeypatch):
    monkeypatch.setattr("bench.engines.PATIENCE_S", 0.2)
    with pytest.raises(Failed, match=r"no answer within 0\.2 s"):
        far.ask(do="sleep")
    with pytest.raises(Failed, match="SIGKILL"):
        far.ask(do="tell")
