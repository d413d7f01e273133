"""Launch files of training do what they say: with stand-ins for the schedulers they train, stop and go on."""

import ast
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train.nursery import nursery

from puna.errors import ConfigError, PunaError
from puna.train.launch import Cluster, launch_file

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
case $1 in show) echo localhost ;; requeue) echo "$2" >> "$REQUEUED" ;; esac
"""
# What Kubeflow's training operator (v1) takes, by its published schema; a pod's own fields are Kubernetes's
JOB = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"elasticPolicy", "nprocPerNode", "pytorchReplicaSpecs", "runPolicy"},
    "spec.elasticPolicy": {"maxReplicas", "maxRestarts", "metrics", "minReplicas", "nProcPerNode", "rdzvBackend",
                           "rdzvConf", "rdzvHost", "rdzvId", "rdzvPort", "standalone"},
    "spec.runPolicy": {"activeDeadlineSeconds", "backoffLimit", "cleanPodPolicy", "managedBy", "schedulingPolicy",
                       "suspend", "ttlSecondsAfterFinished"},
    "spec.pytorchReplicaSpecs": {"Master", "Worker"},
    "spec.pytorchReplicaSpecs.Worker": {"replicas", "restartPolicy", "template"},
}  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A recipe under a name that shells stumble over."""
    folder = tmp_path / "a 'b' @OUT@"
    folder.mkdir()
    return nursery(folder)


def commands(folder, **texts):
    """An environment in which these are commands."""
    folder.mkdir()
    run = f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    for name, text in (texts | {"torchrun": run}).items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    told = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    return os.environ | told | {"OMP_NUM_THREADS": "1", "REQUEUED": str(folder / "requeued")}


def steps(out):
    log = out / "log.jsonl"
    return log.read_text().count('"event": "step"') if log.exists() else 0


@pytest.mark.slow
@pytest.mark.ranks
def test_a_slurm_job_that_is_told_to_stop_saves_queues_again_and_goes_on(place, tmp_path):
    out = tmp_path / "a run"
    (tmp_path / "job").write_text(launch_file("slurm", place, str(out), Cluster(nodes=1, gpus=2)))
    environment = commands(tmp_path / "bin", srun=SRUN, scontrol=SCONTROL)
    environment |= {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "localhost"}
    job = subprocess.Popen(
        ["bash", str(tmp_path / "job")], env=environment, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 300
    while steps(out) < 2 and job.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    _, problem = job.communicate(timeout=300)
    before = steps(out)
    assert 2 <= before < 18 and (tmp_path / "bin/requeued").read_text() == "77\n", problem
    again = subprocess.run(
        ["bash", str(tmp_path / "job")],
        env=environment | {"SLURM_RESTART_COUNT": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert again.returncode == 0 and (out / "model/config.json").exists(), again.stderr
    assert steps(out) == 18 and (tmp_path / "bin/requeued").read_text() == "77\n"
    assert len(list((out / "ranks").rglob("stdout.log"))) >= 4, "two ranks, started twice"


def test_the_scripts_are_ones_that_bash_and_python_take(place):
    script = launch_file("slurm", place, "/shared/a run", Cluster(nodes=4))
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "--nnodes 4 --nproc-per-node 8" in script and "OUT='/shared/a run'" in script
    said = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:TERM@120", "#SBATCH --nodes=4"} <= set(said)
    tree = ast.parse(launch_file("ray", place, "/shared/a run", Cluster(nodes=2, gpus=0)))
    [given] = [node for node in tree.body if isinstance(node, ast.Assign)]
    values = [eval(ast.unparse(value)) for value in given.value.elts]
    assert values == [str(place), "/shared/a run", 2, 0]


def test_the_manifest_is_one_that_kubernetes_and_its_operator_take(place):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifest")
    text = launch_file(
        "kubernetes", place, "/runs/nano", Cluster(nodes=4, least=2, image="puna:1", claim="shared")
    )
    recipe, job = yaml.safe_load_all(text)
    assert recipe["data"]["recipe.toml"] == place.read_text()
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    for path, known in JOB.items():
        found = job
        for name in filter(None, path.split(".")):
            found = found[name]
        assert set(found) <= known, path
    policy, worker = job["spec"]["elasticPolicy"], job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert job["spec"]["nprocPerNode"] == "8", "a text in the schema"
    assert policy == {"rdzvBackend": "c10d", "minReplicas": 2, "maxReplicas": 4, "maxRestarts": 100}
    assert worker["restartPolicy"] in ("Always", "OnFailure", "Never", "ExitCode")
    assert job["spec"]["runPolicy"]["cleanPodPolicy"] in ("All", "Running", "None")
    [container] = worker["template"]["spec"]["containers"]
    assert container["name"] == "pytorch" and container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert {one["name"]: one["value"] for one in container["env"]}["OUT"] == "/runs/nano"
    kubernetes = pytest.importorskip("kubernetes_validate", reason="it has the schemas of Kubernetes")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": worker["template"]["spec"]}
    for version in ("1.33", kubernetes.latest_version()):
        kubernetes.validate(pod, version, strict=True)
        kubernetes.validate(recipe, version, strict=True)


def test_what_no_cluster_could_run_is_refused(place):
    with pytest.raises(ConfigError, match="5 nodes at least, but 4 in all"):
        launch_file("kubernetes", place, "/run", Cluster(nodes=4, least=5))
    with pytest.raises(ConfigError, match="pods without GPUs"):
        launch_file("kubernetes", place, "/run", Cluster(gpus=0))
    with pytest.raises(PunaError, match="nodes"):
        Cluster.read({"nodes": 0}, "puna train launch")


@pytest.mark.slow
@pytest.mark.ranks
def test_the_ray_script_trains_on_two_workers_of_a_cluster(place, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray Train runs the script")
    pytest.importorskip("pandas", reason="Ray Train needs it")
    from ray.cluster_utils import Cluster as Machines

    out, script = tmp_path / "run", tmp_path / "train.py"
    script.write_text(launch_file("ray", place, str(out), Cluster(nodes=2, gpus=0)))
    head = {
        "num_cpus": 3,
        "object_store_memory": 100 << 20,
        "node_ip_address": ray.util.get_node_ip_address(),
    }
    machines = Machines(initialize_head=True, head_node_args=head)
    told = {"RAY_ADDRESS": machines.address, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, str(script)], env=os.environ | told, capture_output=True, text=True
        )
    finally:
        machines.shutdown()
    assert done.returncode == 0 and (out / "model/config.json").exists(), done.stderr[-3000:]
    assert steps(out) == 18 and json.loads((out / "recipe.json").read_text())["name"] == "tiny"


def test_the_verb_prints_the_file(place, capsys):
    from puna.cli.train_launch import launch

    assert launch(place, on="slurm", out="run", nodes=2) == 0
    assert capsys.readouterr().out == launch_file("slurm", Path(place).resolve(), "run", Cluster(nodes=2))
