"""`puna bench` as people meet it: a process, a table, a JSON file, and sentences for what cannot be done."""

import json
import subprocess
import sys

from bench.random_gguf import SHAPES, write
from puna import hardware

BENCH = [sys.executable, "-m", "puna.cli.main", "bench"]


def bench(*words, cwd):
    return subprocess.run([*BENCH, *words], cwd=cwd, capture_output=True, text=True)


def test_a_model_without_a_vocabulary_is_measured(tmp_path):
    write(str(tmp_path / "tiny.gguf"), "q4_k_m", SHAPES["tiny"])
    cache = "bf16" if hardware.has_nvidia() else "int8"  # which the native step alone has
    quick = ["--rounds", "2", "--threads", "1", "--prefill", "32", "--together", "3", "--depth", "40"]
    done = bench("tiny.gguf", *quick, "--alone", "--cache", cache, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    names = [row["work"] for row in found["work"]]
    assert names == ["read 32", "write", "write 3 at once", "write after 40", "16 more after 32 known"]
    for row in found["work"]:
        assert row["puna"]["best"] >= row["puna"]["median"] > 0 and "ratio" not in row
        assert row["work"] in done.stdout
    assert found["cache"] == cache and f"a cache in {cache}" in done.stdout
    assert found["rounds"] == 2 and found["threads"] == 1 and found["opening"]["puna"]["peak_mb"] > 10
    assert found["bandwidth_gb_s"]["best"] > 0 and found["int8_gops"]["best"] > 0


def test_what_cannot_be_measured_is_said(tmp_path):
    done = bench("nothing.gguf", cwd=tmp_path)
    assert done.returncode == 2 and "nothing.gguf" in done.stderr
    done = bench("smollm2", "--rounds", "0", cwd=tmp_path)
    assert done.returncode == 2 and "rounds" in done.stderr
    done = bench("smollm2", "--json", "nowhere/found.json", cwd=tmp_path)
    assert done.returncode == 2 and "nowhere/found.json: there is no such folder" in done.stderr
