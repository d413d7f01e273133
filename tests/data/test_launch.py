"""Launch files do what they say: carried out with stand-ins for the schedulers, they end in the same bytes."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from puna.cli.main import main

ROWS = "".join(
    json.dumps({"text": f"line {n % 30} of this text", "url": f"http://x.org/{n}"}) + "\n" for n in range(90)
)
RECIPE = """
partitions = 2
[source.lines]
kind = "jsonl"
paths = ["@/lines"]
piece_bytes = 1000
[stage."dedup.exact"]
"""
SBATCH = """#!/bin/bash
# Runs the tasks of an array one after the other, the last one first, where the jobs it depends on have succeeded.
set -eu
for word; do
  case $word in
    --array=0-*) last=${word#--array=0-} ;;
    --dependency=afterok:*) test -e "$JOBS/${word#--dependency=afterok:}" ;;
    --export=ALL,*) export "${word#--export=ALL,}" ;;
  esac
  script=$word
done
for ((task = last; task >= 0; task--)); do SLURM_ARRAY_TASK_ID=$task bash -c "$script" >&2; done
id=$(($(ls "$JOBS" | wc -l) + 100))
touch "$JOBS/$id"
echo "$id;cluster"
"""


def files(out):
    found = {
        p.relative_to(out): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and "receipts" not in p.parts
    }
    return {name: data for name, data in found.items() if name.name not in ("run.json", "lineage.json")}


@pytest.fixture
def alone(tmp_path):
    """A recipe with a name that shells stumble over, and a run of it in one process."""
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/a.jsonl").write_text(ROWS)
    recipe = tmp_path / "my 'web'.toml"
    recipe.write_text(RECIPE.replace("@", str(tmp_path)))
    assert main(["data", "run", str(recipe), "--out", str(tmp_path / "alone"), "--runner", "inline"]) == 0
    return recipe, files(tmp_path / "alone")


@pytest.fixture
def environment(tmp_path):
    """Where `puna` and the stand-ins are commands."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "jobs").mkdir()
    puna = f'#!/bin/sh\nexec {sys.executable} -c "import sys; from puna.cli.main import main; sys.exit(main())" "$@"\n'
    for name, text in {"puna": puna, "sbatch": SBATCH}.items():
        path = tmp_path / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    found = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "JOBS": str(tmp_path / "jobs")}
    return os.environ | found | {"PYTHONPATH": str(Path(__file__).parents[2])}


def launched(capsys, recipe, kind, *more):
    capsys.readouterr()
    assert main(["data", "launch", str(recipe), kind, *map(str, more)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_slurm_script_ends_in_the_same_bytes(alone, environment, tmp_path, capsys):
    recipe, expected = alone
    script = launched(capsys, recipe, "slurm", "--out", tmp_path / "a b", "--shards", 2)
    done = subprocess.run(["bash"], input=script, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "a b") == expected and "03-dedup.exact: job 103" in done.stdout


@pytest.mark.slow
def test_pods_of_kubernetes_started_together_wait_for_each_other(alone, environment, tmp_path, capsys):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifest")
    recipe, expected = alone
    job = yaml.safe_load(launched(capsys, recipe, "kubernetes", "--out", tmp_path / "a b", "--shards", 2))
    [container] = job["spec"]["template"]["spec"]["containers"]
    said = {one["name"]: one["value"] for one in container["env"]}
    pods = [
        subprocess.Popen(container["command"], env=environment | said | {"JOB_COMPLETION_INDEX": str(index)})
        for index in range(job["spec"]["completions"])
    ]
    assert [pod.wait() for pod in pods] == [0, 0]
    assert files(tmp_path / "a b") == expected


def test_the_manifest_is_one_that_kubernetes_takes(alone, capsys):
    kubernetes = pytest.importorskip("kubernetes_validate", reason="it has the schemas of Kubernetes")
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifest")
    text = launched(capsys, alone[0], "kubernetes", "--out", "s3://b/run", "--shards", 8, "--image", "puna:1")
    for version in ("1.33", kubernetes.latest_version()):
        kubernetes.validate(yaml.safe_load(text), version, strict=True)


def test_the_ray_script_is_one_that_bash_takes(alone, capsys):
    text = launched(capsys, alone[0], "ray", "--out", "s3://b/run")
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    assert "--runner ray --address auto" in text and "@" not in text
