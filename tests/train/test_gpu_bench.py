"""The benchmark for a GPU is not dead on arrival: its path runs here, on a toy shape."""

import json
import os
import subprocess
import sys

import pytest

from bench.train_gpu import PEAK, SHAPES, flops, measure, summed


@pytest.mark.parametrize("side", ["trainer", "puna", "puna-texts-of-1000", "puna-fp8"])
def test_a_side_of_the_benchmark_is_measured_and_learns(side, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if side == "trainer":
        pytest.importorskip("accelerate", reason="the peer's Trainer wants it: make test-peer")
    found = measure(side, "tiny", "cpu")
    assert len(found["seconds"]) == 8 and found["peak_bytes"] is None
    told = summed(side, "tiny", [found, found])
    assert told["tokens_s"] > 0 and told["mfu"]["causal"] is None, "a CPU has no entry, so no MFU is told"
    assert told["loss"] < 6.4


def test_flops_of_a_token_are_the_published_ones():
    for shape, full, causal in (("1b", 10.6, 9.0), ("8b-slice", None, 9.1)):
        config, _, T = SHAPES[shape]
        assert flops(config, T, "causal") / 1e9 == pytest.approx(causal, abs=0.1)
        assert full is None or flops(config, T, "full") / 1e9 == pytest.approx(full, abs=0.05)
    found = {"seconds": [0.5], "losses": [2.0], "peak_bytes": 2**30, "device": "NVIDIA H100 80GB HBM3"}
    told = summed("trainer", "1b", [found])
    assert told["of_flops"] == PEAK["H100"] and told["peak_gib"] == 1.0
    assert told["mfu"]["causal"] == pytest.approx(8192 / 0.5 * 9.02e9 / 989.4e12, rel=2e-3)


@pytest.mark.slow
def test_the_benchmark_runs_as_its_page_says(tmp_path):
    command = ["--device", "cpu", "--tiny", "--rounds", "1", "--side", "puna", "--side", "trainer"]
    command += ["--trace", str(tmp_path / "trace"), "--out", str(tmp_path / "told.json")]
    done = subprocess.run([sys.executable, "-m", "bench.train_gpu", *command], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert {one["side"] for one in told["results"]} == {"puna", "trainer"}
    assert (tmp_path / "trace/tiny/trace.json").stat().st_size > 10_000
