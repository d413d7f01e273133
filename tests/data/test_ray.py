"""A Ray cluster of several nodes writes the same bytes, whatever dies on it."""

import os
import signal

import pytest
from toy_stages import Count, Fragile, Made, Short, recipe

from puna.data.pipeline import receipts_of, run
from puna.data.runners import OnRay
from puna.log import listening


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on loopback, each a set of real processes."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("RAY_AUTH_MODE", "disabled")
        here.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = pytest.importorskip("ray", reason="Ray is not installed")
        utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
        node = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
        nodes = utils.Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        nodes.other = nodes.add_node(**node)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.mark.slow
def test_a_document_that_kills_its_process_on_ray_is_set_aside(cluster, tmp_path):
    source = Made(bad={"1:13": "KILL"}, words=60, pieces=2)
    killing = recipe(sources=(source,), stages=(Count(), Short(), Fragile()))
    run(killing, tmp_path, OnRay(cluster.address))
    drops = [receipt.drops.get("error.toy.fragile", 0) for receipt in receipts_of(tmp_path)["00-read"]]
    assert drops == [0, 1]


@pytest.mark.slow
def test_a_node_that_is_lost_in_the_middle_costs_no_byte(cluster, tmp_path):
    expected, done = run(recipe(), tmp_path / "alone"), []

    def lose(record):
        done.append(record)
        if len(done) == 6:
            os.kill(cluster.other.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    with listening(lose):
        assert run(recipe(), tmp_path / "ray", OnRay(cluster.address)) == expected
    assert len(done) > 6
